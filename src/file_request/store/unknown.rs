//! Requests of types that no worker knows.

use chrono::{DateTime, Utc};

use crate::{
    db::{Conn, on},
    error::Result,
};

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
