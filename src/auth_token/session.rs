//! Sessions: who logged in with a browser. The cookie holds 256 random bits, the database their
//! SHA-256.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::ids::{hex, random_bytes};

/// What the cookie holds.
#[derive(Clone)]
pub struct SessionSecret(String);

impl std::fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionSecret(…)")
    }
}

impl SessionSecret {
    /// A new one.
    pub fn random() -> Self {
        SessionSecret(URL_SAFE_NO_PAD.encode(random_bytes::<32>()))
    }

    /// Takes text that has the form of one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == 32).then(|| SessionSecret(text.to_owned()))
    }

    /// The text, for the cookie.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the database keeps.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes()))
    }
}

/// A session as stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Session {
    /// SHA-256 of the secret, lower-case hex.
    pub hash: String,
    /// Who logged in.
    pub user_id: String,
    /// Their row in our own table; `None` when users live elsewhere.
    pub own_user_id: Option<Uuid>,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Until when it lasts.
    pub expires_at: DateTime<Utc>,
}
