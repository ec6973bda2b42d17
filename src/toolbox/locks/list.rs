//! Locks that hold, and those that nobody holds any more.

use chrono::{DateTime, Utc};

use crate::{
    error::{Error, Result},
    file_request::{Status, store as requests},
    lock_token::{Lock, Resource, store},
    toolbox::Toolbox,
};

impl Toolbox {
    /// Locks that hold now, the newest first; and the leases of workers on requests.
    ///
    /// # Errors
    /// [`Error::Invalid`] on a filter that is no name; the database's.
    pub async fn list_locks(&self, filter: &store::Filter<'_>, limit: i64) -> Result<Vec<Lock>> {
        for (field, text) in [("resource", filter.resource), ("owner", filter.owner)] {
            if text.is_some_and(|text| text.chars().any(char::is_control)) {
                return Err(Error::invalid(field, "must be a name"));
            }
        }
        let mut conn = self.db().acquire().await?;
        let mut locks = store::list(&mut conn, filter, self.clock().now(), limit).await?;
        if filter.owner.is_none() && filter.resource.is_none_or(|kind| kind == Resource::REQUESTS) {
            let running = requests::Filter { status: Some(Status::Running), ..Default::default() };
            for row in requests::list(&mut conn, &running, limit).await? {
                locks.extend(self.worker_lock(row));
            }
            locks.sort_by_key(|lock| std::cmp::Reverse(lock.locked_at));
            locks.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        Ok(locks)
    }

    /// Removes locks whose time is over, and what is left of released ones. Answers how many
    /// locks, and how many rows in all.
    ///
    /// # Errors
    /// The database's.
    pub async fn remove_stale_locks(
        &self,
        before: DateTime<Utc>,
        limit: i64,
    ) -> Result<(u64, u64)> {
        let mut tx = self.db().begin().await?;
        let removed = store::delete_stale(&mut tx, before, limit).await?;
        tx.commit().await?;
        Ok(removed)
    }
}
