//! A file made in the response that asks for it: nothing is stored, nothing is mailed.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use sha2::{Digest, Sha256};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    error::{Error, Result, Said},
    export,
    file_request::filename,
    ids::{FileType, hex},
    registry::{Handler, Job, Output, Progress},
    toolbox::places::{Place, Places},
};

/// How long a caller may be kept waiting for the answer whether it is made at once.
pub(in crate::toolbox) const PATIENCE: Duration = Duration::from_secs(5);
/// What may be held back in memory, in bytes.
const HELD: usize = 16 * 1024 * 1024;
/// How often to look whether a file that is held back has grown too large. Formats keep rows for a
/// while, so that its bytes do not tell.
const LOOK: Duration = Duration::from_millis(20);

/// Files that one caller has made in answers at the same time. Each may read its source twice at once,
/// for its rows and for how many there will be; so nobody has more than half of a source.
const AT_ONCE: usize = 2;
const _: () = assert!(2 * AT_ONCE <= export::CONNECTIONS as usize / 2);

/// Places for files that are made in answers.
pub(in crate::toolbox) fn places() -> Places {
    Places::new(AT_ONCE)
}

/// For whom, and how long at most, a file is made in an answer.
pub(in crate::toolbox) struct Terms {
    pub place: Place,
    pub limit: Duration,
}

/// A file under way to its requester.
pub struct Inline {
    /// Media type.
    pub content_type: String,
    /// `Content-Disposition`.
    pub disposition: String,
    content: Content,
}

enum Content {
    UnderWay(UnderWay),
    Whole(Vec<Bytes>),
}

/// A file of which more is being made.
struct UnderWay {
    file_type: FileType,
    first: Option<Bytes>,
    work: Work,
}

impl std::fmt::Debug for Inline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inline({})", self.disposition)
    }
}

/// The handler at work; stopped when dropped (the client went away).
struct Work {
    task: JoinHandle<Result<()>>,
    bytes: Incoming,
    _stop: DropGuard,
}

/// What comes of a file. Whoever sends it may not take any for long; so its end can be closed from
/// elsewhere, for a handler that waits to go on.
#[derive(Clone)]
struct Incoming(Arc<Mutex<mpsc::Receiver<Bytes>>>);

impl Incoming {
    fn receiver(&self) -> MutexGuard<'_, mpsc::Receiver<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn recv(&self) -> Option<Bytes> {
        poll_fn(|cx| self.receiver().poll_recv(cx)).await
    }

    /// What is there can still be taken; no more comes.
    fn close(&self) {
        self.receiver().close();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a file must be to be held back until it is whole.
pub(in crate::toolbox) struct Small {
    /// It has no more rows.
    pub rows: u64,
    /// It is whole by then.
    pub until: Instant,
}

impl Inline {
    /// Starts the handler and waits for its first bytes, so that what goes wrong before them can
    /// still be told as an error.
    pub(in crate::toolbox) async fn start(
        handler: Arc<dyn Handler>,
        job: Job,
        terms: Terms,
    ) -> Result<Inline> {
        let (content_type, disposition) = headers(&*handler, &job);
        let file_type = job.request.file_type.clone();
        let mut work = Work::begin(handler, job, terms);
        let first = work.bytes.recv().await;
        if first.is_none() {
            work.finish().await?;
        }
        let content = Content::UnderWay(UnderWay { file_type, first, work });
        Ok(Inline { content_type, disposition, content })
    }

    /// Makes all of it before any of it is sent. `None` when it is not that small, or when a worker
    /// that tries again may have more luck: then it was stopped.
    pub(in crate::toolbox) async fn hold(
        handler: Arc<dyn Handler>,
        job: Job,
        terms: Terms,
        small: Small,
    ) -> Result<Option<Inline>> {
        let (content_type, disposition) = headers(&*handler, &job);
        let progress = job.progress.clone();
        let mut work = Work::begin(handler, job, terms);
        let held = work.hold(&progress, small.rows);
        match tokio::time::timeout_at(small.until, held).await {
            Ok(Ok(Some(chunks))) => {
                let content = Content::Whole(chunks);
                Ok(Some(Inline { content_type, disposition, content }))
            }
            Ok(Err(error)) if !error.is_retryable() => Err(error),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a file could not be made at once; it is left to a worker");
                Ok(None)
            }
            Ok(Ok(None)) | Err(_) => Ok(None),
        }
    }

    /// The digest of its bytes, in lower-case hexadecimal digits, where all of them are there.
    pub fn sha256(&self) -> Option<String> {
        let Content::Whole(chunks) = &self.content else { return None };
        let digest = chunks.iter().fold(Sha256::new(), |digest, chunk| digest.chain_update(chunk));
        Some(hex(&digest.finalize()))
    }

    /// The bytes. An error in the middle ends the stream with it, so that the response breaks
    /// visibly instead of ending short.
    pub fn into_stream(self) -> BoxStream<'static, Result<Bytes>> {
        let UnderWay { file_type, first, work } = match self.content {
            Content::UnderWay(under_way) => under_way,
            Content::Whole(chunks) => return futures::stream::iter(chunks).map(Ok).boxed(),
        };
        let Some(first) = first else { return futures::stream::empty().boxed() };
        let rest = futures::stream::try_unfold(work, move |mut work| {
            let file_type = file_type.clone();
            async move {
                match work.bytes.recv().await {
                    Some(chunk) => Ok(Some((chunk, work))),
                    None => {
                        let finished = work.finish().await;
                        finished.inspect_err(|error| broke_off(&file_type, error)).map(|()| None)
                    }
                }
            }
        });
        futures::stream::once(async { Ok(first) }).chain(rest).boxed()
    }
}

