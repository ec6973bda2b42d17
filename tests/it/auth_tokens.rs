//! Clients and auth tokens: the numbered cases of django-rest-durin, and its bugs, absent.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{Extension, Router, routing::get};
use bgfiles::{
    Error, Toolbox,
    auth_token::{
        AuthEvent, AuthSecret, Caller, Person, Role, Settings, TokenPolicy, UserDirectory, Users,
    },
    limits::TokenTtl,
    toolbox::{NewUser, UserChanges},
    visitor::Visitor,
    web::{RequesterId, WebState, allow_clients, disallow_clients, require_caller, router, server},
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{Kind, TestApp, app, app::Parts, both, child::bgfiles, eventually};

const PASSWORD: &str = "tiger-lamp-orbit-9";

/// A web process, and people who know its endpoints as durin's users do.
struct Durin<'a> {
    app: &'a TestApp,
    base: String,
}

impl<'a> Durin<'a> {
    async fn new(app: &'a TestApp) -> Durin<'a> {
        Durin { app, base: format!("http://{}", app.serve().await) }
    }

    /// Users amy and bob, clients web, mobile and cli.
    async fn inhabited(app: &'a TestApp) -> Durin<'a> {
        for name in ["amy", "bob"] {
            app.add_user(name, Role::User, Some(PASSWORD)).await;
        }
        for name in ["web", "mobile", "cli"] {
            app.client(name, TokenTtl::DAY, "", TokenPolicy::One).await;
        }
        Self::new(app).await
    }

    fn request(&self, method: &str, path: &str, secret: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/api/auth/{path}", self.base);
        let request = self.app.http.request(method.parse().unwrap(), url);
        if secret.is_empty() {
            request
        } else {
            request.header("authorization", format!("Token {secret}"))
        }
    }

    async fn call(&self, method: &str, path: &str, secret: &str) -> (u16, Value) {
        app::json(self.request(method, path, secret).send().await.unwrap()).await
    }

    async fn log_in_with(&self, fields: Value) -> (u16, Value) {
        app::json(self.request("POST", "login/", "").json(&fields).send().await.unwrap()).await
    }

    async fn log_in(&self, user: &str, client: &str) -> Value {
        let fields = json!({"username": user, "password": PASSWORD, "client": client});
        let (status, body) = self.log_in_with(fields).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    async fn secret(&self, user: &str, client: &str) -> String {
        self.log_in(user, client).await["token"].as_str().unwrap().to_owned()
    }

    /// Status and detail of a call that needs a token.
    async fn probe(&self, secret: &str) -> (u16, String) {
        let (status, body) = self.call("GET", "sessions/", secret).await;
        (status, body["detail"].as_str().unwrap_or_default().to_owned())
    }
}

async fn with(kind: Kind, auth: Settings) -> TestApp {
    TestApp::with(kind, Parts { auth, ..Parts::default() }).await
}

fn refused(text: &str) -> (u16, String) {
    (401, text.to_owned())
}

both!(case_1_a_token_for_each_user_and_client);
async fn case_1_a_token_for_each_user_and_client(app: TestApp) {
    let durin = Durin::inhabited(&app).await;
    for user in ["amy", "bob"] {
        for client in ["web", "mobile", "cli"] {
            let body = durin.log_in(user, client).await;
            let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["expiry", "token"]);
            assert_eq!(body["expiry"], "2026-03-02T12:00:00Z");
        }
    }
    for user in ["amy", "bob"] {
        let secret = durin.secret(user, "web").await;
        let (_, sessions) = durin.call("GET", "sessions/", &secret).await;
        assert_eq!(sessions.as_array().unwrap().len(), 3);
    }
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_auth_tokens").await, 6);
}

both!(case_2_and_bug_6_expired_tokens_go);
async fn case_2_and_bug_6_expired_tokens_go(app: TestApp) {
    let durin = Durin::inhabited(&app).await;
    let mut events = app.toolbox.memory().signals.subscribe();
    let (web, cli) = (durin.secret("amy", "web").await, durin.secret("amy", "cli").await);
    assert_eq!(durin.probe(&web).await.0, 200);
    app.advance(86_400);
    assert_eq!(durin.probe(&web).await, refused("The given token has expired."));
    assert_eq!(durin.probe(&web).await, refused("Invalid token."), "it was removed");
    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        seen.push(event);
    }
    let expired = AuthEvent::TokenExpired { username: "amy".into(), source: "auth_token" };
    assert_eq!(seen.iter().filter(|event| **event == expired).count(), 1, "once");
    // The other one is not listed, though nobody used it; and the cleaner removes it.
    let bob = durin.secret("bob", "web").await;
    assert_eq!(durin.call("GET", "sessions/", &bob).await.1.as_array().unwrap().len(), 1);
    assert_eq!(app.toolbox.tokens_of("amy").await.unwrap(), []);
    assert_eq!(
        app.count("SELECT count(*) FROM bgfiles_auth_tokens WHERE user_id = 'amy'").await,
        1
    );
    let swept = bgfiles::cleaner::clean(&app.toolbox, &Default::default(), Default::default())
        .await
        .unwrap();
    assert_eq!(swept.iter().find(|swept| swept.name == "auth_tokens").unwrap().removed, 1);
    assert_eq!(
        app.count("SELECT count(*) FROM bgfiles_auth_tokens WHERE user_id = 'amy'").await,
        0
    );
    assert_eq!(
        events.try_recv().unwrap(),
        AuthEvent::LoggedIn {
            username: "bob".into(),
            client: "web".into(),
            token_id: app.toolbox.tokens_of("bob").await.unwrap()[0].id,
        }
    );
    assert_eq!(
        events.try_recv().unwrap(),
        AuthEvent::TokenExpired { username: "amy".into(), source: "cleaner" }
    );
    assert_eq!(durin.probe(&cli).await, refused("Invalid token."));
}

both!(cases_3_and_4_headers);
async fn cases_3_and_4_headers(app: TestApp) {
    let durin = Durin::inhabited(&app).await;
    let secret = durin.secret("amy", "web").await;
    let send = async |header: &[u8]| {
        let value = reqwest::header::HeaderValue::from_bytes(header).unwrap();
        let request = durin.request("GET", "sessions/", "").header("authorization", value);
        let response = request.send().await.unwrap();
        let challenge =
            response.headers().get("www-authenticate").map(|v| v.to_str().unwrap().to_owned());
        let (status, body) = app::json(response).await;
        assert_eq!(challenge.is_some(), status == 401);
        (status, body["detail"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(send(format!("Token {secret}").as_bytes()).await.0, 200);
    assert_eq!(send(format!("tOKEN  {secret}").as_bytes()).await.0, 200);
    let last = if secret.ends_with('0') { "1" } else { "0" };
    for wrong in [
        format!("{secret}0"),
        secret[..secret.len() - 1].to_owned(),
        format!("{}{last}", &secret[..secret.len() - 1]),
        "x".into(),
    ] {
        assert_eq!(send(format!("Token {wrong}").as_bytes()).await, refused("Invalid token."));
        assert_eq!(send(format!("Bearer {wrong}").as_bytes()).await, refused("Invalid token."));
    }
    assert_eq!(send(b"Token \xff\xfe").await, refused("Invalid token."), "bug 5");
    let nobody = "Authentication credentials were not provided.";
    for other in ["Basic YTpi", "Bearer a.b.c", &format!("Baerer {secret}"), ""] {
        assert_eq!(send(other.as_bytes()).await, refused(nobody), "{other}");
    }
    assert_eq!(send(b"Token").await, refused("Invalid token header. No credentials provided."));
    assert_eq!(
        send(b"Token a b").await,
        refused("Invalid token header. Token string should not contain spaces.")
    );
    // The rest of the API refuses in the same words, as a problem document.
    let response = app
        .http
        .get(format!("{}/api/requests", durin.base))
        .header("authorization", "Token x")
        .send()
        .await
        .unwrap();
    let (status, problem) = app::json(response).await;
    assert_eq!(
        (status, &problem["code"], &problem["detail"]),
        (401, &json!("unauthenticated"), &json!("Invalid token."))
    );

    let jwt = with(app.kind, Settings { header_prefix: "JWT".into(), ..Settings::default() }).await;
    let durin = Durin::inhabited(&jwt).await;
    let secret = durin.secret("amy", "web").await;
    let response = durin.request("GET", "sessions/", &secret).send().await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "JWT realm=\"bgfiles\"");
    assert_eq!(response.status(), 401, "Token is another scheme now");
    let request =
        durin.request("GET", "sessions/", "").header("authorization", format!("jwt {secret}"));
    assert_eq!(request.send().await.unwrap().status(), 200);
}

both!(case_5_user_and_format_of_the_expiry);
async fn case_5_user_and_format_of_the_expiry(app: TestApp) {
    let settings = Settings {
        login_includes_user: true,
        expiry_format: "%d/%m/%y %H:%M:%S".into(),
        ..Settings::default()
    };
    let app = with(app.kind, settings).await;
    let durin = Durin::inhabited(&app).await;
    let body = durin.log_in("AMY", "web").await;
    assert_eq!(body["expiry"], "02/03/26 12:00:00");
    assert_eq!(
        body["user"],
        json!({"username": "amy", "email": "amy@example.com", "role": "user"})
    );
    let (_, refreshed) = durin.call("POST", "refresh/", body["token"].as_str().unwrap()).await;
    assert_eq!(refreshed, json!({"expiry": "02/03/26 12:00:00"}));
    // Never is null.
    app.client("robots", TokenTtl::Never, "", TokenPolicy::One).await;
    assert_eq!(durin.log_in("amy", "robots").await["expiry"], Value::Null);
}

both!(case_6_what_a_login_refuses_and_takes);
async fn case_6_what_a_login_refuses_and_takes(app: TestApp) {
    let durin = Durin::inhabited(&app).await;
    let fields = |client: Value| json!({"username": "amy", "password": PASSWORD, "client": client});
    for (client, detail) in [
        (Value::Null, "No client specified."),
        (json!(""), "No client specified."),
        (json!("nope"), "No client with that name."),
        (json!("a\0b"), "No client with that name."),
    ] {
        assert_eq!(durin.log_in_with(fields(client)).await, (400, json!({"detail": detail})));
    }
    let wrong = (400, json!({"non_field_errors": ["Unable to log in with provided credentials."]}));
    for (name, password) in [("amy", "wrong"), ("nobody", PASSWORD), ("amy ", "x")] {
        // Credentials come first: a client that is missing, too, is not spoken of.
        assert_eq!(durin.log_in_with(json!({"username": name, "password": password})).await, wrong);
    }
    for (fields, expected) in [
        (
            json!({}),
            json!({"username": ["This field is required."], "password": ["This field is required."]}),
        ),
        (
            json!({"username": " ", "password": ""}),
            json!({"username": ["This field may not be blank."], "password": ["This field may not be blank."]}),
        ),
        (
            json!({"username": null, "password": []}),
            json!({"username": ["This field may not be null."], "password": ["Not a valid string."]}),
        ),
        (
            json!({"username": "a\0", "password": "x"}),
            json!({"username": ["Null characters are not allowed."]}),
        ),
        (
            json!([]),
            json!({"non_field_errors": ["Invalid data. Expected a dictionary, but got list."]}),
        ),
    ] {
        assert_eq!(durin.log_in_with(fields).await, (400, expected));
    }
    let form = [("username", "amy"), ("password", PASSWORD), ("client", "web")];
    for path in ["login", "login/"] {
        let response = durin.request("POST", path, "").form(&form).send().await.unwrap();
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.status(), 200);
    }
    let multipart = "--b\r\nContent-Disposition: form-data; name=\"username\"\r\n\r\namy\r\n--b\r\nContent-Disposition: form-data; name=\"password\"\r\n\r\ntiger-lamp-orbit-9\r\n--b\r\nContent-Disposition: form-data; name=\"client\"\r\n\r\nweb\r\n--b--\r\n";
    let send = async |content_type: &str, body: &str| {
        let request = durin.request("POST", "login", "").header("content-type", content_type);
        app::json(request.body(body.to_owned()).send().await.unwrap()).await
    };
    assert_eq!(send("multipart/form-data; boundary=b", multipart).await.0, 200);
    assert!(
        send("application/json", "{").await.1["detail"]
            .as_str()
            .unwrap()
            .starts_with("JSON parse error - ")
    );
    let (status, body) = send("text/plain", "x").await;
    assert_eq!(
        (status, body),
        (415, json!({"detail": "Unsupported media type \"text/plain\" in request."}))
    );
    assert_eq!(
        durin.call("GET", "login/", "").await,
        (405, json!({"detail": "Method \"GET\" not allowed."}))
    );
    // A user without a password cannot log in, and an inactive one cannot either.
    app.add_user("robot", Role::Service, None).await;
    let fields = json!({"username": "robot", "password": "", "client": "web"});
    assert_eq!(durin.log_in_with(fields).await.0, 400);
    let fields = json!({"username": "robot", "password": "anything at all", "client": "web"});
    assert_eq!(durin.log_in_with(fields).await, wrong);
    app.sql("UPDATE bgfiles_users SET is_active = false WHERE username = 'amy'").await;
    let fields = json!({"username": "amy", "password": PASSWORD, "client": "web"});
    assert_eq!(durin.log_in_with(fields).await, wrong);
}

both!(case_7_logging_out);
async fn case_7_logging_out(app: TestApp) {
    let settings = Settings { api_access_client: "cli".into(), ..Settings::default() };
    let app = with(app.kind, settings).await;
    let durin = Durin::inhabited(&app).await;
    let mut events = app.toolbox.memory().signals.subscribe();
    let (web, mobile, bob) = (
        durin.secret("amy", "web").await,
        durin.secret("amy", "mobile").await,
        durin.secret("bob", "web").await,
    );
    assert_eq!(durin.call("POST", "logout/", &web).await, (204, json!("")));
    assert_eq!(durin.probe(&web).await, refused("Invalid token."));
    assert_eq!((durin.probe(&mobile).await.0, durin.probe(&bob).await.0), (200, 200));
    let web = durin.secret("amy", "web").await;
    let key = durin.call("POST", "apiaccess/", &web).await.1["token"].as_str().unwrap().to_owned();
    let session = app.toolbox.begin_session("amy", None).await.unwrap();
    assert_eq!(durin.call("POST", "logoutall", &web).await.0, 204);
    for secret in [&web, &mobile, &key] {
        assert_eq!(durin.probe(secret).await.0, 401);
    }
    assert!(app.toolbox.session_user(&session).await.unwrap().is_none(), "browsers, too");
    assert_eq!(durin.probe(&bob).await.0, 200);
    let mut out = 0;
    while let Ok(event) = events.try_recv() {
        out += i32::from(event == AuthEvent::LoggedOut { username: "amy".into() });
    }
    assert_eq!(out, 2);
}

both!(case_8_logging_in_again);
async fn case_8_logging_in_again(app: TestApp) {
    let durin = Durin::inhabited(&app).await;
    let first = durin.log_in("amy", "web").await;
    app.advance(3600);
    // Not the same secret, which nobody can show again, but the same token and expiry.
    let second = durin.log_in("amy", "web").await;
    assert_eq!(first["expiry"], second["expiry"]);
    assert_ne!(first["token"], second["token"]);
    let secrets = [first["token"].as_str().unwrap(), second["token"].as_str().unwrap()];
    for secret in secrets {
        assert_eq!(durin.probe(secret).await.0, 200, "both are good");
    }
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_auth_tokens").await, 1);
    assert_eq!(durin.call("POST", "logout", secrets[0]).await.0, 204);
    assert_eq!(durin.probe(secrets[1]).await.0, 401, "one token: logging out ends it");

    // One only: a login ends the secrets before it.
    app.client("kiosk", TokenTtl::DAY, "", TokenPolicy::OneOnly).await;
    let (one, two) = (durin.secret("amy", "kiosk").await, durin.secret("amy", "kiosk").await);
    assert_eq!((durin.probe(&one).await.0, durin.probe(&two).await.0), (401, 200));
    // Several: two laptops.
    app.client("laptops", TokenTtl::DAY, "", TokenPolicy::Several).await;
    let (one, two) = (durin.secret("bob", "laptops").await, durin.secret("bob", "laptops").await);
    assert_eq!(durin.call("GET", "sessions", &one).await.1.as_array().unwrap().len(), 2);
    assert_eq!(durin.call("POST", "logout", &one).await.0, 204);
    assert_eq!((durin.probe(&one).await.0, durin.probe(&two).await.0), (401, 200));

    // REFRESH_TOKEN_ON_LOGIN: the token, a new expiry; the old secret keeps its own.
    let app = with(app.kind, Settings { refresh_on_login: true, ..Settings::default() }).await;
    let durin = Durin::inhabited(&app).await;
    let old = durin.secret("amy", "web").await;
    app.advance(3600);
    let mut events = app.toolbox.memory().signals.subscribe();
    let body = durin.log_in("amy", "web").await;
    assert_eq!(body["expiry"], "2026-03-02T13:00:00Z");
    let new_expiry = Some("2026-03-02T13:00:00Z".parse().unwrap());
    assert!(
        matches!(events.try_recv().unwrap(), AuthEvent::TokenRenewed { new_expiry: at, .. } if at == new_expiry)
    );
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_auth_tokens").await, 1);
    app.advance(86_400 - 3600);
    assert_eq!(durin.probe(&old).await, refused("The given token has expired."));
    let new = body["token"].as_str().unwrap();
    let (status, sessions) = durin.call("GET", "sessions", new).await;
    assert_eq!((status, &sessions[0]["expiry"]), (200, &json!("2026-03-02T13:00:00Z")));
}

both!(case_9_refreshing);
async fn case_9_refreshing(app: TestApp) {
    let durin = Durin::inhabited(&app).await;
    let secret = durin.secret("amy", "web").await;
    app.advance(7200);
    let mut events = app.toolbox.memory().signals.subscribe();
    assert_eq!(
        durin.call("POST", "refresh/", &secret).await,
        (200, json!({"expiry": "2026-03-02T14:00:00Z"}))
    );
    let renewed = events.try_recv().unwrap();
    assert!(matches!(renewed, AuthEvent::TokenRenewed { username, .. } if username == "amy"));
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_auth_secrets").await, 1, "no new row");
    app.advance(86_400 - 3600);
    assert_eq!(durin.probe(&secret).await.0, 200, "past its first end");
    app.advance(3600);
    assert_eq!(durin.probe(&secret).await.0, 401);
}

/// On PostgreSQL, where statements run in the task that asks for them and can be counted there.
/// The text of SQL is the same on SQLite.
#[tokio::test]
async fn case_10_one_query() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tracing_subscriber::{Layer, layer::SubscriberExt};
    #[derive(Clone, Default)]
    struct Count(Arc<AtomicUsize>);
    impl<S: tracing::Subscriber> Layer<S> for Count {
        fn on_event(
            &self,
            event: &tracing::Event<'_>,
            _: tracing_subscriber::layer::Context<'_, S>,
        ) {
            if event.metadata().target() == "sqlx::query" {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    let uncached = Settings { token_cache: Duration::ZERO, ..Settings::default() };
    for (settings, expected) in [(uncached, [1, 1]), (Settings::default(), [1, 0])] {
        let app = with(Kind::Postgres, settings).await;
        let secret = AuthSecret::parse(&app.user("amy", Role::User).await).unwrap();
        let visitor = Visitor::default();
        // The first use is written down, and the announcements are heard from here on.
        app.toolbox.authenticate(&secret, &visitor).await.unwrap();
        eventually("announcements are heard", 5, async || {
            app.toolbox.memory().watch.generation().await
        })
        .await;
        let count = Count::default();
        let subscriber = tracing_subscriber::registry().with(count.clone());
        let _guard = tracing::subscriber::set_default(subscriber);
        for expected in expected {
            let before = count.0.load(Ordering::SeqCst);
            app.toolbox.authenticate(&secret, &visitor).await.unwrap();
            assert_eq!(count.0.load(Ordering::SeqCst) - before, expected);
        }
    }
}

both!(case_11_lists_of_clients_and_roles);
async fn case_11_lists_of_clients_and_roles(app: TestApp) {
    let durin = Durin::inhabited(&app).await;
    app.add_user("root", Role::Staff, None).await;
    let (web, cli, root) = (
        durin.secret("amy", "web").await,
        durin.secret("amy", "cli").await,
        app.token("root", "cli").await,
    );
    let toolbox = &app.toolbox;
    let who = async |Extension(caller): Extension<Caller>| {
        format!("{} by {:?}", caller.username, caller.client())
    };
    let host = Router::new()
        .route("/anyone", get(who).layer(require_caller(toolbox)))
        .route("/allowed", get(who).layer(allow_clients(toolbox, ["web", "mobile"])))
        .route("/disallowed", get(who).layer(disallow_clients(toolbox, ["web"])))
        .route("/staff", get(who).layer(require_caller(toolbox).with_role(Role::Staff)));
    let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server::serve(listener, host, Default::default(), app.stop.clone()));
    let session = app.toolbox.begin_session("amy", None).await.unwrap();
    let get = async |path: &str, secret: &str| {
        let mut request = app.http.get(format!("{base}{path}"));
        match secret {
            "" => {}
            "session" => {
                request = request.header("cookie", format!("bgfiles_session={}", session.expose()))
            }
            secret => request = request.header("authorization", format!("Token {secret}")),
        }
        request.send().await.unwrap().status().as_u16()
    };
    // Behind a layer of ours a call counts once.
    app.client("slow", TokenTtl::DAY, "2/m", TokenPolicy::One).await;
    let slow = app.token("amy", "slow").await;
    let inside = Router::new()
        .nest("/files", router(WebState::new(toolbox.clone())))
        .layer(require_caller(toolbox));
    let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/files/api/requests", listener.local_addr().unwrap());
    tokio::spawn(server::serve(listener, inside, Default::default(), app.stop.clone()));
    for expected in [200, 200, 429] {
        let request = app.http.get(&url).header("authorization", format!("Token {slow}"));
        assert_eq!(request.send().await.unwrap().status(), expected);
    }
    for (path, expected) in [
        ("/anyone", [401, 200, 200, 200, 200]),
        ("/allowed", [401, 200, 403, 403, 403]),
        ("/disallowed", [401, 403, 200, 200, 403]),
        ("/staff", [401, 403, 403, 200, 403]),
    ] {
        let secrets = ["", &web, &cli, &root, "session"];
        for (secret, expected) in secrets.into_iter().zip(expected) {
            assert_eq!(get(path, secret).await, expected, "{path} {secret}");
        }
    }
}

both!(case_12_sessions);
async fn case_12_sessions(app: TestApp) {
    let settings = |excluded| Settings {
        api_access_client: "cli".into(),
        api_access_excluded: excluded,
        ..Settings::default()
    };
    let app = with(app.kind, settings(false)).await;
    let durin = Durin::inhabited(&app).await;
    let (web, bob) = (durin.secret("amy", "web").await, durin.secret("bob", "web").await);
    durin.call("POST", "apiaccess", &web).await;
    let agent = |request: reqwest::RequestBuilder| request.header("user-agent", "mine/1");
    let (_, sessions) =
        app::json(agent(durin.request("GET", "sessions/", &web)).send().await.unwrap()).await;
    let list = sessions.as_array().unwrap();
    assert_eq!((list.len(), &list[0]["client"]), (2, &json!("cli")));
    let list = [&list[1], &list[0]];
    let keys: Vec<&String> = list[0].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "id",
            "is_current",
            "client",
            "created",
            "expiry",
            "has_expired",
            "expires_in_str",
            "prefix",
            "last_used",
            "last_ip",
            "last_user_agent",
        ]
    );
    assert_eq!(
        (&list[0]["client"], &list[0]["is_current"], &list[0]["has_expired"]),
        (&json!("web"), &json!(true), &json!(false))
    );
    assert_eq!(
        (&list[0]["expires_in_str"], &list[0]["expiry"]),
        (&json!("a day"), &json!("2026-03-02T12:00:00Z"))
    );
    assert_eq!(
        (&list[0]["last_ip"], &list[0]["last_user_agent"]),
        (&json!("127.0.0.1"), &json!("mine/1"))
    );
    assert!(!sessions.to_string().contains(&web), "no secret");
    let id = |index: usize| list[index]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        durin.call("DELETE", &format!("sessions/{}", id(1)), &bob).await,
        (404, json!({"detail": "Not found."}))
    );
    assert_eq!(durin.call("DELETE", "sessions/7", &web).await.0, 404);
    let (status, body) = durin.call("DELETE", &format!("sessions/{}/", id(0)), &web).await;
    assert_eq!(
        (status, body),
        (
            400,
            json!([
                "Can't delete token if the request is authed with it. Use /api/auth/logout/ instead."
            ])
        )
    );
    // Durin's own URL has two slashes.
    assert_eq!(durin.call("DELETE", &format!("sessions//{}", id(1)), &web).await, (204, json!("")));
    assert_eq!(durin.call("DELETE", &format!("sessions/{}", id(1)), &web).await.0, 404);

