//! `bgfiles link`

use std::{process::ExitCode, time::Duration};

use serde_json::json;

use super::{output::say, setup};
use crate::{
    auth_token::Role,
    config::Flags,
    error::{Error, Result},
    file_request::{links, store},
    registry::Registry,
    toolbox::LinkOptions,
};

/// Makes a download link that can be listed and revoked, and prints its URL.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  bgfiles link 2f1c… --max-age 1h")]
pub(super) struct Link {
    /// The request's id
    request_id: String,
    /// How long the link works: `90s`, `5m`, `1h`, `1d`
    #[arg(long, value_name = "AGE", value_parser = crate::duration::parse_duration)]
    max_age: Option<Duration>,
    /// How often it can be redeemed; opening a limited link shows a page first
    #[arg(long, value_name = "N")]
    max_uses: Option<std::num::NonZeroU32>,
    /// Opening it shows a page first, so that mail scanners do not download
    #[arg(long)]
    scanner_safe: bool,
    /// Only the requester may use it; `=false`: whoever has it, also where the file type says otherwise
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    requester_only: Option<bool>,
    /// Print the link's row as JSON, with its URL
    #[arg(long)]
    json: bool,
}

impl Link {
    pub(super) async fn run(self, flags: &Flags, registry: Registry) -> Result<ExitCode> {
        let config = setup::config(flags)?;
        let toolbox = setup::toolbox(&config, registry).await?;
        let id = self.request_id.parse();
        let id = id.map_err(|_| Error::invalid("REQUEST_ID", "is not an id"))?;
        let mut tx = toolbox.db().begin().await?;
        let row = store::find(&mut tx, id).await?.ok_or(Error::NotFound("request"))?;
        let options = LinkOptions {
            requester_only: self.requester_only,
            max_age: self.max_age,
            max_uses: self.max_uses.map(Some),
            scanner_safe: self.scanner_safe.then_some(true),
            created_by: "cli".into(),
            // Who may run this may do everything.
            role: Role::Staff,
            ..Default::default()
        };
        let (link, url) = toolbox.create_link(&mut tx, &row, options).await?;
        tx.commit().await?;
        match self.json {
            true => {
                let link = links::Shown::of(&link, toolbox.is_bound(&row, Some(&link)));
                say(json!(links::Made { link, url }));
            }
            false => say(url),
        }
        Ok(ExitCode::SUCCESS)
    }
}
