//! What other programs make of our files: openpyxl, calamine, LibreOffice, pyarrow, DuckDB, gzip and
//! zstd.

use std::{
    io::{Cursor, Read},
    path::Path,
    process::Command,
};

use bgfiles::{
    Error, Job, Output,
    export::{Column, DeclaredExport, Definition, Source, TableWriter, Value},
};
use calamine::{Data, Reader, Xlsx};
use chrono::{NaiveDate, NaiveTime};
use rust_xlsxwriter::{Format, Workbook, Worksheet};
use serde_json::json;

use crate::{
    declared::{define, make, text, whole},
    support::{Kind, TestApp, app::start, both, smtp::python},
};

/// A table as a handler writes it.
pub async fn table(
    format: &str,
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
    rows_per_sheet: Option<u32>,
) -> Result<Vec<u8>, Error> {
    let mut new = TestApp::new_request("thing", "");
    new.format = Some(format.into());
    let job = Job::new(new.into_row(start()))?;
    let (out, bytes) = Output::channel();
    let write = async {
        let mut table = TableWriter::new(out, &job, columns)?;
        if let Some(rows) = rows_per_sheet {
            table = table.with_rows_per_sheet(rows);
        }
        for row in rows {
            table.row(row).await?;
        }
        table.finish().await
    };
    whole(write, bytes).await
}

fn columns() -> Vec<Column> {
    let mut columns: Vec<Column> =
        ["n", "a < b & \"c\"", "when", "day", "hour", "sum", "yes"].map(Column::new).into();
    columns[5].format = Some("#,##0.00".into());
    columns
}

/// Rows of everything that a sheet may stumble over.
fn hostile_rows() -> Vec<Vec<Value>> {
    let texts = [
        "plain",
        "",
        " padded ",
        "line\nbreak",
        "tab\tin",
        "a & b < c > d \" '",
        "_x0041_",
        "_x41_",
        "__x0041_x",
        "\u{1}\u{1f}",
        "=1+1",
        "Zoë 日本 🎉",
        "\u{fffe}x\u{ffff}",
        "]]>",
        "0012",
        "\ttab first",
    ];
    let day = |y, m, d| NaiveDate::from_ymd_opt(y, m, d).unwrap();
    let days =
        [day(1900, 3, 1), day(1969, 12, 31), day(1970, 1, 1), day(2024, 2, 29), day(9999, 12, 31)];
    let ints = [0, -1, 999_999_999_999_999, -42];
    let floats = [0.1, -2.5, 1e-7, 123_456_789.25, 1e300, 0.0];
    let decimals = ["0.10", "-12345678.90", "100000000000000", "0.000000000000001"];
    let pick = |of: usize, at: usize, step: usize| (at * step + at / 7) % of;
    (0..400)
        .map(|i| {
            let time = NaiveTime::from_num_seconds_from_midnight_opt(
                u32::try_from(i * 7919 % 86_400).unwrap(),
                u32::try_from(i * 104_729 % 1_000).unwrap() * 1_000_000,
            )
            .unwrap();
            let day = days[pick(days.len(), i, 3)];
            let number = match i % 3 {
                0 => Value::Int(ints[pick(ints.len(), i, 1)]),
                1 => Value::Float(floats[pick(floats.len(), i, 5)]),
                _ => Value::Null,
            };
            vec![
                number,
                Value::Text(texts[pick(texts.len(), i, 3)].into()),
                if i % 5 == 0 { Value::Null } else { Value::NaiveDateTime(day.and_time(time)) },
                Value::Date(day),
                Value::Time(time),
                Value::Decimal(decimals[pick(decimals.len(), i, 1)].into()),
                if i % 4 == 0 { Value::Null } else { Value::Bool(i % 2 == 0) },
            ]
        })
        .collect()
}

