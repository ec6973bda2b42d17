//! What databases say: whether it may pass, and what the operator of a declared query reads of it.

use std::fmt;

use sqlx::postgres::PgDatabaseError;

/// SQLSTATE classes of what may pass: 08 connection, 28 and 3D who connects and to what (both are
/// about the connection, and somebody sets them right), 40 rolled back for another transaction, 53
/// resources, 57 somebody stopped it, 58 and XX the system below.
const PASSING_CLASSES: [&str; 8] = ["08", "28", "3D", "40", "53", "57", "58", "XX"];
/// Of other classes: a lock was not to be had; the server ended a transaction that waited.
const PASSING_STATES: [&str; 2] = ["55P03", "25P03"];
/// SQLite's primary result codes of what may pass: ABORT, BUSY, LOCKED, NOMEM, INTERRUPT, IOERR,
/// FULL, CANTOPEN, PROTOCOL, SCHEMA; CORRUPT and NOTADB, as a file is put in the place of another.
const PASSING_CODES: [i32; 12] = [4, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 26];

/// Whether a later try may work. What is not known to pass does not: a statement that is wrong
/// stays wrong, and each try costs what the first did.
pub(super) fn may_pass(error: &sqlx::Error) -> bool {
    use sqlx::Error as E;
    match error {
        E::Database(e) => match e.code() {
            Some(state) if e.try_downcast_ref::<PgDatabaseError>().is_some() => {
                may_pass_state(&state)
            }
            Some(code) => code.parse().is_ok_and(may_pass_code),
            None => true,
        },
        // Trouble with the connection.
        E::Io(_)
        | E::Tls(_)
        | E::Protocol(_)
        | E::PoolTimedOut
        | E::PoolClosed
        | E::WorkerCrashed
        | E::BeginFailed => true,
        _ => false,
    }
}

/// The same of a SQLite database that an export reads.
pub(super) fn may_pass_sqlite(error: &rusqlite::Error) -> bool {
    sqlite_code(error).is_some_and(may_pass_code)
}

/// SQLite's extended result code.
fn sqlite_code(error: &rusqlite::Error) -> Option<i32> {
    match error {
        rusqlite::Error::SqliteFailure(e, _) => Some(e.extended_code),
        rusqlite::Error::SqlInputError { error, .. } => Some(error.extended_code),
        _ => None,
    }
}

fn may_pass_state(state: &str) -> bool {
    PASSING_STATES.contains(&state) || PASSING_CLASSES.iter().any(|class| state.starts_with(class))
}

fn may_pass_code(extended: i32) -> bool {
    PASSING_CODES.contains(&(extended & 0xff))
}

/// SQLSTATE of PostgreSQL.
fn state(error: &sqlx::Error) -> Option<&str> {
    let found = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>();
    found.map(PgDatabaseError::code)
}

/// Class 28 is about who connects (role, password, pg_hba.conf), 3D about which database.
fn is_refused(state: &str) -> bool {
    state.starts_with("28") || state.starts_with("3D")
}

/// Whether it is about the connection, or the lack of one.
pub(super) fn is_of_connection(error: &sqlx::Error) -> bool {
    use sqlx::Error as E;
    match error {
        E::PoolTimedOut | E::PoolClosed | E::Io(_) | E::Tls(_) => true,
        // 53300: too many clients; 57P03: it starts up.
        error => state(error).is_some_and(|s| is_refused(s) || s == "53300" || s == "57P03"),
    }
}

/// The words of a database that does not take this process as it is.
pub(super) fn refusal(error: &sqlx::Error) -> Option<String> {
    let state = state(error)?;
    let is_final = match state {
        // PgBouncer says it of everything: a full pool and a server that is away pass.
        "08P01" => {
            let said = words(error);
            said.contains("pooling mode") || said.contains("startup parameter")
        }
        // Other poolers that share sessions by the statement.
        "0A000" => true,
        state => is_refused(state),
    };
    is_final.then(|| words(error))
}

/// The database's own words. sqlx adds a line to PostgreSQL's, which is one of PostgreSQL's source.
pub(super) fn words(error: &sqlx::Error) -> String {
    use std::io::ErrorKind;
    match error {
        // It may only speak of slots that are reserved for others.
        sqlx::Error::Database(e)
            if state(error) == Some("53300") && !e.message().contains("too many") =>
        {
            format!("too many clients: {}", e.message())
        }
        sqlx::Error::Database(e) => e.message().to_owned(),
        sqlx::Error::Io(e) if e.kind() == ErrorKind::ConnectionRefused => {
            "connection refused".into()
        }
        sqlx::Error::Io(e) if e.kind() == ErrorKind::TimedOut => e.to_string(),
        sqlx::Error::PoolTimedOut => "all connections of this process are in use".into(),
        other => other.to_string(),
    }
}

/// The same with what it is about.
pub(crate) fn sentence(error: &sqlx::Error) -> String {
    match state(error) {
        Some(state) if is_refused(state) => format!("the database refuses: {}", words(error)),
        _ => format!("database: {}", words(error)),
    }
}

