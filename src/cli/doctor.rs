//! `bgfiles doctor`

use std::{path::Path, process::ExitCode, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use tokio::sync::mpsc;

use super::{output::say, setup};
use crate::{
    clock::Clock,
    config::{Config, Flags},
    db::{Db, Watch},
    error::{Error, Result},
    ids::RequestId,
    mail::Mailer,
    storage::{Headers, Storage, StorageKey},
};

/// How long each of the things that are tried may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How far clocks may be apart: leases last ten seconds.
const APART: Duration = Duration::from_secs(2);
/// The oldest PostgreSQL that is supported by its makers.
const OLDEST: u32 = 14;
/// What is written to the store, and read again.
const PROBE: &[u8] = b"bgfiles doctor was here";

/// Tries what the other commands need: database, store, mail, clock, folders and the address people
/// come by. Says what works and what to do about the rest. Exit 1 when something does not work.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  bgfiles doctor\n  bgfiles doctor --json")]
pub(super) struct Doctor {
    /// Print what was tried as JSON
    #[arg(long)]
    json: bool,
}

/// How it went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Ok,
    /// It works, or may be meant so.
    Hint,
    Failed,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Hint => "hint",
            Outcome::Failed => "failed",
        }
    }
}

/// One thing that was tried.
struct Finding {
    what: &'static str,
    outcome: Outcome,
    /// What was found, or what went wrong.
    text: String,
    /// What to do.
    advice: &'static str,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn push(&mut self, what: &'static str, outcome: Outcome, text: String, advice: &'static str) {
        self.0.push(Finding { what, outcome, text, advice });
    }

    fn ok(&mut self, what: &'static str, text: impl Into<String>) {
        self.push(what, Outcome::Ok, text.into(), "");
    }

    /// Tries something within a time. What works gives a value for what is tried next.
    async fn attempt<T>(
        &mut self,
        what: &'static str,
        advice: &'static str,
        attempt: impl Future<Output = Result<T>>,
    ) -> Option<T> {
        let error = match tokio::time::timeout(PATIENCE, attempt).await {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => setup::refused(error).in_full(),
            Err(_) => format!("it does not answer within {} s", PATIENCE.as_secs()),
        };
        self.push(what, Outcome::Failed, error, advice);
        None
    }

    async fn database(&mut self, config: &Config) {
        const WHERE: &str = "check DATABASE_URL, and that the server runs and lets this machine in";
        let open = || Db::open_with(&config.database_url, config.database_connections);
        let Some(db) = self.attempt("database", WHERE, async { open() }).await else { return };
        let connected = async {
            db.knock().await?;
            db.version().await
        };
        let Some(version) = self.attempt("database", WHERE, connected).await else { return };
        let number = version.strip_prefix("PostgreSQL ").and_then(|v| v.split('.').next());
        let is_old = number.and_then(|n| n.parse().ok()).is_some_and(|n: u32| n < OLDEST);
        match is_old {
            true => self.push(
                "database",
                Outcome::Hint,
                version,
                "its makers mend it no more; update it",
            ),
            false => self.ok("database", version),
        }
        let migrate = "run `bgfiles migrate` with this version of the program";
        let current = self.attempt("schema", migrate, db.require_current()).await;
        if current.is_some() {
            self.ok("schema", format!("fits bgfiles {}", env!("CARGO_PKG_VERSION")));
            let grant =
                "grant the role of DATABASE_URL SELECT, INSERT, UPDATE and DELETE on these tables";
            match self.attempt("permissions", grant, db.forbidden()).await {
                None => {}
                Some(lacking) if lacking.is_empty() => {
                    self.ok("permissions", "all tables can be read and written");
                }
                Some(lacking) => {
                    let text = format!("not allowed: {}", lacking.join(", "));
                    self.push("permissions", Outcome::Failed, text, grant);
                }
            }
        }
        match self.attempt("pooler", WHERE, Watch::try_out(&db)).await {
            Some(Some(warning)) => self.push("pooler", Outcome::Hint, warning.into(), ""),
            Some(None) => self.ok("pooler", "sessions are this process's own"),
            None => {}
        }
        self.clock(&db).await;
        db.close().await;
    }

    async fn clock(&mut self, db: &Db) {
        let before = Clock::system().now();
        let synchronise = "synchronise both machines (NTP): leases and links go by the time";
        let Some(theirs) = self.attempt("clock", synchronise, db.its_time()).await else { return };
        let Some(theirs) = theirs else {
            return self.ok("clock", "the database's is this machine's");
        };
        let after = Clock::system().now();
        // Between the two it answered.
        let apart = (before - theirs).max(theirs - after).to_std().unwrap_or_default();
        let text = format!("{:.1} s apart from the database's", apart.as_secs_f64());
        match apart > APART {
            true => self.push("clock", Outcome::Failed, text, synchronise),
            false => self.ok("clock", text),
        }
    }

    async fn store(&mut self, config: &Config) {
        let advice = match config.storage.split(':').next().unwrap_or_default() {
            "s3" => {
                "check the bucket's name, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION; for a \
                 store that is not Amazon's AWS_ENDPOINT, and AWS_ALLOW_HTTP=true where that is http:"
            }
            "gs" => "check the bucket's name and GOOGLE_SERVICE_ACCOUNT",
            "az" => {
                "check the container's name, AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
            }
            _ => "check BGFILES_STORAGE, and that this user may write there",
        };
        let open = async { Storage::open(&config.storage, &config.storage_options) };
        let Some(storage) = self.attempt("store", advice, open).await else { return };
        let Some(()) = self.attempt("store: list", advice, storage.ping()).await else { return };
        self.ok("store: list", config.storage.clone());
        let key = StorageKey { request: RequestId::random(), generation: 0 };
        let written = self.attempt("store: write", advice, write(&storage, key)).await;
        if written.is_none() {
            return;
        }
        self.ok("store: write", format!("{} bytes", PROBE.len()));
        let whole = read(&storage, key, 0, PROBE.len());
        if self.attempt("store: read", advice, whole).await.is_some() {
            self.ok("store: read", "what was written");
        }
        let ranges =
            "downloads that are resumed need ranges; a proxy before the store may not pass them";
        if self.attempt("store: ranges", ranges, read(&storage, key, 8, 14)).await.is_some() {
            self.ok("store: ranges", "bytes 8 to 14");
        }
        let delete = "files that have expired cannot be removed; allow s3:DeleteObject or its like";
        if self.attempt("store: delete", delete, storage.delete(key)).await.is_some() {
            self.ok("store: delete", "the probe is gone");
        }
    }

    async fn mail(&mut self, config: &Config) {
        let advice = "check BGFILES_MAIL: host, port (587 with STARTTLS, 465 with smtps:), user and password, \
            and that this machine may reach it";
        let open = async { Mailer::open(config.mail.expose(), &config.mail_from) };
        let Some(mailer) = self.attempt("mail", advice, open).await else { return };
        if let Some(found) = self.attempt("mail", advice, mailer.try_out()).await {
            self.ok("mail", found);
        }
    }

    fn folders(&mut self, config: &Config) {
        let folders = [
            ("folder: jobs", Some(config.jobs_dir.as_path())),
            ("folder: templates", config.templates_dir.as_deref()),
        ];
        for (what, folder) in folders {
            let Some(folder) = folder else { continue };
            if folder == Path::new("jobs") && !folder.exists() {
                continue;
            }
            match std::fs::read_dir(folder) {
                Ok(_) => self.ok(what, folder.display().to_string()),
                Err(error) => self.push(
                    what,
                    Outcome::Failed,
                    format!("{}: {error}", folder.display()),
                    "make it, and let this user read it",
                ),
            }
        }
    }

    /// Where people come by may not be reached from here, and `bgfiles web` need not run.
    async fn base_url(&mut self, config: &Config) {
        let url = config.base_url.join("/healthz");
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build();
        let answer = async { client?.get(&url).send().await?.error_for_status()?.text().await };
        let advice = "start `bgfiles web`, or set BGFILES_BASE_URL to where people reach it; from this machine \
            it may be out of reach";
        match answer.await {
            Ok(text) if text.trim() == "ok" => self.ok("base URL", url),
            Ok(_) => {
                let text = format!("{url}: something else answers than bgfiles");
                self.push("base URL", Outcome::Hint, text, advice);
            }
            Err(error) => {
                self.push("base URL", Outcome::Hint, format!("{url}: {}", causes(&error)), advice);
            }
        }
    }
}

