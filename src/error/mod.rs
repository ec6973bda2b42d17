//! One error for the crate. `web/problem.rs` reads it as HTTP, the worker as "again or never".

mod database;
mod space;
mod told;

use std::borrow::Cow;

pub use database::QueryFault;
pub(crate) use database::{Said, Sent, sentence};
pub(crate) use told::went_wrong;

use crate::ids::{ParseFileTypeError, RequestId};

/// What functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One thing that is wrong with what was given, with the name of the field it is about.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(examples(json!({ "field": "criteria.upto", "message": "is required" })))]
pub struct FieldError {
    /// Where: `criteria.origin`, `requester.email`.
    pub field: String,
    /// What, and what to do.
    pub message: String,
}

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input is not acceptable; every fault is named.
    #[error("{}", describe(.0))]
    Invalid(Vec<FieldError>),
    /// The thing asked for is not there, or not for this caller.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// No handler is registered under this name.
    #[error("file type {0:?} is not registered here")]
    UnknownFileType(String),
    /// A download token that is not ours, or was altered.
    #[error("the link is not valid: {0}")]
    BadToken(&'static str),
    /// A genuine download token past its age.
    #[error("the link has expired")]
    LinkExpired,
    /// A genuine download token that somebody took back.
    #[error("the link was revoked")]
    LinkRevoked,
    /// A download link that begins later.
    #[error("the link does not work yet")]
    LinkNotYetValid,
    /// A download link that was redeemed as often as it may be.
    #[error("the link has been used as often as it may be")]
    LinkUsedUp,
    /// A download link that a GET does not redeem, as mail scanners open links.
    #[error("this link is redeemed by POST; GET and HEAD show what it is and leave it unused")]
    ConfirmationNeeded,
    /// The file is another one than when the link was redeemed.
    #[error("the file was made anew since the download began")]
    FileChanged,
    /// A request token that does not admit, or none where one is needed.
    #[error("{message}")]
    TokenRefused {
        /// Stable name of the reason.
        code: &'static str,
        /// For people.
        message: &'static str,
    },
    /// The file's own time is over.
    #[error("the file has expired")]
    FileExpired,
    /// A finished file that cannot be served and will not come back: its object is gone or another
    /// one than was written down, or its row does not say which one it is.
    #[error("the file cannot be served: {0}")]
    FileLost(&'static str),
    /// The file is not there (yet).
    #[error("the file is not ready: the request is {0}")]
    NotReady(&'static str),
    /// Somebody else's file.
    #[error("only the requester may download this file")]
    NotRequester,
    /// No or wrong credentials.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// A request or a link that would be wider than its file type lets the caller make it; every
    /// field is named.
    #[error("{}", describe(.0))]
    LinkPolicy(Vec<FieldError>),
    /// Somebody else holds the lock.
    #[error("{0}")]
    Locked(String),
    /// A lock token that holds no lock.
    #[error("{}", if *.held { "Wrong token." } else { "No valid token for this resource." })]
    LockRefused {
        /// Whether somebody holds the lock.
        held: bool,
    },
    /// The caller has as much as they may have.
    #[error("{0}")]
    Quota(String),
    /// The caller is too fast.
    #[error("Request was throttled. Expected available in {}.", seconds(.retry_after))]
    Throttled {
        /// When to try again.
        retry_after: std::time::Duration,
    },
    /// Too many wait for the same already.
    #[error("too many people log in at this moment")]
    Overloaded {
        /// When to try again.
        retry_after: std::time::Duration,
    },
    /// The request is another one by now than the caller counts on.
    #[error("the request has changed since; get it again and decide anew")]
    PreconditionFailed,
    /// What is asked contradicts the state things are in.
    #[error("{message}")]
    Conflict {
        /// Stable name of the conflict.
        code: &'static str,
        /// What contradicts what.
        message: String,
    },
    /// Trying again is of no use.
    #[error("{message}")]
    Permanent {
        /// Stable name of the trouble.
        code: Cow<'static, str>,
        /// For the requester; no secrets, no internals.
        message: String,
    },
    /// It may work later.
    #[error("{message}")]
    Temporary {
        /// Stable name of the trouble.
        code: Cow<'static, str>,
        /// For the requester; no secrets, no internals.
        message: String,
    },
    /// Another worker has taken this request over: nothing that is done now may count.
    #[error("the lease on request {0} was lost")]
    LeaseLost(RequestId),
    /// The request was cancelled while it was being worked on.
    #[error("the request was cancelled")]
    Cancelled,
    /// Nobody reads what is written any more.
    #[error("the reader of this output is gone")]
    OutputClosed,
    /// A setting, a definition or a template is wrong; the text names file, line and field.
    #[error("{0}")]
    Config(String),
    /// The database's schema does not fit this program.
    #[error("{0}")]
    Schema(String),
    /// The database.
    #[error("{}", database::sentence(.0))]
    Database(#[from] sqlx::Error),
    /// The database lets nobody in; why, in a sentence.
    #[error("{0}")]
    Unreachable(String),
    /// A SQLite database that an export reads.
    #[error("database: {}", database::words_of_sqlite(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// A declared query, by what its database says.
    #[error("{0}")]
    Query(Box<QueryFault>),
    /// A migration.
    #[error("migration: {}", database::words_of_migration(.0))]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The object store.
    #[error("storage: {0}")]
    Storage(#[from] object_store::Error),
    /// Mail could not be built or sent.
    #[error("mail: {message}")]
    Mail {
        /// Whether a later try may work.
        temporary: bool,
        /// What the server or the library said.
        message: String,
    },
    /// A template.
    #[error("template: {0:#}")]
    Template(#[from] minijinja::Error),
    /// A file or a socket.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// A bug of ours: the invariant that does not hold.
    #[error("internal: {0}")]
    Internal(String),
}

/// Whole seconds, rounded up, as Django REST framework says them.
fn seconds(time: &std::time::Duration) -> String {
    match time.as_millis().div_ceil(1000).max(1) {
        1 => "1 second".into(),
        n => format!("{n} seconds"),
    }
}

fn describe(errors: &[FieldError]) -> String {
    let lines: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
    lines.join("; ")
}

impl Error {
    /// A single wrong field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Error::Invalid(vec![FieldError { field: field.into(), message: message.into() }])
    }

    /// A failure that no later try can mend.
    pub fn permanent(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Error::Permanent { code: code.into(), message: message.into() }
    }

    /// A failure that a later try may mend.
    pub fn temporary(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Error::Temporary { code: code.into(), message: message.into() }
    }

    /// An I/O error together with what was being done.
    pub fn io(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let context = context.into();
        move |source| Error::Io { context, source }
    }

    /// The stable name of this error, for programs.
    pub fn code(&self) -> &str {
        match self {
            Error::Invalid(_) => "invalid",
            Error::NotFound(_) => "not_found",
            Error::UnknownFileType(_) => "unknown_file_type",
            Error::BadToken(_) => "bad_token",
            Error::LinkExpired => "link_expired",
            Error::LinkRevoked => "link_revoked",
            Error::LinkNotYetValid => "link_not_yet_valid",
            Error::LinkUsedUp => "link_used_up",
            Error::ConfirmationNeeded => "confirmation_needed",
            Error::FileChanged => "file_changed",
            Error::TokenRefused { code, .. } => code,
            Error::FileExpired => "file_expired",
            Error::FileLost(_) => "file_lost",
            Error::NotReady(_) => "file_not_ready",
            Error::NotRequester => "not_requester",
            Error::Unauthenticated(_) => "unauthenticated",
            Error::Forbidden(_) => "forbidden",
            Error::LinkPolicy(_) => "link_policy",
            Error::Locked(_) => "locked",
            Error::LockRefused { held: true } => "wrong_lock_token",
            Error::LockRefused { held: false } => "not_locked",
            Error::Quota(_) => "quota",
            Error::Throttled { .. } => "throttled",
            Error::Overloaded { .. } => "overloaded",
            Error::PreconditionFailed => "precondition_failed",
            Error::Conflict { code, .. } => code,
            Error::Permanent { code, .. } | Error::Temporary { code, .. } => code,
            Error::LeaseLost(_) => "lease_lost",
            Error::Cancelled => "cancelled",
            Error::OutputClosed => "output_closed",
            Error::Config(_) => "configuration",
            Error::Schema(_) => "schema",
            error if error.is_of_space() => "disk_full",
            Error::Query(fault) if !fault.may_pass => "query_failed",
            Error::Database(_)
            | Error::Unreachable(_)
            | Error::Sqlite(_)
            | Error::Query(_)
            | Error::Migrate(_) => "database",
            Error::Storage(_) => "storage",
            Error::Mail { .. } => "mail",
            Error::Template(_) => "template",
            Error::Io { .. } => "io",
            Error::Internal(_) => "internal",
        }
    }

    /// Whether the worker should try the same work again later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Temporary { .. }
            | Error::Unreachable(_)
            | Error::Io { .. }
            | Error::Internal(_) => true,
            Error::Database(e) => database::may_pass(e),
            Error::Sqlite(e) => database::may_pass_sqlite(e),
            Error::Query(fault) => fault.may_pass,
            Error::Storage(e) => !matches!(
                e,
                object_store::Error::NotImplemented { .. }
                    | object_store::Error::NotSupported { .. }
                    | object_store::Error::InvalidPath { .. }
            ),
            Error::Mail { temporary, .. } => *temporary,
            _ => false,
        }
    }

    /// Whether the database ended a transaction for the sake of another one (SQLSTATE 40P01, 40001).
    pub fn is_deadlock(&self) -> bool {
        let Error::Database(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| code == "40P01" || code == "40001")
    }

    /// Whether the database refused a text for what is in it (SQLSTATE 22021, 22P05): a NUL
    /// character, which PostgreSQL does not store.
    pub fn is_unstorable_text(&self) -> bool {
        let Error::Database(sqlx::Error::Database(error)) = self else { return false };
        error.code().is_some_and(|code| code == "22021" || code == "22P05")
    }

    /// Whether the database is not to be had at the moment, whatever is asked of it.
    pub(crate) fn is_of_connection(&self) -> bool {
        match self {
            Error::Unreachable(_) => true,
            Error::Database(error) => database::is_of_connection(error),
            _ => false,
        }
    }

    /// What a database said that refuses this process, and not what is asked of it: who it is, which
    /// database, that it begins transactions.
    pub(crate) fn refusal(&self) -> Option<String> {
        match self {
            Error::Database(error)
            | Error::Migrate(sqlx::migrate::MigrateError::Execute(error)) => {
                database::refusal(error)
            }
            _ => None,
        }
    }

    /// Whether what failed is below the request: the database, the store, a disk.
    pub fn is_infrastructure(&self) -> bool {
        match self {
            Error::Database(_)
            | Error::Unreachable(_)
            | Error::Sqlite(_)
            | Error::Storage(_)
            | Error::Io { .. } => true,
            Error::Query(fault) => fault.may_pass,
            _ => false,
        }
    }

    /// What a database said of a declared query, if that is what this is.
    pub fn query_fault(&self) -> Option<&QueryFault> {
        match self {
            Error::Query(fault) => Some(fault),
            _ => None,
        }
    }

    /// What else a database said, for the log.
    pub(crate) fn said(&self) -> Said<'_> {
        self.query_fault().map(QueryFault::said).unwrap_or_default()
    }

    /// The error of a query that had given so many rows by then.
    pub(crate) fn after_rows(mut self, rows: u64) -> Self {
        if let Error::Query(fault) = &mut self {
            fault.rows = rows;
        }
        self
    }

    /// For the operator: the error, and on further lines what else the database said of it.
    pub fn in_full(&self) -> String {
        let rest = self.query_fault().map(QueryFault::rest).unwrap_or_default();
        format!("{self}{rest}")
    }
}

/// The name of a file type that somebody gave and that is none: their field `file_type` is wrong.
impl From<ParseFileTypeError> for Error {
    fn from(error: ParseFileTypeError) -> Self {
        Error::invalid("file_type", error.to_string())
    }
}
