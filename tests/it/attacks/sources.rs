//! What queries leave behind or bring along, and what lies about: connections, cells, files, settings,
//! locks, and texts on a terminal.

use std::os::unix::fs::PermissionsExt;

use bgfiles::{
    RequestId,
    auth_token::Role,
    export::{DeclaredExport, Definition, Source},
    lock_token,
    request_token::NewRequestToken,
    toolbox::LinkOptions,
};
use serde_json::json;

use crate::{
    cli::{define, on, run},
    declared::make,
    support::{
        Caller, Kind, TestApp,
        app::{self, Parts, SECRET},
        both,
    },
};

fn over(app: &TestApp, source: &Source, query: &str) -> DeclaredExport {
    let path = app.dir.path().join("thing.toml");
    std::fs::write(
        &path,
        format!("formats = [\"csv\", \"jsonl\", \"xlsx\", \"parquet\"]\nquery = '''{query}'''\n"),
    )
    .unwrap();
    DeclaredExport::new(Definition::load(&path).unwrap(), source.clone())
}

async fn csv(export: &DeclaredExport) -> String {
    let text = String::from_utf8(make(export, "csv", "", "").await.unwrap()).unwrap();
    text.lines().nth(1).unwrap_or_default().trim_matches('"').to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_leaves_nothing_on_its_connection() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql(
        "DO $$BEGIN CREATE ROLE bgfiles_test_reports; EXCEPTION WHEN duplicate_object THEN END$$",
    )
    .await;
    let source = Source::open(&app.url).unwrap();
    let clean = over(
        &app,
        &source,
        "SELECT concat(current_setting('app.tenant', true), '/', current_setting('search_path'), '/', current_user, \
         '/', (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())) AS a",
    );
    let before = csv(&clean).await;
    let dirty = over(
        &app,
        &source,
        "SELECT set_config('app.tenant', 'acme', false) AS a, set_config('search_path', 'pg_temp', false) AS b, \
         set_config('role', 'bgfiles_test_reports', false) AS c, pg_try_advisory_lock(4711) AS d",
    );
    for _ in 0..3 {
        assert!(csv(&dirty).await.starts_with("acme"));
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711";
        assert_eq!(csv(&clean).await.replace('"', ""), before.replace('"', ""));
        assert_eq!(app.count(locks).await, 0);
    }
    // Also where the next export ends the transaction of the one before.
    let many = (0..16).map(|at| csv(if at % 2 == 0 { &dirty } else { &clean }));
    for (at, line) in futures::future::join_all(many).await.iter().enumerate() {
        assert_eq!(at % 2 == 1, line.replace('"', "") == before.replace('"', ""), "{line}");
    }
}

