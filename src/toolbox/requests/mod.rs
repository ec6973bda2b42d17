//! Recording requests and changing their course.
//!
//! ```text
//! actor    what a caller may see and do, with its line in the audit log
//! policy   who may ask for which files, and what links may be
//! shown    a request as its readers see it, and changes that count on it
//! history  everything that is known of a request
//! removal  taking files and requests away
//! inline   a file made in the response that asks for it
//! watching requests under somebody's eyes, looked at together
//! earlier  what the last file of a type tells about the next one
//! unknown  requests of types that nobody knows
//!
//! recorder       requests that come together are recorded together
//! dispatch       a worker's claim, and what comes of it
//! attempt        the handler, beside the heartbeat that keeps the lease
//! ending         how attempts end: what is written down, and who is told
//! publisher      files that are ready together become visible together; notices for the mail sender
//! notices        one try to mail
//! backoff        the pauses between tries
//! group_commit   what comes at the same time is committed together
//! ```

mod actor;
mod attempt;
pub(super) mod backoff;
mod dispatch;
mod earlier;
mod ending;
mod group_commit;
mod history;
pub(super) mod inline;
pub(super) mod notices;
mod policy;
pub(super) mod publisher;
pub(super) mod recorder;
mod removal;
mod shown;
mod unknown;
pub(super) mod watching;

use tokio::time::Instant;

use crate::{
    auth_token::Role,
    db::{Conn, Tx},
    error::{Error, Result},
    export,
    file_request::{
        FileRequest, NewFileRequest, Status, filename,
        links::Wish,
        notice::{self, Notice, store::Carrier},
        store,
    },
    ids::RequestId,
    queue,
    registry::{Delivery, Job, MailKind},
    toolbox::{KEEP_ENDED, Toolbox},
};

pub use crate::file_request::store::{Filter as RequestFilter, SEARCHED};
pub use actor::{ActingOnRequests, Requests};
pub use ending::Dispatched;
pub use history::History;
pub use inline::Inline;
use inline::{PATIENCE, Small, Terms};
pub(in crate::toolbox) use policy::{judge, staff};
pub use shown::Expected;
pub use unknown::Unknown;
pub use watching::Watched;

/// When the caller wants the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deliver {
    /// From a worker, announced by mail.
    #[default]
    Later,
    /// In the response when it is small, as the handler decides.
    Auto,
    /// In the response.
    Now,
}

impl Deliver {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Deliver::Later => "later",
            Deliver::Auto => "auto",
            Deliver::Now => "now",
        }
    }
}

impl std::str::FromStr for Deliver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "later" => Ok(Deliver::Later),
            "auto" => Ok(Deliver::Auto),
            "now" => Ok(Deliver::Now),
            _ => Err("must be later, auto or now".into()),
        }
    }
}

/// What [`Toolbox::respond_to`] came to.
#[derive(Debug)]
pub enum Response {
    /// It was recorded; a worker makes it.
    Later(Box<FileRequest>),
    /// An earlier call with the same key recorded it.
    Earlier(Box<FileRequest>),
    /// Here it is.
    Now(Inline),
}

/// Makes a repeated call harmless: the second one gets what the first one made.
#[derive(Clone, Copy, Debug)]
pub struct IdempotencyKey<'a> {
    /// Whose key: two callers may use the same text.
    pub caller: &'a str,
    /// The key.
    pub key: &'a str,
    /// What tells this call from another one, so that the key is not used for something else:
    /// [`NewFileRequest::fingerprint`], say.
    pub fingerprint: &'a str,
    /// What told them apart before; a key that was used then counts by this one.
    pub before: Option<&'a str>,
}

impl IdempotencyKey<'_> {
    /// Longest key that [`IdempotencyKey::check`] accepts, in characters.
    pub const LONGEST: usize = 200;

    /// Whether a text that a program sends can be a key.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `Idempotency-Key`.
    pub fn check(key: &str) -> Result<()> {
        if (1..=Self::LONGEST).contains(&key.len()) && key.is_ascii() {
            return Ok(());
        }
        let message = format!("must be 1 to {} visible ASCII characters", Self::LONGEST);
        Err(Error::invalid("Idempotency-Key", message))
    }
}

/// What came of a call with a key.
#[derive(Debug)]
pub(crate) struct Once {
    pub(crate) row: FileRequest,
    /// Whether this very call made it.
    is_new: bool,
}

impl From<Once> for Response {
    fn from(Once { row, is_new }: Once) -> Self {
        match is_new {
            true => Response::Later(Box::new(row)),
            false => Response::Earlier(Box::new(row)),
        }
    }
}

