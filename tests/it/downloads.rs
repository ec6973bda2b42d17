//! `GET /d/{token}` over a real connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bgfiles::{
    Error, FileRequest, Toolbox, cleaner,
    config::Serve,
    file_request::links::{Event, Hit, Link, line},
    toolbox::{LinkEdit, LinkOptions, Opened},
    visitor::Visitor,
    web::{WebState, server},
};
use http::StatusCode;
use serde_json::Map;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{
    TestApp,
    app::{Parts, json},
    both, eventually, s3,
};

struct Site<'a> {
    app: &'a TestApp,
    base: String,
}

impl<'a> Site<'a> {
    async fn new(app: &'a TestApp) -> Site<'a> {
        Site { app, base: format!("http://{}", app.serve().await) }
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let request = self.app.http.get(format!("{}{path}", self.base));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    async fn answer(
        &self,
        row: &FileRequest,
        headers: &[(&str, &str)],
    ) -> (StatusCode, http::HeaderMap, Vec<u8>) {
        let response = self.get(&self.app.link(row), headers).send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        (status, headers, response.bytes().await.unwrap().to_vec())
    }
}

both!(the_file_with_its_headers);
async fn the_file_with_its_headers(app: TestApp) {
    let site = Site::new(&app).await;
    let row = app.finished("hello", "name=Amy").await;
    let (status, headers, body) = site.answer(&row, &[]).await;
    assert_eq!((status, body.as_slice()), (StatusCode::OK, b"hello Amy in en UTC\n".as_slice()));
    let expected = [
        ("content-type", "text/plain"),
        ("content-length", "20"),
        ("content-disposition", "attachment; filename=\"hello.txt\""),
        ("accept-ranges", "bytes"),
        ("last-modified", "Sun, 01 Mar 2026 12:00:00 GMT"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "private, no-store, no-transform"),
        ("content-security-policy", "default-src 'none'; sandbox"),
    ];
    for (name, value) in expected {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(headers["etag"], format!("\"{}\"", row.sha256.as_deref().unwrap()));
    let head = app.http.head(format!("{}{}", site.base, app.link(&row))).send().await.unwrap();
    for name in ["content-length", "etag", "last-modified", "content-disposition"] {
        assert_eq!(head.headers()[name], headers[name], "{name}");
    }
    assert!(head.bytes().await.unwrap().is_empty());
}

both!(ranges_and_conditions);
async fn ranges_and_conditions(app: TestApp) {
    let site = Site::new(&app).await;
    let row = app.finished("big", "mib=1").await;
    let whole = site.answer(&row, &[]).await.2;
    assert_eq!(whole.len(), 1 << 20);
    let shown = site.answer(&row, &[]).await.1;
    assert_eq!(shown["content-disposition"], "inline; filename=\"big.txt\"");
    let etag = format!("\"{}\"", row.sha256.as_deref().unwrap());
    let (size, date) = (whole.len(), "Sun, 01 Mar 2026 12:00:00 GMT");
    let parts = [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=1048570-", 1048570, size),
        ("bytes=-10", size - 10, size),
        ("bytes=-9999999", 0, size),
        ("bytes=1048000-99999999", 1048000, size),
        ("bytes=300000-900000", 300000, 900001),
    ];
    for (range, from, to) in parts {
        let (status, headers, body) = site.answer(&row, &[("range", range)]).await;
        assert_eq!(status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(headers["content-range"], format!("bytes {from}-{}/{size}", to - 1));
        assert!(body == whole[from..to], "{range}");
    }
    for range in ["bytes=1048576-", "bytes=-0", "bytes=99999999999999999999999-"] {
        let (status, headers, _) = site.answer(&row, &[("range", range)]).await;
        assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        assert_eq!(headers["content-range"], format!("bytes */{size}"));
    }
    for range in
        ["bytes=0-1,5-6", "lines=1-2", "bytes=9-2", "bytes=a-b", "bytes", "bytes=-", "bytes=+1-2"]
    {
        assert_eq!(site.answer(&row, &[("range", range)]).await.0, StatusCode::OK, "{range}");
    }
    // Dates count once their second is over.
    app.advance(1);
    let weak = format!("W/{etag}");
    let (partial, full) = (StatusCode::PARTIAL_CONTENT, StatusCode::OK);
    for (validator, expected) in [
        (etag.as_str(), partial),
        (date, partial),
        ("\"other\"", full),
        (weak.as_str(), full),
        ("Sun, 01 Mar 2026 11:59:59 GMT", full),
        ("nonsense", full),
    ] {
        let answer = site.answer(&row, &[("range", "bytes=0-3"), ("if-range", validator)]).await;
        assert_eq!(answer.0, expected, "{validator}");
    }
    let several = format!("\"x\", {weak}");
    let (not_modified, failed) = (StatusCode::NOT_MODIFIED, StatusCode::PRECONDITION_FAILED);
    let conditions: [(&[(&str, &str)], StatusCode); 10] = [
        (&[("if-none-match", &etag)], not_modified),
        (&[("if-none-match", &several)], not_modified),
        (&[("if-none-match", "*")], not_modified),
        (&[("if-none-match", "\"x\""), ("if-modified-since", date)], full),
        (&[("if-modified-since", date)], not_modified),
        (&[("if-modified-since", "Sun, 01 Mar 2026 11:00:00 GMT")], full),
        (&[("if-match", "\"x\"")], failed),
        (&[("if-match", &weak)], failed),
        (&[("if-match", &etag)], full),
        (&[("if-unmodified-since", "Sun, 01 Mar 2026 11:00:00 GMT")], failed),
    ];
    for (headers, expected) in conditions {
        let (status, _, body) = site.answer(&row, headers).await;
        assert_eq!(status, expected, "{headers:?}");
        assert!(status == full || body.is_empty());
    }
}

both!(an_interrupted_download_resumes);
async fn an_interrupted_download_resumes(app: TestApp) {
    let site = Site::new(&app).await;
    let row = app.finished("big", "mib=3").await;
    let first = site.answer(&row, &[("range", "bytes=0-1500000")]).await.2;
    let etag = format!("\"{}\"", row.sha256.as_deref().unwrap());
    let rest = site.answer(&row, &[("range", "bytes=1500001-"), ("if-range", &etag)]).await.2;
    use sha2::Digest;
    let digest = sha2::Sha256::digest([first, rest].concat());
    assert_eq!(Some(bgfiles::ids::hex(&digest)), row.sha256);
}

both!(refusals_are_problems_for_programs_and_pages_for_people);
async fn refusals_are_problems_for_programs_and_pages_for_people(app: TestApp) {
    let site = Site::new(&app).await;
    let check = async |path: String, status: u16, code: &str| {
        let response = site.get(&path, &[]).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let (found, body) = json(response).await;
        assert_eq!((found, body["code"].as_str()), (status, Some(code)), "{body}");
        assert_eq!(body["status"], status);
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let page = site.get(&path, &[("accept", browser)]).send().await.unwrap();
        assert_eq!(page.status().as_u16(), status);
        assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
        assert!(
            page.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("default-src 'none'")
        );
        assert!(page.text().await.unwrap().contains("<h1>"));
    };
    check("/d/nonsense".into(), 400, "bad_token").await;
    check("/d/%00%ff".into(), 400, "bad_token").await;
    let row = app.finished("hello", "").await;
    check(format!("{}a", app.link(&row)), 400, "bad_token").await;
    let pending = app.request("hello", "").await;
    check(app.link(&pending), 404, "file_not_ready").await;
    let bound = format!("/d/{}", app.toolbox.create_token(&row, Map::new()).unwrap());
    check(bound, 403, "not_requester").await;
    let old = app.link(&row);
    app.advance(80_000);
    let late = app.link(&row);
    app.advance(6_400);
    check(late, 410, "file_expired").await;
    app.advance(1);
    check(old, 403, "link_expired").await;
    let row = app.finished("hello", "").await;
    let gone = app.link(&row);
    app.toolbox.delete(row.id).await.unwrap();
    check(gone, 404, "not_found").await;
    check("/nowhere".into(), 404, "not_found").await;
}

both!(a_bound_link_is_for_its_requester);
async fn a_bound_link_is_for_its_requester(app: TestApp) {
    let site = Site::new(&app).await;
    let amy = app.user("amy", bgfiles::auth_token::Role::User).await;
    let bob = app.user("bob", bgfiles::auth_token::Role::Staff).await;
    let mut new = TestApp::new_request("hello", "");
    new.requester_only = Some(true);
    let row = app.add(new).await;
    app.dispatch(row.id).await;
    let row = app.row(row.id).await;
    let with = async |secret: &str| {
        site.answer(&row, &[("authorization", &format!("Token {secret}"))]).await.0
    };
    assert_eq!(with(&amy).await, StatusCode::OK);
    assert_eq!(with(&bob).await, StatusCode::FORBIDDEN);
    assert_eq!(with("bgf_wrong").await, StatusCode::UNAUTHORIZED);
    assert_eq!(site.answer(&row, &[]).await.0, StatusCode::FORBIDDEN);
}

both!(a_front_server_can_send_the_bytes);
async fn a_front_server_can_send_the_bytes(app: TestApp) {
    let row = app.finished("hello", "").await;
    let key = row.storage_key.clone().unwrap();
    for (serve, header, expected) in [
        (Serve::XAccel("/internal/".into()), "x-accel-redirect", format!("/internal/{key}")),
        (Serve::XSendfile, "x-sendfile", app.files().join(&key).display().to_string()),
    ] {
        let url = format!("http://{}{}", app.serve_as(serve).await, app.link(&row));
        let response = app.http.get(url).send().await.unwrap();
        assert_eq!(response.headers()[header], expected);
        assert_eq!(response.headers()["content-disposition"], "attachment; filename=\"hello.txt\"");
        assert!(response.bytes().await.unwrap().is_empty());
    }
}

both!(a_file_that_is_cut_short_breaks_the_connection);
async fn a_file_that_is_cut_short_breaks_the_connection(app: TestApp) {
    let site = Site::new(&app).await;
    let row = app.finished("big", "mib=64").await;
    let path = app.files().join(row.storage_key.as_deref().unwrap());
    let cut =
        || std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(48 << 20).unwrap();
    let response = site.get(&app.link(&row), &[]).send().await.unwrap();
    assert_eq!(response.content_length(), Some(64 << 20));
    cut();
    assert!(response.bytes().await.is_err(), "never a clean short end");
    assert_eq!(site.answer(&row, &[]).await.0, StatusCode::GONE);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(site.answer(&row, &[]).await.0, StatusCode::GONE);
}

/// What may be wrong with the row of a finished request.
const WRONG: [&str; 10] = [
    "UPDATE bgfiles_file_requests SET size = NULL",
    "UPDATE bgfiles_file_requests SET size = 0",
    "UPDATE bgfiles_file_requests SET size = -1",
    "UPDATE bgfiles_file_requests SET size = size - 1",
    "UPDATE bgfiles_file_requests SET size = size + 1",
    "UPDATE bgfiles_file_requests SET size = 100000",
    "UPDATE bgfiles_file_requests SET sha256 = NULL",
    "UPDATE bgfiles_file_requests SET storage_key = NULL",
    "UPDATE bgfiles_file_requests SET storage_key = 'exports/2026/11/report.csv'",
    "UPDATE bgfiles_file_requests SET storage_key = 'requests/6f8ac0ea-2a0c-4d6c-9d0c-6b1d2f6a5d10/1'",
];

both!(nothing_is_served_empty_or_cut_with_200);
async fn nothing_is_served_empty_or_cut_with_200(app: TestApp) {
    let endpoint = s3::serve(&app.dir.path().join("s3")).await;
    let bucket = s3::storage(&endpoint, s3::SECRET);
    for storage in [None, Some(bucket)] {
        let (kind, is_folder) = (app.kind, storage.is_none());
        let app = TestApp::with(kind, Parts { storage, ..Parts::default() }).await;
        let site = Site::new(&app).await;
        let lost = async |row: &FileRequest, what: &str| {
            let url = app.link(row);
            for range in ["", "bytes=0-3", "bytes=5-", "bytes=-4"] {
                let headers = [("range", range)];
                let answer = site
                    .get(&url, &headers[..usize::from(!range.is_empty())])
                    .send()
                    .await
                    .unwrap();
                let (status, body) = json(answer).await;
                // Of a file that is said to be empty no range is to be had.
                if status != 416 || !(what.ends_with("size = 0") || row.size == Some(0)) {
                    assert_eq!(
                        (status, body["code"].as_str()),
                        (410, Some("file_lost")),
                        "{what}, {range}: {body}"
                    );
                }
            }
            let head = app.http.head(format!("{}{url}", site.base)).send().await.unwrap();
            assert_eq!(head.status(), StatusCode::GONE, "{what}");
        };
        for wrong in WRONG {
            let row = app.finished("hello", "").await;
            app.sql(wrong).await;
            lost(&row, wrong).await;
        }
        let (gone, empty) = (app.finished("hello", "").await, app.finished("big", "mib=0").await);
        for row in [&gone, &empty] {
            let key = row.storage_key.as_deref().unwrap().parse().unwrap();
            if row.id == empty.id {
                let (status, _, body) = site.answer(row, &[]).await;
                assert_eq!((status, body.len()), (StatusCode::OK, 0), "nothing is what was made");
            }
            app.toolbox.storage().delete(key).await.unwrap();
            lost(row, "the object is gone").await;
        }
        // Of the cleaner they are requests like others, and what is not ours stays.
        let elses = app.files().join("exports/2026/11/report.csv");
        if is_folder {
            std::fs::create_dir_all(elses.parent().unwrap()).unwrap();
            std::fs::write(&elses, "somebody's").unwrap();
        }
        app.sql("UPDATE bgfiles_file_requests SET expires_at = '2020-01-01T00:00:00+00:00'").await;
        let swept =
            cleaner::clean(&app.toolbox, &Default::default(), Default::default()).await.unwrap();
        assert_eq!((swept[0].removed, swept[0].failed), (WRONG.len() as u64 + 2, 0));
        assert!(!is_folder || elses.exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_idle_connections_are_closed() {
    let app = TestApp::new(crate::support::Kind::Sqlite).await;
    let limits = server::Limits {
        header: Duration::from_secs(1),
        write: Duration::from_secs(2),
        drain: Duration::from_secs(1),
    };
    let address = app.serve_with(WebState::new(app.toolbox.clone()), limits).await;
    let closed = async |first: &str| {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(first.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        tokio::time::timeout(Duration::from_secs(20), read).await.is_ok()
    };
    assert!(closed("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ").await, "half a head");
    assert!(closed("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await, "idle after an answer");
    assert!(closed("").await, "silent from the beginning");
    // Somebody who asks for much and never reads.
    let row = app.finished("big", "mib=64").await;
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let ask = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", app.link(&row));
    let mut stream = stream;
    stream.write_all(ask.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut received = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        received += read;
    }
    assert!(received < 64 << 20, "the server gave up waiting");
}

/// Waits until each process keeps what it looks up.
async fn hearing(processes: &[&TestApp]) {
    for process in processes {
        let watch = &process.toolbox.memory().watch;
        eventually("announcements are heard", 5, async || watch.generation().await).await;
    }
}

/// A link with a row and no limits, and its token.
async fn linked(app: &TestApp, row: &FileRequest) -> (Link, String) {
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let (link, url) = app.toolbox.create_link(&mut tx, row, LinkOptions::default()).await.unwrap();
    tx.commit().await.unwrap();
    (link, url.rsplit('/').next().unwrap().to_owned())
}

async fn opens(toolbox: &Toolbox, token: &str) -> Result<(), Error> {
    match toolbox.open_link(token, None).await? {
        Opened::Ready(_) => Ok(()),
        Opened::Visit(visit) => visit.verdict,
    }
}

async fn is_kept(toolbox: &Toolbox, token: &str) -> bool {
    toolbox.recall_link(token, None).await.is_some()
}

fn whole(row: &FileRequest) -> Hit {
    Hit {
        request_id: row.id,
        jti: None,
        grant: None,
        event: Event::Range,
        reason: None,
        first_byte: Some(0),
        bytes: row.size,
        visitor: Visitor::new("192.0.2.1".parse().ok(), "test"),
        user: None,
    }
}

both!(what_is_taken_away_is_refused_at_once_whatever_is_kept);
async fn what_is_taken_away_is_refused_at_once_whatever_is_kept(app: TestApp) {
    let other = app.sibling();
    hearing(&[&app, &other]).await;
    let toolboxes = [&other.toolbox, &app.toolbox];
    let row = app.finished("hello", "").await;
    let kept = async |token: &str| {
        for toolbox in toolboxes {
            eventually("it is kept", 5, async || {
                opens(toolbox, token).await.unwrap();
                is_kept(toolbox, token).await.then_some(())
            })
            .await;
        }
    };
    let refused = async |token: &str, code: &str| {
        for toolbox in toolboxes {
            assert!(!is_kept(toolbox, token).await, "{code}");
            assert_eq!(opens(toolbox, token).await.unwrap_err().code(), code);
        }
    };
    // Revoked.
    let (link, token) = linked(&app, &row).await;
    kept(&token).await;
    let mut tx = app.toolbox.db().begin().await.unwrap();
    app.toolbox.revoke_link(&mut tx, &row, link.jti).await.unwrap();
    tx.commit().await.unwrap();
    refused(&token, "link_revoked").await;
    // Edited: it begins later.
    let (link, token) = linked(&app, &row).await;
    kept(&token).await;
    let later = Some(app.toolbox.clock().now() + chrono::TimeDelta::seconds(60));
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let edit = LinkEdit { not_before: Some(later), ..LinkEdit::default() };
    app.toolbox.extend_link(&mut tx, &row, link.jti, edit).await.unwrap();
    tx.commit().await.unwrap();
    refused(&token, "link_not_yet_valid").await;
    // A revocation that is taken back takes nothing away.
    let (link, token) = linked(&app, &row).await;
    kept(&token).await;
    let mut tx = app.toolbox.db().begin().await.unwrap();
    app.toolbox.revoke_link(&mut tx, &row, link.jti).await.unwrap();
    drop(tx);
    kept(&token).await;
    // Downloads do not make anybody forget.
    hearing(&[&app, &other]).await;
    let generation = app.toolbox.memory().watch.generation().await;
    assert!(generation.is_some());
    assert!(app.toolbox.note_sent(whole(&row), row.size.unwrap()).is_none());
    app.toolbox.flush_receipts().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(app.toolbox.memory().watch.generation().await, generation);
    // The file's time ends; another file takes its place; by hand; and it is deleted.
    let token = |row: &FileRequest| app.toolbox.create_general_token(row, Map::new());
    let mailed = token(&row);
    kept(&mailed).await;
    let mut tx = app.toolbox.db().begin().await.unwrap();
    app.toolbox.expire(&mut tx, row.id).await.unwrap();
    tx.commit().await.unwrap();
    refused(&mailed, "file_expired").await;
    let row = app.finished("hello", "").await;
    let mailed = token(&row);
    kept(&mailed).await;
    let attached =
        app.toolbox.attach_file(row.id, &b"another"[..], Default::default()).await.unwrap();
    for toolbox in toolboxes {
        let etag = match toolbox.open_link(&mailed, None).await.unwrap() {
            Opened::Ready(ready) => ready.file.etag.clone(),
            // Announcements are not heard again yet.
            Opened::Visit(visit) => toolbox.serve(&visit.row).unwrap().etag,
        };
        assert_eq!(etag, format!("\"{}\"", attached.sha256.as_deref().unwrap()));
    }
    kept(&mailed).await;
    app.sql("UPDATE bgfiles_file_requests SET requester = 'bob' WHERE status = 'finished'").await;
    for toolbox in toolboxes {
        eventually("SQL is seen", 5, async || (!is_kept(toolbox, &mailed).await).then_some(()))
            .await;
    }
    kept(&mailed).await;
    app.toolbox.delete(row.id).await.unwrap();
    for toolbox in toolboxes {
        eventually("it is gone", 5, async || opens(toolbox, &mailed).await.is_err().then_some(()))
            .await;
    }
}

both!(what_time_takes_away_is_not_given_out_of_memory);
async fn what_time_takes_away_is_not_given_out_of_memory(app: TestApp) {
    hearing(&[&app]).await;
    let row = app.finished("hello", "").await;
    let mailed = app.toolbox.create_general_token(&row, Map::new());
    let bound = app.toolbox.create_token(&row, Map::new()).unwrap();
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let options = LinkOptions { max_age: Some(Duration::from_secs(60)), ..LinkOptions::default() };
    let (_, url) = app.toolbox.create_link(&mut tx, &row, options).await.unwrap();
    tx.commit().await.unwrap();
    let short = url.rsplit('/').next().unwrap();
    for token in [&mailed, short] {
        opens(&app.toolbox, token).await.unwrap();
    }
    app.toolbox.open_link(&bound, Some("amy")).await.unwrap();
    assert!(app.toolbox.recall_link(&bound, Some("amy")).await.is_some());
    for caller in [None, Some("bob")] {
        assert!(app.toolbox.recall_link(&bound, caller).await.is_none());
        let Ok(Opened::Visit(visit)) = app.toolbox.open_link(&bound, caller).await else {
            panic!("refused")
        };
        assert!(matches!(visit.verdict, Err(Error::NotRequester)));
    }
    app.advance(59);
    assert!(is_kept(&app.toolbox, short).await);
    app.advance(1);
    assert!(!is_kept(&app.toolbox, short).await);
    assert!(matches!(opens(&app.toolbox, short).await, Err(Error::LinkExpired)));
    app.advance(86_400 - 61);
    assert!(is_kept(&app.toolbox, &mailed).await);
    app.advance(1);
    assert!(matches!(opens(&app.toolbox, &mailed).await, Err(Error::FileExpired)));
    // Limited links, and those that wait, are looked up each time.
    let row = app.finished("once", "mib=1").await;
    let token = app.toolbox.download_url(&row);
    let token = token.rsplit('/').next().unwrap();
    for _ in 0..2 {
        assert!(matches!(app.toolbox.open_link(token, None).await, Ok(Opened::Visit(_))));
    }
}

both!(no_download_that_begins_after_a_revocation_is_answered);
async fn no_download_that_begins_after_a_revocation_is_answered(app: TestApp) {
    let site = Site::new(&app).await;
    let other = app.sibling();
    hearing(&[&app, &other]).await;
    let row = app.finished("hello", "").await;
    let mut kept = 0;
    for round in 0..40 {
        let (link, token) = linked(&app, &row).await;
        let url = format!("{}/d/{token}", site.base);
        let stop = Arc::new(AtomicBool::new(false));
        let hammer = |toolbox: Toolbox| {
            let (token, stop) = (token.clone(), stop.clone());
            tokio::spawn(async move {
                let mut kept = 0;
                while !stop.load(Ordering::SeqCst) {
                    kept += i32::from(is_kept(&toolbox, &token).await);
                    let _ = opens(&toolbox, &token).await;
                    tokio::task::yield_now().await;
                }
                kept
            })
        };
        let hammers = [hammer(app.toolbox.clone()), hammer(other.toolbox.clone())];
        assert_eq!(app.http.get(&url).send().await.unwrap().status(), 200);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut tx = app.toolbox.db().begin().await.unwrap();
        app.toolbox.revoke_link(&mut tx, &row, link.jti).await.unwrap();
        tx.commit().await.unwrap();
        for toolbox in [&other.toolbox, &app.toolbox] {
            assert!(
                matches!(opens(toolbox, &token).await, Err(Error::LinkRevoked)),
                "round {round}"
            );
        }
        assert_eq!(app.http.get(&url).send().await.unwrap().status(), 403, "round {round}");
        stop.store(true, Ordering::SeqCst);
        for hammer in hammers {
            kept += hammer.await.unwrap();
        }
    }
    assert!(kept > 0);
}

both!(small_files_out_of_memory_are_answered_alike);
async fn small_files_out_of_memory_are_answered_alike(app: TestApp) {
    let site = Site::new(&app).await;
    hearing(&[&app]).await;
    let row = app.finished("hello", "name=Amy").await;
    let path = app.link(&row);
    let token = path.rsplit('/').next().unwrap();
    let etag = format!("\"{}\"", row.sha256.as_deref().unwrap());
    let cases: [&[(&str, &str)]; 6] = [
        &[],
        &[("range", "bytes=6-8")],
        &[("range", "bytes=99-")],
        &[("if-none-match", &etag)],
        &[("if-match", "\"x\""), ("accept", "text/html")],
        &[("range", "bytes=0-0"), ("if-range", "\"x\"")],
    ];
    let mut first = Vec::new();
    for headers in cases {
        // A header that nobody understands sends it the long way.
        let long = [headers, &[("authorization", "Basic eDp5")]].concat();
        first.push(site.answer(&row, &long).await);
    }
    eventually("it is kept", 5, async || {
        site.answer(&row, &[]).await;
        is_kept(&app.toolbox, token).await.then_some(())
    })
    .await;
    for (headers, first) in cases.iter().zip(first) {
        let (status, mut found, body) = site.answer(&row, headers).await;
        let (mut expected, mut ids) = (first.1, Vec::new());
        for headers in [&mut found, &mut expected] {
            ids.push(headers.remove("x-request-id").unwrap());
            headers.remove("date");
        }
        assert_eq!((status, found, body), (first.0, expected, first.2), "{headers:?}");
        assert_ne!(ids[0], ids[1]);
    }
    let head = app.http.head(format!("{}{path}", site.base)).send().await.unwrap();
    assert_eq!(
        (head.status(), &head.headers()["content-length"]),
        (StatusCode::OK, &"20".parse().unwrap())
    );
    // Each whole answer is a download, and each answer with bytes a line.
    app.toolbox.flush_receipts().await.unwrap();
    let hits = async || {
        line::store::hits(&mut app.toolbox.db().read().await.unwrap(), row.id, None, None, 200)
            .await
            .unwrap()
    };
    let row = eventually("all are counted", 5, async || {
        let complete: i64 =
            hits().await.iter().filter(|hit| hit.event == "complete").map(|hit| hit.times).sum();
        let row = app.row(row.id).await;
        (i64::from(row.downloads) == complete && complete >= 4).then_some(row)
    })
    .await;
    assert_eq!(row.last_download_at, Some(app.toolbox.clock().now()));
    // Nor is it served when it is gone.
    app.toolbox.delete(row.id).await.unwrap();
    assert_eq!(site.answer(&row, &[]).await.0, StatusCode::NOT_FOUND);
}

both!(receipts_are_gathered_and_none_is_lost);
async fn receipts_are_gathered_and_none_is_lost(app: TestApp) {
    let (first, second) = (app.finished("hello", "").await, app.finished("hello", "").await);
    let gone = app.finished("hello", "").await;
    let size = first.size.unwrap();
    for number in 0..2_500 {
        let row = if number % 5 == 0 { &second } else { &first };
        assert!(app.toolbox.note_sent(whole(row), size).is_none());
        assert!(app.toolbox.note_sent(whole(&gone), size).is_none());
    }
    let part = Hit { bytes: Some(size - 1), ..whole(&first) };
    assert!(app.toolbox.note_sent(part, size).is_none());
    let granted = Hit { grant: Some("x".into()), ..whole(&first) };
    assert!(app.toolbox.note_sent(granted, size).is_some(), "decided in the database");
    app.toolbox.delete(gone.id).await.unwrap();
    // What is logged at once stands behind what was sent before.
    app.toolbox.record_hit(Hit { event: Event::Page, ..whole(&first) }).await.unwrap();
    app.toolbox.flush_receipts().await.unwrap();
    let last =
        line::store::hits(&mut app.toolbox.db().read().await.unwrap(), first.id, None, None, 2)
            .await
            .unwrap();
    let last: Vec<_> = last.iter().map(|hit| hit.event.as_str()).collect();
    assert_eq!(last, ["page", "range"]);
    assert_eq!(
        (app.row(first.id).await.downloads, app.row(second.id).await.downloads),
        (2_000, 500)
    );
    let lines = app.count("SELECT CAST(sum(times) AS bigint) FROM bgfiles_link_hits WHERE client_ip = '192.0.2.1' AND user_agent = 'test'").await;
    assert_eq!(lines, 2_502);
    // And before the process ends.
    assert!(app.toolbox.note_sent(whole(&first), size).is_none());
    app.toolbox.close().await;
    let again = app.sibling();
    assert_eq!(again.row(first.id).await.downloads, 2_001, "written before the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_wait_for_a_database_that_does_not_answer() {
    let app = TestApp::new(crate::support::Kind::Postgres).await;
    let row = app.finished("hello", "").await;
    let mut blocker = app.toolbox.db().begin().await.unwrap();
    let bgfiles::db::Tx::Postgres(tx) = &mut blocker else { panic!("PostgreSQL") };
    sqlx::query("LOCK TABLE bgfiles_link_hits").execute(&mut **tx).await.unwrap();
    for _ in 0..100 {
        assert!(app.toolbox.note_sent(whole(&row), row.size.unwrap()).is_none());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stuck = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    assert_eq!(app.count(stuck).await, 1, "the batch is cut off");
    drop(blocker);
    eventually("all are written", 10, async || {
        (app.row(row.id).await.downloads == 100).then_some(())
    })
    .await;
    assert_eq!(app.count("SELECT CAST(sum(times) AS bigint) FROM bgfiles_link_hits").await, 100);
}
