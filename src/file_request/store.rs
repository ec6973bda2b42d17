//! The SQL of file requests. Each race is decided by one conditional statement; a function that
//! may lose a race returns `None` or `false`.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{FileRequest, Status, StoredCriteria};
use crate::{
    db::{Conn, on},
    error::{Error, Result},
    ids::{FileType, RequestId},
};

/// Inserts a row built by [`super::NewFileRequest::into_row`].
///
/// # Errors
/// The database's.
pub async fn insert(conn: impl Into<Conn<'_>>, row: &FileRequest) -> Result<()> {
    let sql = "INSERT INTO bgfiles_file_requests (id, file_type, criteria, format, filename, \
        description, content_type, size, sha256, rows, storage_key, requester, requester_email, \
        requester_language, requester_timezone, requester_only, notify, status, generation, \
        attempts, run_at, requested_at, started_at, finished_at, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
        $19, $20, $21, $22, $23, $24, $25)";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(row.id)
        .bind(row.file_type.as_str())
        .bind(row.criteria.as_str())
        .bind(&row.format)
        .bind(&row.filename)
        .bind(&row.description)
        .bind(&row.content_type)
        .bind(row.size)
        .bind(&row.sha256)
        .bind(row.rows)
        .bind(&row.storage_key)
        .bind(&row.requester)
        .bind(&row.requester_email)
        .bind(&row.requester_language)
        .bind(&row.requester_timezone)
        .bind(row.requester_only)
        .bind(row.notify)
        .bind(row.status.as_str())
        .bind(row.generation)
        .bind(row.attempts)
        .bind(row.run_at)
        .bind(row.requested_at)
        .bind(row.started_at)
        .bind(row.finished_at)
        .bind(row.expires_at)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Inserts requests that nobody has worked on yet: in one statement where the database can, which
/// needs no transaction around it.
///
/// # Errors
/// The database's.
pub async fn insert_all(conn: impl Into<Conn<'_>>, rows: &[FileRequest]) -> Result<()> {
    let c = match conn.into() {
        Conn::Postgres(c) => c,
        mut conn @ Conn::Sqlite(_) => {
            for row in rows {
                insert(conn.reborrow(), row).await?;
            }
            return Ok(());
        }
    };
    fn all<'r, T>(rows: &'r [FileRequest], field: impl Fn(&'r FileRequest) -> T) -> Vec<T> {
        rows.iter().map(field).collect()
    }
    let sql = "INSERT INTO bgfiles_file_requests (id, file_type, criteria, format, filename, \
        description, requester, requester_email, requester_language, requester_timezone, \
        requester_only, notify, run_at, requested_at, expires_at) \
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], \
        $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::boolean[], \
        $12::boolean[], $13::timestamptz[], $14::timestamptz[], $15::timestamptz[])";
    sqlx::query(sql)
        .bind(all(rows, |row| row.id.0))
        .bind(all(rows, |row| row.file_type.as_str()))
        .bind(all(rows, |row| row.criteria.as_str()))
        .bind(all(rows, |row| row.format.as_str()))
        .bind(all(rows, |row| row.filename.as_str()))
        .bind(all(rows, |row| row.description.as_str()))
        .bind(all(rows, |row| row.requester.as_deref()))
        .bind(all(rows, |row| row.requester_email.as_str()))
        .bind(all(rows, |row| row.requester_language.as_str()))
        .bind(all(rows, |row| row.requester_timezone.as_str()))
        .bind(all(rows, |row| row.requester_only))
        .bind(all(rows, |row| row.notify))
        .bind(all(rows, |row| row.run_at))
        .bind(all(rows, |row| row.requested_at))
        .bind(all(rows, |row| row.expires_at))
        .execute(c)
        .await?;
    Ok(())
}

/// Takes back a row that was inserted in the same transaction.
///
/// # Errors
/// The database's.
pub async fn discard(conn: impl Into<Conn<'_>>, id: RequestId) -> Result<()> {
    let sql = "DELETE FROM bgfiles_file_requests WHERE id = $1";
    on!(conn.into(), c => sqlx::query(sql).bind(id).execute(c).await.map(drop)?);
    Ok(())
}

/// The request with this id.
///
/// # Errors
/// The database's.
pub async fn find(conn: impl Into<Conn<'_>>, id: RequestId) -> Result<Option<FileRequest>> {
    let sql = "SELECT * FROM bgfiles_file_requests WHERE id = $1";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(id).fetch_optional(c).await?))
}

