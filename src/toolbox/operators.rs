//! What operators see and do beyond what requesters may.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Toolbox, requests::already};
use crate::{
    auth_token::{Client, User, store as accounts},
    db::Conn,
    error::{Error, Result},
    file_request::{
        FileRequest, Status,
        attempts::{self, Attempt},
        links::{self, HitRow, Link},
        notice::{self, Notice, store::Carrier},
        store::{self, WaitingType},
    },
    ids::RequestId,
    operations::{self, AuditEntry, Ended, Stored, SweepRun, WorkerState},
    queue,
    registry::MailKind,
};

/// A worker process that was silent for so long is not counted as alive.
const SILENT: TimeDelta = TimeDelta::seconds(20);
/// Worker processes that were there within this time are shown.
const RECENT: TimeDelta = TimeDelta::hours(1);
/// Requests that are shown by name.
const LISTED: usize = 20;
/// Worker processes that are.
const WORKERS: usize = 10;
/// What a request's page shows of its downloads.
const HITS: i64 = 100;
/// And of its links: all that are not over, as long as no more were made before there was a limit.
const SHOWN: i64 = 100;

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

/// Everything that is known of a request.
#[derive(Clone, Debug)]
pub struct History {
    /// Attempts that ended with a word.
    pub attempts: Vec<Attempt>,
    /// Mails about it.
    pub notices: Vec<Notice>,
    /// Links with a row: a hundred at most, those first that are not over.
    pub links: Vec<Link>,
    /// Whether there are more.
    pub more_links: bool,
    /// What became of its links, the newest first; the last hundred.
    pub hits: Vec<HitRow>,
}

impl Toolbox {
    /// How things stand, with what ended since `since`.
    ///
    /// # Errors
    /// The database's.
    pub async fn overview(&self, since: DateTime<Utc>) -> Result<Overview> {
        let now = self.clock.now();
        let mut tx = self.db.read().await?;
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
        let notices = operations::store::notices(&mut tx).await?;
        let mails = ["pending", "failed"].map(|status| {
            notices.iter().find(|(name, _)| name == status).map_or(0, |(_, count)| *count)
        });
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
            mails,
            ended: operations::store::ended_by_hour(&mut tx, since).await?,
            stored: operations::store::stored(&mut tx).await?,
            sweeps: operations::store::sweeps(&mut tx).await?,
        })
    }

    /// Everything that is known of a request.
    ///
    /// # Errors
    /// The database's.
    pub async fn history(&self, id: RequestId) -> Result<History> {
        self.write_earlier_receipts().await;
        let (mut tx, now) = (self.db.read().await?, self.clock.now());
        let mut links = links::store::good_first(&mut tx, id, now, SHOWN + 1).await?;
        let more_links = links.len() as i64 > SHOWN;
        links.truncate(SHOWN as usize);
        Ok(History {
            attempts: attempts::store::of_request(&mut tx, id).await?,
            notices: notice::store::of_request(&mut tx, id).await?,
            links,
            more_links,
            hits: links::line::store::hits(&mut tx, id, None, None, HITS).await?,
        })
    }

    /// Ends a file's time now: nobody gets it any more, and the cleaner removes it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when there is no file that could be had.
    pub async fn expire(&self, conn: impl Into<Conn<'_>>, id: RequestId) -> Result<FileRequest> {
        let (mut conn, now) = (conn.into(), self.clock.now());
        self.memory().watch.hold(conn.reborrow()).await?;
        match store::expire(conn.reborrow(), id, now).await? {
            Some(row) => {
                // Downloads that were begun end with it.
                links::store::end_grants(conn, id).await?;
                Ok(row)
            }
            None => Err(already(conn, id, "expired").await?),
        }
    }

    /// Mails about a request's end (again).
    ///
    /// # Errors
    /// [`Error::Conflict`] when it has not ended with a file or a failure, or names nobody to mail.
    pub async fn notify_again(
        &self,
        conn: impl Into<Conn<'_>>,
        row: &FileRequest,
    ) -> Result<Notice> {
        let now = self.clock.now();
        let kind = match row.status {
            Status::Finished if !row.is_expired(now) => MailKind::Ready,
            Status::Failed => MailKind::Failed,
            status => {
                let message =
                    format!("the request is {}; there is nothing to tell", status.as_str());
                return Err(Error::Conflict { code: "wrong_status", message });
            }
        };
        if self.recipients(row, kind).is_empty() {
            let message = "the request names nobody to mail".into();
            return Err(Error::Conflict { code: "no_recipient", message });
        }
        let domain = self.base_url.host();
        let notice = Notice::about(row.id, row.generation, kind, &domain, now).again(&domain);
        let mut conn = conn.into();
        notice::store::insert(conn.reborrow(), &notice, Carrier::Anybody).await?;
        queue::push(conn, queue::Wake::notice(notice.id), now).await?;
        Ok(notice)
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
        let now = self.clock.now();
        operations::store::audit(conn, now, actor, action, subject, detail).await
    }

    /// What operators did, the newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn audit_log(
        &self,
        filter: &operations::store::AuditFilter<'_>,
        limit: i64,
    ) -> Result<Vec<AuditEntry>> {
        operations::store::audit_log(&mut self.db.acquire().await?, filter, limit).await
    }

    /// Users of our own, by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn own_users(&self, after: Option<&str>, limit: i64) -> Result<Vec<User>> {
        accounts::list_users(&mut self.db.acquire().await?, after, limit).await
    }

    /// All clients, by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn clients(&self) -> Result<Vec<Client>> {
        accounts::list_clients(&mut self.db.acquire().await?).await
    }
}
