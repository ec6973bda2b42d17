//! Users and clients: looking, and changing them under a lock.

use axum::{
    extract::{Path, Query},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use minijinja::{Value, context};
use serde::Deserialize;

use crate::{
    auth_token::{Client, User},
    error::{Error, Result},
    limits::TokenTtl,
    lock_token::Resource,
    toolbox::UserChanges,
    web::{
        Problem,
        pages::{Person, edit, form::Posted},
    },
};

/// Lines of the table.
const LINES: i64 = 100;

#[derive(Deserialize)]
pub(in crate::web::pages) struct After {
    after: Option<String>,
}

pub(in crate::web::pages) async fn list(
    person: Person,
    Query(page): Query<After>,
) -> Result<Response, Problem> {
    let accounts = person.accounts()?;
    let after = page.after.filter(|name| !name.contains('\0'));
    let mut users = accounts.users(after.as_deref(), LINES + 1).await?;
    let more = users.len() as i64 > LINES;
    users.truncate(LINES as usize);
    let next = users.last().filter(|_| more).map(|user| user.username.clone());
    let users: Vec<Value> = users
        .iter()
        .map(|user| {
            context! {
                id => user.id.to_string(),
                username => &user.username,
                email => &user.email,
                role => user.role.as_str(),
                active => user.is_active,
            }
        })
        .collect();
    let clients: Vec<Value> = accounts
        .clients()
        .await?
        .iter()
        .map(|client| {
            context! {
                id => client.id.to_string(),
                name => &client.name,
                ttl => client.token_ttl,
                rate => &client.throttle_rate,
                tokens => client.tokens.as_str(),
            }
        })
        .collect();
    person.page("page/operate/accounts.html", context! { users, next, clients })
}

async fn find_user(person: &Person, id: &str) -> Result<User> {
    person.accounts()?.user(id.parse().map_err(|_| Error::NotFound("user"))?).await
}

async fn show_user(
    person: &Person,
    user: &User,
    lock: Value,
    error: Option<String>,
) -> Result<Response, Problem> {
    let tokens = person.toolbox().tokens_of(&user.username).await?;
    let own = context! {
        lock,
        error,
        id => user.id.to_string(),
        username => &user.username,
        email => &user.email,
        role => user.role.as_str(),
        active => user.is_active,
        tokens => tokens.len(),
    };
    person.page("page/operate/user.html", own)
}

pub(in crate::web::pages) async fn user(
    person: Person,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let user = find_user(&person, &id).await?;
    let lock = edit::take(&person, &headers, &Resource::user(user.id)).await?;
    show_user(&person, &user, lock, None).await
}

pub(in crate::web::pages) async fn save_user(
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    let person = &posted.person;
    let user = find_user(person, &id).await?;
    let resource = Resource::user(user.id);
    let role = posted.form.filled("role").unwrap_or(user.role.as_str()).parse();
    let role = role.map_err(|message: String| Error::invalid("role", message))?;
    let changes = UserChanges {
        email: Some(posted.form.filled("email").unwrap_or_default().to_owned()),
        role: Some(role),
        is_active: Some(posted.form.get("active") == Some("true")),
        revoke_links: user.is_active && posted.form.get("active") != Some("true"),
    };
    let editor = edit::editor(&posted)?;
    match person.accounts()?.update_user(&user, &changes, editor).await {
        Ok(()) => {
            edit::let_go(&posted, &resource).await;
            person.done("/operate/accounts", "saved")
        }
        Err(error @ Error::Invalid(_)) => {
            let typed = User {
                email: posted.form.get("email").unwrap_or_default().to_owned(),
                role,
                is_active: posted.form.get("active") == Some("true"),
                ..user
            };
            let lock = edit::keep(&posted, &resource);
            let mut response =
                show_user(person, &typed, lock, Some(error.public_message())).await?;
            *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
            Ok(response)
        }
        Err(error) => Err(error.into()),
    }
}

pub(in crate::web::pages) async fn log_out_user(
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    let person = &posted.person;
    let user = find_user(person, &id).await?;
    person.accounts()?.log_out(&user).await?;
    person.done("/operate/accounts", "logged_out")
}

async fn find_client(person: &Person, id: &str) -> Result<Client> {
    let clients = person.accounts()?.clients().await?;
    let found = clients.into_iter().find(|client| client.id.to_string() == id);
    found.ok_or(Error::NotFound("client"))
}

/// Lifetime, rate and policy as the form shows them.
fn fields(client: &Client) -> [String; 3] {
    let ttl = client.token_ttl.map_or_else(|| "never".into(), |seconds| format!("{seconds}s"));
    [ttl, client.throttle_rate.clone(), client.tokens.as_str().to_owned()]
}

fn show_client(
    person: &Person,
    client: &Client,
    [ttl, rate, tokens]: [String; 3],
    lock: Value,
    error: Option<String>,
) -> Result<Response, Problem> {
    let own = context! { lock, error, name => &client.name, ttl, rate, tokens };
    person.page("page/operate/client.html", own)
}

pub(in crate::web::pages) async fn client(
    person: Person,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let client = find_client(&person, &id).await?;
    let lock = edit::take(&person, &headers, &Resource::client(client.id)).await?;
    show_client(&person, &client, fields(&client), lock, None)
}

/// The client as the form wants it.
fn wanted(posted: &Posted, client: Client) -> Result<Client> {
    let ttl = posted.form.filled("ttl").unwrap_or("never").parse::<TokenTtl>();
    let tokens = posted.form.filled("tokens").unwrap_or(client.tokens.as_str()).parse();
    Ok(Client {
        token_ttl: ttl.map_err(|message| Error::invalid("ttl", message))?.seconds(),
        throttle_rate: posted.form.filled("rate").unwrap_or_default().to_owned(),
        tokens: tokens.map_err(|message: String| Error::invalid("tokens", message))?,
        ..client
    })
}

async fn change_client(posted: &Posted, client: Client) -> Result<()> {
    let client = wanted(posted, client)?;
    let editor = edit::editor(posted)?;
    posted.person.accounts()?.update_client(&client, editor).await
}

pub(in crate::web::pages) async fn save_client(
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    let person = &posted.person;
    let client = find_client(person, &id).await?;
    let resource = Resource::client(client.id);
    match change_client(&posted, client.clone()).await {
        Ok(()) => {
            edit::let_go(&posted, &resource).await;
            person.done("/operate/accounts", "saved")
        }
        Err(error @ Error::Invalid(_)) => {
            let lock = edit::keep(&posted, &resource);
            let typed = [
                posted.form.get("ttl").unwrap_or_default().to_owned(),
                posted.form.get("rate").unwrap_or_default().to_owned(),
                posted.form.get("tokens").unwrap_or_default().to_owned(),
            ];
            let mut response =
                show_client(person, &client, typed, lock, Some(error.public_message()))?;
            *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
            Ok(response)
        }
        Err(error) => Err(error.into()),
    }
}
