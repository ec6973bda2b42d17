//! Reading who asks from a request's head.

use std::net::SocketAddr;

use axum::{
    extract::ConnectInfo,
    http::{HeaderMap, header},
};

use crate::visitor::{TrustedProxies, Visitor};

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
