//! Criteria through every door: what is left out, what is given empty, and numbers.

use bgfiles::{Handler, Registry, auth_token::Role, toolbox::Dispatched};
use serde_json::{Value, json};

use crate::{
    declared::define,
    support::{
        Caller, TestApp,
        app::{self, Parts},
        both,
    },
};

/// `asked` shows what was bound; each criterion but `day` has a default.
fn asked(app: &TestApp) -> impl Handler {
    let list = match app.kind {
        crate::support::Kind::Postgres => "array_to_string(:colours::text[], '+')",
        crate::support::Kind::Sqlite => {
            "(SELECT group_concat(value, '+') FROM json_each(:colours))"
        }
    };
    define(
        app,
        &format!(
            r#"formats = ["csv"]
query = "SELECT :owner AS owner, {list} AS colours, :size AS size, :price AS price, :day AS day"
[criteria.owner]
type = "text"
default = "amy"
[criteria.colours]
type = "list of choice"
choices = ["red", "blue", "green"]
default = ["red", "blue"]
[criteria.size]
type = "integer"
default = 3
[criteria.price]
type = "decimal"
[criteria.day]
type = "date"
"#
        ),
    )
}

/// An app that offers `thing`, which [`asked`] defines over the first app's database.
async fn offering(app: &TestApp, thing: impl Handler) -> TestApp {
    let mut registry = Registry::new();
    registry.register(thing).unwrap();
    TestApp::with(app.kind, Parts { registry: Some(registry), ..Parts::default() }).await
}

async fn shop(app: &TestApp) -> Caller {
    let base = format!("http://{}", app.serve().await);
    Caller::new(app, &base, "shop", Role::Service).await
}

/// Asks with a body as it is written here.
async fn send(caller: &Caller, body: &str) -> (u16, Value) {
    let request = caller.call("POST", "/api/requests").header("content-type", "application/json");
    app::json(request.body(body.to_owned()).send().await.unwrap()).await
}

