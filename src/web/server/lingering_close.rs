//! Closing without losing the answer.
//!
//! A server that closes while a client still sends (a body that is too large) makes its system answer
//! the rest with a reset, and that takes the answer away before the client has read it (RFC 9112,
//! section 9.6). So what is on its way is read first, for a while, and the answer says that the
//! connection ends: a client that has sent everything would else use it for its next request.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use http::{HeaderValue, Request, Response, header};
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// How long a client may go on sending what nobody reads.
const PATIENCE: Duration = Duration::from_secs(2);
/// And how much.
const MOST: usize = 64 * 1024 * 1024;

pub(crate) struct Linger<S> {
    inner: Pin<Box<S>>,
    closing: Option<Closing>,
}

struct Closing {
    is_shut: bool,
    thrown_away: usize,
    until: Pin<Box<Sleep>>,
}

impl<S> Linger<S> {
    pub(crate) fn new(inner: S) -> Self {
        Linger { inner: Box::pin(inner), closing: None }
    }
}

impl<S: AsyncRead> AsyncRead for Linger<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for Linger<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner.as_mut().poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner.as_mut().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Linger { inner, closing } = &mut *self;
        let closing = closing.get_or_insert_with(|| Closing {
            is_shut: false,
            thrown_away: 0,
            until: Box::pin(tokio::time::sleep(PATIENCE)),
        });
        if !closing.is_shut {
            ready!(inner.as_mut().poll_shutdown(cx))?;
            closing.is_shut = true;
        }
        let mut space = [0; 8192];
        while closing.thrown_away < MOST {
            let mut buf = ReadBuf::new(&mut space);
            match inner.as_mut().poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    closing.thrown_away += buf.filled().len();
                }
                // Its end.
                Poll::Ready(_) => break,
                Poll::Pending => {
                    ready!(closing.until.as_mut().poll(cx));
                    break;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Bodies up to this size mostly come with their head, and hyper passes over what nobody read.
const SMALL: u64 = 8 * 1024;

/// Whether the body of a request was read to its end.
pub(crate) struct Rest(Option<Arc<AtomicBool>>);

impl Rest {
    /// Of this request, from now on.
    pub(crate) fn watch(request: Request<Incoming>) -> (Rest, Request<Body>) {
        if request.body().is_end_stream() {
            return (Rest(None), request.map(|_| Body::empty()));
        }
        if request.body().size_hint().upper().is_some_and(|size| size <= SMALL) {
            return (Rest(None), request.map(Body::new));
        }
        let is_read = Arc::new(AtomicBool::new(false));
        let rest = Rest(Some(is_read.clone()));
        (rest, request.map(|body| Body::new(Watched { body, is_read })))
    }

    /// Says in the answer that the connection ends, if there is a rest that nobody will read.
    pub(crate) fn close<B>(&self, answer: &mut Response<B>) {
        if self.0.as_ref().is_some_and(|is_read| !is_read.load(Ordering::Relaxed)) {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

struct Watched {
    body: Incoming,
    is_read: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.is_read.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
