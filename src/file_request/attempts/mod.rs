//! How each attempt at a request ended: what its timeline shows.

pub mod store;

use chrono::{DateTime, Utc};

use super::Status;
use crate::ids::RequestId;

/// An attempt that ended with a word. One whose worker died has no row.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Attempt {
    /// At which request.
    pub request_id: RequestId,
    /// The claim's fencing number.
    pub generation: i64,
    /// Who made it.
    pub worker: String,
    /// From when …
    pub started_at: DateTime<Utc>,
    /// … until when.
    pub ended_at: DateTime<Utc>,
    /// In which state it left the request: finished, failed, cancelled; pending when it was given
    /// back or is to be tried again.
    #[sqlx(try_from = "String")]
    pub outcome: Status,
    /// What went wrong, in words fit for the requester.
    pub error: Option<String>,
    /// What it came of, for operators alone; none where the error says it.
    pub cause: Option<String>,
}
