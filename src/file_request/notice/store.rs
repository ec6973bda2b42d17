//! The SQL of notices.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Notice;
use crate::{
    db::{Conn, on},
    error::Result,
    ids::RequestId,
};

/// Inserts a notice, due at once. `is_woken` says whether the queue is told, too; if not, the next
/// sweep does it.
///
/// # Errors
/// The database's.
pub async fn insert(conn: impl Into<Conn<'_>>, notice: &Notice, is_woken: bool) -> Result<()> {
    let sql = "INSERT INTO bgfiles_notices (id, request_id, kind, message_id, status, run_at, \
        woken_at, created_at, jti) VALUES ($1, $2, $3, $4, $5, $6, $8, $6, $7)";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(notice.id)
        .bind(notice.request_id)
        .bind(&notice.kind)
        .bind(&notice.message_id)
        .bind(&notice.status)
        .bind(notice.created_at)
        .bind(notice.jti)
        .bind(is_woken.then_some(notice.created_at))
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Takes the lease on a notice that is due. `None`: somebody else has it, or it is done.
///
/// # Errors
/// The database's.
pub async fn claim(
    conn: impl Into<Conn<'_>>,
    id: Uuid,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Option<Notice>> {
    let sql = "UPDATE bgfiles_notices SET generation = generation + 1, attempts = attempts + 1, \
        lease_until = $2 WHERE id = $1 AND status = 'pending' AND run_at <= $3 \
        AND (lease_until IS NULL OR lease_until < $3) RETURNING *";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(id)
        .bind(lease_until)
        .bind(now)
        .fetch_optional(c)
        .await?))
}

/// Ends a claim: `sent`, `failed`, or `pending` until `run_at`.
///
/// # Errors
/// The database's.
pub async fn end(
    conn: impl Into<Conn<'_>>,
    notice: &Notice,
    status: &str,
    error: Option<&str>,
    run_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let sql = "UPDATE bgfiles_notices SET status = $3, error = $4, lease_until = NULL, \
        run_at = COALESCE($5, run_at), woken_at = NULL, \
        done_at = CASE WHEN $3 = 'pending' THEN NULL ELSE $6 END \
        WHERE id = $1 AND generation = $2 AND status = 'pending'";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(notice.id)
        .bind(notice.generation)
        .bind(status)
        .bind(error)
        .bind(run_at)
        .bind(now)
        .execute(c)
        .await?
        .rows_affected());
    Ok(affected == 1)
}

/// Notices a worker may claim now, oldest first.
///
/// # Errors
/// The database's.
pub async fn due(conn: impl Into<Conn<'_>>, now: DateTime<Utc>, limit: i64) -> Result<Vec<Uuid>> {
    let sql = "SELECT id FROM bgfiles_notices WHERE status = 'pending' AND run_at <= $1 \
        AND (lease_until IS NULL OR lease_until < $1) ORDER BY run_at LIMIT $2";
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql).bind(now).bind(limit).fetch_all(c).await?))
}

/// Due notices whose wake-up seems lost, marked as woken now.
///
/// # Errors
/// The database's.
pub async fn take_unwoken(
    conn: impl Into<Conn<'_>>,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Uuid>> {
    // As for requests: by an index, and no more than can be taken.
    let sql = "UPDATE bgfiles_notices SET woken_at = $1 WHERE id IN (SELECT id FROM ( \
        SELECT * FROM (SELECT id, run_at FROM bgfiles_notices WHERE status = 'pending' \
        AND woken_at IS NULL AND run_at <= $1 AND (lease_until IS NULL OR lease_until < $1) \
        ORDER BY woken_at, run_at LIMIT $3) never UNION ALL \
        SELECT * FROM (SELECT id, run_at FROM bgfiles_notices WHERE status = 'pending' \
        AND woken_at < $2 AND run_at <= $1 AND (lease_until IS NULL OR lease_until < $1) \
        ORDER BY woken_at LIMIT $3) long_ago \
        ) forgotten ORDER BY run_at LIMIT $3) \
        AND (woken_at IS NULL OR woken_at < $2) RETURNING id";
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql)
        .bind(now)
        .bind(before)
        .bind(limit)
        .fetch_all(c)
        .await?))
}

/// Lets the next sweep wake a waiting notice anew.
///
/// # Errors
/// The database's.
pub async fn forget_wake(conn: impl Into<Conn<'_>>, id: Uuid) -> Result<()> {
    let sql = "UPDATE bgfiles_notices SET woken_at = NULL WHERE id = $1 AND status = 'pending'";
    on!(conn.into(), c => sqlx::query(sql).bind(id).execute(c).await.map(drop)?);
    Ok(())
}

/// The notices about a request, the first one first.
///
/// # Errors
/// The database's.
pub async fn of_request(conn: impl Into<Conn<'_>>, id: RequestId) -> Result<Vec<Notice>> {
    let sql = "SELECT * FROM bgfiles_notices WHERE request_id = $1 ORDER BY created_at";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(id).fetch_all(c).await?))
}