/// The requests with these ids, as far as they are there, in no order.
///
/// # Errors
/// The database's.
pub async fn find_all(conn: impl Into<Conn<'_>>, ids: &[RequestId]) -> Result<Vec<FileRequest>> {
    match conn.into() {
        Conn::Postgres(c) => {
            let sql = "SELECT * FROM bgfiles_file_requests WHERE id = ANY($1)";
            Ok(sqlx::query_as(sql).bind(ids).fetch_all(c).await?)
        }
        Conn::Sqlite(c) => {
            // Ids are bytes there, which come in JSON as hexadecimal digits.
            let sql = "SELECT * FROM bgfiles_file_requests WHERE id IN \
                (SELECT unhex(value) FROM json_each($1))";
            let ids: Vec<String> = ids.iter().map(|id| id.0.simple().to_string()).collect();
            let ids = serde_json::to_string(&ids).map_err(|e| Error::Internal(e.to_string()))?;
            Ok(sqlx::query_as(sql).bind(ids).fetch_all(c).await?)
        }
    }
}

/// A search looks at the descriptions of so many requests: as many as cost some milliseconds.
pub const SEARCHED: i64 = 10_000;

/// How many files of a type a guess about the next one looks at: about a millisecond's worth.
pub const LOOKED_BACK: i64 = 1_000;

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only in this state.
    pub status: Option<Status>,
    /// Only of this type.
    pub file_type: Option<String>,
    /// Only of this requester.
    pub requester: Option<String>,
    /// Only of this id, if it is one. Otherwise only with this text in the description, whatever
    /// the case, among the newest [`SEARCHED`] that pass the rest of the filter: no index that both
    /// databases have finds a part of a text.
    pub search: Option<String>,
    /// Only older than this row (time of request and id): the cursor.
    pub before: Option<(DateTime<Utc>, RequestId)>,
}

/// The newest requests that pass the filter, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn list(
    conn: impl Into<Conn<'_>>,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<FileRequest>> {
    const NEWEST_FIRST: &str = " ORDER BY requested_at DESC, id DESC LIMIT ";
    let search = filter.search.as_deref();
    let id: Option<RequestId> = search.and_then(|text| text.parse().ok());
    let text = search.filter(|_| id.is_none());
    let pattern =
        |text: &str| format!("%{}%", text.replace('!', "!!").replace('%', "!%").replace('_', "!_"));
    // SQLite knows the case of ASCII only: what is written the same way is found all the same.
    let patterns = text.map(|text| (pattern(&text.to_lowercase()), pattern(text)));
    // Put together: which index serves depends on what is asked for, and a statement that allows
    // for everything (`$1 IS NULL OR …`) is planned for none of it.
    on!(conn.into(), c => {
        let mut sql = sqlx::QueryBuilder::new("SELECT * FROM ");
        if patterns.is_some() {
            sql.push("(SELECT * FROM ");
        }
        sql.push("bgfiles_file_requests WHERE true");
        if let Some(status) = filter.status {
            // Its name stands in the statement, as it does in the partial indexes.
            sql.push(" AND status = '").push(status.as_str()).push("'");
        }
        if let Some(file_type) = &filter.file_type {
            sql.push(" AND file_type = ").push_bind(file_type);
        }
        if let Some(requester) = &filter.requester {
            sql.push(" AND requester = ").push_bind(requester);
        }
        if let Some(id) = id {
            sql.push(" AND id = ").push_bind(id);
        }
        if let Some((at, id)) = filter.before {
            sql.push(" AND (requested_at, id) < (").push_bind(at);
            sql.push(", ").push_bind(id).push(")");
        }
        if let Some((lower, same)) = patterns {
            sql.push(NEWEST_FIRST).push(SEARCHED).push(") newest WHERE (lower(description) LIKE ");
            sql.push_bind(lower).push(" ESCAPE '!' OR description LIKE ");
            sql.push_bind(same).push(" ESCAPE '!')");
        }
        sql.push(NEWEST_FIRST).push_bind(limit);
        Ok(sql.build_query_as().fetch_all(c).await?)
    })
}

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
    /// Whose type nobody knows since then: see [`note_unknown`].
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

/// A file type that somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct WaitingType {
    /// Its name; by SQL it can be any text.
    pub file_type: String,
    /// When the first of its requests was due, or will be.
    pub since: DateTime<Utc>,
}

