//! Identifiers as types, so that one kind is never passed for another; and what ids, secrets and
//! digests are made of: random bytes, and their hex.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of a file request: a random UUID (version 4), as in dj-bgfiles.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type,
)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct RequestId(pub Uuid);

impl RequestId {
    /// A new random id.
    pub fn random() -> Self {
        RequestId(Uuid::new_v4())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RequestId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(RequestId)
    }
}

/// The name of a kind of file (`flights`): the key of the registry.
///
/// 1 to 100 characters out of `a-z A-Z 0-9 _ - .`, beginning with a letter or a digit, so that it
/// can stand in a URL, a file name and a template path as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct FileType(String);

impl FileType {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot be the name of a file type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseFileTypeError;

impl fmt::Display for ParseFileTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a file type is 1 to 100 letters, digits, '_', '-' or '.', beginning with a letter or digit",
        )
    }
}

impl std::error::Error for ParseFileTypeError {}

impl FromStr for FileType {
    type Err = ParseFileTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if (1..=100).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(allowed)
        {
            Ok(FileType(text.to_owned()))
        } else {
            Err(ParseFileTypeError)
        }
    }
}

/// `n` bytes of the operating system's randomness.
///
/// # Panics
/// When the operating system has no randomness to give, as there is no safe way to go on.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system provides randomness");
    bytes
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
