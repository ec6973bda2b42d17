//! Our files in the hands of programs that others wrote (`tests/strangers`): every cell is compared.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use bgfiles::export::{Column, DeclaredExport, Definition, Interval, Source, Value};
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use serde_json::{Value as Json, json};

use crate::{
    declared::{define, make},
    formats::table,
    support::{Kind, TestApp, both},
};

fn strangers(program: &str) -> Command {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/strangers").join(program);
    Command::new(path)
}

fn day(y: i32, m: u32, d: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(y, m, d).unwrap()
}

/// What a reader should find in a cell.
fn truth(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(flag) => json!(flag),
        Value::Int(number) => json!(number),
        Value::Float(number) => json!(number),
        Value::Decimal(digits) => json!({ "decimal": digits }),
        Value::Text(text) => json!(text),
        Value::Date(day) => json!({ "date": day }),
        Value::Time(time) => json!({ "time": time.format("%H:%M:%S%.3f").to_string() }),
        Value::NaiveDateTime(at) => {
            json!({ "moment": at.format("%Y-%m-%dT%H:%M:%S%.3f").to_string() })
        }
        Value::Interval(length) => {
            let seconds = i64::from(length.days) * 86_400 + length.micros / 1_000_000;
            json!({ "duration": seconds })
        }
        other => panic!("{other:?}"),
    }
}

/// A file and what is in it, for `matrix`.
struct Sample {
    name: &'static str,
    xlsx: Vec<u8>,
    truth: Json,
}

impl Sample {
    async fn new(
        name: &'static str,
        columns: Vec<Column>,
        rows: Vec<Vec<Value>>,
        rows_per_sheet: Option<u32>,
    ) -> Sample {
        let header: Vec<Json> = columns.iter().map(|column| json!(column.label)).collect();
        let truths: Vec<Vec<Json>> =
            rows.iter().map(|row| row.iter().map(truth).collect()).collect();
        let in_a_sheet = rows_per_sheet.map_or(usize::MAX, |rows| rows as usize - 1);
        let sheets: Vec<Json> = (1..)
            .zip(truths.chunks(in_a_sheet.min(truths.len().max(1))))
            .map(|(number, rows)| {
                let rows: Vec<&Vec<Json>> = std::iter::once(&header).chain(rows).collect();
                json!({ "name": format!("Sheet{number}"), "rows": rows })
            })
            .collect();
        let xlsx = table("xlsx", columns, rows, rows_per_sheet).await.unwrap();
        Sample { name, xlsx, truth: json!({ "sheets": sheets }) }
    }

    fn write(&self, dir: &Path) -> [PathBuf; 2] {
        let paths = ["json", "xlsx"].map(|ending| dir.join(format!("{}.{ending}", self.name)));
        std::fs::write(&paths[0], self.truth.to_string()).unwrap();
        std::fs::write(&paths[1], &self.xlsx).unwrap();
        paths
    }
}

/// Every type that a sheet has, with blanks at the start, in the middle and at the end of rows, and
/// rows without anything.
async fn every_type() -> Sample {
    let names = ["flag", "n", "price", "ratio", "text", "day", "at", "hour", "span", "note"];
    let mut columns: Vec<Column> = names.map(Column::new).into();
    columns[2].format = Some("#,##0.00".into());
    let texts =
        ["plain", " padded ", "a & b < c", "line\nbreak", "0012", "=1+1", "Zoë 日本", "_x0041_"];
    let prices = ["0.10", "-12345678.90", "100000000000000.00", "7"];
    let row = |i: usize| {
        let seconds = u32::try_from(i * 7919 % 86_400).unwrap();
        let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds, 0).unwrap();
        let fine = NaiveTime::from_num_seconds_from_midnight_opt(
            seconds,
            // Hundredths: not every reader keeps more.
            u32::try_from(i * 104_729 % 99).unwrap() * 10_000_000 % 400_000_000,
        );
        let dates = [day(1900, 3, 1), day(1970, 1, 1), day(2024, 2, 29), day(9999, 12, 31)];
        let span = Interval {
            months: 0,
            days: i32::try_from(i % 3).unwrap(),
            micros: i64::from(seconds) * 1_000_000,
        };
        vec![
            Value::Bool(i.is_multiple_of(2)),
            Value::Int([0, -1, 999_999_999_999_999, -42][i % 4]),
            Value::Decimal(prices[i % prices.len()].into()),
            Value::Float([0.1, -2.5, 1e-7, 1_234_567.25][i / 2 % 4]),
            Value::Text(texts[i % texts.len()].into()),
            Value::Date(dates[i % dates.len()]),
            Value::NaiveDateTime(NaiveDateTime::new(day(2024, 2, 29), fine.unwrap())),
            Value::Time(time),
            Value::Interval(span),
            Value::Text(format!("note {i}")),
        ]
    };
    let blank = |i: usize, at: usize| match i % 7 {
        1 => at < 3,
        2 => at > 6,
        3 => (3..6).contains(&at),
        5 => true,
        _ => at % 5 == i % 5,
    };
    let rows = (0..60).map(|i| {
        let cells = row(i).into_iter().enumerate();
        cells.map(|(at, value)| if blank(i, at) { Value::Null } else { value }).collect()
    });
    Sample::new("types", columns, rows.collect(), None).await
}

