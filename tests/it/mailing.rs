//! Mails: what they say, and a real SMTP server that takes them.

mod kept;
mod letters;

use std::{path::Path, process::Command, time::Duration};

use bgfiles::{
    Clock,
    mail::{Mail, Mailer},
    templates::Templates,
};
use chrono::TimeDelta;
use mail_parser::MessageParser;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{Kind, TestApp, app::Parts, both, child::Process, eventually, smtp::Smtp};

async fn mailed_by(kind: Kind, mailer: Mailer) -> TestApp {
    TestApp::with(kind, Parts { mailer: Some(mailer), ..Parts::default() }).await
}

async fn state_of_notice(app: &TestApp) -> (String, i64) {
    let status = app.count("SELECT count(*) FROM bgfiles_notices WHERE status = 'sent'").await;
    let failed = app.count("SELECT count(*) FROM bgfiles_notices WHERE status = 'failed'").await;
    let attempts = app.count("SELECT CAST(max(attempts) AS bigint) FROM bgfiles_notices").await;
    let name = match (status, failed) {
        (1, 0) => "sent",
        (0, 1) => "failed",
        _ => "pending",
    };
    (name.into(), attempts)
}

both!(ready_and_failed_mails_in_the_requesters_language);
async fn ready_and_failed_mails_in_the_requesters_language(app: TestApp) {
    let mut new = TestApp::new_request("rows", "rows=2");
    new.language = Some("nl-BE".into());
    new.timezone = Some("Europe/Brussels".into());
    let row = app.add(new).await;
    app.dispatch(row.id).await;
    let failing = app.request("permanent", "").await;
    app.dispatch(failing.id).await;
    assert_eq!(app.deliver_notices().await, 2);
    assert_eq!(app.deliver_notices().await, 0);
    let sent = app.toolbox.mailer().sent();
    let ready = sent.iter().find(|mail| mail.message_id.contains(".ready@")).unwrap();
    assert_eq!(ready.to, ["amy@example.com"]);
    assert_eq!(ready.subject, "Uw bestand staat klaar: rows.csv");
    assert!(ready.text.contains("2026-03-02 13:00 CET"), "{}", ready.text);
    assert!(ready.text.contains("2 rijen"));
    let url = ready.text.split_whitespace().find(|word| word.contains("/d/")).unwrap();
    let token = url.rsplit('/').next().unwrap();
    assert_eq!(app.toolbox.evaluate_link(token, None).await.unwrap().id, row.id);
    assert!(ready.html.as_deref().unwrap().contains(&format!("href=\"{url}\"")));
    let failed = sent.iter().find(|mail| mail.message_id.contains(".failed@")).unwrap();
    assert!(failed.text.contains("there is no data for that year"));
    assert!(failed.text.contains(&failing.id.to_string()));
    assert!(failed.message_id.ends_with("@files.example.com"));
}

both!(nobody_to_tell_and_nobody_who_wants_to_know);
async fn nobody_to_tell_and_nobody_who_wants_to_know(app: TestApp) {
    let mut quiet = TestApp::new_request("hello", "");
    quiet.notify = Some(false);
    let quiet = app.add(quiet).await;
    let mut nobody = TestApp::new_request("hello", "");
    nobody.requester.email = String::new();
    let nobody = app.add(nobody).await;
    app.dispatch(quiet.id).await;
    app.dispatch(nobody.id).await;
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_notices").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_are_overridable_by_folder_and_file_type() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("mail/hello")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "mail/hello/ready.en.txt",
        "Subject: Special {{ filename }}\n\nspecial {{ download_url }}",
    );
    write("mail/ready.en.txt", "Subject: Common\n\ncommon");
    let templates = Templates::new(Some(folder.path().to_owned()));
    templates.check(Some(&folder.path().to_owned())).unwrap();
    let app = TestApp::with(Kind::Sqlite, Parts { templates, ..Parts::default() }).await;
    app.finished("hello", "").await;
    app.finished("rows", "").await;
    app.deliver_notices().await;
    let subjects: Vec<_> =
        app.toolbox.mailer().sent().into_iter().map(|mail| mail.subject).collect();
    assert!(subjects.contains(&"Special hello.txt".into()) && subjects.contains(&"Common".into()));
    write("mail/broken.en.txt", "{% if %}");
    let error = Templates::new(Some(folder.path().to_owned()));
    let error = error.check(Some(&folder.path().to_owned())).unwrap_err().to_string();
    assert!(error.contains("mail/broken.en.txt"), "{error}");
}

