//! Links: making them, and deciding who may use one.

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Toolbox;
use crate::{
    db::Conn,
    error::{Error, Result},
    file_request::{FileRequest, Status, links, store},
    signer::{Claims, Signer},
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

/// How a link with a row of its own is to be.
#[derive(Clone, Debug, Default)]
pub struct LinkOptions {
    /// Only for the requester; as the request says when `None`.
    pub requester_only: Option<bool>,
    /// How long it works; the signer's age when `None`.
    pub max_age: Option<Duration>,
    /// Signed along.
    pub data: Map<String, Value>,
    /// Who makes it.
    pub created_by: String,
}

impl Toolbox {
    /// The signer of a file type: the handler's own or the configured one.
    fn signer_for(&self, file_type: &str) -> Signer {
        let own = self.registry.get(file_type).ok().and_then(|handler| handler.signer());
        own.unwrap_or_else(|| self.signer.clone())
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

    /// A token that whoever has it may use.
    pub fn create_general_token(&self, row: &FileRequest, extra: Map<String, Value>) -> String {
        self.sign(row, extra, None, None)
    }

    fn sign(
        &self,
        row: &FileRequest,
        extra: Map<String, Value>,
        requester: Option<&str>,
        jti: Option<Uuid>,
    ) -> String {
        let handler = self.registry.get(row.file_type.as_str()).ok();
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
        self.signer_for(row.file_type.as_str()).sign(&Value::Object(data), self.clock.now())
    }

    /// The link as the request's own rule wants it: what the mail carries.
    pub fn download_url(&self, row: &FileRequest) -> String {
        let token = match &row.requester {
            Some(requester) if row.requester_only => {
                self.sign(row, Map::new(), Some(requester), None)
            }
            _ => self.create_general_token(row, Map::new()),
        };
        self.base_url.join(&format!("/d/{token}"))
    }

    /// Makes a link that can be listed and revoked. Answers its row and its URL.
    ///
    /// # Errors
    /// [`Error::NotReady`] when there is no file; [`Error::Invalid`] when it should be for the
    /// requester and there is none, or should work longer than the file stays.
    pub async fn create_link(
        &self,
        conn: impl Into<Conn<'_>>,
        row: &FileRequest,
        options: LinkOptions,
    ) -> Result<(links::Link, String)> {
        let now = self.clock.now();
        servable(row, now)?;
        let requester_only = options.requester_only.unwrap_or(row.requester_only);
        if requester_only && row.requester.is_none() {
            return Err(Error::invalid("requester_only", "the request has no requester"));
        }
        let signer = self.signer_for(row.file_type.as_str());
        let file_ends = row.expires_at;
        let signed_until = signer.max_age().map(|age| now + delta(age));
        let asked = options.max_age.map(|age| now + delta(age));
        if let (Some(asked), Some(signed)) = (asked, signed_until)
            && asked > signed
        {
            return Err(Error::invalid(
                "max_age",
                format!("links work for {} seconds at most", (signed - now).num_seconds()),
            ));
        }
        let ends = [asked, signed_until, file_ends].into_iter().flatten().min();
        let link = links::Link {
            jti: Uuid::new_v4(),
            request_id: row.id,
            requester_only,
            data: options.data.clone(),
            created_by: options.created_by,
            created_at: now,
            expires_at: ends.unwrap_or(now + TimeDelta::days(365 * 100)),
            revoked_at: None,
        };
        links::store::insert(conn, &link).await?;
        let requester = requester_only.then_some(row.requester.as_deref()).flatten();
        let token = self.sign(row, options.data, requester, Some(link.jti));
        Ok((link, self.base_url.join(&format!("/d/{token}"))))
    }

    /// The claims of a token and the request they name.
    ///
    /// # Errors
    /// [`Error::BadToken`] and [`Error::LinkExpired`] as the signer says, and when a requester is
    /// required and none is named (before the row is looked at, as in dj-bgfiles);
    /// [`Error::NotFound`] when the row is gone or its requester changed since.
    pub async fn decode(
        &self,
        token: &str,
        require_requester: bool,
    ) -> Result<(Claims, FileRequest)> {
        let now = self.clock.now();
        // A handler may sign with keys of its own; which handler it is stands in the row that the
        // token names. So every signer is asked, the configured one first.
        let own = self.registry.iter().filter_map(|handler| handler.signer());
        let mut verified = self.signer.verify(token, now);
        for signer in own {
            verified = match (verified, signer.verify(token, now)) {
                (Ok(found), _) | (Err(_), Ok(found)) => Ok(found),
                // That a signer knows the token says more than that another does not.
                (Err(Error::LinkExpired), Err(_)) | (Err(_), Err(Error::LinkExpired)) => {
                    Err(Error::LinkExpired)
                }
                (Err(first), Err(_)) => Err(first),
            };
        }
        let verified = verified?;
        let claims = Claims::try_from(verified.data)?;
        if require_requester && claims.requester.is_none() {
            return Err(Error::BadToken("it names no requester"));
        }
        let mut tx = self.db.read().await?;
        let row = store::find(&mut tx, claims.id).await?.ok_or(Error::NotFound("file"))?;
        // The handler's signer alone counts for its files: a key of one type opens no other.
        self.signer_for(row.file_type.as_str()).verify(token, now)?;
        if claims.requester.is_some() && claims.requester != row.requester {
            return Err(Error::NotFound("file"));
        }
        if let Some(jti) = claims.jti {
            let link = links::store::find(&mut tx, jti).await?;
            let link = link.filter(|link| link.request_id == row.id).ok_or(Error::LinkRevoked)?;
            if link.revoked_at.is_some() {
                return Err(Error::LinkRevoked);
            }
            if link.expires_at <= now {
                return Err(Error::LinkExpired);
            }
        }
        Ok((claims, row))
    }

    /// The request of a token, if `caller` may have its file under `rules`.
    ///
    /// # Errors
    /// As [`Toolbox::decode`]; [`Error::NotRequester`]; [`Error::FileExpired`] and
    /// [`Error::NotReady`] when there is no file to serve.
    pub async fn evaluate_request(
        &self,
        token: &str,
        caller: Option<&str>,
        rules: Rules,
    ) -> Result<FileRequest> {
        let (_, row) = self.decode(token, rules.require_requester).await?;
        if rules.verify_requester && (caller.is_none() || caller != row.requester.as_deref()) {
            return Err(Error::NotRequester);
        }
        servable(&row, self.clock.now())?;
        Ok(row)
    }

    /// As [`Toolbox::evaluate_request`] with the rules that the token itself carries: a link that
    /// names a requester is for them alone, any other is for whoever has it.
    ///
    /// # Errors
    /// As [`Toolbox::evaluate_request`].
    pub async fn evaluate_link(&self, token: &str, caller: Option<&str>) -> Result<FileRequest> {
        let (claims, row) = self.decode(token, false).await?;
        if claims.requester.is_some() && caller != row.requester.as_deref() {
            return Err(Error::NotRequester);
        }
        servable(&row, self.clock.now())?;
        Ok(row)
    }
}

fn servable(row: &FileRequest, now: chrono::DateTime<chrono::Utc>) -> Result<()> {
    if row.is_expired(now) {
        return Err(Error::FileExpired);
    }
    if row.status != Status::Finished || row.storage_key.is_none() {
        return Err(Error::NotReady(row.status.as_str()));
    }
    Ok(())
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::days(365 * 100))
}
