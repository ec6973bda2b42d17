//! What a worker claims, what it costs when it dies, and what it leaves to others.

use std::time::{Duration, Instant};

use bgfiles::{
    Conn, Registry, RequestId, Status,
    file_request::{
        notice::{
            MailKind, Notice,
            store::{Carrier, insert_all},
        },
        store::{self, Beat, Claimant, Which},
    },
    toolbox::Dispatched,
};
use chrono::{DateTime, TimeDelta};

use crate::{
    cli::{define, on, run},
    support::{Kind, TestApp, both, child, eventually, handlers, live, patience},
};

/// So many requests by one statement, which both databases take. Nobody is to be mailed.
async fn insert(app: &TestApp, file_type: &str, many: usize) {
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {many}) \
        INSERT INTO bgfiles_file_requests (file_type, notify) SELECT '{file_type}', false FROM n"
    );
    app.sql(Box::leak(sql.into_boxed_str())).await;
}

async fn all(app: &TestApp) -> Vec<bgfiles::FileRequest> {
    let mut conn = app.toolbox.db().acquire().await.unwrap();
    store::list(&mut conn, &store::Filter::default(), 100_000).await.unwrap()
}

async fn open(app: &TestApp) -> i64 {
    let sql = "SELECT count(*) FROM bgfiles_file_requests WHERE status IN ('pending', 'running')";
    app.count(sql).await
}

async fn only(app: &TestApp) -> RequestId {
    let rows = all(app).await;
    assert_eq!(rows.len(), 1);
    rows[0].id
}

live!(no_more_is_under_way_than_twice_the_slots);
async fn no_more_is_under_way_than_twice_the_slots(app: TestApp) {
    insert(&app, "hello", 600).await;
    let (stop, worker) = app.work(2);
    let mut most = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    while open(&app).await > 0 {
        most = most.max(
            app.count("SELECT count(*) FROM bgfiles_file_requests WHERE status = 'running'").await,
        );
        assert!(Instant::now() < deadline);
    }
    assert!((1..=4).contains(&most), "{most}");
    stop.cancel();
    worker.await.unwrap();
}

live!(who_dies_before_a_handler_began_costs_nothing);
async fn who_dies_before_a_handler_began_costs_nothing(app: TestApp) {
    insert(&app, "hello", 8).await;
    let types = app.toolbox.known_types();
    let now = app.toolbox.clock().now();
    let lease_until = now - TimeDelta::seconds(1);
    let claimant = Claimant { worker: "dead", file_types: &types, now, lease_until };
    let mut conn = app.toolbox.db().acquire().await.unwrap();
    let since = DateTime::UNIX_EPOCH;
    let claimed = store::claim_some(&mut conn, Which::DueSince(since), 8, claimant).await.unwrap();
    assert_eq!(claimed.len(), 8);
    let begun = [claimed[0].id, claimed[5].id];
    for id in begun {
        let beat = Beat { done: 0, total: None, estimated: false, lease_until };
        assert!(store::heartbeat(&mut conn, id, 1, beat).await.unwrap().is_some());
    }
    drop(conn);
    let (stop, worker) = app.work(2);
    eventually("all", 20, async || (open(&app).await == 0).then_some(())).await;
    for row in all(&app).await {
        let counts = (row.status, row.attempts, row.crashes, row.lost);
        let expected = match begun.contains(&row.id) {
            true => (Status::Finished, 2, 1, 0),
            false => (Status::Finished, 1, 0, 1),
        };
        assert_eq!(counts, expected);
    }
    stop.cancel();
    worker.await.unwrap();
}

live!(killed_again_and_again_no_request_loses_more_than_what_was_begun);
async fn killed_again_and_again_no_request_loses_more_than_what_was_begun(app: TestApp) {
    // `BGFILES_TEST_FACTOR=34` makes it 10,000 requests and 20 kills.
    let factor: usize =
        std::env::var("BGFILES_TEST_FACTOR").map_or(1, |factor| factor.parse().unwrap());
    insert(&app, "begins", 300 * factor).await;
    for kill in 0..(3 * factor).min(20) {
        let before = open(&app).await;
        let worker = child::worker(&app);
        eventually("it is at work", 30, async || (open(&app).await < before).then_some(())).await;
        tokio::time::sleep(Duration::from_millis(37 * (kill as u64 % 7))).await;
        worker.kill();
    }
    let _last = child::worker(&app);
    eventually("all", 60 * factor as u64, async || (open(&app).await == 0).then_some(())).await;
    for row in all(&app).await {
        let begun = child::begins(&app, row.id);
        // Who was there three times has had its attempts; the claim that ends it is one more.
        let ran = match (row.status, row.crashes) {
            (Status::Failed, 3) => row.attempts - 1,
            (Status::Finished, _) => row.attempts,
            _ => panic!("{row:?}"),
        };
        assert!(ran as usize <= begun, "{} attempts, begun {begun} times", row.attempts);
        assert_eq!(row.generation, i64::from(row.attempts + row.lost));
    }
}