impl Toolbox {
    /// Checks a request and fills in what its handler decides.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every wrong field; [`Error::UnknownFileType`];
    /// [`Error::LinkPolicy`] when links are said to be for anybody that never are.
    pub fn prepare(&self, mut new: NewFileRequest) -> Result<FileRequest> {
        new.validate()?;
        let handler = self.registry().get(new.file_type.as_str())?;
        new.criteria = handler.parse_criteria(&new.criteria)?;
        new.format = Some(handler.choose_format(new.format.as_deref())?);
        // Nobody may loosen what is so always, the host application included.
        let policy = handler.policy();
        let wish = Wish { requester_only: new.requester_only, ..Wish::default() };
        judge(&policy, &wish, policy.requester_only.counts(None), Role::Staff)?;
        if policy.requester_only.counts(new.requester_only) && new.requester.id.is_none() {
            return Err(Error::invalid(
                "requester.id",
                "is needed, as only the requester may download this file",
            ));
        }
        let mut row = new.into_row(self.clock().now());
        if !row.filename.is_empty() {
            let extension = handler.extension(&Job::new(row.clone())?);
            row.filename = filename::with_extension(&row.filename, &extension);
        }
        if row.description.is_empty() {
            row.description = handler.description(&Job::new(row.clone())?);
        }
        Ok(row)
    }

    /// Records a request and wakes a worker, both in the caller's transaction: after a rollback
    /// neither happened.
    ///
    /// # Errors
    /// As [`Toolbox::prepare`], and the database's.
    pub async fn add_request(
        &self,
        conn: impl Into<Conn<'_>>,
        new: NewFileRequest,
    ) -> Result<FileRequest> {
        let row = self.prepare(new)?;
        let mut conn = conn.into();
        store::insert(conn.reborrow(), &row).await?;
        queue::push(conn, queue::Wake::request(row.id), row.requested_at).await?;
        Ok(row)
    }

    /// As [`Toolbox::add_request`], once per key: a repeat gets the first one's request.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the key was used for another call; else as
    /// [`Toolbox::add_request`].
    pub async fn add_request_once(
        &self,
        conn: impl Into<Conn<'_>>,
        new: NewFileRequest,
        key: IdempotencyKey<'_>,
    ) -> Result<FileRequest> {
        Ok(self.once(conn.into(), new, key).await?.row)
    }

    async fn once(
        &self,
        mut conn: Conn<'_>,
        new: NewFileRequest,
        key: IdempotencyKey<'_>,
    ) -> Result<Once> {
        let row = self.prepare(new)?;
        // The row first: the key refers to it. When the key turns out to be taken, the caller's
        // transaction still holds the row, and takes it back.
        store::insert(conn.reborrow(), &row).await?;
        let keyed =
            store::KeyedRequest { fingerprint: key.fingerprint.to_owned(), request_id: row.id };
        let now = row.requested_at;
        if store::insert_key(conn.reborrow(), key.caller, key.key, &keyed, now).await? {
            queue::push(conn, queue::Wake::request(row.id), row.requested_at).await?;
            return Ok(Once { row, is_new: true });
        }
        store::discard(conn.reborrow(), row.id).await?;
        let first = store::keyed(conn.reborrow(), key.caller, key.key).await?;
        let first = first.ok_or(Error::NotFound("the request of this idempotency key"))?;
        if first.fingerprint != key.fingerprint && Some(first.fingerprint.as_str()) != key.before {
            return Err(Error::Conflict {
                code: "idempotency_key_reused",
                message: "this Idempotency-Key was used for a different request".into(),
            });
        }
        let found = store::find(conn, first.request_id).await?;
        let row = found.ok_or(Error::NotFound("the request of this idempotency key"))?;
        Ok(Once { row, is_new: false })
    }

    /// As [`ActingOnRequests::ask`] for the requester, whoever they are.
    ///
    /// # Errors
    /// As there.
    pub async fn respond_to(
        &self,
        new: NewFileRequest,
        deliver: Deliver,
        key: Option<IdempotencyKey<'_>>,
    ) -> Result<Response> {
        let caller = new.requester.id.clone().unwrap_or_default();
        self.respond(&caller, new, deliver, key).await
    }

    /// `caller` has two files at a time made in answers; [`Deliver::Auto`] then records, and where
    /// the file's source is busy.
    async fn respond(
        &self,
        caller: &str,
        new: NewFileRequest,
        deliver: Deliver,
        key: Option<IdempotencyKey<'_>>,
    ) -> Result<Response> {
        if let Some(file) = self.delivered_at_once(caller, &new, deliver, key).await? {
            return Ok(Response::Now(file));
        }
        let Some(key) = key else {
            return Ok(Response::Later(Box::new(self.record(self.prepare(new)?).await?)));
        };
        let mut tx = self.db().begin().await?;
        let once = self.once(tx.conn(), new, key).await?;
        tx.commit().await?;
        Ok(once.into())
    }

    /// Records a request of somebody who may loosen what its type says; if it does, with a line in
    /// the audit log. A repeat of a key adds neither.
    pub(crate) async fn add_noted(
        &self,
        tx: &mut Tx,
        by: &str,
        new: NewFileRequest,
        key: Option<IdempotencyKey<'_>>,
    ) -> Result<Once> {
        let loosens = self.loosens(&new);
        let once = match key {
            Some(key) => self.once(tx.conn(), new, key).await?,
            None => Once { row: self.add_request(&mut *tx, new).await?, is_new: true },
        };
        if loosens && once.is_new {
            self.note_loosened(tx, by, &once.row).await?;
        }
        Ok(once)
    }

