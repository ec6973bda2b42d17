//! `bgfiles request-token …` and `truncate-request-token-log`

use std::{process::ExitCode, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::{output::say, setup, token::time};
use crate::{
    config::Flags,
    error::{Error, Result},
    registry::Registry,
    request_token::{Issued, LoginMode, NewRequestToken, RequestToken, Shown, ShownUse, store},
    toolbox::Toolbox,
};

/// Request tokens: JWTs that admit to a scope, ruled by a row.
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Issue a token and print its JWT, alone
    #[command(
        after_help = "Example:\n  bgfiles request-token create --scope report --max-uses 1 --expires 1h \\\n    --url https://app.example.com/report?year=2026"
    )]
    Create(Create),
    /// Show a token, by its number or its JWT, and why it would not admit now; exit 0 when it would, else 1
    #[command(after_help = "Example:\n  bgfiles request-token show 17 --uses")]
    Show(Show),
    /// End a token: its JWTs admit nobody from now on
    #[command(after_help = "Example:\n  bgfiles request-token expire 17")]
    Expire(Expire),
}

/// Options of `request-token create`.
#[derive(clap::Args)]
pub(super) struct Create {
    /// What it admits to
    #[arg(long)]
    scope: String,
    /// `none`, `request` (acts as its user) or `session` (logs its user in)
    #[arg(long, default_value = "none")]
    login_mode: LoginMode,
    /// The one it is for
    #[arg(long)]
    user: Option<String>,
    /// How long it works: `90s`, `10m`, `1d`
    #[arg(long, value_name = "AGE", value_parser = crate::duration::parse_duration)]
    expires: Option<Duration>,
    /// From when it works: RFC 3339 or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = time)]
    not_before: Option<DateTime<Utc>>,
    /// How often it admits
    #[arg(long, value_name = "N")]
    max_uses: Option<i32>,
    /// JSON to keep with it
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    /// Print this URL with the token in it, instead of the JWT
    #[arg(long)]
    url: Option<String>,
    /// Print the row as JSON, with the JWT
    #[arg(long)]
    json: bool,
}

/// Options of `request-token show`.
#[derive(clap::Args)]
pub(super) struct Show {
    /// Its number, or a JWT
    token: String,
    /// With its log, newest first
    #[arg(long)]
    uses: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `request-token expire`.
#[derive(clap::Args)]
pub(super) struct Expire {
    /// Its number, or a JWT
    token: String,
}

/// Removes old lines of the log of request tokens. Of two limits the one that removes more wins;
/// without a limit nothing is removed.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  bgfiles truncate-request-token-log --max-count 100000 --max-days 90"
)]
pub(super) struct TruncateLog {
    /// Keep so many of the newest
    #[arg(long, value_name = "N")]
    max_count: Option<u32>,
    /// Keep those of so many days
    #[arg(long, value_name = "N")]
    max_days: Option<u32>,
}

impl Command {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let toolbox = toolbox(flags).await?;
        match self {
            Command::Create(create) => create.run(&toolbox).await,
            Command::Show(show) => show.run(&toolbox).await,
            Command::Expire(expire) => {
                let token = find(&toolbox, &expire.token).await?;
                let mut tx = toolbox.db().begin().await?;
                toolbox.expire_request_token(&mut tx, token.id).await?;
                tx.commit().await?;
                say(format_args!("Expired request token {}.", token.id));
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// The operations, without any file types: these commands make none.
async fn toolbox(flags: &Flags) -> Result<Toolbox> {
    let toolbox = Toolbox::from_config(&setup::config(flags)?, Registry::default())?;
    toolbox.db().require_current().await?;
    Ok(toolbox)
}

async fn find(toolbox: &Toolbox, text: &str) -> Result<RequestToken> {
    let found = match text.parse() {
        Ok(id) => store::find(&mut toolbox.db().read().await?, id).await?,
        Err(_) => toolbox.find_by_jwt(text).await?,
    };
    found.ok_or(Error::NotFound("request token"))
}

impl Create {
    async fn run(self, toolbox: &Toolbox) -> Result<ExitCode> {
        let now = toolbox.clock().now();
        let data = self.data.as_deref().map(serde_json::from_str).transpose();
        let data = data.map_err(|e| Error::invalid("data", format!("is no JSON: {e}")))?;
        let age = self.expires.and_then(|age| TimeDelta::from_std(age).ok());
        let new = NewRequestToken {
            login_mode: self.login_mode,
            user_id: self.user,
            expiration_time: age.map(|age| now + age),
            not_before_time: self.not_before,
            data: data.unwrap_or_else(|| json!({})),
            max_uses: self.max_uses,
            created_by: "cli".into(),
            ..NewRequestToken::new(self.scope)
        };
        let mut tx = toolbox.db().begin().await?;
        let token = toolbox.create_request_token(&mut tx, new).await?;
        tx.commit().await?;
        let jwt = toolbox.jwt(&token)?;
        let url = self.url.map(|url| toolbox.tokenise(&token, &url)).transpose()?;
        if self.json {
            say(json!(Issued::of(&token, jwt, url, now)));
        } else {
            say(url.unwrap_or(jwt));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    async fn run(self, toolbox: &Toolbox) -> Result<ExitCode> {
        let token = find(toolbox, &self.token).await?;
        let now = toolbox.clock().now();
        let mut json = json!(Shown::of(&token, now));
        if self.uses {
            let uses = store::uses(&mut toolbox.db().read().await?, token.id, None, 1000).await?;
            json["uses"] = uses.iter().map(|used| json!(ShownUse::of(used))).collect();
        }
        if self.json {
            say(&json);
        } else {
            let verdict = match token.denial(now) {
                None => "admits now",
                Some(denial) => denial.message(),
            };
            say(format_args!("request token {}: {verdict}", token.id));
            for (name, value) in json.as_object().into_iter().flatten() {
                match value {
                    Value::String(text) => say(format_args!("{name}: {text}")),
                    value => say(format_args!("{name}: {value}")),
                }
            }
        }
        let valid = token.is_valid(now);
        Ok(if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl TruncateLog {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let toolbox = toolbox(flags).await?;
        let removed = toolbox.truncate_request_token_log(self.max_count, self.max_days).await?;
        say(format_args!("Removed {removed} lines."));
        Ok(ExitCode::SUCCESS)
    }
}
