//! So many at a time for each caller: of what takes long, and keeps something from others.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::error::{Error, Result};

/// When to try again with one more.
const AGAIN: Duration = Duration::from_secs(5);

/// How many each caller has, in this process.
#[derive(Clone, Debug)]
pub(super) struct Places {
    most: usize,
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

impl Places {
    /// `most` for each caller.
    pub(super) fn new(most: usize) -> Self {
        Places { most, taken: Arc::default() }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more.
    ///
    /// # Errors
    /// [`Error::Throttled`] when the caller has all that one may.
    pub(super) fn take(&self, caller: &str) -> Result<Place> {
        let mut taken = self.taken();
        let own = taken.entry(caller.to_owned()).or_default();
        if *own >= self.most {
            return Err(Error::Throttled { retry_after: AGAIN });
        }
        *own += 1;
        Ok(Place { of: self.clone(), caller: caller.to_owned() })
    }
}

/// A place, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Places,
    caller: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.taken();
        if let Some(own) = taken.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}
