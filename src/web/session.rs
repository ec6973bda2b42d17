//! The session cookie, and the cookies of downloads.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, header};
use axum_extra::extract::cookie::{Cookie, SameSite};

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

/// The name of a session's cookie.
pub(super) fn name(base: &BaseUrl) -> String {
    secret_name(base, SESSION, true)
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
    // Not a `CookieJar`, which keeps one of two that have the same name.
    let cookies = lines.flat_map(Cookie::split_parse).flatten();
    cookies.filter(move |cookie| cookie.name() == name).filter_map(|cookie| cookie.value_raw())
}

/// The `Set-Cookie` of a session.
pub(super) fn begin(toolbox: &Toolbox, secret: &SessionSecret) -> Result<HeaderValue> {
    let path = toolbox.base_url().path("/");
    set(toolbox, SESSION, secret.expose(), &path, toolbox.session_age())
}

/// The header that takes the cookie of a session away.
pub(super) fn end(toolbox: &Toolbox) -> Result<(header::HeaderName, HeaderValue)> {
    let path = toolbox.base_url().path("/");
    Ok((header::SET_COOKIE, set(toolbox, SESSION, "", &path, Duration::ZERO)?))
}

/// A cookie that is a secret: one that scripts cannot read and that other sites' forms do not carry.
/// `Secure` where people come by https.
pub(super) fn set(
    toolbox: &Toolbox,
    name: &str,
    value: &str,
    path: &str,
    age: Duration,
) -> Result<HeaderValue> {
    let base = toolbox.base_url();
    let age = age.try_into().map_err(|e| Error::Internal(format!("cookie: {e}")))?;
    let cookie = Cookie::build((secret_name(base, name, path == "/"), value))
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(base.is_https())
        .path(path)
        .max_age(age)
        .build();
    HeaderValue::from_str(&cookie.to_string()).map_err(|e| Error::Internal(format!("cookie: {e}")))
}
