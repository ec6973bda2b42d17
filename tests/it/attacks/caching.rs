//! A caching proxy in front: nginx, told to keep whatever it may. What is somebody's own is never
//! what somebody else gets.

use std::net::SocketAddr;

use bgfiles::{auth_token::Role, toolbox::LinkOptions, web::routes};
use http::Method;
use serde_json::json;

use super::{Nginx, sessions::address};
use crate::support::{Caller, TestApp, both};

/// Keeps every answer for ten minutes, by its address alone, unless the answer says otherwise.
const KEEP: &str = "proxy_cache cache; proxy_cache_key $request_uri; proxy_cache_valid any 10m; \
    proxy_cache_methods GET HEAD; add_header X-Cache $upstream_cache_status always;";

struct Site {
    nginx: Nginx,
    base: String,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn new(to: SocketAddr) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let nginx = Nginx::start(folder.path(), to, KEEP).await;
        Site { base: format!("http://{}", nginx.address), nginx, _folder: folder }
    }
}

fn cache(response: &reqwest::Response) -> String {
    let seen = response.headers().get("x-cache").map(|value| value.to_str().unwrap().to_owned());
    seen.expect("it came through nginx")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_does_cache() {
    // Without this, nothing here says anything.
    let router =
        axum::Router::new().route("/", axum::routing::get(async || "the same for everybody"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = Site::new(listener.local_addr().unwrap()).await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    for expected in ["MISS", "HIT", "HIT"] {
        assert_eq!(cache(&reqwest::get(&site.base).await.unwrap()), expected);
    }
    // By whomever it is asked for.
    let known = reqwest::Client::new()
        .get(&site.base)
        .header("authorization", "Token x")
        .header("cookie", "a=b");
    assert_eq!(cache(&known.send().await.unwrap()), "HIT");
}

both!(private_downloads_behind_a_caching_proxy);
async fn private_downloads_behind_a_caching_proxy(app: TestApp) {
    let site = Site::new(app.serve().await).await;
    let amy = Caller::new(&app, &site.base, "amy", Role::User).await;
    let bob = Caller::new(&app, &site.base, "bob", Role::Staff).await;
    let session = app.toolbox.begin_session("amy", None).await.unwrap();
    let mut new = TestApp::new_request("hello", "name=Amy");
    new.requester_only = Some(true);
    let row = app.add(new).await;
    app.dispatch(row.id).await;
    let row = app.row(row.id).await;
    // Bound to her: by token and by session, whole and in part; then by others.
    let url = format!("{}{}", site.base, app.link(&row));
    let theirs = |request: reqwest::RequestBuilder| async move { request.send().await.unwrap() };
    for method in [Method::GET, Method::HEAD] {
        let ask = || app.http.request(method.clone(), &url);
        for _ in 0..2 {
            for request in [
                ask().header("authorization", format!("Token {}", amy.secret)),
                ask().header("cookie", format!("bgfiles_session={}", session.expose())),
                ask()
                    .header("authorization", format!("Token {}", amy.secret))
                    .header("range", "bytes=0-3"),
            ] {
                let answer = theirs(request).await;
                assert!([200, 206].contains(&answer.status().as_u16()));
                assert_ne!(cache(&answer), "HIT");
                let control = answer.headers()["cache-control"].to_str().unwrap();
                assert!(control.contains("private") && control.contains("no-store"), "{control}");
            }
            for (request, status) in [
                (ask(), 403),
                (ask().header("authorization", format!("Token {}", bob.secret)), 403),
                (ask().header("range", "bytes=0-3"), 403),
                (ask().header("authorization", "Token bgf_wrong"), 401),
                (
                    ask()
                        .header("if-none-match", format!("\"{}\"", row.sha256.as_deref().unwrap())),
                    403,
                ),
            ] {
                let answer = theirs(request).await;
                assert_eq!(answer.status(), status);
                assert!(!answer.text().await.unwrap().contains("Amy"));
            }
        }
    }
    // For whoever has it, until it is taken back.
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let options =
        LinkOptions { requester_only: Some(false), role: Role::Service, ..LinkOptions::default() };
    let (link, url) = app.toolbox.create_link(&mut tx, &row, options).await.unwrap();
    tx.commit().await.unwrap();
    let url = url.replace("http://files.example.com", &site.base);
    for _ in 0..3 {
        let answer = theirs(app.http.get(&url)).await;
        assert_eq!((answer.status().as_u16(), cache(&answer).as_str()), (200, "MISS"));
    }
    let mut tx = app.toolbox.db().begin().await.unwrap();
    app.toolbox.revoke_link(&mut tx, &row, link.jti).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(theirs(app.http.get(&url)).await.status(), 403);
    // A grant, until its time is over.
    let once = app.finished("once", "").await;
    let url = format!("{}{}", site.base, app.link(&once));
    let redeemed = theirs(app.http.post(&url)).await;
    let grant = format!("{}{}", site.base, redeemed.headers()["location"].to_str().unwrap());
    assert_eq!(theirs(app.http.get(&grant)).await.status(), 200);
    app.advance(3601);
    assert!(theirs(app.http.get(&grant)).await.status().is_client_error());
    // A refusal is not kept for whom it does not concern.
    let late = app.request("hello", "").await;
    let url = format!("{}{}", site.base, app.link(&late));
    assert_eq!(theirs(app.http.get(&url)).await.status(), 404);
    app.dispatch(late.id).await;
    assert_eq!(theirs(app.http.get(&url)).await.status(), 200);
    assert!(site.nginx.address.port() > 0);
}

both!(nothing_of_ours_is_kept_by_a_shared_cache);
async fn nothing_of_ours_is_kept_by_a_shared_cache(app: TestApp) {
    let site = Site::new(app.serve().await).await;
    let root = Caller::new(&app, &site.base, "root", Role::Staff).await;
    let amy = Caller::new(&app, &site.base, "amy", Role::User).await;
    let row = app.finished("hello", "").await;
    let mut asked = 0;
    for (method, route) in routes() {
        if method != Method::GET || route.contains("events") {
            continue;
        }
        let path = address(&route, &row.id.to_string());
        for accept in ["text/html", "application/json"] {
            let first = root.call("GET", &path).header("accept", accept).send().await.unwrap();
            let again = root.call("GET", &path).header("accept", accept).send().await.unwrap();
            let (first, again) = (cache(&first), cache(&again));
            assert!(first != "HIT" && again != "HIT", "{route} {accept}: {first} {again}");
        }
        asked += 1;
    }
    assert!(asked > 30, "only {asked}");
    // By name: what one sees in the API, another does not.
    let (_, all) = root.get("/api/requests").await;
    assert_eq!(all["items"].as_array().unwrap().len(), 1);
    app.add({
        let mut new = TestApp::new_request("hello", "");
        new.requester.id = Some("bob".into());
        new
    })
    .await;
    assert_eq!(root.get("/api/requests").await.1["items"].as_array().unwrap().len(), 2);
    assert_eq!(amy.get("/api/requests").await.1["items"].as_array().unwrap().len(), 1);
    let nobody = app.http.get(format!("{}/api/requests", site.base)).send().await.unwrap();
    assert_eq!(nobody.status(), 401);
    // An export in the answer itself.
    let now = json!({"file_type": "hello", "deliver": "now"});
    let answer = root.call("POST", "/api/requests").json(&now).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "private, no-store, no-transform");
}
