//! `lock_tokens.js` in a real browser.

use std::time::Duration;

use axum::{Router, extract::Path, http::header, response::Html, routing::get};
use bgfiles::{
    Clock,
    auth_token::Role,
    lock_token::{Ask, Held, Lock, Resource, Settings},
    web::{WebState, router, server},
};
use serde_json::{Value, json};

use crate::support::{
    Kind, TestApp,
    app::Parts,
    both,
    chrome::{Browser, Chrome},
    eventually,
};

const PAGE: &str = r#"<!doctype html><title>edit</title>
<script>
  window.events = [];
  for (const name of ["clientready", "lost", "relocked"]) {
    document.addEventListener("lock_tokens." + name, () => window.events.push(name));
  }
  const clock = new URLSearchParams(location.search).get("clock");
  if (clock) { const now = Date.now; Date.now = () => now() + Number(clock); }
</script>
<script type="module" src="/lock_tokens/lock_tokens.js"></script>"#;

/// A site with pages that lock, and somebody to look at it.
struct Site {
    app: TestApp,
    base: String,
    chrome: Chrome,
}

impl Site {
    async fn new(kind: Kind, timeout: u64) -> Site {
        let locks = Settings {
            timeout: Duration::from_secs(timeout),
            resources: ["cms/*".to_owned()].into(),
            // What no browser understands.
            dateformat: "%Y%m%d%H%M%S".into(),
            ..Settings::default()
        };
        let app =
            TestApp::with(kind, Parts { clock: Clock::system(), locks, ..Parts::default() }).await;
        for name in ["amy", "bob"] {
            app.add_user(name, Role::User, None).await;
        }
        let toolbox = app.toolbox.clone();
        let enter = move |Path(name): Path<String>| {
            let toolbox = toolbox.clone();
            async move {
                let session = toolbox.begin_session(&name, None).await.unwrap();
                [(header::SET_COOKIE, format!("bgfiles_session={}; Path=/", session.expose()))]
            }
        };
        let host = Router::new()
            .route("/enter/{name}", get(enter))
            .route("/edit", get(async || Html(PAGE)))
            .merge(router(WebState::new(app.toolbox.clone())));
        let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(server::serve(listener, host, Default::default(), app.stop.clone()));
        Site { app, base, chrome: Chrome::start() }
    }

    /// A browser of somebody, on the page.
    async fn visit(&self, name: &str, query: &str) -> Browser {
        let browser = self.chrome.open().await;
        browser.goto(&format!("{}/enter/{name}", self.base)).await;
        browser.goto(&format!("{}/edit{query}", self.base)).await;
        self.ready(&browser).await;
        browser
    }

    async fn ready(&self, browser: &Browser) {
        eventually("the client is ready", 10, async || {
            (browser.run("return window.events.includes('clientready')").await == true)
                .then_some(())
        })
        .await;
    }

    fn home(&self) -> Resource {
        Resource::new("cms", "page", "home").unwrap()
    }

    async fn lock(&self) -> Option<Lock> {
        self.app.toolbox.lock_on(&self.home()).await.unwrap()
    }

    async fn free(&self, what: &str) {
        eventually(what, 5, async || self.lock().await.is_none().then_some(())).await;
    }

    /// Somebody else's program takes the lock.
    async fn take(&self) -> Held {
        self.app.toolbox.lock(&self.home(), Ask::default()).await.unwrap().held().unwrap()
    }
}

