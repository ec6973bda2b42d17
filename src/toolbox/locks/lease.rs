//! A worker's lease on a request, seen as a lock: whoever edits the request meets it.

use crate::{
    db::Conn,
    error::Result,
    file_request::{FileRequest, Status, store as requests},
    lock_token::{Holder, Lock, Resource},
    toolbox::Toolbox,
};

impl Toolbox {
    /// A worker's lease on a request, as a lock.
    pub(in crate::toolbox) async fn lease_of(
        &self,
        conn: Conn<'_>,
        resource: &Resource,
    ) -> Result<Option<Lock>> {
        let id = (resource.kind() == Resource::REQUESTS).then(|| resource.id().parse());
        let Some(Ok(id)) = id else { return Ok(None) };
        Ok(requests::find(conn, id).await?.and_then(|row| self.worker_lock(row)))
    }

    pub(super) fn worker_lock(&self, row: FileRequest) -> Option<Lock> {
        let now = self.clock().now();
        let expires_at = row.lease_until.filter(|end| *end > now)?;
        (row.status == Status::Running).then(|| Lock {
            resource: Resource::REQUESTS.into(),
            object_id: row.id.to_string(),
            fence: row.generation,
            owner: row.leased_by,
            reason: "a worker makes the file".into(),
            locked_at: row.started_at.unwrap_or(now),
            expires_at,
            session: None,
            holder: Holder::Worker,
        })
    }
}
