//! What a database says of a declared query: whether it may pass, where the operator reads it, and
//! what the requester reads instead.

use std::str::FromStr;

use bgfiles::{
    Db, Error, Registry, Toolbox,
    auth_token::Role,
    export::{DeclaredExport, Definition, Source},
    mail::Mailer,
    storage::Storage,
    toolbox::{Dispatched, Tools},
};
use serde_json::json;
use sqlx::{ConnectOptions, Executor, postgres::PgConnectOptions};

use crate::{
    cli::{define as declare, on, run},
    declared::{define, make},
    support::{Caller, Kind, TestApp, app::SECRET, both, postgres},
};

/// A function that fails with any SQLSTATE, on PostgreSQL.
const BOOM: &str = "CREATE FUNCTION boom(state text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
    RAISE EXCEPTION 'no stock\nin house 7' USING ERRCODE = state, DETAIL = 'secret detail', HINT = 'ask Bob'; END $$";

/// What only the operator may read.
const WORDS: [&str; 4] = ["stock", "secret detail", "Bob", "integer overflow"];

/// A definition of file type `thing` with a criterion, over text in a multi-line string that begins
/// on line 3.
fn thing(query: &str) -> String {
    let criterion = if query.contains(":by") { "[criteria.by]\ntype = \"integer\"\n" } else { "" };
    format!("formats = [\"csv\"]\nquery = \"\"\"\n{query}\"\"\"\n{criterion}")
}

/// A query that some criteria break: `by=0`.
fn broken_by_zero(kind: Kind) -> String {
    thing(match kind {
        Kind::Postgres => "SELECT boom('P0001') AS x WHERE :by = 0 UNION ALL SELECT 1 / :by",
        Kind::Sqlite => "SELECT abs(-9223372036854775807 - 1 + :by) AS x",
    })
}

