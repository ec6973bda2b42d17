//! What is there, finished or not, and its removal.

use chrono::{DateTime, Utc};
use futures::{StreamExt, stream::BoxStream};
use object_store::{ObjectStoreExt, path::Path};

use super::{
    Storage,
    faults::is_missing,
    folder,
    key::StorageKey,
    unfinished::{Place, Unfinished},
};
use crate::error::{Error, Result};

/// An object as the store lists it.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its place.
    pub key: StorageKey,
    /// When it appeared, by the store's clock.
    pub modified: DateTime<Utc>,
}

impl Storage {
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
}