both!(a_real_server_takes_it);
async fn a_real_server_takes_it(app: TestApp) {
    let smtp = Smtp::start(app.dir.path().join("smtp"), &[]);
    let url = format!("smtp://127.0.0.1:{}?tls=none", smtp.port);
    let app =
        mailed_by(app.kind, Mailer::open(&url, "Bösch & Co <files@example.com>").unwrap()).await;
    let mut new = TestApp::new_request("hello", "");
    new.filename = Some("Fußball\r\nBcc: mallory@example.com".into());
    new.description = Some("line\r\nX-Evil: 1\r\n\r\n<script>alert(1)</script>".into());
    let row = app.add(new).await;
    app.dispatch(row.id).await;
    app.deliver_notices().await;
    assert_eq!(state_of_notice(&app).await, ("sent".into(), 1));
    let messages = smtp.messages();
    assert_eq!(messages.len(), 1);
    let mail = MessageParser::default().parse(&messages[0]).unwrap();
    assert_eq!(mail.to().unwrap().first().unwrap().address(), Some("amy@example.com"));
    assert_eq!(mail.from().unwrap().first().unwrap().name(), Some("Bösch & Co"));
    assert!(mail.bcc().is_none() && mail.header("X-Evil").is_none());
    assert!(mail.subject().unwrap().contains("FußballBcc: mallory"));
    assert_eq!(mail.header_raw("Auto-Submitted").map(str::trim), Some("auto-generated"));
    let id = mail.message_id().unwrap();
    assert!(id.starts_with(&row.id.0.simple().to_string()), "{id}");
    assert!(mail.body_text(0).unwrap().contains("/d/"));
    let html = mail.body_html(0).unwrap();
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script>"));
}

both!(temporary_refusals_are_tried_again_with_the_same_message_id);
async fn temporary_refusals_are_tried_again_with_the_same_message_id(app: TestApp) {
    let smtp = Smtp::start(app.dir.path().join("smtp"), &["--reject", "451", "2"]);
    let url = format!("smtp://127.0.0.1:{}?tls=none", smtp.port);
    let app = mailed_by(app.kind, Mailer::open(&url, "files@example.com").unwrap()).await;
    let row = app.finished("hello", "").await;
    for attempt in 1..=2 {
        assert_eq!(app.deliver_notices().await, 1);
        assert_eq!(state_of_notice(&app).await, ("pending".into(), attempt));
        assert_eq!(app.deliver_notices().await, 0, "not at once");
        app.advance(60);
    }
    app.deliver_notices().await;
    assert_eq!(state_of_notice(&app).await, ("sent".into(), 3));
    assert_eq!(app.row(row.id).await, row, "trouble with mail never touches the file");
    assert_eq!(smtp.messages().len(), 1);
}

both!(permanent_refusals_are_final_and_silence_lasts_a_day);
async fn permanent_refusals_are_final_and_silence_lasts_a_day(app: TestApp) {
    let smtp = Smtp::start(app.dir.path().join("smtp"), &["--reject", "550", "9"]);
    let url = format!("smtp://127.0.0.1:{}?tls=none", smtp.port);
    let refused = mailed_by(app.kind, Mailer::open(&url, "files@example.com").unwrap()).await;
    let row = refused.finished("hello", "").await;
    refused.deliver_notices().await;
    assert_eq!(state_of_notice(&refused).await, ("failed".into(), 1));
    assert_eq!(refused.row(row.id).await, row);
    // Nobody listens: lettre does not call that temporary, we do.
    let silent = mailed_by(
        app.kind,
        Mailer::open("smtp://127.0.0.1:9?tls=none", "files@example.com").unwrap(),
    )
    .await;
    silent.finished("hello", "").await;
    let mut tries = 0;
    for _ in 0..100 {
        tries += silent.deliver_notices().await;
        silent.toolbox.clock().advance(TimeDelta::minutes(16));
    }
    assert_eq!(state_of_notice(&silent).await.0, "failed");
    assert!((15..60).contains(&tries), "{tries} tries in a day");
}

/// A small mail.
fn mail(message_id: &str) -> Mail {
    Mail {
        to: vec!["amy@example.com".into()],
        subject: "x".into(),
        text: "x".into(),
        html: None,
        message_id: message_id.into(),
        language: String::new(),
    }
}

