//! The SQL of tokens and their secrets.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{AuthSecret, Client, ClientRate, Person, Role, Token, TokenUse};
use crate::{
    db::{Conn, on},
    error::Result,
    visitor::Visitor,
};

/// What a lookup by hash answers; the user's columns are null when they live elsewhere.
#[derive(sqlx::FromRow)]
struct Found {
    id: Uuid,
    user_id: String,
    expires_at: Option<DateTime<Utc>>,
    client: String,
    throttle_rate: String,
    username: Option<String>,
    email: Option<String>,
    role: Option<String>,
    is_active: Option<bool>,
}

impl Found {
    fn rate(&self) -> ClientRate {
        let rate = ClientRate::from(self.throttle_rate.as_str());
        if rate == ClientRate::Unreadable {
            let (client, rate) = (&self.client, &self.throttle_rate);
            tracing::warn!(
                client,
                rate,
                "this client's rate cannot be read, and all its calls are refused; set one like 100/m"
            );
        }
        rate
    }

    fn user(&self) -> Option<Person> {
        let role: Role = self.role.as_deref()?.parse().ok()?;
        Some(Person {
            id: self.username.clone()?,
            email: self.email.clone()?,
            role,
            is_active: self.is_active?,
        })
    }
}

/// The token of a secret with its client and its user, in one statement. Expired ones are found,
/// too.
///
/// # Errors
/// The database's.
pub async fn look_up(conn: impl Into<Conn<'_>>, hash: &str) -> Result<Option<TokenUse>> {
    let sql = "SELECT t.id, t.user_id, CASE WHEN s.expires_at IS NULL OR t.expires_at < s.expires_at \
                THEN t.expires_at ELSE s.expires_at END AS expires_at, \
            c.name AS client, c.throttle_rate, \
            u.username, u.email, u.role, u.is_active \
        FROM bgfiles_auth_secrets s \
        JOIN bgfiles_auth_tokens t ON t.id = s.token_id \
        JOIN bgfiles_clients c ON c.id = t.client_id \
        LEFT JOIN bgfiles_users u ON u.id = t.own_user_id \
        WHERE s.hash = $1";
    let found: Option<Found> =
        on!(conn.into(), c => sqlx::query_as(sql).bind(hash).fetch_optional(c).await?);
    Ok(found.map(|found| TokenUse {
        rate: found.rate(),
        id: found.id,
        hash: hash.to_owned(),
        user: found.user(),
        user_id: found.user_id,
        client: found.client,
        expires_at: found.expires_at,
    }))
}

/// The token of a user with a client, made when there is none; and how it stands. Its row is locked
/// until the transaction ends. Everybody locks a token before its secrets.
///
/// # Errors
/// The database's.
pub async fn hold(
    conn: impl Into<Conn<'_>>,
    user_id: &str,
    own_user: Option<Uuid>,
    client: &Client,
    slot: &str,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(Uuid, Standing)> {
    let sql = "INSERT INTO bgfiles_auth_tokens (id, user_id, own_user_id, client_id, slot, \
            created_at, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7) \
        ON CONFLICT (user_id, client_id, slot) DO UPDATE SET client_id = excluded.client_id \
        RETURNING id, expires_at, own_user_id";
    let id = Uuid::new_v4();
    let (held, end, owner): (Uuid, Option<DateTime<Utc>>, Option<Uuid>) = on!(conn.into(), c => sqlx::query_as(sql)
        .bind(id)
        .bind(user_id)
        .bind(own_user)
        .bind(client.id)
        .bind(slot)
        .bind(now)
        .bind(expires_at)
        .fetch_one(c)
        .await?);
    let standing = match held == id {
        true => Standing::Made,
        // Of somebody who had this name before.
        false if owner != own_user => Standing::Over,
        false if end.is_some_and(|end| end <= now) => Standing::Over,
        false => Standing::Good(end),
    };
    Ok((held, standing))
}

/// How a token stands that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There was none, and it was made.
    Made,
    /// It was there, good until then; for ever when `None`.
    Good(Option<DateTime<Utc>>),
    /// It was there, and its time is over, or it was somebody else's: begin it anew.
    Over,
}

