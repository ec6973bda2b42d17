//! The removal of requests in two halves, and what the sweep of orphan objects must know.

use chrono::{DateTime, Utc};

use crate::{
    db::{Conn, on},
    error::Result,
    file_request::{FileRequest, Status},
    ids::RequestId,
};

/// Removable requests: `expires_at` not after `threshold`, soonest first, whatever their end.
///
/// # Errors
/// The database's.
pub async fn expired(
    conn: impl Into<Conn<'_>>,
    threshold: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<RequestId>> {
    let sql = "SELECT id FROM bgfiles_file_requests \
        WHERE expires_at <= $1 AND status <> 'running' ORDER BY expires_at, id LIMIT $2";
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql)
        .bind(threshold)
        .bind(limit)
        .fetch_all(c)
        .await?))
}

/// How many requests [`expired`] would name without a limit.
///
/// # Errors
/// The database's.
pub async fn count_expired(conn: impl Into<Conn<'_>>, threshold: DateTime<Utc>) -> Result<i64> {
    let sql = "SELECT count(*) FROM bgfiles_file_requests \
        WHERE expires_at <= $1 AND status <> 'running'";
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql).bind(threshold).fetch_one(c).await?))
}

/// First half of a removal: nobody may use the row from here on. Holds only while the row is
/// still removable, so that an extension that came in between wins.
///
/// # Errors
/// The database's.
pub async fn begin_removal(
    conn: impl Into<Conn<'_>>,
    id: RequestId,
    threshold: DateTime<Utc>,
) -> Result<Option<FileRequest>> {
    let sql = "UPDATE bgfiles_file_requests SET status = 'expired' \
        WHERE id = $1 AND expires_at <= $2 AND status <> 'running' RETURNING *";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(id)
        .bind(threshold)
        .fetch_optional(c)
        .await?))
}

/// As [`begin_removal`], for a request that somebody deletes; running ones must be cancelled
/// first.
///
/// # Errors
/// The database's.
pub async fn begin_deletion(
    conn: impl Into<Conn<'_>>,
    id: RequestId,
    now: DateTime<Utc>,
) -> Result<Option<FileRequest>> {
    let sql = "UPDATE bgfiles_file_requests SET status = 'expired', expires_at = $2 \
        WHERE id = $1 AND status <> 'running' RETURNING *";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(id).bind(now).fetch_optional(c).await?))
}

/// Second half of a removal, once the object is gone.
///
/// # Errors
/// The database's.
pub async fn finish_removal(conn: impl Into<Conn<'_>>, id: RequestId) -> Result<bool> {
    let sql = "DELETE FROM bgfiles_file_requests WHERE id = $1 AND status = 'expired'";
    let affected =
        on!(conn.into(), c => sqlx::query(sql).bind(id).execute(c).await?.rows_affected());
    Ok(affected == 1)
}

/// Which object a request refers to, and which generation is being made.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ObjectState {
    /// Which request.
    pub id: RequestId,
    /// Where it stands.
    #[sqlx(try_from = "String")]
    pub status: Status,
    /// Its generation.
    pub generation: i64,
    /// The object that counts.
    pub storage_key: Option<String>,
}

/// What the sweep of orphan objects must know of requests; those that are gone have no state. For
/// some hundred ids at once.
///
/// # Errors
/// The database's.
pub async fn object_states(
    conn: impl Into<Conn<'_>>,
    ids: &[RequestId],
) -> Result<Vec<ObjectState>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    on!(conn.into(), c => {
        let mut sql = sqlx::QueryBuilder::new(
            "SELECT id, status, generation, storage_key FROM bgfiles_file_requests WHERE id IN (",
        );
        let mut list = sql.separated(", ");
        for id in ids {
            list.push_bind(*id);
        }
        sql.push(")");
        Ok(sql.build_query_as().fetch_all(c).await?)
    })
}
