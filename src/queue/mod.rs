//! The wake-up: apalis over PostgreSQL or SQLite. The only place that names a backend.
//!
//! What a queue job carries is an id. Losing one delays, and never loses: the worker's sweeper
//! wakes rows that were forgotten. A job that comes twice finds nothing to claim.
//!
//! apalis 1.0's own promises are not relied on; `docs/src/explanation/apalis.md` lists
//! why, one by one.

mod announced;
mod file_watch;
mod heard;
mod line;
mod tables;
mod work;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use apalis::prelude::{Task, TaskBuilder};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

pub use self::{
    line::Line,
    tables::{depth, migrate, purge},
    work::{Slots, work},
};
use crate::{
    db::{Conn, Db},
    error::{Error, Result},
    ids::RequestId,
};

/// … so long after they were announced, which woke already: one by one they would be a third of what
/// a small export costs the database.
const PAUSE: Duration = Duration::from_millis(100);

/// Which of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Files to be made: long.
    Requests,
    /// Mails to be sent: short.
    Notices,
}

impl Kind {
    /// The queue's name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Requests => "bgfiles::requests",
            Kind::Notices => "bgfiles::notices",
        }
    }
}

/// What a queue job says: look at this row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// The row.
    pub id: Uuid,
    #[serde(skip, default = "requests")]
    kind: Kind,
}

fn requests() -> Kind {
    Kind::Requests
}

impl Wake {
    /// A file is to be made.
    pub fn request(id: RequestId) -> Self {
        Wake { id: id.0, kind: Kind::Requests }
    }

    /// A mail is to be sent.
    pub fn notice(id: Uuid) -> Self {
        Wake { id, kind: Kind::Notices }
    }
}

/// Wakes a worker once the caller's transaction commits.
///
/// # Errors
/// The database's.
pub async fn push(conn: Conn<'_>, wake: Wake, now: DateTime<Utc>) -> Result<()> {
    push_all(conn, &[wake], now).await
}

/// As [`push`], for wake-ups of one kind.
///
/// # Errors
/// The database's.
pub async fn push_all(conn: Conn<'_>, wakes: &[Wake], now: DateTime<Utc>) -> Result<()> {
    let Some(first) = wakes.first() else { return Ok(()) };
    let queue = first.kind.name();
    // An hour ago: neither a clock ahead of the database's nor one behind it delays the job, and
    // PostgreSQL announces only what is due.
    let due = (now - TimeDelta::hours(1)).timestamp().max(0).unsigned_abs();
    let mut tasks: Vec<Task<Vec<u8>>> = Vec::with_capacity(wakes.len());
    for wake in wakes {
        let args = serde_json::to_vec(wake).map_err(|e| Error::Internal(e.to_string()))?;
        // Attempts are counted in our row.
        tasks.push(TaskBuilder::new(args).run_at_timestamp(due).max_attempts(1).build());
    }
    match conn {
        Conn::Postgres(c) => apalis_postgres::queries::push_tasks(c, queue, tasks)
            .await
            .map_err(|e| Error::Database(unwrap_postgres(e))),
        Conn::Sqlite(c) => apalis_sqlite::queries::push_tasks(c, queue, &tasks)
            .await
            .map_err(|e| Error::Database(unwrap_sqlite(e))),
    }
}

/// Says when it is time for a job: it is written, fetched and acknowledged, so one is pushed only now
/// and then. A trigger announces whatever is inserted in between.
///
/// An announcement that is lost (nobody was connected) costs two seconds: then workers look anyway.
#[derive(Debug, Default)]
pub struct Bell(Mutex<Option<Instant>>);

impl Bell {
    /// Whether a job is to be pushed, by [`push`], with the rows that are inserted now. SQLite
    /// announces nothing, so there it always is.
    pub fn ring(&self, db: &Db) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = last.is_none_or(|last| last.elapsed() >= PAUSE);
        if is_time {
            *last = Some(Instant::now());
        }
        is_time || matches!(db, Db::Sqlite(_))
    }
}

fn unwrap_postgres(error: apalis_postgres::Error) -> sqlx::Error {
    match error {
        apalis_postgres::Error::Database(e) => e,
        other => sqlx::Error::Protocol(other.to_string()),
    }
}

fn unwrap_sqlite(error: apalis_sqlite::Error) -> sqlx::Error {
    match error {
        apalis_sqlite::Error::Database(e) => e,
        other => sqlx::Error::Protocol(other.to_string()),
    }
}

/// How far the database's clock is ahead of `now`. Nothing here relies on the two agreeing, but a
/// large difference shows in run times and log lines, and is worth a warning.
///
/// # Errors
/// The database's.
pub async fn clock_ahead(conn: Conn<'_>, now: DateTime<Utc>) -> Result<TimeDelta> {
    let theirs: i64 = match conn {
        Conn::Postgres(c) => {
            let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
            sqlx::query_scalar(sql).fetch_one(c).await?
        }
        // The same machine.
        Conn::Sqlite(_) => now.timestamp_millis(),
    };
    Ok(TimeDelta::milliseconds(theirs - now.timestamp_millis()))
}