/// The same rows by `rust_xlsxwriter` alone; its constant-memory mode has text in the cells, too.
fn reference(rows: &[Vec<Value>]) -> Vec<u8> {
    let mut book = Workbook::new();
    let sheet = book.add_worksheet_with_constant_memory().unwrap();
    for (at, column) in (0..).zip(columns()) {
        sheet.write_string_with_format(0, at, &column.label, &Format::new().set_bold()).unwrap();
    }
    sheet.set_freeze_panes(1, 0).unwrap();
    for (row, values) in (1..).zip(rows) {
        for (at, value) in (0..).zip(values) {
            write(sheet, row, at, value);
        }
    }
    book.save_to_buffer().unwrap()
}

fn write(sheet: &mut Worksheet, row: u32, at: u16, value: &Value) {
    let look = |format: &str| Format::new().set_num_format(format);
    match value {
        Value::Null => return,
        Value::Int(number) => sheet.write_number(row, at, *number as f64),
        Value::Float(number) => sheet.write_number(row, at, *number),
        Value::Decimal(digits) => sheet.write_number_with_format(
            row,
            at,
            digits.parse::<f64>().unwrap(),
            &look("#,##0.00"),
        ),
        Value::Text(text) => sheet.write_string(row, at, text),
        Value::Bool(flag) => sheet.write_boolean(row, at, *flag),
        Value::Date(day) => sheet.write_datetime_with_format(row, at, *day, &look("yyyy-mm-dd")),
        Value::Time(time) => sheet.write_datetime_with_format(row, at, *time, &look("hh:mm:ss")),
        Value::NaiveDateTime(wall) => {
            sheet.write_datetime_with_format(row, at, *wall, &look("yyyy-mm-dd hh:mm:ss"))
        }
        other => panic!("{other:?}"),
    }
    .unwrap();
}

