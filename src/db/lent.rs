//! A connection that its pool lends, and gets back at rest or not at all.
//!
//! sqlx 0.9.0 forgets a BEGIN whose future is dropped while its answer is on the way: the connection
//! goes back to the pool in the middle of a transaction that nobody ends ([#4385]). And it waits for
//! ever for the last word of a connection whose other end is silently gone, which keeps a place of the
//! pool ([#4349]). Here a connection goes back within [`BACK`], or is dropped; what state it is in,
//! [`super::pool`] asks the server.
//!
//! [#4385]: https://github.com/launchbadge/sqlx/issues/4385
//! [#4349]: https://github.com/launchbadge/sqlx/issues/4349

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{Database, Pool, SqlSafeStr, pool::PoolConnection};
use sqlx_core::transaction::TransactionManager;

use super::pool::{self, Idle};

/// How long a connection may take to go back: the rest of a statement, a ROLLBACK, the questions of
/// the pool, closing.
const BACK: Duration = Duration::from_secs(4);

/// A connection of a pool, with or without a transaction of ours; rolled back when dropped.
pub struct Lent<DB: Database> {
    conn: PoolConnection<DB>,
    in_transaction: bool,
    /// The server has said that the transaction ended, and was asked nothing since.
    is_at_rest: bool,
}

impl<DB: Database> Lent<DB> {
    /// The next one that is free and works.
    pub(crate) async fn of(pool: &Pool<DB>) -> sqlx::Result<Self> {
        loop {
            let (conn, idle) = Idle::of(pool.acquire()).await;
            let mut lent = Lent { conn: conn?, in_transaction: false, is_at_rest: false };
            match idle {
                Some(idle) if !idle.works(&mut *lent.conn).await => lent.give_up(),
                _ => return Ok(lent),
            }
        }
    }

    /// Closes it without a word: whoever says goodbye over TLS waits for the answer.
    pub(crate) fn give_up(mut self) {
        self.in_transaction = false;
        // Not polled, it drops the connection and frees its place.
        drop(self.conn.return_to_pool());
    }

    /// Begins a transaction.
    pub(crate) async fn begin(mut self, statement: Option<&'static str>) -> sqlx::Result<Self> {
        // Before it has begun: who leaves meanwhile has begun it perhaps.
        self.in_transaction = true;
        let statement = statement.map(SqlSafeStr::into_sql_str);
        DB::TransactionManager::begin(&mut self.conn, statement).await?;
        Ok(self)
    }

    /// Makes what was written since the beginning last.
    pub(crate) async fn commit(mut self) -> sqlx::Result<()> {
        DB::TransactionManager::commit(&mut self.conn).await?;
        (self.in_transaction, self.is_at_rest) = (false, true);
        Ok(())
    }
}

impl<DB: Database> Drop for Lent<DB> {
    fn drop(&mut self) {
        if self.in_transaction {
            DB::TransactionManager::start_rollback(&mut self.conn);
        }
        let back = pool::back(self.is_at_rest, self.conn.return_to_pool());
        // Dropped, `back` drops the connection and frees its place.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if tokio::time::timeout(BACK, back).await.is_err() {
                    tracing::warn!("a connection to the database did not answer; it is given up");
                }
            });
        }
    }
}

impl<DB: Database> Deref for Lent<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &Self::Target {
        &self.conn
    }
}

impl<DB: Database> DerefMut for Lent<DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.conn
    }
}

impl<DB: Database> fmt::Debug for Lent<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").field("in_transaction", &self.in_transaction).finish_non_exhaustive()
    }
}
