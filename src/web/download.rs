//! `GET /d/{token}`: the file.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{Stream, stream::BoxStream};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{
    Problem, Shared, WebState,
    range::{Answer, Representation, answer},
    redeem,
    visitor::knock,
};
use crate::{
    config::Serve,
    error::{Error, Result},
    file_request::{
        FileRequest,
        links::{Event, Hit},
    },
    ids::RequestId,
    toolbox::{Download, Toolbox},
    visitor::Visitor,
};

/// How long a redirect to the object store works: long enough to begin.
const PRESIGNED: Duration = Duration::from_secs(300);

pub(super) async fn download(
    State(state): Shared,
    method: Method,
    token: Result<Path<String>, PathRejection>,
    parts: Parts,
) -> Result<Response, Problem> {
    // What is no text is no token of ours.
    let Path(token) = token.map_err(|_| Error::BadToken("it is not text"))?;
    let toolbox = &state.toolbox;
    let knock = knock(toolbox, &parts).await?;
    let visit = toolbox.visit(&token, knock.user.as_deref()).await?;
    let receipt = Receipt {
        request_id: visit.row.id,
        jti: visit.claims.jti,
        grant: None,
        visitor: knock.visitor.clone(),
        user: knock.user.clone(),
    };
    if visit.waits_for_confirmation() {
        return redeem::show(&state, &parts.headers, &parts.uri, &knock, visit, &receipt).await;
    }
    match visit.verdict.and_then(|()| toolbox.serve(&visit.row)) {
        Ok(file) => Ok(serve_under(&state, &method, &parts.headers, file, Some(receipt)).await?),
        Err(error) => Err(denied(toolbox, &receipt, error).await),
    }
}

/// Logs why a link that is ours was refused.
pub(super) async fn denied(toolbox: &Toolbox, receipt: &Receipt, error: Error) -> Problem {
    let hit = Hit { reason: Some(error.code().to_owned()), ..receipt.hit(Event::Denied) };
    if let Err(error) = toolbox.record_hit(hit).await {
        tracing::error!(%error, "a receipt was not written");
    }
    error.into()
}

/// Whose bytes are sent, for the log of hits.
pub(super) struct Receipt {
    pub(super) request_id: RequestId,
    pub(super) jti: Option<Uuid>,
    pub(super) grant: Option<String>,
    pub(super) visitor: Visitor,
    pub(super) user: Option<String>,
}

impl Receipt {
    pub(super) fn hit(&self, event: Event) -> Hit {
        Hit {
            request_id: self.request_id,
            jti: self.jti,
            grant: self.grant.clone(),
            event,
            reason: None,
            first_byte: None,
            bytes: None,
            visitor: self.visitor.clone(),
            user: self.user.clone(),
        }
    }
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
    Ok(serve_under(state, method, headers, file, None).await?)
}

/// The same, with a receipt of what was sent.
pub(super) async fn serve_under(
    state: &WebState,
    method: &Method,
    headers: &HeaderMap,
    file: Download,
    receipt: Option<Receipt>,
) -> Result<Response> {
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
        Answer::Whole | Answer::Part(..) => {
            handed_over(state, &file, method, answer, receipt).await?
        }
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
    receipt: Option<Receipt>,
) -> Result<Response> {
    let head = *method == Method::HEAD;
    let told = match &state.serve {
        Serve::XAccel(prefix) => {
            let path = format!("{prefix}{}", file.storage().relative(file.key));
            Some(tell("x-accel-redirect", path))
        }
        Serve::XSendfile => file
            .storage()
            .file(file.key)
            .map(|path| tell("x-sendfile", path.to_string_lossy().into_owned())),
        // A URL is signed for GET alone.
        Serve::Presigned if !head => {
            file.storage().presign(file.key, PRESIGNED).await?.map(|url| {
                (StatusCode::FOUND, [(header::LOCATION, url.to_string())]).into_response()
            })
        }
        Serve::Presigned | Serve::Stream => None,
    };
    let Some(response) = told else { return stream(state, file, method, answer, receipt).await };
    if let (Some(receipt), false) = (receipt, head) {
        state.toolbox.record_handed_over(receipt.hit(Event::HandedOver)).await?;
    }
    Ok(response)
}

fn tell(name: &'static str, value: String) -> Response {
    ([(HeaderName::from_static(name), value)], Body::empty()).into_response()
}

/// The length is told beforehand, so that a stream that breaks is seen to be short.
async fn stream(
    state: &WebState,
    file: &Download,
    method: &Method,
    answer: Answer,
    receipt: Option<Receipt>,
) -> Result<Response> {
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
    let body = match (*method == Method::HEAD, receipt) {
        (true, _) => Body::empty(),
        (false, None) => Body::from_stream(file.read(from, to).await?),
        (false, Some(receipt)) => Body::from_stream(Counted {
            bytes: file.read(from, to).await?,
            sent: 0,
            from,
            size: file.size,
            receipt,
            toolbox: state.toolbox.clone(),
            tasks: state.receipts.clone(),
        }),
    };
    response.body(body).map_err(|e| Error::Internal(e.to_string()))
}

/// A body that counts what the connection takes of it, and logs that when it ends, well or not.
struct Counted {
    bytes: BoxStream<'static, Result<Bytes>>,
    sent: u64,
    from: u64,
    size: u64,
    receipt: Receipt,
    toolbox: Toolbox,
    tasks: TaskTracker,
}

impl Stream for Counted {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.bytes.as_mut().poll_next(cx);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            self.sent += chunk.len() as u64;
        }
        polled
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let sent = Hit {
            first_byte: Some(signed(self.from)),
            bytes: Some(signed(self.sent)),
            ..self.receipt.hit(Event::Range)
        };
        let (toolbox, size) = (self.toolbox.clone(), signed(self.size));
        let record = async move {
            if let Err(error) = toolbox.record_sent(sent, size).await {
                tracing::error!(%error, "a receipt was not written");
            }
        };
        // A body may be dropped after the runtime, when the process ends.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.tasks.spawn_on(record, &runtime);
        }
    }
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
