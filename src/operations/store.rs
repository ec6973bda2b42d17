//! The SQL of operations.

use chrono::{DateTime, Utc};

use super::{AuditEntry, Ended, Stored, SweepRun, Unsent, WorkerState};
use crate::{
    db::{Conn, on},
    error::Result,
};

/// Says that a worker process lives; `ended_at` that it ended well. As this comes by every few
/// seconds, it also does [`fold_tally`].
///
/// # Errors
/// The database's.
pub async fn beat(conn: impl Into<Conn<'_>>, worker: &WorkerState) -> Result<()> {
    let mut conn = conn.into();
    let sql = "INSERT INTO bgfiles_workers (name, host, slots, started_at, seen_at, ended_at, \
        file_types) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO UPDATE \
        SET seen_at = excluded.seen_at, ended_at = excluded.ended_at, \
        started_at = excluded.started_at";
    on!(conn.reborrow(), c => sqlx::query(sql)
        .bind(&worker.name)
        .bind(&worker.host)
        .bind(worker.slots)
        .bind(worker.started_at)
        .bind(worker.seen_at)
        .bind(worker.ended_at)
        .bind(&worker.file_types)
        .execute(c)
        .await
        .map(drop)?);
    fold_tally(conn).await.map(drop)
}

/// Worker processes that were there after a time, the newest first.
///
/// # Errors
/// The database's.
pub async fn workers(
    conn: impl Into<Conn<'_>>,
    after: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<WorkerState>> {
    let sql = "SELECT * FROM bgfiles_workers WHERE seen_at > $1 \
        ORDER BY started_at DESC, name LIMIT $2";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(after).bind(limit).fetch_all(c).await?))
}

/// Forgets worker processes that were last there before a time. Answers how many.
///
/// # Errors
/// The database's.
pub async fn forget_workers(conn: impl Into<Conn<'_>>, before: DateTime<Utc>) -> Result<u64> {
    let sql = "DELETE FROM bgfiles_workers WHERE seen_at < $1";
    Ok(on!(conn.into(), c => sqlx::query(sql).bind(before).execute(c).await?.rows_affected()))
}

/// Writes down the run of a sweep.
///
/// # Errors
/// The database's.
pub async fn swept(conn: impl Into<Conn<'_>>, run: &SweepRun) -> Result<()> {
    let sql = "INSERT INTO bgfiles_sweeps (name, ran_at, millis, outcome, removed, failed) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO UPDATE SET \
        ran_at = excluded.ran_at, millis = excluded.millis, outcome = excluded.outcome, \
        removed = excluded.removed, failed = excluded.failed";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(&run.name)
        .bind(run.ran_at)
        .bind(run.millis)
        .bind(&run.outcome)
        .bind(run.removed)
        .bind(run.failed)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// The last runs of all sweeps, by name.
///
/// # Errors
/// The database's.
pub async fn sweeps(conn: impl Into<Conn<'_>>) -> Result<Vec<SweepRun>> {
    let sql = "SELECT * FROM bgfiles_sweeps ORDER BY name";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).fetch_all(c).await?))
}

/// Writes down what somebody did.
///
/// # Errors
/// The database's.
pub async fn audit(
    conn: impl Into<Conn<'_>>,
    at: DateTime<Utc>,
    actor: &str,
    action: &str,
    subject: &str,
    detail: &str,
) -> Result<()> {
    let sql = "INSERT INTO bgfiles_audit (at, actor, action, subject, detail) \
        VALUES ($1, $2, $3, $4, $5)";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(at)
        .bind(actor)
        .bind(action)
        .bind(subject)
        .bind(detail)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Which lines of the audit log.
#[derive(Clone, Copy, Debug, Default)]
pub struct AuditFilter<'a> {
    /// Only of this actor.
    pub actor: Option<&'a str>,
    /// Only about this.
    pub subject: Option<&'a str>,
    /// Only older than this line: the cursor.
    pub before: Option<i64>,
}

/// The audit log, the newest line first.
///
/// # Errors
/// The database's.
pub async fn audit_log(
    conn: impl Into<Conn<'_>>,
    filter: &AuditFilter<'_>,
    limit: i64,
) -> Result<Vec<AuditEntry>> {
    let sql = "SELECT * FROM bgfiles_audit WHERE ($1 IS NULL OR actor = $1) \
        AND ($2 IS NULL OR subject = $2) AND ($3 IS NULL OR id < $3) ORDER BY id DESC LIMIT $4";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(filter.actor)
        .bind(filter.subject)
        .bind(filter.before)
        .bind(limit)
        .fetch_all(c)
        .await?))
}

/// Forgets lines of the audit log before a time, so many at once. Answers how many.
///
/// # Errors
/// The database's.
pub async fn forget_audit(
    conn: impl Into<Conn<'_>>,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64> {
    let sql = "DELETE FROM bgfiles_audit WHERE id IN ( \
        SELECT id FROM bgfiles_audit WHERE at < $1 ORDER BY at LIMIT $2)";
    Ok(on!(conn.into(), c => sqlx::query(sql)
        .bind(before)
        .bind(limit)
        .execute(c)
        .await?
        .rows_affected()))
}

