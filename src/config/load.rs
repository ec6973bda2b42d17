//! Where settings come from: the command line over the environment over the file over the defaults.

use std::collections::BTreeMap;

use figment::{
    Figment, Profile,
    error::Kind,
    providers::{Format, Serialized, Toml},
    value::{Dict, Map, Value},
};

use super::{Config, Flags, settings::SETTINGS, values::Secret};
use crate::{
    error::{Error, Result},
    nearest::did_you_mean,
};

impl Config {
    /// Reads everything: flags, environment, file, defaults.
    ///
    /// # Errors
    /// [`Error::Config`] naming the setting and where it came from.
    pub fn load(flags: &Flags) -> Result<Config> {
        Self::load_from(flags, &environment())
    }

    /// As [`Config::load`] with an environment of one's own.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_from(flags: &Flags, env: &BTreeMap<String, String>) -> Result<Config> {
        let figment = figment(flags, env)?;
        let mut config: Config = figment.extract().map_err(|e| describe(&e))?;
        config.storage_options = env
            .iter()
            .filter(|(name, _)| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|p| name.starts_with(p)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        config.storage = absolute(&config.storage)?;
        config.mail = Secret::new(absolute(config.mail.expose())?);
        config.check()?;
        Ok(config)
    }
}

/// `file:relative` becomes `file:///absolute`, so that it means the same wherever it is used.
fn absolute(url: &str) -> Result<String> {
    let Some(path) = url.strip_prefix("file:").filter(|path| !path.starts_with("//")) else {
        return Ok(url.to_owned());
    };
    let path = std::path::absolute(path).map_err(Error::io(format!("file:{path}")))?;
    url::Url::from_file_path(&path)
        .map(String::from)
        .map_err(|()| Error::Config(format!("file:{}: is not a path", path.display())))
}

/// What is in the file that a variable names; of several lines, with commas between them.
fn of_file(variable: &str, path: &str) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::Config(format!("{variable}: {path}: {error}")))?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.is_empty() {
        true => Err(Error::Config(format!("{variable}: {path} is empty"))),
        false => Ok(lines.join(",")),
    }
}

/// All variables that are text.
#[allow(clippy::disallowed_methods, reason = "this module is where the environment is read")]
pub(super) fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Every setting with where it came from.
pub(super) fn figment(flags: &Flags, env: &BTreeMap<String, String>) -> Result<Figment> {
    let file = env.get("BGFILES_CONFIG").map_or("bgfiles.toml", String::as_str);
    if env.contains_key("BGFILES_CONFIG") && !std::path::Path::new(file).is_file() {
        return Err(Error::Config(format!("BGFILES_CONFIG: there is no file {file}")));
    }
    let mut figment = Figment::new();
    for setting in SETTINGS {
        figment = figment.merge(Named("default", setting.key, setting.default.to_owned()));
    }
    figment = figment.merge(Toml::file(file));
    for setting in SETTINGS {
        if let Some(value) = env.get(setting.env) {
            figment = figment.merge(Named(setting.env, setting.key, value.clone()));
        }
        let variable = format!("{}_FILE", setting.env);
        let path = env.get(&variable).filter(|_| setting.may_be_in_a_file());
        if let Some(path) = path {
            if env.contains_key(setting.env) {
                let message = format!("{variable}: give either this or {}", setting.env);
                return Err(Error::Config(message));
            }
            let value = of_file(&variable, path)?;
            figment = figment.merge(Named(&variable, setting.key, value));
        }
    }
    let mut sources = Dict::new();
    for (name, value) in env {
        let Some(source) = name.strip_prefix("BGFILES_SOURCE_") else { continue };
        // A source whose name ends so has a URL.
        match source.strip_suffix("_FILE").filter(|_| !value.contains(':')) {
            None => sources.insert(source.to_ascii_lowercase(), Value::from(value.as_str())),
            Some(source) if env.contains_key(&format!("BGFILES_SOURCE_{source}")) => {
                let message = format!("{name}: give either this or BGFILES_SOURCE_{source}");
                return Err(Error::Config(message));
            }
            Some(source) => {
                sources.insert(source.to_ascii_lowercase(), Value::from(of_file(name, value)?))
            }
        };
    }
    if !sources.is_empty() {
        figment = figment.merge(Serialized::default("sources", sources));
    }
    for (key, value) in flags {
        figment = figment.merge(Named("command line", key, value.clone()));
    }
    Ok(figment)
}

/// One value, with where it came from for error messages.
struct Named<'a>(&'a str, &'a str, String);

impl figment::Provider for Named<'_> {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(self.0.to_owned())
    }

    fn data(&self) -> figment::error::Result<Map<Profile, Dict>> {
        let value = Value::from(self.2.as_str());
        Ok(Map::from([(Profile::Default, Dict::from([(self.1.to_owned(), value)]))]))
    }
}

fn describe(error: &figment::Error) -> Error {
    let lines: Vec<String> = error
        .clone()
        .into_iter()
        .map(|e| {
            let key = e.path.join(".");
            let env = SETTINGS.iter().find(|s| s.key == key).map_or("", |s| s.env);
            let from = e.metadata.as_ref().map_or(String::new(), |m| {
                let source = m.source.as_ref().map_or(String::new(), |s| format!(" {s}"));
                format!(" (from {}{source})", m.name)
            });
            if let Kind::UnknownField(name, _) = &e.kind {
                let keys = SETTINGS.iter().map(|s| s.key).chain(["sources"]);
                return format!("{name} is no setting{}{from}", did_you_mean(name, keys));
            }
            let name = if env.is_empty() { key } else { format!("{key} ({env})") };
            match name.as_str() {
                "" => format!("{}{from}", e.kind),
                _ => format!("{name}: {}{from}", e.kind),
            }
        })
        .collect();
    Error::Config(lines.join("\n"))
}
