//! `bgfiles create-user`, `create-client`, `create-token`

use std::{io::Read, process::ExitCode, time::Duration};

use chrono::TimeDelta;
use uuid::Uuid;

use super::{output::say, setup};
use crate::{
    auth_token::{
        AuthSecret, AuthToken, Client, Role, User, check_throttle_rate, check_username,
        hash_password, store,
    },
    clock::Clock,
    config::Flags,
    db::Db,
    error::{Error, Result},
};

/// Adds a user. Without a password they cannot log in, only use tokens.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  bgfiles create-user billing --email ops@example.com --role service"
)]
pub(super) struct CreateUser {
    /// Unique; also the requester id of what they ask for
    name: String,
    /// Where their notices go
    #[arg(long, default_value = "")]
    email: String,
    /// `user` (own requests), `service` (an application: any requester) or `staff` (everything)
    #[arg(long, default_value = "user")]
    role: Role,
    /// Read a password from standard input
    #[arg(long)]
    password_stdin: bool,
}

/// Adds a kind of program that calls the API.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  bgfiles create-client web --token-ttl 30d --throttle-rate 100/m"
)]
pub(super) struct CreateClient {
    /// Unique
    name: String,
    /// How long its tokens live: `90s`, `12h`, `30d`; for ever when left out
    #[arg(long, value_name = "TTL", value_parser = crate::export::parse_duration)]
    token_ttl: Option<Duration>,
    /// Most calls: `N/s`, `N/m`, `N/h` or `N/d`
    #[arg(long, value_name = "RATE", default_value = "", allow_hyphen_values = true)]
    throttle_rate: String,
}

/// Issues a token and prints its secret, alone. It is shown this once.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  TOKEN=$(bgfiles create-token --user billing --client web)")]
pub(super) struct CreateToken {
    /// Whose
    #[arg(long)]
    user: String,
    /// From which client
    #[arg(long)]
    client: String,
}

/// A database whose schema fits.
async fn database(flags: &Flags) -> Result<Db> {
    let db = Db::open(&setup::config(flags)?.database_url)?;
    db.require_current().await?;
    Ok(db)
}

impl CreateUser {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        check_username(&self.name)?;
        if !self.email.is_empty() && self.email.parse::<lettre::Address>().is_err() {
            return Err(Error::invalid("email", "is not an e-mail address"));
        }
        let password_hash = match self.password_stdin {
            true => Some(hash_password(&read_password()?)?),
            false => None,
        };
        let db = database(flags).await?;
        let user = User {
            id: Uuid::new_v4(),
            username: self.name,
            email: self.email,
            role: self.role,
            is_active: true,
        };
        let mut tx = db.begin().await?;
        store::insert_user(&mut tx, &user, password_hash.as_deref(), Clock::system().now()).await?;
        tx.commit().await?;
        say(format_args!("Created {} {:?}.", user.role.as_str(), user.username));
        Ok(ExitCode::SUCCESS)
    }
}

fn read_password() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .take(64 * 1024)
        .read_to_string(&mut text)
        .map_err(Error::io("reading the password"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl CreateClient {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        check_throttle_rate(&self.throttle_rate)?;
        if !(1..=64).contains(&self.name.trim().chars().count()) {
            return Err(Error::invalid("name", "must be 1 to 64 characters"));
        }
        let ttl = self.token_ttl.map(|ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
        if ttl == Some(0) {
            return Err(Error::invalid("token_ttl", "must be a second or more"));
        }
        let db = database(flags).await?;
        let client = Client {
            id: Uuid::new_v4(),
            name: self.name,
            token_ttl: ttl,
            throttle_rate: self.throttle_rate,
        };
        let mut tx = db.begin().await?;
        store::insert_client(&mut tx, &client, Clock::system().now()).await?;
        tx.commit().await?;
        say(format_args!("Created client {:?}.", client.name));
        Ok(ExitCode::SUCCESS)
    }
}

impl CreateToken {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let db = database(flags).await?;
        let secret = issue(&db, &self.user, &self.client, &Clock::system()).await?;
        say(secret.expose());
        Ok(ExitCode::SUCCESS)
    }
}

/// A new token for a user and a client that exist.
pub(super) async fn issue(db: &Db, user: &str, client: &str, clock: &Clock) -> Result<AuthSecret> {
    let mut tx = db.begin().await?;
    let missing = |field: &str, name: &str| Error::invalid(field, format!("there is no {name:?}"));
    let user_row = store::find_user(&mut tx, user).await?;
    let user_id = user_row.ok_or_else(|| missing("user", user))?.id;
    let client_row = store::find_client(&mut tx, client).await?;
    let client_row = client_row.ok_or_else(|| missing("client", client))?;
    let (secret, now) = (AuthSecret::random(), clock.now());
    let ttl = client_row.token_ttl.and_then(TimeDelta::try_seconds);
    let token = AuthToken {
        id: Uuid::new_v4(),
        hash: secret.hash(),
        prefix: secret.prefix(),
        user_id,
        client_id: client_row.id,
        created_at: now,
        expires_at: ttl.and_then(|ttl| now.checked_add_signed(ttl)),
    };
    store::insert_token(&mut tx, &token).await?;
    tx.commit().await?;
    Ok(secret)
}
