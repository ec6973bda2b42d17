//! Who is calling: secrets, looked up or remembered; and how often they may.
//!
//! ```text
//! logins     logging in and out, tokens of a user, API keys
//! sessions   logins of browsers
//! accounts   users and clients of our own
//! actor      what operators may do with them, with its line in the audit log
//! ```

mod accounts;
mod actor;
mod logins;
mod sessions;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    auth_token::{
        AuthEvent, AuthSecret, Caller, ClientRate, Person, Proof, Role, TokenUse, Users,
        token_store,
    },
    error::{Error, Result},
    limits::{Left, Rate},
    toolbox::Toolbox,
    visitor::Visitor,
};

pub use accounts::{NewUser, UserChanges};
pub use actor::{Accounts, ActingOnAccounts};
pub use logins::{ApiAccess, Login};

/// When to try again whose rate cannot be read: somebody has to set it right.
const UNREADABLE: Duration = Duration::from_secs(60);

/// Somebody whom we know by name only.
fn stranger(id: &str, email: Option<&str>) -> Person {
    Person {
        id: id.to_owned(),
        email: email.unwrap_or_default().to_owned(),
        role: Role::User,
        is_active: true,
    }
}

impl Toolbox {
    /// Who shows this secret. The lookup is kept in memory for a while; whatever takes something
    /// away from the caller is seen at once all the same.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for a secret that is none, or is over, or whose user is inactive.
    pub async fn authenticate(&self, secret: &AuthSecret, visitor: &Visitor) -> Result<Caller> {
        let token = self.token_of(secret).await?;
        let person = match (self.users(), &token.user) {
            (Users::Own, Some(person)) => Some(person.clone()),
            (Users::Own, None) => self.somebody_elses_user(&token.user_id).await?,
            (Users::Host(_), _) => self.users().find(self.db(), &token.user_id).await?,
        };
        let caller = Caller::new(person, Proof::Token(Box::new(token)))?;
        if let Some(token) = caller.token()
            && let Some(pause) = self.memory().note(token.id, visitor, self.clock().now())
        {
            let toolbox = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                if let Err(error) = toolbox.flush_uses().await {
                    tracing::warn!(%error, "uses of tokens were not written down yet");
                }
            });
        }
        Ok(caller)
    }

    /// Whether there are users whom a proxy vouches for and our table does not know.
    pub(super) fn knows_others(&self) -> bool {
        matches!(self.users(), Users::Host(_)) || self.auth_settings().identity_header.is_some()
    }

    /// Whose token has no user of ours: of somebody whom a trusted proxy vouched for. A user of
    /// ours who was given that name since is somebody else.
    async fn somebody_elses_user(&self, id: &str) -> Result<Option<Person>> {
        let taken = self.users().find(self.db(), id).await?.is_some();
        Ok((self.knows_others() && !taken).then(|| stranger(id, None)))
    }

    async fn token_of(&self, secret: &AuthSecret) -> Result<TokenUse> {
        let (hash, now) = (secret.hash(), self.clock().now());
        let age = TimeDelta::from_std(self.auth_settings().token_cache).unwrap_or(TimeDelta::MAX);
        // The generation comes first: what is read afterwards is at least as new.
        let generation = match age.is_zero() {
            true => None,
            false => self.memory().watch.generation().await,
        };
        let kept = generation.and_then(|g| self.memory().recall(&hash, g, age, now));
        metrics::counter!("bgfiles_token_lookups_total",
            "from" => if kept.is_some() { "memory" } else { "database" })
        .increment(1);
        if let Some(token) = kept {
            return Ok(token);
        }
        let found = token_store::look_up(&mut self.db().acquire().await?, &hash).await?;
        let token = found.ok_or(Error::Unauthenticated("Invalid token."))?;
        if token.expires_at.is_some_and(|end| end <= now) {
            self.remove_expired(&token).await?;
            return Err(Error::Unauthenticated("The given token has expired."));
        }
        if let Some(generation) = generation {
            self.memory().keep(hash, token.clone(), generation, now);
        }
        Ok(token)
    }

    async fn remove_expired(&self, token: &TokenUse) -> Result<()> {
        let mut tx = self.db().begin().await?;
        let now = self.clock().now();
        let removed = token_store::delete_expired_secret(&mut tx, token, now).await?;
        tx.commit().await?;
        if removed {
            self.memory().signals.send(AuthEvent::TokenExpired {
                username: token.user_id.clone(),
                source: "auth_token",
            });
        }
        Ok(())
    }

    /// Somebody whose name the host application or a trusted proxy vouches for. Whom our directory
    /// knows, by a name that is spelled exactly alike, has the role that it says, and is refused when
    /// inactive; anybody else is a user, whose rows are their own.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] for an inactive user; the directory's.
    pub async fn vouched_for(&self, id: &str, email: Option<&str>, proof: Proof) -> Result<Caller> {
        let known = self.users().find(self.db(), id).await?;
        Caller::new(known.or_else(|| Some(stranger(id, email))), proof)
    }

    /// The rate that somebody's calls are counted at; `None` without a limit, and where it cannot be
    /// read.
    pub fn rate_of(&self, caller: Option<&Caller>) -> Option<Rate> {
        match caller.and_then(Caller::token).map(|token| token.rate) {
            Some(ClientRate::Own(rate)) => Some(rate),
            Some(ClientRate::Unreadable) => None,
            Some(ClientRate::Default) | None => self.auth_settings().default_throttle,
        }
    }

    /// Counts a call: of a user and client at the client's rate, of a user without a client or of
    /// an address at the default one. Answers what is left.
    ///
    /// # Errors
    /// [`Error::Throttled`] above the rate, and where the client's cannot be read; the database's.
    pub async fn throttle(
        &self,
        caller: Option<&Caller>,
        visitor: &Visitor,
    ) -> Result<Option<Left>> {
        let client = caller.and_then(Caller::token);
        if client.is_some_and(|token| token.rate == ClientRate::Unreadable) {
            return Err(Error::Throttled { retry_after: UNREADABLE });
        }
        let Some(rate) = self.rate_of(caller) else { return Ok(None) };
        let who = match (caller, client) {
            // Names have no line breaks.
            (Some(caller), Some(token)) => format!("client\n{}\n{}", token.client, caller.username),
            (Some(caller), None) => format!("user\n{}", caller.username),
            _ => format!("network\n{}", visitor.network()),
        };
        self.memory().throttle.take(self.db(), who, rate, self.clock().now()).await.map(Some)
    }

    /// Counts a call of a link, of the visitor's network.
    ///
    /// # Errors
    /// [`Error::Throttled`] above the rate; the database's.
    pub async fn throttle_download(&self, visitor: &Visitor) -> Result<()> {
        let Some(rate) = self.download_rate() else { return Ok(()) };
        let who = format!("download\n{}", visitor.network());
        self.memory().throttle.take(self.db(), who, rate, self.clock().now()).await.map(drop)
    }

    /// Whether the settings let the caller's client use the API.
    ///
    /// # Errors
    /// [`Error::Forbidden`].
    pub fn check_client(&self, caller: &Caller) -> Result<()> {
        let (allowed, refused) =
            (&self.auth_settings().allowed_clients, &self.auth_settings().disallowed_clients);
        let named = |list: &std::collections::BTreeSet<String>| {
            caller.client().is_some_and(|client| list.contains(client))
        };
        let fits = (allowed.is_empty() || named(allowed)) && !named(refused);
        fits.then_some(()).ok_or(Error::Forbidden("this client may not use the API"))
    }

    /// Writes down who used which token last. A web process does so every ten seconds, and when it
    /// ends.
    ///
    /// # Errors
    /// The database's.
    pub async fn flush_uses(&self) -> Result<()> {
        let uses = self.memory().take_uses();
        if uses.is_empty() {
            return Ok(());
        }
        let mut uses: Vec<_> = uses.into_iter().collect();
        // In the order of everybody who changes several tokens.
        uses.sort_by_key(|(token, _)| *token);
        let written = self.write_uses(&uses).await;
        if written.is_err() {
            self.memory().put_back(uses);
        }
        written
    }

    async fn write_uses(&self, uses: &[(Uuid, (DateTime<Utc>, Visitor))]) -> Result<()> {
        let mut tx = self.db().begin().await?;
        for (token, (at, visitor)) in uses {
            token_store::used(&mut tx, *token, *at, visitor).await?;
        }
        tx.commit().await
    }
}
