//! New requests.

use crate::{
    db::{Conn, on},
    error::Result,
    file_request::FileRequest,
    ids::RequestId,
};

/// A row, whole.
pub(super) const ONE: &str = "\
    INSERT INTO bgfiles_file_requests (id, file_type, criteria, format, filename, \
    description, content_type, size, sha256, rows, storage_key, requester, requester_email, \
    requester_language, requester_timezone, requester_only, notify, status, generation, \
    attempts, run_at, requested_at, started_at, finished_at, expires_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
    $19, $20, $21, $22, $23, $24, $25)";

/// Rows of which nothing was made yet: the columns of [`ONE`] that they fill; the others are at
/// their defaults.
pub(super) const MANY: &str = "\
    INSERT INTO bgfiles_file_requests (id, file_type, criteria, format, filename, \
    description, requester, requester_email, requester_language, requester_timezone, \
    requester_only, notify, run_at, requested_at, expires_at) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], \
    $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::boolean[], \
    $12::boolean[], $13::timestamptz[], $14::timestamptz[], $15::timestamptz[])";

/// Inserts a row built by [`crate::NewFileRequest::into_row`].
///
/// # Errors
/// The database's.
pub async fn insert(conn: impl Into<Conn<'_>>, row: &FileRequest) -> Result<()> {
    on!(conn.into(), c => sqlx::query(ONE)
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
    sqlx::query(MANY)
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
