//! Where a request may carry a token.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Method, header, request::Parts},
};
use futures::{StreamExt, stream};

use crate::{
    request_token::jwt::is_jwt,
    web::media_type::{content_type, essence},
};

/// Most bytes of a body that are read to find a token. A longer body is handed on unread.
const MAX_BODY: usize = 2 * 1024 * 1024;

/// The token of a request, and its body as it came: from the query, else `Authorization: Bearer`,
/// else a key of a JSON object, else a field of a form.
pub(crate) async fn find(name: &str, parts: &Parts, body: Body) -> (Option<String>, Body) {
    if let Some(token) = in_pairs(parts.uri.query().unwrap_or_default().as_bytes(), name) {
        return (Some(token), body);
    }
    if let Some(token) = bearer(&parts.headers) {
        return (Some(token), body);
    }
    let methods = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let content_type = content_type(&parts.headers);
    let essence = essence(content_type);
    let kinds = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"];
    if !methods.contains(&parts.method) || !kinds.contains(&essence.as_str()) {
        return (None, body);
    }
    let (bytes, body) = peek(body).await;
    let token = match (bytes, essence.as_str()) {
        (None, _) => None,
        (Some(bytes), "application/json") => in_json(&bytes, name),
        (Some(bytes), "multipart/form-data") => in_multipart(bytes, content_type, name).await,
        (Some(bytes), _) => in_pairs(&bytes, name),
    };
    (token, body)
}

fn in_pairs(text: &[u8], name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(text);
    pairs.find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.into_owned())
}

fn in_json(bytes: &[u8], name: &str) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    json.get(name)?.as_str().filter(|token| !token.is_empty()).map(str::to_owned)
}

async fn in_multipart(bytes: Bytes, content_type: &str, name: &str) -> Option<String> {
    let boundary = multer::parse_boundary(content_type).ok()?;
    let whole = stream::iter([Ok::<_, std::convert::Infallible>(bytes)]);
    let mut form = multer::Multipart::new(whole, boundary);
    while let Ok(Some(field)) = form.next_field().await {
        if field.name() == Some(name) && field.file_name().is_none() {
            return field.text().await.ok().filter(|token| !token.is_empty());
        }
    }
    None
}

/// A bearer token that has the form of ours; somebody else's is left alone.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && is_jwt(token)).then(|| token.to_owned())
}

/// The bytes of a body that is no longer than [`MAX_BODY`], and a body that has them all.
async fn peek(body: Body) -> (Option<Bytes>, Body) {
    let mut rest = body.into_data_stream();
    let mut seen: Vec<Result<Bytes, axum::Error>> = Vec::new();
    let mut length = 0;
    while let Some(chunk) = rest.next().await {
        length += chunk.as_ref().map_or(0, Bytes::len);
        let whole = chunk.is_ok() && length <= MAX_BODY;
        seen.push(chunk);
        if !whole {
            return (None, Body::from_stream(stream::iter(seen).chain(rest)));
        }
    }
    let chunks = seen.into_iter().flatten();
    let bytes = Bytes::from(chunks.fold(Vec::with_capacity(length), |mut all, chunk| {
        all.extend_from_slice(&chunk);
        all
    }));
    (Some(bytes.clone()), Body::from(bytes))
}