/// Days that programs disagree about, and numbers of which Excel would lose digits.
async fn text_where_excel_has_nothing() -> Sample {
    let columns = vec![Column::new("day"), Column::new("n")];
    let days = [day(1900, 1, 1), day(1900, 2, 28), day(1899, 12, 31)];
    let rows =
        days.map(|day| vec![Value::Date(day), Value::Decimal("12345678901234567890.5".into())]);
    let mut sample = Sample::new("as-text", columns, rows.into(), None).await;
    for (row, day) in (1..).zip(days) {
        sample.truth["sheets"][0]["rows"][row] = json!([day.to_string(), "12345678901234567890.5"]);
    }
    sample
}

async fn one_column() -> Sample {
    let rows = (0..50).map(|i| vec![if i % 4 == 1 { Value::Null } else { Value::Int(i) }]);
    Sample::new("one-column", vec![Column::new("n")], rows.collect(), None).await
}

async fn wide() -> Sample {
    let columns = (0..300).map(|at| Column::new(format!("c{at}"))).collect();
    let value = |row: i64, at: i64| match (row + at) % 4 {
        0 => Value::Null,
        _ if at % 3 == 0 => Value::Text(format!("t{row}")),
        _ => Value::Int(row * 1_000 + at),
    };
    let rows = (0..20).map(|row| (0..300).map(|at| value(row, at)).collect());
    Sample::new("wide", columns, rows.collect(), None).await
}

async fn several_sheets() -> Sample {
    let columns = vec![Column::new("n"), Column::new("text")];
    let rows = (0..25).map(|n| vec![Value::Int(n), Value::Text(format!("row {n}"))]);
    Sample::new("sheets", columns, rows.collect(), Some(11)).await
}

/// What a reader gets wrong by itself is in `tests/strangers/known.toml`; anything else, and what is
/// listed and no longer so, fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_program_reads_our_sheets_cell_by_cell() {
    let dir = tempfile::tempdir().unwrap();
    let samples = [
        every_type().await,
        text_where_excel_has_nothing().await,
        one_column().await,
        wide().await,
        several_sheets().await,
    ];
    let paths = samples.iter().flat_map(|sample| sample.write(dir.path()));
    matrix(strangers("matrix").args(paths));
}

fn matrix(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
}

/// Those that keep milliseconds show the one that was meant, whether they round or cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moments_are_exact_to_the_millisecond() {
    let dir = tempfile::tempdir().unwrap();
    let moment = |i: i64| {
        let at = day(1970, 1, 1).and_time(NaiveTime::MIN);
        Value::NaiveDateTime(at + chrono::TimeDelta::milliseconds(i * 86_399_123_457))
    };
    let time = |i: i64| {
        let midnight = day(2024, 1, 1).and_time(NaiveTime::MIN);
        Value::Time(
            (midnight + chrono::TimeDelta::milliseconds(i * 86_399_123 % 86_400_000)).time(),
        )
    };
    let columns = vec![Column::new("at"), Column::new("hour")];
    let rows = (1..400).map(|i| vec![moment(i), time(i)]).collect();
    let sample = Sample::new("milliseconds", columns, rows, None).await;
    let readers = "xlsx,exceljs,openpyxl,openpyxl-read-only,python-calamine";
    matrix(strangers("matrix").args(["--readers", readers]).args(sample.write(dir.path())));
}

