//! What makes the files of one file type: dj-bgfiles's `FullPattern` as a trait.

use std::time::Duration;

use async_trait::async_trait;
use chrono_tz::Tz;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{Output, Progress};
use crate::{
    auth_token::Role,
    error::{Error, Result},
    file_request::{
        Criteria, FileRequest, filename,
        links::{LinkPolicy, RequesterOnly},
        notice::MailKind,
    },
    signer::Signer,
};

/// When the file is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// In the response to the request that asks for it: it is small, that is known.
    Now,
    /// In the response, if it is as small as it seems: it is made and held back until it is whole.
    /// When it turns out to have more than so many rows ([`Progress::set_rows`]), more than 16 MiB,
    /// or to take longer than a web request should (5 s, with the decision), it is stopped, and a
    /// worker makes it. It is left to the worker outright when the last file of the same criteria
    /// was such a one.
    NowIfSmall {
        /// The most rows of a small one.
        rows: u64,
    },
    /// By a worker, announced by mail.
    Later,
}

/// One piece of work, as a handler sees it.
#[derive(Clone, Debug)]
pub struct Job {
    /// The row. For delivery at once it is a row that was never stored.
    pub request: FileRequest,
    /// The criteria as [`Handler::parse_criteria`] returned them.
    pub criteria: Criteria,
    /// BCP 47; the requester's, else `en`.
    pub language: String,
    /// The requester's, else UTC.
    pub timezone: Tz,
    /// How far it is.
    pub progress: Progress,
    /// Fires when the work should stop: cancelled, the lease was lost, the time is up, or the
    /// process ends. Whoever works without writing looks at it.
    pub cancelled: CancellationToken,
}

impl Job {
    /// A job over a row, under its language and time zone.
    ///
    /// # Errors
    /// When the stored criteria are no urlencoded form, or there is no such time zone (somebody wrote
    /// the row by hand).
    pub fn new(request: FileRequest) -> Result<Self> {
        let zone = &request.requester_timezone;
        if !zone.is_empty() && zone.parse::<Tz>().is_err() {
            let message = format!("there is no time zone {zone:?}; use one like Europe/Amsterdam");
            return Err(Error::permanent("unknown_timezone", message));
        }
        Ok(Job {
            criteria: request.criteria()?,
            language: request.language().to_owned(),
            timezone: request.timezone(),
            progress: Progress::default(),
            cancelled: CancellationToken::new(),
            request,
        })
    }
}

