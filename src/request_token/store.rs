//! The SQL of request tokens and of their log.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;

use super::{Changes, NewRequestToken, RequestToken, Use};
use crate::{
    db::{Conn, on},
    error::Result,
    visitor::Visitor,
};

/// Inserts a token. `new.max_uses` must be known.
///
/// # Errors
/// The database's.
pub async fn insert(
    conn: impl Into<Conn<'_>>,
    new: &NewRequestToken,
    max_uses: i32,
    now: DateTime<Utc>,
) -> Result<RequestToken> {
    let sql = "INSERT INTO bgfiles_request_tokens (login_mode, user_id, scope, expiration_time, \
        not_before_time, issued_at, data, max_uses, created_by, issued_scope) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $3) RETURNING *";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(new.login_mode.as_str())
        .bind(&new.user_id)
        .bind(&new.scope)
        .bind(new.expiration_time)
        .bind(new.not_before_time)
        .bind(now)
        .bind(Json(&new.data))
        .bind(max_uses)
        .bind(&new.created_by)
        .fetch_one(c)
        .await?))
}

/// The token with this number.
///
/// # Errors
/// The database's.
pub async fn find(conn: impl Into<Conn<'_>>, id: i64) -> Result<Option<RequestToken>> {
    let sql = "SELECT * FROM bgfiles_request_tokens WHERE id = $1";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(id).fetch_optional(c).await?))
}

/// Which tokens to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this scope.
    pub scope: Option<String>,
    /// For this user.
    pub user_id: Option<String>,
    /// Older than this number.
    pub before: Option<i64>,
}

/// Tokens, newest first.
///
/// # Errors
/// The database's.
pub async fn list(
    conn: impl Into<Conn<'_>>,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<RequestToken>> {
    let sql = "SELECT * FROM bgfiles_request_tokens WHERE ($1 IS NULL OR scope = $1) \
        AND ($2 IS NULL OR user_id = $2) AND ($3 IS NULL OR id < $3) ORDER BY id DESC LIMIT $4";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(&filter.scope)
        .bind(&filter.user_id)
        .bind(filter.before)
        .bind(limit)
        .fetch_all(c)
        .await?))
}

/// Edits a token. `None` when it is gone.
///
/// # Errors
/// The database's.
pub async fn update(
    conn: impl Into<Conn<'_>>,
    id: i64,
    changes: &Changes,
) -> Result<Option<RequestToken>> {
    let sql = "UPDATE bgfiles_request_tokens SET scope = COALESCE($2, scope), \
        max_uses = COALESCE($3, max_uses), data = COALESCE($4, data), \
        expiration_time = CASE WHEN $5 THEN $6 ELSE expiration_time END, \
        not_before_time = CASE WHEN $7 THEN $8 ELSE not_before_time END \
        WHERE id = $1 RETURNING *";
    let data: Option<Json<&Value>> = changes.data.as_ref().map(Json);
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(id)
        .bind(&changes.scope)
        .bind(changes.max_uses)
        .bind(data)
        .bind(changes.expiration_time.is_some())
        .bind(changes.expiration_time.flatten())
        .bind(changes.not_before_time.is_some())
        .bind(changes.not_before_time.flatten())
        .fetch_optional(c)
        .await?))
}

/// Counts one use, if the token still is what it was when it was looked at and admits at `now`.
/// This one statement is what keeps a token to its uses, however many ask at once.
///
/// # Errors
/// The database's.
pub async fn consume(
    conn: impl Into<Conn<'_>>,
    seen: &RequestToken,
    now: DateTime<Utc>,
) -> Result<Option<RequestToken>> {
    let sql = "UPDATE bgfiles_request_tokens SET used_to_date = used_to_date + 1 \
        WHERE id = $1 AND scope = $2 AND COALESCE(user_id, '') = $3 AND login_mode = $4 \
        AND used_to_date < max_uses AND (expiration_time IS NULL OR expiration_time > $5) \
        AND (not_before_time IS NULL OR not_before_time <= $5) RETURNING *";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(seen.id)
        .bind(&seen.scope)
        .bind(seen.user_id.as_deref().unwrap_or_default())
        .bind(seen.login_mode.as_str())
        .bind(now)
        .fetch_optional(c)
        .await?))
}

/// Takes one use back.
///
/// # Errors
/// The database's.
pub async fn give_back(conn: impl Into<Conn<'_>>, id: i64) -> Result<()> {
    let sql = "UPDATE bgfiles_request_tokens SET used_to_date = used_to_date - 1 \
        WHERE id = $1 AND used_to_date > 0";
    on!(conn.into(), c => sqlx::query(sql).bind(id).execute(c).await.map(drop)?);
    Ok(())
}

