//! Requests that come at the same time are committed together.
//!
//! A commit waits for the disk, and on PostgreSQL commits that announce something wait for one
//! another (`NOTIFY` takes one lock for all). So there is one writer: whatever came while it was
//! committing is its next transaction. Alone, a request is committed at once. Nobody is answered
//! before the commit.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{
    mpsc::{self, error::SendError},
    oneshot,
};

use crate::{
    db::Db,
    error::{Error, Result},
    file_request::{FileRequest, store},
    queue::{self, Wake},
};

/// Most requests of one transaction.
const MOST: usize = 64;
/// What one transaction may take; a database that does not answer must not hold up all others.
const COMMIT: Duration = Duration::from_secs(15);

#[derive(Default)]
pub(super) struct Recorder(Mutex<Option<mpsc::Sender<Asked>>>);

struct Asked {
    row: FileRequest,
    told: oneshot::Sender<Result<FileRequest>>,
}

impl Recorder {
    /// Records a request that nobody has seen yet and wakes a worker.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn record(&self, db: &Db, row: FileRequest) -> Result<FileRequest> {
        let (told, outcome) = oneshot::channel();
        let gone = || Error::temporary("shutting_down", "the process ends; try again");
        // A writer ends with the runtime that it was started in; the next one takes over.
        if let Err(SendError(asked)) = self.writer(db).send(Asked { row, told }).await {
            self.writer(db).send(asked).await.map_err(|_| gone())?;
        }
        outcome.await.map_err(|_| gone())?
    }

    fn writer(&self, db: &Db) -> mpsc::Sender<Asked> {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*writer {
            Some(running) if !running.is_closed() => running.clone(),
            _ => writer.insert(start(db.clone())).clone(),
        }
    }
}

fn start(db: Db) -> mpsc::Sender<Asked> {
    let (to, mut from) = mpsc::channel(MOST);
    tokio::spawn(async move {
        let mut batch = Vec::with_capacity(MOST);
        while from.recv_many(&mut batch, MOST).await > 0 {
            write(&db, std::mem::take(&mut batch)).await;
        }
    });
    to
}

async fn write(db: &Db, batch: Vec<Asked>) {
    // Who has hung up asks again, and would get two files.
    let batch = batch.into_iter().filter(|one| !one.told.is_closed());
    let (rows, told): (Vec<_>, Vec<_>) = batch.map(|one| (one.row, one.told)).unzip();
    let is_alone = rows.len() == 1;
    let mut written = commit(db, &rows).await;
    let is_about_one = written.as_ref().is_err_and(|e| !e.is_retryable() || e.is_deadlock());
    for (row, told) in rows.into_iter().zip(told) {
        let outcome = match &written {
            Ok(()) => Ok(()),
            Err(_) if is_alone => std::mem::replace(&mut written, Ok(())),
            // One that the database refuses does not fail the others.
            Err(_) if is_about_one => commit(db, std::slice::from_ref(&row)).await,
            Err(_) => Err(Error::temporary("database", "the database does not answer; try again")),
        };
        let _ = told.send(outcome.map(|()| row));
    }
}

async fn commit(db: &Db, rows: &[FileRequest]) -> Result<()> {
    let Some(first) = rows.first() else { return Ok(()) };
    let error = match tokio::time::timeout(COMMIT, commit_once(db, rows, first)).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error,
        Err(_) => Error::temporary("database", "the database does not answer; try again"),
    };
    // A commit whose answer was lost counts all the same.
    let look = async { store::find(&mut db.acquire().await?, first.id).await };
    match tokio::time::timeout(COMMIT, look).await {
        Ok(Ok(Some(_))) => Ok(()),
        _ => Err(error),
    }
}

async fn commit_once(db: &Db, rows: &[FileRequest], first: &FileRequest) -> Result<()> {
    let mut tx = db.begin().await?;
    store::insert_all(&mut tx, rows).await?;
    let wakes: Vec<Wake> = rows.iter().map(|row| Wake::request(row.id)).collect();
    queue::push_all(tx.conn(), &wakes, first.requested_at).await?;
    tx.commit().await
}
