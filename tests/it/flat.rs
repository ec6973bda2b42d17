//! What a long queue and a long history cost: nothing that runs often reads all of either.
//!
//! What is counted is work done by the calls themselves, whatever statements they send: rows that
//! PostgreSQL reads, instructions that SQLite's machine executes.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use bgfiles::{
    RequestId, Status, Tx,
    cleaner::{self, Limits, Sweeps},
    file_request::{
        attempts, notice,
        store::{self, Claimant, Filter, SEARCHED, Which},
    },
    operations::{self, WorkerState},
    queue,
};
use chrono::{DateTime, TimeDelta};

use crate::support::{Kind, TestApp, both};

/// Requests that are done and requests that wait; in tests, few enough to be made quickly.
const FILL_POSTGRES: [&str; 6] = [
    "INSERT INTO bgfiles_file_requests (file_type, status, requester, description, storage_key, size, \
        requested_at, run_at, finished_at, expires_at) \
        SELECT 'hello', CASE WHEN i % 5000 = 0 THEN 'failed' ELSE 'finished' END, 'u' || i % 100, \
        'Request ' || i, 'k' || i, 7, at, at, at, at + interval '90 days' FROM generate_series(1, 20000) i, \
        LATERAL (SELECT timestamptz '2026-03-01 11:00Z' - i * interval '1 minute' AS at) t",
    "INSERT INTO bgfiles_file_requests (file_type, requester, description, requested_at, run_at) \
        SELECT 'hello', 'u' || i % 100, 'Request ' || i, at, at \
        FROM generate_series(1, 5000) i, \
        LATERAL (SELECT timestamptz '2026-03-01 12:00Z' - i * interval '0.5 seconds' AS at) t",
    "INSERT INTO bgfiles_attempts (request_id, generation, worker, started_at, ended_at, outcome) \
        SELECT id, 1, 'w', requested_at, requested_at, status FROM bgfiles_file_requests WHERE status <> 'pending'",
    "INSERT INTO bgfiles_notices (id, request_id, kind, message_id, status, run_at, woken_at, created_at) \
        SELECT gen_random_uuid(), id, 'ready', '', CASE WHEN status = 'finished' THEN 'sent' ELSE 'pending' END, \
        run_at, timestamptz '2026-03-01 12:00Z', run_at FROM bgfiles_file_requests WHERE status IN ('finished', 'pending')",
    "INSERT INTO apalis.jobs (job, id, job_type, status, max_attempts, run_at, done_at) \
        SELECT '', 'j' || i, 'bgfiles::requests', CASE WHEN i > 20000 THEN 'Pending' ELSE 'Done' END, 1, \
        '2026-03-01 11:00Z', CASE WHEN i > 20000 THEN NULL ELSE timestamptz '2026-03-01 11:00Z' END \
        FROM generate_series(1, 25000) i",
    "ANALYZE",
];
const FILL_SQLITE: [&str; 5] = [
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000), \
        t AS (SELECT i, strftime('%Y-%m-%dT%H:%M:%S+00:00', '2026-03-01T11:00:00', '-' || i || ' minutes') AS at FROM n) \
        INSERT INTO bgfiles_file_requests (id, file_type, status, requester, description, storage_key, size, \
        requested_at, run_at, finished_at, expires_at) \
        SELECT randomblob(16), 'hello', CASE WHEN i % 5000 = 0 THEN 'failed' ELSE 'finished' END, 'u' || i % 100, \
        'Request ' || i, 'k' || i, 7, at, at, at, '2026-06-01T00:00:00+00:00' FROM t",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000), \
        t AS (SELECT i, strftime('%Y-%m-%dT%H:%M:%S+00:00', '2026-03-01T12:00:00', '-' || (i / 2) || ' seconds') AS at FROM n) \
        INSERT INTO bgfiles_file_requests (id, file_type, requester, description, requested_at, run_at) \
        SELECT randomblob(16), 'hello', 'u' || i % 100, 'Request ' || i, at, at FROM t",
    "INSERT INTO bgfiles_attempts (request_id, generation, worker, started_at, ended_at, outcome) \
        SELECT id, 1, 'w', requested_at, requested_at, status FROM bgfiles_file_requests WHERE status <> 'pending'",
    "INSERT INTO bgfiles_notices (id, request_id, kind, message_id, status, run_at, woken_at, created_at) \
        SELECT randomblob(16), id, 'ready', '', CASE WHEN status = 'finished' THEN 'sent' ELSE 'pending' END, \
        run_at, '2026-03-01T12:00:00+00:00', run_at FROM bgfiles_file_requests WHERE status IN ('finished', 'pending')",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000) \
        INSERT INTO Jobs (job, id, job_type, status, max_attempts, run_at, done_at) \
        SELECT 'x', 'j' || i, 'bgfiles::requests', iif(i > 20000, 'Pending', 'Done'), 1, \
        unixepoch('2026-03-01 11:00'), iif(i > 20000, NULL, unixepoch('2026-03-01 11:00')) FROM n",
];

