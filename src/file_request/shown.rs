//! A request as its readers see it: the JSON of the HTTP API and of the command line.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{FileRequest, Status, StoredCriteria};
use crate::ids::{FileType, RequestId};

/// A file request. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = FileRequest, examples(json!({
    "id": "9b2f3a52-7d0c-4e0e-9d1c-5a8f0f6f2c11",
    "file_type": "flights",
    "status": "finished",
    "criteria": "origin=JFK",
    "format": "xlsx",
    "filename": "flights-JFK.xlsx",
    "description": "Flights from JFK",
    "content_type": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "size": 7_340_032,
    "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "rows": 111_279,
    "requester": "amy",
    "requester_email": "amy@example.com",
    "language": "nl",
    "timezone": "Europe/Amsterdam",
    "requested_at": "2026-11-21T09:30:00Z",
    "started_at": "2026-11-21T09:30:01Z",
    "finished_at": "2026-11-21T09:30:09Z",
    "expires_at": "2026-11-22T09:30:00Z",
    "attempts": 1,
    "progress": { "done": 111_279, "total": 111_279, "estimated": false },
    "error": null,
    "downloads": { "count": 0, "limit": null, "last_at": null },
    "download_url": "https://files.example.com/d/eyJpZCI6IjliMmYzYTUyIn0:1vMOX2:3q2-7wB1nPzT",
})))]
pub struct Shown {
    /// Its number, random.
    #[schema(value_type = uuid::Uuid)]
    pub id: RequestId,
    /// Which kind of file.
    #[schema(value_type = String)]
    pub file_type: FileType,
    /// Where it stands.
    pub status: Status,
    /// What goes into the file: urlencoded, normalised.
    #[schema(value_type = String)]
    pub criteria: StoredCriteria,
    /// Its format; null when the file type has none.
    #[schema(required)]
    pub format: Option<String>,
    /// As offered for download; null until known.
    #[schema(required)]
    pub filename: Option<String>,
    /// For people.
    pub description: String,
    /// Its media type; null until known.
    #[schema(required)]
    pub content_type: Option<String>,
    /// Bytes; null until the file is there.
    #[schema(required, minimum = 0)]
    pub size: Option<i64>,
    /// SHA-256 of the file, lower-case hex; null until it is there.
    #[schema(required)]
    pub sha256: Option<String>,
    /// Data rows; null when the file type counts none.
    #[schema(required, minimum = 0)]
    pub rows: Option<i64>,
    /// Who wants it; null when nobody in particular does.
    #[schema(required)]
    pub requester: Option<String>,
    /// Where notices go; null for nowhere.
    #[schema(required)]
    pub requester_email: Option<String>,
    /// BCP 47; null for the default.
    #[schema(required)]
    pub language: Option<String>,
    /// IANA name; null for UTC.
    #[schema(required)]
    pub timezone: Option<String>,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// When a worker first took it; null before.
    #[schema(required)]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended, well or not; null before.
    #[schema(required)]
    pub finished_at: Option<DateTime<Utc>>,
    /// When the file goes; null until that is known.
    #[schema(required)]
    pub expires_at: Option<DateTime<Utc>>,
    /// How often workers took it.
    #[schema(minimum = 0)]
    pub attempts: i64,
    /// How far the worker is.
    pub progress: Progress,
    /// Of the last attempt that failed; null when none did.
    #[schema(required)]
    pub error: Option<RequestError>,
    /// How often the file was downloaded.
    pub downloads: Downloads,
    /// A link to the file; null unless there is a file to download.
    #[schema(required, format = Uri)]
    pub download_url: Option<String>,
}

/// How far the worker is.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(examples(json!({ "done": 5000, "total": 111_279, "estimated": true })))]
pub struct Progress {
    /// Units done: rows, or what the file type counts.
    #[schema(minimum = 0)]
    pub done: i64,
    /// Units in all; null when that is not known.
    #[schema(required, minimum = 0)]
    pub total: Option<i64>,
    /// Whether `total` is an estimate: from the last file, or the database's plan.
    pub estimated: bool,
}

/// What went wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "code": "too_many_rows",
    "message": "more than 1048575 rows do not fit",
})))]
pub struct RequestError {
    /// Its stable name.
    pub code: String,
    /// For people.
    #[schema(required)]
    pub message: Option<String>,
    /// What it came of, e.g. the database's words with DETAIL and HINT; null where `message` says
    /// it. For staff: others get no such field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cause: Option<Option<String>>,
}

/// How often a file was downloaded.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(examples(json!({ "count": 0, "limit": null, "last_at": null })))]
pub struct Downloads {
    /// How often so far; of limited links, how often they were redeemed.
    #[schema(minimum = 0)]
    pub count: i64,
    /// How often it can be; null without a limit.
    #[schema(required, minimum = 0)]
    pub limit: Option<i64>,
    /// When it last was; null when never.
    #[schema(required)]
    pub last_at: Option<DateTime<Utc>>,
}

impl Shown {
    /// As anybody sees it: an error without its cause.
    pub fn of(row: &FileRequest, download_url: Option<String>) -> Self {
        let error = row.error_code.clone().map(|code| RequestError {
            code,
            message: row.error_message.clone(),
            cause: None,
        });
        Shown {
            id: row.id,
            file_type: row.file_type.clone(),
            status: row.status,
            criteria: row.criteria.clone(),
            format: none_if_empty(&row.format),
            filename: none_if_empty(&row.filename),
            description: row.description.clone(),
            content_type: none_if_empty(&row.content_type),
            size: row.size,
            sha256: row.sha256.clone(),
            rows: row.rows,
            requester: row.requester.clone(),
            requester_email: none_if_empty(&row.requester_email),
            language: none_if_empty(&row.requester_language),
            timezone: none_if_empty(&row.requester_timezone),
            requested_at: row.requested_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            expires_at: row.expires_at,
            attempts: row.attempts.into(),
            progress: row.progress(),
            error,
            downloads: Downloads {
                count: row.downloads.into(),
                limit: row.download_limit.map(i64::from),
                last_at: row.last_download_at,
            },
            download_url,
        }
    }
}

fn none_if_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl FileRequest {
    /// How far it is, in the JSON of the HTTP API.
    pub fn progress(&self) -> Progress {
        Progress {
            done: self.progress_done,
            total: self.progress_total,
            estimated: self.progress_estimated,
        }
    }
}
