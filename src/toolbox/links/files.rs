//! Finished files: attaching them from outside a worker, and serving them.

use std::path::Path;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{
    error::{Error, Result},
    file_request::{
        FileRequest, Status,
        attempts::{self, Attempt},
        filename, store,
    },
    ids::RequestId,
    registry::Output,
    storage::{Headers, Storage, StorageKey},
    toolbox::{KEEP_ENDED, Toolbox},
};

/// How long an attachment may take before a worker makes the file instead.
const ATTACH_LEASE: TimeDelta = TimeDelta::minutes(15);
/// Bytes read at a time from what is attached.
const CHUNK: usize = 256 * 1024;

/// What [`Toolbox::attach_file`] may change; empty text keeps what the row has.
#[derive(Clone, Debug, Default)]
pub struct FileOverrides {
    /// As offered for download.
    pub filename: String,
    /// Media type.
    pub content_type: String,
}

/// A file that may be served, and everything a response needs to know of it.
#[derive(Clone, Debug)]
pub struct Download {
    storage: Storage,
    /// Where it is.
    pub key: StorageKey,
    /// Bytes.
    pub size: u64,
    /// Media type; `application/octet-stream` when the row has none.
    pub content_type: String,
    /// `Content-Disposition`; `None` when the file has no name.
    pub disposition: Option<String>,
    /// A strong entity tag, quotes included: the SHA-256 of the bytes.
    pub etag: String,
    /// When it was made, to the second.
    pub last_modified: DateTime<Utc>,
}

impl Download {
    /// The bytes `from..to`.
    ///
    /// # Errors
    /// The store's; [`Error::FileLost`] when the object is gone or of another size.
    pub async fn read(&self, from: u64, to: u64) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.judge(self.storage.read_of(self.key, self.size, from, to).await)
    }

    /// Makes sure that the file is there, for an answer that carries none of its bytes.
    ///
    /// # Errors
    /// As [`Download::read`].
    pub async fn confirm(&self) -> Result<()> {
        self.judge(self.storage.confirm(self.key, self.size).await)
    }

    /// Of a finished file, an object that is gone is lost. Operators are told, once a try.
    fn judge<T>(&self, read: Result<T>) -> Result<T> {
        let lost = match read {
            Err(Error::NotFound(_)) => Error::FileLost("it is no longer in the store"),
            Err(lost @ Error::FileLost(_)) => lost,
            other => return other,
        };
        tracing::error!(request = %self.key.request, object = %self.key, error = %lost,
            "a finished file cannot be served");
        Err(lost)
    }

    /// All the bytes of a small file that was asked for lately; `None` when they are not in memory.
    pub fn remembered(&self) -> Option<Bytes> {
        self.storage.remembered(self.key, self.size)
    }

    /// All the bytes of a small file, which then stay in memory for a while; `None` of any other.
    ///
    /// # Errors
    /// As [`Download::read`].
    pub async fn read_small(&self) -> Result<Option<Bytes>> {
        self.judge(self.storage.read_small(self.key, self.size).await)
    }

    /// The storage it is in.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }
}

impl Toolbox {
    /// Stores `content` as the file of a request and finishes it; a worker
    /// that is at it loses its lease. Size and SHA-256 are computed;
    /// empty overrides keep what the row has. No notice is sent.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the request, [`Error::Conflict`] when a worker took it over or
    /// somebody cancelled it meanwhile; the store's and the reader's.
    pub async fn attach_file(
        &self,
        id: RequestId,
        mut content: impl AsyncRead + Unpin + Send,
        overrides: FileOverrides,
    ) -> Result<FileRequest> {
        let started_at = self.clock().now();
        let mut tx = self.db().begin().await?;
        let until = started_at + ATTACH_LEASE;
        let seized = store::seize(&mut tx, id, "attach", started_at, until).await?;
        tx.commit().await?;
        let row = seized.ok_or(Error::NotFound("request"))?;
        if row.finished_at.is_some() {
            // From here on nobody gets the file of before.
            self.memory().watch.changed().await;
        }
        let keep = |new: String, old: &str| if new.is_empty() { old.to_owned() } else { new };
        let filename = filename::safe(&keep(overrides.filename, &row.filename));
        let content_type = keep(overrides.content_type, &row.content_type);
        let key = StorageKey { request: id, generation: row.generation };
        let headers = Headers {
            content_type: content_type.clone(),
            disposition: filename::of_request(&row, &filename, true),
        };
        let (mut out, bytes) = Output::channel();
        let (failed, failure) = tokio::sync::oneshot::channel();
        let copy = async move {
            let copied = copy(&mut content, &mut out).await;
            // The receiver goes only with the upload, whose own error is then returned.
            let _ = failed.send(copied);
        };
        let complete = async { failure.await.unwrap_or(Err(Error::OutputClosed)) };
        let (uploaded, ()) =
            tokio::join!(self.storage().upload(key, &headers, bytes, complete), copy);
        let uploaded = uploaded?;
        let now = self.clock().now();
        let age = self.signer().max_age().and_then(|age| TimeDelta::from_std(age).ok());
        let expires_at = row.expires_at.filter(|at| *at > now);
        let published = store::Published {
            storage_key: key.to_string(),
            filename,
            content_type,
            format: row.format,
            description: row.description,
            size: i64::try_from(uploaded.size).unwrap_or(i64::MAX),
            sha256: uploaded.sha256,
            rows: None,
            finished_at: now,
            expires_at: expires_at.unwrap_or(now + age.unwrap_or(KEEP_ENDED)),
        };
        let mut tx = self.db().begin().await?;
        let publication = store::Publication { id, generation: key.generation, file: published };
        let attached = store::publish(&mut tx, &publication).await?;
        if let Some(row) = &attached {
            let ended = Attempt {
                request_id: id,
                generation: key.generation,
                worker: "attach".into(),
                started_at,
                ended_at: now,
                outcome: row.status,
                error: None,
                cause: None,
            };
            attempts::store::insert(&mut tx, &ended).await?;
            self.standing_link(&mut tx, row).await?;
        }
        tx.commit().await?;
        attached.ok_or_else(|| Error::Conflict {
            code: "lease_lost",
            message: "a worker took the request over, or it was cancelled, meanwhile".into(),
        })
    }

