//! Who is calling, and whether they may call at all.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, HeaderName, Method, header, request::Parts},
};

use crate::web::{Problem, WebState, problem::BEARER, rate, session, visitor::visitor};
use crate::{
    auth_token::{AuthSecret, Caller, Proof, SessionSecret},
    error::{Error, Result},
    toolbox::Toolbox,
    visitor::Visitor,
};

/// Set by a host application's own layer (request extension) when it knows who is calling: the
/// requester id, as it stands in the file requests, to the byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequesterId(pub String);

/// Whom a layer of ours further out has identified, and no more: whether they may do what they ask for
/// is still to be found out. Counts for the [`RequesterId`] that it set.
#[derive(Clone, Debug)]
pub(crate) struct Identified(pub(crate) Caller);

/// The secret of `Authorization: Token <secret>` or `Bearer <secret>`; `None` without the header, with
/// another scheme, or with a bearer token that does not mean to be ours: a request token, or what a
/// host application takes for itself.
fn secret(headers: &HeaderMap, prefix: &str) -> Result<Option<AuthSecret>> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    // Bytes that are no text are somebody's mistake, not a crash.
    let value = value.to_str().map_err(|_| Error::Unauthenticated("Invalid token."))?;
    let mut words = value.split_ascii_whitespace();
    let Some(scheme) = words.next() else { return Ok(None) };
    let is_bearer = scheme.eq_ignore_ascii_case(BEARER);
    if !is_bearer && !scheme.eq_ignore_ascii_case(prefix) {
        return Ok(None);
    }
    let secret = words
        .next()
        .ok_or(Error::Unauthenticated("Invalid token header. No credentials provided."))?;
    if is_bearer && !AuthSecret::is_meant(secret) {
        return Ok(None);
    }
    if words.next().is_some() {
        return Err(Error::Unauthenticated(
            "Invalid token header. Token string should not contain spaces.",
        ));
    }
    Ok(Some(AuthSecret::parse(secret).ok_or(Error::Unauthenticated("Invalid token."))?))
}

/// Whether a bearer token was given that is no request token: those have three parts with dots between
/// them.
fn brings_other_bearer(headers: &HeaderMap) -> bool {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let words = value.and_then(|value| value.split_once(' '));
    words.is_some_and(|(scheme, token)| {
        scheme.eq_ignore_ascii_case(BEARER) && token.split('.').count() != 3
    })
}

/// Who calls: as the host application says, else by token, else as a trusted proxy says, else by
/// session. `None` for nobody.
///
/// # Errors
/// [`Error::Unauthenticated`] for a token that is not good, and for an inactive user.
pub(crate) async fn identify(toolbox: &Toolbox, parts: &Parts) -> Result<Option<Caller>> {
    if let Some(caller) = parts.extensions.get::<Caller>() {
        return Ok(Some(caller.clone()));
    }
    if let Some(RequesterId(id)) = parts.extensions.get::<RequesterId>() {
        let known = parts.extensions.get::<Identified>();
        if let Some(Identified(caller)) = known.filter(|known| known.0.username == *id) {
            return Ok(Some(caller.clone()));
        }
        return toolbox.vouched_for(id, None, Proof::Host).await.map(Some);
    }
    if let Some(secret) = secret(&parts.headers, &toolbox.auth_settings().header_prefix)? {
        let visitor = visitor(&parts.headers, &parts.extensions, toolbox.trusted_proxies());
        return toolbox.authenticate(&secret, &visitor).await.map(Some);
    }
    if let Some(id) =
        said_by_proxy(toolbox, parts, toolbox.auth_settings().identity_header.as_ref())?
    {
        let email =
            said_by_proxy(toolbox, parts, toolbox.auth_settings().identity_email_header.as_ref())?;
        return toolbox.vouched_for(id, email, Proof::Proxy).await.map(Some);
    }
    let Some(secret) = session::of(toolbox.base_url(), &parts.headers) else { return Ok(None) };
    let person = toolbox.session_user(&secret).await?;
    person.map(|person| Caller::new(Some(person), Proof::Session)).transpose()
}

/// Whether a request that is still being answered is still of the same caller, with the same rights.
pub(crate) async fn is_still(toolbox: &Toolbox, parts: &Parts, was: &Caller) -> bool {
    let now = identify(toolbox, parts).await.ok().flatten();
    now.is_some_and(|now| (&now.username, now.role) == (&was.username, was.role))
}

