//! Pages, as programs see them: forms, texts, languages, headers. What a person sees is in
//! `browsing.rs`.

mod operating;

use async_trait::async_trait;
use bgfiles::{
    Criteria, Error, Handler, Job, Output, Result,
    auth_token::{Role, Settings, TokenPolicy},
    cleaner::{self, Limits, Sweeps},
    limits::TokenTtl,
    lock_token::{Ask, Resource},
    mail::Mailer,
    toolbox::{Dispatched, LinkOptions},
    web::WebState,
};
use serde_json::{Value, json};

use crate::{
    declared::define,
    support::{Kind, TestApp, app::Parts, both, handlers},
};

/// Somebody with a browser that runs no scripts.
struct Person<'a> {
    app: &'a TestApp,
    base: String,
    cookies: std::sync::Mutex<std::collections::BTreeMap<String, String>>,
    language: &'static str,
}

const PASSWORD: &str = "seven green teapots";

struct Page {
    status: u16,
    location: Option<String>,
    text: String,
    headers: reqwest::header::HeaderMap,
}

impl Page {
    /// The token of the page's forms.
    fn csrf(&self) -> String {
        field(&self.text, "csrf")
    }

    fn shows(&self, text: &str) -> bool {
        self.text.contains(text)
    }
}

/// The value of a hidden field.
fn field(html: &str, name: &str) -> String {
    let mark = format!("name=\"{name}\" value=\"");
    let (_, rest) = html.split_once(&mark).unwrap_or_else(|| panic!("no {name} in {html}"));
    rest.split_once('"').unwrap().0.to_owned()
}

impl<'a> Person<'a> {
    async fn nobody(app: &'a TestApp) -> Person<'a> {
        let base = format!("http://{}", app.serve().await);
        Person { app, base, cookies: Default::default(), language: "en" }
    }

    /// Logs in by the form.
    async fn new(app: &'a TestApp, name: &str, role: Role) -> Person<'a> {
        app.add_user(name, role, Some(PASSWORD)).await;
        let person = Self::nobody(app).await;
        let page = person.log_in(name, PASSWORD).await;
        assert_eq!(page.status, 303, "{}", page.text);
        person
    }

    async fn log_in(&self, name: &str, password: &str) -> Page {
        let form = self.get("/login").await;
        let fields = [("username", name), ("password", password)];
        self.send("/login", &form.csrf(), &fields).await
    }

    async fn page(&self, request: reqwest::RequestBuilder) -> Page {
        let cookies = self.cookies.lock().unwrap().clone();
        let cookie = cookies.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("; ");
        let request = request
            .header("accept", "text/html,application/xhtml+xml")
            .header("accept-language", self.language)
            .header("cookie", cookie);
        let response = request.send().await.unwrap();
        for line in response.headers().get_all("set-cookie") {
            let (name, rest) = line.to_str().unwrap().split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            self.cookies.lock().unwrap().insert(name.to_owned(), value.to_owned());
        }
        Page {
            status: response.status().as_u16(),
            location: response
                .headers()
                .get("location")
                .map(|value| value.to_str().unwrap().to_owned()),
            headers: response.headers().clone(),
            text: response.text().await.unwrap().replace("&#x2f;", "/"),
        }
    }

    async fn get(&self, path: &str) -> Page {
        self.page(self.app.http.get(format!("{}{path}", self.base))).await
    }

    /// Sends a form with a token of one's own.
    async fn send(&self, path: &str, csrf: &str, fields: &[(&str, &str)]) -> Page {
        let mut form = vec![("csrf", csrf)];
        form.extend_from_slice(fields);
        self.page(self.app.http.post(format!("{}{path}", self.base)).form(&form)).await
    }

    /// Sends a form as it stands on one of our pages.
    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let csrf = self.get("/account").await.csrf();
        self.send(path, &csrf, fields).await
    }
}

/// A file type with a criterion of every kind.
pub struct Report;

#[async_trait]
impl Handler for Report {
    fn file_type(&self) -> &str {
        "report"
    }

    fn title(&self, language: &str) -> String {
        if language == "nl" { "Verslag".into() } else { "Report".into() }
    }

    fn formats(&self) -> &[&'static str] {
        &["csv", "xlsx"]
    }

    fn criteria_schema(&self, language: &str) -> Value {
        let kind = if language == "nl" { "Soort" } else { "Kind" };
        json!({
            "type": "object",
            "required": ["kind"],
            "properties": {
                "kind": {"type": "string", "enum": ["big", "small"], "title": kind},
                "day": {"type": "string", "format": "date", "formatMinimum": "2026-01-01"},
                "from": {"type": "string", "format": "date-time"},
                "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
                "price": {"type": ["number", "string"]},
                "paid": {"type": "boolean"},
                "colours": {"type": "array", "items": {"type": "string", "enum": ["red", "blue"]}},
                "names": {"type": "array", "items": {"type": "string"}},
            },
        })
    }

    fn parse_criteria(&self, criteria: &Criteria) -> Result<Criteria> {
        match criteria.get("kind") {
            Some("big" | "small") => Ok(criteria.clone()),
            Some(_) => Err(Error::invalid("criteria.kind", "must be big or small")),
            None => Err(Error::invalid("criteria.kind", "is required")),
        }
    }

    async fn write(&self, _: &Job, mut out: Output) -> Result<()> {
        out.write("a,b\n").await
    }
}

/// One for operators.
struct Secret;

#[async_trait]
impl Handler for Secret {
    fn file_type(&self) -> &str {
        "secret"
    }

    fn may_ask(&self, role: Role) -> bool {
        role == Role::Staff
    }

