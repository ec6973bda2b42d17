//! What operators look at and what they did: worker processes, sweeps, throughput, the audit log.

pub mod sound_store;
pub mod store;

use chrono::{DateTime, Utc};

/// A worker process, as it last said.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct WorkerState {
    /// Process and a random part; what leases name.
    pub name: String,
    /// On which machine.
    pub host: String,
    /// Files made at the same time.
    pub slots: i32,
    /// Since when.
    pub started_at: DateTime<Utc>,
    /// When it last said that it lives.
    pub seen_at: DateTime<Utc>,
    /// When it ended, if it ended well.
    pub ended_at: Option<DateTime<Utc>>,
    /// The file types that it knows, with commas between them.
    pub file_types: String,
}

impl WorkerState {
    /// The file types that it knows.
    pub fn knows(&self) -> impl Iterator<Item = &str> {
        self.file_types.split(',').filter(|name| !name.is_empty())
    }
}

/// The last run of a sweep.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct SweepRun {
    /// Which.
    pub name: String,
    /// When it began.
    pub ran_at: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub millis: i64,
    /// `processed`, `max_items`, `timeout`, or `error`.
    pub outcome: String,
    /// What it removed.
    pub removed: i64,
    /// What it could not remove.
    pub failed: i64,
}

/// What somebody did.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct AuditEntry {
    /// Grows.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who: a username.
    pub actor: String,
    /// What, `request.cancel`.
    pub action: String,
    /// To what: an id, a name.
    pub subject: String,
    /// More about it; never a secret.
    pub detail: String,
}

/// How many attempts ended in one hour.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Ended {
    /// `2026-03-01 12`, in UTC.
    pub hour: String,
    /// With a file.
    pub finished: i64,
    /// With an error.
    pub failed: i64,
}

/// How many files there are, and their bytes.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct Stored {
    /// Files.
    pub files: i64,
    /// Bytes in all.
    pub bytes: i64,
}

/// How many mails were not sent.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub struct Unsent {
    /// Those that wait to be sent, or sent again.
    pub waiting: i64,
    /// Those that were given up.
    pub failed: i64,
}