/// The types of each column as pyarrow, polars, pandas and DuckDB see it, and the rows.
fn columns(dir: &Path, name: &str, bytes: &[u8]) -> Vec<Json> {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    let output = strangers("columns").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

both!(json_lines_have_one_type_a_column);
// The odd one comes after everything that readers look at to guess a column's type.
async fn json_lines_have_one_type_a_column(app: TestApp) {
    let query = match app.kind {
        Kind::Postgres => {
            "SELECT n, CASE WHEN n = 120000 THEN 'NaN' ELSE n::float8 END AS ratio, \
            CASE WHEN n > 110000 THEN 123456789012345.67 + n ELSE 12 END AS amount, \
            CASE WHEN n > 110000 THEN n / 7.0 ELSE n END AS mean, \
            CASE WHEN n > 110000 THEN timestamp 'infinity' ELSE timestamp '2024-07-01' END AS at \
            FROM generate_series(1, 120001) AS n"
        }
        Kind::Sqlite => {
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 120001) \
            SELECT n, CASE WHEN n = 120000 THEN NULL WHEN n > 110000 THEN n + 0.5 ELSE n * 1.0 END AS ratio, \
            CASE WHEN n > 110000 THEN '123456789012345.67' ELSE 12 END AS amount, \
            n / 7.0 AS mean, '2024-07-01 00:00:00' AS at FROM c"
        }
    };
    let export = define(
        &app,
        &format!(
            "formats = [\"jsonl\"]\nquery = \"{query}\"\n[columns.amount]\ntype = \"decimal\"\n"
        ),
    );
    let made = make(&export, "jsonl", "", "").await.unwrap();
    for seen in columns(app.dir.path(), "long.jsonl", &made) {
        assert_eq!(seen.get("error"), None, "{seen}");
        let types: Vec<String> = ["n", "ratio", "amount", "mean", "at"]
            .map(|name| seen["columns"][name].to_string().to_lowercase())
            .into();
        assert!(types[0].contains("int"), "{seen:.300}");
        for kind in &types[1..4] {
            assert!(
                ["double", "float"].iter().any(|known| kind.contains(known)),
                "{types:?} {:?}",
                seen["reader"]
            );
        }
    }
    let text = String::from_utf8(made).unwrap();
    assert!(text.contains("\"ratio\":null"), "not a number");
    assert!(text.contains("\"amount\":12.0,"), "a number that has decimals elsewhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parquet_types_are_those_that_the_database_says() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql("CREATE DOMAIN price AS numeric(12, 2) CHECK (VALUE >= 5)").await;
    app.sql("CREATE TABLE sales (amount numeric(12, 2), list price, rate numeric(3, 5), big numeric(5, -2), huge numeric(50, 2), plain numeric)").await;
    app.sql("INSERT INTO sales VALUES (12.50, 7.25, 0.00123, 12300, 1.25, 0.1), (-0.05, NULL, NULL, NULL, NULL, 2)").await;
    app.sql("CREATE VIEW seen AS SELECT amount * 2 AS doubled, sum(amount) OVER ()::numeric(14, 3) AS total FROM sales").await;
    let query = "SELECT amount, list, list::price AS again, rate, big, huge, plain, sum(amount) OVER ()::numeric(12,2) AS cast_sum, \
        max(amount) OVER () AS most, avg(plain) OVER () AS mean, avg(plain) OVER () AS share, (SELECT total FROM seen LIMIT 1) AS of_view FROM sales ORDER BY amount";
    let export = define(
        &app,
        &format!(
            "formats = [\"parquet\"]\nquery = \"{query}\"\n[columns.mean]\ntype = \"float\"\n[columns.share]\ntype = \"decimal(38, 20)\"\n"
        ),
    );
    let made = make(&export, "parquet", "", "").await.unwrap();
    let read = columns(app.dir.path(), "sales.parquet", &made);
    let arrow = read.iter().find(|one| one["reader"] == "pyarrow").unwrap();
    assert_eq!(
        arrow["columns"],
        json!({
            "amount": "decimal128(12, 2)", "list": "decimal128(12, 2)", "again": "decimal128(12, 2)",
            "rate": "decimal128(5, 5)", "big": "decimal128(7, 0)", "huge": "string", "plain": "string",
            "cast_sum": "decimal128(12, 2)", "most": "string", "mean": "double",
            "share": "decimal128(38, 20)", "of_view": "decimal128(14, 3)",
        })
    );
}

/// What readers get wrong stands in one list; the manual shows it.
#[test]
fn the_manual_names_every_known_fault() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let known = std::fs::read_to_string(root.join("tests/strangers/known.toml")).unwrap();
    let known: toml::Table = known.parse().unwrap();
    let manual = std::fs::read_to_string(root.join("docs/src/development/readers.md")).unwrap();
    for one in known["known"].as_array().unwrap() {
        let text = |key: &str| one[key].as_str().unwrap();
        let (version, fault) = (text("version"), text("fault").replace('-', " "));
        let is_row =
            |line: &&str| line.contains(&format!("| {version} |")) && line.contains(&fault);
        assert!(manual.lines().any(|line| is_row(&line)), "{} {version}: {fault}", text("reader"));
    }
}

