//! A link as its readers see it: the JSON of the HTTP API and of the command line.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Link;
use crate::ids::RequestId;

/// A link with a row of its own.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Link, examples(example))]
pub struct Shown {
    /// Its number; stands in the token.
    pub jti: Uuid,
    /// To which file.
    #[schema(value_type = Uuid)]
    pub request_id: RequestId,
    /// Whether only the requester may use it.
    pub requester_only: bool,
    /// Signed along in the token.
    #[schema(additional_properties = true)]
    pub data: Map<String, Value>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Until when it works.
    pub expires_at: DateTime<Utc>,
    /// Since when it no longer works; null while it does.
    #[schema(required)]
    pub revoked_at: Option<DateTime<Utc>>,
    /// From when it works; null for at once.
    #[schema(required)]
    pub not_before: Option<DateTime<Utc>>,
    /// How often it can be redeemed; null without a limit.
    #[schema(required, minimum = 0)]
    pub max_uses: Option<i64>,
    /// How often it was.
    #[schema(minimum = 0)]
    pub uses: i64,
    /// When it was last redeemed; null when never.
    #[schema(required)]
    pub last_used_at: Option<DateTime<Utc>>,
    /// Whether opening it shows a page, and only its button downloads.
    pub scanner_safe: bool,
}

impl Shown {
    /// `bound`: whether it is for the requester alone, as it counts.
    pub fn of(row: &Link, bound: bool) -> Self {
        Shown {
            jti: row.jti,
            request_id: row.request_id,
            requester_only: bound,
            data: row.data.clone(),
            created_by: row.created_by.clone(),
            created_at: row.created_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
            not_before: row.not_before,
            max_uses: row.max_uses.map(i64::from),
            uses: row.uses.into(),
            last_used_at: row.last_used_at,
            scanner_safe: row.waits_for_confirmation(),
        }
    }
}

/// A link that was just made.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = MadeLink, examples(made_example))]
pub struct Made {
    /// The link.
    #[serde(flatten)]
    pub link: Shown,
    /// The link itself. It is shown this once.
    #[schema(format = Uri)]
    pub url: String,
}

fn example() -> Value {
    json!({
        "jti": "4f0c1f6e-0a53-4b1d-8f5e-6f7f8c0d9a20",
        "request_id": "9b2f3a52-7d0c-4e0e-9d1c-5a8f0f6f2c11",
        "requester_only": false,
        "data": {},
        "created_by": "amy",
        "created_at": "2026-11-21T09:30:00Z",
        "expires_at": "2026-11-22T09:30:00Z",
        "revoked_at": null,
        "not_before": null,
        "max_uses": 3,
        "uses": 1,
        "last_used_at": "2026-11-21T10:02:11Z",
        "scanner_safe": true,
    })
}

fn made_example() -> Value {
    let mut made = example();
    made["uses"] = json!(0);
    made["last_used_at"] = Value::Null;
    let url = "https://files.example.com/d/eyJpZCI6IjliMmYzYTUyIn0:1vMOX2:3q2-7wB1nPzT";
    made["url"] = json!(url);
    made
}
