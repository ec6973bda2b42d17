//! The SQL of throttling and of slowing down guesses. Arithmetic on whole numbers only, which both
//! databases do alike.

use crate::{
    db::{Conn, on},
    error::Result,
};

/// Takes one call out of a bucket of `period / cost` calls: when it will be full again, if there was
/// one.
///
/// # Errors
/// The database's.
pub async fn take(
    conn: impl Into<Conn<'_>>,
    key: &str,
    cost: i64,
    period: i64,
    now: i64,
) -> Result<Option<i64>> {
    let sql = "INSERT INTO bgfiles_throttle AS t (key, tat) VALUES ($1, $2 + $3) \
        ON CONFLICT (key) DO UPDATE \
        SET tat = CASE WHEN t.tat > $2 THEN t.tat ELSE $2 END + $3 \
        WHERE CASE WHEN t.tat > $2 THEN t.tat ELSE $2 END + $3 - $2 <= $4 \
        RETURNING tat";
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql)
        .bind(key)
        .bind(now)
        .bind(cost)
        .bind(period)
        .fetch_optional(c)
        .await?))
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

/// When guessing begins to take longer, and how long at most. In milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    /// Failures without consequence; the wait after that many is a second, then it doubles.
    pub(super) free: i64,
    /// The longest wait.
    pub(super) longest: i64,
    /// How long it takes until one failure is forgotten.
    pub(super) leak: i64,
}

impl Backoff {
    /// Of a network that is so many times as large as one party's usually is.
    pub(super) fn times(self, factor: i64) -> Backoff {
        Backoff { free: self.free * factor, leak: self.leak / factor, ..self }
    }
}

/// Counts a failure: until when the next attempt then waits. `Err` with that time while this one
/// has to.
///
/// # Errors
/// The database's.
pub(super) async fn attempt(
    conn: impl Into<Conn<'_>>,
    key: &str,
    backoff: Backoff,
    now: i64,
) -> Result<Result<i64, i64>> {
    // Each failure takes `leak` to be forgotten, so n of them are gone at n * leak from now. The
    // wait after the n-th is 2^(n - free) seconds.
    let sql = "INSERT INTO bgfiles_login_attempts AS a (key, drained_at, blocked_until) \
        VALUES ($1, $2 + $3, $2) \
        ON CONFLICT (key) DO UPDATE SET \
            drained_at = CASE WHEN a.drained_at > $2 THEN a.drained_at ELSE $2 END + $3, \
            blocked_until = CASE \
                WHEN a.drained_at <= $2 OR (a.drained_at - $2 + 2 * $3 - 1) / $3 < $4 THEN $2 \
                WHEN (a.drained_at - $2 + 2 * $3 - 1) / $3 - $4 > 15 THEN $2 + $5 \
                WHEN (1000 << CAST((a.drained_at - $2 + 2 * $3 - 1) / $3 - $4 AS integer)) > $5 \
                    THEN $2 + $5 \
                ELSE $2 + (1000 << CAST((a.drained_at - $2 + 2 * $3 - 1) / $3 - $4 AS integer)) \
                END \
        WHERE a.blocked_until <= $2 \
        RETURNING blocked_until";
    let mut conn = conn.into();
    let counted: Option<i64> = on!(conn.reborrow(), c => sqlx::query_scalar(sql)
        .bind(key)
        .bind(now)
        .bind(backoff.leak)
        .bind(backoff.free)
        .bind(backoff.longest)
        .fetch_optional(c)
        .await?);
    if let Some(until) = counted {
        return Ok(Ok(until));
    }
    let sql = "SELECT blocked_until FROM bgfiles_login_attempts WHERE key = $1";
    let until: Option<i64> =
        on!(conn, c => sqlx::query_scalar(sql).bind(key).fetch_optional(c).await?);
    Ok(Err(until.unwrap_or(now)))
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

/// Takes one failure back, and the wait that it brought.
///
/// # Errors
/// The database's.
pub(super) async fn forgive(
    conn: impl Into<Conn<'_>>,
    key: &str,
    leak: i64,
    until: i64,
    now: i64,
) -> Result<()> {
    let sql = "UPDATE bgfiles_login_attempts SET drained_at = drained_at - $2, \
        blocked_until = CASE WHEN blocked_until = $3 THEN $4 ELSE blocked_until END \
        WHERE key = $1";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(key)
        .bind(leak)
        .bind(until)
        .bind(now)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Notes until when somebody is known.
///
/// # Errors
/// The database's.
pub(super) async fn know(conn: impl Into<Conn<'_>>, key: &str, until: i64) -> Result<()> {
    let sql = "INSERT INTO bgfiles_login_attempts (key, drained_at, blocked_until) \
        VALUES ($1, $2, 0) ON CONFLICT (key) DO UPDATE SET drained_at = excluded.drained_at";
    on!(conn.into(), c => sqlx::query(sql).bind(key).bind(until).execute(c).await.map(drop)?);
    Ok(())
}

/// Whether somebody is known.
///
/// # Errors
/// The database's.
pub(super) async fn knows(conn: impl Into<Conn<'_>>, key: &str, now: i64) -> Result<bool> {
    let sql = "SELECT count(*) FROM bgfiles_login_attempts WHERE key = $1 AND drained_at > $2";
    let known: i64 =
        on!(conn.into(), c => sqlx::query_scalar(sql).bind(key).bind(now).fetch_one(c).await?);
    Ok(known > 0)
}

/// Accounts at which guesses wait at this moment, from wherever.
///
/// # Errors
/// The database's.
pub async fn targets(conn: impl Into<Conn<'_>>, now: i64) -> Result<i64> {
    // A key ends with the digest of the account's name.
    let sql = "SELECT count(DISTINCT substr(key, length(key) - 63)) FROM bgfiles_login_attempts \
        WHERE key LIKE 'account %' AND blocked_until > $1";
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql).bind(now).fetch_one(c).await?))
}

/// Removes failures that are forgotten. Answers how many.
///
/// # Errors
/// The database's.
pub async fn delete_forgotten(conn: impl Into<Conn<'_>>, now: i64, limit: i64) -> Result<u64> {
    let sql = "DELETE FROM bgfiles_login_attempts WHERE key IN ( \
        SELECT key FROM bgfiles_login_attempts WHERE drained_at < $1 LIMIT $2)";
    let removed = on!(conn.into(), c => sqlx::query(sql)
        .bind(now)
        .bind(limit)
        .execute(c)
        .await?
        .rows_affected());
    Ok(removed)
}
