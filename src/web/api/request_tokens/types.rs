//! What is given to make, edit and redeem request tokens, and what redeeming answers. Tokens and
//! their log are answered as a [`Shown`] and a [`ShownUse`](crate::request_token::ShownUse).

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    error::{Error, Result},
    request_token::{self, Changes, LoginMode, Shown},
    toolbox,
    web::{
        api::json::{Whole, given},
        openapi::parse,
    },
};

/// How the token is to be. The modes `request` and `session` need `user`; give either
/// `expiration_time` or `expires_in`; it ends after it begins.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "scope": "report",
    "max_uses": 10,
    "expires_in": 86_400,
    "data": { "order": 4711 },
    "url": "https://app.example.com/report",
})))]
pub(super) struct NewRequestToken {
    /// What it admits to: 1 to 100 visible characters.
    #[serde(default)]
    #[schema(required, min_length = 1, max_length = 100, pattern = "^[^\\x00-\\x1F\\x7F-\\x9F]*$")]
    scope: String,
    /// What it does for whoever is not logged in; `none` when null.
    #[schema(value_type = Option<LoginMode>)]
    login_mode: Option<String>,
    /// The one it is for; anybody when null.
    #[schema(min_length = 1, max_length = 200)]
    user: Option<String>,
    /// Until when it admits; for ever when null.
    expiration_time: Option<DateTime<Utc>>,
    /// Seconds from now, instead.
    #[schema(value_type = Option<u64>, minimum = 0, maximum = 4294967295_u32)]
    expires_in: Option<Whole<u32>>,
    /// From when it admits; at once when null.
    not_before_time: Option<DateTime<Utc>>,
    /// How often it admits; the configured number when null.
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 2147483647)]
    max_uses: Option<Whole<i32>>,
    /// Any JSON, to be found again.
    data: Option<Value>,
    /// To be answered with the token in it.
    pub(super) url: Option<String>,
}

impl NewRequestToken {
    pub(super) fn into_new(self, now: DateTime<Utc>) -> Result<request_token::NewRequestToken> {
        let login_mode = self.login_mode.as_deref().map(str::parse::<LoginMode>).transpose();
        let login_mode = login_mode.map_err(|message| Error::invalid("login_mode", message))?;
        let expires_in = self.expires_in.map(|after| now + TimeDelta::seconds(after.0.into()));
        if expires_in.is_some() && self.expiration_time.is_some() {
            return Err(Error::invalid("expires_in", "give either this or expiration_time"));
        }
        Ok(request_token::NewRequestToken {
            login_mode: login_mode.unwrap_or_default(),
            user_id: self.user,
            expiration_time: self.expiration_time.or(expires_in),
            not_before_time: self.not_before_time,
            data: self.data.unwrap_or_else(|| json!({})),
            max_uses: self.max_uses.map(|uses| uses.0),
            ..request_token::NewRequestToken::new(self.scope)
        })
    }
}

/// What changes; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "max_uses": 20, "expiration_time": null })))]
pub(super) struct RequestTokenEdit {
    /// What it admits to; stays when null.
    #[schema(min_length = 1, max_length = 100, pattern = "^[^\\x00-\\x1F\\x7F-\\x9F]*$")]
    scope: Option<String>,
    /// How often it admits; stays when null.
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 2147483647)]
    max_uses: Option<Whole<i32>>,
    /// Until when; for ever when null.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    expiration_time: Option<Option<DateTime<Utc>>>,
    /// From when; at once when null.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    not_before_time: Option<Option<DateTime<Utc>>>,
    /// Any JSON; stays when null.
    data: Option<Value>,
}

impl RequestTokenEdit {
    pub(super) fn into_changes(self) -> Changes {
        Changes {
            scope: self.scope,
            max_uses: self.max_uses.map(|uses| uses.0),
            expiration_time: self.expiration_time,
            not_before_time: self.not_before_time,
            data: self.data,
        }
    }
}

/// What an application learnt from its own visitor.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "token": "eyJhbGciOiJIUzI1NiJ9.eyJqdGkiOiIxNyIsInN1YiI6InJlcG9ydCIsIm1vZCI6Im4ifQ.c2lnbmF0dXJl",
    "scope": "report",
    "user": "amy",
    "client_ip": "203.0.113.7",
    "user_agent": "Mozilla/5.0",
})))]
pub(super) struct Redeem {
    /// The JWT.
    pub(super) token: String,
    /// What it is to admit to.
    pub(super) scope: String,
    /// Who is logged in there; null for nobody.
    pub(super) user: Option<String>,
    #[schema(schema_with = client_ip)]
    pub(super) client_ip: Option<IpAddr>,
    /// The visitor's program.
    #[serde(default)]
    pub(super) user_agent: String,
    /// Whether to log the use; yes when null.
    pub(super) log: Option<bool>,
}

fn client_ip() -> RefOr<Schema> {
    let address =
        |format: &str| json!({ "type": "string", "format": format, "description": "An address." });
    parse(json!({
        "description": "From where the visitor comes; null when not known.",
        "anyOf": [address("ipv4"), address("ipv6"), { "type": "null" }],
    }))
}

/// A use that was counted.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({
    "use": 81,
    "token": {
        "id": 17,
        "scope": "report",
        "login_mode": "none",
        "user": null,
        "issued_at": "2026-11-21T09:30:00Z",
        "not_before_time": null,
        "expiration_time": "2026-11-22T09:30:00Z",
        "max_uses": 10,
        "used_to_date": 1,
        "data": { "order": 4711 },
        "created_by": "shop",
        "is_valid": true,
        "denial": null,
        "claims": {
            "max": 10, "sub": "report", "mod": "n", "jti": "17",
            "exp": 1_795_339_800, "iat": 1_795_253_400,
        },
    },
    "user": "amy",
    "begins_session": false,
})))]
pub(super) struct Admission {
    /// Its number in the log; null when it is not logged.
    #[schema(required, minimum = 0)]
    r#use: Option<i64>,
    token: Shown,
    /// Who acts; null for nobody in particular.
    #[schema(required)]
    user: Option<String>,
    /// Whether to log that user in.
    begins_session: bool,
}

impl Admission {
    pub(super) fn of(
        admission: toolbox::Admission,
        number: Option<i64>,
        now: DateTime<Utc>,
    ) -> Self {
        Admission {
            r#use: number,
            token: Shown::of(&admission.token, now),
            user: admission.user,
            begins_session: admission.begins_session,
        }
    }
}

/// How an application answered its visitor.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "status": 200 })))]
pub(super) struct Conclusion {
    /// The HTTP status.
    #[schema(value_type = u16, minimum = 100, maximum = 599)]
    status: Whole<u16>,
}

impl Conclusion {
    pub(super) fn status(self) -> Result<u16> {
        let Whole(status) = self.status;
        if !(100..600).contains(&status) {
            return Err(Error::invalid("status", "must be an HTTP status, 100 to 599"));
        }
        Ok(status)
    }
}
