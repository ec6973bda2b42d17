//! The SQL of attempts.

use chrono::{DateTime, Utc};

use super::Attempt;
use crate::{
    db::{Conn, on},
    error::Result,
    ids::RequestId,
};

/// Writes down how an attempt ended.
///
/// # Errors
/// The database's.
pub async fn insert(conn: impl Into<Conn<'_>>, attempt: &Attempt) -> Result<()> {
    let sql = "INSERT INTO bgfiles_attempts (request_id, generation, worker, started_at, ended_at, \
        outcome, error, cause) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(attempt.request_id)
        .bind(attempt.generation)
        .bind(&attempt.worker)
        .bind(attempt.started_at)
        .bind(attempt.ended_at)
        .bind(attempt.outcome.as_str())
        .bind(&attempt.error)
        .bind(&attempt.cause)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// As [`insert`] for each of them, in one statement where the database can.
///
/// # Errors
/// The database's.
pub async fn insert_all(conn: impl Into<Conn<'_>>, attempts: &[Attempt]) -> Result<()> {
    let c = match (conn.into(), attempts) {
        (Conn::Postgres(c), [_, _, ..]) => c,
        (mut conn, attempts) => {
            for attempt in attempts {
                insert(conn.reborrow(), attempt).await?;
            }
            return Ok(());
        }
    };
    fn all<'a, T>(attempts: &'a [Attempt], field: impl Fn(&'a Attempt) -> T) -> Vec<T> {
        attempts.iter().map(field).collect()
    }
    let sql = "INSERT INTO bgfiles_attempts (request_id, generation, worker, started_at, ended_at, \
        outcome, error, cause) SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], \
        $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[], $8::text[]) ON CONFLICT DO NOTHING";
    sqlx::query(sql)
        .bind(all(attempts, |one| one.request_id.0))
        .bind(all(attempts, |one| one.generation))
        .bind(all(attempts, |one| one.worker.as_str()))
        .bind(all(attempts, |one| one.started_at))
        .bind(all(attempts, |one| one.ended_at))
        .bind(all(attempts, |one| one.outcome.as_str()))
        .bind(all(attempts, |one| one.error.as_deref()))
        .bind(all(attempts, |one| one.cause.as_deref()))
        .execute(c)
        .await?;
    Ok(())
}

/// The attempts at a request, the first one first.
///
/// # Errors
/// The database's.
pub async fn of_request(conn: impl Into<Conn<'_>>, id: RequestId) -> Result<Vec<Attempt>> {
    let sql = "SELECT * FROM bgfiles_attempts WHERE request_id = $1 ORDER BY generation";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(id).fetch_all(c).await?))
}

/// Forgets attempts that ended before a time and whose request is gone (a trigger marks them), so
/// many at once. Answers how many.
///
/// # Errors
/// The database's.
pub async fn forget(conn: impl Into<Conn<'_>>, before: DateTime<Utc>, limit: i64) -> Result<u64> {
    let sql = "DELETE FROM bgfiles_attempts WHERE (request_id, generation) IN ( \
        SELECT request_id, generation FROM bgfiles_attempts WHERE gone AND ended_at < $1 \
        ORDER BY ended_at LIMIT $2)";
    Ok(on!(conn.into(), c => sqlx::query(sql)
        .bind(before)
        .bind(limit)
        .execute(c)
        .await?
        .rows_affected()))
}
