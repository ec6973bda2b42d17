//! What commands need before they begin: settings, log, handlers, signals.

use std::{io::IsTerminal, path::Path, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use super::output::{self, note};
use crate::{
    auth_token,
    config::{Config, Doubts, Flags, LogFormat},
    db::{About, Db},
    error::{Error, Result},
    export,
    file_request::Criteria,
    ids::{hex, random_bytes},
    mail::Mailer,
    registry::Registry,
    storage::Storage,
    toolbox::{Toolbox, Tools},
    web::{self, WebState, server},
};

/// Settings, with the log begun, in which those that nobody reads are named.
pub(super) fn config(flags: &Flags) -> Result<Config> {
    let config = Config::load(flags)?;
    log(&config)?;
    let doubts = Doubts::of(&config);
    for unknown in &doubts.unknown {
        tracing::warn!("{unknown}");
    }
    match &doubts.log {
        // A filter that leaves us out leaves this out, too.
        Some(doubt) if !tracing::enabled!(tracing::Level::WARN) => {
            note(format_args!("bgfiles: warning: {doubt}"));
        }
        Some(doubt) => tracing::warn!("{doubt}"),
        None => {}
    }
    Ok(config)
}

/// The same for a command that tells of doubts itself.
pub(super) fn config_to_check(flags: &Flags) -> Result<Config> {
    let config = Config::load(flags)?;
    log(&config)?;
    Ok(config)
}

fn log(config: &Config) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log)
        .map_err(|e| Error::Config(format!("log (BGFILES_LOG): {:?}: {e}", config.log)))?;
    let colours = std::io::stderr().is_terminal();
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let registry = tracing_subscriber::registry().with(filter);
    // A second begin (the demo runs several commands in one process) changes nothing.
    let _ = match config.log_format {
        LogFormat::Json => {
            output::speak_json();
            registry.with(layer.json().flatten_event(true)).try_init()
        }
        LogFormat::Text => registry.with(layer).try_init(),
    };
    Ok(())
}

/// Adds the declared file types of the configured folder.
pub(super) fn declared(config: &Config, mut registry: Registry) -> Result<Registry> {
    let sources = export::Sources::open(config.database_url.as_str(), source_urls(config))?;
    let definitions = definitions(config).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Error::Config(lines.join("\n"))
    })?;
    for definition in definitions {
        registry.register(open(definition, &sources)?)?;
    }
    Ok(registry)
}

/// The definitions in the configured folder. Who declares nothing needs no folder, but one that
/// was named must be there.
pub(super) fn definitions(config: &Config) -> Result<Vec<export::Definition>, Vec<Error>> {
    let (definitions, errors) = sound_definitions(config);
    if errors.is_empty() { Ok(definitions) } else { Err(errors) }
}

/// The same with the faults beside what is sound.
pub(super) fn sound_definitions(config: &Config) -> (Vec<export::Definition>, Vec<Error>) {
    let by_default = config.jobs_dir == Path::new("jobs");
    if by_default && !config.jobs_dir.exists() {
        return (Vec::new(), Vec::new());
    }
    export::Definition::load_what_is_sound(&config.jobs_dir)
}

/// A definition over the source it names.
pub(super) fn open(
    definition: export::Definition,
    sources: &export::Sources,
) -> Result<export::DeclaredExport> {
    let source = sources
        .get(&definition.source)
        .map_err(|e| Error::Config(format!("{}: {e}", definition.path.display())))?;
    Ok(export::DeclaredExport::new(definition, source))
}

/// The configured sources besides the default one.
pub(super) fn source_urls(config: &Config) -> impl Iterator<Item = (&str, &str)> {
    config.sources.iter().map(|(name, url)| (name.as_str(), url.expose()))
}

/// Says at the start what runs, and on which database.
pub(super) async fn introduce(process: &str, toolbox: &Toolbox) {
    let version = env!("CARGO_PKG_VERSION");
    match toolbox.db().about().await {
        Ok(About { kind, place, version: server }) => {
            tracing::info!(process, version, database = kind, place, server, "starting");
        }
        Err(error) => {
            let database = toolbox.db().kind();
            tracing::warn!(process, version, database, %error, "starting; the database does not say its version");
        }
    }
}