async fn fill(app: &TestApp) {
    let statements: &[&'static str] = match app.kind {
        Kind::Postgres => &FILL_POSTGRES,
        Kind::Sqlite => &FILL_SQLITE,
    };
    for sql in statements {
        app.sql(sql).await;
    }
    // A worker adds up every few seconds.
    let mut tx = app.toolbox.db().begin().await.unwrap();
    operations::store::fold_tally(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
}

/// What is done in one transaction, which is rolled back at its end: rows read on PostgreSQL,
/// hundreds of instructions on SQLite.
struct Work {
    tx: Tx,
    read_before: i64,
    instructions: Arc<AtomicI64>,
}

impl Work {
    const READ: &str = "SELECT CAST(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) AS bigint) \
        FROM pg_stat_xact_all_tables WHERE relname LIKE 'bgfiles%' OR schemaname = 'apalis'";

    async fn begin(app: &TestApp) -> Work {
        let mut tx = app.toolbox.db().begin().await.unwrap();
        let instructions = Arc::new(AtomicI64::new(0));
        let mut read_before = 0;
        match &mut tx {
            Tx::Postgres(tx) => {
                read_before = sqlx::query_scalar(Self::READ).fetch_one(&mut **tx).await.unwrap();
            }
            Tx::Sqlite(tx) => {
                let counter = instructions.clone();
                tx.lock_handle().await.unwrap().set_progress_handler(100, move || {
                    counter.fetch_add(1, Ordering::Relaxed);
                    true
                });
            }
        }
        Work { tx, read_before, instructions }
    }

    async fn end(mut self) -> i64 {
        match &mut self.tx {
            Tx::Postgres(tx) => {
                let read: i64 = sqlx::query_scalar(Self::READ).fetch_one(&mut **tx).await.unwrap();
                read - self.read_before
            }
            Tx::Sqlite(tx) => {
                tx.lock_handle().await.unwrap().remove_progress_handler();
                self.instructions.load(Ordering::Relaxed)
            }
        }
    }
}

/// Reading every request once is 25,000 rows, or at least a thousand times a hundred instructions.
const FEW: i64 = 700;

macro_rules! costs {
    ($app:ident, $most:expr, |$tx:ident| $call:expr) => {{
        let mut work = Work::begin(&$app).await;
        let $tx = &mut work.tx;
        let answer = $call.await.unwrap();
        let cost = work.end().await;
        assert!(cost <= $most, "{cost} for {}", stringify!($call));
        answer
    }};
}

both!(what_runs_often_reads_little);
async fn what_runs_often_reads_little(app: TestApp) {
    fill(&app).await;
    let (now, minute) = (app.toolbox.clock().now(), TimeDelta::minutes(1));
    let types = app.toolbox.known_types();
    let claimant = Claimant { worker: "w", file_types: &types, now, lease_until: now - minute };
    let lately = now - minute;
    // Mails: all that there are hands for, and none.
    let later = now + minute * 2;
    let mails = costs!(app, FEW, |tx| notice::store::claim_some(tx, 16, now, later));
    assert_eq!(mails.len(), 16);
    let mails =
        costs!(app, FEW, |tx| notice::store::claim_some(tx, 16, lately - minute * 60, later));
    assert_eq!(mails.len(), 0);
    // Taking one.
    let due = costs!(app, FEW, |tx| store::to_handle(tx, &types, now, 50));
    assert_eq!(due.len(), 50);
    let id = due[0].id;
    assert!(costs!(app, FEW, |tx| store::claim(tx, id, "w", now, now + minute)).is_some());
    // Or all that there are slots for.
    let which = Which::DueSince(DateTime::UNIX_EPOCH);
    let claimed = costs!(app, FEW, |tx| store::claim_some(tx, which, 8, claimant));
    assert_eq!(claimed.len(), 8);
    app.sql("UPDATE bgfiles_file_requests SET status = 'running', lease_until = '2026-03-01T11:00:00+00:00' \
        WHERE id IN (SELECT id FROM bgfiles_file_requests WHERE status = 'pending' LIMIT 8)").await;
    let silent = costs!(app, FEW, |tx| store::claim_some(
        tx,
        Which::Silent,
        8,
        Claimant { lease_until: later, ..claimant }
    ));
    assert_eq!(silent.len(), 8);
    app.sql("UPDATE bgfiles_file_requests SET status = 'pending' WHERE status = 'running'").await;
    let state = WorkerState {
        name: "w".into(),
        host: String::new(),
        slots: 1,
        started_at: now,
        seen_at: now,
        ended_at: None,
        file_types: types.join(","),
    };
    costs!(app, FEW, |tx| operations::store::beat(tx, &state));
    // Types that nobody knows.
    let waiting = costs!(app, FEW, |tx| store::waiting_types(tx));
    assert_eq!(waiting.len(), 1);
    // Lists.
    let statuses = Status::ALL.into_iter().map(Some).chain([None]);
    let filters = statuses.map(|status| Filter { status, ..Filter::default() });
    let before = now - TimeDelta::days(10);
    for filter in filters {
        costs!(app, FEW, |tx| store::list(tx, &filter, 50));
        let filter = Filter { before: Some((before, RequestId::random())), ..filter };
        costs!(app, FEW, |tx| store::list(tx, &filter, 50));
        let filter = Filter { requester: Some("u7".into()), ..filter };
        costs!(app, FEW, |tx| store::list(tx, &filter, 50));
    }
    let search = |text: String| Filter { search: Some(text), ..Filter::default() };
    let filter = search(id.to_string());
    assert_eq!(costs!(app, FEW, |tx| store::list(tx, &filter, 50)).len(), 1);
    // As many as it says, some instructions each.
    let most = SEARCHED + FEW;
    let filter = search("not there".into());
    assert_eq!(costs!(app, most, |tx| store::list(tx, &filter, 50)).len(), 0);
    let filter = search("request 4".into());
    assert_eq!(costs!(app, most, |tx| store::list(tx, &filter, 50)).len(), 50);
    // How things stand.
    let counts = costs!(app, FEW, |tx| store::counts(tx));
    assert_eq!(counts.iter().map(|(_, n)| n).sum::<i64>(), 25_000);
    let stored = costs!(app, FEW, |tx| operations::store::stored(tx));
    assert_eq!((stored.files, stored.bytes), (20_000, 140_000));
    let oldest = costs!(app, FEW, |tx| store::oldest_due(tx, now));
    assert_eq!(oldest, Some(TimeDelta::seconds(2500)));
    // The cleaner, with nothing to remove.
    let yesterday = now - TimeDelta::days(1);
    costs!(app, FEW, |tx| store::expired(tx, now, 50));
    assert_eq!(costs!(app, FEW, |tx| attempts::store::forget(tx, yesterday, 1000)), 0);
    let ids: Vec<RequestId> = due.iter().map(|row| row.id).collect();
    assert_eq!(costs!(app, FEW, |tx| store::object_states(tx, &ids)).len(), 50);
    assert_eq!(costs!(app, FEW, |tx| queue::purge(tx.conn(), yesterday, 1000)), 0);
}

/// What the tally says and what there is.
async fn tally(app: &TestApp) -> [Vec<(String, i64)>; 2] {
    let mut tx = app.toolbox.db().read().await.unwrap();
    let mut kept = store::counts(&mut tx).await.unwrap();
    let stored = operations::store::stored(&mut tx).await.unwrap();
    kept.extend([("files".to_owned(), stored.files), ("bytes".to_owned(), stored.bytes)]);
    drop(tx);
    let mut there = Vec::new();
    for status in Status::ALL {
        let filter = Filter { status: Some(status), ..Filter::default() };
        let mut tx = app.toolbox.db().read().await.unwrap();
        let rows = store::list(&mut tx, &filter, 1000).await.unwrap();
        there.push((status.as_str().to_owned(), rows.len() as i64));
    }
    there.retain(|(_, n)| *n > 0);
    let files = "SELECT count(*) FROM bgfiles_file_requests WHERE storage_key IS NOT NULL AND status <> 'expired'";
    let bytes = "SELECT CAST(coalesce(sum(size), 0) AS bigint) FROM bgfiles_file_requests \
        WHERE storage_key IS NOT NULL AND status <> 'expired'";
    there.extend([
        ("files".to_owned(), app.count(files).await),
        ("bytes".to_owned(), app.count(bytes).await),
    ]);
    [kept, there].map(|mut lines| {
        lines.sort();
        lines
    })
}

both!(the_tally_says_what_there_is);
async fn the_tally_says_what_there_is(app: TestApp) {
    let agree = async |n: usize| {
        let [kept, there] = tally(&app).await;
        assert_eq!(kept, there);
        assert_eq!(app.count("SELECT count(*) FROM bgfiles_file_requests").await, n as i64);
    };
    agree(0).await;
    let finished = app.finished("hello", "").await;
    app.finished("hello", "").await;
    let failed = app.request("permanent", "").await;
    app.dispatch(failed.id).await;
    let waiting = app.request("hello", "").await;
    agree(4).await;
    let mut tx = app.toolbox.db().begin().await.unwrap();
    app.toolbox.cancel(&mut tx, waiting.id).await.unwrap();
    app.toolbox.retry(&mut tx, failed.id).await.unwrap();
    app.toolbox.expire(&mut tx, finished.id).await.unwrap();
    tx.commit().await.unwrap();
    agree(4).await;
    // What is rolled back is not counted.
    let mut tx = app.toolbox.db().begin().await.unwrap();
    app.toolbox.add_request(&mut tx, TestApp::new_request("hello", "")).await.unwrap();
    drop(tx);
    agree(4).await;
    app.advance(3600);
    cleaner::clean(&app.toolbox, &Sweeps::default(), Limits::default()).await.unwrap();
    agree(3).await;
    // By hand, many at once.
    app.sql("UPDATE bgfiles_file_requests SET size = 9, storage_key = 'k', status = 'finished'")
        .await;
    agree(3).await;
    app.sql("DELETE FROM bgfiles_file_requests").await;
    agree(0).await;
}

both!(the_tally_is_added_up_and_counted_anew);
async fn the_tally_is_added_up_and_counted_anew(app: TestApp) {
    app.finished("hello", "").await;
    for sql in match app.kind {
        Kind::Postgres => &FILL_POSTGRES[1..2],
        Kind::Sqlite => &FILL_SQLITE[1..2],
    } {
        app.sql(sql).await;
    }
    let lines = async || app.count("SELECT count(*) FROM bgfiles_tally").await;
    let waiting = async || {
        let mut tx = app.toolbox.db().read().await.unwrap();
        let counts = store::counts(&mut tx).await.unwrap();
        counts.into_iter().find(|(status, _)| status == "pending").map_or(0, |(_, n)| n)
    };
    let fold = async || {
        let mut tx = app.toolbox.db().begin().await.unwrap();
        let folded = operations::store::fold_tally(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        folded
    };
    assert_eq!(waiting().await, 5000);
    assert_eq!(fold().await, app.kind == Kind::Postgres);
    assert!(lines().await <= 6);
    assert!(!fold().await, "few lines are left alone");
    assert_eq!(waiting().await, 5000);
    // Somebody meddled. It is noticed once a day.
    let clean =
        async || cleaner::clean(&app.toolbox, &Sweeps::default(), Limits::default()).await.unwrap();
    clean().await;
    app.sql("UPDATE bgfiles_tally SET n = n + 1").await;
    app.advance(23 * 3600);
    clean().await;
    assert_eq!(waiting().await, 5001);
    app.advance(3600);
    clean().await;
    assert_eq!(waiting().await, 5000);
    assert!(lines().await <= 6);
}

both!(attempts_are_forgotten_a_day_after_their_request);
async fn attempts_are_forgotten_a_day_after_their_request(app: TestApp) {
    let kept = app.finished("hello", "").await;
    let gone = app.finished("hello", "").await;
    let attempts = async || app.count("SELECT count(*) FROM bgfiles_attempts").await;
    app.toolbox.delete(gone.id).await.unwrap();
    assert!(app.find(gone.id).await.is_none());
    let clean = async || {
        let mut sweeps = Sweeps::default();
        sweeps.setting("expired_requests").unwrap().enabled = false;
        cleaner::clean(&app.toolbox, &sweeps, Limits::default()).await.unwrap()
    };
    app.advance(86_400);
    clean().await;
    assert_eq!(attempts().await, 2);
    app.advance(1);
    clean().await;
    assert_eq!(attempts().await, 1);
    assert!(app.find(kept.id).await.is_some());
}
