//! `Idempotency-Key`, and the header that says that it was known.

use axum::http::{HeaderMap, HeaderName};

use crate::{error::Result, toolbox::IdempotencyKey};

/// Says that an answer is what an earlier call with the same `Idempotency-Key` came to.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The `Idempotency-Key` of a request, if there is one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().unwrap_or("");
    IdempotencyKey::check(key)?;
    Ok(Some(key))
}
