//! Links with a policy: limited, scanner-safe, resumable, receipted.

use std::{process::Command, sync::Arc, time::Duration};

use bgfiles::{
    FileRequest,
    auth_token::Role,
    file_request::links::{Event, Hit, Link, line, store},
    toolbox::{LinkOptions, Redeemer, Visit},
    visitor::Visitor,
};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Caller, TestApp, app, both, eventually};

const HTML: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

/// A site with a link.
struct Site<'a> {
    app: &'a TestApp,
    base: String,
}

impl<'a> Site<'a> {
    async fn new(app: &'a TestApp) -> Site<'a> {
        Site { app, base: format!("http://{}", app.serve().await) }
    }

    fn url(&self, url: &str) -> String {
        url.replace("http://files.example.com", &self.base)
    }

    fn link(&self, row: &FileRequest) -> String {
        self.url(&self.app.toolbox.download_url(row))
    }

    fn at(&self, location: &str) -> String {
        format!("{}{location}", self.base)
    }

    async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Response {
        let request =
            headers.iter().fold(self.app.http.get(url), |r, (name, value)| r.header(*name, *value));
        request.send().await.unwrap()
    }

    async fn post(&self, url: &str, headers: &[(&str, &str)], form: &[(&str, &str)]) -> Response {
        let request = self.app.http.post(url).form(form);
        headers
            .iter()
            .fold(request, |r, (name, value)| r.header(*name, *value))
            .send()
            .await
            .unwrap()
    }

    async fn code(&self, url: &str) -> (u16, String) {
        code(self.get(url, &[]).await).await
    }

    /// Redeems, and answers with the grant's URL.
    async fn redeem(&self, url: &str) -> String {
        let response = self.post(url, &[], &[]).await;
        assert_eq!(response.status(), 303);
        self.at(response.headers()["location"].to_str().unwrap())
    }

    /// What happened, in the order in which each kind of it happened first.
    async fn events(&self, row: &FileRequest) -> Vec<String> {
        let mut tx = self.app.toolbox.db().read().await.unwrap();
        let hits = line::store::hits(&mut tx, row.id, None, None, 200).await.unwrap();
        let events = |hit: bgfiles::file_request::links::HitRow| {
            let event = match hit.reason {
                Some(reason) => format!("{} {reason}", hit.event),
                None => hit.event,
            };
            vec![event; usize::try_from(hit.times).unwrap()]
        };
        hits.into_iter().rev().flat_map(events).collect()
    }

    /// Receipts are written after the answer.
    async fn eventually_events(&self, row: &FileRequest, expected: &[&str]) {
        let mut last = Vec::new();
        for _ in 0..200 {
            last = self.events(row).await;
            if last == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("{last:?} instead of {expected:?}");
    }

    async fn standing(&self, row: &FileRequest) -> Link {
        let mut tx = self.app.toolbox.db().read().await.unwrap();
        store::find(&mut tx, row.link_jti.unwrap()).await.unwrap().unwrap()
    }
}

async fn code(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let (_, body) = app::json(response).await;
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

fn forbidden(code: &str) -> (u16, String) {
    (403, code.to_owned())
}

both!(scanners_use_nothing_up_and_the_person_gets_the_file);
async fn scanners_use_nothing_up_and_the_person_gets_the_file(app: TestApp) {
    let site = Site::new(&app).await;
    let row = app.finished("once", "mib=1").await;
    assert_eq!((row.downloads, row.download_limit), (0, Some(1)));
    app.deliver_notices().await;
    let mail = &app.toolbox.mailer().sent()[0];
    assert!(mail.text.contains("You can download it once."), "{mail:?}");
    let url = site.link(&row);
    // A scanner: HEAD, then GETs, as a browser and as a program.
    let head = app.http.head(&url).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers()["allow"].to_str().unwrap()), (405, "POST"));
    let head = app.http.head(&url).header("accept", HTML).send().await.unwrap();
    assert_eq!(head.status(), 200);
    let page = site.get(&url, &[("accept", HTML)]).await;
    assert_eq!(
        (page.status().as_u16(), page.headers()["cache-control"].to_str().unwrap()),
        (200, "no-store")
    );
    assert!(page.headers().get("set-cookie").is_none());
    let page = page.text().await.unwrap();
    for shown in
        ["once.txt", "1.0 MB", "0 of 1", "2026-03-02 12:00 UTC", "<button", "method=\"post\""]
    {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(!page.contains("<script"), "no script redeems by itself");
    assert_eq!(site.code(&url).await, (405, "confirmation_needed".into()));
    site.get(&url, &[("accept", HTML)]).await;
    assert_eq!(site.standing(&row).await.uses, 0);
    // The person.
    let nonce = page.split("name=\"nonce\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let response = site.post(&url, &[("accept", HTML)], &[("nonce", nonce)]).await;
    assert_eq!(response.status(), 303);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    assert!(location.starts_with("/g/") && location.ends_with("/once.txt"), "{location}");
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(
        cookie.contains("HttpOnly")
            && cookie.contains(&format!("Path={}", url.strip_prefix(&site.base).unwrap())),
        "{cookie}"
    );
    // A second click is the same use.
    let again = site.post(&url, &[], &[("nonce", nonce)]).await;
    assert_eq!(again.headers()["location"].to_str().unwrap(), location);
    let file = site.get(&site.at(&location), &[]).await;
    assert_eq!(file.headers()["content-disposition"], "attachment; filename=\"once.txt\"");
    assert_eq!(file.bytes().await.unwrap().len(), 1 << 20);
    // Nobody else gets it, but this browser can go on.
    assert_eq!(site.code(&url).await, forbidden("link_used_up"));
    assert_eq!(code(site.post(&url, &[], &[]).await).await, forbidden("link_used_up"));
    let jar = cookie.split(';').next().unwrap();
    let page = site.get(&url, &[("accept", HTML), ("cookie", jar)]).await.text().await.unwrap();
    let page = page.replace("&#x2f;", "/");
    assert!(
        page.contains("Download again") && page.contains(&location) && !page.contains("<button"),
        "{page}"
    );
    let resumed = site.post(&url, &[("cookie", jar)], &[]).await;
    assert_eq!(resumed.headers()["location"].to_str().unwrap(), location);
    site.eventually_events(
        &row,
        &[
            "page",
            "page",
            "page",
            "page",
            "page",
            "page",
            "redeemed",
            "complete",
            "denied link_used_up",
            "denied link_used_up",
        ],
    )
    .await;
    let row = app.row(row.id).await;
    assert_eq!(
        json!(bgfiles::file_request::Shown::of(&row, None))["downloads"],
        json!({"count": 1, "limit": 1, "last_at": "2026-03-01T12:00:00Z"})
    );
}

both!(scanner_safe_links_without_a_limit);
async fn scanner_safe_links_without_a_limit(app: TestApp) {
    let site = Site::new(&app).await;
    let row = app.finished("safe", "mib=1").await;
    assert_eq!(row.download_limit, None);
    let url = site.link(&row);
    assert_eq!(site.code(&url).await.0, 405);
    for uses in 1..=3 {
        let grant = site.redeem(&url).await;
        assert_eq!(site.get(&grant, &[]).await.bytes().await.unwrap().len(), 1 << 20);
        assert_eq!(site.standing(&row).await.uses, uses);
    }
    // A link without a policy streams at once, and can be redeemed all the same.
    let row = app.finished("hello", "").await;
    let url = site.link(&row);
    assert_eq!(site.get(&url, &[]).await.status(), 200);
    assert_eq!(site.get(&site.redeem(&url).await, &[]).await.status(), 200);
    site.eventually_events(&row, &["complete", "redeemed", "complete"]).await;
    assert_eq!(app.row(row.id).await.downloads, 2);
}

both!(ranges_under_a_grant_are_one_use);
async fn ranges_under_a_grant_are_one_use(app: TestApp) {
    let site = Site::new(&app).await;
    let row = app.finished("once", "mib=2").await;
    let url = site.link(&row);
    let grant = site.redeem(&url).await;
    let ask = async |range: &str| {
        let response = site.get(&grant, &[("range", range)]).await;
        assert_eq!(response.status(), 206);
        response.bytes().await.unwrap().len()
    };
    let parts = tokio::join!(ask("bytes=0-699999"), ask("bytes=600000-1999999"));
    assert_eq!(parts, (700_000, 1_400_000));
    site.eventually_events(&row, &["redeemed", "range", "range"]).await;
    // Past the end of the link, and of the file's own time: the grant lasts an hour.
    app.advance(86_400 - 10);
    let late = site.redeem(&site.link(&app.finished("once", "mib=1").await)).await;
    assert_eq!(site.code(&grant).await, forbidden("link_expired"), "a day is more than an hour");
    assert_eq!(site.get(&late, &[]).await.status(), 200);
    let row = app.finished("once", "mib=2").await;
    let grant = site.redeem(&site.link(&row)).await;
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let end =
        bgfiles::toolbox::LinkEdit { max_age: Some(Duration::from_secs(60)), ..Default::default() };
    app.toolbox.extend_link(&mut tx, &row, row.link_jti.unwrap(), end).await.unwrap();
    tx.commit().await.unwrap();
    app.advance(3599);
    assert_eq!(site.code(&site.link(&row)).await, forbidden("link_expired"));
    let rest = site.get(&grant, &[("range", "bytes=1000-")]).await;
    assert_eq!(rest.bytes().await.unwrap().len(), (2 << 20) - 1000);
    assert_eq!(
        site.get(&grant, &[("range", "bytes=0-999")]).await.bytes().await.unwrap().len(),
        1000
    );
    site.eventually_events(&row, &["redeemed", "denied link_expired", "range", "complete"]).await;
    app.advance(1);
    assert_eq!(site.code(&grant).await, forbidden("link_expired"));
    // A grant is for the file as it was.
    let row = app.finished("once", "mib=1").await;
    let grant = site.redeem(&site.link(&row)).await;
    app.toolbox.attach_file(row.id, &b"another"[..], Default::default()).await.unwrap();
    assert_eq!(site.code(&grant).await, (410, "file_changed".into()));
    for wrong in ["/g/x/y", "/g/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/x", "/g/%ff/x"] {
        assert_eq!(site.code(&site.at(wrong)).await, (404, "not_found".into()), "{wrong}");
    }
}

both!(links_begin_end_are_extended_revoked_and_sent_again);
async fn links_begin_end_are_extended_revoked_and_sent_again(app: TestApp) {
    let site = Site::new(&app).await;
    let shop = Caller::new(&app, &site.base, "shop", Role::Service).await;
    let row = app.finished("hello", "").await;
    app.deliver_notices().await;
    let path = format!("/api/requests/{}/links", row.id);
    let (status, link) = shop
        .post(&path, json!({"max_uses": 2, "max_age": 600, "not_before": "2026-03-01T12:01:00Z"}))
        .await;
    assert_eq!((status, &link["uses"], &link["scanner_safe"]), (201, &json!(0), &json!(true)));
    let url = site.url(link["url"].as_str().unwrap());
    let one = format!("{path}/{}", link["jti"].as_str().unwrap());
    let post = async || code(site.post(&url, &[], &[]).await).await;
    assert_eq!(post().await, forbidden("link_not_yet_valid"));
    app.advance(60);
    let grant = site.redeem(&url).await;
    // A program that repeats itself.
    let keyed = async || {
        site.post(&url, &[("idempotency-key", "k1")], &[]).await.headers()["location"].clone()
    };
    assert_eq!(keyed().await, keyed().await);
    assert_eq!(post().await, forbidden("link_used_up"));
    let patch = async |body: Value| {
        app::json(shop.call("PATCH", &one).json(&body).send().await.unwrap()).await
    };
    let (status, link) = patch(json!({"max_uses": 3, "max_age": 3600})).await;
    assert_eq!((status, &link["max_uses"], &link["uses"]), (200, &json!(3), &json!(2)));
    site.redeem(&url).await;
    app.advance(3600);
    assert_eq!(post().await, forbidden("link_expired"));
    let (_, link) = patch(json!({"max_uses": null, "max_age": 999_999})).await;
    assert_eq!(link["expires_at"], "2026-03-02T12:00:00Z", "with the file at the latest");
    site.redeem(&url).await;
    let (_, list) = shop.get(&path).await;
    assert_eq!(
        (&list["items"][0]["uses"], &list["items"][0]["last_used_at"]),
        (&json!(4), &json!("2026-03-01T13:01:00Z"))
    );
    // Sent again: another mail, with this link.
    let (status, sent) = shop.post(&format!("{one}/send"), json!({})).await;
    assert_eq!(status, 202);
    assert_eq!(app.deliver_notices().await, 1);
    let mails = app.toolbox.mailer().sent();
    assert_eq!(mails.len(), 2);
    assert!(
        mails[1].message_id.contains(sent["message_id"].as_str().unwrap())
            && !mails[0].message_id.contains(sent["message_id"].as_str().unwrap())
    );
    // Revoked: the link and its grants, at once.
    assert_eq!(shop.call("DELETE", &one).send().await.unwrap().status(), 204);
    assert_eq!(post().await, forbidden("link_revoked"));
    assert_eq!(site.code(&grant).await, forbidden("link_revoked"));
    assert_eq!(shop.post(&format!("{one}/send"), json!({})).await.1["code"], "link_revoked");
    assert_eq!(patch(json!({"max_uses": 9})).await.1["code"], "link_revoked");
    for wrong in [json!({"max_age": 0}), json!({"max_uses": 0}), json!({"odd": 1})] {
        assert_eq!(patch(wrong.clone()).await.0, 422, "{wrong}");
    }
    // The log of the link, and of the request.
    let (_, log) = shop.get(&format!("{one}/log?limit=2")).await;
    assert_eq!(log["items"][0]["reason"], "link_revoked");
    assert_eq!(
        (&log["items"][0]["client_ip"], log["items"].as_array().unwrap().len()),
        (&json!("127.0.0.1"), 2)
    );
    assert!(log["next"].is_string());
    assert_eq!(shop.get(&format!("/api/requests/{}/log", row.id)).await.0, 200);
    let amy = Caller::new(&app, &site.base, "bob", Role::User).await;
    for (method, path) in [
        ("GET", format!("{one}/log")),
        ("PATCH", one.clone()),
        ("POST", format!("{one}/send")),
        ("GET", format!("/api/requests/{}/log", row.id)),
    ] {
        assert_eq!(
            amy.call(method, &path).json(&json!({})).send().await.unwrap().status(),
            404,
            "{method} {path}"
        );
    }
    let mut nobody = TestApp::new_request("hello", "");
    nobody.requester.email = String::new();
    let row = app.add(nobody).await;
    app.dispatch(row.id).await;
    let path = format!("/api/requests/{}/links", row.id);
    let (_, link) = shop.post(&path, json!({})).await;
    let (status, problem) =
        shop.post(&format!("{path}/{}/send", link["jti"].as_str().unwrap()), json!({})).await;
    assert_eq!((status, &problem["code"]), (409, &json!("no_recipient")));
}

both!(a_bound_limited_link_is_for_its_requester_all_the_way);
async fn a_bound_limited_link_is_for_its_requester_all_the_way(app: TestApp) {
    let site = Site::new(&app).await;
    let amy = format!("Token {}", app.user("amy", Role::User).await);
    let bob = format!("Token {}", app.user("bob", Role::Staff).await);
    let mut new = TestApp::new_request("once", "");
    new.requester_only = Some(true);
    let row = app.add(new).await;
    app.dispatch(row.id).await;
    let url = site.link(&app.row(row.id).await);
    for who in [&[][..], &[("authorization", bob.as_str())]] {
        assert_eq!(code(site.post(&url, who, &[]).await).await, forbidden("not_requester"));
    }
    let response = site.post(&url, &[("authorization", &amy)], &[]).await;
    let grant = site.at(response.headers()["location"].to_str().unwrap());
    assert_eq!(site.code(&grant).await, forbidden("not_requester"), "nor does the grant go round");
    assert_eq!(site.get(&grant, &[("authorization", &amy)]).await.status(), 200);
    // A browser that is logged in.
    let session = app.toolbox.begin_session("amy", None).await.unwrap();
    let cookie = format!("bgfiles_session={}", session.expose());
    assert_eq!(site.get(&grant, &[("cookie", &cookie)]).await.status(), 200);
}

both!(another_process_sees_a_revocation_at_once);
async fn another_process_sees_a_revocation_at_once(app: TestApp) {
    let site = Site::new(&app).await;
    let process = crate::support::child::bgfiles()
        .args(["web", "--bind", "127.0.0.1:0"])
        .env("DATABASE_URL", &app.url)
        .env("BGFILES_STORAGE", format!("file://{}", app.files().display()))
        .env("BGFILES_MAIL", "memory:")
        .current_dir(app.dir.path())
        .stderr(std::fs::File::create(app.dir.path().join("web.log")).unwrap())
        .spawn()
        .unwrap();
    let mut process = crate::support::child::Process(process);
    let log = app.dir.path().join("web.log");
    let port = eventually("an address", 20, async || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        let (_, rest) =
            log.lines().find(|line| line.contains("serving"))?.split_once("127.0.0.1:")?;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u16>().ok()
    })
    .await;
    let row = app.finished("hello", "").await;
    app.sql("UPDATE bgfiles_file_requests SET expires_at = NULL").await;
    let row = app.row(row.id).await;
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let options =
        LinkOptions { max_age: Some(Duration::from_secs(86_400 * 3650)), ..Default::default() };
    let (link, url) = app.toolbox.create_link(&mut tx, &row, options).await.unwrap();
    tx.commit().await.unwrap();
    let there = url.replace("http://files.example.com", &format!("http://127.0.0.1:{port}"));
    assert_eq!(site.get(&there, &[]).await.status(), 200);
    let mut tx = app.toolbox.db().begin().await.unwrap();
    app.toolbox.revoke_link(&mut tx, &row, link.jti).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(site.code(&there).await, forbidden("link_revoked"), "with the next request");
    process.signal("TERM");
    assert_eq!(process.wait(20), Some(0));
    // The receipt of a whole file is written behind its answer.
    let mut events = site.events(&row).await;
    events.sort();
    assert_eq!(
        events,
        ["complete", "denied link_revoked"],
        "receipts are written before the process ends"
    );
}

/// Passes connections on, and cuts each after so many bytes of answer.
async fn cutting_proxy(to: String, after: usize) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let server = tokio::net::TcpStream::connect(&to).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let up =
                    tokio::spawn(
                        async move { tokio::io::copy(&mut from_client, &mut to_server).await },
                    );
                let (mut left, mut buffer) = (after, vec![0; 64 * 1024]);
                while left > 0 {
                    match from_server.read(&mut buffer[..left.min(65_536)]).await {
                        Ok(read @ 1..) if to_client.write_all(&buffer[..read]).await.is_ok() => {
                            left -= read
                        }
                        _ => break,
                    }
                }
                up.abort();
            });
        }
    });
    address.to_string()
}

