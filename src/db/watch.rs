//! Knowing whether what was read from the database and kept in memory may still be used, in every
//! process, without reading it again.
//!
//! Triggers announce changes. On SQLite they raise a counter, and `PRAGMA data_version` says
//! whether anybody wrote anything since it was last read. On PostgreSQL they notify, and whoever
//! made a change waits until every process has heard of it: each holds a shared advisory lock while
//! it trusts its memory and lets go of it for a moment when it is notified; who made the change
//! takes the exclusive one, once. A process that does not answer (stopped, cut off) stops trusting
//! its memory by itself after [`TRUST`], and nobody waits longer than that for it.
//!
//! There are two ways to make a change: [`Watch::changed`] after it was committed; and, where the
//! caller's transaction ends elsewhere, [`Watch::hold`] before it is made: the exclusive lock then
//! goes with the transaction, and until then nobody trusts anything.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection, PgPool, SqliteConnection, SqlitePool, postgres::PgListener};
use tokio::task::AbortHandle;

use super::{Conn, Db, Lent, pool};
use crate::error::Result;

const CHANNEL: &str = "bgfiles_auth";
/// The number of our advisory lock: "bgfauth".
const LOCK: i64 = 0x62_6766_6175_7468;
/// How long memory is trusted without word from the server.
const TRUST: Duration = Duration::from_secs(2);
/// How often the server is asked for a word.
const PING: Duration = Duration::from_millis(500);
/// For how long a process that was notified leaves the lock to who notified it.
const PAUSE: Duration = Duration::from_millis(25);
/// How long the connection for announcements waits for the next one.
const HERALD: Duration = Duration::from_secs(60);
/// How long that one tries before it notifies again, in SQL; `bgfiles_hold_memory()` tries as long.
const PATIENCE: &str = "SET LOCAL lock_timeout = '100ms'";

/// Tells generations of what is in the database apart.
#[derive(Debug)]
pub struct Watch(Kind);

#[derive(Debug)]
enum Kind {
    Sqlite(SqlitePool, Looks),
    Postgres(PgPool, Arc<Hearing>, Mutex<Option<AbortHandle>>, Herald),
}

/// A connection for announcements in the middle of others' transactions, so that these need no
/// second one of the pool they came from. Opened on first use, and not kept for long.
#[derive(Debug, Default)]
struct Herald(OnceLock<PgPool>);

/// Looks at a SQLite database. A look that begins after somebody asked answers them, too: so of
/// many who ask at once, two look.
#[derive(Debug, Default)]
struct Looks {
    begun: AtomicU64,
    seen: tokio::sync::Mutex<Option<Seen>>,
}

/// What a connection of its own saw last.
#[derive(Debug)]
struct Seen {
    connection: SqliteConnection,
    /// The number of the look.
    look: u64,
    version: i64,
    epoch: i64,
}

#[derive(Debug)]
struct Hearing {
    open: AtomicBool,
    generation: AtomicU64,
    heard: Mutex<Instant>,
}

impl Watch {
    /// Over a database. Connects on first use.
    pub fn new(db: &Db) -> Self {
        Watch(match db {
            Db::Sqlite(pool) => Kind::Sqlite(pool.clone(), Looks::default()),
            Db::Postgres(pool) => {
                let hearing = Hearing {
                    open: AtomicBool::new(false),
                    generation: AtomicU64::new(0),
                    heard: Mutex::new(Instant::now()),
                };
                let herald = Herald::default();
                Kind::Postgres(pool.clone(), Arc::new(hearing), Mutex::new(None), herald)
            }
        })
    }

