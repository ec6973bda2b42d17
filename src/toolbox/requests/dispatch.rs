//! One attempt of a worker, from claim to publish.
//!
//! Everything that counts is conditional on the generation that the claim gave out: a worker that
//! was thought dead and comes back changes nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{attempt::Attempt, ending::Dispatched};
use crate::{
    error::{Error, Result},
    failpoint,
    file_request::{FileRequest, store},
    ids::RequestId,
    toolbox::Toolbox,
};

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
        let now = self.clock().now();
        // A statement of its own is its own transaction.
        let mut conn = self.db().acquire().await?;
        let row = store::find(&mut conn, id).await?;
        if row.is_none_or(|row| self.registry().get(row.file_type.as_str()).is_err()) {
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
        store::claimable(&mut self.db().acquire().await?, since, self.clock().now()).await
    }

    /// Claims so many requests of these types at most, for [`Toolbox::work`].
    pub(crate) async fn claim_some(
        &self,
        which: store::Which,
        most: usize,
        worker: &str,
        file_types: &[String],
    ) -> Result<Vec<FileRequest>> {
        let (now, most) = (self.clock().now(), i64::try_from(most).unwrap_or(i64::MAX));
        let lease_until = self.lease_until(now);
        let claimant = store::Claimant { worker, file_types, now, lease_until };
        store::claim_some(&mut self.db().acquire().await?, which, most, claimant).await
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
        let now = self.clock().now();
        let _at_work = AtWork::new(&self.0.at_work);
        failpoint::reached("claimed");
        tracing::info!(request = %row.id, file_type = %row.file_type, attempt = row.attempts, "claimed");
        metrics::histogram!("bgfiles_pickup_seconds").record(seconds(now - row.run_at));
        let began = Instant::now();
        let (attempt, max_attempts) = match self.registry().get(row.file_type.as_str()) {
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
        let known = self.registry().get(file_type.as_str()).is_ok();
        let file_type = if known { file_type.to_string() } else { "_OTHER".into() };
        metrics::counter!("bgfiles_dispatched_total", "file_type" => file_type.clone(),
            "outcome" => format!("{outcome:?}").to_lowercase())
        .increment(1);
        metrics::histogram!("bgfiles_dispatch_seconds", "file_type" => file_type)
            .record(began.elapsed().as_secs_f64());
        Ok(outcome)
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

fn seconds(delta: TimeDelta) -> f64 {
    delta.to_std().unwrap_or_default().as_secs_f64()
}