    let app = with(app.kind, settings(true)).await;
    let durin = Durin::inhabited(&app).await;
    let web = durin.secret("amy", "web").await;
    durin.call("POST", "apiaccess", &web).await;
    assert_eq!(durin.call("GET", "sessions/", &web).await.1.as_array().unwrap().len(), 1);
}

both!(case_13_api_access_and_bug_1_the_key_leak);
async fn case_13_api_access_and_bug_1_the_key_leak(app: TestApp) {
    let app =
        with(app.kind, Settings { api_access_client: "cli".into(), ..Settings::default() }).await;
    let durin = Durin::inhabited(&app).await;
    let (amy, bob) = (durin.secret("amy", "web").await, durin.secret("bob", "web").await);
    let missing = (404, json!({"detail": "Not found."}));
    assert_eq!(durin.call("GET", "apiaccess/", &amy).await, missing);
    assert_eq!(durin.call("DELETE", "apiaccess/", &amy).await, missing);
    let (status, issued) = durin.call("POST", "apiaccess/", &amy).await;
    assert_eq!((status, &issued["client"]), (201, &json!("cli")));
    let key = issued["token"].as_str().unwrap();
    assert_eq!(durin.probe(key).await.0, 200);
    let (status, again) = durin.call("POST", "apiaccess/", &amy).await;
    assert_eq!((status, again), (400, json!(["An API token was already issued to you."])));
    durin.call("POST", "apiaccess/", &bob).await;
    // After any number of POSTs, no GET shows a secret, to nobody.
    for secret in [&amy, &bob, key] {
        let (status, shown) = durin.call("GET", "apiaccess/", secret).await;
        assert_eq!((status, &shown["client"], shown.get("token")), (200, &json!("cli"), None));
        assert!(!shown.to_string().contains(key));
    }
    assert!(
        key.starts_with(durin.call("GET", "apiaccess/", &amy).await.1["prefix"].as_str().unwrap())
    );
    assert_eq!(durin.call("DELETE", "apiaccess/", &amy).await, (204, json!("")));
    assert_eq!(
        (durin.probe(key).await.0, durin.call("DELETE", "apiaccess/", &amy).await.0),
        (401, 404)
    );
    assert_eq!(durin.call("POST", "apiaccess/", &amy).await.0, 201);
    // Bug 2: an expired key is no obstacle.
    app.advance(86_400);
    let amy = durin.secret("amy", "web").await;
    assert_eq!(durin.call("GET", "apiaccess/", &amy).await.0, 404);
    let (status, issued) = durin.call("POST", "apiaccess/", &amy).await;
    assert_eq!((status, &issued["expiry"]), (201, &json!("2026-03-03T12:00:00Z")));
    // Bug 5: without such a client, or without the setting, it is not there.
    for name in ["", "no-such-client"] {
        let app =
            with(app.kind, Settings { api_access_client: name.into(), ..Settings::default() })
                .await;
        let durin = Durin::inhabited(&app).await;
        let amy = durin.secret("amy", "web").await;
        for method in ["GET", "POST", "DELETE"] {
            assert_eq!(durin.call(method, "apiaccess/", &amy).await, missing);
        }
    }
}

