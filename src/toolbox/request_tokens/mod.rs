//! Request tokens: issuing them, and admitting who presents one.

mod actor;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use crate::{
    db::Conn,
    error::{Error, Result},
    request_token::{
        Changes, Denial, LoginMode, NewRequestToken, RequestToken, Use, jwt, store, tokenise,
    },
    toolbox::Toolbox,
    visitor::Visitor,
};

pub use crate::request_token::store::Filter as RequestTokenFilter;
pub use actor::{ActingOnRequestTokens, RequestTokens};

/// How long an application has to say how it answered its visitor.
const CONCLUDE_WITHIN: TimeDelta = TimeDelta::minutes(1);

/// The outcome of a use that the token got back.
const GIVEN_BACK: &str = "given_back";

/// A token as somebody presents it.
#[derive(Clone, Debug)]
pub struct Presented<'a> {
    /// The JWT.
    pub jwt: &'a str,
    /// What it is to admit to.
    pub scope: &'a str,
    /// Who is logged in, if anybody.
    pub user: Option<&'a str>,
    /// Where from.
    pub visitor: &'a Visitor,
    /// Whether to log the use; it counts all the same.
    pub log: bool,
}

/// A use that was counted. [`Toolbox::conclude_use`] writes how it was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// The token, this use counted.
    pub token: RequestToken,
    /// Who acts: whoever was logged in, else the token's user where its login mode says so.
    pub user: Option<String>,
    /// Whether a session is to begin for [`Admission::user`].
    pub begins_session: bool,
    logged: Option<i64>,
}

impl Toolbox {
    /// Issues a token.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every wrong field.
    pub async fn create_request_token(
        &self,
        conn: impl Into<Conn<'_>>,
        mut new: NewRequestToken,
    ) -> Result<RequestToken> {
        let (settings, now) = (self.request_token_settings(), self.clock().now());
        if new.login_mode == LoginMode::Session {
            let expiry = TimeDelta::from_std(settings.expiry).unwrap_or(TimeDelta::minutes(10));
            new.expiration_time.get_or_insert(now + expiry);
        }
        new.validate()?;
        let max_uses = new.max_uses.unwrap_or(settings.default_max_uses);
        store::insert(conn, &new, max_uses, now).await
    }

    /// Edits a token; JWTs that are about follow at once. Sets nothing but what is named.
    ///
    /// # Errors
    /// [`Error::Invalid`] on a wrong field; [`Error::NotFound`].
    pub async fn update_request_token(
        &self,
        conn: impl Into<Conn<'_>>,
        id: i64,
        changes: &Changes,
    ) -> Result<RequestToken> {
        changes.validate()?;
        store::update(conn, id, changes).await?.ok_or(Error::NotFound("request token"))
    }

