//! Accepting connections, with every wait bounded.
//!
//! `axum::serve` keeps a connection that never ends its headers for ever; this one does not.
//!
//! Each core has a thread that serves the connections it is given, by a runtime of its own, as the
//! workers of nginx do: a small file out of memory is then sent without waking anybody. Measured,
//! such answers come half as often again as from tokio's shared workers. What a request opens
//! (connections of pools, timers, tasks) belongs to the runtime that [`serve`] was called in, and
//! outlives the thread.

pub(super) mod cors;
pub(super) mod deadline;
mod lingering_close;
pub(super) mod observe;

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle},
    sync::{mpsc, oneshot},
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::error::{Error, Result};
use crate::web::server::lingering_close::{Linger, Rest};

/// Bytes of an answer that wait in a connection, besides the piece that is being sent. Ten thousand
/// slow readers fill this ten thousand times.
const BUFFER: usize = 32 * 1024;
/// Most bytes of a request's head, from its first line to the empty one. The buffer alone is no
/// limit: a head that comes in one piece may be larger.
const HEAD: usize = 32 * 1024;

/// How long connections may keep us waiting.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a whole request head, and between two requests.
    pub header: Duration,
    /// For a client to take what is sent.
    pub write: Duration,
    /// For answers under way when the process ends.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            header: Duration::from_secs(30),
            write: Duration::from_secs(120),
            drain: Duration::from_secs(30),
        }
    }
}

/// Listens.
///
/// # Errors
/// [`Error::Io`] naming the address.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(Error::io(format!("listening on {address}")))
}

/// Serves until `shutdown` fires, then lets answers under way end within the drain limit.
///
/// A handler shares its thread with all connections of that core: what blocks goes to
/// `spawn_blocking`; `block_in_place` is not to be had here.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let mut lanes = Vec::new();
    for number in 0..thread::available_parallelism().map_or(1, usize::from) {
        match Lane::open(number, router.clone(), limits) {
            Ok(lane) => lanes.push(lane),
            Err(error) => tracing::error!(%error, "a thread for connections could not be started"),
        }
    }
    for lane in (0..lanes.len()).cycle() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
            // A lane ends after this loop.
            Ok(connection) => drop(lanes[lane].connections.send(connection)),
            Err(error) => {
                // Out of file handles, most likely: wait for some to come free.
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let (connections, ended): (Vec<_>, Vec<_>) =
        lanes.into_iter().map(|lane| (lane.connections, lane.ended)).unzip();
    drop(connections);
    for ended in ended {
        if let Ok(false) = ended.await {
            tracing::warn!("the drain limit passed; open connections are cut");
        }
    }
}

/// A thread that serves connections.
struct Lane {
    connections: mpsc::UnboundedSender<(std::net::TcpStream, SocketAddr)>,
    /// Whether all connections came to their ends by themselves.
    ended: oneshot::Receiver<bool>,
}

impl Lane {
    fn open(number: usize, router: Router, limits: Limits) -> std::io::Result<Self> {
        let (connections, mut given) = mpsc::unbounded_channel();
        let (done, ended) = oneshot::channel();
        let home = Handle::current();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let serve = async move {
            let graceful = GracefulShutdown::new();
            while let Some((stream, peer)) = given.recv().await {
                match TcpStream::from_std(stream) {
                    Ok(stream) => connection(stream, peer, &router, limits, &graceful, &home),
                    Err(error) => tracing::warn!(%error, "a connection could not be served"),
                }
            }
            tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_ok()
        };
        let lane = move || {
            let _ = done.send(runtime.block_on(serve));
        };
        thread::Builder::new().name(format!("bgfiles-lane-{number}")).spawn(lane)?;
        Ok(Lane { connections, ended })
    }
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: &Router,
    limits: Limits,
    graceful: &GracefulShutdown,
    home: &Handle,
) {
    // Measured: without it a small answer waits for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "set_nodelay");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write));
    let (router, home) = (router.clone(), home.clone());
    let service = hyper::service::service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let (router, home) = (router.clone(), home.clone());
        async move {
            let (rest, request) = Rest::watch(request);
            let answer = Box::pin(router.oneshot(request));
            let mut answer = At { home: home.clone(), inner: Some(answer) }.await?;
            rest.close(&mut answer);
            Ok::<_, Infallible>(answer.map(|body| At { home, inner: Some(body) }))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(BUFFER)
        .max_header_size(HEAD)
        .serve_connection(TokioIo::new(Linger::new(stream)), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended early");
        }
    });
}

/// What runs here and opens what it needs in another runtime.
struct At<T> {
    home: Handle,
    /// Gone only while this is dropped, which may open something, too.
    inner: Option<T>,
}

impl<T: Future + Unpin> Future for At<T> {
    type Output = T::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        let At { home, inner } = &mut *self;
        let _guard = home.enter();
        match inner {
            Some(inner) => Pin::new(inner).poll(cx),
            None => Poll::Pending,
        }
    }
}

impl HttpBody for At<Body> {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, axum::Error>>> {
        let At { home, inner } = &mut *self;
        let _guard = home.enter();
        inner.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl<T> Drop for At<T> {
    fn drop(&mut self) {
        let _guard = self.home.enter();
        drop(self.inner.take());
    }
}
