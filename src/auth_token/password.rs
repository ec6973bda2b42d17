//! Passwords: argon2id with the library's defaults (RFC 9106's second choice in kind).

use argon2::{Argon2, PasswordHasher};

use crate::{
    error::{Error, Result},
    ids::random_bytes,
};

/// Shortest password accepted, in characters.
const MIN_LENGTH: usize = 12;
/// Longest, in bytes: nothing is cut off silently, and nobody keeps us hashing.
const MAX_LENGTH: usize = 1024;

/// The PHC string of a password. Takes a good part of a second of CPU: call it where that hurts
/// nobody.
///
/// # Errors
/// [`Error::Invalid`] on `password` when it is too short or too long.
pub fn hash_password(password: &str) -> Result<String> {
    if password.chars().count() < MIN_LENGTH || password.len() > MAX_LENGTH {
        let message =
            format!("must be {MIN_LENGTH} characters or more, and {MAX_LENGTH} bytes or less");
        return Err(Error::invalid("password", message));
    }
    let hash = Argon2::default()
        .hash_password_with_salt(password.as_bytes(), &random_bytes::<16>())
        .map_err(|e| Error::Internal(format!("hashing: {e}")))?;
    Ok(hash.to_string())
}