/// What a trusted proxy, and nobody else, writes into a header. Two values mean that it added its
/// own to the client's: then nobody knows.
fn said_by_proxy<'p>(
    toolbox: &Toolbox,
    parts: &'p Parts,
    header: Option<&HeaderName>,
) -> Result<Option<&'p str>> {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let trusted = peer.is_some_and(|ConnectInfo(peer)| toolbox.trusted_proxies().trusts(peer.ip()));
    let Some(header) = header.filter(|_| trusted) else { return Ok(None) };
    let mut values = parts.headers.get_all(header).iter();
    let Some(said) = values.next() else { return Ok(None) };
    let unclear = Error::Unauthenticated("The proxy's identity header is not one readable name.");
    let said = std::str::from_utf8(said.as_bytes()).ok().filter(|_| values.next().is_none());
    // Spaces around a value are none of it (RFC 9110, section 5.5). Other blanks are part of a name.
    let said = said.ok_or(unclear)?.trim_matches([' ', '\t']);
    Ok((!said.is_empty()).then_some(said))
}

/// As [`identify`], for routes that need somebody: counts the call against their rate, and refuses
/// what another site makes a browser send in their name.
///
/// # Errors
/// [`Error::Unauthenticated`], [`Error::Forbidden`], [`Error::Throttled`].
pub(crate) async fn require(toolbox: &Toolbox, parts: &Parts) -> Result<Caller> {
    if let Some(caller) = parts.extensions.get::<Caller>() {
        // A layer further out has done all this.
        return Ok(caller.clone());
    }
    let caller = identify(toolbox, parts).await?;
    let caller = caller.ok_or_else(|| match brings_other_bearer(&parts.headers) {
        true => Error::Unauthenticated("Invalid token."),
        false => Error::Unauthenticated("Authentication credentials were not provided."),
    })?;
    if caller.is_ambient() && !comes_from_here(toolbox, parts) {
        return Err(Error::Forbidden("this request was made by another site"));
    }
    rate::count(toolbox, parts, Some(&caller)).await?;
    Ok(caller)
}

/// Whether a request that changes something is of our own pages (Fetch Metadata; `Origin` where a
/// browser does not send it), or of no browser.
pub(crate) fn comes_from_here(toolbox: &Toolbox, parts: &Parts) -> bool {
    if matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return true;
    }
    let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or("odd"));
    match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => toolbox.base_url().has_origin(origin),
        (None, None) => true,
    }
}

/// Everything a route may want to know of who asks.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    pub(crate) visitor: Visitor,
    /// Who is logged in.
    pub(crate) user: Option<String>,
    /// The same, with how they proved it.
    pub(crate) caller: Option<Caller>,
    pub(crate) session: Option<SessionSecret>,
}

pub(crate) async fn request_context(toolbox: &Toolbox, parts: &Parts) -> Result<RequestContext> {
    let visitor = visitor(&parts.headers, &parts.extensions, toolbox.trusted_proxies());
    let session = session::of(toolbox.base_url(), &parts.headers);
    let caller = identify(toolbox, parts).await?;
    let user = caller.as_ref().map(|caller| caller.username.clone());
    Ok(RequestContext { visitor, user, caller, session })
}

/// Whose tabs share a lock: a browser's session, or what a program calls its own.
pub(crate) fn lock_session(
    toolbox: &Toolbox,
    caller: Option<&Caller>,
    headers: &HeaderMap,
) -> Option<String> {
    if caller.is_some_and(|caller| caller.proof == Proof::Session) {
        return session::of(toolbox.base_url(), headers)
            .map(|secret| format!("session {}", secret.hash()));
    }
    let given = headers.get("lock-session")?.to_str().ok()?;
    let fits = (16..=100).contains(&given.len()) && given.bytes().all(|b| b.is_ascii_graphic());
    // Bound to the user, as anybody could say somebody else's.
    let user = caller.map_or("", |caller| caller.username.as_str());
    fits.then(|| format!("client {given} {user}"))
}

impl FromRequestParts<Arc<WebState>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<WebState>) -> Result<Self, Problem> {
        let caller = require(&state.toolbox, parts).await?;
        state.toolbox.check_client(&caller)?;
        Ok(caller)
    }
}
