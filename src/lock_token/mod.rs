//! Locks: who is editing what, so that nobody overwrites somebody else's work.
//!
//! A lock is on a [`Resource`], a pair that the caller names. Whoever acquires it gets a token,
//! which renews and releases it, and a **fence**: a number that grows with every acquisition of
//! the resource, so that a writer who was late can be told from the one who holds the lock now.
//! Expiry is soft: an expired token is honoured until somebody else takes the lock. Several tokens
//! may share a lock: the tabs of one session do, and it is free when the last one lets go.

mod settings;
pub mod store;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use settings::Settings;

use crate::{
    error::{Error, Result},
    ids::RequestId,
};

/// What is locked: a kind of things, `app/model`, and one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    kind: String,
    id: String,
}

impl Resource {
    /// The kind of file requests.
    pub const REQUESTS: &'static str = "bgfiles/file_request";
    /// The kind of users of our own.
    pub const USERS: &'static str = "bgfiles/user";
    /// The kind of clients.
    pub const CLIENTS: &'static str = "bgfiles/client";

    /// A thing of an application's model. Ids may be numbers or text.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `resource`: app and model are 1 to 100 letters, digits, `_`, `-` or
    /// `.`; the id is 1 to 255 characters.
    pub fn new(app: &str, model: &str, id: impl ToString) -> Result<Self> {
        let id = id.to_string();
        let name = |text: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            (1..=100).contains(&text.len()) && text.chars().all(allowed)
        };
        let fits = (1..=255).contains(&id.chars().count()) && !id.chars().any(char::is_control);
        if !(name(app) && name(model) && fits) {
            let message = "must be app/model of letters, digits, '_', '-' or '.', and an id of 1 to 255 characters";
            return Err(Error::invalid("resource", message));
        }
        Ok(Resource { kind: format!("{app}/{model}"), id })
    }

    /// A file request.
    pub fn request(id: RequestId) -> Self {
        Resource { kind: Self::REQUESTS.into(), id: id.to_string() }
    }

    /// A user of our own.
    pub fn user(id: Uuid) -> Self {
        Resource { kind: Self::USERS.into(), id: id.to_string() }
    }

    /// A client.
    pub fn client(id: Uuid) -> Self {
        Resource { kind: Self::CLIENTS.into(), id: id.to_string() }
    }

    /// `app/model`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Which one.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

/// What sort of holder a lock has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holder {
    /// Somebody who asked for the lock.
    #[default]
    Person,
    /// A worker with its lease on the request, which ends by itself: nobody can break it.
    Worker,
}

/// Who holds a resource, since when, until when.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Lock {
    /// `app/model`.
    pub resource: String,
    /// Which one.
    pub object_id: String,
    /// Number of this acquisition; those before have lower ones.
    pub fence: i64,
    /// Who; nobody knows when `None`.
    pub owner: Option<String>,
    /// Why, in their words.
    pub reason: String,
    /// When it was acquired.
    pub locked_at: DateTime<Utc>,
    /// When others may take it.
    pub expires_at: DateTime<Utc>,
    /// Whose tabs share it.
    pub session: Option<String>,
    /// What sort of holder it has: locks of the table are people's.
    #[sqlx(skip)]
    pub holder: Holder,
}

impl Lock {
    /// Whether it can be ended before its time.
    pub fn is_breakable(&self) -> bool {
        self.holder == Holder::Person
    }

    /// Whether others may take it.
    pub fn has_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at <= now
    }
}

/// A token, and the lock that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// 32 hex digits.
    pub token: String,
    /// When it expires, unless it is renewed.
    pub expires_at: DateTime<Utc>,
    /// Seconds that it lasts, and that a renewal adds.
    pub ttl: i32,
    /// The lock.
    pub lock: Lock,
}

/// What became of asking for a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// It is yours.
    Held(Box<Held>),
    /// Somebody else has it.
    Taken(Box<Lock>),
}

impl Acquired {
    /// The token.
    ///
    /// # Errors
    /// [`Error::Locked`] naming who has it.
    pub fn held(self) -> Result<Held> {
        match self {
            Acquired::Held(held) => Ok(*held),
            Acquired::Taken(lock) => Err(locked(&lock)),
        }
    }
}

/// The error that says who holds a lock.
pub fn locked(lock: &Lock) -> Error {
    let by = lock.owner.as_deref().map(|owner| format!(" by {owner}")).unwrap_or_default();
    let since = lock.locked_at.format("%Y-%m-%d %H:%M UTC");
    Error::Locked(format!("{}/{} is locked{by} since {since}", lock.resource, lock.object_id))
}

/// What a token is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// It holds the lock.
    Holds,
    /// Its time is over, and nobody else took the lock: it still counts.
    Expired,
    /// There is no lock.
    NoLock,
    /// Somebody else holds the lock.
    Wrong,
}

impl Check {
    /// Whether a writer with this token may write.
    pub fn counts(self) -> bool {
        matches!(self, Check::Holds | Check::Expired)
    }
}

/// How to acquire.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Whose tabs share the lock; nobody's when `None`.
    pub session: Option<String>,
    /// Who, for others to see.
    pub owner: Option<String>,
    /// Why, for others to see: up to 200 characters.
    pub reason: String,
    /// Seconds; the setting's when `None`.
    pub ttl: Option<u32>,
    /// Takes the lock from whoever has it, if it is still this fence's: permission to take it was
    /// for that one.
    pub instead_of: Option<i64>,
}
