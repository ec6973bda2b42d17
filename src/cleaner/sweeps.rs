//! The sweeps: one entry each, in the order in which they run.
//!
//! A new one is an entry here, a table of the same name in `jobs/cleaner.toml`, and a line of
//! `docs/src/explanation/retention.md`.

use chrono::{DateTime, Utc};
use futures::{FutureExt, future::BoxFuture};

use super::{
    objects, requests,
    run::{Ended, Run},
};
use crate::{
    auth_token::{self, limit_store},
    db::Tx,
    error::Result,
    file_request, lock_token, operations, queue, request_token,
    toolbox::Toolbox,
};

const HOUR: u32 = 3600;
const DAY: u32 = 24 * HOUR;
/// Rows that are removed in one transaction.
const ROWS: i64 = 1000;

/// What is removed, or added up, now and then.
pub(super) struct Sweep {
    /// As in `jobs/cleaner.toml`.
    pub(super) name: &'static str,
    /// Seconds that things are kept, when nothing is said.
    pub(super) keep: u32,
    work: Work,
}

/// How a sweep goes about it, with the time before which things may go.
enum Work {
    /// Removes rows, so many at most, in the transaction that it is given; again and again until
    /// none are left. Answers how many.
    Rows(for<'a> fn(&'a mut Tx, DateTime<Utc>, i64) -> BoxFuture<'a, Result<u64>>),
    /// The same in a transaction of its own.
    Batches(for<'a> fn(&'a Toolbox, DateTime<Utc>, i64) -> BoxFuture<'a, Result<u64>>),
    /// All by itself, counting what it does.
    Own(for<'a> fn(&'a Toolbox, DateTime<Utc>, &'a mut Run) -> BoxFuture<'a, Result<Ended>>),
}
use Work::{Batches, Own, Rows};

/// In the order in which they run.
pub(super) const SWEEPS: &[Sweep] = &[
    Sweep {
        name: "expired_requests",
        keep: HOUR,
        work: Own(|toolbox, before, run| requests::sweep(toolbox, before, run).boxed()),
    },
    Sweep {
        name: "orphan_objects",
        keep: 6 * HOUR,
        work: Own(|toolbox, before, run| objects::sweep(toolbox, before, run).boxed()),
    },
    Sweep {
        name: "queue",
        keep: HOUR,
        work: Rows(|tx, before, limit| queue::purge(tx.conn(), before, limit).boxed()),
    },
    Sweep {
        name: "idempotency_keys",
        keep: DAY,
        work: Rows(|tx, before, limit| file_request::store::delete_keys(tx, before, limit).boxed()),
    },
    Sweep {
        name: "request_token_log",
        keep: 90 * DAY,
        work: Rows(|tx, before, limit| {
            request_token::store::delete_uses(tx, before, limit).boxed()
        }),
    },
    Sweep {
        name: "sessions",
        keep: HOUR,
        work: Rows(|tx, before, limit| {
            auth_token::store::delete_sessions(tx, before, limit).boxed()
        }),
    },
    Sweep {
        name: "auth_tokens",
        keep: 0,
        // Whoever listens is told of them once that is committed.
        work: Batches(|toolbox, before, limit| toolbox.purge_expired_tokens(before, limit).boxed()),
    },
    Sweep {
        name: "rate_limits",
        keep: HOUR,
        work: Rows(|tx, before, limit| rates(tx, before, limit).boxed()),
    },
    Sweep {
        name: "locks",
        keep: DAY,
        work: Rows(|tx, before, limit| locks(tx, before, limit).boxed()),
    },
    Sweep {
        name: "attempts",
        keep: DAY,
        work: Rows(|tx, before, limit| {
            file_request::attempts::store::forget(tx, before, limit).boxed()
        }),
    },
    Sweep {
        name: "audit",
        keep: 365 * DAY,
        work: Rows(|tx, before, limit| operations::store::forget_audit(tx, before, limit).boxed()),
    },
    Sweep {
        name: "tally",
        keep: DAY,
        work: Own(|toolbox, before, _| tally(toolbox, before).boxed()),
    },
];

impl Sweep {
    /// Runs it once.
    pub(super) async fn run(
        &self,
        toolbox: &Toolbox,
        before: DateTime<Utc>,
        run: &mut Run,
    ) -> Result<Ended> {
        loop {
            let removed = match self.work {
                Own(work) => return work(toolbox, before, run).await,
                Batches(remove) => remove(toolbox, before, ROWS).await?,
                Rows(remove) => {
                    let mut tx = toolbox.db().begin().await?;
                    let removed = remove(&mut tx, before, ROWS).await?;
                    tx.commit().await?;
                    removed
                }
            };
            run.removed += removed;
            if removed == 0 {
                return Ok(Ended::Processed);
            }
            if let Some(ended) = run.ended() {
                return Ok(ended);
            }
            run.pause().await;
        }
    }
}

/// Failed logins, and callers that were throttled.
async fn rates(tx: &mut Tx, before: DateTime<Utc>, limit: i64) -> Result<u64> {
    let (millis, micros) = (before.timestamp_millis(), before.timestamp_micros());
    let attempts = limit_store::delete_forgotten(&mut *tx, millis, limit).await?;
    Ok(attempts + limit_store::delete_full(tx, micros, limit).await?)
}

/// Those whose time is over, and what is left of released ones.
async fn locks(tx: &mut Tx, before: DateTime<Utc>, limit: i64) -> Result<u64> {
    let (_, rows) = lock_token::store::delete_stale(tx, before, limit).await?;
    Ok(rows)
}

/// Adds up the tally's lines, or counts all requests anew now and then. Nothing is removed.
async fn tally(toolbox: &Toolbox, before: DateTime<Utc>) -> Result<Ended> {
    let mut tx = toolbox.db().begin().await?;
    if !operations::store::recount_tally(&mut tx, toolbox.clock().now(), before).await? {
        operations::store::fold_tally(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(Ended::Processed)
}
