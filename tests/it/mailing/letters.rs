//! What stands on a mail, as it arrives, and where mails can go.

use std::path::Path;

use bgfiles::{
    auth_token::Role,
    mail::{Letterhead, Mailer},
};
use mail_parser::MessageParser;
use serde_json::json;

use super::{mailed_by, state_of_notice};
use crate::support::{Caller, Kind, TestApp, both, smtp::Smtp};

/// Mails that go into a folder, with a letterhead.
fn to_folder(folder: &Path, from: &str, letterhead: Letterhead<'_>) -> Mailer {
    let url = url::Url::from_file_path(folder).unwrap();
    Mailer::open(url.as_str(), from).unwrap().with(letterhead).unwrap()
}

/// The mails of a folder, as bytes.
fn in_folder(folder: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| std::fs::read(path).unwrap()).collect()
}

/// An app that sends by a server, and the server.
async fn by_server(app: &TestApp, options: &[&str]) -> (TestApp, Smtp) {
    let smtp = Smtp::start(app.dir.path().join("smtp"), options);
    let url = format!("smtp://127.0.0.1:{}?tls=none", smtp.port);
    let mailer = Mailer::open(&url, "files@bücher.example").unwrap();
    (mailed_by(app.kind, mailer).await, smtp)
}

fn recipients(smtp: &Smtp) -> Vec<String> {
    let files = std::fs::read_dir(&smtp.folder).unwrap().map(|entry| entry.unwrap().path());
    let to = files.filter(|path| path.extension().is_some_and(|e| e == "to"));
    to.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

async fn finished_for(app: &TestApp, email: &str) {
    let mut new = TestApp::new_request("hello", "");
    new.requester.email = email.into();
    let row = app.add(new).await;
    app.dispatch(row.id).await;
    app.deliver_notices().await;
}

both!(domains_in_their_own_script_go_out_as_ascii);
async fn domains_in_their_own_script_go_out_as_ascii(app: TestApp) {
    let (app, smtp) = by_server(&app, &["--ascii"]).await;
    finished_for(&app, "amy@пример.example").await;
    assert_eq!(state_of_notice(&app).await, ("sent".into(), 1));
    assert_eq!(recipients(&smtp), ["amy@xn--e1afmkfd.example"]);
    let message = smtp.messages().remove(0);
    assert!(message.is_ascii(), "{}", String::from_utf8_lossy(&message));
    let text = String::from_utf8(message).unwrap();
    assert!(text.contains("To: amy@xn--e1afmkfd.example\r\n"), "{text}");
    assert!(text.contains("files@xn--bcher-kva.example"), "{text}");
}

both!(other_scripts_before_the_at_need_a_server_that_takes_them);
async fn other_scripts_before_the_at_need_a_server_that_takes_them(app: TestApp) {
    let (able, smtp) = by_server(&app, &[]).await;
    finished_for(&able, "почта@пример.example").await;
    assert_eq!(state_of_notice(&able).await, ("sent".into(), 1));
    assert_eq!(recipients(&smtp), ["почта@xn--e1afmkfd.example"]);

    let old = TestApp::new(app.kind).await;
    let (old, smtp) = by_server(&old, &["--ascii"]).await;
    finished_for(&old, "почта@пример.example").await;
    assert_eq!(state_of_notice(&old).await, ("failed".into(), 1), "given up at once");
    assert_eq!(smtp.messages().len(), 0);
    let why = "SELECT count(*) FROM bgfiles_notices WHERE error LIKE '%does not offer SMTPUTF8%'";
    assert_eq!(old.count(why).await, 1);
}

both!(what_cannot_be_mailed_is_refused_when_it_is_given);
async fn what_cannot_be_mailed_is_refused_when_it_is_given(app: TestApp) {
    let base = format!("http://{}", app.serve().await);
    let shop = Caller::new(&app, &base, "shop", Role::Service).await;
    for (email, why) in [
        ("amy", "has no @"),
        ("amy@", "has no domain after the @"),
        ("@example.com", "has something before the @ that no address has"),
        ("amy@example.com\r\nBcc: eve@example.com", "has a control character"),
        (&format!("amy@{}.example", "a".repeat(250)), "is longer than 254 characters"),
    ] {
        let body = json!({"file_type": "hello", "requester": {"id": "amy", "email": email}});
        let (status, problem) = shop.post("/api/requests", body).await;
        let message = format!("is not an e-mail address: it {why}");
        let expected = json!([{"field": "requester.email", "message": message}]);
        assert_eq!((status, &problem["errors"]), (422, &expected), "{email}");
    }
    let body =
        json!({"file_type": "hello", "requester": {"id": "amy", "email": "a@пример.example"}});
    assert_eq!(shop.post("/api/requests", body).await.0, 202);
}

both!(what_cannot_be_mailed_and_came_by_sql_is_given_up_at_once);
async fn what_cannot_be_mailed_and_came_by_sql_is_given_up_at_once(app: TestApp) {
    let row = app.request("hello", "").await;
    app.sql("UPDATE bgfiles_file_requests SET requester_email = 'amy at home'").await;
    app.dispatch(row.id).await;
    assert_eq!(app.deliver_notices().await, 1);
    assert_eq!(state_of_notice(&app).await, ("failed".into(), 1));
    let why = "SELECT count(*) FROM bgfiles_notices WHERE error LIKE '%it has no @%'";
    assert_eq!(app.count(why).await, 1);
    // Whoever asked for it sees why.
    app.add_user("amy", Role::User, Some("correct horse battery staple")).await;
    let base = format!("http://{}", app.serve().await);
    let session = app.toolbox.begin_session("amy", None).await.unwrap();
    let page = app.http.get(format!("{base}/files/{}", row.id));
    let page = page.header("cookie", format!("bgfiles_session={}", session.expose()));
    let page = page.send().await.unwrap().text().await.unwrap();
    assert!(page.contains("amy at home: the address has no @"), "{page}");
}

both!(a_mail_has_the_letterhead_that_was_set);
async fn a_mail_has_the_letterhead_that_was_set(app: TestApp) {
    let folder = app.dir.path().join("mails");
    let letterhead = Letterhead {
        name: "Bücher & Söhne",
        reply_to: "Help <help@bücher.example>",
        footer: "Bücher & Söhne, Main Street 1 – questions? Just answer.",
    };
    let mailer = to_folder(&folder, "files@example.com", letterhead);
    let app = mailed_by(app.kind, mailer).await;
    for (file_type, language) in [("hello", "de-CH"), ("permanent", "nl")] {
        let mut new = TestApp::new_request(file_type, "");
        new.language = Some(language.into());
        let row = app.add(new).await;
        app.dispatch(row.id).await;
    }
    assert_eq!(app.deliver_notices().await, 2);
    let mails = in_folder(&folder);
    assert_eq!(mails.len(), 2);
    let mut languages = Vec::new();
    for bytes in &mails {
        let mail = MessageParser::default().parse(bytes).unwrap();
        let from = mail.from().unwrap().first().unwrap();
        assert_eq!(
            (from.name(), from.address()),
            (Some("Bücher & Söhne"), Some("files@example.com"))
        );
        let reply = mail.reply_to().unwrap().first().unwrap();
        assert_eq!(
            (reply.name(), reply.address()),
            (Some("Help"), Some("help@xn--bcher-kva.example"))
        );
        let raw = |name: &'static str| mail.header_raw(name).map(str::trim);
        assert_eq!(raw("Auto-Submitted"), Some("auto-generated"));
        assert_eq!(raw("X-Auto-Response-Suppress"), Some("All"));
        languages.push(raw("Content-Language").unwrap().to_owned());
        let text = mail.body_text(0).unwrap();
        assert!(text.trim_end().ends_with("questions? Just answer."), "{text}");
        assert!(mail.body_html(0).unwrap().contains("B\u{fc}cher &amp; S\u{f6}hne, Main Street 1"));
        // No byte of the source hides an address.
        assert!(!String::from_utf8_lossy(bytes).contains("&#x2f;"));
    }
    languages.sort();
    assert_eq!(languages, ["de", "nl"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_html_part_has_a_preheader_and_the_address_to_copy_in_each_language() {
    let app = TestApp::new(Kind::Sqlite).await;
    for (language, copy, once) in [
        ("en", "Or copy this address into a browser:", "You can download it once."),
        ("nl", "Of kopieer dit adres naar een browser:", "U kunt het één keer downloaden."),
        ("de", "Oder kopieren Sie diese Adresse", "Sie können die Datei einmal herunterladen."),
        ("fr", "Ou copiez cette adresse", "Vous pouvez télécharger le fichier une fois."),
    ] {
        let mut new = TestApp::new_request("once", "");
        new.language = Some(language.into());
        let row = app.add(new).await;
        app.dispatch(row.id).await;
        app.deliver_notices().await;
        let mail = app.toolbox.mailer().sent().pop().unwrap();
        assert_eq!(mail.language, language);
        let url = mail.text.split_whitespace().find(|word| word.contains("/d/")).unwrap();
        let html = mail.html.unwrap();
        assert_eq!(html.matches(url).count(), 2, "the button's, and the one to copy: {html}");
        assert!(html.contains(copy) && html.contains(once), "{language}: {html}");
        assert!(mail.text.contains(once), "{language}: {}", mail.text);
        let body = html.split_once("<body").unwrap().1;
        let first = body.split_once("<div style=\"display:none").unwrap();
        assert!(!first.0.contains("<p"), "first of all");
        let hidden = first.1.split_once('>').unwrap().1.split_once("</div>").unwrap().0;
        assert!(hidden.contains(&app.row(row.id).await.filename), "{hidden}");
    }
}

#[test]
fn a_letterhead_brings_no_header_of_its_own() {
    let open = |from: &str| Mailer::open("memory:", from);
    for (letterhead, setting) in [
        (Letterhead { name: "A\r\nBcc: eve@example.com", ..Default::default() }, "MAIL_NAME"),
        (Letterhead { footer: "A\nB", ..Default::default() }, "MAIL_FOOTER"),
        (Letterhead { reply_to: "a@b.c\r\nX: y", ..Default::default() }, "MAIL_REPLY_TO"),
        (Letterhead { reply_to: "nobody", ..Default::default() }, "MAIL_REPLY_TO"),
    ] {
        let error = open("files@example.com").unwrap().with(letterhead).unwrap_err().to_string();
        assert!(error.contains(setting), "{error}");
    }
    assert!(open("A\r\nBcc: eve@example.com <files@example.com>").is_err());
}

both!(a_name_in_the_sender_wins);
async fn a_name_in_the_sender_wins(app: TestApp) {
    let folder = app.dir.path().join("mails");
    let letterhead = Letterhead { name: "Other", ..Default::default() };
    let mailer = to_folder(&folder, "Own <files@example.com>", letterhead);
    let app = mailed_by(app.kind, mailer).await;
    finished_for(&app, "amy@example.com").await;
    let mails = in_folder(&folder);
    let mail = MessageParser::default().parse(&mails[0]).unwrap();
    assert_eq!(mail.from().unwrap().first().unwrap().name(), Some("Own"));
    assert!(mail.reply_to().is_none());
}
