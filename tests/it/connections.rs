//! Connections to PostgreSQL whose users leave, and whose other end is gone.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use bgfiles::{Conn, Db, auth_token::Role};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::{
    cli::{define, on, run},
    support::{Caller, Kind, TestApp, child::Process, eventually, patience, postgres_proxy::Proxy},
};

/// The app, and one over the same database by way of a proxy.
pub async fn behind(tls: bool) -> (TestApp, TestApp, Proxy) {
    let mut app = TestApp::live(Kind::Postgres).await;
    let proxy = Proxy::to(&app.url).await;
    let through = if tls { proxy.url_tls(&app.url) } else { proxy.url(&app.url) };
    let direct = std::mem::replace(&mut app.url, through);
    let web = app.sibling();
    app.url = direct;
    (app, web, proxy)
}

async fn idle_in_transaction(app: &TestApp) -> i64 {
    app.count(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND state LIKE 'idle in transaction%'",
    )
    .await
}

async fn is_there(app: &TestApp, id: &str) -> bool {
    let mut tx = app.toolbox.db().read().await.unwrap();
    let id = id.parse().unwrap();
    bgfiles::file_request::store::find(&mut tx, id).await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_leave_while_a_transaction_begins_leave_none_open() {
    let (app, web, proxy) = behind(false).await;
    let address = web.serve().await;
    let shop = Caller::new(&app, &format!("http://{address}"), "shop", Role::Service).await;
    let row = shop.post("/api/requests", json!({"file_type": "hello"})).await.1;
    let path = format!("/api/requests/{}", row["id"].as_str().unwrap());
    for _ in 0..3 {
        proxy.hold(Duration::from_secs(1));
        let leaving = (0..16).map(|_| async {
            let patch = shop.call("PATCH", &path).json(&json!({"description": "left"}));
            patch.timeout(Duration::from_millis(300)).send().await.unwrap_err()
        });
        futures::future::join_all(leaving).await;
        proxy.hold(Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        eventually("no session is in a transaction", 5, async || {
            (idle_in_transaction(&app).await == 0).then_some(())
        })
        .await;
        for _ in 0..20 {
            let (status, row) = shop.post("/api/requests", json!({"file_type": "hello"})).await;
            assert_eq!(status, 202, "{row}");
            assert!(is_there(&app, row["id"].as_str().unwrap()).await, "acknowledged");
        }
    }
}

/// How many clients leave; `BGFILES_TEST_FACTOR=10` for the full length.
fn leaving() -> usize {
    let factor = std::env::var("BGFILES_TEST_FACTOR").ok().and_then(|n| n.parse().ok());
    2_000 * factor.unwrap_or(1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_while_clients_leave_is_there() {
    let (app, web, proxy) = behind(false).await;
    let address = web.serve().await;
    let shop = Caller::new(&app, &format!("http://{address}"), "shop", Role::Service).await;
    let row = shop.post("/api/requests", json!({"file_type": "hello"})).await.1;
    let head = format!(
        "PATCH /api/requests/{} HTTP/1.1\r\nHost: files.example.com\r\nAuthorization: Token {}\r\n\
         Content-Type: application/json\r\nContent-Length: 22\r\n\r\n{{\"description\":\"left\"}}",
        row["id"].as_str().unwrap(),
        shop.secret
    );
    proxy.hold(Duration::from_millis(3));
    let (done, recorded) = (AtomicBool::new(false), AtomicUsize::new(0));
    let record = async || {
        while !done.load(Ordering::SeqCst) {
            let (status, row) = shop.post("/api/requests", json!({"file_type": "hello"})).await;
            assert_eq!(status, 202, "{row}");
            let id = row["id"].as_str().unwrap().to_owned();
            eventually("what was acknowledged", 1, async || {
                is_there(&app, &id).await.then_some(())
            })
            .await;
            recorded.fetch_add(1, Ordering::SeqCst);
        }
    };
    let leave = async |lane: usize| {
        // On a busy machine, until enough was recorded beside them.
        let is_enough = || recorded.load(Ordering::SeqCst) > 50;
        for turn in (0..).take_while(|turn| *turn < leaving() / 8 || !is_enough()) {
            let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
            client.write_all(head.as_bytes()).await.unwrap();
            let wait = (turn * 7 + lane * 13) % 50;
            tokio::time::sleep(Duration::from_micros(wait as u64 * 200)).await;
        }
    };
    let leave_all = async {
        futures::future::join_all((0..8).map(&leave)).await;
        done.store(true, Ordering::SeqCst);
    };
    tokio::join!(futures::future::join_all((0..4).map(|_| record())), leave_all);
    eventually("no session is in a transaction", 5, async || {
        (idle_in_transaction(&app).await == 0).then_some(())
    })
    .await;
}

async fn one(conn: Conn<'_>) -> Result<i32, sqlx::Error> {
    match conn {
        Conn::Postgres(c) => sqlx::query_scalar("SELECT 1").fetch_one(c).await,
        Conn::Sqlite(c) => sqlx::query_scalar("SELECT 1").fetch_one(c).await,
    }
}

/// Twenty connections that work.
async fn twenty(db: &Db) -> Vec<bgfiles::db::Pooled> {
    let mut all = Vec::new();
    for _ in 0..20 {
        let mut conn = db.acquire().await.unwrap();
        one(Conn::from(&mut conn)).await.unwrap();
        all.push(conn);
    }
    all
}

async fn works_again(db: &Db) {
    let began = Instant::now();
    let all = twenty(db).await;
    assert!(began.elapsed() < patience(Duration::from_secs(10)), "{:?}", began.elapsed());
    drop(all);
    let mut tx = db.begin().await.unwrap();
    one(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_that_died_in_silence_are_replaced() {
    // Over TLS whoever closes waits for the other end.
    for tls in [false, true] {
        let (_app, web, proxy) = behind(tls).await;
        drop(twenty(web.toolbox.db()).await);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        proxy.black_hole();
        works_again(web.toolbox.db()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_died_while_they_were_lent_free_their_places() {
    for tls in [false, true] {
        let (_app, web, proxy) = behind(tls).await;
        let db = web.toolbox.db().clone();
        let (mut lent, mut begun) = (twenty(&db).await, Vec::new());
        lent.truncate(10);
        for _ in 0..10 {
            begun.push(db.begin().await.unwrap());
        }
        proxy.black_hole();
        // Half are given back as they are, half in the middle of a statement.
        let asking = lent.drain(..5).map(|mut conn| {
            tokio::spawn(async move { one(Conn::from(&mut conn)).await.map(drop) })
        });
        let asking: Vec<_> = asking.collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        asking.iter().for_each(tokio::task::JoinHandle::abort);
        drop((lent, begun));
        works_again(&db).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_never_answered_holds_nobody_up_for_long() {
    let (app, web, proxy) = behind(false).await;
    let address = web.serve().await;
    let shop = Caller::new(&app, &format!("http://{address}"), "shop", Role::Service).await;
    let post = async |key: &str| {
        let post = shop.call("POST", "/api/requests").header("Idempotency-Key", key);
        post.json(&json!({"file_type": "hello"})).send().await.unwrap().status().as_u16()
    };
    assert_eq!(post("one").await, 202);
    proxy.hold(Duration::from_secs(3600));
    let dead = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.black_hole();
        proxy.hold(Duration::ZERO);
    };
    let (status, ()) = tokio::join!(post("two"), dead);
    assert_eq!(status, 503);
    assert_eq!((post("two").await, post("three").await), (202, 202));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_opens_no_more_connections_than_it_may() {
    let app = TestApp::live(Kind::Postgres).await;
    let secret = app.user("shop", Role::Service).await;
    define(&app, "one.toml", "title = \"One\"\nformats = [\"csv\"]\nquery = \"SELECT 1 AS one\"\n");
    // Ours would count, too.
    let (watching, direct) = (watching(&app).await, app.url.clone());
    app.toolbox.close().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let begin = |args: &[&str]| {
        let log = std::fs::File::create(app.dir.path().join("log")).unwrap();
        let mut command = on(&app);
        command.env("DATABASE_URL", &direct).env("BGFILES_DATABASE_CONNECTIONS", "5").args(args);
        Process(command.stderr(log).spawn().unwrap())
    };
    let web = begin(&["web", "--bind", &format!("127.0.0.1:{port}")]);
    let base = format!("http://127.0.0.1:{port}");
    eventually("it serves", 20, async || app.http.get(format!("{base}/readyz")).send().await.ok())
        .await;
    let shop = Caller { http: app.http.clone(), base, secret };
    let until = Instant::now() + Duration::from_secs(6);
    let client = async || {
        let mut answered = 0;
        while Instant::now() < until {
            let (status, row) = shop.post("/api/requests", json!({"file_type": "one"})).await;
            assert_eq!(status, 202, "{row}");
            assert_eq!(shop.get("/api/requests").await.0, 200);
            answered += 1;
        }
        answered
    };
    let (most, answered) =
        tokio::join!(most(&watching, until), futures::future::join_all((0..48).map(|_| client())));
    assert!(answered.iter().all(|n| *n > 0), "{answered:?}");
    assert!((2..=5).contains(&most), "{most}");
    drop(web);
    let worker = begin(&["worker"]);
    let most = self::most(&watching, Instant::now() + Duration::from_secs(6)).await;
    assert!((2..=5).contains(&most), "{most}");
    drop(worker);
    let (code, out, err) = run(on(&app).env("BGFILES_DATABASE_CONNECTIONS", "4").arg("check"));
    assert!(code == 1 && err.contains("5 or more"), "{out}{err}");
}

async fn watching(app: &TestApp) -> sqlx::PgPool {
    let options: sqlx::postgres::PgConnectOptions = app.url.parse().unwrap();
    let options = options.application_name("watching");
    sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap()
}

/// The most sessions, those of exports apart, that were seen until then.
async fn most(pool: &sqlx::PgPool, until: Instant) -> i64 {
    let mut most = 0;
    while Instant::now() < until {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND application_name = 'bgfiles'";
        most = most.max(sqlx::query_scalar(sql).fetch_one(pool).await.unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_how_many_connections_a_process_may_open() {
    let app = TestApp::live(Kind::Postgres).await;
    let jobs = app.dir.path().join("jobs");
    std::fs::create_dir_all(&jobs).unwrap();
    let one = "title = \"One\"\nformats = [\"csv\"]\nquery = \"SELECT 1 AS one\"\n";
    std::fs::write(jobs.join("one.toml"), one).unwrap();
    std::fs::write(jobs.join("two.toml"), format!("source = \"wide\"\n{one}")).unwrap();
    let check = || {
        let mut command = on(&app);
        command.env("BGFILES_DATABASE_CONNECTIONS", "10").env("BGFILES_SOURCE_WIDE", &app.url);
        command.arg("check");
        command
    };
    let (code, out, err) = run(&mut check());
    assert_eq!(code, 0, "{out}{err}");
    let line = "up to 28 connections: database 10, source default 9, source wide 9";
    assert!(out.contains(line), "{out}");
    let (_, json, _) = run(check().arg("--json"));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["connections"]["most"], 28, "{json}");
}
