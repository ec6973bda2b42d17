//! Reading the rows of a declared file type.
//!
//! Nothing written here changes a database: PostgreSQL reads in a READ ONLY transaction with a
//! statement timeout, SQLite through connections that cannot write, with a progress handler that
//! ends what takes too long. Criteria reach both as bound parameters, never as SQL. The SQL itself
//! is the operator's, from `jobs/`; this is the one place where it is asserted to be safe.

mod explain;
mod postgres;
mod sqlite;

use std::{
    collections::HashSet,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono_tz::Tz;
use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::{postgres::PostgresSource, sqlite::SqliteFile};

use super::{
    criteria::Given,
    definition::Definition,
    value::{Column, Kind},
};
use crate::{
    db::pool,
    duration::Short,
    error::{Error, Result},
    registry::{Job, Output},
};

/// Connections to one database.
pub(crate) const CONNECTIONS: u32 = 8;
/// Code of the error when all of them are in use.
pub(crate) const SOURCE_BUSY: &str = "source_busy";
/// The same with the one that stops a query on another.
const MOST_CONNECTIONS: u32 = CONNECTIONS + 1;
/// How long to wait for one of them.
const ACQUIRE: Duration = Duration::from_secs(20);

/// A database that exports read.
#[derive(Clone, Debug)]
pub enum Source {
    /// PostgreSQL.
    Postgres(PostgresSource),
    /// SQLite.
    Sqlite(SqliteFile),
}

impl Source {
    /// Opens a pool on `postgres://…` or `sqlite:PATH`. Connects on first use.
    ///
    /// # Errors
    /// [`Error::Config`] when the URL is neither, or SQLite in memory.
    pub fn open(url: &str) -> Result<Source> {
        if url.starts_with("sqlite:") {
            return Source::sqlite_read_only(url);
        }
        if !url.starts_with("postgres:") && !url.starts_with("postgresql:") {
            let message = "the URL of a source must begin with sqlite: or postgres:";
            return Err(Error::Config(message.into()));
        }
        let options = pool::connect_options(url)
            .ok_or_else(|| Error::Config("not a PostgreSQL URL".into()))?
            .application_name("bgfiles export")
            .log_slow_statements(log::LevelFilter::Off, Duration::ZERO);
        Ok(Source::Postgres(PostgresSource::new(options)))
    }

    /// A SQLite file, by `sqlite:PATH`, through connections that can only read. The file must
    /// exist by the first use. Connects on first use.
    ///
    /// # Errors
    /// [`Error::Config`] when it is no SQLite URL, or one of a database in memory, which each
    /// connection would have for itself.
    pub fn sqlite_read_only(url: &str) -> Result<Source> {
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(Error::Config("exports cannot read a SQLite database in memory".into()));
        }
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|e| Error::Config(format!("not a SQLite URL: {e}")))?;
        Ok(Source::Sqlite(SqliteFile::new(options.get_filename())))
    }

    /// Most connections to PostgreSQL that exports open here in one process: one that stops a query
    /// comes beside those that run.
    pub fn most_connections(&self) -> u32 {
        match self {
            Source::Postgres(_) => MOST_CONNECTIONS,
            Source::Sqlite(_) => 0,
        }
    }

    /// What an operator should know of the role and the server that exports read with: what a declared
    /// query may do beyond reading. Whoever writes definitions has these rights.
    ///
    /// # Errors
    /// When the database does not say.
    pub async fn warnings(&self) -> Result<Vec<String>> {
        match self {
            Source::Postgres(source) => postgres::warnings(source).await,
            Source::Sqlite(_) => Ok(Vec::new()),
        }
    }

    /// The columns that a definition's query has here, with labels in that language.
    ///
    /// # Errors
    /// When the database refuses the query; [`Error::Config`] when a column has no name, the name
    /// of another, or a type that no format can show.
    pub async fn describe(&self, definition: &Definition, language: &str) -> Result<Vec<Column>> {
        match self {
            Source::Postgres(source) => postgres::describe(source, definition, language).await,
            Source::Sqlite(file) => sqlite::describe(file, definition, language).await,
        }
    }

    /// How many rows there are, counted no further than one past `limit`.
    pub(super) async fn count_up_to(
        &self,
        definition: &Definition,
        given: &[Given],
        limit: u64,
        zone: Tz,
        timeout: Duration,
    ) -> Result<u64> {
        let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let count = match self {
            Source::Postgres(source) => {
                postgres::count(source, definition, given, most, zone, timeout).await?
            }
            Source::Sqlite(file) => sqlite::count(file, definition, given, most, timeout).await?,
        };
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// How many rows the database expects, without running the query; `None` where it does not say:
    /// SQLite's plans have no such number.
    pub(super) async fn estimate(
        &self,
        definition: &Definition,
        given: &[Given],
        zone: Tz,
        timeout: Duration,
    ) -> Result<Option<u64>> {
        match self {
            Source::Postgres(source) => {
                postgres::estimate(source, definition, given, zone, timeout).await
            }
            Source::Sqlite(_) => Ok(None),
        }
    }

    /// Streams the rows into a file. Dropping the future ends the query, too.
    pub(super) async fn write(
        &self,
        definition: &Definition,
        given: &[Given],
        job: &Job,
        out: Output,
    ) -> Result<()> {
        match self {
            Source::Postgres(source) => postgres::write(source, definition, given, job, out).await,
            Source::Sqlite(file) => sqlite::write(file, definition, given, job, out).await,
        }
    }
}

