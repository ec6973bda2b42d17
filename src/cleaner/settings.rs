//! How long the sweeps keep things: `jobs/cleaner.toml`.

use std::{collections::BTreeMap, path::Path};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::sweeps::{SWEEPS, Sweep};
use crate::{
    duration::Bare,
    error::{Error, Result},
    nearest::did_you_mean,
};

/// The settings of all sweeps, by name.
#[derive(Clone, Debug)]
pub struct Sweeps(BTreeMap<&'static str, Keep>);

/// One sweep's setting.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Whether it runs.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Seconds that things are kept (for expired requests: the leeway); `1h` or `3600` in the file.
    #[serde(deserialize_with = "length")]
    pub keep: u32,
}

fn yes() -> bool {
    true
}

fn length<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let text = match toml::Value::deserialize(from)? {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    let length = Bare::Seconds.parse(&text);
    let length = length.map_err(|why| D::Error::custom(format!("{text:?} {why}")))?;
    Ok(u32::try_from(length.as_secs()).unwrap_or(u32::MAX))
}

impl Keep {
    /// What was of no use before this may go.
    pub(super) fn before(self, now: DateTime<Utc>) -> DateTime<Utc> {
        now - TimeDelta::seconds(self.keep.into())
    }
}

/// The name of a sweep that there is.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Name(&'static str);

// By hand: derived, it would ask for text that lives for ever, as the name does.
impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Name::try_from(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let names = || SWEEPS.iter().map(|sweep| sweep.name);
        names()
            .find(|known| *known == name)
            .map(Name)
            .ok_or_else(|| format!("there is no sweep `{name}`{}", did_you_mean(&name, names())))
    }
}

impl Default for Sweeps {
    /// All of them, with what the list of sweeps says.
    fn default() -> Self {
        let each = |sweep: &Sweep| (sweep.name, Keep { enabled: true, keep: sweep.keep });
        Sweeps(SWEEPS.iter().map(each).collect())
    }
}

impl<'de> Deserialize<'de> for Sweeps {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let said = BTreeMap::<Name, Keep>::deserialize(from)?;
        let mut sweeps = Sweeps::default();
        sweeps.0.extend(said.into_iter().map(|(name, keep)| (name.0, keep)));
        Ok(sweeps)
    }
}

impl Sweeps {
    /// Reads `cleaner.toml` in the folder of declared jobs; the defaults when there is none.
    ///
    /// # Errors
    /// [`Error::Config`] with file and line.
    pub fn load(jobs_dir: &Path) -> Result<Sweeps> {
        let path = jobs_dir.join("cleaner.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Sweeps::default()),
            Err(e) => return Err(Error::io(path.display().to_string())(e)),
        };
        toml::from_str(&text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = 1 + before.matches('\n').count();
            Error::Config(format!("{}:{line}: {}", path.display(), e.message()))
        })
    }

    /// One sweep's setting, to be read or changed.
    ///
    /// # Errors
    /// [`Error::Config`] when there is no such sweep.
    pub fn setting(&mut self, name: &str) -> Result<&mut Keep> {
        let Name(name) = Name::try_from(name.to_owned()).map_err(Error::Config)?;
        let keep = self.0.get_mut(name);
        keep.ok_or_else(|| Error::Internal(format!("nothing is set of the sweep {name}")))
    }

    pub(super) fn of(&self, name: &str) -> Option<Keep> {
        self.0.get(name).copied().filter(|keep| keep.enabled)
    }
}

#[cfg(test)]
mod tests {
    use super::SWEEPS;

    #[test]
    fn the_file_that_is_shipped_names_every_sweep_in_its_order() {
        let text = include_str!("../../jobs/cleaner.toml");
        let headed = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once(']'));
        let shipped: Vec<&str> = headed.map(|(name, _)| name).collect();
        let listed: Vec<&str> = SWEEPS.iter().map(|sweep| sweep.name).collect();
        assert_eq!(shipped, listed);
    }
}
