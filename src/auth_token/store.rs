//! The SQL of users, clients, auth tokens and sessions.

use chrono::{DateTime, Utc};

use super::{Client, Role, Session, User, username_key};
use crate::{
    db::{Conn, on},
    error::{Error, Result},
};

/// Inserts a user, whose name was checked.
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
        created_at, username_key) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(user.id)
        .bind(&user.username)
        .bind(&user.email)
        .bind(user.role.as_str())
        .bind(password_hash)
        .bind(user.is_active)
        .bind(now)
        .bind(username_key(&user.username))
        .execute(c)
        .await?
        .rows_affected());
    one_or_taken(affected, "user_exists", || {
        format!(
            "there is a user {:?} already, or one whose name differs in case or form only",
            user.username
        )
    })
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
    let sql = "INSERT INTO bgfiles_clients (id, name, token_ttl, throttle_rate, tokens, \
        created_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(client.id)
        .bind(&client.name)
        .bind(client.token_ttl)
        .bind(&client.throttle_rate)
        .bind(client.tokens.as_str())
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

/// The client of this name.
///
/// # Errors
/// The database's.
pub async fn find_client(conn: impl Into<Conn<'_>>, name: &str) -> Result<Option<Client>> {
    let sql =
        "SELECT id, name, token_ttl, throttle_rate, tokens FROM bgfiles_clients WHERE name = $1";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(name).fetch_optional(c).await?))
}

/// The user of this very name, to the byte.
///
/// # Errors
/// The database's.
pub async fn find_named(conn: impl Into<Conn<'_>>, username: &str) -> Result<Option<User>> {
    let sql = "SELECT id, username, email, role, is_active FROM bgfiles_users WHERE username = $1";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(username).fetch_optional(c).await?))
}

#[derive(sqlx::FromRow)]
struct Credentials {
    #[sqlx(flatten)]
    user: User,
    password_hash: Option<String>,
}

/// The user whom people mean who type this name, whatever its case and form, and the hash of their
/// password.
///
/// # Errors
/// The database's.
pub async fn find_credentials(
    conn: impl Into<Conn<'_>>,
    username: &str,
) -> Result<Option<(User, Option<String>)>> {
    let Some(key) = username_key(username) else { return Ok(None) };
    let sql = "SELECT id, username, email, role, is_active, password_hash FROM bgfiles_users \
        WHERE username_key = $1";
    let found: Option<Credentials> = on!(conn.into(), c => sqlx::query_as(sql)
        .bind(key)
        .fetch_optional(c)
        .await?);
    Ok(found.map(|found| (found.user, found.password_hash)))
}

/// Gives a user another password. Whether there is such a user.
///
/// # Errors
/// The database's.
pub async fn set_password(conn: impl Into<Conn<'_>>, user: uuid::Uuid, hash: &str) -> Result<bool> {
    let sql = "UPDATE bgfiles_users SET password_hash = $2 WHERE id = $1";
    let affected = on!(conn.into(), c => sqlx::query(sql).bind(user).bind(hash).execute(c).await?.rows_affected());
    Ok(affected == 1)
}

