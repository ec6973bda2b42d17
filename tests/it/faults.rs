//! Real processes that die at the wrong moment.

use std::time::{Duration, Instant};

use bgfiles::Status;
use sqlx::Connection;

use crate::support::{Kind, TestApp, child, eventually, live, patience};

async fn running(app: &TestApp, id: bgfiles::RequestId) {
    eventually("it runs", 20, async || {
        let row = app.row(id).await;
        (row.status == Status::Running && row.progress_done > 0).then_some(())
    })
    .await;
}

live!(kill_9_in_the_middle_of_writing);
async fn kill_9_in_the_middle_of_writing(app: TestApp) {
    let row = app.request("slow", "seconds=4").await;
    // The lease that the product comes with.
    let first = child::worker_with_lease(&app, 10);
    running(&app, row.id).await;
    first.kill();
    let began = Instant::now();
    let _second = child::worker_with_lease(&app, 10);
    eventually("it is taken over", 20, async || {
        (app.row(row.id).await.attempts == 2).then_some(())
    })
    .await;
    assert!(began.elapsed() < patience(Duration::from_secs(15)), "{:?}", began.elapsed());
    eventually("the file", 20, async || {
        (app.row(row.id).await.status == Status::Finished).then_some(())
    })
    .await;
    eventually("the mail", 10, async || (child::mails(&app) == 1).then_some(())).await;
    let done = app.row(row.id).await;
    let key = done.storage_key.unwrap();
    assert!(key.ends_with("/2"), "{key}");
    let file = std::fs::read_to_string(app.files().join(&key)).unwrap();
    assert_eq!(file.lines().count(), 80, "whole");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(child::mails(&app), 1, "once");
}

live!(a_handler_that_aborts_its_process_fails_alone);
async fn a_handler_that_aborts_its_process_fails_alone(app: TestApp) {
    let aborts = app.request("aborts", "").await;
    let good = app.request("hello", "").await;
    // Whoever runs workers starts them again; lease and pause between attempts pass meanwhile.
    let deadline = Instant::now() + Duration::from_secs(80);
    let mut worker = child::worker(&app);
    while app.row(aborts.id).await.status != Status::Failed {
        assert!(Instant::now() < deadline, "{:?}", app.row(aborts.id).await);
        if !worker.running() {
            worker = child::worker(&app);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let dead = app.row(aborts.id).await;
    assert_eq!((dead.error_code.as_deref(), dead.attempts), (Some("worker_died"), 4));
    eventually("the other one", 20, async || {
        (app.row(good.id).await.status == Status::Finished).then_some(())
    })
    .await;
    eventually("both are told", 20, async || (child::mails(&app) == 2).then_some(())).await;
}

live!(sigterm_gives_work_back_and_exits_well);
async fn sigterm_gives_work_back_and_exits_well(app: TestApp) {
    let row = app.request("slow", "seconds=60").await;
    let mut worker = child::worker(&app);
    running(&app, row.id).await;
    worker.signal("TERM");
    assert_eq!(worker.wait(20), Some(0));
    let row = app.row(row.id).await;
    assert_eq!((row.status, row.attempts), (Status::Pending, 0));
}

/// Stops a process where it holds no lock: one that stands still in the middle of a write keeps
/// SQLite's, and then nobody takes anything over, rightly.
async fn stop_between_writes(app: &TestApp, worker: &child::Process) {
    eventually("it stands still without a lock", 20, async || {
        worker.signal("STOP");
        if app.kind == Kind::Postgres || can_write(&app.url).await {
            return Some(());
        }
        worker.signal("CONT");
        None
    })
    .await;
}

async fn can_write(url: &str) -> bool {
    let options: sqlx::sqlite::SqliteConnectOptions = url.parse().unwrap();
    let options = options.busy_timeout(Duration::from_millis(100));
    let mut conn = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let wrote = sqlx::query("BEGIN IMMEDIATE").execute(&mut conn).await.is_ok();
    conn.close().await.unwrap();
    wrote
}

live!(a_stopped_worker_that_goes_on_changes_nothing);
async fn a_stopped_worker_that_goes_on_changes_nothing(app: TestApp) {
    let row = app.request("slow", "seconds=8").await;
    let first = child::worker(&app);
    running(&app, row.id).await;
    stop_between_writes(&app, &first).await;
    let _second = child::worker(&app);
    eventually("it is taken over", 20, async || {
        (app.row(row.id).await.attempts == 2).then_some(())
    })
    .await;
    first.signal("CONT");
    eventually("the file", 40, async || {
        (app.row(row.id).await.status == Status::Finished).then_some(())
    })
    .await;
    let done = app.row(row.id).await;
    assert!(done.storage_key.as_deref().unwrap().ends_with("/2"));
    eventually("the mail", 10, async || (child::mails(&app) == 1).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(child::mails(&app), 1);
    let objects: Vec<_> = app.objects().into_iter().filter(|name| !name.contains('#')).collect();
    assert_eq!(objects.len(), 1, "{objects:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_ends_no_worker() {
    let app = TestApp::live(Kind::Postgres).await;
    let mut worker = child::worker(&app);
    let row = app.request("hello", "").await;
    eventually("it works", 20, async || {
        (app.row(row.id).await.status == Status::Finished).then_some(())
    })
    .await;
    // Every connection is cut, and for a while no new one is let in.
    let name = app.url.rsplit('/').next().unwrap().to_owned();
    let admin = sqlx::PgPool::connect(crate::support::postgres::server()).await.unwrap();
    let run = async |sql: String| {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&admin).await.unwrap();
    };
    run(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
    run(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"))
        .await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(worker.running(), "it waits");
    run(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    let row = app.request("hello", "").await;
    eventually("it works again", 20, async || {
        (app.row(row.id).await.status == Status::Finished).then_some(())
    })
    .await;
}
