//! Download links with a row of their own (`jti` in the token): they can be listed, limited,
//! extended and revoked, and the row rules. A mailed link needs no row, unless its file type has a
//! policy.
//!
//! ```text
//! Policy  what the file type lets links be
//! Link    the row: how often, from when, until when, for whom
//! Grant   one redemption of a link: every request of one download is one use
//! Hit     something that happened to a link: page, redeemed, range, complete, denied
//! line    hits that are alike, together
//! ```

mod grant;
mod hit;
pub mod line;
mod policy;
mod shown;
pub mod store;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

pub use grant::{Grant, GrantSecret};
pub use hit::{Event, Hit, HitRow, cover};
pub use policy::{LinkPolicy, RequesterOnly, Wish};
pub use shown::{Made, Shown};

use crate::{error::Error, ids::RequestId};

/// A link as stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Link {
    /// Stands in the token.
    pub jti: Uuid,
    /// To which file.
    pub request_id: RequestId,
    /// Whether only the requester may use it; as the request says when `None`.
    pub requester_only: Option<bool>,
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
    /// From when it works; at once when `None`.
    pub not_before: Option<DateTime<Utc>>,
    /// How often it can be redeemed; as often as one likes when `None`.
    pub max_uses: Option<i32>,
    /// How often it was.
    pub uses: i32,
    /// Whether opening it shows a page first. Limited links always do.
    pub scanner_safe: bool,
    /// When it was last redeemed.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl Link {
    /// Why it cannot be used now.
    pub fn denial(&self, now: DateTime<Utc>) -> Option<Error> {
        if self.revoked_at.is_some() {
            Some(Error::LinkRevoked)
        } else if self.not_before.is_some_and(|at| at > now) {
            Some(Error::LinkNotYetValid)
        } else if self.expires_at <= now {
            Some(Error::LinkExpired)
        } else if self.max_uses.is_some_and(|max| self.uses >= max) {
            Some(Error::LinkUsedUp)
        } else {
            None
        }
    }

    /// Whether it never works again, unless it is extended.
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        !matches!(self.denial(now), None | Some(Error::LinkNotYetValid))
    }

    /// Whether opening it (GET, HEAD) shows what it is, and a POST downloads.
    pub fn waits_for_confirmation(&self) -> bool {
        self.scanner_safe || self.max_uses.is_some()
    }
}
