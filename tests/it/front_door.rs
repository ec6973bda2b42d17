//! What every call meets first: origins, credentials, rates, the size of a head, a full disk.

use std::time::Duration;

use bgfiles::{
    Db,
    auth_token::{Role, Settings},
    config::Origins,
    web::{WebState, server::Limits},
};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Caller, Kind, TestApp, app, app::Parts, both};

/// A server whose API these origins may call.
async fn open_to(app: &TestApp, origins: &str) -> String {
    let cors: Origins = origins.parse().unwrap();
    let state = WebState { cors, ..WebState::new(app.toolbox.clone()) };
    format!("http://{}", app.serve_with(state, Limits::default()).await)
}

fn header<'r>(response: &'r reqwest::Response, name: &str) -> Option<&'r str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

const APP: &str = "https://app.example.com";

both!(pages_of_listed_origins_may_call_the_api_and_nothing_else);
async fn pages_of_listed_origins_may_call_the_api_and_nothing_else(app: TestApp) {
    let rate = Settings { default_throttle: Some("3/m".parse().unwrap()), ..Settings::default() };
    let app = TestApp::with(app.kind, Parts { auth: rate, ..Parts::default() }).await;
    let base = open_to(&app, &format!("{APP}, http://localhost:5173")).await;
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    let row = app.finished("hello", "").await;
    let preflight = async |path: &str, origin: &str, headers: &str| {
        let request = app.http.request(Method::OPTIONS, format!("{base}{path}"));
        let request =
            request.header("origin", origin).header("access-control-request-method", "PATCH");
        request.header("access-control-request-headers", headers).send().await.unwrap()
    };
    // More often than the rate allows, and by nobody in particular.
    for path in ["/api/requests", "/lock_tokens/a/b/1/", "/d/x", "/g/x/y", "/api/requests"] {
        let answer = preflight(path, APP, "authorization, idempotency-key").await;
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(APP));
        assert!(header(&answer, "access-control-allow-methods").unwrap().contains("PATCH"));
        let headers = header(&answer, "access-control-allow-headers").unwrap();
        assert!(headers.contains("authorization") && headers.contains("idempotency-key"));
        assert!(!headers.contains("x-forwarded-for"), "what only a front server may say");
        assert_eq!(header(&answer, "access-control-allow-credentials"), None);
        assert_eq!(header(&answer, "ratelimit"), None);
    }
    let other = preflight("/api/requests", "https://evil.example.com", "").await;
    assert_eq!(header(&other, "access-control-allow-origin"), None);
    for path in ["/", "/login", "/healthz", "/metrics"] {
        let answer = preflight(path, APP, "").await;
        assert_eq!(header(&answer, "access-control-allow-origin"), None, "{path}");
        assert_ne!(answer.status(), 200, "{path}");
    }
    // Answers and refusals, of a route, of no route, and of small files out of memory.
    let link = app.link(&row);
    for (path, token, status) in [
        ("/api/requests", amy.secret.as_str(), 200),
        ("/api/requests", "", 401),
        ("/api/nothing", "", 404),
        (link.as_str(), "", 200),
        (link.as_str(), "", 200),
    ] {
        let request = app.http.get(format!("{base}{path}")).header("origin", APP);
        let request = match token {
            "" => request,
            token => request.header("authorization", format!("Token {token}")),
        };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(APP), "{path}");
        let shown = header(&answer, "access-control-expose-headers").unwrap();
        for name in ["location", "etag", "retry-after", "ratelimit", "link", "x-request-id"] {
            assert!(shown.split(',').any(|shown| shown.trim() == name), "{name}: {shown}");
        }
        let varies: Vec<_> = answer.headers().get_all("vary").iter().collect();
        assert!(varies.iter().any(|v| v.to_str().unwrap().contains("origin")), "{varies:?}");
    }
}

