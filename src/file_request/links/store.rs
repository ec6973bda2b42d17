//! The SQL of links and grants, and of counting downloads.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use uuid::Uuid;

use super::{Grant, Link};
use crate::{
    db::{Conn, on},
    error::{Error, Result},
    ids::RequestId,
};

/// Inserts a link.
///
/// # Errors
/// The database's.
pub async fn insert(conn: impl Into<Conn<'_>>, link: &Link) -> Result<()> {
    let sql = "INSERT INTO bgfiles_links (jti, request_id, requester_only, data, created_by, \
        created_at, expires_at, not_before, max_uses, scanner_safe) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    on!(conn.into(), c => sqlx::query(sql)
        .bind(link.jti)
        .bind(link.request_id)
        .bind(link.requester_only)
        .bind(Json(&link.data))
        .bind(&link.created_by)
        .bind(link.created_at)
        .bind(link.expires_at)
        .bind(link.not_before)
        .bind(link.max_uses)
        .bind(link.scanner_safe)
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

/// Links of a request, newest first, at most `limit`: those before a link (when it was made, and its
/// `jti`), or from the newest on.
///
/// # Errors
/// The database's.
pub async fn list(
    conn: impl Into<Conn<'_>>,
    request_id: RequestId,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<Link>> {
    on!(conn.into(), c => {
        let mut sql = sqlx::QueryBuilder::new("SELECT * FROM bgfiles_links WHERE request_id = ");
        sql.push_bind(request_id);
        if let Some((at, jti)) = before {
            sql.push(" AND (created_at, jti) < (").push_bind(at);
            sql.push(", ").push_bind(jti).push(")");
        }
        sql.push(" ORDER BY created_at DESC, jti DESC LIMIT ").push_bind(limit);
        Ok(sql.build_query_as().fetch_all(c).await?)
    })
}

/// What a link that is not over at `$2` fulfils.
const GOOD: &str =
    "revoked_at IS NULL AND expires_at > $2 AND (max_uses IS NULL OR uses < max_uses)";

/// Links of a request, at most `limit`: those first that are not over, then the newest.
///
/// # Errors
/// The database's.
pub async fn good_first(
    conn: impl Into<Conn<'_>>,
    request_id: RequestId,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Link>> {
    // Only text: the same for both.
    let mut sql = sqlx::QueryBuilder::<sqlx::Postgres>::new(
        "SELECT * FROM bgfiles_links WHERE request_id = $1 ORDER BY CASE WHEN ",
    );
    sql.push(GOOD).push(" THEN 0 ELSE 1 END, created_at DESC, jti DESC LIMIT $3");
    on!(conn.into(), c => Ok(sqlx::query_as(sql.into_sql())
        .bind(request_id)
        .bind(now)
        .bind(limit)
        .fetch_all(c)
        .await?))
}

/// How many links of a request are not over.
///
/// # Errors
/// The database's.
pub async fn count_good(
    conn: impl Into<Conn<'_>>,
    request_id: RequestId,
    now: DateTime<Utc>,
) -> Result<i64> {
    let mut sql = sqlx::QueryBuilder::<sqlx::Postgres>::new(
        "SELECT count(*) FROM bgfiles_links WHERE request_id = $1 AND ",
    );
    sql.push(GOOD);
    on!(conn.into(), c => Ok(sqlx::query_scalar(sql.into_sql())
        .bind(request_id)
        .bind(now)
        .fetch_one(c)
        .await?))
}

/// Holds a request to the end of the transaction, so that nobody else changes it meanwhile. On
/// SQLite only one writes at a time.
///
/// # Errors
/// The database's.
pub async fn hold_request(conn: impl Into<Conn<'_>>, id: RequestId) -> Result<()> {
    if let Conn::Postgres(c) = conn.into() {
        let sql = "SELECT id FROM bgfiles_file_requests WHERE id = $1 FOR NO KEY UPDATE";
        sqlx::query(sql).bind(id).execute(c).await?;
    }
    Ok(())
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

/// What an edit changes; `None` leaves as it is, `Some(None)` takes the limit away.
#[derive(Clone, Debug, Default)]
pub struct LinkChanges {
    /// Until when it works.
    pub expires_at: Option<DateTime<Utc>>,
    /// From when.
    pub not_before: Option<Option<DateTime<Utc>>>,
    /// How often.
    pub max_uses: Option<Option<i32>>,
    /// Whether opening it shows a page first.
    pub scanner_safe: Option<bool>,
}

/// Edits a link that was not revoked. `None` when there is none.
///
/// # Errors
/// The database's.
pub async fn update(
    conn: impl Into<Conn<'_>>,
    request_id: RequestId,
    jti: Uuid,
    changes: &LinkChanges,
) -> Result<Option<Link>> {
    let sql = "UPDATE bgfiles_links SET expires_at = COALESCE($3, expires_at), \
        not_before = CASE WHEN $4 THEN $5 ELSE not_before END, \
        max_uses = CASE WHEN $6 THEN $7 ELSE max_uses END, \
        scanner_safe = COALESCE($8, scanner_safe) \
        WHERE request_id = $1 AND jti = $2 AND revoked_at IS NULL RETURNING *";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(request_id)
        .bind(jti)
        .bind(changes.expires_at)
        .bind(changes.not_before.is_some())
        .bind(changes.not_before.flatten())
        .bind(changes.max_uses.is_some())
        .bind(changes.max_uses.flatten())
        .bind(changes.scanner_safe)
        .fetch_optional(c)
        .await?))
}

/// Counts one use, if the link can be used at `now`. This one statement is what keeps a link to
/// its uses, however many redeem at once.
///
/// # Errors
/// The database's.
pub async fn consume(conn: impl Into<Conn<'_>>, jti: Uuid, now: DateTime<Utc>) -> Result<bool> {
    let sql = "UPDATE bgfiles_links SET uses = uses + 1, last_used_at = $2 \
        WHERE jti = $1 AND revoked_at IS NULL AND expires_at > $2 \
        AND (not_before IS NULL OR not_before <= $2) AND (max_uses IS NULL OR uses < max_uses)";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(jti)
        .bind(now)
        .execute(c)
        .await?
        .rows_affected());
    Ok(affected == 1)
}

/// Makes `jti` the link that the mail of a request carries.
///
/// # Errors
/// The database's.
pub async fn set_standing(conn: impl Into<Conn<'_>>, id: RequestId, jti: Uuid) -> Result<()> {
    let sql = "UPDATE bgfiles_file_requests SET link_jti = $2 WHERE id = $1";
    on!(conn.into(), c => sqlx::query(sql).bind(id).bind(jti).execute(c).await.map(drop)?);
    Ok(())
}

/// Brings a request's `download_limit` up to date: the uses of its links together, where its
/// mailed link has a row and every link is limited.
///
/// # Errors
/// The database's.
pub async fn recount(conn: impl Into<Conn<'_>>, id: RequestId) -> Result<()> {
    let sql = "UPDATE bgfiles_file_requests SET download_limit = CASE WHEN link_jti IS NULL \
        THEN NULL ELSE (SELECT CASE WHEN count(*) = count(max_uses) \
        THEN CAST(sum(CASE WHEN revoked_at IS NULL THEN max_uses ELSE uses END) AS integer) END \
        FROM bgfiles_links WHERE request_id = $1 AND (revoked_at IS NULL OR uses > 0)) END \
        WHERE id = $1";
    on!(conn.into(), c => sqlx::query(sql).bind(id).execute(c).await.map(drop)?);
    Ok(())
}

/// Counts one download of a request.
///
/// # Errors
/// The database's.
pub async fn count_download(
    conn: impl Into<Conn<'_>>,
    id: RequestId,
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "UPDATE bgfiles_file_requests SET downloads = downloads + 1, last_download_at = $2 \
        WHERE id = $1";
    on!(conn.into(), c => sqlx::query(sql).bind(id).bind(now).execute(c).await.map(drop)?);
    Ok(())
}

/// Downloads of one request that are counted together.
#[derive(Clone, Debug)]
pub struct Downloads {
    /// Of which file.
    pub request_id: RequestId,
    /// How many; 0 when it was only looked into.
    pub number: i32,
    /// When the last one ended; `None` when there was none.
    pub last_at: Option<DateTime<Utc>>,
}

/// Inserts a grant. `false`: there is one with this secret already.
///
/// # Errors
/// The database's.
pub async fn insert_grant(conn: impl Into<Conn<'_>>, grant: &Grant) -> Result<bool> {
    let sql = "INSERT INTO bgfiles_link_grants (hash, request_id, jti, requester, sha256, \
        created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (hash) DO NOTHING";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(&grant.hash)
        .bind(grant.request_id)
        .bind(grant.jti)
        .bind(&grant.requester)
        .bind(&grant.sha256)
        .bind(grant.created_at)
        .bind(grant.expires_at)
        .execute(c)
        .await?
        .rows_affected());
    Ok(affected == 1)
}