/// Waits until both processes keep what they look up.
async fn hearing(processes: &[&TestApp]) {
    for process in processes {
        let memory = process.toolbox.memory();
        eventually("announcements are heard", 5, async || memory.watch.generation().await).await;
    }
}

both!(case_14_and_bug_4_what_is_kept_never_outlives_its_right);
async fn case_14_and_bug_4_what_is_kept_never_outlives_its_right(app: TestApp) {
    let durin = Durin::inhabited(&app).await;
    let other = app.sibling();
    let second = Durin::new(&other).await;
    hearing(&[&app, &other]).await;
    let secret = durin.secret("amy", "web").await;
    let both = async |secret: &str| [durin.probe(secret).await.0, second.probe(secret).await.0];
    assert_eq!(both(&secret).await, [200, 200]);
    // It is kept: what is changed behind the triggers' back is not seen …
    let on = if app.kind == Kind::Postgres { " ON bgfiles_auth_secrets" } else { "" };
    let change =
        format!("DROP TRIGGER bgfiles_auth_secrets_deleted{on}; DELETE FROM bgfiles_auth_secrets");
    match app.toolbox.db() {
        bgfiles::Db::Postgres(pool) => {
            sqlx::raw_sql(sqlx::AssertSqlSafe(change)).execute(pool).await.map(drop).unwrap();
        }
        bgfiles::Db::Sqlite(pool) => {
            sqlx::raw_sql(sqlx::AssertSqlSafe(change)).execute(pool).await.map(drop).unwrap();
        }
    }
    assert_eq!(both(&secret).await, [200, 200]);
    // … until its time is over.
    app.advance(60);
    assert_eq!(both(&secret).await, [401, 401]);
}