/// Changes what is given of a user.
///
/// # Errors
/// The database's.
pub async fn update_user(
    conn: impl Into<Conn<'_>>,
    user: uuid::Uuid,
    email: Option<&str>,
    role: Option<Role>,
    is_active: Option<bool>,
) -> Result<()> {
    let sql = "UPDATE bgfiles_users SET email = coalesce($2, email), role = coalesce($3, role), \
        is_active = coalesce($4, is_active) WHERE id = $1";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(user)
        .bind(email)
        .bind(role.map(Role::as_str))
        .bind(is_active)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Gives a key to users who have none yet.
///
/// # Errors
/// [`Error::Conflict`] naming two users whose names are the same but for case and form; the
/// database's.
pub async fn fill_username_keys(conn: impl Into<Conn<'_>>) -> Result<()> {
    let mut conn = conn.into();
    let sql = "SELECT username FROM bgfiles_users WHERE username_key IS NULL";
    let names: Vec<String> = on!(conn.reborrow(), c => sqlx::query_scalar(sql).fetch_all(c).await?);
    for name in names {
        // A longer one, written by hand, is nobody whom a login can mean.
        let Some(key) = username_key(&name) else { continue };
        let sql = "SELECT username FROM bgfiles_users WHERE username_key = $1";
        let other: Option<String> = on!(conn.reborrow(), c => sqlx::query_scalar(sql)
            .bind(&key)
            .fetch_optional(c)
            .await?);
        if let Some(other) = other {
            let message = format!(
                "the users {name:?} and {other:?} have the same name but for case or form: rename one of them, then migrate again"
            );
            return Err(Error::Conflict { code: "user_exists", message });
        }
        let sql = "UPDATE bgfiles_users SET username_key = $2 WHERE username = $1";
        on!(conn.reborrow(), c => sqlx::query(sql).bind(&name).bind(&key).execute(c).await.map(drop)?);
    }
    Ok(())
}

/// Inserts a session.
///
/// # Errors
/// The database's.
pub async fn insert_session(conn: impl Into<Conn<'_>>, session: &Session) -> Result<()> {
    let sql = "INSERT INTO bgfiles_sessions (hash, user_id, created_at, expires_at, own_user_id) \
        VALUES ($1, $2, $3, $4, $5)";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(&session.hash)
        .bind(&session.user_id)
        .bind(session.created_at)
        .bind(session.expires_at)
        .bind(session.own_user_id)
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

/// Whether a user was there at this time.
///
/// # Errors
/// The database's.
pub async fn was_there(
    conn: impl Into<Conn<'_>>,
    user: uuid::Uuid,
    at: DateTime<Utc>,
) -> Result<bool> {
    let sql = "SELECT 1 FROM bgfiles_users WHERE id = $1 AND created_at <= $2";
    let found: Option<i32> =
        on!(conn.into(), c => sqlx::query_scalar(sql).bind(user).bind(at).fetch_optional(c).await?);
    Ok(found.is_some())
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

/// Ends all sessions of a user.
///
/// # Errors
/// The database's.
pub async fn delete_sessions_of(conn: impl Into<Conn<'_>>, user_id: &str) -> Result<()> {
    let sql = "DELETE FROM bgfiles_sessions WHERE user_id = $1";
    on!(conn.into(), c => sqlx::query(sql).bind(user_id).execute(c).await.map(drop)?);
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

/// Users by name, those after a name.
///
/// # Errors
/// The database's.
pub async fn list_users(
    conn: impl Into<Conn<'_>>,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<User>> {
    let sql = "SELECT id, username, email, role, is_active FROM bgfiles_users \
        WHERE ($1 IS NULL OR username > $1) ORDER BY username LIMIT $2";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(after).bind(limit).fetch_all(c).await?))
}

/// All clients, by name.
///
/// # Errors
/// The database's.
pub async fn list_clients(conn: impl Into<Conn<'_>>) -> Result<Vec<Client>> {
    let sql =
        "SELECT id, name, token_ttl, throttle_rate, tokens FROM bgfiles_clients ORDER BY name";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).fetch_all(c).await?))
}

/// Changes what a client is like. Whether there is such a client.
///
/// # Errors
/// The database's.
pub async fn update_client(conn: impl Into<Conn<'_>>, client: &Client) -> Result<bool> {
    let sql = "UPDATE bgfiles_clients SET token_ttl = $2, throttle_rate = $3, tokens = $4 \
        WHERE id = $1";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(client.id)
        .bind(client.token_ttl)
        .bind(&client.throttle_rate)
        .bind(client.tokens.as_str())
        .execute(c)
        .await?
        .rows_affected());
    Ok(affected == 1)
}

/// The user with this id.
///
/// # Errors
/// The database's.
pub async fn find_user(conn: impl Into<Conn<'_>>, id: uuid::Uuid) -> Result<Option<User>> {
    let sql = "SELECT id, username, email, role, is_active FROM bgfiles_users WHERE id = $1";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(id).fetch_optional(c).await?))
}