both!(download_managers_finish_over_a_connection_that_is_cut);
async fn download_managers_finish_over_a_connection_that_is_cut(app: TestApp) {
    let site = Site::new(&app).await;
    let proxy = cutting_proxy(site.base.replace("http://", ""), 3 << 20).await;
    for tool in ["curl", "wget", "aria2c"] {
        let row = app.finished("once", "mib=16").await;
        let grant =
            site.redeem(&site.link(&row)).await.replace(&site.base, &format!("http://{proxy}"));
        let dir = tempfile::tempdir().unwrap();
        let args: &[&str] = match tool {
            "curl" => &["-sSf", "-C", "-", "-o", "file"],
            "wget" => &["-q", "-c", "--tries=30", "--waitretry=0", "-O", "file"],
            _ => &["-q", "-x8", "-s8", "-k1M", "--max-tries=30", "--retry-wait=1", "-o", "file"],
        };
        let mut runs = 0;
        loop {
            runs += 1;
            let mut command = Command::new(tool);
            command.args(args).arg(&grant).current_dir(dir.path()).env_remove("http_proxy");
            let ended =
                tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            if ended.status.success() {
                break;
            }
            assert!(runs < 30, "{tool}: {}", String::from_utf8_lossy(&ended.stderr));
        }
        assert!(tool != "curl" || runs > 3, "the connection was cut");
        use sha2::Digest;
        let digest = sha2::Sha256::digest(std::fs::read(dir.path().join("file")).unwrap());
        assert_eq!(Some(bgfiles::ids::hex(&digest)), row.sha256, "{tool}");
        eventually("a receipt of the whole", 10, async || {
            let events = site.events(&row).await;
            let count = |name: &str| events.iter().filter(|e| *e == name).count();
            (count("redeemed") == 1 && count("complete") == 1 && count("range") > 2).then_some(())
        })
        .await;
        assert_eq!(site.standing(&row).await.uses, 1, "{tool}");
    }
}

