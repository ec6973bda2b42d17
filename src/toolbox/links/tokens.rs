//! Download tokens: making them, and deciding who may use one.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    file_request::{
        FileRequest, Status,
        links::{self, Link},
        store,
    },
    signer::{Claims, Signer, Verified},
    toolbox::Toolbox,
};

/// What [`Toolbox::evaluate_request`] insists on; dj-bgfiles's two flags.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The token must name a requester.
    pub require_requester: bool,
    /// The caller must be the request's requester.
    pub verify_requester: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Rules { require_requester: true, verify_requester: true }
    }
}

/// A token that is ours, what it is about, and whether it may be used.
#[derive(Debug)]
pub struct Visit {
    /// What it says.
    pub claims: Claims,
    /// The request it names.
    pub row: FileRequest,
    /// The row that rules it.
    pub link: Option<Link>,
    /// Whether it is for the requester alone, by what it says itself or by what its file type, its
    /// request and its row say now.
    pub bound: bool,
    /// Whether it may be used by this caller now. [`Error::ConfirmationNeeded`] is not among the
    /// answers; see [`Visit::waits_for_confirmation`].
    pub verdict: Result<()>,
}

/// A token, and what it names.
struct Found {
    claims: Claims,
    row: FileRequest,
    link: Option<Link>,
    /// Whether the token is still good for the row, its link's row apart.
    valid: Result<()>,
    /// The signer that counts for the row's file type.
    signer: Signer,
    verified: Verified,
}

impl Visit {
    /// Whether opening the link shows a page, and a POST downloads.
    pub fn waits_for_confirmation(&self) -> bool {
        self.link.as_ref().is_some_and(Link::waits_for_confirmation)
    }
}

impl Toolbox {
    /// The signer of a file type: the handler's own or the configured one.
    pub(in crate::toolbox) fn signer_for(&self, file_type: &str) -> Signer {
        let own = self.registry().get(file_type).ok().and_then(|handler| handler.signer());
        own.unwrap_or_else(|| self.signer().clone())
    }

    /// A token that only the requester may use, with the handler's and `extra` data.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the request has no requester.
    pub fn create_token(&self, row: &FileRequest, extra: Map<String, Value>) -> Result<String> {
        if row.requester.is_none() {
            return Err(Error::invalid("requester.id", "is needed to make a link for a requester"));
        }
        Ok(self.sign(row, extra, row.requester.as_deref(), None))
    }

    /// A token that whoever has it may use, unless the file type or the request say that links are
    /// for the requester alone: that is asked when it is used.
    pub fn create_general_token(&self, row: &FileRequest, extra: Map<String, Value>) -> String {
        self.sign(row, extra, None, None)
    }

    pub(in crate::toolbox) fn sign(
        &self,
        row: &FileRequest,
        extra: Map<String, Value>,
        requester: Option<&str>,
        jti: Option<Uuid>,
    ) -> String {
        self.sign_at(row, extra, requester, jti, self.clock().now())
    }

    pub(in crate::toolbox) fn sign_at(
        &self,
        row: &FileRequest,
        extra: Map<String, Value>,
        requester: Option<&str>,
        jti: Option<Uuid>,
        signed_at: DateTime<Utc>,
    ) -> String {
        let handler = self.registry().get(row.file_type.as_str()).ok();
        let mut data = handler.map(|h| h.token_data(row)).unwrap_or_default();
        data.extend(extra);
        for reserved in ["requester", "jti"] {
            data.remove(reserved);
        }
        data.insert("id".into(), row.id.to_string().into());
        if let Some(requester) = requester {
            data.insert("requester".into(), requester.into());
        }
        if let Some(jti) = jti {
            data.insert("jti".into(), jti.to_string().into());
        }
        self.signer_for(row.file_type.as_str()).sign(&Value::Object(data), signed_at)
    }

    /// The link as the request's own rule wants it: what the mail carries.
    pub fn download_url(&self, row: &FileRequest) -> String {
        self.download_url_of(row, self.clock().now())
    }

    /// The claims of a token and the request they name.
    ///
    /// # Errors
    /// [`Error::BadToken`] and [`Error::LinkExpired`] as the signer says, and when a requester is
    /// required and none is named (before the row is looked at, as in dj-bgfiles);
    /// [`Error::NotFound`] when the row is gone or its requester changed since; what the link's
    /// own row says.
    pub async fn decode(
        &self,
        token: &str,
        require_requester: bool,
    ) -> Result<(Claims, FileRequest)> {
        let Found { claims, row, link, valid, .. } = self.look_up(token, require_requester).await?;
        valid?;
        match link.and_then(|link| link.denial(self.clock().now())) {
            Some(denial) => Err(denial),
            None => Ok((claims, row)),
        }
    }