/// The types of requests that wait; by an index, from one type to the next.
///
/// # Errors
/// The database's.
pub async fn waiting_types(conn: impl Into<Conn<'_>>) -> Result<Vec<WaitingType>> {
    let sql = "WITH RECURSIVE kinds (file_type) AS ( \
        SELECT min(file_type) FROM bgfiles_file_requests WHERE status = 'pending' UNION ALL \
        SELECT (SELECT min(r.file_type) FROM bgfiles_file_requests r WHERE r.status = 'pending' \
        AND r.file_type > kinds.file_type) FROM kinds WHERE kinds.file_type IS NOT NULL) \
        SELECT * FROM (SELECT file_type, (SELECT min(run_at) FROM bgfiles_file_requests r \
        WHERE r.status = 'pending' AND r.file_type = kinds.file_type) AS since \
        FROM kinds WHERE file_type IS NOT NULL) found WHERE since IS NOT NULL";
    // Planned anew each time, as in `claim_some`.
    on!(conn.into(), c => Ok(sqlx::query_as(sql).persistent(false).fetch_all(c).await?))
}

/// Writes down that nobody knows the type of requests that are due, where that is news. `error`:
/// what their requesters may read meanwhile.
///
/// # Errors
/// The database's.
pub async fn note_unknown(
    conn: impl Into<Conn<'_>>,
    file_type: &str,
    error: (&str, &str),
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "UPDATE bgfiles_file_requests SET unknown_since = $2, error_code = $3, \
        error_message = $4, error_cause = NULL WHERE status = 'pending' AND file_type = $1 AND run_at <= $2 \
        AND unknown_since IS NULL";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(file_type)
        .bind(now)
        .bind(error.0)
        .bind(error.1)
        .persistent(false)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
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

/// Renews the lease, and writes that the handler has begun, and progress. `Some(cancel_requested)`, or `None` when the lease is
/// no longer ours.
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

/// What is known of a file once it is stored.
#[derive(Clone, Debug)]
pub struct Published {
    /// Where it is.
    pub storage_key: String,
    /// As offered for download.
    pub filename: String,
    /// Media type.
    pub content_type: String,
    /// `csv`, `xlsx` …; empty when the handler knows no formats.
    pub format: String,
    /// For people.
    pub description: String,
    /// Bytes.
    pub size: i64,
    /// Lower-case hex.
    pub sha256: String,
    /// Data rows.
    pub rows: Option<i64>,
    /// When it became so.
    pub finished_at: DateTime<Utc>,
    /// Until when it may be served.
    pub expires_at: DateTime<Utc>,
}

/// A claim and what was made of it.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Whose file it is.
    pub id: RequestId,
    /// The claim's.
    pub generation: i64,
    /// What to make visible.
    pub file: Published,
}

/// Makes the file visible, if the lease is still ours and nobody cancelled.
///
/// # Errors
/// The database's.
pub async fn publish(
    conn: impl Into<Conn<'_>>,
    publication: &Publication,
) -> Result<Option<FileRequest>> {
    let sql = "UPDATE bgfiles_file_requests SET status = 'finished', storage_key = $3, \
        filename = $4, content_type = $5, description = $6, size = $7, sha256 = $8, rows = $9, \
        finished_at = $10, expires_at = $11, lease_until = NULL, leased_by = NULL, \
        progress_done = COALESCE($9, progress_done), \
        progress_total = COALESCE($9, progress_total), \
        progress_estimated = progress_estimated AND $9 IS NULL, format = $12, \
        error_code = NULL, error_message = NULL, error_cause = NULL \
        WHERE id = $1 AND generation = $2 AND status = 'running' AND NOT cancel_requested \
        RETURNING *";
    let file = &publication.file;
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(publication.id)
        .bind(publication.generation)
        .bind(&file.storage_key)
        .bind(&file.filename)
        .bind(&file.content_type)
        .bind(&file.description)
        .bind(file.size)
        .bind(&file.sha256)
        .bind(file.rows)
        .bind(file.finished_at)
        .bind(file.expires_at)
        .bind(&file.format)
        .fetch_optional(c)
        .await?))
}