/// The one line of the file that is made at once.
async fn line(caller: &Caller, criteria: &str) -> String {
    let body = format!(r#"{{"file_type": "thing", "deliver": "now", "criteria": {criteria}}}"#);
    let (status, csv) = send(caller, &body).await;
    assert_eq!(status, 200, "{criteria}: {csv}");
    csv.as_str().unwrap().lines().nth(1).unwrap().to_owned()
}

both!(a_criterion_that_is_given_empty_is_empty);
async fn a_criterion_that_is_given_empty_is_empty(app: TestApp) {
    let app = offering(&app, asked(&app)).await;
    let shop = shop(&app).await;
    for (criteria, bound) in [
        ("{}", "amy,red+blue,3,,"),
        (r#"{"owner": null}"#, ",red+blue,3,,"),
        (r#"{"owner": ""}"#, ",red+blue,3,,"),
        (r#"{"owner": []}"#, ",red+blue,3,,"),
        (r#"{"owner": [null]}"#, ",red+blue,3,,"),
        (r#"{"colours": []}"#, "amy,,3,,"),
        (r#"{"colours": ["", "green"]}"#, "amy,green,3,,"),
        (r#"{"size": null, "day": null}"#, "amy,red+blue,,,"),
        (r#""owner=&colours=""#, ",,3,,"),
        ("\"owner=bob\"", "bob,red+blue,3,,"),
    ] {
        assert_eq!(line(&shop, criteria).await, bound, "{criteria}");
    }
    // What is stored tells the two apart, however often it is asked for.
    let body = r#"{"file_type": "thing", "criteria": {"owner": null, "colours": [], "day": ""}}"#;
    let (status, made) = send(&shop, body).await;
    assert_eq!((status, &made["criteria"]), (202, &json!("owner=&colours=&size=3")));
    let again = json!({"file_type": "thing", "criteria": made["criteria"]});
    assert_eq!(shop.post("/api/requests", again).await.1["criteria"], made["criteria"]);
    let id = made["id"].as_str().unwrap().parse().unwrap();
    let path = format!("/api/requests/{id}");
    assert_eq!(shop.post(&format!("{path}/cancel"), json!({})).await.0, 200);
    assert_eq!(shop.post(&format!("{path}/retry"), json!({})).await.0, 202);
    assert_eq!(app.dispatch(id).await, Dispatched::Handled);
    let file = std::fs::read_to_string(app.files().join(&app.objects()[0])).unwrap();
    assert_eq!(file.lines().nth(1), Some(",,3,,"));
}

both!(what_is_required_is_required_when_given_empty);
async fn what_is_required_is_required_when_given_empty(app: TestApp) {
    let toml = "formats = [\"csv\"]\nquery = \"SELECT :a AS a\"\n[criteria.a]\ntype = \"text\"\nrequired = true\n";
    let app = offering(&app, define(&app, toml)).await;
    let shop = shop(&app).await;
    for criteria in [json!({}), json!({"a": null}), json!({"a": ""}), json!({"a": []}), json!("a=")]
    {
        let (status, problem) =
            shop.post("/api/requests", json!({"file_type": "thing", "criteria": criteria})).await;
        let error = json!({"field": "criteria.a", "message": "is required"});
        assert_eq!((status, &problem["errors"]), (422, &json!([error])), "{criteria}");
    }
}

both!(json_numbers_keep_their_digits);
async fn json_numbers_keep_their_digits(app: TestApp) {
    let app = offering(&app, asked(&app)).await;
    let shop = shop(&app).await;
    for (given, stored) in [
        (r#"{"price": 0.12345678901234567891}"#, "size=3&price=0.12345678901234567891"),
        (r#"{"price": 12345678901234567890.12}"#, "size=3&price=12345678901234567890.12"),
        (r#"{"price": 1e-7}"#, "size=3&price=0.0000001"),
        (r#"{"price": "1e-7"}"#, "size=3&price=0.0000001"),
        (r#"{"price": 1.50E2}"#, "size=3&price=150"),
        (r#"{"price": 5.0}"#, "size=3&price=5.0"),
        (r#"{"size": 5.0}"#, "size=5"),
        (r#"{"size": 5e0}"#, "size=5"),
        (r#"{"size": -1.2e1}"#, "size=-12"),
        (r#"{"size": 9223372036854775807}"#, "size=9223372036854775807"),
        (r#"{"owner": 1.10}"#, "owner=1.10&size=3"),
    ] {
        let (status, made) =
            send(&shop, &format!(r#"{{"file_type": "thing", "criteria": {given}}}"#)).await;
        let criteria = made["criteria"].as_str().unwrap_or_default();
        let criteria = criteria.replace("owner=amy&", "").replace("colours=red&colours=blue&", "");
        assert_eq!((status, criteria.as_str()), (202, stored), "{given}: {made}");
    }
    // In the file, too; PostgreSQL's numeric has them all.
    if app.kind == crate::support::Kind::Postgres {
        assert_eq!(
            line(&shop, r#"{"price": 0.12345678901234567891}"#).await,
            "amy,red+blue,3,0.12345678901234567891,"
        );
    }
    let huge = "9".repeat(250);
    for (given, field) in [
        (r#"{"size": 5.5}"#.to_owned(), "criteria.size"),
        (r#"{"size": 1e19}"#.to_owned(), "criteria.size"),
        (r#"{"price": 1e300}"#.to_owned(), "criteria.price"),
        (r#"{"price": "1e999999"}"#.to_owned(), "criteria.price"),
        (r#"{"price": "1e-999999999999"}"#.to_owned(), "criteria.price"),
        (r#"{"price": "Infinity"}"#.to_owned(), "criteria.price"),
        (r#"{"price": "1e"}"#.to_owned(), "criteria.price"),
        (format!(r#"{{"price": {huge}}}"#), "criteria.price"),
        (r#"{"owner": {"a": 1}}"#.to_owned(), "criteria.owner"),
        ("[1]".to_owned(), "criteria"),
        ("7".to_owned(), "criteria"),
    ] {
        let (status, problem) =
            send(&shop, &format!(r#"{{"file_type": "thing", "criteria": {given}}}"#)).await;
        assert_eq!(
            (status, problem["errors"][0]["field"].as_str()),
            (422, Some(field)),
            "{given}: {problem}"
        );
    }
    for given in [r#"{"price": 1e999999}"#, r#"{"price": Infinity}"#] {
        let body = format!(r#"{{"file_type": "thing", "criteria": {given}}}"#);
        assert_eq!(send(&shop, &body).await.0, 400, "{given}");
    }
}

both!(whole_numbers_may_have_a_point);
async fn whole_numbers_may_have_a_point(app: TestApp) {
    let shop = shop(&app).await;
    let row = app.finished("hello", "").await;
    let path = format!("/api/requests/{}/links", row.id);
    let (status, link) = shop.post(&path, json!({"max_age": 3600.0, "max_uses": 3.0})).await;
    assert_eq!((status, &link["max_uses"]), (201, &json!(3)), "{link}");
    assert_eq!(link["expires_at"], "2026-03-01T13:00:00Z");
    let one = format!("{path}/{}", link["jti"].as_str().unwrap());
    let patch = async |body: Value| {
        app::json(shop.call("PATCH", &one).json(&body).send().await.unwrap()).await
    };
    assert_eq!(patch(json!({"max_uses": 5.0, "max_age": 1800.0})).await.1["max_uses"], 5);
    assert_eq!(patch(json!({"max_uses": null})).await.1["max_uses"], Value::Null);
    let (status, token) = shop
        .post("/api/request-tokens", json!({"scope": "a", "max_uses": 7.0, "expires_in": 60.0}))
        .await;
    assert_eq!((status, &token["max_uses"]), (201, &json!(7)), "{token}");
    let lock = format!("/lock_tokens/bgfiles/file_request/{}/", row.id);
    assert_eq!(shop.post(&lock, json!({"ttl": 60.5})).await.0, 400);
    let (status, held) = shop.post(&lock, json!({"ttl": 60.0})).await;
    assert_eq!((status, &held["ttl"]), (201, &json!(60)), "{held}");
    for (body, field) in [
        (json!({"max_age": 3600.5}), "max_age"),
        (json!({"max_uses": 2.5}), "max_uses"),
        (json!({"max_age": -1.0}), "max_age"),
        (json!({"max_age": 1e300}), "max_age"),
        (json!({"max_age": "60"}), "max_age"),
        (json!({"max_uses": 4294967296.0}), "max_uses"),
    ] {
        let (status, problem) = shop.post(&path, body.clone()).await;
        assert_eq!(
            (status, problem["errors"][0]["field"].as_str()),
            (422, Some(field)),
            "{body}: {problem}"
        );
    }
}

both!(an_empty_query_parameter_is_none);
async fn an_empty_query_parameter_is_none(app: TestApp) {
    let shop = shop(&app).await;
    let row = app.finished("hello", "").await;
    let (status, page) = shop.get("/api/requests?cursor=&file_type=&requester=").await;
    assert_eq!((status, page["items"].as_array().map(Vec::len)), (200, Some(1)), "{page}");
    for path in
        [format!("/api/requests/{}/log?cursor=", row.id), "/api/request-tokens?cursor=".to_owned()]
    {
        assert_eq!(shop.get(&path).await.0, 200, "{path}");
    }
    assert_eq!(shop.get("/api/requests?cursor=x").await.0, 422);
}
