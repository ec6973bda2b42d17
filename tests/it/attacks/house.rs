//! Nobody stops the house: what anybody may send has a bound, and what somebody takes leaves room for
//! others.

use std::{collections::BTreeSet, time::Duration};

use bgfiles::{
    FileRequest, Registry,
    auth_token::{Role, SessionSecret},
    export::{DeclaredExport, Definition, Source},
    toolbox::LinkOptions,
};
use futures::future::join_all;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{answers, fresh, patient, say};
use crate::connections::behind;
use crate::support::{
    Caller, Kind, TestApp,
    app::{self, Parts},
    both,
    child::{Process, bgfiles},
    eventually, live,
};

const PASSWORD: &str = "seven green teapots";
/// One character that compatibility composition makes 18 of.
const LIGATURE: &str = "\u{fdfa}";

async fn log_in(
    http: &reqwest::Client,
    base: &str,
    ip: &str,
    name: &str,
    password: &str,
) -> (u16, String) {
    let fields = json!({"username": name, "password": password, "client": "web"});
    let request = http.post(format!("{base}/api/auth/login")).header("x-forwarded-for", ip);
    let response = request.json(&fields).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn behind_a_proxy(kind: Kind) -> TestApp {
    let parts = Parts { trusted_proxies: "127.0.0.1".parse().unwrap(), ..Parts::default() };
    TestApp::with(kind, parts).await
}

/// The cookie and the token of the form to log in with.
async fn form(http: &reqwest::Client, base: &str) -> (String, String) {
    let page =
        http.get(format!("{base}/login")).header("accept", "text/html").send().await.unwrap();
    let cookie =
        page.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let text = page.text().await.unwrap();
    let csrf = text.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    (cookie, csrf.to_owned())
}

both!(long_names_reach_no_key_and_no_user);
async fn long_names_reach_no_key_and_no_user(app: TestApp) {
    let app = behind_a_proxy(app.kind).await;
    let base = patient(&app).await;
    let http = fresh();
    // A megabyte is not even read, at either door.
    let name = LIGATURE.repeat(333_000);
    assert_eq!(log_in(&http, &base, "192.0.2.1", &name, "x").await.0, 413);
    let page =
        http.post(format!("{base}/login")).form(&[("username", &name)]).send().await.unwrap();
    assert_eq!(page.status(), 413);
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_login_attempts").await, 0);
    // A name that is a little longer than any of ours gets the answer of a name that nobody has, and
    // all of them together are one account.
    let unknown = log_in(&http, &base, "192.0.2.1", "nobody", "x").await;
    assert_eq!(unknown.0, 400);
    let long = [
        LIGATURE.repeat(151),
        LIGATURE.repeat(5_000),
        "a".repeat(151),
        "\u{1f600}".repeat(151),
        "b".repeat(15_000),
    ];
    for name in &long {
        assert_eq!(log_in(&http, &base, "192.0.2.1", name, "x").await, unknown);
    }
    let keys = "SELECT count(*) FROM bgfiles_login_attempts WHERE key = 'account 192.0.2.1 none'";
    assert_eq!(app.count(keys).await, 1);
    assert_eq!(
        app.count("SELECT count(*) FROM bgfiles_login_attempts WHERE key LIKE 'account %'").await,
        2
    );
    // From a network that waits it costs no more, and at the page it is the same.
    assert_eq!(log_in(&http, &base, "192.0.2.1", &"c".repeat(700), "x").await.0, 429);
    let (cookie, csrf) = form(&http, &base).await;
    for (ip, status) in [("192.0.2.1", 429), ("192.0.2.2", 422)] {
        let fields = [("csrf", csrf.as_str()), ("username", &long[0]), ("password", "x")];
        let request = http
            .post(format!("{base}/login"))
            .header("cookie", &cookie)
            .header("x-forwarded-for", ip);
        assert_eq!(request.form(&fields).send().await.unwrap().status(), status);
    }
}

both!(what_is_read_before_anybody_is_known_has_a_bound);
async fn what_is_read_before_anybody_is_known_has_a_bound(app: TestApp) {
    let base = patient(&app).await;
    let row = app.finished("hello", "").await;
    let link = app.link(&row);
    let http = fresh();
    let long = "a".repeat(30_000);
    let get = |path: &str| http.get(format!("{base}{path}"));
    let post = |path: &str| http.post(format!("{base}{path}"));
    let form = format!("username={long}");
    let json = json!({"username": long}).to_string();
    let urlencoded = ("content-type", "application/x-www-form-urlencoded");
    let multipart =
        format!("--x\r\nContent-Disposition: form-data; name=username\r\n\r\n{long}\r\n--x--");
    let languages = vec!["xx"; 20].join(",") + ",nl";
    let login = |name: &str, password: &str| {
        post("/api/auth/login")
            .json(&json!({"username": name, "password": password, "client": "web"}))
    };
    // The parser, its bound, and what is beyond it with its answer.
    let parsers = [
        ("request head", "32 KiB", get("/healthz").header("x", "a".repeat(200_000)), 431),
        (
            "login, JSON",
            "16 KiB",
            post("/api/auth/login").header("content-type", "application/json").body(json),
            413,
        ),
        (
            "login, form",
            "16 KiB",
            post("/api/auth/login").header(urlencoded.0, urlencoded.1).body(form.clone()),
            413,
        ),
        (
            "login, multipart",
            "16 KiB",
            post("/api/auth/login")
                .header("content-type", "multipart/form-data; boundary=x")
                .body(multipart),
            413,
        ),
        (
            "login page",
            "16 KiB",
            post("/login").header(urlencoded.0, urlencoded.1).body(form.clone()),
            413,
        ),
        (
            "button of a link",
            "16 KiB",
            post(&link).header(urlencoded.0, urlencoded.1).body(form.clone()),
            413,
        ),
        (
            "lock",
            "16 KiB",
            post("/lock_tokens/cms/page/1/").header(urlencoded.0, urlencoded.1).body(form),
            413,
        ),
        ("user name", "150 characters", login(&"a".repeat(151), "x"), 400),
        ("password", "2 KiB, else as an empty one", login("amy", &"x".repeat(2_049)), 400),
        (
            "API token",
            "its length",
            get("/api/requests").header("authorization", format!("Token {long}")),
            401,
        ),
        (
            "session",
            "32 bytes",
            get("/api/requests").header("cookie", format!("bgfiles_session={long}")),
            401,
        ),
        ("grant", "32 bytes", get(&format!("/g/{long}/x")), 404),
        ("download token", "the head; signed before it is read", get(&format!("/d/{long}")), 400),
        (
            "idempotency key",
            "200 characters",
            post(&link).header("idempotency-key", "k".repeat(201)),
            422,
        ),
        (
            "languages",
            "20",
            get("/login").header("accept", "text/html").header("accept-language", languages),
            200,
        ),
        (
            "time zone",
            "the head; a table of names",
            get("/login").header("cookie", format!("bgfiles_timezone={long}")),
            200,
        ),
        (
            "form",
            "the head; hashed",
            get("/login").header("cookie", format!("bgfiles_form={long}")),
            200,
        ),
        ("where to go on", "the head", get(&format!("/login?next=/{long}")), 200),
        (
            "address",
            "the head; from its end, through trusted proxies",
            get("/healthz").header("x-forwarded-for", "1,".repeat(15_000)),
            200,
        ),
        (
            "range",
            "the head; more than one is none",
            get(&link).header("range", format!("bytes={}", "0-1,".repeat(5_000))),
            200,
        ),
        ("validators", "the head", get(&link).header("if-none-match", format!("\"{long}\"")), 200),
        (
            "request id",
            "64 characters",
            get("/healthz").header("x-request-id", "a".repeat(65)),
            200,
        ),
        (
            "lock's names",
            "100 characters",
            post(&format!("/lock_tokens/{}/page/1/", "a".repeat(101))),
            401,
        ),
    ];
    for (parser, bound, request, expected) in parsers {
        let response = request.send().await.unwrap();
        let (status, id) = (response.status(), response.headers().get("x-request-id").cloned());
        assert_eq!(status, expected, "{parser}: {bound}");
        if parser == "request id" {
            assert!(id.unwrap().len() < 64);
        }
        if parser == "languages" {
            assert!(response.text().await.unwrap().contains("lang=\"en\""), "{bound}");
        }
    }
    // Addresses of mail are measured before their domain is looked at.
    let shop = Caller { http: fresh(), ..Caller::new(&app, &base, "shop", Role::Service).await };
    let email = format!("a@{}.example", LIGATURE.repeat(10_000));
    let (status, body) = shop
        .post(
            "/api/requests",
            json!({"file_type": "hello", "requester": {"id": "x", "email": email}}),
        )
        .await;
    assert_eq!(
        (status, body["errors"][0]["message"].as_str()),
        (422, Some("is not an e-mail address: it is longer than 254 characters")),
        "{body}"
    );
}

/// Every label of a metric with what gives its values: closed sets, as what was measured once is kept
/// for ever.
const LABELS: &[(&str, &str)] = &[
    ("method", "method"),               // ten words (web/observe.rs)
    ("route", "route.to_owned()"),      // as they were registered
    ("status", "status.to_string()"),   // ours
    ("status", "name"),                 // of downloads: six
    ("status", "status.as_str()"),      // of requests
    ("file_type", "file_type.clone()"), // registered ones, or _OTHER
    ("file_type", "file_type"),
    ("outcome", "format!(\"{outcome:?}\").to_lowercase()"), // an enum
    ("outcome", "outcome"),
    ("outcome", "\"used\""),
    ("outcome", "code"), // of a denial
    ("outcome", "\"slowed\""),
    ("event", "event.as_str()"),
    ("event", "event"),
    ("event", "\"redeemed\""),
    ("sweep", "done.name"),
    ("from", "if kept.is_some() { \"memory\" } else { \"database\" }"),
];

#[test]
fn labels_of_metrics_are_closed_sets() {
    fn sources(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => sources(&path, found),
                path => found.push(std::fs::read_to_string(path).unwrap_or_default()),
            }
        }
    }
    let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
    sources(std::path::Path::new("src"), &mut files);
    for file in files {
        for call in file.split("metrics::").skip(1) {
            if !["counter!(", "gauge!(", "histogram!("].iter().any(|name| call.starts_with(name)) {
                continue;
            }
            let call = call.split_once('(').unwrap().1;
            let mut depth = 1;
            let end = call.find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth == 0
            });
            let call = call[..end.unwrap()].split_whitespace().collect::<Vec<_>>().join(" ");
            for label in call.split(", \"").skip(1) {
                let (name, value) = label.split_once("\" => ").unwrap();
                let value = value.trim_end_matches(',').to_owned();
                assert!(LABELS.contains(&(name, &value)), "{name} => {value}: is it a closed set?");
                seen.insert((name.to_owned(), value));
            }
        }
    }
    for (name, value) in LABELS {
        assert!(
            seen.contains(&((*name).to_owned(), (*value).to_owned())),
            "{name} => {value} is gone"
        );
    }
}

