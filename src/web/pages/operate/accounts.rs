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
    person.staff()?;
    let toolbox = person.toolbox();
    let after = page.after.filter(|name| !name.contains('\0'));
    let mut users = toolbox.own_users(after.as_deref(), LINES + 1).await?;
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
    let clients: Vec<Value> = toolbox
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
    let id = id.parse().map_err(|_| Error::NotFound("user"))?;
    person.toolbox().own_user_by_id(id).await?.ok_or(Error::NotFound("user"))
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

fn user_resource(user: &User) -> Result<Resource> {
    Resource::new("bgfiles", "user", user.id)
}

pub(in crate::web::pages) async fn user(
    person: Person,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    person.staff()?;
    let user = find_user(&person, &id).await?;
    let lock = edit::take(&person, &headers, &user_resource(&user)?).await?;
    show_user(&person, &user, lock, None).await
}

pub(in crate::web::pages) async fn save_user(
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    let person = &posted.person;
    person.staff()?;
    let toolbox = person.toolbox();
    let user = find_user(person, &id).await?;
    let resource = user_resource(&user)?;
    let role = posted.form.filled("role").unwrap_or(user.role.as_str()).parse();
    let role = role.map_err(|message: String| Error::invalid("role", message))?;
    let changes = UserChanges {
        email: Some(posted.form.filled("email").unwrap_or_default().to_owned()),
        role: Some(role),
        is_active: Some(posted.form.get("active") == Some("true")),
        revoke_links: user.is_active && posted.form.get("active") != Some("true"),
    };
    let own = user.username == person.caller.username;
    if own && (changes.is_active != Some(true) || role != user.role) {
        let message = "you cannot take your own rights away; ask another operator";
        return Err(Error::Conflict { code: "own_account", message: message.into() }.into());
    }
    let detail = format!(
        "email {}, role {}, {}",
        changes.email.as_deref().unwrap_or_default(),
        role.as_str(),
        if changes.is_active == Some(true) { "active" } else { "inactive" }
    );
    let editor = edit::editor(&posted)?;
    match toolbox.update_user_as(&user, changes, editor, &resource, &detail).await {
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
    person.staff()?;
    let user = find_user(person, &id).await?;
    // The line first: what is tried and fails is better told than what is done and not.
    let mut tx = person.toolbox().db.begin().await?;
    let actor = &person.caller.username;
    person.toolbox().audit(&mut tx, actor, "user.log_out", &user.username, "").await?;
    tx.commit().await?;
    person.toolbox().revoke_all(&user.username).await?;
    person.done("/operate/accounts", "logged_out")
}

async fn find_client(person: &Person, id: &str) -> Result<Client> {
    let clients = person.toolbox().clients().await?;
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

fn client_resource(client: &Client) -> Result<Resource> {
    Resource::new("bgfiles", "client", client.id)
}

pub(in crate::web::pages) async fn client(
    person: Person,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    person.staff()?;
    let client = find_client(&person, &id).await?;
    let lock = edit::take(&person, &headers, &client_resource(&client)?).await?;
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

async fn change_client(posted: &Posted, client: Client, resource: &Resource) -> Result<()> {
    let toolbox = posted.person.toolbox();
    let client = wanted(posted, client)?;
    let token = posted.form.filled("lock").ok_or(Error::LockRefused { held: false })?;
    let mut tx = toolbox.db.begin().await?;
    toolbox.guard_lock(&mut tx, resource, token, None).await?;
    toolbox.update_client(&mut tx, &client).await?;
    let detail = format!(
        "ttl {}, rate {}, tokens {}",
        client.token_ttl.map_or("never".into(), |ttl| format!("{ttl}s")),
        client.throttle_rate,
        client.tokens.as_str()
    );
    let actor = &posted.person.caller.username;
    toolbox.audit(&mut tx, actor, "client.update", &client.name, &detail).await?;
    tx.commit().await?;
    toolbox.memory().watch.changed().await;
    Ok(())
}

pub(in crate::web::pages) async fn save_client(
    Path(id): Path<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    let person = &posted.person;
    person.staff()?;
    let client = find_client(person, &id).await?;
    let resource = client_resource(&client)?;
    match change_client(&posted, client.clone(), &resource).await {
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
