//! The SQL of links.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use super::Link;
use crate::{
    db::{Conn, on},
    error::Result,
    ids::RequestId,
};

/// Inserts a link.
///
/// # Errors
/// The database's.
pub async fn insert(conn: impl Into<Conn<'_>>, link: &Link) -> Result<()> {
    let sql = "INSERT INTO bgfiles_links (jti, request_id, requester_only, data, created_by, \
        created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(link.jti)
        .bind(link.request_id)
        .bind(link.requester_only)
        .bind(Json(&link.data))
        .bind(&link.created_by)
        .bind(link.created_at)
        .bind(link.expires_at)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// The link with this `jti`.
///
/// # Errors
/// The database's.
pub async fn find(conn: impl Into<Conn<'_>>, jti: Uuid) -> Result<Option<Link>> {
    let sql = "SELECT * FROM bgfiles_links WHERE jti = $1";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(jti).fetch_optional(c).await?))
}

/// The links of a request, newest first.
///
/// # Errors
/// The database's.
pub async fn list(conn: impl Into<Conn<'_>>, request_id: RequestId) -> Result<Vec<Link>> {
    let sql = "SELECT * FROM bgfiles_links WHERE request_id = $1 ORDER BY created_at DESC, jti";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(request_id).fetch_all(c).await?))
}

/// Revokes a link from now on; revoking again changes nothing. `false` when there is none.
///
/// # Errors
/// The database's.
pub async fn revoke(
    conn: impl Into<Conn<'_>>,
    request_id: RequestId,
    jti: Uuid,
    now: DateTime<Utc>,
) -> Result<bool> {
    let sql = "UPDATE bgfiles_links SET revoked_at = COALESCE(revoked_at, $3) \
        WHERE request_id = $1 AND jti = $2";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(request_id)
        .bind(jti)
        .bind(now)
        .execute(c)
        .await?
        .rows_affected());
    Ok(affected == 1)
}
