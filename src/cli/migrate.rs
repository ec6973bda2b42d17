//! `bgfiles migrate`

use std::process::ExitCode;

use super::{output::say, setup};
use crate::{config::Flags, db::Db, error::Result, toolbox::Toolbox};

/// Applies what is missing and nothing else. Safe to repeat, and safe while web and worker run.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  DATABASE_URL=postgres://localhost/app bgfiles migrate")]
pub(super) struct Migrate {}

impl Migrate {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let config = setup::config(flags)?;
        let db = Db::open_with(&config.database_url, config.database_connections)?;
        Toolbox::migrate(&db).await.map_err(setup::refused)?;
        say(format_args!("The {} schema is up to date.", db.kind()));
        db.close().await;
        Ok(ExitCode::SUCCESS)
    }
}
