//! Rows as they are, for who looks whether they can work: some were written by hand, or moved here from
//! elsewhere.

use crate::{
    db::{Conn, on},
    error::Result,
    ids::RequestId,
};

/// A finished request, and what it says of its file.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct FinishedFile {
    /// Whose file.
    pub id: RequestId,
    /// Where the object is.
    pub storage_key: Option<String>,
    /// Bytes.
    pub size: Option<i64>,
    /// Lower-case hex of its SHA-256.
    pub sha256: Option<String>,
}

/// The finished requests behind `after` by their ids, `most` of them.
///
/// # Errors
/// The database's.
pub async fn finished_files(
    conn: impl Into<Conn<'_>>,
    after: Option<RequestId>,
    most: i64,
) -> Result<Vec<FinishedFile>> {
    const ALL: &str = "SELECT id, storage_key, size, sha256 FROM bgfiles_file_requests \
        WHERE status = 'finished' ORDER BY id LIMIT $1";
    const REST: &str = "SELECT id, storage_key, size, sha256 FROM bgfiles_file_requests \
        WHERE status = 'finished' AND id > $2 ORDER BY id LIMIT $1";
    on!(conn.into(), c => Ok(match after {
        None => sqlx::query_as(ALL).bind(most).fetch_all(c).await?,
        Some(after) => sqlx::query_as(REST).bind(most).bind(after).fetch_all(c).await?,
    }))
}

/// Tables whose rows are numbered.
const NUMBERED: [&str; 4] =
    ["bgfiles_request_tokens", "bgfiles_request_token_uses", "bgfiles_link_hits", "bgfiles_audit"];

/// A sequence that will give a number that a row has: the next row of its table is refused.
#[derive(Clone, Debug)]
pub struct Behind {
    /// The table.
    pub table: &'static str,
    /// The largest number in it.
    pub most: i64,
}

/// Sequences that are behind their tables. SQLite has none: it takes the number after the largest.
///
/// # Errors
/// The database's.
pub async fn sequences_behind(conn: impl Into<Conn<'_>>) -> Result<Vec<Behind>> {
    let Conn::Postgres(conn) = conn.into() else { return Ok(Vec::new()) };
    const SQL: [&str; 4] = [
        "SELECT max(id), (SELECT last_value FROM pg_sequences s WHERE format('%I.%I', schemaname, sequencename) = pg_get_serial_sequence('bgfiles_request_tokens', 'id')) FROM bgfiles_request_tokens",
        "SELECT max(id), (SELECT last_value FROM pg_sequences s WHERE format('%I.%I', schemaname, sequencename) = pg_get_serial_sequence('bgfiles_request_token_uses', 'id')) FROM bgfiles_request_token_uses",
        "SELECT max(id), (SELECT last_value FROM pg_sequences s WHERE format('%I.%I', schemaname, sequencename) = pg_get_serial_sequence('bgfiles_link_hits', 'id')) FROM bgfiles_link_hits",
        "SELECT max(id), (SELECT last_value FROM pg_sequences s WHERE format('%I.%I', schemaname, sequencename) = pg_get_serial_sequence('bgfiles_audit', 'id')) FROM bgfiles_audit",
    ];
    let mut behind = Vec::new();
    for (table, sql) in NUMBERED.into_iter().zip(SQL) {
        let (most, last): (Option<i64>, Option<i64>) =
            sqlx::query_as(sql).fetch_one(&mut *conn).await?;
        if let Some(most) = most.filter(|most| *most > last.unwrap_or(0)) {
            behind.push(Behind { table, most });
        }
    }
    Ok(behind)
}

/// The clients' rates, by name.
///
/// # Errors
/// The database's.
pub async fn rates(conn: impl Into<Conn<'_>>) -> Result<Vec<(String, String)>> {
    let sql = "SELECT name, throttle_rate FROM bgfiles_clients ORDER BY name";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).fetch_all(c).await?))
}

/// A user's name, and what logins and passwords go by.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Named {
    /// As it is written.
    pub username: String,
    /// What counts as the same name has the same key.
    pub username_key: Option<String>,
    /// Of the password.
    pub password_hash: Option<String>,
}

/// All users, by name.
///
/// # Errors
/// The database's.
pub async fn users(conn: impl Into<Conn<'_>>) -> Result<Vec<Named>> {
    let sql = "SELECT username, username_key, password_hash FROM bgfiles_users ORDER BY username";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).fetch_all(c).await?))
}
