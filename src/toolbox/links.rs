//! Links with a row: making, extending and sending them again.

use std::{num::NonZeroU32, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Toolbox, tokens::servable};
use crate::{
    db::Conn,
    error::{Error, Result},
    file_request::{
        FileRequest,
        links::{Link, store, store::LinkChanges},
        notice::{self, Notice, store::Carrier},
    },
    limits, queue,
    registry::MailKind,
};

/// As good as for ever.
const AGES: TimeDelta = TimeDelta::days(365 * 100);

/// How a link with a row of its own is to be.
#[derive(Clone, Debug, Default)]
pub struct LinkOptions {
    /// Only for the requester; as the request says when `None`.
    pub requester_only: Option<bool>,
    /// How long it works; as long as the file stays when `None`.
    pub max_age: Option<Duration>,
    /// From when it works; at once when `None`.
    pub not_before: Option<DateTime<Utc>>,
    /// How often it can be redeemed; as often as one likes when `None`.
    pub max_uses: Option<NonZeroU32>,
    /// Whether opening it shows a page first. Limited links always do.
    pub scanner_safe: bool,
    /// Signed along.
    pub data: Map<String, Value>,
    /// Who makes it.
    pub created_by: String,
}

/// What an edit of a link changes; `None` leaves as it is.
#[derive(Clone, Debug, Default)]
pub struct LinkEdit {
    /// How long it works from now on.
    pub max_age: Option<Duration>,
    /// From when; `Some(None)` at once.
    pub not_before: Option<Option<DateTime<Utc>>>,
    /// How often in all; `Some(None)` as often as one likes.
    pub max_uses: Option<Option<NonZeroU32>>,
    /// Whether opening it shows a page first.
    pub scanner_safe: Option<bool>,
}

impl Toolbox {
    /// Makes a link with a row, which rules it. It ends with the file at the latest. Answers the
    /// row and the URL.
    ///
    /// # Errors
    /// [`Error::NotReady`] when there is no file; [`Error::Invalid`] when it should be for the
    /// requester and there is none, or would never work.
    pub async fn create_link(
        &self,
        conn: impl Into<Conn<'_>>,
        row: &FileRequest,
        options: LinkOptions,
    ) -> Result<(Link, String)> {
        let (now, mut conn) = (self.clock.now(), conn.into());
        servable(row, now)?;
        is_plain(options.not_before)?;
        let requester_only = options.requester_only.unwrap_or(row.requester_only);
        if requester_only && row.requester.is_none() {
            return Err(Error::invalid("requester_only", "the request has no requester"));
        }
        let link = Link {
            jti: Uuid::new_v4(),
            request_id: row.id,
            requester_only,
            data: options.data,
            created_by: options.created_by,
            created_at: now,
            expires_at: ends(row, options.max_age, now),
            revoked_at: None,
            not_before: options.not_before,
            max_uses: options.max_uses.map(signed),
            uses: 0,
            scanner_safe: options.scanner_safe,
            last_used_at: None,
        };
        begins_before_it_ends(&link)?;
        store::insert(conn.reborrow(), &link).await?;
        store::recount(conn, row.id).await?;
        let url = self.link_url(row, &link);
        Ok((link, url))
    }

    /// The URL of a link with a row.
    pub fn link_url(&self, row: &FileRequest, link: &Link) -> String {
        let requester = row.requester.as_deref().filter(|_| link.requester_only);
        let token = self.sign(row, link.data.clone(), requester, Some(link.jti));
        self.base_url.join(&format!("/d/{token}"))
    }

    /// Edits a link; URLs that are about follow as soon as the transaction is committed, in every
    /// process. It ends with the file at the latest.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a link; [`Error::Conflict`] when it was revoked;
    /// [`Error::Invalid`] when it would never work.
    pub async fn extend_link(
        &self,
        conn: impl Into<Conn<'_>>,
        row: &FileRequest,
        jti: Uuid,
        edit: LinkEdit,
    ) -> Result<Link> {
        is_plain(edit.not_before.flatten())?;
        let mut conn = conn.into();
        let now = self.clock.now();
        let changes = LinkChanges {
            expires_at: edit.max_age.map(|age| ends(row, Some(age), now)),
            not_before: edit.not_before,
            max_uses: edit.max_uses.map(|max| max.map(signed)),
            scanner_safe: edit.scanner_safe,
        };
        self.memory().watch.hold(conn.reborrow()).await?;
        let Some(link) = store::update(conn.reborrow(), row.id, jti, &changes).await? else {
            let link = store::find(conn, jti).await?.filter(|link| link.request_id == row.id);
            return Err(match link {
                None => Error::NotFound("link"),
                Some(_) => revoked(),
            });
        };
        begins_before_it_ends(&link)?;
        store::recount(conn, row.id).await?;
        Ok(link)
    }

