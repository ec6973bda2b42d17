//! Reading files of a folder, here and not through the store, whose small chunks halve the speed.
//!
//! What a connection does not take stays in memory, so a reader gets small pieces until it has
//! shown that it is fast: of ten thousand slow readers each holds one small piece. A fast one gets
//! large pieces, and the next is read while the one before is sent.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use tokio::task::JoinHandle;

use super::unfinished::{Place, Unfinished};
use crate::error::{Error, Result};

/// The pieces of a reader whose speed is not known, and of a slow one.
const FIRST: usize = 32 * 1024;
/// The largest pieces. Measured on loopback: 64 KiB 1.1–1.5 GB/s, 256 KiB and more 1.5–2.1 GB/s.
const FULL: usize = 512 * 1024;
/// From this size on the next piece is read beforehand, and buffers are used again.
const AHEAD: usize = 128 * 1024;
/// A piece is at most this part of what the reader took without making us wait. The system itself
/// takes up to 4 MiB at once for somebody who reads nothing (`tcp_wmem`); that proves no speed, and
/// a 64th of it is little.
const SHARE: u64 = 64;
/// Who takes longer over a piece gets smaller ones.
const SLOW: Duration = Duration::from_millis(100);
/// Buffers of a stream that wait for their next use: one is read into while one is sent.
const SPARE: usize = 2;

/// The bytes `from..to` of a file, of this size if one is given.
pub(super) async fn read(
    path: &Path,
    from: u64,
    to: u64,
    of: Option<u64>,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let path = path.to_owned();
    let shelf = Arc::new(Shelf::default());
    let (size, own) = (piece(FIRST, to - from), shelf.clone());
    let first = tokio::task::spawn_blocking(move || {
        let file = open(&path, of)?;
        Ok((fill(&file, from, size, &own)?, file))
    });
    let (bytes, file) = settle(first).await?;
    let reading = Reading {
        file: Arc::new(file),
        at: from + size as u64,
        to,
        ready: Next::Read(bytes),
        handed_over: Instant::now(),
        kept_up: 0,
        shelf,
    };
    let pieces = futures::stream::try_unfold(reading, |mut reading| async move {
        Ok(reading.next().await?.map(|bytes| (bytes, reading)))
    });
    Ok(pieces.boxed())
}

/// A file of `size` bytes.
pub(super) async fn whole(path: &Path, size: usize) -> Result<Bytes> {
    let path = path.to_owned();
    let read = move || {
        let mut bytes = vec![0; size];
        open(&path, u64::try_from(size).ok())?.read_exact_at(&mut bytes, 0)?;
        Ok(bytes.into())
    };
    settle(tokio::task::spawn_blocking(read)).await
}

fn open(path: &Path, size: Option<u64>) -> io::Result<File> {
    let file = File::open(path)?;
    match size {
        Some(size) if file.metadata()?.len() != size => Err(io::ErrorKind::InvalidData.into()),
        _ => Ok(file),
    }
}

struct Reading {
    file: Arc<File>,
    /// Where the next read begins.
    at: u64,
    to: u64,
    ready: Next,
    handed_over: Instant,
    /// Bytes that were taken without making us wait; less when we had to.
    kept_up: u64,
    shelf: Arc<Shelf>,
}

/// The piece that comes next.
enum Next {
    Read(Bytes),
    BeingRead(JoinHandle<io::Result<Bytes>>),
    Unread,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let waited = self.handed_over.elapsed();
        let bytes = match std::mem::replace(&mut self.ready, Next::Unread) {
            Next::Read(bytes) => bytes,
            Next::BeingRead(read) => {
                self.pace(waited);
                settle(read).await?
            }
            Next::Unread if self.at == self.to => return Ok(None),
            Next::Unread => {
                self.pace(waited);
                settle(self.begin()).await?
            }
        };
        self.kept_up += bytes.len() as u64;
        if self.size() >= AHEAD && self.at < self.to {
            self.ready = Next::BeingRead(self.begin());
        }
        self.handed_over = Instant::now();
        Ok(Some(bytes))
    }

    /// Takes note of how long the reader took over the piece before.
    fn pace(&mut self, waited: Duration) {
        if waited > SLOW {
            self.kept_up /= 2;
            self.shelf.clear();
        }
    }

    fn size(&self) -> usize {
        let earned = usize::try_from(self.kept_up / SHARE).unwrap_or(FULL);
        // Powers of two, so that buffers fit again.
        let size = earned.clamp(FIRST, FULL);
        1 << size.ilog2()
    }

    fn begin(&mut self) -> JoinHandle<io::Result<Bytes>> {
        let size = piece(self.size(), self.to - self.at);
        let (file, at, shelf) = (self.file.clone(), self.at, self.shelf.clone());
        self.at += size as u64;
        tokio::task::spawn_blocking(move || fill(&file, at, size, &shelf))
    }
}

