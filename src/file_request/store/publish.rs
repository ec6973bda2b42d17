//! The end of a claim with a file.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    db::{Conn, on},
    error::Result,
    file_request::FileRequest,
    ids::RequestId,
};

/// One file.
pub(super) const ONE: &str = "\
    UPDATE bgfiles_file_requests SET status = 'finished', storage_key = $3, \
    filename = $4, content_type = $5, description = $6, size = $7, sha256 = $8, rows = $9, \
    finished_at = $10, expires_at = $11, lease_until = NULL, leased_by = NULL, \
    progress_done = COALESCE($9, progress_done), \
    progress_total = COALESCE($9, progress_total), \
    progress_estimated = progress_estimated AND $9 IS NULL, format = $12, \
    error_code = NULL, error_message = NULL, error_cause = NULL \
    WHERE id = $1 AND generation = $2 AND status = 'running' AND NOT cancel_requested \
    RETURNING *";

/// As [`ONE`], for many files at once.
pub(super) const MANY: &str = "\
    UPDATE bgfiles_file_requests r SET status = 'finished', \
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
    let file = &publication.file;
    on!(conn.into(), c => Ok(sqlx::query_as(ONE)
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
    Ok(sqlx::query_as(MANY)
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
