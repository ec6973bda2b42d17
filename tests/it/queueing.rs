//! apalis as runtime and wake-up: each of its known defects that concerns us, shown harmless.

use std::time::Duration;

use bgfiles::{
    Status,
    file_request::store,
    queue,
    toolbox::{Deliver, Response},
};
use chrono::TimeDelta;

use crate::support::{Kind, TestApp, both, eventually, live, patience};

async fn all_finished(app: &TestApp) -> Option<()> {
    let open =
        app.count("SELECT count(*) FROM bgfiles_file_requests WHERE status <> 'finished'").await;
    (open == 0).then_some(())
}

live!(a_worker_is_woken_and_mails);
async fn a_worker_is_woken_and_mails(app: TestApp) {
    let (stop, worker) = app.work(2);
    for _ in 0..20 {
        app.request("hello", "").await;
    }
    eventually("all files", 20, async || all_finished(&app).await).await;
    eventually("all mails", 20, async || (app.toolbox.mailer().sent().len() == 20).then_some(()))
        .await;
    stop.cancel();
    worker.await.unwrap();
    assert_eq!(app.seen.writes.load(std::sync::atomic::Ordering::SeqCst), 20);
}

live!(long_jobs_stop_neither_heartbeats_nor_short_ones);
async fn long_jobs_stop_neither_heartbeats_nor_short_ones(app: TestApp) {
    // `batch_size` above the free slots did; and CPU-bound work on the runtime's threads would.
    let (stop, worker) = app.work(3);
    let long = app.request("stubborn", "seconds=14").await;
    let slow = app.request("slow", "seconds=14").await;
    eventually("both run", 10, async || {
        let running = app.row(long.id).await.status == Status::Running;
        (running && app.row(slow.id).await.status == Status::Running).then_some(())
    })
    .await;
    for _ in 0..5 {
        let short = app.request("hello", "").await;
        eventually("a short one beside", 10, async || {
            (app.row(short.id).await.status == Status::Finished).then_some(())
        })
        .await;
    }
    eventually("all", 40, async || all_finished(&app).await).await;
    // Longer than lease and orphan time (10 s): nobody else began them again.
    assert_eq!((app.row(long.id).await.attempts, app.row(slow.id).await.attempts), (1, 1));
    stop.cancel();
    worker.await.unwrap();
}

live!(no_due_fetch_is_lost);
async fn no_due_fetch_is_lost(app: TestApp) {
    // apalis's own interval lost its timer: gaps up to 15 s.
    let (stop, worker) = app.work(2);
    let mut slowest = Duration::ZERO;
    for _ in 0..40 {
        let row = app.request("hello", "").await;
        let began = std::time::Instant::now();
        eventually("it is picked up", 5, async || {
            (app.row(row.id).await.status == Status::Finished).then_some(())
        })
        .await;
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < patience(Duration::from_secs(4)), "{slowest:?}");
    stop.cancel();
    worker.await.unwrap();
}

live!(failures_are_counted_here_and_not_hammered);
async fn failures_are_counted_here_and_not_hammered(app: TestApp) {
    // `RetryAfterError` gave 821 attempts in 5 s.
    let row = app.request("flaky", "failures=9").await;
    let (stop, worker) = app.work(2);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(app.row(row.id).await.attempts, 1);
    stop.cancel();
    worker.await.unwrap();
}

live!(panics_and_timeouts_leave_no_running_jobs);
async fn panics_and_timeouts_leave_no_running_jobs(app: TestApp) {
    let (stop, worker) = app.work(2);
    let panics = app.request("panics", "").await;
    let hangs = app.request("hangs", "").await;
    eventually("they end", 15, async || {
        let retrying = app.row(panics.id).await.attempts == 1
            && app.row(panics.id).await.status == Status::Pending;
        (retrying && app.row(hangs.id).await.status == Status::Failed).then_some(())
    })
    .await;
    let running = match app.kind {
        Kind::Sqlite => "SELECT count(*) FROM Jobs WHERE status = 'Running'",
        Kind::Postgres => "SELECT count(*) FROM apalis.jobs WHERE status = 'Running'",
    };
    eventually("acknowledged", 30, async || (app.count(running).await == 0).then_some(())).await;
    stop.cancel();
    worker.await.unwrap();
}

