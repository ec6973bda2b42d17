//! One run of a sweep: how far it may go, and what it came to.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// When one run of the cleaner ends. (dj-bgfiles passed `sleep` and `timeout` swapped, for want of
/// names.)
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Pause between two removals.
    pub sleep: Duration,
    /// End after this long; at least one removal is made.
    pub timeout: Option<Duration>,
    /// End after this many removals.
    pub items: Option<u64>,
    /// End when this fires: after the removal under way.
    pub stop: CancellationToken,
}

/// How a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nothing is left.
    Processed,
    /// As many as asked for.
    MaxItems,
    /// The time was up.
    Timeout,
    /// Somebody wants the process to end.
    Stopped,
}

impl Ended {
    /// In dj-bgfiles's words.
    pub fn as_str(self) -> &'static str {
        match self {
            Ended::Processed => "processed",
            Ended::MaxItems => "max_items",
            Ended::Timeout => "timeout",
            Ended::Stopped => "stopped",
        }
    }
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// The sweep.
    pub name: &'static str,
    /// How it ended.
    pub ended: Ended,
    /// Removed.
    pub removed: u64,
    /// Removable when it began, when that is known.
    pub total: Option<u64>,
    /// Tried in vain; they are tried again next time.
    pub failed: u64,
}

/// Counts removals against the limits.
pub(super) struct Run {
    limits: Limits,
    deadline: Option<Instant>,
    pub(super) removed: u64,
    pub(super) failed: u64,
    /// Removable when it began, when that is known.
    pub(super) total: Option<u64>,
}

impl Run {
    pub(super) fn new(limits: Limits) -> Self {
        let deadline = limits.timeout.map(|timeout| Instant::now() + timeout);
        Run { limits, deadline, removed: 0, failed: 0, total: None }
    }

    /// Whether to stop now. The number of items wins over the time, and at least one removal is
    /// made.
    pub(super) fn ended(&self) -> Option<Ended> {
        if self.limits.stop.is_cancelled() {
            return Some(Ended::Stopped);
        }
        let tried = self.removed + self.failed;
        if self.limits.items.is_some_and(|items| tried >= items) {
            return Some(Ended::MaxItems);
        }
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        (late && tried > 0).then_some(Ended::Timeout)
    }

    pub(super) async fn pause(&self) {
        if !self.limits.sleep.is_zero() {
            let stopped = self.limits.stop.cancelled();
            let _ = tokio::time::timeout(self.limits.sleep, stopped).await;
        }
    }

    pub(super) fn swept(self, name: &'static str, ended: Ended) -> Swept {
        Swept { name, ended, removed: self.removed, total: self.total, failed: self.failed }
    }
}
