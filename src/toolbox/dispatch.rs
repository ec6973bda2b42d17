//! One attempt of a worker, from claim to publish.
//!
//! Everything that counts is conditional on the generation that the claim gave out: a worker that
//! was thought dead and comes back changes nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    KEEP_ENDED, Toolbox,
    publisher::{Made, Notices},
};
use crate::{
    db,
    error::{Error, Result, Said},
    failpoint,
    file_request::{
        FileRequest, Status,
        attempts::{self, Attempt as Ended},
        filename, store,
    },
    ids::{RequestId, random_bytes},
    registry::{Handler, Job, MailKind, Output},
    storage::{Headers, StorageKey, Uploaded},
};

/// An attempt counts once its handler has run for so long: what is done sooner need not be written
/// down twice, and who dies sooner has lost nothing.
const BEGUN_AFTER: Duration = Duration::from_millis(100);
/// How often the lease is renewed, progress written and a cancel request looked for.
const BEAT: Duration = Duration::from_secs(1);
/// How long a handler gets to notice that it should stop.
const GRACE: Duration = Duration::from_secs(2);
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

/// How an attempt ended.
enum Attempt {
    Done(Box<store::Published>),
    Error(Error),
    CancelRequested,
    LeaseLost,
    Stopped,
}

impl Toolbox {
    /// Claims the request and makes its file. `stop` ends the work early and gives it back.
    ///
    /// # Errors
    /// Only the database's: whatever happens to the request is told by [`Dispatched`].
    pub async fn dispatch(
        &self,
        id: RequestId,
        worker: &str,
        stop: &CancellationToken,
    ) -> Result<Dispatched> {
        let now = self.clock.now();
        // A statement of its own is its own transaction.
        let mut conn = self.db.acquire().await?;
        let row = store::find(&mut conn, id).await?;
        if row.is_none_or(|row| self.registry.get(row.file_type.as_str()).is_err()) {
            return Ok(Dispatched::Ignored);
        }
        let claimed = store::claim(&mut conn, id, worker, now, self.lease_until(now)).await?;
        drop(conn);
        match claimed {
            Some(row) => self.work(row, stop, ()).await,
            None => Ok(Dispatched::Ignored),
        }
    }

    /// Whether there is anything to claim that has been due since then.
    pub(crate) async fn claimable(&self, since: DateTime<Utc>) -> Result<store::Claimable> {
        store::claimable(&mut self.db.acquire().await?, since, self.clock.now()).await
    }

    /// Claims so many requests of these types at most, for [`Toolbox::work`].
    pub(crate) async fn claim_some(
        &self,
        which: store::Which,
        most: usize,
        worker: &str,
        file_types: &[String],
    ) -> Result<Vec<FileRequest>> {
        let (now, most) = (self.clock.now(), i64::try_from(most).unwrap_or(i64::MAX));
        let lease_until = self.lease_until(now);
        let claimant = store::Claimant { worker, file_types, now, lease_until };
        store::claim_some(&mut self.db.acquire().await?, which, most, claimant).await
    }

    /// Makes the file of a request that was claimed. `stop` ends the work early and gives it back.
    /// `slot` is dropped once the file is stored: the next one can be made while this one waits for
    /// its commit.
    ///
    /// # Errors
    /// As [`Toolbox::dispatch`].
    pub(crate) async fn work(
        &self,
        mut row: FileRequest,
        stop: &CancellationToken,
        slot: impl Send,
    ) -> Result<Dispatched> {
        let now = self.clock.now();
        let _at_work = AtWork::new(&self.0.at_work);
        failpoint::reached("claimed");
        tracing::info!(request = %row.id, file_type = %row.file_type, attempt = row.attempts, "claimed");
        metrics::histogram!("bgfiles_pickup_seconds").record(seconds(now - row.run_at));
        let began = Instant::now();
        let (attempt, max_attempts) = match self.registry.get(row.file_type.as_str()) {
            Err(e) => (Attempt::Error(e), 1),
            // So many attempts ended without a word: the process died of them.
            Ok(handler) if row.crashes >= handler.max_attempts() => {
                let code = "worker_died";
                let message = "making the file ended the worker, every time";
                (Attempt::Error(Error::permanent(code, message)), handler.max_attempts())
            }
            Ok(handler) => {
                let attempt = self.attempt(handler.clone(), &mut row, stop).await;
                (attempt, handler.max_attempts())
            }
        };
        drop(slot);
        if matches!(&attempt, Attempt::Error(error) if error.is_of_space()) {
            self.note_full_disk();
        }
        let (file_type, outcome) =
            (row.file_type.clone(), self.conclude(row, attempt, max_attempts, began));
        let outcome = outcome.await?;
        // What is measured is kept for ever, and names that nobody registered have no end.
        let known = self.registry.get(file_type.as_str()).is_ok();
        let file_type = if known { file_type.to_string() } else { "_OTHER".into() };
        metrics::counter!("bgfiles_dispatched_total", "file_type" => file_type.clone(),
            "outcome" => format!("{outcome:?}").to_lowercase())
        .increment(1);
        metrics::histogram!("bgfiles_dispatch_seconds", "file_type" => file_type)
            .record(began.elapsed().as_secs_f64());
        Ok(outcome)
    }

