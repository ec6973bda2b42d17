//! Reading who knocks from a request's head.

use std::net::SocketAddr;

use axum::{
    extract::ConnectInfo,
    http::{HeaderMap, header, request::Parts},
};

use super::{caller, session};
use crate::{
    auth_token::{Caller, SessionSecret},
    error::Result,
    toolbox::Toolbox,
    visitor::{TrustedProxies, Visitor},
};

/// The visitor of a request. The peer's address is known where the server tells it (axum's
/// [`ConnectInfo`]).
pub(super) fn visitor(
    headers: &HeaderMap,
    extensions: &axum::http::Extensions,
    proxies: &TrustedProxies,
) -> Visitor {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let forwarded: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    Visitor::new(proxies.client(peer, &forwarded), text(header::USER_AGENT).unwrap_or_default())
}

/// Everything a route may want to know of who asks.
#[derive(Clone, Debug)]
pub(super) struct Knock {
    pub(super) visitor: Visitor,
    /// Who is logged in.
    pub(super) user: Option<String>,
    /// The same, with how they proved it.
    pub(super) caller: Option<Caller>,
    pub(super) session: Option<SessionSecret>,
}

pub(super) async fn knock(toolbox: &Toolbox, parts: &Parts) -> Result<Knock> {
    let visitor = visitor(&parts.headers, &parts.extensions, &toolbox.trusted_proxies);
    let session = session::of(&toolbox.base_url, &parts.headers);
    let caller = caller::identify(toolbox, parts).await?;
    let user = caller.as_ref().map(|caller| caller.username.clone());
    Ok(Knock { visitor, user, caller, session })
}
