//! Claims: who works on which request, decided by one conditional statement.

use chrono::{DateTime, Utc};

use crate::{
    db::{Conn, on},
    error::Result,
    file_request::FileRequest,
    ids::RequestId,
};

/// Requests a worker may claim now, oldest first: dj-bgfiles's `to_handle`, and those whose
/// worker has gone silent. Only of the types that are named.
///
/// # Errors
/// The database's.
pub async fn to_handle(
    conn: impl Into<Conn<'_>>,
    file_types: &[String],
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<FileRequest>> {
    if file_types.is_empty() {
        return Ok(Vec::new());
    }
    // Each state by its own index; one condition over both has none.
    on!(conn.into(), c => {
        let mut sql = sqlx::QueryBuilder::new("SELECT * FROM (");
        let states = [
            ("SELECT * FROM (SELECT * FROM bgfiles_file_requests WHERE status = 'pending' \
                AND run_at <= ", " waiting UNION ALL "),
            ("SELECT * FROM (SELECT * FROM bgfiles_file_requests WHERE status = 'running' \
                AND lease_until < ", " silent"),
        ];
        for (condition, name) in states {
            sql.push(condition).push_bind(now).push(" AND file_type || '' IN (");
            let mut list = sql.separated(", ");
            for file_type in file_types {
                list.push_bind(file_type);
            }
            sql.push(") ORDER BY requested_at, id LIMIT ").push_bind(limit).push(")").push(name);
        }
        sql.push(") due ORDER BY requested_at, id LIMIT ").push_bind(limit);
        Ok(sql.build_query_as().persistent(false).fetch_all(c).await?)
    })
}

/// What a claim writes. `$1`: the worker, `$2`: the lease's end, `$3`: the time. A claim before it
/// that ended without a word was an attempt, and a crash, if its handler had begun; otherwise the
/// attempt that it counted is given back.
const CLAIM: &str = "UPDATE bgfiles_file_requests SET status = 'running', \
    generation = generation + 1, \
    attempts = attempts + CASE WHEN status = 'running' AND NOT begun THEN 0 ELSE 1 END, \
    crashes = crashes + CASE WHEN status = 'running' AND begun THEN 1 ELSE 0 END, \
    lost = lost + CASE WHEN status = 'running' AND NOT begun THEN 1 ELSE 0 END, \
    begun = false, unknown_since = NULL, leased_by = $1, \
    lease_until = $2, started_at = COALESCE(started_at, $3), progress_done = 0, \
    progress_total = NULL, progress_estimated = false WHERE ";

/// Takes the lease on a request that is due or whose worker has gone silent. `None`: somebody
/// else has it, or there is nothing to do.
///
/// # Errors
/// The database's.
pub async fn claim(
    conn: impl Into<Conn<'_>>,
    id: RequestId,
    worker: &str,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Option<FileRequest>> {
    // Only text: the same for both.
    let mut sql = sqlx::QueryBuilder::<sqlx::Postgres>::new(CLAIM);
    sql.push(
        "id = $4 AND ((status = 'pending' AND run_at <= $3) \
            OR (status = 'running' AND lease_until < $3)) RETURNING *",
    );
    on!(conn.into(), c => {
        let query = sqlx::query_as(sql.into_sql()).bind(worker).bind(lease_until).bind(now);
        Ok(query.bind(id).fetch_optional(c).await?)
    })
}

/// Which requests [`claim_some`] takes.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// Due since then, those that have waited longest first. What was claimed a moment ago stands
    /// in the index until it is vacuumed, and a long export keeps it from being vacuumed: who
    /// looks often need not pass over all of it each time.
    DueSince(DateTime<Utc>),
    /// Of workers that have gone silent, for the first time with this request, or before its
    /// handler began.
    Silent,
    /// Of workers that have gone silent once more with this request: it may be what ends them, and
    /// whatever is made beside it.
    Suspect,
    /// Whose type nobody knows since then: see [`super::note_unknown`].
    UnknownSince(DateTime<Utc>),
}

impl Which {
    /// What [`claim_some`] looks for; and `$5`, if there is one.
    fn condition(self) -> (&'static str, Option<DateTime<Utc>>) {
        match self {
            Which::DueSince(since) => {
                ("status = 'pending' AND run_at BETWEEN $5 AND $3", Some(since))
            }
            Which::Silent => (
                "status = 'running' AND lease_until < $3 \
                AND NOT (begun AND (crashes > 0 OR lost > 0))",
                None,
            ),
            Which::Suspect => (
                "status = 'running' AND lease_until < $3 AND begun AND (crashes > 0 OR lost > 0)",
                None,
            ),
            Which::UnknownSince(since) => {
                ("status = 'pending' AND unknown_since <= $5", Some(since))
            }
        }
    }

    /// The type as a condition names it: with nothing behind it, the index by type does not serve,
    /// out of which those that wait would have to be sorted.
    fn file_type(self) -> &'static str {
        if matches!(self, Which::UnknownSince(_)) { "file_type" } else { "file_type || ''" }
    }

    fn order(self) -> &'static str {
        match self {
            Which::DueSince(_) | Which::UnknownSince(_) => "run_at",
            Which::Silent | Which::Suspect => "requested_at",
        }
    }
}

