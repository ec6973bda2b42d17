//! SQLite and PostgreSQL behind one text of SQL.
//!
//! [`Db`] and [`Tx`] are enums over sqlx's native pools and transactions. A store function takes
//! [`Conn`], a borrowed connection: of our own transaction, or of one that the host application
//! opened on the same database. The macro `on!` expands one body for both drivers.

mod about;
pub(crate) mod ear;
mod lent;
mod migrations;
pub(crate) mod pool;
mod trial;
mod watch;

use std::{os::unix::fs::OpenOptionsExt, path::Path, str::FromStr, time::Duration};

use sqlx::{
    PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub use about::About;
pub use lent::Lent;
pub use watch::Watch;

use crate::error::{Error, Result};

/// Runs one body against whichever database is at hand. In the body, `$c` is a `&mut` connection
/// of that driver.
macro_rules! on {
    ($conn:expr, $c:ident => $body:expr) => {
        match $conn {
            $crate::db::Conn::Postgres($c) => $body,
            $crate::db::Conn::Sqlite($c) => $body,
        }
    };
}
pub(crate) use on;

/// A pool of connections.
#[derive(Clone, Debug)]
pub enum Db {
    /// PostgreSQL.
    Postgres(PgPool),
    /// SQLite.
    Sqlite(SqlitePool),
}

/// A transaction; rolled back when dropped.
#[derive(Debug)]
pub enum Tx {
    /// PostgreSQL.
    Postgres(Lent<Postgres>),
    /// SQLite, begun IMMEDIATE.
    Sqlite(Lent<Sqlite>),
}

/// A connection of the pool without a transaction: each statement stands for itself, and costs one
/// round trip instead of three.
#[derive(Debug)]
pub enum Pooled {
    /// PostgreSQL.
    Postgres(Lent<Postgres>),
    /// SQLite.
    Sqlite(Lent<Sqlite>),
}

/// A borrowed connection.
#[derive(Debug)]
pub enum Conn<'c> {
    /// PostgreSQL.
    Postgres(&'c mut PgConnection),
    /// SQLite.
    Sqlite(&'c mut SqliteConnection),
}

impl Conn<'_> {
    /// Lends the connection on, for a caller that needs it again afterwards.
    pub fn reborrow(&mut self) -> Conn<'_> {
        match self {
            Conn::Postgres(c) => Conn::Postgres(c),
            Conn::Sqlite(c) => Conn::Sqlite(c),
        }
    }
}

impl<'c> From<&'c mut Tx> for Conn<'c> {
    fn from(tx: &'c mut Tx) -> Self {
        match tx {
            Tx::Postgres(tx) => Conn::Postgres(tx),
            Tx::Sqlite(tx) => Conn::Sqlite(tx),
        }
    }
}

impl<'c> From<&'c mut Pooled> for Conn<'c> {
    fn from(pooled: &'c mut Pooled) -> Self {
        match pooled {
            Pooled::Postgres(c) => Conn::Postgres(c),
            Pooled::Sqlite(c) => Conn::Sqlite(c),
        }
    }
}

impl<'c> From<&'c mut PgConnection> for Conn<'c> {
    fn from(c: &'c mut PgConnection) -> Self {
        Conn::Postgres(c)
    }
}

impl<'c> From<&'c mut SqliteConnection> for Conn<'c> {
    fn from(c: &'c mut SqliteConnection) -> Self {
        Conn::Sqlite(c)
    }
}

impl<'c> From<&'c mut sqlx::Transaction<'_, sqlx::Postgres>> for Conn<'c> {
    fn from(tx: &'c mut sqlx::Transaction<'_, sqlx::Postgres>) -> Self {
        Conn::Postgres(&mut *tx)
    }
}

impl<'c> From<&'c mut sqlx::Transaction<'_, sqlx::Sqlite>> for Conn<'c> {
    fn from(tx: &'c mut sqlx::Transaction<'_, sqlx::Sqlite>) -> Self {
        Conn::Sqlite(&mut *tx)
    }
}

