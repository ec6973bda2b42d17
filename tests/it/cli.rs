//! The command line, as a process.

use std::process::{Command, Output};

use bgfiles::Db;
use serde_json::Value;

use crate::support::{Kind, TestApp, both, child::bgfiles, postgres};

pub fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// The binary over the app's database and folders.
pub fn on(app: &TestApp) -> Command {
    let mut command = bgfiles();
    let folder =
        |name: &str| url::Url::from_file_path(app.dir.path().join(name)).unwrap().to_string();
    command
        .env("DATABASE_URL", &app.url)
        .env("BGFILES_STORAGE", folder("files"))
        .env("BGFILES_MAIL", folder("mail"))
        .env("BGFILES_JOBS_DIR", app.dir.path().join("jobs"));
    command
}

pub fn define(app: &TestApp, name: &str, toml: &str) {
    let jobs = app.dir.path().join("jobs");
    std::fs::create_dir_all(&jobs).unwrap();
    std::fs::write(jobs.join(name), toml).unwrap();
}

const NUMBERS: &str = "title = \"Numbers\"\nformats = [\"csv\", \"jsonl\"]\n\
    query = \"SELECT 1 AS one, 'x' AS text WHERE :want = 1\"\n\n[criteria.want]\ntype = \"integer\"\nrequired = true\n";

