//! Request tokens: the numbered cases of django-request-token, and its bugs, absent.

use axum::{
    Extension, Router,
    routing::{any, get},
};
use bgfiles::{
    Error, Toolbox,
    auth_token::{Role, SessionSecret},
    request_token::{
        Changes, LoginMode, NewRequestToken, RequestToken as Row, Settings, jwt, store, template,
        tokenise,
    },
    templates::Templates,
    toolbox::Presented,
    visitor::Visitor,
    web::{
        RequestToken, RequesterId, Scope, optional_token, request_tokens, require_token, server,
    },
};
use chrono::TimeDelta;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{
    Caller, Kind, TestApp,
    app::{self, Parts, SECRET},
    both,
    child::bgfiles,
};

struct Foo;

impl Scope for Foo {
    const NAME: &'static str = "foo";
}

/// A host application with routes of every kind.
struct Host<'a> {
    app: &'a TestApp,
    base: String,
}

async fn who(user: Option<Extension<RequesterId>>, row: Option<Extension<Row>>) -> String {
    let user = user.map_or("nobody".into(), |Extension(RequesterId(id))| id);
    format!("{user} with {}", row.map_or("none".into(), |Extension(row)| row.scope))
}

impl<'a> Host<'a> {
    async fn new(app: &'a TestApp) -> Host<'a> {
        let toolbox = &app.toolbox;
        let required = || require_token(toolbox, "foo").unwrap();
        let expire = |toolbox: Toolbox| {
            move |token: RequestToken<Foo>| async move {
                let mut tx = toolbox.db().begin().await.unwrap();
                toolbox.expire_request_token(&mut tx, token.token.id).await.unwrap();
                tx.commit().await.unwrap();
                "expired"
            }
        };
        let delete = |toolbox: Toolbox| {
            move |token: RequestToken<Foo>| async move {
                let sql =
                    format!("DELETE FROM bgfiles_request_tokens WHERE id = {}", token.token.id);
                let sql = sqlx::AssertSqlSafe(sql);
                match toolbox.db() {
                    bgfiles::Db::Postgres(pool) => {
                        sqlx::query(sql).execute(pool).await.map(drop).unwrap()
                    }
                    bgfiles::Db::Sqlite(pool) => {
                        sqlx::query(sql).execute(pool).await.map(drop).unwrap()
                    }
                }
                http::StatusCode::NO_CONTENT
            }
        };
        let router = Router::new()
            .route("/required", any(who).layer(required()))
            .route("/silent", any(who).layer(required().without_log()))
            .route("/optional", any(who).layer(optional_token(toolbox, "foo").unwrap()))
            .route("/body", any(async |body: String| body).layer(required()))
            .route("/extract", get(async |token: RequestToken<Foo>| format!("{:?}", token.user)))
            .route(
                "/maybe",
                get(async |token: Option<RequestToken<Foo>>| token.is_some().to_string()),
            )
            .route("/expire", get(expire(toolbox.clone())))
            .route("/delete", get(delete(toolbox.clone())))
            .route(
                "/fails",
                get(async |_: RequestToken<Foo>| http::StatusCode::INTERNAL_SERVER_ERROR),
            )
            .route(
                "/panics",
                get(async |token: RequestToken<Foo>| {
                    assert!(token.token.id < 0);
                    ""
                }),
            )
            .route("/who", any(who))
            .layer(request_tokens(toolbox));
        let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(server::serve(listener, router, Default::default(), app.stop.clone()));
        Host { app, base }
    }

    fn call(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.app.http.request(method, format!("{}{path}", self.base))
    }

    async fn get(&self, path: &str, jwt: &str) -> (u16, String) {
        text(self.call(Method::GET, &format!("{path}?rt={jwt}")).send().await.unwrap()).await
    }

    async fn issue(&self, change: impl FnOnce(&mut NewRequestToken)) -> (Row, String) {
        issue(self.app, change).await
    }

    async fn row(&self, id: i64) -> Row {
        store::find(&mut self.app.toolbox.db().read().await.unwrap(), id).await.unwrap().unwrap()
    }

    async fn outcomes(&self, id: i64) -> Vec<(String, Option<i32>)> {
        let mut tx = self.app.toolbox.db().read().await.unwrap();
        let uses = store::uses(&mut tx, id, None, 100).await.unwrap();
        uses.into_iter().rev().map(|used| (used.outcome, used.status_code)).collect()
    }
}

async fn issue(app: &TestApp, change: impl FnOnce(&mut NewRequestToken)) -> (Row, String) {
    let mut new = NewRequestToken::new("foo");
    change(&mut new);
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let row = app.toolbox.create_request_token(&mut tx, new).await.unwrap();
    tx.commit().await.unwrap();
    let jwt = app.toolbox.jwt(&row).unwrap();
    (row, jwt)
}

async fn edit(app: &TestApp, id: i64, changes: Changes) {
    let mut tx = app.toolbox.db().begin().await.unwrap();
    app.toolbox.update_request_token(&mut tx, id, &changes).await.unwrap();
    tx.commit().await.unwrap();
}

async fn text(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.text().await.unwrap();
    let code = serde_json::from_str::<Value>(&body).ok();
    (status, code.and_then(|p| p["code"].as_str().map(str::to_owned)).unwrap_or(body))
}

fn used(status: i32) -> (String, Option<i32>) {
    ("used".into(), Some(status))
}

fn refused(code: &str) -> (u16, String) {
    (403, code.into())
}

both!(cases_1_to_5_defaults_claims_and_checks);
async fn cases_1_to_5_defaults_claims_and_checks(app: TestApp) {
    let settings = app.toolbox.request_token_settings();
    let unsaved = NewRequestToken::new("foo");
    assert_eq!(
        Value::Object(unsaved.claims(settings)),
        json!({"max": 10, "sub": "foo", "mod": "n"})
    );
    let (row, token) = issue(&app, |_| ()).await;
    assert_eq!((row.login_mode, row.max_uses, row.used_to_date), (LoginMode::None, 10, 0));
    assert_eq!((&row.user_id, row.expiration_time, row.not_before_time), (&None, None, None));
    assert_eq!((&row.data, row.issued_at), (&json!({}), Some(app::start())));
    let (full, jwt) = issue(&app, |new| {
        new.login_mode = LoginMode::Session;
        new.user_id = Some("amy".into());
        new.not_before_time = Some(app::start());
        new.data = json!({"a": [1]});
    })
    .await;
    assert_eq!(full.expiration_time, Some(app::start() + TimeDelta::minutes(10)), "case 4");
    assert_eq!(full.claims().len(), 8);
    assert_eq!(full.claims()["aud"], "amy");
    assert_eq!(full.claims()["jti"], full.id.to_string());
    assert_eq!(full.claims()["exp"], (app::start() + TimeDelta::minutes(10)).timestamp());
    assert!(!full.claims().contains_key("data"));
    for (row, jwt) in [(&row, &token), (&full, &jwt)] {
        assert_eq!(
            settings.keys.verify(jwt, app.toolbox.clock().now()),
            Ok(row.claims()),
            "case 3"
        );
    }
    let unsaved = settings.keys.sign(&unsaved.claims(settings)).unwrap();
    assert_eq!(settings.keys.verify(&unsaved, app::start()), Err(jwt::Flaw::MissingClaim));
    // An edit sets nothing but what it names.
    app.advance(60);
    edit(&app, full.id, Changes { max_uses: Some(3), ..Changes::default() }).await;
    let after =
        store::find(&mut app.toolbox.db().read().await.unwrap(), full.id).await.unwrap().unwrap();
    assert_eq!(after, Row { max_uses: 3, ..full });
    let wrong = async |change: fn(&mut NewRequestToken), field: &str| {
        let mut new = NewRequestToken::new("foo");
        change(&mut new);
        let mut tx = app.toolbox.db().begin().await.unwrap();
        match app.toolbox.create_request_token(&mut tx, new).await {
            Err(Error::Invalid(errors)) => assert_eq!(errors[0].field, field),
            other => panic!("{field}: {other:?}"),
        }
    };
    wrong(|new| new.scope = String::new(), "scope").await;
    wrong(|new| new.login_mode = LoginMode::Session, "user").await;
    wrong(|new| new.login_mode = LoginMode::Request, "user").await;
    wrong(|new| new.max_uses = Some(0), "max_uses").await;
    wrong(
        |new| {
            new.expiration_time = Some(app::start());
            new.not_before_time = Some(app::start());
        },
        "expiration_time",
    )
    .await;
    assert!(require_token(&app.toolbox, "").is_err(), "a scope is needed");
}

#[test]
fn case_6_wrong_keys_claims_and_algorithms() {
    let keys = jwt::Keys::new([SECRET]).unwrap();
    let other = jwt::Keys::new(["another-secret-0123456789-0123456789"]).unwrap();
    let claims = json!({"jti": "1", "sub": "foo", "mod": "n", "max": 1});
    let token = other.sign(claims.as_object().unwrap()).unwrap();
    assert_eq!(keys.verify(&token, app::start()), Err(jwt::Flaw::BadSignature));
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJqdGkiOiIxIiwic3ViIjoiZm9vIiwibW9kIjoibiJ9.";
    assert_eq!(keys.verify(none, app::start()), Err(jwt::Flaw::WrongAlgorithm));
    // Rotation: the first signs, all verify, and the header says which.
    let rotated = jwt::Keys::new(["a-new-secret-0123456789-0123456789-x", SECRET]).unwrap();
    let old = keys.sign(claims.as_object().unwrap()).unwrap();
    assert!(rotated.verify(&old, app::start()).is_ok());
    let new = rotated.sign(claims.as_object().unwrap()).unwrap();
    assert_eq!(keys.verify(&new, app::start()), Err(jwt::Flaw::BadSignature));
    assert!(old.split('.').next() != new.split('.').next(), "kid");
}

both!(case_7_tokens_are_found_wherever_they_may_be);
async fn case_7_tokens_are_found_wherever_they_may_be(app: TestApp) {
    let host = Host::new(&app).await;
    let (row, jwt) = host.issue(|new| new.max_uses = Some(100)).await;
    let admitted = (200, "nobody with foo".to_owned());
    let form = [("a", "b"), ("rt", jwt.as_str())];
    let json_body = json!({"a": 1, "rt": jwt}).to_string();
    for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let query = host.call(method.clone(), &format!("/required?x=&rt={jwt}"));
        assert_eq!(text(query.send().await.unwrap()).await, admitted, "{method} query");
        let bearer =
            host.call(method.clone(), "/required").header("authorization", format!("Bearer {jwt}"));
        assert_eq!(text(bearer.send().await.unwrap()).await, admitted, "{method} bearer");
        if method == Method::GET {
            continue;
        }
        let send =
            async |request: reqwest::RequestBuilder| text(request.send().await.unwrap()).await;
        assert_eq!(
            send(host.call(method.clone(), "/required").form(&form)).await,
            admitted,
            "{method} form"
        );
        for kind in ["application/json", "application/json; charset=utf-8"] {
            let request = host.call(method.clone(), "/required").header("content-type", kind);
            assert_eq!(send(request.body(json_body.clone())).await, admitted, "{method} {kind}");
        }
        let parts =
            format!("--x\r\nContent-Disposition: form-data; name=\"rt\"\r\n\r\n{jwt}\r\n--x--\r\n");
        let multipart = host
            .call(method.clone(), "/required")
            .header("content-type", "multipart/form-data; boundary=x")
            .body(parts);
        assert_eq!(send(multipart).await, admitted, "{method} multipart");
    }
    assert_eq!(host.row(row.id).await.used_to_date, 2 + 4 * 6);
    // The handler gets the body as it was.
    let body = host
        .call(Method::POST, "/body")
        .header("content-type", "application/json")
        .body(json_body.clone());
    assert_eq!(text(body.send().await.unwrap()).await.1, json_body);
    let long = json!({"rt": jwt, "x": "y".repeat(3 << 20)}).to_string();
    let body = host
        .call(Method::POST, &format!("/body?rt={jwt}"))
        .header("content-type", "application/json")
        .body(long[..1_900_000].to_owned());
    assert_eq!(body.send().await.unwrap().text().await.unwrap().len(), 1_900_000);
    // None of these holds one.
    let nothing = refused("token_missing");
    for (kind, body) in [
        ("application/json", "[1]".as_bytes().to_vec()),
        ("application/json", b"\xff{".to_vec()),
        ("application/json", b"{\"rt\": 5}".to_vec()),
        ("text/plain", json_body.clone().into_bytes()),
        ("application/x-www-form-urlencoded", b"rt=".to_vec()),
        ("multipart/form-data", b"x".to_vec()),
    ] {
        let request = host.call(Method::POST, "/required").header("content-type", kind).body(body);
        assert_eq!(text(request.send().await.unwrap()).await, nothing, "{kind}");
    }
    // Somebody else's bearer token is none of ours to judge.
    let theirs = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzb21lYm9keSJ9.c2ln";
    let request =
        host.call(Method::GET, "/optional").header("authorization", format!("Bearer {theirs}"));
    assert_eq!(text(request.send().await.unwrap()).await, (200, "nobody with none".into()));
    assert_eq!(
        host.call(Method::HEAD, &format!("/required?rt={jwt}")).send().await.unwrap().status(),
        200,
        "case 23"
    );
}

