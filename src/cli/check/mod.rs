//! `bgfiles check`

mod rehearsal;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

use serde_json::json;

use super::{
    output::{complain, note, say},
    setup,
};
use crate::{
    cleaner::Sweeps,
    config::{Config, Doubts, Flags, Setting},
    db::{Db, Watch},
    error::{Error, Result},
    export,
    registry::Registry,
    storage::Storage,
    toolbox::Toolbox,
};

/// Prints every setting in force and where it came from, secrets hidden; then checks variables
/// that no setting has, the definitions in `jobs/` (against their databases, where these answer), the
/// templates (each mail and page is rendered), the storage and the schema. Exit 1 when something is
/// wrong.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  bgfiles check --jobs-dir jobs\n  bgfiles check --database")]
pub(super) struct Check {
    /// Print settings, file types and problems as JSON
    #[arg(long)]
    json: bool,
    /// Look for rows that cannot work, too: types that nobody knows, files that are gone, sequences
    /// behind, rates and hashes that nobody can read, names that are the same
    #[arg(long)]
    database: bool,
}

#[derive(Default)]
struct Report {
    types: Vec<serde_json::Value>,
    problems: Vec<String>,
    /// What works, if not as it should.
    warnings: Vec<String>,
    connections: Connections,
    /// Whether the database answers and its schema fits.
    is_current: bool,
}

/// Connections to PostgreSQL that a process may open at most.
#[derive(Default)]
struct Connections {
    /// To our own database.
    own: u32,
    /// To each source that declared types name.
    sources: BTreeMap<String, u32>,
}

impl Connections {
    fn all(&self) -> u32 {
        self.own + self.sources.values().sum::<u32>()
    }

    fn json(&self) -> serde_json::Value {
        json!({"database": self.own, "sources": self.sources, "most": self.all()})
    }

    /// One line, where there may be any.
    fn say(&self) {
        if self.all() == 0 {
            return;
        }
        let sources = self.sources.iter().map(|(name, most)| format!(", source {name} {most}"));
        let each = sources.collect::<String>();
        say(format_args!(
            "A process opens up to {} connections: database {}{each}",
            self.all(),
            self.own
        ));
    }
}

