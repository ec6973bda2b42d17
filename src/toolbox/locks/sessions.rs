//! Locks of sessions: all tabs of a browser share them.

use super::hold::refused;
use crate::{
    error::Result,
    lock_token::{Ask, Held, Resource, store},
    toolbox::Toolbox,
};

impl Toolbox {
    /// Locks for a session, whatever identifies it: again and again, it is the session's.
    /// `force_new` begins anew what the session has, with another fence.
    ///
    /// # Errors
    /// [`crate::Error::Locked`] when somebody else has it.
    pub async fn lock_for_session(
        &self,
        resource: &Resource,
        session: &str,
        owner: Option<&str>,
        force_new: bool,
    ) -> Result<Held> {
        let ask = Ask {
            session: Some(session.to_owned()),
            owner: owner.map(str::to_owned),
            ..Ask::default()
        };
        let mut tx = self.db().begin().await?;
        if force_new {
            let now = self.clock().now();
            store::break_lock(&mut tx, resource, Some(session), None, now).await?;
        }
        let held = self.lock_in(&mut tx, resource, &ask).await?.held()?;
        tx.commit().await?;
        Ok(held)
    }

    /// As [`Toolbox::lock_for_session`], for a page that is shown: its token is given back by the
    /// session's next [`Toolbox::unlock_with_pages`], unless somebody renews it.
    ///
    /// # Errors
    /// [`crate::Error::Locked`] when somebody else has it.
    pub async fn lock_for_page(
        &self,
        resource: &Resource,
        session: &str,
        owner: Option<&str>,
    ) -> Result<Held> {
        let ask = Ask {
            session: Some(session.to_owned()),
            owner: owner.map(str::to_owned),
            ..Ask::default()
        };
        let mut tx = self.db().begin().await?;
        let held = self.lock_in(&mut tx, resource, &ask).await?.held()?;
        store::came_with_page(&mut tx, &held.token).await?;
        tx.commit().await?;
        Ok(held)
    }

    /// Lets go of a token, and of those that came with pages of the same session: what was edited
    /// there is saved. Tabs that renew their own tokens keep the lock.
    ///
    /// # Errors
    /// [`crate::Error::LockRefused`] when it holds no lock.
    pub async fn unlock_with_pages(&self, resource: &Resource, token: &str) -> Result<()> {
        let mut tx = self.db().begin().await?;
        if !store::release_with_pages(&mut tx, resource, token, self.clock().now()).await? {
            return Err(refused(store::find(&mut tx, resource).await?.is_some()));
        }
        tx.commit().await
    }

    /// Lets go of a session's lock, of all its tabs.
    ///
    /// # Errors
    /// [`crate::Error::LockRefused`] when it has none.
    pub async fn unlock_for_session(&self, resource: &Resource, session: &str) -> Result<()> {
        let mut tx = self.db().begin().await?;
        if !store::break_lock(&mut tx, resource, Some(session), None, self.clock().now()).await? {
            return Err(refused(store::find(&mut tx, resource).await?.is_some()));
        }
        tx.commit().await
    }

    /// Whether a session holds a lock, expired or not.
    ///
    /// # Errors
    /// The database's.
    pub async fn check_for_session(&self, resource: &Resource, session: &str) -> Result<bool> {
        let lock = store::find(&mut self.db().acquire().await?, resource).await?;
        Ok(lock.is_some_and(|lock| lock.session.as_deref() == Some(session)))
    }
}
