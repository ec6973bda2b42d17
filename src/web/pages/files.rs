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
    file_request::{NewFileRequest, Requester, store},
    toolbox::{Editor, Expected, LinkOptions},
    web::{
        Problem,
        locks::session_of,
        requests::{before, cursor, note, start_anew},
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
    let toolbox = person.toolbox();
    let filter = store::Filter {
        requester: Some(person.caller.username.clone()),
        before: before(page.cursor.as_deref())?,
        ..store::Filter::default()
    };
    let mut rows = store::list(&mut toolbox.db.acquire().await?, &filter, CARDS + 1).await?;
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
    let row = file::of_path(&person, &id).await?;
    let history = person.toolbox().history(row.id).await?;
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
    let row = file::of_path(person, &id).await?;
    let mut tx = person.toolbox().db.begin().await?;
    person.toolbox().cancel(&mut tx, row.id).await?;
    note(person.toolbox(), &person.caller, &mut tx, &row, "cancel", "").await?;
    tx.commit().await?;
    person.done(posted.next(&format!("/files/{id}")), "cancelled")
}

pub(super) async fn retry(Path(id): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let person = &posted.person;
    let row = file::of_path(person, &id).await?;
    start_anew(person.toolbox(), &person.caller, &row, &Expected::Anything).await?;
    person.done(posted.next(&format!("/files/{id}")), "retried")
}

/// Asks for the same once more, for the same requester.
pub(super) async fn again(Path(id): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let person = &posted.person;
    let toolbox = person.toolbox();
    let row = file::of_path(person, &id).await?;
    super::new::may_ask(person, row.file_type.as_str())?;
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let new = NewFileRequest {
        file_type: row.file_type.clone(),
        criteria: row.criteria()?,
        format: given(&row.format),
        requester: Requester { id: row.requester.clone(), email: row.requester_email.clone() },
        filename: None,
        description: given(&row.description),
        language: given(&row.requester_language),
        timezone: given(&row.requester_timezone),
        // It was loosened for that one request only.
        requester_only: row.requester_only.filter(|only| *only),
        notify: Some(row.notify),
    };
    let mut tx = toolbox.db.begin().await?;
    let fresh = toolbox.add_request(&mut tx, new).await?;
    note(person.toolbox(), &person.caller, &mut tx, &row, "again", &fresh.id.to_string()).await?;
    tx.commit().await?;
    redirect(toolbox, &format!("/files/{}?fresh=1", fresh.id))
}

pub(super) async fn delete(
    Path(id): Path<String>,
    headers: axum::http::HeaderMap,
    posted: Posted,
) -> Result<Response, Problem> {
    let person = &posted.person;
    let toolbox = person.toolbox();
    let row = file::of_path(person, &id).await?;
    let session = session_of(person.toolbox(), Some(&person.caller), &headers);
    let editor = Editor { name: &person.caller.username, session, token: None };
    toolbox.delete_as(row.id, &person.caller, editor, &Expected::Anything).await?;
    let own = row.requester.as_deref() == Some(person.caller.username.as_str());
    person.done(if own { "/files" } else { "/operate/requests" }, "deleted")
}

fn number(posted: &Posted, field: &str, most: u32) -> Result<Option<NonZeroU32>> {
    let Some(text) = posted.form.filled(field) else { return Ok(None) };
    let number = text.parse().ok().filter(|n: &NonZeroU32| n.get() <= most);
    let wrong = || Error::invalid(field, format!("must be a whole number from 1 to {most}"));
    number.map(Some).ok_or_else(wrong)
}

/// Makes a link to share, for whom the file type and the request say.
pub(super) async fn share(Path(id): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let person = &posted.person;
    let row = file::of_path(person, &id).await?;
    let days = number(&posted, "days", 3650)?;
    let options = LinkOptions {
        max_uses: number(&posted, "max_uses", 1_000_000)?.map(Some),
        max_age: days.map(|days| Duration::from_secs(u64::from(days.get()) * 86_400)),
        created_by: person.caller.username.clone(),
        role: person.caller.role,
        ..LinkOptions::default()
    };
    let mut tx = person.toolbox().db.begin().await?;
    let (link, _) = person.toolbox().create_link(&mut tx, &row, options).await?;
    note(person.toolbox(), &person.caller, &mut tx, &row, "link", &link.jti.to_string()).await?;
    tx.commit().await?;
    person.done(&format!("/files/{id}#share"), "linked")
}

pub(super) async fn revoke(
    Path((id, jti)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Problem> {
    let person = &posted.person;
    let row = file::of_path(person, &id).await?;
    let jti = jti.parse().map_err(|_| Error::NotFound("link"))?;
    let mut tx = person.toolbox().db.begin().await?;
    person.toolbox().revoke_link(&mut tx, &row, jti).await?;
    note(person.toolbox(), &person.caller, &mut tx, &row, "revoke", &jti.to_string()).await?;
    tx.commit().await?;
    person.done(&format!("/files/{id}#share"), "revoked")
}
