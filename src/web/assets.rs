//! Scripts and styles, built in: those of the pages, and the client of locks.

use axum::{
    extract::Path,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use super::{
    Problem,
    conditional::{is_known, not_modified},
};
use crate::{error::Error, ids::hex};

/// `GET /static/{name}`.
pub(super) async fn get(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let (text, content_type) = match name.as_str() {
        "bgfiles.css" => (include_str!("static/bgfiles.css"), "text/css; charset=utf-8"),
        "icon.svg" => (include_str!("static/icon.svg"), "image/svg+xml"),
        "live.js" => (include_str!("static/live.js"), "text/javascript; charset=utf-8"),
        "page.js" => (include_str!("static/page.js"), "text/javascript; charset=utf-8"),
        "edit.js" => (include_str!("static/edit.js"), "text/javascript; charset=utf-8"),
        _ => return Err(Error::NotFound("asset").into()),
    };
    Ok(asset(text, content_type, &headers).into_response())
}

/// A file of this version, which browsers ask for anew.
pub(super) fn asset(
    text: &'static str,
    content_type: &'static str,
    headers: &HeaderMap,
) -> Response {
    let tag = format!("\"{}\"", &hex(&Sha256::digest(text.as_bytes()))[..16]);
    let known = is_known(headers, &tag);
    let about = [
        (header::ETAG, tag.as_str()),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_TYPE, content_type),
    ];
    let response = (about, text).into_response();
    if known { not_modified(response) } else { response }
}
