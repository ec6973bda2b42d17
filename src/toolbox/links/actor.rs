//! What a caller may do with the links of a request, and the line that the audit log gets of it.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{LinkEdit, LinkOptions};
use crate::{
    auth_token::Caller,
    db::{Conn, Tx},
    error::Result,
    file_request::{
        FileRequest,
        links::{HitRow, Link, line, store},
        notice::Notice,
    },
    ids::RequestId,
    lock_token::Resource,
    toolbox::{ActingOnRequests, Editor, Toolbox},
};

/// Links; made by [`Toolbox::links`].
#[derive(Clone, Copy, Debug)]
pub struct Links<'a> {
    toolbox: &'a Toolbox,
}

impl Toolbox {
    /// What can be done with links on somebody's word.
    pub fn links(&self) -> Links<'_> {
        Links { toolbox: self }
    }
}

impl<'a> Links<'a> {
    /// What `caller` may see and do: with the links of requests that they may see. What
    /// applications and staff do to somebody else's is written to the audit log.
    pub fn by(self, caller: &'a Caller) -> ActingOnLinks<'a> {
        ActingOnLinks { requests: self.toolbox.requests().by(caller) }
    }
}

/// Links as a caller may see and handle them; made by [`Links::by`].
#[derive(Clone, Debug)]
pub struct ActingOnLinks<'a> {
    requests: ActingOnRequests<'a>,
}

impl<'a> ActingOnLinks<'a> {
    /// Those of a request.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] without the request, or when it is not for the caller.
    pub async fn of(self, id: RequestId) -> Result<LinksOf<'a>> {
        let request = self.requests.find(id).await?;
        Ok(LinksOf { requests: self.requests, request })
    }

    /// As [`ActingOnLinks::of`].
    ///
    /// # Errors
    /// As there.
    pub async fn of_in(self, conn: impl Into<Conn<'_>>, id: RequestId) -> Result<LinksOf<'a>> {
        let request = self.requests.find_in(conn, id).await?;
        Ok(LinksOf { requests: self.requests, request })
    }
}

/// The links of a request that a caller may see; made by [`ActingOnLinks::of`].
///
/// An operation has a transaction of its own; the one with `_in` at the end of its name is in that
/// of the host application, and takes effect with it.
#[derive(Clone, Debug)]
pub struct LinksOf<'a> {
    requests: ActingOnRequests<'a>,
    request: FileRequest,
}

impl<'a> LinksOf<'a> {
    /// The request, as it was found.
    pub fn request(&self) -> &FileRequest {
        &self.request
    }

    fn toolbox(&self) -> &'a Toolbox {
        self.requests.toolbox()
    }

    fn caller(&self) -> &'a Caller {
        self.requests.caller()
    }

    /// Links, newest first, at most `limit`: those before a link (when it was made, and its `jti`),
    /// or from the newest on.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(
        &self,
        before: Option<(DateTime<Utc>, Uuid)>,
        limit: i64,
    ) -> Result<Vec<Link>> {
        store::list(&mut self.toolbox().db().acquire().await?, self.request.id, before, limit).await
    }

    /// What happened to one of them, or to all, the newest first, at most `limit`: lines before one,
    /// or from the newest on.
    ///
    /// # Errors
    /// The database's.
    pub async fn log(
        &self,
        jti: Option<Uuid>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<HitRow>> {
        let (toolbox, id) = (self.toolbox(), self.request.id);
        toolbox.flush_receipts().await?;
        line::store::hits(&mut toolbox.db().acquire().await?, id, jti, before, limit).await
    }

    /// Makes a link, on the caller's word, whatever `created_by` and `role` of the options say.
    /// Answers the row and the URL.
    ///
    /// # Errors
    /// As [`Toolbox::create_link`].
    pub async fn create(&self, options: LinkOptions) -> Result<(Link, String)> {
        let mut tx = self.toolbox().db().begin().await?;
        let made = self.create_in(&mut tx, options).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// As [`LinksOf::create`].
    ///
    /// # Errors
    /// As there.
    pub async fn create_in(
        &self,
        conn: impl Into<Conn<'_>>,
        mut options: LinkOptions,
    ) -> Result<(Link, String)> {
        let mut conn = conn.into();
        options.created_by = self.caller().username.clone();
        options.role = self.caller().role;
        let made = self.toolbox().create_link(conn.reborrow(), &self.request, options).await?;
        self.note(conn, "link", made.0.jti).await?;
        Ok(made)
    }

    /// Edits a link, on the caller's word, whatever `edited_by` and `role` of the edit say, unless
    /// somebody else edits the request.
    ///
    /// # Errors
    /// As [`Toolbox::extend_link`] and [`Toolbox::begin_edit`].
    pub async fn extend(&self, jti: Uuid, edit: LinkEdit, editor: Editor<'_>) -> Result<Link> {
        let mut tx = self.toolbox().db().begin().await?;
        let link = self.extend_in(&mut tx, jti, edit, editor).await?;
        tx.commit().await?;
        Ok(link)
    }

    /// As [`LinksOf::extend`].
    ///
    /// # Errors
    /// As there.
    pub async fn extend_in(
        &self,
        tx: &mut Tx,
        jti: Uuid,
        mut edit: LinkEdit,
        editor: Editor<'_>,
    ) -> Result<Link> {
        let toolbox = self.toolbox();
        edit.edited_by = self.caller().username.clone();
        edit.role = self.caller().role;
        let locked = toolbox.begin_edit(tx, Resource::request(self.request.id), editor).await?;
        let link = toolbox.extend_link(&mut *tx, &self.request, jti, edit).await?;
        self.note(tx.conn(), "extend", jti).await?;
        toolbox.end_edit(tx, locked).await?;
        Ok(link)
    }

    /// Revokes a link: once it returns, nobody gets anything by it, running answers apart.
    ///
    /// # Errors
    /// As [`Toolbox::revoke_link`].
    pub async fn revoke(&self, jti: Uuid) -> Result<()> {
        let mut tx = self.toolbox().db().begin().await?;
        self.revoke_in(&mut tx, jti).await?;
        tx.commit().await
    }

    /// As [`LinksOf::revoke`], once the transaction is committed; so commit soon.
    ///
    /// # Errors
    /// As there.
    pub async fn revoke_in(&self, conn: impl Into<Conn<'_>>, jti: Uuid) -> Result<()> {
        let mut conn = conn.into();
        self.toolbox().revoke_link(conn.reborrow(), &self.request, jti).await?;
        self.note(conn, "revoke", jti).await
    }

    /// Mails a link (again) to whoever is told about the request.
    ///
    /// # Errors
    /// As [`Toolbox::send_link`].
    pub async fn send(&self, jti: Uuid) -> Result<Notice> {
        let mut tx = self.toolbox().db().begin().await?;
        let notice = self.send_in(&mut tx, jti).await?;
        tx.commit().await?;
        Ok(notice)
    }

    /// As [`LinksOf::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send_in(&self, conn: impl Into<Conn<'_>>, jti: Uuid) -> Result<Notice> {
        let mut conn = conn.into();
        let notice = self.toolbox().send_link(conn.reborrow(), &self.request, jti).await?;
        self.note(conn, "mail", jti).await?;
        Ok(notice)
    }

    async fn note(&self, conn: Conn<'_>, action: &str, jti: Uuid) -> Result<()> {
        self.requests.note(conn, &self.request, action, &jti.to_string()).await
    }
}
