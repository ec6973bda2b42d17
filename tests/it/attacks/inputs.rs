//! What callers send: fields that are none of theirs, SQL, depth and size, times without end,
//! addresses.

use std::process::Stdio;

use bgfiles::{
    Error, FileRequest,
    auth_token::{Role, TokenPolicy},
    export::Definition,
    file_request::store,
    limits::TokenTtl,
    lock_token::Resource,
    mail::Mailer,
    request_token::NewRequestToken,
    toolbox::LinkOptions,
};
use serde_json::{Map, Value, json};

use super::{fresh, patient};
use crate::{
    declared,
    support::{
        Caller, Kind, TestApp,
        app::{self, Parts},
        both,
        child::bgfiles,
        smtp::Smtp,
    },
};

/// A service with one of everything.
struct Shop {
    shop: Caller,
    row: FileRequest,
    jti: String,
    token: i64,
    jwt: String,
}

impl Shop {
    async fn new(app: &TestApp) -> Shop {
        let base = patient(app).await;
        let shop = Caller { http: fresh(), ..Caller::new(app, &base, "shop", Role::Service).await };
        let row = app.finished("hello", "").await;
        let mut tx = app.toolbox.db().begin().await.unwrap();
        let (link, _) =
            app.toolbox.create_link(&mut tx, &row, LinkOptions::default()).await.unwrap();
        let new = NewRequestToken { max_uses: Some(10_000), ..NewRequestToken::new("foo") };
        let token = app.toolbox.create_request_token(&mut tx, new).await.unwrap();
        tx.commit().await.unwrap();
        let jwt = app.toolbox.jwt(&token).unwrap();
        Shop { shop, row, jti: link.jti.to_string(), token: token.id, jwt }
    }

    /// Every address that takes a JSON object of ours, with a body that it takes.
    fn doors(&self) -> Vec<(&'static str, String, Value)> {
        let (id, jti) = (&self.row.id, &self.jti);
        vec![
            ("POST", "/api/requests".into(), json!({"file_type": "hello"})),
            ("PATCH", format!("/api/requests/{id}"), json!({"description": "x"})),
            ("POST", format!("/api/requests/{id}/links"), json!({})),
            ("PATCH", format!("/api/requests/{id}/links/{jti}"), json!({"max_age": 60})),
            ("POST", "/api/request-tokens".into(), json!({"scope": "foo"})),
            ("PATCH", format!("/api/request-tokens/{}", self.token), json!({"max_uses": 10_000})),
            (
                "POST",
                "/api/request-tokens/redeem".into(),
                json!({"token": self.jwt, "scope": "foo"}),
            ),
        ]
    }

    async fn send(&self, method: &str, path: &str, body: String) -> (u16, Value) {
        let request = self.shop.call(method, path).header("content-type", "application/json");
        app::json(request.body(body).send().await.unwrap()).await
    }
}

/// Columns, and what frameworks are known to take along.
const TEMPTING: &[&str] = &[
    "id",
    "status",
    "role",
    "is_staff",
    "is_admin",
    "is_active",
    "admin",
    "user_id",
    "username",
    "owner",
    "created_by",
    "requester_email",
    "storage_key",
    "sha256",
    "size",
    "content_type",
    "expires_at",
    "finished_at",
    "requested_at",
    "attempts",
    "downloads",
    "download_limit",
    "uses",
    "used_to_date",
    "jti",
    "generation",
    "leased_by",
    "error_code",
    "issued_at",
    "revoked_at",
    "password",
    "password_hash",
    "__proto__",
    "constructor",
    "_method",
    "Status",
    "file-type",
    "requester.id",
];

both!(fields_that_are_none_of_the_callers_are_refused);
async fn fields_that_are_none_of_the_callers_are_refused(app: TestApp) {
    let shop = Shop::new(&app).await;
    for (method, path, body) in shop.doors() {
        let (status, answer) = shop.send(method, &path, body.to_string()).await;
        assert!((200..300).contains(&status), "{method} {path}: {answer}");
        for &field in TEMPTING {
            for value in [json!("x"), json!(1), json!(true), json!(null), json!({"id": "bob"})] {
                let mut more = body.as_object().unwrap().clone();
                more.insert(field.into(), value);
                let (status, answer) = shop.send(method, &path, json!(more).to_string()).await;
                assert_eq!(status, 422, "{method} {path} {field}: {answer}");
            }
        }
        // Inside too, and instead of an object.
        for other in ["[]", "null", "7", "\"x\"", "[[\"file_type\",\"hello\"]]"] {
            assert_eq!(
                shop.send(method, &path, other.into()).await.0,
                422,
                "{method} {path} {other}"
            );
        }
    }
    let nested = json!({"file_type": "hello", "requester": {"id": "amy", "role": "staff"}});
    assert_eq!(shop.send("POST", "/api/requests", nested.to_string()).await.0, 422);
    assert_eq!(app.row(shop.row.id).await.requester.as_deref(), Some("amy"));
}