    fn lease_until(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::from_std(self.lease).unwrap_or(TimeDelta::seconds(10))
    }

    /// Runs the handler beside the heartbeat; whichever ends first decides.
    async fn attempt(
        &self,
        handler: Arc<dyn Handler>,
        row: &mut FileRequest,
        stop: &CancellationToken,
    ) -> Attempt {
        let job = match prepare(&*handler, row) {
            Ok(job) => job,
            Err(e) => return Attempt::Error(e),
        };
        // Whose worker died before may be what it died of, and too fast to be counted.
        if row.crashes + row.lost > 0
            && let Some(end) =
                self.beat_once(row, &job).await.unwrap_or_else(|e| Some(Attempt::Error(e)))
        {
            return end;
        }
        let cancelled = job.cancelled.clone();
        let _stop_at_the_end = cancelled.clone().drop_guard();
        let timeout = handler.timeout();
        let work = self.make(handler, &job);
        tokio::pin!(work);
        let interrupted = tokio::select! {
            done = &mut work => return match done {
                Ok(file) => Attempt::Done(Box::new(file)),
                Err(e) => Attempt::Error(e),
            },
            attempt = self.beat(row, &job) => attempt,
            never = self.look_back(&job) => match never {},
            () = stop.cancelled() => Attempt::Stopped,
            () = tokio::time::sleep(timeout) => Attempt::Error(Error::permanent(
                "timeout",
                format!("making the file took longer than {} seconds", timeout.as_secs()),
            )),
        };
        cancelled.cancel();
        // Time to clean up after itself; what it does from here on does not count.
        if let Ok(Ok(file)) = tokio::time::timeout(GRACE, work).await
            && let Ok(key) = file.storage_key.parse()
            && let Err(error) = self.storage.delete(key).await
        {
            tracing::warn!(request = %row.id, %error, "an unused object is left for the sweep");
        }
        interrupted
    }

    /// The file, stored but not yet visible.
    async fn make(&self, handler: Arc<dyn Handler>, job: &Job) -> Result<store::Published> {
        let row = &job.request;
        let filename = handler.offered_name(job);
        let key = StorageKey { request: row.id, generation: row.generation };
        let headers = Headers {
            content_type: handler.content_type(job),
            disposition: filename::of_request(row, &filename, handler.content_as_attachment()),
        };
        let Uploaded { size, sha256 } =
            self.run_and_store(handler.clone(), job, key, &headers).await?;
        failpoint::reached("uploaded");
        let now = self.clock.now();
        let keep = handler.expires_after().or(self.signer.max_age());
        let keep = keep.and_then(|keep| TimeDelta::from_std(keep).ok()).unwrap_or(KEEP_ENDED);
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Ok(store::Published {
            storage_key: key.to_string(),
            filename,
            content_type: headers.content_type,
            format: row.format.clone(),
            description: row.description.clone(),
            size: signed(size),
            sha256,
            rows: job.progress.rows().map(signed),
            finished_at: now,
            expires_at: now + keep,
        })
    }

    async fn run_and_store(
        &self,
        handler: Arc<dyn Handler>,
        job: &Job,
        key: StorageKey,
        headers: &Headers,
    ) -> Result<Uploaded> {
        let (out, bytes) = Output::channel();
        let job = job.clone();
        let writer = AbortOnDrop(tokio::spawn(async move { handler.write(&job, out).await }));
        let complete = async {
            let mut writer = writer;
            match (&mut writer.0).await {
                Ok(result) => result,
                Err(e) if e.is_panic() => Err(Error::temporary(
                    "handler_panicked",
                    "the program that makes this file failed",
                )),
                Err(_) => Err(Error::OutputClosed),
            }
        };
        self.storage.upload(key, headers, bytes, complete).await
    }