/// An error with what is below it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

async fn write(storage: &Storage, key: StorageKey) -> Result<()> {
    let headers = Headers {
        content_type: "text/plain".into(),
        disposition: "attachment; filename=\"probe.txt\"".into(),
    };
    let (to, from) = mpsc::channel(1);
    let sent = async move {
        let _ = to.send(Bytes::from_static(PROBE)).await;
    };
    let (uploaded, ()) = tokio::join!(storage.upload(key, &headers, from, async { Ok(()) }), sent);
    uploaded?;
    storage.confirm(key, PROBE.len() as u64).await
}

/// Reads bytes of the probe, and compares them.
async fn read(storage: &Storage, key: StorageKey, from: usize, to: usize) -> Result<()> {
    let stream = storage.read(key, from as u64, to as u64).await?;
    let read: Vec<Bytes> = stream.take(PROBE.len() + 1).try_collect().await?;
    match read.concat().as_slice() == &PROBE[from..to] {
        true => Ok(()),
        false => Err(Error::Internal("the store gives other bytes than were written".into())),
    }
}

impl Doctor {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let config = setup::config(flags)?;
        let mut findings = Findings::default();
        findings.folders(&config);
        findings.database(&config).await;
        findings.store(&config).await;
        findings.mail(&config).await;
        findings.base_url(&config).await;
        let failed = findings.0.iter().filter(|one| one.outcome == Outcome::Failed).count();
        if self.json {
            let all: Vec<_> = findings
                .0
                .iter()
                .map(|one| {
                    json!({"what": one.what, "outcome": one.outcome.word(), "text": one.text, "advice": one.advice})
                })
                .collect();
            say(json!({"ok": failed == 0, "findings": all}));
        } else {
            for Finding { what, outcome, text, advice } in &findings.0 {
                let advice = if advice.is_empty() { String::new() } else { format!("; {advice}") };
                say(format_args!("{:<7} {what}: {text}{advice}", outcome.word()));
            }
            say(match failed {
                0 => "All is well.".to_owned(),
                1 => "1 failed.".to_owned(),
                n => format!("{n} failed."),
            });
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