/// The grant with this hash.
///
/// # Errors
/// The database's.
pub async fn find_grant(conn: impl Into<Conn<'_>>, hash: &str) -> Result<Option<Grant>> {
    let sql = "SELECT * FROM bgfiles_link_grants WHERE hash = $1";
    on!(conn.into(), c => Ok(sqlx::query_as(sql).bind(hash).fetch_optional(c).await?))
}

/// Marks a grant's download as whole; `false` when it was already.
///
/// # Errors
/// The database's.
pub async fn complete_grant(
    conn: impl Into<Conn<'_>>,
    hash: &str,
    now: DateTime<Utc>,
) -> Result<bool> {
    let sql = "UPDATE bgfiles_link_grants SET completed_at = $2 \
        WHERE hash = $1 AND completed_at IS NULL";
    let affected = on!(conn.into(), c => sqlx::query(sql)
        .bind(hash)
        .bind(now)
        .execute(c)
        .await?
        .rows_affected());
    Ok(affected == 1)
}

/// Holds a grant until the transaction ends, so that of two pieces that end at the same time the
/// second one sees the first. Which bytes were sent under it: first and end of each stretch.
///
/// # Errors
/// The database's.
pub async fn hold_grant(conn: impl Into<Conn<'_>>, hash: &str) -> Result<Vec<(i64, i64)>> {
    let mut conn = conn.into();
    let sql = "UPDATE bgfiles_link_grants SET hash = hash WHERE hash = $1 RETURNING covered";
    let covered: Option<String> = on!(conn.reborrow(), c => sqlx::query_scalar(sql)
        .bind(hash)
        .fetch_optional(c)
        .await?);
    let mut covered: Vec<(i64, i64)> =
        covered.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    // Of grants that were given before there was such a column.
    let sql = "SELECT first_byte, first_byte + bytes FROM bgfiles_link_hits WHERE grant_hash = $1 \
        AND first_byte IS NOT NULL AND bytes IS NOT NULL AND line_key IS NULL";
    let older: Vec<(i64, i64)> = on!(conn, c => sqlx::query_as(sql).bind(hash).fetch_all(c).await?);
    covered.extend(older);
    Ok(covered)
}