both!(methods_callbacks_and_promises);
async fn methods_callbacks_and_promises(app: TestApp) {
    let site = Site::new(app.kind, 3600).await;
    let amy = site.visit("amy", "").await;
    let bob = site.visit("bob", "").await;
    let token = amy.run(
        "const called = await new Promise((done) => LockTokens.lock('cms', 'page', 'home', done)); \
         window.token = called; \
         const left = called.get_expiration_date() - Date.now(); \
         return [called.get_token().length, called.fence, called.owner, left > 3590000 && left <= 3600000]",
    ).await;
    assert_eq!(token, json!([32, 1, "amy", true]));
    let refused = bob
        .run(
            "const token = await LockTokens.lock('cms', 'page', 'home'); \
         return [token, LockTokens.error.status, LockTokens.error.owner]",
        )
        .await;
    assert_eq!(refused, json!([null, 409, "amy"]));
    let rest = amy.run(
        "const same = await LockTokens.renew_lock('cms', 'page', 'home'); \
         const other = new lock_tokens.LockTokens({ base_api_url: '/lock_tokens' }); \
         const registered = await other.register_existing_lock_token('cms', 'page', 'home', token.get_token()); \
         const unknown = await other.register_existing_lock_token('cms', 'page', 'home', 'x'); \
         const nothing = [await LockTokens.unlock('cms', 'page', 'x'), await LockTokens.renew_lock('cms', 'page', 'x')]; \
         await LockTokens.lock('cms', 'page', 7); \
         const cleared = await new Promise((done) => LockTokens.clear_all_locks(() => done('cleared'))); \
         await LockTokens.clear_all_locks(); \
         return [same === token, registered.get_token() === token.get_token(), unknown, nothing, cleared, events]",
    ).await;
    assert_eq!(rest, json!([true, true, null, [false, null], "cleared", ["clientready"]]));
    site.free("everything is let go").await;
    let bobs = bob.run("return (await LockTokens.lock('cms', 'page', 'home')).fence").await;
    assert_eq!(bobs, 2);
    assert_eq!(bob.run("return LockTokens.unlock('cms', 'page', 'home')").await, true);
}

both!(what_is_not_waited_for_happens_in_order);
async fn what_is_not_waited_for_happens_in_order(app: TestApp) {
    let site = Site::new(app.kind, 4).await;
    let amy = site.visit("amy", "").await;
    let last = amy.run(
        "const args = ['cms', 'page', 'home']; \
         LockTokens.hold_lock(...args); LockTokens.unlock(...args); \
         const [a, b] = await Promise.all([LockTokens.hold_lock(...args), LockTokens.hold_lock(...args)]); \
         const c = await LockTokens.lock(...args); \
         return [a === b, b === c, c.get_token()]",
    ).await;
    assert_eq!((&last[0], &last[1]), (&json!(true), &json!(true)), "one token a page");
    let held = site.app.toolbox.held_lock(&site.home(), last[2].as_str().unwrap()).await.unwrap();
    assert_eq!(held.lock.owner.as_deref(), Some("amy"));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(site.lock().await.map(|lock| lock.fence), Some(held.lock.fence), "it is held");
    // A lock that is broken is lost.
    site.app.sql("DELETE FROM bgfiles_lock_tokens").await;
    site.app.sql("UPDATE bgfiles_locks SET owner = 'bob', session = NULL, expires_at = '2099-01-01T00:00:00+00:00', fence = fence + 1").await;
    eventually("the page is told", 5, async || {
        (amy.run("return events.includes('lost')").await == true).then_some(())
    })
    .await;
}

both!(a_page_that_comes_back_has_its_lock_again);
async fn a_page_that_comes_back_has_its_lock_again(app: TestApp) {
    let site = Site::new(app.kind, 3600).await;
    let amy = site.visit("amy", "").await;
    amy.run("await LockTokens.hold_lock('cms', 'page', 'home')").await;
    // What a browser does that keeps the page: it hides it and shows it again.
    amy.run("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))").await;
    site.free("it is let go").await;
    amy.run("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))").await;
    let lock = eventually("it is locked again", 5, async || site.lock().await).await;
    assert_eq!((lock.owner.as_deref(), lock.fence), (Some("amy"), 2));
}

both!(a_lock_is_held_as_long_as_the_page_is_there);
async fn a_lock_is_held_as_long_as_the_page_is_there(app: TestApp) {
    let site = Site::new(app.kind, 4).await;
    // This machine's clock is ten years ahead.
    let amy = site.visit("amy", "?clock=315360000000").await;
    assert_eq!(
        amy.run("return (await LockTokens.hold_lock('cms', 'page', 'home')).owner").await,
        "amy"
    );
    for _ in 0..24 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert!(site.lock().await.is_some());
    }
    assert_eq!(site.lock().await.unwrap().fence, 1);
    // A reload gives it back and gets it again; leaving lets go at once.
    amy.0.refresh().await.unwrap();
    site.ready(&amy).await;
    assert_eq!(
        amy.run("return (await LockTokens.hold_lock('cms', 'page', 'home')).owner").await,
        "amy"
    );
    amy.goto("about:blank").await;
    eventually("it is let go", 2, async || site.lock().await.is_none().then_some(())).await;
}