    /// The current generation: what was read under the same one still holds. `None` when nobody
    /// can tell; then nothing that was kept may be used, nor anything be kept.
    pub async fn generation(&self) -> Option<u64> {
        match &self.0 {
            Kind::Sqlite(pool, looks) => {
                let asked = looks.begun.load(Ordering::SeqCst);
                let mut seen = looks.seen.lock().await;
                if let Some(seen) = seen.as_ref().filter(|seen| seen.look > asked) {
                    return Some(seen.epoch.unsigned_abs());
                }
                let number = looks.begun.fetch_add(1, Ordering::SeqCst) + 1;
                match look(pool, &mut seen, number).await {
                    Ok(epoch) => Some(epoch.unsigned_abs()),
                    Err(error) => {
                        tracing::warn!(%error, "the database cannot be watched");
                        *seen = None;
                        None
                    }
                }
            }
            Kind::Postgres(pool, hearing, task, _) => {
                let mut task = task.lock().unwrap_or_else(|e| e.into_inner());
                if task.as_ref().is_none_or(AbortHandle::is_finished) {
                    let listening = tokio::spawn(listen(pool.clone(), hearing.clone()));
                    *task = Some(listening.abort_handle());
                }
                hearing.generation()
            }
        }
    }

    /// To be called after a change was committed: when it returns, no process uses what it kept
    /// from before.
    pub async fn changed(&self) {
        let Kind::Postgres(pool, hearing, ..) = &self.0 else { return };
        hearing.generation.fetch_add(1, Ordering::SeqCst);
        let deadline = Instant::now() + TRUST + PING;
        while let Err(error) = wait_for_all(pool).await {
            let slow = error.as_database_error().is_some_and(|e| e.code() == Some("55P03".into()));
            if Instant::now() >= deadline {
                tracing::warn!(
                    "a process does not answer; it has stopped trusting its memory by now"
                );
                return;
            }
            let again = announce(pool).await;
            if !slow || again.is_err() {
                tracing::warn!(%error, "a revocation cannot be confirmed yet");
                tokio::time::sleep(PING).await;
            }
        }
    }

    /// To be called in a transaction before a change is made in it: from then until the transaction
    /// ends no process uses what it kept, and afterwards none uses what it kept from before. On
    /// SQLite the change is seen with the commit anyway.
    ///
    /// # Errors
    /// The database's. A process that does not answer is none: it has stopped trusting its memory
    /// when this returns.
    pub async fn hold(&self, conn: Conn<'_>) -> Result<()> {
        let (Kind::Postgres(pool, _, _, herald), Conn::Postgres(c)) = (&self.0, conn) else {
            return Ok(());
        };
        let deadline = Instant::now() + TRUST + PING;
        loop {
            // Not in the transaction, whose announcements come with its end.
            if let Err(error) = herald.announce(pool).await {
                tracing::warn!(%error, "a revocation cannot be announced yet");
                tokio::time::sleep(PAUSE).await;
            }
            let held = sqlx::query_scalar("SELECT bgfiles_hold_memory()").fetch_one(&mut *c);
            if held.await? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                tracing::warn!(
                    "a process does not answer; it has stopped trusting its memory by now"
                );
                return Ok(());
            }
        }
    }

    /// Lets go of its connection.
    pub async fn close(&self) {
        match &self.0 {
            Kind::Sqlite(_, looks) => {
                if let Some(seen) = looks.seen.lock().await.take() {
                    let _ = seen.connection.close().await;
                }
            }
            Kind::Postgres(.., herald) => {
                self.abort();
                if let Some(pool) = herald.0.get() {
                    pool.close().await;
                }
            }
        }
    }

    fn abort(&self) {
        if let Kind::Postgres(_, hearing, task, _) = &self.0 {
            hearing.open.store(false, Ordering::SeqCst);
            let task = task.lock().unwrap_or_else(|e| e.into_inner()).take();
            task.iter().for_each(AbortHandle::abort);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.abort();
    }
}

impl Herald {
    async fn announce(&self, pool: &PgPool) -> Result<()> {
        let own = self.0.get_or_init(|| {
            let options = pool.connect_options().as_ref().clone();
            let few = pool::options(1).acquire_timeout(TRUST);
            few.idle_timeout(HERALD).connect_lazy_with(options)
        });
        Ok(announce(own).await?)
    }
}

