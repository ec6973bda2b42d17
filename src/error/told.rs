//! What an error says to whom: requesters read a sentence of ours, operators what failed.

use sqlx::postgres::PgDatabaseError;

use super::{Error, database::paragraphs};
use crate::ids::RequestId;

/// Characters of a cause that are kept.
const LONGEST_CAUSE: usize = 4_000;

impl Error {
    /// What the requester may read of this error. Text of databases, disks and servers stays in
    /// the log: it can hold host names, paths and data.
    pub fn public_message(&self) -> String {
        match self {
            Error::Query(fault) if fault.is_of_values => {
                "the query cannot be answered for these criteria; change them or ask the operator"
                    .into()
            }
            error if error.is_ours() => "something went wrong on our side".into(),
            other => other.to_string(),
        }
    }

    /// The same where it stands with a request, by which an operator finds the cause.
    pub fn message_about(&self, request: RequestId) -> String {
        match self {
            Error::Query(fault) if fault.is_of_values => self.public_message(),
            error if error.is_ours() => went_wrong(request),
            other => other.public_message(),
        }
    }

    /// For operators alone: what failed, in its own words and on further lines what else the
    /// database said. `None` when the requester reads as much.
    pub fn cause(&self) -> Option<String> {
        if !self.is_ours() {
            return None;
        }
        let text = format!("{}{}", self.in_full(), self.more());
        // PostgreSQL stores no NUL.
        let text = text.replace('\0', "\u{fffd}");
        Some(match text.char_indices().nth(LONGEST_CAUSE) {
            Some((end, _)) => format!("{} …", &text[..end]),
            None => text,
        })
    }

    /// Whether the words are not for requesters.
    fn is_ours(&self) -> bool {
        matches!(
            self,
            Error::Database(_)
                | Error::Unreachable(_)
                | Error::Sqlite(_)
                | Error::Query(_)
                | Error::Migrate(_)
                | Error::Storage(_)
                | Error::Mail { .. }
                | Error::Template(_)
                | Error::Io { .. }
                | Error::Schema(_)
                | Error::Config(_)
                | Error::Internal(_)
        )
    }

    /// DETAIL and the like of a statement that is not a declared query. Not for the log: they hold
    /// values of rows.
    fn more(&self) -> String {
        let Error::Database(error) = self else { return String::new() };
        let said = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>());
        let Some(said) = said else { return String::new() };
        paragraphs([("detail", said.detail()), ("hint", said.hint()), ("context", said.r#where())])
    }
}

/// What stands with a request that failed for reasons of ours.
pub(crate) fn went_wrong(request: RequestId) -> String {
    format!(
        "Something went wrong on our side. Whoever runs this service can look it up by the number \
         {request}."
    )
}