both!(bug_4_revoking_is_seen_at_once_in_every_process);
async fn bug_4_revoking_is_seen_at_once_in_every_process(app: TestApp) {
    let durin = Durin::inhabited(&app).await;
    let other = app.sibling();
    let second = Durin::new(&other).await;
    hearing(&[&app, &other]).await;
    let fresh = async |client: &str| {
        let secret = app.token("amy", client).await;
        for process in [&durin, &second, &durin, &second] {
            assert_eq!(process.probe(&secret).await.0, 200);
        }
        secret
    };
    let gone = async |secret: &str, why: &str| {
        for process in [&second, &durin] {
            assert_eq!(process.probe(secret).await.0, 401, "{why}");
        }
    };
    let secret = fresh("web").await;
    durin.call("POST", "logout", &secret).await;
    gone(&secret, "logout").await;
    let secret = fresh("web").await;
    second.call("POST", "logoutall", &secret).await;
    gone(&secret, "logoutall").await;
    let (secret, current) = (fresh("web").await, app.token("amy", "cli").await);
    let id = app
        .toolbox
        .tokens_of("amy")
        .await
        .unwrap()
        .into_iter()
        .find(|token| token.client == "web")
        .unwrap()
        .id;
    second.call("DELETE", &format!("sessions/{id}"), &current).await;
    gone(&secret, "a session deleted").await;
    let secret = fresh("web").await;
    let mut revoke = bgfiles();
    revoke.env("DATABASE_URL", &app.url).args(["revoke-token", &secret[..10]]);
    assert!(revoke.output().unwrap().status.success());
    gone(&secret, "bgfiles revoke-token").await;
    let secret = fresh("web").await;
    let deactivate = UserChanges { is_active: Some(false), ..UserChanges::default() };
    app.toolbox.update_user("amy", deactivate).await.unwrap();
    for process in [&second, &durin] {
        assert_eq!(process.probe(&secret).await, refused("User inactive or deleted."));
    }
    let activate = UserChanges { is_active: Some(true), ..UserChanges::default() };
    app.toolbox.update_user("amy", activate).await.unwrap();
    assert_eq!(second.probe(&secret).await.0, 200);
    // By hand, in SQL: seen as soon as the announcement is there.
    app.sql("UPDATE bgfiles_users SET is_active = false WHERE username = 'amy'").await;
    eventually("SQL is seen", 5, async || (second.probe(&secret).await.0 == 401).then_some(()))
        .await;
    app.sql("DELETE FROM bgfiles_users WHERE username = 'amy'").await;
    eventually("tokens go with their user", 5, async || {
        (durin.probe(&secret).await == refused("Invalid token.")).then_some(())
    })
    .await;
}

both!(no_call_that_begins_after_a_revocation_is_admitted);
async fn no_call_that_begins_after_a_revocation_is_admitted(app: TestApp) {
    app.add_user("amy", Role::User, None).await;
    app.client("web", TokenTtl::DAY, "", TokenPolicy::Several).await;
    let other = app.sibling();
    hearing(&[&app, &other]).await;
    let mut kept = 0;
    for round in 0..60 {
        let secret = AuthSecret::parse(&app.token("amy", "web").await).unwrap();
        let stop = CancellationToken::new();
        let hammer = |toolbox: Toolbox| {
            let (secret, stop) = (secret.clone(), stop.clone());
            tokio::spawn(async move {
                let mut admitted = 0;
                while !stop.is_cancelled() {
                    admitted +=
                        i32::from(toolbox.authenticate(&secret, &Visitor::default()).await.is_ok());
                    tokio::task::yield_now().await;
                }
                admitted
            })
        };
        let hammers = [hammer(app.toolbox.clone()), hammer(other.toolbox.clone())];
        tokio::time::sleep(Duration::from_millis(5)).await;
        let id = app.toolbox.tokens_of("amy").await.unwrap()[0].id;
        assert!(app.toolbox.revoke_token(id).await.unwrap());
        for toolbox in [&other.toolbox, &app.toolbox] {
            let late = toolbox.authenticate(&secret, &Visitor::default()).await;
            assert!(matches!(late, Err(Error::Unauthenticated(_))), "round {round}");
        }
        stop.cancel();
        for hammer in hammers {
            kept += hammer.await.unwrap();
        }
    }
    assert!(kept > 0);
}

/// A process that does not hear any more must not keep others waiting for ever, nor go on trusting
/// what it keeps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_listener_is_replaced() {
    let app = TestApp::new(Kind::Postgres).await;
    let durin = Durin::inhabited(&app).await;
    hearing(&[&app]).await;
    let secret = app.token("amy", "web").await;
    assert_eq!(durin.probe(&secret).await.0, 200);
    app.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%advisory_lock_shared%' AND pid <> pg_backend_pid()").await;
    app.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND query = 'SELECT 1' AND pid <> pg_backend_pid()").await;
    hearing(&[&app]).await;
    assert_eq!(durin.probe(&secret).await.0, 200);
    app.toolbox.revoke_all("amy").await.unwrap();
    assert_eq!(durin.probe(&secret).await.0, 401);
}

