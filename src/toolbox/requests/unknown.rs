//! Requests of types that nobody knows. They are left to whoever may come to know them, and fail
//! after a while.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::{
    db::Conn,
    error::{Error, Result},
    file_request::store::{self, WaitingType, Which},
    ids::RequestId,
    operations,
    toolbox::Toolbox,
};

/// So long nobody may have known a type before its requests fail: processes are replaced one after
/// the other, and the first ones lack what the last ones bring.
pub(in crate::toolbox) const PATIENCE: TimeDelta = TimeDelta::minutes(5);
/// Requests that fail in one go.
const BATCH: usize = 100;

/// What [`Toolbox::give_up_unknown`] came to.
#[derive(Clone, Debug, Default)]
pub struct Unknown {
    /// Requests that failed.
    pub failed: Vec<RequestId>,
    /// Types that are left waiting.
    pub left: Vec<WaitingType>,
}

impl Toolbox {
    /// The file types that this process knows.
    pub fn known_types(&self) -> Vec<String> {
        self.registry().iter().map(|handler| handler.file_type().to_owned()).collect()
    }

    /// Types that requests are due of and that neither this process knows nor a worker that was
    /// there within five minutes, and since when the first of them is due.
    ///
    /// # Errors
    /// The database's.
    pub async fn unknown_types(&self, conn: impl Into<Conn<'_>>) -> Result<Vec<WaitingType>> {
        let (mut conn, now) = (conn.into(), self.clock().now());
        let mut waiting = store::waiting_types(conn.reborrow()).await?;
        waiting.retain(|one| one.since <= now && self.registry().get(&one.file_type).is_err());
        if !waiting.is_empty() {
            let known = known_since(conn, now - PATIENCE).await?;
            waiting.retain(|one| !known.contains(&one.file_type));
        }
        Ok(waiting)
    }

    /// The types that workers know which were there within five minutes.
    pub(in crate::toolbox) async fn known_elsewhere(&self) -> Result<HashSet<String>> {
        let mut conn = self.db().acquire().await?;
        known_since(Conn::from(&mut conn), self.clock().now() - PATIENCE).await
    }

    /// Writes down which requests are of a type that nobody knows, and fails those of which this
    /// has stood there for five minutes.
    ///
    /// # Errors
    /// The database's.
    pub async fn give_up_unknown(&self, worker: &str) -> Result<Unknown> {
        let mut conn = self.db().acquire().await?;
        let unknown = self.unknown_types(&mut conn).await?;
        let now = self.clock().now();
        for one in &unknown {
            let error = Error::UnknownFileType(one.file_type.clone());
            let told = (error.code(), &*error.public_message());
            store::note_unknown(&mut conn, &one.file_type, told, now).await?;
        }
        drop(conn);
        if unknown.is_empty() {
            return Ok(Unknown::default());
        }
        let names: Vec<String> = unknown.into_iter().map(|one| one.file_type).collect();
        let mut failed = Vec::new();
        loop {
            let which = Which::UnknownSince(now - PATIENCE);
            let claimed = self.claim_some(which, BATCH, worker, &names).await?;
            if claimed.is_empty() {
                break;
            }
            for row in claimed {
                failed.push(row.id);
                // It fails at once: there is no handler.
                self.work(row, &CancellationToken::new(), ()).await?;
            }
        }
        let left = self.unknown_types(&mut self.db().acquire().await?).await?;
        Ok(Unknown { failed, left })
    }
}

/// The types that workers knew which were there after a time.
async fn known_since(conn: Conn<'_>, after: DateTime<Utc>) -> Result<HashSet<String>> {
    let workers = operations::store::workers(conn, after, i64::MAX).await?;
    Ok(workers.iter().flat_map(|worker| worker.knows()).map(str::to_owned).collect())
}
