//! A name that somebody vouches for is one of ours only when it is spelled exactly alike. A person
//! who types theirs may do so as they like.
//!
//! Doors that take a name of somebody who is vouched for: the header of a trusted proxy, the
//! host's `RequesterId`, the host's user directory. Doors behind which it is compared: roles, bound
//! links and grants, requests, locks and their owners, request tokens, sessions, tokens and API
//! keys, the mailbox. Doors where a person types: the login, `create-token`, `set-user`.

use std::sync::Arc;

use axum::{http::HeaderValue, middleware};
use bgfiles::{
    auth_token::{Person, Proof, Role, Settings, TokenPolicy, UserDirectory, Users},
    limits::TokenTtl,
    lock_token::{Ask, Resource},
    mail::Mailer,
    request_token::{LoginMode, NewRequestToken},
    toolbox::{LinkOptions, Presented},
    visitor::Visitor,
    web::{RequesterId, WebState, router, server},
};
use serde_json::{Value, json};

use crate::support::{TestApp, app, app::Parts, both};

/// Other spellings of names of ours, of which `username_key` makes the same.
const AMYS: [&str; 5] = ["Amy", "AMY", "ａmy", "ᵃmy", "amy\u{a0}"];
const OLGAS: [&str; 4] = ["OLGA", "Olga", "ｏlga", "olga\u{3000}"];

