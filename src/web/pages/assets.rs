//! Style and scripts, built in.

use axum::{
    extract::Path,
    http::HeaderMap,
    response::{IntoResponse, Response},
};

use crate::{
    error::Error,
    web::{Problem, locks::asset},
};

pub(in crate::web) async fn get(
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (text, content_type) = match name.as_str() {
        "bgfiles.css" => (include_str!("../static/bgfiles.css"), "text/css; charset=utf-8"),
        "icon.svg" => (include_str!("../static/icon.svg"), "image/svg+xml"),
        "live.js" => (include_str!("../static/live.js"), "text/javascript; charset=utf-8"),
        "page.js" => (include_str!("../static/page.js"), "text/javascript; charset=utf-8"),
        "edit.js" => (include_str!("../static/edit.js"), "text/javascript; charset=utf-8"),
        _ => return Err(Error::NotFound("asset").into()),
    };
    Ok(asset(text, content_type, &headers).into_response())
}
