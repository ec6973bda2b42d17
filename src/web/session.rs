//! The session cookie, and the cookies of downloads.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};

use crate::{
    auth_token::SessionSecret,
    error::{Error, Result},
    toolbox::Toolbox,
};

const SESSION: &str = "bgfiles_session";

/// The session that a request brings.
pub(super) fn of(headers: &HeaderMap) -> Option<SessionSecret> {
    SessionSecret::parse(cookie(headers, SESSION)?)
}

/// A cookie's value.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// The `Set-Cookie` of a session.
pub(super) fn begin(toolbox: &Toolbox, secret: &SessionSecret) -> Result<HeaderValue> {
    set(toolbox, SESSION, secret.expose(), "/", toolbox.session_age)
}

/// The header that takes the cookie of a session away.
pub(super) fn end(toolbox: &Toolbox) -> Result<(header::HeaderName, HeaderValue)> {
    Ok((header::SET_COOKIE, set(toolbox, SESSION, "", "/", Duration::ZERO)?))
}

/// A cookie that scripts cannot read and that other sites' forms do not carry. `Secure` where
/// people come by https.
pub(super) fn set(
    toolbox: &Toolbox,
    name: &str,
    value: &str,
    path: &str,
    age: Duration,
) -> Result<HeaderValue> {
    let secure = if toolbox.base_url.is_https() { "; Secure" } else { "" };
    let age = age.as_secs();
    let text =
        format!("{name}={value}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&text).map_err(|e| Error::Internal(format!("cookie: {e}")))
}
