//! The fault harness: real processes, and whatever can happen to them.
//!
//! A seed decides what clients ask for and what goes wrong when. Once it is quiet, the checker looks
//! at what there is. `scripts/faults --seeds 7..7` plays seed 7 again.

#![allow(missing_docs, unreachable_pub, reason = "tests are their own documentation")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

mod chance;
mod checker;
mod cluster;
mod evidence;
mod plan;
mod process;
#[path = "../it/support/programs.rs"]
mod programs;
mod promises;
mod proxy;
mod run;
#[path = "../it/support/s3.rs"]
#[allow(dead_code, reason = "another test binary uses the rest")]
mod s3;
mod sabotage;
mod smtp;
mod workload;

use std::{
    collections::VecDeque,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Instant,
};

use cluster::Ground;
use plan::Plan;

/// What the command line says. What `cargo test` and `cargo nextest` say besides is passed over.
struct Options {
    seeds: std::ops::RangeInclusive<u64>,
    lanes: usize,
    keep: bool,
    /// Promises at full length.
    full: bool,
    list: bool,
    ignored: bool,
    /// Parts to run, by name; all when empty.
    only: Vec<String>,
    skip: Vec<String>,
}

fn options() -> Options {
    let mut options = Options {
        seeds: 1..=60,
        lanes: 4,
        keep: false,
        full: false,
        list: false,
        ignored: false,
        only: Vec::new(),
        skip: Vec::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
        match arg.as_str() {
            "--seeds" => {
                let text = value();
                let (from, to) = text.split_once("..").unwrap_or((&text, &text));
                let to = to.trim_start_matches('=');
                options.seeds = from.parse().expect("A..B")..=to.parse().expect("A..B");
            }
            "--lanes" => options.lanes = value().parse().expect("a number"),
            "--full" => options.full = true,
            "--keep" => options.keep = true,
            "--list" => options.list = true,
            "--ignored" => options.ignored = true,
            "--skip" => options.skip.push(value()),
            "--format" | "--test-threads" | "--color" | "-Z" => drop(value()),
            other if other.starts_with('-') => {}
            name => options.only.push(name.to_owned()),
        }
    }
    options
}

fn main() -> std::process::ExitCode {
    let options = options();
    let parts: Vec<&str> = ["checker", "promises", "seeds"]
        .into_iter()
        .filter(|part| {
            options.only.is_empty() || options.only.iter().any(|name| part.contains(name.as_str()))
        })
        .filter(|part| !options.skip.iter().any(|name| part.contains(name.as_str())))
        .collect();
    if options.list {
        // None is set aside.
        for part in parts.iter().filter(|_| !options.ignored) {
            println!("{part}: test");
        }
        return std::process::ExitCode::SUCCESS;
    }
    if parts.is_empty() {
        return std::process::ExitCode::SUCCESS;
    }
    if !programs::is_root() && std::env::var_os("FAULTS_APART").is_none() {
        return apart();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let is_good = runtime.block_on(async {
        // The server's user must be able to get there.
        let place = tempfile::Builder::new()
            .prefix("bgfiles-faults.")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .unwrap();
        let ground = Arc::new(Ground::lay(&place.path().join("ground")).await);
        let mut is_good = true;
        for part in parts {
            let done = match part {
                "checker" => sabotage::every_rule_finds_its_breach(&ground).await,
                "promises" => promises::are_kept(&ground, options.full).await,
                _ => seeds(&options, &ground).await,
            };
            println!("test {part} ... {}", if done { "ok" } else { "FAILED" });
            is_good &= done;
        }
        is_good
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    process::forget_clocks();
    if is_good { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// The same in a name space of our own, as a small disk is a mount, and only root may mount outside.
fn apart() -> std::process::ExitCode {
    use std::os::unix::process::CommandExt;
    let mut unshare = std::process::Command::new("unshare");
    unshare.args(["--user", "--map-current-user", "--mount", "--keep-caps", "--"]);
    unshare.arg(std::env::current_exe().unwrap()).args(std::env::args_os().skip(1));
    let error = unshare.env("FAULTS_APART", "1").exec();
    println!("unshare: {error}");
    std::process::ExitCode::FAILURE
}

/// Where the logs are.
fn folder_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/faults").join(name)
}

async fn seeds(options: &Options, ground: &Arc<Ground>) -> bool {
    let began = Instant::now();
    let waiting: Arc<Mutex<VecDeque<u64>>> = Arc::new(Mutex::new(options.seeds.clone().collect()));
    let failed = Arc::new(Mutex::new(Vec::new()));
    let keep = options.keep;
    let lanes = (0..options.lanes).map(|lane| {
        let (waiting, failed, ground) = (waiting.clone(), failed.clone(), ground.clone());
        tokio::spawn(async move {
            let place = ground.folder.join(format!("lane-{lane}"));
            let cluster = Arc::new(ground.cluster.copy(&place));
            let starting = cluster.clone();
            tokio::task::spawn_blocking(move || starting.start()).await.unwrap();
            loop {
                let Some(seed) = waiting.lock().unwrap().pop_front() else { return };
                let found = one(seed, &ground, cluster.clone(), keep).await;
                if !found.is_empty() {
                    failed.lock().unwrap().push(seed);
                }
            }
        })
    });
    for lane in futures::future::join_all(lanes.collect::<Vec<_>>()).await {
        lane.unwrap();
    }
    let mut failed = failed.lock().unwrap().clone();
    failed.sort_unstable();
    let count = options.seeds.clone().count();
    let took = began.elapsed().as_secs();
    println!("{count} seeds in {took} s, {} failed: {failed:?}", failed.len());
    failed.is_empty()
}

async fn one(
    seed: u64,
    ground: &Arc<Ground>,
    cluster: Arc<cluster::Cluster>,
    keep: bool,
) -> Vec<String> {
    let (plan, folder, began) = (Plan::of(seed), folder_of(&seed.to_string()), Instant::now());
    let (told, ground, place) = (plan.clone(), ground.clone(), folder.clone());
    // A task of its own, so that a panic is a finding.
    let played = tokio::spawn(async move { run::seed(plan, &ground, cluster, &place).await }).await;
    let (found, summary) = match played {
        Ok((found, evidence)) => {
            let summary = format!(
                "{} rows, {} mails, {} processes ended",
                evidence.rows.len(),
                evidence.mails.len(),
                evidence.ended.len()
            );
            (found, summary)
        }
        Err(error) => (vec![format!("the harness itself failed: {error}")], String::new()),
    };
    let verdict = if found.is_empty() { "ok" } else { "FAILED" };
    let mut out = std::io::stdout().lock();
    let _ = writeln!(
        out,
        "seed {seed}: {:?}, {:?}, {} faults; {summary}; {:.1} s: {verdict}",
        told.database,
        told.store,
        told.faults.len() + told.armed.len(),
        began.elapsed().as_secs_f64(),
    );
    if found.is_empty() {
        if !keep {
            let _ = std::fs::remove_dir_all(&folder);
        }
        return found;
    }
    for finding in &found {
        let _ = writeln!(out, "    {finding}");
    }
    let _ = writeln!(out, "    planned: armed {:?}", told.armed);
    for (at, fault) in &told.faults {
        let _ = writeln!(out, "    planned: {:>5} ms {fault:?}", at.as_millis());
    }
    let _ = writeln!(out, "    logs: {}", folder.display());
    let _ = writeln!(out, "    again: scripts/faults --seeds {seed}..{seed}");
    found
}