/// Begins a token anew: without secrets, from now.
///
/// # Errors
/// The database's.
pub async fn restart(
    conn: impl Into<Conn<'_>>,
    token: Uuid,
    own_user: Option<Uuid>,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut conn = conn.into();
    let sql = "DELETE FROM bgfiles_auth_secrets WHERE token_id = $1";
    on!(conn.reborrow(), c => sqlx::query(sql).bind(token).execute(c).await.map(drop)?);
    let sql = "UPDATE bgfiles_auth_tokens SET created_at = $2, expires_at = $3, own_user_id = $4, \
        last_used_at = NULL, last_ip = NULL, last_user_agent = '', made_by = '', \
        not_after = NULL WHERE id = $1";
    on!(conn, c => sqlx::query(sql)
        .bind(token)
        .bind(now)
        .bind(expires_at)
        .bind(own_user)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Writes down with what a token was made: in words, its end (nothing extends the token beyond), and
/// the token, if it was one, with which it ends.
///
/// # Errors
/// The database's.
pub async fn made_by(
    conn: impl Into<Conn<'_>>,
    token: Uuid,
    with: &str,
    not_after: Option<DateTime<Utc>>,
    by: Option<Uuid>,
) -> Result<()> {
    let sql = "UPDATE bgfiles_auth_tokens SET made_by = $2, not_after = $3, made_by_token = $4 \
        WHERE id = $1";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(token)
        .bind(with)
        .bind(not_after)
        .bind(by)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Ends a token, and all its secrets, at that time.
///
/// # Errors
/// The database's.
pub async fn shorten(
    conn: impl Into<Conn<'_>>,
    token: Uuid,
    expires_at: Option<DateTime<Utc>>,
) -> Result<()> {
    let mut conn = conn.into();
    let sql = "UPDATE bgfiles_auth_tokens SET expires_at = $2 WHERE id = $1";
    on!(conn.reborrow(), c => sqlx::query(sql)
        .bind(token)
        .bind(expires_at)
        .execute(c)
        .await
        .map(drop)?);
    let sql = "UPDATE bgfiles_auth_secrets SET expires_at = $2 WHERE token_id = $1";
    on!(conn, c => sqlx::query(sql).bind(token).bind(expires_at).execute(c).await.map(drop)?);
    Ok(())
}

/// Adds a secret to a token. Of those there are, the newest `keep` stay.
///
/// # Errors
/// The database's.
pub async fn add_secret(
    conn: impl Into<Conn<'_>>,
    token: Uuid,
    secret: &AuthSecret,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    keep: i64,
) -> Result<()> {
    let mut conn = conn.into();
    let sql = "SELECT hash FROM bgfiles_auth_secrets WHERE token_id = $1 \
        ORDER BY created_at DESC, hash LIMIT 1000 OFFSET $2";
    let old: Vec<String> = on!(conn.reborrow(), c => sqlx::query_scalar(sql)
        .bind(token)
        .bind(keep)
        .fetch_all(c)
        .await?);
    for hash in old {
        let sql = "DELETE FROM bgfiles_auth_secrets WHERE hash = $1";
        on!(conn.reborrow(), c => sqlx::query(sql).bind(hash).execute(c).await.map(drop)?);
    }
    let sql = "INSERT INTO bgfiles_auth_secrets (hash, prefix, token_id, created_at, expires_at) \
        VALUES ($1, $2, $3, $4, $5)";
    on!(conn, c => sqlx::query(sql)
        .bind(secret.hash())
        .bind(secret.prefix())
        .bind(token)
        .bind(now)
        .bind(expires_at)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Sets when a secret ends, and its token with it if that is later.
///
/// # Errors
/// The database's.
pub async fn renew(
    conn: impl Into<Conn<'_>>,
    token: Uuid,
    hash: Option<&str>,
    expires_at: Option<DateTime<Utc>>,
) -> Result<bool> {
    let mut conn = conn.into();
    let sql = match expires_at {
        Some(_) => {
            "UPDATE bgfiles_auth_tokens SET expires_at = CASE \
                WHEN expires_at IS NULL OR expires_at > $2 THEN expires_at ELSE $2 END \
                WHERE id = $1"
        }
        None => "UPDATE bgfiles_auth_tokens SET expires_at = $2 WHERE id = $1",
    };
    on!(conn.reborrow(), c => sqlx::query(sql)
        .bind(token)
        .bind(expires_at)
        .execute(c)
        .await
        .map(drop)?);
    let Some(hash) = hash else { return Ok(true) };
    let sql = "UPDATE bgfiles_auth_secrets SET expires_at = $2 WHERE hash = $1";
    let renewed = on!(conn, c => sqlx::query(sql)
        .bind(hash)
        .bind(expires_at)
        .execute(c)
        .await?
        .rows_affected());
    Ok(renewed == 1)
}

/// How long a token may be extended for: its client's seconds, and the moment that nothing extends it
/// beyond. `None` when it is gone.
///
/// # Errors
/// The database's.
pub async fn extent(conn: impl Into<Conn<'_>>, token: Uuid) -> Result<Option<Extent>> {
    let sql = "SELECT c.token_ttl, t.not_after FROM bgfiles_clients c \
        JOIN bgfiles_auth_tokens t ON t.client_id = c.id WHERE t.id = $1";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(token).fetch_optional(c).await?))
}

/// Of a token: the seconds of its client (for ever when `None`), and its last moment, if it has one.
pub type Extent = (Option<i64>, Option<DateTime<Utc>>);

/// Which tokens to list.
#[derive(Clone, Debug, Default)]
pub struct Filter<'a> {
    /// Of this user.
    pub user_id: Option<&'a str>,
    /// With this client.
    pub client: Option<&'a str>,
    /// Not expired at this time.
    pub good_at: Option<DateTime<Utc>>,
}

/// Tokens, oldest first.
///
/// # Errors
/// The database's.
pub async fn list(conn: impl Into<Conn<'_>>, filter: &Filter<'_>) -> Result<Vec<Token>> {
    let sql = "SELECT t.id, t.user_id, c.name AS client, t.created_at, t.expires_at, \
            t.last_used_at, t.last_ip, t.last_user_agent, t.made_by, \
            (SELECT s.prefix FROM bgfiles_auth_secrets s WHERE s.token_id = t.id \
                ORDER BY s.created_at DESC LIMIT 1) AS prefix \
        FROM bgfiles_auth_tokens t JOIN bgfiles_clients c ON c.id = t.client_id \
        WHERE ($1 IS NULL OR t.user_id = $1) AND ($2 IS NULL OR c.name = $2) \
            AND ($3 IS NULL OR t.expires_at IS NULL OR t.expires_at > $3) \
        ORDER BY t.created_at, c.name, t.id";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(filter.user_id)
        .bind(filter.client)
        .bind(filter.good_at)
        .fetch_all(c)
        .await?))
}