live!(mails_of_a_dead_worker_are_taken_over_within_the_lease);
async fn mails_of_a_dead_worker_are_taken_over_within_the_lease(app: TestApp) {
    let row = app.finished("hello", "").await;
    assert_eq!(app.toolbox.mailer().sent().len(), 0);
    app.sql("DELETE FROM bgfiles_notices").await;
    let now = app.toolbox.clock().now();
    let notice = || Notice::about(row.id, 1, MailKind::Ready, "example.com", now).claimed();
    let held: Vec<_> = (0..200).map(|_| notice()).collect();
    let carrier = Carrier::Us(now + TimeDelta::seconds(10));
    insert_all(&mut app.toolbox.db().acquire().await.unwrap(), &held, carrier).await.unwrap();
    let began = Instant::now();
    let (stop, worker) = app.work(2);
    eventually("all mails", 60, async || (app.toolbox.mailer().sent().len() == 200).then_some(()))
        .await;
    // The lease, and the look that comes every two seconds.
    assert!(began.elapsed() < patience(Duration::from_secs(15)), "{:?}", began.elapsed());
    stop.cancel();
    worker.await.unwrap();
    assert_eq!(app.toolbox.mailer().sent().len(), 200, "each once");
}

both!(a_type_that_nobody_knows_fails_after_five_minutes);
async fn a_type_that_nobody_knows_fails_after_five_minutes(app: TestApp) {
    insert(&app, "shiny", 1).await;
    app.toolbox.clock().advance(TimeDelta::days(3650));
    let id = only(&app).await;
    assert_eq!(app.dispatch(id).await, Dispatched::Ignored);
    assert_eq!(app.toolbox.give_up_unknown("w").await.unwrap().left.len(), 1);
    let row = app.row(id).await;
    assert_eq!(
        (row.status, row.attempts, row.error_code.as_deref()),
        (Status::Pending, 0, Some("unknown_file_type"))
    );
    app.advance(299);
    assert_eq!(app.toolbox.give_up_unknown("w").await.unwrap().left.len(), 1);
    assert_eq!(app.row(id).await.status, Status::Pending);
    let overview = app.toolbox.overview(app.toolbox.clock().now()).await.unwrap();
    assert_eq!(overview.unknown[0].file_type, "shiny");
    app.advance(2);
    assert_eq!(app.toolbox.give_up_unknown("w").await.unwrap().left.len(), 0);
    let row = app.row(id).await;
    assert_eq!(
        (row.status, row.error_code.as_deref()),
        (Status::Failed, Some("unknown_file_type"))
    );
}

both!(what_a_living_worker_knows_is_left_to_it);
async fn what_a_living_worker_knows_is_left_to_it(app: TestApp) {
    let narrow = app.sibling_with(Registry::new());
    let row = app.request("hello", "").await;
    app.sql("UPDATE bgfiles_file_requests SET run_at = '2026-03-01T13:00:00+00:00'").await;
    let (stop, worker) = app.work(1);
    eventually("it says what it knows", 20, async || {
        let overview = app.toolbox.overview(app.toolbox.clock().now()).await.unwrap();
        overview
            .workers
            .iter()
            .any(|worker| worker.state.knows().any(|name| name == "hello"))
            .then_some(())
    })
    .await;
    stop.cancel();
    worker.await.unwrap();
    app.advance(4000);
    // It was there, but not lately: the clock of five minutes begins.
    assert_eq!(narrow.toolbox.give_up_unknown("w").await.unwrap().left.len(), 1);
    app.sql("UPDATE bgfiles_workers SET seen_at = '2026-03-01T13:06:00+00:00'").await;
    assert_eq!(narrow.toolbox.give_up_unknown("w").await.unwrap().left.len(), 0);
    app.advance(200);
    assert_eq!(
        narrow.toolbox.give_up_unknown("w").await.unwrap().left.len(),
        0,
        "known two minutes ago"
    );
    assert_eq!(app.row(row.id).await.status, Status::Pending);
    assert_eq!(app.dispatch(row.id).await, Dispatched::Handled);
    let row = app.row(row.id).await;
    assert_eq!((row.error_code, row.attempts), (None, 1));
    assert_eq!(app.deliver_notices().await, 1);
}

live!(two_builds_side_by_side_lose_nothing);
async fn two_builds_side_by_side_lose_nothing(app: TestApp) {
    let mut registry = Registry::new();
    registry.register_arc(handlers::registry(&app.seen).get("rows").unwrap().clone()).unwrap();
    let older = app.sibling_with(registry);
    let (stop_older, first) = older.work(4);
    insert(&app, "hello", 100).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(open(&app).await, 100, "left to others");
    let (stop, second) = app.work(4);
    eventually("all", 30, async || (open(&app).await == 0).then_some(())).await;
    assert!(all(&app).await.iter().all(|row| row.status == Status::Finished && row.attempts == 1));
    stop_older.cancel();
    stop.cancel();
    first.await.unwrap();
    second.await.unwrap();
}

