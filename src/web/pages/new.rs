//! "New file": the file types one may use, and the form of one.

use axum::{
    extract::Path,
    http::{StatusCode, Uri},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use minijinja::{Value, context};
use sha2::{Digest, Sha256};

use super::{Person, criteria, form::Posted, redirect};
use crate::{
    error::{Error, FieldError, Result},
    file_request::{Criteria, NewFileRequest, Requester},
    ids::{hex, random_bytes},
    toolbox::{Deliver, IdempotencyKey, Response as Made},
    web::{Problem, api::requests::inline},
};

/// File types that this person may ask for, as templates show them.
pub(super) fn types(person: &Person) -> Vec<Value> {
    let shown = person.requests().file_types().map(|handler| {
        context! {
            name => handler.file_type(),
            title => handler.title(person.view.language),
            formats => handler.formats().to_vec(),
        }
    });
    shown.collect()
}

pub(super) async fn choose(person: Person) -> Result<Response, Problem> {
    person.page("page/new.html", context! { types => types(&person) })
}

/// What the form shows instead of its defaults.
#[derive(Default)]
struct Filled<'a> {
    criteria: &'a [(String, String)],
    format: &'a str,
    description: &'a str,
    deliver: &'a str,
    errors: &'a [FieldError],
}

fn show(person: &Person, file_type: &str, filled: &Filled<'_>) -> Result<Response, Problem> {
    let handler = person.requests().file_type(file_type)?;
    let (language, zone) = (person.view.language, person.view.timezone);
    let schema = handler.criteria_schema(language);
    let formats = handler.formats().to_vec();
    let errors: Vec<Value> = filled
        .errors
        .iter()
        .map(|error| {
            let name = error.field.strip_prefix("criteria.");
            let property = name.map(|name| &schema["properties"][name]).filter(|p| !p.is_null());
            let label = property.and_then(|p| p["title"].as_str()).or(name).unwrap_or(&error.field);
            let id = name.filter(|_| property.is_some()).map(|name| format!("c-{name}"));
            context! { id, label, message => &error.message }
        })
        .collect();
    let chosen =
        if filled.format.is_empty() { formats.first().copied() } else { Some(filled.format) };
    let own = context! {
        file_type,
        title => handler.title(language),
        fields => criteria::fields(&schema, filled.criteria, zone, filled.errors),
        formats,
        chosen,
        description => filled.description,
        deliver => if filled.deliver.is_empty() { "later" } else { filled.deliver },
        nonce => URL_SAFE_NO_PAD.encode(random_bytes::<16>()),
        errors,
    };
    person.page("page/new_file.html", own)
}

/// The query fills in criteria, so that applications can link to a form: `/new/flights?origin=JFK`.
pub(super) async fn form(
    person: Person,
    Path(file_type): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = uri.query().unwrap_or_default().as_bytes();
    let given: Vec<(String, String)> = url::form_urlencoded::parse(query).into_owned().collect();
    show(&person, &file_type, &Filled { criteria: &given, ..Filled::default() })
}

pub(super) async fn ask(
    Path(file_type): Path<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    let Posted { person, form } = &posted;
    let handler = person.requests().file_type(&file_type)?;
    let schema = handler.criteria_schema(person.view.language);
    let given = criteria::read(&schema, form.pairs(), person.view.timezone);
    match record(&posted, &file_type, &given).await {
        Err(Error::Invalid(errors)) => {
            let filled = Filled {
                criteria: &given,
                format: form.get("format").unwrap_or_default(),
                description: form.get("description").unwrap_or_default(),
                deliver: form.get("deliver").unwrap_or_default(),
                errors: &errors,
            };
            let mut response = show(person, &file_type, &filled)?;
            *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
            Ok(response)
        }
        other => Ok(other?),
    }
}

async fn record(posted: &Posted, file_type: &str, given: &[(String, String)]) -> Result<Response> {
    let Posted { person, form } = posted;
    let toolbox = person.toolbox();
    let deliver = form.filled("deliver").unwrap_or("later").parse::<Deliver>();
    let caller = &person.caller;
    let new = NewFileRequest {
        file_type: file_type.parse()?,
        criteria: Criteria::from_pairs(given.iter().cloned())?,
        format: form.filled("format").map(str::to_owned),
        requester: Requester { id: Some(caller.username.clone()), email: caller.email.clone() },
        filename: None,
        description: form.filled("description").map(str::to_owned),
        language: Some(person.view.language.to_owned()),
        timezone: Some(person.view.timezone.name().to_owned()),
        requester_only: None,
        notify: None,
    };
    // A second click on the button asks for nothing more.
    let fingerprint = hex(&Sha256::digest(&form.bytes));
    let key = form.filled("nonce").filter(|nonce| nonce.len() <= 100).map(|key| IdempotencyKey {
        caller: &caller.username,
        key,
        fingerprint: &fingerprint,
        before: None,
    });
    let deliver = deliver.map_err(|message| Error::invalid("deliver", message))?;
    match person.requests().ask(new, deliver, key).await? {
        Made::Now(file) => inline(file),
        Made::Later(row) | Made::Earlier(row) => {
            if let Some(page) = toolbox.registry().get(file_type)?.delayed_page(&row) {
                return Ok((StatusCode::ACCEPTED, Html(page)).into_response());
            }
            Ok(redirect(toolbox, &format!("/files/{}?fresh=1", row.id)).into_response())
        }
    }
}