both!(what_cannot_pass_is_final_at_the_first_attempt);
async fn what_cannot_pass_is_final_at_the_first_attempt(app: TestApp) {
    let (query, words) = match app.kind {
        Kind::Postgres => (
            "SELECT i, (SELECT j FROM generate_series(1, i) AS j) AS one FROM generate_series(1, 3) AS i",
            "more than one row returned by a subquery",
        ),
        Kind::Sqlite => ("SELECT zeroblob(2000000000) AS x", "string or blob too big"),
    };
    declare(&app, "two.toml", &thing(query));
    let (code, id, err) = run(on(&app).args(["request", "two", "--email", "amy@example.com"]));
    assert_eq!(code, 0, "{err}");
    let (code, out, log) = run(on(&app).arg("process").env("BGFILES_LOG_FORMAT", "json"));
    assert_eq!((code, out), (1, format!("Failed {id}")));
    let row = app.row(id.trim().parse().unwrap()).await;
    assert_eq!((row.status, row.attempts), (bgfiles::Status::Failed, 1));
    assert_eq!(row.error_code.as_deref(), Some("query_failed"));
    assert!(row.error_message.is_some_and(|message| !message.contains(words)));
    let mails = std::fs::read_dir(app.dir.path().join("mail")).unwrap().count();
    assert_eq!(mails, 1, "the requester is told");
    let line = log.lines().find(|line| line.contains("failed for good")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["request"], &line["file_type"]), (&json!(id.trim()), &json!("two")));
    let error = line["error"].as_str().unwrap();
    assert!(error.contains("two.toml: query: ") && error.contains(words), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_pass_is_known_by_its_class() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql(BOOM).await;
    for (state, may_pass) in [
        ("08006", true),
        ("40001", true),
        ("40P01", true),
        ("53200", true),
        ("55P03", true),
        ("57P01", true),
        ("58030", true),
        ("XX000", true),
        ("0A000", false),
        ("21000", false),
        ("22012", false),
        ("25006", false),
        ("2F003", false),
        ("34000", false),
        ("42P01", false),
        ("44000", false),
        ("54001", false),
        ("55000", false),
        ("P0001", false),
        ("ZZ123", false),
    ] {
        let export = define(&app, &thing(&format!("SELECT boom('{state}') AS x")));
        let error = make(&export, "csv", "", "").await.unwrap_err();
        let code = if may_pass { "database" } else { "query_failed" };
        assert_eq!((error.is_retryable(), error.code()), (may_pass, code), "{state}: {error}");
        assert_eq!(error.is_infrastructure(), may_pass);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_that_is_away_may_come_back() {
    let app = TestApp::new(Kind::Sqlite).await;
    let path = app.dir.path().join("thing.toml");
    std::fs::write(&path, thing("SELECT 1 AS a")).unwrap();
    let away = format!("sqlite:{}", app.dir.path().join("away.db").display());
    let export =
        DeclaredExport::new(Definition::load(&path).unwrap(), Source::open(&away).unwrap());
    let error = make(&export, "csv", "", "").await.unwrap_err();
    assert!(error.is_retryable() && error.code() == "database", "{error}");
}

both!(faults_of_a_query_name_its_line);
async fn faults_of_a_query_name_its_line(app: TestApp) {
    // Characters of several bytes before it, and a parameter that is longer once rewritten.
    let unknown = "SELECT 'ü東' AS s, :by AS n,\n  nothere\nFROM (SELECT 1 AS one) AS t\n";
    let early = match app.kind {
        Kind::Postgres => "e.toml:4: query: syntax error",
        Kind::Sqlite => "e.toml: query: incomplete input",
    };
    let cases = [
        ("a.toml", thing(unknown), "", "a.toml:4: query: "),
        ("b.toml", thing("SELECT 'ü東' AS s,\n\n  nothere\n"), "", "b.toml:5: query: "),
        ("c.toml", "formats = [\"csv\"]\n".into(), "SELECT 1 AS a,\n  nothere\n", "c.sql:2: "),
        ("d.toml", "formats = [\"csv\"]\n".into(), "SELECT 1 AS a\nFROM WHERE\n", "d.sql:2: "),
        // It ends too early, where SQLite does not say so much.
        ("e.toml", thing("SELECT 1 AS a\nFROM\n\n"), "", early),
        // Lines of the file, not of the text that it is read as.
        ("f.toml", "formats = [\"csv\"]\nquery = \"SELECT 1 AS a,\\n\\n  nothere\"\n".into(), "", "f.toml:2: query: "),
        ("g.toml", "formats = [\"csv\"]\nquery = \"\"\"SELECT \\\n\n  1 AS \\u0061,\\n 2 AS b,\n nothere\"\"\"\n".into(), "", "g.toml:5: query: "),
        ("h.toml", "formats = [\"csv\"]\nquery = '''\r\nSELECT 1 AS a,\r\n nothere'''\r\n".into(), "", "h.toml:4: query: "),
    ];
    for (name, toml, sql, place) in &cases {
        declare(&app, name, toml);
        if !sql.is_empty() {
            declare(&app, &name.replace("toml", "sql"), sql);
        }
        let name = name.trim_end_matches(".toml");
        for criteria in [None, Some("by=1")] {
            let criteria = criteria.filter(|_| toml.contains(":by")).map(|by| ["--criteria", by]);
            let (code, out, err) =
                run(on(&app).args(["export", name]).args(criteria.into_iter().flatten()));
            assert!(code == 1 && out.is_empty() && err.contains(place), "{name}: {err}");
        }
    }
    let (code, _, err) = run(on(&app).arg("check"));
    assert_eq!(code, 1);
    for (name, _, _, place) in cases {
        assert!(err.lines().any(|line| line.contains(place)), "{name}: {err}");
    }
    assert!(!err.contains("at line"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_place_of_a_fault_survives_what_is_remembered() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql("CREATE TABLE shelf (a int, b int)").await;
    let export = define(&app, &thing("SELECT a,\n  b\nFROM shelf"));
    make(&export, "csv", "", "").await.unwrap();
    app.sql("ALTER TABLE shelf DROP COLUMN b").await;
    let error = make(&export, "csv", "", "").await.unwrap_err().to_string();
    assert!(error.ends_with("thing.toml:4: query: column \"b\" does not exist"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_reads_what_the_database_said() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql(BOOM).await;
    declare(&app, "zero.toml", &thing("SELECT 1 / :by AS x"));
    let (code, _, err) = run(on(&app).args(["export", "zero", "--criteria", "by=0"]));
    let path = app.dir.path().join("jobs/zero.toml");
    assert_eq!((code, err), (1, format!("bgfiles: {}: query: division by zero\n", path.display())));
    declare(&app, "boom.toml", &thing("SELECT boom('P0001') AS x"));
    let (_, _, err) = run(on(&app).args(["export", "boom"]));
    let said: Vec<&str> = err.lines().collect();
    assert!(said[0].ends_with("boom.toml: query: no stock in house 7"), "{err}");
    assert_eq!(said[1..3], ["  detail: secret detail", "  hint: ask Bob"], "{err}");
    assert!(said[3].starts_with("  context: PL/pgSQL function boom(text)"), "{err}");
    declare(&app, "stale.toml", &thing("SELECT * FROM stale"));
    app.sql("CREATE MATERIALIZED VIEW stale AS SELECT 1 AS a WITH NO DATA").await;
    let (_, _, err) = run(on(&app).args(["export", "stale"]));
    assert!(err.contains("\n  hint: Use the REFRESH MATERIALIZED VIEW command."), "{err}");
    let (_, id, _) = run(on(&app).args(["request", "boom"]));
    let (_, _, log) = run(on(&app).arg("process").env("BGFILES_LOG_FORMAT", "json"));
    let line = log.lines().find(|line| line.contains("failed for good")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    for (field, value) in [
        ("request", id.trim()),
        ("file_type", "boom"),
        ("state", "P0001"),
        ("detail", "secret detail"),
        ("hint", "ask Bob"),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    assert!(
        line["context"].as_str().is_some_and(|context| context.contains("boom(text)")),
        "{line}"
    );
}

/// The app with file type `thing` and nothing else.
fn with_thing(mut app: TestApp, toml: &str) -> TestApp {
    let mut registry = Registry::new();
    registry.register(define(&app, toml)).unwrap();
    let tools = Tools::new(
        Db::open(&app.url).unwrap(),
        Storage::open("memory:", &[]).unwrap(),
        Mailer::open("memory:", "bgfiles <files@example.com>").unwrap(),
        registry,
        [SECRET],
        app.toolbox.base_url().clone(),
    );
    app.toolbox = Toolbox::new(Tools { clock: app.toolbox.clock().clone(), ..tools.unwrap() });
    app
}

both!(the_requester_reads_none_of_it);
async fn the_requester_reads_none_of_it(app: TestApp) {
    if app.kind == Kind::Postgres {
        app.sql(BOOM).await;
    }
    let toml = broken_by_zero(app.kind);
    let app = with_thing(app, &toml);
    let row = app.request("thing", "by=0").await;
    assert_eq!(app.dispatch(row.id).await, Dispatched::Failed);
    let row = app.row(row.id).await;
    assert_eq!((row.attempts, row.error_code.as_deref()), (1, Some("query_failed")));
    let message = row.error_message.unwrap();
    assert!(message.contains("cannot be answered for these criteria"), "{message}");
    app.deliver_notices().await;
    let mail = format!("{:?}", app.toolbox.mailer().sent());
    assert!(mail.contains("cannot be answered for these criteria"), "{mail}");
    let base = format!("http://{}", app.serve().await);
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let ask = json!({"file_type": "thing", "criteria": {"by": 0}, "deliver": "now"});
    let (status, problem) = shop.post("/api/requests", ask).await;
    assert_eq!((status, &problem["code"]), (422, &json!("query_failed")), "{problem}");
    let shown = shop.get(&format!("/api/requests/{}", row.id)).await.1;
    for text in [message, mail, problem.to_string(), shown.to_string()] {
        assert!(!WORDS.iter().any(|word| text.contains(word)), "{text}");
    }
    assert_eq!(shown["error"]["code"], "query_failed");
    assert_eq!(shown["error"].get("cause"), None);
    // Operators do, where they look at it.
    let olga = Caller::new(&app, &base, "olga", Role::Staff).await;
    let words: &[&str] = match app.kind {
        Kind::Postgres => &["thing.toml: query: division by zero"],
        Kind::Sqlite => &["integer overflow"],
    };
    let shown = olga.get(&format!("/api/requests/{}", row.id)).await.1;
    let listed = olga.get("/api/requests?status=failed").await.1["items"][0].clone();
    let mut texts = vec![shown["error"]["cause"].as_str().unwrap().to_owned()];
    texts.push(listed["error"]["cause"].as_str().unwrap().to_owned());
    for path in ["/operate/requests".into(), format!("/files/{}", row.id)] {
        let page = olga.call("GET", &path).header("accept", "text/html").send().await.unwrap();
        texts.push(page.text().await.unwrap());
    }
    for text in texts {
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert!(!text.contains("at line"), "{text}");
    }
    // Once the file is there, nothing failed.
    app.sql("UPDATE bgfiles_file_requests SET criteria = 'by=1', status = 'pending'").await;
    assert_eq!(app.dispatch(row.id).await, Dispatched::Handled);
    assert_eq!(app.row(row.id).await.error_cause, None);
    // With other criteria it is there.
    assert_eq!(app.dispatch(app.request("thing", "by=1").await.id).await, Dispatched::Handled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_read_detail_and_hint_with_the_request() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql(BOOM).await;
    let app = with_thing(app, &thing("SELECT boom('P0001') AS x"));
    let row = app.request("thing", "").await;
    assert_eq!(app.dispatch(row.id).await, Dispatched::Failed);
    let base = format!("http://{}", app.serve().await);
    let olga = Caller::new(&app, &base, "olga", Role::Staff).await;
    let shown = olga.get(&format!("/api/requests/{}", row.id)).await.1;
    let cause = shown["error"]["cause"].as_str().unwrap();
    for words in ["no stock in house 7", "\n  detail: secret detail", "\n  hint: ask Bob"] {
        assert!(cause.contains(words), "{cause}");
    }
    let page = olga.call("GET", &format!("/files/{}", row.id)).header("accept", "text/html");
    let page = page.send().await.unwrap().text().await.unwrap();
    // With the request, and at the attempt in its timeline.
    assert_eq!(page.matches("secret detail").count(), 2, "{page}");
}

both!(a_definition_that_is_wrong_is_our_side);
async fn a_definition_that_is_wrong_is_our_side(app: TestApp) {
    let app = with_thing(app, &thing("SELECT nothere AS x"));
    let row = app.request("thing", "").await;
    assert_eq!(app.dispatch(row.id).await, Dispatched::Failed);
    let row = app.row(row.id).await;
    assert_eq!(row.error_code.as_deref(), Some("query_failed"));
    let told = row.error_message.unwrap();
    assert!(told.starts_with("Something went wrong on our side. "), "{told}");
    assert!(told.contains(&row.id.to_string()) && !told.contains("nothere"), "{told}");
    assert!(row.error_cause.unwrap().contains("nothere"));
    app.deliver_notices().await;
    let mail = format!("{:?}", app.toolbox.mailer().sent());
    assert!(mail.contains("Something went wrong on our side"), "{mail}");
    assert!(mail.contains(&row.id.to_string()) && !mail.contains("nothere"), "{mail}");
    let base = format!("http://{}", app.serve().await);
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let (status, problem) =
        shop.post("/api/requests", json!({"file_type": "thing", "deliver": "now"})).await;
    assert_eq!((status, &problem["code"]), (500, &json!("query_failed")));
    assert!(!problem.to_string().contains("nothere"), "{problem}");
}

/// 2,500 names, of which that of row 2,001 ends in a byte of another encoding.
async fn names(encoding: &str, byte: &str) -> (String, String) {
    let (name, url) = postgres::create_encoded(encoding).await;
    let mut conn = PgConnectOptions::from_str(&url).unwrap().connect().await.unwrap();
    let sql = format!(
        "CREATE TABLE people AS SELECT n, CASE n WHEN 2001 THEN E'caf\\x{byte}' ELSE 'ok' END AS name \
         FROM generate_series(1, 2500) AS n"
    );
    conn.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    (name, url)
}

async fn refused(app: &TestApp, url: &str, query: &str, criteria: &str) -> Error {
    let path = app.dir.path().join("thing.toml");
    std::fs::write(&path, thing(query)).unwrap();
    let export = DeclaredExport::new(Definition::load(&path).unwrap(), Source::open(url).unwrap());
    make(&export, "csv", criteria, "").await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_that_is_none_is_found() {
    let app = TestApp::new(Kind::Sqlite).await;
    let (database, url) = names("SQL_ASCII", "e9").await;
    for (query, column, criteria) in [
        ("SELECT n, name FROM people ORDER BY n", "name", ""),
        ("SELECT n, name FROM people WHERE n >= :by ORDER BY n", "name", "by=1"),
        ("SELECT n, ARRAY[name] AS list FROM people ORDER BY n", "list", ""),
        ("SELECT n, name::varchar(9) COLLATE \"C\" AS v FROM people ORDER BY n", "v", ""),
    ] {
        let error = refused(&app, &url, query, criteria).await;
        assert_eq!(error.code(), "unreadable_value");
        let said = error.to_string();
        let place =
            format!("column \"{column}\", row 2001: the text is not UTF-8: byte 0xe9 at place ");
        assert!(said.starts_with(&place), "{said}");
    }
    // Nor is what the server says of it.
    let error =
        refused(&app, &url, "SELECT n, name::int AS i FROM people WHERE n > 2000", "").await;
    assert_eq!((error.code(), error.is_retryable()), ("query_failed", false), "{error}");
    postgres::drop_database(database);
    // A server that converts says it by itself: as far as rows had come.
    let (database, url) = names("WIN1252", "81").await;
    for (query, criteria) in [
        ("SELECT n, name FROM people ORDER BY n", ""),
        ("SELECT n, name FROM people WHERE n >= :by ORDER BY n", "by=1"),
    ] {
        let error = refused(&app, &url, query, criteria).await;
        let said = error.to_string();
        assert!(said.contains("thing.toml: query: character with byte sequence 0x81"), "{said}");
        assert!(said.ends_with(" (after row 2000)") && error.code() == "query_failed", "{said}");
    }
    postgres::drop_database(database);
}
