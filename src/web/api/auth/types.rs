//! What is given to log in, and what is answered of secrets and tokens.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};
use uuid::Uuid;

use crate::{
    auth_token::{AuthSecret, Token},
    web::openapi::{component, parse},
};

/// Who logs in, with which client.
#[derive(ToSchema)]
#[schema(examples(json!({
    "username": "amy",
    "password": "correct horse battery staple",
    "client": "web",
})))]
#[allow(dead_code, reason = "read field by field, as Django REST framework does")]
pub(super) struct Login {
    /// The user's name.
    #[schema(min_length = 1, pattern = r"^[^\x00]*$")]
    username: String,
    /// Their password.
    #[schema(min_length = 1, pattern = r"^[^\x00]*$")]
    password: String,
    /// The client's name.
    #[schema(min_length = 1, pattern = r"^[^\x00]*$")]
    client: String,
}

/// A secret.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({
    "expiry": "2026-11-22T09:30:00Z",
    "token": "bgf_3kQ9xZb7Tn5YwR2mVc8LpD4sHf6JgK1aXe0uIoNqBtMzWy1CvErS",
})))]
pub(super) struct LoggedIn {
    /// Until when the secret is good; null for ever.
    #[schema(required)]
    pub(super) expiry: Option<String>,
    /// The secret, for `Authorization`. It is shown this once.
    pub(super) token: String,
    /// Who it is, where the settings say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<Value>,
}

/// The secret's new end.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({ "expiry": "2026-11-22T09:30:00Z" })))]
pub(super) struct Refreshed {
    /// Until when the secret is good; null for ever.
    #[schema(required)]
    pub(super) expiry: Option<String>,
}

/// The caller's own API token.
#[derive(Serialize, ToSchema)]
#[schema(examples(example))]
pub(super) struct ApiAccess {
    /// The client it is of.
    client: String,
    /// When it was made.
    created: DateTime<Utc>,
    /// Until when it is good; null for ever.
    #[schema(required)]
    expiry: Option<DateTime<Utc>>,
    /// Whether its time is over.
    has_expired: bool,
    /// Its whole lifetime in words: `a day`, `10 hours`, `never`.
    expires_in_str: String,
    /// The beginning of its newest secret, to tell tokens apart.
    #[schema(required)]
    prefix: Option<String>,
    /// When it was last used; null when never.
    #[schema(required)]
    last_used: Option<DateTime<Utc>>,
    /// From where; null when not known.
    #[schema(required)]
    last_ip: Option<String>,
    /// By which program.
    last_user_agent: String,
    /// Of an API key: with what it was made, a client's name or `session`.
    #[serde(skip_serializing_if = "String::is_empty")]
    made_by: String,
}

impl ApiAccess {
    pub(super) fn of(token: &Token, now: DateTime<Utc>) -> Self {
        ApiAccess {
            client: token.client.clone(),
            created: token.created_at,
            expiry: token.expires_at,
            has_expired: token.has_expired(now),
            expires_in_str: token.expires_in(),
            prefix: token.prefix.clone(),
            last_used: token.last_used_at,
            last_ip: token.last_ip.clone(),
            last_user_agent: token.last_user_agent.clone(),
            made_by: token.made_by.clone(),
        }
    }
}

/// The caller's own API token, just made.
#[derive(Serialize, ToSchema)]
#[schema(examples(issued_example))]
pub(super) struct IssuedApiAccess {
    #[serde(flatten)]
    access: ApiAccess,
    /// The secret. It is shown this once.
    token: String,
}

impl IssuedApiAccess {
    pub(super) fn of(token: &Token, secret: &AuthSecret, now: DateTime<Utc>) -> Self {
        let access = ApiAccess::of(token, now);
        IssuedApiAccess { access, token: secret.expose().to_owned() }
    }
}

/// A token of the caller.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "4f0c1f6e-0a53-4b1d-8f5e-6f7f8c0d9a20",
    "is_current": true,
    "client": "web",
    "created": "2026-11-21T09:30:00Z",
    "expiry": "2026-11-22T09:30:00Z",
    "has_expired": false,
    "expires_in_str": "a day",
    "prefix": "bgf_3kQ9xZ",
    "last_used": "2026-11-21T09:31:10Z",
    "last_ip": "203.0.113.7",
    "last_user_agent": "Mozilla/5.0",
})))]
pub(super) struct Session {
    /// Its number.
    id: Uuid,
    /// Whether this very call is made with it.
    is_current: bool,
    #[serde(flatten)]
    access: ApiAccess,
}

impl Session {
    pub(super) fn of(token: &Token, is_current: bool, now: DateTime<Utc>) -> Self {
        Session { id: token.id, is_current, access: ApiAccess::of(token, now) }
    }
}

/// The caller's tokens: a bare list, as durin has it.
#[derive(Serialize)]
pub(super) struct SessionList(pub(super) Vec<Session>);

impl PartialSchema for SessionList {
    fn schema() -> RefOr<Schema> {
        let session = serde_json::to_value(Session::schema()).unwrap_or_default();
        parse(json!({
            "type": "array",
            "items": component(&Session::name()),
            "description": "The caller's tokens.",
            "examples": [[session["examples"][0]]],
        }))
    }
}

impl ToSchema for SessionList {
    fn schemas(found: &mut Vec<(String, RefOr<Schema>)>) {
        found.push((Session::name().into_owned(), Session::schema()));
        Session::schemas(found);
    }
}

fn example() -> Value {
    json!({
        "client": "web",
        "created": "2026-11-21T09:30:00Z",
        "expiry": "2026-11-22T09:30:00Z",
        "has_expired": false,
        "expires_in_str": "a day",
        "prefix": "bgf_3kQ9xZ",
        "last_used": "2026-11-21T09:31:10Z",
        "last_ip": "203.0.113.7",
        "last_user_agent": "Mozilla/5.0",
    })
}

fn issued_example() -> Value {
    let mut issued = example();
    issued["token"] = json!("bgf_3kQ9xZb7Tn5YwR2mVc8LpD4sHf6JgK1aXe0uIoNqBtMzWy1CvErS");
    issued
}
