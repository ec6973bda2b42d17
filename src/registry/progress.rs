//! How far a job is, and how far it has to go.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// What is done by then needs no total: nobody has looked yet. A little before the first heartbeat,
/// which then carries it.
pub(crate) const GUESS_AFTER: Duration = Duration::from_millis(900);

/// Counters that a handler moves and the worker writes to the row once a second.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    done: AtomicU64,
    rows: AtomicU64,
    has_rows: AtomicBool,
    total: Mutex<Total>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Total {
    units: Option<(u64, Certainty)>,
    /// There are never more.
    most: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Certainty {
    Guessed(Guess),
    Known,
}

/// What a guess at the total goes by, the vaguest first. The better one stays, whichever comes
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guess {
    /// The rows of the last file of the same type. Its criteria were others, so that it may be
    /// far off.
    LastOfType,
    /// The plan of a database for this very query: it knows the values, but of what they leave it
    /// knows statistics only.
    Plan,
    /// The rows of the last file of the same type and the same criteria: off by what has changed
    /// since.
    LastAlike,
}

impl Progress {
    /// Units in all, once known.
    pub fn set_total(&self, total: u64) {
        self.total_mut().units = Some((total, Certainty::Known));
    }

    /// Units in all, about. Does nothing where they are known, or a better guess was made.
    pub fn guess_total(&self, total: u64, by: Guess) {
        let mut known = self.total_mut();
        let by = Certainty::Guessed(by);
        if known.units.is_none_or(|(_, before)| before <= by) {
            known.units = Some((total, by));
        }
    }

    /// No guess is higher than this.
    pub fn set_most(&self, most: u64) {
        self.total_mut().most = Some(most);
    }

    /// Units done so far.
    pub fn set_done(&self, done: u64) {
        self.0.done.store(done, Relaxed);
    }

    /// Data rows written so far; also the units done.
    pub fn set_rows(&self, rows: u64) {
        self.0.rows.store(rows, Relaxed);
        self.0.has_rows.store(true, Relaxed);
        self.set_done(rows);
    }

    /// Units done.
    pub fn done(&self) -> u64 {
        self.0.done.load(Relaxed)
    }

    /// Units in all, when known, or about: see [`Progress::is_estimated`]. Never fewer than are
    /// done.
    pub fn total(&self) -> Option<u64> {
        let Total { units, most } = *self.total_mut();
        let (units, certainty) = units?;
        let most = most.filter(|_| certainty != Certainty::Known).unwrap_or(u64::MAX);
        Some(units.min(most).max(self.done()))
    }

    /// Whether the total is a guess.
    pub fn is_estimated(&self) -> bool {
        self.total_mut().units.is_some_and(|(_, certainty)| certainty != Certainty::Known)
    }

    /// Data rows, when the handler writes rows.
    pub fn rows(&self) -> Option<u64> {
        self.0.has_rows.load(Relaxed).then(|| self.0.rows.load(Relaxed))
    }

    fn total_mut(&self) -> MutexGuard<'_, Total> {
        self.0.total.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
