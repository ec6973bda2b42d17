//! The SQL of lines.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    super::{Hit, HitRow},
    Line, MOST_LINES,
};
use crate::{
    db::{Conn, on},
    error::Result,
    ids::RequestId,
};

/// Holds requests until the transaction ends, in the order of their ids, and answers which are
/// there: none of them goes before its lines are written, which would then be nobody's, and who adds
/// to the same lines comes one after the other. SQLite's writers do so anyhow.
///
/// # Errors
/// The database's.
pub async fn hold(
    conn: impl Into<Conn<'_>>,
    requests: &BTreeSet<RequestId>,
) -> Result<BTreeSet<RequestId>> {
    let held: Vec<RequestId> = match conn.into() {
        Conn::Postgres(c) => {
            let ids: Vec<RequestId> = requests.iter().copied().collect();
            let sql = "SELECT id FROM bgfiles_file_requests WHERE id = ANY($1) ORDER BY id \
                FOR NO KEY UPDATE";
            sqlx::query_scalar(sql).bind(ids).fetch_all(c).await?
        }
        Conn::Sqlite(c) => {
            let sql = "SELECT id FROM bgfiles_file_requests WHERE id = $1";
            let mut held = Vec::with_capacity(requests.len());
            for id in requests {
                let found: Option<RequestId> =
                    sqlx::query_scalar(sql).bind(id).fetch_optional(&mut *c).await?;
                held.extend(found);
            }
            held
        }
    };
    Ok(held.into_iter().collect())
}

/// Logs hits, each with its own time; those of requests that are gone are left out.
///
/// # Errors
/// The database's.
pub async fn log(conn: impl Into<Conn<'_>>, hits: &[(Hit, DateTime<Utc>)]) -> Result<()> {
    let mut conn = conn.into();
    let requests: BTreeSet<RequestId> = hits.iter().map(|(hit, _)| hit.request_id).collect();
    let held = hold(conn.reborrow(), &requests).await?;
    let full = full(conn.reborrow(), &held).await?;
    let mut lines = Line::gather(hits, &full);
    lines.retain(|line| held.contains(&line.hit.request_id));
    if lines.is_empty() { Ok(()) } else { write(conn, &lines).await }
}

/// The requests that have all the lines they may.
async fn full(mut conn: Conn<'_>, requests: &BTreeSet<RequestId>) -> Result<BTreeSet<RequestId>> {
    let sql = "SELECT count(*) FROM (SELECT 1 FROM bgfiles_link_hits WHERE request_id = $1 \
        LIMIT $2) AS l";
    let mut full = BTreeSet::new();
    for id in requests {
        let lines: i64 = on!(conn.reborrow(), c => sqlx::query_scalar(sql)
            .bind(id)
            .bind(MOST_LINES)
            .fetch_one(c)
            .await?);
        if lines >= MOST_LINES {
            full.insert(*id);
        }
    }
    Ok(full)
}

/// Begins lines or adds to them. What began at different bytes began at none in particular.
async fn write(conn: Conn<'_>, lines: &[Line]) -> Result<()> {
    let c = match conn {
        Conn::Postgres(c) => c,
        Conn::Sqlite(c) => {
            let sql = "INSERT INTO bgfiles_link_hits AS h (request_id, jti, grant_hash, event, \
                reason, first_byte, bytes, client_ip, user_agent, user_id, timestamp, line_key, times) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
                ON CONFLICT (line_key) DO UPDATE SET times = h.times + excluded.times, \
                bytes = COALESCE(h.bytes + excluded.bytes, h.bytes, excluded.bytes), \
                first_byte = CASE WHEN h.first_byte = excluded.first_byte THEN h.first_byte END";
            for Line { key, hit, at, times } in lines {
                let query = sqlx::query(sql)
                    .bind(hit.request_id)
                    .bind(hit.jti)
                    .bind(&hit.grant)
                    .bind(hit.event.as_str())
                    .bind(&hit.reason)
                    .bind(hit.first_byte)
                    .bind(hit.bytes)
                    .bind(hit.visitor.ip_text())
                    .bind(&hit.visitor.user_agent)
                    .bind(&hit.user)
                    .bind(at)
                    .bind(key)
                    .bind(times);
                query.execute(&mut *c).await?;
            }
            return Ok(());
        }
    };
    fn all<'l, T>(lines: &'l [Line], of: impl Fn(&'l Line) -> T) -> Vec<T> {
        lines.iter().map(of).collect()
    }
    let sql = "INSERT INTO bgfiles_link_hits AS h (request_id, jti, grant_hash, event, \
        reason, first_byte, bytes, client_ip, user_agent, user_id, timestamp, line_key, times) \
        SELECT * FROM UNNEST($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], \
        $6::bigint[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::timestamptz[], \
        $12::text[], $13::bigint[]) \
        ON CONFLICT (line_key) DO UPDATE SET times = h.times + excluded.times, \
        bytes = COALESCE(h.bytes + excluded.bytes, h.bytes, excluded.bytes), \
        first_byte = CASE WHEN h.first_byte = excluded.first_byte THEN h.first_byte END";
    sqlx::query(sql)
        .bind(all(lines, |line| line.hit.request_id))
        .bind(all(lines, |line| line.hit.jti))
        .bind(all(lines, |line| line.hit.grant.as_deref()))
        .bind(all(lines, |line| line.hit.event.as_str()))
        .bind(all(lines, |line| line.hit.reason.as_deref()))
        .bind(all(lines, |line| line.hit.first_byte))
        .bind(all(lines, |line| line.hit.bytes))
        .bind(all(lines, |line| line.hit.visitor.ip_text()))
        .bind(all(lines, |line| line.hit.visitor.user_agent.as_str()))
        .bind(all(lines, |line| line.hit.user.as_deref()))
        .bind(all(lines, |line| line.at))
        .bind(all(lines, |line| line.key.as_str()))
        .bind(all(lines, |line| line.times))
        .execute(c)
        .await?;
    Ok(())
}

/// The lines of a request, or of one of its links, newest first.
///
/// # Errors
/// The database's.
pub async fn hits(
    conn: impl Into<Conn<'_>>,
    request_id: RequestId,
    jti: Option<Uuid>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<HitRow>> {
    let sql = "SELECT id, jti, event, reason, first_byte, bytes, client_ip, user_agent, user_id, \
        timestamp, times FROM bgfiles_link_hits WHERE request_id = $1 AND ($2 IS NULL OR jti = $2) \
        AND ($3 IS NULL OR id < $3) ORDER BY id DESC LIMIT $4";
    on!(conn.into(), c => Ok(sqlx::query_as(sql)
        .bind(request_id)
        .bind(jti)
        .bind(before)
        .bind(limit)
        .fetch_all(c)
        .await?))
}
