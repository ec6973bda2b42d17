//! Guessing passwords gets slower with each wrong one.
//!
//! Failures count for an account *from an address*, and for an address. So whoever guesses from
//! elsewhere keeps nobody out: there is no count of an account alone. Each attempt is counted
//! before the password is looked at, so that a thousand at once are no way around; one that waits
//! is not counted, so that nobody prolongs the wait.

use std::{net::IpAddr, time::Duration};

use chrono::{DateTime, Utc};

use super::{limit_store, username_key};
use crate::{
    db::Db,
    error::{Error, Result},
    visitor::Visitor,
};

/// When guessing begins to take longer, and how long at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    /// Failures without consequence.
    pub(super) free: i64,
    /// Most milliseconds between two attempts; the first wait is a second, then it doubles.
    pub(super) longest: i64,
}

/// Of one account from one address.
const ACCOUNT: Backoff = Backoff { free: 5, longest: 60_000 };
/// Of one address for all accounts: offices share one.
const ADDRESS: Backoff = Backoff { free: 50, longest: 30_000 };
/// Milliseconds after which failures are forgotten.
pub(super) const FORGET: i64 = 3_600_000;

/// An attempt under way.
#[derive(Debug)]
pub struct Attempt {
    keys: [(String, Backoff); 2],
}

/// A network that one party has: an IPv4 address, or the /64 of an IPv6 one.
fn network(ip: Option<IpAddr>) -> String {
    match ip {
        Some(IpAddr::V6(ip)) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Some(ip) => ip.to_string(),
        None => "unknown".into(),
    }
}

impl Attempt {
    /// Counts an attempt, as failed until [`Attempt::succeeded`] says otherwise.
    ///
    /// # Errors
    /// [`Error::Throttled`] while the account or the address has to wait; the database's.
    pub async fn begin(
        db: &Db,
        username: &str,
        visitor: &Visitor,
        now: DateTime<Utc>,
    ) -> Result<Attempt> {
        let (network, now) = (network(visitor.ip), now.timestamp_millis());
        let account: String = username_key(username).chars().take(200).collect();
        let keys = [
            (format!("account {network} {account}"), ACCOUNT),
            (format!("address {network}"), ADDRESS),
        ];
        let mut tx = db.begin().await?;
        for (key, backoff) in &keys {
            if let Some(until) = limit_store::attempt(&mut tx, key, *backoff, now).await? {
                metrics::counter!("bgfiles_logins_total", "outcome" => "slowed").increment(1);
                let wait = (until - now).max(1).unsigned_abs();
                return Err(Error::Throttled { retry_after: Duration::from_millis(wait) });
            }
        }
        tx.commit().await?;
        Ok(Attempt { keys })
    }

    /// The password was right: the account's failures from here are forgotten, and this attempt is
    /// none of the address's.
    ///
    /// # Errors
    /// The database's.
    pub async fn succeeded(self, db: &Db) -> Result<()> {
        let [(account, _), (address, _)] = &self.keys;
        let mut tx = db.begin().await?;
        limit_store::forget(&mut tx, account).await?;
        limit_store::forgive(&mut tx, address).await?;
        tx.commit().await
    }
}