    /// Ends a token: its JWTs admit nobody from now on.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn expire_request_token(
        &self,
        conn: impl Into<Conn<'_>>,
        id: i64,
    ) -> Result<RequestToken> {
        let ended = self.clock().now() - TimeDelta::microseconds(1);
        let changes = Changes { expiration_time: Some(Some(ended)), ..Changes::default() };
        self.update_request_token(conn, id, &changes).await
    }

    /// The JWT of a token.
    ///
    /// # Errors
    /// Only when the library cannot sign.
    pub fn jwt(&self, token: &RequestToken) -> Result<String> {
        self.request_token_settings().keys.sign(&token.claims())
    }

    /// A URL with the token in its query; everything else of it stays.
    ///
    /// # Errors
    /// As [`Toolbox::jwt`].
    pub fn tokenise(&self, token: &RequestToken, url: &str) -> Result<String> {
        Ok(tokenise(url, &self.request_token_settings().querystring, &self.jwt(token)?))
    }

    /// The row of a JWT that we signed, whether or not it still admits: what an operator pastes.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_by_jwt(&self, text: &str) -> Result<Option<RequestToken>> {
        let Ok(claims) = self.request_token_settings().keys.signed(text) else { return Ok(None) };
        let Some(id) = jwt::row_id(&claims) else { return Ok(None) };
        self.row_of(text, &claims, id).await
    }

    /// The row that verified claims name. A JWT of ours must say what that row says.
    async fn row_of(
        &self,
        jwt: &str,
        claims: &Map<String, Value>,
        id: i64,
    ) -> Result<Option<RequestToken>> {
        let token = store::find(&mut self.db().acquire().await?, id).await?;
        Ok(token.filter(|token| !jwt::names_key(jwt) || token.is_of(claims)))
    }

    /// Counts one use of a token, if it admits. A denial is logged with its reason, as far as the
    /// token is known.
    ///
    /// # Errors
    /// [`Error::TokenRefused`]; the database's and the user directory's.
    pub async fn admit(&self, presented: &Presented<'_>) -> Result<Admission> {
        let outcome = match self.try_admit(presented).await? {
            Ok(admission) => {
                metrics::counter!("bgfiles_request_tokens_total", "outcome" => "used").increment(1);
                return Ok(admission);
            }
            Err(outcome) => outcome,
        };
        let (denial, id) = outcome;
        let code = denial.code();
        metrics::counter!("bgfiles_request_tokens_total", "outcome" => code).increment(1);
        tracing::info!(token = id, scope = presented.scope, reason = code, "request token refused");
        if let Some(id) = id
            && self.logs(presented)
        {
            let (now, visitor) = (self.clock().now(), presented.visitor);
            let mut tx = self.db().begin().await?;
            store::log(&mut tx, id, code, presented.user, visitor, Some(403), now).await?;
            tx.commit().await?;
        }
        Err(denial.into())
    }

    fn logs(&self, presented: &Presented<'_>) -> bool {
        presented.log && !self.request_token_settings().disable_logs
    }

    async fn try_admit(
        &self,
        presented: &Presented<'_>,
    ) -> Result<Result<Admission, (Denial, Option<i64>)>> {
        let now = self.clock().now();
        let claims = match self.request_token_settings().keys.verify(presented.jwt, now) {
            Ok(claims) => claims,
            Err(flaw) => {
                // Ours, but early or late: its row can log that.
                let known = match flaw {
                    jwt::Flaw::Expired | jwt::Flaw::NotYetValid => {
                        self.find_by_jwt(presented.jwt).await?
                    }
                    _ => None,
                };
                return Ok(Err((flaw.into(), known.map(|token| token.id))));
            }
        };
        let Some(id) = jwt::row_id(&claims) else { return Ok(Err((Denial::Malformed, None))) };
        let Some(token) = self.row_of(presented.jwt, &claims, id).await? else {
            return Ok(Err((Denial::Unknown, None)));
        };
        if let Some(denial) = self.policy(&token, presented, now).await? {
            return Ok(Err((denial, Some(id))));
        }
        let user = match (presented.user, token.login_mode) {
            (Some(user), _) => Some(user.to_owned()),
            (None, LoginMode::None) => None,
            (None, _) => token.user_id.clone(),
        };
        let mut tx = self.db().begin().await?;
        let Some(used) = store::consume(&mut tx, &token, now).await? else {
            // Somebody was faster: the last use is gone, or the row was edited.
            let token = store::find(&mut tx, id).await?;
            let denial = token.and_then(|token| token.denial(now)).unwrap_or(Denial::Unknown);
            return Ok(Err((denial, Some(id))));
        };
        let logged = match self.logs(presented) {
            true => {
                let visitor = presented.visitor;
                store::log(&mut tx, id, "used", user.as_deref(), visitor, None, now).await?
            }
            false => None,
        };
        tx.commit().await?;
        let begins_session = presented.user.is_none() && token.login_mode == LoginMode::Session;
        Ok(Ok(Admission { token: used, user, begins_session, logged }))
    }

    /// What the row says of this caller, in the order of django-request-token's checks.
    async fn policy(
        &self,
        token: &RequestToken,
        presented: &Presented<'_>,
        now: DateTime<Utc>,
    ) -> Result<Option<Denial>> {
        if token.scope != presented.scope {
            return Ok(Some(Denial::WrongScope));
        }
        if let Some(denial) = token.denial(now) {
            return Ok(Some(denial));
        }
        let Some(owner) = &token.user_id else { return Ok(None) };
        if presented.user.is_some_and(|user| user != owner) {
            return Ok(Some(Denial::WrongUser));
        }
        let active =
            self.users().find(self.db(), owner).await?.is_some_and(|person| person.is_active);
        Ok((!active).then_some(Denial::InactiveUser))
    }

    /// Writes how a use was answered.
    ///
    /// # Errors
    /// The database's.
    pub async fn conclude_use(&self, admission: &Admission, status: u16) -> Result<()> {
        let Some(id) = admission.logged else { return Ok(()) };
        let mut tx = self.db().begin().await?;
        store::set_status(&mut tx, id, status.into()).await?;
        tx.commit().await
    }

    /// As [`Toolbox::conclude_use`] of a use that an application redeems for its own visitor, which
    /// it may conclude itself ([`Toolbox::conclude_redeemed`]). Answers the number of that use;
    /// `None` when it is not logged.
    ///
    /// # Errors
    /// The database's.
    pub async fn redeemed_for(&self, admission: &Admission, by: &str) -> Result<Option<i64>> {
        let Some(id) = admission.logged else { return Ok(None) };
        let mut tx = self.db().begin().await?;
        store::set_status(&mut tx, id, 200).await?;
        store::set_redeemer(&mut tx, id, by).await?;
        tx.commit().await?;
        Ok(Some(id))
    }

    /// Writes how an application answered its visitor, once and within a minute. What it failed at
    /// (5xx) is no use: the token gets it back, and the log says so.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a use that is not theirs (`by`; anybody's when `None`);
    /// [`Error::Conflict`] when it is concluded, or that is too late.
    pub async fn conclude_redeemed(&self, id: i64, status: u16, by: Option<&str>) -> Result<Use> {
        let now = self.clock().now();
        let failed = (500..600).contains(&status);
        let outcome = if failed { GIVEN_BACK } else { "used" };
        let mut tx = self.db().begin().await?;
        let found = store::find_redeemed(&mut tx, id, by).await?;
        let found = found.ok_or(Error::NotFound("use"))?;
        let since = now - CONCLUDE_WITHIN;
        let Some(concluded) =
            store::conclude(&mut tx, id, status.into(), outcome, since, now).await?
        else {
            let (code, message) = match found.timestamp < since {
                true => ("too_late", "a use is concluded within a minute"),
                false => ("already_concluded", "this use was concluded before"),
            };
            return Err(Error::Conflict { code, message: message.into() });
        };
        if failed {
            store::give_back(&mut tx, concluded.token_id).await?;
        }
        tx.commit().await?;
        Ok(concluded)
    }

    /// Takes a use back that came to nothing because of us.
    ///
    /// # Errors
    /// The database's.
    pub async fn give_back_use(&self, admission: &Admission) -> Result<()> {
        let mut tx = self.db().begin().await?;
        store::give_back(&mut tx, admission.token.id).await?;
        if let Some(id) = admission.logged {
            store::unlog(&mut tx, id).await?;
        }
        tx.commit().await
    }

    /// Removes lines of the log of request tokens: all but the newest `max_count`, and those older
    /// than `max_days`; of two limits the one that removes more wins. Answers how many it removed.
    ///
    /// # Errors
    /// The database's.
    pub async fn truncate_request_token_log(
        &self,
        max_count: Option<u32>,
        max_days: Option<u32>,
    ) -> Result<u64> {
        let now = self.clock().now();
        let oldest =
            max_days.and_then(|days| now.checked_sub_signed(TimeDelta::try_days(days.into())?));
        let counted = match max_count {
            // Nothing is to stay.
            Some(0) => Some(now + TimeDelta::microseconds(1)),
            Some(count) => {
                let mut tx = self.db().read().await?;
                store::timestamp_of_newest(&mut tx, count.into()).await?
            }
            None => None,
        };
        let Some(cutoff) = oldest.max(counted) else { return Ok(0) };
        let mut removed = 0;
        loop {
            let mut tx = self.db().begin().await?;
            let batch = store::delete_uses(&mut tx, cutoff, 1000).await?;
            tx.commit().await?;
            removed += batch;
            if batch == 0 {
                return Ok(removed);
            }
        }
    }
}
