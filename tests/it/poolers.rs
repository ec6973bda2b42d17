//! Revocations behind a pooler that lends its sessions to others, or whatever else loses what the
//! database announces.

use std::time::Duration;

use bgfiles::auth_token::Role;

use crate::support::{
    Caller, Kind, TestApp,
    child::bgfiles,
    eventually,
    postgres_proxy::{Announcements, Proxy},
};

/// The app, and one over the same database by way of a proxy.
async fn behind(announcements: Announcements) -> (TestApp, TestApp, Proxy) {
    let mut app = TestApp::live(Kind::Postgres).await;
    let proxy = Proxy::to(&app.url).await;
    proxy.announcements(announcements);
    let through = proxy.url(&app.url);
    let direct = std::mem::replace(&mut app.url, through);
    let web = app.sibling();
    app.url = direct;
    (app, web, proxy)
}

async fn generation(app: &TestApp) -> Option<u64> {
    app.toolbox.memory().watch.generation().await
}

/// A token that the process has looked up is revoked by another: it is refused with the next call.
async fn is_revoked(app: &TestApp, web: &TestApp, name: &str) {
    let base = format!("http://{}", web.serve().await);
    let amy = Caller::new(web, &base, name, Role::User).await;
    for _ in 0..3 {
        assert_eq!(amy.get("/api/requests").await.0, 200);
    }
    assert!(app.toolbox.revoke_all(name).await.unwrap() > 0);
    assert_eq!(amy.get("/api/requests").await.0, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoked_is_revoked_when_announcements_get_lost() {
    for what in [Announcements::Lost, Announcements::Foreign, Announcements::Late] {
        let (app, web, proxy) = behind(Announcements::Heard).await;
        eventually("announcements are heard", 5, async || generation(&web).await).await;
        is_revoked(&app, &web, "amy").await;
        eventually("announcements are heard", 5, async || generation(&web).await).await;
        proxy.announcements(what);
        // What it heard before counts for two seconds.
        tokio::time::sleep(Duration::from_millis(2600)).await;
        assert_eq!(generation(&web).await, None, "{what:?}");
        is_revoked(&app, &web, "bob").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_shares_sessions_is_told_of() {
    let (app, web, proxy) = behind(Announcements::Lost).await;
    let ready = async |app: &TestApp| {
        let url = format!("http://{}/readyz", app.serve().await);
        let answer = app.http.get(url).send().await.unwrap();
        crate::support::app::json(answer).await
    };
    eventually("it is known", 10, async || {
        let (status, body) = ready(&web).await;
        assert_eq!(status, 200, "{body}");
        body["warnings"][0].as_str()?.contains("a pooler shares the sessions").then_some(())
    })
    .await;
    assert_eq!(ready(&app).await.1["warnings"], serde_json::json!([]));
    is_revoked(&app, &web, "amy").await;
    assert_eq!(generation(&web).await, None);
    for (url, warns) in [(proxy.url(&app.url), true), (app.url.clone(), false)] {
        let storage = app.files().display().to_string();
        let mut check = bgfiles();
        check.env("DATABASE_URL", url).env("BGFILES_STORAGE", storage).args([
            "check",
            "--jobs-dir",
            "/nonexistent",
        ]);
        let said = check.output().unwrap();
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.contains("warning: a pooler shares the sessions"), warns, "{said}");
    }
}
