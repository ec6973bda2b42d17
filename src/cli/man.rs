//! `bgfiles man`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Command;

use super::{output::say, setup};
use crate::error::{Error, Result};

/// Prints the manual page `bgfiles(1)`, or writes it and one for each command to a folder.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bgfiles man | man -l -\n  bgfiles man --dir /usr/local/share/man/man1"
)]
pub(super) struct Man {
    /// Write `bgfiles.1`, `bgfiles-web.1` … here
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self, mut command: Command) -> Result<ExitCode> {
        command.build();
        match self.dir {
            None => {
                let page = render(command)?;
                say(String::from_utf8_lossy(&page).trim_end());
            }
            Some(dir) => {
                std::fs::create_dir_all(&dir).map_err(Error::io(setup::display(&dir)))?;
                write(&command, &dir)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn render(command: Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(Error::io("the manual page"))?;
    Ok(page)
}

/// The page of a command, and of all below it.
fn write(command: &Command, dir: &Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let path = dir.join(format!("{name}.1"));
    std::fs::write(&path, render(command.clone())?).map_err(Error::io(setup::display(&path)))?;
    for below in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        write(below, dir)?;
    }
    Ok(())
}