both!(pieces_that_end_at_the_same_time_make_one_whole);
async fn pieces_that_end_at_the_same_time_make_one_whole(app: TestApp) {
    let row = app.finished("hello", "").await;
    let size = row.size.unwrap();
    for round in 0..60 {
        let mut tx = app.toolbox.db().begin().await.unwrap();
        let options =
            LinkOptions { max_uses: Some(std::num::NonZeroU32::new(1)), ..Default::default() };
        let (link, url) = app.toolbox.create_link(&mut tx, &row, options).await.unwrap();
        tx.commit().await.unwrap();
        let visit: Visit = app.toolbox.visit(url.rsplit('/').next().unwrap(), None).await.unwrap();
        let visitor = Visitor::default();
        let grant = app
            .toolbox
            .redeem(visit, Redeemer { user: None, visitor: &visitor, nonce: None })
            .await
            .unwrap();
        let pieces = (0..4).map(|i| {
            let (from, to) = (size * i / 4, size * (i + 1) / 4);
            let hit = Hit {
                request_id: row.id,
                jti: Some(link.jti),
                grant: Some(grant.hash()),
                event: Event::Range,
                reason: None,
                first_byte: Some(from),
                bytes: Some(to - from),
                visitor: Visitor::default(),
                user: None,
            };
            let toolbox = app.toolbox.clone();
            tokio::spawn(async move { toolbox.record_sent(hit, size).await.unwrap() })
        });
        futures::future::join_all(pieces.collect::<Vec<_>>()).await;
        let whole =
            app.count("SELECT count(*) FROM bgfiles_link_hits WHERE event = 'complete'").await;
        assert_eq!(whole, round + 1);
    }
}

