//! `bgfiles web`

use std::{path::PathBuf, process::ExitCode};

use super::setup;
use crate::{
    config::{Config, Flags},
    error::{Error, Result},
    registry::Registry,
    toolbox::Toolbox,
    web::{WebState, router, server},
};

/// How long the receipts of the last downloads may take.
const RECEIPTS: std::time::Duration = std::time::Duration::from_secs(5);

/// Serves the API, downloads, `/healthz`, `/readyz` and `/metrics`. SIGTERM lets answers under way
/// end.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  bgfiles web --bind 0.0.0.0:8000 --base-url https://files.example.com"
)]
pub(super) struct Web {
    /// Address to listen on [env: BGFILES_BIND]
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
    /// Where people reach this process [env: BGFILES_BASE_URL]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
}

/// The folder that `/dev/mail` shows.
pub(super) fn mailbox(config: &Config, toolbox: &Toolbox) -> Result<Option<PathBuf>> {
    let folder = toolbox.mailer().folder();
    if config.dev_mail && folder.is_none() {
        let message = "BGFILES_DEV_MAIL shows mails of a folder: set BGFILES_MAIL to file:FOLDER";
        return Err(Error::Config(message.into()));
    }
    Ok(folder.filter(|_| config.dev_mail).map(Into::into))
}

impl Web {
    pub(super) async fn run(self, mut flags: Flags, registry: Registry) -> Result<ExitCode> {
        flags.extend(self.bind.map(|bind| ("bind", bind)));
        flags.extend(self.base_url.map(|url| ("base_url", url)));
        let config = setup::config(&flags)?;
        let shutdown = setup::shutdown()?;
        let metrics = setup::metrics()?;
        let Some(toolbox) = setup::toolbox_when_ready(&config, registry, &shutdown).await? else {
            return Ok(ExitCode::SUCCESS);
        };
        setup::introduce("web", &toolbox).await;
        let state = WebState {
            serve: config.serve.clone(),
            body_limit: config.body_limit,
            shutdown: shutdown.clone(),
            metrics: Some(metrics),
            pages: config.pages,
            mailbox: mailbox(&config, &toolbox)?,
            cors: config.cors_origins.clone(),
            ..WebState::new(toolbox.clone())
        };
        let receipts = state.receipts.clone();
        let listener = server::listen(config.bind).await?;
        let address = listener.local_addr().unwrap_or(config.bind);
        tracing::info!(%address, database = toolbox.db().kind(), "serving");
        let limits = server::Limits { drain: config.drain, ..Default::default() };
        server::serve(listener, router(state), limits, shutdown).await;
        receipts.close();
        if tokio::time::timeout(RECEIPTS, receipts.wait()).await.is_err() {
            tracing::warn!("some receipts of downloads were not written");
        }
        toolbox.close().await;
        Ok(ExitCode::SUCCESS)
    }
}
