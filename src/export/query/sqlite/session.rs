//! A borrowed connection with a progress handler.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use sqlx::{Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection};

use super::super::Deadline;
use crate::error::{Error, Result};

/// Instructions of SQLite's machine between two looks at the clock: well below a millisecond.
const INSTRUCTIONS: i32 = 10_000;
/// `SQLITE_INTERRUPT`, what a progress handler causes.
const INTERRUPTED: &str = "9";

/// A query in progress. Unless it is ended, it is interrupted and its connection closed.
pub(super) struct Session {
    conn: Option<PoolConnection<Sqlite>>,
    abandoned: Arc<AtomicBool>,
    deadline: Deadline,
}

impl Session {
    pub(super) async fn begin(pool: &SqlitePool, timeout: Duration) -> Result<Self> {
        let conn = pool.acquire().await?;
        let deadline = Deadline::new(timeout);
        let abandoned = Arc::new(AtomicBool::new(false));
        let mut session = Session { conn: Some(conn), abandoned: abandoned.clone(), deadline };
        session.conn()?.lock_handle().await?.set_progress_handler(INSTRUCTIONS, move || {
            !abandoned.load(Relaxed) && !deadline.has_passed()
        });
        Ok(session)
    }

    pub(super) fn conn(&mut self) -> Result<&mut SqliteConnection> {
        self.conn.as_deref_mut().ok_or_else(|| Error::Internal("the session is over".into()))
    }

    /// Gives the connection back.
    pub(super) async fn end(mut self) -> Result<()> {
        self.conn()?.lock_handle().await?.remove_progress_handler();
        drop(self.conn.take());
        Ok(())
    }

    pub(super) fn explain(&self, error: sqlx::Error) -> Error {
        self.explainer()(error)
    }

    /// What an error of the database means, for when the session is lent out.
    pub(super) fn explainer(&self) -> impl Fn(sqlx::Error) -> Error + use<> {
        let deadline = self.deadline;
        move |error| {
            let code = error.as_database_error().and_then(|e| e.code());
            if code.as_deref() == Some(INTERRUPTED) {
                deadline.explain_interruption()
            } else {
                error.into()
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.abandoned.store(true, Relaxed);
        // With the handler that has just said "stop" still on it.
        drop(self.conn.take().map(PoolConnection::detach));
    }
}
