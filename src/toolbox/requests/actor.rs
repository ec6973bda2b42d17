//! What a caller may see of requests and do with them, and the line that the audit log gets of it.

use std::sync::Arc;

use super::{
    Deliver, Expected, History, IdempotencyKey, RequestFilter, Response, Watched, already, staff,
};
use crate::{
    auth_token::{Caller, Role},
    db::{Conn, Tx},
    error::{Error, Result},
    file_request::{FileRequest, NewFileRequest, Requester, model, notice::Notice, store},
    ids::RequestId,
    lock_token::{self, Resource},
    registry::Handler,
    toolbox::{Editor, Toolbox},
};

/// Requests; made by [`Toolbox::requests`].
#[derive(Clone, Copy, Debug)]
pub struct Requests<'a> {
    toolbox: &'a Toolbox,
}

impl Toolbox {
    /// What can be done with requests on somebody's word.
    pub fn requests(&self) -> Requests<'_> {
        Requests { toolbox: self }
    }
}

impl<'a> Requests<'a> {
    /// What `caller` may see and do. Users have their own requests, applications and staff all of
    /// them; what those do to somebody else's is written to the audit log.
    pub fn by(self, caller: &'a Caller) -> ActingOnRequests<'a> {
        ActingOnRequests { toolbox: self.toolbox, caller, expected: Expected::Anything }
    }
}

/// Requests as a caller may see and handle them; made by [`Requests::by`].
///
/// A request that is not for the caller is none: [`Error::NotFound`]. An operation has a
/// transaction of its own; the one with `_in` at the end of its name is in that of the host
/// application, and takes effect with it.
#[derive(Clone, Debug)]
pub struct ActingOnRequests<'a> {
    toolbox: &'a Toolbox,
    caller: &'a Caller,
    expected: Expected,
}

impl<'a> ActingOnRequests<'a> {
    /// The same, for changes that count on what was seen: who finds a request otherwise changes
    /// nothing, and gets [`Error::PreconditionFailed`].
    pub fn expecting(mut self, expected: Expected) -> Self {
        self.expected = expected;
        self
    }