both!(compatible_doors_and_forms_pass_over_what_is_none_of_theirs);
async fn compatible_doors_and_forms_pass_over_what_is_none_of_theirs(app: TestApp) {
    // /api/auth and /lock_tokens keep to the shapes of their predecessors, which ignore fields.
    const PASSWORD: &str = "seven green teapots";
    app.add_user("amy", Role::User, Some(PASSWORD)).await;
    app.client("web", TokenTtl::DAY, "", TokenPolicy::One).await;
    let base = format!("http://{}", app.serve().await);
    let mut fields =
        Map::from_iter(TEMPTING.iter().map(|name| ((*name).to_owned(), json!("staff"))));
    for (name, value) in [
        ("username", "amy"),
        ("password", PASSWORD),
        ("client", "web"),
        ("role", "staff"),
        ("user", "root"),
    ] {
        fields.insert(name.into(), value.into());
    }
    let login = app.http.post(format!("{base}/api/auth/login")).json(&fields).send().await.unwrap();
    let (status, login) = app::json(login).await;
    assert_eq!(status, 200, "{login}");
    let amy = Caller {
        http: app.http.clone(),
        base: base.clone(),
        secret: login["token"].as_str().unwrap().into(),
    };
    assert_eq!(amy.get("/api/request-tokens").await.0, 403, "still a user");
    let mine = app.request("hello", "").await;
    let mut fields =
        Map::from_iter(TEMPTING.iter().map(|name| ((*name).to_owned(), json!("root"))));
    fields.insert("fence".into(), json!(999));
    let path = format!("/lock_tokens/bgfiles/file_request/{}/", mine.id);
    let (status, lock) = amy.post(&path, json!(fields)).await;
    assert_eq!(status, 201, "{lock}");
    let held = app.toolbox.lock_on(&Resource::request(mine.id)).await.unwrap().unwrap();
    assert_eq!((held.owner.as_deref(), held.fence), (Some("amy"), 1));
    // A form, likewise: whose the file is, is not among its fields.
    let session = app.toolbox.begin_session("amy", None).await.unwrap();
    let cookie = format!("bgfiles_session={}", session.expose());
    let page = app
        .http
        .get(format!("{base}/new/hello"))
        .header("cookie", &cookie)
        .header("accept", "text/html");
    let page = page.send().await.unwrap().text().await.unwrap();
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let before = app.count("SELECT count(*) FROM bgfiles_file_requests").await;
    let mut form: Vec<(&str, &str)> = TEMPTING.iter().map(|name| (*name, "root")).collect();
    form.extend([
        ("csrf", csrf),
        ("requester", "root"),
        ("requester_id", "root"),
        ("email", "root@example.com"),
    ]);
    let sent = app
        .http
        .post(format!("{base}/new/hello"))
        .header("cookie", &cookie)
        .form(&form)
        .send()
        .await
        .unwrap();
    if sent.status() == 303 {
        assert_eq!(app.count("SELECT count(*) FROM bgfiles_file_requests WHERE requester = 'amy' AND status = 'pending'").await, before + 1 );
    } else {
        assert!(sent.status().is_client_error());
    }
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_file_requests WHERE requester = 'root' OR requester_email LIKE 'root%'").await, 0);
}

/// What sqlmap and its like begin with.
const SQL: &[&str] = &[
    "'",
    "\"",
    "`",
    "\\",
    "')",
    "';",
    "' OR '1'='1",
    "' OR 1=1 --",
    "\" OR \"\"=\"",
    "') OR ('1'='1",
    "1 OR 1=1",
    "1; DROP TABLE bgfiles_users",
    "'; DROP TABLE bgfiles_users; --",
    "' UNION SELECT password_hash FROM bgfiles_users --",
    "1 UNION SELECT 1,2,3",
    "' AND 1=CAST((SELECT version()) AS int) --",
    "'; SELECT pg_sleep(30) --",
    "' || pg_sleep(30) --",
    "1 AND randomblob(500000000)",
    "'; ATTACH DATABASE '/tmp/bgfiles-attack.db' AS x; --",
    "'; COPY bgfiles_users TO '/tmp/bgfiles-attack' --",
    "$1",
    ":text",
    "?",
    "%",
    "_",
    "{1}",
    "{x",
    "/*",
    "--",
];

