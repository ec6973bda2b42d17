//! What is given to make or edit a link, and what is answered of links and what happened to them.

use std::{num::NonZeroU32, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    file_request::links::{Event, HitRow},
    toolbox::{self, LinkOptions},
    web::api::json::{Whole, given},
};

/// The notice that will carry the link.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({ "message_id": "9b2f3a52.link.7f8c0d9a@files.example.com" })))]
pub(super) struct SentLink {
    /// The `Message-ID` of the mail, without angle brackets.
    pub(super) message_id: String,
}

/// What happened to a link: what was alike within a minute, together.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({
    "id": 412,
    "jti": "4f0c1f6e-0a53-4b1d-8f5e-6f7f8c0d9a20",
    "event": "complete",
    "reason": null,
    "first_byte": 0,
    "bytes": 7_340_032,
    "client_ip": "203.0.113.7",
    "user_agent": "Mozilla/5.0",
    "user": null,
    "timestamp": "2026-11-21T10:02:15Z",
    "count": 1,
})))]
pub(super) struct Hit {
    /// Its number; grows.
    #[schema(minimum = 0)]
    id: i64,
    /// Which link; null of one without a row.
    #[schema(required)]
    jti: Option<Uuid>,
    #[schema(value_type = Event, inline)]
    event: String,
    /// Why it was denied: a code; else null.
    #[schema(required)]
    reason: Option<String>,
    /// The first byte sent, counted from 0; null for none, and for several.
    #[schema(required, minimum = 0)]
    first_byte: Option<i64>,
    /// How many bytes were sent in all; null for none.
    #[schema(required, minimum = 0)]
    bytes: Option<i64>,
    /// From where; null when not known.
    #[schema(required)]
    client_ip: Option<String>,
    /// By which program, as it says.
    user_agent: String,
    /// Who was logged in; null for nobody.
    #[schema(required)]
    user: Option<String>,
    /// When the first of them was; the others are of the same minute.
    timestamp: DateTime<Utc>,
    /// How many there were that are alike.
    #[schema(minimum = 0)]
    count: i64,
}

impl Hit {
    pub(super) fn of(row: &HitRow) -> Self {
        Hit {
            id: row.id,
            jti: row.jti,
            event: row.event.clone(),
            reason: row.reason.clone(),
            first_byte: row.first_byte,
            bytes: row.bytes,
            client_ip: row.client_ip.clone(),
            user_agent: row.user_agent.clone(),
            user: row.user_id.clone(),
            timestamp: row.timestamp,
            count: row.times,
        }
    }
}

/// How the link is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "max_age": 86_400, "max_uses": 3, "scanner_safe": true })))]
pub(super) struct NewLink {
    /// Whether the requester alone may use it; as the request says when null. `false` where that
    /// says otherwise is for `service` and `staff`, and for nobody where the file type says
    /// `always`.
    requester_only: Option<bool>,
    /// Seconds that it works; as the file type says, and as long as the file stays at most, when
    /// null.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 4294967295_u32)]
    max_age: Option<Whole<u32>>,
    /// From when it works; at once when null.
    not_before: Option<DateTime<Utc>>,
    /// How often it can be redeemed; without a limit when null, as the file type says when left
    /// out.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 2147483647)]
    max_uses: Option<Option<Whole<u32>>>,
    /// Whether opening it shows a page first, which limited links do; as the file type says when
    /// null.
    scanner_safe: Option<bool>,
    /// Signed along in the token; 2048 bytes of JSON at most.
    #[serde(default)]
    #[schema(additional_properties = true)]
    data: Map<String, Value>,
}

impl NewLink {
    pub(super) fn into_options(self) -> Result<LinkOptions> {
        Ok(LinkOptions {
            requester_only: self.requester_only,
            max_age: age(self.max_age)?,
            not_before: self.not_before,
            max_uses: self.max_uses.map(uses).transpose()?,
            scanner_safe: self.scanner_safe,
            data: self.data,
            ..LinkOptions::default()
        })
    }
}

/// What changes; what is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({ "max_age": 86_400, "max_uses": null })))]
pub(super) struct LinkEdit {
    /// Seconds that it works from now on; stays when null.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 4294967295_u32)]
    max_age: Option<Whole<u32>>,
    /// From when it works; at once when null.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    not_before: Option<Option<DateTime<Utc>>>,
    /// How often in all; without a limit when null.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 2147483647)]
    max_uses: Option<Option<Whole<u32>>>,
    /// Whether opening it shows a page first; stays when null.
    scanner_safe: Option<bool>,
}

impl LinkEdit {
    pub(super) fn into_edit(self) -> Result<toolbox::LinkEdit> {
        Ok(toolbox::LinkEdit {
            max_age: age(self.max_age)?,
            not_before: self.not_before,
            max_uses: self.max_uses.map(uses).transpose()?,
            scanner_safe: self.scanner_safe,
            ..toolbox::LinkEdit::default()
        })
    }
}

fn age(seconds: Option<Whole<u32>>) -> Result<Option<Duration>> {
    match seconds {
        Some(Whole(0)) => Err(Error::invalid("max_age", "must be a second or more")),
        seconds => Ok(seconds.map(|Whole(seconds)| Duration::from_secs(seconds.into()))),
    }
}

fn uses(max: Option<Whole<u32>>) -> Result<Option<NonZeroU32>> {
    let positive = |Whole(max)| NonZeroU32::new(max).filter(|max| max.get() <= i32::MAX as u32);
    let wrong = || Error::invalid("max_uses", "must be 1 or more; leave it out for no limit");
    max.map(|max| positive(max).ok_or_else(wrong)).transpose()
}
