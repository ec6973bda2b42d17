//! The SQL of locks. Every change of a lock first changes its row, so that what comes after in the
//! same transaction is alone with it.

use chrono::{DateTime, TimeDelta, Utc};

use sha2::{Digest, Sha256};

use super::{Acquired, Ask, Check, Held, Holder, Lock, Resource};
use crate::{
    db::{Conn, on},
    error::Result,
    ids::hex,
};

/// What the database keeps of a token.
fn hashed(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

/// Takes the lock if it is free, expired, the session's own, or the one that is to be taken.
///
/// # Errors
/// The database's.
pub async fn acquire(
    conn: impl Into<Conn<'_>>,
    resource: &Resource,
    ask: &Ask,
    ttl: i32,
    token: &str,
    now: DateTime<Utc>,
) -> Result<Acquired> {
    let mut conn = conn.into();
    let hash = hashed(token);
    let expires_at = now + TimeDelta::seconds(ttl.into());
    // Whoever joins the lock of their own session leaves it as it is, but for its end.
    let sql = "INSERT INTO bgfiles_locks AS l (resource, object_id, fence, held, session, owner, \
            reason, first_token, locked_at, expires_at) \
        VALUES ($1, $2, (SELECT fence FROM bgfiles_lock_floor) + 1, true, $3, $4, $5, $6, $7, $8) \
        ON CONFLICT (resource, object_id) DO UPDATE SET \
            fence = CASE WHEN l.held AND l.session = $3 AND NOT coalesce(l.fence = $9, false) \
                THEN l.fence ELSE l.fence + 1 END, \
            first_token = CASE WHEN l.held AND l.session = $3 AND NOT coalesce(l.fence = $9, false) \
                THEN l.first_token ELSE excluded.first_token END, \
            owner = CASE WHEN l.held AND l.session = $3 AND NOT coalesce(l.fence = $9, false) THEN l.owner ELSE $4 END, \
            reason = CASE WHEN l.held AND l.session = $3 AND NOT coalesce(l.fence = $9, false) THEN l.reason ELSE $5 END, \
            locked_at = CASE WHEN l.held AND l.session = $3 AND NOT coalesce(l.fence = $9, false) \
                THEN l.locked_at ELSE $7 END, \
            expires_at = CASE WHEN l.held AND l.session = $3 AND NOT coalesce(l.fence = $9, false) AND l.expires_at > $8 \
                THEN l.expires_at ELSE $8 END, \
            session = $3, held = true \
        WHERE NOT l.held OR l.expires_at <= $7 OR l.session = $3 OR l.fence = $9 \
        RETURNING first_token";
    let mut tries = 0;
    let first = loop {
        let first: Option<String> = on!(conn.reborrow(), c => sqlx::query_scalar(sql)
            .bind(resource.kind())
            .bind(resource.id())
            .bind(&ask.session)
            .bind(&ask.owner)
            .bind(&ask.reason)
            .bind(&hash)
            .bind(now)
            .bind(expires_at)
            .bind(ask.instead_of)
            .fetch_optional(c)
            .await?);
        if first.is_some() {
            break first;
        }
        tries += 1;
        match find(conn.reborrow(), resource).await? {
            Some(lock) => return Ok(Acquired::Taken(Box::new(lock))),
            // Released between the two statements: once more.
            None if tries < 10 => {}
            None => return Ok(Acquired::Taken(Box::new(nobody(resource, now)))),
        }
    };
    match first {
        Some(first) if first == hash => begin(conn.reborrow(), resource).await?,
        _ => {}
    }
    let sql = "INSERT INTO bgfiles_lock_tokens (token, resource, object_id, fence, ttl, expires_at) \
        SELECT $1, resource, object_id, fence, $4, $5 FROM bgfiles_locks \
        WHERE resource = $2 AND object_id = $3";
    on!(conn.reborrow(), c => sqlx::query(sql)
        .bind(&hash)
        .bind(resource.kind())
        .bind(resource.id())
        .bind(ttl)
        .bind(expires_at)
        .execute(c)
        .await
        .map(drop)?);
    let lock = find(conn, resource).await?.unwrap_or_else(|| nobody(resource, now));
    Ok(Acquired::Held(Box::new(Held { token: token.to_owned(), expires_at, ttl, lock })))
}

/// How many locks somebody holds at this time, besides one on `but`.
///
/// # Errors
/// The database's.
pub async fn count_of(
    conn: impl Into<Conn<'_>>,
    owner: &str,
    but: &Resource,
    now: DateTime<Utc>,
) -> Result<i64> {
    let sql = "SELECT count(*) FROM bgfiles_locks WHERE owner = $1 AND held AND expires_at > $2 \
        AND NOT (resource = $3 AND object_id = $4)";
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql)
        .bind(owner)
        .bind(now)
        .bind(but.kind())
        .bind(but.id())
        .fetch_one(c)
        .await?))
}

