//! Pages for people: their files and account, and what operators look after.
//!
//! Forms work without JavaScript. Each carries a token that is derived from the session, and is
//! answered with a redirect, so that a reload repeats nothing.

mod account;
mod criteria;
mod docs;
mod edit;
mod file;
mod files;
mod form;
mod live;
mod login;
mod mailbox;
mod new;
mod operate;

use std::{path::PathBuf, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use minijinja::Value;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::web::{
    Problem, WebState, identity::caller, problem::wants_html, routes::Routes, view::View,
};
use crate::{
    auth_token::Caller,
    error::{Error, Result},
    toolbox::{ActingOnAccounts, ActingOnRequests, Operator, Toolbox},
};

type State = axum::extract::State<Arc<WebState>>;

pub(super) fn routes() -> Routes {
    Routes::default()
        .get("/", files::start)
        .post("/logout", login::log_out)
        .post("/preferences", login::preferences)
        .get("/files", files::list)
        .get("/files/events", live::events)
        .get("/files/{id}", files::show)
        .post("/files/{id}/cancel", files::cancel)
        .post("/files/{id}/retry", files::retry)
        .post("/files/{id}/again", files::again)
        .post("/files/{id}/delete", files::delete)
        .get("/files/{id}/edit", edit::description)
        .post("/files/{id}/edit", edit::save_description)
        .post("/files/{id}/links", files::share)
        .post("/files/{id}/links/{jti}/revoke", files::revoke)
        .post("/files/{id}/expire", operate::requests::expire)
        .post("/files/{id}/mail", operate::requests::mail)
        .get("/new", new::choose)
        .get("/new/{file_type}", new::form)
        .post("/new/{file_type}", new::ask)
        .get("/account", account::show)
        .post("/account/key", account::make_key)
        .post("/account/key/revoke", account::revoke_key)
        .post("/account/sessions/{id}/end", account::end_session)
        .post("/account/log-out-everywhere", account::log_out_everywhere)
        .get("/operate", operate::overview)
        .get("/operate/requests", operate::requests::list)
        .post("/operate/requests", operate::bulk::bulk)
        .get("/operate/file-types", operate::file_types)
        .get("/operate/accounts", operate::accounts::list)
        .get("/operate/users/{id}", operate::accounts::user)
        .post("/operate/users/{id}", operate::accounts::save_user)
        .post("/operate/users/{id}/log-out", operate::accounts::log_out_user)
        .get("/operate/clients/{id}", operate::accounts::client)
        .post("/operate/clients/{id}", operate::accounts::save_client)
        .get("/operate/request-tokens", operate::request_tokens)
        .post("/operate/request-tokens/{id}/expire", operate::expire_request_token)
        .get("/operate/locks", operate::locks)
        .post("/operate/locks/break", operate::break_lock)
        .get("/operate/audit", operate::audit)
        .get("/dev/mail", mailbox::list)
        .get("/dev/mail/{name}", mailbox::show)
        .get("/dev/mail/{name}/html", mailbox::html)
        .get("/docs", docs::show)
}

/// Where nobody is known yet.
pub(super) fn login_routes() -> Routes {
    Routes::default().get("/login", login::form).post("/login", login::log_in)
}

/// Somebody who is logged in, and how pages look to them.
pub(super) struct Person {
    pub(super) caller: Caller,
    pub(super) view: View,
    state: Arc<WebState>,
}

impl Person {
    fn toolbox(&self) -> &Toolbox {
        &self.state.toolbox
    }

    fn page(&self, template: &str, own: Value) -> Result<Response, Problem> {
        Ok(self.view.page(self.toolbox(), self.state.site(), template, own)?)
    }

    fn mailbox(&self) -> Result<&PathBuf> {
        self.state.mailbox.as_ref().ok_or(Error::NotFound("mailbox"))
    }

    /// Requests as they may see and handle them.
    fn requests(&self) -> ActingOnRequests<'_> {
        self.toolbox().requests().by(&self.caller)
    }

    /// What operators look after; for them only.
    fn operator(&self) -> Result<Operator<'_>> {
        self.toolbox().operations().by(&self.caller)
    }

    /// Users and clients; for operators only.
    fn accounts(&self) -> Result<ActingOnAccounts<'_>> {
        self.toolbox().accounts().by(&self.caller)
    }

    /// To a page of ours, with a word on what was done.
    fn done(&self, path: &str, done: &str) -> Result<Response, Problem> {
        let (path, fragment) =
            path.split_once('#').map_or((path, String::new()), |(path, f)| (path, format!("#{f}")));
        // The word of the time before is not said again.
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let mut pairs: Vec<_> = pairs.filter(|(name, _)| name != "done").collect();
        pairs.push(("done".into(), done.into()));
        let query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        redirect(self.toolbox(), &format!("{path}?{query}{fragment}"))
    }
}

impl FromRequestParts<Arc<WebState>> for Person {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<WebState>,
    ) -> Result<Self, Response> {
        let toolbox = &state.toolbox;
        let view = View::of(toolbox.base_url(), &parts.headers, &parts.uri);
        let known = match caller::require(toolbox, parts).await {
            Ok(caller) => toolbox.check_client(&caller).map(|()| caller),
            Err(error) => Err(error),
        };
        match known {
            Ok(caller) => {
                Ok(Person { view: view.for_caller(&caller), caller, state: state.clone() })
            }
            Err(Error::Unauthenticated(_)) if wants_html(&parts.headers) => {
                let next = match parts.method.is_safe() {
                    true => format!("?next={}", utf8_percent_encode(&view.path, NON_ALPHANUMERIC)),
                    false => String::new(),
                };
                Err(redirect(toolbox, &format!("/login{next}"))
                    .unwrap_or_else(IntoResponse::into_response))
            }
            Err(error) => Err(Problem::from(error).into_response()),
        }
    }
}

/// 303 to a path below the base URL.
pub(super) fn redirect(toolbox: &Toolbox, path: &str) -> Result<Response, Problem> {
    let location = HeaderValue::from_str(&toolbox.base_url().path(path));
    let location = location.map_err(|_| Error::NotFound("page"))?;
    let no_store = HeaderValue::from_static("no-store");
    let headers = [(header::LOCATION, location), (header::CACHE_CONTROL, no_store)];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

/// A path of ours that a form names to go on to; another site's counts as none.
pub(super) fn local(path: Option<&str>) -> Option<&str> {
    let plain = |path: &&str| {
        let second = path.as_bytes().get(1);
        path.starts_with('/')
            && !matches!(second, Some(b'/' | b'\\'))
            && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
    };
    path.filter(plain)
}