/// As somebody whom a proxy or a host vouches for.
async fn ask(
    app: &TestApp,
    base: &str,
    name: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> (u16, Value) {
    let request = app.http.request(method.parse().unwrap(), format!("{base}{path}"));
    let request =
        request.header("x-remote-user", HeaderValue::from_bytes(name.as_bytes()).unwrap());
    let request = request.header("x-remote-email", "AMY@example.com");
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    app::json(request.send().await.unwrap()).await
}

/// What no other spelling may do, by a server that believes the name.
async fn nothing_of_theirs(app: &TestApp, base: &str) {
    let toolbox = &app.toolbox;
    let mut new = TestApp::new_request("hello", "");
    new.requester_only = Some(true);
    let row = app.add(new).await;
    app.dispatch(row.id).await;
    let row = app.row(row.id).await;
    let plain = app.link(&row);
    let mut tx = toolbox.db().begin().await.unwrap();
    let options = LinkOptions { scanner_safe: Some(true), ..LinkOptions::default() };
    let (_, listed) = toolbox.create_link(&mut tx, &row, options).await.unwrap();
    tx.commit().await.unwrap();
    let listed = listed.strip_prefix("http://files.example.com").unwrap().to_owned();
    let resource = Resource::request(row.id);
    let held = toolbox
        .lock(&resource, Ask { owner: Some("amy".into()), ..Ask::default() })
        .await
        .unwrap()
        .held()
        .unwrap();
    let lock = format!("/api/locks/bgfiles/file_request/{}", row.id);
    let one = format!("/api/requests/{}", row.id);
    let call =
        async |name: &str, method: &str, path: &str| ask(app, base, name, method, path, None).await;
    // Theirs, under their own name.
    assert_eq!(call("amy", "GET", &plain).await.0, 200);
    assert_eq!(call("olga", "GET", "/api/request-tokens").await.0, 200);
    for name in OLGAS {
        for path in ["/api/request-tokens", "/operate", "/operate/audit"] {
            assert_eq!(call(name, "GET", path).await.0, 403, "{name} {path}");
        }
        assert_eq!(call(name, "GET", &one).await.0, 404, "{name}");
    }
    for name in AMYS {
        for (method, path, status) in [
            ("GET", plain.as_str(), 403),
            ("POST", &plain, 403),
            ("GET", &listed, 403),
            ("POST", &listed, 403),
            ("GET", &one, 404),
            ("POST", &format!("{one}/cancel"), 404),
            ("DELETE", &one, 404),
            ("GET", &format!("{one}/log"), 404),
            ("GET", &format!("/files/{}", row.id), 404),
            ("GET", &lock, 404),
            ("DELETE", &lock, 404),
            ("GET", "/api/auth/apiaccess", 404),
        ] {
            assert_eq!(call(name, method, path).await.0, status, "{name} {method} {path}");
        }
        for path in ["/api/requests", "/api/locks", "/api/auth/sessions"] {
            let (status, list) = call(name, "GET", path).await;
            let none = list["items"].as_array().or(list.as_array()).unwrap().is_empty();
            assert!(status == 200 && none, "{name} {path}: {list}");
        }
        // What they ask for is their own.
        let (status, asked) =
            ask(app, base, name, "POST", "/api/requests", Some(json!({"file_type": "hello"})))
                .await;
        assert_eq!((status, &asked["requester"]), (202, &json!(name)));
        let own = format!("/api/requests/{}", asked["id"].as_str().unwrap());
        assert_eq!((call(name, "GET", &own).await.0, call("amy", "GET", &own).await.0), (200, 404));
        let for_amy = json!({"file_type": "hello", "requester": {"id": "amy"}});
        assert_eq!(ask(app, base, name, "POST", "/api/requests", Some(for_amy)).await.0, 403);
        assert_eq!(call(name, "DELETE", &own).await.0, 204);
    }
    assert!(toolbox.is_locked(&resource).await.unwrap());
    toolbox.unlock(&resource, &held.token).await.unwrap();
}

fn parts() -> Parts {
    let auth = Settings {
        identity_header: Some("x-remote-user".parse().unwrap()),
        identity_email_header: Some("x-remote-email".parse().unwrap()),
        api_access_client: "keys".into(),
        ..Settings::default()
    };
    Parts { auth, trusted_proxies: "127.0.0.1".parse().unwrap(), ..Parts::default() }
}

async fn inhabited(app: &TestApp) {
    app.add_user("amy", Role::User, Some("seven green teapots")).await;
    app.add_user("olga", Role::Staff, Some("seven green teapots")).await;
    for client in ["web", "keys"] {
        app.client(client, TokenTtl::DAY, "", TokenPolicy::One).await;
    }
    app.token("amy", "web").await;
    app.token("amy", "keys").await;
}

both!(a_name_of_a_proxy_is_one_of_ours_when_it_is_spelled_alike);
async fn a_name_of_a_proxy_is_one_of_ours_when_it_is_spelled_alike(app: TestApp) {
    let app = TestApp::with(app.kind, parts()).await;
    inhabited(&app).await;
    let base = format!("http://{}", app.serve().await);
    nothing_of_theirs(&app, &base).await;
    // Their keys are their own: amy's does not end, and is not theirs.
    let (status, key) = ask(&app, &base, "Amy", "POST", "/api/auth/apiaccess", None).await;
    assert_eq!(status, 201, "{key}");
    let by_key = |path: &'static str| {
        let request = app.http.get(format!("{base}{path}"));
        request.header("authorization", format!("Token {}", key["token"].as_str().unwrap())).send()
    };
    assert_eq!(by_key("/api/requests").await.unwrap().status(), 200);
    assert_eq!(
        app.count(
            "SELECT count(*) FROM bgfiles_auth_tokens WHERE user_id = 'Amy' AND own_user_id IS NULL"
        )
        .await,
        1
    );
    assert_eq!(
        app.count("SELECT count(*) FROM bgfiles_auth_tokens WHERE user_id = 'amy'").await,
        2
    );
    // Tokens and sessions for another spelling are for nobody of ours.
    let toolbox = &app.toolbox;
    for name in OLGAS.into_iter().chain(AMYS) {
        let new = NewRequestToken {
            login_mode: LoginMode::Session,
            user_id: Some(name.into()),
            ..NewRequestToken::new("report")
        };
        let mut tx = toolbox.db().begin().await.unwrap();
        let token = toolbox.create_request_token(&mut tx, new).await.unwrap();
        tx.commit().await.unwrap();
        let (jwt, visitor) = (toolbox.jwt(&token).unwrap(), Visitor::default());
        for user in [None, Some("amy"), Some("olga")] {
            let presented =
                Presented { jwt: &jwt, scope: "report", user, visitor: &visitor, log: true };
            assert!(toolbox.admit(&presented).await.is_err(), "{name} {user:?}");
        }
        let session = toolbox.begin_session(name, None).await.unwrap();
        assert!(toolbox.session_user(&session).await.unwrap().is_none(), "{name}");
    }
    // A person types their name as they like, and is who they are.
    for typed in ["AMY", "ａmy", " amy "] {
        let fields = json!({"username": typed, "password": "seven green teapots", "client": "web"});
        let login =
            app.http.post(format!("{base}/api/auth/login")).json(&fields).send().await.unwrap();
        assert_eq!(login.status(), 200, "{typed}");
    }
    assert_eq!(
        app.count(
            "SELECT count(*) FROM bgfiles_auth_tokens WHERE user_id <> 'amy' AND user_id <> 'Amy'"
        )
        .await,
        0
    );
    let (person, _) = toolbox.person_and_client("OLGA", "web").await.unwrap();
    assert_eq!(person.id, "olga");
}

