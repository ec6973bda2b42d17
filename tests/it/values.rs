//! The right values: what a database says, whatever it is configured to, and whose day it is.

use std::process::Command;

use bgfiles::{
    Criteria, Error, Handler, Job, Output,
    export::{DeclaredExport, Definition, Source},
};

use crate::{
    declared::{define, make, text, whole},
    support::{Kind, TestApp, app::start, both},
};

/// What psql prints for one value.
fn psql(app: &TestApp, settings: &str, sql: &str) -> String {
    let output = Command::new("psql")
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1", &app.url, "-c", settings, "-c", sql])
        .output()
        .unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end_matches('\n').to_owned()
}

/// A value of each type that has no form of its own in our files.
const OWN_TEXT: [(&str, &str); 60] = [
    ("\"char\"", "x"),
    ("regproc", "now"),
    ("tid", "(1,2)"),
    ("xid", "7"),
    ("cid", "7"),
    ("xid8", "7"),
    ("xml", "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a>é</a>"),
    ("point", "(1,2)"),
    ("lseg", "[(0,0),(1,1)]"),
    ("path", "((0,0),(1,1))"),
    ("box", "(1,1),(0,0)"),
    ("polygon", "((0,0),(1,1),(1,0))"),
    ("line", "{1,2,3}"),
    ("circle", "<(0,0),1>"),
    ("money", "-1234.50"),
    ("macaddr", "08:00:2b:01:02:03"),
    ("macaddr8", "08:00:2b:01:02:03:04:05"),
    ("inet", "192.168.1.1"),
    ("inet", "::1"),
    ("inet", "10.0.0.1/8"),
    ("cidr", "10.0.0.0/8"),
    ("aclitem", "postgres=r/postgres"),
    ("interval", "1 year 2 mons -3 days +04:05:06.789"),
    ("interval", "-02:30:00"),
    ("interval", "25:00:00"),
    ("timetz", "12:34:56.5+02"),
    ("bit(3)", "101"),
    ("varbit", "10101"),
    ("refcursor", "c"),
    ("regprocedure", "lower(text)"),
    ("regoper", "||/"),
    ("regoperator", "+(integer,integer)"),
    ("regclass", "pg_class"),
    ("regtype", "integer"),
    ("regrole", "postgres"),
    ("regnamespace", "pg_catalog"),
    ("regconfig", "english"),
    ("regdictionary", "simple"),
    ("regcollation", "\"C\""),
    ("oid", "4294967295"),
    ("pg_lsn", "16/B374D848"),
    ("tsvector", "'a':1 'b':2"),
    ("tsquery", "'a' & 'b'"),
    ("jsonpath", "$.a[*]"),
    ("txid_snapshot", "10:20:10,14,15"),
    ("pg_snapshot", "10:20:10,14,15"),
    ("int4range", "[1,5)"),
    ("int8range", "[1,)"),
    ("numrange", "(1.5,2.5]"),
    ("daterange", "[2024-01-01,2024-02-01)"),
    ("tsrange", "[\"2024-01-01 00:00:00\",\"2024-02-01 00:00:00\")"),
    ("tstzrange", "[\"2024-07-01 00:00:00+00\",)"),
    ("int4multirange", "{[1,3),[5,7)}"),
    ("int8multirange", "{[1,3)}"),
    ("nummultirange", "{[1.5,2.5)}"),
    ("datemultirange", "{[2024-01-01,2024-02-01)}"),
    ("tsmultirange", "{[\"2024-01-01 00:00:00\",\"2024-02-01 00:00:00\")}"),
    ("tstzmultirange", "{[\"2024-07-01 00:00:00+00\",)}"),
    ("int2vector", "1 2"),
    ("oidvector", "1 2"),
];

