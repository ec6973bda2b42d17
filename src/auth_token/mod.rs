//! Who calls the API: users, the clients they use, and the tokens and sessions that prove it.
//!
//! A secret is shown once, when it is made; the database keeps its SHA-256, which is enough for
//! 256 random bits.

mod directory;
mod password;
mod secret;
mod session;
pub mod store;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

pub use directory::{OwnUsers, Person, UserDirectory};
pub use password::hash_password;
pub use secret::AuthSecret;
pub use session::{Session, SessionSecret};

use crate::error::{Error, Result};

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Own requests only.
    User,
    /// An application: may ask for files for any requester, and sees what it asked for and all
    /// others' requests.
    Service,
    /// Everything.
    Staff,
}

impl Role {
    /// As it stands in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Service => "service",
            Role::Staff => "staff",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "user" => Ok(Role::User),
            "service" => Ok(Role::Service),
            "staff" => Ok(Role::Staff),
            _ => Err("must be user, service or staff".into()),
        }
    }
}

impl TryFrom<String> for Role {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A user as stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct User {
    /// Random.
    pub id: Uuid,
    /// Unique; also the requester id of what they ask for.
    pub username: String,
    /// Where notices go by default.
    pub email: String,
    /// What they may do.
    #[sqlx(try_from = "String")]
    pub role: Role,
    /// Whether they may do anything at all.
    pub is_active: bool,
}

/// A kind of program that calls, as stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Client {
    /// Random.
    pub id: Uuid,
    /// Unique.
    pub name: String,
    /// Seconds its tokens live; for ever when `None`.
    pub token_ttl: Option<i64>,
    /// `N/(s|m|h|d)`; empty for no limit.
    pub throttle_rate: String,
}

/// A token as stored.
#[derive(Clone, Debug)]
pub struct AuthToken {
    /// Random.
    pub id: Uuid,
    /// SHA-256 of the secret, lower-case hex.
    pub hash: String,
    /// Beginning of the secret, to tell tokens apart.
    pub prefix: String,
    /// Whose.
    pub user_id: Uuid,
    /// From which client.
    pub client_id: Uuid,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Until when it is good; for ever when `None`.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Who is calling, once the secret was checked.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Caller {
    /// Their requester id.
    pub username: String,
    /// Where notices go by default.
    pub email: String,
    /// What they may do.
    #[sqlx(try_from = "String")]
    pub role: Role,
    /// Which client they use.
    pub client: String,
}

impl Caller {
    /// Whether requests of this requester are theirs to see and to handle.
    pub fn may_see(&self, requester: Option<&str>) -> bool {
        match self.role {
            Role::User => requester == Some(self.username.as_str()),
            Role::Service | Role::Staff => true,
        }
    }
}

/// Checks a user's name: 1 to 150 visible characters without spaces at the ends.
///
/// # Errors
/// [`Error::Invalid`] on `username`.
pub fn check_username(name: &str) -> Result<()> {
    let fits = (1..=150).contains(&name.chars().count());
    if !fits || name.trim() != name || name.chars().any(char::is_control) {
        let message = "must be 1 to 150 visible characters without spaces at the ends";
        return Err(Error::invalid("username", message));
    }
    Ok(())
}

/// Checks a throttle rate: a whole number above zero, then `/s`, `/m`, `/h` or `/d`.
///
/// # Errors
/// [`Error::Invalid`] on `throttle_rate`.
pub fn check_throttle_rate(rate: &str) -> Result<()> {
    let fits = rate.is_empty()
        || rate.split_once('/').is_some_and(|(count, unit)| {
            matches!(unit, "s" | "m" | "h" | "d")
                && count.bytes().all(|b| b.is_ascii_digit())
                && count.parse::<u32>().is_ok_and(|count| count > 0)
        });
    if fits {
        Ok(())
    } else {
        Err(Error::invalid(
            "throttle_rate",
            "must be N/s, N/m, N/h or N/d with N above 0, e.g. 100/m",
        ))
    }
}
