//! Lock tokens: the numbered cases of django-lock-tokens, and its bugs, absent.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    http::request::Parts as Head,
    routing::{get, post},
};
use bgfiles::{
    Error, FileRequest,
    auth_token::{Caller as Somebody, Role},
    lock_token::{Acquired, Ask, Check, Held, Holder, Resource, Settings},
    toolbox::{LockAccess, LockPolicy, Lockable},
    web::{RequesterId, holds_lock_on_object, locks_object, server},
};
use serde_json::{Value, json};

use crate::support::{Caller, Kind, TestApp, app, app::Parts, both, child::bgfiles, eventually};

fn page(id: &str) -> Resource {
    Resource::new("cms", "page", id).unwrap()
}

async fn take(app: &TestApp, resource: &Resource) -> Held {
    app.toolbox.lock(resource, Ask::default()).await.unwrap().held().unwrap()
}

fn is_locked(result: bgfiles::Result<impl std::fmt::Debug>) -> bool {
    matches!(result, Err(Error::Locked(_)))
}

fn is_refused(result: bgfiles::Result<impl std::fmt::Debug>, held: bool) -> bool {
    matches!(result, Err(Error::LockRefused { held: is }) if is == held)
}

/// A thing of the application.
struct Page(&'static str);

impl Lockable for Page {
    fn resource(&self) -> Resource {
        page(self.0)
    }
}

both!(cases_1_to_5_locking_renewing_unlocking);
async fn cases_1_to_5_locking_renewing_unlocking(app: TestApp) {
    let (toolbox, thing) = (&app.toolbox, Page("home"));
    assert!(!thing.is_locked(toolbox).await.unwrap());
    let held = thing.lock(toolbox, None).await.unwrap();
    assert!(held.token.len() == 32 && held.token.bytes().all(|b| b.is_ascii_hexdigit()));
    assert!(thing.is_locked(toolbox).await.unwrap());
    assert_eq!(toolbox.lock_settings().format(held.expires_at), "2026-03-01 13:00:00 UTC");
    // Case 2.
    assert!(is_locked(thing.lock(toolbox, None).await));
    assert!(is_refused(thing.unlock(toolbox, "wrong").await, true));
    assert!(is_refused(thing.lock(toolbox, Some("wrong")).await, true));
    // Case 3.
    app.advance(60);
    let renewed = thing.lock(toolbox, Some(&held.token)).await.unwrap();
    assert_eq!((&renewed.token, renewed.lock.fence), (&held.token, held.lock.fence));
    assert_eq!((renewed.expires_at - held.expires_at).num_seconds(), 60);
    assert_eq!(thing.check_lock_token(toolbox, &held.token).await.unwrap(), Check::Holds);
    // Case 4.
    thing.unlock(toolbox, &held.token).await.unwrap();
    assert!(!thing.is_locked(toolbox).await.unwrap());
    assert!(is_refused(thing.unlock(toolbox, &held.token).await, false), "no lock");
    assert_eq!(thing.check_lock_token(toolbox, &held.token).await.unwrap(), Check::NoLock);
    let again = thing.lock(toolbox, None).await.unwrap();
    assert!(again.lock.fence > held.lock.fence && again.token != held.token);
    // Case 5: things that know nothing of it, by name; numbers and text as ids.
    let seven = Resource::new("shop", "order", 7).unwrap();
    take(&app, &seven).await;
    take(&app, &Resource::new("shop", "invoice", 7).unwrap()).await;
    assert!(is_locked(app.toolbox.lock(&seven, Ask::default()).await.unwrap().held()));
    for (kind, model, id) in
        [("", "page", "1"), ("a/b", "page", "1"), ("a", "page", ""), ("a", "page", "x\n")]
    {
        assert!(Resource::new(kind, model, id).is_err());
    }
}

both!(cases_6_and_11_expiry_is_soft);
async fn cases_6_and_11_expiry_is_soft(app: TestApp) {
    let (toolbox, thing) = (&app.toolbox, page("home"));
    let held = take(&app, &thing).await;
    app.advance(3600);
    assert!(!toolbox.is_locked(&thing).await.unwrap());
    // Nobody has taken it: the token still counts for everything.
    assert_eq!(toolbox.check_lock(&thing, &held.token).await.unwrap(), Check::Expired);
    assert_eq!(toolbox.held_lock(&thing, &held.token).await.unwrap().lock.fence, held.lock.fence);
    toolbox.renew_lock(&thing, &held.token, None).await.unwrap();
    assert!(toolbox.is_locked(&thing).await.unwrap());
    app.advance(3600);
    let taken = take(&app, &thing).await;
    assert!(taken.token != held.token && taken.lock.fence > held.lock.fence);
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_locks").await, 1);
    assert_eq!(toolbox.check_lock(&thing, &held.token).await.unwrap(), Check::Wrong);
    for refused in [
        toolbox.renew_lock(&thing, &held.token, None).await.map(drop),
        toolbox.unlock(&thing, &held.token).await,
        toolbox.held_lock(&thing, &held.token).await.map(drop),
    ] {
        assert!(is_refused(refused, true));
    }
    app.advance(3600);
    toolbox.unlock(&thing, &taken.token).await.unwrap();
}

both!(cases_7_sessions_and_bugs_2_and_3);
async fn cases_7_sessions_and_bugs_2_and_3(app: TestApp) {
    let (toolbox, thing) = (&app.toolbox, page("home"));
    let first = toolbox.lock_for_session(&thing, "amy", Some("amy"), false).await.unwrap();
    assert!(is_locked(toolbox.lock_for_session(&thing, "bob", None, false).await));
    assert!(is_refused(toolbox.unlock_for_session(&thing, "bob").await, true));
    assert!(!toolbox.check_for_session(&thing, "bob").await.unwrap());
    assert!(toolbox.check_for_session(&thing, "amy").await.unwrap());
    // Bug 2: a second tab shares the lock; either may go first.
    let second = toolbox.lock_for_session(&thing, "amy", Some("amy"), false).await.unwrap();
    assert_eq!(
        (second.lock.fence, second.lock.locked_at),
        (first.lock.fence, first.lock.locked_at)
    );
    assert_ne!(second.token, first.token);
    toolbox.unlock(&thing, &first.token).await.unwrap();
    assert!(is_locked(toolbox.lock_for_session(&thing, "bob", None, false).await));
    assert_eq!(toolbox.check_lock(&thing, &second.token).await.unwrap(), Check::Holds);
    // A reload asks before the page of before has let go.
    let reloaded = toolbox.lock_for_session(&thing, "amy", None, false).await.unwrap();
    toolbox.unlock(&thing, &second.token).await.unwrap();
    assert_eq!(toolbox.check_lock(&thing, &reloaded.token).await.unwrap(), Check::Holds);
    toolbox.unlock_for_session(&thing, "amy").await.unwrap();
    assert!(!toolbox.check_for_session(&thing, "amy").await.unwrap());
    assert!(!toolbox.check_for_session(&thing, "bob").await.unwrap());
    // Bug 3: what a session had before is no obstacle, whoever had it since.
    let bobs = toolbox.lock_for_session(&thing, "bob", None, false).await.unwrap();
    app.advance(3600);
    let back = toolbox.lock_for_session(&thing, "amy", None, false).await.unwrap();
    assert!(back.lock.fence > bobs.lock.fence);
    // force_new begins anew what is one's own, and takes nothing from others.
    let anew = toolbox.lock_for_session(&thing, "amy", None, true).await.unwrap();
    assert!(anew.lock.fence > back.lock.fence);
    assert_eq!(toolbox.check_lock(&thing, &back.token).await.unwrap(), Check::Wrong);
    assert!(is_locked(toolbox.lock_for_session(&thing, "bob", None, true).await));
    // What one tab does ends nothing of another that is late.
    app.advance(3600);
    let other_tab = toolbox.lock_for_session(&thing, "amy", None, false).await.unwrap();
    toolbox.unlock(&thing, &other_tab.token).await.unwrap();
    let late = toolbox.renew_lock(&thing, &anew.token, Some(5)).await.unwrap();
    assert_eq!(
        (late.lock.expires_at - toolbox.clock().now()).num_seconds(),
        5,
        "as short as asked"
    );
    let anew = toolbox.renew_lock(&thing, &anew.token, Some(3600)).await.unwrap();
    assert!(anew.lock.fence > back.lock.fence);
    // A crashed tab holds the lock no longer than its own time.
    app.advance(1800);
    let third = toolbox.lock_for_session(&thing, "amy", None, false).await.unwrap();
    toolbox.unlock(&thing, &third.token).await.unwrap();
    assert!(toolbox.is_locked(&thing).await.unwrap());
    app.advance(1800);
    assert!(!toolbox.is_locked(&thing).await.unwrap());
}

/// What requests are about: the last part of the path.
fn last_part(head: &Head) -> Option<Resource> {
    let id = head.uri.path().rsplit('/').next().filter(|id| *id != "nothing")?;
    Resource::new("cms", "page", id).ok()
}

both!(case_8_layers_and_bug_4);
async fn case_8_layers_and_bug_4(app: TestApp) {
    let toolbox = &app.toolbox;
    let gate = Arc::new(tokio::sync::Notify::new());
    let inside = gate.clone();
    let host = Router::new()
        .route(
            "/edit/{page}",
            get(async |Extension(held): Extension<Held>| held.lock.fence.to_string())
                .layer(locks_object(toolbox, last_part)),
        )
        .route(
            "/build/{page}",
            post(async || "built").layer(holds_lock_on_object(toolbox, last_part)),
        )
        .route(
            "/slow/{page}",
            post(move || {
                let gate = inside.clone();
                async move {
                    gate.notified().await;
                    "built"
                }
            })
            .layer(holds_lock_on_object(toolbox, last_part)),
        )
        .route(
            "/panic/{page}",
            post(async || -> String { panic!("as asked") })
                .layer(holds_lock_on_object(toolbox, last_part)),
        )
        .route(
            "/fail/{page}",
            post(async || axum::http::StatusCode::INTERNAL_SERVER_ERROR)
                .layer(holds_lock_on_object(toolbox, last_part)),
        )
        .layer(axum::middleware::from_fn(
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
    let call = async |method: &str, path: &str, user: &str| {
        let request = app.http.request(method.parse().unwrap(), format!("{base}{path}"));
        let request = if user.is_empty() { request } else { request.header("x-test-user", user) };
        match request.send().await {
            Ok(response) => app::json(response).await,
            Err(_) => (0, Value::Null),
        }
    };
    let free = async |id: &str| {
        eventually("it is released", 5, async || {
            (!toolbox.is_locked(&page(id)).await.unwrap()).then_some(())
        })
        .await
    };
    assert_eq!(call("GET", "/edit/a", "amy").await, (200, json!(1)));
    assert_eq!(call("GET", "/edit/a", "amy").await, (200, json!(1)), "the same session");
    let (status, problem) = call("GET", "/edit/a", "bob").await;
    assert_eq!(
        (status, &problem["detail"]),
        (403, &json!("The object you are trying to access is locked."))
    );
    assert_eq!(
        (call("POST", "/build/a", "").await.0, call("POST", "/build/a", "bob").await.0),
        (401, 403)
    );
    assert_eq!(call("POST", "/build/a", "amy").await.0, 200);
    assert!(!toolbox.is_locked(&page("a")).await.unwrap(), "edited, saved, free");
    assert_eq!(call("GET", "/edit/a", "bob").await.0, 200);
    toolbox.unlock_for_session(&page("a"), "user bob").await.unwrap();
    // A tab that renews its token by itself keeps the lock, whichever way it came to it.
    assert_eq!(call("GET", "/edit/a", "amy").await.0, 200);
    let own = toolbox.lock_for_session(&page("a"), "user amy", Some("amy"), false).await.unwrap();
    let shown = toolbox.lock_for_page(&page("a"), "user amy", Some("amy")).await.unwrap();
    toolbox.renew_lock(&page("a"), &shown.token, None).await.unwrap();
    for token in [&own.token, &shown.token] {
        assert_eq!(call("POST", "/build/a", "amy").await.0, 200);
        assert_eq!(call("GET", "/edit/a", "bob").await.0, 403);
        toolbox.unlock(&page("a"), token).await.unwrap();
    }
    assert_eq!(call("GET", "/edit/a", "bob").await.0, 200);
    toolbox.unlock_for_session(&page("a"), "user bob").await.unwrap();
    for (path, status) in [("/build/b", 200), ("/panic/b", 0), ("/fail/b", 500)] {
        assert_eq!(call("POST", path, "bob").await.0, status, "{path}");
        free("b").await;
    }
    assert_eq!(call("GET", "/edit/nothing", "amy").await.0, 404, "nothing is named");
    // Held while it runs; released, too, when the client goes away.
    let slow =
        tokio::spawn(app.http.post(format!("{base}/slow/c")).header("x-test-user", "amy").send());
    eventually("it is held", 5, async || {
        toolbox.is_locked(&page("c")).await.unwrap().then_some(())
    })
    .await;
    assert_eq!(call("POST", "/build/c", "bob").await.0, 403);
    gate.notify_one();
    assert_eq!(slow.await.unwrap().unwrap().status(), 200);
    free("c").await;
    let gone =
        tokio::spawn(app.http.post(format!("{base}/slow/d")).header("x-test-user", "amy").send());
    eventually("it is held", 5, async || {
        toolbox.is_locked(&page("d")).await.unwrap().then_some(())
    })
    .await;
    gone.abort();
    free("d").await;
}

both!(case_10_an_editing_page);
async fn case_10_an_editing_page(app: TestApp) {
    let toolbox = app.toolbox.clone();
    let save = move |Extension(held): Extension<Held>| {
        let toolbox = toolbox.clone();
        async move {
            let thing = page(&held.lock.object_id);
            toolbox
                .unlock_for_session(&thing, held.lock.session.as_deref().unwrap())
                .await
                .unwrap();
            "saved"
        }
    };
    let host = Router::new()
        .route(
            "/page/{page}",
            get(async || "<button>Save</button>").layer(locks_object(&app.toolbox, last_part)),
        )
        .route("/page/{page}", post(save).layer(holds_lock_on_object(&app.toolbox, last_part)));
    let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/page/home", listener.local_addr().unwrap());
    tokio::spawn(server::serve(listener, host, Default::default(), app.stop.clone()));
    let sessions = [
        app.toolbox.begin_session("amy", None).await.unwrap(),
        app.toolbox.begin_session("bob", None).await.unwrap(),
    ];
    for name in ["amy", "bob"] {
        app.add_user(name, Role::User, None).await;
    }
    let call = async |method: &str, who: usize| {
        let request = app.http.request(method.parse().unwrap(), &url);
        let request =
            request.header("cookie", format!("bgfiles_session={}", sessions[who].expose()));
        let (status, body) = app::json(request.send().await.unwrap()).await;
        (status, body.to_string().contains("Save"))
    };
    let (amy, bob) = (0, 1);
    assert_eq!(call("GET", amy).await, (200, true));
    assert_eq!(call("GET", bob).await, (403, false));
    assert_eq!(call("POST", bob).await.0, 403);
    assert_eq!(call("POST", amy).await.0, 200);
    assert!(!app.toolbox.is_locked(&page("home")).await.unwrap(), "saved and unlocked");
    assert_eq!(call("GET", bob).await, (200, true));
}

both!(bug_5_an_error_of_the_database_is_an_error);
async fn bug_5_an_error_of_the_database_is_an_error(app: TestApp) {
    app.sql("DROP TABLE bgfiles_lock_tokens").await;
    assert!(matches!(
        app.toolbox.lock(&page("home"), Ask::default()).await,
        Err(Error::Database(_))
    ));
}

both!(bug_6_what_is_locked_is_not_deleted);
async fn bug_6_what_is_locked_is_not_deleted(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    let root = Caller::new(&app, &base, "root", Role::Staff).await;
    let row = app.request("hello", "").await;
    let (_, lock) =
        send(&amy, "POST", &format!("bgfiles/file_request/{}/", row.id), Value::Null).await;
    let delete = async |caller: &Caller, token: &str| {
        let request = caller.call("DELETE", &format!("/api/requests/{}", row.id));
        let request = if token.is_empty() { request } else { request.header("lock-token", token) };
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(delete(&root, "").await, 423);
    assert_eq!(delete(&amy, lock["token"].as_str().unwrap()).await, 204);
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_locks WHERE held").await, 0, "no orphan");
    let row = app.request("hello", "").await;
    assert_eq!(
        root.call("DELETE", &format!("/api/requests/{}", row.id)).send().await.unwrap().status(),
        204
    );
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_locks WHERE held").await, 0);
}

/// Renewed while the handler runs: on the machine's clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_outlives_its_timeout_while_the_handler_runs() {
    let locks = Settings { timeout: Duration::from_secs(2), open: true, ..Settings::default() };
    let parts = Parts { clock: bgfiles::Clock::system(), locks, ..Parts::default() };
    let app = TestApp::with(Kind::Sqlite, parts).await;
    let slow = async || {
        tokio::time::sleep(Duration::from_secs(5)).await;
        "built"
    };
    let host = Router::new()
        .route("/slow/{page}", post(slow).layer(holds_lock_on_object(&app.toolbox, last_part)));
    let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/slow/a", listener.local_addr().unwrap());
    tokio::spawn(server::serve(listener, host, Default::default(), app.stop.clone()));
    let build = tokio::spawn(app.http.post(url).send());
    eventually("it is held", 5, async || {
        app.toolbox.is_locked(&page("a")).await.unwrap().then_some(())
    })
    .await;
    for _ in 0..16 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert!(app.toolbox.is_locked(&page("a")).await.unwrap());
    }
    assert_eq!(build.await.unwrap().unwrap().status(), 200);
    assert!(!app.toolbox.is_locked(&page("a")).await.unwrap());
}

/// A site whose callers may lock pages.
async fn site(kind: Kind, change: impl FnOnce(&mut Settings)) -> (TestApp, String) {
    let mut locks = Settings {
        resources: ["cms/*".to_owned(), "shop/order".to_owned()].into(),
        ..Settings::default()
    };
    change(&mut locks);
    let app = TestApp::with(kind, Parts { locks, ..Parts::default() }).await;
    let base = format!("http://{}", app.serve().await);
    (app, base)
}

async fn send(caller: &Caller, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = caller.call(method, &format!("/lock_tokens/{path}"));
    let request = if body.is_null() { request } else { request.json(&body) };
    app::json(request.send().await.unwrap()).await
}

both!(cases_9_and_11_over_http);
async fn cases_9_and_11_over_http(app: TestApp) {
    let (app, base) = site(app.kind, |_| ()).await;
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    let bob = Caller::new(&app, &base, "bob", Role::User).await;
    let (status, lock) = send(&amy, "POST", "cms/page/7/", Value::Null).await;
    let keys: Vec<&String> = lock.as_object().unwrap().keys().collect();
    assert_eq!(
        (status, keys),
        (
            201,
            [
                "token",
                "expires",
                "expires_in",
                "ttl",
                "resource",
                "id",
                "owner",
                "reason",
                "since",
                "until",
                "fence"
            ]
            .iter()
            .map(|k| k.to_string())
            .collect::<Vec<_>>()
            .iter()
            .collect()
        )
    );
    assert_eq!(
        (&lock["expires"], &lock["expires_in"]),
        (&json!("2026-03-01 13:00:00 UTC"), &json!(3600.0))
    );
    assert_eq!(
        (&lock["owner"], &lock["since"], &lock["fence"]),
        (&json!("amy"), &json!("2026-03-01T12:00:00Z"), &json!(1))
    );
    let path = format!("cms/page/7/{}/", lock["token"].as_str().unwrap());
    assert_eq!(send(&amy, "GET", &path, Value::Null).await, (200, lock.clone()));
    app.advance(60);
    let (status, renewed) = send(&amy, "PATCH", &path, Value::Null).await;
    assert_eq!(
        (status, &renewed["expires"], &renewed["token"]),
        (200, &json!("2026-03-01 13:01:00 UTC"), &lock["token"])
    );
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(send(&amy, method, "cms/page/7/%00/", Value::Null).await.0, 403);
        assert_eq!(
            send(&amy, method, "cms/page/7/wrong/", Value::Null).await,
            (403, json!({"detail": "Wrong token."}))
        );
    }
    let (status, held) = send(&bob, "POST", "cms/page/7/", Value::Null).await;
    assert_eq!(
        (status, &held["owner"], held.get("token")),
        (409, &json!("amy"), None),
        "who has it, and no token"
    );
    assert_eq!(send(&amy, "POST", "cms/page/7", Value::Null).await.0, 409);
    assert_eq!(send(&amy, "DELETE", &path, Value::Null).await, (204, json!("")));
    for method in ["GET", "PATCH", "DELETE"] {
        assert_eq!(
            send(&amy, method, &path, Value::Null).await,
            (404, json!({"detail": "No valid token for this resource."}))
        );
    }
    // Case 11: expired ones work; POST over one takes it.
    let (_, lock) =
        send(&amy, "POST", "shop/order/AB-1/", json!({"ttl": 10, "reason": "fixing the total"}))
            .await;
    assert_eq!((&lock["ttl"], &lock["reason"]), (&json!(10), &json!("fixing the total")));
    let path = format!("shop/order/AB-1/{}", lock["token"].as_str().unwrap());
    app.advance(11);
    assert_eq!(send(&amy, "GET", &path, Value::Null).await.1["expires_in"], 0.0);
    assert_eq!(send(&amy, "PATCH", &path, json!({"ttl": 20})).await.1["ttl"], 20);
    app.advance(21);
    let (status, taken) = send(&bob, "POST", "shop/order/AB-1/", Value::Null).await;
    assert_eq!((status, &taken["fence"]), (201, &json!(2)));
    assert_eq!(send(&amy, "GET", &path, Value::Null).await.0, 403);
    // The fence: a late writer is told.
    let check = async |fence: &str| {
        let path = format!("/lock_tokens/shop/order/AB-1/{}/", taken["token"].as_str().unwrap());
        bob.call("GET", &path).header("if-match", fence).send().await.unwrap()
    };
    let response = check("\"2\"").await;
    assert_eq!(
        (response.status().as_u16(), response.headers()["etag"].to_str().unwrap()),
        (200, "\"2\"")
    );
    assert_eq!(check("\"1\"").await.status(), 412);
    for (method, path, status) in [
        ("GET", "cms/page/7/", 405),
        ("PUT", "cms/page/7/", 405),
        ("POST", "cms/page/7/x/", 405),
        ("POST", "blog/post/1/", 404),
        ("POST", "shop/invoice/1/", 404),
        ("POST", "cms/p%20ge/1/", 404),
    ] {
        assert_eq!(send(&amy, method, path, Value::Null).await.0, status, "{method} {path}");
    }
    for (body, field) in [
        (json!({"ttl": 4, "force": "x"}), "force"),
        (json!({"ttl": 4}), "ttl"),
        (json!({"ttl": 86_401}), "ttl"),
        (json!({"ttl": "x"}), "ttl"),
        (json!({"reason": "x".repeat(201)}), "reason"),
        (json!({"force": 1}), "force"),
    ] {
        let (status, errors) = send(&amy, "POST", "cms/page/8/", body).await;
        assert_eq!((status, errors.get(field).is_some()), (400, true), "{errors}");
    }
}

both!(documented_status_dateformat_and_open_use);
async fn documented_status_dateformat_and_open_use(app: TestApp) {
    let (app, base) = site(app.kind, |locks| {
        locks.conflict_status = 403;
        locks.dateformat = "%Y%m%d%H%M%S".into();
        locks.open = true;
    })
    .await;
    let nobody = async |method: &str, path: &str| {
        let request =
            app.http.request(method.parse().unwrap(), format!("{base}/lock_tokens/{path}"));
        app::json(request.send().await.unwrap()).await
    };
    let (status, lock) = nobody("POST", "cms/page/1/").await;
    assert_eq!(
        (status, &lock["owner"], &lock["expires"]),
        (201, &Value::Null, &json!("20260301130000"))
    );
    assert_eq!(lock["expires_in"], 3600.0, "what the date cannot say");
    assert_eq!(nobody("POST", "cms/page/1/").await.0, 403);
    assert_eq!(
        nobody("DELETE", &format!("cms/page/1/{}/", lock["token"].as_str().unwrap())).await.0,
        204
    );
    let (closed, base) = site(app.kind, |_| ()).await;
    let request = closed.http.post(format!("{base}/lock_tokens/cms/page/1/"));
    assert_eq!(request.send().await.unwrap().status(), 401);
    for (name, value) in
        [("CONFLICT_STATUS", "200"), ("DATEFORMAT", "%Q"), ("TIMEOUT", "4"), ("TIMEOUT", "100000")]
    {
        let env = BTreeMap::from([(format!("BGFILES_LOCK_TOKENS_{name}"), value.to_owned())]);
        let error = bgfiles::Config::load_from(&Vec::new(), &env).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

both!(tabs_share_over_http);
async fn tabs_share_over_http(app: TestApp) {
    let (app, base) = site(app.kind, |_| ()).await;
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    let bob = Caller::new(&app, &base, "bob", Role::User).await;
    let lock = async |caller: &Caller, session: &str| {
        let request =
            caller.call("POST", "/lock_tokens/cms/page/1/").header("lock-session", session);
        app::json(request.send().await.unwrap()).await
    };
    let browser = "4f0c1d2e3a4b5c6d7e8f";
    let (status, first) = lock(&amy, browser).await;
    let (again, second) = lock(&amy, browser).await;
    assert_eq!((status, again, &first["fence"]), (201, 201, &second["fence"]));
    assert_eq!(lock(&bob, browser).await.0, 409, "somebody else's session is nobody's");
    assert_eq!(lock(&amy, "another-browser-of-amy").await.0, 409);
    assert_eq!(
        send(
            &amy,
            "DELETE",
            &format!("cms/page/1/{}/", first["token"].as_str().unwrap()),
            Value::Null
        )
        .await
        .0,
        204
    );
    assert_eq!(lock(&bob, "bobs-own-browser-1").await.0, 409);
    assert_eq!(
        send(
            &amy,
            "DELETE",
            &format!("cms/page/1/{}/", second["token"].as_str().unwrap()),
            Value::Null
        )
        .await
        .0,
        204
    );
    assert_eq!(lock(&bob, "bobs-own-browser-1").await.0, 201);
    // A browser's session needs no header.
    let session = app.toolbox.begin_session("amy", None).await.unwrap();
    for _ in 0..2 {
        let request = app.http.post(format!("{base}/lock_tokens/cms/page/2/"));
        let request = request.header("cookie", format!("bgfiles_session={}", session.expose()));
        assert_eq!(request.send().await.unwrap().status(), 201);
    }
}

both!(seeing_waiting_breaking_forcing);
async fn seeing_waiting_breaking_forcing(app: TestApp) {
    let (app, base) = site(app.kind, |_| ()).await;
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    let bob = Caller::new(&app, &base, "bob", Role::User).await;
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let root = Caller::new(&app, &base, "root", Role::Staff).await;
    let state = async |caller: &Caller| caller.get("/api/locks/cms/page/1").await.1["lock"].clone();
    assert_eq!(state(&bob).await, Value::Null);
    let (_, lock) = send(&amy, "POST", "cms/page/1/", json!({"reason": "typos"})).await;
    let seen = state(&bob).await;
    assert_eq!(
        (&seen["owner"], &seen["reason"], seen.get("token")),
        (&json!("amy"), &json!("typos"), None)
    );
    let owners = async |caller: &Caller, query: &str| {
        let (_, list) = caller.get(&format!("/api/locks{query}")).await;
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|lock| lock["owner"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    app.advance(1);
    send(&bob, "POST", "shop/order/1/", Value::Null).await;
    assert_eq!(owners(&root, "").await, ["bob", "amy"]);
    assert_eq!(
        (
            owners(&bob, "").await,
            owners(&shop, "?owner=amy").await,
            owners(&root, "?resource=shop/order").await
        ),
        (vec!["bob".to_owned()], vec!["amy".to_owned()], vec!["bob".to_owned()])
    );
    // Waiting ends when it is free, or when the time is over.
    let began = std::time::Instant::now();
    assert_eq!(bob.get("/api/locks/cms/page/1?wait=1").await.1["lock"]["owner"], "amy");
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(bob.get("/api/locks/cms/page/1?wait=61").await.0, 422);
    let path = format!("cms/page/1/{}/", lock["token"].as_str().unwrap());
    let free = send(&amy, "DELETE", &path, Value::Null);
    let waiting = bob.get("/api/locks/cms/page/1?wait=20");
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        free.await
    };
    let (waited, freed) = tokio::join!(waiting, later);
    assert_eq!((waited.1, freed.0), (json!({"lock": null}), 204));
    // Owners and staff may end a lock or take it; others not.
    let (_, lock) = send(&amy, "POST", "cms/page/1/", Value::Null).await;
    for other in [&bob, &shop] {
        assert_eq!(
            other.call("DELETE", "/api/locks/cms/page/1").send().await.unwrap().status(),
            403
        );
        assert_eq!(send(other, "POST", "cms/page/1/", json!({"force": true})).await.0, 403);
    }
    let (status, forced) = send(&amy, "POST", "cms/page/1/", json!({"force": true})).await;
    assert!(status == 201 && forced["fence"].as_i64() > lock["fence"].as_i64());
    let (status, forced) = send(&root, "POST", "cms/page/1/", json!({"force": "true"})).await;
    assert_eq!((status, &forced["owner"]), (201, &json!("root")));
    assert_eq!(root.call("DELETE", "/api/locks/cms/page/1").send().await.unwrap().status(), 204);
    assert_eq!(root.call("DELETE", "/api/locks/cms/page/1").send().await.unwrap().status(), 404);
    assert_eq!(root.get("/api/locks/blog/post/1").await.0, 404);
    assert_eq!(root.get("/api/locks?owner=%00").await.0, 422);
    // A permission to take a lock is for the one that was there.
    let first = take(&app, &page("1")).await;
    app.toolbox.unlock(&page("1"), &first.token).await.unwrap();
    let bobs = app.toolbox.lock_for_session(&page("1"), "bob", Some("bob"), false).await.unwrap();
    let late = Ask { instead_of: Some(first.lock.fence), ..Ask::default() };
    assert!(is_locked(app.toolbox.lock(&page("1"), late).await.unwrap().held()));
    let now = Ask { instead_of: Some(bobs.lock.fence), ..Ask::default() };
    app.toolbox.lock(&page("1"), now).await.unwrap().held().unwrap();
}

both!(our_own_things);
async fn our_own_things(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    let bob = Caller::new(&app, &base, "bob", Role::User).await;
    let root = Caller::new(&app, &base, "root", Role::Staff).await;
    let row: FileRequest = app.request("hello", "").await;
    let path = format!("bgfiles/file_request/{}/", row.id);
    assert_eq!(send(&bob, "POST", &path, Value::Null).await.0, 404, "not theirs to see");
    assert_eq!(send(&amy, "POST", "bgfiles/file_request/7/", Value::Null).await.0, 404);
    for (caller, name, status) in
        [(&amy, "hello", 403), (&root, "hello", 201), (&root, "nothing", 404)]
    {
        assert_eq!(
            send(caller, "POST", &format!("bgfiles/file_type/{name}/"), Value::Null).await.0,
            status
        );
    }
    // Editing takes the lock for a moment; with one's own token, under it.
    let edit = async |caller: &Caller, text: &str, token: &str| {
        let request = caller
            .call("PATCH", &format!("/api/requests/{}", row.id))
            .json(&json!({"description": text}));
        let request = if token.is_empty() { request } else { request.header("lock-token", token) };
        app::json(request.send().await.unwrap()).await
    };
    let (status, edited) = edit(&root, "by root", "").await;
    assert_eq!((status, &edited["description"]), (200, &json!("by root")));
    assert!(!app.toolbox.is_locked(&row.resource()).await.unwrap());
    let (_, lock) = send(&amy, "POST", &path, Value::Null).await;
    let token = lock["token"].as_str().unwrap();
    let (status, problem) = edit(&root, "late", "").await;
    assert_eq!((status, &problem["code"]), (423, &json!("locked")));
    assert!(
        problem["detail"].as_str().unwrap().contains("locked by amy since 2026-03-01 12:00 UTC"),
        "{problem}"
    );
    assert_eq!(edit(&amy, "mine", token).await.1["description"], "mine");
    assert_eq!(edit(&amy, "wrong", "nonsense").await.0, 403);
    assert_eq!(edit(&amy, &"x".repeat(2001), token).await.0, 422);
    assert_eq!(app.row(row.id).await.description, "mine");
    assert!(
        app.toolbox.is_locked(&row.resource()).await.unwrap(),
        "an edit does not end one's lock"
    );
    // So does the policy of a link.
    let links = format!("/api/requests/{}/links", row.id);
    app.dispatch(row.id).await;
    let (_, link) = amy.post(&links, json!({"max_uses": 1})).await;
    let change = async |token: &str| {
        let request = root
            .call("PATCH", &format!("{links}/{}", link["jti"].as_str().unwrap()))
            .json(&json!({"max_uses": 2}));
        let request = if token.is_empty() { request } else { request.header("lock-token", token) };
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((change("").await, change(token).await), (423, 200));
    assert_eq!(send(&amy, "DELETE", &format!("{path}{token}/"), Value::Null).await.0, 204);
    assert_eq!(change("").await, 200);
    // A worker's lease is a lock.
    app.sql("UPDATE bgfiles_file_requests SET status = 'running', leased_by = 'worker-1', lease_until = '2026-03-01T12:00:10+00:00', started_at = requested_at").await;
    let state = amy.get(format!("/api/locks/{path}").trim_end_matches('/')).await.1;
    assert_eq!(
        (&state["lock"]["owner"], &state["lock"]["reason"]),
        (&json!("worker-1"), &json!("a worker makes the file"))
    );
    assert_eq!(
        (send(&amy, "POST", &path, Value::Null).await.0, edit(&amy, "now", "").await.0),
        (409, 423)
    );
    assert_eq!(edit(&amy, "now", token).await.0, 423, "with any token");
    // It ends by itself; a person's lock can be ended, whatever they give as their reason.
    let lease = app.toolbox.lock_on(&Resource::request(row.id)).await.unwrap().unwrap();
    assert_eq!((lease.holder, lease.is_breakable()), (Holder::Worker, false));
    let ask = Ask { reason: lease.reason, ..Ask::default() };
    let posing = app.toolbox.lock(&page("posing"), ask).await.unwrap().held().unwrap().lock;
    assert_eq!((posing.holder, posing.is_breakable()), (Holder::Person, true));
    let (_, all) = root.get("/api/locks").await;
    assert_eq!(
        all["items"].as_array().unwrap().iter().filter(|lock| lock["owner"] == "worker-1").count(),
        1
    );
    assert_eq!(
        root.call("DELETE", format!("/api/locks/{path}").trim_end_matches('/'))
            .send()
            .await
            .unwrap()
            .status(),
        423
    );
    app.advance(10);
    assert_eq!(send(&amy, "POST", &path, Value::Null).await.0, 201);
}

/// What a host application says.
struct Policy;

#[async_trait::async_trait]
impl LockPolicy for Policy {
    async fn access(
        &self,
        caller: Option<&Somebody>,
        resource: &Resource,
    ) -> bgfiles::Result<LockAccess> {
        Ok(match (resource.kind(), resource.id(), caller.map(|caller| caller.username.as_str())) {
            ("blog/post", "1", Some("amy")) => LockAccess::Granted,
            ("blog/post", "1", _) => LockAccess::Refused,
            ("blog/post", _, _) => LockAccess::Unknown,
            _ => LockAccess::NotMine,
        })
    }
}

both!(the_host_says_what_there_is);
async fn the_host_says_what_there_is(app: TestApp) {
    let app =
        TestApp::with(app.kind, Parts { lock_policy: Some(Arc::new(Policy)), ..Parts::default() })
            .await;
    let base = format!("http://{}", app.serve().await);
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    let bob = Caller::new(&app, &base, "bob", Role::User).await;
    let row = app.request("hello", "").await;
    for (caller, path, status) in [
        (&amy, "blog/post/1/".to_owned(), 201),
        (&bob, "blog/post/1/".into(), 403),
        (&amy, "blog/post/2/".into(), 404),
        (&amy, "cms/page/1/".into(), 404),
        (&amy, format!("bgfiles/file_request/{}/", row.id), 201),
    ] {
        assert_eq!(send(caller, "POST", &path, Value::Null).await.0, status, "{path}");
    }
}

both!(bug_1_get_and_lock);
async fn bug_1_get_and_lock(app: TestApp) {
    let (toolbox, thing) = (&app.toolbox, page("home"));
    let load = async || Ok::<_, Error>("the page");
    let (loaded, held) = toolbox.get_and_lock(&thing, Ask::default(), load).await.unwrap();
    assert_eq!(loaded, "the page");
    assert!(is_locked(toolbox.get_and_lock(&thing, Ask::default(), load).await));
    toolbox.unlock(&thing, &held.token).await.unwrap();
    let missing = async || Err::<(), _>(Error::NotFound("page"));
    assert!(matches!(
        toolbox.get_and_lock(&thing, Ask::default(), missing).await,
        Err(Error::NotFound(_))
    ));
    assert!(!toolbox.is_locked(&thing).await.unwrap(), "nothing stays locked");
}

both!(a_late_writer_is_refused_in_the_hosts_transaction);
async fn a_late_writer_is_refused_in_the_hosts_transaction(app: TestApp) {
    let (toolbox, thing) = (app.toolbox.clone(), page("home"));
    let held = take(&app, &thing).await;
    let mut tx = toolbox.db().begin().await.unwrap();
    toolbox.guard_lock(&mut tx, &thing, &held.token, Some(held.lock.fence)).await.unwrap();
    assert!(is_refused(
        toolbox.guard_lock(&mut tx, &thing, &held.token, Some(held.lock.fence - 1)).await,
        true
    ));
    // Nobody takes it before the transaction ends, though its time is over.
    toolbox.clock().advance(chrono::TimeDelta::hours(2));
    let (other, place) = (toolbox.clone(), thing.clone());
    let taking = tokio::spawn(async move { other.lock(&place, Ask::default()).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!taking.is_finished());
    tx.commit().await.unwrap();
    assert!(matches!(taking.await.unwrap(), Acquired::Held(_)));
    let mut tx = toolbox.db().begin().await.unwrap();
    assert!(is_refused(toolbox.guard_lock(&mut tx, &thing, &held.token, None).await, true));
}

both!(expired_locks_are_removed_and_fences_go_on);
async fn expired_locks_are_removed_and_fences_go_on(app: TestApp) {
    let old = take(&app, &page("a")).await;
    let done = take(&app, &page("b")).await;
    app.toolbox.unlock(&page("b"), &done.token).await.unwrap();
    for _ in 0..5 {
        app.toolbox.lock_for_session(&page("a"), "amy", None, true).await.ok();
        app.advance(3600);
    }
    let last = app.toolbox.lock_for_session(&page("a"), "amy", None, true).await.unwrap();
    assert!(last.lock.fence > old.lock.fence + 3);
    let (a, b) = app.toolbox.remove_stale_locks(app.toolbox.clock().now(), 100).await.unwrap();
    assert_eq!((a, b), (0, 1), "what is held stays; what was released leaves nothing");
    app.advance(3600);
    let (a, _) = app.toolbox.remove_stale_locks(app.toolbox.clock().now(), 100).await.unwrap();
    assert_eq!((a, app.count("SELECT count(*) FROM bgfiles_locks").await), (1, 0));
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_lock_tokens").await, 0);
    assert!(take(&app, &page("a")).await.lock.fence > last.lock.fence);
    assert!(take(&app, &page("never seen")).await.lock.fence > last.lock.fence);
    // By the command line, whose clock is the machine's; and by the cleaner, a day later.
    app.sql("UPDATE bgfiles_locks SET expires_at = '2020-01-01T00:00:00+00:00'").await;
    let mut command = bgfiles();
    let output =
        command.env("DATABASE_URL", &app.url).arg("remove-expired-locks").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Removed 2 expired lock(s).\n");
    take(&app, &page("c")).await;
    app.advance(3600 + 86_400);
    let swept = bgfiles::cleaner::clean(&app.toolbox, &Default::default(), Default::default())
        .await
        .unwrap();
    assert_eq!(swept.iter().find(|swept| swept.name == "locks").unwrap().removed, 1);
}

both!(twenty_threads_and_one_resource);
async fn twenty_threads_and_one_resource(app: TestApp) {
    let holding = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let fences = Arc::new(std::sync::Mutex::new(Vec::new()));
    let each = rounds() / 20;
    let work = (0..20).map(|_| {
        let (toolbox, holding, fences) = (app.toolbox.clone(), holding.clone(), fences.clone());
        tokio::spawn(async move {
            use std::sync::atomic::Ordering::SeqCst;
            let thing = page("one");
            let mut taken = 0;
            while taken < each {
                let Acquired::Held(held) = toolbox.lock(&thing, Ask::default()).await.unwrap()
                else {
                    tokio::task::yield_now().await;
                    continue;
                };
                assert!(!holding.swap(true, SeqCst), "two holders");
                fences.lock().unwrap().push(held.lock.fence);
                tokio::task::yield_now().await;
                assert!(holding.swap(false, SeqCst));
                toolbox.unlock(&thing, &held.token).await.unwrap();
                taken += 1;
            }
        })
    });
    for done in futures::future::join_all(work).await {
        done.unwrap();
    }
    let fences = fences.lock().unwrap();
    assert_eq!(fences.len(), each * 20);
    assert!(fences.windows(2).all(|pair| pair[0] < pair[1]), "fences grow");
}

/// Acquisitions in all; 1,000, as `LOCK_ROUNDS` says.
fn rounds() -> usize {
    std::env::var("LOCK_ROUNDS").map_or(1000, |rounds| rounds.parse().unwrap())
}
