//! Declared file types: definitions, criteria, and every SQL type in every format.

use std::{path::PathBuf, process::Command};

use bgfiles::{
    Criteria, Error, Handler, Job, Output,
    export::{DeclaredExport, Definition, Source},
};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{Kind, TestApp, app::start, both, smtp::python};

/// A definition over the app's database.
pub fn define(app: &TestApp, toml: &str) -> DeclaredExport {
    let path = app.dir.path().join("thing.toml");
    std::fs::write(&path, toml).unwrap();
    let definition = Definition::load(&path).unwrap_or_else(|e| panic!("{e}"));
    DeclaredExport::new(definition, Source::open(&app.url).unwrap())
}

pub async fn make(
    export: &DeclaredExport,
    format: &str,
    criteria: &str,
    zone: &str,
) -> Result<Vec<u8>, Error> {
    let mut new = TestApp::new_request("thing", "");
    new.criteria = export.parse_criteria(&Criteria::from_query(criteria)?)?;
    new.format = Some((export as &dyn Handler).choose_format(Some(format))?);
    new.timezone = Some(zone.into());
    let job = Job::new(new.into_row(start()))?;
    let (out, bytes) = Output::channel();
    whole(export.write(&job, out), bytes).await
}

/// All that is written, if it was written well.
pub async fn whole(
    write: impl Future<Output = Result<(), Error>>,
    mut bytes: tokio::sync::mpsc::Receiver<Bytes>,
) -> Result<Vec<u8>, Error> {
    let read = async {
        let mut all = Vec::new();
        while let Some(chunk) = bytes.recv().await {
            all.extend_from_slice(&chunk);
        }
        all
    };
    let (written, all) = tokio::join!(write, read);
    written.map(|()| all)
}

pub async fn text(export: &DeclaredExport, format: &str, criteria: &str) -> String {
    String::from_utf8(make(export, format, criteria, "").await.unwrap()).unwrap()
}

