//! What a request says its body is.

use axum::http::{HeaderMap, header};

/// `Content-Type` of a request's body; empty when there is none, or none that is text.
pub(super) fn content_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Type and subtype of a `Content-Type`, in lower case and without parameters.
pub(super) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
