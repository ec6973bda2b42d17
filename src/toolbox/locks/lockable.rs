//! Things that can be locked.

use async_trait::async_trait;

use crate::{
    error::Result,
    file_request::FileRequest,
    lock_token::{Ask, Check, Held, Resource},
    toolbox::Toolbox,
};

/// A thing that can be locked.
#[async_trait]
pub trait Lockable: Send + Sync {
    /// Its name among locks.
    fn resource(&self) -> Resource;

    /// Locks it; with a token of its lock, renews that instead, expired or not.
    ///
    /// # Errors
    /// [`crate::Error::Locked`]; [`crate::Error::LockRefused`] for a token that does not hold it.
    async fn lock(&self, toolbox: &Toolbox, token: Option<&str>) -> Result<Held> {
        match token {
            Some(token) => toolbox.renew_lock(&self.resource(), token, None).await,
            None => toolbox.lock(&self.resource(), Ask::default()).await?.held(),
        }
    }

    /// Releases it.
    ///
    /// # Errors
    /// [`crate::Error::LockRefused`] for a token that does not hold it.
    async fn unlock(&self, toolbox: &Toolbox, token: &str) -> Result<()> {
        toolbox.unlock(&self.resource(), token).await
    }

    /// Whether somebody holds it now.
    ///
    /// # Errors
    /// The database's.
    async fn is_locked(&self, toolbox: &Toolbox) -> Result<bool> {
        toolbox.is_locked(&self.resource()).await
    }

    /// What a token is worth.
    ///
    /// # Errors
    /// The database's.
    async fn check_lock_token(&self, toolbox: &Toolbox, token: &str) -> Result<Check> {
        toolbox.check_lock(&self.resource(), token).await
    }
}

impl Lockable for FileRequest {
    fn resource(&self) -> Resource {
        Resource::request(self.id)
    }
}
