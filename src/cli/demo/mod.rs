//! `bgfiles demo`: the whole product in one process, on real data.

mod flights;
mod people;
mod visit;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{output::note, setup};
use crate::{
    auth_token::{Role, TokenPolicy},
    cleaner::{self, Limits, Sweeps},
    config::{Config, Flags},
    error::{Error, Result},
    ids::random_bytes,
    limits::TokenTtl,
    registry::Registry,
    toolbox::{NewUser, Toolbox},
    web::{WebState, router, server},
    worker::{self, WorkerOptions},
};

/// Loads 336,776 real flights into SQLite, runs web, worker and cleaner in this one process, asks
/// for a file, shows the mail and the link, and stays until Ctrl-C. Everything it writes is in one
/// folder.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  bgfiles demo\n  bgfiles demo --once")]
pub(super) struct Demo {
    /// Where everything is kept
    #[arg(long, default_value = "bgfiles-demo", value_name = "DIR")]
    dir: PathBuf,
    /// Download the file, check it, print a summary and exit
    #[arg(long)]
    once: bool,
    /// Port of the web process; the next free one when taken
    #[arg(long, default_value_t = 8000)]
    port: u16,
}

const JOBS: [(&str, &str); 3] = [
    ("flights.toml", include_str!("../../../jobs/flights.toml")),
    ("flights.sql", include_str!("../../../jobs/flights.sql")),
    ("cleaner.toml", include_str!("../../../jobs/cleaner.toml")),
];

/// How often the demo cleans.
const CLEAN: Duration = Duration::from_secs(300);

impl Demo {
    pub(super) async fn run(self, flags: Flags, registry: Registry) -> Result<ExitCode> {
        let listener = listen(self.port).await?;
        let address = listener.local_addr().map_err(Error::io("the web address"))?;
        let dir = std::path::absolute(&self.dir).map_err(Error::io(setup::display(&self.dir)))?;
        let config = configure(&dir, address, flags)?;
        let shutdown = setup::shutdown()?;
        let toolbox = prepare(&config, registry).await?;
        let secret = introduce(&toolbox).await?;
        let people = people::invite(&toolbox).await?;
        let parts = start(&config, toolbox.clone(), listener, shutdown.clone()).await;
        let visit = visit::Visit::new(&toolbox, &dir.join("mail"), &secret);
        let visited = tokio::select! {
            visited = visit.run(self.once) => visited,
            () = shutdown.cancelled() => Ok(()),
        };
        if visited.is_ok() && !self.once && !shutdown.is_cancelled() {
            people.greet(&toolbox, &self.dir.join("bgfiles.db"));
            note(format_args!("Running until Ctrl-C. Everything is in {}.", self.dir.display()));
            shutdown.cancelled().await;
        }
        shutdown.cancel();
        parts.join_all().await;
        toolbox.close().await;
        visited.map(|()| ExitCode::SUCCESS)
    }
}

/// The wanted port or the next free one.
async fn listen(port: u16) -> Result<TcpListener> {
    for port in port..=port.saturating_add(50) {
        if let Ok(listener) = server::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
            return Ok(listener);
        }
    }
    server::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
}

/// Settings that keep everything in one folder. What is given on the command line wins.
fn configure(dir: &Path, address: SocketAddr, flags: Flags) -> Result<Config> {
    let context = |path: &Path| setup::display(path);
    let jobs = dir.join("jobs");
    std::fs::create_dir_all(&jobs).map_err(Error::io(context(&jobs)))?;
    for (name, text) in JOBS {
        let path = jobs.join(name);
        if !path.exists() {
            std::fs::write(&path, text).map_err(Error::io(context(&path)))?;
        }
    }
    let set = |key, value: String| (key, value);
    let mut all: Flags = vec![
        set("database_url", format!("sqlite:{}", dir.join("bgfiles.db").display())),
        set("storage", format!("file:{}", dir.join("files").display())),
        set("mail", format!("file:{}", dir.join("mail").display())),
        set("mail_from", "bgfiles <bgfiles@localhost>".into()),
        set("jobs_dir", setup::display(&jobs)),
        set("base_url", format!("http://{address}")),
        set("secret_key", secret_key(&dir.join("secret.key"))?),
        // One request is hopeless on purpose, and a machine may be slow: neither is to look broken.
        set("log", "warn,bgfiles::toolbox::requests::ending=error,sqlx=error".into()),
        set("dev_mail", "true".into()),
        set("api_access_client_name", "api".into()),
    ];
    all.extend(flags);
    setup::config(&all)
}

/// Kept, so that links of an earlier run still work.
fn secret_key(path: &Path) -> Result<String> {
    if let Ok(key) = std::fs::read_to_string(path) {
        return Ok(key.trim().to_owned());
    }
    let key = STANDARD.encode(random_bytes::<36>());
    write_private(path, &key).map_err(Error::io(setup::display(path)))?;
    Ok(key)
}

/// Readable for its owner only.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

async fn prepare(config: &Config, registry: Registry) -> Result<Toolbox> {
    let db = crate::db::Db::open_with(&config.database_url, config.database_connections)?;
    Toolbox::migrate(&db).await?;
    flights::load(&db).await?;
    db.close().await;
    setup::toolbox(config, registry).await
}

/// An application that may ask for files, with a token for this run.
async fn introduce(toolbox: &Toolbox) -> Result<String> {
    let new = NewUser {
        username: "demo".into(),
        email: String::new(),
        role: Role::Service,
        password: None,
    };
    let user = toolbox.create_user(new).await.map(drop);
    let client = toolbox
        .create_client("demo", Some(TokenTtl::DAY), "", TokenPolicy::Several)
        .await
        .map(drop);
    // From the second run on they are there.
    for added in [user, client] {
        match added {
            Ok(()) | Err(Error::Conflict { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    let (person, client) = toolbox.person_and_client("demo", "demo").await?;
    Ok(toolbox.issue_secret(&person, &client).await?.secret.expose().to_owned())
}

/// Web, worker and cleaner, which are processes of their own elsewhere.
async fn start(
    config: &Config,
    toolbox: Toolbox,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> JoinSet<()> {
    let mut parts = JoinSet::new();
    let state = WebState {
        shutdown: shutdown.clone(),
        pages: config.pages,
        cors: config.cors_origins.clone(),
        mailbox: toolbox.mailer().folder().filter(|_| config.dev_mail).map(Into::into),
        ..WebState::new(toolbox.clone())
    };
    let limits = server::Limits { drain: Duration::from_secs(2), ..Default::default() };
    parts.spawn(server::serve(listener, router(state), limits, shutdown.clone()));
    let options = WorkerOptions { slots: config.workers.get(), drain: Duration::from_secs(5) };
    parts.spawn(worker::run(toolbox.clone(), options, shutdown.clone()));
    let sweeps = Sweeps::load(&config.jobs_dir);
    parts.spawn(async move {
        let sweeps = match sweeps {
            Ok(sweeps) => sweeps,
            Err(error) => return tracing::error!(%error, "the cleaner cannot run"),
        };
        while !shutdown.is_cancelled() {
            if let Err(error) = cleaner::clean(&toolbox, &sweeps, Limits::default()).await {
                tracing::warn!(%error, "cleaning failed");
            }
            tokio::select! {
                () = tokio::time::sleep(CLEAN) => {}
                () = shutdown.cancelled() => {}
            }
        }
    });
    parts
}