both!(without_the_setting_no_other_origin_may_call_and_a_star_is_for_all);
async fn without_the_setting_no_other_origin_may_call_and_a_star_is_for_all(app: TestApp) {
    for (origins, allowed, status) in [("", None, 405), ("*", Some("*"), 200)] {
        let base = open_to(&app, origins).await;
        let ask = app.http.request(Method::OPTIONS, format!("{base}/api/requests"));
        let ask = ask.header("origin", APP).header("access-control-request-method", "GET");
        let answer = ask.send().await.unwrap();
        assert_eq!(header(&answer, "access-control-allow-origin"), allowed);
        assert_eq!(answer.status(), status);
        assert_eq!(header(&answer, "access-control-allow-credentials"), None);
        // OPTIONS of somebody who is no browser is as ever.
        let plain = app.http.request(Method::OPTIONS, format!("{base}/api/requests"));
        assert_eq!(plain.send().await.unwrap().status(), 405);
    }
}

both!(an_api_token_may_be_a_bearer_token);
async fn an_api_token_may_be_a_bearer_token(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let amy = app.user("amy", Role::User).await;
    let call = async |authorization: String| {
        let request = app.http.get(format!("{base}/api/requests"));
        let answer = request.header("authorization", authorization).send().await.unwrap();
        let challenges = answer.headers().get_all("www-authenticate").iter();
        let challenges: Vec<_> = challenges.map(|v| v.to_str().unwrap().to_owned()).collect();
        let (status, body) = app::json(answer).await;
        if status == 401 {
            assert_eq!(challenges, [r#"Token realm="bgfiles""#, r#"Bearer realm="bgfiles""#]);
            assert_eq!(body["title"], "Authentication required");
        }
        (status, body["detail"].as_str().unwrap_or_default().to_owned())
    };
    for scheme in ["Bearer", "bearer", "BEARER", "Token"] {
        assert_eq!(call(format!("{scheme} {amy}")).await.0, 200, "{scheme}");
    }
    assert_eq!(call("Bearer x".into()).await, (401, "Invalid token.".into()));
    assert_eq!(call(format!("Bearer {amy}0")).await, (401, "Invalid token.".into()));
    let nobody = "Authentication credentials were not provided.";
    assert_eq!(call("Bearer a.b.c".into()).await, (401, nobody.into()), "a request token is none");
    assert_eq!(call("Token a.b.c".into()).await, (401, "Invalid token.".into()));

    // A host application's own bearer tokens are its business: its routes are not refused for them.
    let open = axum::Router::new().route("/open", axum::routing::get(|| async { "open" }));
    let host = open.layer(bgfiles::web::request_tokens(&app.toolbox));
    let listener = bgfiles::web::server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(bgfiles::web::server::serve(listener, host, Limits::default(), app.stop.clone()));
    for (token, status) in [("theirs", 200), (amy.as_str(), 200), (&format!("{amy}0"), 401)] {
        let answer = app.http.get(format!("http://{address}/open")).bearer_auth(token).send().await;
        assert_eq!(answer.unwrap().status(), status, "{token}");
    }

    // A scheme of one's own stands beside it, too; Bearer itself is named once.
    for (own, count) in [("Key", 2), ("Bearer", 1)] {
        let auth = Settings { header_prefix: own.into(), ..Settings::default() };
        let app = TestApp::with(app.kind, Parts { auth, ..Parts::default() }).await;
        let base = format!("http://{}", app.serve().await);
        let amy = app.user("amy", Role::User).await;
        for (scheme, status) in [(own, 200), ("Bearer", 200), ("Token", 401)] {
            let request = app.http.get(format!("{base}/api/requests"));
            let request = request.header("authorization", format!("{scheme} {amy}"));
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), status, "{own}: {scheme}");
            let named = answer.headers().get_all("www-authenticate").iter().count();
            assert_eq!(named, if status == 401 { count } else { 0 });
        }
    }
}

