//! Names: of files in headers, of objects in stores, of users; and cells that are formulas.

use std::collections::BTreeMap;

use bgfiles::{
    Error,
    auth_token::{Role, check_username},
    file_request::filename::{content_disposition, safe},
    storage::StorageKey,
    toolbox::NewUser,
    web::{WebState, serve_file},
};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;

use super::{answers, fresh, patient, say};
use crate::{
    declared,
    support::{Caller, Kind, TestApp, both},
};

/// A `Content-Disposition` as RFC 6266 reads it: the kind, and the parameters by name. Anything that
/// the grammar does not know fails.
fn parse(header: &str) -> (String, BTreeMap<String, String>) {
    assert!(header.bytes().all(|b| (0x20..0x7f).contains(&b)), "{header:?}");
    let (kind, mut rest) = header.split_once("; ").unwrap_or((header, ""));
    let mut parameters = BTreeMap::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').unwrap();
        let value = match after.strip_prefix('"') {
            // No backslashes are written, so none are read.
            Some(quoted) => {
                let (value, after) = quoted.split_once('"').unwrap();
                assert!(!value.contains('\\'), "{header:?}");
                rest = after.strip_prefix("; ").unwrap_or(after);
                value.to_owned()
            }
            None => {
                let (value, after) = after.split_once("; ").unwrap_or((after, ""));
                rest = after;
                let text = value.strip_prefix("UTF-8''").unwrap();
                let escaped = |b: u8| b.is_ascii_alphanumeric() || b"!#$&+-.^_`|~%".contains(&b);
                assert!(text.bytes().all(escaped), "{header:?}");
                percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
            }
        };
        assert!(parameters.insert(name.to_owned(), value).is_none(), "{header:?}");
    }
    assert!(parameters.keys().all(|name| ["filename", "filename*"].contains(&name.as_str())));
    (kind.to_owned(), parameters)
}

/// What a name may not have: paths, quotes, line breaks, and what turns text around.
fn is_plain(name: &str) -> bool {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !name.chars().any(|c| c.is_control() || "/\\\";".contains(c) || turns(c))
}

fn check(header: &str, name: &str) {
    let (kind, parameters) = parse(header);
    assert_eq!(kind, "attachment");
    let name = safe(name);
    let shown = parameters.get("filename*").or(parameters.get("filename")).unwrap();
    assert_eq!(*shown, name);
    assert!(parameters.values().all(|name| is_plain(name)), "{header:?}");
    assert!(parameters["filename"].is_ascii() && !parameters["filename"].is_empty());
}

