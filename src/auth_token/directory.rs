//! Who people are. The product has users of its own; a host application may bring its own.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Role, User,
    password::{is_ours, verify_password},
    store,
};
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

    /// The person with these credentials; `None` when there is none. It should take as long for a
    /// name that nobody has as for a wrong password. Names of more than 150 characters are nobody's,
    /// and it is not asked.
    ///
    /// # Errors
    /// When the directory does not answer.
    async fn authenticate(&self, username: &str, password: &str) -> Result<Option<Person>>;

    /// What the answer to a login says of the person under `user`; nothing by default.
    fn profile(&self, person: &Person) -> Option<Value> {
        let _ = person;
        None
    }
}

/// Where users live.
#[derive(Clone)]
pub enum Users {
    /// In our own table; the id is the username.
    Own,
    /// In the host application. It is asked with each call, so that whom it deactivates is out at
    /// once.
    Host(Arc<dyn UserDirectory>),
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Users::Own => "Own",
            Users::Host(_) => "Host",
        })
    }
}

impl From<User> for Person {
    fn from(user: User) -> Self {
        Person { id: user.username, email: user.email, role: user.role, is_active: user.is_active }
    }
}

impl Users {
    /// The person with this id, spelled exactly alike: whoever has another name is somebody else,
    /// also where a directory takes the two for one.
    ///
    /// # Errors
    /// When the directory does not answer.
    pub async fn find(&self, db: &Db, id: &str) -> Result<Option<Person>> {
        Ok(self.find_with_id(db, id).await?.map(|(person, _)| person))
    }

    /// The person whom somebody means who types this name.
    ///
    /// # Errors
    /// When the directory does not answer.
    pub async fn meant(&self, db: &Db, typed: &str) -> Result<Option<Person>> {
        match self {
            Users::Host(directory) => directory.find(typed).await,
            Users::Own => {
                let found = store::find_credentials(&mut db.acquire().await?, typed).await?;
                Ok(found.map(|(user, _)| user.into()))
            }
        }
    }

    /// The active person with these credentials. `known` is whether somebody by this name has logged
    /// in from there before.
    ///
    /// # Errors
    /// [`crate::Error::Overloaded`] when too many log in; when the directory does not answer.
    pub async fn authenticate(
        &self,
        db: &Db,
        username: &str,
        password: &str,
        known: bool,
    ) -> Result<Option<Person>> {
        let person = match self {
            Users::Host(directory) => directory.authenticate(username, password).await?,
            Users::Own => {
                let found = store::find_credentials(&mut db.acquire().await?, username).await?;
                let (user, hash) = found.unzip();
                let (ours, other) = match hash.flatten() {
                    Some(hash) if !is_ours(&hash) => (None, true),
                    hash => (hash, false),
                };
                if let Some(user) = user.as_ref().filter(|_| other) {
                    let user = &user.username;
                    tracing::warn!(
                        user,
                        "this user's password hash is none of ours, and no login can succeed; set a password"
                    );
                }
                let same = verify_password(ours, password, known).await?;
                user.filter(|_| same).map(Person::from)
            }
        };
        Ok(person.filter(|person| person.is_active))
    }

    /// Our own id of the person with this id; `None` when they live elsewhere.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn own_id(&self, db: &Db, id: &str) -> Result<Option<Uuid>> {
        match self {
            Users::Host(_) => Ok(None),
            Users::Own => Ok(self.find_with_id(db, id).await?.and_then(|(_, own_id)| own_id)),
        }
    }

    /// The person with this id, and our own id of them; that is `None` when they live elsewhere.
    ///
    /// # Errors
    /// When the directory does not answer.
    pub(crate) async fn find_with_id(
        &self,
        db: &Db,
        id: &str,
    ) -> Result<Option<(Person, Option<Uuid>)>> {
        match self {
            Users::Host(directory) => {
                let found = directory.find(id).await?.filter(|person| person.id == id);
                Ok(found.map(|person| (person, None)))
            }
            Users::Own => {
                let found = store::find_named(&mut db.acquire().await?, id).await?;
                Ok(found.map(|user| {
                    let own_id = user.id;
                    (user.into(), Some(own_id))
                }))
            }
        }
    }

    /// What the answer to a login says of the person.
    pub fn profile(&self, person: &Person) -> Option<Value> {
        match self {
            Users::Host(directory) => directory.profile(person),
            Users::Own => Some(json!({
                "username": person.id,
                "email": person.email,
                "role": person.role,
            })),
        }
    }
}
