//! A borrowed connection inside a READ ONLY transaction.

use std::time::Duration;

use futures::TryStreamExt;
use sqlx::{
    AssertSqlSafe, PgConnection, PgPool, Postgres, Row, pool::PoolConnection, postgres::PgRow,
};

use super::super::Deadline;
use crate::error::{Error, Result};

/// How long to try to stop a query that nobody waits for any more.
const CANCEL: Duration = Duration::from_secs(5);
/// SQLSTATE: somebody or something stopped the statement.
const QUERY_CANCELED: &str = "57014";

/// The transaction. Unless it is ended, its connection does not go back to the pool (which would
/// have to read all remaining rows first): the query is stopped and the connection closed.
pub(super) struct Session {
    conn: Option<PoolConnection<Postgres>>,
    pool: PgPool,
    /// The server process, for stopping it.
    pid: Option<i32>,
    deadline: Deadline,
}

impl Session {
    pub(super) async fn begin(pool: &PgPool, timeout: Duration) -> Result<Self> {
        Ok(Self::begin_with(pool, timeout, "").await?.0)
    }

    /// Begins with a statement that gives one row, in the same message: for a small export each
    /// journey to the server counts.
    pub(super) async fn begin_with(
        pool: &PgPool,
        timeout: Duration,
        first: &str,
    ) -> Result<(Self, PgRow)> {
        let conn = pool.acquire().await?;
        let deadline = Deadline::new(timeout);
        let mut session = Session { conn: Some(conn), pool: pool.clone(), pid: None, deadline };
        // What we show must not depend on how the server happens to be configured.
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let sql = format!(
            "BEGIN TRANSACTION READ ONLY; \
             SELECT pg_backend_pid(), set_config('statement_timeout', '{milliseconds}', true), \
             set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, YMD', true), \
             set_config('IntervalStyle', 'postgres', true), \
             set_config('bytea_output', 'hex', true), set_config('extra_float_digits', '1', true);\
             \n{first}"
        );
        // Of ours only a number was put in. Answers are text.
        let explain = session.explainer();
        let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(session.conn()?);
        let mut next = async || rows.try_next().await.map_err(&explain);
        let nothing = || Error::Internal("a session did not begin".into());
        let begun = next().await?.ok_or_else(nothing)?;
        // To its end: what comes after it would else be read as part of this.
        let mut last = None;
        while let Some(row) = next().await? {
            last = Some(row);
        }
        drop(rows);
        let pid: &str = begun.try_get_raw(0)?.as_str().map_err(sqlx::Error::Decode)?;
        session.pid = pid.parse().ok();
        Ok((session, last.unwrap_or(begun)))
    }

    pub(super) fn conn(&mut self) -> Result<&mut PgConnection> {
        self.conn.as_deref_mut().ok_or_else(|| Error::Internal("the session is over".into()))
    }

    /// Ends the transaction and gives the connection back.
    pub(super) async fn end(mut self) -> Result<()> {
        sqlx::query("COMMIT").execute(self.conn()?).await?;
        drop(self.conn.take());
        Ok(())
    }

    pub(super) fn explain(&self, error: sqlx::Error) -> Error {
        self.explainer()(error)
    }

    /// What an error of the database means, for when the session is lent out.
    pub(super) fn explainer(&self) -> impl Fn(sqlx::Error) -> Error + use<> {
        let deadline = self.deadline;
        move |error| {
            let code = error.as_database_error().and_then(|e| e.code());
            if code.as_deref() == Some(QUERY_CANCELED) {
                deadline.explain_interruption()
            } else {
                error.into()
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        let conn = conn.detach();
        if let (Some(pid), Ok(runtime)) = (self.pid, tokio::runtime::Handle::try_current()) {
            let pool = self.pool.clone();
            runtime.spawn(async move {
                // As long as the connection is open, the process is ours.
                let cancel = sqlx::query("SELECT pg_cancel_backend($1)").bind(pid).execute(&pool);
                if !matches!(tokio::time::timeout(CANCEL, cancel).await, Ok(Ok(_))) {
                    tracing::debug!(pid, "a query could not be stopped; it runs into its timeout");
                }
                drop(conn);
            });
        }
    }
}
