//! Where files are: a folder, S3 or what speaks it, GCS, Azure, or memory, chosen by URL.
//!
//! Uploads are streamed with size and SHA-256 computed on the way; a file becomes visible whole
//! or not at all.

mod folder;
mod put;
mod silence;
mod small;
mod unfinished;

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutPayloadMut, RetryConfig,
    client::HttpConnector,
    list::{PaginatedListOptions, PaginatedListStore},
    local::LocalFileSystem,
    memory::InMemory,
    multipart::MultipartStore,
    path::Path,
    signer::Signer,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use url::Url;

pub use self::unfinished::Unfinished;
use self::unfinished::{Place, Uploads};
use crate::{
    error::{Error, Result},
    ids::RequestId,
};

/// One part of a multipart upload. S3 takes 10,000 of them: 80 GiB a file. All but the last are of
/// this very size, as some stores insist.
const PART: usize = 8 * 1024 * 1024;
/// Pieces smaller than this are put together: each costs memory of its own.
const PIECE: usize = 16 * 1024;

/// How long a store over the network may be silent within a call. Calls that fail are not begun
/// again after that time, either.
const SILENCE: Duration = Duration::from_secs(30);
/// How long it has to show that it is there.
const PROBE: Duration = Duration::from_secs(5);
/// How long giving up an upload may take: whoever gives up has mostly waited already.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Files up to this size are kept in memory for a while once they were asked for.
const SMALL: u64 = 64 * 1024;

/// The place of one generation of one request's file: `requests/{id}/{generation}`. Nothing else
/// makes paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StorageKey {
    /// Whose file.
    pub request: RequestId,
    /// Made under which claim, so that a late worker never writes where another one does.
    pub generation: i64,
}

impl fmt::Display for StorageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "requests/{}/{}", self.request, self.generation)
    }
}

impl FromStr for StorageKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (id, generation) = text.strip_prefix("requests/")?.split_once('/')?;
            Some(StorageKey { request: id.parse().ok()?, generation: generation.parse().ok()? })
        };
        parse().ok_or_else(|| Error::Internal(format!("{text:?} is no storage key")))
    }
}

/// An object as the store lists it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its place.
    pub key: StorageKey,
    /// When it appeared, by the store's clock.
    pub modified: DateTime<Utc>,
}

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

/// A place for files.
#[derive(Clone)]
pub struct Storage {
    store: Arc<dyn ObjectStore>,
    /// What a store over the network can do besides.
    remote: Option<Arc<Uploads>>,
    prefix: Path,
    /// The folder, when it is one.
    folder: Option<PathBuf>,
    url: String,
    small: Arc<small::Small>,
    names: Arc<put::Names>,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Storage({})", self.url)
    }
}

impl Storage {
    /// Opens `file:///folder`, `s3://bucket/prefix`, `gs://…`, `az://…` or `memory:`. `options`
    /// are the providers' own settings by their usual names (`AWS_ACCESS_KEY_ID`,
    /// `AWS_ENDPOINT` …).
    ///
    /// # Errors
    /// [`Error::Config`] when the URL or an option is not understood or the folder cannot be made.
    pub fn open(url: &str, options: &[(String, String)]) -> Result<Storage> {
        Storage::open_with_patience(url, options, SILENCE)
    }