impl Tx {
    /// The connection, borrowed.
    pub fn conn(&mut self) -> Conn<'_> {
        self.into()
    }

    /// Makes everything since [`Db::begin`] last.
    ///
    /// # Errors
    /// When the database refuses or is gone; it may then hold or not.
    pub async fn commit(self) -> Result<()> {
        match self {
            Tx::Postgres(tx) => tx.commit().await?,
            Tx::Sqlite(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// Connections of a process to PostgreSQL, when nothing is said.
pub const CONNECTIONS: u32 = 28;
/// How long closing may take: connections come back within [`lent`]'s limit.
const CLOSE: Duration = Duration::from_secs(5);

impl Db {
    /// Opens a pool on `sqlite:PATH` (made when missing) or `postgres://…`. Connects on first use,
    /// so that a process may start before its database does.
    ///
    /// # Errors
    /// [`Error::Config`] when the URL is neither.
    pub fn open(url: &str) -> Result<Db> {
        Self::open_with(url, CONNECTIONS)
    }

    /// As [`Db::open`], with the most connections that this process opens to PostgreSQL: the pool's,
    /// the queue's, and those on which it listens and announces. (One more where a host application
    /// runs worker and web in one process.)
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn open_with(url: &str, most: u32) -> Result<Db> {
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            let options = pool::connect_options(url)
                .ok_or_else(|| Error::Config("DATABASE_URL: not a PostgreSQL URL".into()))?
                .application_name("bgfiles");
            let pool = pool::options(pool::share_of_work(most))
                .acquire_timeout(Duration::from_secs(10))
                .connect_lazy_with(options);
            Ok(Db::Postgres(pool))
        } else if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url)
                .map_err(|e| Error::Config(format!("DATABASE_URL: {e}")))?
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                // A commit that is acknowledged (202) must survive a power cut.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(Duration::from_secs(10));
            create_private(options.get_filename());
            let pool = SqlitePoolOptions::new()
                .max_connections(8)
                .acquire_timeout(Duration::from_secs(20))
                // The file is on this machine.
                .test_before_acquire(false)
                .before_acquire(|conn, meta| Box::pin(pool::is_at_rest_here(conn, meta)))
                .connect_lazy_with(options);
            Ok(Db::Sqlite(pool))
        } else {
            Err(Error::Config(
                "DATABASE_URL: must begin with sqlite: or postgres: (for example sqlite:bgfiles.db)"
                    .into(),
            ))
        }
    }

    /// Begins a transaction that may write.
    ///
    /// # Errors
    /// When no connection is to be had.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(match self {
            Db::Postgres(pool) => Tx::Postgres(begin(pool).await?),
            // IMMEDIATE: a transaction that reads first and writes later could not be retried by
            // the busy handler.
            Db::Sqlite(pool) => {
                Tx::Sqlite(Lent::of(pool).await?.begin(Some("BEGIN IMMEDIATE")).await?)
            }
        })
    }

    /// Begins a transaction that only reads: on SQLite it waits for no writer.
    ///
    /// # Errors
    /// When no connection is to be had.
    pub async fn read(&self) -> Result<Tx> {
        Ok(match self {
            Db::Postgres(pool) => Tx::Postgres(begin(pool).await?),
            Db::Sqlite(pool) => Tx::Sqlite(Lent::of(pool).await?.begin(None).await?),
        })
    }

    /// A connection for single statements.
    ///
    /// # Errors
    /// When none is to be had.
    pub async fn acquire(&self) -> Result<Pooled> {
        Ok(match self {
            Db::Postgres(pool) => Pooled::Postgres(lend(pool).await?),
            Db::Sqlite(pool) => Pooled::Sqlite(Lent::of(pool).await?),
        })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<()> {
        let mut conn = self.acquire().await?;
        on!(Conn::from(&mut conn), c => sqlx::query("SELECT 1").execute(c).await.map(drop)?);
        Ok(())
    }

    /// Whether the database lets a further connection in, by one attempt.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn knock(&self) -> Result<()> {
        match self {
            Db::Postgres(pool) => Ok(pool::knock(pool).await?),
            Db::Sqlite(_) => Ok(()),
        }
    }

    /// `postgres` or `sqlite`.
    pub fn kind(&self) -> &'static str {
        match self {
            Db::Postgres(_) => "postgres",
            Db::Sqlite(_) => "sqlite",
        }
    }

    /// Closes the pool. Connections that do not come back are left.
    pub async fn close(&self) {
        let closed = async {
            match self {
                Db::Postgres(pool) => pool.close().await,
                Db::Sqlite(pool) => pool.close().await,
            }
        };
        let _ = tokio::time::timeout(CLOSE, closed).await;
    }
}

/// How long whoever serves others waits for the database, which may be gone without a word: SQLite's
/// lock, and a turn behind others, take their time.
pub(crate) const SILENCE: Duration = Duration::from_secs(20);

/// What the database answers within a time. What it was asked may be done all the same.
///
/// # Errors
/// When it says nothing.
pub(crate) async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(pool::silent().into()))
}

async fn begin(pool: &PgPool) -> Result<Lent<Postgres>> {
    let lent = lend(pool).await?;
    within(SILENCE, async { Ok(lent.begin(None).await?) }).await
}

/// Makes the file of a database that is not there yet: it has digests of passwords and tokens, and is
/// for nobody else to read. SQLite gives those beside it the same mode. What cannot be made here, it
/// says when it is opened.
fn create_private(path: &Path) {
    if path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return;
    }
    let _ = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
}

async fn lend(pool: &PgPool) -> Result<Lent<Postgres>> {
    match Lent::of(pool).await {
        Ok(lent) => Ok(lent),
        Err(error) => Err(pool::why_none(pool, error).await),
    }
}
