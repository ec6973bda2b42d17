//! Sending a file: its headers, its bytes, and the receipt of what was sent.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use hyper::body::{Frame, SizeHint};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::{
    config::Serve,
    error::{Error, Result},
    file_request::{
        FileRequest,
        links::{Event, Hit},
    },
    ids::RequestId,
    toolbox::{Download, Ready, Toolbox},
    visitor::Visitor,
    web::{
        Problem, WebState,
        conditional::{Answer, Representation, answer},
        problem::common_headers,
    },
};

/// The digest of all of a file, whatever part of it is sent.
pub(crate) const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// Nobody on the way keeps a file, or compresses it under the tag and the digest of what it was.
pub(crate) const UNCHANGED: &str = "private, no-store, no-transform";

/// How long a redirect to the object store works: long enough to begin.
const PRESIGNED: Duration = Duration::from_secs(300);

/// Logs why a link that is ours was refused.
pub(crate) async fn denied(toolbox: &Toolbox, receipt: &Receipt, error: Error) -> Problem {
    let hit = Hit { reason: Some(error.code().to_owned()), ..receipt.hit(Event::Denied) };
    if let Err(error) = toolbox.record_hit(hit).await {
        tracing::error!(%error, "a receipt was not written");
    }
    error.into()
}

/// Whose bytes are sent, for the log of hits.
pub(crate) struct Receipt {
    pub(crate) request_id: RequestId,
    pub(crate) jti: Option<Uuid>,
    pub(crate) grant: Option<String>,
    pub(crate) visitor: Visitor,
    pub(crate) user: Option<String>,
}

impl Receipt {
    pub(crate) fn hit(&self, event: Event) -> Hit {
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
    Ok(serve_under(state, method, headers, &file, None).await?)
}

/// The same, with a receipt of what was sent.
pub(crate) async fn serve_under(
    state: &WebState,
    method: &Method,
    headers: &HeaderMap,
    file: &Download,
    receipt: Option<Receipt>,
) -> Result<Response> {
    let answer = Answered::new(state, method, headers, file);
    let Some((from, to)) = answer.range() else {
        return answer.into_response(described(file)?, Body::empty());
    };
    let head = *method == Method::HEAD;
    if let Some(mut response) = handed_over(state, file, head, receipt.as_ref()).await? {
        response.headers_mut().extend(described(file)?);
        if response.status() == StatusCode::FOUND {
            response.headers_mut().remove(REPR_DIGEST);
        }
        count(response.status());
        return Ok(response);
    }
    let body = if head {
        file.confirm().await?;
        Body::empty()
    } else {
        body(state, file, from, to, receipt).await?
    };
    answer.into_response(described(file)?, body)
}

/// A small file that is in memory, with its receipt. `None` when something about it is odd: the long
/// way says what.
pub(super) fn from_memory(
    state: &WebState,
    request: &Parts,
    ready: &Ready,
    bytes: &Bytes,
    receipt: Receipt,
) -> Option<Response> {
    let answer = Answered::new(state, &request.method, &request.headers, &ready.file);
    let head = request.method == Method::HEAD;
    let body = match answer.range() {
        Some((from, to)) if !head => {
            // The bytes are as many as the file's row says.
            let part = usize::try_from(from).ok()?..usize::try_from(to).ok()?;
            let sent = Sent::new(state, receipt, from, ready.file.size);
            Body::new(Counted { bytes: Piece::Small(bytes.slice(part)), left: to - from, sent })
        }
        _ => Body::empty(),
    };
    let about = match ready.headers.get() {
        Some(about) => about.clone(),
        None => {
            let mut about = described(&ready.file).ok()?;
            common_headers(&mut about);
            ready.headers.get_or_init(|| about).clone()
        }
    };
    answer.into_response(about, body).ok()
}

/// What a request for a file is answered with.
struct Answered {
    answer: Answer,
    head: bool,
    size: u64,
}

impl Answered {
    fn new(state: &WebState, method: &Method, headers: &HeaderMap, file: &Download) -> Self {
        let about =
            Representation { etag: &file.etag, last_modified: file.last_modified, size: file.size };
        let now = state.toolbox.clock().now();
        let answer = answer(method, headers, &about, now);
        Answered { answer, head: *method == Method::HEAD, size: file.size }
    }

