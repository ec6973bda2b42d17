//! Download grants: what redeeming a link gives.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::ids::{RequestId, hex, random_bytes};

/// What the grant's URL holds: 256 bits that nobody guesses.
#[derive(Clone)]
pub struct GrantSecret(String);

impl std::fmt::Debug for GrantSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GrantSecret(…)")
    }
}

impl GrantSecret {
    /// A new one.
    pub fn random() -> Self {
        Self::from_bytes(random_bytes())
    }

    /// From bytes that nobody else can make.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        GrantSecret(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Takes text that has the form of one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (bytes.len() == 32).then(|| GrantSecret(text.to_owned()))
    }

    /// The text, for the URL.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the database keeps.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes()))
    }
}

/// A grant as stored: all requests under it, parallel ones and later ones too, are one use of its
/// link.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Grant {
    /// SHA-256 of the secret, lower-case hex.
    pub hash: String,
    /// To which file.
    pub request_id: RequestId,
    /// Of which link; `None` of one without a row.
    pub jti: Option<Uuid>,
    /// Who alone may use it.
    pub requester: Option<String>,
    /// The file as it was then: lower-case hex of its SHA-256.
    pub sha256: String,
    /// When the link was redeemed.
    pub created_at: DateTime<Utc>,
    /// Until when its download may be resumed.
    pub expires_at: DateTime<Utc>,
    /// When every byte had been sent.
    pub completed_at: Option<DateTime<Utc>>,
}