/// Makes a certificate for `localhost` that is its own authority; the paths of it and of its key.
pub fn certificate(folder: &Path) -> (String, String) {
    let path = |name: &str| folder.join(name).display().to_string();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let made = Command::new("openssl")
        .args("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost".split(' '))
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &key, "-out", &cert])
        .output()
        .unwrap();
    assert!(made.status.success());
    (cert, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starttls_and_login() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, key) = certificate(dir.path());
    let smtp = Smtp::start(
        dir.path().join("mail"),
        &["--starttls", &ca, &key, "--auth", "user", "p@ss/word"],
    );
    let send = async |url: String| {
        let mailer = Mailer::open(&url, "files@example.com").unwrap();
        mailer.send(&mail("1@example.com"), Clock::system().now()).await
    };
    let port = smtp.port;
    send(format!("smtp://user:p%40ss%2Fword@localhost:{port}?ca={ca}")).await.unwrap();
    assert_eq!(smtp.messages().len(), 1);
    let wrong = send(format!("smtp://user:wrong@localhost:{port}?ca={ca}")).await.unwrap_err();
    assert!(wrong.is_retryable(), "an operator can mend a password within the day: {wrong}");
    assert!(!wrong.to_string().contains("wrong@"), "no password in errors");
    // An unknown authority, and no TLS at all.
    for ending in ["", "?tls=none"] {
        let url = format!("smtp://user:p%40ss%2Fword@localhost:{port}{ending}");
        let error = send(url).await.unwrap_err();
        assert!(error.is_retryable(), "{ending}: {error}");
    }
    assert_eq!(smtp.messages().len(), 1);
}

/// How a server of ours answers.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// It answers nothing before it has heard everything up to DATA.
    Groups,
    /// So too, and refuses the recipient, but goes on.
    Refuses,
    /// One command at a time, and as OpenSMTPD does it: after a second EHLO it takes nothing.
    OneByOne,
}

