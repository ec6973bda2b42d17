//! Connections that wait for their next use.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

/// Up to so many, each for so long. Who waited too long, or is one too many, is ended.
pub(crate) struct Idle<T> {
    most: usize,
    limit: Duration,
    end: fn(T),
    state: Mutex<State<T>>,
}

struct State<T> {
    /// The longest idle first.
    waiting: Vec<(Instant, T)>,
    /// Whether a task looks after them.
    swept: bool,
}

impl<T: Send + 'static> Idle<T> {
    pub(crate) fn new(most: usize, limit: Duration, end: fn(T)) -> Arc<Self> {
        let state = Mutex::new(State { waiting: Vec::new(), swept: false });
        Arc::new(Idle { most, limit, end, state })
    }

    /// The one that was used last, and how long it has waited. The others then reach their end when
    /// there is less to do.
    pub(crate) fn take(&self) -> Option<(T, Duration)> {
        let (since, one) = self.state().waiting.pop()?;
        Some((one, since.elapsed()))
    }

    /// Lets it wait.
    pub(crate) fn keep(self: &Arc<Self>, one: T) {
        let mut state = self.state();
        if state.waiting.len() == self.most {
            drop(state);
            return (self.end)(one);
        }
        state.waiting.push((Instant::now(), one));
        if !std::mem::replace(&mut state.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Ends those that have waited for too long. When the next one will have; `None` when none is
    /// left.
    fn sweep(&self) -> Option<Instant> {
        let mut state = self.state();
        let old = state.waiting.partition_point(|(since, _)| since.elapsed() >= self.limit);
        let old: Vec<_> = state.waiting.drain(..old).collect();
        state.swept = !state.waiting.is_empty();
        let next = state.waiting.first().map(|(since, _)| *since + self.limit);
        drop(state);
        old.into_iter().for_each(|(_, one)| (self.end)(one));
        next
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs for as long as there are any.
async fn sweep<T: Send + 'static>(idle: Weak<Idle<T>>) {
    while let Some(next) = idle.upgrade().and_then(|idle| idle.sweep()) {
        tokio::time::sleep_until(next).await;
    }
}

impl<T> fmt::Debug for Idle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("most", &self.most).finish_non_exhaustive()
    }
}
