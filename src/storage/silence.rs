//! A limit on the silence of stores over the network. Whoever accepts a call and never answers would
//! keep downloads, uploads and sweeps waiting for ever; a whole call has no limit that is right for a
//! large file and a slow reader.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use object_store::{
    ClientOptions, PutPayload,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
        HttpResponse, HttpResponseBody, HttpService, ReqwestConnector,
    },
};
use tokio::time::{Instant, Sleep};

/// What is sent is watched in pieces of this size.
const PIECE: usize = 64 * 1024;

/// Makes clients that give up after so long without a byte in either direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limited(pub(super) Duration);

impl HttpConnector for Limited {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Service { inner, limit: self.0 }))
    }
}

#[derive(Debug)]
struct Service {
    inner: HttpClient,
    limit: Duration,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let sent = Sent::default();
        let request = request.map(|body| sent.watch(body));
        let mut answer = std::pin::pin!(self.inner.execute(request));
        let answer = loop {
            let last = sent.last();
            match tokio::time::timeout_at(last + self.limit, &mut answer).await {
                Ok(answer) => break answer?,
                // Bytes went out meanwhile.
                Err(_) if sent.last() > last => {}
                Err(_) => return Err(silent(self.limit)),
            }
        };
        let limit = self.limit;
        Ok(answer.map(|body| HttpResponseBody::new(Heard { body, limit, since: None })))
    }
}

/// Not of a kind that is tried again at once: it has taken long enough.
fn silent(limit: Duration) -> HttpError {
    let text = format!("the store was silent for {limit:?}");
    HttpError::new(HttpErrorKind::Unknown, io::Error::new(io::ErrorKind::TimedOut, text))
}

/// When a piece of a request went out last.
#[derive(Clone)]
struct Sent(Arc<Mutex<Instant>>);

impl Default for Sent {
    fn default() -> Self {
        Sent(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Sent {
    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same body in pieces that tell when they are done with: the connection drops what it has
    /// written.
    fn watch(&self, body: HttpRequestBody) -> HttpRequestBody {
        // What is no file is small, and sent with its length only in one piece.
        if body.as_bytes().is_some() {
            return body;
        }
        let (mut body, mut pieces) = (body, Vec::new());
        let mut context = Context::from_waker(std::task::Waker::noop());
        // Its bytes are all there: nothing is waited for.
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut context) {
            let Ok(mut bytes) = frame.into_data() else { continue };
            while !bytes.is_empty() {
                let bytes = bytes.split_to(bytes.len().min(PIECE));
                pieces.push(Bytes::from_owner(Piece { bytes, sent: self.clone() }));
            }
        }
        pieces.into_iter().collect::<PutPayload>().into()
    }
}

struct Piece {
    bytes: Bytes,
    sent: Sent,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        *self.sent.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// The body of an answer. Only time that somebody waits for it counts.
struct Heard {
    body: HttpResponseBody,
    limit: Duration,
    since: Option<Pin<Box<Sleep>>>,
}

impl Body for Heard {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.since = None;
            return Poll::Ready(frame);
        }
        let limit = self.limit;
        let since = self.since.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(since.as_mut().poll(cx));
        self.since = None;
        Poll::Ready(Some(Err(silent(limit))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
