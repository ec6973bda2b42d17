//! Uploads: streamed, with size and SHA-256 computed on the way. An object appears whole or not at
//! all.

use std::time::Duration;

use bytes::Bytes;
use object_store::{
    Attribute, Attributes, MultipartUpload, PutMultipartOptions, PutOptions, PutPayload,
    PutPayloadMut, path::Path,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{Storage, key::StorageKey, put};
use crate::{
    error::{Error, Result},
    ids::hex,
};

/// One part of a multipart upload. S3 takes 10,000 of them: 80 GiB a file. All but the last are of
/// this very size, as some stores insist.
const PART: usize = 8 * 1024 * 1024;
/// Pieces smaller than this are put together: each costs memory of its own.
const PIECE: usize = 16 * 1024;
/// How long giving up an upload may take: whoever gives up has mostly waited already.
const GIVE_UP: Duration = Duration::from_secs(5);

/// What an upload turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Bytes.
    pub size: u64,
    /// Lower-case hex.
    pub sha256: String,
}

/// What a store over the network answers with, when it serves an object itself (presigned URLs).
#[derive(Clone, Debug)]
pub struct Headers {
    /// Media type.
    pub content_type: String,
    /// `Content-Disposition`.
    pub disposition: String,
}

impl Storage {
    /// Stores what comes through the channel until its other end is dropped, then asks `complete`
    /// whether that was all: only then does the object appear.
    ///
    /// # Errors
    /// The store's, or what `complete` returns. Parts already sent are given up.
    pub async fn upload<F>(
        &self,
        key: StorageKey,
        headers: &Headers,
        mut from: mpsc::Receiver<Bytes>,
        complete: F,
    ) -> Result<Uploaded>
    where
        F: Future<Output = Result<()>>,
    {
        let (path, mut digest, mut size) = (self.path(key), Sha256::new(), 0u64);
        let mut parts: Option<Parts> = None;
        let mut gathered = Gathered::default();
        while let Some(mut chunk) = from.recv().await {
            digest.update(&chunk);
            size += chunk.len() as u64;
            while let Some(part) = gathered.fill(&mut chunk) {
                let upload = match &mut parts {
                    Some(upload) => upload,
                    none => none.insert(self.begin(&path, headers).await?),
                };
                if let Err(e) = upload.put(part).await {
                    upload.abort().await;
                    return Err(e);
                }
                crate::failpoint::reached("half-uploaded");
            }
        }
        let last = gathered.0.freeze();
        let finished = match (complete.await, &mut parts) {
            (Err(e), _) => Err(e),
            (Ok(()), Some(upload)) => match upload.finish(last).await {
                Ok(()) => self.settle_file(key).await,
                failed => failed,
            },
            (Ok(()), None) => self.put(key, headers, last).await,
        };
        if let Err(e) = finished {
            if let Some(upload) = &mut parts {
                upload.abort().await;
            }
            return Err(e);
        }
        Ok(Uploaded { size, sha256: hex(&digest.finalize()) })
    }