both!(sql_in_what_callers_send_is_text);
async fn sql_in_what_callers_send_is_text(app: TestApp) {
    let shop = Shop::new(&app).await;
    let root = Caller::new(&app, &shop.shop.base, "root", Role::Staff).await;
    let users = app.count("SELECT count(*) FROM bgfiles_users").await;
    let rows = app.count("SELECT count(*) FROM bgfiles_file_requests").await;
    assert_eq!(root.get("/api/requests").await.1["items"].as_array().unwrap().len(), 1);
    for &sql in SQL {
        let text = percent_encoding::utf8_percent_encode(sql, percent_encoding::NON_ALPHANUMERIC)
            .to_string();
        // Filters find nothing of that name, cursors and numbers are none.
        for (path, name) in [
            ("/api/requests", "requester"),
            ("/api/requests", "file_type"),
            ("/api/requests", "status"),
            ("/api/requests", "cursor"),
            ("/api/requests", "limit"),
            ("/api/requests", "order"),
            ("/api/requests", "sort"),
            ("/api/request-tokens", "scope"),
            ("/api/request-tokens", "user"),
            ("/api/request-tokens", "jwt"),
            ("/api/request-tokens", "cursor"),
            ("/api/locks", "resource"),
            ("/api/locks", "owner"),
            ("/api/locks", "limit"),
        ] {
            let (status, body) = root.get(&format!("{path}?{name}={text}")).await;
            let ignored = ["order", "sort"].contains(&name);
            assert!(
                status == 422 || status == 200 && (ignored || body["items"] == json!([])),
                "{path}?{name}={sql}: {status} {body}"
            );
        }
        for path in [
            format!("/api/requests/{text}"),
            format!("/api/requests/{}/links/{text}/log", shop.row.id),
            format!("/api/request-tokens/{text}"),
            format!("/api/locks/{text}/{text}/{text}"),
            format!("/lock_tokens/bgfiles/file_request/{text}/{text}/"),
            format!("/d/{text}"),
            format!("/g/{text}/{text}"),
            format!("/api/requests/{}/log?cursor={text}", shop.row.id),
        ] {
            let status = root.get(&path).await.0;
            assert!((400..500).contains(&status), "{path}: {status}");
        }
        // Pages of operators look for text.
        for path in [
            "/operate/requests?q=",
            "/operate/requests?status=",
            "/operate/requests?file_type=",
            "/operate/requests?cursor=",
            "/operate/audit?actor=",
            "/operate/audit?cursor=",
            "/operate/accounts?q=",
            "/files?cursor=",
        ] {
            let request = root.call("GET", &format!("{path}{text}")).header("accept", "text/html");
            let status = request.send().await.unwrap().status().as_u16();
            assert!(status < 500, "{path}{sql}: {status}");
        }
        // What is stored comes back as it was.
        let body = json!({"file_type": "hello", "criteria": {"name": sql, sql: sql}, "requester": {"id": sql}, "description": sql});
        let (status, row) = shop.shop.post("/api/requests", body).await;
        assert_eq!(status, 202, "{sql}: {row}");
        assert_eq!((&row["requester"], &row["description"]), (&json!(sql), &json!(sql)));
        let (_, found) = root.get(&format!("/api/requests?requester={text}")).await;
        assert_eq!(found["items"].as_array().unwrap().len(), 1, "{sql}");
        let login = json!({"username": sql, "password": sql, "client": sql});
        let login = app
            .http
            .post(format!("{}/api/auth/login", root.base))
            .json(&login)
            .send()
            .await
            .unwrap();
        assert!([400, 429].contains(&login.status().as_u16()), "{sql}");
        for (name, value) in [
            ("idempotency-key", sql),
            ("user-agent", sql),
            ("accept-language", sql),
            ("x-request-id", sql),
            ("cookie", sql),
            ("authorization", sql),
        ] {
            let request = shop.shop.call("GET", "/api/requests").header(name, value);
            assert!(request.send().await.unwrap().status().as_u16() < 500, "{name}: {sql}");
        }
    }
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_users").await, users);
    assert_eq!(
        app.count("SELECT count(*) FROM bgfiles_file_requests").await,
        rows + SQL.len() as i64
    );
}

