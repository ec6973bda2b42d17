//! One attempt at a request's file: the handler, beside the heartbeat that keeps its lease.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    db,
    error::{Error, Result},
    failpoint,
    file_request::{FileRequest, filename, store},
    registry::{Handler, Job, Output},
    storage::{Headers, StorageKey, Uploaded},
    toolbox::{KEEP_ENDED, Toolbox},
};

/// An attempt counts once its handler has run for so long: what is done sooner need not be written
/// down twice, and who dies sooner has lost nothing.
const BEGUN_AFTER: Duration = Duration::from_millis(100);
/// How often the lease is renewed, progress written and a cancel request looked for.
const BEAT: Duration = Duration::from_secs(1);
/// How long a handler gets to notice that it should stop.
const GRACE: Duration = Duration::from_secs(2);

/// How an attempt ended.
pub(super) enum Attempt {
    Done(Box<store::Published>),
    Error(Error),
    CancelRequested,
    LeaseLost,
    Stopped,
}

impl Toolbox {
    /// Runs the handler beside the heartbeat; whichever ends first decides.
    pub(super) async fn attempt(
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
            && let Err(error) = self.storage().delete(key).await
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
        let now = self.clock().now();
        let keep = handler.expires_after().or(self.signer().max_age());
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
        self.storage().upload(key, headers, bytes, complete).await
    }

    /// Renews the lease until there is a reason to stop. A database that does not answer is none:
    /// whether the lease still holds is decided when the file is published.
    async fn beat(&self, row: &mut FileRequest, job: &Job) -> Attempt {
        tokio::time::sleep(BEGUN_AFTER.min(self.lease() / 3)).await;
        let mut ticks = tokio::time::interval(BEAT.min(self.lease() / 3));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match db::within(self.lease() / 2, self.beat_once(row, job)).await {
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
            lease_until: self.lease_until(self.clock().now()),
        };
        let mut conn = self.db().acquire().await?;
        let told = store::heartbeat(&mut conn, row.id, row.generation, beat).await?;
        row.begun |= told.is_some();
        Ok(match told {
            Some(false) => None,
            Some(true) => Some(Attempt::CancelRequested),
            None => Some(Attempt::LeaseLost),
        })
    }

    /// Until when a claim or a heartbeat of now holds.
    pub(super) fn lease_until(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::from_std(self.lease()).unwrap_or(TimeDelta::seconds(10))
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
