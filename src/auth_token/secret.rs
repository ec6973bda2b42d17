//! The secret of an auth token: `bgf_`, 43 characters of base 62 (256 random bits), and 6 of a
//! CRC-32, so that scanners of leaked secrets recognise it and a typing error needs no database.

use crate::ids::{hex, random_bytes};
use sha2::{Digest, Sha256};

const PREFIX: &str = "bgf_";
const BODY: usize = 43;
const CHECK: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A secret in clear text.
#[derive(Clone)]
pub struct AuthSecret(String);

impl std::fmt::Debug for AuthSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AuthSecret({}…)", self.prefix())
    }
}

impl AuthSecret {
    /// A new one.
    pub fn random() -> Self {
        let body = base62(&random_bytes::<32>(), BODY);
        let check = checksum(&body);
        AuthSecret(format!("{PREFIX}{body}{check}"))
    }

    /// Takes text that has the form of a secret of ours. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?;
        if rest.len() != BODY + CHECK || !rest.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let (body, check) = rest.split_at(BODY);
        (checksum(body) == check).then(|| AuthSecret(text.to_owned()))
    }

    /// Whether text means to be a secret of ours, right or wrong.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The text, to be shown once.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the database keeps.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes()))
    }

    /// The beginning, by which people tell tokens apart.
    pub fn prefix(&self) -> String {
        self.0.chars().take(PREFIX.len() + 6).collect()
    }
}

fn checksum(body: &str) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(body.as_bytes());
    base62(&crc.sum().to_be_bytes(), CHECK)
}

/// A big-endian number in base 62, padded to `width` digits.
fn base62(bytes: &[u8], width: usize) -> String {
    let mut number = bytes.to_vec();
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0u32;
        for byte in &mut number {
            let value = (rest << 8) | u32::from(*byte);
            *byte = (value / 62) as u8;
            rest = value % 62;
        }
        *digit = DIGITS[rest as usize];
    }
    digits.into_iter().map(char::from).collect()
}