fn nobody(resource: &Resource, now: DateTime<Utc>) -> Lock {
    Lock {
        resource: resource.kind().to_owned(),
        object_id: resource.id().to_owned(),
        fence: 0,
        owner: None,
        reason: String::new(),
        locked_at: now,
        expires_at: now,
        session: None,
        holder: Holder::Person,
    }
}

/// A new acquisition: tokens of before are gone; and no fence is below one of a row that was swept
/// while this one waited for it.
async fn begin(mut conn: Conn<'_>, resource: &Resource) -> Result<()> {
    let sql = "DELETE FROM bgfiles_lock_tokens WHERE resource = $1 AND object_id = $2";
    on!(conn.reborrow(), c => sqlx::query(sql)
        .bind(resource.kind())
        .bind(resource.id())
        .execute(c)
        .await
        .map(drop)?);
    let sql = "UPDATE bgfiles_locks SET fence = (SELECT fence FROM bgfiles_lock_floor) + 1 \
        WHERE resource = $1 AND object_id = $2 \
            AND fence <= (SELECT fence FROM bgfiles_lock_floor)";
    on!(conn, c => sqlx::query(sql)
        .bind(resource.kind())
        .bind(resource.id())
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// The lock on a resource, expired or not; `None` when it was released or never taken.
///
/// # Errors
/// The database's.
pub async fn find(conn: impl Into<Conn<'_>>, resource: &Resource) -> Result<Option<Lock>> {
    let sql = "SELECT resource, object_id, fence, owner, reason, locked_at, expires_at, session \
        FROM bgfiles_locks WHERE resource = $1 AND object_id = $2 AND held";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(resource.kind())
        .bind(resource.id())
        .fetch_optional(c)
        .await?))
}

#[derive(sqlx::FromRow)]
struct TokenRow {
    fence: i64,
    ttl: i32,
    expires_at: DateTime<Utc>,
}

async fn token_row(conn: Conn<'_>, resource: &Resource, token: &str) -> Result<Option<TokenRow>> {
    // Whatever else is written there is no token.
    if token.len() != 32 || !token.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let sql = "SELECT fence, ttl, expires_at FROM bgfiles_lock_tokens \
        WHERE token = $1 AND resource = $2 AND object_id = $3";
    on!(conn, c => Ok(sqlx::query_as(sql)
        .bind(hashed(token))
        .bind(resource.kind())
        .bind(resource.id())
        .fetch_optional(c)
        .await?))
}