/// A server behind a host application that says who calls.
async fn host(app: &TestApp) -> String {
    let layer =
        middleware::from_fn(async |mut request: axum::extract::Request, next: middleware::Next| {
            if let Some(user) = request.headers().get("x-remote-user") {
                let id = RequesterId(std::str::from_utf8(user.as_bytes()).unwrap().to_owned());
                request.extensions_mut().insert(id);
            }
            next.run(request).await
        });
    let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let served = router(WebState::new(app.toolbox.clone())).layer(layer);
    tokio::spawn(server::serve(listener, served, Default::default(), app.stop.clone()));
    base
}

/// A directory that takes spellings for one, as databases with such a collation do.
struct Folding;

#[async_trait::async_trait]
impl UserDirectory for Folding {
    async fn find(&self, id: &str) -> bgfiles::Result<Option<Person>> {
        let Some(name) = bgfiles::auth_token::username_key(id) else { return Ok(None) };
        let role = match name.as_str() {
            "amy" => Role::User,
            "olga" => Role::Staff,
            _ => return Ok(None),
        };
        Ok(Some(Person { id: name, email: String::new(), role, is_active: true }))
    }

    async fn authenticate(&self, _: &str, _: &str) -> bgfiles::Result<Option<Person>> {
        Ok(None)
    }
}

both!(a_name_of_a_host_is_one_of_ours_when_it_is_spelled_alike);
async fn a_name_of_a_host_is_one_of_ours_when_it_is_spelled_alike(app: TestApp) {
    let keys = || Settings { api_access_client: "keys".into(), ..Settings::default() };
    let own = TestApp::with(app.kind, Parts { auth: keys(), ..Parts::default() }).await;
    inhabited(&own).await;
    let base = host(&own).await;
    nothing_of_theirs(&own, &base).await;
    let directory = Users::Host(Arc::new(Folding));
    let hosted =
        TestApp::with(app.kind, Parts { auth: keys(), users: directory, ..Parts::default() }).await;
    hosted.client("keys", TokenTtl::DAY, "", TokenPolicy::One).await;
    let base = host(&hosted).await;
    nothing_of_theirs(&hosted, &base).await;
    let caller = hosted.toolbox.vouched_for("OLGA", None, Proof::Host).await.unwrap();
    assert_eq!((caller.username.as_str(), caller.role), ("OLGA", Role::User));
}

both!(mails_to_one_address_are_not_read_by_another);
async fn mails_to_one_address_are_not_read_by_another(app: TestApp) {
    let folder = tempfile::tempdir().unwrap();
    let url = url::Url::from_file_path(folder.path()).unwrap();
    let mailer = Mailer::open(url.as_str(), "files@example.com").unwrap();
    let app = TestApp::with(app.kind, Parts { mailer: Some(mailer), ..parts() }).await;
    inhabited(&app).await;
    app.finished("hello", "").await;
    app.deliver_notices().await;
    let state =
        WebState { mailbox: Some(folder.path().into()), ..WebState::new(app.toolbox.clone()) };
    let base = format!("http://{}", app.serve_with(state, Default::default()).await);
    for (name, sees) in [("amy", true), ("Amy", false)] {
        let (status, page) = ask(&app, &base, name, "GET", "/dev/mail", None).await;
        assert_eq!(
            (status, page.as_str().unwrap().contains("Your file is ready")),
            (200, sees),
            "{name}"
        );
    }
}