both!(invented_methods_add_one_series_at_most);
async fn invented_methods_add_one_series_at_most(app: TestApp) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let log = app.dir.path().join("web.log");
    let mut command = bgfiles();
    let files = app.files();
    command.args(["web", "--bind", &address.to_string()]).current_dir(app.dir.path());
    command
        .env("DATABASE_URL", &app.url)
        .env("BGFILES_STORAGE", format!("file://{}", files.display()));
    std::fs::create_dir_all(app.dir.path().join("jobs")).unwrap();
    command.stdout(std::process::Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let _web = Process(command.spawn().unwrap());
    let http = fresh();
    let metrics =
        async || http.get(format!("http://{address}/metrics")).send().await.ok()?.text().await.ok();
    eventually("it answers", 30, async || metrics().await).await;
    metrics().await.unwrap();
    let series = |text: &str| {
        text.lines().filter(|line| line.starts_with("bgfiles_http_seconds_count")).count()
    };
    let before = series(&metrics().await.unwrap());
    let asked: String = (0..1_000)
        .map(|i| {
            format!("{}{i} /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "INVENTED".repeat(1 + i % 100))
        })
        .collect();
    let heard = say(
        address,
        &(asked + "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes(),
    )
    .await;
    let statuses = answers(&heard);
    assert_eq!(statuses.iter().filter(|status| **status == 405).count(), 1_000);
    let after = metrics().await.unwrap();
    // And GET of /healthz, which nobody asked for before.
    assert!(series(&after) <= before + 2, "{after}");
    assert!(after.contains("method=\"_OTHER\"") && !after.contains("INVENTED"));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(
        log.contains("INVENTEDINVENTED") && !log.contains("INVENTEDINVENTEDI"),
        "sixteen characters"
    );
}

/// GETs of a path on kept connections, as many as fit.
async fn gets(address: &str, path: &str, number: usize) {
    let connections = 8;
    let ask = format!("GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: test\r\n\r\n")
        .repeat(number / connections - 1);
    let last =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: test\r\nConnection: close\r\n\r\n");
    let address: std::net::SocketAddr = address.strip_prefix("http://").unwrap().parse().unwrap();
    let one = async || {
        let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
        let bytes = format!("{ask}{last}").into_bytes();
        let sent = tokio::spawn(async move { write.write_all(&bytes).await.map(|()| write) });
        let mut heard = Vec::new();
        read.read_to_end(&mut heard).await.unwrap();
        drop(sent.await.unwrap().unwrap());
        answers(&String::from_utf8_lossy(&heard)).len()
    };
    let answers: usize = join_all((0..connections).map(|_| one())).await.into_iter().sum();
    assert_eq!(answers, number);
}

both!(one_link_does_not_fill_the_database);
async fn one_link_does_not_fill_the_database(app: TestApp) {
    let base = patient(&app).await;
    let row = app.finished("hello", "").await;
    let link = app.link(&row);
    gets(&base, &link, 20_000).await;
    // The last of a connection is noted when that ends.
    eventually("all are written down", 20, async || {
        app.toolbox.flush_receipts().await.unwrap();
        (app.row(row.id).await.downloads == 20_000).then_some(())
    })
    .await;
    let lines = app.count("SELECT count(*) FROM bgfiles_link_hits").await;
    assert!((1..=100).contains(&lines), "{lines}");
    assert_eq!(
        app.count(
            "SELECT CAST(sum(times) AS bigint) FROM bgfiles_link_hits WHERE event = 'complete'"
        )
        .await,
        20_000
    );
    let bytes = app.count("SELECT CAST(sum(bytes) AS bigint) FROM bgfiles_link_hits").await;
    assert_eq!(bytes, 20_000 * row.size.unwrap());
    let staff = Caller { http: fresh(), ..Caller::new(&app, &base, "olga", Role::Staff).await };
    let (_, log) = staff.get(&format!("/api/requests/{}/log", row.id)).await;
    assert_eq!(
        (&log["items"][0]["count"], &log["items"][0]["event"]),
        (&json!(20_000), &json!("complete")),
        "{log}"
    );
    // Nor does one that is over; a minute later there is another line.
    app.advance(86_401);
    gets(&base, &link, 4_000).await;
    app.advance(60);
    gets(&base, &link, 8).await;
    app.toolbox.flush_receipts().await.unwrap();
    let denied = app
        .count("SELECT CAST(sum(times) AS bigint) FROM bgfiles_link_hits WHERE event = 'denied'")
        .await;
    assert_eq!(denied, 4_008);
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_link_hits WHERE event = 'denied'").await, 2);
}

both!(a_request_has_so_many_lines_and_then_only_counts);
async fn a_request_has_so_many_lines_and_then_only_counts(app: TestApp) {
    use bgfiles::{
        file_request::links::{Event, Hit},
        visitor::Visitor,
    };
    let row = app.finished("hello", "").await;
    let size = row.size.unwrap();
    for number in 0..16_000 {
        let visitor = Visitor::new(None, &format!("agent {number} {}", "x".repeat(500)));
        let hit = Hit {
            request_id: row.id,
            jti: None,
            grant: None,
            event: Event::Complete,
            reason: None,
            first_byte: Some(0),
            bytes: Some(size),
            visitor,
            user: None,
        };
        assert!(app.toolbox.note_sent(hit, size).is_none());
        if number % 1_000 == 0 {
            app.toolbox.flush_receipts().await.unwrap();
        }
    }
    app.toolbox.flush_receipts().await.unwrap();
    let lines = app.count("SELECT count(*) FROM bgfiles_link_hits").await;
    assert!(lines <= 11_001, "{lines}");
    assert_eq!(app.count("SELECT CAST(sum(times) AS bigint) FROM bgfiles_link_hits").await, 16_000);
    assert_eq!(
        app.count("SELECT CAST(sum(bytes) AS bigint) FROM bgfiles_link_hits").await,
        16_000 * size
    );
    assert_eq!(
        app.count("SELECT CAST(max(length(user_agent)) AS bigint) FROM bgfiles_link_hits").await,
        200
    );
    assert_eq!(app.row(row.id).await.downloads, 16_000);
}

both!(links_without_a_limit_give_one_grant_a_network);
async fn links_without_a_limit_give_one_grant_a_network(app: TestApp) {
    let base = patient(&app).await;
    let row = app.finished("hello", "").await;
    let url = format!("{base}{}", app.link(&row));
    let http = fresh();
    let mut places = BTreeSet::new();
    for number in 0..50 {
        let request = http.post(&url).header("idempotency-key", format!("{number}"));
        let request = request.header("user-agent", format!("program {number}"));
        let redeemed = request.send().await.unwrap();
        assert_eq!(redeemed.status(), 303);
        places.insert(redeemed.headers()["location"].to_str().unwrap().to_owned());
    }
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_link_grants").await, 1);
    assert_eq!(app.row(row.id).await.downloads, 50);
    let place = places.pop_first().unwrap();
    assert!(places.is_empty());
    assert_eq!(http.get(format!("{base}{place}")).send().await.unwrap().status(), 200);
    // An hour later it is another one.
    app.advance(3_600);
    let redeem = async || {
        let redeemed = http.post(&url).send().await.unwrap();
        redeemed.headers()["location"].to_str().unwrap().to_owned()
    };
    let second = redeem().await;
    assert_ne!(second, place);
    // Whoever comes at the end of it has an hour, too.
    app.advance(3_590);
    assert_eq!(redeem().await, second);
    app.advance(60);
    assert_eq!(http.get(format!("{base}{second}")).send().await.unwrap().status(), 200);
    // Pieces under a grant are no lines each, and are known to be the whole.
    let big = app.finished("once", "mib=1").await;
    let redeemed = http.post(format!("{base}{}", app.link(&big))).send().await.unwrap();
    let grant = format!("{base}{}", redeemed.headers()["location"].to_str().unwrap());
    for piece in (0..64).rev() {
        let range = format!("bytes={}-{}", piece * 16_384, piece * 16_384 + 16_383);
        let piece = http.get(&grant).header("range", range).send().await.unwrap();
        assert_eq!(piece.status(), 206);
        assert_eq!(piece.bytes().await.unwrap().len(), 16_384);
    }
    eventually("the last piece is written down", 30, async || {
        let sql = "SELECT count(*) FROM bgfiles_link_grants g JOIN bgfiles_file_requests r \
            ON r.id = g.request_id WHERE g.completed_at IS NOT NULL AND r.file_type = 'once'";
        (app.count(sql).await == 1).then_some(())
    })
    .await;
    let lines = "SELECT count(*) FROM bgfiles_link_hits h JOIN bgfiles_file_requests r \
        ON r.id = h.request_id WHERE h.grant_hash IS NOT NULL AND r.file_type = 'once' \
        AND h.event IN ('range', 'complete')";
    let lines = app.count(lines).await;
    assert!(lines <= 3, "{lines}");
}

both!(links_have_a_rate_for_each_network);
async fn links_have_a_rate_for_each_network(app: TestApp) {
    let parts = Parts {
        download_rate: Some("3/m".parse().unwrap()),
        trusted_proxies: "127.0.0.1".parse().unwrap(),
        ..Parts::default()
    };
    let app = TestApp::with(app.kind, parts).await;
    let base = patient(&app).await;
    let row = app.finished("hello", "").await;
    let http = fresh();
    let ask = async |path: &str, ip: &str| {
        let response =
            http.get(format!("{base}{path}")).header("x-forwarded-for", ip).send().await.unwrap();
        let wait =
            response.headers().get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
        (response.status().as_u16(), wait)
    };
    let link = app.link(&row);
    for path in [&link, "/d/nonsense", "/g/nonsense/x"] {
        assert_ne!(ask(path, "192.0.2.1").await.0, 429);
    }
    for path in [&link, "/d/nonsense", "/g/nonsense/x"] {
        assert_eq!(ask(path, "192.0.2.1").await, (429, Some("20".into())));
    }
    assert_eq!(ask(&link, "192.0.2.2").await.0, 200);
    app.advance(20);
    assert_eq!(ask(&link, "192.0.2.1").await.0, 200);
}

/// An app with a file type of many rows, and one of one; and the app whose database they read.
async fn with_exports(kind: Kind, timeout: u64) -> (TestApp, TestApp) {
    let begun = TestApp::live(kind).await;
    let numbers = match kind {
        Kind::Postgres => {
            "SELECT n, repeat('x', 1000) AS text FROM generate_series(1, 2000000) AS n"
        }
        Kind::Sqlite => {
            "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 2000000) \
            SELECT n, printf('%1000d', n) AS text FROM s"
        }
    };
    let mut registry = Registry::new();
    let source = Source::open(&begun.url).unwrap();
    for (name, query, over) in [("many", numbers, 5_000_000), ("one", "SELECT 1 AS n", 10)] {
        let path = begun.dir.path().join(format!("{name}.toml"));
        let text = format!(
            "title = \"x\"\nformats = [\"csv\"]\ndelay_over = {over}\ncount = false\nquery = \"\"\"{query}\"\"\"\n"
        );
        std::fs::write(&path, text).unwrap();
        let definition = Definition::load(&path).unwrap();
        registry.register(DeclaredExport::new(definition, source.clone())).unwrap();
    }
    let parts = Parts {
        clock: bgfiles::Clock::system(),
        registry: Some(registry),
        inline_timeout: Duration::from_secs(timeout),
        ..Parts::default()
    };
    (TestApp::with(kind, parts).await, begun)
}

/// Asks for a file now and takes nothing of it but the head.
async fn slow_reader(caller: &Caller) -> reqwest::Response {
    let body = json!({"file_type": "many", "deliver": "now"});
    caller.call("POST", "/api/requests").json(&body).send().await.unwrap()
}

both!(slow_readers_of_inline_files_keep_nobody_else_waiting);
async fn slow_readers_of_inline_files_keep_nobody_else_waiting(app: TestApp) {
    let (app, _read) = with_exports(app.kind, 4).await;
    let base = patient(&app).await;
    let amy = Caller { http: fresh(), ..Caller::new(&app, &base, "amy", Role::User).await };
    let bob = Caller { http: fresh(), ..Caller::new(&app, &base, "bob", Role::User).await };
    let held = [slow_reader(&amy).await, slow_reader(&amy).await];
    assert_eq!([held[0].status(), held[1].status()], [200, 200]);
    let third = slow_reader(&amy).await;
    assert_eq!(
        (third.status().as_u16(), third.headers()["retry-after"].to_str().unwrap()),
        (429, "5")
    );
    // What may be later is, and others are served.
    assert_eq!(
        amy.post("/api/requests", json!({"file_type": "one", "deliver": "auto"})).await.0,
        202
    );
    for deliver in ["now", "auto"] {
        assert_eq!(
            bob.post("/api/requests", json!({"file_type": "one", "deliver": deliver})).await.0,
            200
        );
    }
    // The answer has a time in all, after which its place is free, although nobody took anything.
    eventually("there is a place again", 20, async || {
        let answer = amy.post("/api/requests", json!({"file_type": "one", "deliver": "now"})).await;
        (answer.0 == 200).then_some(())
    })
    .await;
    for response in held {
        assert!(response.bytes().await.is_err(), "an answer that is not whole breaks off");
    }
}

both!(a_busy_source_says_so);
async fn a_busy_source_says_so(app: TestApp) {
    let (app, _read) = with_exports(app.kind, 60).await;
    let base = patient(&app).await;
    let mut held = Vec::new();
    for name in ["amy", "bob", "cem", "dan"] {
        let caller = Caller { http: fresh(), ..Caller::new(&app, &base, name, Role::User).await };
        held.push(slow_reader(&caller).await);
        held.push(slow_reader(&caller).await);
    }
    assert!(held.iter().all(|response| response.status() == 200));
    let eve = Caller { http: fresh(), ..Caller::new(&app, &base, "eve", Role::User).await };
    let ask = async |deliver: &str| {
        let request = eve
            .call("POST", "/api/requests")
            .json(&json!({"file_type": "one", "deliver": deliver}));
        let response = request.send().await.unwrap();
        let again = response.headers().contains_key("retry-after");
        let (status, body) = app::json(response).await;
        (status, body["code"].as_str().map(str::to_owned), again)
    };
    let (now, auto) = tokio::join!(ask("now"), ask("auto"));
    assert_eq!(now, (503, Some("source_busy".into()), true));
    assert_eq!(auto.0, 202, "recorded");
}

/// A stream of events, as far as its head: the status.
async fn stream(caller: &Caller, row: &FileRequest) -> reqwest::Response {
    caller.call("GET", &format!("/api/requests/{}/events", row.id)).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_ask_as_seldom_as_one() {
    let (app, web, proxy) = behind(false).await;
    let base = patient(&web).await;
    let asked = async || {
        let before = proxy.asked();
        tokio::time::sleep(Duration::from_secs(4)).await;
        proxy.asked() - before
    };
    // What a process asks by itself, once it has had a caller.
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    assert_eq!(shop.get("/api/requests").await.0, 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = asked().await;
    let mut streams = Vec::new();
    for number in 0..10 {
        let name = format!("staff{number}");
        let caller = Caller { http: fresh(), ..Caller::new(&app, &base, &name, Role::Staff).await };
        let row = app.request("hello", "").await;
        for _ in 0..20 {
            streams.push(stream(&caller, &row).await);
        }
    }
    assert!(streams.iter().all(|response| response.status() == 200));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let all = asked().await;
    // A question and one whether the connection is at rest, ten times a second.
    assert!(all.saturating_sub(idle) <= 80, "{all} in four seconds, {idle} without streams");
}

live!(many_streams_look_together);
async fn many_streams_look_together(app: TestApp) {
    let base = patient(&app).await;
    let mut streams = Vec::new();
    let row = app.request("hello", "").await;
    for number in 0..10 {
        let name = format!("staff{number}");
        let caller = Caller { http: fresh(), ..Caller::new(&app, &base, &name, Role::Staff).await };
        let row = if number == 0 { row.clone() } else { app.request("hello", "").await };
        for _ in 0..20 {
            streams.push(stream(&caller, &row).await);
        }
        let more = stream(&caller, &row).await;
        assert_eq!(
            (more.status().as_u16(), more.headers().contains_key("retry-after")),
            (429, true)
        );
    }
    assert!(streams.iter().all(|response| response.status() == 200));
    // They see what happens, all of them.
    app.dispatch(row.id).await;
    for response in streams.drain(..20) {
        let text =
            tokio::time::timeout(Duration::from_secs(20), response.text()).await.unwrap().unwrap();
        assert!(text.contains("\"status\":\"finished\""), "{text}");
    }
    // And there is room again.
    let caller = Caller {
        http: fresh(),
        base: base.clone(),
        secret: app.token("staff0", "client-staff0").await,
    };
    eventually("there is a place", 10, async || {
        (stream(&caller, &row).await.status() == 200).then_some(())
    })
    .await;
}

both!(guesses_from_a_wide_network_are_slowed);
async fn guesses_from_a_wide_network_are_slowed(app: TestApp) {
    let app = behind_a_proxy(app.kind).await;
    let base = patient(&app).await;
    let http = fresh();
    app.add_user("olga", Role::Staff, Some(PASSWORD)).await;
    app.client("web", bgfiles::limits::TokenTtl::DAY, "", bgfiles::auth_token::TokenPolicy::One)
        .await;
    let home = "2001:db8:7:ff00::1";
    assert_eq!(log_in(&http, &base, home, "olga", PASSWORD).await.0, 200);
    // One household has 256 networks, and so many guesses for all of them.
    let guess = async |network: u32| {
        let ip = format!("2001:db8:7:{network:x}::1");
        log_in(&http, &base, &ip, "olga", "wrong").await.0
    };
    let mut refused = 0;
    for network in 0..30 {
        refused += usize::from(guess(network).await == 400);
    }
    assert_eq!(refused, 20);
    // One provider's customer has as many households.
    for network in 1..100 {
        refused += usize::from(guess(network << 8).await == 400);
    }
    assert_eq!(refused, 80);
    // Somebody else's account is not slowed by that, nor are other networks, nor is who is known.
    assert_eq!(log_in(&http, &base, "2001:db8:7:1::1", "bob", "wrong").await.0, 400);
    assert_eq!(log_in(&http, &base, "2001:db8:8:1::1", "olga", PASSWORD).await.0, 200);
    assert_eq!(log_in(&http, &base, home, "olga", PASSWORD).await.0, 200);
}

both!(a_flood_of_logins_has_an_end);
async fn a_flood_of_logins_has_an_end(app: TestApp) {
    let app = behind_a_proxy(app.kind).await;
    let base = patient(&app).await;
    let http = fresh();
    app.add_user("olga", Role::Staff, Some(PASSWORD)).await;
    app.client("web", bgfiles::limits::TokenTtl::DAY, "", bgfiles::auth_token::TokenPolicy::One)
        .await;
    assert_eq!(log_in(&http, &base, "192.0.2.9", "olga", PASSWORD).await.0, 200);
    let flood = join_all((0..400).map(|number| {
        let (http, base) = (http.clone(), base.clone());
        tokio::spawn(async move {
            let fields =
                json!({"username": format!("user{number}"), "password": "wrong", "client": "web"});
            let request = http.post(format!("{base}/api/auth/login"));
            let request = request
                .header("x-forwarded-for", format!("10.0.{}.{}", number / 200, number % 200));
            let response = request.json(&fields).send().await.unwrap();
            let again =
                response.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
            (response.status().as_u16(), again)
        })
    }));
    let known = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        log_in(&http, &base, "192.0.2.9", "olga", PASSWORD).await.0
    };
    let (flood, known) = tokio::join!(flood, known);
    assert_eq!(known, 200, "who is known gets in");
    let mut busy = 0;
    for answer in flood {
        match answer.unwrap() {
            (400, None) => {}
            (503, Some(again)) if again == "2" => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(busy > 0, "400 at once are more than may wait");
    // What nobody looked at was no guess.
    let failures = app.count("SELECT count(*) FROM bgfiles_login_attempts WHERE key LIKE 'account %' AND drained_at > 1772366400000").await;
    assert_eq!(failures, 400 - busy);
}

both!(cookies_and_forms_of_a_neighbour_are_refused);
async fn cookies_and_forms_of_a_neighbour_are_refused(app: TestApp) {
    for (url, host, below, root) in [
        ("https://files.example.com", "__Host-", "__Secure-", "/"),
        ("https://example.com/files", "__Secure-", "__Secure-", "/files/"),
        ("http://files.example.com", "", "", "/"),
    ] {
        let app = TestApp::with(app.kind, Parts { base_url: url, ..Parts::default() }).await;
        let base = patient(&app).await;
        let http = fresh();
        app.add_user("amy", Role::User, Some(PASSWORD)).await;
        let (cookie, csrf) = form(&http, &base).await;
        assert!(cookie.starts_with(&format!("{host}bgfiles_form=")), "{cookie}");
        let fields = [("csrf", csrf.as_str()), ("username", "amy"), ("password", PASSWORD)];
        let post = |headers: &[(&'static str, &str)]| {
            let request =
                http.post(format!("{base}/login")).header("cookie", &cookie).form(&fields);
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
        };
        // With a form cookie of their own making, another site's form is another site's.
        for headers in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("origin", "https://evil.example")],
        ] {
            let refused = post(headers).send().await.unwrap();
            assert_eq!(
                (refused.status().as_u16(), refused.headers().contains_key("set-cookie")),
                (403, false)
            );
        }
        let login = post(&[("sec-fetch-site", "same-origin")]).send().await.unwrap();
        assert_eq!(login.status(), 303);
        let line = login.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(line.starts_with(&format!("{host}bgfiles_session=")), "{line}");
        assert_eq!(line.contains("; Secure"), !host.is_empty());
        assert!(line.contains(&format!("; Path={root};")) && !line.contains("Domain"));
        let session = line.split(';').next().unwrap();
        let status = async |cookies: &str| {
            http.get(format!("{base}/api/requests"))
                .header("cookie", cookies)
                .send()
                .await
                .unwrap()
                .status()
                .as_u16()
        };
        assert_eq!(status(session).await, 200);
        // Of two, nobody knows which is planted; by its plain name one is, where there is TLS.
        let planted = SessionSecret::random();
        assert_eq!(
            status(&format!("{session}; {host}bgfiles_session={}", planted.expose())).await,
            401
        );
        assert_eq!(
            status(&format!("{host}bgfiles_session={}; {session}", planted.expose())).await,
            401
        );
        let plain = session.trim_start_matches(host);
        assert_eq!(status(plain).await, if host.is_empty() { 200 } else { 401 });
        // The button of a link is pressed on our page.
        let row = app.finished("hello", "").await;
        let (link, _) = {
            let mut tx = app.toolbox.db().begin().await.unwrap();
            let made = app
                .toolbox
                .create_link(
                    &mut tx,
                    &row,
                    LinkOptions {
                        max_uses: Some(std::num::NonZeroU32::new(1)),
                        ..Default::default()
                    },
                )
                .await
                .unwrap();
            tx.commit().await.unwrap();
            made
        };
        let path = app.toolbox.link_url(&row, &link);
        let path = format!("{base}{}", path.strip_prefix(url).unwrap());
        let press = async |site: &str| {
            http.post(&path).header("sec-fetch-site", site.to_owned()).send().await.unwrap()
        };
        assert_eq!(press("cross-site").await.status(), 403);
        let redeemed = press("same-origin").await;
        assert_eq!(redeemed.status(), 303);
        assert!(
            redeemed.headers()["set-cookie"]
                .to_str()
                .unwrap()
                .starts_with(&format!("{below}bgfiles_grant="))
        );
    }
}

both!(descriptions_and_readiness_are_remembered);
async fn descriptions_and_readiness_are_remembered(app: TestApp) {
    let base = patient(&app).await;
    let http = fresh();
    let ask = |tag: &str| {
        http.get(format!("{base}/openapi.json")).header("if-none-match", tag.to_owned())
    };
    let first = ask("\"x\"").send().await.unwrap();
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(first.status(), 200);
    assert_eq!(ask(&tag).send().await.unwrap().status(), 304);
    // Who may ask for more file types gets another one.
    let staff = Caller { http: fresh(), ..Caller::new(&app, &base, "olga", Role::Staff).await };
    let theirs =
        staff.call("GET", "/openapi.json").header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(theirs.status(), 200);
    assert_ne!(theirs.headers()["etag"], tag);
    // A hundred who ask whether the store answers are one question.
    let ready = async || http.get(format!("{base}/readyz")).send().await.unwrap().status().as_u16();
    assert_eq!(ready().await, 200);
    app.toolbox.db().close().await;
    assert_eq!(ready().await, 200, "a second long");
    eventually("it is found out", 30, async || (ready().await == 503).then_some(())).await;
}
