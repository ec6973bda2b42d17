//! Links with a row: making, extending and sending them again.
//!
//! ```text
//! actor      what a caller may do with the links of a request, with its line in the audit log
//! tokens     download tokens, and who may use them
//! cache      links that were found good, in memory
//! grants     redeeming a limited link, and the download that it begins
//! receipts   what became of each link
//! files      attaching files to requests, and handing them out
//! ```

mod actor;
pub(super) mod cache;
mod files;
mod grants;
pub(super) mod receipts;
mod tokens;

use std::{num::NonZeroU32, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    auth_token::Role,
    db::Conn,
    error::{Error, Result},
    file_request::{
        FileRequest,
        links::{Link, Wish, store, store::LinkChanges},
        notice::{self, Notice, store::Carrier},
    },
    limits, queue,
    registry::MailKind,
    toolbox::{Toolbox, requests::judge},
};

pub use actor::{ActingOnLinks, Links, LinksOf};
pub use cache::{Opened, Ready};
pub use files::{Download, FileOverrides};
pub use grants::Redeemer;
use tokens::servable;
pub use tokens::{Rules, Visit};

/// As good as for ever.
const AGES: TimeDelta = TimeDelta::days(365 * 100);

/// Most bytes of a link's data, as JSON: it is signed along, and so part of a URL.
const DATA: usize = 2048;
/// Most links of a request that are not over.
const LINKS: i64 = 100;

/// How a link with a row of its own is to be.
#[derive(Clone, Debug, Default)]
pub struct LinkOptions {
    /// Only for the requester, or not; as the request says when `None`.
    pub requester_only: Option<bool>,
    /// How long it works; as the file type says when `None`, and as long as the file stays at most.
    pub max_age: Option<Duration>,
    /// From when it works; at once when `None`.
    pub not_before: Option<DateTime<Utc>>,
    /// How often it can be redeemed, `Some(None)` as often as one likes; as the file type says when
    /// `None`.
    pub max_uses: Option<Option<NonZeroU32>>,
    /// Whether opening it shows a page first, which limited links always do; as the file type says
    /// when `None`.
    pub scanner_safe: Option<bool>,
    /// Signed along; 2 KiB at most.
    pub data: Map<String, Value>,
    /// Who makes it.
    pub created_by: String,
    /// On whose word: links of a `user` are never wider than the file type's policy.
    pub role: Role,
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
    /// Who edits it.
    pub edited_by: String,
    /// On whose word, as with [`LinkOptions::role`].
    pub role: Role,
}

impl Toolbox {
    /// Makes a link with a row, which rules it. It ends with the file at the latest. Answers the
    /// row and the URL. What is wider than the file type's policy is written to the audit log.
    ///
    /// # Errors
    /// [`Error::NotReady`] when there is no file; [`Error::LinkPolicy`] when it may not be as wide;
    /// [`Error::Invalid`] when it should be for the requester and there is none, would never work,
    /// or carries too much; [`Error::Conflict`] when there are 100 already that are not over.
    pub async fn create_link(
        &self,
        conn: impl Into<Conn<'_>>,
        row: &FileRequest,
        options: LinkOptions,
    ) -> Result<(Link, String)> {
        let (now, mut conn) = (self.clock().now(), conn.into());
        servable(row, now)?;
        is_plain(options.not_before)?;
        is_short(&options.data)?;
        let policy = self.link_policy(row.file_type.as_str());
        let wish = Wish {
            requester_only: options.requester_only,
            max_uses: options.max_uses,
            scanner_safe: options.scanner_safe,
            max_age: options.max_age,
        };
        let bound = self.is_bound(row, None);
        let widened = judge(&policy, &wish, bound, options.role)?;
        let filled = policy.filled(wish);
        let link = Link {
            jti: Uuid::new_v4(),
            request_id: row.id,
            // `false` is said where it loosens something, and else left to the request.
            requester_only: wish.requester_only.filter(|only| *only || bound),
            data: options.data,
            created_by: options.created_by,
            created_at: now,
            expires_at: ends(row, filled.max_age, now),
            revoked_at: None,
            not_before: options.not_before,
            max_uses: filled.max_uses.flatten().map(signed),
            uses: 0,
            scanner_safe: filled.scanner_safe.unwrap_or_default(),
            last_used_at: None,
        };
        if self.is_bound(row, Some(&link)) && row.requester.is_none() {
            return Err(Error::invalid("requester_only", "the request has no requester"));
        }
        begins_before_it_ends(&link)?;
        // Others who make one at the same time wait here, and count this one.
        store::hold_request(conn.reborrow(), row.id).await?;
        if store::count_good(conn.reborrow(), row.id, now).await? >= LINKS {
            return Err(too_many());
        }
        store::insert(conn.reborrow(), &link).await?;
        store::recount(conn.reborrow(), row.id).await?;
        if let Some(in_what) = widened {
            self.note_widened(conn, &link, &link.created_by, &in_what).await?;
        }
        let url = self.link_url(row, &link);
        Ok((link, url))
    }

    async fn note_widened(&self, conn: Conn<'_>, link: &Link, by: &str, what: &str) -> Result<()> {
        let detail = format!("{}: {what}", link.jti);
        self.audit(conn, by, "link.widen", &link.request_id.to_string(), &detail).await
    }

