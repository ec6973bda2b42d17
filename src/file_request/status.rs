//! The states of a request. `docs/src/explanation/architecture.md` has the diagram.

use std::str::FromStr;

use serde::Serialize;
use utoipa::ToSchema;

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RequestStatus)]
pub enum Status {
    /// Waits for a worker, now or from `run_at` on.
    Pending,
    /// A worker holds the lease.
    Running,
    /// The file is there.
    Finished,
    /// It will not be made; the requester was told.
    Failed,
    /// Somebody no longer wants it.
    Cancelled,
    /// Its time is over and the cleaner is at it: the object goes first, then the row.
    Expired,
}

impl Status {
    /// Every state.
    pub const ALL: [Status; 6] = [
        Status::Pending,
        Status::Running,
        Status::Finished,
        Status::Failed,
        Status::Cancelled,
        Status::Expired,
    ];

    /// As it stands in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Finished => "finished",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Expired => "expired",
        }
    }

    /// Whether nothing more happens by itself.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Status::Pending | Status::Running)
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Status::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
            format!("{text:?} is not a status: use pending, running, finished, failed, cancelled or expired")
        })
    }
}

/// For `#[sqlx(try_from = "String")]`.
impl TryFrom<String> for Status {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
