//! The columns that small queries gave a moment ago.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::plan::Shape;

/// How long the columns of a small query are remembered. Asking costs more than reading ten rows, and
/// of small exports there are many at once.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Most rows of a small one.
const SMALL: u64 = 512;
/// Most queries of which that is known.
const MOST: usize = 256;

/// By the text of the query: since when, and its columns.
type Known = HashMap<String, (Instant, Arc<[Shape]>)>;

/// What is remembered of one database's queries. They may have changed since: whoever fails with
/// what is remembered [forgets](Shapes::forget) it and looks again.
#[derive(Clone, Debug, Default)]
pub(super) struct Shapes(Arc<Mutex<Known>>);

impl Shapes {
    /// The columns of the query, if that is known.
    pub(super) fn of(&self, query: &str) -> Option<Arc<[Shape]>> {
        let known = self.known();
        let (since, shape) = known.get(query)?;
        (since.elapsed() < REMEMBERED).then(|| shape.clone())
    }

    /// What a query that gave so many rows was planned with.
    pub(super) fn remember(&self, query: String, shape: Arc<[Shape]>, rows: u64) {
        let mut known = self.known();
        if known.len() >= MOST {
            known.retain(|_, (since, _)| since.elapsed() < REMEMBERED);
        }
        if known.len() < MOST && rows <= SMALL {
            known.insert(query, (Instant::now(), shape));
        }
    }

    /// Forgets the columns of a query.
    pub(super) fn forget(&self, query: &str) {
        self.known().remove(query);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