both!(sql_in_criteria_of_every_kind_is_a_value);
async fn sql_in_criteria_of_every_kind_is_a_value(app: TestApp) {
    app.sql("CREATE TABLE kept (n integer)").await;
    app.sql("INSERT INTO kept VALUES (1)").await;
    let list = match app.kind {
        Kind::Postgres => "'x' = ANY(:list)",
        Kind::Sqlite => "'x' IN (SELECT value FROM json_each(:list))",
    };
    // Every criterion that is given must equal something that none of the texts is.
    let export = declared::define(
        &app,
        &format!(
            r#"
title = "x"
formats = ["csv"]
query = """SELECT n FROM kept WHERE (:text IS NULL OR :text = 'x') AND (:whole IS NULL OR :whole = 7) AND (:dec IS NULL OR :dec = 7)
  AND (:flag IS NULL OR :flag) AND (:pick IS NULL OR :pick = 'a') AND (:day IS NULL OR :day = '2000-01-01')
  AND (:at IS NULL OR :at = '2000-01-01T00:00:00Z') AND (:list IS NULL OR {list})"""

[criteria]
text = {{ type = "text" }}
whole = {{ type = "integer" }}
dec = {{ type = "decimal" }}
flag = {{ type = "boolean" }}
pick = {{ type = "choice", choices = ["a", "b"] }}
day = {{ type = "date" }}
at = {{ type = "datetime" }}
list = {{ type = "list of text" }}
"#
        ),
    );
    assert_eq!(
        declared::text(&export, "csv", "").await.lines().count(),
        2,
        "all of them without criteria"
    );
    for name in ["text", "whole", "dec", "flag", "pick", "day", "at", "list"] {
        for &sql in SQL {
            let criteria = serde_urlencoded::to_string([(name, sql)]).unwrap();
            match declared::make(&export, "csv", &criteria, "").await {
                Ok(made) => assert_eq!(String::from_utf8(made).unwrap(), "n\r\n", "{name}={sql}"),
                Err(Error::Invalid(errors)) => {
                    assert_eq!(errors[0].field, format!("criteria.{name}"))
                }
                Err(other) => panic!("{name}={sql}: {other}"),
            }
        }
    }
    for &sql in SQL {
        let criteria = serde_urlencoded::to_string([(sql, "1")]).unwrap();
        assert!(
            matches!(declared::make(&export, "csv", &criteria, "").await, Err(Error::Invalid(_))),
            "{sql}"
        );
    }
    assert_eq!(app.count("SELECT count(*) FROM kept").await, 1);
}

#[test]
fn definitions_with_names_that_are_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let load = |file: &str, text: &str| {
        let path = dir.path().join(file);
        std::fs::write(&path, text).unwrap();
        Definition::load(&path)
    };
    let plain = "title = \"x\"\nformats = [\"csv\"]\nquery = \"SELECT 1 AS n\"\n";
    load("fine.toml", plain).unwrap();
    for file in ["x'; DROP TABLE y.toml", " x.toml", "é.toml", "-x.toml", "x y.toml", "x\"y.toml"]
    {
        assert!(load(file, plain).is_err(), "{file}");
    }
    let long = "x".repeat(200);
    for name in
        SQL.iter().copied().chain(["", " ", "a b", "a-b", "a.b", "é", "1", "format", long.as_str()])
    {
        let text = format!("{plain}\n[criteria.{}]\ntype = \"text\"\n", json!(name));
        // A name that the query does not use is refused as well.
        assert!(load("named.toml", &text).is_err(), "{name}");
    }
    // What a query holds besides one SELECT.
    for query in [
        "SELECT 1 AS n; DROP TABLE bgfiles_users",
        "SELECT 1 AS n; SELECT 2",
        "DROP TABLE bgfiles_users",
        "/* x */ DELETE FROM bgfiles_users",
        "-- x\nUPDATE bgfiles_users SET role = 'staff'",
        "SELECT $1 AS n",
        "SELECT 1 AS n /*",
        "SELECT 'x AS n",
        "SELECT $$x AS n",
        "COPY bgfiles_users TO '/tmp/x'",
        "PRAGMA writable_schema = 1",
        "ATTACH DATABASE 'x' AS y",
        "VACUUM",
        "",
    ] {
        let text = format!("title = \"x\"\nformats = [\"csv\"]\nquery = {}\n", json!(query));
        assert!(load("query.toml", &text).is_err(), "{query}");
    }
}

