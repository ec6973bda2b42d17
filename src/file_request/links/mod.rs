//! Download links with a row of their own (`jti` in the token), so that they can be listed and
//! revoked. A mailed link needs no row.

pub mod store;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::model::rfc3339;
use crate::ids::RequestId;

/// A link as stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Link {
    /// Stands in the token.
    pub jti: Uuid,
    /// To which file.
    pub request_id: RequestId,
    /// Whether only the requester may use it.
    pub requester_only: bool,
    /// Signed along in the token.
    #[sqlx(json)]
    pub data: Map<String, Value>,
    /// Who made it (username).
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Until when it works.
    pub expires_at: DateTime<Utc>,
    /// Since when it no longer works.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Link {
    /// The JSON of the HTTP API. The URL stands only in the answer that makes the link.
    pub fn to_json(&self, url: Option<&str>) -> Value {
        let mut json = json!({
            "jti": self.jti,
            "request_id": self.request_id,
            "requester_only": self.requester_only,
            "data": self.data,
            "created_by": self.created_by,
            "created_at": rfc3339(Some(self.created_at)),
            "expires_at": rfc3339(Some(self.expires_at)),
            "revoked_at": rfc3339(self.revoked_at),
        });
        if let Some(url) = url {
            json["url"] = Value::from(url);
        }
        json
    }
}
