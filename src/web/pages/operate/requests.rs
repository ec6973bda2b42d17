//! Requests of everyone: finding them, and putting one right.

use axum::{
    extract::{Path, Query},
    response::Response,
};
use minijinja::{Value, context};
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    file_request::Status,
    toolbox::{RequestFilter, SEARCHED},
    web::{
        Problem,
        api::requests::{before, cursor, request_id},
        pages::{Person, file, form::Posted},
    },
};

/// Lines of the table.
const LINES: i64 = 50;

#[derive(Default, Deserialize)]
pub(in crate::web::pages) struct Which {
    #[serde(default)]
    q: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    file_type: String,
    #[serde(default)]
    requester: String,
    cursor: Option<String>,
}

/// Every file type that there is.
fn types(person: &Person) -> Vec<Value> {
    let handlers = person.toolbox().registry().iter();
    let language = person.view.language;
    let all = handlers.map(|h| context! { name => h.file_type(), title => h.title(language) });
    all.collect()
}

pub(in crate::web::pages) async fn list(
    person: Person,
    Query(which): Query<Which>,
) -> Result<Response, Problem> {
    person.operator()?;
    list_with(&person, &which, None).await
}

/// The list, with the text of something that is wrong.
pub(super) async fn list_with(
    person: &Person,
    which: &Which,
    wrong: Option<&str>,
) -> Result<Response, Problem> {
    let toolbox = person.toolbox();
    let given = |text: &str| {
        let text = text.trim();
        (!text.is_empty()).then(|| text.replace('\0', "\u{fffd}"))
    };
    let status = given(&which.status).map(|text| text.parse()).transpose();
    let filter = RequestFilter {
        status: status.map_err(|message: String| Error::invalid("status", message))?,
        file_type: given(&which.file_type),
        requester: given(&which.requester),
        search: given(&which.q),
        before: before(which.cursor.as_deref())?,
    };
    let mut rows = person.requests().list(filter, LINES + 1).await?;
    let more = rows.len() as i64 > LINES;
    rows.truncate(LINES as usize);
    let next = rows.last().filter(|_| more).map(|last| {
        let last = cursor(last);
        let pairs = [
            ("q", &which.q),
            ("status", &which.status),
            ("file_type", &which.file_type),
            ("requester", &which.requester),
            ("cursor", &last),
        ];
        let query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        toolbox.base_url().path(&format!("/operate/requests?{query}"))
    });
    let files: Vec<Value> = rows.iter().map(|row| file::card(person, row)).collect();
    let own = context! {
        files,
        next,
        wrong,
        q => &which.q,
        searched => SEARCHED,
        status => &which.status,
        statuses => Status::ALL.map(Status::as_str),
        file_type => &which.file_type,
        types => types(person),
        requester => &which.requester,
    };
    person.page("page/operate/requests.html", own)
}

/// One action.
pub(super) async fn act(person: &Person, id: &str, action: &str) -> Result<()> {
    let (requests, id) = (person.requests(), request_id(id)?);
    match action {
        "retry" => requests.retry(id).await.map(drop),
        "cancel" => requests.cancel(id).await.map(drop),
        "expire" => requests.expire(id).await.map(drop),
        "mail" => requests.mail_again(id).await.map(drop),
        _ => Err(Error::invalid("action", "must be retry, cancel, expire or mail")),
    }
}

pub(in crate::web::pages) async fn expire(
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    one(&id, &posted, "expire", "expired").await
}

pub(in crate::web::pages) async fn mail(
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    one(&id, &posted, "mail", "mailed").await
}

async fn one(id: &str, posted: &Posted, action: &str, done: &str) -> Result<Response, Problem> {
    posted.person.operator()?;
    act(&posted.person, id, action).await?;
    posted.person.done(&format!("/files/{}", request_id(id)?), done)
}
