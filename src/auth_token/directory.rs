//! Who people are. The product has users of its own; a host application may bring its own.

use async_trait::async_trait;

use super::{Role, store};
use crate::{db::Db, error::Result};

/// A person, as far as this product needs to know them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Their id: the requester id in file requests, the `aud` of request tokens.
    pub id: String,
    /// Where notices go by default; empty for nowhere.
    pub email: String,
    /// What they may do.
    pub role: Role,
    /// Whether they may do anything at all.
    pub is_active: bool,
}

/// Knows people.
#[async_trait]
pub trait UserDirectory: Send + Sync + 'static {
    /// The person with this id; `None` when there is none.
    ///
    /// # Errors
    /// When the directory does not answer.
    async fn find(&self, id: &str) -> Result<Option<Person>>;
}

/// The users in our own table; the id is the username.
#[derive(Clone, Debug)]
pub struct OwnUsers(Db);

impl OwnUsers {
    /// Over a database.
    pub fn new(db: Db) -> Self {
        OwnUsers(db)
    }
}

#[async_trait]
impl UserDirectory for OwnUsers {
    async fn find(&self, id: &str) -> Result<Option<Person>> {
        let mut tx = self.0.read().await?;
        let user = store::find_user(&mut tx, id).await?;
        Ok(user.map(|user| Person {
            id: user.username,
            email: user.email,
            role: user.role,
            is_active: user.is_active,
        }))
    }
}
