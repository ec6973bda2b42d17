//! The wire: smuggled requests, slow clients by the thousand, floods of ranges, heads without end.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bgfiles::{
    auth_token::Role,
    web::{WebState, server},
};
use futures::future::join_all;
use http::StatusCode;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use super::{Nginx, answers, fresh, say};
use crate::support::{Caller, Kind, TestApp, both};

/// Short, so that the end of each wait is seen.
const SHORT: server::Limits = server::Limits {
    header: Duration::from_secs(2),
    write: Duration::from_secs(3),
    drain: Duration::from_secs(1),
};

/// For a machine that is busy with thousands, so that nobody is cut off whom it kept waiting.
const BUSY: server::Limits = server::Limits {
    header: Duration::from_secs(6),
    write: Duration::from_secs(5),
    drain: Duration::from_secs(1),
};

/// What must not be answered: the second request that hides in the first.
const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// Messages whose end two readers may see at two places, and what is refused outright.
fn ambiguous() -> Vec<(&'static str, String)> {
    let post = |headers: &str, body: &str| {
        format!("POST /api/auth/login HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}")
    };
    let te = |line: &str| {
        post(&format!("Content-Length: 5\r\n{line}\r\n"), &format!("0\r\n\r\n{HIDDEN}"))
    };
    let only_te = |line: &str| post(&format!("{line}\r\n"), &format!("0\r\n\r\n{HIDDEN}"));
    let head = |line: &str| format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n{HIDDEN}");
    vec![
        ("CL and TE", te("Transfer-Encoding: chunked")),
        (
            "TE and CL",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                &format!("0\r\n\r\n{HIDDEN}"),
            ),
        ),
        (
            "CL shorter than the chunks",
            post(
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                &format!("8\r\nSMUGGLED\r\n0\r\n\r\n{HIDDEN}"),
            ),
        ),
        ("two CLs", post("Content-Length: 0\r\nContent-Length: 40\r\n", HIDDEN)),
        ("two CLs in one", post("Content-Length: 0, 40\r\n", HIDDEN)),
        ("a CL with a sign", post("Content-Length: +0\r\n", HIDDEN)),
        ("a negative CL", post("Content-Length: -1\r\n", HIDDEN)),
        ("a CL in hex", post("Content-Length: 0x0\r\n", HIDDEN)),
        ("a CL with a space within", post("Content-Length: 0 0\r\n", HIDDEN)),
        ("a CL beyond 64 bits", post("Content-Length: 18446744073709551616\r\n", HIDDEN)),
        ("an empty CL", post("Content-Length: \r\n", HIDDEN)),
        ("CL with a space before the colon", post("Content-Length : 0\r\n", HIDDEN)),
        ("TE with a space before the colon", te("Transfer-Encoding : chunked")),
        ("TE with a tab before the colon", te("Transfer-Encoding\t: chunked")),
        ("TE with a vertical tab", only_te("Transfer-Encoding:\x0bchunked")),
        ("TE of another coding", only_te("Transfer-Encoding: xchunked")),
        ("TE of identity", only_te("Transfer-Encoding: identity")),
        ("TE not last", only_te("Transfer-Encoding: chunked, identity")),
        ("TE in quotes", only_te("Transfer-Encoding: \"chunked\"")),
        ("TE twice", te("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked")),
        (
            "TE twice, the other way",
            only_te("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ),
        ("TE folded", only_te("Transfer-Encoding:\r\n chunked")),
        ("a header folded", head("X: a\r\n b: c")),
        ("TE with NUL", only_te("Transfer-Encoding: chunked\0")),
        (
            "TE in HTTP/1.0",
            "POST /api/auth/login HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_owned()
                + HIDDEN,
        ),
        (
            "a chunk size with a sign",
            post("Transfer-Encoding: chunked\r\n", &format!("+0\r\n\r\n{HIDDEN}")),
        ),
        (
            "a chunk size in 0x",
            post("Transfer-Encoding: chunked\r\n", &format!("0x0\r\n\r\n{HIDDEN}")),
        ),
        (
            "a chunk size beyond 64 bits",
            post("Transfer-Encoding: chunked\r\n", &format!("10000000000000000\r\n\r\n{HIDDEN}")),
        ),
        (
            "a chunk without its end",
            post("Transfer-Encoding: chunked\r\n", &format!("1\r\nZ0\r\n\r\n{HIDDEN}")),
        ),
        (
            "a chunk extension with LF",
            post("Transfer-Encoding: chunked\r\n", &format!("0;x\nxx\r\n\r\n{HIDDEN}")),
        ),
        ("a header with NUL", head("X: a\0b")),
        ("a header with CR", head("X: a\rb")),
        ("a name with a space", head("X Y: a")),
        ("no name", head(": a")),
        ("no colon", head("nothing")),
        (
            "a space before the first header",
            "GET /healthz HTTP/1.1\r\n Host: x\r\n\r\n".to_owned() + HIDDEN,
        ),
        ("no such version", "GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n".to_owned() + HIDDEN),
        ("HTTP/2 over this", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned() + HIDDEN),
        ("two spaces", "GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n".to_owned() + HIDDEN),
        ("a path with NUL", "GET /health\0z HTTP/1.1\r\nHost: x\r\n\r\n".to_owned() + HIDDEN),
        ("a path with a space", "GET /healthz x HTTP/1.1\r\nHost: x\r\n\r\n".to_owned() + HIDDEN),
    ]
}

/// One meaning each, and the request after it is a request.
fn plain() -> Vec<(&'static str, String, [u16; 2])> {
    let next = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let post = |headers: &str, body: &str| {
        format!(
            "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}\r\n{body}{next}"
        )
    };
    vec![
        ("CL", post("Content-Length: 2\r\n", "{}"), [400, 200]),
        ("CL twice alike", post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"), [400, 200]),
        ("chunks", post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"), [400, 200]),
        (
            "chunks with an extension",
            post("Transfer-Encoding: chunked\r\n", "2;a=b\r\n{}\r\n0\r\n\r\n"),
            [400, 200],
        ),
        (
            "chunks with trailers",
            post(
                "Transfer-Encoding: chunked\r\n",
                "2\r\n{}\r\n0\r\nContent-Length: 9\r\nAuthorization: Token x\r\n\r\n",
            ),
            [400, 200],
        ),
        (
            "a body that a GET brings",
            format!(
                "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{HIDDEN}{next}",
                HIDDEN.len()
            ),
            [200, 200],
        ),
        (
            "another's address",
            format!(
                "GET http://elsewhere.example/healthz HTTP/1.1\r\nHost: files.example.com\r\n\r\n{next}"
            ),
            [200, 200],
        ),
        ("HEAD", format!("HEAD /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n{next}"), [200, 200]),
        (
            "expecting to be asked",
            post("Content-Length: 2\r\nExpect: 100-continue\r\n", "{}"),
            [400, 200],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_hides_no_second_one() {
    let app = TestApp::new(Kind::Sqlite).await;
    let address = app.serve_with(WebState::new(app.toolbox.clone()), SHORT).await;
    let folder = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(
        folder.path(),
        address,
        "keepalive_timeout 2s; client_header_timeout 2s; client_body_timeout 2s;",
    )
    .await;
    let all = async |to: SocketAddr| {
        let said = ambiguous()
            .into_iter()
            .map(|(what, bytes)| async move { (what, say(to, bytes.as_bytes()).await) });
        join_all(said).await
    };
    for (what, heard) in all(address).await {
        // Refused, and the connection closed: what hid in it is never answered.
        let found = answers(&heard);
        assert!(found.len() <= 1 && found.iter().all(|status| *status >= 400), "{what}: {heard}");
        assert!(!found.contains(&404), "{what}: {heard}");
    }
    for (what, bytes, expected) in plain() {
        for to in [address, nginx.address] {
            let heard = say(to, bytes.as_bytes()).await;
            let mut found = answers(&heard);
            found.retain(|status| *status != 100);
            // nginx takes no header twice.
            let refused = to == nginx.address && what == "CL twice alike" && found == [400];
            assert!(found == expected || refused, "{what} at {to}: {heard}");
        }
    }
    // nginx reads some of it its own way, and passes on what it read. Had the two read differently,
    // an answer would be left over on a connection that it keeps, for whoever comes next.
    for _ in 0..3 {
        all(nginx.address).await;
        for _ in 0..16 {
            let next = b"GET /api/requests HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let heard = say(nginx.address, next).await;
            assert_eq!(answers(&heard), [401], "{heard}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_end_with_lf_alone_end_there() {
    // RFC 9112, 2.2: a recipient may take a lone LF for the end of a line. Whoever does must do so
    // everywhere: one request then is one, and what follows it is another.
    let app = TestApp::new(Kind::Sqlite).await;
    let address = app.serve_with(WebState::new(app.toolbox.clone()), SHORT).await;
    let heard = say(
        address,
        b"GET /healthz HTTP/1.1\nHost: x\nConnection: close\n\nGET /smuggled HTTP/1.1\nHost: x\n\n",
    )
    .await;
    assert_eq!(answers(&heard).len(), 1, "{heard}");
    let heard = say(address, b"POST /api/auth/login HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\nContent-Length: 5\n\n0\n\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answers(&heard).len() <= 1 && !heard.contains("smuggled"), "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_and_bodies_have_an_end() {
    let app = TestApp::new(Kind::Sqlite).await;
    let state =
        WebState { body_time: Duration::from_secs(3), ..WebState::new(app.toolbox.clone()) };
    let address = app.serve_with(state, SHORT).await;
    let get = |rest: String| format!("GET {rest}\r\n\r\n");
    let cases = [
        ("a long path", get(format!("/{} HTTP/1.1\r\nHost: x", "a".repeat(70_000)))),
        ("a long query", get(format!("/healthz?{} HTTP/1.1\r\nHost: x", "a".repeat(70_000)))),
        (
            "a long header",
            get(format!("/healthz HTTP/1.1\r\nHost: x\r\nX: {}", "a".repeat(70_000))),
        ),
        ("a long name", get(format!("/healthz HTTP/1.1\r\nHost: x\r\n{}: x", "a".repeat(70_000)))),
        ("many headers", get(format!("/healthz HTTP/1.1\r\nHost: x{}", "\r\nX: y".repeat(5_000)))),
        ("a few too many", get(format!("/healthz HTTP/1.1\r\nHost: x{}", "\r\nX: y".repeat(150)))),
        ("a long method", format!("{} /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "A".repeat(70_000))),
        (
            "a body that is announced",
            "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
                .into(),
        ),
        (
            "chunks without end",
            format!(
                "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}",
                format!("10000\r\n{}\r\n", "a".repeat(65_536)).repeat(40)
            ),
        ),
        (
            "extensions without end",
            format!(
                "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}",
                format!("1;{}\r\na\r\n", "x".repeat(8_000)).repeat(40)
            ),
        ),
        (
            "trailers without end",
            format!(
                "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{}",
                "X: y\r\n".repeat(40_000)
            ),
        ),
    ];
    for (what, bytes) in cases {
        let heard = say(address, bytes.as_bytes()).await;
        // Refused by an answer, or by the end of the connection while it was still talking.
        let found = answers(&heard);
        assert!(
            found.len() <= 1 && found.iter().all(|status| (400..500).contains(status)),
            "{what}: {heard:.400}"
        );
    }
    let heard =
        say(address, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answers(&heard), [200]);
}

both!(a_flood_of_ranges_is_answered_with_one_file_at_most);
async fn a_flood_of_ranges_is_answered_with_one_file_at_most(app: TestApp) {
    let address = app.serve().await;
    let row = app.finished("big", "mib=1").await;
    let size = 1 << 20;
    let path = app.link(&row);
    let flood = |part: &str, n: usize| format!("bytes={}", vec![part; n].join(","));
    let ranges = [
        flood("0-", 1_300),
        flood("0-0", 1_300),
        flood("-1048576", 1_300),
        flood("5-1048575", 1_300),
        (0..1_300)
            .map(|n| format!("{n}-"))
            .collect::<Vec<_>>()
            .join(",")
            .replacen("0-", "bytes=0-", 1),
        format!("bytes=0-,{}", ",".repeat(20_000)),
        format!("bytes={}-{}", "0".repeat(10_000), "9".repeat(10_000)),
        format!("bytes=-{}", "9".repeat(20_000)),
        format!("bytes={}-", "9".repeat(20_000)),
        "bytes=0-18446744073709551615".into(),
        "bytes=18446744073709551615-18446744073709551615".into(),
        "bytes=-18446744073709551616".into(),
        "bytes=--1".into(),
        "bytes=0--1".into(),
        "bytes= 0 - 5".into(),
        "bytes=0-5\t,\t6-7".into(),
        "items=0-5,6-7".into(),
        "bytes".into(),
        String::new(),
    ];
    // All at once, each twice, and by a header that comes several times.
    let asked = ranges.iter().chain(&ranges).map(|range| {
        let (http, url) = (&app.http, format!("http://{address}{path}"));
        async move {
            let answer = http.get(url).header("range", range).send().await.unwrap();
            (range, answer.status(), answer.headers().clone(), answer.bytes().await.unwrap().len())
        }
    });
    for (range, status, headers, length) in join_all(asked).await {
        let expected = match status {
            StatusCode::OK => length == size,
            StatusCode::PARTIAL_CONTENT => {
                length <= size && headers.get_all("content-range").iter().count() == 1
            }
            StatusCode::RANGE_NOT_SATISFIABLE => length == 0,
            _ => false,
        };
        assert!(expected, "{range:.80}: {status}, {length} bytes");
        assert!(!headers["content-type"].to_str().unwrap().starts_with("multipart"), "{range:.80}");
    }
    let lines = "Range: bytes=0-9\r\n".repeat(60);
    let heard = say(
        address,
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n{lines}Connection: close\r\n\r\n").as_bytes(),
    )
    .await;
    assert_eq!(answers(&heard).len(), 1);
    assert!(heard.contains(&format!("content-length: {size}\r\n")), "{heard:.300}");
}

/// How many connections this process can have both ends of, up to two thousand.
fn many() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let open: usize = line.split_whitespace().nth(3).unwrap().parse().unwrap_or(1_000_000);
    let factor: usize = std::env::var("BGFILES_TEST_FACTOR").map_or(1, |n| n.parse().unwrap());
    let many = (open.saturating_sub(300) / 2).min(600 * factor);
    assert!(many >= 300, "ulimit -n is {open}");
    many
}

/// What somebody slow does after the beginning.
#[derive(Clone, Copy)]
enum Then {
    /// Byte by byte, for ever.
    Dribbles,
    /// Nothing.
    Waits,
    /// Nothing, and does not read what comes.
    IsDeaf,
}

/// One connection of somebody slow, until the server has had enough.
async fn slow(address: SocketAddr, begin: &str, then: Then) {
    // Little fits into the buffers of the machine, so that the server notices who does not read.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8_192).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    if stream.write_all(begin.as_bytes()).await.is_err() {
        return;
    }
    if let Then::Dribbles = then {
        // Until writing fails, as the other side is gone.
        let mut pause = tokio::time::interval(Duration::from_secs(1));
        while stream.write_all(b"a").await.is_ok() {
            pause.tick().await;
        }
        return;
    }
    if let Then::IsDeaf = then {
        tokio::time::sleep(BUSY.write * 2).await;
    }
    // Whether it was cut off before it could be deaf is a matter of how busy the machine is; that it is
    // cut off at all, `downloads::slow_and_idle_connections_are_closed` shows.
    let mut buffer = vec![0; 65_536];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thousands_of_slow_clients_keep_nobody_else_waiting() {
    let app = TestApp::new(Kind::Sqlite).await;
    let state =
        WebState { body_time: Duration::from_secs(10), ..WebState::new(app.toolbox.clone()) };
    let address = app.serve_with(state, BUSY).await;
    let base = format!("http://{address}");
    let shop = Caller { http: fresh(), ..Caller::new(&app, &base, "shop", Role::Service).await };
    let large = app.finished("big", "mib=32").await;
    let small = app.finished("hello", "").await;
    let body = format!(
        "POST /api/requests HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Authorization: Token {}\r\nContent-Length: 100000\r\n\r\n{{",
        shop.secret
    );
    let kinds = [
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ".to_owned(), Then::Dribbles),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n".to_owned(), Then::Waits),
        (body, Then::Dribbles),
        (format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", app.link(&large)), Then::IsDeaf),
    ];
    let (enough, cut) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let crowd: Vec<_> = (0..many())
        .map(|at| {
            let ((begin, then), enough, cut) =
                (kinds[at % kinds.len()].clone(), enough.clone(), cut.clone());
            tokio::spawn(async move {
                // Whoever is cut off comes back.
                while !enough.is_cancelled() {
                    slow(address, &begin, then).await;
                    cut.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    // Meanwhile everything that others ask for is answered, each time over a new connection.
    let (mut answered, members) = (0, crowd.len());
    while answered < 60 || cut.load(SeqCst) < members / 2 {
        let (status, row) = shop.post("/api/requests", json!({"file_type": "hello"})).await;
        assert_eq!(status, 202, "{row}");
        let download = shop.http.get(format!("{base}{}", app.link(&small))).send().await.unwrap();
        assert_eq!(download.status(), StatusCode::OK);
        assert_eq!(download.text().await.unwrap(), "hello world in en UTC\n");
        answered += 1;
    }
    // And each of the slow ones is cut off: nobody has to stop by themselves.
    enough.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(120), join_all(crowd)).await;
    for end in ended.expect("all of them are cut off") {
        end.unwrap();
    }
    assert!(cut.load(SeqCst) >= members);
    assert_eq!(shop.get("/api/requests?limit=1").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_dribbles_has_an_end() {
    let app = TestApp::new(Kind::Sqlite).await;
    let state =
        WebState { body_time: Duration::from_secs(2), ..WebState::new(app.toolbox.clone()) };
    let address = app.serve_with(state, SHORT).await;
    for path in ["/api/auth/login", "/lock_tokens/bgfiles/file_request/x/", "/d/x"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.into_split();
        let dribble = tokio::spawn(async move {
            while write.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let mut heard = Vec::new();
        let all = read.read_to_end(&mut heard);
        // An error when the server closes before it has read all: the answer is there all the same.
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("it ends").ok();
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(
            answers(&heard).iter().all(|status| (400..500).contains(status)),
            "{path}: {heard}"
        );
        dribble.await.unwrap();
    }
}
