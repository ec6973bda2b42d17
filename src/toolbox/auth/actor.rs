//! What operators may do with users and clients, and the line that the audit log gets of it.

use uuid::Uuid;

use super::accounts::{UserChanges, check_email};
use crate::{
    auth_token::{Caller, Client, User, check_throttle_rate, store},
    db::Tx,
    error::{Error, Result},
    lock_token::Resource,
    toolbox::{Editor, Toolbox, requests::staff},
};

/// Users and clients; made by [`Toolbox::accounts`].
#[derive(Clone, Copy, Debug)]
pub struct Accounts<'a> {
    toolbox: &'a Toolbox,
}

impl Toolbox {
    /// What can be done with users and clients on somebody's word.
    pub fn accounts(&self) -> Accounts<'_> {
        Accounts { toolbox: self }
    }
}

impl<'a> Accounts<'a> {
    /// What `caller` may see and do.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for who is not staff.
    pub fn by(self, caller: &'a Caller) -> Result<ActingOnAccounts<'a>> {
        staff(caller)?;
        Ok(ActingOnAccounts { toolbox: self.toolbox, caller })
    }
}

/// Users and clients as an operator handles them, under a lock, with a line in the audit log; made
/// by [`Accounts::by`].
///
/// An operation has a transaction of its own; the one with `_in` at the end of its name is in that
/// of the host application, and takes effect with it. Until that one ends, callers are looked up
/// each time, so commit soon.
#[derive(Clone, Copy, Debug)]
pub struct ActingOnAccounts<'a> {
    toolbox: &'a Toolbox,
    caller: &'a Caller,
}

impl ActingOnAccounts<'_> {
    /// Users, by name, at most `limit`: those after a name, or from the first on.
    ///
    /// # Errors
    /// The database's.
    pub async fn users(&self, after: Option<&str>, limit: i64) -> Result<Vec<User>> {
        self.toolbox.own_users(after, limit).await
    }

    /// A user.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn user(&self, id: Uuid) -> Result<User> {
        self.toolbox.own_user_by_id(id).await?.ok_or(Error::NotFound("user"))
    }

    /// All clients, by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn clients(&self) -> Result<Vec<Client>> {
        self.toolbox.clients().await
    }

    /// As [`Toolbox::update_user`], with the lock that the operator holds on the user.
    ///
    /// # Errors
    /// [`Error::Conflict`] for an operator who takes rights away from themselves;
    /// [`Error::LockRefused`] when the lock was lost; [`Error::Invalid`] on the address.
    pub async fn update_user(
        &self,
        user: &User,
        changes: &UserChanges,
        editor: Editor<'_>,
    ) -> Result<()> {
        let mut tx = self.toolbox.db().begin().await?;
        self.edit_user(&mut tx, user, changes, editor).await?;
        tx.commit().await?;
        self.toolbox.memory().watch.changed().await;
        Ok(())
    }

    /// As [`ActingOnAccounts::update_user`].
    ///
    /// # Errors
    /// As there.
    pub async fn update_user_in(
        &self,
        tx: &mut Tx,
        user: &User,
        changes: &UserChanges,
        editor: Editor<'_>,
    ) -> Result<()> {
        self.toolbox.memory().watch.hold(tx.conn()).await?;
        self.edit_user(tx, user, changes, editor).await
    }

    async fn edit_user(
        &self,
        tx: &mut Tx,
        user: &User,
        changes: &UserChanges,
        editor: Editor<'_>,
    ) -> Result<()> {
        let role = changes.role.unwrap_or(user.role);
        let is_active = changes.is_active.unwrap_or(user.is_active);
        if user.username == self.caller.username && (!is_active || role != user.role) {
            let message = "you cannot take your own rights away; ask another operator";
            return Err(Error::Conflict { code: "own_account", message: message.into() });
        }
        changes.email.as_deref().map(check_email).transpose()?;
        let edit = self.toolbox.begin_edit(tx, Resource::user(user.id), editor).await?;
        self.toolbox.change_user(tx, user, changes).await?;
        let detail = format!(
            "email {}, role {}, {}",
            changes.email.as_deref().unwrap_or(&user.email),
            role.as_str(),
            if is_active { "active" } else { "inactive" }
        );
        self.note(tx, "user.update", &user.username, &detail).await?;
        self.toolbox.end_edit(tx, edit).await
    }

    /// Ends all tokens and sessions of a user. When it returns, no process honours them.
    ///
    /// # Errors
    /// The database's.
    pub async fn log_out(&self, user: &User) -> Result<()> {
        // The line first: what is tried and fails is better told than what is done and not.
        let mut tx = self.toolbox.db().begin().await?;
        self.note(&mut tx, "user.log_out", &user.username, "").await?;
        tx.commit().await?;
        self.toolbox.revoke_all(&user.username).await.map(drop)
    }

    /// Changes a client's lifetime of tokens, rate and policy, with the lock that the operator holds
    /// on it. Tokens that there are keep theirs.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field; [`Error::NotFound`]; [`Error::LockRefused`] when the
    /// lock was lost.
    pub async fn update_client(&self, client: &Client, editor: Editor<'_>) -> Result<()> {
        let mut tx = self.toolbox.db().begin().await?;
        self.edit_client(&mut tx, client, editor).await?;
        tx.commit().await?;
        self.toolbox.memory().watch.changed().await;
        Ok(())
    }

    /// As [`ActingOnAccounts::update_client`].
    ///
    /// # Errors
    /// As there.
    pub async fn update_client_in(
        &self,
        tx: &mut Tx,
        client: &Client,
        editor: Editor<'_>,
    ) -> Result<()> {
        self.toolbox.memory().watch.hold(tx.conn()).await?;
        self.edit_client(tx, client, editor).await
    }

    async fn edit_client(&self, tx: &mut Tx, client: &Client, editor: Editor<'_>) -> Result<()> {
        let edit = self.toolbox.begin_edit(tx, Resource::client(client.id), editor).await?;
        check_throttle_rate(&client.throttle_rate)?;
        if !store::update_client(&mut *tx, client).await? {
            return Err(Error::NotFound("client"));
        }
        let detail = format!(
            "ttl {}, rate {}, tokens {}",
            client.token_ttl.map_or("never".into(), |ttl| format!("{ttl}s")),
            client.throttle_rate,
            client.tokens.as_str()
        );
        self.note(tx, "client.update", &client.name, &detail).await?;
        self.toolbox.end_edit(tx, edit).await
    }

    async fn note(&self, tx: &mut Tx, action: &str, subject: &str, detail: &str) -> Result<()> {
        self.toolbox.audit(tx, &self.caller.username, action, subject, detail).await
    }
}