/// Of these no value can be written down, or they have a form of their own, which
/// `every_postgres_type_has_a_rendering` shows.
const OTHERS: [&str; 26] = [
    "bool",
    "bytea",
    "name",
    "int8",
    "int2",
    "int4",
    "text",
    "json",
    "jsonb",
    "bpchar",
    "varchar",
    "float4",
    "float8",
    "numeric",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
    "char",
    "gtsvector",
    "pg_node_tree",
    "pg_ndistinct",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_brin",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_of_postgres_is_as_psql_shows_it() {
    let app = TestApp::new(Kind::Postgres).await;
    let known = psql(
        &app,
        "",
        "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace \
         AND typtype IN ('b', 'r', 'm') AND typcategory <> 'A'",
    );
    for name in known.lines() {
        let is_own = OWN_TEXT.iter().any(|(own, _)| {
            let own = own.split('(').next().unwrap_or_default();
            name == own.trim_matches('"')
        });
        let is_other = OTHERS.iter().any(|other| name == *other || name.starts_with("pg_brin"));
        assert!(is_own || is_other || name == "cstring", "{name} is not tried");
    }
    let literal = |(name, value): &(&str, &str)| format!("$v${value}$v$::{name}");
    let list: Vec<String> = (0..)
        .zip(&OWN_TEXT)
        .filter(|(_, (name, _))| !matches!(*name, "int2vector" | "oidvector"))
        .map(|(at, one)| format!("{} AS c{at}", literal(one)))
        .collect();
    let toml = format!("formats = [\"csv\"]\nquery = '''\nSELECT {}\n'''\n", list.join(", "));
    let export = define(&app, &toml);
    let csv = make(&export, "csv", "", "Europe/Amsterdam").await.unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_slice());
    let names = reader.headers().unwrap().clone();
    let record = reader.records().next().unwrap().unwrap();
    for (at, one) in (0..).zip(&OWN_TEXT) {
        let name = format!("c{at}");
        let Some(found) = names.iter().position(|known| known == name) else { continue };
        let sql = format!("SELECT {}", literal(one));
        let expected = psql(&app, "SET timezone = 'Europe/Amsterdam'; SET lc_monetary = 'C'", &sql);
        assert_eq!(&record[found], expected, "{}", one.0);
    }
}

/// An enum shows its label, whatever cast to text somebody has made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_come_from_the_output_function() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql("CREATE TYPE mood AS ENUM ('ok', 'bad')").await;
    app.sql("CREATE FUNCTION label(mood) RETURNS text LANGUAGE sql AS $$ SELECT 'In Ordnung' $$")
        .await;
    app.sql("CREATE CAST (mood AS text) WITH FUNCTION label(mood) AS ASSIGNMENT").await;
    let query = "SELECT 'ok'::mood AS mood, NULL::mood AS none, ARRAY['ok'::mood] AS moods, '=1'::xml AS free";
    let export = define(&app, &format!("formats = [\"csv\"]\nquery = \"{query}\"\n"));
    assert_eq!(
        text(&export, "csv", "").await,
        "mood,none,moods,free\r\nok,,\"[\"\"ok\"\"]\",'=1\r\n"
    );
}

/// What a role is set to changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_a_role_change_no_file() {
    let app = TestApp::new(Kind::Postgres).await;
    let toml = app.dir.path().join("thing.toml");
    let query = r"SELECT row(1, 2) AS r, 'pg_class'::regclass AS c, '1234.5'::money AS m, '\x00ff' AS t,
        xmlelement(name a, '\xff'::bytea) AS x, '{1}'::int[] AS l, interval '1 day' AS i, 0.1::float4 AS f,
        current_setting('synchronize_seqscans') AS s, current_setting('lc_monetary') AS lc";
    std::fs::write(&toml, format!("formats = [\"csv\"]\nquery = '''\n{query}\n'''\n")).unwrap();
    let odd = [
        "quote_all_identifiers=on",
        "xmlbinary=hex",
        "standard_conforming_strings=off",
        "IntervalStyle=iso_8601",
        "bytea_output=escape",
        "extra_float_digits=-10",
        "DateStyle=German",
        "lc_monetary=POSIX",
    ];
    let options: String = odd.map(|one| format!("-c%20{one}%20")).concat();
    let mut made = Vec::new();
    for url in [app.url.clone(), format!("{}?options={options}", app.url)] {
        let export =
            DeclaredExport::new(Definition::load(&toml).unwrap(), Source::open(&url).unwrap());
        made.push(text(&export, "csv", "").await);
    }
    assert_eq!(made[0], made[1]);
    let line = "\"{\"\"f1\"\":1,\"\"f2\"\":2}\",pg_class,\"$1,234.50\",\\x00ff,<a>/w==</a>,[1],1 day,0.1,off,C\r\n";
    assert!(made[0].ends_with(line), "{}", made[0]);
}

