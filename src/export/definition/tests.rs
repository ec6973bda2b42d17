use std::{fs, path::Path, time::Duration};

use super::Definition;
use crate::{
    error::Error,
    file_request::links::{LinkPolicy, RequesterOnly},
};

const COMPLETE: &str = r##"title.en = "Flights"
title.nl = "Vluchten"
formats = ["xlsx", "csv", "jsonl"]
filename = "flights-{origin}-{date}.{ext}"
source = "warehouse"
delay_over = 500
expires_after = "2d"
requester_only = true
max_rows = 1_000
timeout = "15m"
max_attempts = 5
query = """
SELECT * FROM flights
WHERE origin = :origin AND (:since IS NULL OR day >= :since) AND carrier = ANY(:carriers)
"""

[criteria.origin]
type = "choice"
required = true
label = "From airport"
choices = ["EWR", "JFK"]

[criteria.since]
type = "date"
min = 2013-01-01
default = "2013-06-01"

[criteria.carriers]
type = "list"
of = "text"

[columns.dep_delay]
label = { en = "Delay", nl = "Vertraging" }
format = "#,##0"
type = "integer"
"##;

/// Loads `jobs/t.toml` (and `jobs/t.sql`); errors come with the folder cut off.
fn load(toml: &str, sql: Option<&str>) -> Result<Definition, String> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("t.toml"), toml).unwrap();
    if let Some(sql) = sql {
        fs::write(dir.path().join("t.sql"), sql).unwrap();
    }
    Definition::load(&dir.path().join("t.toml")).map_err(|error| shown(dir.path(), &error))
}

fn shown(dir: &Path, error: &Error) -> String {
    error.to_string().replace(&format!("{}/", dir.display()), "")
}

fn refused(toml: &str) -> String {
    load(toml, None).unwrap_err()
}

#[test]
fn a_complete_definition_is_read_completely() {
    let definition = load(COMPLETE, None).unwrap();
    assert_eq!(definition.file_type.as_str(), "t");
    assert_eq!(definition.title.get("nl-BE"), "Vluchten");
    assert_eq!(definition.title.get("fr"), "Flights");
    assert_eq!(definition.formats[0].name(), "xlsx");
    assert_eq!(definition.source, "warehouse");
    assert_eq!(definition.expires_after, Some(Duration::from_secs(2 * 86_400)));
    assert_eq!(definition.timeout, Duration::from_secs(900));
    assert_eq!(definition.max_attempts, 5);
    assert_eq!((definition.delay_over, definition.max_rows), (500, 1_000));
    assert_eq!(definition.link_policy.requester_only, RequesterOnly::Yes);
    let names: Vec<&str> = definition.criteria.0.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["origin", "since", "carriers"]);
    assert!(definition.criteria.0[2].list);
    assert_eq!(definition.columns["dep_delay"].place.rsplit_once(':').unwrap().1, "32");
}

#[test]
fn a_minimal_definition_has_defaults() {
    let definition = load("formats = [\"csv\"]", Some("SELECT 1 AS a")).unwrap();
    assert_eq!(definition.title.get("en"), "t");
    assert_eq!(definition.source, "default");
    assert_eq!((definition.delay_over, definition.max_rows), (10_000, 5_000_000));
    assert_eq!(definition.link_policy, LinkPolicy::default());
}

#[test]
fn links_have_a_policy() {
    let with = |lines: &str| load(&format!("formats = [\"csv\"]\n{lines}"), Some("SELECT 1 AS a"));
    let policy =
        with("requester_only = \"always\"\nmax_uses = 2\nscanner_safe = true\nmax_age = \"7d\"");
    let expected = LinkPolicy {
        max_uses: std::num::NonZeroU32::new(2),
        scanner_safe: true,
        max_age: Some(Duration::from_secs(7 * 86_400)),
        requester_only: RequesterOnly::Always,
    };
    assert_eq!(policy.unwrap().link_policy, expected);
    assert_eq!(with("requester_only = false").unwrap().link_policy, LinkPolicy::default());
    for wrong in ["\"never\"", "1", "[true]"] {
        let error = with(&format!("requester_only = {wrong}")).unwrap_err();
        assert_eq!(error, format!("t.toml:2: {wrong} is none of true, false and \"always\""));
    }
}

