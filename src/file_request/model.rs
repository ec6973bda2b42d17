//! The row of a file request.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Criteria, Status, StoredCriteria};
use crate::{
    error::{Error, FieldError, Result},
    ids::{FileType, RequestId, hex},
    mail,
    storage::StorageKey,
};

/// Longest description, in characters.
pub const LONGEST_DESCRIPTION: usize = 2_000;

/// Who wants the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requester {
    /// Their id in the application; text, as ids of every kind of application fit.
    pub id: Option<String>,
    /// Where the notice goes; none when empty.
    pub email: String,
}

/// A file request as stored. Times are UTC.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct FileRequest {
    /// Random.
    pub id: RequestId,
    /// The handler's name.
    pub file_type: FileType,
    /// Urlencoded; see [`FileRequest::criteria`].
    #[sqlx(try_from = "String")]
    pub criteria: StoredCriteria,
    /// `csv`, `xlsx` …; empty when the handler knows no formats.
    pub format: String,
    /// As offered for download; empty until known.
    pub filename: String,
    /// For people.
    pub description: String,
    /// Media type; empty until known.
    pub content_type: String,
    /// Bytes.
    pub size: Option<i64>,
    /// Lower-case hex of the file's SHA-256.
    pub sha256: Option<String>,
    /// Data rows, when the handler writes rows.
    pub rows: Option<i64>,
    /// Where the object is; dj-bgfiles's `filehandle`.
    pub storage_key: Option<String>,
    /// The requester's id in the application.
    pub requester: Option<String>,
    /// Where notices go; empty for nowhere.
    pub requester_email: String,
    /// BCP 47, e.g. `nl` or `pt-BR`; empty for the default.
    pub requester_language: String,
    /// IANA name, e.g. `Europe/Amsterdam`; empty for UTC.
    pub requester_timezone: String,
    /// Whether links are for the requester alone; as the file type says when `None`. `Some(false)`
    /// is the word of somebody who may loosen what the type says.
    pub requester_only: Option<bool>,
    /// Whether to mail about the end.
    pub notify: bool,
    /// Where it stands.
    #[sqlx(try_from = "String")]
    pub status: Status,
    /// The fencing number: grows with each claim.
    pub generation: i64,
    /// Claims so far, but for those that are `lost`.
    pub attempts: i32,
    /// Claims that ended without a word: the worker died, or was away for long.
    pub crashes: i32,
    /// Claims that ended without a word before the handler was known to have begun.
    pub lost: i32,
    /// Whether the handler of the last claim is known to have begun.
    pub begun: bool,
    /// Not before this time.
    pub run_at: DateTime<Utc>,
    /// The claim holds until then unless renewed.
    pub lease_until: Option<DateTime<Utc>>,
    /// Who holds it.
    pub leased_by: Option<String>,
    /// Somebody wants the running work to stop.
    pub cancel_requested: bool,
    /// Units done (rows, or what the handler counts).
    pub progress_done: i64,
    /// Units in all, when known.
    pub progress_total: Option<i64>,
    /// Whether that is an estimate.
    pub progress_estimated: bool,
    /// Stable name of the last error.
    pub error_code: Option<String>,
    /// The last error, in words fit for the requester.
    pub error_message: Option<String>,
    /// What it came of, for operators alone; none where the message says it.
    pub error_cause: Option<String>,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// First claim.
    pub started_at: Option<DateTime<Utc>>,
    /// When it reached its end, good or bad.
    pub finished_at: Option<DateTime<Utc>>,
    /// From then on it may not be served; past the leeway it is removed.
    pub expires_at: Option<DateTime<Utc>>,
    /// The link that the mail carries, when the file type has a policy.
    pub link_jti: Option<uuid::Uuid>,
    /// How often the file was downloaded (limited links: redeemed).
    pub downloads: i32,
    /// How often it can be, when every link to it is limited.
    pub download_limit: Option<i32>,
    /// When it last was.
    pub last_download_at: Option<DateTime<Utc>>,
    /// Links that were signed before count for nothing.
    pub links_from: Option<DateTime<Utc>>,
}

impl FileRequest {
    /// The criteria, parsed.
    ///
    /// # Errors
    /// When the stored text is neither a urlencoded form nor the JSON of an object (somebody wrote
    /// the row by hand).
    pub fn criteria(&self) -> Result<Criteria> {
        self.criteria.parse()
    }

    /// Where the object is, if that is a place of this very request: rows may come from elsewhere.
    pub fn own_key(&self) -> Option<StorageKey> {
        let text = self.storage_key.as_deref()?;
        let key: StorageKey = text.parse().ok()?;
        (key.request == self.id && key.to_string() == text).then_some(key)
    }

    /// The requester's time zone; UTC when none is given or the name is unknown.
    pub fn timezone(&self) -> Tz {
        self.requester_timezone.parse().unwrap_or(Tz::UTC)
    }

    /// The requester's language; `en` when none is given.
    pub fn language(&self) -> &str {
        if self.requester_language.is_empty() { "en" } else { &self.requester_language }
    }

    /// Sets the expiry to `delta` after `from`.
    pub fn expire_in(&mut self, delta: TimeDelta, from: DateTime<Utc>) {
        self.expires_at = from.checked_add_signed(delta);
    }

    /// Whether the file may no longer be served.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.status == Status::Expired || self.expires_at.is_some_and(|at| at <= now)
    }
}

