//! The texts of pages and mails by language: `templates/messages/LANGUAGE.toml`, built in, each
//! text overridable by a file of the same path in the operator's folder.
//!
//! A key is a path (`files.empty.title`). `{name}` stands for a value. A text that depends on a
//! number `n` has two keys, `….one` and `….other`.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Languages that pages and mails are in, with their own names.
pub const LANGUAGES: [(&str, &str); 4] =
    [("en", "English"), ("nl", "Nederlands"), ("fr", "Français"), ("de", "Deutsch")];

/// All texts: by language, then by key.
#[derive(Clone, Debug, Default)]
pub struct Messages(BTreeMap<String, BTreeMap<String, String>>);

impl Messages {
    /// Adds the texts of a file, over those that are there.
    ///
    /// # Errors
    /// [`Error::Config`] when it is no TOML of texts.
    pub fn add(&mut self, language: &str, name: &str, toml: &str) -> Result<()> {
        let wrong = |why: &dyn std::fmt::Display| Error::Config(format!("template {name}: {why}"));
        let table: toml::Table = toml.parse().map_err(|e| wrong(&e))?;
        let texts = self.0.entry(language.to_ascii_lowercase()).or_default();
        flatten("", &table, texts).map_err(|key| wrong(&format!("{key}: must be text")))
    }

    /// The language of ours that fits best: itself, its main language, or English.
    pub fn best(&self, language: &str) -> &'static str {
        known(language).unwrap_or("en")
    }

    /// The text of a key; in English when the language has none. `None` when English has none
    /// either.
    pub fn get(&self, language: &str, key: &str) -> Option<&str> {
        let language = language.to_ascii_lowercase();
        let main = language.split('-').next().unwrap_or_default();
        let found = [language.as_str(), main, "en"]
            .into_iter()
            .find_map(|tag| self.0.get(tag).and_then(|texts| texts.get(key)));
        found.map(String::as_str)
    }

    /// The text for a number of things.
    pub fn plural(&self, language: &str, key: &str, n: i64) -> Option<&str> {
        // Zero is singular in French.
        let one = n == 1 || (n == 0 && language.starts_with("fr"));
        let form = if one { "one" } else { "other" };
        self.get(language, &format!("{key}.{form}"))
    }

    /// The keys of a language with its texts.
    pub(crate) fn all(&self, language: &str) -> impl Iterator<Item = (&str, &str)> {
        let texts = self.0.get(language).into_iter().flatten();
        texts.map(|(key, text)| (key.as_str(), text.as_str()))
    }
}

/// Which of our languages a language tag means, if any.
pub fn known(language: &str) -> Option<&'static str> {
    let main = language.split(['-', '_']).next().unwrap_or_default();
    LANGUAGES.iter().map(|(tag, _)| *tag).find(|tag| tag.eq_ignore_ascii_case(main))
}

fn flatten(
    prefix: &str,
    table: &toml::Table,
    texts: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::String(text) => drop(texts.insert(key, text.clone())),
            toml::Value::Table(inner) => flatten(&key, inner, texts)?,
            _ => return Err(key),
        }
    }
    Ok(())
}

/// Puts values into a text.
pub fn fill(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        match after.split_once('}').and_then(|(name, tail)| Some((value(name)?, tail))) {
            Some((value, tail)) => {
                filled.push_str(&value);
                rest = tail;
            }
            None => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_in() {
        let value = |name: &str| (name == "n").then(|| "5".to_owned());
        assert_eq!(fill("{n} of {all} {", value), "5 of {all} {");
    }
}
