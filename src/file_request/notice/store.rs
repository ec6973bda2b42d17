//! The SQL of notices.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Notice, NoticeStatus};
use crate::{
    db::{Conn, Db, on},
    error::Result,
    ids::RequestId,
};

/// Who is to mail a notice that is inserted.
#[derive(Clone, Copy, Debug)]
pub enum Carrier {
    /// Whoever claims it: the queue is told.
    Anybody,
    /// The process that inserts it, which has claimed it until then.
    Us(DateTime<Utc>),
}

impl Carrier {
    fn lease_until(self) -> Option<DateTime<Utc>> {
        if let Carrier::Us(until) = self { Some(until) } else { None }
    }
}

/// Inserts a notice, due at once.
///
/// # Errors
/// The database's.
pub async fn insert(conn: impl Into<Conn<'_>>, notice: &Notice, carrier: Carrier) -> Result<()> {
    let sql = "INSERT INTO bgfiles_notices (id, request_id, kind, message_id, status, run_at, \
        created_at, jti, lease_until, attempts, generation) \
        VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8, $9, $10)";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(notice.id)
        .bind(notice.request_id)
        .bind(notice.kind.as_str())
        .bind(&notice.message_id)
        .bind(notice.status.as_str())
        .bind(notice.created_at)
        .bind(notice.jti)
        .bind(carrier.lease_until())
        .bind(notice.attempts)
        .bind(notice.generation)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// As [`insert`] for each of them, in one statement where the database can.
///
/// # Errors
/// The database's.
pub async fn insert_all(
    conn: impl Into<Conn<'_>>,
    notices: &[Notice],
    carrier: Carrier,
) -> Result<()> {
    let c = match (conn.into(), notices) {
        (Conn::Postgres(c), [_, _, ..]) => c,
        (mut conn, notices) => {
            for notice in notices {
                insert(conn.reborrow(), notice, carrier).await?;
            }
            return Ok(());
        }
    };
    fn all<'n, T>(notices: &'n [Notice], field: impl Fn(&'n Notice) -> T) -> Vec<T> {
        notices.iter().map(field).collect()
    }
    let sql = "INSERT INTO bgfiles_notices (id, request_id, kind, message_id, status, run_at, \
        created_at, jti, lease_until, attempts, generation) \
        SELECT id, request_id, kind, message_id, status, at, at, jti, lease_until, \
        attempts, generation FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], \
        $6::timestamptz[], $7::uuid[], $8::timestamptz[], $9::integer[], \
        $10::bigint[]) AS n (id, request_id, kind, message_id, status, at, jti, \
        lease_until, attempts, generation)";
    sqlx::query(sql)
        .bind(all(notices, |one| one.id))
        .bind(all(notices, |one| one.request_id.0))
        .bind(all(notices, |one| one.kind.as_str()))
        .bind(all(notices, |one| one.message_id.as_str()))
        .bind(all(notices, |one| one.status.as_str()))
        .bind(all(notices, |one| one.created_at))
        .bind(all(notices, |one| one.jti))
        .bind(all(notices, |_| carrier.lease_until()))
        .bind(all(notices, |one| one.attempts))
        .bind(all(notices, |one| one.generation))
        .execute(c)
        .await?;
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

/// Whether any notice is due, looked at without a lock.
///
/// # Errors
/// The database's.
pub async fn is_any_due(conn: impl Into<Conn<'_>>, now: DateTime<Utc>) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM bgfiles_notices WHERE status = 'pending' \
        AND run_at <= $1 AND (lease_until IS NULL OR lease_until < $1))";
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql)
        .bind(now)
        .persistent(false)
        .fetch_one(c)
        .await?))
}