/// Removes a secret whose time is over, and its token when no other is left. Whether it was there.
///
/// # Errors
/// The database's.
pub async fn delete_expired_secret(
    conn: impl Into<Conn<'_>>,
    token: &TokenUse,
    now: DateTime<Utc>,
) -> Result<bool> {
    let mut conn = conn.into();
    let sql = "UPDATE bgfiles_auth_tokens SET slot = slot WHERE id = $1";
    on!(conn.reborrow(), c => sqlx::query(sql).bind(token.id).execute(c).await.map(drop)?);
    let sql = "DELETE FROM bgfiles_auth_secrets WHERE hash = $1 AND expires_at <= $2";
    let removed = on!(conn.reborrow(), c => sqlx::query(sql)
        .bind(&token.hash)
        .bind(now)
        .execute(c)
        .await?
        .rows_affected());
    let sql = "DELETE FROM bgfiles_auth_tokens WHERE id = $1 AND expires_at <= $2 AND NOT EXISTS \
        (SELECT 1 FROM bgfiles_auth_secrets s WHERE s.token_id = bgfiles_auth_tokens.id)";
    on!(conn, c => sqlx::query(sql).bind(token.id).bind(now).execute(c).await.map(drop)?);
    Ok(removed == 1)
}

/// Removes expired tokens, so many at once, and expired secrets of others. Answers whose tokens,
/// and how many secrets besides. What was renewed since it was seen is left alone.
///
/// # Errors
/// The database's.
pub async fn delete_expired(
    conn: impl Into<Conn<'_>>,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<(Vec<String>, u64)> {
    let mut conn = conn.into();
    let sql = "SELECT id FROM bgfiles_auth_tokens WHERE expires_at <= $1 \
        ORDER BY expires_at LIMIT $2";
    let tokens: Vec<Uuid> = on!(conn.reborrow(), c => sqlx::query_scalar(sql)
        .bind(before)
        .bind(limit)
        .fetch_all(c)
        .await?);
    let mut users = Vec::new();
    for token in in_order(tokens) {
        let sql = "DELETE FROM bgfiles_auth_tokens WHERE id = $1 AND expires_at <= $2 \
            RETURNING user_id";
        let user: Option<String> = on!(conn.reborrow(), c => sqlx::query_scalar(sql)
            .bind(token)
            .bind(before)
            .fetch_optional(c)
            .await?);
        users.extend(user);
    }
    let sql = "DELETE FROM bgfiles_auth_secrets WHERE expires_at <= $1 AND hash IN ( \
        SELECT hash FROM bgfiles_auth_secrets WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)";
    let secrets = on!(conn, c => sqlx::query(sql)
        .bind(before)
        .bind(limit)
        .execute(c)
        .await?
        .rows_affected());
    Ok((users, secrets))
}