live!(retries_are_woken_by_the_sweeper);
async fn retries_are_woken_by_the_sweeper(app: TestApp) {
    let (stop, worker) = app.work(1);
    let row = app.request("flaky", "failures=1").await;
    eventually("the second attempt", 30, async || {
        (app.row(row.id).await.status == Status::Finished).then_some(())
    })
    .await;
    assert_eq!(app.row(row.id).await.attempts, 2);
    stop.cancel();
    worker.await.unwrap();
}

live!(a_lost_wake_up_only_delays);
async fn a_lost_wake_up_only_delays(app: TestApp) {
    let row = app.request("hello", "").await;
    app.sql(match app.kind {
        Kind::Sqlite => "DELETE FROM Jobs",
        Kind::Postgres => "DELETE FROM apalis.jobs",
    })
    .await;
    let (stop, worker) = app.work(1);
    eventually("found all the same", 15, async || {
        (app.row(row.id).await.status == Status::Finished).then_some(())
    })
    .await;
    // And one that nobody woke anybody for.
    app.sql("INSERT INTO bgfiles_file_requests (file_type, requester_email) VALUES ('hello', 'amy@example.com')").await;
    eventually("found, too", 15, async || all_finished(&app).await).await;
    stop.cancel();
    worker.await.unwrap();
}

live!(sigterm_drains_and_then_gives_back);
async fn sigterm_drains_and_then_gives_back(app: TestApp) {
    let stop = tokio_util::sync::CancellationToken::new();
    let options = bgfiles::worker::WorkerOptions { slots: 2, drain: Duration::from_secs(2) };
    let worker = tokio::spawn(bgfiles::worker::run(app.toolbox.clone(), options, stop.clone()));
    let short = app.request("slow", "seconds=1").await;
    let long = app.request("slow", "seconds=60").await;
    eventually("both run", 10, async || {
        let running = app.row(long.id).await.status == Status::Running;
        (running && app.row(short.id).await.status == Status::Running).then_some(())
    })
    .await;
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(15), worker).await.expect("it ends").unwrap();
    assert_eq!(app.row(short.id).await.status, Status::Finished);
    let long = app.row(long.id).await;
    assert_eq!((long.status, long.attempts), (Status::Pending, 0), "given back, not counted");
    assert!(long.run_at <= app.toolbox.clock().now());
}

live!(twenty_workers_make_one_file);
async fn twenty_workers_make_one_file(app: TestApp) {
    let row = app.request("slow", "seconds=1").await;
    let mut racers = Vec::new();
    for i in 0..20 {
        let toolbox = app.toolbox.clone();
        racers.push(tokio::spawn(async move {
            toolbox.dispatch(row.id, &format!("w{i}"), &Default::default()).await.unwrap()
        }));
    }
    let outcomes = futures::future::try_join_all(racers).await.unwrap();
    let handled = outcomes.iter().filter(|o| **o == bgfiles::toolbox::Dispatched::Handled).count();
    assert_eq!(handled, 1, "{outcomes:?}");
    assert_eq!(app.objects().len(), 1);
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_notices").await, 1);
}

