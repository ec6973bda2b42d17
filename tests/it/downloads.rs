//! `GET /d/{token}` over a real connection.

use std::time::Duration;

use bgfiles::{
    FileRequest,
    config::Serve,
    web::{WebState, server},
};
use http::StatusCode;
use serde_json::Map;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{TestApp, app::json, both};

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

both! {
    async fn the_file_with_its_headers(app) {
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
            ("cache-control", "private, no-store"),
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
}

both! {
    async fn ranges_and_conditions(app) {
        let site = Site::new(&app).await;
        let row = app.finished("big", "mib=1").await;
        let whole = site.answer(&row, &[]).await.2;
        assert_eq!(whole.len(), 1 << 20);
        let shown = site.answer(&row, &[]).await.1;
        assert_eq!(shown["content-disposition"], "inline; filename=\"big.txt\"");
        let etag = format!("\"{}\"", row.sha256.as_deref().unwrap());
        let (size, date) = (whole.len(), "Sun, 01 Mar 2026 12:00:00 GMT");
        let parts = [
            ("bytes=0-0", 0, 1), ("bytes=5-9", 5, 10), ("bytes=1048570-", 1048570, size),
            ("bytes=-10", size - 10, size), ("bytes=-9999999", 0, size),
            ("bytes=1048000-99999999", 1048000, size), ("bytes=300000-900000", 300000, 900001),
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
        for range in ["bytes=0-1,5-6", "lines=1-2", "bytes=9-2", "bytes=a-b", "bytes", "bytes=-", "bytes=+1-2"] {
            assert_eq!(site.answer(&row, &[("range", range)]).await.0, StatusCode::OK, "{range}");
        }
        let weak = format!("W/{etag}");
        let (partial, full) = (StatusCode::PARTIAL_CONTENT, StatusCode::OK);
        for (validator, expected) in [(etag.as_str(), partial), (date, partial), ("\"other\"", full),
            (weak.as_str(), full), ("Sun, 01 Mar 2026 11:59:59 GMT", full), ("nonsense", full)] {
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
}

both! {
    async fn an_interrupted_download_resumes(app) {
        let site = Site::new(&app).await;
        let row = app.finished("big", "mib=3").await;
        let first = site.answer(&row, &[("range", "bytes=0-1500000")]).await.2;
        let etag = format!("\"{}\"", row.sha256.as_deref().unwrap());
        let rest = site.answer(&row, &[("range", "bytes=1500001-"), ("if-range", &etag)]).await.2;
        use sha2::Digest;
        let digest = sha2::Sha256::digest([first, rest].concat());
        assert_eq!(Some(bgfiles::storage::hex(&digest)), row.sha256);
    }
}

both! {
    async fn refusals_are_problems_for_programs_and_pages_for_people(app) {
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
            assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
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
}

both! {
    async fn a_bound_link_is_for_its_requester(app) {
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
}

both! {
    async fn a_front_server_can_send_the_bytes(app) {
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
}

both! {
    async fn a_file_that_is_cut_short_breaks_the_connection(app) {
        let site = Site::new(&app).await;
        let row = app.finished("big", "mib=4").await;
        let path = app.files().join(row.storage_key.as_deref().unwrap());
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(3 << 20).unwrap();
        let response = site.get(&app.link(&row), &[]).send().await.unwrap();
        assert_eq!(response.content_length(), Some(4 << 20));
        assert!(response.bytes().await.is_err(), "never a clean short end");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(site.answer(&row, &[]).await.0, StatusCode::NOT_FOUND);
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