    /// The bytes to send, when there are any.
    fn range(&self) -> Option<(u64, u64)> {
        match self.answer {
            Answer::Whole => Some((0, self.size)),
            Answer::Part(from, to) => Some((from, to)),
            Answer::NotModified | Answer::Failed | Answer::NotSatisfiable => None,
        }
    }

    /// With headers about the file. The length is told beforehand, so that a stream that breaks is
    /// seen to be short.
    fn into_response(self, mut headers: HeaderMap, body: Body) -> Result<Response> {
        let size = self.size;
        if self.range().is_none() {
            // What is sent is nothing of the file.
            headers.remove(REPR_DIGEST);
        }
        if let Some((from, to)) = self.range() {
            headers.insert(header::CONTENT_LENGTH, (to - from).into());
            headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        }
        let (status, range) = match self.answer {
            Answer::Whole => (StatusCode::OK, None),
            Answer::Part(from, to) => {
                let range = format!("bytes {from}-{}/{size}", to - 1);
                (StatusCode::PARTIAL_CONTENT, Some(range))
            }
            Answer::NotModified => {
                // Of the headers about the file only validators belong there (section 15.4.5).
                headers.remove(header::CONTENT_TYPE);
                headers.remove(header::CONTENT_DISPOSITION);
                // Of HEAD the framework would say zero, which must not be (section 8.6).
                if self.head {
                    headers.insert(header::CONTENT_LENGTH, size.into());
                }
                (StatusCode::NOT_MODIFIED, None)
            }
            Answer::Failed => (StatusCode::PRECONDITION_FAILED, None),
            Answer::NotSatisfiable => {
                (StatusCode::RANGE_NOT_SATISFIABLE, Some(format!("bytes */{size}")))
            }
        };
        if let Some(range) = range {
            headers.insert(header::CONTENT_RANGE, text(&range)?);
        }
        let mut response = Response::new(body);
        *response.headers_mut() = headers;
        *response.status_mut() = status;
        count(status);
        Ok(response)
    }
}

fn count(status: StatusCode) {
    let name: &'static str = match status {
        StatusCode::OK => "200",
        StatusCode::PARTIAL_CONTENT => "206",
        StatusCode::FOUND => "302",
        StatusCode::NOT_MODIFIED => "304",
        StatusCode::PRECONDITION_FAILED => "412",
        _ => "416",
    };
    // Constant names need no memory.
    metrics::counter!("bgfiles_downloads_total", "status" => name).increment(1);
}

/// The answer that tells somebody else to send the bytes, where the settings want that.
async fn handed_over(
    state: &WebState,
    file: &Download,
    head: bool,
    receipt: Option<&Receipt>,
) -> Result<Option<Response>> {
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
    if let (Some(_), Some(receipt), false) = (&told, receipt, head) {
        state.toolbox.record_handed_over(receipt.hit(Event::HandedOver)).await?;
    }
    Ok(told)
}

fn tell(name: &'static str, value: String) -> Response {
    ([(HeaderName::from_static(name), value)], Body::empty()).into_response()
}

async fn body(
    state: &WebState,
    file: &Download,
    from: u64,
    to: u64,
    receipt: Option<Receipt>,
) -> Result<Body> {
    state.toolbox.keep_pace().await;
    let small = file.read_small().await?;
    let part = usize::try_from(from).ok().zip(usize::try_from(to).ok());
    let bytes = match (small, part) {
        (Some(bytes), Some((from, to))) => Piece::Small(bytes.slice(from..to)),
        _ => Piece::Stream(file.read(from, to).await?),
    };
    Ok(match (receipt, bytes) {
        (None, Piece::Small(bytes)) => Body::from(bytes),
        (None, Piece::Stream(bytes)) => Body::from_stream(bytes),
        (Some(receipt), bytes) => {
            let sent = Sent::new(state, receipt, from, file.size);
            Body::new(Counted { bytes, left: to - from, sent })
        }
    })
}

