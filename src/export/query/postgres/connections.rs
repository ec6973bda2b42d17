//! Connections to a PostgreSQL database, lent to one export at a time.

use std::{sync::Arc, time::Duration};

use sqlx::{AssertSqlSafe, PgPool, Postgres, postgres::PgConnectOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    db::{Lent, pool},
    error::{Error, Result},
    export::query::{ACQUIRE, CONNECTIONS, MOST_CONNECTIONS, busy, slot},
    idle::Idle,
};

/// Ends a transaction that only read, and undoes what its query did to the connection for longer:
/// settings (`set_config('app.tenant', …, false)`), another role, advisory locks. The next export is
/// somebody else's. Answers with one row.
pub(super) const END_ALL: &str = "COMMIT; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; \
    SET standard_conforming_strings = on; SELECT pg_advisory_unlock_all(); ";
/// How long the end of a transaction that only read may take.
const END: Duration = Duration::from_secs(5);
/// How long a connection waits for the next export before it goes back to its pool.
const KEPT: Duration = Duration::from_millis(200);

/// The connections of one database.
#[derive(Clone, Debug)]
pub(super) struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: PgPool,
    /// One for each connection of the pool but the one that stops queries.
    slots: Arc<Semaphore>,
    /// Connections between two exports. A pool asks each that comes back whether it still works,
    /// which is a journey to the server for every export.
    idle: Arc<Idle<Kept>>,
    /// Who stops a query needs a connection beside the one that runs it; one at a time.
    stopping: Semaphore,
}

/// A connection, and whether a transaction that only read is still open on it.
pub(super) struct Kept {
    pub conn: Lent<Postgres>,
    pub in_transaction: bool,
}

impl Kept {
    /// Back to the pool.
    fn end(self) {
        if self.in_transaction {
            tokio::spawn(async {
                let Kept { mut conn, .. } = self;
                // A connection that fails does not come back into the pool.
                let done = sqlx::raw_sql(END_ALL).execute(&mut *conn);
                if tokio::time::timeout(END, done).await.is_err() {
                    conn.give_up();
                }
            });
        }
    }
}

impl Connections {
    /// Connects on first use.
    pub(super) fn new(options: PgConnectOptions) -> Self {
        let pool = pool::options(MOST_CONNECTIONS)
            .acquire_timeout(ACQUIRE)
            // A role may have it off, and then the `\\d` of a definition is a `d`.
            .after_connect(|conn, _| {
                Box::pin(async move {
                    sqlx::query("SET standard_conforming_strings = on").execute(conn).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(options);
        let slots = Arc::new(Semaphore::new(CONNECTIONS as usize));
        let idle = Idle::new(CONNECTIONS as usize, KEPT, Kept::end);
        let stopping = Semaphore::new(1);
        Connections(Arc::new(Shared { pool, slots, idle, stopping }))
    }

    /// A connection for an export.
    pub(super) async fn lend(&self) -> Result<(Kept, OwnedSemaphorePermit)> {
        let slot = slot(&self.0.slots).await?;
        Ok((self.connection().await?, slot))
    }

    /// One that waits, or a further one.
    pub(super) async fn connection(&self) -> Result<Kept> {
        match self.0.idle.take() {
            Some((kept, idle)) if idle < KEPT => Ok(kept),
            Some((kept, _)) => {
                kept.end();
                self.further().await
            }
            None => self.further().await,
        }
    }

    /// Stops what the server process `pid` does.
    pub(super) async fn stop(&self, pid: i32) -> Result<()> {
        let _turn = self.0.stopping.acquire().await;
        let mut other = self.connection().await?;
        let before = if std::mem::take(&mut other.in_transaction) { END_ALL } else { "" };
        // Of ours only a number was put in.
        let sql = format!("{before}SELECT pg_cancel_backend({pid})");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *other.conn).await?;
        self.give_back(other);
        Ok(())
    }

    async fn further(&self) -> Result<Kept> {
        let conn = match Lent::of(&self.0.pool).await {
            Ok(conn) => conn,
            Err(error) => match pool::why_none(&self.0.pool, error).await {
                // The server lets us in, and all places are taken.
                Error::Database(sqlx::Error::PoolTimedOut) => return Err(busy()),
                other => return Err(other),
            },
        };
        Ok(Kept { conn, in_transaction: false })
    }

    /// Takes a connection back for the next export.
    pub(super) fn give_back(&self, kept: Kept) {
        self.0.idle.keep(kept);
    }

    /// Whether somebody beside the caller, who has a connection, has one.
    pub(super) fn is_busy(&self) -> bool {
        self.0.slots.available_permits() + 1 < CONNECTIONS as usize
    }
}
