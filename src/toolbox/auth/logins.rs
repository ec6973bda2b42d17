//! Logging in and out, and the tokens of a user.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    auth_token::{
        Attempt, AuthEvent, AuthSecret, Caller, Client, Person, Proof, Token, TokenPolicy, store,
        token_store::{self, Standing},
        username_key, verify_password,
    },
    db::Tx,
    error::{Error, Result},
    limits::TokenTtl,
    toolbox::Toolbox,
    visitor::Visitor,
};

/// Secrets of one token that are good at the same time, at most. A login beyond ends the oldest.
const SECRETS: i64 = 100;

/// Tokens to end.
#[derive(Clone, Copy)]
enum Which<'a> {
    One(Uuid),
    /// With their sessions.
    AllOf(&'a str),
}

/// A login that worked.
#[derive(Debug)]
pub struct Login {
    /// The secret, shown once.
    pub secret: AuthSecret,
    /// Until when it is good; for ever when `None`.
    pub expiry: Option<DateTime<Utc>>,
    /// The token that it belongs to.
    pub token_id: Uuid,
    /// Whether a token that was there lasts longer now.
    renewed: bool,
}

/// What became of asking for an API token of one's own.
#[derive(Debug)]
pub enum ApiAccess {
    /// It was made.
    Issued(Box<Token>, AuthSecret),
    /// There is one already.
    Already,
}

/// The earlier of two ends; `None` is for ever.
fn earlier(one: Option<DateTime<Utc>>, other: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    one.into_iter().chain(other).min()
}

/// What a key was asked for with.
fn made_with(caller: &Caller) -> &str {
    match &caller.proof {
        Proof::Token(token) => &token.client,
        Proof::Session => "session",
        Proof::Proxy => "proxy",
        Proof::Host => "host",
    }
}

impl Toolbox {
    /// The active person with these credentials. Wrong guesses make the next ones wait. A name of
    /// more than 150 characters is nobody's: no directory is asked, and the answer takes as long.
    ///
    /// # Errors
    /// [`Error::Throttled`] while guesses wait; [`Error::Overloaded`] while too many log in; the
    /// directory's.
    pub async fn check_credentials(
        &self,
        username: &str,
        password: &str,
        visitor: &Visitor,
    ) -> Result<Option<Person>> {
        let key = username_key(username);
        let attempt =
            Attempt::begin(self.db(), key.as_deref(), visitor, self.clock().now()).await?;
        let person = match key {
            Some(_) => {
                self.users().authenticate(self.db(), username, password, attempt.is_known()).await
            }
            None => verify_password(None, password, false).await.map(|_| None),
        };
        let person = match person {
            // Nobody has looked at the password: this was no guess.
            Err(error @ Error::Overloaded { .. }) => {
                attempt.taken_back(self.db()).await?;
                return Err(error);
            }
            person => person?,
        };
        let outcome = if person.is_some() { "ok" } else { "refused" };
        metrics::counter!("bgfiles_logins_total", "outcome" => outcome).increment(1);
        match &person {
            Some(_) => attempt.succeeded(self.db()).await?,
            None => tracing::info!(ip = visitor.ip_text(), "a login was refused"),
        }
        Ok(person)
    }

    /// The client of this name.
    ///
    /// # Errors
    /// The database's.
    pub async fn client(&self, name: &str) -> Result<Option<Client>> {
        store::find_client(&mut self.db().acquire().await?, name).await
    }

    /// Logs a person in: a fresh secret of their token with this client. Where there is a token
    /// already, the secret lasts as long as that one does, or its client's whole time under
    /// `REFRESH_TOKEN_ON_LOGIN`.
    ///
    /// # Errors
    /// The database's.
    pub async fn log_in(&self, person: &Person, client: &Client) -> Result<Login> {
        let login = self.issue_secret(person, client).await?;
        let signals = &self.memory().signals;
        if login.renewed {
            signals.send(AuthEvent::TokenRenewed {
                username: person.id.clone(),
                token_id: login.token_id,
                new_expiry: login.expiry,
            });
        }
        signals.send(AuthEvent::LoggedIn {
            username: person.id.clone(),
            client: client.name.clone(),
            token_id: login.token_id,
        });
        Ok(login)
    }

    /// As [`Toolbox::log_in`], without an event: what `bgfiles create-token` does.
    ///
    /// # Errors
    /// The database's.
    pub async fn issue_secret(&self, person: &Person, client: &Client) -> Result<Login> {
        let own_user = self.users().own_id(self.db(), &person.id).await?;
        let mut tx = self.db().begin().await?;
        let (login, restarted) = self.issue(&mut tx, &person.id, own_user, client).await?;
        tx.commit().await?;
        if restarted {
            self.memory().watch.changed().await;
        }
        Ok(login)
    }