both!(cases_15_and_18_throttling);
async fn cases_15_and_18_throttling(app: TestApp) {
    let app = with(
        app.kind,
        Settings { default_throttle: Some("2/m".parse().unwrap()), ..Settings::default() },
    )
    .await;
    for name in ["amy", "bob"] {
        app.add_user(name, Role::User, Some(PASSWORD)).await;
    }
    app.client("web", TokenTtl::Never, "", TokenPolicy::One).await;
    app.client("mobile", TokenTtl::Never, "5/m", TokenPolicy::One).await;
    app.client("cli", TokenTtl::Never, "", TokenPolicy::One).await;
    let durin = Durin::new(&app).await;
    let (web, mobile, cli, bob) = (
        app.token("amy", "web").await,
        app.token("amy", "mobile").await,
        app.token("amy", "cli").await,
        app.token("bob", "web").await,
    );
    let statuses = async |secret: &str, times: usize| {
        let mut seen = Vec::new();
        for _ in 0..times {
            seen.push(durin.probe(secret).await.0);
        }
        seen
    };
    assert_eq!(statuses(&web, 3).await, [200, 200, 429]);
    assert_eq!(statuses(&mobile, 6).await, [200, 200, 200, 200, 200, 429], "the client's own rate");
    assert_eq!(statuses(&cli, 3).await, [200, 200, 429], "case 18: a bucket a client");
    assert_eq!(statuses(&bob, 2).await, [200, 200], "and a user");
    assert_eq!(statuses("", 4).await, [401; 4]);
    let response = durin.request("GET", "sessions/", &web).send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "30");
    assert_eq!(
        app::json(response).await.1,
        json!({"detail": "Request was throttled. Expected available in 30 seconds."})
    );
    let response = app
        .http
        .get(format!("{}/api/requests", durin.base))
        .header("authorization", format!("Token {mobile}"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["retry-after"], "12");
    assert_eq!(app::json(response).await.1["code"], "throttled");
    app.advance(29);
    assert_eq!(statuses(&web, 1).await, [429]);
    app.advance(1);
    assert_eq!(statuses(&web, 2).await, [200, 429], "as it was promised");
    // Without a token: the user's bucket; without a user: the address's.
    let session = app.toolbox.begin_session("amy", None).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let request = durin
            .request("GET", "sessions", "")
            .header("cookie", format!("bgfiles_session={}", session.expose()));
        seen.push(request.send().await.unwrap().status().as_u16());
    }
    assert_eq!(seen, [200, 200, 429]);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(durin.log_in_with(json!({})).await.0);
    }
    assert_eq!(seen, [400, 400, 429]);
}

/// Several web processes share the buckets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttling_is_exact_across_processes() {
    let app = TestApp::new(Kind::Postgres).await;
    app.add_user("amy", Role::User, None).await;
    app.client("web", TokenTtl::Never, "50/d", TokenPolicy::One).await;
    let other = app.sibling();
    let secret = AuthSecret::parse(&app.token("amy", "web").await).unwrap();
    let caller = app.toolbox.authenticate(&secret, &Visitor::default()).await.unwrap();
    let calls = (0..200).map(|i| {
        let toolbox = if i % 2 == 0 { &app.toolbox } else { &other.toolbox }.clone();
        let caller = caller.clone();
        tokio::spawn(
            async move { toolbox.throttle(Some(&caller), &Visitor::default()).await.is_ok() },
        )
    });
    let admitted = futures::future::join_all(calls).await;
    assert_eq!(admitted.into_iter().filter(|ok| *ok.as_ref().unwrap()).count(), 50);
}