both!(answers_say_what_is_left_of_a_rate);
async fn answers_say_what_is_left_of_a_rate(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    app.add_user("amy", Role::User, None).await;
    let never = bgfiles::limits::TokenTtl::Never;
    app.client("cli", never, "3/m", bgfiles::auth_token::TokenPolicy::One).await;
    let secret = app.token("amy", "cli").await;
    let call = async || {
        let request = app.http.get(format!("{base}/api/requests"));
        let answer = request.bearer_auth(&secret).send().await.unwrap();
        let text = |name| header(&answer, name).unwrap_or_default().to_owned();
        (answer.status().as_u16(), text("ratelimit-policy"), text("ratelimit"), text("retry-after"))
    };
    let policy = r#""calls";q=3;w=60"#;
    for (left, reset) in [(2, 20), (1, 40), (0, 60)] {
        let expected = format!(r#""calls";r={left};t={reset}"#);
        assert_eq!(call().await, (200, policy.into(), expected, String::new()));
    }
    assert_eq!(call().await, (429, policy.into(), r#""calls";r=0;t=20"#.into(), "20".into()));
    app.advance(20);
    assert_eq!(call().await, (200, policy.into(), r#""calls";r=0;t=60"#.into(), String::new()));
    // Who has no rate is told of none.
    let bob = Caller::new(&app, &base, "bob", Role::User).await;
    let answer = bob.call("GET", "/api/requests").send().await.unwrap();
    assert_eq!((header(&answer, "ratelimit"), header(&answer, "ratelimit-policy")), (None, None));
}

both!(a_rate_that_cannot_be_read_admits_nobody);
async fn a_rate_that_cannot_be_read_admits_nobody(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    assert_eq!(amy.get("/api/requests").await.0, 200);
    for _ in 0..2 {
        app.sql("UPDATE bgfiles_clients SET throttle_rate = '0/m' WHERE name = 'client-amy'").await;
        // What is kept in memory holds for a minute where the database cannot tell.
        app.advance(61);
        let answer = amy.call("GET", "/api/requests").send().await.unwrap();
        assert_eq!(header(&answer, "retry-after"), Some("60"));
        let (status, problem) = app::json(answer).await;
        assert_eq!((status, &problem["code"]), (429, &json!("throttled")));
    }
    app.sql("UPDATE bgfiles_clients SET throttle_rate = '' WHERE name = 'client-amy'").await;
    app.advance(61);
    assert_eq!(amy.get("/api/requests").await.0, 200);
}

both!(password_hashes_of_other_programs_are_refused_like_wrong_passwords);
async fn password_hashes_of_other_programs_are_refused_like_wrong_passwords(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let password = "correct horse battery staple";
    app.client("web", bgfiles::limits::TokenTtl::Never, "", Default::default()).await;
    for (name, hash) in [
        (
            "ann",
            "UPDATE bgfiles_users SET password_hash = 'pbkdf2_sha256$870000$salt$aGFzaA==' WHERE username = 'ann'",
        ),
        ("ben", "UPDATE bgfiles_users SET password_hash = '!' WHERE username = 'ben'"),
        (
            "cas",
            "UPDATE bgfiles_users SET password_hash = '$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA' WHERE username = 'cas'",
        ),
        (
            "dan",
            "UPDATE bgfiles_users SET password_hash = '$scrypt$ln=14,r=8,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA' WHERE username = 'dan'",
        ),
    ] {
        app.add_user(name, Role::User, Some(password)).await;
        app.sql(hash).await;
        let body = json!({"username": name, "password": password, "client": "web"});
        let answer = app.http.post(format!("{base}/api/auth/login")).json(&body).send().await;
        let (status, body) = app::json(answer.unwrap()).await;
        let words = json!(["Unable to log in with provided credentials."]);
        assert_eq!((status, &body["non_field_errors"]), (400, &words), "{name}");
    }
}

/// The status of a request whose head has exactly so many bytes, sent in pieces of a size.
async fn status_of_head(address: std::net::SocketAddr, length: usize, piece: usize) -> u16 {
    let start = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: ";
    let head = format!("{start}{}\r\n\r\n", "a".repeat(length - start.len() - 4));
    assert_eq!(head.len(), length);
    let mut stream = TcpStream::connect(address).await.unwrap();
    for piece in head.as_bytes().chunks(piece) {
        if stream.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_of_32_kib_is_taken_and_one_byte_more_is_not() {
    let app = TestApp::new(Kind::Sqlite).await;
    let address = app.serve().await;
    for piece in [1024, 1_000_000] {
        for (length, status) in [(32_768, 200), (32_769, 431), (40_000, 431), (100_000, 431)] {
            let answer = status_of_head(address, length, piece).await;
            assert_eq!(answer, status, "{length} bytes in pieces of {piece}");
        }
    }
}

both!(a_full_disk_is_said_to_be_one_and_passes);
async fn a_full_disk_is_said_to_be_one_and_passes(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    let row = app.finished("hello", "").await;
    let disk = async || {
        let answer = app.http.get(format!("{base}/readyz")).send().await.unwrap();
        let (status, body) = app::json(answer).await;
        (status, body["disk"].as_str().unwrap().to_owned(), body["warnings"].clone())
    };
    assert_eq!(disk().await, (200, "ok".into(), json!([])));
    fill(&app, true).await;
    let body = json!({"file_type": "hello", "description": "x".repeat(2_000)});
    let mut refused = None;
    // Some pages of SQLite are free.
    for _ in 0..500 {
        let answer = amy.call("POST", "/api/requests").json(&body).send().await.unwrap();
        if answer.status() != StatusCode::ACCEPTED && answer.status() != StatusCode::CREATED {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the disk is full");
    assert_eq!(header(&refused, "retry-after"), Some("60"));
    let (status, problem) = app::json(refused).await;
    assert_eq!((status, &problem["code"]), (503, &json!("disk_full")), "{problem}");
    assert_eq!(problem["detail"], "there is no space left");
    let (status, word, warnings) = disk().await;
    assert_eq!((status, word.as_str()), (200, "full"), "what is there is still handed out");
    assert!(warnings[0].as_str().unwrap().contains("full"), "{warnings}");
    let file = app.http.get(format!("{base}{}", app.link(&row))).send().await.unwrap();
    assert_eq!(file.status(), 200);
    fill(&app, false).await;
    let (status, _) = amy.post("/api/requests", body).await;
    assert!((200..300).contains(&status), "{status}");
}

/// No page more for SQLite, on each connection there is; PostgreSQL says of each request what it says
/// of a full disk.
async fn fill(app: &TestApp, full: bool) {
    match app.toolbox.db() {
        Db::Sqlite(pool) => {
            let pages = if full {
                "PRAGMA max_page_count = 1"
            } else {
                "PRAGMA max_page_count = 1073741823"
            };
            let mut all = Vec::new();
            for _ in 0..pool.options().get_max_connections() {
                let wait = tokio::time::timeout(Duration::from_secs(20), pool.acquire());
                let mut conn = wait.await.expect("a connection").unwrap();
                sqlx::query(pages).execute(&mut *conn).await.unwrap();
                all.push(conn);
            }
        }
        Db::Postgres(_) if full => {
            app.sql(
                "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$",
            )
            .await;
            app.sql(
                "CREATE TRIGGER no_space BEFORE INSERT ON bgfiles_file_requests \
                FOR EACH ROW EXECUTE FUNCTION no_space()",
            )
            .await;
        }
        Db::Postgres(_) => app.sql("DROP TRIGGER no_space ON bgfiles_file_requests").await,
    }
}

both!(titles_are_plain_for_programs_and_friendly_on_pages);
async fn titles_are_plain_for_programs_and_friendly_on_pages(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    let title = async |request: reqwest::RequestBuilder| {
        let (status, problem) = app::json(request.send().await.unwrap()).await;
        (status, problem["title"].as_str().unwrap_or_default().to_owned())
    };
    let json_of = |text: &'static str| {
        amy.call("POST", "/api/requests").header("content-type", "application/json").body(text)
    };
    let row = app.finished("hello", "").await;
    let cancel = format!("/api/requests/{}/cancel", row.id);
    for (request, status, expected) in [
        (app.http.get(format!("{base}/api/requests")), 401, "Authentication required"),
        (json_of("{"), 400, "Bad request"),
        (json_of("{}"), 422, "Invalid input"),
        (json_of(r#"{"file_type": "nonsense"}"#), 422, "Invalid input"),
        (amy.call("POST", "/api/requests").body("x"), 415, "Unsupported media type"),
        (amy.call("GET", "/api/requests/nothing"), 404, "Not found"),
        (amy.call("PUT", "/api/requests"), 405, "Method not allowed"),
        (amy.call("POST", &cancel), 409, "Conflict"),
        (app.http.get(format!("{base}/d/nonsense")), 400, "Invalid link"),
    ] {
        assert_eq!(title(request).await, (status, expected.into()));
    }
    let page = app.http.get(format!("{base}/d/nonsense")).header("accept", "text/html");
    let page = page.send().await.unwrap().text().await.unwrap();
    assert!(page.contains("This link is not valid"), "{page}");
}