/// Runs a script over a file and reads what it prints as JSON.
fn ask_python(script: &str, dir: &Path, name: &str, bytes: &[u8]) -> serde_json::Value {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    let output = Command::new(python()).args(["-c", script]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn calamine(bytes: &[u8]) -> Vec<Vec<Data>> {
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(bytes.to_vec())).unwrap();
    let sheet = book.worksheet_range_at(0).unwrap().unwrap();
    sheet.rows().map(<[Data]>::to_vec).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sheet_is_as_rust_xlsxwriter_makes_it() {
    let rows = hostile_rows();
    let theirs = reference(&rows);
    let ours = table("xlsx", columns(), rows, None).await.unwrap();
    let script = "import json, sys, openpyxl\n\
        book = openpyxl.load_workbook(sys.argv[1])\n\
        sheet = book.active\n\
        number = lambda v: isinstance(v, (int, float)) and not isinstance(v, bool)\n\
        text = lambda v: repr(float(v)) if number(v) else type(v).__name__ + str(v)\n\
        cells = [[[text(c.value), c.data_type, c.number_format, bool(c.font.b)] for c in row] for row in sheet.iter_rows()]\n\
        json.dump([book.sheetnames, sheet.freeze_panes, cells], sys.stdout)";
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (
        ask_python(script, dir.path(), "ours.xlsx", &ours),
        ask_python(script, dir.path(), "theirs.xlsx", &theirs),
    );
    assert_eq!((&a[0], &a[1]), (&b[0], &b[1]));
    assert_eq!(a[2].as_array().unwrap().len(), 401);
    for (row, (a, b)) in a[2].as_array().unwrap().iter().zip(b[2].as_array().unwrap()).enumerate() {
        assert_eq!(a, b, "row {row}");
    }
    let (a, b) = (calamine(&ours), calamine(&theirs));
    assert_eq!(a.len(), b.len());
    for (row, (a, b)) in a.iter().zip(&b).enumerate() {
        for (a, b) in a.iter().zip(b) {
            match (a, b) {
                // Ours has ten decimals of a day: nine microseconds.
                (Data::DateTime(a), Data::DateTime(b)) => {
                    assert!((a.as_f64() - b.as_f64()).abs() < 1e-9, "row {row}: {a:?} {b:?}");
                }
                _ => assert_eq!(a, b, "row {row}"),
            }
        }
    }
}

/// LibreOffice opens what goes on on further sheets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libreoffice_opens_sheets() {
    let rows: Vec<Vec<Value>> = hostile_rows();
    let xlsx = table("xlsx", columns(), rows.clone(), Some(151)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("book.xlsx"), xlsx).unwrap();
    // Commas, quotes, UTF-8, from the first row, cells as they are stored, every sheet.
    let filter = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false,false,false,false,-1";
    let output = Command::new("soffice")
        .args(["--headless", "--norestore", "--convert-to", filter, "--outdir"])
        .arg(dir.path())
        .arg(dir.path().join("book.xlsx"))
        .env("HOME", dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut seen = 0;
    for sheet in 1..=3 {
        let path = dir.path().join(format!("book-Sheet{sheet}.csv"));
        let mut reader = csv::ReaderBuilder::new().from_path(&path).unwrap();
        assert_eq!(reader.headers().unwrap().iter().nth(1), Some("a < b & \"c\""));
        for record in reader.records() {
            let (record, row) = (record.unwrap(), &rows[seen]);
            if let Value::Int(number) = row[0] {
                assert_eq!(record[0].parse::<i64>().unwrap(), number, "row {seen}");
            }
            if let Value::Text(text) = &row[1]
                && !text.contains(['\u{1}', '\u{fffe}'])
            {
                assert_eq!(&record[1], text, "row {seen}");
            }
            assert_eq!(record[6].is_empty(), row[6] == Value::Null, "row {seen}");
            seen += 1;
        }
    }
    assert_eq!(seen, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_say_what_they_are_from_the_first_bytes() {
    let xlsx = table("xlsx", columns(), hostile_rows(), None).await.unwrap();
    let names: Vec<String> = {
        let mut archive = zip::ZipArchive::new(Cursor::new(&xlsx)).unwrap();
        (0..archive.len())
            .map(|at| archive.by_index_raw(at).unwrap().name().unwrap().into_owned())
            .collect()
    };
    assert_eq!(names[0], "_rels/.rels");
    assert!(names.contains(&"[Content_Types].xml".to_owned()), "{names:?}");
    let sheets = table("xlsx", columns(), hostile_rows(), Some(101)).await.unwrap();
    let mut book: Xlsx<_> = Xlsx::new(Cursor::new(sheets)).unwrap();
    assert_eq!(book.sheet_names(), ["Sheet1", "Sheet2", "Sheet3", "Sheet4"]);
    let last = book.worksheet_range_at(3).unwrap().unwrap();
    assert_eq!(
        (last.height(), last.rows().next().unwrap()[0].clone()),
        (101, Data::String("n".into()))
    );
    let empty = table("xlsx", columns(), Vec::new(), None).await.unwrap();
    assert_eq!(calamine(&empty).len(), 1);
}

both!(parquet_is_read_by_pyarrow_and_duckdb);
async fn parquet_is_read_by_pyarrow_and_duckdb(app: TestApp) {
    app.sql("CREATE TABLE money (id bigint, sum decimal(12, 2), free decimal, at timestamptz, day date, wall timestamp, ok boolean, ratio double precision, note text, raw bytea)").await;
    app.sql("INSERT INTO money VALUES (1, 12.50, 1234567890123456789.5, '2024-07-01 12:00:00.123456+00', '2024-02-29', '2024-07-01 12:00:00', '1', 0.1, 'Zoë', NULL)").await;
    app.sql("INSERT INTO money VALUES (2, -0.05, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)")
        .await;
    let export = define(
        &app,
        "title = \"x\"\nformats = [\"parquet\"]\nquery = \"SELECT id, sum, at, day, wall, ok, ratio, note FROM money ORDER BY id\"\n",
    );
    let parquet = make(&export, "parquet", "", "Europe/Amsterdam").await.unwrap();
    let script = "import json, sys, duckdb, pyarrow.parquet as pq\n\
        table = pq.read_table(sys.argv[1])\n\
        duck = duckdb.connect(); duck.execute(\"SET TimeZone = 'UTC'\")\n\
        rows = [[None if v is None else str(v) for v in row.values()] for row in table.to_pylist()]\n\
        types = [d[0:2] for d in duck.execute('SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet(?))', [sys.argv[1]]).fetchall()]\n\
        seen = [[None if v is None else str(v) for v in row] for row in duck.execute('SELECT * REPLACE (\"at\"::text AS \"at\", wall::text AS wall) FROM read_parquet(?)', [sys.argv[1]]).fetchall()]\n\
        json.dump([[str(f.type) for f in table.schema], rows, types, seen], sys.stdout)";
    let read = ask_python(script, app.dir.path(), "money.parquet", &parquet);
    assert_eq!(read[0][1], "decimal128(12, 2)");
    assert_eq!(read[0][2], "timestamp[us, tz=UTC]");
    let first = vec![
        "1",
        "12.50",
        "2024-07-01 12:00:00.123456+00:00",
        "2024-02-29",
        "2024-07-01 12:00:00",
        "True",
        "0.1",
        "Zoë",
    ];
    assert_eq!(read[1][0], json!(first));
    assert_eq!(read[1][1], json!(["2", "-0.05", null, null, null, null, null, null]));
    assert_eq!(
        read[2],
        json!([
            ["id", "BIGINT"],
            ["sum", "DECIMAL(12,2)"],
            ["at", "TIMESTAMP WITH TIME ZONE"],
            ["day", "DATE"],
            ["wall", "TIMESTAMP"],
            ["ok", "BOOLEAN"],
            ["ratio", "DOUBLE"],
            ["note", "VARCHAR"]
        ])
    );
    assert_eq!(
        (&read[3][0][1], &read[3][0][2], &read[3][0][7]),
        (&json!("12.50"), &json!("2024-07-01 12:00:00.123456+00"), &json!("Zoë"))
    );
    // No number type holds what has no declared digits.
    let export = define(
        &app,
        "title = \"x\"\nformats = [\"parquet\"]\nquery = \"SELECT sum + 0 AS computed FROM money ORDER BY id\"\n",
    );
    let script = "import json, sys, pyarrow.parquet as pq\ntable = pq.read_table(sys.argv[1])\njson.dump([[str(f.type) for f in table.schema], table.to_pylist()], sys.stdout)";
    let read = ask_python(
        script,
        app.dir.path(),
        "computed.parquet",
        &make(&export, "parquet", "", "").await.unwrap(),
    );
    match app.kind {
        Kind::Postgres => {
            assert_eq!(read, json!([["string"], [{"computed": "12.50"}, {"computed": "-0.05"}]]))
        }
        Kind::Sqlite => {
            assert_eq!(read, json!([["double"], [{"computed": 12.5}, {"computed": -0.05}]]))
        }
    }
}

both!(parquet_has_row_groups_and_types_that_hold);
async fn parquet_has_row_groups_and_types_that_hold(app: TestApp) {
    let (numbers, long) = match app.kind {
        Kind::Postgres => (
            "SELECT n, (SELECT string_agg(md5(n::text || k), '') FROM generate_series(1, 20) AS k) AS s FROM generate_series(1, 60000) AS n",
            "SELECT 'infinity'::timestamptz AS at",
        ),
        Kind::Sqlite => (
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 60000) SELECT n, n || hex(randomblob(320)) AS s FROM c",
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3000) SELECT CASE WHEN n < 2000 THEN n ELSE 'late' END AS at FROM c",
        ),
    };
    let export =
        define(&app, &format!("title = \"x\"\nformats = [\"parquet\"]\nquery = \"{numbers}\"\n"));
    let parquet = make(&export, "parquet", "", "").await.unwrap();
    let script = "import json, sys, pyarrow.parquet as pq\n\
        file = pq.ParquetFile(sys.argv[1])\n\
        groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]\n\
        n = file.read(['n'])['n'].to_pylist()\n\
        json.dump([len(groups) > 1, sum(groups), n == list(range(1, 60001))], sys.stdout)";
    assert_eq!(
        ask_python(script, app.dir.path(), "groups.parquet", &parquet),
        json!([true, 60000, true])
    );
    let export = define(
        &app,
        &format!("title = \"x\"\nformats = [\"parquet\", \"csv\"]\nquery = \"{long}\"\n"),
    );
    match make(&export, "parquet", "", "").await {
        Err(Error::Permanent { code, message }) => {
            assert!(code == "parquet_type" && message.contains("\"at\""), "{message}")
        }
        other => panic!("{other:?}"),
    }
    assert!(text(&export, "csv", "").await.lines().count() > 1);
}

both!(compressed_csv_is_the_same_csv);
async fn compressed_csv_is_the_same_csv(app: TestApp) {
    let numbers = match app.kind {
        Kind::Postgres => "SELECT n, '-' || n AS s FROM generate_series(1, 50000) AS n",
        Kind::Sqlite => {
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 50000) SELECT n, '-' || n AS s FROM c"
        }
    };
    let export = define(
        &app,
        &format!(
            "title = \"x\"\nformats = [\"csv\", \"csv.gz\", \"csv.zst\"]\nquery = \"{numbers}\"\n"
        ),
    );
    let csv = text(&export, "csv", "").await;
    assert!(csv.starts_with("n,s\r\n1,'-1\r\n") && csv.ends_with("50000,'-50000\r\n"));
    let gz = make(&export, "csv.gz", "", "").await.unwrap();
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(gz.as_slice()).read_to_string(&mut unpacked).unwrap();
    assert!(unpacked == csv && gz.len() < csv.len() / 2);
    let zst = make(&export, "csv.zst", "", "").await.unwrap();
    assert!(zstd::stream::decode_all(zst.as_slice()).unwrap() == csv.as_bytes());
}

/// A query with values is fetched in rows, one without by COPY: nobody sees a difference.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_copies_are_the_same() {
    let app = TestApp::new(Kind::Postgres).await;
    let export = define(
        &app,
        r#"
title = "Types"
formats = ["csv", "jsonl", "xlsx", "parquet"]
query = """
SELECT n, CASE WHEN n % 3 > 0 THEN n * 0.01::numeric(12,2) END AS sum, n / 7.0::float8 AS ratio, n / 7.0::float4 AS small,
  CASE n % 4 WHEN 0 THEN '=x' WHEN 1 THEN 'a,"b"' WHEN 2 THEN E'l\n1' END AS s, n % 2 = 0 AS ok,
  timestamptz '2024-01-01 00:00:00.5+00' + n * interval '1 hour' AS at, date '2024-01-01' + n AS day,
  ARRAY[n, NULL] AS list, jsonb_build_object('n', n) AS j, n * interval '1 s' AS lasts, decode(md5(n::text), 'hex') AS raw
FROM generate_series(1, 3000) AS n WHERE :least IS NULL OR n >= :least
"""
[criteria.least]
type = "integer"
"#,
    );
    for format in ["csv", "jsonl", "parquet"] {
        let copied = make(&export, format, "", "Europe/Amsterdam").await.unwrap();
        let rows = make(&export, format, "least=1", "Europe/Amsterdam").await.unwrap();
        assert!(copied == rows && copied.len() > 10_000, "{format}");
    }
    let copied = calamine(&make(&export, "xlsx", "", "Europe/Amsterdam").await.unwrap());
    assert_eq!(
        copied,
        calamine(&make(&export, "xlsx", "least=1", "Europe/Amsterdam").await.unwrap())
    );
    assert_eq!(copied.len(), 3001);
    // 2024-01-01 02:00:00.5 in Amsterdam: 45,292 days, two hours and half a second.
    let Data::DateTime(at) = &copied[1][6] else { panic!("{:?}", copied[1]) };
    assert!((at.as_f64() - (45_292.0 + 7_200.5 / 86_400.0)).abs() < 1e-9);
}

