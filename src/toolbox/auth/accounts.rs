//! Users and clients of our own.

use uuid::Uuid;

use crate::{
    auth_token::{
        Client, Person, Role, TokenPolicy, User, check_client_name, check_throttle_rate,
        check_username, hash_password, store, token_store,
    },
    db::Tx,
    error::{Error, Result},
    file_request::{
        Status, links,
        model::check_address,
        store::{self as requests, Filter},
    },
    limits::TokenTtl,
    toolbox::Toolbox,
};

/// A user to be.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// 1 to 150 visible characters; unique but for case and form.
    pub username: String,
    /// Empty for none.
    pub email: String,
    /// What they may do.
    pub role: Role,
    /// None: they cannot log in, only use tokens.
    pub password: Option<String>,
}

/// What to change of a user.
#[derive(Clone, Debug, Default)]
pub struct UserChanges {
    /// Another address; empty for none.
    pub email: Option<String>,
    /// Another role.
    pub role: Option<Role>,
    /// Whether they may do anything.
    pub is_active: Option<bool>,
    /// Whether links end: those to their files, and those that they made to others'. Whoever has one
    /// needs no account.
    pub revoke_links: bool,
}

pub(super) fn check_email(email: &str) -> Result<()> {
    check_address(email).map_err(|why| Error::invalid("email", why))
}

impl Toolbox {
    /// Adds a user.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field; [`Error::Conflict`] when the name is taken.
    pub async fn create_user(&self, new: NewUser) -> Result<User> {
        check_username(&new.username)?;
        check_email(&new.email)?;
        let about = [new.username.as_str(), new.email.as_str()];
        let hash = new.password.as_deref().map(|text| hash_password(text, &about)).transpose()?;
        let user = User {
            id: Uuid::new_v4(),
            username: new.username,
            email: new.email,
            role: new.role,
            is_active: true,
        };
        let mut tx = self.db().begin().await?;
        store::insert_user(&mut tx, &user, hash.as_deref(), self.clock().now()).await?;
        tx.commit().await?;
        Ok(user)
    }

    async fn own_user(&self, username: &str) -> Result<User> {
        let found = store::find_credentials(&mut self.db().acquire().await?, username).await?;
        let missing = || Error::invalid("user", format!("there is no {username:?}"));
        found.map(|(user, _)| user).ok_or_else(missing)
    }

    /// Gives a user another password. Tokens and sessions stay.
    ///
    /// # Errors
    /// [`Error::Invalid`] without such a user, or on the password.
    pub async fn set_password(&self, username: &str, password: &str) -> Result<User> {
        let user = self.own_user(username).await?;
        let hash = hash_password(password, &[&user.username, &user.email])?;
        let mut tx = self.db().begin().await?;
        store::set_password(&mut tx, user.id, &hash).await?;
        tx.commit().await?;
        Ok(user)
    }

    /// Changes a user. Once it returns, an inactive one is refused everywhere; links go on unless they
    /// are revoked with it.
    ///
    /// # Errors
    /// [`Error::Invalid`] without such a user, or on the address.
    pub async fn update_user(&self, username: &str, changes: UserChanges) -> Result<User> {
        changes.email.as_deref().map(check_email).transpose()?;
        let user = self.own_user(username).await?;
        let mut tx = self.db().begin().await?;
        self.change_user(&mut tx, &user, &changes).await?;
        tx.commit().await?;
        self.memory().watch.changed().await;
        self.own_user(username).await
    }

    pub(super) async fn change_user(
        &self,
        tx: &mut Tx,
        user: &User,
        changes: &UserChanges,
    ) -> Result<()> {
        let UserChanges { email, role, is_active, revoke_links } = changes;
        store::update_user(&mut *tx, user.id, email.as_deref(), *role, *is_active).await?;
        if *revoke_links {
            links::store::revoke_of(&mut *tx, &user.username, self.clock().now()).await?;
            self.cancel_all_of(tx, &user.username).await?;
        }
        Ok(())
    }

    /// Cancels what is being made for a person: nobody is to be mailed a link to it.
    async fn cancel_all_of(&self, tx: &mut Tx, requester: &str) -> Result<()> {
        for status in [Status::Pending, Status::Running] {
            let requester = Some(requester.to_owned());
            let filter = Filter { status: Some(status), requester, ..Filter::default() };
            for row in requests::list(&mut *tx, &filter, i64::MAX).await? {
                match self.cancel(&mut *tx, row.id).await {
                    // It has just ended.
                    Ok(_) | Err(Error::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Adds a client; without a lifetime its tokens have the default one.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the field; [`Error::Conflict`] when the name is taken.
    pub async fn create_client(
        &self,
        name: &str,
        ttl: Option<TokenTtl>,
        throttle_rate: &str,
        tokens: TokenPolicy,
    ) -> Result<Client> {
        check_client_name(name)?;
        check_throttle_rate(throttle_rate)?;
        let client = Client {
            id: Uuid::new_v4(),
            name: name.to_owned(),
            token_ttl: ttl.unwrap_or(self.auth_settings().default_token_ttl).seconds(),
            throttle_rate: throttle_rate.to_owned(),
            tokens,
        };
        let mut tx = self.db().begin().await?;
        store::insert_client(&mut tx, &client, self.clock().now()).await?;
        tx.commit().await?;
        Ok(client)
    }

    /// The user with this id.
    ///
    /// # Errors
    /// The database's.
    pub async fn own_user_by_id(&self, id: Uuid) -> Result<Option<User>> {
        store::find_user(&mut self.db().acquire().await?, id).await
    }

    /// Users of our own, by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn own_users(&self, after: Option<&str>, limit: i64) -> Result<Vec<User>> {
        store::list_users(&mut self.db().acquire().await?, after, limit).await
    }

    /// All clients, by name.
    ///
    /// # Errors
    /// The database's.
    pub async fn clients(&self) -> Result<Vec<Client>> {
        store::list_clients(&mut self.db().acquire().await?).await
    }

    /// The person and the client of these names, as an operator types them, for a token.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming which of the two there is not.
    pub async fn person_and_client(&self, user: &str, client: &str) -> Result<(Person, Client)> {
        let missing =
            |field: &str, name: &str| Error::invalid(field, format!("there is no {name:?}"));
        let person = self.users().meant(self.db(), user).await?;
        let client_row = self.client(client).await?;
        Ok((
            person.ok_or_else(|| missing("user", user))?,
            client_row.ok_or_else(|| missing("client", client))?,
        ))
    }

    /// Ends the token that a text names: its id, or the beginning of a secret (`bgf_…`, ten
    /// characters). Answers its id.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when several begin so.
    pub async fn revoke_named(&self, text: &str) -> Result<Uuid> {
        let found = token_store::named(&mut self.db().acquire().await?, text).await?;
        match found.as_slice() {
            [token] => self.revoke_token(*token).await.map(|_| *token),
            [] => Err(Error::NotFound("token")),
            _ => Err(Error::Conflict {
                code: "ambiguous",
                message: "several tokens begin so: name one by its id".into(),
            }),
        }
    }
}