    /// What the store does not do for a file in a folder: it is for nobody else to read, and the names
    /// that lead to it are on the disk.
    async fn settle_file(&self, key: StorageKey) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let (path, names) = (folder.join(key.to_string()), self.names.clone());
        let task = tokio::task::spawn_blocking(move || {
            put::close_to_others(&path)?;
            names.sync(path.parent().unwrap_or(std::path::Path::new(".")))
        });
        task.await.map_err(|e| Error::Internal(e.to_string()))?.map_err(Error::io("storing a file"))
    }

    /// Stores a file that fits into one part.
    async fn put(&self, key: StorageKey, headers: &Headers, payload: PutPayload) -> Result<()> {
        if let Some(folder) = &self.folder {
            return put::put(folder, key, payload, &self.names).await;
        }
        let options = PutOptions { attributes: self.attributes(headers), ..Default::default() };
        self.store.put_opts(&self.path(key), payload, options).await?;
        Ok(())
    }

    async fn begin(&self, path: &Path, headers: &Headers) -> Result<Parts> {
        if let Some(folder) = &self.folder {
            let path = folder.join(path.as_ref());
            let parent = path.parent().unwrap_or(folder);
            put::create_folder(parent).map_err(Error::io(parent.display().to_string()))?;
        }
        let options =
            PutMultipartOptions { attributes: self.attributes(headers), ..Default::default() };
        let upload = self.store.put_multipart_opts(path, options).await?;
        Ok(Parts { upload, under_way: None })
    }

    /// Folders keep no attributes and refuse them.
    fn attributes(&self, headers: &Headers) -> Attributes {
        let mut attributes = Attributes::new();
        if self.remote.is_some() {
            let Headers { content_type, disposition } = headers.clone();
            attributes.insert(Attribute::ContentType, content_type.into());
            attributes.insert(Attribute::ContentDisposition, disposition.into());
        }
        attributes
    }
}

/// What was not sent yet, in the pieces in which it came.
#[derive(Default)]
struct Gathered(PutPayloadMut);

impl Gathered {
    /// Takes of `from` what the part still lacks, and gives the part when it is whole.
    fn fill(&mut self, from: &mut Bytes) -> Option<PutPayload> {
        let lacking = PART - self.0.content_length();
        let piece = from.split_to(lacking.min(from.len()));
        let is_whole = piece.len() == lacking;
        match piece.len() {
            0 => {}
            1..PIECE => self.0.extend_from_slice(&piece),
            _ => self.0.push(piece),
        }
        is_whole.then(|| std::mem::take(&mut self.0).freeze())
    }
}

/// A multipart upload with at most one part under way while the next is gathered.
struct Parts {
    upload: Box<dyn MultipartUpload>,
    under_way: Option<tokio::task::JoinHandle<object_store::Result<()>>>,
}

impl Parts {
    async fn put(&mut self, part: PutPayload) -> Result<()> {
        self.settle().await?;
        let part = self.upload.put_part(part);
        self.under_way = Some(tokio::spawn(part));
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        match self.under_way.take() {
            Some(part) => Ok(part.await.map_err(|e| Error::Internal(e.to_string()))??),
            None => Ok(()),
        }
    }

    async fn finish(&mut self, last: PutPayload) -> Result<()> {
        if last.content_length() > 0 {
            self.put(last).await?;
        }
        self.settle().await?;
        self.upload.complete().await?;
        Ok(())
    }

    /// Best effort: what stays behind is swept.
    async fn abort(&mut self) {
        if let Some(part) = self.under_way.take() {
            part.abort();
            let _ = part.await;
        }
        let error = match tokio::time::timeout(GIVE_UP, self.upload.abort()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store does not answer".to_owned(),
        };
        tracing::warn!(error, "could not give up an upload; it is left for the sweep");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_one_size_whatever_comes() {
        let all: Vec<u8> = (0..2 * PART + 4321).map(|i| (i % 253) as u8).collect();
        for size in [1000, PIECE - 1, PIECE, 300_000, PART - 1, PART, 2 * PART + 1] {
            let (mut gathered, mut parts) = (Gathered::default(), Vec::new());
            for chunk in all.chunks(size) {
                let mut chunk = Bytes::copy_from_slice(chunk);
                while let Some(part) = gathered.fill(&mut chunk) {
                    assert_eq!(part.content_length(), PART, "{size}");
                    parts.push(part);
                }
            }
            parts.push(gathered.0.freeze());
            assert_eq!(parts.len(), 3, "{size}");
            let pieces = parts.iter().map(|part| part.iter().count()).max();
            assert!(pieces <= Some(PART / (8 * 1024) + 1), "{size}: {pieces:?}");
            let stored: Vec<u8> = parts.iter().flatten().flatten().copied().collect();
            assert!(stored == all, "{size}");
        }
    }
}