/// A guard is for text that somebody may have written; nothing else can be a formula.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn csv_guards_text_alone() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql("CREATE DOMAIN phone AS text").await;
    let query = "SELECT '-infinity'::date AS a, '-infinity'::timestamptz AS b, '-infinity'::float8 AS c, interval '-10 hours' AS d, \
        '-7'::money AS e, '-1'::text AS f, '+31 20'::phone AS g, '-1'::name AS h, '-1'::\\\"char\\\" AS i, '@x'::refcursor AS j";
    let export = define(&app, &format!("formats = [\"csv\"]\nquery = \"{query}\"\n"));
    let made = text(&export, "csv", "").await;
    let line = made.lines().nth(1).unwrap();
    assert_eq!(line, "-infinity,-infinity,-Infinity,-10:00:00,-$7.00,'-1,'+31 20,'-1,'-,@x");
}

/// Like PostGIS's, a type that brings a cast to JSON has one form, alone and in an array.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_with_a_cast_to_json_has_one_form() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql("CREATE TYPE shape AS RANGE (subtype = int4)").await;
    app.sql("CREATE FUNCTION to_geo(shape) RETURNS json LANGUAGE sql AS $$ SELECT json_build_object('low', lower($1)) $$").await;
    app.sql("CREATE CAST (shape AS json) WITH FUNCTION to_geo(shape)").await;
    let query = "SELECT '[1,5)'::shape AS one, ARRAY['[1,5)'::shape] AS list";
    let export = define(&app, &format!("formats = [\"jsonl\"]\nquery = \"{query}\"\n"));
    assert_eq!(
        text(&export, "jsonl", "").await,
        "{\"one\":{\"low\" : 1},\"list\":[{\"low\" : 1}]}\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_is_what_the_definition_says_or_an_error_names_the_cell() {
    let app = TestApp::new(Kind::Postgres).await;
    let query = "SELECT n, n::text AS t, n / 2.0 AS half FROM generate_series(1, 3) AS n";
    let typed = |column: &str, kind: &str| {
        let toml = format!(
            "formats = [\"jsonl\"]\nquery = \"{query}\"\n[columns.{column}]\ntype = \"{kind}\"\n"
        );
        define(&app, &toml)
    };
    let first = |text: String| text.lines().next().unwrap().to_owned();
    let half = "0.50000000000000000000";
    assert_eq!(
        first(text(&typed("n", "text"), "jsonl", "").await),
        format!("{{\"n\":\"1\",\"t\":\"1\",\"half\":{half}}}")
    );
    assert_eq!(
        first(text(&typed("t", "integer"), "jsonl", "").await),
        format!("{{\"n\":1,\"t\":1,\"half\":{half}}}")
    );
    assert_eq!(
        first(text(&typed("half", "float"), "jsonl", "").await),
        "{\"n\":1,\"t\":\"1\",\"half\":0.5}"
    );
    let wrong = make(&typed("half", "integer"), "jsonl", "", "").await.unwrap_err();
    let said = wrong.to_string();
    assert!(
        said.contains("\"half\"") && said.contains("row 1") && said.contains("integer"),
        "{said}"
    );
    assert!(!wrong.is_retryable());
}

/// The requester's day: `::date`, `date_trunc`, `current_date` and dates as criteria.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_are_the_requesters() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql("CREATE TABLE events (id int, at timestamptz)").await;
    app.sql("INSERT INTO events VALUES (1,'2024-07-01 00:30+02'),(2,'2024-07-01 12:00+02'),(3,'2024-07-01 23:30+02'),(4,'2024-07-02 00:30+02')").await;
    let toml = "formats = [\"csv\"]\nquery = \"SELECT id, at FROM events WHERE at >= :day AND at < :day + 1 ORDER BY id\"\n\
        [criteria.day]\ntype = \"date\"\n";
    let export = define(&app, toml);
    let made = make(&export, "csv", "day=2024-07-01", "Europe/Amsterdam").await.unwrap();
    assert_eq!(
        String::from_utf8(made).unwrap(),
        "id,at\r\n1,2024-07-01T00:30:00+02:00\r\n2,2024-07-01T12:00:00+02:00\r\n3,2024-07-01T23:30:00+02:00\r\n"
    );
    let toml = "formats = [\"csv\"]\nquery = \"SELECT at::date AS day, count(*) AS n, to_json(min(at)) AS j FROM events GROUP BY 1 ORDER BY 1\"\n";
    let made = make(&define(&app, toml), "csv", "", "Europe/Amsterdam").await.unwrap();
    assert_eq!(
        String::from_utf8(made).unwrap(),
        "day,n,j\r\n2024-07-01,3,\"\"\"2024-07-01T00:30:00+02:00\"\"\"\r\n2024-07-02,1,\"\"\"2024-07-02T00:30:00+02:00\"\"\"\r\n"
    );
}

