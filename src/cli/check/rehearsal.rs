//! Every mail and every page, rendered once over a database of the moment: what a template asks for is
//! what its page has, and not what somebody wrote down of it.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Request, header},
};
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};
use uuid::Uuid;

use crate::{
    auth_token::{Caller, Proof, Role, TokenPolicy},
    config::Config,
    db::Db,
    error::{Error, Result},
    export::{DeclaredExport, Definition, Source},
    file_request::{NewFileRequest, Requester, notice, store},
    ids::{hex, random_bytes},
    mail::Mailer,
    messages::LANGUAGES,
    registry::Registry,
    request_token::NewRequestToken,
    storage::Storage,
    templates::{Survey, Templates},
    toolbox::{LinkOptions, NewUser, Toolbox, Tools},
    web::{WebState, router},
};

/// Most pages that are looked at in one language by one person.
const PAGES: usize = 120;
/// Where everything begins.
const BASE: &str = "http://localhost:8000";
/// A file type with criteria of every kind, and one that cannot be made.
const EXAMPLES: [(&str, &str); 2] = [
    (
        "example.toml",
        "title = \"Example\"\nformats = [\"csv\", \"xlsx\"]\nquery = \"\"\"\nSELECT 1 AS one WHERE \
         coalesce(:a, :b, :c, :d, :e, :f, :g) IS NULL OR 1 = 1\"\"\"\n[criteria.a]\ntype = \"text\"\nlabel \
         = \"A\"\n[criteria.b]\ntype = \"integer\"\nmin = 1\n[criteria.c]\ntype = \
         \"boolean\"\n[criteria.d]\ntype = \"date\"\n[criteria.e]\ntype = \"choice\"\nchoices = \
         [\"x\", \"y\"]\n[criteria.f]\ntype = \"decimal\"\n[criteria.g]\ntype = \"datetime\"\n",
    ),
    (
        "broken.toml",
        "title = \"Broken\"\nformats = [\"csv\"]\nquery = \"SELECT abs(-9223372036854775807 - 1) AS \
         x\"\n",
    ),
];

/// What is wrong with templates, texts and the names of their files, a line each. `registry` knows the
/// file types; `others` are the names of those that have faults of their own.
pub(super) async fn faults(
    config: &Config,
    registry: &Registry,
    others: impl Iterator<Item = String>,
) -> Result<Vec<String>> {
    let folder = config.templates_dir.clone();
    let templates = Templates::that_remember(folder.clone());
    let known = registry.iter().map(|handler| handler.mail_templates().to_owned());
    let survey = Survey {
        folder: folder.as_deref(),
        mails: known.chain(others).collect(),
        named: &config.request_token_403_template,
    };
    let mut faults = survey.faults(&templates);
    let stage = Stage::new()?;
    let languages = survey.languages();
    let toolbox = stage.toolbox(registry.clone(), templates.clone())?;
    let without_subject = toolbox.rehearse_mails(&languages, &survey.mails)?;
    faults.extend(without_subject.into_iter().map(|name| survey.without_subject(&name)));
    // The built-in pages alone are known to work.
    if folder.is_some() {
        let played = stage.play(&templates, &config.request_token_403_template);
        // What it does is no business of the log.
        played.with_subscriber(NoSubscriber::default()).await?;
    }
    for failure in templates.failures() {
        // What was seen without rendering is told already, in fewer words.
        let is_told = faults
            .iter()
            .any(|told| failure.starts_with(told.split("; did").next().unwrap_or(told)));
        if !is_told {
            faults.push(failure);
        }
    }
    Ok(faults)
}

