//! Taking files and requests away: who comes late gets nothing, in no process.

use super::already;
use crate::{
    db::{Conn, Tx},
    error::Result,
    file_request::{FileRequest, links, store},
    ids::RequestId,
    lock_token::{self, Resource},
    toolbox::Toolbox,
};

impl Toolbox {
    /// Ends a file's time now: nobody gets it any more, and the cleaner removes it.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Error::Conflict`] when there is no file that could be had.
    pub async fn expire(&self, conn: impl Into<Conn<'_>>, id: RequestId) -> Result<FileRequest> {
        let (mut conn, now) = (conn.into(), self.clock().now());
        self.memory().watch.hold(conn.reborrow()).await?;
        match store::expire(conn.reborrow(), id, now).await? {
            Some(row) => {
                // Downloads that were begun end with it.
                links::store::end_grants(conn, id).await?;
                Ok(row)
            }
            None => Err(already(conn, id, "expired").await?),
        }
    }

    /// Removes a request and its file now.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Error::Conflict`] while a worker is at it; the store's, after which
    /// the cleaner finishes the work.
    pub async fn delete(&self, id: RequestId) -> Result<()> {
        let mut tx = self.db().begin().await?;
        let row = self.begin_deletion(&mut tx, id).await?;
        tx.commit().await?;
        self.remove(&row).await
    }

    pub(in crate::toolbox) async fn begin_deletion(
        &self,
        tx: &mut Tx,
        id: RequestId,
    ) -> Result<FileRequest> {
        // From here on no process serves it out of memory.
        self.memory().watch.hold(tx.conn()).await?;
        match store::begin_deletion(&mut *tx, id, self.clock().now()).await? {
            Some(row) => Ok(row),
            None => Err(already(tx.conn(), id, "deleted; cancel it first").await?),
        }
    }

    /// The second half of a removal: the object, then the row.
    pub(crate) async fn remove(&self, row: &FileRequest) -> Result<()> {
        match (row.own_key(), &row.storage_key) {
            (Some(key), _) => self.storage().delete(key).await?,
            // Said once, as the row goes. What it names may be somebody else's.
            (None, Some(key)) => {
                tracing::warn!(request = %row.id, storage_key = key,
                    "a request is removed whose file is not where ours are; the file is left there");
            }
            (None, None) => {}
        }
        crate::failpoint::reached("removed");
        let mut tx = self.db().begin().await?;
        store::finish_removal(&mut tx, row.id).await?;
        // Nobody edits what is not there.
        let resource = Resource::request(row.id);
        lock_token::store::break_lock(&mut tx, &resource, None, None, self.clock().now()).await?;
        tx.commit().await
    }
}
