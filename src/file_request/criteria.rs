//! What to put in the file: ordered pairs, stored urlencoded, as dj-bgfiles stored Django's
//! `QueryDict`.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use crate::error::{Error, FieldError, Result};

/// Form fields that protect a form and say nothing about a file (Django, Rails, Laravel, Express).
const CSRF_FIELDS: [&str; 5] =
    ["csrfmiddlewaretoken", "authenticity_token", "csrf_token", "_csrf", "_token"];

/// Longest urlencoded text accepted, in bytes.
pub const MAX_ENCODED: usize = 16 * 1024;

/// Ordered pairs of name and value; a name may come several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Criteria(Vec<(String, String)>);

impl Criteria {
    /// Parses `origin=JFK&carrier=AA`. Order and repeated names stay; CSRF fields go.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `criteria` when the text is no urlencoded form or is too long.
    pub fn from_query(text: &str) -> Result<Self> {
        if text.len() > MAX_ENCODED {
            return Err(too_long());
        }
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(text)
            .map_err(|e| Error::invalid("criteria", format!("not a urlencoded form: {e}")))?;
        Self::from_pairs(pairs)
    }

    /// Takes pairs as they are, except for CSRF fields.
    ///
    /// # Errors
    /// [`Error::Invalid`] on a NUL character (no database keeps one) or when too long.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let pairs: Vec<_> =
            pairs.into_iter().filter(|(name, _)| !CSRF_FIELDS.contains(&name.as_str())).collect();
        if let Some((name, _)) = pairs.iter().find(|(n, v)| n.contains('\0') || v.contains('\0')) {
            let name = name.replace('\0', "");
            return Err(Error::invalid(format!("criteria.{name}"), "has a NUL character"));
        }
        let criteria = Criteria(pairs);
        if criteria.encode().len() > MAX_ENCODED {
            return Err(too_long());
        }
        Ok(criteria)
    }

    /// Takes the JSON of an API call: an object of text, numbers, booleans and lists of these, or
    /// urlencoded text. As a member `null` and `[]` are what empty text is: given, and without a
    /// value; as criteria they are none.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming each member that is none of these.
    pub fn from_json(value: &Value) -> Result<Self> {
        Self::from_json_text(&value.to_string())
    }

    /// The same from JSON as it was written, so that a number keeps its digits.
    ///
    /// # Errors
    /// As [`Criteria::from_json`]; on `criteria` when the text is no JSON.
    pub fn from_json_text(json: &str) -> Result<Self> {
        let wrong = || Error::invalid("criteria", "must be an object or urlencoded text");
        let Members(members) = match json.trim_start().as_bytes().first() {
            Some(b'n') => return Ok(Self::default()),
            // What PHP makes of an empty array.
            Some(b'[') if json.trim().get(1..).map(str::trim_start) == Some("]") => {
                return Ok(Self::default());
            }
            Some(b'"') => {
                let text: String = serde_json::from_str(json).map_err(|_| wrong())?;
                return Self::from_query(&text);
            }
            _ => serde_json::from_str(json).map_err(|_| wrong())?,
        };
        let (mut pairs, mut errors) = (Vec::new(), Vec::new());
        for (name, value) in members {
            match texts(value) {
                Some(texts) => pairs.extend(texts.into_iter().map(|text| (name.clone(), text))),
                None => errors.push(FieldError {
                    field: format!("criteria.{name}"),
                    message: "must be text, a number, true, false or a list of these".into(),
                }),
            }
        }
        if errors.is_empty() { Self::from_pairs(pairs) } else { Err(Error::Invalid(errors)) }
    }

    /// The urlencoded text that is stored.
    pub fn encode(&self) -> String {
        // Pairs of strings always serialise.
        serde_urlencoded::to_string(&self.0).unwrap_or_default()
    }

    /// The last value of a name, as Django's `QueryDict` answers.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Every value of a name, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Criteria as a row has them: urlencoded. A row that came by SQL may have the JSON of an object
/// instead, which is read as what it means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct StoredCriteria(String);

impl StoredCriteria {
    /// The urlencoded text; as it stands in the row when that is neither.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The criteria.
    ///
    /// # Errors
    /// As [`Criteria::from_query`]; of what begins like an object, as [`Criteria::from_json_text`].
    pub fn parse(&self) -> Result<Criteria> {
        from_json_object(&self.0).unwrap_or_else(|| Criteria::from_query(&self.0))
    }
}

/// `None` when it does not look like JSON: what we wrote ourselves never does.
fn from_json_object(text: &str) -> Option<Result<Criteria>> {
    let is_json = text.trim_start().starts_with('{') || text.trim() == "[]";
    is_json.then(|| Criteria::from_json_text(text))
}

impl From<String> for StoredCriteria {
    fn from(text: String) -> Self {
        match from_json_object(&text) {
            Some(Ok(criteria)) => StoredCriteria(criteria.encode()),
            // What is wrong with it is said when it is parsed.
            Some(Err(_)) | None => StoredCriteria(text),
        }
    }
}

impl PartialEq<&str> for StoredCriteria {
    fn eq(&self, text: &&str) -> bool {
        self.0 == *text
    }
}

/// The members of an object in their order, each as it was written. [`Value`] keeps the digits of
/// an `f64`; the feature of `serde_json` that keeps all would change what numbers are everywhere
/// in this program, and in the program that it is part of.
struct Members<'j>(Vec<(String, &'j RawValue)>);

impl<'de: 'j, 'j> Deserialize<'de> for Members<'j> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        from.deserialize_map(Object)
    }
}

/// The texts that a member stands for, never none; `None` when it is no scalar and no list of them.
fn texts(value: &RawValue) -> Option<Vec<String>> {
    let items: Vec<&RawValue> = match value.get().strip_prefix('[') {
        Some(_) => serde_json::from_str(value.get()).ok()?,
        None => vec![value],
    };
    let mut texts = Vec::with_capacity(items.len());
    for item in items {
        let json = item.get();
        match json.as_bytes().first()? {
            b'n' => {}
            b'"' => texts.push(serde_json::from_str(json).ok()?),
            b'[' | b'{' => return None,
            // Numbers, true and false are text as they stand.
            _ => texts.push(json.to_owned()),
        }
    }
    if texts.is_empty() {
        texts.push(String::new());
    }
    Some(texts)
}

fn too_long() -> Error {
    Error::invalid("criteria", format!("longer than {MAX_ENCODED} bytes when urlencoded"))
}
