//! A request token and its log as their readers see them: the JSON of the HTTP API and of the
//! command line.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{Denial, LoginMode, RequestToken, Use};

/// A request token.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RequestToken, examples(example))]
pub struct Shown {
    /// Its number; the claim `jti`.
    #[schema(minimum = 0)]
    pub id: i64,
    /// What it admits to; the claim `sub`.
    pub scope: String,
    /// What it does for whoever is not logged in.
    pub login_mode: LoginMode,
    /// The one it is for; null for anybody.
    #[schema(required)]
    pub user: Option<String>,
    /// When it was made; null when not known.
    #[schema(required)]
    pub issued_at: Option<DateTime<Utc>>,
    /// From when it admits; null for at once.
    #[schema(required)]
    pub not_before_time: Option<DateTime<Utc>>,
    /// Until when it admits; null for ever.
    #[schema(required)]
    pub expiration_time: Option<DateTime<Utc>>,
    /// How often it admits.
    #[schema(minimum = 0)]
    pub max_uses: i64,
    /// How often it has.
    #[schema(minimum = 0)]
    pub used_to_date: i64,
    /// Whatever its maker wants to find again. Not in the JWT.
    pub data: Value,
    /// Who made it.
    pub created_by: String,
    /// Whether it admits now.
    pub is_valid: bool,
    /// Why it does not; null when it does.
    #[schema(value_type = Option<ShownDenial>, inline, required)]
    pub denial: Option<&'static str>,
    /// The claims of its JWT.
    #[schema(additional_properties = true)]
    pub claims: Map<String, Value>,
}

/// Why a row admits nobody.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the type stands for its schema")]
enum ShownDenial {
    #[schema(rename = "token_not_yet_valid")]
    NotYetValid,
    #[schema(rename = "token_expired")]
    Expired,
    #[schema(rename = "token_used_up")]
    UsedUp,
}

impl Shown {
    /// As it is now.
    pub fn of(token: &RequestToken, now: DateTime<Utc>) -> Self {
        Shown {
            id: token.id,
            scope: token.scope.clone(),
            login_mode: token.login_mode,
            user: token.user_id.clone(),
            issued_at: token.issued_at,
            not_before_time: token.not_before_time,
            expiration_time: token.expiration_time,
            max_uses: token.max_uses.into(),
            used_to_date: token.used_to_date.into(),
            data: token.data.clone(),
            created_by: token.created_by.clone(),
            is_valid: token.is_valid(now),
            denial: token.denial(now).map(Denial::code),
            claims: token.claims(),
        }
    }
}

/// A request token that was just made.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = IssuedRequestToken, examples(issued_example))]
pub struct Issued {
    #[serde(flatten)]
    token: Shown,
    /// The token as it travels.
    jwt: String,
    /// The URL that was given, with the token in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    url: Option<String>,
}

impl Issued {
    /// A token with its JWT, and the URL with it, if one was given.
    pub fn of(token: &RequestToken, jwt: String, url: Option<String>, now: DateTime<Utc>) -> Self {
        Issued { token: Shown::of(token, now), jwt, url }
    }
}

/// A use of a request token, or a denial.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RequestTokenUse, examples(json!({
    "id": 81,
    "outcome": "used",
    "user": "amy",
    "user_agent": "Mozilla/5.0",
    "client_ip": "203.0.113.7",
    "status_code": 200,
    "timestamp": "2026-11-21T10:02:15Z",
})))]
pub struct ShownUse {
    /// Its number; grows.
    #[schema(minimum = 0)]
    pub id: i64,
    /// `used`, `given_back` when the application failed, or the code of the denial, like
    /// `token_expired`.
    pub outcome: String,
    /// Who asked; null when not known.
    #[schema(required)]
    pub user: Option<String>,
    /// By which program; `unknown` when it did not say.
    pub user_agent: String,
    /// From where; null when not known.
    #[schema(required)]
    pub client_ip: Option<String>,
    /// What was answered; null while that is not known.
    #[schema(required, minimum = 0)]
    pub status_code: Option<i64>,
    /// When.
    pub timestamp: DateTime<Utc>,
}

impl ShownUse {
    /// A line of the log.
    pub fn of(used: &Use) -> Self {
        ShownUse {
            id: used.id,
            outcome: used.outcome.clone(),
            user: used.user_id.clone(),
            user_agent: used.user_agent.clone(),
            client_ip: used.client_ip.clone(),
            status_code: used.status_code.map(i64::from),
            timestamp: used.timestamp,
        }
    }
}

fn example() -> Value {
    json!({
        "id": 17,
        "scope": "report",
        "login_mode": "none",
        "user": null,
        "issued_at": "2026-11-21T09:30:00Z",
        "not_before_time": null,
        "expiration_time": "2026-11-22T09:30:00Z",
        "max_uses": 10,
        "used_to_date": 0,
        "data": { "order": 4711 },
        "created_by": "shop",
        "is_valid": true,
        "denial": null,
        "claims": {
            "max": 10, "sub": "report", "mod": "n", "jti": "17",
            "exp": 1_795_339_800, "iat": 1_795_253_400,
        },
    })
}

fn issued_example() -> Value {
    let mut issued = example();
    let jwt =
        "eyJhbGciOiJIUzI1NiJ9.eyJqdGkiOiIxNyIsInN1YiI6InJlcG9ydCIsIm1vZCI6Im4ifQ.c2lnbmF0dXJl";
    issued["jwt"] = json!(jwt);
    issued["url"] = json!(format!("https://app.example.com/report?rt={jwt}"));
    issued
}