    pub(in crate::toolbox) fn toolbox(&self) -> &'a Toolbox {
        self.toolbox
    }

    pub(in crate::toolbox) fn caller(&self) -> &'a Caller {
        self.caller
    }

    /// Whether a request is the caller's own.
    pub fn owns(&self, row: &FileRequest) -> bool {
        row.requester.as_deref() == Some(self.caller.username.as_str())
    }

    /// Whether the caller may have a request made anew: who may ask for it; and operators, for
    /// somebody else, as its requester asked already.
    ///
    /// # Errors
    /// [`Error::Forbidden`].
    pub fn check_retry(&self, row: &FileRequest) -> Result<()> {
        if self.caller.role == Role::Staff && !self.owns(row) {
            return Ok(());
        }
        self.toolbox.check_role(row.file_type.as_str(), self.caller.role)
    }

    /// The file types that the caller may ask for, by name.
    pub fn file_types(&self) -> impl Iterator<Item = &'a Arc<dyn Handler>> + use<'a> {
        let (toolbox, role) = (self.toolbox, self.caller.role);
        let all = toolbox.registry().iter();
        all.filter(move |handler| toolbox.check_role(handler.file_type(), role).is_ok())
    }

    /// The handler of a file type that the caller may ask for.
    ///
    /// # Errors
    /// [`Error::NotFound`] where nobody knows the type; [`Error::Forbidden`].
    pub fn file_type(&self, name: &str) -> Result<&'a Arc<dyn Handler>> {
        let toolbox: &'a Toolbox = self.toolbox;
        let handler = toolbox.registry().get(name).map_err(|_| Error::NotFound("file type"))?;
        toolbox.check_role(name, self.caller.role)?;
        Ok(handler)
    }

    /// Asks for a file: held against the caller's role and the file type's policy. What loosens it is
    /// written to the audit log with the request. Each caller has two files at a time made in
    /// answers; [`Deliver::Auto`] then records, and where the file's source is busy.
    ///
    /// # Errors
    /// As [`Toolbox::check_ask`] and [`Toolbox::respond_to`]; [`Error::Throttled`] when the caller
    /// has two files made in answers already.
    pub async fn ask(
        &self,
        mut new: NewFileRequest,
        deliver: Deliver,
        key: Option<IdempotencyKey<'_>>,
    ) -> Result<Response> {
        let (toolbox, name) = (self.toolbox, &self.caller.username);
        if !toolbox.check_ask(&mut new, self.caller.role)? {
            return toolbox.respond(name, new, deliver, key).await;
        }
        if let Some(file) = toolbox.delivered_at_once(name, &new, deliver, key).await? {
            return Ok(Response::Now(file));
        }
        let mut tx = toolbox.db().begin().await?;
        let once = toolbox.add_noted(&mut tx, name, new, key).await?;
        tx.commit().await?;
        Ok(once.into())
    }

    /// As [`ActingOnRequests::ask`], for a file that a worker makes. With a key that was used before,
    /// what that recorded.
    ///
    /// # Errors
    /// As [`Toolbox::check_ask`], [`Toolbox::add_request`] and [`Toolbox::add_request_once`].
    pub async fn ask_in(
        &self,
        tx: &mut Tx,
        mut new: NewFileRequest,
        key: Option<IdempotencyKey<'_>>,
    ) -> Result<FileRequest> {
        self.toolbox.check_ask(&mut new, self.caller.role)?;
        Ok(self.toolbox.add_noted(tx, &self.caller.username, new, key).await?.row)
    }

    /// A request.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn find(&self, id: RequestId) -> Result<FileRequest> {
        self.find_in(&mut self.toolbox.db().acquire().await?, id).await
    }

    /// As [`ActingOnRequests::find`].
    ///
    /// # Errors
    /// As there.
    pub async fn find_in(&self, conn: impl Into<Conn<'_>>, id: RequestId) -> Result<FileRequest> {
        let row = store::find(conn, id).await?;
        let seen = row.filter(|row| self.caller.may_see(row.requester.as_deref()));
        seen.ok_or(Error::NotFound("request"))
    }

    /// A request, and everything that is known of it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn history(&self, id: RequestId) -> Result<(FileRequest, History)> {
        let row = self.find(id).await?;
        let history = self.toolbox.history(row.id).await?;
        Ok((row, history))
    }

    /// The newest requests that pass the filter; of users, their own.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, filter: RequestFilter, limit: i64) -> Result<Vec<FileRequest>> {
        self.list_in(&mut self.toolbox.db().acquire().await?, filter, limit).await
    }

    /// As [`ActingOnRequests::list`].
    ///
    /// # Errors
    /// As there.
    pub async fn list_in(
        &self,
        conn: impl Into<Conn<'_>>,
        mut filter: RequestFilter,
        limit: i64,
    ) -> Result<Vec<FileRequest>> {
        if self.caller.role == Role::User {
            filter.requester = Some(self.caller.username.clone());
        }
        store::list(conn, &filter, limit).await
    }

    /// Watches requests that were found a moment ago, for one stream of the caller.
    ///
    /// # Errors
    /// [`Error::Throttled`] when the caller has 20 streams open already.
    pub fn watch(&self, rows: &[FileRequest]) -> Result<Watched> {
        self.toolbox.watch(&self.caller.username, rows)
    }

    /// Cancels: a waiting request at once, a running one as soon as its worker looks.
    ///
    /// # Errors
    /// As [`Toolbox::cancel`]; [`Error::PreconditionFailed`].
    pub async fn cancel(&self, id: RequestId) -> Result<FileRequest> {
        let mut tx = self.toolbox.db().begin().await?;
        let row = self.cancel_in(&mut tx, id).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// As [`ActingOnRequests::cancel`].
    ///
    /// # Errors
    /// As there.
    pub async fn cancel_in(&self, conn: impl Into<Conn<'_>>, id: RequestId) -> Result<FileRequest> {
        let mut conn = conn.into();
        let row = self.find_as_expected(conn.reborrow(), id).await?;
        let cancelled = self.toolbox.cancel(conn.reborrow(), row.id).await?;
        self.note(conn, &row, "cancel", "").await?;
        Ok(cancelled)
    }

    /// Starts a failed or cancelled request anew, if the caller may ask for its type.
    ///
    /// # Errors
    /// As [`Toolbox::retry`] and [`ActingOnRequests::check_retry`]; [`Error::PreconditionFailed`].
    pub async fn retry(&self, id: RequestId) -> Result<FileRequest> {
        let mut tx = self.toolbox.db().begin().await?;
        let row = self.retry_in(&mut tx, id).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// As [`ActingOnRequests::retry`].
    ///
    /// # Errors
    /// As there.
    pub async fn retry_in(&self, conn: impl Into<Conn<'_>>, id: RequestId) -> Result<FileRequest> {
        let mut conn = conn.into();
        let row = self.find_in(conn.reborrow(), id).await?;
        self.check_retry(&row)?;
        self.toolbox.expect(conn.reborrow(), row.id, &self.expected).await?;
        let anew = self.toolbox.retry(conn.reborrow(), row.id).await?;
        self.note(conn, &row, "retry", "").await?;
        Ok(anew)
    }

    /// Asks for the same once more, for the same requester. Answers the new request.
    ///
    /// # Errors
    /// As [`ActingOnRequests::file_type`] and [`Toolbox::add_request`].
    pub async fn again(&self, id: RequestId) -> Result<FileRequest> {
        let mut tx = self.toolbox.db().begin().await?;
        let fresh = self.again_in(&mut tx, id).await?;
        tx.commit().await?;
        Ok(fresh)
    }

    /// As [`ActingOnRequests::again`].
    ///
    /// # Errors
    /// As there.
    pub async fn again_in(&self, conn: impl Into<Conn<'_>>, id: RequestId) -> Result<FileRequest> {
        let mut conn = conn.into();
        let row = self.find_in(conn.reborrow(), id).await?;
        self.file_type(row.file_type.as_str())?;
        let fresh = self.toolbox.add_request(conn.reborrow(), same_as(&row)?).await?;
        self.note(conn, &row, "again", &fresh.id.to_string()).await?;
        Ok(fresh)
    }

    /// Gives a request another description, without blanks at its ends, unless somebody else edits
    /// it.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `description`; [`Error::Locked`], [`Error::LockRefused`];
    /// [`Error::PreconditionFailed`].
    pub async fn describe(
        &self,
        id: RequestId,
        description: &str,
        editor: Editor<'_>,
    ) -> Result<FileRequest> {
        let mut tx = self.toolbox.db().begin().await?;
        let row = self.describe_in(&mut tx, id, description, editor).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// As [`ActingOnRequests::describe`].
    ///
    /// # Errors
    /// As there.
    pub async fn describe_in(
        &self,
        tx: &mut Tx,
        id: RequestId,
        description: &str,
        editor: Editor<'_>,
    ) -> Result<FileRequest> {
        let row = self.find_in(&mut *tx, id).await?;
        let description = description.trim();
        let longest = model::LONGEST_DESCRIPTION;
        if description.chars().count() > longest || description.contains('\0') {
            let message = format!("must be up to {longest} characters of text");
            return Err(Error::invalid("description", message));
        }
        // The lock before the row, as every edit takes them.
        let edit = self.toolbox.begin_edit(tx, Resource::request(row.id), editor).await?;
        self.toolbox.expect(&mut *tx, row.id, &self.expected).await?;
        store::describe(&mut *tx, row.id, description).await?;
        self.note(&mut *tx, &row, "describe", description).await?;
        let described = store::find(&mut *tx, row.id).await?.ok_or(Error::NotFound("request"))?;
        self.toolbox.end_edit(tx, edit).await?;
        Ok(described)
    }

    /// Ends a file's time now: nobody gets it any more, and the cleaner removes it. For operators.
    ///
    /// # Errors
    /// As [`Toolbox::expire`]; [`Error::Forbidden`]; [`Error::PreconditionFailed`].
    pub async fn expire(&self, id: RequestId) -> Result<FileRequest> {
        staff(self.caller)?;
        let mut tx = self.toolbox.db().begin().await?;
        let row = self.expire_in(&mut tx, id).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// As [`ActingOnRequests::expire`].
    ///
    /// # Errors
    /// As there.
    pub async fn expire_in(&self, conn: impl Into<Conn<'_>>, id: RequestId) -> Result<FileRequest> {
        staff(self.caller)?;
        let mut conn = conn.into();
        let row = self.find_as_expected(conn.reborrow(), id).await?;
        let expired = self.toolbox.expire(conn.reborrow(), row.id).await?;
        self.note(conn, &row, "expire", "").await?;
        Ok(expired)
    }

    /// Mails about a request's end (again). For operators.
    ///
    /// # Errors
    /// As [`Toolbox::notify_again`]; [`Error::Forbidden`]; [`Error::PreconditionFailed`].
    pub async fn mail_again(&self, id: RequestId) -> Result<Notice> {
        staff(self.caller)?;
        let mut tx = self.toolbox.db().begin().await?;
        let notice = self.mail_again_in(&mut tx, id).await?;
        tx.commit().await?;
        Ok(notice)
    }

    /// As [`ActingOnRequests::mail_again`].
    ///
    /// # Errors
    /// As there.
    pub async fn mail_again_in(&self, conn: impl Into<Conn<'_>>, id: RequestId) -> Result<Notice> {
        staff(self.caller)?;
        let mut conn = conn.into();
        let row = self.find_as_expected(conn.reborrow(), id).await?;
        let notice = self.toolbox.notify_again(conn.reborrow(), &row).await?;
        self.note(conn, &row, "mail", "").await?;
        Ok(notice)
    }

    /// Removes a request and its file now, unless somebody else is at it; its lock goes with it.
    /// Answers what it was.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::LockRefused`]; [`Error::PreconditionFailed`]; as
    /// [`Toolbox::delete`].
    pub async fn delete(&self, id: RequestId, editor: Editor<'_>) -> Result<FileRequest> {
        let mut tx = self.toolbox.db().begin().await?;
        let row = self.delete_in(&mut tx, id, editor).await?;
        tx.commit().await?;
        self.toolbox.remove(&row).await?;
        Ok(row)
    }

    /// As [`ActingOnRequests::delete`]; once the transaction is committed, nobody gets the file any
    /// more, and the cleaner removes it.
    ///
    /// # Errors
    /// As there.
    pub async fn delete_in(
        &self,
        tx: &mut Tx,
        id: RequestId,
        editor: Editor<'_>,
    ) -> Result<FileRequest> {
        let toolbox = self.toolbox;
        let id = self.find_in(&mut *tx, id).await?.id;
        let resource = Resource::request(id);
        // The lock before the row, as every edit takes them.
        match toolbox.begin_edit(tx, resource.clone(), editor).await {
            Err(Error::Locked(_)) if toolbox.lease_of(tx.conn(), &resource).await?.is_some() => {
                return Err(already(tx.conn(), id, "deleted; cancel it first").await?);
            }
            edit => drop(edit?),
        }
        toolbox.expect(&mut *tx, id, &self.expected).await?;
        let row = toolbox.begin_deletion(tx, id).await?;
        // Applications clean up after themselves without a word.
        if self.caller.role == Role::Staff {
            self.note(&mut *tx, &row, "delete", &row.description).await?;
        }
        lock_token::store::break_lock(&mut *tx, &resource, None, None, toolbox.clock().now())
            .await?;
        Ok(row)
    }

    async fn find_as_expected(&self, mut conn: Conn<'_>, id: RequestId) -> Result<FileRequest> {
        let row = self.find_in(conn.reborrow(), id).await?;
        self.toolbox.expect(conn, row.id, &self.expected).await?;
        Ok(row)
    }

    /// Writes down what an operator or an application did to somebody else's request.
    pub(in crate::toolbox) async fn note(
        &self,
        conn: impl Into<Conn<'_>>,
        row: &FileRequest,
        action: &str,
        detail: &str,
    ) -> Result<()> {
        if self.caller.role == Role::User || self.owns(row) {
            return Ok(());
        }
        let (action, id) = (format!("request.{action}"), row.id.to_string());
        self.toolbox.audit(conn, &self.caller.username, &action, &id, detail).await
    }
}

/// What asks for the same as a request that was made before.
fn same_as(row: &FileRequest) -> Result<NewFileRequest> {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(NewFileRequest {
        file_type: row.file_type.clone(),
        criteria: row.criteria()?,
        format: given(&row.format),
        requester: Requester { id: row.requester.clone(), email: row.requester_email.clone() },
        filename: None,
        description: given(&row.description),
        language: given(&row.requester_language),
        timezone: given(&row.requester_timezone),
        // It was loosened for that one request only.
        requester_only: row.requester_only.filter(|only| *only),
        notify: Some(row.notify),
    })
}