/// SQLite's own datetimes, those of Django and those of sqlx: three forms of the same moments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_compares_moments_in_any_form() {
    let app = TestApp::new(Kind::Sqlite).await;
    app.sql("CREATE TABLE visits (id integer, at datetime)").await;
    app.sql("INSERT INTO visits VALUES (1, '2024-07-01 08:00:00'), (2, '2024-07-01 18:30:00.250'), (3, '2024-07-02 09:00:00'), \
        (4, '2024-07-01T23:59:59+00:00'), (5, '2024-07-02T01:00:00+02:00'), (6, '2024-07-02T00:00:00Z'), (7, '2024-07-01'), (8, NULL)").await;
    let toml = "formats = [\"csv\"]\nquery = \"SELECT id FROM visits WHERE at >= :from AND at < :to ORDER BY id\"\n\
        [criteria.from]\ntype = \"datetime\"\n[criteria.to]\ntype = \"datetime\"\n";
    let export = define(&app, toml);
    let ids = async |criteria: &str, zone: &str| {
        let made = make(&export, "csv", criteria, zone).await.unwrap();
        String::from_utf8(made).unwrap().lines().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids("from=2024-07-01&to=2024-07-02", "").await, "1 2 4 5 7");
    assert_eq!(ids("from=2024-07-01T18:30:00.250&to=2024-07-02", "").await, "2 4 5");
    assert_eq!(ids("from=2024-07-01&to=2024-07-02", "Europe/Amsterdam").await, "1 2 7");
    let toml = "formats = [\"csv\"]\nquery = \"SELECT datetime(:at, '+1 day') AS next\"\n[criteria.at]\ntype = \"datetime\"\n";
    let export = define(&app, toml);
    assert_eq!(
        text(&export, "csv", "at=2024-07-01T08:00:00Z").await,
        "next\r\n2024-07-02 08:00:00\r\n"
    );
}

both!(a_table_without_rows_keeps_its_types);
// Two nights' files of one type read together, also when there is nothing in one of them.
async fn a_table_without_rows_keeps_its_types(app: TestApp) {
    app.sql("CREATE TABLE t (i integer, r double precision, d date, at timestamp, s text)").await;
    let export = define(&app, "formats = [\"parquet\"]\nquery = \"SELECT * FROM t\"\n");
    let script = "import sys, pyarrow.parquet as pq; print([str(f.type) for f in pq.read_schema(sys.argv[1])])";
    let path = app.dir.path().join("t.parquet");
    let types = async || {
        std::fs::write(&path, make(&export, "parquet", "", "").await.unwrap()).unwrap();
        let output = Command::new(crate::support::smtp::python())
            .args(["-c", script])
            .arg(&path)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let empty = types().await;
    app.sql("INSERT INTO t VALUES (1, 1.5, '2024-02-29', '2024-02-29 12:00:00', 'x')").await;
    assert_eq!(empty, "['int64', 'double', 'date32[day]', 'timestamp[us]', 'string']\n");
    assert_eq!(empty, types().await);
}

/// A job in a time zone that the server lacks ends at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_time_zone_is_final() {
    let app = TestApp::new(Kind::Postgres).await;
    let export = define(&app, "formats = [\"csv\"]\nquery = \"SELECT 1 AS n\"\n");
    let mut new = TestApp::new_request("thing", "");
    new.criteria = export.parse_criteria(&Criteria::from_query("").unwrap()).unwrap();
    new.format = Some("csv".into());
    new.timezone = Some("Mars/Olympus".into());
    let made = async {
        let job = Job::new(new.into_row(start()))?;
        let (out, bytes) = Output::channel();
        whole(export.write(&job, out), bytes).await
    };
    let error: Error = made.await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert!(error.to_string().contains("Mars/Olympus"), "{error}");
}