both!(cases_8_to_11_refusals);
async fn cases_8_to_11_refusals(app: TestApp) {
    let host = Host::new(&app).await;
    let (row, jwt) = host.issue(|_| ()).await;
    let (gone, gone_jwt) = host.issue(|_| ()).await;
    assert_eq!(host.get("/delete", &gone_jwt).await.0, 204, "case 16");
    assert!(gone.id > row.id);
    let forged = format!("{}x", jwt);
    // Case 8, and bug 3: what is no good is refused where no token is needed, too.
    for path in ["/optional", "/required", "/extract", "/maybe"] {
        assert_eq!(host.get(path, "garbage").await, refused("token_malformed"), "{path}");
        assert_eq!(host.get(path, &gone_jwt).await, refused("token_unknown"), "{path}");
        assert_eq!(host.get(path, &forged).await.0, 403, "{path}");
    }
    // Cases 9 and 10.
    let plain = async |path: &str| text(host.call(Method::GET, path).send().await.unwrap()).await;
    assert_eq!(plain("/required").await, refused("token_missing"));
    assert_eq!(plain("/extract").await, refused("token_missing"));
    assert_eq!(plain("/optional").await, (200, "nobody with none".into()));
    assert_eq!(plain("/maybe").await, (200, "false".into()));
    assert_eq!(host.outcomes(row.id).await, []);
    // Case 11: another scope is refused and logged, and uses nothing.
    edit(&app, row.id, Changes { scope: Some("bar".into()), ..Changes::default() }).await;
    assert_eq!(host.get("/required", &jwt).await, refused("token_wrong_scope"));
    assert_eq!(host.outcomes(row.id).await, [("token_wrong_scope".into(), Some(403))]);
    assert_eq!(host.row(row.id).await.used_to_date, 0);
    edit(&app, row.id, Changes { scope: Some("foo".into()), ..Changes::default() }).await;
    assert_eq!(host.get("/required", &jwt).await.0, 200, "the row rules");
    assert_eq!(host.row(row.id).await.used_to_date, 1);
    // People get a page.
    let page =
        host.call(Method::GET, "/required").header("accept", "text/html").send().await.unwrap();
    assert_eq!(page.status(), 403);
    assert!(page.text().await.unwrap().contains("<h1>This link does not admit you</h1>"));
    // Bug 7: a jti that is no number is a refusal, not a crash.
    let mut claims = row.claims();
    claims.insert("jti".into(), "abc".into());
    let odd = app.toolbox.request_token_settings().keys.sign(&claims).unwrap();
    assert_eq!(host.get("/required", &odd).await, refused("token_malformed"));
    claims.insert("jti".into(), row.id.into());
    let number = app.toolbox.request_token_settings().keys.sign(&claims).unwrap();
    assert_eq!(host.get("/required", &number).await.0, 200, "up to 2.3.1 jti was a number");
}