    /// As [`Toolbox::attach_file`], from a file on this machine; its name is used when the row has
    /// none and no override is given.
    ///
    /// # Errors
    /// As [`Toolbox::attach_file`]; [`Error::Io`] when the file cannot be read.
    pub async fn attach_local_file(
        &self,
        id: RequestId,
        path: &Path,
        mut overrides: FileOverrides,
    ) -> Result<FileRequest> {
        let context = path.display().to_string();
        let file = tokio::fs::File::open(path).await.map_err(Error::io(context))?;
        let mut tx = self.db().read().await?;
        let row = store::find(&mut tx, id).await?.ok_or(Error::NotFound("request"))?;
        drop(tx);
        if overrides.filename.is_empty() && row.filename.is_empty() {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            overrides.filename = name.unwrap_or_default();
        }
        self.attach_file(id, file, overrides).await
    }

    /// What is needed to serve the file of a request.
    ///
    /// # Errors
    /// [`Error::NotReady`] when there is no file; [`Error::FileExpired`] when its time is over;
    /// [`Error::FileLost`] when its row does not say what to serve.
    pub fn serve(&self, row: &FileRequest) -> Result<Download> {
        if row.is_expired(self.clock().now()) {
            return Err(Error::FileExpired);
        }
        self.serve_late(row)
    }

    /// As [`Toolbox::serve`], past the file's own time too: a download that began before may end.
    ///
    /// # Errors
    /// [`Error::NotReady`] when there is no file; [`Error::FileLost`] when its row does not say what
    /// to serve.
    pub fn serve_late(&self, row: &FileRequest) -> Result<Download> {
        if row.status != Status::Finished {
            return Err(Error::NotReady(row.status.as_str()));
        }
        let Written { key, size, sha256 } = Written::of(row).map_err(|why| {
            tracing::error!(request = %row.id, why, "a finished file cannot be served");
            Error::FileLost(why)
        })?;
        let content_type = match row.content_type.as_str() {
            "" => "application/octet-stream".to_owned(),
            known => known.to_owned(),
        };
        let handler = self.registry().get(row.file_type.as_str());
        let attachment = handler.map_or(true, |handler| handler.content_as_attachment());
        Ok(Download {
            storage: self.storage().clone(),
            key,
            size,
            content_type,
            disposition: (!row.filename.is_empty())
                .then(|| filename::of_request(row, &row.filename, attachment)),
            etag: format!("\"{sha256}\""),
            // A worker's clock may be ahead of ours (RFC 9110, section 8.8.2.1).
            last_modified: row.finished_at.unwrap_or(row.requested_at).min(self.clock().now()),
        })
    }
}

/// What the row of a finished request says of its file. Rows come from elsewhere, too: of another
/// product, of a restored backup, of somebody's hand.
struct Written<'a> {
    key: StorageKey,
    size: u64,
    sha256: &'a str,
}

impl<'a> Written<'a> {
    fn of(row: &'a FileRequest) -> Result<Self, &'static str> {
        let size = row.size.and_then(|size| u64::try_from(size).ok());
        Ok(Written {
            key: row.own_key().ok_or("where it is was not written down in a form of ours")?,
            size: size.ok_or("its size was not written down")?,
            sha256: row.sha256.as_deref().ok_or("its checksum was not written down")?,
        })
    }
}

async fn copy(content: &mut (impl AsyncRead + Unpin), out: &mut Output) -> Result<()> {
    loop {
        let mut chunk = bytes::BytesMut::with_capacity(CHUNK);
        let read =
            content.read_buf(&mut chunk).await.map_err(Error::io("reading the file to attach"))?;
        if read == 0 {
            return Ok(());
        }
        out.write(chunk.freeze()).await?;
    }
}
