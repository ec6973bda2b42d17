//! A borrowed connection inside a READ ONLY transaction.

use std::time::Duration;

use chrono_tz::Tz;
use futures::TryStreamExt;
use sqlx::{
    AssertSqlSafe, PgConnection, Row,
    postgres::{PgDatabaseError, PgRow},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    super::Deadline,
    connections::{Connections, END_ALL, Kept},
};
use crate::error::{Error, QueryFault, Result};

/// How long to try to stop a query that nobody waits for any more.
const CANCEL: Duration = Duration::from_secs(5);
/// SQLSTATE: somebody or something stopped the statement.
const QUERY_CANCELED: &str = "57014";
/// SQLSTATE: a setting cannot have that value.
const INVALID_PARAMETER_VALUE: &str = "22023";

/// What values look like as text, and in which order a table's rows come, does not depend on how the
/// server, the database or the role happen to be configured. (`standard_conforming_strings` is set
/// when a connection is made: a message is taken apart before any of it runs.)
const PINNED: [(&str, &str); 9] = [
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("lc_monetary", "C"),
    ("quote_all_identifiers", "off"),
    ("xmlbinary", "base64"),
    ("xmloption", "content"),
    ("synchronize_seqscans", "off"),
];
/// What sqlx says of an error whose words it cannot read: those of a SQL_ASCII database may hold
/// data in any encoding.
const UNREADABLE: &str = "non-UTF-8 string for its error message";

/// The transaction. Unless it is ended, its connection does not go back to the pool (which would
/// have to read all remaining rows first): the query is stopped and the connection closed.
pub(super) struct Session {
    lent: Option<(Kept, OwnedSemaphorePermit)>,
    connections: Connections,
    /// The server process, for stopping it.
    pid: Option<i32>,
    deadline: Deadline,
}

impl Session {
    pub(super) async fn begin(
        connections: &Connections,
        timeout: Duration,
        zone: Tz,
    ) -> Result<Self> {
        Ok(Self::begin_with(connections, timeout, zone, "").await?.0)
    }

    /// Begins with a statement that gives one row, in the same message: for a small export each
    /// journey to the server counts. `date_trunc`, `::date` and `current_date` speak of the day in
    /// `zone`.
    pub(super) async fn begin_with(
        connections: &Connections,
        timeout: Duration,
        zone: Tz,
        first: &str,
    ) -> Result<(Self, PgRow)> {
        let (mut kept, slot) = connections.lend().await?;
        let before = if std::mem::take(&mut kept.in_transaction) { END_ALL } else { "" };
        let (lent, deadline) = (Some((kept, slot)), Deadline::new(timeout));
        let connections = connections.clone();
        let mut session = Session { lent, connections, pid: None, deadline };
        // A SQL_ASCII database would refuse what is not UTF-8 without a word of where it is: we look
        // ourselves.
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let pinned = PINNED.map(|(name, value)| format!(", set_config('{name}', '{value}', true)"));
        let sql = format!(
            "{before}BEGIN TRANSACTION READ ONLY; \
             SELECT pg_backend_pid(), set_config('statement_timeout', '{milliseconds}', true), \
             set_config('TimeZone', '{zone}', true), \
             set_config('client_encoding', CASE current_setting('server_encoding') \
             WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END, true){};\
             \n{first}",
            pinned.concat()
        );
        // Of ours only a number and a name that chrono_tz knows were put in. Answers are text.
        let explain = session.explainer(&sql);
        let mut rows = sqlx::raw_sql(AssertSqlSafe(sql.clone())).fetch(session.conn()?);
        let nothing = || Error::Internal("a session did not begin".into());
        if !before.is_empty() {
            rows.try_next().await.map_err(&explain)?;
        }
        let begun = rows.try_next().await.map_err(|error| not_begun(zone, error, &explain))?;
        let begun = begun.ok_or_else(nothing)?;
        let mut next = async || rows.try_next().await.map_err(&explain);
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
        let lent = self.lent.as_mut().map(|(kept, _)| &mut *kept.conn);
        lent.ok_or_else(|| Error::Internal("the session is over".into()))
    }

    /// Ends the transaction and gives the connection back. Where many small exports are made, the
    /// next one ends it on its way: it only read, and whoever else wants the table waits a fifth of
    /// a second at most.
    pub(super) async fn end(mut self) -> Result<()> {
        let in_transaction = self.connections.is_busy();
        if !in_transaction {
            let done = sqlx::raw_sql(END_ALL).execute(self.conn()?).await;
            done.map_err(|e| self.explain(e))?;
        }
        if let Some((Kept { conn, .. }, _slot)) = self.lent.take() {
            self.connections.give_back(Kept { conn, in_transaction });
        }
        Ok(())
    }

    /// What an error means of a statement that has nothing of the definition's query.
    pub(super) fn explain(&self, error: sqlx::Error) -> Error {
        self.explainer("")(error)
    }

    /// What an error of the database means, in an answer to `sql`; for when the session is lent
    /// out.
    pub(super) fn explainer<'s>(&self, sql: &'s str) -> impl Fn(sqlx::Error) -> Error + use<'s> {
        let deadline = self.deadline;
        move |error| {
            if let sqlx::Error::Protocol(why) = &error
                && why.contains(UNREADABLE)
            {
                return Error::Query(Box::new(QueryFault::unreadable()));
            }
            let found = error.as_database_error().and_then(|e| e.try_downcast_ref());
            let Some::<&PgDatabaseError>(found) = found else { return error.into() };
            match found.code() {
                QUERY_CANCELED => deadline.explain_interruption(),
                _ => Error::Query(Box::new(QueryFault::postgres(found, sql))),
            }
        }
    }
}

/// Of what is set, the server may not know the time zone: the others are as old as PostgreSQL 10.
fn not_begun(zone: Tz, error: sqlx::Error, explain: impl Fn(sqlx::Error) -> Error) -> Error {
    let code = error.as_database_error().and_then(|e| e.code());
    if code.as_deref() != Some(INVALID_PARAMETER_VALUE) {
        return explain(error);
    }
    let message = format!("the database does not know the time zone {zone}");
    Error::permanent("unknown_timezone", message)
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some((kept, slot)) = self.lent.take() else { return };
        let (Some(pid), Ok(runtime)) = (self.pid, tokio::runtime::Handle::try_current()) else {
            return kept.conn.give_up();
        };
        let connections = self.connections.clone();
        runtime.spawn(async move {
            // As long as the connection is open, the process is ours.
            let stopped = tokio::time::timeout(CANCEL, connections.stop(pid));
            if !matches!(stopped.await, Ok(Ok(()))) {
                tracing::debug!(pid, "a query could not be stopped; it runs into its timeout");
            }
            kept.conn.give_up();
            drop(slot);
        });
    }
}