both!(cases_12_to_14_login_modes);
async fn cases_12_to_14_login_modes(app: TestApp) {
    let amy = app.user("amy", Role::User).await;
    let bob = app.user("bob", Role::User).await;
    let host = Host::new(&app).await;
    let for_amy = |mode| {
        move |new: &mut NewRequestToken| {
            new.login_mode = mode;
            new.user_id = Some("amy".into());
        }
    };
    let (_, none) = host.issue(for_amy(LoginMode::None)).await;
    let (_, request) = host.issue(for_amy(LoginMode::Request)).await;
    let (session_row, session) = host.issue(for_amy(LoginMode::Session)).await;
    assert_eq!(host.get("/required", &none).await.1, "nobody with foo");
    assert_eq!(host.get("/required", &request).await.1, "amy with foo");
    assert_eq!(
        text(host.call(Method::GET, "/who").send().await.unwrap()).await.1,
        "nobody with none",
        "for this request only"
    );
    // Case 13: a session begins and lasts; requests without the token are not logged.
    let response = host.call(Method::GET, &format!("/required?rt={session}")).send().await.unwrap();
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(
        cookie.starts_with("bgfiles_session=")
            && cookie.contains("; HttpOnly")
            && cookie.contains("; SameSite=Lax"),
        "{cookie}"
    );
    assert!(!cookie.contains("Secure"), "the test's base URL is http");
    assert_eq!(response.text().await.unwrap(), "amy with foo");
    let pair = cookie.split(';').next().unwrap().to_owned();
    let with = async |pair: &str, path: &str| {
        let response = host
            .call(Method::GET, path)
            .header("cookie", format!("a=b; {pair}"))
            .send()
            .await
            .unwrap();
        let set = response
            .headers()
            .get("set-cookie")
            .map(|c| c.to_str().unwrap().split(';').next().unwrap().to_owned());
        (text(response).await.1, set)
    };
    assert_eq!(with(&pair, "/who").await, ("amy with none".into(), None));
    assert_eq!(host.outcomes(session_row.id).await.len(), 1);
    // The same user passes and no other session begins.
    assert_eq!(
        with(&pair, &format!("/required?rt={session}")).await,
        ("amy with foo".into(), None)
    );
    assert_eq!(with("bgfiles_session=x", "/who").await.0, "nobody with none");
    // Another one's session ends when this one begins: the id is rotated.
    let bobs = app.toolbox.begin_session("bob", None).await.unwrap();
    let fixed = format!("bgfiles_session={}", bobs.expose());
    assert_eq!(with(&fixed, "/who").await.0, "bob with none");
    assert_eq!(
        with(&fixed, &format!("/required?rt={session}")).await.0,
        "token_wrong_user",
        "case 14"
    );
    app.toolbox.begin_session("amy", Some(&bobs)).await.unwrap();
    assert!(app.toolbox.session_user(&bobs).await.unwrap().is_none());
    assert_eq!(with(&fixed, "/who").await.0, "nobody with none");
    // Case 14 with API tokens; bug 6: mode None does not ignore the bound user.
    for token in [&none, &request, &session] {
        let auth = |secret: &str| format!("Token {secret}");
        let as_user = async |secret: &str| {
            let call = host
                .call(Method::GET, &format!("/required?rt={token}"))
                .header("authorization", auth(secret));
            text(call.send().await.unwrap()).await
        };
        assert_eq!(as_user(&amy).await, (200, "amy with foo".into()));
        assert_eq!(as_user(&bob).await, refused("token_wrong_user"));
    }
    app.advance(1_209_600);
    assert_eq!(with(&pair, "/who").await.0, "nobody with none", "sessions end");
    let (_, stranger) = host
        .issue(|new| {
            new.login_mode = LoginMode::Request;
            new.user_id = Some("nobody".into());
        })
        .await;
    assert_eq!(host.get("/required", &stranger).await, refused("token_inactive_user"));
    // Bug 6: who may do nothing is not let in by a token either.
    let (row, request) = host.issue(for_amy(LoginMode::Request)).await;
    let session = app.toolbox.begin_session("amy", None).await.unwrap();
    app.sql("UPDATE bgfiles_users SET is_active = false WHERE username = 'amy'").await;
    assert_eq!(host.get("/required", &request).await, refused("token_inactive_user"));
    assert_eq!(host.outcomes(row.id).await, [("token_inactive_user".into(), Some(403))]);
    assert!(app.toolbox.session_user(&session).await.unwrap().is_none());
    assert!(SessionSecret::parse("short").is_none());
}