both!(a_cell_of_any_size_ends_the_request_and_not_the_worker);
async fn a_cell_of_any_size_ends_the_request_and_not_the_worker(app: TestApp) {
    let source = Source::open(&app.url).unwrap();
    let texts = match app.kind {
        Kind::Postgres => [
            "SELECT repeat('a', 70000000) AS a",
            "SELECT convert_to(repeat('a', 70000000), 'UTF8') AS a",
        ],
        Kind::Sqlite => {
            ["SELECT printf('%.*c', 70000000, 'a') AS a", "SELECT zeroblob(100000000) AS a"]
        }
    };
    for query in texts {
        let export = over(&app, &source, query);
        for format in ["csv", "jsonl", "xlsx", "parquet"] {
            let error = make(&export, format, "", "").await.map(drop).unwrap_err();
            assert_eq!(
                (error.code(), error.is_retryable()),
                ("text_too_long", false),
                "{format} {query}: {error}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_about_is_for_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let db = bgfiles::Db::open(&format!("sqlite:{}", dir.path().join("own.db").display())).unwrap();
    bgfiles::Toolbox::migrate(&db).await.unwrap();
    for name in ["own.db", "own.db-wal"] {
        assert_eq!(mode(&dir.path().join(name)), 0o600, "{name}");
    }
    db.close().await;
    let url = |name: &str| url::Url::from_file_path(dir.path().join(name)).unwrap().to_string();
    let storage = bgfiles::storage::Storage::open(&url("files"), &[]).unwrap();
    let mailer = bgfiles::mail::Mailer::open(&url("mail"), "bgfiles <files@example.com>").unwrap();
    let app = TestApp::with(
        Kind::Sqlite,
        Parts { storage: Some(storage), mailer: Some(mailer), ..Parts::default() },
    )
    .await;
    let row = app.finished("hello", "").await;
    // Larger than what is stored in one piece.
    let large = vec![7_u8; 24 << 20];
    let other = app.request("hello", "").await;
    app.toolbox.attach_file(other.id, large.as_slice(), Default::default()).await.unwrap();
    app.deliver_notices().await;
    let folder = dir.path().join("files/requests").join(row.id.to_string());
    for folder in [
        dir.path().join("files"),
        folder.clone(),
        dir.path().join("files/requests").join(other.id.to_string()),
    ] {
        assert_eq!(mode(&folder), 0o750, "{}", folder.display());
    }
    for id in [row.id, other.id] {
        let files =
            std::fs::read_dir(dir.path().join("files/requests").join(id.to_string())).unwrap();
        for file in files {
            assert_eq!(mode(&file.unwrap().path()), 0o640);
        }
    }
    assert_eq!(mode(&dir.path().join("mail")), 0o700);
    let mails: Vec<_> = std::fs::read_dir(dir.path().join("mail")).unwrap().collect();
    assert!(!mails.is_empty());
    for mail in mails {
        assert_eq!(mode(&mail.unwrap().path()), 0o600);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_shows_no_password_however_it_is_spelled() {
    let app = TestApp::new(Kind::Sqlite).await;
    for url in [
        "postgres://127.0.0.1:1/x?user=shop&password=HUNTER2",
        "postgres://127.0.0.1:1/x?sslmode=disable&PASSWORD=HUNTER2",
        "postgres://127.0.0.1:1/x?sslpassword=HUNTER2",
        "postgres://127.0.0.1:1/x?p%61ssword=HUNTER2",
        "postgres://shop:HUNTER2@127.0.0.1:badport/x",
        "postgres://shop:HUN#TER2@127.0.0.1/x",
        "postgres:shop:HUNTER2@127.0.0.1/x",
        "postgres://shop:HUNTER2@127.0.0.1:1/x",
    ] {
        for more in [&["check"][..], &["check", "--json"]] {
            for name in ["DATABASE_URL", "BGFILES_MAIL"] {
                let (_, out, err) = run(on(&app).env(name, url).args(more));
                for canary in ["HUNTER2", "TER2"] {
                    assert!(
                        !out.contains(canary) && !err.contains(canary),
                        "{name}={url}: {out}{err}"
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_come_from_files() {
    let app = TestApp::new(Kind::Sqlite).await;
    let file = |name: &str, text: &str| {
        let path = app.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let key = file("key", &format!("another-key-0123456789-0123456789-xyz\n{SECRET}\n"));
    let database = file("database", &format!("{}\n", app.url));
    let row = app.finished("hello", "").await;
    let link = app.link(&row);
    let token = link.rsplit('/').next().unwrap();
    let with = |name: &str, path: &std::path::Path| {
        let mut command = on(&app);
        command.env_remove("BGFILES_SECRET_KEY").env("BGFILES_SECRET_KEY_FILE", &key);
        command.env_remove("DATABASE_URL").env("DATABASE_URL_FILE", &database).env(name, path);
        command
    };
    // The second key of the file signed it.
    let (_, out, err) = run(with("X", &key).args([
        "token",
        "inspect",
        token,
        "--json",
        "--at",
        "2026-03-01T12:00:01Z",
    ]));
    assert!(out.contains("\"valid\":true"), "{out}{err}");
    define(
        &app,
        "thing.toml",
        "source = \"shop\"\nformats = [\"csv\"]\nquery = \"SELECT 1 AS a\"\n",
    );
    let (code, out, err) = run(with("BGFILES_SOURCE_SHOP_FILE", &database).arg("check"));
    assert!(code == 0 && out.contains("DATABASE_URL_FILE") && !out.contains(SECRET), "{out}{err}");
    for (name, path, why) in [
        ("BGFILES_MAIL_FILE", app.dir.path().join("none"), "BGFILES_MAIL_FILE: "),
        (
            "BGFILES_SECRET_KEY",
            key.clone(),
            "BGFILES_SECRET_KEY_FILE: give either this or BGFILES_SECRET_KEY",
        ),
        ("BGFILES_SECRET_KEY_FILE", file("empty", "\n"), "is empty"),
    ] {
        let mut command = with(name, &path);
        if name == "BGFILES_MAIL_FILE" {
            command.env_remove("BGFILES_MAIL");
        }
        let (code, _, err) = run(command.arg("check"));
        assert!(code == 1 && err.contains(why), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_warns_of_a_role_that_may_read_our_tables() {
    let app = TestApp::new(Kind::Postgres).await;
    app.sql("DO $$BEGIN CREATE ROLE bgfiles_test_reader LOGIN; EXCEPTION WHEN duplicate_object THEN END$$").await;
    define(&app, "thing.toml", "formats = [\"csv\"]\nquery = \"SELECT 1 AS a\"\n");
    let mut url = url::Url::parse(&app.url).unwrap();
    url.set_username("bgfiles_test_reader").unwrap();
    let check = |default: Option<&str>| {
        let mut command = on(&app);
        if let Some(url) = default {
            command.env("BGFILES_SOURCE_DEFAULT", url);
        }
        let (code, out, err) = run(command.arg("check"));
        assert_eq!(code, 0, "{out}{err}");
        err
    };
    let own = check(None);
    assert!(own.contains("warning: source default: ") && own.contains("bgfiles_users"), "{own}");
    let reader = check(Some(url.as_str()));
    assert!(!reader.contains("bgfiles_users") && !reader.contains("superuser"), "{reader}");
    app.sql("GRANT SELECT ON bgfiles_users TO bgfiles_test_reader").await;
    let reader = check(Some(url.as_str()));
    assert!(reader.contains("\"bgfiles_test_reader\" may read bgfiles_users"), "{reader}");
}

both!(locks_have_a_quota_and_plain_reasons);
async fn locks_have_a_quota_and_plain_reasons(app: TestApp) {
    let locks = lock_token::Settings {
        resources: ["shop/*".to_owned()].into(),
        most: 5,
        ..Default::default()
    };
    let app = TestApp::with(app.kind, Parts { locks, ..Parts::default() }).await;
    let base = format!("http://{}", app.serve().await);
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    let bob = Caller::new(&app, &base, "bob", Role::User).await;
    let lock = async |who: &Caller, id: usize| {
        let body = json!({"reason": "exe.\u{202e}gpj"});
        who.post(&format!("/lock_tokens/shop/order/{id}/"), body).await
    };
    assert_eq!(lock(&amy, 0).await.0, 201);
    assert_eq!(amy.get("/api/locks/shop/order/0").await.1["lock"]["reason"], "exe.gpj");
    for id in 1..5 {
        assert_eq!(lock(&amy, id).await.0, 201);
    }
    let (status, refused) = lock(&amy, 5).await;
    assert_eq!(status, 429, "{refused}");
    assert_eq!(lock(&bob, 5).await.0, 201, "each has their own");
    app.advance(3600);
    assert_eq!(lock(&amy, 6).await.0, 201, "those that are over do not count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_of_callers_do_nothing_to_a_terminal() {
    let app = TestApp::new(Kind::Sqlite).await;
    let new = NewRequestToken {
        data: json!({"note": "a\u{9b}31m\u{85}\u{202e}b"}),
        ..NewRequestToken::new("x")
    };
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let token = app.toolbox.create_request_token(&mut tx, new).await.unwrap();
    tx.commit().await.unwrap();
    for more in [&[][..], &["--json"]] {
        let (_, out, _) =
            run(on(&app).args(["request-token", "show", &token.id.to_string()]).args(more));
        assert!(out.contains("\\u009b31m\\u0085\\u202eb"), "{out:?}");
        assert!(
            !out.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'),
            "{out:?}"
        );
    }
    let (_, out, _) =
        run(on(&app).args(["request-token", "show", &token.id.to_string(), "--json"]));
    let read: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(read["data"]["note"], "a\u{9b}31m\u{85}\u{202e}b", "it is still what it was");
}

both!(a_key_of_somebody_else_resumes_nothing);
async fn a_key_of_somebody_else_resumes_nothing(app: TestApp) {
    let app = TestApp::with(
        app.kind,
        Parts { trusted_proxies: "127.0.0.0/8".parse().unwrap(), ..Parts::default() },
    )
    .await;
    let base = format!("http://{}", app.serve().await);
    let row = app.finished("hello", "").await;
    let options =
        LinkOptions { max_uses: Some(std::num::NonZero::new(2)), ..LinkOptions::default() };
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let (_, url) = app.toolbox.create_link(&mut tx, &row, options).await.unwrap();
    tx.commit().await.unwrap();
    let url = format!("{base}/d/{}", url.split("/d/").nth(1).unwrap());
    let redeem = async |from: &str| {
        let call =
            app.http.post(&url).header("idempotency-key", "1").header("x-forwarded-for", from);
        let answer = call.send().await.unwrap();
        let location =
            answer.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), location)
    };
    let first = redeem("192.0.2.1").await;
    assert_eq!(first.0, 303);
    assert_eq!(redeem("192.0.2.1").await, first, "a repeat of one's own");
    let second = redeem("198.51.100.7").await;
    assert!(second.0 == 303 && second.1 != first.1);
    assert_eq!(redeem("203.0.113.9").await.0, 403, "two uses are two");
}

both!(what_an_application_does_to_somebodys_request_is_written_down);
async fn what_an_application_does_to_somebodys_request_is_written_down(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    let amy = Caller::new(&app, &base, "amy", Role::User).await;
    let (_, row) = amy.post("/api/requests", json!({"file_type": "hello"})).await;
    let id: RequestId = row["id"].as_str().unwrap().parse().unwrap();
    let edited = shop
        .call("PATCH", &format!("/api/requests/{id}"))
        .json(&json!({"description": "x"}))
        .send()
        .await
        .unwrap();
    assert_eq!(app::json(edited).await.0, 200);
    let lines =
        "SELECT count(*) FROM bgfiles_audit WHERE actor = 'shop' AND action LIKE 'request.%'";
    assert_eq!(app.count(lines).await, 1);
    let edited = amy
        .call("PATCH", &format!("/api/requests/{id}"))
        .json(&json!({"description": "y"}))
        .send()
        .await
        .unwrap();
    assert_eq!(edited.status(), 200);
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_audit").await, 1);
}