live!(a_worker_that_comes_back_late_changes_nothing);
async fn a_worker_that_comes_back_late_changes_nothing(app: TestApp) {
    // SIGSTOP past the lease, then SIGCONT, as seen from the row: two claims, the first one
    // publishes last.
    let row = app.request("hello", "").await;
    let claim = async |worker: &str| {
        let now = app.toolbox.clock().now();
        let mut tx = app.toolbox.db().begin().await.unwrap();
        let expired = now - TimeDelta::seconds(1);
        let claimed = store::claim(&mut tx, row.id, worker, now, expired).await.unwrap();
        tx.commit().await.unwrap();
        claimed.expect("it is free")
    };
    let first = claim("first").await;
    let second = claim("second").await;
    assert_eq!((first.generation, second.generation), (1, 2));
    let publish = async |generation: i64| {
        let file = store::Published {
            storage_key: format!("requests/{}/{generation}", row.id),
            filename: "x".into(),
            content_type: "x/x".into(),
            format: String::new(),
            description: String::new(),
            size: generation,
            sha256: String::new(),
            rows: None,
            finished_at: app.toolbox.clock().now(),
            expires_at: app.toolbox.clock().now(),
        };
        let mut tx = app.toolbox.db().begin().await.unwrap();
        let publication = store::Publication { id: row.id, generation, file };
        let published = store::publish(&mut tx, &publication).await.unwrap();
        tx.commit().await.unwrap();
        published.is_some()
    };
    let lease_until = app.toolbox.clock().now();
    let beat = store::Beat { done: 1, total: None, estimated: false, lease_until };
    let mut tx = app.toolbox.db().begin().await.unwrap();
    assert_eq!(store::heartbeat(&mut tx, row.id, 1, beat).await.unwrap(), None);
    tx.commit().await.unwrap();
    assert!(publish(2).await && !publish(1).await && !publish(2).await);
    assert_eq!(app.row(row.id).await.size, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sqlite_queue_keeps_its_safety_and_its_speed() {
    let app = TestApp::new(Kind::Sqlite).await;
    // apalis's own `setup` turns it off.
    assert_eq!(app.count("PRAGMA synchronous").await, 2, "FULL");
    let indexes = "SELECT count(*) FROM sqlite_master WHERE type = 'index' \
        AND name IN ('LIdx', 'idx_jobs_status_run_at', 'idx_jobs_claimable')";
    assert_eq!(app.count(indexes).await, 0);
    // Both books of migrations live side by side, and migrating again changes nothing.
    bgfiles::Toolbox::migrate(app.toolbox.db()).await.unwrap();
    assert!(app.count("SELECT count(*) FROM _apalis_migrations").await > 0);
    assert!(app.count("SELECT count(*) FROM _bgfiles_migrations").await > 0);
    assert_eq!(
        app.count("SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_leaves_no_transaction_behind() {
    let app = TestApp::new(Kind::Sqlite).await;
    let db = app.toolbox.db();
    let mut tx = db.begin().await.unwrap();
    let bgfiles::Conn::Sqlite(conn) = tx.conn() else { unreachable!() };
    // No page more than there are.
    sqlx::query("PRAGMA max_page_count = 1").execute(&mut *conn).await.unwrap();
    let sql = "INSERT INTO bgfiles_users (id, username, role, created_at) \
        VALUES (zeroblob(16), hex(zeroblob(1000000)), 'user', '')";
    let full = sqlx::query(sql).execute(&mut *conn).await.unwrap_err();
    assert!(full.to_string().contains("full"), "{full}");
    drop(tx);
    // Whoever gets that connection next.
    for _ in 0..4 {
        db.read().await.unwrap();
        db.begin().await.unwrap();
    }
    app.request("hello", "").await;
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_file_requests").await, 1);
}

live!(done_jobs_and_dead_workers_are_purged);
async fn done_jobs_and_dead_workers_are_purged(app: TestApp) {
    let (stop, worker) = app.work(1);
    for _ in 0..5 {
        app.request("hello", "").await;
    }
    eventually("all", 20, async || all_finished(&app).await).await;
    eventually("all mails", 20, async || (app.toolbox.mailer().sent().len() == 5).then_some(()))
        .await;
    let open = match app.kind {
        Kind::Sqlite => "SELECT count(*) FROM Jobs WHERE status <> 'Done'",
        Kind::Postgres => "SELECT count(*) FROM apalis.jobs WHERE status <> 'Done'",
    };
    eventually("acknowledged", 30, async || (app.count(open).await == 0).then_some(())).await;
    stop.cancel();
    worker.await.unwrap();
    let purge = async |before| {
        let mut tx = app.toolbox.db().begin().await.unwrap();
        let purged = queue::purge(tx.conn(), before, 1000).await.unwrap();
        tx.commit().await.unwrap();
        purged
    };
    let now = app.toolbox.clock().now();
    assert_eq!(purge(now - TimeDelta::hours(1)).await, 0);
    // Mails about what a worker made do not go through the queue.
    assert!((1..=10).contains(&purge(now + TimeDelta::minutes(1)).await));
    let left = match app.kind {
        Kind::Sqlite => "SELECT (SELECT count(*) FROM Jobs) + (SELECT count(*) FROM Workers)",
        Kind::Postgres => {
            "SELECT (SELECT count(*) FROM apalis.jobs) + (SELECT count(*) FROM apalis.workers)"
        }
    };
    assert_eq!(app.count(left).await, 0);
}

live!(a_job_that_is_none_of_ours_stops_nobody);
async fn a_job_that_is_none_of_ours_stops_nobody(app: TestApp) {
    // One that apalis cannot decode would end every worker that fetches it.
    app.sql(match app.kind {
        Kind::Sqlite => "INSERT INTO Jobs (job, id, job_type, max_attempts, run_at, metadata) \
            VALUES ('{\"odd\":1}', '01J00000000000000000000000', 'bgfiles::requests', 1, 1, '{}')",
        Kind::Postgres => "INSERT INTO apalis.jobs (job, id, job_type, status, max_attempts, run_at, metadata) \
            VALUES ('{\"odd\":1}'::bytea, '01J00000000000000000000000', 'bgfiles::requests', 'Pending', 1, to_timestamp(1), '')",
    }).await;
    let (stop, worker) = app.work(1);
    let row = app.request("hello", "").await;
    eventually("the one behind it", 20, async || {
        (app.row(row.id).await.status == Status::Finished).then_some(())
    })
    .await;
    stop.cancel();
    worker.await.unwrap();
}

both!(what_comes_together_is_recorded_together);
async fn what_comes_together_is_recorded_together(app: TestApp) {
    // The database refuses one of them.
    app.sql(match app.kind {
        Kind::Postgres => "ALTER TABLE bgfiles_file_requests ADD CHECK (description <> 'number 77')",
        Kind::Sqlite => "CREATE TRIGGER picky BEFORE INSERT ON bgfiles_file_requests WHEN NEW.description = 'number 77' BEGIN SELECT RAISE(ABORT, 'no'); END",
    })
    .await;
    let asks = (0..200).map(|i| {
        let toolbox = app.toolbox.clone();
        let mut new = TestApp::new_request("hello", "");
        new.requester.id = Some(format!("user-{i}"));
        new.description = Some(format!("number {i}"));
        tokio::spawn(async move { toolbox.respond_to(new, Deliver::Later, None).await })
    });
    let mut refused = Vec::new();
    for (i, done) in futures::future::join_all(asks).await.into_iter().enumerate() {
        match done.unwrap() {
            Ok(Response::Later(row)) => {
                let stored = app.row(row.id).await;
                assert_eq!(
                    (stored.requester, stored.description),
                    (row.requester.clone(), row.description.clone())
                );
                assert_eq!(
                    (stored.status, stored.generation, stored.attempts),
                    (Status::Pending, 0, 0)
                );
                assert_eq!((stored.requested_at, stored.run_at), (row.requested_at, row.run_at));
                assert_eq!(row.requester, Some(format!("user-{i}")));
            }
            Ok(Response::Now(_) | Response::Earlier(_)) => panic!("neither now nor again"),
            Err(_) => refused.push(i),
        }
    }
    assert_eq!(refused, [77]);
    let jobs = match app.kind {
        Kind::Postgres => app.count("SELECT count(*) FROM apalis.jobs").await,
        Kind::Sqlite => app.count("SELECT count(*) FROM Jobs").await,
    };
    // One for each transaction.
    assert!((1..=199).contains(&jobs), "{jobs}");
}
