//! Idempotency keys: what a call that comes twice made the first time.

use chrono::{DateTime, Utc};

use crate::{
    db::{Conn, on},
    error::Result,
    ids::RequestId,
};

/// What an earlier call with the same idempotency key made.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct KeyedRequest {
    /// Digest of that call's body.
    pub fingerprint: String,
    /// What it made.
    pub request_id: RequestId,
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
