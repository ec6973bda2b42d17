//! Who calls the API: users, the clients they use, and the tokens and sessions that prove it.
//!
//! A secret is shown once, when it is made; the database keeps its SHA-256, which is enough for
//! 256 random bits.
//!
//! A token is what a user has with a client, what `sessions` shows and what logging out ends. It
//! has secrets: each login adds one, as one that was shown cannot be shown again, and those before
//! it stay good for the rest of their time (see [`TokenPolicy`]).

mod attempts;
mod directory;
pub mod limit_store;
mod memory;
mod name;
mod password;
mod secret;
mod session;
mod settings;
mod signals;
pub mod store;
mod throttle;
pub mod token_store;

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

pub use attempts::Attempt;
pub use directory::{Person, UserDirectory, Users};
pub use memory::Memory;
pub use name::{LONGEST_NAME, check_username, username_key};
pub use password::{check_password, hash_password, verify_password};
pub use secret::AuthSecret;
pub use session::{Session, SessionSecret};
pub use settings::Settings;
pub use signals::{AuthEvent, Signals};
pub use throttle::Throttle;

use crate::{
    error::{Error, Result},
    limits::Rate,
};

/// What a user may do; each more than the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Own requests only.
    #[default]
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
    /// `N/(s|m|h|d)`; empty for the default.
    pub throttle_rate: String,
    /// How many tokens a user has with it.
    #[sqlx(try_from = "String")]
    pub tokens: TokenPolicy,
}

/// How many tokens a user has with a client, and what a login does to those there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenPolicy {
    /// One, as in durin. A login adds a secret to it; those before stay good for the rest of their
    /// time.
    #[default]
    One,
    /// One, and a login ends the secrets before it: the last one to log in is in.
    OneOnly,
    /// Each login makes one: two laptops are two tokens.
    Several,
}

impl TokenPolicy {
    /// As it stands in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenPolicy::One => "one",
            TokenPolicy::OneOnly => "one-only",
            TokenPolicy::Several => "several",
        }
    }
}

impl std::str::FromStr for TokenPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "one" => Ok(TokenPolicy::One),
            "one-only" => Ok(TokenPolicy::OneOnly),
            "several" => Ok(TokenPolicy::Several),
            _ => Err("must be one, one-only or several".into()),
        }
    }
}

impl TryFrom<String> for TokenPolicy {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What a user has with a client, as stored.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Token {
    /// Random.
    pub id: Uuid,
    /// Whose: the requester id.
    pub user_id: String,
    /// From which client: its name.
    pub client: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Until when its last secret is good; for ever when `None`.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was used last, to ten seconds.
    pub last_used_at: Option<DateTime<Utc>>,
    /// From where.
    pub last_ip: Option<String>,
    /// By which program.
    pub last_user_agent: String,
    /// Beginning of its newest secret.
    pub prefix: Option<String>,
    /// Of an API key: with what it was made, a client's name or `session`; else empty.
    pub made_by: String,
}

impl Token {
    /// Whether its time is over.
    pub fn has_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// How long it lives in all, in words, as durin says it: `a day`, `10 hours`, `never`.
    pub fn expires_in(&self) -> String {
        let Some(end) = self.expires_at else { return "never".into() };
        let seconds = (end - self.created_at).num_seconds().max(0);
        let (hours, days) = (seconds / 3600, seconds / 86_400);
        let (count, one, many) = match seconds {
            ..60 => (seconds, "a second", "seconds"),
            60..3600 => (seconds / 60, "a minute", "minutes"),
            3600..86_400 => (hours, "an hour", "hours"),
            _ if days < 31 => (days, "a day", "days"),
            _ if days < 365 => ((days * 2 / 61).max(1), "a month", "months"),
            _ => (days / 365, "a year", "years"),
        };
        if count == 1 { one.into() } else { format!("{count} {many}") }
    }
}

/// How often a client may call, as its row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientRate {
    /// As often as those who have no client.
    Default,
    /// This often.
    Own(Rate),
    /// Never: what stands there is no rate (`0/m`, say), and whoever wrote it meant to set a limit.
    Unreadable,
}

impl From<&str> for ClientRate {
    fn from(text: &str) -> Self {
        match text {
            "" => ClientRate::Default,
            text => text.parse().map_or(ClientRate::Unreadable, ClientRate::Own),
        }
    }
}

/// What a secret is good for, once it was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenUse {
    /// The token.
    pub id: Uuid,
    /// SHA-256 of the secret that was shown.
    pub hash: String,
    /// Whose: the requester id.
    pub user_id: String,
    /// The user as our own table has them.
    pub user: Option<Person>,
    /// The client's name.
    pub client: String,
    /// How often it may call.
    pub rate: ClientRate,
    /// Until when the secret is good; for ever when `None`.
    pub expires_at: Option<DateTime<Utc>>,
}

/// How a caller proved who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// With the secret of a token.
    Token(Box<TokenUse>),
    /// With the cookie of a session.
    Session,
    /// A trusted proxy says so.
    Proxy,
    /// The host application says so.
    Host,
}

/// Who is calling, once that is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Their requester id.
    pub username: String,
    /// Where notices go by default.
    pub email: String,
    /// What they may do.
    pub role: Role,
    /// How they proved it.
    pub proof: Proof,
}

impl Caller {
    /// A person who proved who they are.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when there is none, or an inactive one.
    pub fn new(person: Option<Person>, proof: Proof) -> Result<Self> {
        let inactive = Error::Unauthenticated("User inactive or deleted.");
        let person = person.filter(|person| person.is_active).ok_or(inactive)?;
        Ok(Caller { username: person.id, email: person.email, role: person.role, proof })
    }

    /// The token they call with.
    pub fn token(&self) -> Option<&TokenUse> {
        match &self.proof {
            Proof::Token(token) => Some(token),
            _ => None,
        }
    }

    /// The client they use.
    pub fn client(&self) -> Option<&str> {
        self.token().map(|token| token.client.as_str())
    }

    /// Whether a browser sends the proof by itself, with requests that other sites make it send,
    /// too.
    pub fn is_ambient(&self) -> bool {
        matches!(self.proof, Proof::Session | Proof::Proxy)
    }

    /// Whether requests of this requester are theirs to see and to handle.
    pub fn may_see(&self, requester: Option<&str>) -> bool {
        match self.role {
            Role::User => requester == Some(self.username.as_str()),
            Role::Service | Role::Staff => true,
        }
    }
}

/// Checks a client's name: 1 to 64 characters without spaces at the ends.
///
/// # Errors
/// [`Error::Invalid`] on `name`.
pub fn check_client_name(name: &str) -> Result<()> {
    let fits = (1..=64).contains(&name.chars().count());
    if !fits || name.trim() != name || name.chars().any(char::is_control) {
        let message = "must be 1 to 64 visible characters without spaces at the ends";
        return Err(Error::invalid("name", message));
    }
    Ok(())
}

/// Checks a throttle rate: a whole number above zero, then `/s`, `/m`, `/h` or `/d`; or nothing.
///
/// # Errors
/// [`Error::Invalid`] on `throttle_rate`.
pub fn check_throttle_rate(rate: &str) -> Result<()> {
    let fits = rate.is_empty() || rate.parse::<Rate>().is_ok();
    let message = "must be N/s, N/m, N/h or N/d with N above 0, e.g. 100/m";
    fits.then_some(()).ok_or_else(|| Error::invalid("throttle_rate", message))
}
