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

/// Languages of two letters (ISO 639-1).
const LANGUAGES: &str = "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch \
    co cr cs cu cv cy da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi \
    ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky \
    la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om \
    or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta \
    te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu";
/// What people write instead.
const CALLED: [(&str, &str); 8] = [
    ("english", "en"),
    ("dutch", "nl"),
    ("nederlands", "nl"),
    ("german", "de"),
    ("deutsch", "de"),
    ("french", "fr"),
    ("francais", "fr"),
    ("spanish", "es"),
];

/// Whether the first part of a tag is a language: of two letters one of those that there are, of three
/// any (ISO 639-3 has 8,000). Longer ones are none (RFC 5646, 2.2.1).
fn is_language(tag: &str) -> bool {
    let main = tag.split('-').next().unwrap_or_default().to_ascii_lowercase();
    main.len() == 3 || (main.len() == 2 && LANGUAGES.split(' ').any(|known| known == main))
}

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
            if !is_language_tag(&tag) || !is_language(&tag) {
                let meant = CALLED.iter().find(|(name, _)| tag.eq_ignore_ascii_case(name));
                let meant = meant.map_or("nl or pt-BR", |(_, code)| code);
                return Err(A::Error::custom(format!("{tag:?} is not a language, e.g. {meant}")));
            }
            texts.insert(tag.to_ascii_lowercase(), text);
        }
        if texts.is_empty() {
            return Err(A::Error::custom("names no language"));
        }
        Ok(Localized(texts))
    }
}
