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
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use crate::{
    db,
    error::{Error, Result},
    toolbox::Toolbox,
};

/// Most things of one transaction.
const MAX_BATCH: usize = 64;

/// Commits all of these in one transaction; as many answers, in the same order.
type Commit<T, R> = fn(Toolbox, Arc<[T]>) -> BoxFuture<'static, Result<Vec<R>>>;

/// Commits what is submitted to it, many things at a time.
pub(in crate::toolbox) struct GroupCommit<T, R> {
    commit: Commit<T, R>,
    /// How many things may come soon, those that wait included.
    expected: fn(&Toolbox) -> usize,
    /// How long to wait for them.
    linger: Duration,
    waiting: Mutex<Vec<Submitted<T, R>>>,
    /// Held by whoever commits.
    writer: Arc<AsyncMutex<()>>,
}

struct Submitted<T, R> {
    what: T,
    reply: oneshot::Sender<Result<R>>,
}

impl<T: Clone + Send + Sync + 'static, R: Send + 'static> GroupCommit<T, R> {
    pub(super) fn new(commit: Commit<T, R>) -> Self {
        let (waiting, writer) = (Mutex::default(), Arc::default());
        GroupCommit { commit, expected: |_| 0, linger: Duration::ZERO, waiting, writer }
    }

    /// Lingers so long for others where so many are expected.
    pub(super) fn expecting(self, expected: fn(&Toolbox) -> usize, linger: Duration) -> Self {
        GroupCommit { expected, linger, ..self }
    }

    /// Commits this, with what else comes at this moment.
    ///
    /// # Errors
    /// What `commit` says of it.
    pub(super) async fn submit(&self, toolbox: &Toolbox, what: T) -> Result<R> {
        let (reply, mut outcome) = oneshot::channel();
        self.waiting().push(Submitted { what, reply });
        loop {
            let writer = tokio::select! {
                biased;
                outcome = &mut outcome => return outcome.unwrap_or_else(|_| {
                    Err(Error::temporary("shutting_down", "the process ends; try again"))
                }),
                writer = self.writer.clone().lock_owned() => writer,
            };
            if (self.expected)(toolbox) > self.waiting().len() {
                tokio::time::sleep(self.linger).await;
            }
            // Who has hung up submits it again, and would get it twice.
            let batch: Vec<_> = {
                let mut waiting = self.waiting();
                waiting.retain(|one| !one.reply.is_closed());
                let many = waiting.len().min(MAX_BATCH);
                waiting.drain(..many).collect()
            };
            let (commit, toolbox) = (self.commit, toolbox.clone());
            // A task of its own: it is for the others, too, should this one hang up.
            tokio::spawn(async move {
                write(commit, toolbox, batch).await;
                drop(writer);
            });
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Submitted<T, R>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write<T: Clone, R>(commit: Commit<T, R>, toolbox: Toolbox, batch: Vec<Submitted<T, R>>) {
    if batch.is_empty() {
        return;
    }
    let (all, mut replies): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|one| (one.what, one.reply)).unzip();
    let all: Arc<[T]> = all.into();
    let error = match db::within(db::SILENCE, commit(toolbox.clone(), all.clone())).await {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                let _ = reply.send(Ok(answer));
            }
            return;
        }
        Err(error) => error,
    };
    if all.len() == 1
        && let Some(reply) = replies.pop()
    {
        let _ = reply.send(Err(error));
        return;
    }
    // One that the database refuses does not fail the others.
    let is_about_one = !error.is_retryable() || error.is_deadlock();
    for (one, reply) in all.iter().zip(replies) {
        let outcome = match is_about_one {
            true => db::within(db::SILENCE, commit(toolbox.clone(), [one.clone()].into())).await,
            false => Err(Error::temporary("database", "the database does not answer; try again")),
        };
        let _ = reply.send(outcome.and_then(|answers| {
            answers.into_iter().next().ok_or_else(|| Error::Internal("no answer".into()))
        }));
    }
}
