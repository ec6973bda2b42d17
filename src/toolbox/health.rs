//! What monitors ask of a process: whether it can do its work, and how much of it there is.

use std::time::Duration;

use super::Toolbox;
use crate::{
    auth_token::limit_store,
    error::Result,
    file_request::{Status, store},
    queue,
};

/// What is said of a full disk.
const FULL: &str =
    "a disk was full less than a minute ago: what writes is refused until there is space";

/// Whether what a process needs is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The database answers, and its schema is this program's.
    pub database: bool,
    /// The store answers.
    pub storage: bool,
}

/// How much there is to do.
#[derive(Clone, Debug)]
pub struct Gauges {
    /// How many requests are in each state.
    pub requests: Vec<(Status, i64)>,
    /// How long the oldest due request has waited; nothing when none is due.
    pub oldest_due: Duration,
    /// Accounts whose logins wait because of wrong guesses.
    pub login_targets: i64,
    /// Jobs that wait in the queue.
    pub queue_depth: i64,
}

impl Toolbox {
    /// Whether database and store answer. What does not is told to the log, not here.
    pub async fn readiness(&self) -> Readiness {
        // At the same time: one that takes its time is not to make the other late.
        let (database, storage) = tokio::join!(self.db().require_current(), self.storage().ping());
        for (name, result) in [("database", &database), ("storage", &storage)] {
            if let Err(error) = result {
                tracing::warn!(%error, "{name} is not ready");
            }
        }
        Readiness { database: database.is_ok(), storage: storage.is_ok() }
    }

    /// What operators should know of a process that works, if not as it should.
    pub fn warnings(&self) -> Vec<&'static str> {
        let watch = self.memory().watch.warning();
        watch.into_iter().chain(self.saw_full_disk().then_some(FULL)).collect()
    }

    /// How much there is to do.
    ///
    /// # Errors
    /// The database's.
    pub async fn gauges(&self) -> Result<Gauges> {
        let (mut tx, now) = (self.db().read().await?, self.clock().now());
        let counts = store::counts(&mut tx).await?;
        let count = |status: Status| {
            counts.iter().find(|(name, _)| name == status.as_str()).map_or(0, |(_, count)| *count)
        };
        let oldest = store::oldest_due(&mut tx, now).await?;
        Ok(Gauges {
            requests: Status::ALL.map(|status| (status, count(status))).to_vec(),
            oldest_due: oldest.and_then(|wait| wait.to_std().ok()).unwrap_or_default(),
            login_targets: limit_store::targets(&mut tx, now.timestamp_millis()).await?,
            queue_depth: queue::depth(tx.conn()).await?,
        })
    }
}