live!(a_one_shot_process_says_what_it_leaves);
async fn a_one_shot_process_says_what_it_leaves(app: TestApp) {
    define(&app, "one.toml", "title = \"One\"\nformats = [\"csv\"]\nquery = \"SELECT 1 AS one\"\n");
    insert(&app, "shiny", 3).await;
    insert(&app, "one", 1).await;
    let (code, out, stderr) = run(on(&app).args(["process", "--items", "1"]));
    assert_eq!(code, 0, "{stderr}");
    assert!(out.contains("Handled ") && out.contains("Left \"shiny\""), "{out}");
    let left = all(&app).await.into_iter().filter(|row| row.file_type.as_str() == "shiny");
    for row in left {
        assert_eq!(
            (row.status, row.error_code.as_deref()),
            (Status::Pending, Some("unknown_file_type"))
        );
    }
    app.sql("UPDATE bgfiles_file_requests SET unknown_since = '2020-01-01T00:00:00+00:00' WHERE file_type = 'shiny'").await;
    let (code, out, _) = run(on(&app).arg("process"));
    assert_eq!((code, out.matches("Failed ").count()), (1, 3), "{out}");
    assert_eq!(
        app.count("SELECT count(*) FROM bgfiles_file_requests WHERE status = 'failed'").await,
        3
    );
}

both!(a_format_that_is_not_offered_fails_when_the_file_is_due);
async fn a_format_that_is_not_offered_fails_when_the_file_is_due(app: TestApp) {
    app.sql("INSERT INTO bgfiles_file_requests (file_type, format) VALUES ('rows', 'parquet')")
        .await;
    app.toolbox.clock().advance(TimeDelta::days(3650));
    let id = only(&app).await;
    assert_eq!(app.dispatch(id).await, Dispatched::Failed);
    let row = app.row(id).await;
    assert_eq!(row.error_code.as_deref(), Some("unsupported_format"));
    let message = row.error_message.unwrap();
    assert!(message.contains("parquet") && message.contains("csv, jsonl, xlsx"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_with_rights_on_one_table_enqueues() {
    let app = TestApp::live(Kind::Postgres).await;
    let role = format!("bgfiles_test_{}", uuid::Uuid::new_v4().simple());
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let Conn::Postgres(conn) = tx.conn() else { unreachable!() };
    for sql in [
        format!("CREATE ROLE {role}"),
        format!("GRANT INSERT, SELECT ON bgfiles_file_requests TO {role}"),
        format!("SET LOCAL ROLE {role}"),
        "INSERT INTO bgfiles_file_requests (file_type) VALUES ('hello') RETURNING id".into(),
        "RESET ROLE".into(),
        format!("DROP OWNED BY {role}"),
        format!("DROP ROLE {role}"),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *conn).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(app.count("SELECT CAST(sum(n) AS bigint) FROM bgfiles_tally").await, 1);
    assert_eq!(app.dispatch(only(&app).await).await, Dispatched::Handled);
    // Nobody hangs what runs with the owner's rights on a table of theirs.
    let callable = "SELECT count(*) FROM pg_proc WHERE prosecdef AND proname LIKE 'bgfiles%' \
        AND has_function_privilege('public', oid, 'EXECUTE')";
    assert_eq!(app.count(callable).await, 0);
}

live!(an_insert_by_sql_wakes_a_worker_at_once);
async fn an_insert_by_sql_wakes_a_worker_at_once(app: TestApp) {
    let (stop, worker) = app.work(1);
    app.request("hello", "").await;
    eventually("it works", 20, async || (open(&app).await == 0).then_some(())).await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(350)).await;
        insert(&app, "hello", 1).await;
        let began = Instant::now();
        eventually("it is made", 20, async || (open(&app).await == 0).then_some(())).await;
        assert!(began.elapsed() < patience(Duration::from_millis(700)), "{:?}", began.elapsed());
    }
    stop.cancel();
    worker.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hexadecimal_ids_of_sqlite_are_ids() {
    let app = TestApp::live(Kind::Sqlite).await;
    define(&app, "one.toml", "title = \"One\"\nformats = [\"csv\"]\nquery = \"SELECT 1\"\n");
    let row = app.finished("hello", "").await;
    let bgfiles::Db::Sqlite(pool) = app.toolbox.db() else { unreachable!() };
    let id: String = sqlx::query_scalar("SELECT hex(id) FROM bgfiles_file_requests")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(id.parse::<RequestId>().unwrap(), row.id);
    let (code, url, stderr) = run(on(&app).args(["link", &id]));
    assert_eq!(code, 0, "{stderr}");
    assert!(url.contains("/d/"), "{url}");
}
