//! Sessions: logins of browsers, kept by a cookie.

use chrono::TimeDelta;

use crate::{
    auth_token::{Person, Session, SessionSecret, store},
    error::Result,
    toolbox::Toolbox,
};

impl Toolbox {
    /// Begins a session. The one that the browser had before ends, so that nobody who knew it gets
    /// the new one's rights.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin_session(
        &self,
        user_id: &str,
        before: Option<&SessionSecret>,
    ) -> Result<SessionSecret> {
        let (secret, now) = (SessionSecret::random(), self.clock().now());
        let age = TimeDelta::from_std(self.session_age()).unwrap_or(TimeDelta::days(14));
        let session = Session {
            hash: secret.hash(),
            own_user_id: self.users().own_id(self.db(), user_id).await?,
            user_id: user_id.to_owned(),
            created_at: now,
            expires_at: now + age,
        };
        let mut tx = self.db().begin().await?;
        if let Some(before) = before {
            store::delete_session(&mut tx, &before.hash()).await?;
        }
        store::insert_session(&mut tx, &session).await?;
        tx.commit().await?;
        Ok(secret)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The database's.
    pub async fn end_session(&self, secret: &SessionSecret) -> Result<()> {
        let mut tx = self.db().begin().await?;
        store::delete_session(&mut tx, &secret.hash()).await?;
        tx.commit().await
    }

    /// Who is logged in with this session, if they still may do anything.
    ///
    /// # Errors
    /// The database's and the user directory's.
    pub async fn session_user(&self, secret: &SessionSecret) -> Result<Option<Person>> {
        let mut tx = self.db().read().await?;
        let session = store::find_session(&mut tx, &secret.hash(), self.clock().now()).await?;
        drop(tx);
        let Some(session) = session else { return Ok(None) };
        // Whoever was given the name since is somebody else.
        let Some((person, own_id)) = self.users().find_with_id(self.db(), &session.user_id).await?
        else {
            return Ok(None);
        };
        let is_theirs = match (session.own_user_id, own_id) {
            // Begun by a host application without a word of whose it is.
            (None, Some(own_id)) => {
                let mut conn = self.db().acquire().await?;
                store::was_there(&mut conn, own_id, session.created_at).await?
            }
            (theirs, own_id) => theirs == own_id,
        };
        Ok(is_theirs.then_some(person).filter(|person| person.is_active))
    }
}
