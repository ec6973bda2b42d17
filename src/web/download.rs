//! `GET /d/{token}`: the file.

use std::time::Duration;

use axum::{
    Extension,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};

use super::{
    Problem, RequesterId, Shared, WebState,
    range::{Answer, Representation, answer},
};
use crate::{
    auth_token::Caller,
    config::Serve,
    error::{Error, Result},
    file_request::FileRequest,
    toolbox::Download,
};

/// How long a redirect to the object store works: long enough to begin.
const PRESIGNED: Duration = Duration::from_secs(300);

pub(super) async fn download(
    State(state): Shared,
    method: Method,
    caller: Option<Caller>,
    host: Option<Extension<RequesterId>>,
    headers: HeaderMap,
    token: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    // What is no text is no token of ours.
    let Path(token) = token.map_err(|_| Error::BadToken("it is not text"))?;
    let known = host.map(|Extension(RequesterId(id))| id).or(caller.map(|c| c.username));
    let row = state.toolbox.evaluate_link(&token, known.as_deref()).await?;
    serve_file(&state, &method, &headers, &row).await
}

/// Answers with the file of a request: validators, ranges and HEAD as RFC 9110 has them. For host
/// applications that decide on their own who may download.
///
/// # Errors
/// A problem when there is no file to serve.
pub async fn serve_file(
    state: &WebState,
    method: &Method,
    headers: &HeaderMap,
    row: &FileRequest,
) -> Result<Response, Problem> {
    let file = state.toolbox.serve(row)?;
    let about =
        Representation { etag: &file.etag, last_modified: file.last_modified, size: file.size };
    let answer = answer(headers, &about);
    let mut response = match answer {
        Answer::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        Answer::Failed => StatusCode::PRECONDITION_FAILED.into_response(),
        Answer::NotSatisfiable => {
            let range = format!("bytes */{}", file.size);
            (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, range)]).into_response()
        }
        Answer::Whole | Answer::Part(..) => handed_over(state, &file, method, answer).await?,
    };
    describe(response.headers_mut(), &file)?;
    metrics::counter!("bgfiles_downloads_total", "status" => response.status().as_u16().to_string())
        .increment(1);
    Ok(response)
}

async fn handed_over(
    state: &WebState,
    file: &Download,
    method: &Method,
    answer: Answer,
) -> Result<Response> {
    let told = |name: &'static str, value: String| {
        ([(HeaderName::from_static(name), value)], Body::empty()).into_response()
    };
    match &state.serve {
        Serve::XAccel(prefix) => {
            Ok(told("x-accel-redirect", format!("{prefix}{}", file.storage().relative(file.key))))
        }
        Serve::XSendfile => match file.storage().file(file.key) {
            Some(path) => Ok(told("x-sendfile", path.to_string_lossy().into_owned())),
            None => stream(file, method, answer).await,
        },
        // A URL is signed for GET alone.
        Serve::Presigned if *method == Method::HEAD => stream(file, method, answer).await,
        Serve::Presigned => match file.storage().presign(file.key, PRESIGNED).await? {
            Some(url) => {
                Ok((StatusCode::FOUND, [(header::LOCATION, url.to_string())]).into_response())
            }
            None => stream(file, method, answer).await,
        },
        Serve::Stream => stream(file, method, answer).await,
    }
}

/// The length is told beforehand, so that a stream that breaks is seen to be short.
async fn stream(file: &Download, method: &Method, answer: Answer) -> Result<Response> {
    let (status, from, to) = match answer {
        Answer::Part(from, to) => (StatusCode::PARTIAL_CONTENT, from, to),
        _ => (StatusCode::OK, 0, file.size),
    };
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_LENGTH, to - from)
        .header(header::ACCEPT_RANGES, "bytes");
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {from}-{}/{}", to - 1, file.size);
        response = response.header(header::CONTENT_RANGE, range);
    }
    let body = match *method == Method::HEAD {
        true => Body::empty(),
        false => Body::from_stream(file.read(from, to).await?),
    };
    response.body(body).map_err(|e| Error::Internal(e.to_string()))
}

fn describe(headers: &mut HeaderMap, file: &Download) -> Result<()> {
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|e| Error::Internal(format!("{text:?}: {e}")))
    };
    // A hand-written row may carry a type that no header can.
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, value(&file.content_type).unwrap_or(octets));
    if let Some(disposition) = &file.disposition {
        headers.insert(header::CONTENT_DISPOSITION, value(disposition)?);
    }
    headers.insert(header::ETAG, value(&file.etag)?);
    headers.insert(header::LAST_MODIFIED, value(&http_date(file.last_modified))?);
    let mut set = |name, text| headers.insert(name, HeaderValue::from_static(text));
    set(header::CACHE_CONTROL, "private, no-store");
    set(header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
    Ok(())
}

fn http_date(at: DateTime<Utc>) -> String {
    httpdate::fmt_http_date(at.into())
}
