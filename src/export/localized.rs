//! Text in several languages.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use crate::file_request::model::is_language_tag;

/// One text for all, or one for each language: `title = "Flights"`, or `title.en = "Flights"` and
/// `title.nl = "Vluchten"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Localized(BTreeMap<String, String>);

/// The key of a text that is for every language: no language tag is empty.
const ANY: &str = "";

impl Localized {
    /// The same text in every language.
    pub fn new(text: impl Into<String>) -> Self {
        Localized(BTreeMap::from([(ANY.to_owned(), text.into())]))
    }

    /// The text in that language (BCP 47), else in its main language (`pt` for `pt-BR`), else in
    /// English, else in the first there is.
    pub fn get(&self, language: &str) -> &str {
        let language = language.to_ascii_lowercase();
        let main = language.split('-').next().unwrap_or_default();
        [language.as_str(), main, ANY, "en"]
            .into_iter()
            .find_map(|tag| self.0.get(tag))
            .or_else(|| self.0.values().next())
            .map(String::as_str)
            .unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Localized {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TextOrTable)
    }
}

struct TextOrTable;

impl<'de> Visitor<'de> for TextOrTable {
    type Value = Localized;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, or a table of texts by language")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Localized, E> {
        Ok(Localized::new(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Localized, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some((tag, text)) = map.next_entry::<String, String>()? {
            if !is_language_tag(&tag) {
                return Err(A::Error::custom(format!(
                    "{tag:?} is not a language, e.g. nl or pt-BR"
                )));
            }
            texts.insert(tag.to_ascii_lowercase(), text);
        }
        if texts.is_empty() {
            return Err(A::Error::custom("names no language"));
        }
        Ok(Localized(texts))
    }
}
