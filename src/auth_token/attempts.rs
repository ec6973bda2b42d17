//! Guessing passwords gets slower with each wrong one.
//!
//! Failures count for an account *from a network*, and for a network; of IPv6 also for the wider networks
//! that one party may have, by a multiple. So whoever guesses from
//! elsewhere keeps nobody out: there is no count of an account alone. Who logged in from a network
//! in the last month does not wait for what others do there. Failures leak away evenly. Each attempt
//! is counted before the password is looked at, so that a thousand at once are no way around; one
//! that waits is not counted, so that nobody prolongs the wait.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::limit_store::{self, Backoff};
use crate::{
    db::Db,
    error::{Error, Result},
    ids::hex,
    visitor::Visitor,
};

/// Of one account from one network.
const ACCOUNT: Backoff = Backoff { free: 5, longest: 60_000, leak: 720_000 };
/// Of one network for all accounts: offices share one.
const NETWORK: Backoff = Backoff { free: 50, longest: 30_000, leak: 72_000 };
/// What stands in place of a name that is longer than any of ours.
const NO_NAME: &str = "none";
/// How long somebody who logged in is known.
const KNOWN: i64 = 30 * 86_400_000;

/// An attempt under way.
#[derive(Debug)]
pub struct Attempt {
    /// The account's key of where it comes from.
    account: String,
    known: String,
    is_known: bool,
    /// What else was counted.
    counted: Vec<Counted>,
    now: i64,
}

#[derive(Debug)]
struct Counted {
    key: String,
    leak: i64,
    /// Until when it waits for this attempt.
    until: i64,
}

impl Attempt {
    /// Counts an attempt at the name with this key (`username_key`), as failed until
    /// [`Attempt::succeeded`] says otherwise. All names that have none are one account.
    ///
    /// # Errors
    /// [`Error::Throttled`] while the account or the network has to wait; the database's.
    pub async fn begin(
        db: &Db,
        key: Option<&str>,
        visitor: &Visitor,
        now: DateTime<Utc>,
    ) -> Result<Attempt> {
        let now = now.timestamp_millis();
        // As people type passwords there, too.
        let name = key.map_or(NO_NAME.into(), |key| hex(&Sha256::digest(key)));
        let network = visitor.network();
        let account = format!("account {network} {name}");
        let known = format!("known {network} {name}");
        let slowed = |until: i64| {
            metrics::counter!("bgfiles_logins_total", "outcome" => "slowed").increment(1);
            let wait = (until - now).max(1).unsigned_abs();
            Error::Throttled { retry_after: Duration::from_millis(wait) }
        };
        let mut tx = db.begin().await?;
        let until = limit_store::attempt(&mut tx, &account, ACCOUNT, now).await?;
        let until = until.map_err(slowed)?;
        let own = Counted { key: account.clone(), leak: ACCOUNT.leak, until };
        let mut counted = vec![own];
        // Who is known there does not wait for what others do.
        let is_known = limit_store::knows(&mut tx, &known, now).await?;
        if !is_known {
            let wider = visitor.wider_networks();
            let accounts = wider.iter().map(|(network, factor)| {
                (format!("account {network} {name}"), ACCOUNT.times(*factor))
            });
            let networks = wider
                .iter()
                .map(|(network, factor)| (format!("network {network}"), NETWORK.times(*factor)));
            let first = [(format!("network {network}"), NETWORK)];
            // In one order for all, so that nobody waits in a circle.
            for (key, backoff) in accounts.chain(first).chain(networks) {
                let until = limit_store::attempt(&mut tx, &key, backoff, now).await?;
                let until = until.map_err(slowed)?;
                counted.push(Counted { key, leak: backoff.leak, until });
            }
        }
        tx.commit().await?;
        Ok(Attempt { account, known, is_known, counted, now })
    }

    /// Whether somebody by this name has logged in from there before.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// The password was right: the account's failures from here are forgotten, this attempt is none
    /// of the networks', and who it is is known here.
    ///
    /// # Errors
    /// The database's.
    pub async fn succeeded(self, db: &Db) -> Result<()> {
        let mut tx = db.begin().await?;
        limit_store::forget(&mut tx, &self.account).await?;
        for Counted { key, leak, until } in &self.counted[1..] {
            limit_store::forgive(&mut tx, key, *leak, *until, self.now).await?;
        }
        limit_store::know(&mut tx, &self.known, self.now + KNOWN).await?;
        tx.commit().await
    }

    /// Nobody has looked at the password: this attempt counts for nothing.
    ///
    /// # Errors
    /// The database's.
    pub async fn taken_back(self, db: &Db) -> Result<()> {
        let mut tx = db.begin().await?;
        for Counted { key, leak, until } in &self.counted {
            limit_store::forgive(&mut tx, key, *leak, *until, self.now).await?;
        }
        tx.commit().await
    }
}
