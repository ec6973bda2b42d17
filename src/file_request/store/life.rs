//! The life of a request between its claim and its end: heartbeats, endings without a file, and
//! what people do to it.

use chrono::{DateTime, Utc};

use crate::{
    db::{Conn, on},
    error::Result,
    file_request::{FileRequest, Status},
    ids::RequestId,
};

/// How far the holder of a lease is.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// Units done.
    pub done: i64,
    /// Units in all, when known.
    pub total: Option<i64>,
    /// Whether the total is an estimate.
    pub estimated: bool,
    /// The lease's new end.
    pub lease_until: DateTime<Utc>,
}

/// Renews the lease, and writes that the handler has begun, and progress. `Some(cancel_requested)`,
/// or `None` when the lease is no longer ours.
///
/// # Errors
/// The database's.
pub async fn heartbeat(
    conn: impl Into<Conn<'_>>,
    id: RequestId,
    generation: i64,
    beat: Beat,
) -> Result<Option<bool>> {
    let sql = "UPDATE bgfiles_file_requests SET lease_until = $3, progress_done = $4, \
        progress_total = $5, progress_estimated = $6, begun = true \
        WHERE id = $1 AND generation = $2 AND status = 'running' \
        RETURNING cancel_requested";
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql)
        .bind(id)
        .bind(generation)
        .bind(beat.lease_until)
        .bind(beat.done)
        .bind(beat.total)
        .bind(beat.estimated)
        .fetch_optional(c)
        .await?))
}

/// Takes back a crash that was none: the worker of this generation was only slow, and says so.
/// `false`: nobody took over, or the request is gone.
///
/// # Errors
/// The database's.
pub async fn forgive_crash(
    conn: impl Into<Conn<'_>>,
    id: RequestId,
    generation: i64,
) -> Result<bool> {
    let sql = "UPDATE bgfiles_file_requests SET crashes = crashes - 1 \
        WHERE id = $1 AND generation > $2 AND crashes > 0";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(id)
        .bind(generation)
        .execute(c)
        .await?
        .rows_affected());
    Ok(affected == 1)
}

/// What is kept of an error.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Its stable name.
    pub code: &'a str,
    /// Words for the requester.
    pub message: &'a str,
    /// What it came of, for operators alone.
    pub cause: Option<&'a str>,
}

/// How a claim ends without a file.
#[derive(Clone, Debug)]
pub struct Ending<'a> {
    /// Pending (again), failed or cancelled.
    pub status: Status,
    /// What went wrong.
    pub error: Option<Told<'a>>,
    /// Next attempt, when pending.
    pub run_at: DateTime<Utc>,
    /// Attempts to take back: 1 when the worker gave up for reasons of its own.
    pub attempts_back: i32,
    /// When it ended, unless pending.
    pub now: DateTime<Utc>,
    /// When the row may go, unless pending.
    pub expires_at: DateTime<Utc>,
}

/// Ends a claim without a file, if the lease is still ours. Whatever the ending, a request that
/// somebody cancelled meanwhile is cancelled.
///
/// # Errors
/// The database's.
pub async fn end(
    conn: impl Into<Conn<'_>>,
    id: RequestId,
    generation: i64,
    ending: &Ending<'_>,
) -> Result<Option<FileRequest>> {
    let sql = "UPDATE bgfiles_file_requests SET \
        status = CASE WHEN cancel_requested THEN 'cancelled' ELSE $3 END, \
        error_code = $4, error_message = $5, error_cause = $10, run_at = $6, \
        attempts = attempts - $7, \
        started_at = CASE WHEN attempts = $7 THEN NULL ELSE started_at END, \
        finished_at = CASE WHEN cancel_requested OR $3 <> 'pending' THEN $8 ELSE NULL END, \
        expires_at = CASE WHEN cancel_requested OR $3 <> 'pending' THEN $9 ELSE NULL END, \
        lease_until = NULL, leased_by = NULL \
        WHERE id = $1 AND generation = $2 AND status = 'running' RETURNING *";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(id)
        .bind(generation)
        .bind(ending.status.as_str())
        .bind(ending.error.map(|e| e.code))
        .bind(ending.error.map(|e| e.message))
        .bind(ending.run_at)
        .bind(ending.attempts_back)
        .bind(ending.now)
        .bind(ending.expires_at)
        .bind(ending.error.and_then(|e| e.cause))
        .fetch_optional(c)
        .await?))
}

/// Cancels: a pending request at once, a running one by asking its worker. `None` when it had
/// already reached an end.
///
/// # Errors
/// The database's.
pub async fn cancel(
    conn: impl Into<Conn<'_>>,
    id: RequestId,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Result<Option<FileRequest>> {
    let sql = "UPDATE bgfiles_file_requests SET cancel_requested = true, \
        finished_at = CASE WHEN status = 'pending' THEN $2 ELSE finished_at END, \
        expires_at = CASE WHEN status = 'pending' THEN $3 ELSE expires_at END, \
        status = CASE WHEN status = 'pending' THEN 'cancelled' ELSE status END \
        WHERE id = $1 AND status IN ('pending', 'running') RETURNING *";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(id)
        .bind(now)
        .bind(expires_at)
        .fetch_optional(c)
        .await?))
}

/// Starts a failed or cancelled request anew, with all its attempts. `None` when it is in another
/// state.
///
/// # Errors
/// The database's.
pub async fn retry(
    conn: impl Into<Conn<'_>>,
    id: RequestId,
    now: DateTime<Utc>,
) -> Result<Option<FileRequest>> {
    let sql = "UPDATE bgfiles_file_requests SET status = 'pending', attempts = 0, crashes = 0, lost = 0, \
        run_at = $2, unknown_since = NULL, \
        cancel_requested = false, error_code = NULL, error_message = NULL, error_cause = NULL, \
        started_at = NULL, finished_at = NULL, expires_at = NULL, progress_done = 0, \
        progress_total = NULL, progress_estimated = false \
        WHERE id = $1 AND status IN ('failed', 'cancelled') RETURNING *";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(id).bind(now).fetch_optional(c).await?))
}

/// Gives a request another description.
///
/// # Errors
/// The database's.
pub async fn describe(conn: impl Into<Conn<'_>>, id: RequestId, description: &str) -> Result<()> {
    let sql = "UPDATE bgfiles_file_requests SET description = $2 WHERE id = $1";
    on!(conn.into(), c => sqlx::query(sql).bind(id).bind(description).execute(c).await.map(drop)?);
    Ok(())
}

/// Ends the time of a file that could still be had.
///
/// # Errors
/// The database's.
pub async fn expire(
    conn: impl Into<Conn<'_>>,
    id: RequestId,
    now: DateTime<Utc>,
) -> Result<Option<FileRequest>> {
    let sql = "UPDATE bgfiles_file_requests SET expires_at = $2 WHERE id = $1 \
        AND status = 'finished' AND (expires_at IS NULL OR expires_at > $2) RETURNING *";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(id).bind(now).fetch_optional(c).await?))
}
