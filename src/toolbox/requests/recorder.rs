//! Requests that come together are recorded together.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;

use super::group_commit::GroupCommit;
use crate::{
    error::{Error, Result},
    failpoint,
    file_request::{FileRequest, store},
    queue::{self, Wake},
    toolbox::Toolbox,
};

/// What one transaction may take; a database that does not answer must not hold up all others.
const COMMIT: Duration = Duration::from_secs(15);

pub(in crate::toolbox) type Recorder = GroupCommit<FileRequest, ()>;

pub(in crate::toolbox) fn recorder() -> Recorder {
    GroupCommit::new(|toolbox, rows| async move { commit(&toolbox, &rows).await }.boxed())
}

impl Toolbox {
    /// Records a request that nobody has seen yet and wakes the workers.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn record(&self, row: FileRequest) -> Result<FileRequest> {
        self.0.recorder.submit(self, row.clone()).await?;
        Ok(row)
    }
}

async fn commit(toolbox: &Toolbox, rows: &Arc<[FileRequest]>) -> Result<Vec<()>> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let done = vec![(); rows.len()];
    let error = match tokio::time::timeout(COMMIT, commit_once(toolbox, rows, first)).await {
        Ok(Ok(())) => return Ok(done),
        Ok(Err(error)) => error,
        Err(_) => Error::temporary("database", "the database does not answer; try again"),
    };
    // A commit whose answer was lost counts all the same.
    let look = async { store::find(&mut toolbox.db().acquire().await?, first.id).await };
    match tokio::time::timeout(COMMIT, look).await {
        Ok(Ok(Some(_))) => Ok(done),
        _ => Err(error),
    }
}

async fn commit_once(toolbox: &Toolbox, rows: &[FileRequest], first: &FileRequest) -> Result<()> {
    if toolbox.0.bell.ring(toolbox.db()) {
        let mut tx = toolbox.db().begin().await?;
        store::insert_all(&mut tx, rows).await?;
        queue::push(tx.conn(), Wake::request(first.id), first.requested_at).await?;
        tx.commit().await?;
    } else {
        // A statement of its own is its own transaction.
        store::insert_all(&mut toolbox.db().acquire().await?, rows).await?;
    }
    failpoint::reached("recorded");
    Ok(())
}