/// Takes one connection; what it heard after each of its answers.
async fn listen(manner: Manner) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"220 here\r\n").await.unwrap();
        let (mut all, mut buffer, mut in_message) = (Vec::<String>::new(), Vec::new(), false);
        loop {
            // Whatever comes without an answer.
            let more = socket.read_buf(&mut buffer);
            match tokio::time::timeout(Duration::from_millis(200), more).await {
                Ok(Ok(0)) | Ok(Err(_)) => return all,
                Ok(Ok(_)) => continue,
                Err(_) if buffer.is_empty() => continue,
                Err(_) => {}
            }
            let said = String::from_utf8(std::mem::take(&mut buffer)).unwrap();
            let answer = match &said[..4] {
                _ if in_message => {
                    in_message = false;
                    "250 taken\r\n"
                }
                _ if manner == Manner::OneByOne
                    && all
                        .iter()
                        .chain([&said])
                        .filter(|said| said.starts_with("EHLO"))
                        .count()
                        > 1 =>
                {
                    "503 5.5.1 Invalid command: Already identified\r\n"
                }
                "EHLO" if manner == Manner::OneByOne => "250-here\r\n250 8BITMIME\r\n",
                "EHLO" => "250-here\r\n250-Pipelining\r\n250 8BITMIME\r\n",
                "MAIL" if said.ends_with("DATA\r\n") => {
                    in_message = true;
                    match manner {
                        Manner::Refuses => "250 ok\r\n550 no such box\r\n354 go on\r\n",
                        _ => "250 ok\r\n250 ok\r\n354 go on\r\n",
                    }
                }
                "DATA" => {
                    in_message = true;
                    "354 go on\r\n"
                }
                _ => "250 ok\r\n",
            };
            all.push(said);
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, heard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_come_together_where_the_server_takes_that() {
    for (manner, lines) in [(Manner::Groups, 1), (Manner::OneByOne, 3)] {
        let (port, heard) = listen(manner).await;
        let url = format!("smtp://127.0.0.1:{port}?tls=none");
        let mailer = Mailer::open(&url, "files@example.com").unwrap();
        for number in ["1@example.com", "2@example.com"] {
            let mail = Mail { text: ".\r\n..\r\nx".into(), ..mail(number) };
            mailer.send(&mail, Clock::system().now()).await.unwrap();
        }
        drop(mailer);
        let heard = heard.await.unwrap();
        let [first, rest @ ..] = &*heard else { panic!("{heard:?}") };
        assert!(first.starts_with("EHLO"), "{first:?}");
        assert_eq!(rest.len(), 2 * (lines + 1), "{rest:?}");
        for mail in rest.chunks(lines + 1) {
            let [commands @ .., message] = mail else { unreachable!() };
            assert_eq!(
                commands.concat(),
                "MAIL FROM:<files@example.com>\r\nRCPT TO:<amy@example.com>\r\nDATA\r\n"
            );
            assert!(message.ends_with("\r\n..\r\n...\r\nx\r\n.\r\n"), "{message:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_recipient_gets_nothing_even_if_the_server_goes_on() {
    let (port, heard) = listen(Manner::Refuses).await;
    let mailer =
        Mailer::open(&format!("smtp://127.0.0.1:{port}?tls=none"), "files@example.com").unwrap();
    let error = mailer.send(&mail("1@example.com"), Clock::system().now()).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("no such box"), "{error}");
    // It hangs up: whatever it said would be the message.
    let heard = heard.await.unwrap();
    assert_eq!(heard.len(), 2, "{heard:?}");
}

/// Greets everybody with `greeting`, and gives these answers one after the other, the last for ever.
async fn answers(greeting: &'static str, answers: &'static [&'static str]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (mut heard, mut number) = ([0; 4096], 0);
            socket.write_all(greeting.as_bytes()).await.unwrap();
            while matches!(socket.read(&mut heard).await, Ok(1..)) {
                let answer = answers[number.min(answers.len() - 1)];
                number += 1;
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_refuses_before_any_message_says_nothing_of_the_message() {
    let servers: [(_, &[_]); 5] = [
        ("554 no service here\r\n", &[""]),
        ("220 here\r\n", &["550 your name is not right\r\n"]),
        ("220 here\r\n", &["502-not\r\n502 this\r\n"]),
        ("220 here\r\n", &["500 Expected MAIL FROM:<addr> or QUIT\r\n"]),
        ("HTTP/1.1 400 Bad Request\r\n", &[""]),
    ];
    for (greeting, said) in servers {
        let port = answers(greeting, said).await;
        let url = format!("smtp://127.0.0.1:{port}?tls=none");
        let mailer = Mailer::open(&url, "files@example.com").unwrap();
        let error = mailer.send(&mail("1@example.com"), Clock::system().now()).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_offers_no_login_of_ours_is_told_what_it_offers() {
    let offers: [(&[_], _); 2] = [
        (&["250-here\r\n250-AUTH GSSAPI CRAM-MD5\r\n250 AUTH=GSSAPI\r\n"], "GSSAPI, CRAM-MD5"),
        (&["250-here\r\n250 8BITMIME\r\n"], "no login at all on this connection"),
    ];
    for (said, told) in offers {
        let port = answers("220 here\r\n", said).await;
        let url = format!("smtp://user:secret@127.0.0.1:{port}?tls=none");
        let mailer = Mailer::open(&url, "files@example.com").unwrap();
        let error = mailer.send(&mail("1@example.com"), Clock::system().now()).await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("(PLAIN, LOGIN); it offers: {told}")), "{text}");
    }
}

/// What comes in the open behind the reply to STARTTLS would be taken for the encrypted server's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_believed_that_was_slipped_in_before_the_encryption() {
    let said = &["250-here\r\n250 STARTTLS\r\n", "220 go\r\n250 slipped in\r\n"];
    let port = answers("220 here\r\n", said).await;
    let mailer = Mailer::open(&format!("smtp://127.0.0.1:{port}"), "files@example.com").unwrap();
    let error = mailer.send(&mail("1@example.com"), Clock::system().now()).await.unwrap_err();
    assert!(error.to_string().contains("in the open after STARTTLS"), "{error}");
}

/// A small server that was written by others, and takes nothing but what it expects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn msmtpd_takes_mails() {
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mails = dir.path().join("mails");
    let child = Command::new("msmtpd")
        .args(["--interface=127.0.0.1", &format!("--port={port}")])
        .arg(format!("--command=cat >>{} #", mails.display()))
        .spawn()
        .expect("tests/strangers/install mail");
    let _server = Process(child);
    eventually("it listens", 10, async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
    let url = format!("smtp://127.0.0.1:{port}?tls=none");
    let mailer = Mailer::open(&url, "files@example.com").unwrap();
    for number in 1..=3 {
        let mail = mail(&format!("{number}@example.com"));
        mailer.send(&mail, Clock::system().now()).await.unwrap();
    }
    let taken = std::fs::read_to_string(&mails).unwrap();
    for number in 1..=3 {
        assert_eq!(taken.matches(&format!("Message-ID: <{number}@example.com>")).count(), 1);
    }
}

#[test]
fn mail_settings_are_checked() {
    let cases = [
        "imap://x",
        "nonsense",
        "smtp://",
        "smtp://host?tls=maybe",
        "smtps://host?tls=none",
        "smtp://host?ca=/no/such/file",
    ];
    for url in cases {
        let error = Mailer::open(url, "a@example.com").unwrap_err().to_string();
        assert!(error.starts_with("BGFILES_MAIL:"), "{url}: {error}");
    }
    assert!(
        Mailer::open("memory:", "not a sender")
            .unwrap_err()
            .to_string()
            .contains("BGFILES_MAIL_FROM")
    );
}