/// A body that counts what the connection takes of it, and logs that when it ends, well or not.
struct Counted {
    bytes: Piece,
    left: u64,
    sent: Sent,
}

/// Where the bytes come from; of a small file they are there.
enum Piece {
    Small(Bytes),
    Stream(BoxStream<'static, Result<Bytes>>),
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        let polled = match &mut self.bytes {
            Piece::Small(bytes) if bytes.is_empty() => Poll::Ready(None),
            Piece::Small(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Piece::Stream(bytes) => bytes.as_mut().poll_next(cx),
        };
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            let length = chunk.len() as u64;
            self.sent.bytes += length;
            self.left = self.left.saturating_sub(length);
        }
        polled.map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }

    /// Spares the connection the question whether there is more.
    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// What was sent of a file; logged when it is dropped.
struct Sent {
    bytes: u64,
    from: u64,
    size: u64,
    receipt: Receipt,
    toolbox: Toolbox,
    tasks: TaskTracker,
}

impl Sent {
    fn new(state: &WebState, receipt: Receipt, from: u64, size: u64) -> Self {
        let (toolbox, tasks) = (state.toolbox.clone(), state.receipts.clone());
        Sent { bytes: 0, from, size, receipt, toolbox, tasks }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let receipt = &mut self.receipt;
        let sent = Hit {
            request_id: receipt.request_id,
            jti: receipt.jti,
            grant: receipt.grant.take(),
            event: Event::Range,
            reason: None,
            first_byte: Some(signed(self.from)),
            bytes: Some(signed(self.bytes)),
            visitor: std::mem::take(&mut receipt.visitor),
            user: receipt.user.take(),
        };
        let size = signed(self.size);
        let Some(sent) = self.toolbox.note_sent(sent, size) else { return };
        let toolbox = self.toolbox.clone();
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

fn text(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|e| Error::Internal(format!("{text:?}: {e}")))
}

/// The headers about a file.
fn described(file: &Download) -> Result<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(16);
    // A hand-written row may carry a type that no header can.
    let octets = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, text(&file.content_type).unwrap_or(octets));
    if let Some(disposition) = &file.disposition {
        headers.insert(header::CONTENT_DISPOSITION, text(disposition)?);
    }
    headers.insert(header::ETAG, text(&file.etag)?);
    headers.insert(header::LAST_MODIFIED, text(&http_date(file.last_modified))?);
    if let Some(digest) = file.etag.get(1..65).and_then(repr_digest) {
        headers.insert(REPR_DIGEST, digest);
    }
    let mut set = |name, text| headers.insert(name, HeaderValue::from_static(text));
    set(header::CACHE_CONTROL, UNCHANGED);
    // Ours say so anyway; a host that serves files has no such layer.
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "no-referrer");
    set(header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
    Ok(headers)
}

/// `Repr-Digest` (RFC 9530) of a SHA-256 in hexadecimal digits. `None` when it is not one.
pub(crate) fn repr_digest(sha256: &str) -> Option<HeaderValue> {
    let digits = sha256.as_bytes().chunks(2).map(|two| {
        let two = std::str::from_utf8(two).ok().filter(|two| two.len() == 2)?;
        u8::from_str_radix(two, 16).ok()
    });
    let bytes = digits.collect::<Option<Vec<u8>>>().filter(|bytes| bytes.len() == 32)?;
    HeaderValue::from_str(&format!("sha-256=:{}:", BASE64.encode(bytes))).ok()
}

fn http_date(at: DateTime<Utc>) -> String {
    httpdate::fmt_http_date(at.into())
}