/// Who changes several tokens does so in this order, so that two do not wait for each other.
fn in_order(mut tokens: Vec<Uuid>) -> Vec<Uuid> {
    tokens.sort();
    tokens
}

/// Removes a token with its secrets. Whether it was there.
///
/// # Errors
/// The database's.
pub async fn delete(conn: impl Into<Conn<'_>>, token: Uuid) -> Result<bool> {
    let sql = "DELETE FROM bgfiles_auth_tokens WHERE id = $1";
    let affected =
        on!(conn.into(), c => sqlx::query(sql).bind(token).execute(c).await?.rows_affected());
    Ok(affected == 1)
}

/// Removes all tokens of a user. Answers how many.
///
/// # Errors
/// The database's.
pub async fn delete_of(conn: impl Into<Conn<'_>>, user_id: &str) -> Result<u64> {
    let mut conn = conn.into();
    let sql = "SELECT id FROM bgfiles_auth_tokens WHERE user_id = $1";
    let tokens: Vec<Uuid> = on!(conn.reborrow(), c => sqlx::query_scalar(sql)
        .bind(user_id)
        .fetch_all(c)
        .await?);
    let mut removed = 0;
    for token in in_order(tokens) {
        removed += u64::from(delete(conn.reborrow(), token).await?);
    }
    Ok(removed)
}

/// The tokens that a text names: by id, or by the beginning of a secret.
///
/// # Errors
/// The database's.
pub async fn named(conn: impl Into<Conn<'_>>, text: &str) -> Result<Vec<Uuid>> {
    if let Ok(id) = text.parse::<Uuid>() {
        let sql = "SELECT id FROM bgfiles_auth_tokens WHERE id = $1";
        return on!(conn.into(), c => Ok(sqlx::query_scalar(sql).bind(id).fetch_all(c).await?));
    }
    let sql = "SELECT DISTINCT token_id FROM bgfiles_auth_secrets WHERE prefix = $1";
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql).bind(text).fetch_all(c).await?))
}

/// Writes down who used a token last.
///
/// # Errors
/// The database's.
pub async fn used(
    conn: impl Into<Conn<'_>>,
    token: Uuid,
    at: DateTime<Utc>,
    visitor: &Visitor,
) -> Result<()> {
    let sql = "UPDATE bgfiles_auth_tokens SET last_used_at = $2, last_ip = $3, \
        last_user_agent = $4 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $2)";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(token)
        .bind(at)
        .bind(visitor.ip_text())
        .bind(&visitor.user_agent)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}
