//! Request tokens: a row with a JWT that admits to a scope, so and so many times, as
//! django-request-token has them.
//!
//! The row rules. A JWT proves that we issued it; whether it still admits is what the row says
//! now.

pub mod denial;
pub mod jwt;
pub mod settings;
pub mod shown;
pub mod store;
pub mod template;
mod tokenise;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

pub use denial::Denial;
pub use settings::Settings;
pub use shown::{Issued, Shown, ShownUse};
pub use tokenise::tokenise;

use crate::{
    error::{Error, FieldError, Result},
    limits,
};

/// What a token does for whoever is not logged in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoginMode {
    /// Nothing.
    #[default]
    None,
    /// Its user is who asks, for this one request.
    Request,
    /// Its user is logged in: a session begins.
    Session,
}

impl LoginMode {
    /// As it stands in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            LoginMode::None => "none",
            LoginMode::Request => "request",
            LoginMode::Session => "session",
        }
    }

    /// As it stands in the claim `mod`.
    pub fn claim(self) -> &'static str {
        &self.as_str()[..1]
    }
}

impl std::str::FromStr for LoginMode {
    type Err = String;

    /// Takes django-request-token's spelling (`Session`) too.
    fn from_str(text: &str) -> Result<Self, String> {
        let modes = [LoginMode::None, LoginMode::Request, LoginMode::Session];
        let found = modes.into_iter().find(|mode| mode.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| "must be none, request or session".into())
    }
}

impl TryFrom<String> for LoginMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A request token as stored.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct RequestToken {
    /// Grows; never used again. The claim `jti`.
    pub id: i64,
    /// What it does for whoever is not logged in.
    #[sqlx(try_from = "String")]
    pub login_mode: LoginMode,
    /// The one it is for; the claim `aud`.
    pub user_id: Option<String>,
    /// What it admits to; the claim `sub`.
    pub scope: String,
    /// From then on it no longer admits; the claim `exp`.
    pub expiration_time: Option<DateTime<Utc>>,
    /// Not before then; the claim `nbf`.
    pub not_before_time: Option<DateTime<Utc>>,
    /// When it was made; the claim `iat`.
    pub issued_at: Option<DateTime<Utc>>,
    /// Whatever its maker wants to find again. Not in the JWT.
    #[sqlx(json)]
    pub data: Value,
    /// How often it admits; the claim `max`.
    pub max_uses: i32,
    /// How often it has.
    pub used_to_date: i32,
    /// Who made it (username).
    pub created_by: String,
    /// What it was issued for; `None` where that is not known.
    pub issued_scope: Option<String>,
}

impl RequestToken {
    /// Whether a JWT of ours with these claims was made of this row. Numbers alone do not say so: each
    /// database begins at 1, and one that was restored gives numbers out again. What can be edited is
    /// not compared, but for the scope, which may be the one of now or of then.
    pub fn is_of(&self, claims: &Map<String, Value>) -> bool {
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let seconds = claims.get("iat").map(Value::as_i64);
        let scopes = [Some(&self.scope), self.issued_scope.as_ref()];
        claims.get("aud").is_none_or(Value::is_string)
            && text("aud") == self.user_id.as_deref()
            && seconds == self.issued_at.map(|at| Some(at.timestamp()))
            && text("mod") == Some(self.login_mode.claim())
            && (self.issued_scope.is_none()
                || scopes.into_iter().flatten().any(|scope| text("sub") == Some(scope)))
    }

    /// The claims of its JWT.
    pub fn claims(&self) -> Map<String, Value> {
        let mut claims = claims(self.max_uses, &self.scope, self.login_mode);
        claims.insert("jti".into(), self.id.to_string().into());
        if let Some(user) = &self.user_id {
            claims.insert("aud".into(), user.as_str().into());
        }
        let times =
            [("exp", self.expiration_time), ("iat", self.issued_at), ("nbf", self.not_before_time)];
        for (name, at) in times {
            if let Some(at) = at {
                claims.insert(name.into(), at.timestamp().into());
            }
        }
        claims
    }

    /// Why it would not admit now, whoever asks.
    pub fn denial(&self, now: DateTime<Utc>) -> Option<Denial> {
        if self.not_before_time.is_some_and(|at| at > now) {
            Some(Denial::NotYetValid)
        } else if self.expiration_time.is_some_and(|at| at <= now) {
            Some(Denial::Expired)
        } else if self.used_to_date >= self.max_uses {
            Some(Denial::UsedUp)
        } else {
            None
        }
    }

    /// Whether it admits now: neither early, nor late, nor used up.
    pub fn is_valid(&self, now: DateTime<Utc>) -> bool {
        self.denial(now).is_none()
    }
}

