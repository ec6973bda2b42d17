//! What a caller may see of request tokens and do with them, and the line that the audit log gets
//! of it.

use super::{Admission, Presented, RequestTokenFilter};
use crate::{
    auth_token::{Caller, Role},
    db::Conn,
    error::{Error, Result},
    request_token::{Changes, NewRequestToken, RequestToken, Use, store},
    toolbox::Toolbox,
};

/// Request tokens; made by [`Toolbox::request_tokens`].
#[derive(Clone, Copy, Debug)]
pub struct RequestTokens<'a> {
    toolbox: &'a Toolbox,
}

impl Toolbox {
    /// What can be done with request tokens on somebody's word.
    pub fn request_tokens(&self) -> RequestTokens<'_> {
        RequestTokens { toolbox: self }
    }
}

impl<'a> RequestTokens<'a> {
    /// What `caller` may see and do. A token can log somebody in: only applications and staff make
    /// and see them.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for users.
    pub fn by(self, caller: &'a Caller) -> Result<ActingOnRequestTokens<'a>> {
        match caller.role {
            Role::Service | Role::Staff => {
                Ok(ActingOnRequestTokens { toolbox: self.toolbox, caller })
            }
            Role::User => Err(Error::Forbidden("request tokens are for applications and staff")),
        }
    }
}

/// Request tokens as a caller may see and handle them; made by [`RequestTokens::by`].
///
/// An operation has a transaction of its own; the one with `_in` at the end of its name is in that
/// of the host application, and takes effect with it. What was done is written to the audit log.
#[derive(Clone, Copy, Debug)]
pub struct ActingOnRequestTokens<'a> {
    toolbox: &'a Toolbox,
    caller: &'a Caller,
}

