//! Settings of locks, by the names of django-lock-tokens.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Utc};

use super::Resource;
use crate::{
    config::Config,
    error::{Error, Result},
};

/// Shortest time of a lock, in seconds.
const SHORTEST: u32 = 5;

/// How locks behave.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `TIMEOUT`: how long a lock lasts, unless it says otherwise.
    pub timeout: Duration,
    /// How long one may last at most.
    pub longest: Duration,
    /// How many locks one user may hold at a time.
    pub most: u32,
    /// `DATEFORMAT`: how `expires` is written, as strftime.
    pub dateformat: String,
    /// Whether nobody in particular may lock, as in the original.
    pub open: bool,
    /// The status of a lock that somebody else has: 409, or 403 as the original documents.
    pub conflict_status: u16,
    /// Kinds of things (`app/model`, `app/*`) that callers may lock besides our own.
    pub resources: BTreeSet<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            timeout: Duration::from_secs(3600),
            longest: Duration::from_secs(86_400),
            most: 100,
            dateformat: "%Y-%m-%d %H:%M:%S %Z".into(),
            open: false,
            conflict_status: 409,
            resources: BTreeSet::new(),
        }
    }
}

impl Settings {
    /// As the configuration says.
    pub fn configured(config: &Config) -> Self {
        Settings {
            timeout: config.lock_tokens_timeout,
            longest: config.lock_tokens_max_timeout,
            most: config.lock_tokens_max_held.get(),
            dateformat: config.lock_tokens_dateformat.clone(),
            open: config.lock_tokens_open,
            conflict_status: config.lock_tokens_conflict_status,
            resources: config.lock_tokens_resources.clone(),
        }
    }

    /// Whether things of this kind may be locked though we know nothing of them.
    pub fn lists(&self, resource: &Resource) -> bool {
        let app = resource.kind().split('/').next().unwrap_or_default();
        self.resources.contains(resource.kind()) || self.resources.contains(&format!("{app}/*"))
    }

    /// The seconds of a lock that asks for so many.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `ttl` beyond the bounds.
    pub fn ttl(&self, asked: Option<u32>) -> Result<i32> {
        let longest = u32::try_from(self.longest.as_secs()).unwrap_or(u32::MAX);
        let default = u32::try_from(self.timeout.as_secs()).unwrap_or(u32::MAX);
        let seconds = asked.unwrap_or(default);
        let fits = asked.is_none() || (SHORTEST..=longest).contains(&seconds);
        let seconds = fits.then(|| i32::try_from(seconds).ok()).flatten();
        seconds.ok_or_else(|| {
            Error::invalid("ttl", format!("must be {SHORTEST} to {longest} seconds"))
        })
    }

    /// A time as `expires` shows it.
    pub fn format(&self, at: DateTime<Utc>) -> String {
        at.format(&self.dateformat).to_string()
    }
}