impl Check {
    pub(super) async fn run(self, flags: &Flags, registry: Registry) -> Result<ExitCode> {
        let settings = Config::explain(flags)?;
        let mut report = Report::default();
        report.problems.extend(Doubts::of_environment().unknown);
        let config = match setup::config_to_check(flags) {
            Ok(config) => config,
            Err(error) => {
                if self.json {
                    complain(&error);
                }
                report.found(Err::<(), _>(error));
                report.say(self.json, &settings);
                return Ok(ExitCode::FAILURE);
            }
        };
        report.warnings.extend(Doubts::of(&config).values().map(str::to_owned));
        report.parts(&config).await;
        for handler in registry.iter() {
            report.types.push(json!({"name": handler.file_type(), "formats": handler.formats()}));
        }
        let mut registry = registry;
        let others = report.definitions(&config, &mut registry).await;
        match rehearsal::faults(&config, &registry, others.iter().cloned()).await {
            Ok(faults) => report.problems.extend(faults),
            Err(error) => report.problems.push(format!("templates cannot be tried: {error}")),
        }
        if self.database {
            report.rows(&config, registry, &others).await;
        }
        report.say(self.json, &settings);
        Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

type Settings = [(&'static Setting, String, String)];

impl Report {
    fn say(&self, json: bool, settings: &Settings) {
        let report = self;
        if json {
            let settings: Vec<_> = settings
                .iter()
                .map(|(s, value, from)| json!({"key": s.key, "env": s.env, "value": value, "from": from}))
                .collect();
            say(json!({
                "settings": settings,
                "file_types": report.types,
                "connections": report.connections.json(),
                "warnings": report.warnings,
                "problems": report.problems,
            }));
        } else {
            for (setting, value, from) in settings {
                say(format_args!("{:<16} {value}  ({from})", setting.key));
            }
            for file_type in &report.types {
                let columns = file_type["columns"].as_array().map_or(0, Vec::len);
                say(format_args!(
                    "file type {} {} ({columns} columns)",
                    file_type["name"], file_type["formats"]
                ));
            }
            report.connections.say();
            for warning in &report.warnings {
                note(format_args!("warning: {warning}"));
            }
            for problem in &report.problems {
                note(problem);
            }
            say(match report.count() {
                0 => "All is well.".to_owned(),
                1 => "1 problem.".to_owned(),
                n => format!("{n} problems."),
            });
        }
    }

    /// A fault has a line, and what its database says besides is indented below it.
    fn count(&self) -> usize {
        let lines = self.problems.iter().flat_map(|problem| problem.lines());
        lines.filter(|line| !line.starts_with(' ')).count()
    }

    fn found<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.problems.push(e.to_string())).ok()
    }

    async fn parts(&mut self, config: &Config) {
        self.found(crate::signer::Signer::configured(config));
        self.found(crate::mail::Mailer::configured(config));
        self.found(Sweeps::load(&config.jobs_dir));
        if let Some(storage) = self.found(Storage::open(&config.storage, &config.storage_options)) {
            self.found(storage.ping().await);
        }
        if let Some(db) =
            self.found(Db::open_with(&config.database_url, config.database_connections))
        {
            if matches!(db, Db::Postgres(_)) {
                self.connections.own = config.database_connections;
            }
            let current = db.require_current().await;
            if !current.as_ref().is_err_and(Error::is_of_connection)
                && let Ok(warning) = Watch::try_out(&db).await
            {
                self.warnings.extend(warning.map(str::to_owned));
            }
            self.is_current = self.found(current.map_err(setup::refused)).is_some();
        }
    }

    /// All files are gone through: queries of those that are sound are tried whatever others are.
    /// Gives the handlers of sound ones, and the names of the others.
    async fn definitions(&mut self, config: &Config, registry: &mut Registry) -> Vec<String> {
        let (definitions, errors) = setup::sound_definitions(config);
        self.problems.extend(errors.iter().map(Error::to_string));
        let others = names(config);
        let urls = setup::source_urls(config);
        let sources = self.found(export::Sources::open(&config.database_url, urls));
        let Some(sources) = sources else { return others };
        let named: BTreeSet<&String> = definitions.iter().map(|one| &one.source).collect();
        for name in named {
            // One that is not there or does not answer is a problem below.
            let Ok(source) = sources.get(name) else { continue };
            let warnings = source.warnings().await.unwrap_or_else(|error| {
                vec![format!("what its role may do is not known: {}", error.in_full())]
            });
            let own = format!(
                "; give exports a role of their own (BGFILES_SOURCE_{})",
                name.to_uppercase()
            );
            self.warnings.extend(warnings.iter().map(|text| {
                let advice = if text.starts_with("the role") { own.as_str() } else { "" };
                format!("source {name}: {text}{advice}")
            }));
        }
        for definition in definitions {
            let most =
                sources.get(&definition.source).map_or(0, |source| source.most_connections());
            if most > 0 {
                self.connections.sources.insert(definition.source.clone(), most);
            }
            let Some(export) = self.found(setup::open(definition, &sources)) else { continue };
            let name = crate::Handler::file_type(&export).to_owned();
            let columns = match export.check().await {
                Ok(columns) => columns.into_iter().map(|column| column.name).collect(),
                Err(e) => {
                    let is_placed = matches!(e, Error::Query(_) | Error::Config(_));
                    let name = if is_placed { String::new() } else { format!("{name}: ") };
                    self.problems.push(format!("{name}{}", e.in_full()));
                    Vec::new()
                }
            };
            let formats = crate::Handler::formats(&export);
            self.types.push(json!({"name": name, "formats": formats, "columns": columns}));
            // One of the same name was told above.
            let _ = registry.register(export);
        }
        others
    }

    async fn rows(&mut self, config: &Config, registry: Registry, others: &[String]) {
        if !self.is_current {
            return self.problems.push("--database: needs a schema that is up to date".into());
        }
        // It says already what it lacks.
        let Ok(toolbox) = Toolbox::from_config(config, registry) else { return };
        let rows = toolbox.unsound_rows(others).await;
        let rows = self.found(rows).unwrap_or_default();
        self.problems.extend(rows);
        toolbox.close().await;
    }
}

/// The names of the files of definitions, sound or not.
fn names(config: &Config) -> Vec<String> {
    let entries = std::fs::read_dir(&config.jobs_dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let definitions = paths.filter(|path| path.extension().is_some_and(|e| e == "toml"));
    definitions.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect()
}
