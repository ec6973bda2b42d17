//! New work as the file system tells of it: whoever writes to a SQLite database, in whichever process
//! of this machine, writes to the log beside it. Linux alone has a cheap way to hear of that.

use std::path::Path;

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::{Kind, line::Heard};
use crate::error::{Error, Result};

/// Passes on that the database was written to, until it is stopped: not only for what is committed,
/// and several times for much.
///
/// # Errors
/// When the system does not let us: no such file, or more watches than it allows.
#[cfg(target_os = "linux")]
pub(super) fn watch(
    database: &Path,
    inserts: broadcast::Sender<Heard>,
    stop: CancellationToken,
) -> Result<()> {
    use futures::StreamExt;
    use inotify::{EventMask, Inotify, WatchMask};

    let failed = Error::io("watching the database's file");
    let watching = || {
        // SQLite puts the log beside the file that a symbolic link leads to.
        let database = std::fs::canonicalize(database)?;
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
            if is_write {
                for kind in [Kind::Requests, Kind::Notices] {
                    // Nobody may be working at the moment.
                    let _ = inserts.send(Heard { kind, is_job: true });
                }
            }
        }
    });
    Ok(())
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
