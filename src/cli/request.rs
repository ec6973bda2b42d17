//! `bgfiles request`

use std::process::ExitCode;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{output::say, setup};
use crate::{
    auth_token::Role,
    config::Flags,
    error::Result,
    file_request::{NewFileRequest, Requester},
    ids::hex,
    registry::Registry,
    toolbox::IdempotencyKey,
};

/// Records a file request for a worker, and prints its id.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  bgfiles request flights --criteria origin=JFK --format xlsx --email amy@example.com"
)]
pub(super) struct Request {
    /// Which kind of file
    file_type: String,
    /// What to put in it; repeat as needed
    #[arg(long, value_name = "NAME=VALUE")]
    criteria: Vec<String>,
    /// One of the file type's formats
    #[arg(long)]
    format: Option<String>,
    /// The requester's id in your application
    #[arg(long, value_name = "ID")]
    requester: Option<String>,
    /// Where to mail the link
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    email: String,
    /// Name of the file
    #[arg(long)]
    filename: Option<String>,
    /// For people
    #[arg(long)]
    description: Option<String>,
    /// The requester's language, e.g. `nl`
    #[arg(long)]
    language: Option<String>,
    /// The requester's time zone, e.g. `Europe/Amsterdam`
    #[arg(long)]
    timezone: Option<String>,
    /// Only the requester may use the link; `=false`: whoever has it, also where the file type says
    /// otherwise
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    requester_only: Option<bool>,
    /// Send no mail
    #[arg(long)]
    no_notify: bool,
    /// Makes a repeat of this command harmless
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print the whole request as JSON
    #[arg(long)]
    json: bool,
}

impl Request {
    pub(super) async fn run(self, flags: &Flags, registry: Registry) -> Result<ExitCode> {
        let config = setup::config(flags)?;
        let toolbox = setup::toolbox(&config, registry).await?;
        let new = NewFileRequest {
            criteria: setup::criteria(&self.criteria)?,
            format: self.format,
            requester: Requester { id: self.requester, email: self.email },
            filename: self.filename,
            description: self.description,
            language: self.language,
            timezone: self.timezone,
            requester_only: self.requester_only,
            notify: Some(!self.no_notify),
            ..NewFileRequest::new(self.file_type.parse()?)
        };
        let fingerprint = new.fingerprint("later");
        // Keys that were stored earlier stand for this.
        let before = hex(&Sha256::digest(format!("{new:?}")));
        let key = self.idempotency_key.as_deref().map(|key| IdempotencyKey {
            caller: "cli",
            key,
            fingerprint: &fingerprint,
            before: Some(&before),
        });
        // Who may run this may do everything.
        let mut tx = toolbox.db().begin().await?;
        let row = toolbox.add_noted(&mut tx, "cli", new, key).await?.row;
        tx.commit().await?;
        match self.json {
            true => say(json!(toolbox.shown(&row, Role::Staff))),
            false => say(row.id),
        }
        Ok(ExitCode::SUCCESS)
    }
}
