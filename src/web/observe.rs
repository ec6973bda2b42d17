//! One log line and one measurement an answer. A path is logged as its route, never as it came:
//! `/d/{token}` and not the token.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use tracing::Instrument;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(super) async fn observe(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(&request);
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "none".into());
    let span = tracing::info_span!("http", request_id = %id, %method, route);
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let (status, seconds) = (response.status().as_u16(), began.elapsed().as_secs_f64());
    span.in_scope(|| tracing::info!(status, ms = (seconds * 1000.0).round(), "answered"));
    metrics::histogram!("bgfiles_http_seconds", "method" => method.to_string(),
        "route" => route, "status" => status.to_string())
    .record(seconds);
    response
}

/// The caller's own id when it is harmless, else a new one.
fn request_id(request: &Request) -> String {
    let harmless = |id: &&str| {
        (1..=64).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    given.filter(harmless).map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}