    /// The URL of a link with a row.
    pub fn link_url(&self, row: &FileRequest, link: &Link) -> String {
        let bound = self.is_bound(row, Some(link));
        let requester = row.requester.as_deref().filter(|_| bound);
        let token = self.sign(row, link.data.clone(), requester, Some(link.jti));
        self.base_url().join(&format!("/d/{token}"))
    }

    /// Edits a link; URLs that are about follow as soon as the transaction is committed, in every
    /// process. It ends with the file at the latest. What is wider than the file type's policy is
    /// written to the audit log.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a link; [`Error::Conflict`] when it was revoked, or works
    /// again beside 100 others; [`Error::LinkPolicy`] when it may not be as wide;
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
        let now = self.clock().now();
        let before = store::find(conn.reborrow(), jti).await?;
        let before = before.filter(|link| link.request_id == row.id);
        let before = before.ok_or(Error::NotFound("link"))?;
        let ends = edit.max_age.map(|age| ends(row, Some(age), now));
        // An age is one from when the link was made; what ends it sooner widens nothing.
        let later = ends.filter(|at| *at > before.expires_at);
        let wish = Wish {
            max_age: later.and_then(|at| (at - before.created_at).to_std().ok()),
            max_uses: edit.max_uses,
            scanner_safe: edit.scanner_safe,
            requester_only: None,
        };
        let policy = self.link_policy(row.file_type.as_str());
        let widened = judge(&policy, &wish, self.is_bound(row, None), edit.role)?;
        let changes = LinkChanges {
            expires_at: ends,
            not_before: edit.not_before,
            max_uses: edit.max_uses.map(|max| max.map(signed)),
            scanner_safe: edit.scanner_safe,
        };
        self.memory().watch.hold(conn.reborrow()).await?;
        let changed = store::update(conn.reborrow(), row.id, jti, &changes).await?;
        let link = changed.ok_or_else(revoked)?;
        begins_before_it_ends(&link)?;
        store::recount(conn.reborrow(), row.id).await?;
        if before.is_over(now)
            && !link.is_over(now)
            && store::count_good(conn.reborrow(), row.id, now).await? > LINKS
        {
            return Err(too_many());
        }
        if let Some(in_what) = widened {
            self.note_widened(conn, &link, &edit.edited_by, &in_what).await?;
        }
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
        if !store::revoke(conn.reborrow(), row.id, jti, self.clock().now()).await? {
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
        let (now, mut conn) = (self.clock().now(), conn.into());
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
        let domain = self.base_url().host();
        let notice = Notice::about(row.id, row.generation, MailKind::Ready, &domain, now)
            .with_link(jti, &domain);
        notice::store::insert(conn.reborrow(), &notice, Carrier::Anybody).await?;
        queue::push(conn, queue::Wake::notice(notice.id), now).await?;
        Ok(notice)
    }

    /// Who is told about a request.
    pub(in crate::toolbox) fn recipients(&self, row: &FileRequest, kind: MailKind) -> Vec<String> {
        let recipients = match self.registry().get(row.file_type.as_str()) {
            Ok(handler) => handler.recipients(row, kind),
            // Nobody knows this type here; its requester is told all the same.
            Err(_) => vec![row.requester_email.clone()],
        };
        recipients.into_iter().filter(|to| !to.is_empty()).collect()
    }

    /// Gives a request that was just finished the link that its mail carries, where the file type
    /// has a policy, and answers it. One that it has already follows the new file's end.
    pub(in crate::toolbox) async fn standing_link(
        &self,
        conn: impl Into<Conn<'_>>,
        row: &FileRequest,
    ) -> Result<Option<Link>> {
        let mut conn = conn.into();
        let now = self.clock().now();
        let policy = self.link_policy(row.file_type.as_str());
        let ends = ends(row, policy.max_age, now);
        if let Some(jti) = row.link_jti {
            let changes = LinkChanges { expires_at: Some(ends), ..LinkChanges::default() };
            store::update(conn.reborrow(), row.id, jti, &changes).await?;
            return store::find(conn, jti).await;
        }
        if !policy.needs_row() {
            return Ok(None);
        }
        let link = Link {
            jti: Uuid::new_v4(),
            request_id: row.id,
            requester_only: None,
            data: Map::new(),
            created_by: "bgfiles".into(),
            created_at: now,
            expires_at: ends,
            revoked_at: None,
            not_before: None,
            max_uses: policy.max_uses.map(signed),
            uses: 0,
            scanner_safe: policy.scanner_safe,
            last_used_at: None,
        };
        store::insert(conn.reborrow(), &link).await?;
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

fn is_short(data: &Map<String, Value>) -> Result<()> {
    let bytes = serde_json::to_vec(data).map_or(usize::MAX, |text| text.len());
    match bytes <= DATA {
        true => Ok(()),
        false => Err(Error::invalid("data", format!("must be {DATA} bytes of JSON at most"))),
    }
}

fn too_many() -> Error {
    let message =
        format!("the request has {LINKS} links that are not over; revoke one of them first");
    Error::Conflict { code: "too_many_links", message }
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