/// Writes down which bytes were sent under a grant.
///
/// # Errors
/// The database's.
pub async fn cover_grant(
    conn: impl Into<Conn<'_>>,
    hash: &str,
    covered: &[(i64, i64)],
) -> Result<()> {
    let sql = "UPDATE bgfiles_link_grants SET covered = $2 WHERE hash = $1";
    let text = serde_json::to_string(covered).map_err(|e| Error::Internal(e.to_string()))?;
    on!(conn.into(), c => sqlx::query(sql).bind(hash).bind(text).execute(c).await.map(drop)?);
    Ok(())
}

/// Lets a grant that is there be used for another download.
///
/// # Errors
/// The database's.
pub async fn renew_grant(
    conn: impl Into<Conn<'_>>,
    hash: &str,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    let sql = "UPDATE bgfiles_link_grants SET completed_at = NULL, expires_at = $2, \
        covered = CASE WHEN completed_at IS NULL THEN covered ELSE '[]' END WHERE hash = $1";
    on!(conn.into(), c => sqlx::query(sql).bind(hash).bind(expires_at).execute(c).await.map(drop)?);
    Ok(())
}

/// Counts downloads of several requests, in the order of their ids, so that two who do so at the
/// same time do not wait for each other in a circle. The last thing in a transaction: whoever else
/// counts downloads of one of them waits for its end.
///
/// # Errors
/// The database's.
pub async fn count_downloads(conn: impl Into<Conn<'_>>, counted: &[Downloads]) -> Result<()> {
    match conn.into() {
        Conn::Postgres(c) => {
            let ids: Vec<RequestId> = counted.iter().map(|one| one.request_id).collect();
            let numbers: Vec<i32> = counted.iter().map(|one| one.number).collect();
            let last: Vec<Option<DateTime<Utc>>> = counted.iter().map(|one| one.last_at).collect();
            let hold = "SELECT id FROM bgfiles_file_requests WHERE id = ANY($1) ORDER BY id \
                FOR NO KEY UPDATE";
            sqlx::query(hold).bind(&ids).execute(&mut *c).await?;
            let sql = "UPDATE bgfiles_file_requests r SET downloads = r.downloads + n.number, \
                last_download_at = GREATEST(r.last_download_at, n.last_at) \
                FROM UNNEST($1::uuid[], $2::integer[], $3::timestamptz[]) \
                AS n (id, number, last_at) WHERE r.id = n.id AND n.number > 0";
            sqlx::query(sql).bind(&ids).bind(&numbers).bind(&last).execute(c).await?;
        }
        Conn::Sqlite(c) => {
            let sql = "UPDATE bgfiles_file_requests SET downloads = downloads + $2, \
                last_download_at = max(COALESCE(last_download_at, $3), $3) WHERE id = $1";
            for one in counted.iter().filter(|one| one.number > 0) {
                let query = sqlx::query(sql).bind(one.request_id).bind(one.number);
                query.bind(one.last_at).execute(&mut *c).await?;
            }
        }
    }
    Ok(())
}

