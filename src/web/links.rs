//! `/api/requests/{id}/links`: links with a row, which rules them; and what happened to them.

use std::{num::NonZeroU32, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Problem,
    body::{JsonBody, Whole, given},
    paging::{self, Page, page},
    requests::{editor, note, visible},
};
use crate::{
    auth_token::Caller,
    error::{Error, Result},
    file_request::links::{line, store},
    lock_token::Resource,
    toolbox::{LinkEdit, LinkOptions, Toolbox},
};

/// The body of `POST /api/requests/{id}/links`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    requester_only: Option<bool>,
    /// Seconds.
    max_age: Option<Whole<u32>>,
    not_before: Option<DateTime<Utc>>,
    /// `null`: as often as one likes; as the file type says when it is left out.
    #[serde(default, deserialize_with = "given")]
    max_uses: Option<Option<Whole<u32>>>,
    scanner_safe: Option<bool>,
    #[serde(default)]
    data: Map<String, Value>,
}

fn age(seconds: Option<Whole<u32>>) -> Result<Option<Duration>> {
    match seconds {
        Some(Whole(0)) => Err(Error::invalid("max_age", "must be a second or more")),
        seconds => Ok(seconds.map(|Whole(seconds)| Duration::from_secs(seconds.into()))),
    }
}

fn uses(max: Option<Whole<u32>>) -> Result<Option<NonZeroU32>> {
    let positive = |Whole(max)| NonZeroU32::new(max).filter(|max| max.get() <= i32::MAX as u32);
    let wrong = || Error::invalid("max_uses", "must be 1 or more; leave it out for no limit");
    max.map(|max| positive(max).ok_or_else(wrong)).transpose()
}

pub(super) async fn create(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody<Ask>,
) -> Result<Response, Problem> {
    let (row, ask) = (visible(&toolbox, &caller, &id).await?, body.value);
    let by = caller.clone();
    let options = LinkOptions {
        requester_only: ask.requester_only,
        max_age: age(ask.max_age)?,
        not_before: ask.not_before,
        max_uses: ask.max_uses.map(uses).transpose()?,
        scanner_safe: ask.scanner_safe,
        data: ask.data,
        created_by: caller.username,
        role: caller.role,
    };
    let mut tx = toolbox.db.begin().await?;
    let (link, url) = toolbox.create_link(&mut tx, &row, options).await?;
    note(&toolbox, &by, &mut tx, &row, "link", &link.jti.to_string()).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(toolbox.link_json(&row, &link, Some(&url)))).into_response())
}

pub(super) async fn list(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Page>,
    uri: Uri,
) -> Result<Response, Problem> {
    let row = visible(&toolbox, &caller, &id).await?;
    let (limit, before) = (query.limit()?, query.place()?);
    let mut tx = toolbox.db.read().await?;
    // One more than asked for tells whether there is a next page.
    let mut links = store::list(&mut tx, row.id, before, limit + 1).await?;
    let more = links.len() as i64 > limit;
    links.truncate(usize::try_from(limit).unwrap_or(200));
    let next = links.last().filter(|_| more).map(|link| paging::cursor(link.created_at, link.jti));
    let items = links.iter().map(|link| toolbox.link_json(&row, link, None)).collect();
    Ok(paging::listed(&toolbox, &uri, items, next))
}

fn jti(text: &str) -> Result<Uuid> {
    text.parse().map_err(|_| Error::NotFound("link"))
}

/// The body of `PATCH /api/requests/{id}/links/{jti}`; `null` takes a limit away.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    /// Seconds from now.
    max_age: Option<Whole<u32>>,
    #[serde(default, deserialize_with = "given")]
    not_before: Option<Option<DateTime<Utc>>>,
    #[serde(default, deserialize_with = "given")]
    max_uses: Option<Option<Whole<u32>>>,
    scanner_safe: Option<bool>,
}

pub(super) async fn extend(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path((id, link)): Path<(String, String)>,
    headers: HeaderMap,
    body: JsonBody<Edit>,
) -> Result<Json<Value>, Problem> {
    let (row, edit) = (visible(&toolbox, &caller, &id).await?, body.value);
    let edit = LinkEdit {
        max_age: age(edit.max_age)?,
        not_before: edit.not_before,
        max_uses: edit.max_uses.map(uses).transpose()?,
        scanner_safe: edit.scanner_safe,
        edited_by: caller.username.clone(),
        role: caller.role,
    };
    let mut tx = toolbox.db.begin().await?;
    let editor = editor(&toolbox, &caller, &headers)?;
    let locked = toolbox.begin_edit(&mut tx, Resource::request(row.id), editor).await?;
    let link = toolbox.extend_link(&mut tx, &row, jti(&link)?, edit).await?;
    note(&toolbox, &caller, &mut tx, &row, "extend", &link.jti.to_string()).await?;
    toolbox.end_edit(&mut tx, locked).await?;
    tx.commit().await?;
    Ok(Json(toolbox.link_json(&row, &link, None)))
}

pub(super) async fn revoke(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path((id, link)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let row = visible(&toolbox, &caller, &id).await?;
    let mut tx = toolbox.db.begin().await?;
    toolbox.revoke_link(&mut tx, &row, jti(&link)?).await?;
    note(&toolbox, &caller, &mut tx, &row, "revoke", &link).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn send(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path((id, link)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let row = visible(&toolbox, &caller, &id).await?;
    let mut tx = toolbox.db.begin().await?;
    let notice = toolbox.send_link(&mut tx, &row, jti(&link)?).await?;
    note(&toolbox, &caller, &mut tx, &row, "mail", &link).await?;
    tx.commit().await?;
    let sent = json!({ "message_id": notice.message_id });
    Ok((StatusCode::ACCEPTED, Json(sent)).into_response())
}

/// `GET /api/requests/{id}/log`, and `…/links/{jti}/log` of one link.
pub(super) async fn request_log(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Page>,
    uri: Uri,
) -> Result<Response, Problem> {
    log(&toolbox, &caller, &id, None, &query, &uri).await
}

pub(super) async fn link_log(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path((id, link)): Path<(String, String)>,
    Query(query): Query<Page>,
    uri: Uri,
) -> Result<Response, Problem> {
    log(&toolbox, &caller, &id, Some(jti(&link)?), &query, &uri).await
}

async fn log(
    toolbox: &Toolbox,
    caller: &Caller,
    id: &str,
    link: Option<Uuid>,
    query: &Page,
    uri: &Uri,
) -> Result<Response, Problem> {
    let row = visible(toolbox, caller, id).await?;
    let (limit, before) = (query.limit()?, query.before()?);
    toolbox.flush_receipts().await?;
    let mut tx = toolbox.db.read().await?;
    let hits = line::store::hits(&mut tx, row.id, link, before, limit + 1).await?;
    Ok(page(toolbox, uri, hits, limit, |hit| hit.id, |hit| hit.to_json()))
}
