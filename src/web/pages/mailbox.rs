//! `/dev/mail`: the mails that were written to a folder instead of being sent.
//!
//! For development and demonstrations. People see what was sent to them, staff see all.

use std::path::{Path as FilePath, PathBuf};

use axum::{
    extract::Path,
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use mail_parser::MessageParser;
use minijinja::{Value, context};

use super::Person;
use crate::{
    auth_token::Role,
    error::{Error, Result},
    file_request::model::rfc3339,
    mail,
    web::Problem,
};

/// Mails listed.
const MOST: usize = 100;
/// Mails looked at for those.
const LOOKED_AT: usize = 1000;
/// The mail's own styles, nothing else; links open outside.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; \
    sandbox allow-popups allow-top-navigation-by-user-activation";

struct Read {
    name: String,
    subject: String,
    to: Vec<String>,
    from: String,
    id: String,
    at: Option<DateTime<Utc>>,
    text: String,
    html: Option<String>,
}

fn read(path: &FilePath) -> Option<Read> {
    let raw = std::fs::read(path).ok()?;
    let mail = MessageParser::default().parse(&raw)?;
    let addresses = |list: Option<&mail_parser::Address<'_>>| -> Vec<String> {
        let all = list.into_iter().flat_map(|list| list.iter());
        all.filter_map(|one| one.address().map(str::to_owned)).collect()
    };
    Some(Read {
        name: path.file_stem()?.to_str()?.to_owned(),
        subject: mail.subject().unwrap_or_default().to_owned(),
        to: addresses(mail.to()),
        from: addresses(mail.from()).join(", "),
        id: mail.message_id().unwrap_or_default().to_owned(),
        at: mail.date().and_then(|at| DateTime::from_timestamp(at.to_timestamp(), 0)),
        text: mail.body_text(0).map(|text| text.into_owned()).unwrap_or_default(),
        html: mail.body_html(0).map(|html| html.into_owned()),
    })
}

/// The mails of the folder, the newest first.
fn all(folder: &FilePath) -> Vec<Read> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<(std::time::SystemTime, PathBuf)> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "eml"))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    paths.sort();
    paths.into_iter().rev().take(LOOKED_AT).filter_map(|(_, path)| read(&path)).collect()
}

fn may_read(person: &Person, mail: &Read) -> bool {
    // As it stands on mails.
    let email = mail::address(&person.caller.email);
    let own = |to: &String| email.as_ref().is_ok_and(|email| *to == email.to_string());
    person.caller.role == Role::Staff || mail.to.iter().any(own)
}

/// The mail of this name.
async fn named(person: &Person, name: &str) -> Result<Read> {
    let folder = person.mailbox()?;
    let missing = || Error::NotFound("mail");
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err(missing());
    }
    let path = folder.join(format!("{name}.eml"));
    let mail = tokio::task::spawn_blocking(move || read(&path)).await.ok().flatten();
    mail.filter(|mail| may_read(person, mail)).ok_or_else(missing)
}

fn shown(mail: &Read) -> Value {
    let words = mail.text.split_whitespace();
    let link = words.into_iter().find(|word| word.starts_with("http") && word.contains("/d/"));
    context! {
        name => &mail.name,
        subject => &mail.subject,
        to => mail.to.join(", "),
        from => &mail.from,
        id => &mail.id,
        at => rfc3339(mail.at),
        text => &mail.text,
        html => mail.html.is_some(),
        link,
    }
}

pub(super) async fn list(person: Person) -> Result<Response, Problem> {
    let folder = person.mailbox()?.clone();
    let mails = tokio::task::spawn_blocking(move || all(&folder)).await.unwrap_or_default();
    let own = mails.iter().filter(|mail| may_read(&person, mail));
    let mails: Vec<Value> = own.take(MOST).map(shown).collect();
    person.page("page/mailbox.html", context! { mails })
}

pub(super) async fn show(person: Person, Path(name): Path<String>) -> Result<Response, Problem> {
    let mail = named(&person, &name).await?;
    person.page("page/mail.html", context! { mail => shown(&mail) })
}

/// The HTML twin, in a sandbox.
pub(super) async fn html(person: Person, Path(name): Path<String>) -> Result<Response, Problem> {
    let html = named(&person, &name).await?.html.ok_or(Error::NotFound("mail"))?;
    let mut response = Html(html).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