    /// `None`: a worker is to make it.
    async fn delivered_at_once(
        &self,
        caller: &str,
        new: &NewFileRequest,
        deliver: Deliver,
        key: Option<IdempotencyKey<'_>>,
    ) -> Result<Option<Inline>> {
        match deliver {
            Deliver::Later => Ok(None),
            Deliver::Now => self.at_once(new.clone(), self.terms(caller)?).await.map(Some),
            Deliver::Auto => match self.terms(caller) {
                Ok(terms) => self.at_once_if_small(new.clone(), key, terms).await,
                Err(_) => Ok(None),
            },
        }
    }

    fn terms(&self, caller: &str) -> Result<Terms> {
        Ok(Terms { place: self.0.inline.take(caller)?, limit: self.inline_timeout() })
    }

    async fn at_once(&self, new: NewFileRequest, terms: Terms) -> Result<Inline> {
        let row = self.prepare(new)?;
        let handler = self.registry().get(row.file_type.as_str())?.clone();
        Inline::start(handler, Job::new(row)?, terms).await
    }

    /// `None`: a worker is to make it.
    async fn at_once_if_small(
        &self,
        new: NewFileRequest,
        key: Option<IdempotencyKey<'_>>,
        terms: Terms,
    ) -> Result<Option<Inline>> {
        let until = Instant::now() + PATIENCE;
        let row = self.prepare(new)?;
        // What was recorded for this key is not made here as well.
        if let Some(IdempotencyKey { caller, key, .. }) = key
            && store::keyed(&mut self.db().acquire().await?, caller, key).await?.is_some()
        {
            return Ok(None);
        }
        let handler = self.registry().get(row.file_type.as_str())?.clone();
        let job = Job::new(row)?;
        let made = match handler.evaluate(&job).await {
            Ok(Delivery::Now) => Inline::start(handler, job, terms).await.map(Some),
            Ok(Delivery::NowIfSmall { rows }) if self.was_small(&job.request, rows).await => {
                Inline::hold(handler, job, terms, Small { rows, until }).await
            }
            Ok(Delivery::NowIfSmall { .. } | Delivery::Later) => Ok(None),
            Err(error) => Err(error),
        };
        match made {
            // A worker waits for its turn.
            Err(error) if error.code() == export::SOURCE_BUSY => Ok(None),
            made => made,
        }
    }

    /// Cancels: a waiting request at once, a running one as soon as its worker looks.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when it has reached its end.
    pub async fn cancel(&self, conn: impl Into<Conn<'_>>, id: RequestId) -> Result<FileRequest> {
        let (mut conn, now) = (conn.into(), self.clock().now());
        match store::cancel(conn.reborrow(), id, now, now + KEEP_ENDED).await? {
            Some(row) => Ok(row),
            None => Err(already(conn, id, "cancelled").await?),
        }
    }

    /// Starts a failed or cancelled request anew.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when it neither failed nor was cancelled.
    pub async fn retry(&self, conn: impl Into<Conn<'_>>, id: RequestId) -> Result<FileRequest> {
        let mut conn = conn.into();
        match store::retry(conn.reborrow(), id, self.clock().now()).await? {
            Some(row) => {
                queue::push(conn, queue::Wake::request(id), self.clock().now()).await?;
                Ok(row)
            }
            None => Err(already(conn, id, "started anew").await?),
        }
    }

    /// Mails about a request's end (again).
    ///
    /// # Errors
    /// [`Error::Conflict`] when it has not ended with a file or a failure, or names nobody to mail.
    pub async fn notify_again(
        &self,
        conn: impl Into<Conn<'_>>,
        row: &FileRequest,
    ) -> Result<Notice> {
        let now = self.clock().now();
        let kind = match row.status {
            Status::Finished if !row.is_expired(now) => MailKind::Ready,
            Status::Failed => MailKind::Failed,
            status => {
                let message =
                    format!("the request is {}; there is nothing to tell", status.as_str());
                return Err(Error::Conflict { code: "wrong_status", message });
            }
        };
        if self.recipients(row, kind).is_empty() {
            let message = "the request names nobody to mail".into();
            return Err(Error::Conflict { code: "no_recipient", message });
        }
        let domain = self.base_url().host();
        let notice = Notice::about(row.id, row.generation, kind, &domain, now).again(&domain);
        let mut conn = conn.into();
        notice::store::insert(conn.reborrow(), &notice, Carrier::Anybody).await?;
        queue::push(conn, queue::Wake::notice(notice.id), now).await?;
        Ok(notice)
    }
}

/// Why a conditional change did not happen.
async fn already(conn: Conn<'_>, id: RequestId, what: &str) -> Result<Error> {
    Ok(match store::find(conn, id).await? {
        None => Error::NotFound("request"),
        Some(row) => Error::Conflict {
            code: "wrong_status",
            message: format!("the request is {} and cannot be {what}", row.status.as_str()),
        },
    })
}