/// Waits until one more export may read the database.
async fn slot(slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    match tokio::time::timeout(ACQUIRE, slots.clone().acquire_owned()).await {
        Ok(Ok(slot)) => Ok(slot),
        _ => Err(busy()),
    }
}

/// Nobody gets a connection at the moment.
fn busy() -> Error {
    Error::temporary(SOURCE_BUSY, "too many exports read this database at the same time")
}

/// When a query has to be done.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    started: Instant,
    timeout: Duration,
}

impl Deadline {
    fn new(timeout: Duration) -> Self {
        Deadline { started: Instant::now(), timeout }
    }

    fn has_passed(&self) -> bool {
        self.started.elapsed() >= self.timeout
    }

    /// What it means that the database stopped the query.
    fn explain_interruption(&self) -> Error {
        // The database's clock may be a little ahead of ours.
        if self.started.elapsed() + Duration::from_millis(100) < self.timeout {
            return Error::temporary("query_interrupted", "the query was interrupted");
        }
        let message = format!(
            "the query took longer than {} and was stopped; narrow the criteria",
            Short(self.timeout)
        );
        Error::permanent("timeout", message)
    }
}

/// A column with the looks that the definition gives it.
fn column(definition: &Definition, language: &str, name: &str, kind: Option<Kind>) -> Column {
    let settings = definition.columns.get(name);
    let label = settings.and_then(|s| s.label.as_ref()).map_or(name, |label| label.get(language));
    Column {
        label: label.to_owned(),
        kind,
        format: settings.and_then(|s| s.format.clone()),
        digits: settings.and_then(|s| s.digits),
        ..Column::new(name)
    }
}

/// A fault of a query that the operator has to mend.
fn fault(definition: &Definition, message: impl std::fmt::Display) -> Error {
    Error::Config(format!("{}: query: {message}", definition.path.display()))
}

/// Bytes of a cell at most, in whatever format: what is made of it is several times as large.
const MOST_CELL: usize = 64 << 20;

/// Refuses a value that a worker would have to hold in memory.
fn check_size(bytes: usize, column: &str, row: u64) -> Result<()> {
    if bytes <= MOST_CELL {
        return Ok(());
    }
    let message = format!("column {column:?}, row {row}: the value is larger than 64 MiB");
    Err(Error::permanent("text_too_long", message))
}

/// JSON objects cannot have two of a name, and people cannot tell two apart.
fn check_names<'n>(definition: &Definition, names: impl Iterator<Item = &'n str>) -> Result<()> {
    let mut seen = HashSet::new();
    for (at, name) in (1..).zip(names) {
        // What PostgreSQL calls an expression without AS.
        if name.is_empty() || name == "?column?" {
            return Err(fault(definition, format!("column {at} has no name; add AS name")));
        }
        if !seen.insert(name) {
            return Err(fault(definition, format!("two columns are named {name:?}; add AS name")));
        }
    }
    if seen.is_empty() {
        return Err(fault(definition, "there are no columns"));
    }
    Ok(())
}