/// A folder of the moment.
struct Stage(PathBuf);

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Stage {
    fn new() -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("bgfiles-check-{}", Uuid::new_v4().simple());
        let folder = std::env::temp_dir().join(name);
        let made = std::fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(Error::io(folder.display().to_string()))?;
        Ok(Stage(folder))
    }

    fn toolbox(&self, registry: Registry, templates: Templates) -> Result<Toolbox> {
        let db = Db::open(&format!("sqlite:{}", self.0.join("check.db").display()))?;
        let mail = url::Url::from_file_path(self.0.join("mail"));
        let mail = mail.map_err(|()| Error::Internal("a folder that is no URL".into()))?;
        let tools = Tools::new(
            db,
            Storage::open("memory:", &[])?,
            Mailer::open(mail.as_str(), "bgfiles@localhost")?,
            registry,
            [hex(&random_bytes::<32>())],
            BASE.parse().map_err(Error::Internal)?,
        )?;
        Ok(Toolbox::new(Tools { templates, ..tools }))
    }

    /// Fills a database, and goes through all pages.
    async fn play(&self, templates: &Templates, refusal: &str) -> Result<()> {
        let database = self.0.join("check.db");
        let toolbox = self.toolbox(examples(&self.0, &database)?, templates.clone())?;
        Toolbox::migrate(toolbox.db()).await?;
        let links = populate(&toolbox).await?;
        let state =
            WebState { mailbox: Some(self.0.join("mail")), ..WebState::new(toolbox.clone()) };
        let visitor = Visitor { router: router(state) };
        for (language, _) in LANGUAGES {
            for (name, role) in [("", Role::User), ("amy", Role::User), ("olga", Role::Staff)] {
                visitor.walk(&links, language, name, role).await;
            }
            visitor.ask(language).await;
            visitor.operate(language).await;
        }
        if templates.first(&[refusal.to_owned()]).is_none() {
            let message = format!(
                "request_token_403_template (BGFILES_REQUEST_TOKEN_403_TEMPLATE): there is no {refusal}"
            );
            return Err(Error::Config(message));
        }
        toolbox.close().await;
        Ok(())
    }
}

fn examples(folder: &Path, database: &Path) -> Result<Registry> {
    let source = Source::open(&format!("sqlite:{}", database.display()))?;
    let mut registry = Registry::new();
    for (name, text) in EXAMPLES {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(Error::io(path.display().to_string()))?;
        registry.register(DeclaredExport::new(Definition::load(&path)?, source.clone()))?;
    }
    Ok(registry)
}

/// People, requests in every state, links, a lock, a request token, mails. Gives the links.
async fn populate(toolbox: &Toolbox) -> Result<Vec<String>> {
    for (name, role) in [("amy", Role::User), ("olga", Role::Staff)] {
        let email = format!("{name}@example.com");
        let new = NewUser { username: name.into(), email, role, password: None };
        toolbox.create_user(new).await?;
    }
    toolbox.create_client("api", None, "", TokenPolicy::OneOnly).await?;
    let ask = |file_type: &str| -> Result<NewFileRequest> {
        let mut new = NewFileRequest::new(file_type.parse()?);
        new.requester = Requester { id: Some("amy".into()), email: "amy@example.com".into() };
        Ok(new)
    };
    let mut tx = toolbox.db().begin().await?;
    let made = toolbox.add_request(&mut tx, ask("example")?).await?;
    let broken = toolbox.add_request(&mut tx, ask("broken")?).await?;
    toolbox.add_request(&mut tx, ask("example")?).await?;
    let unwanted = toolbox.add_request(&mut tx, ask("example")?).await?;
    toolbox.cancel(&mut tx, unwanted.id).await?;
    toolbox.create_request_token(&mut tx, NewRequestToken::new("example")).await?;
    tx.commit().await?;
    let stop = CancellationToken::new();
    for id in [made.id, broken.id] {
        toolbox.dispatch(id, "check", &stop).await?;
    }
    let mut tx = toolbox.db().begin().await?;
    let due = notice::store::due(&mut tx, toolbox.clock().now(), 10).await?;
    let mut links = Vec::new();
    if let Some(row) = store::find(&mut tx, made.id).await? {
        for max_uses in [NonZeroU32::new(1), None] {
            for requester_only in [Some(true), Some(false)] {
                let options = LinkOptions {
                    max_uses: Some(max_uses),
                    role: Role::Service,
                    requester_only,
                    scanner_safe: Some(true),
                    ..LinkOptions::default()
                };
                links.push(toolbox.create_link(&mut tx, &row, options).await?.1);
            }
        }
    }
    tx.commit().await?;
    for id in due {
        toolbox.deliver_notice(id).await?;
    }
    links.push(format!("{BASE}/d/nonsense"));
    links.push(format!("{BASE}/no-such-page"));
    Ok(links)
}