/// Of its own time, and of that of an answer, the shorter one is over.
fn too_long(own: Duration, limit: Duration) -> Error {
    let message = match own <= limit {
        true => "making the file took too long".to_owned(),
        false => format!(
            "the answer took longer than {} s; ask with `deliver: later` for a file that takes long",
            limit.as_secs()
        ),
    };
    Error::permanent("timeout", message)
}

/// Nobody else says why an answer has no end.
fn broke_off(file_type: &FileType, error: &Error) {
    let Said { state, detail, hint, context } = error.said();
    tracing::error!(%file_type, %error, state, detail, hint, context, "an answer broke off");
}

/// Media type and `Content-Disposition`.
fn headers(handler: &dyn Handler, job: &Job) -> (String, String) {
    let name = handler.offered_name(job);
    let attachment = handler.content_as_attachment();
    let disposition = filename::of_request(&job.request, &name, attachment);
    (handler.content_type(job), disposition)
}

impl Work {
    fn begin(handler: Arc<dyn Handler>, mut job: Job, terms: Terms) -> Work {
        let stop = CancellationToken::new();
        job.cancelled = stop.clone();
        let Terms { place, limit } = terms;
        let own = handler.timeout();
        let (out, bytes) = Output::channel();
        let bytes = Incoming(Arc::new(Mutex::new(bytes)));
        let incoming = bytes.clone();
        let write = async move {
            // As long as somebody makes it, whether or not its reader takes anything.
            let _place = place;
            let written = tokio::time::timeout(own.min(limit), handler.write(&job, out)).await;
            // A thread that waits for the reader, too.
            incoming.close();
            written.unwrap_or_else(|_| Err(too_long(own, limit)))
        };
        Work { task: tokio::spawn(write), bytes, _stop: stop.drop_guard() }
    }

    /// All of it, unless it has more rows or more bytes than may be held back.
    async fn hold(&mut self, progress: &Progress, most: u64) -> Result<Option<Vec<Bytes>>> {
        let is_small = || progress.rows().is_none_or(|rows| rows <= most);
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        while is_small() && bytes <= HELD {
            tokio::select! {
                biased;
                chunk = self.bytes.recv() => match chunk {
                    Some(chunk) => {
                        bytes += chunk.len();
                        chunks.push(chunk);
                    }
                    None => {
                        self.finish().await?;
                        return Ok(is_small().then_some(chunks));
                    }
                },
                _ = looks.tick() => {}
            }
        }
        Ok(None)
    }

    async fn finish(&mut self) -> Result<()> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(_) => {
                Err(Error::temporary("handler_panicked", "the program that makes this file failed"))
            }
        }
    }
}