    /// Everything that a token names.
    async fn look_up(&self, token: &str, require_requester: bool) -> Result<Found> {
        let now = self.clock().now();
        // A handler may sign with keys of its own; which handler it is stands in the row that the
        // token names. So every signer is asked, the configured one first.
        let (signer, verified, by_ours) = self.signer_of(token)?;
        let claims = Claims::try_from(verified.data.clone())?;
        // A link with a row lasts as long as the row says.
        let fresh = |signer: &Signer| match claims.jti {
            Some(_) => Ok(()),
            None => signer.check_age(&verified, now),
        };
        let aged = fresh(&signer);
        if require_requester && claims.requester.is_none() {
            aged?;
            return Err(Error::BadToken("it names no requester"));
        }
        // No transaction: each row is judged by itself.
        let mut conn = self.db().acquire().await?;
        let Some(row) = store::find(&mut conn, claims.id).await? else {
            aged?;
            return Err(Error::NotFound("file"));
        };
        // The handler's signer alone counts for its files: a key of one type opens no other.
        let own = self.registry().get(row.file_type.as_str()).ok().and_then(|h| h.signer());
        let own = match own {
            Some(own) => {
                own.verify_signature(token)?;
                own
            }
            None if by_ours => signer,
            // Signed by another type's handler.
            None => return Err(Error::BadToken("its signature is wrong")),
        };
        let link = match claims.jti {
            Some(jti) => {
                let link = links::store::find(&mut conn, jti).await?;
                Some(link.filter(|link| link.request_id == row.id).ok_or(Error::LinkRevoked)?)
            }
            None => None,
        };
        let valid = fresh(&own).and_then(|()| {
            if row.links_from.is_some_and(|from| verified.signed_at < from) {
                return Err(Error::LinkRevoked);
            }
            let changed = claims.requester.is_some() && claims.requester != row.requester;
            if changed { Err(Error::NotFound("file")) } else { Ok(()) }
        });
        Ok(Found { claims, row, link, valid, signer: own, verified })
    }

    /// Whose token it is; and whether that is the configured signer.
    fn signer_of(&self, token: &str) -> Result<(Signer, Verified, bool)> {
        let first = match self.signer().verify_signature(token) {
            Ok(verified) => return Ok((self.signer().clone(), verified, true)),
            Err(error) => error,
        };
        let own = self.registry().iter().filter_map(|handler| handler.signer());
        let mut known = own.filter_map(|signer| {
            let verified = signer.verify_signature(token).ok()?;
            Some((signer, verified, false))
        });
        known.next().ok_or(first)
    }

    /// What a token is about, and whether `caller` may use it, under the rules that it carries
    /// itself: a link that names a requester is for them alone, any other is for whoever has it.
    ///
    /// # Errors
    /// When it is none of ours or its request is gone; what can be said of the link itself is the
    /// [`Visit::verdict`].
    pub async fn visit(&self, token: &str, caller: Option<&str>) -> Result<Visit> {
        Ok(self.visit_by(token, caller).await?.0)
    }

    /// As [`Toolbox::visit`], with whose signature it is.
    pub(in crate::toolbox) async fn visit_by(
        &self,
        token: &str,
        caller: Option<&str>,
    ) -> Result<(Visit, Signer, Verified)> {
        let Found { claims, row, link, valid, signer, verified } =
            self.look_up(token, false).await?;
        let now = self.clock().now();
        let bound = claims.requester.is_some() || self.is_bound(&row, link.as_ref());
        let verdict = valid.and_then(|()| {
            if let Some(denial) = link.as_ref().and_then(|link| link.denial(now)) {
                return Err(denial);
            }
            if bound && !is_requester(&row, caller) {
                return Err(Error::NotRequester);
            }
            servable(&row, now)
        });
        Ok((Visit { claims, row, link, bound, verdict }, signer, verified))
    }

    /// The request of a token, if `caller` may have its file under `rules`.
    ///
    /// # Errors
    /// As [`Toolbox::decode`]; [`Error::NotRequester`], also where the file type or the request let
    /// the requester alone; [`Error::FileExpired`] and
    /// [`Error::NotReady`] when there is no file to serve; [`Error::ConfirmationNeeded`] for a
    /// link that must be redeemed.
    pub async fn evaluate_request(
        &self,
        token: &str,
        caller: Option<&str>,
        rules: Rules,
    ) -> Result<FileRequest> {
        let now = self.clock().now();
        let Found { row, link, valid, .. } = self.look_up(token, rules.require_requester).await?;
        valid?;
        if let Some(denial) = link.as_ref().and_then(|link| link.denial(now)) {
            return Err(denial);
        }
        let verify = rules.verify_requester || self.is_bound(&row, link.as_ref());
        if verify && !is_requester(&row, caller) {
            return Err(Error::NotRequester);
        }
        servable(&row, now)?;
        match link.is_some_and(|link| link.waits_for_confirmation()) {
            true => Err(Error::ConfirmationNeeded),
            false => Ok(row),
        }
    }

    /// As [`Toolbox::evaluate_request`] with the rules that the token itself carries.
    ///
    /// # Errors
    /// As [`Toolbox::evaluate_request`].
    pub async fn evaluate_link(&self, token: &str, caller: Option<&str>) -> Result<FileRequest> {
        let visit = self.visit(token, caller).await?;
        let waits = visit.waits_for_confirmation();
        visit.verdict?;
        if waits { Err(Error::ConfirmationNeeded) } else { Ok(visit.row) }
    }
}

/// Whether `caller` is who asked. A request without a requester is nobody's.
pub(in crate::toolbox) fn is_requester(row: &FileRequest, caller: Option<&str>) -> bool {
    caller.is_some() && caller == row.requester.as_deref()
}

/// Whether there is a file to serve.
pub(in crate::toolbox) fn servable(row: &FileRequest, now: DateTime<Utc>) -> Result<()> {
    if row.is_expired(now) {
        return Err(Error::FileExpired);
    }
    has_file(row)
}

pub(in crate::toolbox) fn has_file(row: &FileRequest) -> Result<()> {
    if row.status == Status::Expired {
        return Err(Error::FileExpired);
    }
    if row.status != Status::Finished {
        return Err(Error::NotReady(row.status.as_str()));
    }
    if row.storage_key.is_none() {
        return Err(Error::FileLost("where it is was not written down"));
    }
    Ok(())
}
