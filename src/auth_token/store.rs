//! The SQL of users, clients, auth tokens and sessions.

use chrono::{DateTime, Utc};

use super::{AuthToken, Caller, Client, Session, User};
use crate::{
    db::{Conn, on},
    error::{Error, Result},
};

/// Inserts a user.
///
/// # Errors
/// [`Error::Conflict`] when the name is taken.
pub async fn insert_user(
    conn: impl Into<Conn<'_>>,
    user: &User,
    password_hash: Option<&str>,
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "INSERT INTO bgfiles_users (id, username, email, role, password_hash, is_active, \
        created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (username) DO NOTHING";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(user.id)
        .bind(&user.username)
        .bind(&user.email)
        .bind(user.role.as_str())
        .bind(password_hash)
        .bind(user.is_active)
        .bind(now)
        .execute(c)
        .await?
        .rows_affected());
    one_or_taken(affected, "user_exists", || format!("there is a user {:?} already", user.username))
}

/// Inserts a client.
///
/// # Errors
/// [`Error::Conflict`] when the name is taken.
pub async fn insert_client(
    conn: impl Into<Conn<'_>>,
    client: &Client,
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "INSERT INTO bgfiles_clients (id, name, token_ttl, throttle_rate, created_at) \
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO NOTHING";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(client.id)
        .bind(&client.name)
        .bind(client.token_ttl)
        .bind(&client.throttle_rate)
        .bind(now)
        .execute(c)
        .await?
        .rows_affected());
    one_or_taken(affected, "client_exists", || {
        format!("there is a client {:?} already", client.name)
    })
}

fn one_or_taken(affected: u64, code: &'static str, message: impl FnOnce() -> String) -> Result<()> {
    if affected == 1 { Ok(()) } else { Err(Error::Conflict { code, message: message() }) }
}

/// The user of this name.
///
/// # Errors
/// The database's.
pub async fn find_user(conn: impl Into<Conn<'_>>, username: &str) -> Result<Option<User>> {
    let sql = "SELECT id, username, email, role, is_active FROM bgfiles_users WHERE username = $1";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(username).fetch_optional(c).await?))
}

/// The client of this name.
///
/// # Errors
/// The database's.
pub async fn find_client(conn: impl Into<Conn<'_>>, name: &str) -> Result<Option<Client>> {
    let sql = "SELECT id, name, token_ttl, throttle_rate FROM bgfiles_clients WHERE name = $1";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(name).fetch_optional(c).await?))
}

/// Inserts a token.
///
/// # Errors
/// The database's.
pub async fn insert_token(conn: impl Into<Conn<'_>>, token: &AuthToken) -> Result<()> {
    let sql = "INSERT INTO bgfiles_auth_tokens (id, hash, prefix, user_id, client_id, created_at, \
        expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(token.id)
        .bind(&token.hash)
        .bind(&token.prefix)
        .bind(token.user_id)
        .bind(token.client_id)
        .bind(token.created_at)
        .bind(token.expires_at)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Whose secret has this hash, if it is good at `now` and its user is active.
///
/// # Errors
/// The database's.
pub async fn authenticate(
    conn: impl Into<Conn<'_>>,
    hash: &str,
    now: DateTime<Utc>,
) -> Result<Option<Caller>> {
    let sql = "SELECT u.username, u.email, u.role, c.name AS client FROM bgfiles_auth_tokens t \
        JOIN bgfiles_users u ON u.id = t.user_id JOIN bgfiles_clients c ON c.id = t.client_id \
        WHERE t.hash = $1 AND (t.expires_at IS NULL OR t.expires_at > $2) AND u.is_active";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(hash).bind(now).fetch_optional(c).await?))
}

/// Inserts a session.
///
/// # Errors
/// The database's.
pub async fn insert_session(conn: impl Into<Conn<'_>>, session: &Session) -> Result<()> {
    let sql = "INSERT INTO bgfiles_sessions (hash, user_id, created_at, expires_at) \
        VALUES ($1, $2, $3, $4)";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(&session.hash)
        .bind(&session.user_id)
        .bind(session.created_at)
        .bind(session.expires_at)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// The session with this hash that lasts beyond `now`.
///
/// # Errors
/// The database's.
pub async fn find_session(
    conn: impl Into<Conn<'_>>,
    hash: &str,
    now: DateTime<Utc>,
) -> Result<Option<Session>> {
    let sql = "SELECT * FROM bgfiles_sessions WHERE hash = $1 AND expires_at > $2";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(hash).bind(now).fetch_optional(c).await?))
}

/// Ends a session.
///
/// # Errors
/// The database's.
pub async fn delete_session(conn: impl Into<Conn<'_>>, hash: &str) -> Result<()> {
    let sql = "DELETE FROM bgfiles_sessions WHERE hash = $1";
    on!(conn.into(), c => sqlx::query(sql).bind(hash).execute(c).await.map(drop)?);
    Ok(())
}

/// Removes sessions that ended before a time, so many at once. Answers how many it removed.
///
/// # Errors
/// The database's.
pub async fn delete_sessions(
    conn: impl Into<Conn<'_>>,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64> {
    let sql = "DELETE FROM bgfiles_sessions WHERE hash IN ( \
        SELECT hash FROM bgfiles_sessions WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)";
    let removed = on!(conn.into(), c => sqlx::query(sql)
        .bind(before)
        .bind(limit)
        .execute(c)
        .await?
        .rows_affected());
    Ok(removed)
}
