//! Who looks at a page, and how: language, time zone, and the proof that a form is ours.

use std::time::Duration;

use axum::{
    http::{HeaderMap, HeaderValue, Uri, header},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono_tz::Tz;
use minijinja::{Value, context};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::web::session;
use crate::{
    auth_token::{Caller, Proof, Role},
    config::BaseUrl,
    error::{Error, Result},
    file_request::model::rfc3339,
    ids::{hex, random_bytes},
    messages::{self, LANGUAGES},
    toolbox::Toolbox,
};

/// What a form's token is derived from, for browsers without a session.
const FORM: &str = "bgfiles_form";
/// The language that somebody chose.
pub(super) const LANGUAGE: &str = "bgfiles_language";
/// The time zone that somebody chose, or that their browser has.
pub(super) const TIMEZONE: &str = "bgfiles_timezone";
/// A day, for cookies of visitors without a session.
const DAY: Duration = Duration::from_secs(86_400);

/// Pages load nothing from elsewhere, run no script that stands in them, and send forms to us only.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// What a page may link to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Site {
    /// Whether there are pages to log in to.
    pub(super) pages: bool,
    /// Whether there is `/dev/mail`.
    pub(super) mailbox: bool,
}

/// How a page looks to whoever asks for it.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) language: &'static str,
    pub(super) timezone: Tz,
    /// Whether that is theirs, and not for want of a better one.
    has_timezone: bool,
    /// Path and query, below the base URL.
    pub(super) path: String,
    csrf: String,
    /// To be set, as what the form's token derives from.
    cookie: Option<String>,
    user: Option<Value>,
    staff: bool,
    done: Option<String>,
}

impl View {
    /// Of a request whose caller is not known, or does not matter.
    pub(super) fn of(base: &BaseUrl, headers: &HeaderMap, uri: &Uri) -> View {
        let (session, form) = (session::of(base, headers), session::secret(base, headers, FORM));
        let form = form.filter(|secret| secret.len() >= 32);
        let fresh = (session.is_none() && form.is_none())
            .then(|| URL_SAFE_NO_PAD.encode(random_bytes::<24>()));
        let secret = match &session {
            Some(session) => session.expose(),
            None => form.or(fresh.as_deref()).unwrap_or_default(),
        };
        let digest = Sha256::digest(format!("bgfiles form\n{secret}").as_bytes());
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let done = pairs.find(|(name, _)| name == "done").map(|(_, value)| value.into_owned());
        View {
            language: language(headers),
            timezone: timezone(headers).unwrap_or(Tz::UTC),
            has_timezone: timezone(headers).is_some(),
            path: format!("{}{query}", uri.path()),
            csrf: hex(&digest),
            cookie: fresh,
            user: None,
            staff: false,
            done,
        }
    }

    /// For somebody who proved who they are.
    pub(super) fn for_caller(mut self, caller: &Caller) -> View {
        self.staff = caller.role == Role::Staff;
        self.user = Some(context! {
            name => &caller.username,
            email => &caller.email,
            role => caller.role.as_str(),
            staff => self.staff,
            session => caller.proof == Proof::Session,
        });
        self
    }

    /// Whether a form's token is the one that we put there.
    pub(super) fn is_ours(&self, token: &str) -> bool {
        self.cookie.is_none() && self.csrf.as_bytes().ct_eq(token.as_bytes()).into()
    }

    /// In that zone, unless theirs is known.
    pub(super) fn or_timezone(mut self, zone: Tz) -> View {
        if !self.has_timezone {
            self.timezone = zone;
        }
        self
    }

    /// The same for a fragment that is sent to the page at `path`.
    pub(super) fn at(mut self, path: &str) -> View {
        self.path = path.to_owned();
        self
    }

    /// The variables that every template may use.
    pub(super) fn context(&self, toolbox: &Toolbox, site: Site) -> Value {
        let here = self.path.split('?').next().unwrap_or_default();
        let item = |key: &str, path: &str| {
            let below = here
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            let current = if path == "/operate" { here == path } else { below };
            context! { key, path, current }
        };
        let mut nav = vec![item("nav.files", "/files"), item("nav.new", "/new")];
        let mut subnav = Vec::new();
        if self.staff {
            let current = here.starts_with("/operate");
            nav.push(context! { key => "nav.operate", path => "/operate", current });
            if current {
                subnav = [
                    ("operate.overview", "/operate"),
                    ("operate.requests.title", "/operate/requests"),
                    ("operate.file_types", "/operate/file-types"),
                    ("operate.accounts", "/operate/accounts"),
                    ("operate.request_tokens", "/operate/request-tokens"),
                    ("operate.locks", "/operate/locks"),
                    ("operate.audit", "/operate/audit"),
                ]
                .map(|(key, path)| item(key, path))
                .to_vec();
            }
        }
        let texts = toolbox.templates().messages();
        let done =
            self.done.as_deref().filter(|done| texts.get("en", &format!("done.{done}")).is_some());
        context! {
            language => self.language,
            languages => LANGUAGES.iter().map(|(tag, name)| [*tag, *name]).collect::<Vec<_>>(),
            timezone => self.timezone.name(),
            now => rfc3339(Some(toolbox.clock().now())),
            base => toolbox.base_url().path(""),
            path => &self.path,
            csrf => &self.csrf,
            user => &self.user,
            nav => nav,
            subnav => subnav,
            done => done,
            site => context! { pages => site.pages, mailbox => site.mailbox },
        }
    }

    /// A template with these variables and the page's own.
    pub(super) fn render(
        &self,
        toolbox: &Toolbox,
        site: Site,
        template: &str,
        own: Value,
    ) -> Result<String> {
        let common = self.context(toolbox, site);
        let page =
            toolbox.templates().render(&[template.to_owned()], &context! { ..own, ..common })?;
        page.ok_or_else(|| Error::Internal(format!("there is no template {template}")))
    }

    /// A page of ours, complete with its headers.
    pub(super) fn page(
        &self,
        toolbox: &Toolbox,
        site: Site,
        template: &str,
        own: Value,
    ) -> Result<Response> {
        let mut response = Html(self.render(toolbox, site, template, own)?).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Other sites learn nothing. Without any, browsers would send forms with `Origin: null`.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        if let Some(secret) = &self.cookie {
            let path = toolbox.base_url().path("/");
            headers.append(header::SET_COOKIE, session::set(toolbox, FORM, secret, &path, DAY)?);
        }
        Ok(response)
    }
}

/// As chosen, else as the browser prefers (RFC 9110, section 12.5.4), else English.
pub fn language(headers: &HeaderMap) -> &'static str {
    if let Some(chosen) = session::cookie(headers, LANGUAGE).and_then(messages::known) {
        return chosen;
    }
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let mut best = ("en", 0.0);
    for part in accepted.unwrap_or_default().split(',').take(20) {
        let mut parts = part.split(';').map(str::trim);
        let tag = parts.next().unwrap_or_default();
        let quality = parts.find_map(|p| p.strip_prefix("q=")).and_then(|q| q.parse().ok());
        let quality: f32 = quality.unwrap_or(1.0);
        if let Some(known) = messages::known(tag).filter(|_| quality > best.1) {
            best = (known, quality);
        }
    }
    best.0
}

fn timezone(headers: &HeaderMap) -> Option<Tz> {
    session::cookie(headers, TIMEZONE).and_then(|zone| zone.parse().ok())
}
