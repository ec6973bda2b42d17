//! A file made in the response that asks for it: nothing is stored, nothing is mailed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    error::{Error, Result, Said},
    file_request::filename,
    ids::FileType,
    registry::{Handler, Job, Output, Progress},
};

/// How long a caller may be kept waiting for the answer whether it is made at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// What may be held back in memory, in bytes.
const HELD: usize = 16 * 1024 * 1024;
/// How often to look whether a file that is held back has grown too large. Formats keep rows for a
/// while, so that its bytes do not tell.
const LOOK: Duration = Duration::from_millis(20);

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
    bytes: mpsc::Receiver<Bytes>,
    _stop: DropGuard,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a file must be to be held back until it is whole.
pub(super) struct Small {
    /// It has no more rows.
    pub rows: u64,
    /// It is whole by then.
    pub until: Instant,
}

impl Inline {
    /// Starts the handler and waits for its first bytes, so that what goes wrong before them can
    /// still be told as an error.
    pub(super) async fn start(handler: Arc<dyn Handler>, job: Job) -> Result<Inline> {
        let (content_type, disposition) = headers(&*handler, &job);
        let file_type = job.request.file_type.clone();
        let mut work = Work::begin(handler, job);
        let first = work.bytes.recv().await;
        if first.is_none() {
            work.finish().await?;
        }
        let content = Content::UnderWay(UnderWay { file_type, first, work });
        Ok(Inline { content_type, disposition, content })
    }

    /// Makes all of it before any of it is sent. `None` when it is not that small, or when a worker
    /// that tries again may have more luck: then it was stopped.
    pub(super) async fn hold(
        handler: Arc<dyn Handler>,
        job: Job,
        small: Small,
    ) -> Result<Option<Inline>> {
        let (content_type, disposition) = headers(&*handler, &job);
        let progress = job.progress.clone();
        let mut work = Work::begin(handler, job);
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
    fn begin(handler: Arc<dyn Handler>, mut job: Job) -> Work {
        let stop = CancellationToken::new();
        job.cancelled = stop.clone();
        let timeout = handler.timeout();
        let (out, bytes) = Output::channel();
        let write = async move {
            match tokio::time::timeout(timeout, handler.write(&job, out)).await {
                Ok(result) => result,
                Err(_) => Err(Error::permanent("timeout", "making the file took too long")),
            }
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
