//! What operators look at, and the log of what they did.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    auth_token::Caller,
    db::Conn,
    error::Result,
    file_request::{
        FileRequest, Status,
        store::{self, WaitingType},
    },
    operations::{self, AuditEntry, Ended, Stored, SweepRun, WorkerState},
    toolbox::{Toolbox, requests::staff},
};

pub use crate::operations::store::AuditFilter;

/// A worker process that was silent for so long is not counted as alive.
const SILENT: TimeDelta = TimeDelta::seconds(20);
/// Worker processes that were there within this time are shown.
const RECENT: TimeDelta = TimeDelta::hours(1);
/// Requests that are shown by name.
const LISTED: usize = 20;
/// Worker processes that are.
const WORKERS: usize = 10;

/// A worker process, and what it is at.
#[derive(Clone, Debug)]
pub struct WorkerView {
    /// As it last said.
    pub state: WorkerState,
    /// Whether it lives.
    pub alive: bool,
    /// How many of its slots are taken. It may hold as many leases again, of files that are made and
    /// wait for their commit.
    pub busy: i64,
    /// Requests whose lease it holds, some of them.
    pub at: Vec<FileRequest>,
    /// How many more there are.
    pub more: i64,
}

/// How things stand.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Worker processes of the last hour, the newest first; ten at most.
    pub workers: Vec<WorkerView>,
    /// How many more there are.
    pub more_workers: i64,
    /// Types that requests are due of and that nobody knows.
    pub unknown: Vec<WaitingType>,
    /// How many requests are in each state.
    pub counts: Vec<(Status, i64)>,
    /// How long the oldest due request has waited.
    pub waiting_for: Option<Duration>,
    /// Mails that wait, and mails that could not be sent.
    pub mails: [i64; 2],
    /// Requests that ended, by hour and ending.
    pub ended: Vec<Ended>,
    /// Files and their bytes.
    pub stored: Stored,
    /// The last run of each sweep.
    pub sweeps: Vec<SweepRun>,
}

/// What operators look after; made by [`Toolbox::operations`].
#[derive(Clone, Copy, Debug)]
pub struct Operations<'a> {
    toolbox: &'a Toolbox,
}

impl<'a> Operations<'a> {
    /// The same for `caller`, who must be one.
    ///
    /// # Errors
    /// [`crate::Error::Forbidden`] for who is not staff.
    pub fn by(self, caller: &Caller) -> Result<Operator<'a>> {
        staff(caller)?;
        Ok(Operator { toolbox: self.toolbox })
    }
}

/// Somebody who is known to be an operator; made by [`Operations::by`].
#[derive(Clone, Copy, Debug)]
pub struct Operator<'a> {
    toolbox: &'a Toolbox,
}

impl Operator<'_> {
    /// How things stand, with what ended since `since`.
    ///
    /// # Errors
    /// The database's.
    pub async fn overview(&self, since: DateTime<Utc>) -> Result<Overview> {
        self.toolbox.overview(since).await
    }

    /// What operators did, the newest first, at most `limit`.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit_log(&self, filter: &AuditFilter<'_>, limit: i64) -> Result<Vec<AuditEntry>> {
        self.toolbox.audit_log(filter, limit).await
    }
}

impl Toolbox {
    /// What operators look after, on somebody's word.
    pub fn operations(&self) -> Operations<'_> {
        Operations { toolbox: self }
    }

    /// How things stand, with what ended since `since`.
    ///
    /// # Errors
    /// The database's.
    pub async fn overview(&self, since: DateTime<Utc>) -> Result<Overview> {
        let now = self.clock().now();
        let mut tx = self.db().read().await?;
        let mut states = operations::store::workers(&mut tx, now - RECENT, i64::MAX).await?;
        // Those that live are shown first.
        let is_alive =
            |state: &WorkerState| state.ended_at.is_none() && state.seen_at + SILENT > now;
        states.sort_by_key(|state| !is_alive(state));
        let more_workers = states.len().saturating_sub(WORKERS);
        states.truncate(WORKERS);
        let running = store::Filter { status: Some(Status::Running), ..Default::default() };
        let running = store::list(&mut tx, &running, LISTED as i64).await?;
        let held = store::leases(&mut tx, now).await?;
        let workers = states.into_iter().map(|state| {
            let own = |row: &&FileRequest| row.leased_by.as_deref() == Some(state.name.as_str());
            let at: Vec<FileRequest> = running.iter().filter(own).cloned().collect();
            let alive = is_alive(&state);
            let held = held.iter().find(|(name, _)| *name == state.name).map_or(0, |(_, n)| *n);
            let (busy, more) = (held.min(state.slots.into()), held - at.len() as i64);
            WorkerView { state, alive, busy, at, more: more.max(0) }
        });
        let workers: Vec<WorkerView> = workers.collect();
        let counts = store::counts(&mut tx).await?;
        let unsent = operations::store::unsent(&mut tx).await?;
        Ok(Overview {
            workers,
            more_workers: more_workers as i64,
            unknown: self.unknown_types(&mut tx).await?,
            counts: Status::ALL
                .map(|status| {
                    let found = counts.iter().find(|(name, _)| name == status.as_str());
                    (status, found.map_or(0, |(_, count)| *count))
                })
                .to_vec(),
            waiting_for: store::oldest_due(&mut tx, now).await?.and_then(|w| w.to_std().ok()),
            mails: [unsent.waiting, unsent.failed],
            ended: operations::store::ended_by_hour(&mut tx, since).await?,
            stored: operations::store::stored(&mut tx).await?,
            sweeps: operations::store::sweeps(&mut tx).await?,
        })
    }

    /// Writes down what an operator did; in the transaction that does it.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit(
        &self,
        conn: impl Into<Conn<'_>>,
        actor: &str,
        action: &str,
        subject: &str,
        detail: &str,
    ) -> Result<()> {
        tracing::info!(actor, action, subject, "an operator acted");
        let now = self.clock().now();
        operations::store::audit(conn, now, actor, action, subject, detail).await
    }

    /// What operators did, the newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit_log(&self, filter: &AuditFilter<'_>, limit: i64) -> Result<Vec<AuditEntry>> {
        operations::store::audit_log(&mut self.db().acquire().await?, filter, limit).await
    }
}