/// The frame says when it was damaged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_zstandard_file_is_noticed() {
    let app = TestApp::new(Kind::Postgres).await;
    let query = "SELECT n, md5(n::text) AS s FROM generate_series(1, 2000) AS n";
    let export = define(&app, &format!("formats = [\"csv.zst\"]\nquery = \"{query}\"\n"));
    let mut made = make(&export, "csv.zst", "", "").await.unwrap();
    assert!(zstd::decode_all(made.as_slice()).is_ok());
    assert_eq!(made[4] & 4, 4, "the frame has a checksum (RFC 8878, 3.1.1.1.1)");
    let last = made.len() - 1;
    made[last] ^= 1;
    assert!(zstd::decode_all(made.as_slice()).is_err());
}

/// Beyond the last year that tables of time zones know: as Python and PostgreSQL have it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moments_far_off_are_on_the_clock_of_their_zone() {
    let app = TestApp::new(Kind::Postgres).await;
    let query = "SELECT extract(epoch FROM at)::bigint AS epoch, at, \
        to_char(at, 'YYYY-MM-DD\\\"T\\\"HH24:MI:SSTZH:TZM') AS pg FROM ( \
        SELECT generate_series(timestamptz '2098-12-01', timestamptz '2103-02-01', interval '61 hours') AS at \
        UNION ALL SELECT generate_series(timestamptz '2399-12-01', timestamptz '2401-02-01', interval '97 hours')) AS t";
    let export = define(&app, &format!("formats = [\"csv\"]\nquery = \"{query}\"\n"));
    let script = r"
import csv, sys
from datetime import datetime, timezone
from zoneinfo import ZoneInfo
zone = ZoneInfo(sys.argv[2])
for epoch, at, pg in csv.reader(open(sys.argv[1])):
    if epoch == 'epoch': continue
    python = datetime.fromtimestamp(int(epoch), timezone.utc).astimezone(zone).isoformat()
    assert at.replace('Z', '+00:00') == python == pg, (sys.argv[2], epoch, at, python, pg)
";
    for zone in [
        "America/New_York",
        "America/Los_Angeles",
        "America/Sao_Paulo",
        "America/St_Johns",
        "America/Santiago",
        "America/Havana",
        "America/Nuuk",
        "Europe/Amsterdam",
        "Europe/London",
        "Europe/Dublin",
        "Europe/Chisinau",
        "Africa/Cairo",
        "Africa/Johannesburg",
        "Asia/Kolkata",
        "Asia/Jerusalem",
        "Asia/Beirut",
        "Australia/Sydney",
        "Australia/Lord_Howe",
        "Pacific/Auckland",
        "Pacific/Chatham",
    ] {
        let made = make(&export, "csv", "", zone).await.unwrap();
        let path = app.dir.path().join("far.csv");
        std::fs::write(&path, made).unwrap();
        let output = Command::new(crate::support::smtp::python())
            .args(["-c", script])
            .arg(&path)
            .arg(zone)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parquet_does_without_dictionaries_where_it_is_asked_to() {
    let app = TestApp::new(Kind::Postgres).await;
    let script = "import sys, pyarrow.parquet as pq; print(pq.ParquetFile(sys.argv[1]).metadata.row_group(0).column(0).has_dictionary_page)";
    for (setting, expected) in [("true", "True\n"), ("false", "False\n")] {
        let toml = format!(
            "formats = [\"parquet\"]\nquery = \"SELECT 1.5::numeric(12, 2) AS n\"\n[parquet]\ndictionaries = {setting}\n"
        );
        let made = make(&define(&app, &toml), "parquet", "", "").await.unwrap();
        let path = app.dir.path().join("n.parquet");
        std::fs::write(&path, made).unwrap();
        let output =
            Command::new(crate::support::smtp::python()).args(["-c", script]).arg(&path).output();
        assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), expected);
    }
}

/// Without references a sheet is smaller; who can read it reads the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_may_be_left_out() {
    let app = TestApp::new(Kind::Postgres).await;
    let made = async |settings: &str| {
        let toml = format!(
            "formats = [\"xlsx\"]\nquery = \"SELECT n, CASE WHEN n > 1 THEN 'x' END AS s, n AS m FROM generate_series(1, 3000) AS n\"\n{settings}"
        );
        make(&define(&app, &toml), "xlsx", "", "").await.unwrap()
    };
    let (small, usual) = (made("[xlsx]\nreferences = false\n").await, made("").await);
    assert!(small.len() < usual.len() * 9 / 10, "{} {}", small.len(), usual.len());
    let small = crate::declared::cells(&app, &small);
    assert_eq!(small, crate::declared::cells(&app, &usual));
    assert_eq!(small[1][1][0], "NoneType");
}
