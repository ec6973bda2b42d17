//! New work as the file system tells of it: whoever writes to a SQLite database, in whichever process
//! of this machine, writes to the log beside it. Linux alone has a cheap way to hear of that.
//!
//! What is heard is the writing, which comes before the commit: the disk is waited for in between. So
//! what is heard is followed by looks at `PRAGMA data_version`, until there is something to see.

#[cfg(target_os = "linux")]
use std::time::Duration;

use sqlx::SqlitePool;
#[cfg(target_os = "linux")]
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::{Kind, heard::Heard};
use crate::error::{Error, Result};

/// When to look whether what was written is committed, one pause after the other, in milliseconds: some
/// disks take long.
#[cfg(target_os = "linux")]
const LOOKS: [u64; 10] = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Passes on that the database was written to, until it is stopped: not only for what is
/// committed, and several times for much.
///
/// # Errors
/// When the system does not let us: no such file, or more watches than it allows.
#[cfg(target_os = "linux")]
pub(super) fn watch(
    pool: &SqlitePool,
    inserts: broadcast::Sender<Heard>,
    stop: CancellationToken,
) -> Result<()> {
    use std::path::Path;

    use futures::{FutureExt, StreamExt};
    use inotify::{EventMask, Inotify, WatchMask};

    let options = pool.connect_options();
    let failed = Error::io("watching the database's file");
    let watching = || {
        // SQLite puts the log beside the file that a symbolic link leads to.
        let database = std::fs::canonicalize(options.get_filename())?;
        let mut log = database.file_name().unwrap_or_default().to_owned();
        log.push("-wal");
        let inotify = Inotify::init()?;
        // The folder: the log goes with the last connection, and comes back as another file.
        let folder = database.parent().unwrap_or(Path::new("/"));
        inotify
            .watches()
            .add(folder, WatchMask::MODIFY | WatchMask::CREATE | WatchMask::ONLYDIR)?;
        Ok((log, inotify.into_event_stream([0; 4096])?))
    };
    let (log, mut events) = watching().map_err(failed)?;
    tokio::spawn(async move {
        let mut seen = Seen::default();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = stop.cancelled() => return,
            };
            let is_write = match event {
                Some(Ok(event)) => {
                    event.mask.contains(EventMask::Q_OVERFLOW) || event.name.as_ref() == Some(&log)
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "writes to the database's file are not heard of any more");
                    return;
                }
                None => return,
            };
            if !is_write {
                continue;
            }
            seen.wait_for_commit(&options).await;
            for kind in [Kind::Requests, Kind::Notices] {
                // Nobody may be working at the moment. Most writes are none of jobs, and those are
                // in no hurry: their rows are looked for now.
                let _ = inserts.send(Heard { kind, is_job: false });
            }
            // What was written before that look is seen with it.
            while events.next().now_or_never().flatten().is_some_and(|event| event.is_ok()) {}
        }
    });
    Ok(())
}

/// What was last seen of a database, on a connection of its own.
#[cfg(target_os = "linux")]
#[derive(Default)]
struct Seen {
    connection: Option<SqliteConnection>,
    version: i64,
}

#[cfg(target_os = "linux")]
impl Seen {
    /// Until somebody's commit is seen; not for ever, as what was written may be rolled back.
    async fn wait_for_commit(&mut self, options: &SqliteConnectOptions) {
        for pause in LOOKS {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            match self.look(options).await {
                Ok(version) if version == self.version => {}
                Ok(version) => {
                    self.version = version;
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "the database's version was not read");
                    self.connection = None;
                    return;
                }
            }
        }
    }

    async fn look(&mut self, options: &SqliteConnectOptions) -> sqlx::Result<i64> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(SqliteConnection::connect_with(options).await?),
        };
        sqlx::query_scalar("PRAGMA data_version").fetch_one(connection).await
    }
}

/// As on Linux; elsewhere there is nothing to hear.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub(super) fn watch(_: &Path, _: broadcast::Sender<Heard>, _: CancellationToken) -> Result<()> {
    let unsupported = std::io::ErrorKind::Unsupported.into();
    Err(Error::io("watching the database's file")(unsupported))
}
