//! Logging in and out, and how pages look.

use std::time::Duration;

use axum::{
    extract::Query,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use chrono_tz::Tz;
use minijinja::context;
use serde::Deserialize;

use super::{
    Person, State,
    form::{Form, Posted, check},
    local, redirect,
};
use crate::{
    error::{Error, Result},
    messages,
    web::{
        Problem, WebState,
        identity::caller,
        session,
        view::{LANGUAGE, TIMEZONE, View},
        visitor::visitor,
    },
};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

#[derive(Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

pub(super) async fn form(
    axum::extract::State(state): State,
    Query(query): Query<Next>,
    parts: Parts,
) -> Result<Response, Problem> {
    let next = local(query.next.as_deref()).unwrap_or("/files");
    if let Ok(Some(_)) = caller::identify(&state.toolbox, &parts).await {
        return redirect(&state.toolbox, next);
    }
    let view = View::of(state.toolbox.base_url(), &parts.headers, &parts.uri);
    show(&state, &view, next, "", None, StatusCode::OK)
}

fn show(
    state: &WebState,
    view: &View,
    next: &str,
    username: &str,
    error: Option<(&str, u64)>,
    status: StatusCode,
) -> Result<Response, Problem> {
    let (error, seconds) = (error.map(|e| e.0), error.map_or(0, |e| e.1));
    let own = context! { next, username, error, seconds };
    let mut response = view.page(&state.toolbox, state.site(), "page/login.html", own)?;
    *response.status_mut() = status;
    Ok(response)
}

/// Whoever sends it: a wrong password shows the form again, with what was typed but the password.
pub(super) async fn log_in(
    axum::extract::State(state): State,
    parts: Parts,
    form: Form,
) -> Result<Response, Problem> {
    let toolbox = &state.toolbox;
    let view = View::of(toolbox.base_url(), &parts.headers, &parts.uri);
    let next = local(form.get("next")).unwrap_or("/files");
    let username = form.filled("username").unwrap_or_default();
    let again = |error, status| show(&state, &view, next, username, Some(error), status);
    // The token of this form hangs on a cookie that a host beside ours may have planted.
    if check(&view, &form).is_err() || !caller::comes_from_here(toolbox, &parts) {
        return again(("stale", 0), StatusCode::FORBIDDEN);
    }
    let visitor = visitor(&parts.headers, &parts.extensions, toolbox.trusted_proxies());
    let password = form.get("password").unwrap_or_default();
    let person = match toolbox.throttle(None, &visitor).await {
        Ok(_) => toolbox.check_credentials(username, password, &visitor).await,
        Err(error) => Err(error),
    };
    match person {
        Ok(Some(person)) => {
            let before = session::of(toolbox.base_url(), &parts.headers);
            let secret = toolbox.begin_session(&person.id, before.as_ref()).await?;
            let mut response = redirect(toolbox, next)?;
            let cookie = session::begin(toolbox, &secret)?;
            response.headers_mut().append(header::SET_COOKIE, cookie);
            Ok(response)
        }
        Ok(None) => again(("refused", 0), StatusCode::UNPROCESSABLE_ENTITY),
        Err(Error::Throttled { retry_after }) => {
            let seconds = u64::try_from(retry_after.as_millis().div_ceil(1000)).unwrap_or(60);
            let mut response = again(("throttled", seconds.max(1)), StatusCode::TOO_MANY_REQUESTS)?;
            response.headers_mut().insert(header::RETRY_AFTER, seconds.max(1).into());
            Ok(response)
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn log_out(headers: HeaderMap, posted: Posted) -> Result<Response, Problem> {
    let toolbox = posted.person.toolbox();
    if let Some(secret) = session::of(toolbox.base_url(), &headers) {
        toolbox.end_session(&secret).await?;
    }
    let mut response = redirect(toolbox, "/login")?;
    let (name, value) = session::end(toolbox)?;
    response.headers_mut().append(name, value);
    Ok(response)
}

/// Language and time zone of this browser.
pub(super) async fn preferences(posted: Posted) -> Result<Response, Problem> {
    let Posted { person, form } = &posted;
    let toolbox = person.toolbox();
    let mut response = redirect(toolbox, posted.next("/files"))?;
    if let Some(language) = form.filled("language").and_then(messages::known) {
        set(person, response.headers_mut(), LANGUAGE, language)?;
    }
    if let Some(zone) = form.filled("timezone") {
        let zone: Tz = zone.parse().map_err(|_| {
            Error::invalid("timezone", "is not an IANA time zone, e.g. Europe/Amsterdam")
        })?;
        set(person, response.headers_mut(), TIMEZONE, zone.name())?;
    }
    Ok(response.into_response())
}

/// Not a secret: the page's script looks whether there is one.
fn set(person: &Person, headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let path = person.toolbox().base_url().path("/");
    let secure = if person.toolbox().base_url().is_https() { "; Secure" } else { "" };
    let age = YEAR.as_secs();
    let text = format!("{name}={value}; Path={path}; Max-Age={age}; SameSite=Lax{secure}");
    let cookie = HeaderValue::from_str(&text).map_err(|e| Error::Internal(e.to_string()))?;
    headers.append(header::SET_COOKIE, cookie);
    Ok(())
}
