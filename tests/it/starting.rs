//! What processes log: what they are at their start, and everything in the format that was set.

use serde_json::Value;

use crate::{
    cli::{define, free_port, on, run, start},
    support::{Kind, TestApp, both, eventually},
};

const ONE: &str = "formats = [\"csv\"]\nquery = \"SELECT 1 AS one\"\n";

/// The lines of a log, each of which is JSON.
fn lines(log: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    log.lines().map(parse).collect()
}

fn line<'a>(lines: &'a [Value], message: &str) -> &'a Value {
    let found = lines.iter().find(|line| line["message"] == message);
    found.unwrap_or_else(|| panic!("no {message:?} in {lines:#?}"))
}

fn introduces_itself(app: &TestApp, process: &str, log: &str) {
    let lines = lines(log);
    let start = line(&lines, "starting");
    assert_eq!((&start["process"], &start["level"]), (&process.into(), &"INFO".into()), "{start}");
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"), "{start}");
    let (kind, place) = match app.kind {
        Kind::Postgres => {
            let url = url::Url::parse(&app.url).unwrap();
            let port = url.port().unwrap_or(5432);
            ("PostgreSQL", format!("{}:{port}{}", url.host_str().unwrap(), url.path()))
        }
        Kind::Sqlite => ("SQLite", app.url.trim_start_matches("sqlite:").to_owned()),
    };
    assert_eq!((&start["database"], &start["place"]), (&kind.into(), &place.into()), "{start}");
    let server = start["server"].as_str().unwrap();
    assert!(server.starts_with(|c: char| c.is_ascii_digit()) && server.contains('.'), "{start}");
    assert!(!log.contains("sesame"), "{log}");
}

both!(every_process_says_what_it_is_and_on_which_database);
async fn every_process_says_what_it_is_and_on_which_database(app: TestApp) {
    define(&app, "one.toml", ONE);
    // The password counts for nothing here, and is not logged.
    let url = app.url.replace("postgres@", "postgres:sesame@");
    let bind = format!("127.0.0.1:{}", free_port());
    let settings =
        [("BGFILES_LOG_FORMAT", "json"), ("DATABASE_URL", url.as_str()), ("BGFILES_BIND", &bind)];
    let id = run(on(&app).args(["request", "one"]).envs(settings)).1;
    for process in ["process", "clean"] {
        let (code, _, log) = run(on(&app).arg(process).envs(settings));
        assert_eq!(code, 0, "{log}");
        introduces_itself(&app, process, &log);
        if process == "process" {
            let lines = lines(&log);
            let finished = line(&lines, "finished");
            assert_eq!(finished["request"], id.trim(), "{finished}");
            assert!(
                finished["seconds"].as_f64().is_some_and(|s| s > 0.0 && s < 60.0),
                "{finished}"
            );
        }
    }
    for process in ["web", "worker"] {
        let file = format!("{process}.log");
        let mut child = start(&app, &file, &[process], &settings);
        let log = || std::fs::read_to_string(app.dir.path().join(&file)).unwrap();
        eventually("it starts", 30, async || log().contains("\"starting\"").then_some(())).await;
        child.signal("TERM");
        assert_eq!(child.wait(20), Some(0));
        introduces_itself(&app, process, &log());
    }
}

both!(the_cleaner_logs_as_all_others_do);
async fn the_cleaner_logs_as_all_others_do(app: TestApp) {
    define(&app, "one.toml", ONE);
    let json = [("BGFILES_LOG_FORMAT", "json")];
    let (code, out, log) = run(on(&app).arg("clean").envs(json));
    assert_eq!((code, out.as_str()), (0, ""), "{log}");
    let swept = lines(&log);
    let swept: Vec<&Value> = swept.iter().filter(|line| line["message"] == "swept").collect();
    assert!(swept.len() > 5, "{log}");
    for line in swept {
        assert!(line["timestamp"].is_string() && line["removed"].is_u64(), "{line}");
        assert!(line["sweep"].is_string() && line["outcome"].is_string(), "{line}");
    }
    // One that stays; and what goes wrong.
    let mut child = start(&app, "clean.log", &["clean", "--every", "1h"], &json);
    let log = || std::fs::read_to_string(app.dir.path().join("clean.log")).unwrap();
    eventually("it cleans", 30, async || log().contains("\"tally\"").then_some(())).await;
    child.signal("TERM");
    assert_eq!(child.wait(20), Some(0));
    assert!(lines(&log()).iter().any(|line| line["sweep"] == "expired_requests"));
    let (code, out, log) = run(on(&app).args(["link", "nonsense"]).envs(json));
    assert_eq!((code, out.as_str()), (1, ""));
    let wrong = lines(&log);
    assert_eq!(line(&wrong, "failed")["level"], "ERROR", "{log}");
    // Where a person looks, it is a line of text.
    let (_, out, _) = run(on(&app).arg("clean"));
    assert!(out.starts_with("expired_requests: removed 0 of 0 (processed)"), "{out}");
}
