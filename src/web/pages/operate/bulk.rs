//! Several requests at once.

use axum::{http::StatusCode, response::Response};
use minijinja::{Value, context};

use super::requests::{Which, act, list_with};
use crate::{
    error::Error,
    web::{
        Problem,
        pages::{Person, file, form::Posted},
    },
};

/// Requests that one form handles.
const MOST: usize = 200;
/// Where it goes on to by itself.
const LIST: &str = "/operate/requests";

pub(in crate::web::pages) async fn bulk(posted: Posted) -> Result<Response, Problem> {
    posted.person.operator()?;
    let ids: Vec<&str> = posted.form.all("id").collect();
    if ids.is_empty() {
        return nothing_ticked(posted).await;
    }
    if ids.len() > MOST {
        let message = format!("{} at once, and at most {MOST} can be", ids.len());
        return Err(Error::invalid("id", message).into());
    }
    let action = posted.form.filled("action").unwrap_or_default();
    // What cannot be undone is asked about first.
    if action == "expire" && posted.form.get("sure") != Some("yes") {
        return ask(&posted, &ids).await;
    }
    let person = &posted.person;
    let (mut succeeded, mut failed) = (0, Vec::new());
    for id in ids {
        match act(person, id, action).await {
            Ok(()) => succeeded += 1,
            Err(error @ Error::Invalid(_)) => return Err(error.into()),
            Err(error) => failed.push(context! { id, message => error.public_message() }),
        }
    }
    if failed.is_empty() {
        return person.done(posted.next(LIST), "bulk");
    }
    let next = person.toolbox().base_url().path(posted.next(LIST));
    person.page("page/operate/bulk.html", context! { succeeded, failed, next })
}

/// The list again, as it was, with a word on what is missing.
async fn nothing_ticked(posted: Posted) -> Result<Response, Problem> {
    let next = posted.next(LIST).to_owned();
    let query = next.split_once('?').map_or("", |(_, query)| query);
    let which: Which = serde_urlencoded::from_str(query).unwrap_or_default();
    let Person { caller, view, state } = posted.person;
    let person = Person { caller, view: view.at(&next), state };
    let mut response = list_with(&person, &which, Some("bulk.none")).await?;
    *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    Ok(response)
}

async fn ask(posted: &Posted, ids: &[&str]) -> Result<Response, Problem> {
    let person = &posted.person;
    let mut files: Vec<Value> = Vec::new();
    for id in ids {
        match file::of_path(person, id).await {
            Ok(row) => files.push(file::card(person, &row)),
            // Somebody else deleted it meanwhile.
            Err(Error::NotFound(_)) if ids.len() > 1 => {}
            Err(error) => return Err(error.into()),
        }
    }
    let next = posted.next(LIST);
    let back = person.toolbox().base_url().path(next);
    person.page("page/operate/expire.html", context! { files, next, back })
}