/// Logs a use or a denial, unless the token is gone. Answers the line's number.
///
/// # Errors
/// The database's.
pub async fn log(
    conn: impl Into<Conn<'_>>,
    token_id: i64,
    outcome: &str,
    user_id: Option<&str>,
    visitor: &Visitor,
    status: Option<i32>,
    now: DateTime<Utc>,
) -> Result<Option<i64>> {
    let sql = "INSERT INTO bgfiles_request_token_uses (token_id, outcome, user_id, user_agent, \
        client_ip, status_code, timestamp) SELECT t.id, $2, $3, $4, $5, $6, $7 \
        FROM bgfiles_request_tokens t WHERE t.id = $1 RETURNING id";
    let agent = match visitor.user_agent.as_str() {
        "" => "unknown",
        agent => agent,
    };
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql)
        .bind(token_id)
        .bind(outcome)
        .bind(user_id)
        .bind(agent)
        .bind(visitor.ip_text())
        .bind(status)
        .bind(now)
        .fetch_optional(c)
        .await?))
}

/// Adds the status of the answer to a line of the log.
///
/// # Errors
/// The database's.
pub async fn set_status(conn: impl Into<Conn<'_>>, id: i64, status: i32) -> Result<()> {
    let sql = "UPDATE bgfiles_request_token_uses SET status_code = $2 WHERE id = $1";
    on!(conn.into(), c => sqlx::query(sql).bind(id).bind(status).execute(c).await.map(drop)?);
    Ok(())
}

/// Says who redeemed the token of a line of the log, so that they can conclude it.
///
/// # Errors
/// The database's.
pub async fn set_redeemer(conn: impl Into<Conn<'_>>, id: i64, redeemed_by: &str) -> Result<()> {
    let sql = "UPDATE bgfiles_request_token_uses SET redeemed_by = $2 WHERE id = $1";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(id)
        .bind(redeemed_by)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// The line of a use that `redeemed_by` redeemed, or anybody when `None`.
///
/// # Errors
/// The database's.
pub async fn find_redeemed(
    conn: impl Into<Conn<'_>>,
    id: i64,
    redeemed_by: Option<&str>,
) -> Result<Option<Use>> {
    let sql = "SELECT * FROM bgfiles_request_token_uses WHERE id = $1 AND redeemed_by IS NOT NULL \
        AND ($2 IS NULL OR redeemed_by = $2)";
    on!(conn.into(), c => {
        Ok(sqlx::query_as(sql).bind(id).bind(redeemed_by).fetch_optional(c).await?)
    })
}

/// Writes how a use was answered, once, if it is not older than `since`; as `outcome`. However many
/// try, this one statement lets one of them. `None` for all others.
///
/// # Errors
/// The database's.
pub async fn conclude(
    conn: impl Into<Conn<'_>>,
    id: i64,
    status: i32,
    outcome: &str,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Option<Use>> {
    let sql = "UPDATE bgfiles_request_token_uses SET status_code = $2, outcome = $3, \
        concluded_at = $5 WHERE id = $1 AND concluded_at IS NULL AND redeemed_by IS NOT NULL \
        AND timestamp >= $4 RETURNING *";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(id)
        .bind(status)
        .bind(outcome)
        .bind(since)
        .bind(now)
        .fetch_optional(c)
        .await?))
}

/// Removes a line of the log.
///
/// # Errors
/// The database's.
pub async fn unlog(conn: impl Into<Conn<'_>>, id: i64) -> Result<()> {
    let sql = "DELETE FROM bgfiles_request_token_uses WHERE id = $1";
    on!(conn.into(), c => sqlx::query(sql).bind(id).execute(c).await.map(drop)?);
    Ok(())
}

/// The log of a token, newest first.
///
/// # Errors
/// The database's.
pub async fn uses(
    conn: impl Into<Conn<'_>>,
    token_id: i64,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<Use>> {
    let sql = "SELECT * FROM bgfiles_request_token_uses WHERE token_id = $1 \
        AND ($2 IS NULL OR id < $2) ORDER BY id DESC LIMIT $3";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(token_id)
        .bind(before)
        .bind(limit)
        .fetch_all(c)
        .await?))
}

/// When the n-th newest line of the log was written. `None` when there are fewer.
///
/// # Errors
/// The database's.
pub async fn timestamp_of_newest(
    conn: impl Into<Conn<'_>>,
    n: i64,
) -> Result<Option<DateTime<Utc>>> {
    let sql = "SELECT timestamp FROM bgfiles_request_token_uses ORDER BY timestamp DESC, id DESC \
        LIMIT 1 OFFSET $1";
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql).bind(n - 1).fetch_optional(c).await?))
}

/// Removes lines of the log from before a time, so many at once. Answers how many it removed.
///
/// # Errors
/// The database's.
pub async fn delete_uses(
    conn: impl Into<Conn<'_>>,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64> {
    let sql = "DELETE FROM bgfiles_request_token_uses WHERE id IN ( \
        SELECT id FROM bgfiles_request_token_uses WHERE timestamp < $1 ORDER BY timestamp LIMIT $2)";
    let removed = on!(conn.into(), c => sqlx::query(sql)
        .bind(before)
        .bind(limit)
        .execute(c)
        .await?
        .rows_affected());
    Ok(removed)
}