/// 1,000 with `cargo test --release`, or as `REDEEM_ROUNDS` says.
fn rounds() -> usize {
    let by_default = if cfg!(debug_assertions) { 100 } else { 1000 };
    std::env::var("REDEEM_ROUNDS").map_or(by_default, |rounds| rounds.parse().unwrap())
}

both!(of_a_hundred_who_redeem_at_once_three_succeed);
async fn of_a_hundred_who_redeem_at_once_three_succeed(app: TestApp) {
    let row = app.finished("hello", "").await;
    let toolbox = app.toolbox.clone();
    for round in 0..rounds() {
        let mut tx = toolbox.db().begin().await.unwrap();
        let options =
            LinkOptions { max_uses: Some(std::num::NonZeroU32::new(3)), ..Default::default() };
        let (link, url) = toolbox.create_link(&mut tx, &row, options).await.unwrap();
        tx.commit().await.unwrap();
        let token: Arc<str> = url.rsplit('/').next().unwrap().into();
        let redeem = || {
            let (toolbox, token) = (toolbox.clone(), token.clone());
            tokio::spawn(async move {
                let visit: Visit = toolbox.visit(&token, None).await.unwrap();
                let visitor = Visitor::default();
                toolbox
                    .redeem(visit, Redeemer { user: None, visitor: &visitor, nonce: None })
                    .await
                    .is_ok()
            })
        };
        let all: Vec<_> = (0..100).map(|_| redeem()).collect();
        let redeemed = futures::future::join_all(all)
            .await
            .into_iter()
            .filter(|ok| *ok.as_ref().unwrap())
            .count();
        assert_eq!(redeemed, 3, "round {round}");
        let link =
            store::find(&mut toolbox.db().read().await.unwrap(), link.jti).await.unwrap().unwrap();
        assert_eq!(link.uses, 3, "round {round}");
    }
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_link_grants").await, 3 * rounds() as i64);
    assert_eq!(app.row(row.id).await.downloads, 3 * rounds() as i32);
}
