//! What the queues of a process share: connections, and the announcements of new work.

use sqlx::{PgPool, SqlitePool};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Kind, announced, file_watch, heard::Heard};
use crate::db::{Db, pool};

/// What both queues of a process have together: connections for the queue alone (a heartbeat that
/// waits for a busy pool looks like death), and one ear for new work.
pub struct Line {
    pub(super) ends: Ends,
    /// What is heard. Nothing ever is where a watch on the file is not to be had.
    pub(super) inserts: broadcast::Sender<Heard>,
    /// Ends the listening. `None`: nothing is heard.
    ear: Option<DropGuard>,
}

pub(super) enum Ends {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Line {
    /// Over a database. Connects on first use, and listens from now on.
    pub fn open(db: &Db) -> Line {
        let (inserts, stop) = (broadcast::Sender::new(16), CancellationToken::new());
        let (ends, hears) = match db {
            Db::Postgres(pool) => {
                tokio::spawn(announced::listen(pool.clone(), inserts.clone(), stop.clone()));
                (Ends::Postgres(own_pool(pool)), true)
            }
            Db::Sqlite(pool) => {
                let watched = file_watch::watch(pool, inserts.clone(), stop.clone());
                if let Err(error) = &watched {
                    tracing::info!(%error, "workers look for new work 40 times a second");
                }
                (Ends::Sqlite(pool.clone()), watched.is_ok())
            }
        };
        Line { ends, inserts, ear: hears.then(|| stop.drop_guard()) }
    }

    /// Whether new work is heard of.
    pub(super) fn hears(&self) -> bool {
        self.ear.is_some()
    }
}

/// Connections of SQLite's queue, of each kind.
pub(super) const OWN: u32 = 3;

/// What is written there need not survive a power cut: a job that is fetched or acknowledged twice
/// finds nothing to claim. So nobody waits for a disk.
fn own_pool(pool: &PgPool) -> PgPool {
    let options = (*pool.connect_options()).clone();
    pool::options(pool::share_of_queue(pool.options().get_max_connections()))
        .after_connect(|conn, _| {
            Box::pin(async {
                sqlx::query("SET synchronous_commit = off").execute(conn).await.map(drop)
            })
        })
        .connect_lazy_with(options)
}

/// What is announced for this queue, for as long as the receiver lives.
pub(super) fn overhear(
    mut from: broadcast::Receiver<Heard>,
    kind: Kind,
    heard: impl Fn() + Send + Sync + 'static,
) -> mpsc::Receiver<()> {
    let (to, inserts) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let one = tokio::select! {
                one = from.recv() => one,
                () = to.closed() => return,
            };
            let one = match one {
                Ok(one) => one,
                // More than were kept: one of them was for this queue, perhaps.
                Err(RecvError::Lagged(_)) => Heard { kind, is_job: true },
                Err(RecvError::Closed) => return,
            };
            if one.kind == kind {
                heard();
                if one.is_job {
                    // A full channel says already what this would say.
                    let _ = to.try_send(());
                }
            }
        }
    });
    inserts
}