async fn announce(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut conn = Lent::of(pool).await?;
    let sql = "SELECT pg_notify($1, '')";
    sqlx::query(sql).bind(CHANNEL).execute(&mut *conn).await.map(drop)
}

async fn look(pool: &SqlitePool, seen: &mut Option<Seen>, number: u64) -> Result<i64> {
    let seen = match seen {
        Some(seen) => seen,
        None => {
            let options = pool.connect_options();
            let connection = SqliteConnection::connect_with(&options).await?;
            seen.insert(Seen { connection, look: 0, version: -1, epoch: 0 })
        }
    };
    let version: i64 =
        sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut seen.connection).await?;
    if version != seen.version {
        let sql = "SELECT epoch FROM bgfiles_auth_epoch";
        seen.epoch = sqlx::query_scalar(sql).fetch_one(&mut seen.connection).await?;
        seen.version = version;
    }
    seen.look = number;
    Ok(seen.epoch)
}

async fn wait_for_all(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut tx = Lent::of(pool).await?.begin(None).await?;
    sqlx::query(PATIENCE).execute(&mut *tx).await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *tx).await?;
    tx.commit().await
}

impl Hearing {
    fn generation(&self) -> Option<u64> {
        let heard = *self.heard.lock().unwrap_or_else(|e| e.into_inner());
        let trusted = self.open.load(Ordering::SeqCst) && heard.elapsed() < TRUST;
        trusted.then(|| self.generation.load(Ordering::SeqCst))
    }

    fn heard(&self, at: Instant) {
        *self.heard.lock().unwrap_or_else(|e| e.into_inner()) = at;
    }
}

/// Listens until it is told to end.
async fn listen(pool: PgPool, hearing: Arc<Hearing>) {
    while !pool.is_closed() {
        let result = hear(&pool, &hearing).await;
        hearing.open.store(false, Ordering::SeqCst);
        if let Err(error) = result {
            tracing::warn!(%error, "announcements of revocations are not heard; tokens and links are looked up each time");
        }
        tokio::time::sleep(PING).await;
    }
}

async fn hear(pool: &PgPool, hearing: &Hearing) -> Result<()> {
    // A connection of its own: it goes with its locks when this ends.
    let options = pool.connect_options().as_ref().clone();
    let own = pool::options(1).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&own).await?;
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    trust(&mut listener, hearing).await?;
    loop {
        match tokio::time::timeout(PING, listener.try_recv()).await {
            Ok(Ok(Some(_))) => doubt(&mut listener, hearing).await?,
            // The connection is lost, and the lock with it.
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {
                let asked = Instant::now();
                let word = sqlx::query("SELECT 1").execute(&mut listener);
                // After that it is not trusted anyway, and a new one may be heard.
                let word = tokio::time::timeout(TRUST, word).await;
                word.map_err(|_| sqlx::Error::PoolTimedOut)??;
                match listener.next_buffered() {
                    Some(_) => doubt(&mut listener, hearing).await?,
                    None => hearing.heard(asked),
                }
            }
        }
    }
}

/// Something changed: forgets, lets go of the lock for who waits for it, and begins anew.
async fn doubt(listener: &mut PgListener, hearing: &Hearing) -> Result<()> {
    hearing.open.store(false, Ordering::SeqCst);
    let sql = "SELECT pg_advisory_unlock_shared($1)";
    sqlx::query(sql).bind(LOCK).execute(&mut *listener).await?;
    tokio::time::sleep(PAUSE).await;
    trust(listener, hearing).await
}

/// With the lock, no change can end unheard. What was read before it counts for nothing.
async fn trust(listener: &mut PgListener, hearing: &Hearing) -> Result<()> {
    let asked = Instant::now();
    let sql = "SELECT pg_advisory_lock_shared($1)";
    sqlx::query(sql).bind(LOCK).execute(&mut *listener).await?;
    hearing.generation.fetch_add(1, Ordering::SeqCst);
    hearing.heard(asked);
    hearing.open.store(true, Ordering::SeqCst);
    Ok(())
}