/// The cells of the first sheet as Python's openpyxl reads them: `[[type, value], …]` a row.
pub fn cells(app: &TestApp, xlsx: &[u8]) -> Vec<Vec<Value>> {
    let path = app.dir.path().join("read.xlsx");
    std::fs::write(&path, xlsx).unwrap();
    let script = "import json, sys, openpyxl\n\
        book = openpyxl.load_workbook(sys.argv[1], read_only=True)\n\
        rows = [[[type(c.value).__name__, str(c.value), c.data_type] for c in row] for row in book.worksheets[0].iter_rows()]\n\
        json.dump(rows, sys.stdout)";
    let output = Command::new(python()).args(["-c", script]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_postgres_type_has_a_rendering() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql("CREATE TYPE mood AS ENUM ('glad', 'sad')").await;
    let export = define(
        &app,
        r#"
title = "Types"
formats = ["csv", "jsonl", "xlsx"]
query = '''
SELECT true AS bool, 7::int2 AS int2, 9007199254740993::int8 AS int8, 1.5::float8 AS float8, 'NaN'::float8 AS nan,
  12345678901234567890.123456789::numeric AS numeric, 0.10::numeric AS small, '=1+1'::text AS formula, 'x'::char(3) AS fixed,
  'glad'::mood AS mood, '6f8ac0ea-2a0c-4d6c-9d0c-6b1d2f6a5d10'::uuid AS uuid, date '2024-02-29' AS date, time '12:34:56.5' AS time,
  timestamp '2024-02-29 12:34:56' AS plain, timestamptz '2024-07-01 12:00:00+00' AS moment, 'infinity'::timestamptz AS forever,
  '{"a": [1, null]}'::jsonb AS json, '\x00ff'::bytea AS bytes, ARRAY[1,2,NULL] AS list, interval '1 day 2 hours' AS span,
  '10.0.0.1/8'::inet AS inet, int4range(1, 5) AS range, '1.50'::money AS money, B'101' AS bits, NULL::text AS nothing,
  ROW(1, 'a') AS pair, 'Fußball 東京' AS text
'''
"#,
    );
    let columns = export.check().await.unwrap();
    assert_eq!(columns.len(), 27);
    let jsonl = make(&export, "jsonl", "", "Europe/Amsterdam").await.unwrap();
    let row: Value = serde_json::from_slice(&jsonl).unwrap();
    let expected = json!({
        "bool": true, "int2": 7, "int8": 9007199254740993i64, "float8": 1.5, "nan": null,
        "small": 0.10, "formula": "=1+1", "fixed": "x  ",
        "mood": "glad", "uuid": "6f8ac0ea-2a0c-4d6c-9d0c-6b1d2f6a5d10", "date": "2024-02-29", "time": "12:34:56.500",
        "plain": "2024-02-29T12:34:56", "moment": "2024-07-01T14:00:00+02:00", "forever": "infinity",
        "json": {"a": [1, null]}, "bytes": "\\x00ff", "list": [1, 2, null], "span": "1 day 02:00:00",
        "inet": "10.0.0.1/8", "range": "[1,5)", "money": "$1.50", "bits": "101", "nothing": null,
        "pair": {"f1": 1, "f2": "a"}, "text": "Fußball 東京",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&row[name], value, "{name}");
    }
    let jsonl = String::from_utf8(jsonl).unwrap();
    assert!(jsonl.contains("\"numeric\":12345678901234567890.123456789,"), "{jsonl}");
    let csv =
        String::from_utf8(make(&export, "csv", "", "Europe/Amsterdam").await.unwrap()).unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let names = reader.headers().unwrap().clone();
    let record = reader.records().next().unwrap().unwrap();
    let cell = |name: &str| &record[names.iter().position(|n| n == name).unwrap()];
    for (name, value) in [
        ("bool", "true"),
        ("int8", "9007199254740993"),
        ("numeric", "12345678901234567890.123456789"),
        ("small", "0.10"),
        ("formula", "'=1+1"),
        ("moment", "2024-07-01T14:00:00+02:00"),
        ("nothing", ""),
        ("json", r#"{"a": [1, null]}"#),
        ("bytes", "\\x00ff"),
        ("nan", "NaN"),
        ("date", "2024-02-29"),
    ] {
        assert_eq!(cell(name), value, "{name}");
    }
    let rows = cells(&app, &make(&export, "xlsx", "", "Europe/Amsterdam").await.unwrap());
    let cell = |name: &str| {
        let at = rows[0].iter().position(|cell| cell[1] == name).unwrap();
        (
            rows[1][at][0].as_str().unwrap(),
            rows[1][at][1].as_str().unwrap(),
            rows[1][at][2].as_str().unwrap(),
        )
    };
    assert_eq!(cell("bool").0, "bool");
    assert_eq!(cell("int2"), ("int", "7", "n"));
    assert_eq!(cell("int8"), ("str", "9007199254740993", "s"), "no digit is lost");
    assert_eq!(cell("numeric").0, "str");
    assert_eq!(cell("formula"), ("str", "=1+1", "s"), "text, never a formula");
    assert_eq!(cell("moment"), ("datetime", "2024-07-01 14:00:00", "d"));
    assert_eq!(cell("date").2, "d");
    assert_eq!(cell("nothing").0, "NoneType");
    let unnamed =
        define(&app, "title = \"x\"\nformats = [\"csv\"]\nquery = \"SELECT 1 AS a, 2 AS a\"\n");
    assert!(unnamed.check().await.unwrap_err().to_string().contains('a'));
    let void =
        define(&app, "title = \"x\"\nformats = [\"csv\"]\nquery = \"SELECT pg_sleep(0) AS nap\"\n");
    assert!(void.check().await.unwrap_err().to_string().contains("nap"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sqlite_type_has_a_rendering() {
    let app = TestApp::new(Kind::Sqlite).await;
    app.sql("CREATE TABLE t (flag boolean, day date, at datetime, n integer, r real, d decimal(10,2), s text, b blob, j json, z text)").await;
    app.sql("INSERT INTO t VALUES (1, '2024-02-29', '2024-07-01T12:00:00+00:00', 9007199254740993, 1.5, '0.10', '@cmd', x'00ff', '{\"a\":1}', NULL)").await;
    app.sql("INSERT INTO t VALUES (0, 'someday', 'soon', 'text', 2, 3, '-1+1', NULL, NULL, '')")
        .await;
    let export = define(
        &app,
        "title = \"x\"\nformats = [\"csv\", \"jsonl\", \"xlsx\"]\nquery = \"SELECT *, n + 0 AS sum FROM t\"\n",
    );
    export.check().await.unwrap();
    let jsonl =
        String::from_utf8(make(&export, "jsonl", "", "Europe/Amsterdam").await.unwrap()).unwrap();
    let rows: Vec<Value> = jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows[0]["flag"], true);
    assert_eq!(rows[0]["day"], "2024-02-29");
    assert_eq!(rows[0]["at"], "2024-07-01T14:00:00+02:00");
    // One type a column.
    assert_eq!((&rows[0]["n"], &rows[1]["n"]), (&json!("9007199254740993"), &json!("text")));
    assert_eq!((&rows[0]["b"], &rows[0]["z"]), (&json!("\\x00ff"), &Value::Null));
    // What does not fit its declared type stays what it is.
    assert_eq!((&rows[1]["day"], &rows[1]["at"]), (&json!("someday"), &json!("soon")));
    let csv = text(&export, "csv", "").await;
    assert!(csv.contains(",'@cmd,") && csv.contains(",'-1+1,"), "{csv}");
    let rows = cells(&app, &make(&export, "xlsx", "", "UTC").await.unwrap());
    assert_eq!(rows[1][2][2], "d");
    assert_eq!(rows[1][6], json!(["str", "@cmd", "s"]));
}

both!(criteria_of_every_type_reach_the_database);
async fn criteria_of_every_type_reach_the_database(app: TestApp) {
    let list = match app.kind {
        Kind::Postgres => ":list IS NULL OR 'b' = ANY(:list)",
        Kind::Sqlite => ":list IS NULL OR 'b' IN (SELECT value FROM json_each(:list))",
    };
    let export = define(
        &app,
        &format!(
            r#"
title = "x"
formats = ["csv"]
query = """SELECT 1 AS one WHERE (:text IS NULL OR :text = 'it''s') AND (:n IS NULL OR :n = 42)
  AND (:dec IS NULL OR :dec = 1.5) AND (:flag IS NULL OR :flag) AND ({list})
  AND (:pick IS NULL OR :pick = 'a') -- :comment is none
"""

[criteria.text]
type = "text"
[criteria.n]
type = "integer"
min = 1
max = 100
[criteria.dec]
type = "decimal"
[criteria.flag]
type = "boolean"
[criteria.list]
type = "list of text"
[criteria.pick]
type = "choice"
choices = ["a", "b"]
"#
        ),
    );
    let rows = async |criteria: &str| text(&export, "csv", criteria).await.lines().count() - 1;
    for (criteria, found) in [
        ("", 1),
        ("text=it's", 1),
        ("text=x' OR '1'='1", 0),
        ("n=42", 1),
        ("n=41", 0),
        ("dec=1.50", 1),
        ("dec=2", 0),
        ("flag=true", 1),
        ("flag=false", 0),
        ("list=a&list=b", 1),
        ("list=a", 0),
        ("pick=a", 1),
        ("pick=b", 0),
        ("text=", 1),
    ] {
        assert_eq!(rows(criteria).await, found, "{criteria}");
    }
    for (criteria, field) in [
        ("n=x", "criteria.n"),
        ("n=0", "criteria.n"),
        ("n=1&n=2", "criteria.n"),
        ("dec=1,5", "criteria.dec"),
        ("flag=perhaps", "criteria.flag"),
        ("pick=c", "criteria.pick"),
        ("odd=1", "criteria.odd"),
    ] {
        match make(&export, "csv", criteria, "").await {
            Err(Error::Invalid(errors)) => assert_eq!(errors[0].field, field),
            other => panic!("{criteria}: {other:?}"),
        }
    }
}

both!(limits_and_safety);
async fn limits_and_safety(app: TestApp) {
    app.sql("CREATE TABLE kept (n integer)").await;
    let numbers = match app.kind {
        Kind::Postgres => "SELECT n, 'x' AS s FROM generate_series(1, 1000) AS n",
        Kind::Sqlite => {
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000) SELECT n, 'x' AS s FROM c"
        }
    };
    let head = "title = \"x\"\nformats = [\"csv\", \"xlsx\"]\n";
    let export = define(&app, &format!("{head}max_rows = 999\nquery = \"{numbers}\"\n"));
    match make(&export, "csv", "", "").await {
        Err(Error::Permanent { code, message }) => {
            assert!(code == "too_many_rows" && message.contains("999"))
        }
        other => panic!("{other:?}"),
    }
    let export = define(&app, &format!("{head}max_rows = 1000\nquery = \"{numbers}\"\n"));
    assert_eq!(text(&export, "csv", "").await.lines().count(), 1001);
    for query in [
        "DELETE FROM kept",
        "INSERT INTO kept VALUES (1) RETURNING n",
        "SELEC 1",
        "SELECT 1 AS a; DROP TABLE kept",
    ] {
        let path = app.dir.path().join("wrong.toml");
        std::fs::write(&path, format!("{head}query = \"{query}\"\n")).unwrap();
        assert!(
            Definition::load(&path).unwrap_err().to_string().contains("wrong.toml:3"),
            "{query}"
        );
    }
    let hidden = match app.kind {
        Kind::Postgres => "WITH gone AS (DELETE FROM kept RETURNING n) SELECT n FROM gone",
        Kind::Sqlite => "SELECT n FROM nothing_of_that_name",
    };
    for query in [hidden, "SELECT FROM WHERE"] {
        let export = define(&app, &format!("{head}query = \"{query}\"\n"));
        let made = make(&export, "csv", "", "").await;
        assert!(made.as_ref().is_err_and(|e| !e.is_retryable()), "{query}: {made:?}");
        assert!(export.check().await.is_err(), "{query}");
    }
    assert_eq!(app.count("SELECT count(*) FROM kept").await, 0);
    let slow = match app.kind {
        Kind::Postgres => {
            "SELECT n::text AS a, pg_sleep(3)::text AS b FROM generate_series(1, 3) AS n"
        }
        Kind::Sqlite => {
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000000) SELECT max(n) AS n FROM c"
        }
    };
    let export = define(&app, &format!("{head}timeout = \"1s\"\nquery = \"{slow}\"\n"));
    match make(&export, "csv", "", "").await {
        Err(Error::Permanent { code, .. }) => assert_eq!(code, "timeout"),
        other => panic!("{other:?}"),
    }
}

both!(a_hundred_thousand_rows_open_in_openpyxl);
async fn a_hundred_thousand_rows_open_in_openpyxl(app: TestApp) {
    let numbers = match app.kind {
        Kind::Postgres => {
            "SELECT n, n * 0.5::float8 AS half, '=SUM(A1:A9)' AS formula, timestamptz '2024-01-01 00:00:00+00' + n * interval '1 minute' AS at FROM generate_series(1, 100000) AS n"
        }
        Kind::Sqlite => {
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 100000) SELECT n, n * 0.5 AS half, '=SUM(A1:A9)' AS formula, '2024-01-01T00:00:00+00:00' AS at FROM c"
        }
    };
    let export = define(
        &app,
        &format!(
            "title = \"x\"\nformats = [\"xlsx\"]\nquery = \"{numbers}\"\n\n[columns.at]\ntype = \"datetime\"\n"
        ),
    );
    let xlsx = make(&export, "xlsx", "", "Europe/Amsterdam").await.unwrap();
    let rows = cells(&app, &xlsx);
    assert_eq!(rows.len(), 100_001);
    assert_eq!(rows[100_000][0], json!(["int", "100000", "n"]));
    assert_eq!(rows[99_999][1], json!(["float", "49999.5", "n"]));
    assert_eq!(rows[50_000][2], json!(["str", "=SUM(A1:A9)", "s"]));
    assert_eq!(rows[1][3][0], "datetime");
    assert!(
        rows[1][3][1].as_str().unwrap().starts_with("2024-01-01 01:0"),
        "in the requester's zone"
    );
}

#[test]
fn definitions_that_are_wrong_name_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let good = "title = \"x\"\nformats = [\"csv\"]\nquery = \"SELECT :a AS a\"\n[criteria.a]\ntype = \"text\"\n";
    let cases = [
        (good.replace("title", "titel"), 1, "titel"),
        (good.replace("\"csv\"", "\"docx\""), 2, "docx"),
        (good.replace(":a AS a", "1 AS a"), 4, "a"),
        (good.replace(":a AS a", ":a AS a, :b AS b"), 3, "b"),
        (good.replace("\"text\"", "\"txt\""), 5, "txt"),
        (format!("{good}requird = true\n"), 6, "requird"),
        (good.replace("query = \"SELECT :a AS a\"\n", ""), 1, "query"),
        (format!("max_rows = \"many\"\n{good}"), 1, "many"),
        (format!("timeout = \"soon\"\n{good}"), 1, "soon"),
        (format!("filename = \"x-{{nothing}}.csv\"\n{good}"), 1, "nothing"),
        ("title = \"x".to_owned(), 1, "bad.toml"),
    ];
    for (toml, line, word) in cases {
        let path = dir.path().join("bad.toml");
        std::fs::write(&path, &toml).unwrap();
        let error = Definition::load(&path).map(drop).expect_err(&toml).to_string();
        assert!(error.contains("bad.toml"), "{error}");
        assert!(
            error.contains(&format!(":{line}")) || word == "query",
            "{error}: line {line} of {toml}"
        );
        assert!(error.contains(word), "{error}: {word}");
    }
    std::fs::write(dir.path().join("bad.toml"), good).unwrap();
    std::fs::write(dir.path().join("bad.sql"), "SELECT 1").unwrap();
    assert!(Definition::load(&dir.path().join("bad.toml")).is_err(), "two queries");
}

#[test]
fn what_the_project_ships_is_good() {
    let definitions = Definition::load_dir(&PathBuf::from("jobs")).unwrap();
    let names: Vec<_> = definitions.iter().map(|d| d.file_type.as_str()).collect();
    assert_eq!(names, ["flights"]);
}
