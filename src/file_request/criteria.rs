//! What to put in the file: ordered pairs, stored urlencoded, as dj-bgfiles stored Django's
//! `QueryDict`.

use serde_json::Value;

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

    /// Takes the JSON of an API call: an object of text, numbers, booleans and lists of these
    /// (`null` means absent), or urlencoded text.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming each member that is none of these.
    pub fn from_json(value: &Value) -> Result<Self> {
        let object = match value {
            Value::Null => return Ok(Self::default()),
            Value::String(text) => return Self::from_query(text),
            Value::Object(object) => object,
            _ => {
                return Err(Error::invalid("criteria", "must be an object or urlencoded text"));
            }
        };
        let (mut pairs, mut errors) = (Vec::new(), Vec::new());
        for (name, value) in object {
            let items = match value {
                Value::Array(items) => items.as_slice(),
                single => std::slice::from_ref(single),
            };
            for item in items {
                match item {
                    Value::Null => {}
                    Value::String(text) => pairs.push((name.clone(), text.clone())),
                    Value::Number(number) => pairs.push((name.clone(), number.to_string())),
                    Value::Bool(flag) => pairs.push((name.clone(), flag.to_string())),
                    Value::Array(_) | Value::Object(_) => errors.push(FieldError {
                        field: format!("criteria.{name}"),
                        message: "must be text, a number, true, false or a list of these".into(),
                    }),
                }
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

fn too_long() -> Error {
    Error::invalid("criteria", format!("longer than {MAX_ENCODED} bytes when urlencoded"))
}