    /// As [`Storage::open`], with a store over the network that may be silent for so long within a
    /// call; 30 seconds otherwise.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn open_with_patience(
        url: &str,
        options: &[(String, String)],
        silence: Duration,
    ) -> Result<Storage> {
        let wrong = |e: &dyn fmt::Display| Error::Config(format!("BGFILES_STORAGE: {e}"));
        let open = |store, remote, prefix, folder| Storage {
            store,
            remote,
            prefix,
            folder,
            url: url.to_owned(),
            small: Arc::default(),
            names: Arc::default(),
        };
        if matches!(url, "memory:" | "memory:///" | "memory://") {
            return Ok(open(Arc::new(InMemory::new()), None, Path::default(), None));
        }
        let parsed = Url::parse(url).map_err(|e| {
            wrong(&format!(
                "{e}: use file:///folder, s3://bucket/prefix, gs://…, az://… or memory:"
            ))
        })?;
        if parsed.scheme() == "file" {
            // `file:folder` would be the folder at the root.
            let folder = parsed.to_file_path().ok().filter(|_| url.starts_with("file:///"));
            let folder = folder.ok_or_else(|| wrong(&"file: needs an absolute path, file:///…"))?;
            put::create_folder(&folder)
                .map_err(|e| wrong(&format!("{}: {e}", folder.display())))?;
            // The names on the way to it outlast a power cut; another process may have made them a
            // moment ago. Whose folders we may not open are older than we are.
            for above in folder.ancestors().skip(1) {
                let _ = std::fs::File::open(above).and_then(|above| above.sync_all());
            }
            let store = LocalFileSystem::new_with_prefix(&folder)
                .map_err(|e| wrong(&e))?
                .with_fsync(true)
                .with_automatic_cleanup(true);
            return Ok(open(Arc::new(store), None, Path::default(), Some(folder)));
        }
        let (scheme, prefix) =
            object_store::ObjectStoreScheme::parse(&parsed).map_err(|e| wrong(&e))?;
        let (store, uploads) = remote(&scheme, url, options, silence).map_err(|e| wrong(&e))?;
        Ok(open(store, Some(Arc::new(uploads)), prefix, None))
    }

    fn path(&self, key: StorageKey) -> Path {
        self.prefix.parts().chain(Path::from(key.to_string()).parts()).collect()
    }

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

    /// The bytes `from..to` of an object, streamed. The first of them are there.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such object; the store's.
    pub async fn read(
        &self,
        key: StorageKey,
        from: u64,
        to: u64,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.fetch(key, from, to, None).await
    }

    /// As [`Storage::read`], of an object that must be of `size` bytes.
    ///
    /// # Errors
    /// [`Error::FileLost`] when it is of another size; as [`Storage::read`].
    pub async fn read_of(
        &self,
        key: StorageKey,
        size: u64,
        from: u64,
        to: u64,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.fetch(key, from, to, Some(size)).await
    }

    async fn fetch(
        &self,
        key: StorageKey,
        from: u64,
        to: u64,
        of: Option<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        if from == to {
            if let Some(size) = of {
                self.confirm(key, size).await?;
            }
            return Ok(futures::stream::empty().boxed());
        }
        if let Some(folder) = &self.folder {
            return folder::read(&folder.join(key.to_string()), from, to, of).await;
        }
        let options = GetOptions { range: Some(GetRange::Bounded(from..to)), ..Default::default() };
        let got = match self.store.get_opts(&self.path(key), options).await.map_err(missing) {
            Ok(got) => got,
            Err(Error::Storage(error)) => {
                // A range beyond the end is refused in as many ways as there are stores.
                if let (Some(size), true) = (of, from > 0) {
                    self.confirm(key, size).await?;
                }
                return Err(error.into());
            }
            Err(error) => return Err(error),
        };
        if of.is_some_and(|size| got.meta.size != size) {
            return Err(wrong_size());
        }
        let mut pieces = got.into_stream().map(|chunk| chunk.map_err(Error::from)).boxed();
        // A store that goes silent after its headers is met before our own go out.
        let first = pieces.try_next().await?;
        Ok(futures::stream::iter(first.map(Ok)).chain(pieces).boxed())
    }

    /// Makes sure that an object is there, and of this size.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::FileLost`]; the store's.
    pub async fn confirm(&self, key: StorageKey, size: u64) -> Result<()> {
        let found = self.store.head(&self.path(key)).await.map_err(missing)?;
        if found.size == size { Ok(()) } else { Err(wrong_size()) }
    }

    /// The bytes of a small object of `size` bytes, if they are in memory.
    pub fn remembered(&self, key: StorageKey, size: u64) -> Option<Bytes> {
        if size > SMALL {
            return None;
        }
        self.small.get(key, usize::try_from(size).ok()?)
    }

    /// All of a small object of `size` bytes, which then stays in memory for a while. `None` when it
    /// is empty or not small.
    ///
    /// # Errors
    /// As [`Storage::read_of`].
    pub async fn read_small(&self, key: StorageKey, size: u64) -> Result<Option<Bytes>> {
        if size == 0 || size > SMALL {
            return Ok(None);
        }
        if let Some(bytes) = self.remembered(key, size) {
            return Ok(Some(bytes));
        }
        let bytes = match &self.folder {
            Some(folder) => {
                let length = usize::try_from(size).unwrap_or_default();
                folder::whole(&folder.join(key.to_string()), length).await?
            }
            None => {
                let pieces = self.read_of(key, size, 0, size).await?;
                let pieces: BytesMut = pieces.try_collect().await?;
                pieces.freeze()
            }
        };
        if bytes.len() as u64 != size {
            return Err(wrong_size());
        }
        self.small.insert(key, bytes.clone());
        Ok(Some(bytes))
    }

    /// Removes an object; one that is gone already is fine.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete(&self, key: StorageKey) -> Result<()> {
        self.small.forget(key);
        match self.store.delete(&self.path(key)).await {
            Err(e) if !is_missing(&e) => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// All objects of ours, in no particular order. Others' objects beside them are passed over.
    pub fn list(&self) -> BoxStream<'static, Result<Stored>> {
        let prefix: Path = self.prefix.parts().chain(Path::from("requests").parts()).collect();
        let skip = self.prefix.parts().count();
        self.store
            .list(Some(&prefix))
            .filter_map(move |meta| async move {
                let meta = match meta {
                    Ok(meta) => meta,
                    Err(e) => return Some(Err(e.into())),
                };
                let path: Path = meta.location.parts().skip(skip).collect();
                let key = path.as_ref().parse().ok()?;
                Some(Ok(Stored { key, modified: meta.last_modified }))
            })
            .boxed()
    }

    /// Uploads that did not become objects so far: those under way, and those of processes that were
    /// killed. None where the store cannot say (GCS, Azure).
    ///
    /// # Errors
    /// The store's.
    pub async fn unfinished(&self) -> Result<Vec<Unfinished>> {
        match (&self.folder, &self.remote) {
            (Some(folder), _) => {
                let folder = folder.clone();
                tokio::task::spawn_blocking(move || folder::unfinished(&folder))
                    .await
                    .map_err(|e| Error::Internal(e.to_string()))
            }
            (None, Some(remote)) => remote.list(&self.prefix).await,
            (None, None) => Ok(Vec::new()),
        }
    }

    /// Removes what there is of an upload; one that is gone already is fine.
    ///
    /// # Errors
    /// The store's.
    pub async fn give_up(&self, upload: &Unfinished) -> Result<()> {
        let given_up = match (&upload.place, &self.remote) {
            (Place::File(path), _) => match tokio::fs::remove_file(path).await {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("removing an unfinished upload")(e));
                }
                _ => Ok(()),
            },
            (Place::Upload(id), Some(remote)) => {
                remote.parts.abort_multipart(&self.path(upload.key), id).await
            }
            (Place::Upload(_), None) => Ok(()),
        };
        match given_up {
            Err(e) if is_missing(&e) => Ok(()),
            other => Ok(other?),
        }
    }

    /// The path of an object below the storage's root, for a front server that serves the same
    /// folder or bucket (`X-Accel-Redirect`).
    pub fn relative(&self, key: StorageKey) -> String {
        self.path(key).to_string()
    }

    /// The file itself, when the storage is a folder (`X-Sendfile`).
    pub fn file(&self, key: StorageKey) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(key.to_string()))
    }

    /// A URL under which the store itself serves the object for a while, under a name of ours.
    /// `None` where the store cannot do that.
    ///
    /// # Errors
    /// The store's.
    pub async fn presign(&self, key: StorageKey, valid: Duration) -> Result<Option<Url>> {
        let Some(remote) = &self.remote else { return Ok(None) };
        Ok(Some(remote.signer.signed_url(http::Method::GET, &self.path(key), valid).await?))
    }

    /// Whether the store answers within five seconds, and the folder, bucket or container is there.
    ///
    /// # Errors
    /// When it does not, or is not.
    pub async fn ping(&self) -> Result<()> {
        match tokio::time::timeout(PROBE, self.probe()).await {
            Ok(answer) => answer,
            Err(_) => Err(unwell(format!("it does not answer within {} s", PROBE.as_secs()))),
        }
    }

    /// Lists one key: a missing bucket says so to that, and to HEAD of an object says the same as a
    /// missing object.
    async fn probe(&self) -> Result<()> {
        if let Some(remote) = &self.remote {
            let one = PaginatedListOptions { max_keys: Some(1), ..Default::default() };
            let prefix = Some(self.prefix.as_ref()).filter(|prefix| !prefix.is_empty());
            return match remote.lists.list_paginated(prefix, one).await {
                Err(error) if lacks_bucket(&error) => {
                    Err(unwell(format!("the bucket or container does not exist: {error}")))
                }
                listed => Ok(listed.map(drop)?),
            };
        }
        if let Some(folder) = &self.folder {
            let meta = tokio::fs::metadata(folder).await;
            meta.map_err(Error::io(folder.display().to_string()))?;
        }
        Ok(())
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

type Remote = (Arc<dyn ObjectStore>, Uploads);

fn remote(
    scheme: &object_store::ObjectStoreScheme,
    url: &str,
    options: &[(String, String)],
    patience: Duration,
) -> object_store::Result<Remote> {
    use object_store::{ObjectStoreScheme as Scheme, aws, azure, gcp};
    let connector = silence::Limited(patience);
    let retry = RetryConfig { retry_timeout: patience, ..Default::default() };
    // The timeout spans a whole body; a slow reader of a large file is no fault of the store's.
    let client = object_store::ClientOptions::new()
        .with_timeout(Duration::from_secs(24 * 60 * 60))
        .with_connect_timeout(Duration::from_secs(10))
        .with_allow_http(true);
    macro_rules! build {
        ($builder:expr, $key:ty) => {{
            let http = connector.connect(&client)?;
            let builder = $builder
                .with_url(url)
                .with_client_options(client)
                .with_http_connector(connector)
                .with_retry(retry);
            let known = |(name, value): &(String, String)| {
                Some((<$key>::from_str(&name.to_ascii_lowercase()).ok()?, value.clone()))
            };
            let builder = options
                .iter()
                .filter_map(known)
                .fold(builder, |builder, (key, value)| builder.with_config(key, value));
            let store = Arc::new(builder.build()?);
            let (signer, parts): (Arc<dyn Signer>, Arc<dyn MultipartStore>) =
                (store.clone(), store.clone());
            let lists: Arc<dyn PaginatedListStore> = store.clone();
            Ok((store, Uploads { signer, parts, lists, http }))
        }};
    }
    match scheme {
        Scheme::AmazonS3 => build!(aws::AmazonS3Builder::new(), aws::AmazonS3ConfigKey),
        Scheme::GoogleCloudStorage => {
            build!(gcp::GoogleCloudStorageBuilder::new(), gcp::GoogleConfigKey)
        }
        Scheme::MicrosoftAzure => {
            build!(azure::MicrosoftAzureBuilder::new(), azure::AzureConfigKey)
        }
        _ => Err(object_store::Error::NotSupported {
            source: "use file:///folder, s3://bucket/prefix, gs://…, az://… or memory:".into(),
        }),
    }
}

fn missing(error: object_store::Error) -> Error {
    if is_missing(&error) { Error::NotFound("file") } else { error.into() }
}

/// Whether an object is not there. A bucket that is not there says nothing of its objects.
fn is_missing(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) && !lacks_bucket(error)
}

/// Whether the bucket or container is not there: S3, Azure and GCS say that in the text only.
fn lacks_bucket(error: &object_store::Error) -> bool {
    let text = error.to_string();
    ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"].iter().any(|w| text.contains(w))
}

fn wrong_size() -> Error {
    Error::FileLost("it is not of the size that was written down when it was made")
}

fn unwell(text: String) -> Error {
    object_store::Error::Generic { store: "store", source: text.into() }.into()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_no_bucket_is_not_gone() {
        let error = |text: &str| object_store::Error::NotFound {
            path: "requests".into(),
            source: format!("404 Not Found: <Error><Code>{text}</Code></Error>").into(),
        };
        assert!(is_missing(&error("NoSuchKey")) && is_missing(&error("BlobNotFound")));
        for text in ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist."] {
            assert!(!is_missing(&error(text)), "{text}");
        }
    }

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
