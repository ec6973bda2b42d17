//! Reading objects: streamed, or small ones out of memory.

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{GetOptions, GetRange, ObjectStoreExt};

use super::{
    Storage,
    faults::{missing, wrong_size},
    folder,
    key::StorageKey,
};
use crate::error::{Error, Result};

/// Files up to this size are kept in memory for a while once they were asked for.
const SMALL: u64 = 64 * 1024;

impl Storage {
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
}
