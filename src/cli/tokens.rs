//! `bgfiles create-token`, `list-tokens`, `revoke-token`

use std::process::ExitCode;

use serde_json::{Value, json};

use super::{
    output::{note, say},
    setup,
};
use crate::{
    auth_token::{Token, token_store},
    config::Flags,
    error::Result,
    file_request::model::rfc3339,
};

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

/// Shows tokens, never secrets. Their use is known to ten seconds.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  bgfiles list-tokens --user amy --json")]
pub(super) struct ListTokens {
    /// Of this user only
    #[arg(long)]
    user: Option<String>,
    /// With this client only
    #[arg(long)]
    client: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Ends a token with all its secrets. When it returns, no process honours it.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bgfiles revoke-token bgf_x7Kq2a\n  bgfiles revoke-token 7f3c2f0e-6f0e-4d53-9b43-0d6a1c3f2b11"
)]
pub(super) struct RevokeToken {
    /// The first ten characters of a secret, or the token's id (see `list-tokens`)
    token: String,
}

impl CreateToken {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let toolbox = setup::accounts(flags).await?;
        let (person, client) = toolbox.person_and_client(&self.user, &self.client).await?;
        let login = toolbox.issue_secret(&person, &client).await?;
        say(login.secret.expose());
        if let Some(at) = rfc3339(login.expiry) {
            note(format_args!("It is good until {at}."));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ListTokens {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let toolbox = setup::accounts(flags).await?;
        let filter = token_store::Filter {
            user_id: self.user.as_deref(),
            client: self.client.as_deref(),
            good_at: None,
        };
        let tokens = token_store::list(&mut toolbox.db().acquire().await?, &filter).await?;
        let now = toolbox.clock().now();
        for token in &tokens {
            let json = to_json(token);
            if self.json {
                say(json);
            } else {
                let text = |name: &str| json[name].as_str().unwrap_or("-").to_owned();
                let over = if token.has_expired(now) { " (expired)" } else { "" };
                say(format_args!(
                    "{}  {:<10}  {} / {}  until {}{over}  last used {} from {}",
                    token.id,
                    text("prefix"),
                    token.user_id,
                    token.client,
                    json["expires_at"].as_str().unwrap_or("never"),
                    text("last_used_at"),
                    text("last_ip"),
                ));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn to_json(token: &Token) -> Value {
    json!({
        "id": token.id,
        "prefix": token.prefix,
        "user": token.user_id,
        "client": token.client,
        "created_at": rfc3339(Some(token.created_at)),
        "expires_at": rfc3339(token.expires_at),
        "last_used_at": rfc3339(token.last_used_at),
        "last_ip": token.last_ip,
        "last_user_agent": token.last_user_agent,
    })
}

impl RevokeToken {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let toolbox = setup::accounts(flags).await?;
        let id = toolbox.revoke_named(&self.token).await?;
        say(format_args!("Revoked {id}."));
        Ok(ExitCode::SUCCESS)
    }
}