both!(bug_2_tabs_share);
async fn bug_2_tabs_share(app: TestApp) {
    let site = Site::new(app.kind, 3600).await;
    let amy = site.visit("amy", "").await;
    amy.run("await LockTokens.hold_lock('cms', 'page', 'home')").await;
    let first = amy.0.window().await.unwrap();
    let second = amy.0.new_window(true).await.unwrap().handle;
    amy.0.switch_to_window(second).await.unwrap();
    amy.goto(&format!("{}/edit", site.base)).await;
    site.ready(&amy).await;
    assert_eq!(
        amy.run("return (await LockTokens.hold_lock('cms', 'page', 'home')).fence").await,
        1,
        "shared"
    );
    let bob = site.visit("bob", "").await;
    assert_eq!(bob.run("return LockTokens.lock('cms', 'page', 'home')").await, Value::Null);
    amy.0.close_window().await.unwrap();
    amy.0.switch_to_window(first).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(site.lock().await.is_some(), "the other tab has it");
    amy.goto("about:blank").await;
    site.free("the last tab let go").await;
    assert_ne!(bob.run("return LockTokens.lock('cms', 'page', 'home')").await, Value::Null);
}

both!(sleep_and_loss);
async fn sleep_and_loss(app: TestApp) {
    let site = Site::new(app.kind, 3).await;
    let amy = site.visit("amy", "").await;
    // Asleep: no timer fires.
    let sleep = "window.timer = window.setTimeout; window.setTimeout = () => 0; \
                 return (await LockTokens.hold_lock('cms', 'page', 'home')).owner";
    assert_eq!(amy.run(sleep).await, "amy");
    site.free("its time is over").await;
    // Awake: the lock is renewed at once, as nobody took it.
    amy.run("window.setTimeout = window.timer; dispatchEvent(new Event('focus'))").await;
    let lock = eventually("it is renewed", 5, async || site.lock().await).await;
    assert_eq!((lock.owner.as_deref(), lock.fence), (Some("amy"), 1));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(site.lock().await.is_some(), "and goes on being held");
    // Taken and let go while the page slept: it holds again, and is told that it did not.
    amy.run("window.timer = window.setTimeout; window.setTimeout = () => 0").await;
    site.free("its time is over").await;
    let taken = site.take().await;
    site.app.toolbox.unlock(&site.home(), &taken.token).await.unwrap();
    assert_eq!(amy.run("return events.includes('relocked')").await, false);
    amy.run("window.setTimeout = window.timer; dispatchEvent(new Event('focus'))").await;
    eventually("the page is told", 5, async || {
        (amy.run("return events.includes('relocked')").await == true).then_some(())
    })
    .await;
    assert!(site.lock().await.unwrap().fence > taken.lock.fence);
    // Asleep again, and somebody takes it.
    amy.run("window.timer = window.setTimeout; window.setTimeout = () => 0").await;
    site.free("its time is over").await;
    let taken = site.take().await;
    amy.run("window.setTimeout = window.timer; dispatchEvent(new Event('online'))").await;
    eventually("the page is told", 5, async || {
        (amy.run("return events.includes('lost')").await == true).then_some(())
    })
    .await;
    assert_eq!(site.lock().await.unwrap().fence, taken.lock.fence, "and takes nothing back");
}

both!(hold_lock_outlasts_a_server_that_is_away);
async fn hold_lock_outlasts_a_server_that_is_away(app: TestApp) {
    let site = Site::new(app.kind, 4).await;
    let amy = site.visit("amy", "").await;
    let away = "await LockTokens.hold_lock('cms', 'page', 'home'); \
                window.real = window.fetch; window.failed = 0; \
                window.fetch = async () => { window.failed++; throw new TypeError('away') }";
    amy.run(away).await;
    eventually("it tried", 8, async || (amy.run("return failed > 1").await == true).then_some(()))
        .await;
    amy.run("window.fetch = window.real").await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(site.lock().await.map(|lock| lock.fence), Some(1), "long past its first end");
}
