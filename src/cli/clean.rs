//! `bgfiles clean`

use std::{process::ExitCode, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    output::{complain, note, say},
    setup,
};
use crate::{
    cleaner::{self, Limits, Sweeps, Swept},
    config::{Config, Flags},
    error::{Error, Result},
    registry::Registry,
    toolbox::Toolbox,
};

/// Runs the sweeps of `jobs/cleaner.toml`: expired requests and their files, orphan objects,
/// finished queue rows, idempotency keys.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  bgfiles clean --timeout 60\n  bgfiles clean --every 5m")]
pub(super) struct Clean {
    /// End after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Pause between two removals, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    sleep: Duration,
    /// End each sweep after this many removals
    #[arg(long, value_name = "N")]
    items: Option<u64>,
    /// Seconds that files stay after their expiry, so that running downloads end well; wins over
    /// cleaner.toml
    #[arg(long, value_name = "SECONDS")]
    leeway: Option<u32>,
    /// Stay and clean again and again: `90s`, `5m`, `1h`
    #[arg(long, value_name = "INTERVAL", value_parser = crate::export::parse_duration)]
    every: Option<Duration>,
}

/// Seconds, fractions allowed.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let length = text.parse().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
    // Beyond ten years it is a slip of the pen; and clocks have an end.
    let fits = length.filter(|length| *length <= Duration::from_secs(3_650 * 86_400));
    fits.ok_or_else(|| "must be a number of seconds, ten years at most".to_owned())
}

impl Clean {
    pub(super) async fn run(self, flags: &Flags, registry: Registry) -> Result<ExitCode> {
        let config = setup::config(flags)?;
        let sweeps = self.sweeps(&config)?;
        let limits = Limits {
            sleep: self.sleep,
            timeout: self.timeout,
            items: self.items,
            ..Limits::default()
        };
        let Some(every) = self.every else {
            let toolbox = setup::toolbox(&config, registry).await?;
            let swept = cleaner::clean(&toolbox, &sweeps, limits).await?;
            report(&swept);
            let clean = swept.iter().all(|s| s.failed == 0);
            return Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        };
        if every.is_zero() {
            return Err(Error::Config("--every: must be more than nothing".into()));
        }
        let shutdown = setup::shutdown()?;
        let Some(toolbox) = setup::toolbox_when_ready(&config, registry, &shutdown).await? else {
            return Ok(ExitCode::SUCCESS);
        };
        setup::monitor(&config, &toolbox, &shutdown).await?;
        let limits = Limits { stop: shutdown.clone(), ..limits };
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = once(&toolbox, &sweeps, limits.clone()) => {}
                // A sweep ends after the removal under way. One that waits for a store or a database
                // is left; what it leaves half done is done the next time.
                () = over(&shutdown, config.drain) => {
                    note("a sweep did not end in time and is given up");
                    break;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn sweeps(&self, config: &Config) -> Result<Sweeps> {
        let mut sweeps = Sweeps::load(&config.jobs_dir)?;
        if let Some(leeway) = self.leeway {
            sweeps.expired_requests.keep = leeway;
        }
        Ok(sweeps)
    }
}

/// Until a stop has been asked for so long ago.
async fn over(shutdown: &CancellationToken, drain: Duration) {
    shutdown.cancelled().await;
    tokio::time::sleep(drain).await;
}

async fn once(toolbox: &Toolbox, sweeps: &Sweeps, limits: Limits) {
    match cleaner::clean(toolbox, sweeps, limits).await {
        Ok(swept) => report(&swept),
        Err(error) => complain(&error),
    }
}

fn report(swept: &[Swept]) {
    for s in swept {
        let total = s.total.map_or(String::new(), |total| format!(" of {total}"));
        let failed = if s.failed > 0 { format!(", {} failed", s.failed) } else { String::new() };
        say(format_args!(
            "{}: removed {}{total} ({}){failed}",
            s.name,
            s.removed,
            s.ended.as_str()
        ));
    }
}