    async fn issue(
        &self,
        tx: &mut Tx,
        user_id: &str,
        own_user: Option<Uuid>,
        client: &Client,
    ) -> Result<(Login, bool)> {
        let (secret, now) = (AuthSecret::random(), self.clock().now());
        let whole = TokenTtl::end(client.token_ttl, now);
        let slot = match client.tokens {
            TokenPolicy::Several => Uuid::new_v4().to_string(),
            TokenPolicy::One | TokenPolicy::OneOnly => String::new(),
        };
        let (token_id, standing) =
            token_store::hold(&mut *tx, user_id, own_user, client, &slot, whole, now).await?;
        let good = matches!(standing, Standing::Good(_));
        // An expired token is not handed out again: it begins anew.
        let restarted =
            standing == Standing::Over || (good && client.tokens == TokenPolicy::OneOnly);
        let renewed = good && !restarted && self.auth_settings().refresh_on_login;
        let expiry = match standing {
            Standing::Good(end) if !restarted && !renewed => end,
            _ => whole,
        };
        if restarted {
            token_store::restart(&mut *tx, token_id, own_user, expiry, now).await?;
        }
        token_store::add_secret(&mut *tx, token_id, &secret, expiry, now, SECRETS - 1).await?;
        token_store::renew(&mut *tx, token_id, None, expiry).await?;
        Ok((Login { secret, expiry, token_id, renewed }, restarted))
    }

    /// Gives the secret that the caller uses its client's whole time again, from now.
    ///
    /// # Errors
    /// [`Error::Forbidden`] when the caller uses none; [`Error::Unauthenticated`] when it was
    /// revoked meanwhile.
    pub async fn refresh(&self, caller: &Caller) -> Result<Option<DateTime<Utc>>> {
        let used = caller.token().ok_or(Error::Forbidden("Only a token can be refreshed."))?;
        let gone = || Error::Unauthenticated("Invalid token.");
        let mut tx = self.db().begin().await?;
        let (ttl, last) = token_store::extent(&mut tx, used.id).await?.ok_or_else(gone)?;
        let expiry = earlier(TokenTtl::end(ttl, self.clock().now()), last);
        if !token_store::renew(&mut tx, used.id, Some(&used.hash), expiry).await? {
            return Err(gone());
        }
        tx.commit().await?;
        self.memory().signals.send(AuthEvent::TokenRenewed {
            username: caller.username.clone(),
            token_id: used.id,
            new_expiry: expiry,
        });
        Ok(expiry)
    }

    /// Ends the token that the caller uses. When it returns, no process honours it.
    ///
    /// # Errors
    /// The database's.
    pub async fn log_out(&self, caller: &Caller) -> Result<()> {
        if let Some(used) = caller.token() {
            self.revoke_token(used.id).await?;
        }
        self.memory().signals.send(AuthEvent::LoggedOut { username: caller.username.clone() });
        Ok(())
    }

    /// Ends all tokens and sessions of the caller, API access included.
    ///
    /// # Errors
    /// The database's.
    pub async fn log_out_all(&self, caller: &Caller) -> Result<()> {
        self.revoke_all(&caller.username).await?;
        self.memory().signals.send(AuthEvent::LoggedOut { username: caller.username.clone() });
        Ok(())
    }

    /// Ends all tokens and sessions of a user. When it returns, no process honours them.
    ///
    /// # Errors
    /// The database's.
    pub async fn revoke_all(&self, user_id: &str) -> Result<u64> {
        self.end_tokens(Which::AllOf(user_id)).await
    }

    /// Ends a token. When it returns, no process honours it. Whether it was there.
    ///
    /// # Errors
    /// The database's.
    pub async fn revoke_token(&self, token: Uuid) -> Result<bool> {
        Ok(self.end_tokens(Which::One(token)).await? > 0)
    }

    async fn end_tokens(&self, which: Which<'_>) -> Result<u64> {
        let mut tries = 0;
        let ended = loop {
            tries += 1;
            match self.try_to_end_tokens(which).await {
                // The database ended this one for the sake of another; it must not fail for that.
                Err(error) if error.is_deadlock() && tries < 4 => {}
                other => break other?,
            }
        };
        self.memory().watch.changed().await;
        Ok(ended)
    }

    async fn try_to_end_tokens(&self, which: Which<'_>) -> Result<u64> {
        let mut tx = self.db().begin().await?;
        let ended = match which {
            Which::One(token) => u64::from(token_store::delete(&mut tx, token).await?),
            Which::AllOf(user_id) => {
                store::delete_sessions_of(&mut tx, user_id).await?;
                token_store::delete_of(&mut tx, user_id).await?
            }
        };
        tx.commit().await?;
        Ok(ended)
    }

