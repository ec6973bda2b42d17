//! Knowing whether what was read from the database and kept in memory may still be used, in every
//! process, without reading it again.
//!
//! Triggers announce changes. On SQLite they raise a counter, and `PRAGMA data_version` says
//! whether anybody wrote anything since it was last read. On PostgreSQL they notify, and whoever
//! made a change waits until every process has heard of it: each holds a shared advisory lock while
//! it trusts its memory and lets go of it for a moment when it is notified; who made the change
//! takes the exclusive one, once. A process that does not answer (stopped, cut off) stops trusting
//! its memory by itself after [`TRUST`], and nobody waits longer than that for it. It trusts for as
//! long as it hears what it says to itself ([`Ear`]), which it does while anybody asks: behind a pooler that shares sessions nobody
//! hears anything, and nothing is kept.
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

use sqlx::{Connection, PgPool, SqliteConnection, SqlitePool};
use tokio::task::AbortHandle;

use super::{
    Conn, Db, Lent,
    ear::{Ear, Heard, PING, TRUST},
    pool,
};
use crate::error::Result;

const CHANNEL: &str = "bgfiles_auth";
/// The number of our advisory lock: "bgfauth".
const LOCK: i64 = 0x62_6766_6175_7468;
/// How long a pooler that shares sessions is left alone.
const LATER: Duration = Duration::from_secs(30);
/// What operators are told of it.
const SHARED: &str = "a pooler shares the sessions of the database (DATABASE_URL), and announcements of \
    revocations are not heard: tokens and links are looked up each time, and workers look for work \
    by the clock; connect directly, or let the pooler pool sessions (PgBouncer: pool_mode = session)";
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
    Postgres(PgPool, Arc<Hearing>, Mutex<Option<AbortHandle>>, Arc<Herald>),
}

/// A connection for announcements: those in the middle of others' transactions, so that these need no
/// second one of the pool they came from, and what a process says to itself. Opened on first use, and
/// not kept for long when there is none.
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
    /// Whether anybody asked since the last word to oneself: who serves nobody need not be sure.
    asked: AtomicBool,
    /// Whether a pooler shares our sessions, as far as is known.
    shared: AtomicBool,
    /// Whether somebody was warned since it was trusted last.
    warned: AtomicBool,
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
                    asked: AtomicBool::new(false),
                    shared: AtomicBool::new(false),
                    warned: AtomicBool::new(false),
                };
                let herald = Arc::default();
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
            Kind::Postgres(_, hearing, ..) => {
                self.begin();
                hearing.generation()
            }
        }
    }

    /// What an operator should know: that a pooler shares the sessions of this process. `None` also
    /// while it is not known yet.
    pub fn warning(&self) -> Option<&'static str> {
        self.begin();
        match &self.0 {
            Kind::Postgres(_, hearing, ..) if hearing.shared.load(Ordering::SeqCst) => Some(SHARED),
            _ => None,
        }
    }

    /// The same by one attempt.
    ///
    /// # Errors
    /// When the database does not let us try.
    pub async fn try_out(db: &Db) -> Result<Option<&'static str>> {
        match db {
            Db::Postgres(pool) => Ok(super::ear::is_shared(pool).await?.then_some(SHARED)),
            Db::Sqlite(_) => Ok(None),
        }
    }

    /// Begins to listen, unless that is under way.
    fn begin(&self) {
        let Kind::Postgres(pool, hearing, task, herald) = &self.0 else { return };
        let mut task = task.lock().unwrap_or_else(|e| e.into_inner());
        if task.as_ref().is_none_or(AbortHandle::is_finished) {
            let listening = listen(pool.clone(), hearing.clone(), herald.clone());
            *task = Some(tokio::spawn(listening).abort_handle());
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
        Ok(announce(self.mouth(pool)).await?)
    }

    fn mouth(&self, pool: &PgPool) -> &PgPool {
        self.0.get_or_init(|| {
            let options = pool.connect_options().as_ref().clone();
            let few = pool::options(1).acquire_timeout(TRUST);
            few.idle_timeout(HERALD).connect_lazy_with(options)
        })
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
        self.asked.store(true, Ordering::Relaxed);
        let heard = *self.heard.lock().unwrap_or_else(|e| e.into_inner());
        let trusted = self.open.load(Ordering::SeqCst) && heard.elapsed() < TRUST;
        trusted.then(|| self.generation.load(Ordering::SeqCst))
    }

    fn heard(&self, at: Instant) {
        *self.heard.lock().unwrap_or_else(|e| e.into_inner()) = at;
    }
}