    /// Revokes a link: once the transaction is committed nobody gets anything by it, in no process,
    /// running answers apart. Until then links are looked up each time, so commit soon.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a link.
    pub async fn revoke_link(
        &self,
        conn: impl Into<Conn<'_>>,
        row: &FileRequest,
        jti: Uuid,
    ) -> Result<()> {
        let mut conn = conn.into();
        self.memory().watch.hold(conn.reborrow()).await?;
        if !store::revoke(conn.reborrow(), row.id, jti, self.clock.now()).await? {
            return Err(Error::NotFound("link"));
        }
        store::recount(conn, row.id).await
    }

    /// Mails a link (again) to whoever is told about the request.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a link; [`Error::Conflict`] when it cannot be used or there
    /// is nobody to mail; [`Error::NotReady`] when there is no file.
    pub async fn send_link(
        &self,
        conn: impl Into<Conn<'_>>,
        row: &FileRequest,
        jti: Uuid,
    ) -> Result<Notice> {
        let (now, mut conn) = (self.clock.now(), conn.into());
        servable(row, now)?;
        let link = store::find(conn.reborrow(), jti).await?;
        let link = link.filter(|link| link.request_id == row.id).ok_or(Error::NotFound("link"))?;
        match link.denial(now) {
            None | Some(Error::LinkNotYetValid) => {}
            Some(Error::LinkRevoked) => return Err(revoked()),
            Some(denial) => {
                let message = format!("{denial}; extend it first");
                return Err(Error::Conflict { code: "link_over", message });
            }
        }
        if self.recipients(row, MailKind::Ready).is_empty() {
            let message = "the request names nobody to mail".into();
            return Err(Error::Conflict { code: "no_recipient", message });
        }
        let domain = self.base_url.host();
        let notice = Notice::about(row.id, row.generation, MailKind::Ready, &domain, now)
            .with_link(jti, &domain);
        notice::store::insert(conn.reborrow(), &notice, Carrier::Anybody).await?;
        queue::push(conn, queue::Wake::notice(notice.id), now).await?;
        Ok(notice)
    }

    /// Who is told about a request.
    pub(super) fn recipients(&self, row: &FileRequest, kind: MailKind) -> Vec<String> {
        let recipients = match self.registry.get(row.file_type.as_str()) {
            Ok(handler) => handler.recipients(row, kind),
            // Nobody knows this type here; its requester is told all the same.
            Err(_) => vec![row.requester_email.clone()],
        };
        recipients.into_iter().filter(|to| !to.is_empty()).collect()
    }

    /// Gives a request that was just finished the link that its mail carries, where the file type
    /// has a policy, and answers it. One that it has already follows the new file's end.
    pub(super) async fn standing_link(
        &self,
        conn: impl Into<Conn<'_>>,
        row: &FileRequest,
    ) -> Result<Option<Link>> {
        let mut conn = conn.into();
        if let Some(jti) = row.link_jti {
            let ends = ends(row, None, self.clock.now());
            let changes = LinkChanges { expires_at: Some(ends), ..LinkChanges::default() };
            store::update(conn.reborrow(), row.id, jti, &changes).await?;
            return store::find(conn, jti).await;
        }
        let policy = match self.registry.get(row.file_type.as_str()) {
            Ok(handler) => handler.link_policy(),
            Err(_) => return Ok(None),
        };
        if !policy.needs_row() {
            return Ok(None);
        }
        let options = LinkOptions {
            requester_only: Some(row.requester_only && row.requester.is_some()),
            max_uses: policy.max_uses,
            scanner_safe: policy.scanner_safe,
            created_by: "bgfiles".into(),
            ..LinkOptions::default()
        };
        let (link, _) = self.create_link(conn.reborrow(), row, options).await?;
        store::set_standing(conn.reborrow(), row.id, link.jti).await?;
        store::recount(conn, row.id).await?;
        Ok(Some(link))
    }
}

fn ends(row: &FileRequest, max_age: Option<Duration>, now: DateTime<Utc>) -> DateTime<Utc> {
    let age = max_age.and_then(|age| TimeDelta::from_std(age).ok());
    let asked = age.and_then(|age| now.checked_add_signed(age));
    [asked, row.expires_at].into_iter().flatten().min().unwrap_or(now + AGES)
}

fn signed(uses: NonZeroU32) -> i32 {
    i32::try_from(uses.get()).unwrap_or(i32::MAX)
}

fn is_plain(not_before: Option<DateTime<Utc>>) -> Result<()> {
    match not_before.is_none_or(limits::is_plain) {
        true => Ok(()),
        false => Err(Error::invalid("not_before", limits::PLAIN_TIME)),
    }
}

fn begins_before_it_ends(link: &Link) -> Result<()> {
    if link.not_before.is_some_and(|at| at >= link.expires_at) {
        let message = format!(
            "the link ends at {}, before it begins",
            link.expires_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
        );
        return Err(Error::invalid("not_before", message));
    }
    Ok(())
}

fn revoked() -> Error {
    Error::Conflict { code: "link_revoked", message: "the link was revoked; make a new one".into() }
}
