//! Errors as answers: RFC 9457 for programs, a page for people.

use std::{any::Any, sync::Arc};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{Html, IntoResponse, Response},
};
use minijinja::{Value, context};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use super::openapi::{one_of, parse};
use crate::web::{
    WebState,
    rate::Meter,
    view::{Site, View},
};
use crate::{
    error::{Error, FieldError, Said},
    toolbox::Toolbox,
};

/// The scheme that API tokens may always have, besides the configured one (RFC 6750).
pub(super) const BEARER: &str = "Bearer";

/// When to try again after a disk was full, in seconds: somebody has to make space.
const FULL: u64 = 60;

/// An error on its way out.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: Box<str>,
    title: &'static str,
    detail: String,
    advice: &'static str,
    errors: Vec<FieldError>,
    retry_after: Option<u64>,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        code: &str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        let detail = detail.into();
        Problem {
            status,
            code: code.into(),
            title,
            detail,
            advice: "",
            errors: Vec::new(),
            retry_after: None,
        }
    }

    fn advise(mut self, advice: &'static str) -> Self {
        self.advice = advice;
        self
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        use StatusCode as S;
        let (code, detail) = (error.code().to_owned(), error.public_message());
        let new = |status, title| Problem::new(status, &code, title, detail);
        match error {
            Error::Invalid(errors) => {
                let problem = new(S::UNPROCESSABLE_ENTITY, "Invalid input");
                Problem { errors, ..problem }
            }
            Error::UnknownFileType(_) => {
                let errors =
                    vec![FieldError { field: "file_type".into(), message: detail_of(&error) }];
                Problem { errors, ..new(S::UNPROCESSABLE_ENTITY, "Invalid input") }
            }
            Error::NotFound(_) => new(S::NOT_FOUND, "Not found")
                .advise("It may have been removed. Ask for the file again."),
            Error::BadToken(_) => new(S::BAD_REQUEST, "Invalid link")
                .advise("Open the link from the mail itself; a copied link may have lost its end."),
            Error::LinkExpired => new(S::FORBIDDEN, "Link expired")
                .advise("Ask for a new link, or for the file again."),
            Error::LinkRevoked => new(S::FORBIDDEN, "Link revoked")
                .advise("Whoever gave it to you took it back. Ask them for a new one."),
            Error::LinkNotYetValid => new(S::FORBIDDEN, "Link not yet valid")
                .advise("Try again later, or ask whoever gave it to you."),
            Error::LinkUsedUp => new(S::FORBIDDEN, "Link used up")
                .advise("It worked a limited number of times. Ask for a new one."),
            Error::ConfirmationNeeded => new(S::METHOD_NOT_ALLOWED, "Confirmation required")
                .advise("Open it in a browser, or send POST to it and follow the redirect."),
            Error::FileChanged => {
                new(S::GONE, "File changed").advise("Open the link again to get it as it is now.")
            }
            Error::TokenRefused { .. } => new(S::FORBIDDEN, "Request token refused")
                .advise("Ask whoever gave it to you for a new one."),
            Error::FileExpired => new(S::GONE, "File expired")
                .advise("Files are kept for a limited time. Ask for it again."),
            // Not 404: the link is right and the request is finished, and no later try will find more.
            Error::FileLost(_) => new(S::GONE, "File lost")
                .advise("Ask for it again, and tell whoever runs this service."),
            Error::NotReady(_) => new(S::NOT_FOUND, "File not ready")
                .advise("Try again later; a mail is sent when it is ready."),
            Error::NotRequester => new(S::FORBIDDEN, "Not the requester")
                .advise("Log in as the person who asked for it."),
            Error::Unauthenticated(_) => new(S::UNAUTHORIZED, "Authentication required"),
            Error::Forbidden(_) => new(S::FORBIDDEN, "Forbidden"),
            Error::LinkPolicy(errors) => {
                let problem = new(S::FORBIDDEN, "Wider than the file type allows")
                    .advise("Leave it out: the link is then as the file type says.");
                Problem { errors, ..problem }
            }
            Error::Locked(_) => {
                new(S::LOCKED, "Locked").advise("Wait until they are done, or ask them.")
            }
            Error::LockRefused { held: true } => new(S::FORBIDDEN, "Wrong lock token"),
            Error::LockRefused { held: false } => new(S::NOT_FOUND, "Not locked"),
            Error::Quota(_) => new(S::TOO_MANY_REQUESTS, "Quota exceeded"),
            Error::Throttled { retry_after } => {
                let seconds = retry_after.as_millis().div_ceil(1000).max(1);
                let problem = new(S::TOO_MANY_REQUESTS, "Too many requests")
                    .advise("Wait a little, then try again.");
                Problem { retry_after: u64::try_from(seconds).ok(), ..problem }
            }
            Error::Overloaded { retry_after } => {
                let problem = new(S::SERVICE_UNAVAILABLE, "Temporarily unavailable")
                    .advise("Try again in a little while.");
                Problem { retry_after: Some(retry_after.as_secs().max(1)), ..problem }
            }
            Error::PreconditionFailed => new(S::PRECONDITION_FAILED, "Precondition failed"),
            Error::Conflict { .. } => new(S::CONFLICT, "Conflict"),
            Error::Permanent { .. } => new(S::UNPROCESSABLE_ENTITY, "The file cannot be made"),
            Error::Temporary { .. } => new(S::SERVICE_UNAVAILABLE, "Temporarily unavailable")
                .advise("Try again in a little while."),
            Error::Query(ref fault) => {
                let Said { state, detail, hint, context } = error.said();
                tracing::error!(%error, state, detail, hint, context, "a query failed");
                if fault.is_of_values {
                    new(S::UNPROCESSABLE_ENTITY, "The file cannot be made")
                } else if fault.may_pass {
                    new(S::SERVICE_UNAVAILABLE, "Temporarily unavailable")
                        .advise("Try again in a little while.")
                } else {
                    new(S::INTERNAL_SERVER_ERROR, "Internal error")
                        .advise("Tell whoever runs this service.")
                }
            }
            error if error.is_of_space() => {
                tracing::error!(%error, "a disk is full");
                let problem = new(S::SERVICE_UNAVAILABLE, "Temporarily unavailable")
                    .advise("Try again in a little while.");
                Problem {
                    retry_after: Some(FULL),
                    detail: "there is no space left".into(),
                    ..problem
                }
            }
            error if error.is_of_connection() => {
                tracing::error!(%error, "the database does not answer");
                new(S::SERVICE_UNAVAILABLE, "Temporarily unavailable")
                    .advise("Try again in a little while.")
            }
            Error::Storage(ref cause) if !is_refusal(cause) && error.is_retryable() => {
                tracing::error!(%error, "the store does not answer as it should");
                new(S::SERVICE_UNAVAILABLE, "Temporarily unavailable")
                    .advise("Try again in a little while.")
            }
            error if error.is_unstorable_text() => {
                let message = "some text of it has a NUL character, which cannot be stored";
                Error::invalid("request", message).into()
            }
            other => {
                tracing::error!(error = %other, "request failed");
                new(S::INTERNAL_SERVER_ERROR, "Internal error")
                    .advise("Try again. If it keeps happening, tell whoever runs this service.")
            }
        }
    }
}