fn piece(size: usize, left: u64) -> usize {
    usize::try_from(left).map_or(size, |left| left.min(size))
}

async fn settle<T>(task: JoinHandle<io::Result<T>>) -> Result<T> {
    match task.await.map_err(|e| Error::Internal(e.to_string()))? {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(Error::NotFound("file")),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(super::faults::wrong_size()),
        read => read.map_err(Error::io("reading a stored file")),
    }
}

/// One piece. A file that ends early is an error, never a short answer.
fn fill(file: &File, at: u64, size: usize, shelf: &Arc<Shelf>) -> io::Result<Bytes> {
    if size < AHEAD {
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, at)?;
        return Ok(bytes.into());
    }
    let mut lent = Lent { bytes: shelf.take(size), home: shelf.clone() };
    file.read_exact_at(&mut lent.bytes[..size], at)?;
    Ok(Bytes::from_owner(lent).slice(..size))
}

/// Large buffers of one stream between two uses. A new one costs zeroing and page faults, which
/// together take longer than reading into it.
#[derive(Default)]
struct Shelf(Mutex<Vec<Vec<u8>>>);

impl Shelf {
    /// A buffer of at least `size` bytes.
    fn take(&self, size: usize) -> Vec<u8> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.filter(|bytes| bytes.len() >= size).unwrap_or_else(|| vec![0; size])
    }

    fn put(&self, bytes: Vec<u8>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(bytes);
        }
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A buffer that goes back to its shelf when the connection has taken it.
struct Lent {
    bytes: Vec<u8>,
    home: Arc<Shelf>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.put(std::mem::take(&mut self.bytes));
    }
}

/// Unfinished uploads below `root`: `requests/{id}/{generation}#{anything}`.
pub(super) fn unfinished(root: &Path) -> Vec<Unfinished> {
    let (mut found, mut folders) = (Vec::new(), vec![root.join("requests")]);
    while let Some(folder) = folders.pop() {
        // A folder that is removed under our eyes has nothing left in it.
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
            if meta.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(root).ok().and_then(Path::to_str);
            let key = name.and_then(|name| name.split_once('#')?.0.parse().ok());
            if let (Some(key), Ok(written)) = (key, meta.modified()) {
                found.push(Unfinished { key, begun: written.into(), place: Place::File(path) });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(size: usize) -> (tempfile::NamedTempFile, Vec<u8>) {
        let bytes: Vec<u8> = (0..size).map(|i| (i * 7 + i / 251) as u8).collect();
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(&bytes).expect("written");
        (file, bytes)
    }

    #[tokio::test]
    async fn pieces_grow_with_who_keeps_up_and_no_byte_is_lost() {
        let (file, expected) = file(40 << 20);
        let (from, to) = (12_345, expected.len() - 77);
        let mut pieces = read(file.path(), from as u64, to as u64, None).await.expect("it opens");
        let (mut found, mut sizes) = (Vec::new(), Vec::new());
        while let Some(piece) = pieces.next().await {
            let piece = piece.expect("it is read");
            sizes.push(piece.len());
            found.extend_from_slice(&piece);
        }
        assert!(found == expected[from..to]);
        let early: usize = sizes.iter().take_while(|size| **size <= 64 * 1024).sum();
        assert!(early >= 8 << 20, "what a socket swallows proves no speed: {early}");
        assert_eq!(sizes.iter().max(), Some(&FULL));
    }

    #[tokio::test]
    async fn a_slow_reader_gets_small_pieces_again() {
        let (file, expected) = file(24 << 20);
        let mut pieces = read(file.path(), 0, expected.len() as u64, None).await.expect("it opens");
        let (mut taken, mut largest, mut size) = (0, 0, 0);
        while taken < 20 << 20 {
            size = pieces.next().await.expect("more").expect("it is read").len();
            largest = largest.max(size);
            taken += size;
        }
        assert!(largest >= AHEAD, "{largest}");
        for _ in 0..6 {
            tokio::time::sleep(SLOW * 2).await;
            size = pieces.next().await.expect("more").expect("it is read").len();
        }
        assert!(size < AHEAD, "{size}");
    }

    #[tokio::test]
    async fn a_file_that_ends_early_is_an_error() {
        let (file, expected) = file(100_000);
        let beyond = expected.len() as u64 + 1;
        let pieces = read(file.path(), 0, beyond, None).await.expect("it opens");
        let pieces: Vec<_> = pieces.collect().await;
        assert!(pieces.last().is_some_and(|last| last.is_err()));
        for wrong in [expected.len() - 1, expected.len() + 1] {
            let lost = whole(file.path(), wrong).await;
            assert!(matches!(lost, Err(Error::FileLost(_))), "{wrong}");
            let lost = read(file.path(), 0, 1, Some(wrong as u64)).await;
            assert!(matches!(lost, Err(Error::FileLost(_))), "{wrong}");
        }
    }
}
