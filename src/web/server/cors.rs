//! Pages of other origins that call the API (the Fetch standard's CORS protocol).
//!
//! Never with credentials: a browser sends such a call without our cookies, and shows its answer to
//! no page that sent some. Whoever calls from another origin says who they are by `Authorization`.

use std::time::Duration;

use axum::{
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tower::{Layer, ServiceExt};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::Origins;

/// What other origins may call: the API, locks, and links with their downloads. Not the pages.
const OPEN: [&str; 4] = ["/api/", "/lock_tokens/", "/d/", "/g/"];
/// How long a browser need not ask again.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// What callers may send: what the API reads, and nothing that only a front server may write.
const SENT: [HeaderName; 14] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::RANGE,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("last-event-id"),
    HeaderName::from_static("lock-session"),
    HeaderName::from_static("lock-token"),
    HeaderName::from_static("x-request-id"),
];
/// What scripts may read of an answer besides the few headers that they always may.
const READ: [HeaderName; 14] = [
    header::ACCEPT_RANGES,
    header::CONTENT_DISPOSITION,
    header::CONTENT_RANGE,
    header::ETAG,
    header::LINK,
    header::LOCATION,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static("idempotency-replayed"),
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("x-request-id"),
    header::DATE,
];

/// The layer of these origins; `None` where there are none.
pub(crate) fn layer(origins: &Origins) -> Option<CorsLayer> {
    let origins = match origins {
        Origins::None => return None,
        Origins::Any => AllowOrigin::any(),
        Origins::Some(names) => {
            AllowOrigin::list(names.iter().filter_map(|name| HeaderValue::from_str(name).ok()))
        }
    };
    let methods =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods(methods)
            .allow_headers(SENT)
            .expose_headers(READ)
            .max_age(REMEMBERED),
    )
}

/// Answers preflights before anything is counted or anybody looked up, and marks the other answers.
pub(crate) async fn answer(
    State(layer): State<CorsLayer>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let is_open = OPEN.iter().any(|prefix| path.starts_with(prefix));
    // OPTIONS without these is no preflight, and is answered as ever.
    let asks = request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !is_open || (request.method() == Method::OPTIONS && !asks) {
        return next.run(request).await;
    }
    layer.layer(next).oneshot(request).await.into_response()
}
