//! `bgfiles clean`

use std::{process::ExitCode, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{output::say, setup};
use crate::{
    cleaner::{self, Limits, Sweeps, Swept},
    config::{Config, Flags, LogFormat},
    duration::{Bare, parse_duration, parse_seconds},
    error::{Error, Result},
    registry::Registry,
    toolbox::Toolbox,
};

/// Runs the sweeps of `jobs/cleaner.toml`, which remove what nobody needs any longer
#[derive(clap::Args)]
#[command(after_help = after_help())]
pub(super) struct Clean {
    /// End after this long: `90s`, `5m`, or a number of seconds
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    /// Pause between two removals: `1s`, or a number of seconds (`0.2`)
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_seconds)]
    sleep: Duration,
    /// End each sweep after this many removals
    #[arg(long, value_name = "N")]
    items: Option<u64>,
    /// How long files stay after their expiry, so that running downloads end well: `1h`, or a number
    /// of seconds; wins over cleaner.toml
    #[arg(long, value_name = "TIME", value_parser = leeway)]
    leeway: Option<Duration>,
    /// Stay and clean again and again: `90s`, `5m`, `1h`
    #[arg(long, value_name = "INTERVAL", value_parser = parse_duration)]
    every: Option<Duration>,
}

fn after_help() -> String {
    let sweeps: Vec<&str> = cleaner::sweep_names().collect();
    let examples = "Examples:\n  bgfiles clean --timeout 60\n  bgfiles clean --every 5m";
    format!("Sweeps: {}\n\n{examples}", sweeps.join(", "))
}

fn leeway(text: &str) -> Result<Duration, String> {
    Bare::Seconds.parse(text)
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
            setup::introduce("clean", &toolbox).await;
            let swept = cleaner::clean(&toolbox, &sweeps, limits).await?;
            log(&swept);
            if config.log_format == LogFormat::Text {
                report(&swept);
            }
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
        setup::introduce("clean", &toolbox).await;
        setup::monitor(&config, &toolbox, &shutdown).await?;
        let limits = Limits { stop: shutdown.clone(), ..limits };
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = once(&toolbox, &sweeps, limits.clone()) => {}
                // A sweep ends after the removal under way. One that waits for a store or a database
                // is left; what it leaves half done is done the next time.
                () = over(&shutdown, config.drain) => {
                    tracing::warn!("a sweep did not end in time and is given up");
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
            let seconds = u32::try_from(leeway.as_secs()).unwrap_or(u32::MAX);
            sweeps.setting("expired_requests")?.keep = seconds;
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
        Ok(swept) => log(&swept),
        Err(error) => tracing::error!(%error, "cleaning failed"),
    }
}

/// A line of the log for each sweep.
fn log(swept: &[Swept]) {
    for s in swept {
        let (sweep, removed, total, failed) = (s.name, s.removed, s.total, s.failed);
        tracing::info!(sweep, removed, total, failed, outcome = s.ended.as_str(), "swept");
    }
}

/// What a run came to, for whoever started it.
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
