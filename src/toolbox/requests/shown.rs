//! A request as its readers see it, and changes that count on what was seen.

use chrono::{DateTime, Utc};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};

use crate::{
    auth_token::Role,
    db::Conn,
    error::{Error, Result},
    file_request::{FileRequest, Shown, Status, links, store},
    ids::{RequestId, hex},
    toolbox::Toolbox,
};

/// What a change counts on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: the request is changed as it is.
    #[default]
    Anything,
    /// That the request has one of these tags ([`Toolbox::request_tag`]).
    OneOf(Vec<String>),
}

impl Expected {
    /// Whether a request with this tag is what is counted on.
    pub fn meets(&self, tag: &str) -> bool {
        match self {
            Expected::Anything => true,
            Expected::OneOf(tags) => tags.iter().any(|known| known == tag),
        }
    }
}

impl Toolbox {
    /// A request, with a link while there is a file to download; for staff with what its error came
    /// of.
    pub fn shown(&self, row: &FileRequest, reader: Role) -> Shown {
        let url = (row.status == Status::Finished && !row.is_expired(self.clock().now()))
            .then(|| self.steady_url(row));
        let mut shown = Shown::of(row, url);
        if reader == Role::Staff
            && let Some(error) = &mut shown.error
        {
            error.cause = Some(row.error_cause.clone());
        }
        shown
    }

    /// A strong entity tag, quotes included: another one whenever the JSON is another one, whoever
    /// reads it.
    pub fn request_tag(&self, row: &FileRequest) -> String {
        let all = json!(self.shown(row, Role::Staff)).to_string();
        format!("\"{}\"", &hex(&Sha256::digest(all))[..32])
    }

    /// As [`Toolbox::download_url`], but the same text for half of the time that a link is good. It
    /// is good for the other half at least, and never for longer than a link that is signed now.
    pub fn steady_url(&self, row: &FileRequest) -> String {
        self.download_url_of(row, self.steady_time(row))
    }

    /// The last of the moments, half an age apart since the file was made, at which links to it are
    /// signed.
    fn steady_time(&self, row: &FileRequest) -> DateTime<Utc> {
        let now = self.clock().now();
        // Signatures count whole seconds, and none may be from before `links_from`.
        let made = row.finished_at.map_or(i64::MAX, |at| at.timestamp());
        let since = row
            .links_from
            .map(|from| from.timestamp() + i64::from(from.timestamp_subsec_nanos() > 0));
        let begin = made.max(since.unwrap_or(i64::MIN));
        let passed = now.timestamp().checked_sub(begin).filter(|passed| *passed >= 0);
        let age = self.signer_for(row.file_type.as_str()).max_age();
        let steady = match (passed, age) {
            (None, _) => None,
            (Some(_), None) => Some(begin),
            (Some(passed), Some(age)) => {
                let half = i64::try_from(age.as_secs() / 2).unwrap_or(i64::MAX);
                (half > 0).then(|| begin + passed / half * half)
            }
        };
        steady.and_then(|at| DateTime::from_timestamp(at, 0)).unwrap_or(now)
    }

    /// Makes sure that a request is as expected, and keeps others from changing it until the end of
    /// the transaction.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`]; [`Error::NotFound`] without the request.
    pub async fn expect(
        &self,
        conn: impl Into<Conn<'_>>,
        id: RequestId,
        expected: &Expected,
    ) -> Result<()> {
        if *expected == Expected::Anything {
            return Ok(());
        }
        let mut conn = conn.into();
        links::store::hold_request(conn.reborrow(), id).await?;
        let row = store::find(conn, id).await?.ok_or(Error::NotFound("request"))?;
        match expected.meets(&self.request_tag(&row)) {
            true => Ok(()),
            false => Err(Error::PreconditionFailed),
        }
    }

    pub(in crate::toolbox) fn download_url_of(
        &self,
        row: &FileRequest,
        signed_at: DateTime<Utc>,
    ) -> String {
        let bound = self.is_bound(row, None);
        let requester = row.requester.as_deref().filter(|_| bound);
        let token = self.sign_at(row, Map::new(), requester, row.link_jti, signed_at);
        self.base_url().join(&format!("/d/{token}"))
    }
}
