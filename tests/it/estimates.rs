//! No query runs twice: what progress and `deliver: "auto"` go by instead of counting.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bgfiles::{
    Error, Handler, Job, Output, Registry, Result,
    auth_token::Role,
    export::{Column, DeclaredExport, Definition, Source, TableWriter, Value},
    file_request::Status,
    registry::{Delivery, Guess, Progress},
    toolbox::{Deliver, Dispatched, Response},
};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support::{Caller, Kind, TestApp, both, live, patience, smtp::python};

/// The app with file type `thing`, declared over this database.
fn with_thing(app: &TestApp, url: &str, toml: &str) -> TestApp {
    let path = app.dir.path().join("thing.toml");
    std::fs::write(&path, toml).unwrap();
    let definition = Definition::load(&path).unwrap_or_else(|e| panic!("{e}"));
    let mut registry = Registry::new();
    registry.register(DeclaredExport::new(definition, Source::open(url).unwrap())).unwrap();
    app.sibling_with(registry)
}

fn toml(query: &str, more: &str) -> String {
    format!("formats = [\"csv\", \"xlsx\"]\n{more}\nquery = '''{query}'''\n")
}

/// Three rows, each of which takes its time; counting them takes none. PostgreSQL expects one.
async fn three_slow_rows(app: &TestApp) -> String {
    match app.kind {
        Kind::Postgres => {
            // Called STABLE, so that who only counts does not call it.
            app.sql(
                "CREATE FUNCTION slowly(n int) RETURNS int LANGUAGE plpgsql STABLE \
                 AS 'BEGIN PERFORM pg_sleep(1.2); RETURN n; END'",
            )
            .await;
            "SELECT n, slowly(n) AS slow FROM generate_series(1, 3) AS n WHERE n > 0".into()
        }
        Kind::Sqlite => {
            let steps = steps_of(1.2);
            format!(
                "WITH three(n) AS (VALUES (1), (2), (3)) SELECT n, (WITH RECURSIVE d(m) AS \
                 (SELECT n UNION ALL SELECT m + 1 FROM d WHERE m < {steps}) SELECT max(m) FROM d) \
                 AS slow FROM three"
            )
        }
    }
}

/// How many steps of a recursion SQLite takes in so many seconds.
fn steps_of(seconds: f64) -> u64 {
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    let (steps, began) = (300_000, Instant::now());
    let sql = format!(
        "WITH RECURSIVE d(m) AS (SELECT 1 UNION ALL SELECT m + 1 FROM d WHERE m < {steps}) \
         SELECT max(m) FROM d"
    );
    conn.query_row(&sql, [], |row| row.get::<_, i64>(0)).unwrap();
    (steps as f64 * seconds / began.elapsed().as_secs_f64()) as u64
}