/// RFC 3339 in UTC with `Z`.
pub fn rfc3339(at: Option<DateTime<Utc>>) -> Option<String> {
    at.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

/// What a caller gives for a new request. The handler's name is checked by the registry, the rest
/// by [`NewFileRequest::validate`].
#[derive(Clone, Debug)]
pub struct NewFileRequest {
    /// Which handler.
    pub file_type: FileType,
    /// What to put in the file.
    pub criteria: Criteria,
    /// One of the handler's formats; its first when `None`.
    pub format: Option<String>,
    /// For whom.
    pub requester: Requester,
    /// Overrides the handler's name for the file.
    pub filename: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// BCP 47.
    pub language: Option<String>,
    /// IANA name.
    pub timezone: Option<String>,
    /// Whether links are for the requester alone; as the file type says when `None`.
    pub requester_only: Option<bool>,
    /// Whether to mail about the end; yes when `None`.
    pub notify: Option<bool>,
}

impl NewFileRequest {
    /// A request with nothing but its type.
    pub fn new(file_type: FileType) -> Self {
        NewFileRequest {
            file_type,
            criteria: Criteria::default(),
            format: None,
            requester: Requester::default(),
            filename: None,
            description: None,
            language: None,
            timezone: None,
            requester_only: None,
            notify: None,
        }
    }

    /// What tells this request from another one that the same caller may make: the same for
    /// whatever is written in another way, such as criteria in another order or left out what is so
    /// anyway. `more`: what is asked for besides.
    pub fn fingerprint(&self, more: &str) -> String {
        let mut criteria: Vec<_> = self.criteria.iter().collect();
        // Of one name the order counts.
        criteria.sort_by_key(|(name, _)| *name);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let asked = json!([
            self.file_type,
            criteria,
            text(&self.format),
            self.requester.id,
            self.requester.email,
            text(&self.filename),
            text(&self.description),
            text(&self.language),
            text(&self.timezone),
            self.requester_only,
            self.notify.unwrap_or(true),
            more,
        ]);
        // No digest of other things looks like it.
        format!("request:{}", hex(&Sha256::digest(asked.to_string())))
    }

    /// Checks everything that needs no handler.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every wrong field.
    pub fn validate(&self) -> Result<()> {
        let mut errors = Vec::new();
        let mut wrong = |field: &str, message: &str| {
            errors.push(FieldError { field: field.into(), message: message.into() });
        };
        let texts = [
            ("filename", self.filename.as_deref(), 200),
            ("description", self.description.as_deref(), LONGEST_DESCRIPTION),
            ("requester.id", self.requester.id.as_deref(), 200),
            ("language", self.language.as_deref(), 35),
            ("timezone", self.timezone.as_deref(), 64),
        ];
        for (field, text, longest) in texts {
            let text = text.unwrap_or_default();
            if text.chars().count() > longest {
                wrong(field, &format!("longer than {longest} characters"));
            }
            if text.contains('\0') {
                wrong(field, "has a NUL character");
            }
        }
        if self.requester.id.as_deref() == Some("") {
            wrong("requester.id", "must not be empty; leave it out when there is none");
        }
        if let Err(why) = check_address(&self.requester.email) {
            wrong("requester.email", &why);
        }
        if let Some(zone) = self.timezone.as_deref().filter(|z| !z.is_empty())
            && zone.parse::<Tz>().is_err()
        {
            wrong("timezone", "is not an IANA time zone, e.g. Europe/Amsterdam");
        }
        if let Some(language) = self.language.as_deref().filter(|l| !l.is_empty())
            && !is_language_tag(language)
        {
            wrong("language", "is not a language tag (BCP 47), e.g. nl or pt-BR");
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::Invalid(errors)) }
    }

    /// The row as it will be inserted: pending, due at once.
    pub fn into_row(self, now: DateTime<Utc>) -> FileRequest {
        FileRequest {
            id: RequestId::random(),
            file_type: self.file_type,
            criteria: self.criteria.encode().into(),
            format: self.format.unwrap_or_default(),
            filename: self.filename.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            content_type: String::new(),
            size: None,
            sha256: None,
            rows: None,
            storage_key: None,
            requester: self.requester.id,
            requester_email: self.requester.email,
            requester_language: self.language.unwrap_or_default(),
            requester_timezone: self.timezone.unwrap_or_default(),
            requester_only: self.requester_only,
            notify: self.notify.unwrap_or(true),
            status: Status::Pending,
            generation: 0,
            attempts: 0,
            crashes: 0,
            lost: 0,
            begun: false,
            run_at: now,
            lease_until: None,
            leased_by: None,
            cancel_requested: false,
            progress_done: 0,
            progress_total: None,
            progress_estimated: false,
            error_code: None,
            error_message: None,
            error_cause: None,
            requested_at: now,
            started_at: None,
            finished_at: None,
            expires_at: None,
            link_jti: None,
            downloads: 0,
            download_limit: None,
            last_download_at: None,
            links_from: None,
        }
    }
}

/// Whether something can be mailed there; an empty text is nobody to tell.
///
/// # Errors
/// What is wrong with the address.
pub fn check_address(text: &str) -> std::result::Result<(), String> {
    match text {
        "" => Ok(()),
        text => mail::address(text)
            .map(drop)
            .map_err(|why| format!("is not an e-mail address: it {why}")),
    }
}

/// The shape of BCP 47: subtags of 1 to 8 letters or digits, the first of letters only.
pub fn is_language_tag(text: &str) -> bool {
    text.split('-').enumerate().all(|(i, tag)| {
        (1..=8).contains(&tag.len())
            && tag
                .chars()
                .all(|c| if i == 0 { c.is_ascii_alphabetic() } else { c.is_ascii_alphanumeric() })
    })
}