    async fn write(&self, _: &Job, mut out: Output) -> Result<()> {
        out.write("hush\n").await
    }
}

async fn with_reports(kind: Kind) -> TestApp {
    let mut registry = handlers::registry(&Default::default());
    registry.register(Report).unwrap();
    registry.register(Secret).unwrap();
    let auth = Settings { api_access_client: "keys".into(), ..Settings::default() };
    let app =
        TestApp::with(kind, Parts { registry: Some(registry), auth, ..Parts::default() }).await;
    app.client("keys", TokenTtl::DAY, "", TokenPolicy::OneOnly).await;
    app
}

both!(logging_in_and_out);
async fn logging_in_and_out(app: TestApp) {
    app.add_user("amy", Role::User, Some(PASSWORD)).await;
    let person = Person::nobody(&app).await;
    // Whoever is not logged in is sent to the form, and back to where they were going.
    let page = person.get("/files?done=cancelled").await;
    assert_eq!(
        (page.status, page.location.as_deref()),
        (303, Some("/login?next=%2Ffiles%3Fdone%3Dcancelled"))
    );
    let form = person.get("/login?next=/account").await;
    assert_eq!(field(&form.text, "next"), "/account");
    // A wrong password shows the form again, with the name and without the password.
    let page = person.log_in("amy", "not this one").await;
    assert_eq!(page.status, 422);
    assert!(page.shows("do not belong together") && page.shows("value=\"amy\""), "{}", page.text);
    assert!(!page.shows("not this one"));
    // Without the form's token nothing happens: nobody logs others in.
    let page = person.send("/login", "0", &[("username", "amy"), ("password", PASSWORD)]).await;
    assert_eq!(page.status, 403);
    assert!(!person.cookies.lock().unwrap().contains_key("bgfiles_session"));
    // Other sites are no place to go on to.
    for next in [
        "//evil.example.com",
        "https://evil.example.com/",
        "/\\evil.example.com",
        "/\t/evil.example.com",
    ] {
        let csrf = person.get("/login").await.csrf();
        let fields = [("username", "amy"), ("password", PASSWORD), ("next", next)];
        let page = person.send("/login", &csrf, &fields).await;
        assert_eq!(page.location.as_deref(), Some("/files"), "{next}");
        person.cookies.lock().unwrap().remove("bgfiles_session");
    }
    person.log_in("amy", PASSWORD).await;
    let first = person.cookies.lock().unwrap()["bgfiles_session"].clone();
    assert_eq!(person.get("/files").await.status, 200);
    assert_eq!(person.get("/login?next=/account").await.location.as_deref(), Some("/account"));
    // Logging out ends the session, not only the cookie.
    let page = person.post("/logout", &[]).await;
    assert_eq!(page.location.as_deref(), Some("/login"));
    person.cookies.lock().unwrap().insert("bgfiles_session".into(), first);
    assert_eq!(person.get("/files").await.status, 303);
    // Many guesses wait.
    let mut last = person.log_in("amy", "a wrong one").await;
    for _ in 0..30 {
        if last.status == 429 {
            break;
        }
        last = person.log_in("amy", "a wrong one").await;
    }
    assert_eq!(last.status, 429);
    assert!(last.shows("Too many tries") && last.headers.contains_key("retry-after"));
}

both!(forms_of_other_sites_do_nothing);
async fn forms_of_other_sites_do_nothing(app: TestApp) {
    let amy = Person::new(&app, "amy", Role::User).await;
    let bob = Person::new(&app, "bob", Role::User).await;
    let row = app.request("hello", "").await;
    let path = format!("/files/{}/cancel", row.id);
    let theirs = bob.get("/account").await.csrf();
    for token in ["", "0", theirs.as_str()] {
        let page = amy.send(&path, token, &[]).await;
        assert_eq!(page.status, 403, "{token}");
        assert!(page.shows("too old"), "{}", page.text);
    }
    // Also with the right token, when the browser says that another site made it send this.
    let csrf = amy.get("/account").await.csrf();
    let request = app.http.post(format!("{}{path}", amy.base)).form(&[("csrf", &csrf)]);
    let page = amy.page(request.header("sec-fetch-site", "cross-site")).await;
    assert_eq!(page.status, 403);
    assert_eq!(app.row(row.id).await.status.as_str(), "pending");
    let page = amy.send(&path, &csrf, &[]).await;
    assert_eq!(page.status, 303);
    assert_eq!(page.location, Some(format!("/files/{}?done=cancelled", row.id)));
    assert_eq!(app.row(row.id).await.status.as_str(), "cancelled");
    assert!(amy.get(&page.location.unwrap()).await.shows("Cancelled. A running file"));
    // The word is one of ours, whatever the address says.
    let page = amy.get("/files?done=%3Cscript%3E").await;
    assert!(!page.shows("class=\"note good\""));
}

both!(pages_are_locked_down);
async fn pages_are_locked_down(app: TestApp) {
    let parts = Parts { base_url: "https://files.example.com", ..Parts::default() };
    let app = TestApp::with(app.kind, parts).await;
    let nobody = Person::nobody(&app).await;
    let form = nobody.get("/login").await;
    for line in form.headers.get_all("set-cookie") {
        let line = line.to_str().unwrap();
        assert!(line.contains("; HttpOnly; SameSite=Lax; Secure"), "{line}");
    }
    let amy = Person::new(&app, "amy", Role::Staff).await;
    for path in ["/login", "/files", "/new", "/account", "/operate", "/docs", "/nothing"] {
        let page = amy.get(path).await;
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'self'; script-src 'self'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"));
        assert!(
            !page.shows(" style=") && !page.shows("<style") && !page.shows("onclick"),
            "{path}"
        );
        assert!(!page.shows("<script>"), "{path}");
        if path != "/login" {
            assert_eq!(page.headers["cache-control"], "no-store", "{path}");
        }
    }
    let page = amy.get("/static/bgfiles.css").await;
    assert_eq!(page.headers["content-type"], "text/css; charset=utf-8");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    assert_eq!(amy.get("/static/../Cargo.toml").await.status, 404);
}

both!(text_stays_text);
async fn text_stays_text(app: TestApp) {
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}";
    let staff = Person::new(&app, "root", Role::Staff).await;
    let mut new = TestApp::new_request("hello", "");
    new.criteria = Criteria::from_pairs([(evil.to_owned(), evil.to_owned())]).unwrap();
    new.description = Some(evil.into());
    new.filename = Some(evil.into());
    new.requester.id = Some(evil.into());
    let row = app.add(new).await;
    assert_eq!(app.dispatch(row.id).await, Dispatched::Handled);
    let row = app.row(row.id).await;
    let options = LinkOptions { created_by: evil.into(), ..LinkOptions::default() };
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let (_, url) = app.toolbox.create_link(&mut tx, &row, options).await.unwrap();
    app.toolbox.audit(&mut tx, evil, evil, evil, evil).await.unwrap();
    let token = bgfiles::request_token::NewRequestToken {
        user_id: Some(evil.into()),
        ..bgfiles::request_token::NewRequestToken::new(evil)
    };
    app.toolbox.create_request_token(&mut tx, token).await.unwrap();
    tx.commit().await.unwrap();
    // A hit with a hostile agent, and a lock with a hostile reason.
    let url = url.replace("http://files.example.com", &staff.base);
    app.http.get(url).header("user-agent", evil).send().await.unwrap();
    let ask = Ask { owner: Some(evil.into()), reason: evil.into(), ..Ask::default() };
    app.toolbox.lock(&Resource::request(row.id), ask).await.unwrap().held().unwrap();
    app.client("<script>alert(1)</script>\"'>", TokenTtl::DAY, "", TokenPolicy::One).await;
    let failed = app.request("permanent", "").await;
    app.dispatch(failed.id).await;
    let paths = [
        format!("/files/{}", row.id),
        format!("/files/{}/edit", row.id),
        format!("/files/events?id={}", row.id),
        "/operate".into(),
        "/operate/requests".into(),
        "/operate/requests?q=%3Cscript%3Ealert(1)%3C/script%3E".into(),
        "/operate/accounts".into(),
        "/operate/request-tokens".into(),
        "/operate/locks".into(),
        "/operate/audit".into(),
        "/operate/audit?actor=%3Cscript%3Ealert(1)%3C/script%3E".into(),
    ];
    for path in paths {
        let page = staff.get(&path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(!page.shows("<script>alert") && !page.shows("<img"), "{path}: {}", page.text);
        assert!(!page.shows("\"'>") && !page.shows(">49<"), "{path}");
    }
    // The mail, and the page of the link.
    let safe = app.finished("safe", "").await;
    let mut tx = app.toolbox.db().begin().await.unwrap();
    bgfiles::file_request::store::describe(&mut tx, safe.id, evil).await.unwrap();
    tx.commit().await.unwrap();
    let link = app.toolbox.download_url(&app.row(safe.id).await);
    let page = staff.get(link.strip_prefix("http://files.example.com").unwrap()).await;
    assert!(page.shows("&lt;script&gt;") && !page.shows("<script>alert"), "{}", page.text);
    app.deliver_notices().await;
    for mail in app.toolbox.mailer().sent() {
        assert!(!mail.html.unwrap().contains("<script>"));
    }
}

both!(a_form_of_every_kind_of_criterion);
async fn a_form_of_every_kind_of_criterion(app: TestApp) {
    let app = with_reports(app.kind).await;
    let amy = Person::new(&app, "amy", Role::User).await;
    amy.cookies.lock().unwrap().insert("bgfiles_timezone".into(), "Europe/Amsterdam".into());
    let page = amy.get("/new").await;
    assert!(page.shows("Report") && !page.shows("secret"), "{}", page.text);
    assert_eq!(amy.get("/new/secret").await.status, 403);
    assert_eq!(amy.get("/new/nothing").await.status, 404);
    let page =
        amy.get("/new/report?from=2026-07-01T10:00:00Z&names=Ann&names=Bea&kind=small").await;
    for wanted in [
        "<option value=\"small\" selected>",
        "type=\"date\"",
        "min=\"2026-01-01\"",
        "type=\"datetime-local\" value=\"2026-07-01T12:00:00\"",
        "type=\"number\"",
        "max=\"9\"",
        "type=\"checkbox\" name=\"c.colours\" value=\"red\"",
        ">Ann\nBea</textarea>",
        "Europe/Amsterdam",
    ] {
        assert!(page.shows(wanted), "{wanted}: {}", page.text);
    }
    // The default, when nothing is given.
    assert!(amy.get("/new/report").await.shows("name=\"c.count\" type=\"number\" value=\"3\""));
    // What is wrong is said at its field, and what was filled in stays.
    let fields = [("c.count", "7"), ("description", "mine"), ("format", "xlsx")];
    let page = amy.post("/new/report", &fields).await;
    assert_eq!(page.status, 422);
    assert!(page.shows("aria-invalid") && page.shows("is required"), "{}", page.text);
    assert!(page.shows("value=\"7\"") && page.shows("value=\"mine\""));
    let fields = [
        ("c.kind", "big"),
        ("c.day", "2026-02-03"),
        ("c.from", "2026-03-29T12:00"),
        ("c.count", ""),
        ("c.paid", "true"),
        ("c.colours", "red"),
        ("c.colours", "blue"),
        ("c.names", "Ann\r\n\r\n Bea "),
        ("format", "xlsx"),
        ("description", "My report"),
        ("nonce", "once"),
    ];
    let csrf = amy.get("/new/report").await.csrf();
    let first = amy.send("/new/report", &csrf, &fields).await;
    let location = first.location.unwrap();
    assert!(location.starts_with("/files/") && location.ends_with("?fresh=1"), "{location}");
    // The button twice is one request.
    assert_eq!(amy.send("/new/report", &csrf, &fields).await.location, Some(location.clone()));
    let id = location.strip_prefix("/files/").unwrap().strip_suffix("?fresh=1").unwrap();
    let row = app.row(id.parse().unwrap()).await;
    let criteria: Vec<(String, String)> = row
        .criteria()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let expected = [
        ("kind", "big"),
        ("day", "2026-02-03"),
        ("from", "2026-03-29T12:00:00+02:00"),
        ("paid", "true"),
        ("colours", "red"),
        ("colours", "blue"),
        ("names", "Ann"),
        ("names", "Bea"),
        // Emptied, and it has a default.
        ("count", ""),
    ];
    assert_eq!(criteria, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    assert_eq!((row.format.as_str(), row.requester.as_deref()), ("xlsx", Some("amy")));
    assert_eq!(
        (row.requester_timezone.as_str(), row.requester_email.as_str()),
        ("Europe/Amsterdam", "amy@example.com")
    );
    let page = amy.get(&location).await;
    assert!(
        page.shows("A link will be mailed to amy@example.com")
            && page.shows("<noscript><meta http-equiv=\"refresh\"")
    );
    // Small ones at once, when asked so.
    let fields = [("deliver", "auto"), ("c.small", "1")];
    let page = amy.post("/new/hello", &fields).await;
    assert_eq!((page.status, page.text.starts_with("hello world")), (200, true), "{}", page.text);
    // Roles hold in the API, too.
    let token = app.user("bea", Role::User).await;
    let api = |method: reqwest::Method, path: &str| {
        let request = app.http.request(method, format!("{}{path}", amy.base));
        request.header("authorization", format!("Token {token}"))
    };
    let asked = api(reqwest::Method::POST, "/api/requests").json(&json!({"file_type": "secret"}));
    assert_eq!(asked.send().await.unwrap().status(), 403);
    let types =
        api(reqwest::Method::GET, "/api/file-types").send().await.unwrap().text().await.unwrap();
    assert!(types.contains("report") && !types.contains("secret"));
}

both!(a_field_that_is_emptied_stays_empty);
async fn a_field_that_is_emptied_stays_empty(app: TestApp) {
    let export = define(
        &app,
        r#"formats = ["csv"]
query = "SELECT :owner AS owner, :colours AS colours"
[criteria.owner]
type = "text"
default = "amy"
[criteria.colours]
type = "list of choice"
choices = ["red", "blue"]
default = ["red"]
"#,
    );
    let mut registry = handlers::registry(&Default::default());
    registry.register(export).unwrap();
    let app = TestApp::with(app.kind, Parts { registry: Some(registry), ..Parts::default() }).await;
    let amy = Person::new(&app, "amy", Role::User).await;
    // Defaults are filled in, also beside what a link to the form fills in.
    let red = "name=\"c.colours\" value=\"red\" checked";
    let page = amy.get("/new/thing").await;
    assert!(
        page.shows("name=\"c.owner\" type=\"text\" value=\"amy\"") && page.shows(red),
        "{}",
        page.text
    );
    let page = amy.get("/new/thing?owner=").await;
    assert!(
        page.shows("name=\"c.owner\" type=\"text\" value=\"\"") && page.shows(red),
        "{}",
        page.text
    );
    // A browser says nothing of boxes without a tick; the page does.
    assert_eq!(field(&page.text, "c.colours"), "");
    let ask = async |fields: &[(&str, &str)]| {
        let location = amy.post("/new/thing", fields).await.location.unwrap();
        let id =
            location.strip_prefix("/files/").unwrap().strip_suffix("?fresh=1").unwrap().to_owned();
        app.row(id.parse().unwrap()).await
    };
    assert_eq!(ask(&[]).await.criteria, "owner=amy&colours=red");
    assert_eq!(
        ask(&[("c.owner", "bob"), ("c.colours", ""), ("c.colours", "blue")]).await.criteria,
        "owner=bob&colours=blue"
    );
    let row = ask(&[("c.owner", " "), ("c.colours", "")]).await;
    assert_eq!(row.criteria, "owner=&colours=");
    app.dispatch(row.id).await;
    let file = std::fs::read_to_string(app.files().join(&app.objects()[0])).unwrap();
    assert_eq!(file, "owner,colours\r\n,\r\n");
    assert!(amy.get(&format!("/files/{}", row.id)).await.shows("<dt>owner</dt><dd>–</dd>"));
    // What is wrong elsewhere brings no default back.
    let page = amy.post("/new/thing", &[("c.owner", ""), ("c.colours", "pink")]).await;
    assert!(
        page.status == 422 && page.shows("name=\"c.owner\" type=\"text\" value=\"\""),
        "{}",
        page.text
    );
    let again = amy.post(&format!("/files/{}/again", row.id), &[]).await.location.unwrap();
    let id = again.strip_prefix("/files/").unwrap().strip_suffix("?fresh=1").unwrap();
    assert_eq!(app.row(id.parse().unwrap()).await.criteria, row.criteria);
    assert_eq!(amy.get("/files?cursor=").await.status, 200);
}

both!(a_total_that_is_a_guess_is_called_about);
async fn a_total_that_is_a_guess_is_called_about(app: TestApp) {
    let mut amy = Person::new(&app, "amy", Role::User).await;
    let row = app.request("slow", "").await;
    app.sql("UPDATE bgfiles_file_requests SET status = 'running', progress_done = 2, progress_total = 1234").await;
    let path = format!("/files/{}", row.id);
    for (estimated, texts) in [
        (
            "UPDATE bgfiles_file_requests SET progress_estimated = false",
            [
                ("en", "2 of 1,234 rows"),
                ("nl", "2 van 1.234 rijen"),
                ("de", "2 von 1.234 Zeilen"),
                ("fr", "2 lignes sur 1"),
            ],
        ),
        (
            "UPDATE bgfiles_file_requests SET progress_estimated = true",
            [
                ("en", "2 of about 1,234 rows"),
                ("nl", "2 van ongeveer 1.234 rijen"),
                ("de", "2 von etwa 1.234 Zeilen"),
                ("fr", "2 lignes sur environ 1"),
            ],
        ),
    ] {
        app.sql(estimated).await;
        for (language, text) in texts {
            amy.language = language;
            let page = amy.get(&path).await;
            assert!(page.shows(text), "{language}: {text}: {}", page.text);
        }
    }
}

both!(files_of_ones_own);
async fn files_of_ones_own(app: TestApp) {
    let amy = Person::new(&app, "amy", Role::User).await;
    let page = amy.get("/files").await;
    assert!(page.shows("No files yet") && page.shows("Ask for one."));
    let done = app.finished("once", "").await;
    let failed = app.request("permanent", "").await;
    app.dispatch(failed.id).await;
    app.deliver_notices().await;
    let mut bobs = TestApp::new_request("hello", "");
    bobs.requester.id = Some("bob".into());
    bobs.description = Some("Bob's own".into());
    let bobs = app.add(bobs).await;
    let page = amy.get("/files").await;
    assert!(
        page.shows("Download</a>")
            && page.shows("in 24 hours")
            && page.shows("downloaded 0 times of 1"),
        "{}",
        page.text
    );
    assert!(!page.shows("Bob's own"));
    assert_eq!(amy.get(&format!("/files/{}", bobs.id)).await.status, 404);
    assert_eq!(amy.post(&format!("/files/{}/cancel", bobs.id), &[]).await.status, 404);
    // Its page tells what happened.
    let page = amy.get(&format!("/files/{}", done.id)).await;
    for wanted in ["Requested", "Made", "Mailed", "Expires", "Share", "amy@example.com"] {
        assert!(page.shows(wanted), "{wanted}: {}", page.text);
    }
    // Names of workers are for operators.
    assert!(!page.shows("test-worker"));
    // A link to share, used, revoked.
    let path = format!("/files/{}", done.id);
    assert_eq!(amy.post(&format!("{path}/links"), &[("max_uses", "0")]).await.status, 422);
    let wide = amy.post(&format!("{path}/links"), &[("max_uses", "2"), ("days", "1")]).await;
    assert!(
        wide.status == 403 && wide.shows("a link to such a file works once at most"),
        "{}",
        wide.text
    );
    app.advance(1);
    let page = amy.post(&format!("{path}/links"), &[("max_uses", "1"), ("days", "1")]).await;
    assert_eq!(page.location, Some(format!("{path}?done=linked#share")));
    let page = amy.get(&path).await;
    let url = page.text.split("used 0 of 1 times").next().unwrap();
    let url = url.rsplit("http://files.example.com/d/").next().unwrap();
    let url = format!("/d/{}", url.split('"').next().unwrap());
    assert!(page.shows("for whoever has it"));
    let visitor = Person::nobody(&app).await;
    let shown = visitor.get(&url).await;
    assert!(shown.shows("Download</button>"), "{}", shown.text);
    let redeemed =
        visitor.page(app.http.post(format!("{}{url}", visitor.base)).form(&[("nonce", "n")])).await;
    assert_eq!(redeemed.status, 303);
    let page = amy.get(&path).await;
    assert!(page.shows("used 1 of 1 times") && page.shows("Link used"));
    // The mailed one, taken back.
    let mailed = app.link(&app.row(done.id).await);
    let revoke = page.text.split("used 0 of 1 times").nth(1).unwrap();
    let revoke = revoke.split("/revoke\"").next().unwrap();
    let revoke = revoke.rsplit("action=\"").next().unwrap();
    assert_eq!(amy.post(&format!("{revoke}/revoke"), &[]).await.status, 303);
    for (url, why) in [(&url, "has been used"), (&mailed, "no longer works")] {
        let gone = Person::nobody(&app).await.get(url).await;
        assert!(gone.status == 403 && gone.shows(why), "{}", gone.text);
    }
    // Again, with the same criteria; then retry and delete.
    let page = amy.post(&format!("/files/{}/again", done.id), &[]).await;
    let location = page.location.unwrap();
    let id = location.strip_prefix("/files/").unwrap().strip_suffix("?fresh=1").unwrap();
    let again = app.row(id.parse().unwrap()).await;
    assert_eq!(
        (again.criteria.as_str(), again.file_type.as_str()),
        (done.criteria.as_str(), "once")
    );
    assert_eq!(amy.post(&format!("/files/{}/retry", failed.id), &[]).await.status, 303);
    assert_eq!(app.row(failed.id).await.status.as_str(), "pending");
    let page = amy.post(&format!("/files/{}/delete", done.id), &[]).await;
    assert_eq!(page.location.as_deref(), Some("/files?done=deleted"));
    assert!(app.find(done.id).await.is_none());
    // Nothing of this is for the audit log: it was theirs.
    assert_eq!(app.count("SELECT count(*) FROM bgfiles_audit").await, 0);
}

both!(an_account_with_a_key);
async fn an_account_with_a_key(app: TestApp) {
    let app = with_reports(app.kind).await;
    let amy = Person::new(&app, "amy", Role::User).await;
    app.token("amy", "keys").await;
    assert_eq!(amy.post("/account/key/revoke", &[]).await.status, 303);
    assert!(amy.get("/account").await.shows("Make a key"));
    let page = amy.post("/account/key", &[]).await;
    let secret =
        page.text.split("value=\"bgf_").nth(1).expect("the key").split('"').next().unwrap();
    let secret = format!("bgf_{secret}");
    let call = |secret: String| {
        let request = app.http.get(format!("{}/api/requests", amy.base));
        async move {
            request
                .header("authorization", format!("Token {secret}"))
                .send()
                .await
                .unwrap()
                .status()
                .as_u16()
        }
    };
    assert_eq!(call(secret.clone()).await, 200);
    // Shown once.
    assert!(!amy.get("/account").await.shows(&secret));
    assert_eq!(amy.post("/account/key", &[]).await.status, 303);
    let page = amy.get("/account").await;
    let end = page.text.split("/account/sessions/").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(amy.post(&format!("/account/sessions/{end}"), &[]).await.status, 303);
    assert_eq!(call(secret).await, 401);
    let page = amy.post("/account/log-out-everywhere", &[]).await;
    assert_eq!(page.location.as_deref(), Some("/login"));
    assert_eq!(amy.get("/files").await.status, 303);
}

both!(in_four_languages);
async fn in_four_languages(app: TestApp) {
    let app = with_reports(app.kind).await;
    let mut amy = Person::new(&app, "amy", Role::User).await;
    for (language, title, problem) in [
        ("en-GB,en;q=0.9", "My files", "Not found"),
        ("nl", "Mijn bestanden", "Niet gevonden"),
        ("xx, fr-CA;q=0.8, en;q=0.5", "Mes fichiers", "Introuvable"),
        ("de-AT", "Meine Dateien", "Nicht gefunden"),
    ] {
        amy.language = language;
        let page = amy.get("/files").await;
        assert!(page.shows(title), "{language}: {}", page.text);
        let page = amy.get("/nowhere").await;
        assert!(page.shows(problem), "{language}: {}", page.text);
    }
    // What somebody chose wins over what the browser says.
    let page = amy
        .post(
            "/preferences",
            &[("language", "nl"), ("timezone", "Europe/Amsterdam"), ("next", "/new")],
        )
        .await;
    assert_eq!(page.location.as_deref(), Some("/new"));
    let page = amy.get("/new/report").await;
    assert!(
        page.shows("<html lang=\"nl\">") && page.shows("Verslag") && page.shows("Soort"),
        "{}",
        page.text
    );
    assert_eq!(amy.post("/preferences", &[("timezone", "Mars/Olympus")]).await.status, 422);
    // What is asked for so is mailed so, with times of the zone.
    amy.post("/new/report", &[("c.kind", "big")]).await;
    let rows = app.count("SELECT count(*) FROM bgfiles_file_requests").await;
    assert_eq!(rows, 1);
    let filter = bgfiles::file_request::store::Filter::default();
    let row = bgfiles::file_request::store::list(
        &mut app.toolbox.db().acquire().await.unwrap(),
        &filter,
        1,
    )
    .await
    .unwrap()
    .remove(0);
    assert_eq!(app.dispatch(row.id).await, Dispatched::Handled);
    let page = amy.get(&format!("/files/{}", row.id)).await;
    assert!(page.shows("2026-03-01 13:00 CET"), "{}", page.text);
    app.deliver_notices().await;
    let mail = app.toolbox.mailer().sent().remove(0);
    assert!(mail.subject.starts_with("Uw bestand staat klaar"), "{}", mail.subject);
    assert!(
        mail.text.contains("2026-03-02 13:00 CET") && mail.html.unwrap().contains("lang=\"nl\"")
    );
}

both!(operators_look_and_put_right);
async fn operators_look_and_put_right(app: TestApp) {
    let staff = Person::new(&app, "root", Role::Staff).await;
    let amy = Person::new(&app, "amy", Role::User).await;
    for path in ["/operate", "/operate/requests", "/operate/audit", "/operate/accounts"] {
        assert_eq!(amy.get(path).await.status, 403, "{path}");
    }
    let done = app.finished("hello", "").await;
    let failed = app.request("permanent", "").await;
    app.dispatch(failed.id).await;
    let waiting = app.request("hello", "").await;
    app.deliver_notices().await;
    let before = app.toolbox.mailer().sent().len();
    // Found by text, state and number.
    let page = staff.get("/operate/requests?status=failed").await;
    assert!(page.shows(&failed.id.to_string()) && !page.shows(&done.id.to_string()));
    let page = staff.get(&format!("/operate/requests?q={}", done.id)).await;
    assert!(page.shows(&done.id.to_string()) && !page.shows(&failed.id.to_string()));
    assert!(staff.get("/operate/requests?q=HELL").await.shows(&done.id.to_string()));
    assert!(!staff.get("/operate/requests?q=h%25o").await.shows(&done.id.to_string()));
    assert_eq!(staff.get("/operate/requests?status=odd").await.status, 422);
    // Its page names the worker.
    let page = staff.get(&format!("/files/{}", failed.id)).await;
    assert!(page.shows("test-worker") && page.shows("Failed"), "{}", page.text);
    // One by one, and several at once; what cannot be done is told.
    assert_eq!(staff.post(&format!("/files/{}/mail", done.id), &[]).await.status, 303);
    app.deliver_notices().await;
    let sent = app.toolbox.mailer().sent();
    assert_eq!(sent.len(), before + 1);
    assert_ne!(sent[before].message_id, sent[0].message_id);
    let ids = [failed.id, done.id, waiting.id].map(|id| id.to_string());
    let mut fields: Vec<(&str, &str)> = ids.iter().map(|id| ("id", id.as_str())).collect();
    fields.push(("action", "retry"));
    let page = staff.post("/operate/requests", &fields).await;
    assert!(
        page.shows("Done for 1 request.") && page.shows("cannot be started anew"),
        "{}",
        page.text
    );
    assert_eq!(app.row(failed.id).await.status.as_str(), "pending");
    let page = staff.post("/operate/requests", &[("id", &ids[0]), ("action", "explode")]).await;
    assert_eq!(page.status, 422);
    let fields =
        [("id", ids[2].as_str()), ("action", "cancel"), ("next", "/operate/requests?status=")];
    let page = staff.post("/operate/requests", &fields).await;
    assert_eq!(page.location.as_deref(), Some("/operate/requests?status=&done=bulk"));
    // Expired now: nobody gets it any more, not even by a download that was begun.
    let waiting = app.request("hello", "").await;
    let link = app.toolbox.download_url(&done);
    let link = link.strip_prefix("http://files.example.com").unwrap().to_owned();
    assert_eq!(amy.get(&link).await.status, 200);
    let options = LinkOptions { scanner_safe: Some(true), ..LinkOptions::default() };
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let (_, url) = app.toolbox.create_link(&mut tx, &done, options).await.unwrap();
    tx.commit().await.unwrap();
    let url = url.replace("http://files.example.com", &amy.base);
    let granted = app.http.post(url).send().await.unwrap();
    let granted = granted.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(amy.get(&granted).await.status, 200);
    assert_eq!(staff.post(&format!("/files/{}/expire", done.id), &[]).await.status, 303);
    assert_eq!(amy.get(&granted).await.status, 404);
    let gone = amy.get(&link).await;
    assert_eq!(gone.status, 410);
    assert!(gone.shows("This file has expired"));
    // All of it stands in the audit log, once each.
    let page = staff.get("/operate/audit?actor=root").await;
    for action in ["request.mail", "request.retry", "request.expire"] {
        assert_eq!(page.text.matches(&format!("<code>{action}</code>")).count(), 1, "{action}");
    }
    // A user sees no way there, and has none.
    assert_eq!(amy.post(&format!("/files/{}/expire", waiting.id), &[]).await.status, 403);
    let waiting = waiting.id.to_string();
    let fields = [("id", waiting.as_str()), ("action", "cancel")];
    assert_eq!(amy.post("/operate/requests", &fields).await.status, 403);
    // The sweeps and what they did.
    assert!(staff.get("/operate").await.shows("The cleaner has not run yet"));
    cleaner::clean(&app.toolbox, &Sweeps::default(), Limits::default()).await.unwrap();
    let page = staff.get("/operate").await;
    assert!(page.shows("expired_requests") && page.shows("processed"));
    assert!(page.shows("No worker has been seen"));
}

both!(operators_see_who_knows_what);
async fn operators_see_who_knows_what(app: TestApp) {
    let staff = Person::new(&app, "root", Role::Staff).await;
    app.sql("INSERT INTO bgfiles_file_requests (file_type, run_at) VALUES ('shiny', '2026-03-01T11:00:00+00:00')").await;
    app.sql("INSERT INTO bgfiles_workers (name, host, slots, started_at, seen_at, file_types) VALUES \
        ('w1', 'h', 1, '2026-03-01T12:00:00+00:00', '2026-03-01T12:00:00+00:00', 'orders,payments')").await;
    let page = staff.get("/operate").await;
    assert!(page.shows("type shiny are wanted"), "{}", page.text);
    assert!(page.shows("2 file types") && page.shows("orders, payments"), "{}", page.text);
}

both!(an_attempt_that_ended_without_a_word_is_seen);
async fn an_attempt_that_ended_without_a_word_is_seen(app: TestApp) {
    let amy = Person::new(&app, "amy", Role::User).await;
    let row = app.request("hello", "").await;
    let (now, lease) = (app.toolbox.clock().now(), chrono::TimeDelta::seconds(10));
    let mut tx = app.toolbox.db().begin().await.unwrap();
    bgfiles::file_request::store::claim(&mut tx, row.id, "gone", now, now + lease)
        .await
        .unwrap()
        .unwrap();
    tx.commit().await.unwrap();
    app.advance(60);
    assert_eq!(app.dispatch(row.id).await, Dispatched::Handled);
    let page = amy.get(&format!("/files/{}", row.id)).await;
    assert!(page.shows("ended without a word"), "{}", page.text);
}

both!(edits_take_the_lock);
async fn edits_take_the_lock(app: TestApp) {
    let root = Person::new(&app, "root", Role::Staff).await;
    let olga = Person::new(&app, "olga", Role::Staff).await;
    let row = app.request("hello", "").await;
    let path = format!("/files/{}/edit", row.id);
    let page = root.get(&path).await;
    let lock = field(&page.text, "lock");
    assert_eq!(lock.len(), 32);
    let other = olga.get(&path).await;
    assert!(other.shows("root is editing this") && other.shows("disabled"), "{}", other.text);
    assert_eq!(olga.post(&path, &[("description", "late"), ("lock", "")]).await.status, 404);
    assert_eq!(
        olga.post(&path, &[("description", "late"), ("lock", "0123456789abcdef0123456789abcdef")])
            .await
            .status,
        403
    );
    assert_eq!(root.post(&path, &[("description", "better"), ("lock", &lock)]).await.status, 303);
    assert_eq!(app.row(row.id).await.description, "better");
    // Free again; and taken from somebody, who then cannot save.
    let mine = field(&olga.get(&path).await.text, "lock");
    let id = row.id.to_string();
    let fields = [
        ("app", "bgfiles"),
        ("model", "file_request"),
        ("id", id.as_str()),
        ("next", path.as_str()),
    ];
    assert_eq!(root.post("/operate/locks/break", &fields).await.status, 303);
    let lock = field(&root.get(&path).await.text, "lock");
    let late = olga.post(&path, &[("description", "late"), ("lock", &mine)]).await;
    assert_eq!(late.status, 403);
    assert!(late.shows("Nothing was saved"), "{}", late.text);
    assert_eq!(root.post(&path, &[("description", "best"), ("lock", &lock)]).await.status, 303);
    assert_eq!(app.row(row.id).await.description, "best");
    // Users and clients.
    let users = app.toolbox.own_users(None, 10).await.unwrap();
    let find = |name: &str| users.iter().find(|user| user.username == name).unwrap().id;
    let path = format!("/operate/users/{}", find("olga"));
    let lock = field(&root.get(&path).await.text, "lock");
    assert!(olga.get(&path).await.shows("root is editing this"));
    let fields = |email, role| {
        [("email", email), ("role", role), ("active", "true"), ("lock", lock.as_str())]
    };
    let page = root.post(&path, &fields("no address", "user")).await;
    assert_eq!(page.status, 422);
    assert!(page.shows("is not an e-mail address"));
    assert_eq!(root.post(&path, &fields("olga@example.org", "user")).await.status, 303);
    assert_eq!(olga.get("/operate").await.status, 403);
    // Nobody locks themselves out.
    let path = format!("/operate/users/{}", find("root"));
    let lock = field(&root.get(&path).await.text, "lock");
    let page = root.post(&path, &[("role", "user"), ("active", "true"), ("lock", &lock)]).await;
    assert_eq!(page.status, 409);
    let client = app.client("shop", TokenTtl::DAY, "", TokenPolicy::One).await;
    let path = format!("/operate/clients/{}", client.id);
    let lock = field(&root.get(&path).await.text, "lock");
    let page = root.post(&path, &[("ttl", "1h"), ("rate", "0/m"), ("lock", &lock)]).await;
    assert_eq!(page.status, 422);
    let lock = field(&page.text, "lock");
    let fields = [("ttl", "1h"), ("rate", "5/m"), ("tokens", "several"), ("lock", lock.as_str())];
    assert_eq!(root.post(&path, &fields).await.status, 303);
    let shop = app.toolbox.client("shop").await.unwrap().unwrap();
    assert_eq!((shop.token_ttl, shop.throttle_rate.as_str()), (Some(3600), "5/m"));
    let log = root.get("/operate/audit").await;
    for action in ["lock.break", "user.update", "client.update"] {
        assert!(log.shows(action), "{action}");
    }
}

both!(the_mailbox_of_development);
async fn the_mailbox_of_development(app: TestApp) {
    let folder = tempfile::tempdir().unwrap();
    let url = url::Url::from_file_path(folder.path()).unwrap();
    let mailer = Mailer::open(url.as_str(), "files@example.com").unwrap();
    let app = TestApp::with(app.kind, Parts { mailer: Some(mailer), ..Parts::default() }).await;
    let mut amy = Person::new(&app, "amy", Role::User).await;
    app.finished("hello", "").await;
    app.deliver_notices().await;
    // Off, unless it was turned on.
    assert_eq!(amy.get("/dev/mail").await.status, 404);
    let state =
        WebState { mailbox: Some(folder.path().into()), ..WebState::new(app.toolbox.clone()) };
    let address = app.serve_with(state, Default::default()).await;
    amy.base = format!("http://{address}");
    let page = amy.get("/dev/mail").await;
    assert!(page.shows("Your file is ready"), "{}", page.text);
    let path = page
        .text
        .split("href=\"/dev/mail/")
        .nth(2)
        .or(page.text.split("href=\"/dev/mail/").nth(1))
        .unwrap();
    let path = format!("/dev/mail/{}", path.split('"').next().unwrap());
    assert!(amy.get(&path).await.shows("The file you asked for is ready."));
    let html = amy.get(&format!("{path}/html")).await;
    assert!(html.headers["content-security-policy"].to_str().unwrap().contains("sandbox"));
    assert_eq!(amy.get("/dev/mail/..%2F..%2Fetc%2Fpasswd").await.status, 404);
    // Not those to others.
    let mut bob = Person::new(&app, "bob", Role::User).await;
    bob.base = amy.base.clone();
    assert!(bob.get("/dev/mail").await.shows("No mails yet"));
    assert_eq!(bob.get(&path).await.status, 404);
}

both!(without_pages_there_is_the_api);
async fn without_pages_there_is_the_api(app: TestApp) {
    let state = WebState { pages: false, ..WebState::new(app.toolbox.clone()) };
    let address = app.serve_with(state, Default::default()).await;
    for (path, status) in
        [("/login", 404), ("/files", 404), ("/healthz", 200), ("/openapi.json", 200)]
    {
        let answer = app.http.get(format!("http://{address}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
}

both!(a_stream_ends_with_the_login);
async fn a_stream_ends_with_the_login(app: TestApp) {
    let amy = Person::new(&app, "amy", Role::User).await;
    app.client("phone", TokenTtl::DAY, "", TokenPolicy::One).await;
    let token = app.token("amy", "phone").await;
    let row = app.request("hello", "").await;
    let cookie = format!("bgfiles_session={}", amy.cookies.lock().unwrap()["bgfiles_session"]);
    let page =
        app.http.get(format!("{}/files/events?id={}", amy.base, row.id)).header("cookie", &cookie);
    let api = app.http.get(format!("{}/api/requests/{}/events", amy.base, row.id));
    let api = api.header("authorization", format!("Token {token}"));
    let (mut page, mut api) = (page.send().await.unwrap(), api.send().await.unwrap());
    for stream in [&mut page, &mut api] {
        assert_eq!(stream.status(), 200);
        let first = stream.chunk().await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&first).contains(&row.id.to_string()));
    }
    app.toolbox.revoke_all("amy").await.unwrap();
    assert_eq!(app.dispatch(row.id).await, Dispatched::Handled);
    // The link of the finished file is not for who was logged in once.
    for stream in [page, api] {
        let rest = stream.text().await.unwrap();
        assert!(!rest.contains("/d/") && !rest.contains("finished"), "{rest}");
    }
}

both!(a_file_for_somebody_else);
async fn a_file_for_somebody_else(app: TestApp) {
    let bob = Person::new(&app, "bob", Role::User).await;
    let row = app.finished("hello", "").await;
    let options = LinkOptions { requester_only: Some(true), ..LinkOptions::default() };
    let mut tx = app.toolbox.db().begin().await.unwrap();
    let (_, url) = app.toolbox.create_link(&mut tx, &row, options).await.unwrap();
    tx.commit().await.unwrap();
    let page = bob.get(url.strip_prefix("http://files.example.com").unwrap()).await;
    assert_eq!(page.status, 403);
    assert!(
        page.shows("This file is for somebody else") && page.shows("/login?next="),
        "{}",
        page.text
    );
}

both!(the_overview_shows_who_works);
async fn the_overview_shows_who_works(app: TestApp) {
    let staff = Person::new(&app, "root", Role::Staff).await;
    let (stop, worker) = app.work(3);
    let row = app.request("slow", "").await;
    let mut page = staff.get("/operate").await;
    for _ in 0..400 {
        if page.shows(">alive<")
            && page.shows("1 of 3 slots")
            && page.shows(&format!("/files/{}", row.id))
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        page = staff.get("/operate").await;
    }
    assert!(page.shows(">alive<") && page.shows("1 of 3 slots"), "{}", page.text);
    let mut tx = app.toolbox.db().begin().await.unwrap();
    app.toolbox.cancel(&mut tx, row.id).await.unwrap();
    tx.commit().await.unwrap();
    stop.cancel();
    worker.await.unwrap();
    assert!(staff.get("/operate").await.shows(">ended<"));
    let done = app.finished("hello", "").await;
    let failed = app.request("permanent", "").await;
    app.dispatch(failed.id).await;
    let page = staff.get("/operate").await;
    assert!(page.shows("1 ready and 1 failed in the last 24 hours"), "{}", page.text);
    assert_eq!(app.deliver_notices().await, 2);
    // What was done stays done when the file is gone.
    app.toolbox.delete(done.id).await.unwrap();
    assert!(staff.get("/operate").await.shows("1 ready and 1 failed in the last 24 hours"));
}
