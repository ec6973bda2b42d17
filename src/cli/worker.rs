//! `bgfiles worker`

use std::process::ExitCode;

use super::setup;
use crate::{
    config::Flags,
    error::Result,
    registry::Registry,
    worker::{self, WorkerOptions},
};

/// Makes files and sends notices until SIGTERM, which lets running work end within
/// BGFILES_DRAIN seconds and gives back the rest. Run as many as you like.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  bgfiles worker --workers 4")]
pub(super) struct Worker {
    /// Files made at the same time [env: BGFILES_WORKERS]
    #[arg(long, value_name = "N")]
    workers: Option<String>,
}

impl Worker {
    pub(super) async fn run(self, mut flags: Flags, registry: Registry) -> Result<ExitCode> {
        flags.extend(self.workers.map(|workers| ("workers", workers)));
        let config = setup::config(&flags)?;
        let shutdown = setup::shutdown()?;
        let Some(toolbox) = setup::toolbox_when_ready(&config, registry, &shutdown).await? else {
            return Ok(ExitCode::SUCCESS);
        };
        setup::introduce("worker", &toolbox).await;
        setup::monitor(&config, &toolbox, &shutdown).await?;
        let options = WorkerOptions { slots: config.workers.get(), drain: config.drain };
        worker::run(toolbox, options, shutdown).await;
        Ok(ExitCode::SUCCESS)
    }
}