fn claims(max_uses: i32, scope: &str, mode: LoginMode) -> Map<String, Value> {
    let mut claims = Map::new();
    claims.insert("max".into(), max_uses.into());
    claims.insert("sub".into(), scope.into());
    claims.insert("mod".into(), mode.claim().into());
    claims
}

/// What a caller gives for a new token.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRequestToken {
    /// What it admits to: 1 to 100 characters.
    pub scope: String,
    /// What it does for whoever is not logged in.
    pub login_mode: LoginMode,
    /// The one it is for; needed by [`LoginMode::Request`] and [`LoginMode::Session`].
    pub user_id: Option<String>,
    /// Never when `None`; session tokens get the configured expiry then.
    pub expiration_time: Option<DateTime<Utc>>,
    /// At once when `None`.
    pub not_before_time: Option<DateTime<Utc>>,
    /// Any JSON.
    pub data: Value,
    /// The configured number when `None`.
    pub max_uses: Option<i32>,
    /// Who makes it.
    pub created_by: String,
}

impl NewRequestToken {
    /// A token for a scope, with defaults for the rest.
    pub fn new(scope: impl Into<String>) -> Self {
        NewRequestToken {
            scope: scope.into(),
            login_mode: LoginMode::None,
            user_id: None,
            expiration_time: None,
            not_before_time: None,
            data: json!({}),
            max_uses: None,
            created_by: String::new(),
        }
    }

    /// The claims that are known before the row is: no `jti`, so nothing that would verify.
    pub fn claims(&self, settings: &Settings) -> Map<String, Value> {
        claims(self.max_uses.unwrap_or(settings.default_max_uses), &self.scope, self.login_mode)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every wrong field.
    pub fn validate(&self) -> Result<()> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, message: &str| {
            errors.push(FieldError { field: field.into(), message: message.into() });
        };
        if let Err(message) = check_scope(&self.scope) {
            wrong("scope", message);
        }
        if self.login_mode != LoginMode::None && self.user_id.is_none() {
            wrong("user", "is needed: this login mode logs somebody in");
        }
        if self.user_id.as_ref().is_some_and(|id| id.is_empty() || id.chars().count() > 200) {
            wrong("user", "must be 1 to 200 characters; leave it out when there is none");
        }
        if self.max_uses.is_some_and(|max| max < 1) {
            wrong("max_uses", "must be 1 or more");
        }
        let times =
            [("not_before_time", self.not_before_time), ("expiration_time", self.expiration_time)];
        for (field, at) in times {
            if !at.is_none_or(limits::is_plain) {
                wrong(field, limits::PLAIN_TIME);
            }
        }
        if let (Some(begin), Some(end)) = (self.not_before_time, self.expiration_time)
            && begin >= end
        {
            wrong("expiration_time", "must be after not_before_time");
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(errors)) }
    }
}

/// What an edit changes; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// What it admits to.
    pub scope: Option<String>,
    /// How often it admits.
    pub max_uses: Option<i32>,
    /// Until when; `Some(None)` for ever.
    pub expiration_time: Option<Option<DateTime<Utc>>>,
    /// From when; `Some(None)` at once.
    pub not_before_time: Option<Option<DateTime<Utc>>>,
    /// Any JSON.
    pub data: Option<Value>,
}

impl Changes {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the first wrong field.
    pub fn validate(&self) -> Result<()> {
        if let Some(Err(message)) = self.scope.as_deref().map(check_scope) {
            return Err(Error::invalid("scope", message));
        }
        if self.max_uses.is_some_and(|max| max < 1) {
            return Err(Error::invalid("max_uses", "must be 1 or more; expire the token instead"));
        }
        let times =
            [("not_before_time", self.not_before_time), ("expiration_time", self.expiration_time)];
        for (field, at) in times {
            if !at.flatten().is_none_or(limits::is_plain) {
                return Err(Error::invalid(field, limits::PLAIN_TIME));
            }
        }
        Ok(())
    }
}

/// A scope is never empty: a token for nothing would be one for everything.
///
/// # Errors
/// What is wrong with it.
pub fn check_scope(scope: &str) -> Result<(), &'static str> {
    let fits = (1..=100).contains(&scope.chars().count()) && !scope.chars().any(char::is_control);
    if fits { Ok(()) } else { Err("must be 1 to 100 visible characters") }
}

/// One line of a token's log.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Use {
    /// Grows.
    pub id: i64,
    /// Of which token.
    pub token_id: i64,
    /// `used`, `given_back`, or the code of the [`Denial`].
    pub outcome: String,
    /// Who asked, when known.
    pub user_id: Option<String>,
    /// `unknown` when there was none.
    pub user_agent: String,
    /// Through trusted proxies only.
    pub client_ip: Option<String>,
    /// What was answered; `None` while that is not known.
    pub status_code: Option<i32>,
    /// When.
    pub timestamp: DateTime<Utc>,
}