/// Why nothing is heard any more.
enum End {
    Lost,
    /// Words to oneself do not come back.
    Deaf,
    /// They never did.
    Shared,
}

/// Listens until it is told to end.
async fn listen(pool: PgPool, hearing: Arc<Hearing>, herald: Arc<Herald>) {
    while !pool.is_closed() {
        let end = hear(&pool, &hearing, herald.mouth(&pool)).await;
        hearing.open.store(false, Ordering::SeqCst);
        let warned = || hearing.warned.swap(true, Ordering::SeqCst);
        let mut pause = PING;
        match end {
            Ok(End::Lost) => {}
            Ok(End::Shared) => {
                hearing.shared.store(true, Ordering::SeqCst);
                pause = LATER;
                if !warned() {
                    tracing::warn!("{SHARED}");
                }
            }
            Ok(End::Deaf) if !warned() => {
                tracing::warn!(
                    "announcements of revocations are not heard any more; tokens and links are looked up each time"
                );
            }
            Err(error) if !warned() => {
                tracing::warn!(%error, "announcements of revocations are not heard; tokens and links are looked up each time");
            }
            Ok(End::Deaf) | Err(_) => {}
        }
        tokio::time::sleep(pause).await;
    }
}

async fn hear(pool: &PgPool, hearing: &Hearing, mouth: &PgPool) -> Result<End> {
    let Some(mut ear) = Ear::open(pool, mouth).await? else { return Ok(End::Shared) };
    hearing.shared.store(false, Ordering::SeqCst);
    hearing.heard(ear.proven());
    ear.connection().listen(CHANNEL).await?;
    trust(&mut ear, hearing).await?;
    if hearing.warned.swap(false, Ordering::SeqCst) {
        tracing::info!("announcements of revocations are heard again");
    }
    loop {
        if hearing.asked.load(Ordering::Relaxed) && ear.speak(mouth) {
            hearing.asked.store(false, Ordering::Relaxed);
        }
        match ear.hear().await? {
            Heard::Itself(said) => hearing.heard(said),
            Heard::Other => doubt(&mut ear, hearing).await?,
            Heard::Quiet => {}
            Heard::Nothing => return Ok(End::Deaf),
            // The lock is lost with it.
            Heard::Lost => return Ok(End::Lost),
        }
    }
}

/// Something changed: forgets, lets go of the lock for who waits for it, and begins anew.
async fn doubt(ear: &mut Ear, hearing: &Hearing) -> Result<()> {
    hearing.open.store(false, Ordering::SeqCst);
    let sql = "SELECT pg_advisory_unlock_shared($1)";
    sqlx::query(sql).bind(LOCK).execute(ear.connection()).await?;
    tokio::time::sleep(PAUSE).await;
    trust(ear, hearing).await
}

/// With the lock, no change can end unheard. What was read before it counts for nothing. How long that
/// is trusted is for the next word to oneself to say.
async fn trust(ear: &mut Ear, hearing: &Hearing) -> Result<()> {
    let sql = "SELECT pg_advisory_lock_shared($1)";
    sqlx::query(sql).bind(LOCK).execute(ear.connection()).await?;
    hearing.generation.fetch_add(1, Ordering::SeqCst);
    hearing.open.store(true, Ordering::SeqCst);
    Ok(())
}