/// Ends the links of a person: those to their files, whoever made them, and those that they made to
/// others'; with the downloads that were begun by them. `at` is now. Answers how many links with a row.
///
/// # Errors
/// The database's.
pub async fn revoke_of(conn: impl Into<Conn<'_>>, person: &str, at: DateTime<Utc>) -> Result<u64> {
    let mut conn = conn.into();
    // Links before requests before grants, as whoever redeems takes them.
    let sql = "UPDATE bgfiles_links SET revoked_at = $2 WHERE revoked_at IS NULL \
        AND (created_by = $1 OR request_id IN \
            (SELECT id FROM bgfiles_file_requests WHERE requester = $1)) \
        AND NOT EXISTS (SELECT 1 FROM bgfiles_file_requests r WHERE r.link_jti = bgfiles_links.jti)";
    let revoked = on!(conn.reborrow(), c => sqlx::query(sql)
        .bind(person)
        .bind(at)
        .execute(c)
        .await?
        .rows_affected());
    // Those without a row, and the mail's own, whose row goes on for links that are signed anew.
    let sql = "UPDATE bgfiles_file_requests SET links_from = $2 WHERE requester = $1 \
        AND status = 'finished'";
    on!(conn.reborrow(), c => sqlx::query(sql).bind(person).bind(at).execute(c).await.map(drop)?);
    let sql = "DELETE FROM bgfiles_link_grants WHERE request_id IN \
            (SELECT id FROM bgfiles_file_requests WHERE requester = $1) \
        OR jti IN (SELECT jti FROM bgfiles_links WHERE created_by = $1)";
    on!(conn, c => sqlx::query(sql).bind(person).execute(c).await.map(drop)?);
    Ok(revoked)
}

/// Ends every grant to a file.
///
/// # Errors
/// The database's.
pub async fn end_grants(conn: impl Into<Conn<'_>>, request: RequestId) -> Result<()> {
    let sql = "DELETE FROM bgfiles_link_grants WHERE request_id = $1";
    on!(conn.into(), c => sqlx::query(sql).bind(request).execute(c).await.map(drop)?);
    Ok(())
}