both!(depth_and_size_of_bodies_are_bounded);
async fn depth_and_size_of_bodies_are_bounded(app: TestApp) {
    let shop = Shop::new(&app).await;
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{}{}", open.repeat(depth), close.repeat(depth))
    };
    let many =
        |n: usize, item: &dyn Fn(usize) -> String| (0..n).map(item).collect::<Vec<_>>().join(",");
    let huge = [
        ("lists in lists", format!("{{\"criteria\":{}}}", nested("[", "]", 100_000))),
        (
            "objects in objects",
            format!("{{\"criteria\":{}1{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000)),
        ),
        ("both", format!("{{\"criteria\":{}1{}}}", "[{\"a\":".repeat(60_000), "}]".repeat(60_000))),
        ("only open", "[".repeat(500_000)),
        ("only keys", "{\"a\":".repeat(150_000)),
        (
            "a long list",
            format!(
                "{{\"file_type\":\"hello\",\"criteria\":{{\"a\":[{}]}}}}",
                many(300_000, &|_| "1".into())
            ),
        ),
        (
            "many keys",
            format!(
                "{{\"file_type\":\"hello\",\"criteria\":{{{}}}}}",
                many(60_000, &|n| format!("\"k{n}\":1"))
            ),
        ),
        (
            "a long text",
            format!(
                "{{\"file_type\":\"hello\",\"criteria\":{{\"a\":\"{}\"}}}}",
                "x".repeat(900_000)
            ),
        ),
        (
            "a long name",
            format!("{{\"file_type\":\"hello\",\"criteria\":{{\"{}\":1}}}}", "x".repeat(900_000)),
        ),
        (
            "a long number",
            format!("{{\"file_type\":\"hello\",\"criteria\":{{\"a\":{}}}}}", "9".repeat(900_000)),
        ),
        (
            "escapes",
            format!(
                "{{\"file_type\":\"hello\",\"criteria\":{{\"a\":\"{}\"}}}}",
                "\\ud83d\\ude00".repeat(70_000)
            ),
        ),
        (
            "text that grows",
            format!(
                "{{\"file_type\":\"hello\",\"criteria\":{{\"a\":\"{}\"}}}}",
                "é".repeat(16_000)
            ),
        ),
        ("pairs", format!("{{\"file_type\":\"hello\",\"criteria\":\"{}\"}}", "a&".repeat(400_000))),
        ("many unknown fields", format!("{{{}}}", many(60_000, &|n| format!("\"k{n}\":1")))),
        ("beyond the limit", format!("{{\"file_type\":\"{}\"}}", "x".repeat(2 << 20))),
    ];
    for (method, path, _) in shop.doors() {
        for (what, body) in &huge {
            let request = shop.shop.call(method, &path).header("content-type", "application/json");
            let answer = match request.body(body.clone()).send().await {
                Ok(answer) => answer,
                // It was refused, and the connection closed, before all was said.
                Err(_) if *what == "beyond the limit" => continue,
                Err(error) => panic!("{method} {path} {what}: {error}"),
            };
            let (status, answer) = app::json(answer).await;
            assert!(
                [400, 413, 422].contains(&status),
                "{method} {path} {what}: {status} {answer:.300}"
            );
            assert!(answer.to_string().len() < 20_000_000, "{what}");
        }
    }
    // Other doors, other shapes.
    let base = &shop.shop.base;
    let form = format!("username=a&{}", "x=y&".repeat(200_000));
    let parts = "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\ny\r\n".repeat(15_000)
        + "--b--\r\n";
    for path in
        ["/api/auth/login", "/lock_tokens/bgfiles/file_request/x/", "/login", "/new/hello", "/d/x"]
    {
        for (what, body) in &huge {
            let request = shop
                .shop
                .call("POST", path)
                .header("content-type", "application/json")
                .body(body.clone());
            let status = request.send().await.map(|answer| answer.status().as_u16());
            let refused = status
                .as_ref()
                .map_or(*what == "beyond the limit", |status| (300..500).contains(status));
            assert!(refused, "{path} {what}: {status:?}");
        }
        for (kind, body) in [
            ("application/x-www-form-urlencoded", &form),
            ("multipart/form-data; boundary=b", &parts),
            ("multipart/form-data; boundary=", &parts),
            ("multipart/form-data", &form),
        ] {
            let request = shop
                .shop
                .http
                .post(format!("{base}{path}"))
                .header("content-type", kind)
                .body(body.clone());
            let status = request.send().await.map_or(413, |answer| answer.status().as_u16());
            assert!((300..500).contains(&status), "{path} {kind}: {status}");
        }
    }
    let query = format!("/api/requests?{}", "status=pending&".repeat(1_500));
    assert!((200..500).contains(&shop.shop.get(&query).await.0));
    // A field that comes twice is one of the two, or neither; never both.
    let twice = "{\"file_type\":\"hello\",\"file_type\":\"big\",\"requester\":{\"id\":\"amy\"},\"requester\":{\"id\":\"bob\"}}";
    let (status, row) = shop.send("POST", "/api/requests", twice.into()).await;
    assert!(
        status == 400 || status == 422 || (row["file_type"] == "big" && row["requester"] == "bob"),
        "{status} {row}"
    );
}

