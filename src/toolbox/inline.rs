//! A file made in the response that asks for it: nothing is stored, nothing is mailed.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    error::{Error, Result, Said},
    file_request::filename,
    ids::FileType,
    registry::{Handler, Job, Output},
};

/// A file under way to its requester.
pub struct Inline {
    /// Media type.
    pub content_type: String,
    /// `Content-Disposition`.
    pub disposition: String,
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

impl Inline {
    /// Starts the handler and waits for its first bytes, so that what goes wrong before them can
    /// still be told as an error.
    pub(super) async fn start(handler: Arc<dyn Handler>, mut job: Job) -> Result<Inline> {
        let stop = CancellationToken::new();
        job.cancelled = stop.clone();
        let name = handler.offered_name(&job);
        let content_type = handler.content_type(&job);
        let attachment = handler.content_as_attachment();
        let disposition = filename::of_request(&job.request, &name, attachment);
        let (timeout, file_type) = (handler.timeout(), job.request.file_type.clone());
        let (out, bytes) = Output::channel();
        let write = async move {
            match tokio::time::timeout(timeout, handler.write(&job, out)).await {
                Ok(result) => result,
                Err(_) => Err(Error::permanent("timeout", "making the file took too long")),
            }
        };
        let mut work = Work { task: tokio::spawn(write), bytes, _stop: stop.drop_guard() };
        let first = work.bytes.recv().await;
        if first.is_none() {
            work.finish().await?;
        }
        Ok(Inline { content_type, disposition, file_type, first, work })
    }

    /// The bytes. An error in the middle ends the stream with it, so that the response breaks
    /// visibly instead of ending short.
    pub fn into_stream(self) -> BoxStream<'static, Result<Bytes>> {
        let Some(first) = self.first else { return futures::stream::empty().boxed() };
        let file_type = self.file_type;
        let rest = futures::stream::try_unfold(self.work, move |mut work| {
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

impl Work {
    async fn finish(&mut self) -> Result<()> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(_) => {
                Err(Error::temporary("handler_panicked", "the program that makes this file failed"))
            }
        }
    }
}