both!(ask_process_link_download);
async fn ask_process_link_download(app: TestApp) {
    define(&app, "numbers.toml", NUMBERS);
    let (code, id, stderr) = run(on(&app).args([
        "request",
        "numbers",
        "--criteria",
        "want=1",
        "--email",
        "amy@example.com",
    ]));
    assert_eq!(code, 0, "{stderr}");
    let id = id.trim();
    let (code, out, stderr) = run(on(&app).args(["process", "--timeout", "60"]));
    assert_eq!((code, out.trim()), (0, format!("Handled {id}").as_str()), "{stderr}");
    assert_eq!(run(on(&app).arg("process")).1, "", "nothing is left");
    let mails = std::fs::read_dir(app.dir.path().join("mail")).unwrap().count();
    assert_eq!(mails, 1);
    let (code, url, _) = run(on(&app).args(["link", id, "--max-age", "1h"]));
    assert_eq!(code, 0);
    let (_, json, _) = run(on(&app).args(["token", "inspect", url.trim(), "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["reason"], json["data"]["id"].as_str()), (&"ok".into(), Some(id)));
    let token = url.trim().rsplit('/').next().unwrap();
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_links").await, 1);
    let path =
        std::fs::read_dir(app.files().join("requests").join(id)).unwrap().next().unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(path.path()).unwrap(), "one,text\r\n1,x\r\n");
    assert!(!token.is_empty());
}

both!(process_goes_past_failures_and_says_so);
async fn process_goes_past_failures_and_says_so(app: TestApp) {
    define(&app, "numbers.toml", NUMBERS);
    app.sql("INSERT INTO bgfiles_file_requests (file_type, criteria) VALUES ('unknown', '')").await;
    app.sql("INSERT INTO bgfiles_file_requests (file_type, criteria) VALUES ('numbers', 'want=x')")
        .await;
    app.sql("INSERT INTO bgfiles_file_requests (file_type, criteria) VALUES ('numbers', 'want=1')")
        .await;
    let (code, out, _) = run(on(&app).arg("process"));
    assert_eq!(code, 1);
    assert!(
        out.contains("Failed ") && out.contains("Handled ") && out.contains("Left \"unknown\""),
        "{out}"
    );
}

both!(users_clients_tokens);
async fn users_clients_tokens(app: TestApp) {
    let (code, out, err) = run(on(&app).args([
        "create-user",
        "shop",
        "--email",
        "shop@example.com",
        "--role",
        "service",
    ]));
    assert_eq!((code, out.as_str()), (0, "Created service \"shop\".\n"), "{err}");
    let (code, _, err) = run(on(&app).args(["create-user", "shop"]));
    assert_eq!(code, 1);
    assert!(err.contains("shop") && err.contains("already"), "{err}");
    let (_, out, _) =
        run(on(&app).args(["create-client", "web", "--token-ttl", "1d", "--throttle-rate", "5/m"]));
    assert_eq!(out, "Created client \"web\"; its tokens live 86400 seconds.\n");
    let (code, secret, _) =
        run(on(&app).args(["create-token", "--user", "shop", "--client", "web"]));
    assert_eq!((code, secret.trim().len()), (0, 53));
    let base = format!("http://{}", app.serve().await);
    let call = app
        .http
        .get(format!("{base}/api/requests"))
        .header("authorization", format!("Token {}", secret.trim()));
    assert_eq!(call.send().await.unwrap().status(), 200);
    assert_eq!(
        app.count("SELECT count(*) FROM bgfiles_auth_tokens WHERE expires_at IS NOT NULL").await,
        1
    );
    let (code, json, _) = run(on(&app).args(["token", "inspect", secret.trim(), "--json"]));
    assert_eq!(code, 0);
    assert!(json.contains("auth_token") && !json.contains(secret.trim()));
    for wrong in [
        vec!["create-client", "x", "--throttle-rate", "0/m"],
        vec!["create-client", "x", "--throttle-rate", "-1/m"],
        vec!["create-client", "x", "--throttle-rate", "2/minute"],
        vec!["create-client", "   "],
        vec!["create-user", "x", "--email", "no"],
        vec!["create-token", "--user", "nobody", "--client", "web"],
    ] {
        let (code, _, err) = run(on(&app).args(&wrong));
        assert!(code != 0 && err.contains("bgfiles:"), "{wrong:?}: {err}");
    }
    assert_eq!(run(on(&app).args(["create-user", "x", "--role", "king"])).0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_read_from_standard_input() {
    use std::{io::Write, process::Stdio};
    let app = TestApp::new(Kind::Sqlite).await;
    let create = |name: &str, password: &str| {
        let mut child = on(&app)
            .args(["create-user", name, "--password-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        child.wait().unwrap().success()
    };
    assert!(!create("short", "too short\n"));
    assert!(create("amy", "long enough for us\n"));
    let hashed = "SELECT count(*) FROM bgfiles_users WHERE password_hash LIKE '$argon2id$%'";
    assert_eq!(app.count(hashed).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_schemas_are_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let (name, postgres_url) = postgres::create_empty().await;
    for url in [format!("sqlite:{}", dir.path().join("new.db").display()), postgres_url] {
        let command = |arguments: &[&str]| {
            let mut command = bgfiles();
            command.env("DATABASE_URL", &url).args(arguments).current_dir(dir.path());
            run(&mut command)
        };
        for arguments in
            [vec!["web", "--bind", "127.0.0.1:0"], vec!["worker"], vec!["clean"], vec!["process"]]
        {
            let (code, _, err) = command(&arguments);
            assert_eq!(code, 1, "{arguments:?}");
            assert!(err.contains("run `bgfiles migrate`"), "{arguments:?}: {err}");
        }
        assert_eq!(command(&["migrate"]).0, 0);
        assert_eq!(command(&["migrate"]).0, 0, "again");
        assert_eq!(command(&["process"]).0, 0);
        let db = Db::open(&url).unwrap();
        match &db {
            Db::Postgres(pool) => {
                sqlx::query("DELETE FROM _bgfiles_migrations").execute(pool).await.map(drop)
            }
            Db::Sqlite(pool) => {
                sqlx::query("DELETE FROM _bgfiles_migrations").execute(pool).await.map(drop)
            }
        }
        .unwrap();
        db.close().await;
        assert!(command(&["worker"]).2.contains("older than this program"));
    }
    postgres::drop_database(name);
}

#[test]
fn settings_come_from_flags_environment_file_and_defaults_in_this_order() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bgfiles.toml"), "max_age = 60\nsalt = \"file\"\nworkers = 3\n")
        .unwrap();
    let check = |extra: &[(&str, &str)], arguments: &[&str]| {
        let mut command = bgfiles();
        command.current_dir(dir.path()).args(["check", "--json"]).args(arguments);
        command.envs(extra.iter().copied());
        let (_, out, err) = run(&mut command);
        (serde_json::from_str::<Value>(&out).unwrap_or(Value::Null), err)
    };
    let (json, err) =
        check(&[("BGFILES_SALT", "env"), ("BGFILES_LOG", "warn")], &["--log", "error"]);
    let value = |key: &str| {
        let all = json["settings"].as_array().unwrap_or_else(|| panic!("{err}"));
        let setting = all.iter().find(|s| s["key"] == key).unwrap();
        (
            setting["value"].as_str().unwrap().to_owned(),
            setting["from"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(value("salt"), ("env".into(), "BGFILES_SALT".into()));
    assert_eq!(value("log"), ("error".into(), "command line".into()));
    assert_eq!(value("max_age").0, "1m");
    assert_eq!(value("bind").0, "127.0.0.1:8000");
    assert_eq!(value("secret_key").0, "(set)");
    let wrong = |name: &str, text: &str| {
        let (_, err) = check(&[(name, text)], &[]);
        assert!(err.contains(name), "{name}: {err}");
    };
    wrong("BGFILES_MAX_AGE", "soon");
    wrong("BGFILES_BIND", "everywhere");
    wrong("BGFILES_SERVE", "x-accel:internal");
    wrong("BGFILES_BASE_URL", "files.example.com");
    wrong("BGFILES_WORKERS", "0");
    wrong("BGFILES_LEASE", "0");
    wrong("BGFILES_LOG", "a=b=c");
    std::fs::write(dir.path().join("bgfiles.toml"), "max_ages = 60\n").unwrap();
    let (_, err) = check(&[], &[]);
    assert!(err.contains("max_ages") && err.contains("bgfiles.toml"), "{err}");
}

#[test]
fn a_missing_or_short_key_refuses_to_start() {
    let dir = tempfile::tempdir().unwrap();
    for key in ["", "short"] {
        let (code, _, err) =
            run(bgfiles().current_dir(dir.path()).env("BGFILES_SECRET_KEY", key).arg("worker"));
        assert_eq!(code, 1);
        assert!(err.contains("BGFILES_SECRET_KEY") && err.contains("32"), "{err}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let (_, help, _) = run(bgfiles().arg("--help"));
    let commands = [
        "migrate",
        "web",
        "worker",
        "clean",
        "process",
        "demo",
        "check",
        "doctor",
        "send-test-mail",
        "export",
        "request",
        "link",
        "create-user",
        "create-client",
        "create-token",
        "set-user",
        "set-password",
        "list-tokens",
        "revoke-token",
        "remove-expired-locks",
        "health",
        "completions",
        "man",
    ];
    for command in commands {
        assert!(help.contains(command), "{command}");
        let (code, text, _) = run(bgfiles().args([command, "--help"]));
        assert!(code == 0 && text.contains("Example"), "{command}");
    }
    assert!(run(bgfiles().args(["token", "inspect", "--help"])).1.contains("Example"));
    assert_eq!(run(bgfiles().arg("no-such-command")).0, 2);
}

#[test]
fn the_demo_shows_itself() {
    let dir = tempfile::tempdir().unwrap();
    let demo =
        || run(bgfiles().current_dir(dir.path()).args(["demo", "--once", "--port", "18000"]));
    let (code, out, err) = demo();
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Subject: Your file is ready") && out.contains("/d/"), "{out}");
    assert!(out.contains("as promised") && !out.contains("\\u"), "{out}");
    assert!(err.contains("336776 rows"), "{err}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "one folder");
    // Nothing looks as if it were broken.
    assert!(!err.contains("ERROR") && !err.contains("WARN"), "{err}");
    assert_eq!(demo().0, 0, "and again");
}

both!(export_writes_whole_files_or_none);
async fn export_writes_whole_files_or_none(app: TestApp) {
    define(&app, "numbers.toml", NUMBERS);
    let (code, out, _) = run(on(&app).args(["export", "numbers", "--criteria", "want=1"]));
    assert_eq!((code, out.as_str()), (0, "one,text\r\n1,x\r\n"));
    let path = app.dir.path().join("out.jsonl");
    let to_file = |criteria: &str| {
        let mut command = on(&app);
        command.args(["export", "numbers", "--format", "jsonl", "--criteria", criteria, "-o"]);
        run(command.arg(&path))
    };
    let (code, _, err) = to_file("want=x");
    assert!(code == 1 && err.contains("criteria.want"), "{err}");
    assert!(!path.exists());
    assert_eq!(to_file("want=1").0, 0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"one\":1,\"text\":\"x\"}\n");
    let (code, _, err) = run(on(&app).args(["export", "nothing"]));
    assert!(code == 1 && err.contains("nothing"), "{err}");
}

/// Rows of which the last cannot be made.
fn breaking(kind: Kind) -> String {
    let query = match kind {
        Kind::Postgres => "SELECT n, 1 / (n - 90000) AS x FROM generate_series(1, 90000) AS n",
        Kind::Sqlite => {
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 90000)\n\
            SELECT n, abs(-9223372036854775807 - (n - 89999)) AS x FROM c"
        }
    };
    format!("formats = [\"csv\"]\nquery = \"\"\"\n{query}\"\"\"\n")
}

both!(export_keeps_what_a_target_is);
async fn export_keeps_what_a_target_is(app: TestApp) {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    define(&app, "numbers.toml", NUMBERS);
    define(&app, "breaking.toml", &breaking(app.kind));
    let out = app.dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let export = |name: &str, target: &std::path::Path| {
        let mut command = on(&app);
        command.current_dir(&out).args(["export", name, "-o"]).arg(target);
        command.args((name == "numbers").then_some(["--criteria", "want=1"]).into_iter().flatten());
        command
    };
    const ROWS: &str = "one,text\r\n1,x\r\n";
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    // A file keeps its mode, and what it has until the new one is whole.
    std::fs::write(out.join("kept.csv"), "old").unwrap();
    std::fs::set_permissions(out.join("kept.csv"), PermissionsExt::from_mode(0o640)).unwrap();
    symlink("kept.csv", out.join("link.csv")).unwrap();
    for name in ["kept.csv", "link.csv", "new.csv"] {
        let (code, _, err) = run(&mut export("breaking", name.as_ref()));
        assert!(code == 1 && err.contains("after row 89999"), "{err}");
    }
    assert_eq!((read("kept.csv").as_str(), out.join("new.csv").exists()), ("old", false));
    let (code, _, err) = run(&mut export("numbers", "link.csv".as_ref()));
    assert_eq!((code, read("kept.csv").as_str()), (0, ROWS), "{err}");
    let kept = std::fs::symlink_metadata(out.join("kept.csv")).unwrap();
    assert!(kept.is_file() && kept.permissions().mode() & 0o7777 == 0o640);
    assert!(std::fs::symlink_metadata(out.join("link.csv")).unwrap().is_symlink());
    // A link to nothing yet, from another folder.
    std::fs::create_dir(out.join("deep")).unwrap();
    symlink("../later.csv", out.join("deep/link.csv")).unwrap();
    assert_eq!(run(&mut export("numbers", "deep/link.csv".as_ref())).0, 0);
    assert_eq!(read("later.csv"), ROWS);
    // Standard output, and what it is by another name.
    for name in ["-", "/dev/stdout"] {
        let (code, bytes, err) = run(&mut export("numbers", name.as_ref()));
        assert_eq!((code, bytes.as_str()), (0, ROWS), "{err}");
    }
    let file = std::fs::File::create(out.join("redirected.csv")).unwrap();
    let mut into_file = export("numbers", "/dev/stdout".as_ref());
    assert!(into_file.stdout(file).status().unwrap().success());
    assert_eq!(read("redirected.csv"), ROWS);
    // A FIFO is written to, and stays one.
    let made = |program: &str, args: &[&str]| {
        Command::new(program).args(args).current_dir(&out).status().is_ok_and(|s| s.success())
    };
    assert!(made("mkfifo", &["pipe"]));
    let reader = {
        let pipe = out.join("pipe");
        std::thread::spawn(move || std::fs::read_to_string(pipe))
    };
    assert_eq!(run(&mut export("numbers", "pipe".as_ref())).0, 0);
    assert_eq!(reader.join().unwrap().unwrap(), ROWS);
    // A device of our own, where we may make one.
    if made("mknod", &["null", "c", "1", "3"]) && std::fs::write(out.join("null"), "").is_ok() {
        assert_eq!(run(&mut export("numbers", "null".as_ref())).0, 0);
        assert!(std::fs::metadata(out.join("null")).unwrap().file_type().is_char_device());
        std::fs::remove_file(out.join("null")).unwrap();
    }
    // What cannot be written to says so.
    let _socket = std::os::unix::net::UnixListener::bind(out.join("socket")).unwrap();
    symlink("loop", out.join("loop")).unwrap();
    for (name, word) in [
        ("socket", "socket"),
        ("deep", "folder"),
        ("loop", "symbolic link"),
        ("no/where", "no/where"),
    ] {
        let (code, _, err) = run(&mut export("numbers", name.as_ref()));
        assert!(code == 1 && err.contains(word), "{name}: {err}");
    }
    let mut names: Vec<_> =
        std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let expected =
        ["deep", "kept.csv", "later.csv", "link.csv", "loop", "pipe", "redirected.csv", "socket"];
    assert_eq!(names, expected, "no draft is left, and no file called -");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_ends_while_nobody_reads_its_fifo() {
    let app = TestApp::new(Kind::Sqlite).await;
    define(&app, "numbers.toml", NUMBERS);
    let pipe = app.dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = on(&app);
    command.args(["export", "numbers", "--criteria", "want=1", "-o"]).arg(&pipe);
    let mut process = crate::support::child::Process(command.spawn().unwrap());
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(process.running(), "it waits for a reader");
    process.signal("TERM");
    assert_eq!(process.wait(10), Some(1));
}

both!(a_criterion_is_emptied_on_the_command_line);
async fn a_criterion_is_emptied_on_the_command_line(app: TestApp) {
    define(
        &app,
        "s.toml",
        "formats = [\"csv\"]\nquery = \"SELECT :owner AS owner\"\n[criteria.owner]\ntype = \"text\"\ndefault = \"amy\"\n",
    );
    let export = |more: &[&str]| run(on(&app).args(["export", "s"]).args(more)).1;
    assert_eq!(export(&[]), "owner\r\namy\r\n");
    assert_eq!(export(&["--criteria", "owner="]), "owner\r\n\"\"\r\n");
    let (_, json, _) = run(on(&app).args(["request", "s", "--json", "--criteria", "owner="]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["criteria"], "owner=");
}

both!(a_byte_order_mark_is_no_text);
async fn a_byte_order_mark_is_no_text(app: TestApp) {
    define(&app, "a.toml", "\u{feff}formats = [\"csv\"]\n");
    define(&app, "a.sql", "\u{feff}SELECT 1 AS one\n");
    let (code, _, err) = run(on(&app).arg("check"));
    assert_eq!(code, 0, "{err}");
    assert_eq!(run(on(&app).args(["export", "a"])).1, "one\r\n1\r\n");
    define(&app, "a.sql", "\u{feff}SELECT 1 AS one\nWHERE 1 = :more\n");
    define(&app, "b.toml", "\u{feff}formats = [\"csv\"]\nformat = 1\n");
    let (_, _, err) = run(on(&app).arg("check"));
    assert!(
        err.contains("a.sql:2: parameter :more") && err.contains("b.toml:2: unknown field"),
        "{err}"
    );
}

both!(a_criterion_and_a_place_in_the_name_are_two);
async fn a_criterion_and_a_place_in_the_name_are_two(app: TestApp) {
    let named = |filename: &str, name: &str| {
        define(
            &app,
            "t.toml",
            &format!(
                "formats = [\"csv\"]\n{filename}query = \"SELECT :{name} AS x\"\n[criteria.{name}]\ntype = \"text\"\n"
            ),
        );
        run(on(&app).arg("check"))
    };
    for name in ["date", "ext"] {
        let (code, _, err) = named("filename = \"sales-{date}.{ext}\"\n", name);
        assert!(
            code == 1
                && err.contains("t.toml:2: filename: ")
                && err.contains(&format!("criterion {name}")),
            "{err}"
        );
        assert_eq!(named("", name).0, 0);
        assert_eq!(named("filename = \"sales.csv\"\n", name).0, 0);
    }
}

both!(check_finds_what_is_wrong);
async fn check_finds_what_is_wrong(app: TestApp) {
    define(&app, "numbers.toml", NUMBERS);
    let (code, out, err) = run(on(&app).arg("check"));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("All is well.") && !out.contains(crate::support::app::SECRET), "{out}");
    define(&app, "broken.toml", "title = \"x\"\nformats = [\"docx\"]\nquery = \"SELECT 1 AS a\"\n");
    let (code, _, err) = run(on(&app).arg("check"));
    assert!(code == 1 && err.contains("broken.toml:2") && err.contains("docx"), "{err}");
    let (code, _, err) = run(on(&app).arg("worker"));
    assert!(code == 1 && err.contains("broken.toml:2"), "what is wrong refuses to start: {err}");
    define(
        &app,
        "broken.toml",
        "title = \"x\"\nformats = [\"csv\"]\nquery = \"SELECT a FROM no_such_table\"\n",
    );
    let (code, _, err) = run(on(&app).arg("check"));
    assert!(code == 1 && err.contains("no_such_table"), "{err}");
}

/// A process that is stopped when dropped, with its log in a file.
pub fn start(
    app: &TestApp,
    log: &str,
    arguments: &[&str],
    settings: &[(&str, &str)],
) -> crate::support::child::Process {
    let log = std::fs::File::create(app.dir.path().join(log)).unwrap();
    let mut command = on(app);
    command.args(arguments).envs(settings.iter().copied());
    crate::support::child::Process(
        command.stdout(std::process::Stdio::null()).stderr(log).spawn().unwrap(),
    )
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

both!(no_secret_or_token_in_a_log_line);
async fn no_secret_or_token_in_a_log_line(app: TestApp) {
    define(&app, "numbers.toml", NUMBERS);
    let secret = app.user("amy", bgfiles::auth_token::Role::Service).await;
    let address = format!("127.0.0.1:{}", free_port());
    let settings =
        [("BGFILES_LOG", "debug"), ("BGFILES_LOG_FORMAT", "json"), ("BGFILES_BIND", &address)];
    let mut web = start(&app, "web.log", &["web"], &settings);
    let base = format!("http://{address}");
    crate::support::eventually("it serves", 20, async || {
        app.http
            .get(format!("{base}/readyz"))
            .send()
            .await
            .ok()
            .filter(|r| r.status() == 200)
            .map(drop)
    })
    .await;
    let token = app.toolbox.create_general_token(
        &TestApp::new_request("hello", "").into_row(chrono::Utc::now()),
        Default::default(),
    );
    let download = app.http.get(format!("{base}/d/{token}")).send().await.unwrap();
    assert_eq!(download.status(), 403, "the app's clock stands still: it is old");
    let call = app
        .http
        .get(format!("{base}/api/requests"))
        .header("authorization", format!("Token {secret}"));
    assert_eq!(call.send().await.unwrap().status(), 200);
    web.signal("TERM");
    assert_eq!(web.wait(20), Some(0));
    let log = std::fs::read_to_string(app.dir.path().join("web.log")).unwrap();
    let signature = token.rsplit(':').next().unwrap();
    for hidden in [secret.as_str(), signature, crate::support::app::SECRET] {
        assert!(!log.contains(hidden), "{log}");
    }
    assert!(log.contains("/d/{token}"), "{log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_answer_monitors() {
    let app = TestApp::live(Kind::Sqlite).await;
    define(&app, "numbers.toml", NUMBERS);
    let address = format!("127.0.0.1:{}", free_port());
    let _worker = start(&app, "worker.log", &["worker"], &[("BGFILES_METRICS_BIND", &address)]);
    let (_, id, _) = run(on(&app).args(["request", "numbers", "--criteria", "want=1"]));
    assert!(!id.trim().is_empty());
    let wanted = "bgfiles_dispatched_total{file_type=\"numbers\",outcome=\"handled\"} 1";
    crate::support::eventually("it is counted", 30, async || {
        let answer = app.http.get(format!("http://{address}/metrics")).send().await.ok()?;
        answer.text().await.ok()?.contains(wanted).then_some(())
    })
    .await;
}