/// Numbers that no time can hold, and some that are at the edge.
const NUMBERS: &[&str] = &[
    "-1",
    "0",
    "-0",
    "0.5",
    "1e308",
    "1e400",
    "-1e308",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "99999999999999999999999999999999",
    "NaN",
    "\"9223372036854775807\"",
    "1e18",
];
/// Times likewise.
const TIMES: &[&str] = &[
    "\"0000-00-00T00:00:00Z\"",
    "\"0000-01-01T00:00:00Z\"",
    "\"-0001-01-01T00:00:00Z\"",
    "\"9999-12-31T23:59:60Z\"",
    "\"9999-12-31T23:59:59.999999999Z\"",
    "\"+10000-01-01T00:00:00Z\"",
    "\"+262142-12-31T23:59:59Z\"",
    "\"-262143-01-01T00:00:00Z\"",
    "\"+999999999-01-01T00:00:00Z\"",
    "\"2026-02-30T00:00:00Z\"",
    "\"2026-01-01T00:00:00+99:99\"",
    "\"2026-01-01T00:00:00+23:59\"",
    "\"now\"",
    "9223372036854775807",
];

both!(no_time_is_too_long_to_be_refused_or_kept);
async fn no_time_is_too_long_to_be_refused_or_kept(app: TestApp) {
    let shop = Shop::new(&app).await;
    let (id, jti) = (shop.row.id, &shop.jti);
    let resource =
        format!("/lock_tokens/bgfiles/file_request/{}/", app.request("hello", "").await.id);
    let links = format!("/api/requests/{id}/links");
    let doors: [(&str, String, &str, &[&str]); 5] = [
        ("POST", links.clone(), "{}", &["max_age", "max_uses", "not_before"]),
        ("PATCH", format!("{links}/{jti}"), "{}", &["max_age", "max_uses", "not_before"]),
        (
            "POST",
            "/api/request-tokens".into(),
            "{\"scope\":\"foo\"}",
            &["expires_in", "expiration_time", "not_before_time", "max_uses"],
        ),
        (
            "PATCH",
            format!("/api/request-tokens/{}", shop.token),
            "{}",
            &["expiration_time", "not_before_time", "max_uses"],
        ),
        ("POST", resource.clone(), "{}", &["ttl"]),
    ];
    let mut kept = 0;
    for (method, path, body, fields) in &doors {
        for field in *fields {
            for value in NUMBERS.iter().chain(TIMES) {
                let comma = if *body == "{}" { "" } else { "," };
                let body =
                    format!("{}{comma}\"{field}\":{value}}}", body.strip_suffix('}').unwrap());
                let (status, answer) = shop.send(method, path, body).await;
                assert!(
                    (200..300).contains(&status) || [400, 409, 422].contains(&status),
                    "{method} {path} {field}={value}: {status} {answer}"
                );
                kept += i32::from(status < 300);
                // What was kept can be looked at, used and listed.
                if let Some(url) = answer["url"].as_str() {
                    let path = url.strip_prefix("http://files.example.com").unwrap();
                    assert!(shop.shop.get(path).await.0 < 500, "{field}={value}");
                }
                if let Some(jwt) = answer["jwt"].as_str() {
                    let redeem = json!({"token": jwt, "scope": "foo"});
                    assert!(
                        [200, 403].contains(
                            &shop.shop.post("/api/request-tokens/redeem", redeem).await.0
                        ),
                        "{field}={value}"
                    );
                }
            }
        }
        for list in [&links, "/api/request-tokens", "/api/locks", "/api/requests"] {
            assert_eq!(shop.shop.get(list).await.0, 200, "{list} after {method} {path}");
        }
    }
    assert!(kept > 10, "only {kept}");
    for &number in NUMBERS {
        let wait = number.trim_matches('"');
        assert!(
            (200..500).contains(&shop.shop.get(&format!("/api/requests?limit={wait}")).await.0)
        );
        if wait != "0" && wait != "-0" {
            let status =
                shop.shop.get(&format!("/api/locks/bgfiles/file_request/{id}?wait={wait}")).await.0;
            assert!((400..500).contains(&status), "{wait}: {status}");
        }
    }
    // The sweeps go over all of it.
    app.advance(40 * 86_400);
    bgfiles::cleaner::clean(&app.toolbox, &Default::default(), Default::default()).await.unwrap();
}

