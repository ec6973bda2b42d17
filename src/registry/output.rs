//! Where a handler's bytes go: a bounded channel to whoever stores or sends them.
//!
//! Bounded, so that a slow store slows the handler instead of filling memory.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::error::{Error, Result};

/// Bytes gathered before they are passed on.
const CHUNK: usize = 256 * 1024;
/// Chunks under way: with [`CHUNK`], about 1 MiB.
const DEPTH: usize = 4;

/// The writing end, given to [`Handler::write`](super::Handler::write).
///
/// Dropping it ends the file; whether the file counts is decided by what `write` returns.
#[derive(Debug)]
pub struct Output {
    to: mpsc::Sender<Bytes>,
}

impl Output {
    /// A pair of ends.
    pub fn channel() -> (Output, mpsc::Receiver<Bytes>) {
        let (to, from) = mpsc::channel(DEPTH);
        (Output { to }, from)
    }

    /// Writes bytes, waiting while the other end is behind.
    ///
    /// # Errors
    /// [`Error::OutputClosed`] when nobody reads any more: stop.
    pub async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<()> {
        self.to.send(bytes.into()).await.map_err(|_| Error::OutputClosed)
    }

    /// Runs `work` on a thread made for blocking work, with this output as an [`io::Write`], and
    /// flushes at the end.
    ///
    /// # Errors
    /// What `work` returns; [`Error::OutputClosed`] when nobody reads any more. A panic in `work`
    /// goes on in the caller.
    pub async fn blocking<T: Send + 'static>(
        self,
        work: impl FnOnce(&mut OutputWriter) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut writer = self.into_writer();
        let task = tokio::task::spawn_blocking(move || {
            let done = work(&mut writer)?;
            io::Write::flush(&mut writer).map_err(|_| Error::OutputClosed)?;
            Ok(done)
        });
        match task.await {
            Ok(result) => result,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => Err(Error::OutputClosed),
        }
    }

    /// As an [`io::Write`] for use outside async code. Flush it before dropping it.
    pub fn into_writer(self) -> OutputWriter {
        OutputWriter { to: self.to, buffer: BytesMut::new() }
    }
}

/// [`Output`] for blocking code. Writing fails with [`io::ErrorKind::BrokenPipe`] when nobody
/// reads any more.
#[derive(Debug)]
pub struct OutputWriter {
    to: mpsc::Sender<Bytes>,
    buffer: BytesMut,
}

impl OutputWriter {
    fn pass_on(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        // What is left of its memory would only be copied from when the next one grows.
        let chunk = std::mem::take(&mut self.buffer).freeze();
        self.to.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl io::Write for OutputWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(CHUNK + CHUNK / 4);
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.pass_on()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_on()
    }
}
