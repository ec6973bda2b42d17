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
    requests::{editor, request_id},
};
use crate::{
    auth_token::Caller,
    error::{Error, Result},
    toolbox::{LinkEdit, LinkOptions, LinksOf, Toolbox},
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

/// The links of the request that a path names, for who may see it.
async fn links_of<'a>(toolbox: &'a Toolbox, caller: &'a Caller, id: &str) -> Result<LinksOf<'a>> {
    toolbox.links().by(caller).of(request_id(id)?).await
}

pub(super) async fn create(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    body: JsonBody<Ask>,
) -> Result<Response, Problem> {
    let (links, ask) = (links_of(&toolbox, &caller, &id).await?, body.value);
    let options = LinkOptions {
        requester_only: ask.requester_only,
        max_age: age(ask.max_age)?,
        not_before: ask.not_before,
        max_uses: ask.max_uses.map(uses).transpose()?,
        scanner_safe: ask.scanner_safe,
        data: ask.data,
        ..LinkOptions::default()
    };
    let (link, url) = links.create(options).await?;
    let json = toolbox.link_json(links.request(), &link, Some(&url));
    Ok((StatusCode::CREATED, Json(json)).into_response())
}

pub(super) async fn list(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Page>,
    uri: Uri,
) -> Result<Response, Problem> {
    let links = links_of(&toolbox, &caller, &id).await?;
    let (limit, before) = (query.limit()?, query.place()?);
    // One more than asked for tells whether there is a next page.
    let mut rows = links.list(before, limit + 1).await?;
    let more = rows.len() as i64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(200));
    let next = rows.last().filter(|_| more).map(|link| paging::cursor(link.created_at, link.jti));
    let items = rows.iter().map(|link| toolbox.link_json(links.request(), link, None)).collect();
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
    let (links, edit) = (links_of(&toolbox, &caller, &id).await?, body.value);
    let edit = LinkEdit {
        max_age: age(edit.max_age)?,
        not_before: edit.not_before,
        max_uses: edit.max_uses.map(uses).transpose()?,
        scanner_safe: edit.scanner_safe,
        ..LinkEdit::default()
    };
    let editor = editor(&toolbox, &caller, &headers)?;
    let link = links.extend(jti(&link)?, edit, editor).await?;
    Ok(Json(toolbox.link_json(links.request(), &link, None)))
}

pub(super) async fn revoke(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path((id, link)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    links_of(&toolbox, &caller, &id).await?.revoke(jti(&link)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn send(
    State(toolbox): State<Toolbox>,
    caller: Caller,
    Path((id, link)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let notice = links_of(&toolbox, &caller, &id).await?.send(jti(&link)?).await?;
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
    let links = links_of(toolbox, caller, id).await?;
    let (limit, before) = (query.limit()?, query.before()?);
    let hits = links.log(link, before, limit + 1).await?;
    Ok(page(toolbox, uri, hits, limit, |hit| hit.id, |hit| hit.to_json()))
}