/// As [`publish`] for each of them, in one statement where the database can. Answers those that
/// became visible, in any order.
///
/// # Errors
/// The database's.
pub async fn publish_all(
    conn: impl Into<Conn<'_>>,
    all: &[Arc<Publication>],
) -> Result<Vec<FileRequest>> {
    let c = match (conn.into(), all) {
        (Conn::Postgres(c), [_, _, ..]) => c,
        (mut conn, all) => {
            let mut published = Vec::with_capacity(all.len());
            for one in all {
                published.extend(publish(conn.reborrow(), one).await?);
            }
            return Ok(published);
        }
    };
    fn of<'p, T>(all: &'p [Arc<Publication>], field: impl Fn(&'p Publication) -> T) -> Vec<T> {
        all.iter().map(|one| field(one)).collect()
    }
    let sql = "UPDATE bgfiles_file_requests r SET status = 'finished', \
        storage_key = f.storage_key, filename = f.filename, content_type = f.content_type, \
        description = f.description, size = f.size, sha256 = f.sha256, rows = f.rows, \
        finished_at = f.finished_at, expires_at = f.expires_at, lease_until = NULL, \
        leased_by = NULL, progress_done = COALESCE(f.rows, progress_done), \
        progress_total = COALESCE(f.rows, progress_total), \
        progress_estimated = progress_estimated AND f.rows IS NULL, format = f.format, \
        error_code = NULL, error_message = NULL, error_cause = NULL \
        FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], \
        $7::bigint[], $8::text[], $9::bigint[], $10::timestamptz[], $11::timestamptz[], \
        $12::text[]) AS f (id, generation, storage_key, filename, content_type, description, \
        size, sha256, rows, finished_at, expires_at, format) \
        WHERE r.id = f.id AND r.generation = f.generation AND status = 'running' \
        AND NOT cancel_requested RETURNING r.*";
    Ok(sqlx::query_as(sql)
        .bind(of(all, |one| one.id.0))
        .bind(of(all, |one| one.generation))
        .bind(of(all, |one| one.file.storage_key.as_str()))
        .bind(of(all, |one| one.file.filename.as_str()))
        .bind(of(all, |one| one.file.content_type.as_str()))
        .bind(of(all, |one| one.file.description.as_str()))
        .bind(of(all, |one| one.file.size))
        .bind(of(all, |one| one.file.sha256.as_str()))
        .bind(of(all, |one| one.file.rows))
        .bind(of(all, |one| one.file.finished_at))
        .bind(of(all, |one| one.file.expires_at))
        .bind(of(all, |one| one.file.format.as_str()))
        .fetch_all(c)
        .await?)
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

/// How many leases each worker holds that have not run out.
///
/// # Errors
/// The database's.
pub async fn leases(conn: impl Into<Conn<'_>>, now: DateTime<Utc>) -> Result<Vec<(String, i64)>> {
    let sql = "SELECT leased_by, count(*) FROM bgfiles_file_requests WHERE status = 'running' \
        AND lease_until > $1 AND leased_by IS NOT NULL GROUP BY leased_by";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(now).fetch_all(c).await?))
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

/// What an earlier call with the same idempotency key made.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct KeyedRequest {
    /// Digest of that call's body.
    pub fingerprint: String,
    /// What it made.
    pub request_id: RequestId,
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

/// Claims an idempotency key for a request that is inserted in the same transaction. `false`: the
/// key is taken; see [`keyed`].
///
/// # Errors
/// The database's.
pub async fn insert_key(
    conn: impl Into<Conn<'_>>,
    caller: &str,
    key: &str,
    keyed: &KeyedRequest,
    now: DateTime<Utc>,
) -> Result<bool> {
    let sql = "INSERT INTO bgfiles_idempotency_keys (caller, key, fingerprint, request_id, created_at) \
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(caller)
        .bind(key)
        .bind(&keyed.fingerprint)
        .bind(keyed.request_id)
        .bind(now)
        .execute(c)
        .await?
        .rows_affected());
    Ok(affected == 1)
}

/// What a caller's key stands for.
///
/// # Errors
/// The database's.
pub async fn keyed(
    conn: impl Into<Conn<'_>>,
    caller: &str,
    key: &str,
) -> Result<Option<KeyedRequest>> {
    let sql = "SELECT fingerprint, request_id FROM bgfiles_idempotency_keys \
        WHERE caller = $1 AND key = $2";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(caller).bind(key).fetch_optional(c).await?))
}

/// Forgets idempotency keys made before `before`; at most `limit`. Answers how many.
///
/// # Errors
/// The database's.
pub async fn delete_keys(
    conn: impl Into<Conn<'_>>,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64> {
    let sql = "DELETE FROM bgfiles_idempotency_keys WHERE (caller, key) IN ( \
        SELECT caller, key FROM bgfiles_idempotency_keys WHERE created_at < $1 LIMIT $2)";
    Ok(on!(conn.into(), c => sqlx::query(sql)
        .bind(before)
        .bind(limit)
        .execute(c)
        .await?
        .rows_affected()))
}

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