impl ActingOnRequestTokens<'_> {
    /// Issues a token, on the caller's word, whatever `created_by` says.
    ///
    /// # Errors
    /// As [`Toolbox::create_request_token`]; [`Error::Forbidden`] when it is to stand for somebody
    /// who may do more than the caller.
    pub async fn create(&self, new: NewRequestToken) -> Result<RequestToken> {
        // Who that is may be somebody else's to say: not while a transaction waits.
        self.check_user(new.user_id.as_deref()).await?;
        let mut tx = self.toolbox.db().begin().await?;
        let token = self.issue(tx.conn(), new).await?;
        tx.commit().await?;
        Ok(token)
    }

    /// As [`ActingOnRequestTokens::create`].
    ///
    /// # Errors
    /// As there.
    pub async fn create_in(
        &self,
        conn: impl Into<Conn<'_>>,
        new: NewRequestToken,
    ) -> Result<RequestToken> {
        self.check_user(new.user_id.as_deref()).await?;
        self.issue(conn.into(), new).await
    }

    async fn issue(&self, mut conn: Conn<'_>, mut new: NewRequestToken) -> Result<RequestToken> {
        new.created_by = self.caller.username.clone();
        let token = self.toolbox.create_request_token(conn.reborrow(), new).await?;
        self.note(conn, &token, "create").await?;
        Ok(token)
    }

    /// Tokens, the newest first, at most `limit`.
    ///
    /// # Errors
    /// The database's.
    pub async fn list(&self, filter: &RequestTokenFilter, limit: i64) -> Result<Vec<RequestToken>> {
        store::list(&mut self.toolbox.db().acquire().await?, filter, limit).await
    }

    /// A token.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn find(&self, id: i64) -> Result<RequestToken> {
        self.find_in(&mut self.toolbox.db().acquire().await?, id).await
    }

    /// As [`ActingOnRequestTokens::find`].
    ///
    /// # Errors
    /// As there.
    pub async fn find_in(&self, conn: impl Into<Conn<'_>>, id: i64) -> Result<RequestToken> {
        store::find(conn, id).await?.ok_or(Error::NotFound("request token"))
    }

    /// The token of a JWT that we signed, whether or not it still admits.
    ///
    /// # Errors
    /// The database's.
    pub async fn find_by_jwt(&self, jwt: &str) -> Result<Option<RequestToken>> {
        self.toolbox.find_by_jwt(jwt).await
    }

    /// The uses of a token, the newest first, at most `limit`: those before one, or from the newest
    /// on.
    ///
    /// # Errors
    /// The database's.
    pub async fn uses(
        &self,
        token: &RequestToken,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Use>> {
        store::uses(&mut self.toolbox.db().acquire().await?, token.id, before, limit).await
    }

    /// Edits a token; JWTs that are about follow at once.
    ///
    /// # Errors
    /// As [`Toolbox::update_request_token`]; [`Error::Forbidden`] when it stands for somebody who
    /// may do more than the caller.
    pub async fn update(&self, id: i64, changes: &Changes) -> Result<RequestToken> {
        let token = self.find(id).await?;
        self.check_user(token.user_id.as_deref()).await?;
        let mut tx = self.toolbox.db().begin().await?;
        let token = self.change(tx.conn(), id, changes).await?;
        tx.commit().await?;
        Ok(token)
    }

    /// As [`ActingOnRequestTokens::update`].
    ///
    /// # Errors
    /// As there.
    pub async fn update_in(
        &self,
        conn: impl Into<Conn<'_>>,
        id: i64,
        changes: &Changes,
    ) -> Result<RequestToken> {
        let mut conn = conn.into();
        let token = self.find_in(conn.reborrow(), id).await?;
        self.check_user(token.user_id.as_deref()).await?;
        self.change(conn, id, changes).await
    }

    async fn change(&self, mut conn: Conn<'_>, id: i64, changes: &Changes) -> Result<RequestToken> {
        let token = self.toolbox.update_request_token(conn.reborrow(), id, changes).await?;
        self.note(conn, &token, "update").await?;
        Ok(token)
    }

    /// Ends a token: its JWTs admit nobody from now on.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn expire(&self, id: i64) -> Result<RequestToken> {
        let mut tx = self.toolbox.db().begin().await?;
        let token = self.expire_in(&mut tx, id).await?;
        tx.commit().await?;
        Ok(token)
    }

    /// As [`ActingOnRequestTokens::expire`].
    ///
    /// # Errors
    /// As there.
    pub async fn expire_in(&self, conn: impl Into<Conn<'_>>, id: i64) -> Result<RequestToken> {
        let mut conn = conn.into();
        let token = self.toolbox.expire_request_token(conn.reborrow(), id).await?;
        self.note(conn, &token, "expire").await?;
        Ok(token)
    }

    /// Counts one use of a token for an application's own visitor. Answers it, with its number;
    /// `None` when it is not logged.
    ///
    /// # Errors
    /// As [`Toolbox::admit`].
    pub async fn redeem(&self, presented: &Presented<'_>) -> Result<(Admission, Option<i64>)> {
        let admission = self.toolbox.admit(presented).await?;
        let number = self.toolbox.redeemed_for(&admission, &self.caller.username).await?;
        Ok((admission, number))
    }

    /// Writes how an application answered its visitor: of a use that it redeemed itself, and of
    /// anybody's for staff.
    ///
    /// # Errors
    /// As [`Toolbox::conclude_redeemed`].
    pub async fn conclude(&self, number: i64, status: u16) -> Result<Use> {
        let by = (self.caller.role != Role::Staff).then_some(self.caller.username.as_str());
        self.toolbox.conclude_redeemed(number, status, by).await
    }

    /// Nobody makes a token that stands for somebody who may do more than they.
    async fn check_user(&self, user: Option<&str>) -> Result<()> {
        let Some(user) = user else { return Ok(()) };
        let person = self.toolbox.users().find(self.toolbox.db(), user).await?;
        match person.is_some_and(|person| person.role > self.caller.role) {
            true => Err(Error::Forbidden("this user's role is above yours")),
            false => Ok(()),
        }
    }

    /// Writes down what somebody did to a token.
    async fn note(&self, conn: Conn<'_>, token: &RequestToken, action: &str) -> Result<()> {
        let (action, id) = (format!("request_token.{action}"), token.id.to_string());
        let user = token.user_id.as_deref();
        let user = user.map(|user| format!(", user {user}")).unwrap_or_default();
        let detail = format!("scope {}, {}{user}", token.scope, token.login_mode.as_str());
        self.toolbox.audit(conn, &self.caller.username, &action, &id, &detail).await
    }
}