/// Attempts that ended since a time, by hour.
///
/// # Errors
/// The database's.
pub async fn ended_by_hour(conn: impl Into<Conn<'_>>, since: DateTime<Utc>) -> Result<Vec<Ended>> {
    // Both databases write times in UTC as ISO 8601, with a space or a T after the day.
    let sql = "SELECT replace(substr(CAST(ended_at AS text), 1, 13), 'T', ' ') AS hour, \
        count(CASE WHEN error IS NULL AND outcome IN ('finished', 'expired') THEN 1 END) \
            AS finished, \
        count(CASE WHEN error IS NOT NULL OR outcome = 'failed' THEN 1 END) AS failed \
        FROM bgfiles_attempts WHERE ended_at >= $1 GROUP BY 1";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(since).fetch_all(c).await?))
}

/// The files that there are, off the tally.
///
/// # Errors
/// The database's.
pub async fn stored(conn: impl Into<Conn<'_>>) -> Result<Stored> {
    let sql = "SELECT CAST(coalesce(sum(files), 0) AS bigint) AS files, \
        CAST(coalesce(sum(bytes), 0) AS bigint) AS bytes FROM bgfiles_tally";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).fetch_one(c).await?))
}

/// Mails that were not sent.
///
/// # Errors
/// The database's.
pub async fn unsent(conn: impl Into<Conn<'_>>) -> Result<Unsent> {
    let sql = "SELECT \
        (SELECT count(*) FROM bgfiles_notices WHERE status = 'pending') AS waiting, \
        (SELECT count(*) FROM bgfiles_notices WHERE status = 'failed') AS failed";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).fetch_one(c).await?))
}

/// Only one process at a time adds up or counts anew.
const TALLY_LOCK: i64 = 0x6267_7461_6c6c_7901;
/// Fewer lines are read as quickly as one.
const LINES: i64 = 1000;

/// Adds up the lines that triggers append to the tally of requests (see the migration), so that
/// those who read it find few. On SQLite it has one line a state anyway. In a transaction, which
/// holds a lock to its end. Answers whether there was something to do.
///
/// # Errors
/// The database's.
pub async fn fold_tally(conn: impl Into<Conn<'_>>) -> Result<bool> {
    let Conn::Postgres(c) = conn.into() else { return Ok(false) };
    // A statement of its own: the one that adds up must begin to see when the lock is held.
    let sql = "SELECT CASE WHEN (SELECT count(*) FROM (SELECT 1 FROM bgfiles_tally LIMIT $1) l) \
        = $1 THEN pg_try_advisory_xact_lock($2) ELSE false END";
    let ours: bool =
        sqlx::query_scalar(sql).bind(LINES).bind(TALLY_LOCK).fetch_one(&mut *c).await?;
    if ours {
        let sql = "WITH line AS (DELETE FROM bgfiles_tally RETURNING status, n, files, bytes) \
            INSERT INTO bgfiles_tally (status, n, files, bytes) \
            SELECT status, sum(n), sum(files), sum(bytes) FROM line GROUP BY status";
        sqlx::query(sql).execute(c).await?;
    }
    Ok(ours)
}

/// Counts all requests anew, if nobody did since `before`: restoring a table without its triggers,
/// for one, leaves a wrong tally. In a transaction, which holds a lock to its end. Answers whether
/// it did.
///
/// # Errors
/// The database's.
pub async fn recount_tally(
    conn: impl Into<Conn<'_>>,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
) -> Result<bool> {
    let mut conn = conn.into();
    let sql = "UPDATE bgfiles_tally_counted SET at = $1 WHERE at <= $2";
    let due = on!(conn.reborrow(), c => sqlx::query(sql)
        .bind(now)
        .bind(before)
        .execute(c)
        .await?
        .rows_affected());
    if due == 0 {
        return Ok(false);
    }
    match conn {
        Conn::Postgres(c) => {
            let sql = "SELECT pg_advisory_xact_lock($1)";
            sqlx::query(sql).bind(TALLY_LOCK).execute(&mut *c).await?;
            // One statement: it removes the lines of just those changes that it counts.
            let sql = "WITH line AS (DELETE FROM bgfiles_tally) \
                INSERT INTO bgfiles_tally (status, n, files, bytes) SELECT status, count(*), \
                count(*) FILTER (WHERE storage_key IS NOT NULL AND status <> 'expired'), \
                coalesce(sum(size) FILTER (WHERE storage_key IS NOT NULL AND status <> 'expired'), 0) \
                FROM bgfiles_file_requests GROUP BY status";
            sqlx::query(sql).execute(c).await?;
        }
        Conn::Sqlite(c) => {
            sqlx::query("UPDATE bgfiles_tally SET n = 0, files = 0, bytes = 0")
                .execute(&mut *c)
                .await?;
            let sql = "UPDATE bgfiles_tally SET n = c.n, files = c.files, bytes = c.bytes FROM ( \
                SELECT status, count(*) AS n, \
                count(*) FILTER (WHERE storage_key IS NOT NULL AND status <> 'expired') AS files, \
                coalesce(sum(size) FILTER (WHERE storage_key IS NOT NULL AND status <> 'expired'), 0) \
                AS bytes FROM bgfiles_file_requests GROUP BY status) c \
                WHERE c.status = bgfiles_tally.status";
            sqlx::query(sql).execute(c).await?;
        }
    }
    Ok(true)
}
