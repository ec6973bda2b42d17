//! How attempts end: what is written down, and who is told.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::{
    attempt::Attempt,
    backoff::backoff,
    publisher::{Made, Notices},
};
use crate::{
    error::{Error, Result, Said},
    file_request::{
        FileRequest, Status,
        attempts::{self, Attempt as Ended},
        store,
    },
    registry::MailKind,
    toolbox::{KEEP_ENDED, Toolbox},
};

/// How long a finished file waits for a database that does not answer.
const PUBLISH_FOR: Duration = Duration::from_secs(120);
/// Attempts when the database, the store or a disk is in trouble, which is no fault of the request:
/// with the pauses between them, about three quarters of an hour.
const INFRASTRUCTURE_ATTEMPTS: i32 = 10;

/// What [`Toolbox::dispatch`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dispatched {
    /// Nothing to do: somebody else has it, it is not due, it is done, or it is for others, as
    /// nobody here knows its type.
    Ignored,
    /// The file is there.
    Handled,
    /// It failed for now and is due again later.
    Retrying,
    /// It failed for good.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// The process ends; somebody else will do it.
    Released,
    /// Another worker took over.
    Lost,
}

impl Toolbox {
    /// Writes down how the attempt ended.
    pub(super) async fn conclude(
        &self,
        row: FileRequest,
        attempt: Attempt,
        max_attempts: i32,
        began: Instant,
    ) -> Result<Dispatched> {
        let id = row.id;
        match attempt {
            Attempt::Done(file) => match self.publish(&row, &file).await? {
                true => {
                    let seconds = began.elapsed().as_secs_f64();
                    let (size, rows) = (file.size, file.rows);
                    tracing::info!(request = %id, size, rows, seconds, "finished");
                    Ok(Dispatched::Handled)
                }
                false => self.not_published(&row, &file).await,
            },
            Attempt::CancelRequested => self.end_cancelled(&row).await,
            Attempt::LeaseLost => {
                tracing::warn!(request = %id, generation = row.generation, "lease lost");
                self.lost(&row).await
            }
            Attempt::Stopped => {
                tracing::info!(request = %id, "given back");
                let now = self.clock().now();
                let ending = store::Ending { attempts_back: 1, ..ending(Status::Pending, now) };
                self.end(&row, &ending).await?;
                Ok(Dispatched::Released)
            }
            Attempt::Error(error) => self.failed(&row, &error, max_attempts).await,
        }
    }