/// Somebody who follows every link.
struct Visitor {
    router: Router,
}

impl Visitor {
    /// The pages that one comes to, one after the other.
    async fn walk(&self, links: &[String], language: &str, name: &str, role: Role) {
        let starts =
            ["/", "/login", "/files", "/new", "/account", "/operate", "/dev/mail", "/docs"];
        let links = links.iter().filter_map(|url| url.strip_prefix(BASE));
        let mut queue: Vec<String> = starts.into_iter().chain(links).map(str::to_owned).collect();
        let mut seen: BTreeSet<String> = queue.iter().cloned().collect();
        let mut at = 0;
        while let Some(path) = queue.get(at).cloned().filter(|_| at < PAGES) {
            at += 1;
            let request = self.request("GET", &path, language, name, role);
            let Ok(request) = request.body(Body::empty()) else { continue };
            let (text, _) = self.send(request).await;
            for next in targets(&text) {
                // What a page shows by a query is the same page.
                let next = next.split(['?', '#']).next().unwrap_or_default().to_owned();
                let is_new = next.starts_with('/') && !next.starts_with("/static/");
                if is_new && seen.insert(next.clone()) {
                    queue.push(next);
                }
            }
        }
    }

    /// The page of who asks for a file, and is told that it comes later.
    async fn ask(&self, language: &str) {
        let request = self.request("POST", "/api/requests", language, "amy", Role::User);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let body = r#"{"file_type": "example", "deliver": "later"}"#;
        if let Ok(request) = request.body(Body::from(body)) {
            self.send(request).await;
        }
    }

    /// What operators do with several requests.
    async fn operate(&self, language: &str) {
        let list = self.request("GET", "/operate/requests", language, "olga", Role::Staff);
        let Ok(list) = list.body(Body::empty()) else { return };
        let (text, cookie) = self.send(list).await;
        let after = |mark: &str| {
            let rest = text.split_once(mark).map(|(_, rest)| rest);
            rest.and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned()
        };
        let (csrf, id) = (after("name=\"csrf\" value=\""), after("name=\"id\" value=\""));
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("csrf", csrf.as_str()), ("id", &id), ("action", "retry")])
            .finish();
        let request = self
            .request("POST", "/operate/requests", language, "olga", Role::Staff)
            .header(header::COOKIE, cookie)
            .header(header::ORIGIN, BASE)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Ok(request) = request.body(Body::from(form)) {
            self.send(request).await;
        }
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        language: &str,
        name: &str,
        role: Role,
    ) -> axum::http::request::Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, "text/html")
            .header(header::ACCEPT_LANGUAGE, language)
            .extension(ConnectInfo(SocketAddr::from((Ipv4Addr::LOCALHOST, 1))));
        if !name.is_empty() {
            let email = format!("{name}@example.com");
            request = request.extension(Caller {
                username: name.to_owned(),
                email,
                role,
                proof: if path.starts_with("/api") { Proof::Host } else { Proof::Session },
            });
        }
        request
    }

    /// What comes back, and the cookie with it. Templates remember what fails; a stream that never
    /// ends is left.
    async fn send(&self, request: Request<Body>) -> (String, String) {
        let Ok(response) = self.router.clone().oneshot(request).await;
        let cookie = response.headers().get(header::SET_COOKIE).and_then(|c| c.to_str().ok());
        let cookie = cookie.and_then(|c| c.split(';').next()).unwrap_or_default().to_owned();
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|c| c.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("text/html")) {
            return (String::new(), cookie);
        }
        let body = response.into_body().collect().await.map(|body| body.to_bytes());
        (String::from_utf8_lossy(&body.unwrap_or_default()).into_owned(), cookie)
    }
}

/// Where the links of a page lead.
fn targets(html: &str) -> impl Iterator<Item = String> {
    html.split("href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(|target| target.replace("&#x2f;", "/").replace("&amp;", "&"))
}
