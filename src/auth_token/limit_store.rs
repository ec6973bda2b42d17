//! The SQL of throttling and of slowing down guesses. Arithmetic on whole numbers only, which both
//! databases do alike.

use super::attempts::{Backoff, FORGET};
use crate::{
    db::{Conn, on},
    error::Result,
};

/// Takes one call out of a bucket of `period / cost` calls. Whether there was one.
///
/// # Errors
/// The database's.
pub async fn take(
    conn: impl Into<Conn<'_>>,
    key: &str,
    cost: i64,
    period: i64,
    now: i64,
) -> Result<bool> {
    let sql = "INSERT INTO bgfiles_throttle AS t (key, tat) VALUES ($1, $2 + $3) \
        ON CONFLICT (key) DO UPDATE \
        SET tat = CASE WHEN t.tat > $2 THEN t.tat ELSE $2 END + $3 \
        WHERE CASE WHEN t.tat > $2 THEN t.tat ELSE $2 END + $3 - $2 <= $4";
    let taken = on!(conn.into(), c => sqlx::query(sql)
        .bind(key)
        .bind(now)
        .bind(cost)
        .bind(period)
        .execute(c)
        .await?
        .rows_affected());
    Ok(taken == 1)
}

/// When a bucket will be full.
///
/// # Errors
/// The database's.
pub async fn full_at(conn: impl Into<Conn<'_>>, key: &str) -> Result<Option<i64>> {
    let sql = "SELECT tat FROM bgfiles_throttle WHERE key = $1";
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql).bind(key).fetch_optional(c).await?))
}

/// Removes buckets that are full. Answers how many.
///
/// # Errors
/// The database's.
pub async fn delete_full(conn: impl Into<Conn<'_>>, now: i64, limit: i64) -> Result<u64> {
    let Conn::Postgres(c) = conn.into() else { return Ok(0) };
    let sql = "DELETE FROM bgfiles_throttle WHERE key IN ( \
        SELECT key FROM bgfiles_throttle WHERE tat < $1 LIMIT $2)";
    Ok(sqlx::query(sql).bind(now).bind(limit).execute(c).await?.rows_affected())
}

/// Counts a failure, unless the key has to wait: then until when.
///
/// # Errors
/// The database's.
pub(super) async fn attempt(
    conn: impl Into<Conn<'_>>,
    key: &str,
    backoff: Backoff,
    now: i64,
) -> Result<Option<i64>> {
    // The wait after failure number n is 2^(n - free) seconds.
    let sql = "INSERT INTO bgfiles_login_attempts AS a (key, failures, blocked_until, updated_at) \
        VALUES ($1, 1, $2, $2) \
        ON CONFLICT (key) DO UPDATE SET \
            failures = CASE WHEN a.updated_at < $3 THEN 1 ELSE a.failures + 1 END, \
            blocked_until = CASE \
                WHEN a.updated_at < $3 OR a.failures + 1 < $4 THEN $2 \
                WHEN a.failures + 1 - $4 > 15 THEN $2 + $5 \
                WHEN (1000 << CAST(a.failures + 1 - $4 AS integer)) > $5 THEN $2 + $5 \
                ELSE $2 + (1000 << CAST(a.failures + 1 - $4 AS integer)) END, \
            updated_at = $2 \
        WHERE a.blocked_until <= $2";
    let mut conn = conn.into();
    let counted = on!(conn.reborrow(), c => sqlx::query(sql)
        .bind(key)
        .bind(now)
        .bind(now - FORGET)
        .bind(backoff.free)
        .bind(backoff.longest)
        .execute(c)
        .await?
        .rows_affected());
    if counted == 1 {
        return Ok(None);
    }
    let sql = "SELECT blocked_until FROM bgfiles_login_attempts WHERE key = $1";
    let until: Option<i64> =
        on!(conn, c => sqlx::query_scalar(sql).bind(key).fetch_optional(c).await?);
    Ok(Some(until.unwrap_or(now)))
}

/// Forgets a key's failures.
///
/// # Errors
/// The database's.
pub(super) async fn forget(conn: impl Into<Conn<'_>>, key: &str) -> Result<()> {
    let sql = "DELETE FROM bgfiles_login_attempts WHERE key = $1";
    on!(conn.into(), c => sqlx::query(sql).bind(key).execute(c).await.map(drop)?);
    Ok(())
}

/// Takes one failure back.
///
/// # Errors
/// The database's.
pub(super) async fn forgive(conn: impl Into<Conn<'_>>, key: &str) -> Result<()> {
    let sql = "UPDATE bgfiles_login_attempts SET failures = failures - 1 \
        WHERE key = $1 AND failures > 0";
    on!(conn.into(), c => sqlx::query(sql).bind(key).execute(c).await.map(drop)?);
    Ok(())
}

/// Removes failures that are forgotten. Answers how many.
///
/// # Errors
/// The database's.
pub async fn delete_forgotten(conn: impl Into<Conn<'_>>, now: i64, limit: i64) -> Result<u64> {
    let sql = "DELETE FROM bgfiles_login_attempts WHERE key IN ( \
        SELECT key FROM bgfiles_login_attempts WHERE updated_at < $1 LIMIT $2)";
    let removed = on!(conn.into(), c => sqlx::query(sql)
        .bind(now - FORGET)
        .bind(limit)
        .execute(c)
        .await?
        .rows_affected());
    Ok(removed)
}