/// A lock lasts as long as its longest token; without one it is free.
async fn settle(mut conn: Conn<'_>, resource: &Resource, now: DateTime<Utc>) -> Result<()> {
    let sql = "SELECT max(expires_at) FROM bgfiles_lock_tokens \
        WHERE resource = $1 AND object_id = $2";
    let end: Option<DateTime<Utc>> = on!(conn.reborrow(), c => sqlx::query_scalar(sql)
        .bind(resource.kind())
        .bind(resource.id())
        .fetch_one(c)
        .await?);
    let sql = "UPDATE bgfiles_locks SET held = $3, expires_at = $4 \
        WHERE resource = $1 AND object_id = $2";
    on!(conn, c => sqlx::query(sql)
        .bind(resource.kind())
        .bind(resource.id())
        .bind(end.is_some())
        .bind(end.unwrap_or(now))
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// The lock that a token holds, expired or not.
///
/// # Errors
/// The database's.
pub async fn held(
    conn: impl Into<Conn<'_>>,
    resource: &Resource,
    token: &str,
) -> Result<Option<Held>> {
    let mut conn = conn.into();
    let Some(row) = token_row(conn.reborrow(), resource, token).await? else { return Ok(None) };
    let lock = find(conn, resource).await?.filter(|lock| lock.fence == row.fence);
    let (expires_at, ttl) = (row.expires_at, row.ttl);
    Ok(lock.map(|lock| Held { token: token.to_owned(), expires_at, ttl, lock }))
}

/// What a token is worth at `now`.
///
/// # Errors
/// The database's.
pub async fn check(
    conn: impl Into<Conn<'_>>,
    resource: &Resource,
    token: &str,
    now: DateTime<Utc>,
) -> Result<Check> {
    let mut conn = conn.into();
    Ok(match held(conn.reborrow(), resource, token).await? {
        Some(held) if held.expires_at > now => Check::Holds,
        Some(_) => Check::Expired,
        None if find(conn, resource).await?.is_some() => Check::Wrong,
        None => Check::NoLock,
    })
}

/// Makes a token last again. `None` when it holds no lock.
///
/// # Errors
/// The database's.
pub async fn renew(
    conn: impl Into<Conn<'_>>,
    resource: &Resource,
    token: &str,
    ttl: Option<i32>,
    now: DateTime<Utc>,
) -> Result<Option<Held>> {
    let mut conn = conn.into();
    let Some(row) = token_row(conn.reborrow(), resource, token).await? else { return Ok(None) };
    let ttl = ttl.unwrap_or(row.ttl);
    let end = now + TimeDelta::seconds(ttl.into());
    if !guard(conn.reborrow(), resource, token, Some(row.fence)).await? {
        return Ok(None);
    }
    // Whoever renews it holds it by itself from now on.
    let sql = "UPDATE bgfiles_lock_tokens SET expires_at = $2, ttl = $3, of_page = false \
        WHERE token = $1";
    on!(conn.reborrow(), c => sqlx::query(sql)
        .bind(hashed(token))
        .bind(end)
        .bind(ttl)
        .execute(c)
        .await
        .map(drop)?);
    settle(conn.reborrow(), resource, now).await?;
    held(conn, resource, token).await
}

/// Holds a lock's row until the transaction ends, so that nobody takes it meanwhile. Whether the
/// token holds it, at this fence if one is given.
///
/// # Errors
/// The database's.
pub async fn guard(
    conn: impl Into<Conn<'_>>,
    resource: &Resource,
    token: &str,
    fence: Option<i64>,
) -> Result<bool> {
    let mut conn = conn.into();
    let row = token_row(conn.reborrow(), resource, token).await?;
    let Some(row) = row.filter(|row| fence.is_none_or(|fence| fence == row.fence)) else {
        return Ok(false);
    };
    let sql = "UPDATE bgfiles_locks SET fence = fence \
        WHERE resource = $1 AND object_id = $2 AND held AND fence = $3";
    let held = on!(conn, c => sqlx::query(sql)
        .bind(resource.kind())
        .bind(resource.id())
        .bind(row.fence)
        .execute(c)
        .await?
        .rows_affected());
    Ok(held == 1)
}

/// Lets go of a token; of the lock with its last one. Whether it held it.
///
/// # Errors
/// The database's.
pub async fn release(
    conn: impl Into<Conn<'_>>,
    resource: &Resource,
    token: &str,
    now: DateTime<Utc>,
) -> Result<bool> {
    let mut conn = conn.into();
    if !guard(conn.reborrow(), resource, token, None).await? {
        return Ok(false);
    }
    let sql = "DELETE FROM bgfiles_lock_tokens WHERE token = $1";
    on!(conn.reborrow(), c => sqlx::query(sql).bind(hashed(token)).execute(c).await.map(drop)?);
    settle(conn, resource, now).await?;
    Ok(true)
}

/// Notes that a token came with a page, whose session gives it back with its next
/// [`release_with_pages`].
///
/// # Errors
/// The database's.
pub async fn came_with_page(conn: impl Into<Conn<'_>>, token: &str) -> Result<()> {
    let sql = "UPDATE bgfiles_lock_tokens SET of_page = true WHERE token = $1";
    on!(conn.into(), c => Ok(sqlx::query(sql).bind(hashed(token)).execute(c).await.map(drop)?))
}

/// As [`release`], together with the tokens that came with pages of the same session: all tokens of
/// a lock are one session's. Those that somebody renews stay.
///
/// # Errors
/// The database's.
pub async fn release_with_pages(
    conn: impl Into<Conn<'_>>,
    resource: &Resource,
    token: &str,
    now: DateTime<Utc>,
) -> Result<bool> {
    let mut conn = conn.into();
    if !guard(conn.reborrow(), resource, token, None).await? {
        return Ok(false);
    }
    let sql = "DELETE FROM bgfiles_lock_tokens \
        WHERE resource = $1 AND object_id = $2 AND (of_page OR token = $3)";
    on!(conn.reborrow(), c => sqlx::query(sql)
        .bind(resource.kind())
        .bind(resource.id())
        .bind(hashed(token))
        .execute(c)
        .await
        .map(drop)?);
    settle(conn, resource, now).await?;
    Ok(true)
}

async fn forget_tokens(conn: Conn<'_>, resource: &Resource) -> Result<()> {
    let sql = "DELETE FROM bgfiles_lock_tokens WHERE resource = $1 AND object_id = $2";
    on!(conn, c => sqlx::query(sql)
        .bind(resource.kind())
        .bind(resource.id())
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

/// Ends a lock whoever holds it; with `session`, only if it is that one's, with `fence`, only that
/// acquisition. Whether there was one.
///
/// # Errors
/// The database's.
pub async fn break_lock(
    conn: impl Into<Conn<'_>>,
    resource: &Resource,
    session: Option<&str>,
    fence: Option<i64>,
    now: DateTime<Utc>,
) -> Result<bool> {
    let mut conn = conn.into();
    let sql = "UPDATE bgfiles_locks SET held = false, expires_at = $4 \
        WHERE resource = $1 AND object_id = $2 AND held AND ($3 IS NULL OR session = $3) \
            AND ($5 IS NULL OR fence = $5)";
    let broken = on!(conn.reborrow(), c => sqlx::query(sql)
        .bind(resource.kind())
        .bind(resource.id())
        .bind(session)
        .bind(now)
        .bind(fence)
        .execute(c)
        .await?
        .rows_affected());
    if broken == 1 {
        forget_tokens(conn, resource).await?;
    }
    Ok(broken == 1)
}

/// Which locks to list.
#[derive(Clone, Debug, Default)]
pub struct Filter<'a> {
    /// Of this kind: `app/model`.
    pub resource: Option<&'a str>,
    /// Held by this one.
    pub owner: Option<&'a str>,
}

/// Locks that hold at `now`, the newest first.
///
/// # Errors
/// The database's.
pub async fn list(
    conn: impl Into<Conn<'_>>,
    filter: &Filter<'_>,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Lock>> {
    let sql = "SELECT resource, object_id, fence, owner, reason, locked_at, expires_at, session \
        FROM bgfiles_locks WHERE held AND expires_at > $1 \
            AND ($2 IS NULL OR resource = $2) AND ($3 IS NULL OR owner = $3) \
        ORDER BY locked_at DESC, resource, object_id LIMIT $4";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(now)
        .bind(filter.resource)
        .bind(filter.owner)
        .bind(limit)
        .fetch_all(c)
        .await?))
}

/// Removes rows that nobody has held since a time, so many at once; the floor keeps their fences.
/// Answers how many locks, and how many rows with those that were released.
///
/// # Errors
/// The database's.
pub async fn delete_stale(
    conn: impl Into<Conn<'_>>,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<(u64, u64)> {
    let mut conn = conn.into();
    // What somebody is at, in a transaction, is left for the next time.
    let sql = match &conn {
        Conn::Postgres(_) => {
            "DELETE FROM bgfiles_locks WHERE (resource, object_id) IN ( \
                SELECT resource, object_id FROM bgfiles_locks WHERE expires_at <= $1 \
                ORDER BY expires_at, resource, object_id LIMIT $2 FOR UPDATE SKIP LOCKED) \
            AND expires_at <= $1 RETURNING fence, held"
        }
        Conn::Sqlite(_) => {
            "DELETE FROM bgfiles_locks WHERE (resource, object_id) IN ( \
                SELECT resource, object_id FROM bgfiles_locks WHERE expires_at <= $1 \
                ORDER BY expires_at, resource, object_id LIMIT $2) \
            AND expires_at <= $1 RETURNING fence, held"
        }
    };
    let removed: Vec<(i64, bool)> = on!(conn.reborrow(), c => sqlx::query_as(sql)
        .bind(before)
        .bind(limit)
        .fetch_all(c)
        .await?);
    if let Some((highest, _)) = removed.iter().max() {
        let sql = "UPDATE bgfiles_lock_floor SET fence = $1 WHERE fence < $1";
        on!(conn, c => sqlx::query(sql).bind(highest).execute(c).await.map(drop)?);
    }
    let locks = removed.iter().filter(|(_, held)| *held).count();
    Ok((locks as u64, removed.len() as u64))
}