both!(cases_16_17_and_bug_3_clients_by_the_command_line);
async fn cases_16_17_and_bug_3_clients_by_the_command_line(app: TestApp) {
    let run = |arguments: &[&str]| {
        let mut command = bgfiles();
        let output = command.env("DATABASE_URL", &app.url).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = run(&["create-client", "plain"]);
    assert_eq!(
        (code, out.as_str()),
        (0, "Created client \"plain\"; its tokens live 86400 seconds.\n"),
        "{err}"
    );
    for (ttl, life) in [
        ("14 00:00", "live 1209600 seconds"),
        ("30d", "live 2592000 seconds"),
        ("never", "never expire"),
    ] {
        let (code, out, err) = run(&[
            "create-client",
            ttl,
            "--token-ttl",
            ttl,
            "--throttle-rate",
            "2/m",
            "--tokens",
            "several",
        ]);
        assert_eq!(
            (code, out),
            (0, format!("Created client {ttl:?}; its tokens {life}.\n")),
            "{err}"
        );
    }
    for wrong in [
        vec!["x", "--throttle-rate", "blahblah"],
        vec!["x", "--throttle-rate", "2/minute"],
        vec!["x", "--throttle-rate", "0/m"],
        vec!["x", "--throttle-rate", "-1/m"],
        vec![""],
        vec!["  "],
        vec!["plain"],
        vec!["x", "--token-ttl", "soon"],
        vec!["x", "--token-ttl", "0"],
        vec!["x", "--token-ttl", "-1d"],
        vec!["x", "--tokens", "many"],
    ] {
        let (code, _, err) = run(&[&["create-client"], wrong.as_slice()].concat());
        assert!(code != 0 && err.lines().count() >= 1, "{wrong:?}: {err}");
    }
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_clients").await, 4);
    // A token of a client without a lifetime is not dead on arrival.
    run(&["create-user", "shop", "--role", "service"]);
    let (_, secret, note) = run(&["create-token", "--user", "shop", "--client", "plain"]);
    assert!(note.contains("It is good until"), "{note}");
    let secret = AuthSecret::parse(secret.trim()).unwrap();
    app.toolbox.clock().advance(chrono::TimeDelta::days(365 * 100));
    // The child has the machine's clock, which is years behind by now: ask with it.
    let (_, listed, _) = run(&["list-tokens", "--user", "shop", "--json"]);
    let listed: Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!((&listed["client"], &listed["prefix"]), (&json!("plain"), &json!(secret.prefix())));
    let made: chrono::DateTime<chrono::Utc> =
        listed["created_at"].as_str().unwrap().parse().unwrap();
    let end: chrono::DateTime<chrono::Utc> =
        listed["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!((end - made).num_seconds(), 86_400);
    let (_, text, _) = run(&["list-tokens"]);
    assert!(text.contains("shop / plain") && !text.contains(secret.expose()));
    assert_eq!(run(&["revoke-token", "bgf_nothere"]).0, 1);
    let (code, out, _) = run(&["revoke-token", listed["id"].as_str().unwrap()]);
    assert_eq!((code, out), (0, format!("Revoked {}.\n", listed["id"].as_str().unwrap())));
    assert_eq!(run(&["list-tokens"]).1, "");
    let (code, out, _) = run(&[
        "set-user",
        "SHOP",
        "--active",
        "false",
        "--role",
        "user",
        "--email",
        "x@example.com",
    ]);
    assert_eq!((code, out.as_str()), (0, "\"shop\" is an inactive user at \"x@example.com\".\n"));
    assert_eq!(run(&["set-user", "shop", "--email", "no"]).0, 1);
    let (code, _, err) = run(&["set-user", "nobody", "--active", "true"]);
    assert!(code == 1 && err.contains("there is no \"nobody\""), "{err}");
}

both!(passwords);
async fn passwords(app: TestApp) {
    let durin = Durin::inhabited(&app).await;
    let set = |name: &str, password: &str, more: &[&str]| {
        use std::{io::Write, process::Stdio};
        let mut command = bgfiles();
        command.env("DATABASE_URL", &app.url).args(["set-password", name]).args(more);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let log_in = async |password: &str| {
        durin.log_in_with(json!({"username": "Amy", "password": password, "client": "web"})).await.0
    };
    let secret = durin.secret("amy", "web").await;
    for weak in ["short", "passwordpassword", "amy@example.com", "aaaaaaaaaaaaaaaa"] {
        let (code, err) = set("amy", weak, &[]);
        assert!(code == 1 && err.contains("password: "), "{weak}: {err}");
        assert!(!err.contains(weak), "it is not repeated");
    }
    assert_eq!(set("AMY", "un café à Genève\n", &["--keep"]).0, 0);
    assert_eq!((log_in(PASSWORD).await, log_in("un café à Genève").await), (400, 200));
    assert_eq!(
        log_in("un cafe\u{301} a\u{300} Gene\u{300}ve").await,
        200,
        "however it is composed"
    );
    assert_eq!(durin.probe(&secret).await.0, 200);
    assert_eq!(set("amy", PASSWORD, &[]).0, 0);
    assert_eq!(durin.probe(&secret).await.0, 401);
    // Nothing is cut off: the 72 bytes of bcrypt are no limit here.
    let long = "vier paarden en een olifant ".repeat(10);
    assert_eq!(set("amy", &format!("{long}x"), &[]).0, 0);
    assert_eq!(
        (log_in(&format!("{long}y")).await, log_in(&long).await, log_in(&format!("{long}x")).await),
        (400, 400, 200)
    );
    assert_eq!((log_in(&"x".repeat(10_000)).await, log_in(&"x".repeat(100_000)).await), (400, 413));
}

both!(names_are_unique_whatever_their_form);
async fn names_are_unique_whatever_their_form(app: TestApp) {
    app.add_user("Straße", Role::User, None).await;
    for same in ["STRASSE", "strasse", "ＳＴＲＡSSE"] {
        let new = NewUser {
            username: same.into(),
            email: String::new(),
            role: Role::User,
            password: None,
        };
        assert!(
            matches!(
                app.toolbox.create_user(new).await,
                Err(Error::Conflict { code: "user_exists", .. })
            ),
            "{same}"
        );
    }
    app.add_user("Strase", Role::User, None).await;
    // Users of before get their keys with `migrate`; names that are one are said.
    app.sql("INSERT INTO bgfiles_users (id, username, role, created_at) SELECT id, 'x', role, created_at FROM bgfiles_users WHERE false").await;
    app.sql("UPDATE bgfiles_users SET username_key = NULL").await;
    Toolbox::migrate(app.toolbox.db()).await.unwrap();
    assert_eq!(
        app.count("SELECT count(*) FROM bgfiles_users WHERE username_key IN ('strasse', 'strase')")
            .await,
        2
    );
    app.sql("UPDATE bgfiles_users SET username_key = NULL, username = 'STRASSE' WHERE username = 'Strase'").await;
    let error = Toolbox::migrate(app.toolbox.db()).await.unwrap_err().to_string();
    assert!(error.contains("\"STRASSE\" and \"Straße\""), "{error}");
}

/// Logins from an address of one's own choice.
async fn behind_a_proxy(kind: Kind) -> TestApp {
    let parts = Parts { trusted_proxies: "127.0.0.1".parse().unwrap(), ..Parts::default() };
    TestApp::with(kind, parts).await
}

async fn guess(durin: &Durin<'_>, ip: &str, user: &str, password: &str) -> (u16, Option<String>) {
    let fields = json!({"username": user, "password": password, "client": "web"});
    let request = durin.request("POST", "login", "").header("x-forwarded-for", ip).json(&fields);
    let response = request.send().await.unwrap();
    let wait = response.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
    (response.status().as_u16(), wait)
}

both!(guessing_gets_slower_and_locks_nobody_out);
async fn guessing_gets_slower_and_locks_nobody_out(app: TestApp) {
    let app = behind_a_proxy(app.kind).await;
    let durin = Durin::inhabited(&app).await;
    let slowed = |seconds: &str| (429, Some(seconds.to_owned()));
    for name in ["amy", "nobody"] {
        for _ in 0..5 {
            assert_eq!(guess(&durin, "192.0.2.1", name, "wrong").await, (400, None));
        }
        assert_eq!(
            guess(&durin, "192.0.2.1", name, "wrong").await,
            slowed("1"),
            "whether {name} is there or not"
        );
    }
    assert_eq!(
        guess(&durin, "192.0.2.1", "ＡMY", PASSWORD).await,
        slowed("1"),
        "another form of the name"
    );
    // The real user, elsewhere; and with another account from there.
    assert_eq!(guess(&durin, "192.0.2.2", "amy", PASSWORD).await.0, 200);
    assert_eq!(guess(&durin, "192.0.2.1", "bob", PASSWORD).await.0, 200);
    for expected in ["2", "4", "8", "16", "32", "60", "60"] {
        let (_, wait) = guess(&durin, "192.0.2.1", "amy", "wrong").await;
        app.advance(wait.unwrap().parse().unwrap());
        assert_eq!(guess(&durin, "192.0.2.1", "amy", "wrong").await, (400, None));
        assert_eq!(guess(&durin, "192.0.2.1", "amy", "wrong").await, slowed(expected));
    }
    // Waiting is over when it was said to be, and the right password ends it.
    app.advance(60);
    assert_eq!(guess(&durin, "192.0.2.1", "amy", PASSWORD).await.0, 200);
    assert_eq!(guess(&durin, "192.0.2.1", "amy", "wrong").await.0, 400);
    assert_eq!(guess(&durin, "192.0.2.1", "amy", PASSWORD).await.0, 200);
    // One address, many accounts; an IPv6 network is one address.
    for i in 0..50 {
        let guessed =
            guess(&durin, &format!("2001:db8:1:1::{i:x}"), &format!("user{i}"), "wrong").await;
        assert_eq!(guessed.0, 400, "{i}");
    }
    assert_eq!(guess(&durin, "2001:db8:1:1::1", "bob", PASSWORD).await, slowed("1"));
    assert_eq!(guess(&durin, "2001:db8:1:2::1", "bob", PASSWORD).await.0, 200);
    // An hour later all is forgotten, and swept a little later.
    app.advance(3601);
    assert_eq!(guess(&durin, "2001:db8:1:1::1", "bob", "wrong").await, (400, None));
    app.advance(3601 + 3600);
    let swept = bgfiles::cleaner::clean(&app.toolbox, &Default::default(), Default::default())
        .await
        .unwrap();
    assert!(
        swept.iter().any(|swept| swept.name == "rate_limits" && swept.removed > 50),
        "{swept:?}"
    );
    assert_eq!(
        app.count("SELECT count(*) FROM bgfiles_login_attempts WHERE key NOT LIKE 'known %'").await,
        0
    );
    app.advance(30 * 86_400);
    bgfiles::cleaner::clean(&app.toolbox, &Default::default(), Default::default()).await.unwrap();
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_login_attempts").await, 0);
}

both!(an_office_with_typing_errors_is_not_locked_out);
async fn an_office_with_typing_errors_is_not_locked_out(app: TestApp) {
    let app = behind_a_proxy(app.kind).await;
    let durin = Durin::inhabited(&app).await;
    // A wrong password now and then for days: forgotten as they come.
    for i in 0..70 {
        assert_eq!(guess(&durin, "192.0.2.1", &format!("user{i}"), "wrong").await.0, 400);
        app.advance(300);
    }
    for _ in 0..2 {
        for name in ["amy", "bob"] {
            assert_eq!(guess(&durin, "192.0.2.1", name, PASSWORD).await, (200, None));
        }
    }
    // Somebody there guesses: who is known there goes on, others wait.
    for i in 0..50 {
        guess(&durin, "192.0.2.1", &format!("user{i}"), "wrong").await;
    }
    assert_eq!(guess(&durin, "192.0.2.1", "amy", PASSWORD).await.0, 200);
    assert_eq!(guess(&durin, "192.0.2.1", "user99", "wrong").await.0, 429);
    assert_eq!(guess(&durin, "192.0.2.1", "amy", "wrong").await.0, 400, "their own errors count");
    app.advance(31 * 86_400);
    for i in 0..50 {
        guess(&durin, "192.0.2.1", &format!("user{i}"), "wrong").await;
    }
    assert_eq!(
        guess(&durin, "192.0.2.1", "amy", PASSWORD).await.0,
        429,
        "a month later they are not"
    );
}

both!(a_name_given_to_somebody_else_brings_no_tokens);
async fn a_name_given_to_somebody_else_brings_no_tokens(app: TestApp) {
    app.add_user("amy", Role::User, None).await;
    app.client("web", TokenTtl::DAY, "", TokenPolicy::One).await;
    let old = AuthSecret::parse(&app.token("amy", "web").await).unwrap();
    app.sql("UPDATE bgfiles_users SET username = 'amalia', username_key = 'amalia'").await;
    let caller = app.toolbox.authenticate(&old, &Visitor::default()).await.unwrap();
    assert_eq!(
        (caller.username.as_str(), app.toolbox.tokens_of("amalia").await.unwrap().len()),
        ("amalia", 1)
    );
    app.add_user("amy", Role::Staff, None).await;
    app.token("amy", "web").await;
    let caller = app.toolbox.authenticate(&old, &Visitor::default()).await.unwrap();
    assert_eq!((caller.username.as_str(), caller.role), ("amalia", Role::User));
    assert_eq!(app.toolbox.revoke_all("amalia").await.unwrap(), 1);
    assert!(app.toolbox.authenticate(&old, &Visitor::default()).await.is_err());
}

both!(one_user_in_many_places_at_once);
async fn one_user_in_many_places_at_once(app: TestApp) {
    app.add_user("amy", Role::User, None).await;
    for policy in [TokenPolicy::One, TokenPolicy::OneOnly, TokenPolicy::Several] {
        app.client(policy.as_str(), TokenTtl::Seconds(30.try_into().unwrap()), "", policy).await;
    }
    let work = (0..120).map(|i| {
        let toolbox = app.toolbox.clone();
        tokio::spawn(async move {
            let client =
                [TokenPolicy::One, TokenPolicy::OneOnly, TokenPolicy::Several][i % 3].as_str();
            let (person, client) = toolbox.person_and_client("amy", client).await?;
            let secret = toolbox.log_in(&person, &client).await?.secret;
            let caller = match toolbox.authenticate(&secret, &Visitor::default()).await {
                Ok(caller) => caller,
                Err(Error::Unauthenticated(_)) => return Ok(()),
                Err(error) => return Err(error),
            };
            let done = match i % 5 {
                0 => toolbox.log_out_all(&caller).await,
                1 => toolbox.log_out(&caller).await,
                2 => toolbox.flush_uses().await,
                3 => toolbox.purge_expired_tokens(toolbox.clock().now(), 100).await.map(drop),
                _ => toolbox.refresh(&caller).await.map(drop),
            };
            if i % 7 == 0 {
                toolbox.clock().advance(chrono::TimeDelta::seconds(20));
            }
            match done {
                Err(Error::Unauthenticated(_)) => Ok(()),
                other => other,
            }
        })
    });
    for done in futures::future::join_all(work).await {
        done.unwrap().unwrap();
    }
}

both!(a_hundred_guesses_at_once_are_no_way_around);
async fn a_hundred_guesses_at_once_are_no_way_around(app: TestApp) {
    let durin = Durin::inhabited(&app).await;
    let guesses = (0..100).map(|_| guess(&durin, "", "amy", "wrong"));
    let tried = futures::future::join_all(guesses)
        .await
        .into_iter()
        .filter(|(status, _)| *status == 400)
        .count();
    assert_eq!(tried, 5);
}

both!(bug_2_a_login_never_hands_out_a_dead_token);
async fn bug_2_a_login_never_hands_out_a_dead_token(app: TestApp) {
    let durin = Durin::inhabited(&app).await;
    durin.log_in("amy", "web").await;
    app.advance(86_400);
    let body = durin.log_in("amy", "web").await;
    assert_eq!(body["expiry"], "2026-03-03T12:00:00Z");
    assert_eq!(durin.probe(body["token"].as_str().unwrap()).await.0, 200);
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_auth_secrets").await, 1);
}

both!(bug_5_first_logins_at_once);
async fn bug_5_first_logins_at_once(app: TestApp) {
    app.add_user("amy", Role::User, None).await;
    for policy in [TokenPolicy::One, TokenPolicy::OneOnly, TokenPolicy::Several] {
        let name = policy.as_str();
        app.client(name, TokenTtl::DAY, "", policy).await;
        let (person, client) = app.toolbox.person_and_client("amy", name).await.unwrap();
        let logins = (0..30).map(|_| {
            let (toolbox, person, client) = (app.toolbox.clone(), person.clone(), client.clone());
            tokio::spawn(async move { toolbox.log_in(&person, &client).await.unwrap() })
        });
        let logins = futures::future::join_all(logins).await;
        let mut good = 0;
        for login in &logins {
            let secret = &login.as_ref().unwrap().secret;
            good += i32::from(app.toolbox.authenticate(secret, &Visitor::default()).await.is_ok());
        }
        let tokens = app.toolbox.tokens_of("amy").await.unwrap();
        let tokens = tokens.iter().filter(|token| token.client == name).count();
        let expected = match policy {
            TokenPolicy::One => (30, 1),
            TokenPolicy::OneOnly => (1, 1),
            TokenPolicy::Several => (30, 30),
        };
        assert_eq!((good, tokens), expected, "{name}");
    }
}

both!(secrets_of_a_token_do_not_pile_up);
async fn secrets_of_a_token_do_not_pile_up(app: TestApp) {
    app.add_user("amy", Role::User, None).await;
    app.client("robots", TokenTtl::Never, "", TokenPolicy::One).await;
    let first = AuthSecret::parse(&app.token("amy", "robots").await).unwrap();
    for _ in 0..100 {
        app.advance(1);
        app.token("amy", "robots").await;
    }
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_auth_secrets").await, 100);
    assert!(app.toolbox.authenticate(&first, &Visitor::default()).await.is_err());
}

both!(bug_5_callers_without_a_token);
async fn bug_5_callers_without_a_token(app: TestApp) {
    let settings = Settings {
        api_access_client: "cli".into(),
        default_throttle: Some("100/m".parse().unwrap()),
        ..Settings::default()
    };
    let app = with(app.kind, settings).await;
    let durin = Durin::inhabited(&app).await;
    let session = app.toolbox.begin_session("amy", None).await.unwrap();
    let call = async |method: &str, path: &str| {
        let request = durin
            .request(method, path, "")
            .header("cookie", format!("bgfiles_session={}", session.expose()));
        app::json(request.send().await.unwrap()).await
    };
    durin.log_in("amy", "web").await;
    let (status, sessions) = call("GET", "sessions").await;
    assert_eq!((status, &sessions[0]["is_current"]), (200, &json!(false)));
    assert_eq!(
        call("POST", "refresh").await,
        (403, json!({"detail": "Only a token can be refreshed."}))
    );
    assert_eq!(call("POST", "apiaccess").await.0, 201);
    assert_eq!(
        call("DELETE", &format!("sessions/{}", sessions[0]["id"].as_str().unwrap())).await.0,
        204
    );
    let other_site = durin
        .request("POST", "logoutall", "")
        .header("cookie", format!("bgfiles_session={}", session.expose()));
    let refused = other_site.header("sec-fetch-site", "cross-site").send().await.unwrap();
    assert_eq!(refused.status(), 403, "another site's form");
    let response = durin
        .request("POST", "logout", "")
        .header("cookie", format!("bgfiles_session={}", session.expose()))
        .send()
        .await
        .unwrap();
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("bgfiles_session=;"), "{cookie}");
    assert!(cookie.ends_with("; Path=/; Max-Age=0"), "{cookie}");
    assert_eq!((response.status().as_u16(), call("GET", "sessions").await.0), (204, 401));
}

both!(other_sites_cannot_use_a_browsers_session);
async fn other_sites_cannot_use_a_browsers_session(app: TestApp) {
    app.add_user("amy", Role::User, None).await;
    let base = format!("http://{}", app.serve().await);
    let session = app.toolbox.begin_session("amy", None).await.unwrap();
    let row = app.request("hello", "").await;
    let cancel = async |header: &str, value: &str| {
        let request =
            app.http.post(format!("{base}/api/requests/{}/cancel", row.id)).header(header, value);
        request
            .header("cookie", format!("bgfiles_session={}", session.expose()))
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    for (header, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        assert_eq!(cancel(header, value).await, 403, "{header}: {value}");
    }
    assert_eq!(cancel("origin", "http://files.example.com").await, 200);
    // A token is never sent by itself: whose page it is does not matter.
    app.client("web", TokenTtl::DAY, "", TokenPolicy::One).await;
    let secret = app.token("amy", "web").await;
    let request = app
        .http
        .post(format!("{base}/api/requests/{}/retry", row.id))
        .header("origin", "https://app.example");
    assert_eq!(
        request.header("authorization", format!("Token {secret}")).send().await.unwrap().status(),
        202
    );
}

both!(who_a_trusted_proxy_says_it_is);
async fn who_a_trusted_proxy_says_it_is(app: TestApp) {
    let auth = Settings {
        identity_header: Some("x-remote-user".parse().unwrap()),
        identity_email_header: Some("x-remote-email".parse().unwrap()),
        ..Settings::default()
    };
    let parts = |proxies: &str| Parts {
        auth: auth.clone(),
        trusted_proxies: proxies.parse().unwrap(),
        ..Parts::default()
    };
    let ask = async |app: &TestApp, user: &str, email: &str| {
        let url = format!("http://{}/api/requests", app.serve().await);
        let request =
            app.http.post(url).header("x-remote-user", user).header("x-remote-email", email);
        app::json(request.json(&json!({"file_type": "hello"})).send().await.unwrap()).await
    };
    let trusting = TestApp::with(app.kind, parts("127.0.0.1")).await;
    let (status, row) = ask(&trusting, "carol", "carol@example.com").await;
    assert_eq!(
        (status, &row["requester"], &row["requester_email"]),
        (202, &json!("carol"), &json!("carol@example.com"))
    );
    assert_eq!(ask(&trusting, "", "carol@example.com").await.0, 401);
    // Whom we know, too, has the role and the address that we know.
    trusting.add_user("root", Role::Staff, None).await;
    assert_eq!(
        ask(&trusting, "root", "elsewhere@example.com").await.1["requester_email"],
        "root@example.com"
    );
    trusting.sql("UPDATE bgfiles_users SET is_active = false").await;
    assert_eq!(ask(&trusting, "root", "").await.0, 401);
    // By another spelling it is somebody else, whose rows are their own.
    assert_eq!(ask(&trusting, "ROOT", "").await.1["requester"], "ROOT");
    // Two values: the proxy added its own to the client's. And names need not be ASCII.
    let url = format!("http://{}/api/requests", trusting.serve().await);
    let two =
        trusting.http.get(&url).header("x-remote-user", "root").header("x-remote-user", "carol");
    assert_eq!(two.send().await.unwrap().status(), 401);
    let name = reqwest::header::HeaderValue::from_bytes("Jörg".as_bytes()).unwrap();
    assert_eq!(
        trusting.http.get(&url).header("x-remote-user", name).send().await.unwrap().status(),
        200
    );
    let broken = reqwest::header::HeaderValue::from_bytes(b"J\xf6rg").unwrap();
    assert_eq!(
        trusting.http.get(&url).header("x-remote-user", broken).send().await.unwrap().status(),
        401
    );
    // Their own API keys work, and are nobody else's who is given that name later.
    let auth = Settings { api_access_client: "cli".into(), ..auth.clone() };
    let keys = TestApp::with(
        app.kind,
        Parts { auth, trusted_proxies: "127.0.0.1".parse().unwrap(), ..Parts::default() },
    )
    .await;
    keys.client("cli", TokenTtl::DAY, "", TokenPolicy::One).await;
    let durin = Durin::new(&keys).await;
    let issue = durin
        .request("POST", "apiaccess", "")
        .header("x-remote-user", "carol")
        .send()
        .await
        .unwrap();
    let key = app::json(issue).await.1["token"].as_str().unwrap().to_owned();
    assert_eq!(durin.probe(&key).await.0, 200);
    keys.add_user("carol", Role::Staff, None).await;
    assert_eq!(durin.probe(&key).await, refused("User inactive or deleted."));
    let own = AuthSecret::parse(&keys.token("carol", "cli").await).unwrap();
    assert!(keys.toolbox.authenticate(&own, &Visitor::default()).await.is_ok());
    assert_eq!(durin.probe(&key).await, refused("Invalid token."), "the token began anew");
    // Of anybody else the header is nothing.
    let wary = TestApp::with(app.kind, parts("10.0.0.0/8")).await;
    assert_eq!(ask(&wary, "carol", "").await.0, 401);
    let mut config =
        BTreeMap::from([("BGFILES_IDENTITY_HEADER".to_owned(), "X-Remote-User".to_owned())]);
    let error = bgfiles::Config::load_from(&Vec::new(), &config).unwrap_err().to_string();
    assert!(error.contains("BGFILES_TRUSTED_PROXIES"), "{error}");
    config.insert("BGFILES_TRUSTED_PROXIES".into(), "10.0.0.1".into());
    bgfiles::Config::load_from(&Vec::new(), &config).unwrap();
}

/// The users of some application.
struct Staff(std::sync::Mutex<BTreeMap<&'static str, bool>>);

#[async_trait::async_trait]
impl UserDirectory for Staff {
    async fn find(&self, id: &str) -> bgfiles::Result<Option<Person>> {
        let active = self.0.lock().unwrap().get(id).copied();
        let person = |is_active| Person {
            id: id.into(),
            email: format!("{id}@host.example"),
            role: Role::User,
            is_active,
        };
        Ok(active.map(person))
    }

    async fn authenticate(
        &self,
        username: &str,
        password: &str,
    ) -> bgfiles::Result<Option<Person>> {
        let id = username.strip_suffix("@host.example").unwrap_or(username);
        if password == "open sesame" { self.find(id).await } else { Ok(None) }
    }

    fn profile(&self, person: &Person) -> Option<Value> {
        Some(json!({"number": person.id}))
    }
}

both!(users_of_a_host_application);
async fn users_of_a_host_application(app: TestApp) {
    let staff =
        Arc::new(Staff(std::sync::Mutex::new(BTreeMap::from([("17", true), ("18", false)]))));
    let auth = Settings { login_includes_user: true, ..Settings::default() };
    let app = TestApp::with(
        app.kind,
        Parts { users: Users::Host(staff.clone()), auth, ..Parts::default() },
    )
    .await;
    app.client("web", TokenTtl::DAY, "", TokenPolicy::One).await;
    let durin = Durin::new(&app).await;
    let fields = |name: &str, password: &str| json!({"username": name, "password": password, "client": "web"});
    assert_eq!(durin.log_in_with(fields("17", "wrong")).await.0, 400);
    assert_eq!(durin.log_in_with(fields("18", "open sesame")).await.0, 400, "inactive");
    let (_, body) = durin.log_in_with(fields("17@host.example", "open sesame")).await;
    assert_eq!(body["user"], json!({"number": "17"}));
    let secret = body["token"].as_str().unwrap();
    let ask = app
        .http
        .post(format!("{}/api/requests", durin.base))
        .header("authorization", format!("Token {secret}"));
    let (_, row) = app::json(ask.json(&json!({"file_type": "hello"})).send().await.unwrap()).await;
    assert_eq!(
        (&row["requester"], &row["requester_email"]),
        (&json!("17"), &json!("17@host.example"))
    );
    // Whom the application lets go is out at once, whatever is kept here.
    assert_eq!(durin.probe(secret).await.0, 200);
    staff.0.lock().unwrap().insert("17", false);
    assert_eq!(durin.probe(secret).await, refused("User inactive or deleted."));
    staff.0.lock().unwrap().clear();
    assert_eq!(durin.probe(secret).await.0, 401);
}

both!(the_host_says_who_calls);
async fn the_host_says_who_calls(app: TestApp) {
    app.add_user("root", Role::Staff, None).await;
    let state = WebState::new(app.toolbox.clone());
    let host = Router::new().nest("/files", router(state)).layer(axum::middleware::from_fn(
        async |mut request: axum::extract::Request, next: axum::middleware::Next| {
            if let Some(user) = request.headers().get("x-test-user") {
                let id = RequesterId(user.to_str().unwrap().to_owned());
                request.extensions_mut().insert(id);
            }
            next.run(request).await
        },
    ));
    let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server::serve(listener, host, Default::default(), app.stop.clone()));
    let row = app.request("hello", "").await;
    for (user, expected) in [("amy", 200), ("bob", 404), ("root", 200)] {
        let url = format!("{base}/files/api/requests/{}", row.id);
        let response = app.http.get(url).header("x-test-user", user).send().await.unwrap();
        assert_eq!(response.status(), expected, "{user}");
    }
}

both!(uses_are_written_now_and_then);
async fn uses_are_written_now_and_then(app: TestApp) {
    let durin = Durin::inhabited(&app).await;
    let secret = app.token("amy", "web").await;
    let ask = async || {
        let request = app
            .http
            .get(format!("{}/api/requests", durin.base))
            .header("authorization", format!("Token {secret}"));
        assert_eq!(request.header("user-agent", "robot/2").send().await.unwrap().status(), 200);
    };
    let seen = "SELECT count(*) FROM bgfiles_auth_tokens WHERE last_ip = '127.0.0.1' AND last_user_agent = 'robot/2'";
    ask().await;
    eventually("the first use is written", 5, async || (app.count(seen).await == 1).then_some(()))
        .await;
    app.sql("UPDATE bgfiles_auth_tokens SET last_user_agent = ''").await;
    for _ in 0..9 {
        app.advance(1);
        ask().await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(app.count(seen).await, 0, "not with each request");
    app.advance(1);
    ask().await;
    eventually("the last use is written", 5, async || (app.count(seen).await == 1).then_some(()))
        .await;
    app.sql("UPDATE bgfiles_auth_tokens SET last_user_agent = ''").await;
    app.advance(1);
    ask().await;
    app.toolbox.flush_uses().await.unwrap();
    assert_eq!(app.count(seen).await, 1, "what a process does when it ends");
}

/// Tokens of a database as it was before this release go on working.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_before_are_migrated() {
    use crate::support::postgres;
    use sqlx::migrate::Migrator;
    let dir = tempfile::tempdir().unwrap();
    let (name, postgres_url) = postgres::create_empty().await;
    for url in [format!("sqlite:{}", dir.path().join("old.db").display()), postgres_url] {
        let db = bgfiles::Db::open(&url).unwrap();
        let mut old =
            Migrator::new(std::path::Path::new("migrations").join(db.kind())).await.unwrap();
        old.migrations = old.migrations.iter().filter(|m| m.version <= 2).cloned().collect();
        old.dangerous_set_table_name("_bgfiles_migrations");
        let secret = AuthSecret::random();
        let (user, client) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
        let now = crate::support::app::start();
        macro_rules! fill {
            ($pool:expr) => {{
                old.run($pool).await.unwrap();
                sqlx::query("INSERT INTO bgfiles_users (id, username, role, created_at) VALUES ($1, 'Ämy', 'user', $2)").bind(user).bind(now).execute($pool).await.unwrap();
                sqlx::query("INSERT INTO bgfiles_clients (id, name, created_at) VALUES ($1, 'web', $2)").bind(client).bind(now).execute($pool).await.unwrap();
                sqlx::query("INSERT INTO bgfiles_auth_tokens (id, hash, prefix, user_id, client_id, created_at) VALUES ($1, $2, $3, $4, $5, $6)")
                    .bind(uuid::Uuid::new_v4()).bind(secret.hash()).bind(secret.prefix()).bind(user).bind(client).bind(now).execute($pool).await.unwrap();
            }};
        }
        match &db {
            bgfiles::Db::Postgres(pool) => fill!(pool),
            bgfiles::Db::Sqlite(pool) => fill!(pool),
        }
        Toolbox::migrate(&db).await.unwrap();
        let found = bgfiles::auth_token::token_store::look_up(
            &mut db.acquire().await.unwrap(),
            &secret.hash(),
        )
        .await
        .unwrap()
        .unwrap();
        assert_eq!((found.user.unwrap().id.as_str(), found.client.as_str()), ("Ämy", "web"));
        let (user, _) =
            bgfiles::auth_token::store::find_credentials(&mut db.acquire().await.unwrap(), "äMY")
                .await
                .unwrap()
                .unwrap();
        assert_eq!(user.username, "Ämy");
        db.close().await;
    }
    postgres::drop_database(name);
}