/// What a run shows on its way: total, and whether that is a guess.
async fn totals(app: &TestApp) -> BTreeSet<(i64, bool)> {
    let row = app.request("thing", "").await;
    let toolbox = app.toolbox.clone();
    let run = tokio::spawn(async move { toolbox.dispatch(row.id, "w", &Default::default()).await });
    let mut seen = BTreeSet::new();
    while !run.is_finished() {
        let row = app.row(row.id).await;
        if let (Status::Running, Some(total)) = (row.status, row.progress_total) {
            seen.insert((total, row.progress_estimated));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(run.await.unwrap().unwrap(), Dispatched::Handled);
    let row = app.row(row.id).await;
    let end = (row.progress_done, row.progress_total, row.progress_estimated);
    assert_eq!(end, (3, Some(3), false), "at the end it is known");
    seen
}

live!(the_last_file_says_more_than_the_plan_and_counting_says_it_all);
async fn the_last_file_says_more_than_the_plan_and_counting_says_it_all(app: TestApp) {
    let query = three_slow_rows(&app).await;
    let guessing = with_thing(&app, &app.url, &toml(&query, ""));
    let first = match app.kind {
        Kind::Postgres => BTreeSet::from([(1, true)]),
        Kind::Sqlite => BTreeSet::new(),
    };
    assert_eq!(totals(&guessing).await, first);
    assert!(totals(&guessing).await.contains(&(3, true)));
    let counting = with_thing(&app, &app.url, &toml(&query, "count = true"));
    app.sql("DELETE FROM bgfiles_file_requests").await;
    assert_eq!(totals(&counting).await, BTreeSet::from([(3, false)]));
}

live!(the_api_and_its_events_say_that_a_total_is_estimated);
async fn the_api_and_its_events_say_that_a_total_is_estimated(app: TestApp) {
    let query = three_slow_rows(&app).await;
    let app = with_thing(&app, &app.url, &toml(&query, ""));
    let base = format!("http://{}", app.serve().await);
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    app.finished("thing", "").await;
    let row = app.request("thing", "").await;
    let path = format!("/api/requests/{}", row.id);
    let (_, waiting) = shop.get(&path).await;
    assert_eq!(waiting["progress"], json!({"done": 0, "total": null, "estimated": false}));
    let events = shop.call("GET", &format!("{path}/events")).send().await.unwrap();
    let toolbox = app.toolbox.clone();
    tokio::spawn(async move { toolbox.dispatch(row.id, "w", &Default::default()).await });
    let mut events = events.bytes_stream();
    let mut text = String::new();
    while let Some(chunk) = events.next().await {
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    let told = r#"event: progress
data: {"done":0,"total":3,"estimated":true}"#;
    assert!(text.contains(told), "{text}");
    let (_, finished) = shop.get(&path).await;
    assert_eq!(finished["progress"], json!({"done": 3, "total": 3, "estimated": false}));
}

/// Queries of exports that run at the same moment, at most. Plans alone are no queries.
async fn most_active(app: &TestApp, run: impl Future) -> usize {
    let watch = async {
        let mut most = 0;
        loop {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                AND application_name = 'bgfiles export' AND datname = current_database() \
                AND query NOT LIKE 'EXPLAIN%'";
            most = most.max(app.count(sql).await);
            tokio::time::sleep(Duration::from_millis(25)).await;
            if most > 1 {
                break most;
            }
        }
    };
    tokio::pin!(watch);
    tokio::select! {
        most = &mut watch => most as usize,
        _ = run => 1,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_an_aggregate_on_postgres_runs_nothing() {
    let app = TestApp::live(Kind::Postgres).await;
    let query = "SELECT count(pg_sleep(0.03)) AS n FROM generate_series(1, 100)";
    let guessing = with_thing(&app, &app.url, &toml(query, ""));
    assert_eq!(most_active(&app, guessing.finished("thing", "")).await, 1);
    let counting = with_thing(&app, &app.url, &toml(query, "count = true"));
    assert_eq!(most_active(&app, counting.finished("thing", "")).await, 2, "it does watch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_an_aggregate_on_sqlite_runs_nothing() {
    let app = TestApp::live(Kind::Sqlite).await;
    let query = format!(
        "WITH RECURSIVE d(m) AS (SELECT 1 UNION ALL SELECT m + 1 FROM d WHERE m < {}) \
         SELECT max(m) AS m FROM d",
        steps_of(5.0)
    );
    for (more, most) in [("", 1), ("count = true", 2)] {
        // Statements at the same time need a connection each, and a connection has the file open.
        let file = app.dir.path().join(format!("source-{most}.db"));
        std::fs::write(&file, "").unwrap();
        let thing = with_thing(&app, &format!("sqlite:{}", file.display()), &toml(&query, more));
        let connections = || {
            let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            open.filter(|one| std::fs::read_link(one.path()).is_ok_and(|to| to == file)).count()
        };
        let mut seen = BTreeSet::new();
        let watch = async {
            loop {
                seen.insert(connections());
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        };
        tokio::select! {
            () = watch => {}
            _ = thing.finished("thing", "") => {}
        }
        assert_eq!(seen.last(), Some(&most), "{more}");
    }
}

/// So many rows, of which PostgreSQL expects one.
async fn many(app: &TestApp, rows: u32) -> String {
    match app.kind {
        Kind::Postgres => {
            app.sql(
                "CREATE FUNCTION lying(n int) RETURNS SETOF int LANGUAGE plpgsql ROWS 1 \
                 AS 'BEGIN RETURN QUERY SELECT generate_series(1, $1); END'",
            )
            .await;
            format!("SELECT n FROM lying({rows}) AS n")
        }
        Kind::Sqlite => format!(
            "WITH RECURSIVE d(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM d WHERE n < {rows}) \
             SELECT n FROM d"
        ),
    }
}

live!(an_estimate_that_was_far_too_low_ends_with_the_worker);
async fn an_estimate_that_was_far_too_low_ends_with_the_worker(app: TestApp) {
    let toml = toml(&many(&app, 50_000).await, "delay_over = 1_000");
    let app = with_thing(&app, &app.url, &toml);
    let (stop, worker) = app.work(1);
    let base = format!("http://{}", app.serve().await);
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    for format in ["csv", "xlsx"] {
        let body =
            json!({"file_type": "thing", "format": format, "deliver": "auto", "filename": "mine"});
        let ask = async || {
            let request = shop.call("POST", "/api/requests").json(&body);
            let response = request.header("idempotency-key", format).send().await.unwrap();
            (response.status(), response.json::<serde_json::Value>().await.unwrap())
        };
        let (status, row) = ask().await;
        assert_eq!((status.as_u16(), &row["format"]), (202, &json!(format)));
        let path = format!("/api/requests/{}", row["id"].as_str().unwrap());
        loop {
            let (_, row) = shop.get(&path).await;
            if row["status"] == "finished" {
                assert_eq!(
                    (&row["rows"], &row["filename"]),
                    (&json!(50_000), &json!(format!("mine.{format}").as_str()))
                );
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The same key once more is the same request.
        assert_eq!(ask().await.1["id"], row["id"]);
    }
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_file_requests").await, 2);
    stop.cancel();
    worker.await.unwrap();
}

both!(auto_answers_with_what_is_small);
async fn auto_answers_with_what_is_small(app: TestApp) {
    let query = "SELECT 1 AS a UNION ALL SELECT 2";
    for (over, count, status) in [(2, false, 200), (1, false, 202), (2, true, 200), (1, true, 202)]
    {
        let more = format!("delay_over = {over}\ncount = {count}");
        let thing = with_thing(&app, &app.url, &toml(query, &more));
        let base = format!("http://{}", thing.serve().await);
        let name = format!("shop-{over}-{count}");
        let shop = Caller::new(&thing, &base, &name, Role::Service).await;
        let before = app.count("SELECT count(*) FROM bgfiles_file_requests").await;
        let body = json!({"file_type": "thing", "deliver": "auto"});
        let answer = shop.call("POST", "/api/requests").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{more}");
        if status == 200 {
            assert_eq!(
                answer.headers()["content-disposition"],
                r#"attachment; filename="thing.csv""#
            );
            assert_eq!(answer.text().await.unwrap(), "a\r\n1\r\n2\r\n");
        }
        let recorded = app.count("SELECT count(*) FROM bgfiles_file_requests").await - before;
        assert_eq!(recorded, i64::from(status == 202), "{more}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_plans_for_these_criteria_before_it_tries() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql("CREATE TABLE things AS SELECT CASE WHEN n < 10 THEN 'rare' ELSE 'often' END AS kind FROM generate_series(1, 20000) n").await;
    app.sql("ANALYZE things").await;
    // Whoever only asks for the plan does not come to the division by zero.
    let query = "SELECT 1 / (length(kind) - 5) AS x FROM things WHERE kind = :kind";
    let more = "delay_over = 1_000\n";
    let toml = toml(query, more) + "[criteria.kind]\ntype = \"text\"\n";
    let thing = with_thing(&app, &app.url, &toml);
    for (criteria, at_once) in [("kind=rare", true), ("kind=often", false)] {
        let new = TestApp::new_request("thing", criteria);
        let made = thing.toolbox.respond_to(new, Deliver::Auto, None).await.unwrap();
        assert_eq!(matches!(made, Response::Now(_)), at_once, "{criteria}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_rows_that_take_long_do_not_keep_a_caller() {
    let app = TestApp::live(Kind::Postgres).await;
    let thing = with_thing(&app, &app.url, &toml("SELECT 1 AS n FROM pg_sleep(6)", ""));
    let ask = async || {
        let began = Instant::now();
        let new = TestApp::new_request("thing", "");
        match thing.toolbox.respond_to(new, Deliver::Auto, None).await.unwrap() {
            Response::Later(row) => (row.id, began.elapsed()),
            Response::Now(_) | Response::Earlier(_) => panic!("it cannot be there yet"),
        }
    };
    let (id, took) = ask().await;
    assert!(took > Duration::from_secs(4) && took < patience(Duration::from_secs(8)), "{took:?}");
    // What was tried is stopped in the database, too.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
        AND application_name = 'bgfiles export' AND datname = current_database()";
    assert_eq!(app.count(active).await, 0);
    assert_eq!(thing.dispatch(id).await, Dispatched::Handled);
    // Now that is known, and nothing is tried.
    let (_, took) = ask().await;
    assert!(took < patience(Duration::from_secs(2)), "{took:?}");
}

/// Thinks that everything is small.
#[derive(Clone, Default)]
struct Hopeful {
    writes: Arc<AtomicUsize>,
}

#[async_trait]
impl Handler for Hopeful {
    fn file_type(&self) -> &str {
        "hopeful"
    }

    fn formats(&self) -> &[&'static str] {
        &["csv", "xlsx"]
    }

    async fn evaluate(&self, _: &Job) -> Result<Delivery> {
        Ok(Delivery::NowIfSmall { rows: 10 })
    }

    async fn write(&self, job: &Job, mut out: Output) -> Result<()> {
        self.writes.fetch_add(1, SeqCst);
        let number = |name| job.criteria.get(name).map(|n| n.parse::<i64>().unwrap());
        if let Some(mib) = number("mib") {
            for _ in 0..mib {
                out.write(vec![b'x'; 1024 * 1024]).await?;
            }
            return Ok(());
        }
        match job.criteria.get("fails") {
            Some("for good") => return Err(Error::permanent("no_such_year", "no such year")),
            Some(_) if job.request.attempts == 0 => return Err(Error::temporary("busy", "busy")),
            _ => {}
        }
        let mut table = TableWriter::new(out, job, vec![Column::new("number")])?;
        for row in 0..number("rows").unwrap_or(1) {
            table.row(vec![Value::Int(row)]).await?;
        }
        table.finish().await
    }
}

both!(what_seems_small_is_held_back_until_it_is_whole);
async fn what_seems_small_is_held_back_until_it_is_whole(app: TestApp) {
    let hopeful = Hopeful::default();
    let mut registry = Registry::new();
    registry.register(hopeful.clone()).unwrap();
    let app = app.sibling_with(registry);
    let ask = async |criteria: &str, format: &str| {
        let mut new = TestApp::new_request("hopeful", criteria);
        new.format = Some(format.into());
        app.toolbox.respond_to(new, Deliver::Auto, None).await
    };
    let mut writes = 0;
    for (criteria, at_once, tries) in [
        ("rows=10", true, 1),
        ("rows=11", false, 1),
        ("rows=100000", false, 1),
        ("mib=16", true, 1),
        ("mib=17", false, 1),
        ("fails=once", false, 1),
    ] {
        for format in ["csv", "xlsx"] {
            writes += tries;
            match ask(criteria, format).await.unwrap() {
                Response::Now(file) if at_once => {
                    let digest = file.sha256().unwrap();
                    let bytes: Vec<_> = file.into_stream().try_collect().await.unwrap();
                    assert!(!bytes.concat().is_empty());
                    let told = Sha256::digest(bytes.concat());
                    let told: String = told.iter().map(|byte| format!("{byte:02x}")).collect();
                    assert_eq!(digest, told);
                }
                Response::Later(row) if !at_once => {
                    assert_eq!(row.format, format);
                    assert_eq!(
                        row.criteria().unwrap(),
                        bgfiles::Criteria::from_query(criteria).unwrap()
                    );
                }
                made => panic!("{criteria}: {made:?}"),
            }
            assert_eq!(hopeful.writes.load(SeqCst), writes, "{criteria}");
        }
    }
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_file_requests").await, 8);
    // What cannot be made is told at once.
    assert!(matches!(ask("fails=for+good", "csv").await, Err(Error::Permanent { .. })));
    // What was large before is not tried again; what was small is, and so are other criteria.
    app.finished("hopeful", "rows=20").await;
    app.finished("hopeful", "rows=5").await;
    let before = hopeful.writes.load(SeqCst);
    assert!(matches!(ask("rows=20", "csv").await, Ok(Response::Later(_))));
    assert_eq!(hopeful.writes.load(SeqCst), before);
    assert!(matches!(ask("rows=5", "csv").await, Ok(Response::Now(_))));
    assert!(matches!(ask("rows=6", "csv").await, Ok(Response::Now(_))));
    assert_eq!(hopeful.writes.load(SeqCst), before + 2);
}

#[test]
fn the_better_guess_stays_and_none_is_below_what_is_done() {
    let progress = Progress::default();
    assert_eq!((progress.total(), progress.is_estimated()), (None, false));
    progress.set_most(100);
    for (guess, by, total) in [
        (40, Guess::LastOfType, 40),
        (500, Guess::Plan, 100),
        (30, Guess::LastOfType, 100),
        (70, Guess::LastAlike, 70),
        (20, Guess::Plan, 70),
    ] {
        progress.guess_total(guess, by);
        assert_eq!((progress.total(), progress.is_estimated()), (Some(total), true));
    }
    progress.set_rows(80);
    assert_eq!(progress.total(), Some(80));
    progress.set_total(101);
    progress.guess_total(7, Guess::LastAlike);
    assert_eq!((progress.total(), progress.is_estimated()), (Some(101), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_terminal_says_about() {
    let app = TestApp::new(Kind::Postgres).await;
    let jobs = app.dir.path().join("jobs");
    std::fs::create_dir(&jobs).unwrap();
    let query = "SELECT n, repeat('x', 60) AS x FROM generate_series(1, 100000) AS n";
    for (more, line) in [("", "of about 100000 rows"), ("count = true", "of 100000 rows")] {
        std::fs::write(jobs.join("thing.toml"), toml(query, more)).unwrap();
        // A terminal of its own. A pause every 256 rows: about two seconds in all.
        let terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)";
        let output = Command::new(python())
            .args(["-c", terminal, env!("CARGO_BIN_EXE_bgfiles"), "export", "thing", "-o"])
            .arg(app.dir.path().join("thing.csv"))
            .env("DATABASE_URL", &app.url)
            .env("BGFILES_JOBS_DIR", &jobs)
            .env("BGFILES_SECRET_KEY", crate::support::app::SECRET)
            .env("FAILPOINTS", "generating=sleep(5)")
            .current_dir(app.dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(line), "{text}");
    }
}
