//! "My files": the list, one file, and what can be done with it.

use std::{num::NonZeroU32, time::Duration};

use axum::{
    extract::{Path, Query},
    response::Response,
};
use minijinja::{Value, context};
use serde::Deserialize;

use super::{Person, State, file, form::Posted, redirect};
use crate::{
    error::{Error, Result},
    toolbox::{Editor, LinkOptions, LinksOf, RequestFilter},
    web::{
        Problem,
        api::requests::{before, cursor, request_id},
        identity::caller::lock_session,
    },
};

/// Cards on one page.
const CARDS: i64 = 20;

pub(super) async fn start(axum::extract::State(state): State) -> Result<Response, Problem> {
    redirect(&state.toolbox, "/files")
}

#[derive(Deserialize)]
pub(super) struct Page {
    cursor: Option<String>,
}

pub(super) async fn list(person: Person, Query(page): Query<Page>) -> Result<Response, Problem> {
    let filter = RequestFilter {
        requester: Some(person.caller.username.clone()),
        before: before(page.cursor.as_deref())?,
        ..RequestFilter::default()
    };
    let mut rows = person.requests().list(filter, CARDS + 1).await?;
    let more = rows.len() as i64 > CARDS;
    rows.truncate(CARDS as usize);
    let next = rows.last().filter(|_| more).map(cursor);
    let live = rows.iter().any(|row| !row.status.is_terminal());
    let files: Vec<Value> = rows.iter().map(|row| file::card(&person, row)).collect();
    person.page("page/files.html", context! { files, next, live })
}

#[derive(Deserialize)]
pub(super) struct Fresh {
    #[serde(default)]
    fresh: String,
}

pub(super) async fn show(
    person: Person,
    Path(id): Path<String>,
    Query(query): Query<Fresh>,
) -> Result<Response, Problem> {
    let (row, history) = person.requests().history(request_id(&id)?).await?;
    let own = context! {
        f => file::card(&person, &row),
        links => file::links(person.toolbox(), &row, &history.links),
        more_links => history.more_links,
        share => file::share(&person, &row),
        timeline => file::timeline(&person, &row, &history),
        fresh => !query.fresh.is_empty(),
    };
    person.page("page/file.html", own)
}

pub(super) async fn cancel(Path(id): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let person = &posted.person;
    person.requests().cancel(request_id(&id)?).await?;
    person.done(posted.next(&format!("/files/{id}")), "cancelled")
}

pub(super) async fn retry(Path(id): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let person = &posted.person;
    person.requests().retry(request_id(&id)?).await?;
    person.done(posted.next(&format!("/files/{id}")), "retried")
}

/// Asks for the same once more, for the same requester.
pub(super) async fn again(Path(id): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let person = &posted.person;
    let fresh = person.requests().again(request_id(&id)?).await?;
    redirect(person.toolbox(), &format!("/files/{}?fresh=1", fresh.id))
}

pub(super) async fn delete(
    Path(id): Path<String>,
    headers: axum::http::HeaderMap,
    posted: Posted,
) -> Result<Response, Problem> {
    let person = &posted.person;
    let session = lock_session(person.toolbox(), Some(&person.caller), &headers);
    let editor = Editor { name: &person.caller.username, session, token: None };
    let requests = person.requests();
    let row = requests.delete(request_id(&id)?, editor).await?;
    person.done(if requests.owns(&row) { "/files" } else { "/operate/requests" }, "deleted")
}

fn number(posted: &Posted, field: &str, most: u32) -> Result<Option<NonZeroU32>> {
    let Some(text) = posted.form.filled(field) else { return Ok(None) };
    let number = text.parse().ok().filter(|n: &NonZeroU32| n.get() <= most);
    let wrong = || Error::invalid(field, format!("must be a whole number from 1 to {most}"));
    number.map(Some).ok_or_else(wrong)
}

/// The links of the request that a path names, if it is theirs to see.
async fn links_of<'a>(person: &'a Person, id: &str) -> Result<LinksOf<'a>> {
    person.toolbox().links().by(&person.caller).of(request_id(id)?).await
}

/// Makes a link to share, for whom the file type and the request say.
pub(super) async fn share(Path(id): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let person = &posted.person;
    let links = links_of(person, &id).await?;
    let days = number(&posted, "days", 3650)?;
    let options = LinkOptions {
        max_uses: number(&posted, "max_uses", 1_000_000)?.map(Some),
        max_age: days.map(|days| Duration::from_secs(u64::from(days.get()) * 86_400)),
        ..LinkOptions::default()
    };
    links.create(options).await?;
    person.done(&format!("/files/{id}#share"), "linked")
}

pub(super) async fn revoke(
    Path((id, jti)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Problem> {
    let person = &posted.person;
    let links = links_of(person, &id).await?;
    links.revoke(jti.parse().map_err(|_| Error::NotFound("link"))?).await?;
    person.done(&format!("/files/{id}#share"), "revoked")
}
