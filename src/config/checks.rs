//! What each setting must be, and what they must be together.

use std::time::Duration;

use super::{Config, values::Secret};
use crate::{
    error::{Error, Result},
    visitor::TrustedProxies,
};

/// Fewest connections to PostgreSQL that a process can work with: two at once, one for the queue, one
/// to listen and one to announce.
const FEWEST_CONNECTIONS: u32 = 5;
/// Most files that a process makes at the same time: more is a slip of the pen.
const MOST_WORKERS: usize = 1_000;
/// Shortest secret key accepted, in bytes.
pub const MIN_SECRET: usize = 32;

impl Config {
    /// Refuses what no process can work with.
    pub(super) fn check(&self) -> Result<()> {
        self.check_auth()?;
        if self.database_connections < FEWEST_CONNECTIONS {
            let message = "database_connections (BGFILES_DATABASE_CONNECTIONS): must be 5 or more";
            return Err(Error::Config(message.into()));
        }
        if self.workers.get() > MOST_WORKERS {
            let message = format!("workers (BGFILES_WORKERS): must be {MOST_WORKERS} or less");
            return Err(Error::Config(message));
        }
        if self.inline_timeout.is_zero() {
            let message = "inline_timeout (BGFILES_INLINE_TIMEOUT): must be a second or more";
            return Err(Error::Config(message.into()));
        }
        if self.lease < Duration::from_secs(1) {
            return Err(Error::Config("lease (BGFILES_LEASE): must be a second or more".into()));
        }
        Ok(())
    }

    fn check_auth(&self) -> Result<()> {
        let wrong = |message: &str| Err(Error::Config(message.into()));
        let prefix = &self.auth_header_prefix;
        let is_scheme = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if prefix.is_empty() || !prefix.bytes().all(is_scheme) {
            return wrong(
                "auth_header_prefix (BGFILES_AUTH_HEADER_PREFIX): must be one word, like Token",
            );
        }
        let is_format = |text: &str| {
            let mut items = chrono::format::StrftimeItems::new(text);
            !items.any(|item| matches!(item, chrono::format::Item::Error))
        };
        if !is_format(&self.lock_tokens_dateformat) || self.lock_tokens_dateformat.is_empty() {
            return wrong(
                "lock_tokens_dateformat (BGFILES_LOCK_TOKENS_DATEFORMAT): is no strftime format, like %Y-%m-%d %H:%M",
            );
        }
        if ![403, 409].contains(&self.lock_tokens_conflict_status) {
            return wrong(
                "lock_tokens_conflict_status (BGFILES_LOCK_TOKENS_CONFLICT_STATUS): must be 409 or 403",
            );
        }
        let longest = self.lock_tokens_max_timeout;
        if self.lock_tokens_timeout < Duration::from_secs(5) || self.lock_tokens_timeout > longest {
            return wrong(
                "lock_tokens_timeout (BGFILES_LOCK_TOKENS_TIMEOUT): must be 5 seconds or more, and lock_tokens_max_timeout or less",
            );
        }
        if !is_format(&self.expiry_datetime_format) {
            return wrong(
                "expiry_datetime_format (BGFILES_EXPIRY_DATETIME_FORMAT): is no strftime format, like %Y-%m-%d %H:%M",
            );
        }
        if self.identity_header.is_some() && self.trusted_proxies == TrustedProxies::default() {
            return wrong(
                "identity_header (BGFILES_IDENTITY_HEADER): needs trusted_proxies (BGFILES_TRUSTED_PROXIES), as anybody else could write it",
            );
        }
        Ok(())
    }

    /// The signing secrets, once they were checked.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none or one is too short.
    pub fn secrets(&self) -> Result<impl Iterator<Item = &str>> {
        let is_short = |key: &Secret| key.expose().len() < MIN_SECRET;
        if self.secret_key.is_empty() || self.secret_key.iter().any(is_short) {
            return Err(Error::Config(format!(
                "BGFILES_SECRET_KEY: needs {MIN_SECRET} characters or more; make one with `openssl rand -base64 48`"
            )));
        }
        Ok(self.secret_key.iter().map(Secret::expose))
    }
}
