//! Stores that do not answer, and buckets that are not there.

use std::time::{Duration, Instant};

use bgfiles::toolbox::Dispatched;
use serde_json::Value;

use crate::support::{
    TestApp,
    app::{Parts, json},
    both,
    child::{Process, bgfiles},
    eventually, patience,
    proxy::Proxy,
    s3,
};

both!(a_store_that_goes_silent_holds_nothing_up);
async fn a_store_that_goes_silent_holds_nothing_up(app: TestApp) {
    let endpoint = s3::serve(&app.dir.path().join("s3")).await;
    let proxy = Proxy::to(&endpoint).await;
    let storage = s3::patient(&proxy.endpoint, Duration::from_secs(3));
    let app = TestApp::with(app.kind, Parts { storage: Some(storage), ..Parts::default() }).await;
    let site = format!("http://{}", app.serve().await);
    let get = async |path: &str| app.http.get(format!("{site}{path}")).send().await.unwrap();
    let ready = async || {
        let (status, body) = json(get("/readyz").await).await;
        (status, body["storage"].as_str().unwrap().to_owned())
    };
    let (large, small) = (app.finished("big", "mib=18").await, app.finished("hello", "").await);
    assert_eq!(ready().await, (200, "ok".into()));
    proxy.hold(true);
    let begun = Instant::now();
    for row in [&large, &small] {
        let answer = get(&app.link(row)).await;
        assert_eq!(answer.headers()["retry-after"], "5");
        let (status, problem) = json(answer).await;
        assert_eq!((status, &problem["code"]), (503, &Value::from("storage")), "{problem}");
    }
    assert_eq!(ready().await, (503, "failing".into()));
    assert!(begun.elapsed() < patience(Duration::from_secs(15)), "{:?}", begun.elapsed());
    // One by parts and one at once.
    let waiting = [app.request("big", "mib=18").await, app.request("hello", "").await];
    for row in &waiting {
        let begun = Instant::now();
        assert_eq!(app.dispatch(row.id).await, Dispatched::Retrying);
        assert!(begun.elapsed() < patience(Duration::from_secs(15)), "{:?}", begun.elapsed());
    }
    proxy.hold(false);
    app.advance(3600);
    for row in &waiting {
        assert_eq!(app.dispatch(row.id).await, Dispatched::Handled, "well again");
    }
    assert_eq!(get(&app.link(&large)).await.bytes().await.unwrap().len(), 18 << 20);
    assert_eq!(ready().await, (200, "ok".into()));
}

both!(sweeps_end_in_time_though_the_store_is_silent);
async fn sweeps_end_in_time_though_the_store_is_silent(app: TestApp) {
    let proxy = Proxy::to(&s3::serve(&app.dir.path().join("s3")).await).await;
    proxy.hold(true);
    let child = bgfiles()
        .args(["clean", "--every", "1h", "--database-url", &app.url])
        .args(["--storage", "s3://bucket/some/prefix", "--mail", "memory:"])
        .args(["--jobs-dir", app.dir.path().to_str().unwrap()])
        .env("BGFILES_DRAIN", "1")
        .envs(s3::options(&proxy.endpoint, s3::SECRET))
        .spawn()
        .unwrap();
    let mut process = Process(child);
    eventually("it asks the store", 20, async || (proxy.connections() > 0).then_some(())).await;
    process.signal("TERM");
    let ended = tokio::task::spawn_blocking(move || process.wait(10));
    assert_eq!(ended.await.unwrap(), Some(0));
}

both!(a_bucket_that_does_not_exist_is_not_ready);
async fn a_bucket_that_does_not_exist_is_not_ready(app: TestApp) {
    let endpoint = s3::serve(&app.dir.path().join("s3")).await;
    let storage = s3::storage_at(&endpoint, "s3://nowhere/files");
    let error = storage.ping().await.unwrap_err().to_string();
    assert!(error.contains("bucket or container does not exist"), "{error}");
    s3::storage_at(&endpoint, "s3://bucket/never/used").ping().await.unwrap();
    s3::storage_at(&endpoint, "s3://bucket").ping().await.unwrap();
    let app = TestApp::with(app.kind, Parts { storage: Some(storage), ..Parts::default() }).await;
    let ready = app.http.get(format!("http://{}/readyz", app.serve().await)).send().await.unwrap();
    let (status, body) = json(ready).await;
    assert_eq!((status, &body["storage"]), (503, &Value::from("failing")));
    let check = bgfiles()
        .args(["check", "--json", "--database-url", &app.url, "--storage", "s3://nowhere/files"])
        .args(["--jobs-dir", app.dir.path().to_str().unwrap()])
        .envs(s3::options(&endpoint, s3::SECRET))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(!check.status.success() && said.contains("does not exist"), "{said}");
}
