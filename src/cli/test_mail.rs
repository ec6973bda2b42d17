//! `bgfiles send-test-mail`

use std::process::ExitCode;

use super::{output::say, setup};
use crate::{
    config::Flags,
    error::{Error, Result},
    mail,
    registry::Registry,
};

/// Sends one real mail, of the look that mails of finished files have, through the configured
/// transport, and says what the server answered. Its link leads nowhere.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  bgfiles send-test-mail amy@example.com --language nl")]
pub(super) struct SendTestMail {
    /// To whom
    address: String,
    /// In which language: `nl`, `pt-BR`
    #[arg(long, value_name = "TAG", default_value = "en")]
    language: String,
}

impl SendTestMail {
    pub(super) async fn run(self, flags: &Flags, registry: Registry) -> Result<ExitCode> {
        mail::address(&self.address).map_err(|why| {
            Error::invalid("ADDRESS", format!("is not an e-mail address: it {why}"))
        })?;
        let config = setup::config(flags)?;
        let toolbox = crate::toolbox::Toolbox::from_config(&config, registry)?;
        let answer = toolbox.send_example(&self.address, &self.language).await?;
        say(format_args!("Sent to {}: {answer}", self.address));
        Ok(ExitCode::SUCCESS)
    }
}
