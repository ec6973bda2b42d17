//! Which things there are, and who may lock them.

use async_trait::async_trait;

use crate::{
    auth_token::{Caller, Role},
    error::{Error, Result},
    file_request::{FileRequest, store as requests},
    ids::RequestId,
    lock_token::Resource,
    toolbox::Toolbox,
};

/// Says which things there are and who may lock them; of the host application.
#[async_trait]
pub trait LockPolicy: Send + Sync + 'static {
    /// Whether `caller` (nobody, where locking is open) may lock the resource.
    ///
    /// # Errors
    /// When that cannot be found out.
    async fn access(&self, caller: Option<&Caller>, resource: &Resource) -> Result<LockAccess>;
}

/// What a [`LockPolicy`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockAccess {
    /// They may.
    Granted,
    /// They may not: 403.
    Refused,
    /// There is no such thing, or not for them: 404.
    Unknown,
    /// Not ours: our own rules say.
    NotMine,
}

fn unknown() -> Error {
    Error::NotFound("resource")
}

impl Toolbox {
    /// Whether `caller` may lock a resource: as the host application's policy says; else requests
    /// that they may see, file types for applications and staff, and kinds that the settings list.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`]; what the policy fails with.
    pub async fn may_lock(&self, caller: Option<&Caller>, resource: &Resource) -> Result<()> {
        if let Some(policy) = self.lock_policy() {
            match policy.access(caller, resource).await? {
                LockAccess::Granted => return Ok(()),
                LockAccess::Refused => return Err(Error::Forbidden("you may not lock this")),
                LockAccess::Unknown => return Err(unknown()),
                LockAccess::NotMine => {}
            }
        }
        match resource.kind() {
            Resource::REQUESTS => {
                let id: RequestId = resource.id().parse().map_err(|_| unknown())?;
                let row = requests::find(&mut self.db().acquire().await?, id).await?;
                let seen = |row: &FileRequest| {
                    caller.is_some_and(|caller| caller.may_see(row.requester.as_deref()))
                };
                row.filter(seen).map(drop).ok_or_else(unknown)
            }
            kind @ ("bgfiles/file_type" | Resource::USERS | Resource::CLIENTS) => {
                if kind == "bgfiles/file_type" {
                    self.registry().get(resource.id()).map_err(|_| unknown())?;
                }
                match caller.map(|caller| caller.role) {
                    Some(Role::Staff) => Ok(()),
                    Some(Role::Service) if kind == "bgfiles/file_type" => Ok(()),
                    Some(_) => Err(Error::Forbidden("this is for staff to lock")),
                    None => Err(unknown()),
                }
            }
            _ if self.lock_settings().lists(resource) => Ok(()),
            _ => Err(unknown()),
        }
    }
}
