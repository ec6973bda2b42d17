//! `bgfiles process`

use std::{collections::HashSet, process::ExitCode, time::Duration};

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{output::say, setup};
use crate::{
    config::Flags,
    duration::parse_seconds,
    error::Result,
    file_request::{
        model::rfc3339,
        notice,
        store::{self, WaitingType},
    },
    ids::{RequestId, hex},
    registry::Registry,
    toolbox::{Dispatched, Toolbox, Unknown},
    worker,
};

/// Makes the files that are due, sends the notices that are due, and exits. For people with cron
/// and without a worker process; both may also run at the same time.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  * * * * *  bgfiles process --timeout 50")]
pub(super) struct Process {
    /// Pause between two requests: `1s`, or a number of seconds (`0.2`)
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = parse_seconds)]
    sleep: Duration,
    /// Begin no further request after this long: `50s`, `5m`, or a number of seconds
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    /// Handle at most this many requests
    #[arg(long, value_name = "N")]
    items: Option<usize>,
}

/// Requests looked up together.
const BATCH: i64 = 50;

impl Process {
    pub(super) async fn run(self, flags: &Flags, registry: Registry) -> Result<ExitCode> {
        let config = setup::config(flags)?;
        let stop = setup::shutdown()?;
        let toolbox = setup::toolbox(&config, registry).await?;
        setup::introduce("process", &toolbox).await;
        let ended = CancellationToken::new();
        let name = name(&toolbox);
        let state = worker::state(&toolbox, name.clone(), 1);
        let shown = tokio::spawn(worker::show_up(toolbox.clone(), state, ended.clone()));
        let mut failed = self.requests(&toolbox, &stop).await?;
        failed |= unknown(&toolbox, &name).await?;
        notices(&toolbox, &stop).await?;
        ended.cancel();
        // Nobody waits for it: others only learn later that this one knew its types.
        let _ = tokio::time::timeout(Duration::from_secs(5), shown).await;
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// One after the other, oldest first. Trouble with one keeps no other from its turn.
    async fn requests(&self, toolbox: &Toolbox, stop: &CancellationToken) -> Result<bool> {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let worker = format!("bgfiles-process-{}", Uuid::new_v4().simple());
        let (mut seen, mut failed) = (HashSet::new(), false);
        while let Some(id) = next(toolbox, &seen).await? {
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if stop.is_cancelled() || late || self.items.is_some_and(|most| seen.len() >= most) {
                break;
            }
            if !seen.is_empty() {
                tokio::time::sleep(self.sleep).await;
            }
            seen.insert(id);
            let outcome = toolbox.dispatch(id, &worker, stop).await?;
            failed |= outcome == Dispatched::Failed;
            say(format_args!("{} {id}", word(&outcome)));
        }
        Ok(failed)
    }
}

/// Says what nobody knows, and whether some of it failed.
async fn unknown(toolbox: &Toolbox, worker: &str) -> Result<bool> {
    let Unknown { failed, left } = toolbox.give_up_unknown(worker).await?;
    for id in &failed {
        say(format_args!("{} {id}", word(&Dispatched::Failed)));
    }
    for WaitingType { file_type, since } in left {
        let since = rfc3339(Some(since)).unwrap_or_default();
        say(format_args!("Left {file_type:?}, wanted since {since}: nobody knows this file type"));
    }
    Ok(!failed.is_empty())
}

/// One for each machine and list of types, as cron starts a process each minute: for how long others
/// leave to it what they do not know.
fn name(toolbox: &Toolbox) -> String {
    let types = Sha256::digest(toolbox.known_types().join(","));
    format!("bgfiles-process-{}-{}", worker::host(), hex(&types[..4]))
}

/// The oldest request that is due and was not looked at in this run.
async fn next(toolbox: &Toolbox, seen: &HashSet<RequestId>) -> Result<Option<RequestId>> {
    let mut tx = toolbox.db().read().await?;
    let most = BATCH + i64::try_from(seen.len()).unwrap_or(i64::MAX - BATCH);
    let due =
        store::to_handle(&mut tx, &toolbox.known_types(), toolbox.clock().now(), most).await?;
    Ok(due.into_iter().map(|row| row.id).find(|id| !seen.contains(id)))
}

/// In dj-bgfiles's words, where it had one.
fn word(outcome: &Dispatched) -> &'static str {
    match outcome {
        Dispatched::Handled => "Handled",
        Dispatched::Ignored => "Ignored",
        Dispatched::Retrying => "Failed for now",
        Dispatched::Failed => "Failed",
        Dispatched::Cancelled => "Cancelled",
        Dispatched::Released => "Given back",
        Dispatched::Lost => "Taken over",
    }
}

async fn notices(toolbox: &Toolbox, stop: &CancellationToken) -> Result<()> {
    loop {
        let mut tx = toolbox.db().read().await?;
        let due = notice::store::due(&mut tx, toolbox.clock().now(), BATCH).await?;
        drop(tx);
        if due.is_empty() || stop.is_cancelled() {
            return Ok(());
        }
        for id in due {
            toolbox.deliver_notice(id).await?;
        }
    }
}
