//! Compressing on a thread of its own, beside the one that encodes.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    thread::JoinHandle,
};

/// Bytes that go to the other thread together.
const BLOCK: usize = 128 * 1024;
/// Blocks under way.
const DEPTH: usize = 4;

/// Hands what is written to `W` on another thread, in blocks. What fits into one block needs no
/// thread.
pub(super) struct Apart<W> {
    block: Vec<u8>,
    place: Place<W>,
}

enum Place<W> {
    Here(W),
    There {
        to: SyncSender<Vec<u8>>,
        /// Blocks to be filled again.
        empty: Receiver<Vec<u8>>,
        thread: JoinHandle<io::Result<W>>,
    },
    /// Its error was handed out.
    Gone,
}

impl<W: Write + Send + 'static> Apart<W> {
    pub(super) fn new(to: W) -> Self {
        Apart { block: Vec::new(), place: Place::Here(to) }
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// The first error of writing.
    pub(super) fn into_inner(mut self) -> io::Result<W> {
        match self.place {
            Place::Here(mut to) => {
                to.write_all(&self.block)?;
                Ok(to)
            }
            Place::There { .. } => {
                self.pass_on()?;
                self.outcome()
            }
            Place::Gone => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn pass_on(&mut self) -> io::Result<()> {
        if let Place::Here(_) = self.place
            && let Place::Here(to) = std::mem::replace(&mut self.place, Place::Gone)
        {
            self.place = start(to)?;
        }
        let Place::There { to, empty, .. } = &self.place else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let next = empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(BLOCK + BLOCK / 8));
        if to.send(std::mem::replace(&mut self.block, next)).is_err() {
            // The other thread has stopped: it says why.
            return self.outcome().and(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Ok(())
    }

    fn outcome(&mut self) -> io::Result<W> {
        let Place::There { to, thread, .. } = std::mem::replace(&mut self.place, Place::Gone)
        else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        drop(to);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn start<W: Write + Send + 'static>(mut inner: W) -> io::Result<Place<W>> {
    let (to, blocks) = sync_channel::<Vec<u8>>(DEPTH);
    let (give_back, empty): (Sender<Vec<u8>>, _) = channel();
    let work = move || {
        for mut block in blocks {
            inner.write_all(&block)?;
            block.clear();
            // Nobody may want it any more.
            let _ = give_back.send(block);
        }
        Ok(inner)
    };
    let thread = std::thread::Builder::new().name("bgfiles-compress".into()).spawn(work)?;
    Ok(Place::There { to, empty, thread })
}

impl<W: Write + Send + 'static> Write for Apart<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.block.extend_from_slice(bytes);
        if self.block.len() >= BLOCK {
            self.pass_on()?;
        }
        Ok(bytes.len())
    }

    /// Does nothing: compressors are flushed when they are finished.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails after so many bytes.
    struct Failing(usize);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| io::Error::other("full"))?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_arrives_in_order() {
        for length in [0, 1, BLOCK - 1, BLOCK, 5 * BLOCK + 7] {
            let bytes: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let mut apart = Apart::new(Vec::new());
            bytes.chunks(1000).for_each(|chunk| apart.write_all(chunk).unwrap());
            assert!(apart.into_inner().unwrap() == bytes, "{length}");
        }
    }

    #[test]
    fn an_error_on_the_other_side_is_told() {
        let mut apart = Apart::new(Failing(3 * BLOCK));
        let chunk = vec![0; BLOCK];
        let error = (0..100).find_map(|_| apart.write_all(&chunk).err()).expect("an error");
        assert_eq!(error.to_string(), "full");
        assert!(apart.write_all(&chunk).is_err());
        let mut short = Apart::new(Failing(0));
        short.write_all(b"x").unwrap();
        assert!(short.into_inner().is_err());
    }
}
