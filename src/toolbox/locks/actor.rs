//! What a caller may see of locks.

use crate::{
    auth_token::{Caller, Role},
    error::Result,
    lock_token::{Lock, store::Filter},
    toolbox::Toolbox,
};

/// Locks; made by [`Toolbox::locks`].
#[derive(Clone, Copy, Debug)]
pub struct Locks<'a> {
    toolbox: &'a Toolbox,
}

impl Toolbox {
    /// What can be done with locks on somebody's word.
    pub fn locks(&self) -> Locks<'_> {
        Locks { toolbox: self }
    }
}

impl<'a> Locks<'a> {
    /// What `caller` may see. Users have their own locks, applications and staff all of them.
    pub fn by(self, caller: &'a Caller) -> ActingOnLocks<'a> {
        ActingOnLocks { toolbox: self.toolbox, caller }
    }
}

/// Locks as a caller may see them; made by [`Locks::by`].
#[derive(Clone, Copy, Debug)]
pub struct ActingOnLocks<'a> {
    toolbox: &'a Toolbox,
    caller: &'a Caller,
}

impl ActingOnLocks<'_> {
    /// Locks that hold now, the newest first, and the leases of workers on requests: of a kind of
    /// things (`app/model`), and of an owner. Users see their own, whatever owner they name.
    ///
    /// # Errors
    /// As [`Toolbox::list_locks`].
    pub async fn list(
        &self,
        resource: Option<&str>,
        owner: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Lock>> {
        let owner = match self.caller.role {
            Role::User => Some(self.caller.username.as_str()),
            Role::Service | Role::Staff => owner,
        };
        self.toolbox.list_locks(&Filter { resource, owner }, limit).await
    }
}
