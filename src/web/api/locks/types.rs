//! What is given to take or keep a lock, and what is answered of locks.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    lock_token::{self, Held},
    toolbox::Toolbox,
    web::openapi::{Detail, one_of, parse},
};

/// Who holds something.
#[derive(Serialize, ToSchema)]
#[schema(examples(example))]
pub(super) struct Lock {
    /// What kind of thing: `app/model`.
    resource: String,
    /// Which one.
    id: String,
    /// Who has it; null when nobody knows.
    #[schema(required)]
    owner: Option<String>,
    /// Why, in their words.
    reason: String,
    /// When they took it.
    since: DateTime<Utc>,
    /// When others may take it.
    until: DateTime<Utc>,
    /// Number of this acquisition; those before have lower ones.
    #[schema(minimum = 0)]
    fence: i64,
}

impl Lock {
    pub(super) fn of(lock: &lock_token::Lock) -> Self {
        Lock {
            resource: lock.resource.clone(),
            id: lock.object_id.clone(),
            owner: lock.owner.clone(),
            reason: lock.reason.clone(),
            since: lock.locked_at,
            until: lock.expires_at,
            fence: lock.fence,
        }
    }
}

/// Whether somebody holds something.
#[derive(Serialize, ToSchema)]
#[schema(examples(state_example))]
pub(super) struct LockState {
    /// Who holds it; null when nobody does.
    #[schema(required)]
    pub(super) lock: Option<Lock>,
}

/// A token and the lock that it holds.
#[derive(Serialize, ToSchema)]
#[schema(examples(held_example))]
pub(super) struct HeldLock {
    /// Renews and releases the lock: 32 hex digits.
    token: String,
    /// When the token expires, in the configured form.
    expires: String,
    /// Seconds until then.
    #[schema(minimum = 0)]
    expires_in: f64,
    /// Seconds that a renewal adds.
    #[schema(minimum = 0)]
    ttl: i32,
    #[serde(flatten)]
    lock: Lock,
}

impl HeldLock {
    pub(super) fn of(toolbox: &Toolbox, held: &Held) -> Self {
        let left = (held.expires_at - toolbox.clock().now()).num_milliseconds().max(0);
        HeldLock {
            token: held.token.clone(),
            expires: toolbox.lock_settings().format(held.expires_at),
            expires_in: left as f64 / 1000.0,
            ttl: held.ttl,
            lock: Lock::of(&held.lock),
        }
    }
}

/// Who has the lock, or why the caller may not.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(examples(example))]
#[allow(dead_code, reason = "the type stands for its schema")]
pub(super) enum LockConflict {
    Lock(Lock),
    Detail(Detail),
}

/// Somebody had the lock since.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({ "detail": "The lock was taken anew since.", "fence": 13 })))]
pub(super) struct LateFence {
    /// For people.
    detail: &'static str,
    /// The number of the acquisition that counts now.
    #[schema(minimum = 0)]
    fence: i64,
}

impl LateFence {
    pub(super) fn of(held: &Held) -> Self {
        LateFence { detail: "The lock was taken anew since.", fence: held.lock.fence }
    }
}

// What is given is read field by field, as JSON and forms have them. How many seconds are most is
// the configuration's.

/// How to lock. What is not named here is ignored.
#[derive(ToSchema)]
#[schema(examples(json!({ "ttl": 600, "reason": "new headline" })))]
#[allow(dead_code, reason = "the type stands for its schema")]
pub(super) struct NewLock {
    /// Seconds that it lasts; the configured time when null.
    #[schema(minimum = 5)]
    ttl: Option<u32>,
    /// For others to see: up to 200 characters, in one line.
    #[schema(max_length = 200, pattern = "^[^\\x00-\\x1F\\x7F-\\x9F]*$")]
    reason: Option<String>,
    /// Whether to take it from whoever has it: for its owner and staff.
    force: Option<bool>,
}

/// How to lock, as a form.
#[derive(ToSchema)]
#[schema(examples(json!({ "ttl": 600, "reason": "new headline" })))]
#[allow(dead_code, reason = "the type stands for its schema")]
pub(super) struct NewLockForm {
    /// Seconds that it lasts; the configured time when null.
    #[schema(minimum = 5, nullable = false)]
    ttl: Option<u32>,
    /// For others to see: up to 200 characters, in one line.
    #[schema(max_length = 200, pattern = "^[^\\x00-\\x1F\\x7F-\\x9F]*$", nullable = false)]
    reason: Option<String>,
    #[schema(schema_with = flag)]
    force: Option<bool>,
}

fn flag() -> RefOr<Schema> {
    let about = "Whether to take it from whoever has it: for its owner and staff.";
    parse(one_of(&["true", "false"], about))
}

/// How long to hold on.
#[derive(ToSchema)]
#[schema(examples(json!({ "ttl": 600 })))]
#[allow(dead_code, reason = "the type stands for its schema")]
pub(super) struct LockRenewal {
    /// Seconds that it lasts; the configured time when null.
    #[schema(minimum = 5)]
    ttl: Option<u32>,
}

/// How long to hold on, as a form.
#[derive(ToSchema)]
#[schema(examples(json!({ "ttl": 600 })))]
#[allow(dead_code, reason = "the type stands for its schema")]
pub(super) struct LockRenewalForm {
    /// Seconds that it lasts; the configured time when null.
    #[schema(minimum = 5, nullable = false)]
    ttl: Option<u32>,
}

fn example() -> Value {
    json!({
        "resource": "cms/page",
        "id": "home",
        "owner": "amy",
        "reason": "new headline",
        "since": "2026-11-21T09:30:00Z",
        "until": "2026-11-21T10:30:00Z",
        "fence": 12,
    })
}

fn state_example() -> Value {
    json!({ "lock": example() })
}

fn held_example() -> Value {
    let mut held = example();
    held["token"] = json!("0f8fad5bd9cb469fa16570867728950e");
    held["expires"] = json!("2026-11-21 10:30:00 UTC");
    held["expires_in"] = json!(3600.0);
    held["ttl"] = json!(3600);
    held
}
