//! The session cookie, and the cookies of downloads.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};

use crate::{
    auth_token::SessionSecret,
    config::BaseUrl,
    error::{Error, Result},
    toolbox::Toolbox,
};

const SESSION: &str = "bgfiles_session";

/// A cookie that is a secret, by the name that browsers let nobody else set. With `__Host-` that is
/// no other host and nobody without TLS (RFC 6265bis, section 4.1.3); such a cookie is of all paths,
/// and the one of a narrower path has `__Secure-`. By plain http there is no such promise.
fn secret_name(base: &BaseUrl, name: &str, whole_host: bool) -> String {
    match base.is_https() {
        true if whole_host && base.path("/") == "/" => format!("__Host-{name}"),
        true => format!("__Secure-{name}"),
        false => name.to_owned(),
    }
}

/// The session that a request brings.
pub(super) fn of(base: &BaseUrl, headers: &HeaderMap) -> Option<SessionSecret> {
    SessionSecret::parse(secret(base, headers, SESSION)?)
}

/// The value of a cookie of the whole host that nobody else may plant. Of two, one is somebody's who
/// did, and nobody knows which: then there is none.
pub(super) fn secret<'h>(base: &BaseUrl, headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    only(headers, &secret_name(base, name, true))
}

/// The same of a cookie of one path.
pub(super) fn secret_below<'h>(
    base: &BaseUrl,
    headers: &'h HeaderMap,
    name: &str,
) -> Option<&'h str> {
    only(headers, &secret_name(base, name, false))
}

fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = cookies(headers, name);
    values.next().filter(|_| values.next().is_none())
}

/// The value of a cookie that is no secret.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    cookies(headers, name).next()
}

fn cookies<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.filter(move |(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// The `Set-Cookie` of a session.
pub(super) fn begin(toolbox: &Toolbox, secret: &SessionSecret) -> Result<HeaderValue> {
    set(toolbox, SESSION, secret.expose(), "/", toolbox.session_age)
}

/// The header that takes the cookie of a session away.
pub(super) fn end(toolbox: &Toolbox) -> Result<(header::HeaderName, HeaderValue)> {
    Ok((header::SET_COOKIE, set(toolbox, SESSION, "", "/", Duration::ZERO)?))
}

/// A cookie that is a secret: one that scripts cannot read and that other sites' forms do not carry. `Secure` where
/// people come by https.
pub(super) fn set(
    toolbox: &Toolbox,
    name: &str,
    value: &str,
    path: &str,
    age: Duration,
) -> Result<HeaderValue> {
    let secure = if toolbox.base_url.is_https() { "; Secure" } else { "" };
    let name = secret_name(&toolbox.base_url, name, path == "/");
    let age = age.as_secs();
    let text =
        format!("{name}={value}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&text).map_err(|e| Error::Internal(format!("cookie: {e}")))
}
