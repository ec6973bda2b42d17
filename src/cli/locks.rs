//! `bgfiles remove-expired-locks`

use std::process::ExitCode;

use super::{output::say, setup};
use crate::{config::Flags, error::Result};

/// Removes locks whose time is over, and prints how many. Until then their tokens are honoured as
/// long as nobody else takes the lock. The cleaner does so, too, a day later.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  bgfiles remove-expired-locks")]
pub(super) struct RemoveExpiredLocks {}

impl RemoveExpiredLocks {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let toolbox = setup::accounts(flags).await?;
        let (now, mut locks) = (toolbox.clock().now(), 0);
        loop {
            let (removed, rows) = toolbox.remove_stale_locks(now, 1000).await?;
            locks += removed;
            if rows == 0 {
                break;
            }
        }
        say(format_args!("Removed {locks} expired lock(s)."));
        Ok(ExitCode::SUCCESS)
    }
}