both!(no_setting_or_argument_is_too_long_a_time);
async fn no_setting_or_argument_is_too_long_a_time(app: TestApp) {
    let row = app.finished("hello", "").await;
    app.add_user("amy", Role::User, None).await;
    app.client("web", TokenTtl::DAY, "", TokenPolicy::Several).await;
    let id = row.id.to_string();
    let run = |arguments: &[&str], setting: Option<(&str, &str)>| {
        let mut command = bgfiles();
        command
            .env("DATABASE_URL", &app.url)
            .current_dir(app.dir.path())
            .args(arguments)
            .envs(setting);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            [Some(0), Some(1), Some(2)].contains(&output.status.code()),
            "{arguments:?} {setting:?}: {said}"
        );
        assert!(!said.contains("panicked"), "{arguments:?} {setting:?}: {said}");
    };
    let numbers: Vec<String> =
        NUMBERS.iter().map(|text| text.trim_matches('"').to_owned()).collect();
    let mut commands: Vec<Vec<String>> = Vec::new();
    let mut with = |command: &[&str], option: &str, values: &[String]| {
        for value in values {
            let mut all: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
            all.push(format!("{option}={value}"));
            commands.push(all);
        }
    };
    let some: Vec<String> =
        ["-1", "1e308", "4294967295", "9223372036854775807", "18446744073709551615"]
            .map(String::from)
            .into();
    let lengths: Vec<String> = [
        "0s",
        "-1s",
        "1e3s",
        "3650d",
        "3651d",
        "9999999999d",
        "18446744073709551615d",
        "99999999999999999999s",
        "4294967296h",
    ]
    .map(String::from)
    .into();
    let units: Vec<String> = [
        "9999999999d",
        "9999999999w",
        "4294967295s",
        "4294967296s",
        "99999999999999999999d",
        "106751991167300 00:00",
        "-1 00:00",
        "1e3s",
    ]
    .map(String::from)
    .into();
    with(&["link", &id], "--max-age", &lengths);
    with(&["link", &id], "--max-uses", &some);
    with(&["clean"], "--leeway", &some);
    with(&["clean"], "--timeout", &some);
    with(&["clean"], "--items", &some);
    with(&["process"], "--timeout", &some);
    with(&["request-token", "create", "--scope", "foo"], "--expires", &lengths);
    with(&["request-token", "create", "--scope", "foo"], "--not-before", &numbers);
    with(&["request-token", "create", "--scope", "foo"], "--max-uses", &some);
    with(&["truncate-request-token-log"], "--max-days", &some);
    with(&["truncate-request-token-log"], "--max-count", &some);
    with(&["token", "inspect", "x:y:z"], "--at", &numbers);
    with(&["token", "inspect", "x:y:z"], "--max-age", &some);
    with(&["create-client", "x"], "--token-ttl", &units);
    for command in &commands {
        run(&command.iter().map(String::as_str).collect::<Vec<_>>(), None);
    }
    for setting in [
        "BGFILES_MAX_AGE",
        "BGFILES_GRANT_AGE",
        "BGFILES_SESSION_AGE",
        "BGFILES_LEASE",
        "BGFILES_DRAIN",
        "BGFILES_TOKEN_CACHE_TIMEOUT",
        "BGFILES_DEFAULT_TOKEN_TTL",
        "BGFILES_REQUEST_TOKEN_EXPIRY",
        "BGFILES_LOCK_TOKENS_MAX_TIMEOUT",
        "BGFILES_BODY_LIMIT",
    ] {
        for value in ["4294967295", "18446744073709551615", "-1", "1e308", "4294967295s"] {
            run(&["check"], Some((setting, value)));
        }
        run(&["create-token", "--user", "amy", "--client", "web"], Some((setting, "4294967295")));
        run(&["link", &id], Some((setting, "4294967295")));
        run(&["process", "--items", "1"], Some((setting, "4294967295")));
    }
}

