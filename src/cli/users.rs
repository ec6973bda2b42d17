//! `bgfiles create-user`, `set-user`, `set-password`, `create-client`

use std::{
    io::{IsTerminal, Read},
    process::ExitCode,
};

use super::{
    output::{note, say},
    setup,
};
use crate::{
    auth_token::{Role, TokenPolicy},
    config::Flags,
    error::{Error, Result},
    limits::TokenTtl,
    toolbox::{NewUser, UserChanges},
};

/// Adds a user. Without a password they cannot log in, only use tokens.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bgfiles create-user billing --email ops@example.com --role service\n  pass show amy | bgfiles create-user amy --email amy@example.com --password-stdin"
)]
pub(super) struct CreateUser {
    /// Unique, whatever its case; also the requester id of what they ask for
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

/// Changes what is given of a user. A deactivated one is refused at once, everywhere; their tokens
/// stay for the day they are active again. Links to their files, and links that they made to others',
/// end, as whoever has one needs no account.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bgfiles set-user amy --active false\n  bgfiles set-user amy --active false --keep-links"
)]
pub(super) struct SetUser {
    /// Whom
    name: String,
    /// Another address; empty for none
    #[arg(long)]
    email: Option<String>,
    /// `user`, `service` or `staff`
    #[arg(long)]
    role: Option<Role>,
    /// `true` or `false`
    #[arg(long, value_name = "BOOL")]
    active: Option<bool>,
    /// End their links; what deactivating does by itself
    #[arg(long)]
    revoke_links: bool,
    /// Let their links go on until the files' end when they are deactivated
    #[arg(long, conflicts_with = "revoke_links")]
    keep_links: bool,
}

/// Gives a user another password: from standard input, or asked for at a terminal. 12 characters
/// or more; what is easy to guess is refused. Logs them out everywhere: all their tokens and sessions
/// end.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bgfiles set-password amy\n  pass show amy | bgfiles set-password amy --keep"
)]
pub(super) struct SetPassword {
    /// Whose
    name: String,
    /// Let their tokens and sessions go on
    #[arg(long)]
    keep: bool,
    /// What is done without `--keep`
    #[arg(long, hide = true, conflicts_with = "keep")]
    revoke: bool,
}

/// Adds a kind of program that calls the API.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bgfiles create-client web --token-ttl 30d --throttle-rate 100/m\n  bgfiles create-client billing --token-ttl never"
)]
pub(super) struct CreateClient {
    /// Unique
    name: String,
    /// How long its tokens live: `90s`, `12h`, `30d`, `14 00:00` (days and time) or `never` for no
    /// end [default: BGFILES_DEFAULT_TOKEN_TTL, a day]
    #[arg(long, value_name = "TTL", allow_hyphen_values = true)]
    token_ttl: Option<TokenTtl>,
    /// Most calls of a user: `N/s`, `N/m`, `N/h` or `N/d`
    #[arg(long, value_name = "RATE", default_value = "", allow_hyphen_values = true)]
    throttle_rate: String,
    /// `one` of a user, `one-only` (a login ends the one before) or `several` (each login its own)
    #[arg(long, value_name = "HOW_MANY", default_value = "one")]
    tokens: TokenPolicy,
}

impl CreateUser {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let password = self.password_stdin.then(read_password).transpose()?;
        let CreateUser { name: username, email, role, .. } = self;
        let toolbox = setup::accounts(flags).await?;
        let user = toolbox.create_user(NewUser { username, email, role, password }).await?;
        say(format_args!("Created {} {:?}.", user.role.as_str(), user.username));
        Ok(ExitCode::SUCCESS)
    }
}

impl SetUser {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let deactivates = self.active == Some(false);
        let revoke_links = self.revoke_links || (deactivates && !self.keep_links);
        let (email, role, is_active) = (self.email, self.role, self.active);
        let changes = UserChanges { email, role, is_active, revoke_links };
        let toolbox = setup::accounts(flags).await?;
        let user = toolbox.update_user(&self.name, changes).await?;
        let state = if user.is_active { "active" } else { "inactive" };
        let (name, role) = (&user.username, user.role.as_str());
        let links = match (revoke_links, deactivates) {
            (true, _) => {
                "Links to their files, and links that they made, have ended; what was being made for them is cancelled."
            }
            (false, true) => "Links to their files go on; --revoke-links ends them.",
            (false, false) => "",
        };
        say(format_args!("{name:?} is an {state} {role} at {:?}.", user.email));
        if !links.is_empty() {
            note(links);
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl SetPassword {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let toolbox = setup::accounts(flags).await?;
        let user = toolbox.set_password(&self.name, &read_password()?).await?;
        let ended = match self.keep {
            true => " Tokens and sessions go on.".into(),
            false => {
                let tokens = toolbox.revoke_all(&user.username).await?;
                format!(" {tokens} token(s) and all sessions have ended.")
            }
        };
        say(format_args!("Set the password of {:?}.{ended}", user.username));
        Ok(ExitCode::SUCCESS)
    }
}

fn read_password() -> Result<String> {
    let context = "reading the password";
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password("Password: ").map_err(Error::io(context));
    }
    let mut text = String::new();
    let mut input = std::io::stdin().take(64 * 1024);
    input.read_to_string(&mut text).map_err(Error::io(context))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl CreateClient {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let toolbox = setup::accounts(flags).await?;
        let client = toolbox
            .create_client(&self.name, self.token_ttl, &self.throttle_rate, self.tokens)
            .await?;
        let life = match client.token_ttl {
            Some(seconds) => format!("live {seconds} seconds"),
            None => "never expire".into(),
        };
        say(format_args!("Created client {:?}; its tokens {life}.", client.name));
        Ok(ExitCode::SUCCESS)
    }
}