    /// Makes the file visible and queues the notice, in one transaction; tries again while the
    /// database does not answer, as the file is already made.
    async fn publish(&self, row: &FileRequest, file: &store::Published) -> Result<bool> {
        let deadline = Instant::now() + PUBLISH_FOR;
        let mut pause = Duration::from_millis(250);
        let publication =
            store::Publication { id: row.id, generation: row.generation, file: file.clone() };
        let attempt = self.ended(row, Status::Finished, None, None);
        let made = Made { publication: Arc::new(publication), attempt };
        loop {
            match self.0.publisher.submit(self, made.clone()).await {
                Err(e) if e.is_retryable() && Instant::now() < deadline => {
                    tracing::warn!(request = %row.id, error = %e, "publishing failed; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
                other => return other,
            }
        }
    }

    /// A line of the request's timeline.
    fn ended(
        &self,
        row: &FileRequest,
        outcome: Status,
        error: Option<&str>,
        cause: Option<&str>,
    ) -> Ended {
        // The row is as the claim left it.
        let lease = TimeDelta::from_std(self.lease()).unwrap_or(TimeDelta::seconds(10));
        let now = self.clock().now();
        Ended {
            request_id: row.id,
            generation: row.generation,
            worker: row.leased_by.clone().unwrap_or_default(),
            started_at: row.lease_until.map_or(now, |until| until - lease),
            ended_at: now,
            outcome,
            error: error.map(str::to_owned),
            cause: cause.map(str::to_owned),
        }
    }

    /// The file was made for nothing: cancelled meanwhile, or taken over.
    async fn not_published(
        &self,
        row: &FileRequest,
        file: &store::Published,
    ) -> Result<Dispatched> {
        if let Err(error) = self.storage().delete(file.storage_key.parse()?).await {
            tracing::warn!(request = %row.id, %error, "could not remove an unused object; it is left for the sweep");
        }
        match self.end_cancelled(row).await? {
            Dispatched::Cancelled => Ok(Dispatched::Cancelled),
            _ => {
                tracing::warn!(request = %row.id, generation = row.generation, "lease lost; the file does not count");
                self.lost(row).await
            }
        }
    }

    /// Says that this worker is alive: who took over could not know, and counted a crash.
    async fn lost(&self, row: &FileRequest) -> Result<Dispatched> {
        if !row.begun {
            return Ok(Dispatched::Lost);
        }
        let mut tx = self.db().begin().await?;
        if store::forgive_crash(&mut tx, row.id, row.generation).await? {
            let why = "the worker was too slow to keep its lease";
            let attempt = self.ended(row, Status::Pending, Some(why), None);
            attempts::store::insert(&mut tx, &attempt).await?;
            tx.commit().await?;
        }
        Ok(Dispatched::Lost)
    }

    async fn end_cancelled(&self, row: &FileRequest) -> Result<Dispatched> {
        self.end(row, &ending(Status::Cancelled, self.clock().now())).await
    }

    async fn failed(
        &self,
        row: &FileRequest,
        error: &Error,
        max_attempts: i32,
    ) -> Result<Dispatched> {
        let (now, message, cause) =
            (self.clock().now(), error.message_about(row.id), error.cause());
        let told =
            Some(store::Told { code: error.code(), message: &message, cause: cause.as_deref() });
        let budget = match error.is_infrastructure() {
            true => max_attempts.max(INFRASTRUCTURE_ATTEMPTS),
            false => max_attempts,
        };
        let (file_type, attempt) = (&row.file_type, row.attempts);
        let Said { state, detail, hint, context } = error.said();
        if error.is_retryable() && attempt < budget {
            let run_at = now + backoff(attempt);
            tracing::warn!(
                request = %row.id, %file_type, attempt, %error, state, detail, hint, context,
                again_at = %run_at, "attempt failed"
            );
            let again = store::Ending { error: told, run_at, ..ending(Status::Pending, now) };
            return self.end(row, &again).await;
        }
        // What was asked for cannot be had: whoever asked is told, and nobody else need look.
        match error {
            Error::Invalid(_) => {
                tracing::warn!(request = %row.id, %file_type, attempt, %error, "failed for good");
            }
            _ => tracing::error!(
                request = %row.id, %file_type, attempt, %error, state, detail, hint, context,
                "failed for good"
            ),
        }
        self.end(row, &store::Ending { error: told, ..ending(Status::Failed, now) }).await
    }

    /// Writes an ending and, of a failure, queues the notice, in one transaction; tries again for a
    /// while, as nobody else knows.
    async fn end(&self, row: &FileRequest, ending: &store::Ending<'_>) -> Result<Dispatched> {
        match self.end_once(row, ending).await {
            Err(e) if e.is_retryable() => {
                tracing::debug!(request = %row.id, error = %e, "an ending was not written down");
                tokio::time::sleep(Duration::from_millis(250)).await;
                self.end_once(row, ending).await
            }
            other => other,
        }
    }

    async fn end_once(&self, row: &FileRequest, ending: &store::Ending<'_>) -> Result<Dispatched> {
        let mut tx = self.db().begin().await?;
        let Some(ended) = store::end(&mut tx, row.id, row.generation, ending).await? else {
            return Ok(Dispatched::Lost);
        };
        let (error, cause) =
            ending.error.map_or((None, None), |told| (Some(told.message), told.cause));
        attempts::store::insert(&mut tx, &self.ended(row, ended.status, error, cause)).await?;
        let (status, mut notices) = (ended.status, Notices::default());
        if status == Status::Failed {
            self.announce(&mut notices, ended, None, MailKind::Failed);
        }
        notices.store(self, &mut tx).await?;
        tx.commit().await?;
        notices.go();
        Ok(match status {
            Status::Failed => Dispatched::Failed,
            Status::Cancelled => Dispatched::Cancelled,
            _ => Dispatched::Retrying,
        })
    }
}

fn ending<'a>(status: Status, now: DateTime<Utc>) -> store::Ending<'a> {
    store::Ending {
        status,
        error: None,
        run_at: now,
        attempts_back: 0,
        now,
        expires_at: now + KEEP_ENDED,
    }
}
