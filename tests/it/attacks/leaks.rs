//! Secrets in places where they have no business: real processes that log all they can, and every
//! secret that was used looked for in their logs, in all of the database, in mails, and in answers.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bgfiles::{
    Db,
    auth_token::{AuthSecret, Role, TokenPolicy},
    file_request::links::GrantSecret,
    limits::TokenTtl,
};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::free_port;
use crate::{
    mailing::certificate,
    support::{
        Caller, Kind, TestApp, app,
        child::{Process, bgfiles},
        eventually, live, s3,
        smtp::Smtp,
    },
};

const KEY: &str = "canary-signing-key-0123456789-abcdefgh";
const OLD_KEY: &str = "canary-older-signing-key-0123456789-ab";
const PASSWORD: &str = "canary lamp orbit 90210";
const WRONG_PASSWORD: &str = "canary-that-somebody-mistyped-77";
const MAIL_PASSWORD: &str = "canary-p@ss/mail-4711";
const DATABASE_PASSWORD: &str = "canary-database-pass";
const SOURCE_PASSWORD: &str = "canary-source-pass";

/// Every byte of every row, of our tables and the queue's.
async fn dump(app: &TestApp) -> String {
    let mut all = Vec::new();
    match app.toolbox.db() {
        Db::Postgres(pool) => {
            let sql = "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables \
                WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')";
            let tables: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await.unwrap();
            assert!(tables.len() > 20, "{tables:?}");
            for table in tables {
                let sql = format!("SELECT row_to_json(t)::text || t::text FROM {table} AS t");
                let rows: Vec<String> =
                    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await.unwrap();
                all.extend(rows.join("\n").into_bytes());
            }
        }
        // The files as they are, with what was deleted and not yet overwritten.
        Db::Sqlite(_) => {
            for ending in ["db", "db-wal"] {
                all.extend(
                    std::fs::read(app.dir.path().join(format!("test.{ending}")))
                        .unwrap_or_default(),
                );
            }
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// How a secret may be written.
fn forms(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent = percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC);
    let lines = secret.replace('"', "\\\"");
    vec![secret.to_owned(), hex, STANDARD.encode(secret), percent.to_string(), lines]
}

/// A process over the app's database, with everything secret set to a canary, that logs all there is.
struct House<'a> {
    app: &'a TestApp,
    settings: Vec<(&'static str, String)>,
}

impl House<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bgfiles();
        command
            .args(arguments)
            .envs(self.settings.iter().map(|(name, value)| (*name, value.as_str())));
        command.current_dir(self.app.dir.path());
        command
    }

    fn start(&self, arguments: &[&str], format: &str) -> Process {
        let log = std::fs::File::create(self.app.dir.path().join(format!("{}.log", arguments[0])))
            .unwrap();
        let again = log.try_clone().unwrap();
        let mut command = self.command(arguments);
        command.env("BGFILES_LOG_FORMAT", format).stdout(again).stderr(log);
        Process(command.spawn().unwrap())
    }

    /// What a command says, on both of its streams, whether it succeeds or not.
    fn say(&self, arguments: &[&str], input: &str) -> String {
        use std::io::Write;
        let mut command = self.command(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

fn with_password(url: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    if url.scheme() == "postgres" && url.password().is_none() {
        // Where nobody is asked for one, it is sent all the same, or kept in memory.
        url.set_password(Some(DATABASE_PASSWORD)).unwrap();
    }
    url.to_string()
}

fn find_link(message: &[u8]) -> Option<String> {
    let mail = mail_parser::MessageParser::default().parse(message)?;
    let text = mail.body_text(0)?.into_owned();
    text.split_whitespace().find(|word| word.contains("/d/")).map(str::to_owned)
}

live!(canaries_are_in_no_log_and_no_table);
async fn canaries_are_in_no_log_and_no_table(app: TestApp) {
    let folder = app.dir.path();
    let (ca, key) = certificate(folder);
    let smtp = Smtp::start(
        folder.join("smtp"),
        &["--starttls", &ca, &key, "--auth", "mailer", MAIL_PASSWORD],
    );
    let endpoint = s3::serve(&folder.join("s3")).await;
    let bind = format!("127.0.0.1:{}", free_port());
    let base = format!("http://{bind}");
    let database = match app.kind {
        Kind::Postgres => with_password(&app.url),
        Kind::Sqlite => app.url.clone(),
    };
    let mail =
        percent_encoding::utf8_percent_encode(MAIL_PASSWORD, percent_encoding::NON_ALPHANUMERIC);
    let house = House {
        app: &app,
        settings: vec![
            ("DATABASE_URL", database),
            ("BGFILES_SECRET_KEY", format!("{KEY},{OLD_KEY}")),
            ("BGFILES_BASE_URL", base.clone()),
            ("BGFILES_BIND", bind.clone()),
            ("BGFILES_MAIL", format!("smtp://mailer:{mail}@localhost:{}?ca={ca}", smtp.port)),
            ("BGFILES_STORAGE", "s3://bucket/some/prefix".into()),
            ("AWS_ACCESS_KEY_ID", s3::KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", s3::SECRET.into()),
            ("AWS_ENDPOINT", endpoint),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            (
                "BGFILES_SOURCE_AWAY",
                format!("postgres://reader:{SOURCE_PASSWORD}@127.0.0.1:9/nowhere"),
            ),
            ("BGFILES_API_ACCESS_CLIENT_NAME", "keys".into()),
            ("BGFILES_LOG", "trace".into()),
        ],
    };
    let jobs = folder.join("jobs");
    std::fs::create_dir_all(&jobs).unwrap();
    let head = "title = \"x\"\nformats = [\"csv\"]\nquery = \"SELECT 1 AS one\"\n";
    std::fs::write(jobs.join("numbers.toml"), head).unwrap();
    std::fs::write(jobs.join("once.toml"), format!("{head}max_uses = 1\n")).unwrap();
    // By the command line: users, clients, a token, an account of the settings.
    let mut said = house.say(
        &[
            "create-user",
            "amy",
            "--email",
            "amy@example.com",
            "--role",
            "staff",
            "--password-stdin",
        ],
        PASSWORD,
    );
    assert!(said.contains("Created staff"), "{said}");
    app.client("web", TokenTtl::DAY, "", TokenPolicy::Several).await;
    app.client("keys", TokenTtl::DAY, "", TokenPolicy::One).await;
    said += &house.say(&["check"], "");
    said += &house.say(&["check", "--json"], "");
    let shop = app.user("shop", Role::Service).await;
    let mut web = house.start(&["web"], "json");
    let mut worker = house.start(&["worker"], "text");
    eventually("it serves", 30, async || {
        app.http
            .get(format!("{base}/readyz"))
            .send()
            .await
            .ok()
            .filter(|answer| answer.status() == 200)
            .map(drop)
    })
    .await;
    let shop = Caller { http: app.http.clone(), base: base.clone(), secret: shop };

    // Logins, good and bad, by the API and by the form.
    let login = |body: Value| app.http.post(format!("{base}/api/auth/login")).json(&body);
    for body in [
        json!({"username": "amy", "password": WRONG_PASSWORD, "client": "web"}),
        json!({"username": WRONG_PASSWORD, "password": "x", "client": "web"}),
        json!({"username": "amy", "password": {"x": WRONG_PASSWORD}, "client": "web"}),
    ] {
        assert_eq!(login(body).send().await.unwrap().status(), 400);
    }
    let (status, body) = app::json(
        login(json!({"username": "amy", "password": PASSWORD, "client": "web"}))
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(status, 200, "{body}");
    let api = body["token"].as_str().unwrap().to_owned();
    let amy = Caller { http: app.http.clone(), base: base.clone(), secret: api.clone() };
    let key =
        amy.post("/api/auth/apiaccess", json!({})).await.1["token"].as_str().unwrap().to_owned();
    let page =
        app.http.get(format!("{base}/login")).header("accept", "text/html").send().await.unwrap();
    let cookies =
        page.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let page = page.text().await.unwrap();
    let csrf =
        page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let form = |password: &'static str| {
        let fields = [("csrf", csrf.as_str()), ("username", "amy"), ("password", password)];
        app.http.post(format!("{base}/login")).header("cookie", &cookies).form(&fields)
    };
    assert_eq!(form(WRONG_PASSWORD).send().await.unwrap().status(), 422);
    let session = form(PASSWORD).send().await.unwrap();
    let session = session.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .split(['=', ';'])
        .nth(1)
        .unwrap()
        .to_owned();
    let account = app
        .http
        .get(format!("{base}/account"))
        .header("cookie", format!("bgfiles_session={session}"));
    assert_eq!(account.send().await.unwrap().status(), 200);

    // A file from asking to mail, and its link in every way a link comes in.
    for file_type in ["numbers", "once"] {
        let body =
            json!({"file_type": file_type, "requester": {"id": "amy", "email": "amy@example.com"}});
        let (status, made) = shop.post("/api/requests", body).await;
        assert_eq!(status, 202, "{made}");
    }
    let links = eventually("two mails came", 60, async || {
        let links: Vec<String> =
            smtp.messages().iter().filter_map(|message| find_link(message)).collect();
        (links.len() == 2).then_some(links)
    })
    .await;
    let mut statuses = Vec::new();
    for link in &links {
        statuses.push(app.http.get(link).send().await.unwrap().status().as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 405]);
    let token = |link: &str| link.rsplit('/').next().unwrap().to_owned();
    let mut grant = String::new();
    for link in &links {
        let redeemed = app.http.post(link).header("idempotency-key", "k").send().await.unwrap();
        assert_eq!(redeemed.status(), 303);
        let location = redeemed.headers()["location"].to_str().unwrap().to_owned();
        assert_eq!(app.http.get(format!("{base}{location}")).send().await.unwrap().status(), 200);
        grant = location.split('/').nth(2).unwrap().to_owned();
        for path in [
            format!("/d/{}x", token(link)),
            format!("/nowhere/{}", token(link)),
            format!("/d/{}/more", token(link)),
            format!("/login?next=/d/{}", token(link)),
            format!("/files?x={}", token(link)),
            format!("/g/{grant}"),
            format!("/api/requests?cursor={}", token(link)),
            format!("/api/requests/{}", token(link)),
        ] {
            let request = app
                .http
                .get(format!("{base}{path}"))
                .header("referer", link)
                .header("accept", "text/html");
            request.header("authorization", format!("Token {api}")).send().await.unwrap();
        }
    }
    let (_, list) = shop.get("/api/requests?requester=amy").await;
    let id = list["items"][0]["id"].as_str().unwrap().to_owned();
    let made = shop.post(&format!("/api/requests/{id}/links"), json!({"max_uses": 3})).await.1;
    let shared = token(made["url"].as_str().unwrap_or_else(|| panic!("{made}")));
    // Others: request tokens, locks, credentials of every kind that are not good.
    let made = shop
        .post("/api/request-tokens", json!({"scope": "foo", "url": "http://x.example/"}))
        .await
        .1;
    let jwt = made["jwt"].as_str().unwrap().to_owned();
    for scope in ["foo", "bar"] {
        shop.post("/api/request-tokens/redeem", json!({"token": jwt, "scope": scope})).await;
    }
    shop.get(&format!("/api/request-tokens?jwt={jwt}")).await;
    app.http
        .get(format!("{base}/api/requests?rt={jwt}"))
        .header("authorization", format!("Bearer {jwt}"))
        .send()
        .await
        .unwrap();
    let path = format!("/lock_tokens/bgfiles/file_request/{id}/");
    let (status, lock) = shop.post(&path, json!({})).await;
    assert_eq!(status, 201, "{lock}");
    let lock = lock["token"].as_str().unwrap().to_owned();
    assert_eq!(shop.get(&format!("{path}{lock}/")).await.0, 200);
    let unknown = AuthSecret::random().expose().to_owned();
    let basic = STANDARD.encode(format!("amy:{WRONG_PASSWORD}"));
    for header in [
        format!("Token {unknown}"),
        format!("Token {unknown} x"),
        format!("Bearer {unknown}"),
        format!("Basic {basic}"),
        format!("Token x{unknown}"),
    ] {
        assert_eq!(
            app.http
                .get(format!("{base}/api/requests"))
                .header("authorization", header)
                .send()
                .await
                .unwrap()
                .status(),
            401
        );
    }
    let no_grant = GrantSecret::random().expose().to_owned();
    app.http
        .get(format!("{base}/g/{no_grant}/x"))
        .header("cookie", format!("bgfiles_session={no_grant}; bgfiles_grant={no_grant}"))
        .send()
        .await
        .unwrap();
    // What goes wrong says why, to the log, to the database and to the requester.
    std::fs::write(jobs.join("away.toml"), format!("{head}source = \"away\"\n")).unwrap();
    said += &house.say(&["export", "away"], "");
    said += &house.say(&["check"], "");
    said += &house.say(&["create-user", "bob", "--password-stdin"], WRONG_PASSWORD);
    let mut wrong = house.settings.clone();
    wrong.retain(|(name, _)| !["BGFILES_MAIL", "DATABASE_URL"].contains(name));
    wrong.push(("BGFILES_MAIL", format!("imap://mailer:{mail}@localhost")));
    wrong.push((
        "DATABASE_URL",
        format!("postgres://reader:{DATABASE_PASSWORD}@127.0.0.1:9/nowhere"),
    ));
    let wrong = House { app: &app, settings: wrong };
    for command in [vec!["worker"], vec!["check"], vec!["migrate"], vec!["list-tokens"]] {
        said += &wrong.say(&command, "");
    }
    for process in [&mut web, &mut worker] {
        process.signal("TERM");
        assert_eq!(process.wait(40), Some(0));
    }

    let signature = |token: &str| token.rsplit([':', '.']).next().unwrap().to_owned();
    let tokens: Vec<String> = links.iter().map(|link| token(link)).collect();
    let canaries: Vec<(&str, String)> = [
        ("the key", KEY.to_owned()),
        ("the older key", OLD_KEY.to_owned()),
        ("a password", PASSWORD.to_owned()),
        ("a mistyped password", WRONG_PASSWORD.to_owned()),
        ("the same in Basic", basic),
        ("the password for mail", MAIL_PASSWORD.to_owned()),
        ("the secret of S3", s3::SECRET.to_owned()),
        ("the password of the database", DATABASE_PASSWORD.to_owned()),
        ("the password of a source", SOURCE_PASSWORD.to_owned()),
        ("an API token", api),
        ("another", shop.secret.clone()),
        ("a key of an account", key),
        ("an unknown API token", unknown),
        ("a session", session),
        ("the form's cookie", cookies.split('=').nth(1).unwrap().to_owned()),
        ("a form's token", csrf),
        ("a grant", grant),
        ("an unknown grant", no_grant),
        ("a JWT", signature(&jwt)),
        ("a link by the API", signature(&shared)),
        ("a lock", lock),
    ]
    .into_iter()
    .chain(tokens.iter().map(|token| ("a mailed link", signature(token))))
    .collect();
    let log = |name: &str| {
        String::from_utf8_lossy(&std::fs::read(folder.join(name)).unwrap()).into_owned()
    };
    let (of_web, of_worker) = (log("web.log"), log("worker.log"));
    let stored = dump(&app).await;
    let mails = String::from_utf8_lossy(&smtp.messages().concat()).into_owned();
    let files = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter(|file| Path::new(&file.file_name()).extension().is_some_and(|end| end == "log"))
        .count();
    assert_eq!(files, 2);
    // They are what they are taken for: long, and full of the routes that were taken.
    assert!(
        of_web.contains("/d/{token}") && of_web.contains("TRACE") && of_worker.contains("TRACE")
    );
    assert!(stored.contains("amy@example.com") && mails.contains("amy@example.com"));
    let mut leaks = Vec::new();
    for (name, canary) in &canaries {
        assert!(canary.len() >= 12, "{name}: {canary}");
        let places = [
            ("the log of web", &of_web),
            ("the log of the worker", &of_worker),
            ("the database", &stored),
            ("what commands say", &said),
        ];
        for (place, text) in places {
            for form in forms(canary) {
                if text.contains(&form) {
                    leaks.push(format!("{name} in {place}"));
                }
            }
        }
        let mailed = *name == "a mailed link";
        if !mailed && forms(canary).iter().any(|form| mails.contains(form)) {
            leaks.push(format!("{name} in a mail"));
        }
    }
    assert!(leaks.is_empty(), "{leaks:#?}");
}

#[test]
fn canaries_are_found_however_they_are_written() {
    for text in ["x canary/1 y", "x 63616e6172792f31 y", "x Y2FuYXJ5LzE= y", "x canary%2F1 y"] {
        assert!(forms("canary/1").iter().any(|form| text.contains(form)), "{text}");
    }
    assert!(!forms("canary/1").iter().any(|form| "canary/2".contains(form)));
}