/// The columns of a small query are remembered for a moment. A table that changes within it is
/// exported as it is, and never misread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_changes_between_two_exports() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql("CREATE TABLE changing (n bigint, s text)").await;
    app.sql("INSERT INTO changing VALUES (5, 'x')").await;
    let export = define(
        &app,
        r#"
title = "Changing"
formats = ["csv", "jsonl"]
query = "SELECT c.* FROM changing AS c WHERE :least IS NULL OR to_jsonb(c)->>'n' >= :least::text"
[criteria.least]
type = "integer"
"#,
    );
    for criteria in ["", "least=2"] {
        app.sql("DROP TABLE changing").await;
        app.sql("CREATE TABLE changing (n bigint, s text)").await;
        app.sql("INSERT INTO changing VALUES (5, 'x')").await;
        // The first describes, the second remembers, the third has it prepared.
        for _ in 0..3 {
            assert_eq!(text(&export, "jsonl", criteria).await, "{\"n\":5,\"s\":\"x\"}\n");
        }
        for (change, line) in [
            // As many bytes, and other numbers.
            ("ALTER n TYPE float8 USING n + 0.5", "{\"n\":5.5,\"s\":\"x\"}\n"),
            ("ALTER s TYPE bytea USING s::bytea", "{\"n\":5.5,\"s\":\"\\\\x78\"}\n"),
            ("DROP s", "{\"n\":5.5}\n"),
            ("RENAME n TO m", "{\"m\":5.5}\n"),
        ] {
            app.sql(format!("ALTER TABLE changing {change}").leak()).await;
            // Of what has no `n` any more, no row is chosen.
            let line = if criteria.is_empty() || line.contains("\"n\"") { line } else { "" };
            assert_eq!(text(&export, "jsonl", criteria).await, line, "{criteria} {change}");
        }
    }
}

