//! A notice: one mail about the end of a request, with its own retries.
//!
//! Trouble with mail never touches the file. The `Message-ID` is fixed when the notice is made,
//! so that a repeat after a crash is recognisable as one.

pub mod store;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::ids::RequestId;

/// Temporary trouble is tried again for this long.
pub const KEEP_TRYING: TimeDelta = TimeDelta::hours(24);
/// How long a claim holds without being renewed: so long a mail is late whose process dies.
pub const LEASE: TimeDelta = TimeDelta::seconds(10);

/// What a notice is about; the name of its template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailKind {
    /// The file is there.
    Ready,
    /// It could not be made.
    Failed,
}

impl MailKind {
    /// As it stands in the database and in template names.
    pub fn as_str(self) -> &'static str {
        match self {
            MailKind::Ready => "ready",
            MailKind::Failed => "failed",
        }
    }
}

/// For `#[sqlx(try_from = "String")]`.
impl TryFrom<String> for MailKind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "ready" => Ok(MailKind::Ready),
            "failed" => Ok(MailKind::Failed),
            _ => Err(format!("{text:?} is not a kind of mail: use ready or failed")),
        }
    }
}

/// Where a notice stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeStatus {
    /// It waits to be mailed, or mailed again.
    Pending,
    /// A mail server took it.
    Sent,
    /// It was given up.
    Failed,
}

impl NoticeStatus {
    /// As it stands in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            NoticeStatus::Pending => "pending",
            NoticeStatus::Sent => "sent",
            NoticeStatus::Failed => "failed",
        }
    }
}

/// For `#[sqlx(try_from = "String")]`.
impl TryFrom<String> for NoticeStatus {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "pending" => Ok(NoticeStatus::Pending),
            "sent" => Ok(NoticeStatus::Sent),
            "failed" => Ok(NoticeStatus::Failed),
            _ => Err(format!("{text:?} is not a notice's status: use pending, sent or failed")),
        }
    }
}

/// A notice as stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Notice {
    /// Random.
    pub id: Uuid,
    /// About which request.
    pub request_id: RequestId,
    /// What it tells of.
    #[sqlx(try_from = "String")]
    pub kind: MailKind,
    /// Without the angle brackets.
    pub message_id: String,
    /// Where it stands.
    #[sqlx(try_from = "String")]
    pub status: NoticeStatus,
    /// Grows with each claim.
    pub generation: i64,
    /// Claims so far.
    pub attempts: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Which link it carries; the request's own when `None`.
    pub jti: Option<Uuid>,
    /// What went wrong at the last try; the server's own words.
    pub error: Option<String>,
    /// When it was sent, or given up.
    pub done_at: Option<DateTime<Utc>>,
}

impl Notice {
    /// A notice about a request's end, not yet stored. The `Message-ID` derives from the request
    /// and the generation that ended it.
    pub fn about(
        request_id: RequestId,
        generation: i64,
        kind: MailKind,
        domain: &str,
        now: DateTime<Utc>,
    ) -> Self {
        let (request, tells) = (request_id.0.simple(), kind.as_str());
        Notice {
            id: Uuid::new_v4(),
            request_id,
            kind,
            message_id: format!("{request}.{generation}.{tells}@{domain}"),
            status: NoticeStatus::Pending,
            generation: 0,
            attempts: 0,
            created_at: now,
            jti: None,
            error: None,
            done_at: None,
        }
    }

    /// The same, claimed by whoever stores it.
    pub fn claimed(mut self) -> Self {
        (self.generation, self.attempts) = (1, 1);
        self
    }

    /// The same once more. It is a mail of its own, so its `Message-ID` is another.
    pub fn again(mut self, domain: &str) -> Self {
        let (request, id) = (self.request_id.0.simple(), self.id.simple());
        self.message_id = format!("{request}.again.{id}@{domain}");
        self
    }

    /// The same about one link. It is a mail of its own, so its `Message-ID` is another.
    pub fn with_link(mut self, jti: Uuid, domain: &str) -> Self {
        let (request, id) = (self.request_id.0.simple(), self.id.simple());
        self.message_id = format!("{request}.link.{id}@{domain}");
        self.jti = Some(jti);
        self
    }
}
