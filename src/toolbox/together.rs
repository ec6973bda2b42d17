//! What comes at the same time is committed together.
//!
//! A commit waits for the disk, and on PostgreSQL commits that announce something wait for one
//! another (`NOTIFY` takes one lock for all). So there is one writer at a time: whatever came while
//! it was committing is the next transaction. Alone, a thing is committed at once. Nobody is
//! answered before the commit.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::sync::{Mutex as Turns, oneshot};

use super::Toolbox;
use crate::{
    db,
    error::{Error, Result},
};

/// Most things of one transaction.
const MOST: usize = 64;

/// Commits all of these in one transaction; as many answers, in the same order.
type Commit<T, R> = fn(Toolbox, Arc<[T]>) -> BoxFuture<'static, Result<Vec<R>>>;

pub(super) struct Together<T, R> {
    commit: Commit<T, R>,
    /// How many things may come soon, those that wait included.
    likely: fn(&Toolbox) -> usize,
    /// How long to wait for them.
    gather: Duration,
    waiting: Mutex<Vec<Asked<T, R>>>,
    /// Held by whoever commits.
    turn: Arc<Turns<()>>,
}

struct Asked<T, R> {
    what: T,
    told: oneshot::Sender<Result<R>>,
}

impl<T: Clone + Send + Sync + 'static, R: Send + 'static> Together<T, R> {
    pub(super) fn new(commit: Commit<T, R>) -> Self {
        let (waiting, turn) = (Mutex::default(), Arc::default());
        Together { commit, likely: |_| 0, gather: Duration::ZERO, waiting, turn }
    }

    /// Waits so long for others where so many may come soon.
    pub(super) fn expecting(self, likely: fn(&Toolbox) -> usize, gather: Duration) -> Self {
        Together { likely, gather, ..self }
    }

    /// Commits this, with what else comes at this moment.
    ///
    /// # Errors
    /// What `commit` says of it.
    pub(super) async fn ask(&self, toolbox: &Toolbox, what: T) -> Result<R> {
        let (told, mut outcome) = oneshot::channel();
        self.waiting().push(Asked { what, told });
        loop {
            let turn = tokio::select! {
                biased;
                outcome = &mut outcome => return outcome.unwrap_or_else(|_| {
                    Err(Error::temporary("shutting_down", "the process ends; try again"))
                }),
                turn = self.turn.clone().lock_owned() => turn,
            };
            if (self.likely)(toolbox) > self.waiting().len() {
                tokio::time::sleep(self.gather).await;
            }
            // Who has hung up asks again, and would get it twice.
            let batch: Vec<_> = {
                let mut waiting = self.waiting();
                waiting.retain(|one| !one.told.is_closed());
                let many = waiting.len().min(MOST);
                waiting.drain(..many).collect()
            };
            let (commit, toolbox) = (self.commit, toolbox.clone());
            // A task of its own: it is for the others, too, should this one hang up.
            tokio::spawn(async move {
                write(commit, toolbox, batch).await;
                drop(turn);
            });
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Asked<T, R>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write<T: Clone, R>(commit: Commit<T, R>, toolbox: Toolbox, batch: Vec<Asked<T, R>>) {
    if batch.is_empty() {
        return;
    }
    let (all, mut told): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|one| (one.what, one.told)).unzip();
    let all: Arc<[T]> = all.into();
    let error = match db::within(db::SILENCE, commit(toolbox.clone(), all.clone())).await {
        Ok(answers) => {
            for (told, answer) in told.into_iter().zip(answers) {
                let _ = told.send(Ok(answer));
            }
            return;
        }
        Err(error) => error,
    };
    if all.len() == 1
        && let Some(told) = told.pop()
    {
        let _ = told.send(Err(error));
        return;
    }
    // One that the database refuses does not fail the others.
    let is_about_one = !error.is_retryable() || error.is_deadlock();
    for (one, told) in all.iter().zip(told) {
        let outcome = match is_about_one {
            true => db::within(db::SILENCE, commit(toolbox.clone(), [one.clone()].into())).await,
            false => Err(Error::temporary("database", "the database does not answer; try again")),
        };
        let _ = told.send(outcome.and_then(|answers| {
            answers.into_iter().next().ok_or_else(|| Error::Internal("no answer".into()))
        }));
    }
}