/// Exports that run beside others leave the end of their transaction to the next one; the last ones
/// are ended all the same, so that nobody waits for the tables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_transaction_stays_open_after_exports() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql("CREATE TABLE read_by_all AS SELECT generate_series(1, 10) AS n").await;
    let export = define(
        &app,
        "title = \"n\"\nformats = [\"csv\"]\nquery = \"SELECT n FROM read_by_all ORDER BY n\"\n",
    );
    let all = futures::future::join_all((0..40).map(|_| text(&export, "csv", ""))).await;
    assert!(
        all.iter().all(|made| made == "n\r\n1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8\r\n9\r\n10\r\n")
    );
    app.sql("ALTER TABLE read_by_all ADD m integer").await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND application_name = 'bgfiles export' AND state LIKE 'idle in transaction%'";
    assert_eq!(app.count(open).await, 0);
}

/// What Excel would call corrupt, and formats that say nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_are_none_are_text() {
    let mut columns = vec![Column::new("n"), Column::new("d")];
    columns[0].format = Some(String::new());
    let huge = format!("1{}", "0".repeat(400));
    let rows = ["inf", "NaN", &huge, "12.5"].map(|n| vec![Value::Decimal(n.into()), Value::Null]);
    let read = calamine(&table("xlsx", columns, rows.to_vec(), None).await.unwrap());
    assert_eq!(read[1][0], Data::String("inf".into()));
    assert_eq!(read[2][0], Data::String("NaN".into()));
    assert_eq!(read[3][0], Data::String(huge));
    assert_eq!(read[4][0], Data::Float(12.5));
}

/// A copy for reports is often replaced by `mv`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_that_is_replaced_is_read_anew() {
    let app = TestApp::new(Kind::Sqlite).await;
    let path = app.dir.path().join("source.db");
    let fill = |path: &Path, n: i64| {
        let db = rusqlite::Connection::open(path).unwrap();
        db.execute_batch(&format!("CREATE TABLE t (n integer); INSERT INTO t VALUES ({n})"))
            .unwrap();
    };
    fill(&path, 1);
    let toml = app.dir.path().join("thing.toml");
    std::fs::write(&toml, "title = \"x\"\nformats = [\"csv\"]\nquery = \"SELECT n FROM t\"\n")
        .unwrap();
    let source = Source::open(&format!("sqlite:{}", path.display())).unwrap();
    let export = DeclaredExport::new(Definition::load(&toml).unwrap(), source);
    assert_eq!(text(&export, "csv", "").await, "n\r\n1\r\n");
    let other = app.dir.path().join("other.db");
    fill(&other, 2);
    std::fs::rename(&other, &path).unwrap();
    assert_eq!(text(&export, "csv", "").await, "n\r\n2\r\n");
}
