//! Requests that somebody watches: looked at together, however many watch.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    error::Result,
    file_request::{FileRequest, store},
    ids::RequestId,
    toolbox::{
        Toolbox,
        places::{Place, Places},
    },
};

/// Time between two looks: workers write progress once a second.
const LOOK: Duration = Duration::from_millis(500);
/// Streams that one caller has open at the same time in a process.
const STREAMS: usize = 20;

/// What is watched in this process.
#[derive(Debug)]
pub(in crate::toolbox) struct Watching {
    state: Mutex<State>,
    streams: Places,
}

impl Default for Watching {
    fn default() -> Self {
        Watching { state: Mutex::default(), streams: Places::new(STREAMS) }
    }
}

#[derive(Debug, Default)]
struct State {
    rows: HashMap<RequestId, watch::Sender<Option<FileRequest>>>,
    /// Grows with each look.
    looks: watch::Sender<u64>,
    /// Whether somebody looks.
    looked_after: bool,
}

impl Watching {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests under the eyes of one caller.
#[derive(Debug)]
pub struct Watched {
    rows: Vec<(RequestId, watch::Receiver<Option<FileRequest>>)>,
    looks: watch::Receiver<u64>,
    _place: Place,
}

impl Watched {
    /// Waits for the next look. Those that are not as they were, and the ids of those that are gone.
    /// `None` when nobody looks any more.
    pub async fn changed(&mut self) -> Option<(Vec<FileRequest>, Vec<RequestId>)> {
        let (mut fresh, mut gone) = (Vec::new(), Vec::new());
        while fresh.is_empty() && gone.is_empty() {
            self.looks.changed().await.ok()?;
            for (id, row) in &mut self.rows {
                if !row.has_changed().unwrap_or(false) {
                    continue;
                }
                match &*row.borrow_and_update() {
                    Some(row) => fresh.push(row.clone()),
                    None => gone.push(*id),
                }
            }
        }
        self.rows.retain(|(id, _)| !gone.contains(id));
        Some((fresh, gone))
    }

    /// Looks away from one.
    pub fn leave(&mut self, id: RequestId) {
        self.rows.retain(|(watched, _)| *watched != id);
    }
}

impl Toolbox {
    /// Watches requests as they were read a moment ago, for one stream of a caller.
    ///
    /// # Errors
    /// [`crate::Error::Throttled`] when the caller has 20 streams open already.
    pub fn watch(&self, caller: &str, rows: &[FileRequest]) -> Result<Watched> {
        let watching = &self.0.watching;
        let place = watching.streams.take(caller)?;
        let mut state = watching.state();
        let rows = rows.iter().map(|row| {
            let known = state.rows.entry(row.id);
            let sender = known.or_insert_with(|| watch::Sender::new(Some(row.clone())));
            let mut receiver = sender.subscribe();
            // Another stream may have begun with an older look at it.
            if *receiver.borrow() != Some(row.clone()) {
                receiver.mark_changed();
            }
            (row.id, receiver)
        });
        let watched =
            Watched { rows: rows.collect(), looks: state.looks.subscribe(), _place: place };
        if !std::mem::replace(&mut state.looked_after, true) {
            tokio::spawn(look(Care { toolbox: self.clone(), done: false }));
        }
        Ok(watched)
    }

    /// One look at everything that is watched. `false` when that is nothing.
    async fn look(&self) -> Result<bool> {
        let ids: Vec<RequestId> = {
            let mut state = self.0.watching.state();
            state.rows.retain(|_, row| row.receiver_count() > 0);
            state.looked_after = !state.rows.is_empty();
            state.rows.keys().copied().collect()
        };
        if ids.is_empty() {
            return Ok(false);
        }
        let found = store::find_all(&mut self.db().acquire().await?, &ids).await?;
        let mut found: HashMap<_, _> = found.into_iter().map(|row| (row.id, row)).collect();
        let state = self.0.watching.state();
        // Those that came meanwhile are the next look's.
        for id in ids {
            let Some(sender) = state.rows.get(&id) else { continue };
            let now = found.remove(&id);
            sender.send_if_modified(|was| {
                let differs = *was != now;
                if differs {
                    *was = now;
                }
                differs
            });
        }
        state.looks.send_modify(|looks| *looks += 1);
        Ok(true)
    }
}

/// Who looks.
struct Care {
    toolbox: Toolbox,
    done: bool,
}

impl Drop for Care {
    fn drop(&mut self) {
        if !self.done {
            // Its runtime ended: the next stream finds another.
            self.toolbox.0.watching.state().looked_after = false;
        }
    }
}

async fn look(mut care: Care) {
    while !care.done {
        tokio::time::sleep(LOOK).await;
        match care.toolbox.look().await {
            Ok(any) => care.done = !any,
            // The next look may have more luck.
            Err(error) => tracing::warn!(%error, "could not look at watched requests"),
        }
    }
}