#[test]
fn faults_name_file_and_line() {
    for (find, put, expected) in [
        ("max_attempts = 5", "max_attempt = 5", "t.toml:11: unknown field `max_attempt`"),
        ("max_attempts = 5", "max_attempts = 0", "t.toml:11: max_attempts must be at least 1"),
        ("timeout = \"15m\"", "timeout = \"15\"", "t.toml:10: \"15\" has no unit; write 90s"),
        (
            "\"jsonl\"]",
            "\"docx\"]",
            "t.toml:3: \"docx\" is not a format; use csv, xlsx, jsonl, parquet, csv.gz, csv.zst",
        ),
        ("\"jsonl\"]", "\"pdf\"]", "t.toml:3: \"pdf\" is not a format; use csv, xlsx, jsonl"),
        ("\"jsonl\"]", "\"csv\"]", "t.toml:3: format \"csv\" is listed twice"),
        ("{date}", "{day}", "t.toml:4: filename: {day} is not known; use ext, date, origin, since"),
        ("-{date}.{ext}", ".csv", "t.toml:4: filename needs {ext}"),
        ("{date}", "{", "t.toml:4: filename: "),
        (
            "delay_over = 500",
            "delay_over = -1",
            "t.toml:6: -1 does not fit here; this is a whole number, 0 or more",
        ),
        ("day >= :since", "day >= :until", "t.toml:14: query: parameter :until is not declared"),
        (
            "SELECT * FROM flights",
            "SELECT ' FROM flights",
            "t.toml:13: query: this ' is not closed",
        ),
        ("SELECT * FROM flights", "DELETE FROM flights", "t.toml:13: query: a query begins with"),
        ("(:carriers)", "(array['x'])", "t.toml:28: the query does not use :carriers"),
        (
            "type = \"date\"",
            "type = \"day\"",
            "t.toml:24: \"day\" is not a type; use text, integer",
        ),
        ("min = 2013-01-01", "min = \"x\"", "t.toml:25: since: min: \"x\" is not a date"),
        (
            "min = 2013-01-01",
            "min = 2014-01-01",
            "t.toml:26: since: default: 2013-06-01 is less than",
        ),
        ("of = \"text\"", "of = \"texts\"", "t.toml:30: \"texts\" is not a type"),
        ("of = \"text\"", "", "t.toml:29: carriers: a list of what?"),
        ("choices = [\"EWR\", \"JFK\"]", "", "t.toml:18: origin: a choice needs choices"),
        (
            "label = \"From airport\"",
            "default = \"EWR\"",
            "t.toml:20: origin: required and default",
        ),
        ("label = \"From airport\"", "min = 1", "t.toml:20: origin: min and max are for numbers"),
        ("label = \"From airport\"", "label = 1", "t.toml:20: 1 does not fit here; this is text"),
        ("title.nl", "title.\"n l\"", "\"n l\" is not a language"),
        ("type = \"integer\"", "type = \"int\"", "t.toml:35: \"int\" is not a type"),
        ("[criteria.since]", "[criteria.origin]", "t.toml:23: duplicate key"),
    ] {
        assert!(COMPLETE.contains(find), "{find}");
        let error = refused(&COMPLETE.replacen(find, put, 1));
        assert!(error.contains(expected), "{expected}\n{error}");
    }
}

#[test]
fn several_faults_are_told_at_once() {
    let error = refused(&COMPLETE.replace(":since", ":until").replace("{date}", "{day}"));
    assert_eq!(error.lines().count(), 4, "{error}");
}

#[test]
fn the_query_is_in_one_place() {
    let toml = "formats = [\"csv\"]\nquery = \"SELECT 1\"";
    let error = load(toml, Some("SELECT 2")).unwrap_err();
    assert_eq!(error, "t.toml:2: there is a query here and one in t.sql; remove one");
    let error = refused("formats = [\"csv\"]");
    assert_eq!(error, "t.toml:1: there is no query, and no t.sql either");
    let error = load("formats = [\"csv\"]", Some("SELECT 1\nWHERE x = :y")).unwrap_err();
    assert_eq!(error, "t.sql:2: parameter :y is not declared; add [criteria.y]");
}

#[test]
fn a_folder_is_read_in_order_and_all_its_faults_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    put("b.toml", "formats = [\"csv\"]");
    put("b.sql", "SELECT 1 AS a");
    put("a.toml", "formats = [\"csv\"]\nquery = \"SELECT 1 AS a\"");
    put("cleaner.toml", "not = \"ours\"");
    put("README.md", "hello");
    put(".b.toml", "an editor's");
    let names = |list: Vec<Definition>| {
        list.into_iter().map(|d| d.file_type.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(Definition::load_dir(dir.path()).unwrap()), ["a", "b"]);
    put("B.toml", "formats = [\"csv\"]\nquery = \"SELECT 1 AS a\"");
    put("c.toml", "x = 1");
    put("d d.toml", "formats = [\"csv\"]\nquery = \"SELECT 1 AS a\"");
    put("e.sql", "SELECT 1");
    let errors = Definition::load_dir(dir.path()).unwrap_err();
    let errors: Vec<String> = errors.iter().map(|e| shown(dir.path(), e)).collect();
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(errors[0].starts_with("c.toml:1: unknown field `x`"), "{errors:?}");
    assert!(errors[1].starts_with("d d.toml: \"d d\" cannot be one"), "{errors:?}");
    assert_eq!(errors[2], "e.sql: there is no .toml beside it");
    assert!(errors[3].starts_with("b.toml: file type \"b\" is already declared in"), "{errors:?}");
    assert!(Definition::load_dir(Path::new("/no/such/folder")).is_err());
}
