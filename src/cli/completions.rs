//! `bgfiles completions`

use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use super::output::say;
use crate::error::Result;

/// Prints a script by which a shell completes commands, flags and their values.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bgfiles completions bash > /etc/bash_completion.d/bgfiles\n  bgfiles completions zsh > /usr/local/share/zsh/site-functions/_bgfiles\n  bgfiles completions fish > ~/.config/fish/completions/bgfiles.fish"
)]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, command: &mut Command) -> Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "bgfiles", &mut script);
        say(String::from_utf8_lossy(&script).trim_end());
        Ok(ExitCode::SUCCESS)
    }
}
