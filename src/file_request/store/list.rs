//! Requests as people and programs look for them: by id, by filter, the newest first.

use chrono::{DateTime, Utc};

use crate::{
    db::{Conn, on},
    error::{Error, Result},
    file_request::{FileRequest, Status},
    ids::RequestId,
};

/// The request with this id.
///
/// # Errors
/// The database's.
pub async fn find(conn: impl Into<Conn<'_>>, id: RequestId) -> Result<Option<FileRequest>> {
    let sql = "SELECT * FROM bgfiles_file_requests WHERE id = $1";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(id).fetch_optional(c).await?))
}

/// The requests with these ids, as far as they are there, in no order.
///
/// # Errors
/// The database's.
pub async fn find_all(conn: impl Into<Conn<'_>>, ids: &[RequestId]) -> Result<Vec<FileRequest>> {
    match conn.into() {
        Conn::Postgres(c) => {
            let sql = "SELECT * FROM bgfiles_file_requests WHERE id = ANY($1)";
            Ok(sqlx::query_as(sql).bind(ids).fetch_all(c).await?)
        }
        Conn::Sqlite(c) => {
            // Ids are bytes there, which come in JSON as hexadecimal digits.
            let sql = "SELECT * FROM bgfiles_file_requests WHERE id IN \
                (SELECT unhex(value) FROM json_each($1))";
            let ids: Vec<String> = ids.iter().map(|id| id.0.simple().to_string()).collect();
            let ids = serde_json::to_string(&ids).map_err(|e| Error::Internal(e.to_string()))?;
            Ok(sqlx::query_as(sql).bind(ids).fetch_all(c).await?)
        }
    }
}

/// A search looks at the descriptions of so many requests: as many as cost some milliseconds.
pub const SEARCHED: i64 = 10_000;

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only in this state.
    pub status: Option<Status>,
    /// Only of this type.
    pub file_type: Option<String>,
    /// Only of this requester.
    pub requester: Option<String>,
    /// Only of this id, if it is one. Otherwise only with this text in the description, whatever
    /// the case, among the newest [`SEARCHED`] that pass the rest of the filter: no index that both
    /// databases have finds a part of a text.
    pub search: Option<String>,
    /// Only older than this row (time of request and id): the cursor.
    pub before: Option<(DateTime<Utc>, RequestId)>,
}

/// The newest requests that pass the filter, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn list(
    conn: impl Into<Conn<'_>>,
    filter: &Filter,
    limit: i64,
) -> Result<Vec<FileRequest>> {
    const NEWEST_FIRST: &str = " ORDER BY requested_at DESC, id DESC LIMIT ";
    let search = filter.search.as_deref();
    let id: Option<RequestId> = search.and_then(|text| text.parse().ok());
    let text = search.filter(|_| id.is_none());
    let pattern =
        |text: &str| format!("%{}%", text.replace('!', "!!").replace('%', "!%").replace('_', "!_"));
    // SQLite knows the case of ASCII only: what is written the same way is found all the same.
    let patterns = text.map(|text| (pattern(&text.to_lowercase()), pattern(text)));
    // Put together: which index serves depends on what is asked for, and a statement that allows
    // for everything (`$1 IS NULL OR …`) is planned for none of it.
    on!(conn.into(), c => {
        let mut sql = sqlx::QueryBuilder::new("SELECT * FROM ");
        if patterns.is_some() {
            sql.push("(SELECT * FROM ");
        }
        sql.push("bgfiles_file_requests WHERE true");
        if let Some(status) = filter.status {
            // Its name stands in the statement, as it does in the partial indexes.
            sql.push(" AND status = '").push(status.as_str()).push("'");
        }
        if let Some(file_type) = &filter.file_type {
            sql.push(" AND file_type = ").push_bind(file_type);
        }
        if let Some(requester) = &filter.requester {
            sql.push(" AND requester = ").push_bind(requester);
        }
        if let Some(id) = id {
            sql.push(" AND id = ").push_bind(id);
        }
        if let Some((at, id)) = filter.before {
            sql.push(" AND (requested_at, id) < (").push_bind(at);
            sql.push(", ").push_bind(id).push(")");
        }
        if let Some((lower, same)) = patterns {
            sql.push(NEWEST_FIRST).push(SEARCHED).push(") newest WHERE (lower(description) LIKE ");
            sql.push_bind(lower).push(" ESCAPE '!' OR description LIKE ");
            sql.push_bind(same).push(" ESCAPE '!')");
        }
        sql.push(NEWEST_FIRST).push_bind(limit);
        Ok(sql.build_query_as().fetch_all(c).await?)
    })
}