both!(cases_15_to_19_counting_and_logging);
async fn cases_15_to_19_counting_and_logging(app: TestApp) {
    let host = Host::new(&app).await;
    let (row, jwt) = host.issue(|new| new.max_uses = Some(3)).await;
    assert_eq!(host.get("/required", &jwt).await.0, 200);
    let post = host
        .call(Method::POST, "/required")
        .form(&[("rt", &jwt)])
        .header("user-agent", "probe/1\u{a0}")
        .send();
    assert_eq!(post.await.unwrap().status(), 200);
    assert_eq!(host.row(row.id).await.used_to_date, 2, "case 15");
    assert_eq!(host.get("/expire", &jwt).await.1, "expired");
    assert_eq!(host.get("/required", &jwt).await, refused("token_expired"), "bug 1");
    let outcomes = host.outcomes(row.id).await;
    assert_eq!(outcomes, [used(200), used(200), used(200), ("token_expired".into(), Some(403))]);
    // Case 23: a 500 that a handler answers counts, one that panics does not.
    let (row, jwt) = host.issue(|_| ()).await;
    assert_eq!(host.get("/fails", &jwt).await.0, 500);
    assert!(host.call(Method::GET, &format!("/panics?rt={jwt}")).send().await.is_err());
    assert_eq!(host.row(row.id).await.used_to_date, 1);
    assert_eq!(host.outcomes(row.id).await, [used(500)], "case 19");
    // Bug 2: what is not logged is counted all the same.
    let (row, jwt) = host.issue(|new| new.max_uses = Some(2)).await;
    let codes = [
        host.get("/silent", &jwt).await.0,
        host.get("/silent", &jwt).await.0,
        host.get("/silent", &jwt).await.0,
    ];
    assert_eq!(codes, [200, 200, 403]);
    assert_eq!((host.row(row.id).await.used_to_date, host.outcomes(row.id).await.len()), (2, 0));
    assert_eq!(host.get("/required", &jwt).await, refused("token_used_up"));
    let log =
        store::uses(&mut app.toolbox.db().read().await.unwrap(), row.id, None, 9).await.unwrap();
    assert_eq!(
        (log[0].user_agent.as_str(), log[0].client_ip.as_deref()),
        ("unknown", Some("127.0.0.1")),
        "case 18"
    );
}