    /// The tokens of a user that are good now.
    ///
    /// # Errors
    /// The database's.
    pub async fn tokens_of(&self, user_id: &str) -> Result<Vec<Token>> {
        // What this process knows of their use belongs to the answer.
        self.flush_uses().await?;
        let good_at = Some(self.clock().now());
        let filter = token_store::Filter { user_id: Some(user_id), client: None, good_at };
        let mut tokens = token_store::list(&mut self.db().acquire().await?, &filter).await?;
        let settings = self.auth_settings();
        tokens.retain(|token| {
            !settings.api_access_excluded || token.client != settings.api_access_client
        });
        Ok(tokens)
    }

    /// A token of the caller's own that is good now, by its id as `sessions` shows it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn own_token(&self, caller: &Caller, id: &str) -> Result<Token> {
        let tokens = self.tokens_of(&caller.username).await?;
        let named = tokens.into_iter().find(|token| token.id.to_string() == id);
        named.ok_or(Error::NotFound("session"))
    }

    async fn api_access_client(&self) -> Result<Client> {
        let name = self.auth_settings().api_access_client.as_str();
        let client = if name.is_empty() { None } else { self.client(name).await? };
        if client.is_none() && !name.is_empty() {
            tracing::warn!(
                name,
                "api_access_client_name names no client: create it by `bgfiles create-client`"
            );
        }
        client.ok_or(Error::NotFound("API access"))
    }

    /// The user's own API token; never its secret.
    ///
    /// # Errors
    /// [`Error::NotFound`] without one, or without such a client.
    pub async fn api_access(&self, caller: &Caller) -> Result<Token> {
        let client = self.api_access_client().await?;
        self.flush_uses().await?;
        self.find_token(&caller.username, &client.name).await?.ok_or(Error::NotFound("API access"))
    }

    async fn find_token(&self, user_id: &str, client: &str) -> Result<Option<Token>> {
        let filter = token_store::Filter {
            user_id: Some(user_id),
            client: Some(client),
            good_at: Some(self.clock().now()),
        };
        let found = token_store::list(&mut self.db().acquire().await?, &filter).await?;
        Ok(found.into_iter().next())
    }

    /// Issues the user's own API token, unless they have one. It lasts no longer than the token that it
    /// was asked for with, if it was one.
    ///
    /// # Errors
    /// [`Error::NotFound`] without such a client; [`Error::Forbidden`] when the caller's client may not
    /// use the API.
    pub async fn issue_api_access(&self, caller: &Caller) -> Result<ApiAccess> {
        let client = self.api_access_client().await?;
        // A key is a way to use the API.
        self.check_client(caller)?;
        // Whatever the client's policy, it is one.
        let client = Client { tokens: TokenPolicy::OneOnly, ..client };
        let own_user = self.users().own_id(self.db(), &caller.username).await?;
        if own_user.is_none() && !self.knows_others() {
            return Err(Error::Forbidden("Only users of this service have API tokens."));
        }
        let now = self.clock().now();
        let mut tx = self.db().begin().await?;
        let whole = TokenTtl::end(client.token_ttl, now);
        let (_, standing) =
            token_store::hold(&mut tx, &caller.username, own_user, &client, "", whole, now).await?;
        if matches!(standing, Standing::Good(_)) {
            return Ok(ApiAccess::Already);
        }
        let (login, _) = self.issue(&mut tx, &caller.username, own_user, &client).await?;
        let last = caller.token().and_then(|token| token.expires_at);
        let by = caller.token().map(|token| token.id);
        token_store::made_by(&mut tx, login.token_id, made_with(caller), last, by).await?;
        if last.is_some() {
            let end = earlier(login.expiry, last);
            token_store::shorten(&mut tx, login.token_id, end).await?;
        }
        tx.commit().await?;
        self.memory().watch.changed().await;
        let token = self.find_token(&caller.username, &client.name).await?;
        let token = token.ok_or(Error::NotFound("API access"))?;
        Ok(ApiAccess::Issued(Box::new(token), login.secret))
    }

    /// Ends the user's own API token.
    ///
    /// # Errors
    /// [`Error::NotFound`] without one.
    pub async fn revoke_api_access(&self, caller: &Caller) -> Result<()> {
        let token = self.api_access(caller).await?;
        self.revoke_token(token.id).await.map(drop)
    }

    /// Removes expired tokens and secrets, so many at once. Answers how many.
    ///
    /// # Errors
    /// The database's.
    pub async fn purge_expired_tokens(&self, before: DateTime<Utc>, limit: i64) -> Result<u64> {
        let mut tx = self.db().begin().await?;
        let (users, secrets) = token_store::delete_expired(&mut tx, before, limit).await?;
        tx.commit().await?;
        let removed = u64::try_from(users.len()).unwrap_or(u64::MAX).saturating_add(secrets);
        for username in users {
            self.memory().signals.send(AuthEvent::TokenExpired { username, source: "cleaner" });
        }
        Ok(removed)
    }
}
