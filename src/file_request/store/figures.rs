//! Figures about requests: how many there are, how old, how large the last file was.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    db::{Conn, on},
    error::Result,
    file_request::StoredCriteria,
    ids::FileType,
};

/// How many requests are in each state that has any: off the tally that triggers keep
/// ([`crate::operations::store::fold_tally`]).
///
/// # Errors
/// The database's.
pub async fn counts(conn: impl Into<Conn<'_>>) -> Result<Vec<(String, i64)>> {
    let sql = "SELECT status, CAST(sum(n) AS bigint) FROM bgfiles_tally \
        GROUP BY status HAVING sum(n) <> 0";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).fetch_all(c).await?))
}

/// How long ago the oldest due request was due; `None` when nothing is due.
///
/// # Errors
/// The database's.
pub async fn oldest_due(
    conn: impl Into<Conn<'_>>,
    now: DateTime<Utc>,
) -> Result<Option<TimeDelta>> {
    let sql = "SELECT min(run_at) FROM bgfiles_file_requests \
        WHERE status = 'pending' AND run_at <= $1";
    let oldest: Option<DateTime<Utc>> =
        on!(conn.into(), c => sqlx::query_scalar(sql).bind(now).fetch_one(c).await?);
    Ok(oldest.map(|at| now - at))
}

/// How many leases each worker holds that have not run out.
///
/// # Errors
/// The database's.
pub async fn leases(conn: impl Into<Conn<'_>>, now: DateTime<Utc>) -> Result<Vec<(String, i64)>> {
    let sql = "SELECT leased_by, count(*) FROM bgfiles_file_requests WHERE status = 'running' \
        AND lease_until > $1 AND leased_by IS NOT NULL GROUP BY leased_by";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(now).fetch_all(c).await?))
}

/// How many files of a type a guess about the next one looks at: about a millisecond's worth.
pub const LOOKED_BACK: i64 = 1_000;

/// How many rows the last file of a type had.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Earlier {
    /// Data rows.
    pub rows: i64,
    /// What was asked for, as stored.
    #[sqlx(try_from = "String")]
    pub criteria: StoredCriteria,
    /// When it was begun.
    pub started_at: Option<DateTime<Utc>>,
    /// When it was done.
    pub finished_at: Option<DateTime<Utc>>,
}

/// The last file of this type and these criteria that is still known, or else the last of this
/// type. Looked for among the last [`LOOKED_BACK`] of the type.
///
/// # Errors
/// The database's.
pub async fn earlier(
    conn: impl Into<Conn<'_>>,
    file_type: &FileType,
    criteria: &str,
) -> Result<Option<Earlier>> {
    let sql = "SELECT * FROM (SELECT rows, criteria, started_at, finished_at \
        FROM bgfiles_file_requests \
        WHERE file_type = $1 AND status = 'finished' AND rows IS NOT NULL \
        ORDER BY finished_at DESC LIMIT $3) AS recent \
        ORDER BY criteria = $2 DESC, finished_at DESC LIMIT 1";
    // Planned anew each time, as in `claim_some`.
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(file_type.as_str())
        .bind(criteria)
        .bind(LOOKED_BACK)
        .persistent(false)
        .fetch_optional(c)
        .await?))
}