/// As [`claim`] for so many at most, those that have been due longest, without waiting for others
/// who do the same.
///
/// # Errors
/// The database's.
pub async fn claim_some(
    conn: impl Into<Conn<'_>>,
    most: i64,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Vec<Notice>> {
    let conn = conn.into();
    let sql = match conn {
        // As for requests: they are locked, and stay where they are.
        Conn::Postgres(_) => {
            "UPDATE bgfiles_notices SET generation = generation + 1, attempts = attempts + 1, \
            lease_until = $2 WHERE ctid = ANY (ARRAY (SELECT ctid FROM bgfiles_notices \
            WHERE status = 'pending' AND run_at <= $1 \
            AND (lease_until IS NULL OR lease_until < $1) ORDER BY run_at LIMIT $3 \
            FOR UPDATE SKIP LOCKED)) RETURNING *"
        }
        Conn::Sqlite(_) => {
            "UPDATE bgfiles_notices SET generation = generation + 1, attempts = attempts + 1, \
            lease_until = $2 WHERE id IN (SELECT id FROM bgfiles_notices \
            WHERE status = 'pending' AND run_at <= $1 \
            AND (lease_until IS NULL OR lease_until < $1) ORDER BY run_at LIMIT $3) RETURNING *"
        }
    };
    // Planned anew each time, as for requests.
    on!(conn, c => Ok(sqlx::query_as(sql)
        .bind(now)
        .bind(lease_until)
        .bind(most)
        .persistent(false)
        .fetch_all(c)
        .await?))
}

/// Makes a claim hold until then. `false`: it is over, or somebody else's.
///
/// # Errors
/// The database's.
pub async fn renew(
    conn: impl Into<Conn<'_>>,
    id: Uuid,
    generation: i64,
    until: DateTime<Utc>,
) -> Result<bool> {
    let sql = "UPDATE bgfiles_notices SET lease_until = $3 \
        WHERE id = $1 AND generation = $2 AND status = 'pending'";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(id)
        .bind(generation)
        .bind(until)
        .execute(c)
        .await?
        .rows_affected());
    Ok(affected == 1)
}

/// Ends a claim, well or not; or lets it wait until `run_at`.
///
/// # Errors
/// The database's.
pub async fn end(
    conn: impl Into<Conn<'_>>,
    notice: &Notice,
    status: NoticeStatus,
    error: Option<&str>,
    run_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let sql = "UPDATE bgfiles_notices SET status = $3, error = $4, lease_until = NULL, \
        run_at = COALESCE($5, run_at), \
        done_at = CASE WHEN $3 = 'pending' THEN NULL ELSE $6 END \
        WHERE id = $1 AND generation = $2 AND status = 'pending'";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(notice.id)
        .bind(notice.generation)
        .bind(status.as_str())
        .bind(error)
        .bind(run_at)
        .bind(now)
        .execute(c)
        .await?
        .rows_affected());
    Ok(affected == 1)
}

/// Ends the claims on notices that were sent (id and generation of each), in a transaction of its
/// own.
///
/// # Errors
/// The database's.
pub async fn sent(db: &Db, claims: &[(Uuid, i64)], now: DateTime<Utc>) -> Result<()> {
    match db {
        Db::Postgres(_) => {
            let sql = "UPDATE bgfiles_notices n SET status = 'sent', error = NULL, \
                lease_until = NULL, done_at = $3 \
                FROM unnest($1::uuid[], $2::bigint[]) AS s (id, generation) \
                WHERE n.id = s.id AND n.generation = s.generation AND status = 'pending'";
            let (ids, generations): (Vec<Uuid>, Vec<i64>) = claims.iter().copied().unzip();
            let mut conn = db.acquire().await?;
            if let Conn::Postgres(c) = Conn::from(&mut conn) {
                sqlx::query(sql).bind(ids).bind(generations).bind(now).execute(c).await?;
            }
        }
        Db::Sqlite(_) => {
            let sql = "UPDATE bgfiles_notices SET status = 'sent', error = NULL, \
                lease_until = NULL, done_at = $3 \
                WHERE id = $1 AND generation = $2 AND status = 'pending'";
            let mut tx = db.begin().await?;
            if let Conn::Sqlite(c) = tx.conn() {
                for (id, generation) in claims {
                    sqlx::query(sql).bind(id).bind(generation).bind(now).execute(&mut *c).await?;
                }
            }
            tx.commit().await?;
        }
    }
    Ok(())
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

/// The notices about a request, the first one first.
///
/// # Errors
/// The database's.
pub async fn of_request(conn: impl Into<Conn<'_>>, id: RequestId) -> Result<Vec<Notice>> {
    let sql = "SELECT * FROM bgfiles_notices WHERE request_id = $1 ORDER BY created_at";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(id).fetch_all(c).await?))
}
