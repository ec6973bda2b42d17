//! Guessing passwords gets slower with each wrong one.
//!
//! Failures count for an account *from a network*, and for a network. So whoever guesses from
//! elsewhere keeps nobody out: there is no count of an account alone. Who logged in from a network
//! in the last month does not wait for what others do there. Failures leak away evenly. Each attempt
//! is counted before the password is looked at, so that a thousand at once are no way around; one
//! that waits is not counted, so that nobody prolongs the wait.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::{limit_store, username_key};
use crate::{
    db::Db,
    error::{Error, Result},
    storage::hex,
    visitor::Visitor,
};

/// When guessing begins to take longer, and how long at most. In milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    /// Failures without consequence; the wait after that many is a second, then it doubles.
    pub(super) free: i64,
    /// The longest wait.
    pub(super) longest: i64,
    /// How long it takes until one failure is forgotten.
    pub(super) leak: i64,
}

/// Of one account from one network.
const ACCOUNT: Backoff = Backoff { free: 5, longest: 60_000, leak: 720_000 };
/// Of one network for all accounts: offices share one.
const NETWORK: Backoff = Backoff { free: 50, longest: 30_000, leak: 72_000 };
/// How long somebody who logged in is known.
const KNOWN: i64 = 30 * 86_400_000;

/// An attempt under way.
#[derive(Debug)]
pub struct Attempt {
    account: String,
    known: String,
    /// The network's key, and until when it waits for this attempt; none for who is known there.
    network: Option<(String, i64)>,
    now: i64,
}

impl Attempt {
    /// Counts an attempt, as failed until [`Attempt::succeeded`] says otherwise.
    ///
    /// # Errors
    /// [`Error::Throttled`] while the account or the network has to wait; the database's.
    pub async fn begin(
        db: &Db,
        username: &str,
        visitor: &Visitor,
        now: DateTime<Utc>,
    ) -> Result<Attempt> {
        let (network, now) = (visitor.network(), now.timestamp_millis());
        // As people type passwords there, too.
        let name = hex(&Sha256::digest(username_key(username)));
        let account = format!("account {network} {name}");
        let known = format!("known {network} {name}");
        let network = format!("network {network}");
        let slowed = |until: i64| {
            metrics::counter!("bgfiles_logins_total", "outcome" => "slowed").increment(1);
            let wait = (until - now).max(1).unsigned_abs();
            Error::Throttled { retry_after: Duration::from_millis(wait) }
        };
        let mut tx = db.begin().await?;
        limit_store::attempt(&mut tx, &account, ACCOUNT, now).await?.map_err(slowed)?;
        let network = match limit_store::knows(&mut tx, &known, now).await? {
            true => None,
            false => {
                let counted = limit_store::attempt(&mut tx, &network, NETWORK, now).await?;
                Some((network, counted.map_err(slowed)?))
            }
        };
        tx.commit().await?;
        Ok(Attempt { account, known, network, now })
    }

    /// The password was right: the account's failures from here are forgotten, this attempt is none
    /// of the network's, and who it is is known here.
    ///
    /// # Errors
    /// The database's.
    pub async fn succeeded(self, db: &Db) -> Result<()> {
        let mut tx = db.begin().await?;
        limit_store::forget(&mut tx, &self.account).await?;
        if let Some((network, until)) = &self.network {
            limit_store::forgive(&mut tx, network, NETWORK.leak, *until, self.now).await?;
        }
        limit_store::know(&mut tx, &self.known, self.now + KNOWN).await?;
        tx.commit().await
    }
}
