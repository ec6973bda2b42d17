//! Where files are: a folder, S3 or what speaks it, GCS, Azure, or memory, chosen by URL.
//!
//! Uploads are streamed with size and SHA-256 computed on the way; a file becomes visible whole
//! or not at all.

mod faults;
mod folder;
mod key;
mod open;
mod put;
mod read;
mod removal;
mod silence;
mod small;
mod unfinished;
mod upload;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use object_store::{ObjectStore, list::PaginatedListOptions, path::Path};
use url::Url;

use self::{
    faults::{lacks_bucket, unwell},
    unfinished::Uploads,
};
pub use self::{
    key::StorageKey,
    removal::Stored,
    unfinished::Unfinished,
    upload::{Headers, Uploaded},
};
use crate::error::{Error, Result};

/// How long the store has to show that it is there.
const PROBE: Duration = Duration::from_secs(5);

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
    fn path(&self, key: StorageKey) -> Path {
        self.prefix.parts().chain(Path::from(key.to_string()).parts()).collect()
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