    /// Renews the lease until there is a reason to stop. A database that does not answer is none:
    /// whether the lease still holds is decided when the file is published.
    async fn beat(&self, row: &mut FileRequest, job: &Job) -> Attempt {
        tokio::time::sleep(BEGUN_AFTER.min(self.lease / 3)).await;
        let mut ticks = tokio::time::interval(BEAT.min(self.lease / 3));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match db::within(self.lease / 2, self.beat_once(row, job)).await {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => tracing::warn!(request = %row.id, %error, "heartbeat failed"),
            }
        }
    }

    /// Renews the lease, and writes that the handler has begun. Answers a reason to stop.
    async fn beat_once(&self, row: &mut FileRequest, job: &Job) -> Result<Option<Attempt>> {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let beat = store::Beat {
            done: signed(job.progress.done()),
            total: job.progress.total().map(signed),
            estimated: job.progress.is_estimated(),
            lease_until: self.lease_until(self.clock.now()),
        };
        let mut conn = self.db.acquire().await?;
        let told = store::heartbeat(&mut conn, row.id, row.generation, beat).await?;
        row.begun |= told.is_some();
        Ok(match told {
            Some(false) => None,
            Some(true) => Some(Attempt::CancelRequested),
            None => Some(Attempt::LeaseLost),
        })
    }

    /// Writes down how the attempt ended.
    async fn conclude(
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
                let now = self.clock.now();
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
            match self.0.publisher.ask(self, made.clone()).await {
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
        let lease = TimeDelta::from_std(self.lease).unwrap_or(TimeDelta::seconds(10));
        let now = self.clock.now();
        Ended {
            request_id: row.id,
            generation: row.generation,
            worker: row.leased_by.clone().unwrap_or_default(),
            started_at: row.lease_until.map_or(now, |until| until - lease),
            ended_at: now,
            outcome: outcome.as_str().into(),
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
        if let Err(error) = self.storage.delete(file.storage_key.parse()?).await {
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
        let mut tx = self.db.begin().await?;
        if store::forgive_crash(&mut tx, row.id, row.generation).await? {
            let why = "the worker was too slow to keep its lease";
            let attempt = self.ended(row, Status::Pending, Some(why), None);
            attempts::store::insert(&mut tx, &attempt).await?;
            tx.commit().await?;
        }
        Ok(Dispatched::Lost)
    }

    async fn end_cancelled(&self, row: &FileRequest) -> Result<Dispatched> {
        self.end(row, &ending(Status::Cancelled, self.clock.now())).await
    }

    async fn failed(
        &self,
        row: &FileRequest,
        error: &Error,
        max_attempts: i32,
    ) -> Result<Dispatched> {
        let (now, message, cause) = (self.clock.now(), error.message_about(row.id), error.cause());
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
        let mut tx = self.db.begin().await?;
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

/// One more, as long as this lives.
struct AtWork<'a>(&'a AtomicUsize);

impl<'a> AtWork<'a> {
    fn new(number: &'a AtomicUsize) -> Self {
        number.fetch_add(1, Ordering::Relaxed);
        AtWork(number)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The job of a row, with what a row written by hand may lack.
fn prepare(handler: &dyn Handler, row: &FileRequest) -> Result<Job> {
    let mut job = Job::new(row.clone())?;
    if handler.policy().requester_only.counts(row.requester_only) && row.requester.is_none() {
        let message = "only the requester may download this file, and the request names none";
        return Err(Error::permanent("requester_missing", message));
    }
    let given = Some(job.request.format.as_str());
    // What nobody offers is nobody's to try again.
    job.request.format = handler
        .choose_format(given)
        .map_err(|e| Error::permanent("unsupported_format", e.public_message()))?;
    if job.request.description.is_empty() {
        job.request.description = handler.description(&job);
    }
    Ok(job)
}

/// Stops the handler when nobody waits for it any more.
struct AbortOnDrop(tokio::task::JoinHandle<Result<()>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
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

fn seconds(delta: TimeDelta) -> f64 {
    delta.to_std().unwrap_or_default().as_secs_f64()
}

/// How long to wait after the n-th failed attempt: 5 s, 10 s, 20 s … up to an hour, each between
/// three quarters and five quarters of that, so that what failed together does not come back
/// together.
pub fn backoff(attempts: i32) -> TimeDelta {
    let doublings = attempts.clamp(1, 20).unsigned_abs() - 1;
    let base = (5_000_i64 << doublings).min(3_600_000);
    let jitter = i64::from(u16::from_be_bytes(random_bytes())) * base / (2 * 65_536);
    TimeDelta::milliseconds(base * 3 / 4 + jitter)
}
