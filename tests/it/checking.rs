//! What `bgfiles check` finds: settings, definitions, templates and rows that cannot work.

use std::process::Command;

use serde_json::Value;

use crate::{
    cli::{define, on, run},
    support::{Kind, TestApp, both, child::bgfiles, s3, smtp::Smtp},
};

const SOUND: &str = "formats = [\"csv\"]\nquery = \"SELECT 1 AS one\"\n";

/// The problems and the warnings, and the exit code.
fn check(command: &mut Command) -> (i32, Vec<String>, Vec<String>) {
    let (code, out, err) = run(command.args(["check", "--json"]));
    let json: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    let texts = |key: &str| {
        let texts = json[key].as_array().unwrap().iter();
        texts.map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    (code, texts("problems"), texts("warnings"))
}

fn has(lines: &[String], words: &str) {
    assert!(lines.iter().any(|line| line.contains(words)), "{words}\n{lines:#?}");
}

both!(variables_that_no_setting_has_are_faults);
async fn variables_that_no_setting_has_are_faults(app: TestApp) {
    define(&app, "numbers.toml", SOUND);
    for (name, value, said) in [
        ("BGFILES_DATABASE_URL", "postgres://secret", "did you mean DATABASE_URL?"),
        ("BGFILES_WORKER", "2", "did you mean BGFILES_WORKERS?"),
        ("BGFILES_SMTP", "x", "did you mean BGFILES_MAIL?"),
        ("BGFILES_NOTHING_LIKE_IT", "x", "BGFILES_NOTHING_LIKE_IT is unknown"),
    ] {
        let (code, problems, _) = check(on(&app).env(name, value));
        assert_eq!((code, problems.len()), (1, 1), "{problems:?}");
        has(&problems, said);
        has(&problems, name);
        assert!(!problems[0].contains("secret"), "{problems:?}");
        // Other processes begin all the same, and say so.
        let (code, _, err) = run(on(&app).env(name, value).arg("process"));
        assert!(code == 0 && err.contains("WARN") && err.contains(said), "{err}");
    }
    for (name, value) in [
        ("BGFILES_SERVICE_HOST", "10.0.0.7"),
        ("BGFILES_PORT", "tcp://10.0.0.7:8000"),
        ("BGFILES_PORT_8000_TCP", "tcp://10.0.0.7:8000"),
        ("BGFILES_WEB_SERVICE_HOST", "10.0.0.7"),
        ("BGFILES_SOURCE_SHOP", "sqlite:shop.db"),
        ("BGFILES_TEST_FACTOR", "1"),
    ] {
        let (code, problems, _) = check(on(&app).env(name, value));
        assert_eq!((code, problems), (0, vec![]), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_mean_something_else_are_told() {
    let app = TestApp::new(Kind::Sqlite).await;
    define(&app, "numbers.toml", SOUND);
    let (code, problems, _) = check(on(&app).env("BGFILES_WORKERS", "100000"));
    assert_eq!(code, 1);
    has(&problems, "workers (BGFILES_WORKERS): must be 1000 or less");
    for (name, value, said) in [
        ("BGFILES_LOG", "bgfile=debug", "did you mean bgfiles?"),
        ("BGFILES_STORAGE", "memory:", "each process's own"),
        ("BGFILES_MAIL", "memory:", "keeps mails from everybody"),
    ] {
        let (code, problems, warnings) = check(on(&app).env(name, value));
        assert_eq!((code, problems), (0, vec![]), "{name}");
        has(&warnings, said);
    }
    let (_, _, err) = run(on(&app).env("BGFILES_LOG", "bgfile=debug").arg("process"));
    assert!(err.contains("did you mean bgfiles?"), "{err}");
    std::fs::write(app.dir.path().join("bgfiles.toml"), "max_ages = 60\n").unwrap();
    let (code, problems, _) = check(on(&app).current_dir(app.dir.path()));
    assert_eq!(code, 1);
    has(&problems, "max_ages is no setting; did you mean max_age?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lengths_of_time_are_written_alike() {
    let app = TestApp::new(Kind::Sqlite).await;
    define(&app, "numbers.toml", SOUND);
    let value = |name: &str, text: &str, key: &str| {
        let (_, out, err) = run(on(&app).env(name, text).args(["check", "--json"]));
        let json: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{name}: {err}"));
        let all = json["settings"].as_array().unwrap();
        all.iter().find(|one| one["key"] == key).unwrap()["value"].as_str().unwrap().to_owned()
    };
    for (name, key) in [
        ("BGFILES_MAX_AGE", "max_age"),
        ("BGFILES_LEASE", "lease"),
        ("BGFILES_DRAIN", "drain"),
        ("BGFILES_GRANT_AGE", "grant_age"),
        ("BGFILES_INLINE_TIMEOUT", "inline_timeout"),
        ("BGFILES_SESSION_AGE", "session_age"),
        ("BGFILES_TOKEN_CACHE_TIMEOUT", "token_cache_timeout"),
        ("BGFILES_LOCK_TOKENS_TIMEOUT", "lock_tokens_timeout"),
        ("BGFILES_LOCK_TOKENS_MAX_TIMEOUT", "lock_tokens_max_timeout"),
    ] {
        assert_eq!(value(name, "2h", key), "2h", "{name}");
        assert_eq!(value(name, "5400", key), "90m", "{name}");
    }
    assert_eq!(value("BGFILES_REQUEST_TOKEN_EXPIRY", "90", "request_token_expiry"), "90m");
    assert_eq!(value("BGFILES_REQUEST_TOKEN_EXPIRY", "90s", "request_token_expiry"), "90s");
    assert_eq!(value("BGFILES_MAX_AGE", "1d", "max_age"), "1d");
    let (code, problems, _) = check(on(&app).env("BGFILES_MAX_AGE", "soon"));
    assert_eq!(code, 1);
    has(
        &problems,
        "\"soon\" is not a length of time; write 90s, 15m, 2h or 1d, or a number of seconds",
    );
    for arguments in [
        vec!["clean", "--timeout", "1m", "--sleep", "0s", "--leeway", "2h"],
        vec!["clean", "--timeout", "60", "--sleep", "0.01", "--leeway", "7200"],
        vec!["process", "--timeout", "1m", "--sleep", "1s"],
    ] {
        let (code, _, err) = run(on(&app).args(&arguments));
        assert_eq!(code, 0, "{arguments:?}: {err}");
    }
    define(&app, "cleaner.toml", "[locks]\nkeep = \"1d\"\n[audit]\nkeep = 60\n");
    assert_eq!(check(&mut on(&app)).0, 0);
    define(&app, "cleaner.toml", "[locks]\nkeep = \"soon\"\n");
    has(&check(&mut on(&app)).1, "cleaner.toml:2: \"soon\" is not a length of time");
}

both!(every_fault_of_every_file_is_told);
async fn every_fault_of_every_file_is_told(app: TestApp) {
    define(&app, "sound.toml", SOUND);
    define(
        &app,
        "form.toml",
        "formats = [\"docx\"]\ntitle.english = \"x\"\nmax_row = 1\ntimeout = 3600\ndelay_over = \"no\"\n\
         query = \"SELECT 1 AS one\"\n",
    );
    define(
        &app,
        "values.toml",
        "formats = [\"csv\"]\nmax_rows = 0\nquery = \"SELECT 1 AS one\"\n[columns.one]\nformat = \
         \"#,##0.0.0;;[\"\n",
    );
    define(&app, "language.toml", &format!("title.xx = \"x\"\n{SOUND}"));
    define(
        &app,
        "sql.toml",
        "formats = [\"csv\"]\nquery = \"\"\"\nSELECT 1 AS one\nFROM FROM\n\"\"\"\n",
    );
    define(&app, "file.toml", "formats = [\"csv\"]\n");
    define(&app, "file.sql", "SELECT 1 AS one,\n  2 AS two\nFROM no_such_table\n");
    let (code, problems, _) = check(&mut on(&app));
    assert_eq!(code, 1);
    let all: Vec<String> = problems.iter().flat_map(|p| p.lines().map(str::to_owned)).collect();
    for words in [
        "form.toml:1: \"docx\" is not a format",
        "form.toml:2: \"english\" is not a language, e.g. en",
        "form.toml:3: unknown field `max_row`; did you mean max_rows?",
        "form.toml:4: \"3600\" has no unit; write 90s, 15m, 2h or 1d",
        "form.toml:5: \"no\" does not fit here; this is a whole number, 0 or more",
        "values.toml:2: max_rows must be at least 1",
        "values.toml:5: columns.one: \"#,##0.0.0;;[\" is not an Excel number format",
        "language.toml:1: \"xx\" is not a language",
        "sql.toml:4: query: ",
        "file.sql:3: ",
    ] {
        has(&all, words);
    }
    let (_, out, _) = run(on(&app).arg("check"));
    assert!(out.contains("10 problems."), "{out}");
    std::fs::remove_file(app.dir.path().join("jobs/form.toml")).unwrap();
    std::fs::remove_file(app.dir.path().join("jobs/values.toml")).unwrap();
    std::fs::remove_file(app.dir.path().join("jobs/language.toml")).unwrap();
    std::fs::remove_file(app.dir.path().join("jobs/sql.toml")).unwrap();
    let (_, out, _) = run(on(&app).arg("check"));
    assert!(out.contains("1 problem."), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mail_and_page_is_rendered() {
    let app = TestApp::new(Kind::Sqlite).await;
    define(&app, "flights.toml", SOUND);
    let folder = app.dir.path().join("templates");
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let checked = || check(on(&app).env("BGFILES_TEMPLATES_DIR", &folder));
    // What is right has no fault: built-in templates alone, and good ones over them.
    assert_eq!(check(&mut on(&app)).1, [""; 0]);
    put(
        "mail/ready.txt",
        "Subject: {{ filename }}\n\n{{ t(\"mail.hello\") }} {{ download_url }}\n",
    );
    put("mail/flights/failed.nl.txt", "Subject: {{ id }}\n\n{{ error_message }}\n");
    put("mail/ready.pt-BR.txt", "Subject: Pronto\n\n{{ download_url }}\n");
    put(
        "page/account.html",
        "{% extends \"page/base.html\" %}{% block body %}{{ user.name }}{% endblock %}",
    );
    put("messages/nl.toml", "[mail]\nhello = \"Hoi,\"\n");
    put("README.md", "Ours.");
    let (code, problems, _) = checked();
    assert_eq!((code, problems), (0, vec![]));
    for (name, text, said) in [
        (
            "mail/ready.txt",
            "Subject: x\n\n{{ requester_name }}\n",
            "mail/ready.txt:3: `requester_name` is not defined",
        ),
        (
            "mail/ready.txt",
            "Subject: x\n\n{{ file_nam }}\n",
            "`file_nam` is not defined; did you mean filename?",
        ),
        (
            "mail/failed.txt",
            "{{ id }}\n",
            "mail/failed.txt:1: a mail begins with a line `Subject: …`",
        ),
        (
            "mail/failed.html",
            "{{ t(\"mail.nope\") }}\n",
            "mail/failed.html:1: there is no text \"mail.nope\"",
        ),
        ("mail/ready.nl.txt", "Subject: x\n{% if %}", "mail/ready.nl.txt:2: "),
        (
            "mail/raedy.txt",
            "Subject: x\n",
            "mail/raedy.txt: nothing reads a template of this name; did you mean mail/ready.txt?",
        ),
        ("mail/flihgts/ready.txt", "Subject: x\n", "did you mean mail/flights/ready.txt?"),
        (
            "messages/nl.toml",
            "[mail.ready]\nsubjct = \"x\"\n",
            "messages/nl.toml:2: mail.ready.subjct is not the key of a text; did you mean mail.ready.subject?",
        ),
        (
            "messages/nl.toml",
            "[mail.ready]\nsubject = \"{nmae}\"\n",
            "there is no {nmae} for this text; it has {name}",
        ),
        ("messages/xx.toml", "[mail]\n", "messages/xx.toml: nothing reads"),
        (
            "page/files.html",
            "{{ fiels }}",
            "page/files.html:1: `fiels` is not defined; did you mean files?",
        ),
        (
            "page/operate/locks.html",
            "\n{{ nothing }}",
            "page/operate/locks.html:2: `nothing` is not defined",
        ),
        ("page/link.html", "{{ t(\"link.\" ~ \"nope\") }}", "page/link.html:1: there is no text"),
        (
            "page/problem.html",
            "{{ titel }}",
            "page/problem.html:1: `titel` is not defined; did you mean title?",
        ),
    ] {
        let before = std::fs::read(folder.join(name)).ok();
        put(name, text);
        let (code, problems, _) = checked();
        assert_eq!(code, 1, "{name}: {text}");
        has(&problems, said);
        match before {
            Some(text) => std::fs::write(folder.join(name), text).unwrap(),
            None => std::fs::remove_file(folder.join(name)).unwrap(),
        }
    }
    assert_eq!(checked().0, 0);
}

both!(rows_that_cannot_work_are_named);
async fn rows_that_cannot_work_are_named(app: TestApp) {
    define(&app, "numbers.toml", SOUND);
    let whole = |app: &TestApp| {
        let (code, out, err) = run(on(app).args(["check", "--json", "--database"]));
        let json: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
        let problems = json["problems"].as_array().unwrap().iter();
        (code, problems.map(|p| p.as_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    let mut ids = Vec::new();
    for _ in 0..4 {
        let (_, id, _) = run(on(&app).args(["request", "numbers"]));
        ids.push(id.trim().to_owned());
    }
    assert_eq!(run(on(&app).arg("process")).0, 0);
    assert_eq!(whole(&app), (0, vec![]));
    let file = |id: &str| {
        let folder = app.files().join("requests").join(id);
        std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path()
    };
    std::fs::remove_file(file(&ids[0])).unwrap();
    std::fs::write(file(&ids[1]), "longer than it was").unwrap();
    let id = |id: &str| match app.kind {
        Kind::Postgres => format!("'{id}'"),
        Kind::Sqlite => format!("x'{}'", id.replace('-', "")),
    };
    let by_hand = |what: &str, which: &str| {
        format!("UPDATE bgfiles_file_requests SET {what} WHERE id = {}", id(which))
    };
    app.sql(by_hand("size = NULL", &ids[2]).leak()).await;
    app.sql(by_hand("storage_key = '2026/11/a.csv'", &ids[3]).leak()).await;
    app.sql("INSERT INTO bgfiles_file_requests (file_type) VALUES ('Report: monthly')").await;
    let now = match app.kind {
        Kind::Postgres => "now()",
        Kind::Sqlite => "'2026-01-01T00:00:00Z'",
    };
    let uuid = |n: u8| id(&format!("00000000-0000-0000-0000-0000000000{n:02}"));
    for (n, name, hash) in [
        (1, "amy", "pbkdf2_sha256$260000$salt$hash"),
        (2, "Amy", "!unusable"),
        (3, "bob", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"),
    ] {
        app.sql(format!(
            "INSERT INTO bgfiles_users (id, username, role, password_hash, created_at) VALUES ({}, \
             '{name}', 'user', '{hash}', {now})",
            uuid(n)
        ).leak())
        .await;
    }
    app.sql(format!(
        "INSERT INTO bgfiles_clients (id, name, throttle_rate, created_at) VALUES ({}, 'web', '0/m', {now})",
        uuid(1)
    ).leak())
    .await;
    app.sql(format!(
        "INSERT INTO bgfiles_audit (id, at, actor, action, subject, detail) VALUES (1000, {now}, 'a', 'b', \
         'c', 'd')"
    ).leak())
    .await;
    let (code, problems) = whole(&app);
    assert_eq!(code, 1);
    for words in [
        format!("request {} is finished, but its file is not in the store", ids[0]),
        format!("request {} is finished, but", ids[1]),
        format!("request {} is finished, but its row says no size", ids[2]),
        format!("request {} is finished, but its storage_key is no place of its own", ids[3]),
        "requests wait for file type \"Report: monthly\"".into(),
        "user \"amy\": the hash of their password cannot be read".into(),
        "user \"Amy\": the hash of their password cannot be read".into(),
        "client \"web\": the rate \"0/m\" cannot be read".into(),
        "users \"Amy\" and \"amy\": they have the same name".into(),
    ] {
        has(&problems, &words);
    }
    assert!(!problems.iter().any(|p| p.contains("\"bob\": the hash")), "{problems:#?}");
    let sequences = problems.iter().filter(|p| p.contains("setval")).count();
    assert_eq!(sequences, usize::from(app.kind == Kind::Postgres), "{problems:#?}");
}

fn outcomes(command: &mut Command) -> (i32, Vec<(String, String, String)>) {
    let (code, out, err) = run(command.args(["doctor", "--json"]));
    let json: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    let all = json["findings"].as_array().unwrap().iter();
    let all = all.map(|one| {
        let advice = format!("{}; {}", text(one, "text"), text(one, "advice"));
        (text(one, "what"), text(one, "outcome"), advice)
    });
    (code, all.collect())
}

fn outcome<'o>(all: &'o [(String, String, String)], what: &str) -> (&'o str, &'o str) {
    let found = all.iter().find(|one| one.0 == what);
    let found = found.unwrap_or_else(|| panic!("{what}: {all:#?}"));
    (found.1.as_str(), found.2.as_str())
}

both!(the_doctor_tries_what_there_is);
async fn the_doctor_tries_what_there_is(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    define(&app, "numbers.toml", SOUND);
    let (code, all) = outcomes(on(&app).env("BGFILES_BASE_URL", &base));
    assert_eq!(code, 0, "{all:#?}");
    for what in [
        "folder: jobs",
        "database",
        "schema",
        "permissions",
        "pooler",
        "clock",
        "store: list",
        "store: write",
        "store: read",
        "store: ranges",
        "store: delete",
        "mail",
        "base URL",
    ] {
        assert_eq!(outcome(&all, what).0, "ok", "{what}");
    }
    let objects = |folder: std::path::PathBuf| {
        walk(&folder).into_iter().filter(|path| path.is_file()).count()
    };
    assert_eq!(objects(app.files()), 0, "the probe is gone");
    // Nobody need run at the base URL.
    let (code, all) = outcomes(on(&app).env("BGFILES_BASE_URL", "http://127.0.0.1:9"));
    assert_eq!((code, outcome(&all, "base URL").0), (0, "hint"));
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            let below = if path.is_dir() { walk(&path) } else { Vec::new() };
            std::iter::once(path).chain(below)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_says_what_does_not_work_and_what_to_do() {
    let app = TestApp::new(Kind::Sqlite).await;
    // A black hole: it takes connections, and says nothing.
    let hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hole = format!("127.0.0.1:{}", hole.local_addr().unwrap().port());
    let began = std::time::Instant::now();
    let (code, all) = outcomes(
        on(&app)
            .env("DATABASE_URL", format!("postgres://nobody@{hole}/nothing"))
            .env("BGFILES_STORAGE", "s3://bucket/x")
            .env("AWS_ENDPOINT", format!("http://{hole}"))
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_ACCESS_KEY_ID", "a")
            .env("AWS_SECRET_ACCESS_KEY", "b")
            .env("AWS_REGION", "us-east-1")
            .env("BGFILES_MAIL", format!("smtp://{hole}?tls=none"))
            .env("BGFILES_JOBS_DIR", "/no/such/folder"),
    );
    assert_eq!(code, 1);
    assert!(began.elapsed().as_secs() < 75, "{:?}", began.elapsed());
    for (what, advice) in [
        ("database", "DATABASE_URL"),
        ("store: list", "AWS_ENDPOINT"),
        ("mail", "BGFILES_MAIL"),
        ("folder: jobs", "let this user read it"),
    ] {
        let (found, text) = outcome(&all, what);
        assert!(found == "failed" && text.contains(advice), "{what}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_mail_is_a_real_one() {
    let app = TestApp::new(Kind::Sqlite).await;
    define(&app, "numbers.toml", SOUND);
    let server = Smtp::start(app.dir.path().join("smtp"), &["--auth", "shop", "secret"]);
    let url = |password: &str| format!("smtp://shop:{password}@127.0.0.1:{}?tls=none", server.port);
    let (code, out, err) = run(on(&app).env("BGFILES_MAIL", url("secret")).args([
        "send-test-mail",
        "amy@example.com",
        "--language",
        "nl",
    ]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Sent to amy@example.com: 250 OK"), "{out}");
    let mails = server.messages();
    assert_eq!(mails.len(), 1);
    let mail = String::from_utf8_lossy(&mails[0]).into_owned();
    assert!(mail.contains("To: amy@example.com") && mail.contains("/d/"), "{mail}");
    let (code, _, err) =
        run(on(&app).env("BGFILES_MAIL", url("secret")).args(["send-test-mail", "nobody"]));
    assert!(code == 1 && err.contains("ADDRESS: is not an e-mail address"), "{err}");
    let (code, _, err) =
        run(on(&app).env("BGFILES_MAIL", url("wrong")).args(["send-test-mail", "amy@example.com"]));
    assert!(code == 1 && err.contains("535") && !err.contains("wrong"), "{err}");
    // The doctor logs in, and sends nothing.
    let (_, all) = outcomes(on(&app).env("BGFILES_MAIL", url("secret")));
    assert!(outcome(&all, "mail").0 == "ok", "{all:#?}");
    assert!(outcome(&all, "mail").1.contains("logged in"), "{all:#?}");
    let (code, all) = outcomes(on(&app).env("BGFILES_MAIL", url("wrong")));
    assert_eq!((code, outcome(&all, "mail").0), (1, "failed"));
    assert_eq!(server.messages().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_tries_a_bucket() {
    let app = TestApp::new(Kind::Sqlite).await;
    define(&app, "numbers.toml", SOUND);
    let endpoint = s3::serve(&app.dir.path().join("s3")).await;
    let try_out = |secret: &'static str| {
        let (endpoint, mut command) = (endpoint.clone(), on(&app));
        tokio::task::spawn_blocking(move || {
            command.env("BGFILES_STORAGE", "s3://bucket/some/prefix").env("AWS_ALLOW_HTTP", "true");
            outcomes(command.envs(s3::options(&endpoint, secret)))
        })
    };
    let (code, all) = try_out(s3::SECRET).await.unwrap();
    assert_eq!(code, 0, "{all:#?}");
    for what in ["store: list", "store: write", "store: read", "store: ranges", "store: delete"] {
        assert_eq!(outcome(&all, what).0, "ok", "{what}");
    }
    let (code, all) = try_out("another").await.unwrap();
    assert_eq!((code, outcome(&all, "store: list").0), (1, "failed"));
    assert!(outcome(&all, "store: list").1.contains("AWS_SECRET_ACCESS_KEY"), "{all:#?}");
}

#[test]
fn a_fault_of_settings_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (code, problems, _) = check(
        bgfiles().current_dir(dir.path()).env("BGFILES_WORKER", "2").env("BGFILES_MAX_AGE", "soon"),
    );
    assert_eq!(code, 1);
    has(&problems, "did you mean BGFILES_WORKERS?");
    has(&problems, "max_age (BGFILES_MAX_AGE)");
}