/// Every table and view of a real SQLite database, in every format, is what SQLite says it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chinook_is_whole_in_every_format() {
    let app = TestApp::new(Kind::Sqlite).await;
    let path = app.dir.path().join("chinook.db");
    let output = strangers("chinook").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let source = Source::open(&format!("sqlite:{}", path.display())).unwrap();
    let names = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name";
    let database = rusqlite::Connection::open(&path).unwrap();
    let mut statement = database.prepare(names).unwrap();
    let tables = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let toml = app.dir.path().join("thing.toml");
    for table in tables.map(Result::unwrap) {
        let formats = "[\"csv\", \"xlsx\", \"jsonl\", \"parquet\", \"csv.gz\", \"csv.zst\"]";
        std::fs::write(&toml, format!("formats = {formats}\nquery = \"SELECT * FROM {table}\"\n"))
            .unwrap();
        let export = DeclaredExport::new(Definition::load(&toml).unwrap(), source.clone());
        for format in ["csv", "xlsx", "jsonl", "parquet"] {
            let made =
                make(&export, format, "", "").await.unwrap_or_else(|e| panic!("{table}: {e}"));
            std::fs::write(app.dir.path().join(format!("{table}.{format}")), made).unwrap();
        }
        let csv = std::fs::read(app.dir.path().join(format!("{table}.csv"))).unwrap();
        let made = make(&export, "csv.zst", "", "").await.unwrap();
        assert!(zstd::decode_all(made.as_slice()).unwrap() == csv, "{table}");
        let (made, mut unpacked) = (make(&export, "csv.gz", "", "").await.unwrap(), Vec::new());
        flate2::read::GzDecoder::new(made.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == csv, "{table}");
    }
    let script = r"
import csv, json, sqlite3, sys, openpyxl, pyarrow.parquet as pq
from datetime import datetime
from decimal import Decimal
folder = sys.argv[1]
database = sqlite3.connect(folder + '/chinook.db')
def plain(v):
    if isinstance(v, datetime): return v.strftime('%Y-%m-%d %H:%M:%S')
    if isinstance(v, str) and len(v) == 19 and v[10] == 'T': return v.replace('T', ' ')
    if isinstance(v, (Decimal, float)): return round(float(v), 6)
    return v
for (table,) in database.execute(sys.argv[2]).fetchall():
    cursor = database.execute(f'SELECT * FROM {table}')
    names = [d[0] for d in cursor.description]
    truth = [[plain(v) for v in row] for row in cursor]
    lines = [json.loads(line) for line in open(f'{folder}/{table}.jsonl')]
    parquet = pq.read_table(f'{folder}/{table}.parquet')
    sheet = openpyxl.load_workbook(f'{folder}/{table}.xlsx', read_only=True).active
    with open(f'{folder}/{table}.csv', newline='') as file:
        records = list(csv.reader(file))
    seen = {
        'jsonl': [[plain(line[n]) for n in names] for line in lines],
        'parquet': [[plain(row[n]) for n in names] for row in parquet.to_pylist()],
        'xlsx': [[plain(v) for v in row] for row in list(sheet.iter_rows(values_only=True))[1:]],
    }
    for name, rows in seen.items():
        assert len(rows) == len(truth), (table, name, len(rows), len(truth))
        for at, (a, b) in enumerate(zip(rows, truth)):
            # An empty text is a blank cell.
            b = [v or None if name == 'xlsx' and v == '' else v for v in b]
            assert a == b, (table, name, at, a, b)
    text = lambda v: '' if v is None else str(v)
    for at, (a, b) in enumerate(zip(records[1:], truth)):
        for cell, v in zip(a, b):
            guarded = isinstance(v, str) and not v.startswith(chr(39))
            cell = cell.removeprefix(chr(39)) if guarded else cell
            same = abs(float(cell) - v) < 1e-6 if isinstance(v, float) and cell else plain(cell) == text(v)
            assert same, (table, 'csv', at, cell, v)
    assert len(records) - 1 == len(truth)
    if table == 'invoice':
        types = {f.name: str(f.type) for f in parquet.schema}
        assert types['InvoiceDate'] == 'timestamp[us]' and types['Total'] == 'decimal128(10, 2)', types
";
    let output = Command::new(crate::support::smtp::python())
        .args(["-c", script])
        .arg(app.dir.path())
        .arg(names)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