/// Whether a store does not let us in: that does not pass by itself.
fn is_refusal(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(error, E::PermissionDenied { .. } | E::Unauthenticated { .. })
}

fn detail_of(error: &Error) -> String {
    error.public_message()
}

/// An error as RFC 9457 has it.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem, examples(json!({
    "type": "about:blank",
    "title": "Not found",
    "status": 404,
    "code": "not_found",
    "detail": "request not found",
})))]
pub(super) struct Refused {
    /// Always the same; `code` tells errors apart.
    #[serde(rename = "type")]
    #[schema(schema_with = about_blank)]
    kind: &'static str,
    /// What it is, for people.
    title: &'static str,
    /// The status of the answer.
    #[schema(value_type = i32, minimum = 400, maximum = 599)]
    status: u16,
    /// Its stable name, for programs.
    code: String,
    /// What exactly, for people.
    detail: String,
    /// Each field that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

fn about_blank() -> RefOr<Schema> {
    parse(one_of(&["about:blank"], "Always the same; `code` tells errors apart."))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Refused {
            kind: "about:blank",
            title: self.title,
            status: self.status.as_u16(),
            code: self.code.to_string(),
            detail: self.detail.clone(),
            errors: self.errors.clone(),
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        self.headers(headers);
        self.mark(&mut response);
        response.extensions_mut().insert(self);
        response
    }
}

/// Marks an answer that was refused because a disk is full.
#[derive(Clone, Copy, Debug)]
struct Full;

impl Problem {
    /// Whether it refuses a request token.
    pub(super) fn refuses_token(&self) -> bool {
        self.code.starts_with("token_")
    }

    /// The problem as a page. `None` when there is no such template, or a broken one.
    pub(super) fn page(
        &self,
        toolbox: &Toolbox,
        site: Site,
        view: &View,
        template: &str,
    ) -> Option<Response> {
        // For people a request token is a link, whatever is wrong with it.
        let title = match self.refuses_token() {
            true => "This link does not admit you",
            false => self.title,
        };
        let own = context! {
            title,
            detail => capitalised(&self.detail),
            advice => self.advice,
            status => self.status.as_u16(),
            code => &*self.code,
            errors => Value::from(minijinja::value::Serde(&self.errors)),
        };
        let page = toolbox.templates().render(
            &[template.to_owned(), "page/problem.html".to_owned()],
            &context! { ..own, ..view.context(toolbox, site) },
        );
        match page {
            Ok(page) => page.map(|page| {
                let mut response = (self.status, Html(page)).into_response();
                self.headers(response.headers_mut());
                response
            }),
            Err(error) => {
                tracing::error!(%error, "the error page could not be rendered");
                None
            }
        }
    }

