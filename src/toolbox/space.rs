//! Full disks, as this process saw them.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Toolbox;

/// How long it is said that a disk was full. Whether it still is, the next write shows.
const SAID: Duration = Duration::from_secs(60);

/// When a disk was full last.
#[derive(Debug, Default)]
pub(super) struct Space(Mutex<Option<Instant>>);

impl Toolbox {
    /// Notes that something failed just now because a disk is full.
    pub(crate) fn note_full_disk(&self) {
        *self.space().0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether that was in the last minute.
    pub fn saw_full_disk(&self) -> bool {
        let last = *self.space().0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() < SAID)
    }
}
