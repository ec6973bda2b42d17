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

/// A notice as stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Notice {
    /// Random.
    pub id: Uuid,
    /// About which request.
    pub request_id: RequestId,
    /// `ready` or `failed`.
    pub kind: String,
    /// Without the angle brackets.
    pub message_id: String,
    /// `pending`, `sent` or `failed`.
    pub status: String,
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
        let kind = kind.as_str();
        Notice {
            id: Uuid::new_v4(),
            request_id,
            kind: kind.to_owned(),
            message_id: format!("{}.{generation}.{kind}@{domain}", request_id.0.simple()),
            status: "pending".into(),
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

    /// Which template.
    pub fn mail_kind(&self) -> MailKind {
        if self.kind == "failed" { MailKind::Failed } else { MailKind::Ready }
    }
}
