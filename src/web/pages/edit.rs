//! Pages that edit: they take the lock, and show who has it when they cannot.

use axum::{extract::Path, http::HeaderMap, response::Response};
use minijinja::{Value, context};

use super::{Person, file, form::Posted};
use crate::{
    error::{Error, Result},
    file_request::model::rfc3339,
    lock_token::{Acquired, Ask, Resource},
    toolbox::Editor,
    web::{Problem, api::requests::request_id, identity::caller::lock_session},
};

/// Seconds that a lock lasts without a script that renews it: time to fill in a form.
const TTL: u32 = 300;

/// Takes the lock on what is edited; what `lock` is in templates.
pub(super) async fn take(
    person: &Person,
    headers: &HeaderMap,
    resource: &Resource,
) -> Result<Value> {
    let ask =
        Ask {
            session: lock_session(person.toolbox(), Some(&person.caller), headers),
            owner: Some(person.caller.username.clone()),
            ttl: Some(TTL.min(
                u32::try_from(person.toolbox().lock_settings().longest.as_secs()).unwrap_or(TTL),
            )),
            ..Ask::default()
        };
    let (app, model) = resource.kind().split_once('/').unwrap_or_default();
    let id = resource.id();
    Ok(match person.toolbox().lock(resource, ask).await? {
        Acquired::Held(held) => context! { app, model, id, token => held.token },
        Acquired::Taken(lock) => context! {
            app,
            model,
            id,
            token => "",
            owner => &lock.owner,
            reason => &lock.reason,
            since => rfc3339(Some(lock.locked_at)),
            // A worker's lease ends by itself.
            breakable => lock.is_breakable(),
        },
    })
}

/// The lock that a form was sent with, for showing the form again.
pub(super) fn keep(posted: &Posted, resource: &Resource) -> Value {
    let (app, model) = resource.kind().split_once('/').unwrap_or_default();
    let token = posted.form.filled("lock").unwrap_or_default();
    context! { app, model, id => resource.id(), token, owner => (), reason => "", since => (), breakable => false }
}

/// Whoever sends the form, with the lock that its page took.
pub(super) fn editor(posted: &Posted) -> Result<Editor<'_>> {
    let token = posted.form.filled("lock").ok_or(Error::LockRefused { held: false })?;
    Ok(Editor { name: &posted.person.caller.username, session: None, token: Some(token) })
}

/// Lets go of the lock that a form was sent with.
pub(super) async fn let_go(posted: &Posted, resource: &Resource) {
    if let Some(token) = posted.form.filled("lock") {
        // Gone already when the page's script was faster.
        let _ = posted.person.toolbox().unlock(resource, token).await;
    }
}

pub(super) async fn description(
    person: Person,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let row = file::of_path(&person, &id).await?;
    let lock = take(&person, &headers, &Resource::request(row.id)).await?;
    let own = context! {
        lock,
        back => format!("/files/{}", row.id),
        name => &row.description,
        description => &row.description,
    };
    person.page("page/file_edit.html", own)
}

pub(super) async fn save_description(
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    let person = &posted.person;
    let description = posted.form.get("description").unwrap_or_default();
    let id = request_id(&id)?;
    let row = person.requests().describe(id, description, editor(&posted)?).await?;
    let_go(&posted, &Resource::request(row.id)).await;
    person.done(&format!("/files/{}", row.id), "saved")
}
