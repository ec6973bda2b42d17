//! One's own account: API key, programs that are logged in.

use axum::{extract::Path, http::HeaderMap, response::Response};
use minijinja::{Value, context};

use super::{Person, form::Posted, redirect};
use crate::{
    auth_token::Token,
    error::{Error, Result},
    file_request::model::rfc3339,
    toolbox::ApiAccess,
    web::{Problem, session},
};

fn token(token: &Token) -> Value {
    context! {
        exists => true,
        id => token.id.to_string(),
        client => &token.client,
        prefix => token.prefix.as_deref().unwrap_or_default(),
        created_at => rfc3339(Some(token.created_at)),
        expires_at => rfc3339(token.expires_at),
        last_used_at => rfc3339(token.last_used_at),
        last_ip => &token.last_ip,
        last_user_agent => &token.last_user_agent,
    }
}

async fn page(person: &Person, secret: Option<&str>) -> Result<Response, Problem> {
    let toolbox = person.toolbox();
    // Without a client for it, nobody has keys.
    let offered = match toolbox.auth_settings().api_access_client.as_str() {
        "" => false,
        client => toolbox.client(client).await?.is_some(),
    };
    let key = match toolbox.api_access(&person.caller).await {
        Ok(found) => Some(token(&found)),
        Err(Error::NotFound(_)) => offered.then(|| context! { exists => false }),
        Err(error) => return Err(error.into()),
    };
    let tokens = toolbox.tokens_of(&person.caller.username).await?;
    let sessions: Vec<Value> = tokens.iter().map(token).collect();
    person.page("page/account.html", context! { key, sessions, secret })
}

pub(super) async fn show(person: Person) -> Result<Response, Problem> {
    page(&person, None).await
}

/// The only page that shows the key.
pub(super) async fn make_key(posted: Posted) -> Result<Response, Problem> {
    let person = &posted.person;
    match person.toolbox().issue_api_access(&person.caller).await? {
        ApiAccess::Issued(_, secret) => page(person, Some(secret.expose())).await,
        ApiAccess::Already => redirect(person.toolbox(), "/account"),
    }
}

pub(super) async fn revoke_key(posted: Posted) -> Result<Response, Problem> {
    let person = &posted.person;
    person.toolbox().revoke_api_access(&person.caller).await?;
    person.done("/account", "key_revoked")
}

pub(super) async fn end_session(
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    let person = &posted.person;
    let token = person.toolbox().own_token(&person.caller, &id).await?;
    person.toolbox().revoke_token(token.id).await?;
    person.done("/account", "session_ended")
}

pub(super) async fn log_out_everywhere(
    headers: HeaderMap,
    posted: Posted,
) -> Result<Response, Problem> {
    let person = &posted.person;
    person.toolbox().log_out_all(&person.caller).await?;
    let mut response = redirect(person.toolbox(), "/login")?;
    if session::of(person.toolbox().base_url(), &headers).is_some() {
        let (name, value) = session::end(person.toolbox())?;
        response.headers_mut().append(name, value);
    }
    Ok(response)
}