both!(addresses_bring_no_lines_and_no_second_recipient);
async fn addresses_bring_no_lines_and_no_second_recipient(app: TestApp) {
    let shop = Shop::new(&app).await;
    let smtp = Smtp::start(app.dir.path().join("smtp"), &[]);
    let url = format!("smtp://127.0.0.1:{}?tls=none", smtp.port);
    let mailing = TestApp::with(
        app.kind,
        Parts {
            mailer: Some(Mailer::open(&url, "files@example.com").unwrap()),
            ..Parts::default()
        },
    )
    .await;
    for email in [
        "amy@example.com\r\nBcc: mallory@example.com",
        "amy@example.com\nBcc: mallory@example.com",
        "amy@example.com\r\n\r\nbody",
        "amy@example.com>\r\nRCPT TO:<mallory@example.com",
        "amy@example.com, mallory@example.com",
        "amy@example.com;mallory@example.com",
        "<amy@example.com>",
        "Amy <amy@example.com>",
        "amy@example.com> SIZE=1",
        "amy@example.com\0",
        "amy@example.com\r",
        "\"amy\r\n\"@example.com",
        "\"x\" <y@example.com>@example.com",
        "amy@exa\r\nmple.com",
        "amy@[127.0.0.1]\r\n",
        "amy @example.com",
        "@example.com",
        "amy@",
        "amy",
        "amy@example.com\u{2028}x",
        "amy@ex\u{0}ample.com",
        "amy@\u{ff0e}example.com\n",
        "-oX/tmp/x@example.com -be",
    ] {
        let body = json!({"file_type": "hello", "requester": {"email": email}});
        let (status, answer) = shop.shop.post("/api/requests", body).await;
        assert_eq!(status, 422, "{email:?}: {answer}");
        let mut new = TestApp::new_request("hello", "");
        new.requester.email = email.into();
        let mut tx = mailing.toolbox.db().begin().await.unwrap();
        assert!(mailing.toolbox.add_request(&mut tx, new).await.is_err(), "{email:?}");
    }
    // Unusual ones that are addresses, and rows that somebody wrote by hand.
    for email in
        ["\"amy b\"@example.com", "amy+x@example.com", "amy@münchen.example", "o'neill@example.com"]
    {
        let mut new = TestApp::new_request("hello", "");
        new.requester.email = email.into();
        new.language = Some("nl".into());
        new.description = Some("x\r\n.\r\nMAIL FROM:<mallory@example.com>\r\n".into());
        let mut tx = mailing.toolbox.db().begin().await.unwrap();
        if mailing.toolbox.add_request(&mut tx, new).await.is_ok() {
            tx.commit().await.unwrap();
        }
    }
    let waiting = mailing.count("SELECT count(*) FROM bgfiles_file_requests").await;
    assert!(waiting >= 2, "{waiting}");
    let mut tx = mailing.toolbox.db().read().await.unwrap();
    let rows = store::to_handle(
        &mut tx,
        &mailing.toolbox.known_types(),
        mailing.toolbox.clock().now(),
        100,
    )
    .await
    .unwrap();
    drop(tx);
    for row in rows {
        mailing.dispatch(row.id).await;
    }
    mailing.deliver_notices().await;
    assert!(smtp.messages().len() >= 2);
    let sent = smtp.messages().len();
    mailing.finished("hello", "").await;
    mailing.sql("UPDATE bgfiles_file_requests SET requester_email = 'amy@example.com, mallory@example.com'").await;
    mailing.deliver_notices().await;
    assert_eq!(smtp.messages().len(), sent, "two addresses are none");
    for message in smtp.messages() {
        let mail = mail_parser::MessageParser::default().parse(&message).unwrap();
        assert_eq!(mail.to().unwrap().iter().count(), 1);
        assert!(mail.bcc().is_none() && mail.cc().is_none());
        assert!(!String::from_utf8_lossy(&message).lines().any(|line| line.starts_with("Bcc")));
    }
}