both!(bug_1_the_row_rules_over_its_jwts);
async fn bug_1_the_row_rules_over_its_jwts(app: TestApp) {
    let host = Host::new(&app).await;
    let (row, jwt) =
        host.issue(|new| new.expiration_time = Some(app::start() + TimeDelta::days(9))).await;
    assert!(row.is_valid(app::start()));
    let set = async |changes: Changes| edit(&app, row.id, changes).await;
    assert_eq!(host.get("/required", &jwt).await.0, 200);
    set(Changes {
        not_before_time: Some(Some(app::start() + TimeDelta::hours(1))),
        ..Changes::default()
    })
    .await;
    assert_eq!(host.get("/required", &jwt).await, refused("token_not_yet_valid"));
    set(Changes {
        not_before_time: Some(None),
        expiration_time: Some(Some(app::start())),
        ..Changes::default()
    })
    .await;
    assert_eq!(host.get("/required", &jwt).await, refused("token_expired"));
    set(Changes { expiration_time: Some(None), max_uses: Some(1), ..Changes::default() }).await;
    assert_eq!(host.get("/required", &jwt).await, refused("token_used_up"));
    set(Changes { max_uses: Some(2), ..Changes::default() }).await;
    assert_eq!(host.get("/required", &jwt).await.0, 200);
    app.advance(9 * 86_400);
    assert_eq!(
        host.get("/required", &jwt).await,
        refused("token_expired"),
        "the JWT's own end holds, too"
    );
    // Case 22.
    let row = host.row(row.id).await;
    assert!(!row.is_valid(app::start()), "used up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_request_tokens() {
    let settings = Settings {
        ignore_invalid: true,
        disable_logs: true,
        default_max_uses: 2,
        querystring: "token".into(),
        template_403: "page/no_entry.html".into(),
        expiry: std::time::Duration::from_secs(120),
        ..Settings::new([SECRET]).unwrap()
    };
    let trusted_proxies = "127.0.0.1".parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("page")).unwrap();
    std::fs::write(folder.path().join("page/no_entry.html"), "No entry: {{ code }}").unwrap();
    let parts = Parts {
        request_tokens: settings,
        trusted_proxies,
        templates: Templates::new(Some(folder.path().to_owned())),
        base_url: "https://files.example.com/sub",
        ..Parts::default()
    };
    let app = TestApp::with(Kind::Sqlite, parts).await;
    let host = Host::new(&app).await;
    let (row, jwt) = host.issue(|_| ()).await;
    assert_eq!(row.max_uses, 2);
    assert_eq!(host.get("/required", &jwt).await, refused("token_missing"), "the name is another");
    let get = async |path: &str, token: &str| {
        let call = host.call(Method::GET, &format!("{path}?token={token}"));
        text(call.send().await.unwrap()).await
    };
    assert_eq!(get("/required", &jwt).await.0, 200);
    assert_eq!(get("/optional", "garbage").await, (200, "nobody with none".into()), "the old way");
    assert_eq!(get("/required", "garbage").await, refused("token_malformed"));
    assert_eq!(host.outcomes(row.id).await, [], "no log");
    assert_eq!(host.row(row.id).await.used_to_date, 1);
    let page = host.call(Method::GET, "/required").header("accept", "text/html").send();
    assert_eq!(text(page.await.unwrap()).await, refused("No entry: token_missing"));
    app.user("amy", Role::User).await;
    let (row, jwt) = host
        .issue(|new| {
            new.login_mode = LoginMode::Session;
            new.user_id = Some("amy".into());
        })
        .await;
    assert_eq!(row.expiration_time, Some(app::start() + TimeDelta::minutes(2)));
    let response = host.call(Method::GET, &format!("/required?token={jwt}")).send().await.unwrap();
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Lax; Secure"), "{cookie}");
    assert_eq!(app.toolbox.tokenise(&row, "/x").unwrap(), format!("/x?token={jwt}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_17_forwarded_addresses_through_trusted_proxies_only() {
    for (proxies, expected) in [("", "127.0.0.1"), ("127.0.0.0/8", "198.51.100.7")] {
        let trusted_proxies = proxies.parse().unwrap();
        let app = TestApp::with(Kind::Sqlite, Parts { trusted_proxies, ..Parts::default() }).await;
        let host = Host::new(&app).await;
        let (row, jwt) = host.issue(|_| ()).await;
        let call = host.call(Method::GET, &format!("/required?rt={jwt}"));
        call.header("x-forwarded-for", "6.6.6.6, 198.51.100.7").send().await.unwrap();
        let mut tx = app.toolbox.db().read().await.unwrap();
        let log = store::uses(&mut tx, row.id, None, 9).await.unwrap();
        assert_eq!(log[0].client_ip.as_deref(), Some(expected));
    }
}

#[test]
fn case_20_tokenise_keeps_everything_else() {
    let put = |url: &str| tokenise(url, "rt", "a.b.c");
    for (url, expected) in [
        ("/x", "/x?rt=a.b.c"),
        ("/x?a=1", "/x?a=1&rt=a.b.c"),
        ("/x?rt=old&a=&b&a=2#part?x", "/x?a=&b&a=2&rt=a.b.c#part?x"),
        ("https://u@h:8/x?q=%C3%A9+1", "https://u@h:8/x?q=%C3%A9+1&rt=a.b.c"),
        ("", "?rt=a.b.c"),
        ("/x?r%74=old", "/x?rt=a.b.c"),
        ("/x?#f", "/x?rt=a.b.c#f"),
    ] {
        assert_eq!(put(url), expected);
        assert_eq!(put(expected), expected, "again");
    }
}

#[test]
fn case_21_what_is_a_jwt() {
    let keys = jwt::Keys::new([SECRET]).unwrap();
    let good = json!({"jti": "1", "sub": "s", "mod": "n"});
    assert!(jwt::is_jwt(&keys.sign(good.as_object().unwrap()).unwrap()));
    for text in ["", "null", "garbage", "a.b.c", "..", "e30.e30."] {
        assert!(!jwt::is_jwt(text), "{text}");
    }
}

#[test]
fn templates_carry_tokens_on() {
    let mut env = minijinja::Environment::new();
    template::add_functions(&mut env, "rt");
    env.add_template(
        "x.html",
        "{{ request_token_input() }}<a href=\"/x{{ request_token_querystring() }}\">",
    )
    .unwrap();
    let render = |token: Option<&str>| {
        env.get_template("x.html")
            .unwrap()
            .render(minijinja::context! { request_token => token })
            .unwrap()
    };
    assert_eq!(
        render(Some("a.b.c\"")),
        "<input type=\"hidden\" name=\"rt\" value=\"a.b.c&quot;\"><a href=\"/x?rt=a.b.c%22\">"
    );
    assert_eq!(render(None), "<a href=\"/x\">");
}

both!(bug_4_uses_are_exact_however_many_ask_at_once);
async fn bug_4_uses_are_exact_however_many_ask_at_once(app: TestApp) {
    for _ in 0..20 {
        let (row, jwt) = issue(&app, |new| new.max_uses = Some(3)).await;
        let ask = || {
            let (toolbox, jwt) = (app.toolbox.clone(), jwt.clone());
            tokio::spawn(async move {
                let visitor = Visitor::default();
                let presented =
                    Presented { jwt: &jwt, scope: "foo", user: None, visitor: &visitor, log: true };
                toolbox.admit(&presented).await.is_ok()
            })
        };
        let asked: Vec<_> = (0..50).map(|_| ask()).collect();
        let admitted = futures::future::join_all(asked)
            .await
            .into_iter()
            .filter(|ok| *ok.as_ref().unwrap())
            .count();
        assert_eq!(admitted, 3);
        let mut tx = app.toolbox.db().read().await.unwrap();
        assert_eq!(store::find(&mut tx, row.id).await.unwrap().unwrap().used_to_date, 3);
        let uses = store::uses(&mut tx, row.id, None, 200).await.unwrap();
        assert_eq!(uses.iter().filter(|used| used.outcome == "used").count(), 3);
        assert_eq!(uses.iter().filter(|used| used.outcome == "token_used_up").count(), 47);
    }
}

both!(bug_5_truncating_the_log);
async fn bug_5_truncating_the_log(app: TestApp) {
    let (row, _) = issue(&app, |_| ()).await;
    let fill = async || {
        app.sql("DELETE FROM bgfiles_request_token_uses").await;
        for days in [9, 5, 3, 3, 0] {
            let at = app.toolbox.clock().now() - TimeDelta::days(days);
            let mut tx = app.toolbox.db().begin().await.unwrap();
            store::log(&mut tx, row.id, "used", None, &Visitor::default(), None, at).await.unwrap();
            tx.commit().await.unwrap();
        }
    };
    let left = async || app.count("SELECT count(*) FROM bgfiles_request_token_uses").await;
    for (count, days, expected) in [
        (None, None, 5),
        (Some(2), None, 3),
        (None, Some(4), 3),
        (None, Some(5), 4),
        (Some(1), Some(100), 1),
        (Some(100), Some(1), 1),
        (Some(3), Some(8), 3),
        (Some(0), None, 0),
        (None, Some(0), 1),
    ] {
        fill().await;
        let removed = app.toolbox.truncate_request_token_log(count, days).await.unwrap();
        assert_eq!((left().await, removed as i64), (expected, 5 - expected), "{count:?} {days:?}");
    }
    fill().await;
    app.toolbox.begin_session("amy", None).await.unwrap();
    app.advance(88 * 86_400);
    let swept = bgfiles::cleaner::clean(&app.toolbox, &Default::default(), Default::default())
        .await
        .unwrap();
    let removed = |name| swept.iter().find(|s| s.name == name).unwrap().removed;
    assert_eq!(
        (removed("request_token_log"), removed("sessions")),
        (4, 1),
        "ties and the newest stay"
    );
}

both!(over_http);
async fn over_http(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let user = Caller::new(&app, &base, "amy", Role::User).await;
    assert_eq!(user.post("/api/request-tokens", json!({"scope": "foo"})).await.0, 403);
    let body = json!({"scope": "foo", "login_mode": "Request", "user": "amy", "max_uses": 2, "expires_in": 3600,
        "data": {"k": "v"}, "url": "https://app.example.com/r?y=#top"});
    let (status, made) = shop.post("/api/request-tokens", body).await;
    let jwt = made["jwt"].as_str().unwrap();
    assert_eq!(
        (status, &made["url"]),
        (201, &json!(format!("https://app.example.com/r?y=&rt={jwt}#top")))
    );
    assert_eq!(
        (&made["expiration_time"], &made["created_by"]),
        (&json!("2026-03-01T13:00:00Z"), &json!("shop"))
    );
    let path = format!("/api/request-tokens/{}", made["id"]);
    let (_, shown) = shop.get(&path).await;
    assert_eq!(
        (&shown["claims"]["aud"], &shown["is_valid"], shown.get("jwt")),
        (&json!("amy"), &json!(true), None)
    );
    assert_eq!(user.get(&path).await.0, 403);
    // For applications that are not written in Rust.
    let ask = |user: Value| json!({"token": jwt, "scope": "foo", "user": user, "client_ip": "2001:db8::7", "user_agent": "x"});
    let (status, admitted) = shop.post("/api/request-tokens/redeem", ask(Value::Null)).await;
    assert_eq!(
        (status, &admitted["user"], &admitted["token"]["used_to_date"]),
        (200, &json!("amy"), &json!(1))
    );
    let (status, refused) = shop.post("/api/request-tokens/redeem", ask(json!("bob"))).await;
    assert_eq!((status, &refused["code"]), (403, &json!("token_wrong_user")));
    let (_, log) = shop.get(&format!("{path}/log")).await;
    let lines: Vec<_> = log["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| (l["outcome"].as_str().unwrap(), l["status_code"].as_i64()))
        .collect();
    assert_eq!(lines, [("token_wrong_user", Some(403)), ("used", Some(200))]);
    assert_eq!(log["items"][1]["client_ip"], "2001:db8::7", "case 18");
    let (_, found) = shop.get(&format!("/api/request-tokens?jwt={jwt}")).await;
    assert_eq!(found["items"][0]["id"], made["id"]);
    for _ in 0..3 {
        shop.post("/api/request-tokens", json!({"scope": "bar"})).await;
    }
    let (_, first) = shop.get("/api/request-tokens?scope=bar&limit=2").await;
    let (_, second) = shop
        .get(&format!(
            "/api/request-tokens?scope=bar&limit=2&cursor={}",
            first["next"].as_str().unwrap()
        ))
        .await;
    assert_eq!(
        (
            first["items"].as_array().unwrap().len(),
            second["items"].as_array().unwrap().len(),
            &second["next"]
        ),
        (2, 1, &Value::Null)
    );
    let patch = async |body: Value| {
        app::json(shop.call("PATCH", &path).json(&body).send().await.unwrap()).await
    };
    let (_, edited) = patch(json!({"expiration_time": null, "max_uses": 5})).await;
    assert_eq!((&edited["expiration_time"], &edited["max_uses"]), (&Value::Null, &json!(5)));
    let (_, ended) = shop.post(&format!("{path}/expire"), json!({})).await;
    assert_eq!((&ended["is_valid"], &ended["denial"]), (&json!(false), &json!("token_expired")));
    assert_eq!(
        shop.post("/api/request-tokens/redeem", ask(Value::Null)).await.1["code"],
        "token_expired"
    );
    for (wrong, field) in [
        (json!({}), "scope"),
        (json!({"scope": "x", "login_mode": "odd"}), "login_mode"),
        (json!({"scope": "x", "login_mode": "session"}), "user"),
        (json!({"scope": "x", "max_uses": 0}), "max_uses"),
        (json!({"scope": "x", "odd": 1}), "odd"),
    ] {
        let (status, problem) = shop.post("/api/request-tokens", wrong.clone()).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{wrong}");
    }
    assert_eq!(patch(json!({"max_uses": 0})).await.0, 422);
    for missing in
        ["/api/request-tokens/999999", "/api/request-tokens/abc", "/api/request-tokens/999999/log"]
    {
        assert_eq!(shop.get(missing).await.0, 404);
    }
}

both!(from_the_command_line);
async fn from_the_command_line(app: TestApp) {
    let run = |args: &[&str]| {
        let output = bgfiles()
            .env("DATABASE_URL", &app.url)
            .current_dir(app.dir.path())
            .args(args)
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, jwt, _) = run(&[
        "request-token",
        "create",
        "--scope",
        "report",
        "--expires",
        "1h",
        "--max-uses",
        "2",
    ]);
    let jwt = jwt.trim();
    assert_eq!((code, jwt.split('.').count()), (0, 3));
    let (code, shown, _) = run(&["request-token", "show", jwt, "--json", "--uses"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (code, &shown["scope"], &shown["max_uses"], &shown["uses"]),
        (0, &json!("report"), &json!(2), &json!([]))
    );
    let (code, url, _) =
        run(&["request-token", "create", "--scope", "x", "--url", "https://a.example/b?c=1"]);
    assert_eq!(code, 0);
    assert!(url.starts_with("https://a.example/b?c=1&rt="));
    let (code, inspected, _) = run(&["token", "inspect", url.trim(), "--json"]);
    assert_eq!(
        (code, serde_json::from_str::<Value>(&inspected).unwrap()["data"]["sub"].clone()),
        (0, json!("x"))
    );
    let id = shown["id"].to_string();
    assert_eq!(run(&["request-token", "expire", &id]).0, 0);
    let (code, text, _) = run(&["request-token", "show", &id]);
    assert!(code == 1 && text.contains("this link has expired"), "{text}");
    assert_eq!(run(&["request-token", "expire", "999999"]).0, 1);
    let (code, _, error) =
        run(&["request-token", "create", "--scope", "x", "--login-mode", "session"]);
    assert!(code == 1 && error.contains("user"), "{error}");
    let (code, text, _) = run(&["truncate-request-token-log", "--max-days", "3"]);
    assert_eq!((code, text.as_str()), (0, "Removed 0 lines.\n"));
}