#[test]
fn every_character_in_a_file_name() {
    for c in '\0'..=char::MAX {
        let name = format!("a{c}b.txt");
        check(&content_disposition(&name, true), &name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_character_in_the_header_of_a_download() {
    let app = TestApp::new(Kind::Sqlite).await;
    let state = WebState::new(app.toolbox.clone());
    let mut row = app.finished("hello", "").await;
    // A row that somebody wrote by hand may have any name.
    let all: Vec<char> = ('\0'..=char::MAX).collect();
    for chars in all.chunks(200) {
        row.filename = format!("x{}", chars.iter().collect::<String>());
        let answer = serve_file(&state, &Method::HEAD, &HeaderMap::new(), &row).await.unwrap();
        assert_eq!(answer.headers().get_all("content-disposition").iter().count(), 1);
        check(answer.headers()["content-disposition"].to_str().unwrap(), &row.filename);
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    }
}

both!(file_names_that_callers_give);
async fn file_names_that_callers_give(app: TestApp) {
    let base = patient(&app).await;
    let shop = Caller { http: fresh(), ..Caller::new(&app, &base, "shop", Role::Service).await };
    let low: Vec<String> =
        (0x01..0x100u32).filter_map(char::from_u32).map(|c| format!("n{c}m.txt")).collect();
    let evil = [
        "x\r\nSet-Cookie: a=b",
        "x\"; filename=\"y.exe",
        "x\"; filename*=UTF-8''y.exe",
        "x; attachment",
        "x\\\"y",
        "../../../etc/passwd",
        "..\\..\\x",
        "C:\\x.txt",
        "%0d%0aSet-Cookie: a=b",
        "%22; x",
        "UTF-8''x",
        "\u{202e}txt.exe",
        "x\u{2028}y",
        "x\u{85}y",
        "\u{feff}x",
        "x\u{ff0f}y",
        "x\u{ff02}y",
        "x\u{ff1b}y",
        "x\u{e000}y",
        "x\u{10ffff}y",
        "e\u{301}\u{301}\u{301}x",
        "👨‍👩‍👧‍👦x",
        "x\u{0}y",
    ];
    for name in low.iter().map(String::as_str).chain(evil) {
        let body = json!({"file_type": "hello", "filename": name, "deliver": "now"});
        let answer = shop.call("POST", "/api/requests").json(&body).send().await.unwrap();
        if name.contains('\0') {
            assert_eq!(answer.status(), 422);
            continue;
        }
        assert_eq!(answer.status(), 200, "{name:?}");
        let headers = answer.headers();
        assert!(headers.get("set-cookie").is_none(), "{name:?}");
        check(headers["content-disposition"].to_str().unwrap(), name);
    }
}

both!(keys_of_objects_lead_nowhere_else);
async fn keys_of_objects_lead_nowhere_else(app: TestApp) {
    let id = "6f8ac0ea-2a0c-4d6c-9d0c-6b1d2f6a5d10";
    for key in [
        "",
        "/",
        "requests",
        "requests/",
        "requests//1",
        "requests/../../etc/passwd",
        "../requests/x/1",
        "/etc/passwd",
        "requests/x/1",
        "file:///etc/passwd",
        &format!("/requests/{id}/1"),
        &format!("requests/{id}"),
        &format!("requests/{id}/"),
        &format!("requests/{id}/../1"),
        &format!("requests/{id}/1/.."),
        &format!("requests/{id}/1\0"),
        &format!("requests/{id}/0x1"),
        &format!("requests/{id}/99999999999999999999"),
        &format!("requests/../requests/{id}/1"),
        &format!("requests/{id}/%2e%2e"),
        &format!("Requests/{id}/1"),
        &format!("requests\\{id}\\1"),
        &format!("requests/{id}/1/x"),
        &format!(" requests/{id}/1"),
    ] {
        assert!(key.parse::<StorageKey>().is_err(), "{key:?}");
    }
    // However a good key is written, its place is the plain one.
    let braced = format!("requests/{{{}}}/+1", id.to_uppercase());
    if let Ok(key) = braced.parse::<StorageKey>() {
        assert_eq!(key.to_string(), format!("requests/{id}/1"));
    }
    // A row that somebody changed by hand.
    let outside = app.dir.path().join("outside");
    std::fs::write(&outside, "not to be seen").unwrap();
    let base = format!("http://{}", app.serve().await);
    let row = app.finished("hello", "").await;
    let path = app.link(&row);
    app.sql("UPDATE bgfiles_file_requests SET storage_key = 'requests/../../outside', sha256 = 'x', size = 14").await;
    let answer = app.http.get(format!("{base}{path}")).send().await.unwrap();
    assert!(answer.status().as_u16() >= 400);
    assert!(!answer.text().await.unwrap().contains("not to be seen"));
    // Names in addresses and in what callers ask for.
    let root = Caller { http: fresh(), ..Caller::new(&app, &base, "root", Role::Staff).await };
    let address = base.strip_prefix("http://").unwrap().parse().unwrap();
    for up in
        ["..", "../..", "..%2F..", "%2e%2e%2f%2e%2e", "..%5c..", "....//", "%2e%2e", ".%00", "..;"]
    {
        for path in [
            "/static/UP/Cargo.toml",
            "/static/UP",
            "/d/UP/outside",
            "/g/UP/outside",
            "/new/UP/outside",
            "/dev/mail/UP/outside",
            "/api/requests/UP",
            "/lock_tokens/UP/x/1/",
            "/UP/outside",
        ] {
            let path = path.replace("UP", up);
            let ask = format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Token {}\r\nConnection: close\r\n\r\n",
                root.secret
            );
            let heard = say(address, ask.as_bytes()).await;
            let status = answers(&heard)[0];
            assert!((300..500).contains(&status), "{path}: {heard}");
            assert!(!heard.contains("not to be seen") && !heard.contains("[package]"), "{path}");
        }
        for file_type in [up.to_owned(), format!("{up}/hello"), format!("hello/{up}")] {
            assert_eq!(
                root.post("/api/requests", json!({"file_type": file_type})).await.0,
                422,
                "{file_type}"
            );
        }
        let body = json!({"file_type": "hello", "filename": format!("{up}/{up}/x"), "language": format!("../{up}"), "format": up});
        assert_eq!(root.post("/api/requests", body).await.0, 422);
    }
    let row = app
        .add({
            let mut new = TestApp::new_request("hello", "");
            new.filename = Some("../../../outside".into());
            new
        })
        .await;
    app.dispatch(row.id).await;
    let key = app.row(row.id).await.storage_key.unwrap();
    assert_eq!(key, format!("requests/{}/1", row.id));
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "not to be seen");
}

both!(users_whose_names_look_alike);
async fn users_whose_names_look_alike(app: TestApp) {
    let create = async |name: &str| {
        let new = NewUser {
            username: name.into(),
            email: String::new(),
            role: Role::User,
            password: None,
        };
        app.toolbox.create_user(new).await
    };
    // The same but for case and form: taken.
    create("Paypal").await.unwrap();
    for same in ["paypal", "PAYPAL", "ｐａｙｐａｌ", "𝐩𝐚𝐲𝐩𝐚𝐥", "ⓟⓐⓨⓟⓐⓛ", "ᵖaypal", "Paypaｌ"]
    {
        assert!(
            matches!(create(same).await, Err(Error::Conflict { code: "user_exists", .. })),
            "{same}"
        );
    }
    // What nobody sees, and what turns text around: no name at all.
    for unseen in [
        "pay\u{200b}pal",
        "paypal\u{200d}",
        "\u{feff}paypal",
        "pay\u{ad}pal",
        "pay\u{2060}pal",
        "paypal\u{fe0f}",
        "pay\u{34f}pal",
        "\u{202e}lapyap",
        "pay\u{2066}pal",
        "paypal\u{e0041}",
        "pay\u{180e}pal",
        "pay\u{3164}pal",
        "pay\u{115f}pal",
        "pay\u{2800}pal",
        "paypal\u{200e}",
        "pay\u{0}pal",
        "pay\npal",
        "paypal\u{a0}",
        " paypal",
        "",
    ] {
        assert!(matches!(create(unseen).await, Err(Error::Invalid(_))), "{unseen:?}");
    }
    // Letters of one script that pass for those of another: not within one name.
    for mixed in [
        "p\u{430}yp\u{430}l",
        "paypa\u{4cf}",
        "\u{3c1}aypal",
        "payp\u{251}l\u{430}",
        "ro\u{43e}t",
        "\u{405}hop",
        "adm\u{456}n",
    ] {
        assert!(matches!(create(mixed).await, Err(Error::Invalid(_))), "{mixed}");
    }
    // Names of people everywhere.
    for name in [
        "amy",
        "Amélie Poulain",
        "amy@example.com",
        "o'neill",
        "Jean-Luc",
        "user_1.2+x",
        "Вера",
        "вера 1",
        "Γιώργος",
        "محمد",
        "דוד",
        "राम",
        "山田太郎",
        "さくら",
        "サクラ商店",
        "김철수",
        "สมชาย",
        "Nazlı Işıl",
        "Đặng",
        "Łukasz",
        "svc:backup/2",
    ] {
        check_username(name).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// What a spreadsheet would run if it took it for a formula.
const FORMULAS: &[&str] = &[
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "=cmd|' /C calc'!A0",
    "=HYPERLINK(\"http://127.0.0.1:9/?x=\"&A1;\"ok\")",
    "-2+3+cmd|' /C calc'!A0",
    "＝1+1",
    "＋1",
    "－1",
    "＠SUM(A1)",
];

both!(no_cell_is_a_formula);
async fn no_cell_is_a_formula(app: TestApp) {
    let quote = |text: &str| text.replace('\'', "''");
    let rows: Vec<String> = FORMULAS
        .iter()
        .map(|text| match app.kind {
            Kind::Postgres => format!("SELECT '{}'::text AS \"=1+1\"", quote(text)),
            Kind::Sqlite => format!("SELECT '{}' AS \"=1+1\"", quote(text)),
        })
        .collect();
    let toml = format!(
        "title = \"=1+1\"\nformats = [\"csv\", \"xlsx\"]\nquery = {}\n",
        json!(rows.join(" UNION ALL "))
    );
    let export = declared::define(&app, &toml);
    let csv = declared::text(&export, "csv", "").await;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(csv.as_bytes());
    let read: Vec<String> = reader.records().map(|row| row.unwrap()[0].to_owned()).collect();
    assert_eq!(read.len(), FORMULAS.len() + 1);
    for (cell, text) in read.iter().zip(["=1+1"].iter().chain(FORMULAS)) {
        assert_eq!(*cell, format!("'{text}"));
    }
    let xlsx = declared::make(&export, "xlsx", "", "UTC").await.unwrap();
    let cells = declared::cells(&app, &xlsx);
    assert_eq!(cells.len(), FORMULAS.len() + 1);
    for cell in cells.iter().flatten() {
        assert_eq!((&cell[0], &cell[2]), (&json!("str"), &json!("s")), "{cell}");
    }
    let parts = unzip(&xlsx);
    assert!(
        parts.iter().all(|(name, text)| !text.contains("<f>")
            && !text.contains("<f ")
            && !name.contains("external")),
        "no formula anywhere"
    );
    assert!(parts.iter().any(|(_, text)| text.contains("=1+1")), "they are there");
}

fn unzip(bytes: &[u8]) -> Vec<(String, String)> {
    use std::io::Read;
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    (0..archive.len())
        .map(|at| {
            let mut file = archive.by_index(at).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            (file.name().unwrap().into_owned(), text)
        })
        .collect()
}

#[test]
fn the_reader_of_headers_is_strict() {
    for wrong in [
        "attachment; filename=\"a\"; x=\"b\"",
        "attachment; filename=\"a\"; filename=\"b\"",
        "attachment; filename=\"a\\\"b\"",
        "attachment; filename=\"é\"",
    ] {
        assert!(std::panic::catch_unwind(|| parse(wrong)).is_err(), "{wrong}");
    }
    assert!(HeaderValue::from_str(&content_disposition("a", true)).is_ok());
}
