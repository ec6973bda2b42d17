//! `bgfiles check`

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

use serde_json::json;

use super::{
    output::{note, say},
    setup,
};
use crate::{
    cleaner::Sweeps,
    config::{Config, Flags},
    db::{Db, Watch},
    error::{Error, Result},
    export,
    registry::Registry,
    storage::Storage,
    templates::Templates,
};

/// Prints every setting in force and where it came from, secrets hidden; then checks the
/// definitions in `jobs/` (against their databases, where these answer), the templates, the
/// storage and the schema. Exit 1 when something is wrong.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  bgfiles check --jobs-dir jobs")]
pub(super) struct Check {
    /// Print settings, file types and problems as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Default)]
struct Report {
    types: Vec<serde_json::Value>,
    problems: Vec<String>,
    /// What works, if not as it should.
    warnings: Vec<String>,
    connections: Connections,
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
        let config = setup::config(flags)?;
        let mut report = Report::default();
        report.parts(&config).await;
        for handler in registry.iter() {
            report.types.push(json!({"name": handler.file_type(), "formats": handler.formats()}));
        }
        report.definitions(&config).await;
        if self.json {
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
            say(match report.problems.len() {
                0 => "All is well.".to_owned(),
                n => format!("{n} problem(s)."),
            });
        }
        Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Report {
    fn found<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|e| self.problems.push(e.to_string())).ok()
    }

    async fn parts(&mut self, config: &Config) {
        self.found(crate::signer::Signer::configured(config));
        let templates = Templates::new(config.templates_dir.clone());
        self.found(templates.check(config.templates_dir.as_ref()));
        self.found(crate::mail::Mailer::open(config.mail.expose(), &config.mail_from));
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
            self.found(current.map_err(setup::refused));
        }
    }

    async fn definitions(&mut self, config: &Config) {
        let definitions = match setup::definitions(config) {
            Ok(definitions) => definitions,
            Err(errors) => {
                self.problems.extend(errors.iter().map(Error::to_string));
                return;
            }
        };
        let urls = setup::source_urls(config);
        let sources = self.found(export::Sources::open(&config.database_url, urls));
        let Some(sources) = sources else { return };
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
        }
    }
}