    /// Says to the layers around that a disk is full, if that is why.
    pub(super) fn mark(&self, response: &mut Response) {
        if &*self.code == "disk_full" {
            response.extensions_mut().insert(Full);
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn headers(&self, headers: &mut HeaderMap) {
        let busy = self.status == StatusCode::SERVICE_UNAVAILABLE;
        if let Some(seconds) = self.retry_after.or(busy.then_some(5)) {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        let mut set = |name, value| headers.insert(name, HeaderValue::from_static(value));
        set(header::CACHE_CONTROL, "no-store");
        match self.status {
            StatusCode::UNAUTHORIZED => {
                drop(set(header::WWW_AUTHENTICATE, "Token realm=\"bgfiles\""))
            }
            StatusCode::METHOD_NOT_ALLOWED if &*self.code == "confirmation_needed" => {
                drop(set(header::ALLOW, "POST"));
            }
            _ => {}
        }
    }
}

/// Names the schemes that are taken in what refuses somebody unknown, a header each: not every client
/// can tell two in one apart.
pub(super) fn challenge(toolbox: &Toolbox, response: &mut Response) {
    if response.status() != StatusCode::UNAUTHORIZED {
        return;
    }
    response.headers_mut().remove(header::WWW_AUTHENTICATE);
    let own = toolbox.auth_settings().header_prefix.as_str();
    let bearer = Some(BEARER).filter(|bearer| !bearer.eq_ignore_ascii_case(own));
    for scheme in std::iter::once(own).chain(bearer) {
        if let Ok(value) = HeaderValue::from_str(&format!("{scheme} realm=\"bgfiles\"")) {
            response.headers_mut().append(header::WWW_AUTHENTICATE, value);
        }
    }
}

/// Turns problems into pages for those who ask for HTML, and sets the headers every answer has.
pub(super) async fn pages(
    State(state): State<Arc<WebState>>,
    mut request: Request,
    next: Next,
) -> Response {
    let meter = Meter::of(request.extensions_mut());
    let html = wants_html(request.headers())
        .then(|| View::of(state.toolbox.base_url(), request.headers(), request.uri()));
    let mut response = next.run(request).await;
    if response.extensions().get::<Full>().is_some() {
        state.toolbox.note_full_disk();
    }
    if let Some(problem) = of_the_framework(&response) {
        response = problem.into_response();
    }
    if let Some(view) = html
        && let Some(problem) = response.extensions_mut().remove::<Problem>()
        && let Some(page) = problem.page(&state.toolbox, state.site(), &view, "page/problem.html")
    {
        response = page;
    }
    challenge(&state.toolbox, &mut response);
    meter.show(response.headers_mut());
    common_headers(response.headers_mut());
    response
}

/// The headers every answer has.
pub(super) fn common_headers(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            // No form-action: a link's form may end at the object store.
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
             base-uri 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    // What is not said to be for everybody is somebody's own, and caches go by the address alone.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::VARY).or_insert(HeaderValue::from_static("Accept"));
}

/// What axum refuses by itself (a path or a query that is no text, a time-out), in our words.
fn of_the_framework(response: &Response) -> Option<Problem> {
    let status = response.status();
    let refused = status.is_client_error() || status.is_server_error();
    if !refused || response.extensions().get::<Problem>().is_some() {
        return None;
    }
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let plain = content_type.is_none_or(|value| value.as_bytes().starts_with(b"text/plain"));
    let handed_out = response.headers().contains_key(header::ETAG);
    let title = status.canonical_reason().unwrap_or("Request refused");
    (plain && !handed_out)
        .then(|| Problem::new(status, "refused", title, "the request cannot be read"))
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let rest = chars.as_str();
    let stop = if rest.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{rest}{stop}")
}

/// Whether the caller prefers a page: HTML is named, and JSON is not named before it.
pub fn wants_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    match (accept.find("text/html"), accept.find("json")) {
        (Some(html), Some(json)) => html < json,
        (html, _) => html.is_some(),
    }
}

pub(super) async fn no_route() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "Not found",
        "there is nothing at this address",
    )
}

pub(super) async fn no_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "Method not allowed",
        "this address does not take this method",
    )
}

/// A bug of ours ends one answer, not the connection.
pub(super) fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::from(Error::Internal("a route panicked".into())).into_response()
}