/// The operations over a database whose schema fits.
pub(super) async fn toolbox(config: &Config, registry: Registry) -> Result<Toolbox> {
    let toolbox = Toolbox::from_config(config, declared(config, registry)?)?;
    toolbox.db().require_current().await.map_err(refused)?;
    Ok(toolbox)
}

/// As [`toolbox`], for processes that may start before their database does: waits for it, but not
/// for a schema that somebody has to migrate, nor for one that refuses this process: a role or a
/// database that is not there is a setting that is wrong. `None` when the process is to end before.
pub(super) async fn toolbox_when_ready(
    config: &Config,
    registry: Registry,
    shutdown: &CancellationToken,
) -> Result<Option<Toolbox>> {
    let toolbox = Toolbox::from_config(config, declared(config, registry)?)?;
    if let Some(doubt) = Doubts::of(config).storage {
        tracing::warn!("{doubt}");
    }
    loop {
        // One attempt says why there is no connection, and at once.
        let ready = async {
            toolbox.db().knock().await?;
            toolbox.db().require_current().await
        };
        match ready.await.map_err(refused) {
            Ok(()) => return Ok(Some(toolbox)),
            Err(e @ (Error::Schema(_) | Error::Config(_))) => return Err(e),
            Err(error) => tracing::warn!(%error, "the database is not ready yet; waiting"),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
            () = shutdown.cancelled() => return Ok(None),
        }
    }
}

/// Says plainly that it is the database which does not want this process.
pub(super) fn refused(error: Error) -> Error {
    match error.refusal() {
        Some(words) => Error::Config(format!("the database refuses: {words}")),
        None => error,
    }
}

/// The operations on users, clients and tokens, which need nothing but the database.
pub(super) async fn accounts(flags: &Flags) -> Result<Toolbox> {
    let config = config(flags)?;
    let db = Db::open_with(&config.database_url, config.database_connections)?;
    db.require_current().await.map_err(refused)?;
    let tools = Tools::new(
        db,
        Storage::open("memory:", &[])?,
        Mailer::open("memory:", "nobody@localhost")?,
        Registry::new(),
        // Nothing is signed here.
        [hex(&random_bytes::<32>())],
        config.base_url.clone(),
    )?;
    Ok(Toolbox::new(Tools { auth: auth_token::Settings::configured(&config), ..tools }))
}

/// Fires on SIGTERM or Ctrl-C; a second one ends the process at once.
pub(super) fn shutdown() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let fired = token.clone();
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::io("signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::io("signals"))?;
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if again {
                std::process::exit(1);
            }
            fired.cancel();
        }
    });
    Ok(token)
}

/// Upper bounds, in seconds.
const BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

/// How often what was recorded is added up.
const UPKEEP: Duration = Duration::from_secs(5);

/// Begins to count.
pub(super) fn metrics() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|e| Error::Internal(format!("metrics: {e}")))?;
    // What is recorded piles up until somebody looks, and nobody may ever look.
    let upkeep = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Answers monitors, where the settings name an address, for processes that serve nothing else.
pub(super) async fn monitor(
    config: &Config,
    toolbox: &Toolbox,
    shutdown: &CancellationToken,
) -> Result<()> {
    let Some(address) = config.metrics_bind else { return Ok(()) };
    let state = WebState {
        shutdown: shutdown.clone(),
        metrics: Some(metrics()?),
        ..WebState::new(toolbox.clone())
    };
    let listener = server::listen(address).await?;
    let router = web::monitor_router(state);
    tokio::spawn(server::serve(listener, router, server::Limits::default(), shutdown.clone()));
    Ok(())
}

/// `name=value` pairs, as given with `--criteria`.
pub(super) fn criteria(pairs: &[String]) -> Result<Criteria> {
    let pairs: Result<Vec<_>> = pairs
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(Error::invalid("criteria", format!("{pair:?} is not NAME=VALUE"))),
        })
        .collect();
    Criteria::from_pairs(pairs?)
}

/// The name a file is offered under when only its path is known.
pub(super) fn display(path: &Path) -> String {
    path.display().to_string()
}