/// The same of a migration.
pub(super) fn words_of_migration(error: &sqlx::migrate::MigrateError) -> String {
    use sqlx::migrate::MigrateError as E;
    match error {
        E::Execute(e) => words(e),
        E::ExecuteMigration(e, version) => format!("{version}: {}", words(e)),
        other => other.to_string(),
    }
}

/// The same of SQLite, without the whole statement.
pub(super) fn words_of_sqlite(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

/// Why a database did not answer a declared query. Shown in one line; the rest of what it said is
/// for the log, and for an operator who looks ([`Error::in_full`](super::Error::in_full)).
#[derive(Debug, Default)]
pub struct QueryFault {
    /// Where the query is written: `jobs/flights.toml:7: query`, `jobs/flights.sql:3`.
    pub place: String,
    /// What is wrong, in the database's words.
    pub message: String,
    /// SQLSTATE, or SQLite's extended result code.
    pub code: String,
    /// DETAIL of PostgreSQL.
    pub detail: Option<String>,
    /// HINT of PostgreSQL.
    pub hint: Option<String>,
    /// CONTEXT of PostgreSQL: the functions in which it happened.
    pub context: Option<String>,
    /// Rows that had come by then.
    pub rows: u64,
    /// Whether a later try may work.
    pub may_pass: bool,
    /// Whether it is about values, so that other criteria may be answered.
    pub is_of_values: bool,
    /// Where in what was sent, until its place is known.
    pub(crate) sent: Option<Sent>,
}

/// What a database said beside its message, each a field of the log's line.
#[derive(Clone, Copy, Default)]
pub(crate) struct Said<'a> {
    pub state: Option<&'a str>,
    pub detail: Option<&'a str>,
    pub hint: Option<&'a str>,
    pub context: Option<&'a str>,
}

/// A statement as it was sent, and a position in it, in bytes.
#[derive(Debug)]
pub(crate) struct Sent {
    pub sql: String,
    pub at: usize,
}

impl QueryFault {
    /// Of PostgreSQL, in an answer to `sql`.
    pub(crate) fn postgres(error: &PgDatabaseError, sql: &str) -> Self {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let position = match error.position() {
            Some(sqlx::postgres::PgErrorPosition::Original(position)) => position.checked_sub(1),
            // In a function's statement, which CONTEXT shows.
            _ => None,
        };
        // PostgreSQL counts characters.
        let at = position.and_then(|n| sql.char_indices().nth(n)).map(|(at, _)| at);
        let state = error.code();
        QueryFault {
            message: one_line(error.message()),
            detail: owned(error.detail()),
            hint: owned(error.hint()),
            context: owned(error.r#where()),
            may_pass: may_pass_state(state),
            // Data, and what a function of the operator's says by RAISE EXCEPTION.
            is_of_values: state.starts_with("22") || state == "P0001",
            code: state.to_owned(),
            sent: at.map(|at| Sent { sql: sql.to_owned(), at }),
            ..QueryFault::default()
        }
    }

    /// Of PostgreSQL, in words that are not UTF-8.
    pub(crate) fn unreadable() -> Self {
        let message = "the database said something that is not UTF-8; its own log has it".into();
        QueryFault { message, ..QueryFault::default() }
    }

    /// Of SQLite; `None` when it is an error of another kind. SQLite says whether a statement is
    /// right before it runs: `is_running` says that it was.
    pub(crate) fn sqlite(error: &rusqlite::Error, is_running: bool) -> Option<Self> {
        let code = sqlite_code(error)?;
        let (message, sent) = match error {
            rusqlite::Error::SqliteFailure(_, Some(message)) => (message.clone(), None),
            rusqlite::Error::SqlInputError { msg, sql, offset, .. } => {
                let at = usize::try_from(*offset).ok();
                (msg.clone(), at.map(|at| Sent { sql: sql.clone(), at }))
            }
            other => (other.to_string(), None),
        };
        let may_pass = may_pass_code(code);
        Some(QueryFault {
            message: one_line(&message),
            code: code.to_string(),
            may_pass,
            is_of_values: is_running && !may_pass,
            sent,
            ..QueryFault::default()
        })
    }

    pub(super) fn said(&self) -> Said<'_> {
        Said {
            state: Some(self.code.as_str()).filter(|code| !code.is_empty()),
            detail: self.detail.as_deref(),
            hint: self.hint.as_deref(),
            context: self.context.as_deref(),
        }
    }

    /// Everything that the database said beside its message, a line each.
    pub(super) fn rest(&self) -> String {
        let Said { detail, hint, context, .. } = self.said();
        paragraphs([("detail", detail), ("hint", hint), ("context", context)])
    }
}

/// What a database said, a line each.
pub(super) fn paragraphs(parts: [(&str, Option<&str>); 3]) -> String {
    let lines = parts.into_iter().filter_map(|(name, text)| Some((name, text?)));
    lines.map(|(name, text)| format!("\n  {name}: {}", text.replace('\n', "\n    "))).collect()
}

impl fmt::Display for QueryFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.place.is_empty() { "query" } else { &self.place };
        write!(f, "{place}: {}", self.message)?;
        match self.rows {
            0 => Ok(()),
            rows => write!(f, " (after row {rows})"),
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