/// Makes the files of one file type.
///
/// Only [`Handler::file_type`] and [`Handler::write`] must be given; the rest has defaults that
/// fit an ordinary export.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The name in the registry.
    fn file_type(&self) -> &str;

    /// Writes the file. Called by the worker, or by the web process for delivery at once.
    ///
    /// The future may wait as it likes. Work that burns CPU goes through
    /// [`Output::blocking`] or a table writer ([`crate::export::TableWriter`]), which run on
    /// threads of their own, so that leases go on being renewed.
    ///
    /// # Errors
    /// [`Error::is_retryable`] decides between another attempt and the end.
    async fn write(&self, job: &Job, out: Output) -> Result<()>;

    /// For people, in their language.
    fn title(&self, language: &str) -> String {
        let _ = language;
        self.file_type().to_owned()
    }

    /// Names of the formats a caller may choose from; the first is the default. Empty: no choice.
    fn formats(&self) -> &[&'static str] {
        &[]
    }

    /// Whether users of this role may ask for it.
    fn may_ask(&self, role: Role) -> bool {
        let _ = role;
        true
    }

    /// A JSON Schema of the criteria, with titles in a language: for `GET /api/file-types`, and for
    /// the form that people fill in.
    fn criteria_schema(&self, language: &str) -> Value {
        let _ = language;
        json!({"type": "object"})
    }

    /// Checks and normalises the criteria before anything is stored.
    ///
    /// # Errors
    /// [`Error::Invalid`] with fields `criteria.NAME`.
    fn parse_criteria(&self, criteria: &Criteria) -> Result<Criteria> {
        Ok(criteria.clone())
    }

    /// Decides between now and later when the caller leaves it to us (`deliver=auto`). Who can only
    /// guess says [`Delivery::NowIfSmall`].
    ///
    /// # Errors
    /// Anything: the caller gets it.
    async fn evaluate(&self, job: &Job) -> Result<Delivery> {
        let _ = job;
        Ok(Delivery::Later)
    }

    /// The name offered for download, when the caller gave none. One without a word in it is
    /// replaced by type and day.
    fn filename(&self, job: &Job) -> String {
        match job.request.format.as_str() {
            "" => self.file_type().to_owned(),
            format => format!("{}.{format}", self.file_type()),
        }
    }

    /// What a name ends with that the caller gives, without the dot; it is added where it is
    /// missing. The format, when our own name ends with it; otherwise nothing is known.
    fn extension(&self, job: &Job) -> String {
        let format = &job.request.format;
        let name = self.filename(job);
        let known = name.strip_suffix(format.as_str()).is_some_and(|stem| stem.ends_with('.'));
        if known { format.clone() } else { String::new() }
    }

    /// The media type.
    fn content_type(&self, job: &Job) -> String {
        let name = match job.request.filename.as_str() {
            "" => self.filename(job),
            given => filename::with_extension(given, &self.extension(job)),
        };
        mime_guess::from_path(name).first_or_octet_stream().to_string()
    }

    /// Whether browsers save the file (`attachment`) or may show it (`inline`, in a sandbox).
    fn content_as_attachment(&self) -> bool {
        true
    }

    /// For people, when the caller gave none.
    fn description(&self, job: &Job) -> String {
        self.title(&job.language)
    }

    /// Whether links are for the requester alone: a floor, which `service` and `staff` may loosen
    /// for one request. Who lets nobody says so in [`Handler::link_policy`]; the stricter of the two
    /// counts. (dj-bgfiles says yes; we say no, as a mailed link is often opened where nobody is
    /// logged in.)
    fn requester_only(&self) -> bool {
        false
    }

    /// What the mailed link is like, and what links of a `user` are at most: how often they work,
    /// for how long, whether opening them shows a page first, and for whom they are. Without a
    /// policy a link downloads at once, as often as one likes.
    fn link_policy(&self) -> LinkPolicy {
        LinkPolicy::default()
    }

    /// Further data to sign into links.
    fn token_data(&self, request: &FileRequest) -> Map<String, Value> {
        let _ = request;
        Map::new()
    }

    /// A signer of its own, with its own keys, salt and age.
    fn signer(&self) -> Option<Signer> {
        None
    }

    /// How long the finished file stays; the configured maximum age of links when `None`.
    fn expires_after(&self) -> Option<Duration> {
        None
    }

    /// How long one attempt may take.
    fn timeout(&self) -> Duration {
        Duration::from_secs(60 * 60)
    }

    /// Attempts before the request fails for good.
    fn max_attempts(&self) -> i32 {
        3
    }

    /// The folder below `templates/mail/` that is looked into before the common one.
    fn mail_templates(&self) -> &str {
        self.file_type()
    }

    /// Who is told. By default the requester.
    fn recipients(&self, request: &FileRequest, kind: MailKind) -> Vec<String> {
        let _ = kind;
        match request.requester_email.as_str() {
            "" => Vec::new(),
            email => vec![email.to_owned()],
        }
    }

    /// An HTML page instead of the common one that says "it is being made", for browsers.
    fn delayed_page(&self, request: &FileRequest) -> Option<String> {
        let _ = request;
        None
    }
}

impl dyn Handler {
    /// The one policy of this type's links: that of [`Handler::link_policy`], with the floor of
    /// [`Handler::requester_only`].
    pub fn policy(&self) -> LinkPolicy {
        let policy = self.link_policy();
        let floor = RequesterOnly::from(self.requester_only());
        LinkPolicy { requester_only: policy.requester_only.max(floor), ..policy }
    }

    /// The name that the file is offered under: the caller's, with its extension; else the
    /// handler's; else one made of type and day.
    pub fn offered_name(&self, job: &Job) -> String {
        let given = match job.request.filename.as_str() {
            "" => String::new(),
            given => filename::with_extension(given, &self.extension(job)),
        };
        if !given.is_empty() {
            return given;
        }
        match filename::safe(&self.filename(job)) {
            own if own.is_empty() => {
                filename::with_extension(&filename::stand_in(&job.request), &job.request.format)
            }
            own => own,
        }
    }

    /// The format to use: the one asked for, else the first.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `format` when there is no such format, naming those there are.
    pub fn choose_format(&self, asked: Option<&str>) -> Result<String> {
        let formats = self.formats();
        match asked.filter(|f| !f.is_empty()) {
            None => Ok(formats.first().copied().unwrap_or_default().to_owned()),
            Some(asked) if formats.contains(&asked) => Ok(asked.to_owned()),
            Some(asked) if formats.is_empty() => Err(Error::invalid(
                "format",
                format!("{:?} offers no choice of format; leave out {asked:?}", self.file_type()),
            )),
            Some(asked) => Err(Error::invalid(
                "format",
                format!("{asked:?} is not offered; use one of {}", formats.join(", ")),
            )),
        }
    }
}