/// Who claims, what and until when.
#[derive(Clone, Copy, Debug)]
pub struct Claimant<'a> {
    /// Whose lease it is.
    pub worker: &'a str,
    /// Only of these types.
    pub file_types: &'a [String],
    /// The time.
    pub now: DateTime<Utc>,
    /// When the lease ends.
    pub lease_until: DateTime<Utc>,
}

/// Takes the leases on so many requests at most, without waiting for others who do the same.
///
/// # Errors
/// The database's.
pub async fn claim_some(
    conn: impl Into<Conn<'_>>,
    which: Which,
    most: i64,
    claimant: Claimant<'_>,
) -> Result<Vec<FileRequest>> {
    let conn = conn.into();
    if claimant.file_types.is_empty() {
        return Ok(Vec::new());
    }
    // The rows are locked, so where they are is where they stay, and nothing need be looked up a
    // second time. On SQLite only one writes at a time.
    let (before, after) = match conn {
        Conn::Postgres(_) => {
            ("ctid = ANY (ARRAY (SELECT ctid", " LIMIT $4 FOR UPDATE SKIP LOCKED)) RETURNING *")
        }
        Conn::Sqlite(_) => ("id IN (SELECT id", " LIMIT $4) RETURNING *"),
    };
    let (condition, since) = which.condition();
    let mut sql = sqlx::QueryBuilder::<sqlx::Postgres>::new(CLAIM);
    sql.push(before).push(" FROM bgfiles_file_requests WHERE ").push(condition);
    sql.push(" AND ").push(which.file_type()).push(" IN (");
    let first = if since.is_some() { 6 } else { 5 };
    for number in 0..claimant.file_types.len() {
        sql.push(if number == 0 { "$" } else { ", $" }).push(first + number);
    }
    sql.push(") ORDER BY ").push(which.order()).push(after);
    on!(conn, c => {
        let query = sqlx::query_as(sql.into_sql()).bind(claimant.worker);
        let query = query.bind(claimant.lease_until).bind(claimant.now).bind(most);
        let mut query = match since {
            Some(since) => query.bind(since),
            None => query,
        };
        for file_type in claimant.file_types {
            query = query.bind(file_type);
        }
        // Planned anew each time: a plan made while the table was empty would read all of it for as
        // long as the connection lives.
        Ok(query.persistent(false).fetch_all(c).await?)
    })
}

/// What there is to claim, of whatever type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Claimable {
    /// Something is due.
    pub due: bool,
    /// A worker has gone silent.
    pub silent: bool,
}

/// Looks whether there is anything to claim, without a lock: a claim that finds nothing waits for
/// SQLite's writers all the same.
///
/// # Errors
/// The database's.
pub async fn claimable(
    conn: impl Into<Conn<'_>>,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Claimable> {
    let sql = "SELECT EXISTS (SELECT 1 FROM bgfiles_file_requests \
        WHERE status = 'pending' AND run_at BETWEEN $1 AND $2) AS due, \
        EXISTS (SELECT 1 FROM bgfiles_file_requests \
        WHERE status = 'running' AND lease_until < $2) AS silent";
    // Planned anew each time, as in `claim_some`.
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(since)
        .bind(now)
        .persistent(false)
        .fetch_one(c)
        .await?))
}

/// Takes the next generation for a file that comes from outside a worker: whoever holds a lease
/// loses it, and nobody else writes under that generation. `None`: there is no such request, or it
/// is being removed.
///
/// # Errors
/// The database's.
pub async fn seize(
    conn: impl Into<Conn<'_>>,
    id: RequestId,
    worker: &str,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> Result<Option<FileRequest>> {
    let sql = "UPDATE bgfiles_file_requests SET status = 'running', generation = generation + 1, \
        begun = true, lease_until = $2, leased_by = $3, started_at = COALESCE(started_at, $4), \
        cancel_requested = false WHERE id = $1 AND status <> 'expired' RETURNING *";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(id)
        .bind(lease_until)
        .bind(worker)
        .bind(now)
        .fetch_optional(c)
        .await?))
}
