//! A SQLite file with its connections, each with a progress handler as the statement timeout.

use std::{
    cmp::Ordering,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use chrono::{NaiveDate, NaiveTime};
use rusqlite::{Connection, ErrorCode, OpenFlags, limits::Limit};
use tokio::sync::Semaphore;

use super::super::{CONNECTIONS, Deadline, slot};
use crate::{
    error::{Error, Result},
    export::fit::{Moment, date_and_time},
};

/// Instructions of SQLite's machine between two looks at the clock: well below a millisecond.
const INSTRUCTIONS: i32 = 10_000;
/// Bytes of a value, or of a row that is sorted, while a query runs. Cells are smaller
/// ([`super::super::check_size`]); what they are made of may be larger.
const MOST_VALUE: i32 = 256 << 20;
/// How long to wait for a writer.
const BUSY: Duration = Duration::from_secs(10);

/// The collation of moments. SQLite keeps them as text in whatever form somebody wrote, and compares
/// bytes: `2024-07-01 08:00:00` comes before `2024-07-01T00:00:00`. With this one they are compared as
/// the moments that they are; without an offset they are UTC's, as SQLite's own are.
pub(super) const MOMENTS: &str = "bgfiles_moments";

fn compare_moments(a: &str, b: &str) -> Ordering {
    let moment = |text: &str| match date_and_time(text) {
        Some(Moment::Utc(at)) => Some(at.naive_utc()),
        Some(Moment::Wall(at)) => Some(at),
        None => Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(NaiveTime::MIN)),
    };
    match (moment(a), moment(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.cmp(b),
    }
}

/// A SQLite file that exports read, and that nothing here can write.
#[derive(Clone, Debug)]
pub struct SqliteFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    idle: Mutex<Vec<(Identity, Connection)>>,
    slots: Arc<Semaphore>,
}

impl SqliteFile {
    pub(in crate::export::query) fn new(path: &Path) -> Self {
        SqliteFile(Arc::new(Shared {
            path: path.to_owned(),
            idle: Mutex::default(),
            slots: Arc::new(Semaphore::new(CONNECTIONS as usize)),
        }))
    }

    /// Runs `work` with a connection, on a thread for blocking work. Dropping the future, or
    /// reaching the timeout, interrupts what SQLite does.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let slot = slot(&self.0.slots).await?;
        let (shared, deadline) = (self.0.clone(), Deadline::new(timeout));
        let abandoned = Abandoned::default();
        let is_abandoned = abandoned.0.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            let (identity, conn) = shared.connect()?;
            let go_on = move || !is_abandoned.load(Relaxed) && !deadline.has_passed();
            conn.progress_handler(INSTRUCTIONS, Some(move || !go_on()))?;
            let done = work(&conn).map_err(|error| match error {
                Error::Sqlite(e)
                    if e.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) =>
                {
                    deadline.explain_interruption()
                }
                other => other,
            })?;
            conn.progress_handler(0, None::<fn() -> bool>)?;
            shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push((identity, conn));
            Ok(done)
        });
        match task.await {
            Ok(done) => done,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => Err(Error::OutputClosed),
        }
    }
}

/// Which file it is, whatever its name: device and inode.
type Identity = Option<(u64, u64)>;

impl Shared {
    fn connect(&self) -> Result<(Identity, Connection)> {
        let identity: Identity =
            std::fs::metadata(&self.path).ok().map(|file| (file.dev(), file.ino()));
        {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            // A file that was put in the place of another is another.
            idle.retain(|(of, _)| *of == identity);
            if let Some(known) = idle.pop() {
                return Ok(known);
            }
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&self.path, flags)?;
        conn.busy_timeout(BUSY)?;
        conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, MOST_VALUE)?;
        // Also holds what a statement might attach.
        conn.pragma_update(None, "query_only", true)?;
        conn.create_collation(MOMENTS, compare_moments)?;
        Ok((identity, conn))
    }
}

/// Says, when it is dropped, that nobody waits any more.
#[derive(Default)]
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
