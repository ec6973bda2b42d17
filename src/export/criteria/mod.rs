//! The criteria that a declared file type takes: from pairs of text to typed values.

mod decimal;
mod schema;
#[cfg(test)]
mod tests;
mod typed;

use std::cmp::Ordering;

use chrono_tz::Tz;

pub use typed::{Type, Typed};

use super::localized::Localized;
use crate::{
    error::{Error, FieldError, Result},
    file_request::Criteria,
};

/// One criterion, as declared.
#[derive(Clone, Debug)]
pub struct Criterion {
    /// The field's name, and the parameter's in the SQL.
    pub name: String,
    /// What its text stands for; of each item, for a list.
    pub kind: Type,
    /// Whether it takes several values.
    pub list: bool,
    /// Whether it must be given.
    pub required: bool,
    /// For people; the name when there is none.
    pub label: Option<Localized>,
    /// The values allowed, in their canonical text; any when empty.
    pub choices: Vec<String>,
    /// Taken when it is left out; canonical text.
    pub default: Vec<String>,
    /// The least value allowed.
    pub min: Option<Typed>,
    /// The greatest value allowed.
    pub max: Option<Typed>,
}

/// All criteria of a file type, in the order of their declaration.
#[derive(Clone, Debug, Default)]
pub struct Declared(pub Vec<Criterion>);

/// What was given for one criterion.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub kind: Type,
    /// Whether it is bound as a list.
    pub list: bool,
    /// Its values: none when it is empty, one unless it is a list.
    pub values: Vec<Typed>,
}

impl Criterion {
    /// Checks one value.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(&self, text: &str, zone: Tz) -> Result<Typed, String> {
        let value = self.kind.parse(text, zone)?;
        let canonical = value.canonical();
        if !self.choices.is_empty() && !self.choices.contains(&canonical) {
            return Err(format!("{text:?} is not one of {}", self.choices.join(", ")));
        }
        let beyond = |limit: &Option<Typed>, wrong| {
            limit.as_ref().filter(|limit| value.compare(limit) == Some(wrong)).map(Typed::canonical)
        };
        if let Some(min) = beyond(&self.min, Ordering::Less) {
            return Err(format!("{canonical} is less than {min}, the least allowed"));
        }
        if let Some(max) = beyond(&self.max, Ordering::Greater) {
            return Err(format!("{canonical} is more than {max}, the most allowed"));
        }
        Ok(value)
    }

    fn parse_all(&self, given: &[&str], zone: Tz) -> Result<Vec<Typed>, String> {
        let filled: Vec<&str> = given.iter().copied().filter(|text| !text.is_empty()).collect();
        if filled.len() > 1 && !self.list {
            return Err("is given several times, but takes one value".into());
        }
        if !filled.is_empty() {
            return filled.into_iter().map(|text| self.parse(text, zone)).collect();
        }
        if self.required {
            return Err("is required".into());
        }
        // Somebody emptied it: the default would bring back what they took away.
        if !given.is_empty() {
            return Ok(Vec::new());
        }
        self.default.iter().map(|text| self.parse(text, zone)).collect()
    }
}

impl Declared {
    /// Checks all criteria and fills in the defaults of those that are left out. One whose text is
    /// empty has no value; a date and time without an offset is read in `zone`.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming every field that is wrong or unknown, as `criteria.NAME`.
    pub fn parse(&self, criteria: &Criteria, zone: Tz) -> Result<Vec<Given>> {
        let mut errors = self.unknown(criteria);
        let mut parsed = Vec::with_capacity(self.0.len());
        for criterion in &self.0 {
            let given: Vec<&str> = criteria.get_all(&criterion.name).collect();
            match criterion.parse_all(&given, zone) {
                Ok(values) => parsed.push(Given {
                    name: criterion.name.clone(),
                    kind: criterion.kind,
                    list: criterion.list,
                    values,
                }),
                Err(message) => errors.push(field_error(&criterion.name, message)),
            }
        }
        if errors.is_empty() { Ok(parsed) } else { Err(Error::Invalid(errors)) }
    }

    /// The criteria in their canonical text, in the order of their declaration, with defaults
    /// filled in, so that the stored request says what its file will hold. One that was emptied
    /// and has a default stays as empty text, so that the default is not taken later.
    ///
    /// # Errors
    /// As [`Declared::parse`].
    pub fn normalise(&self, criteria: &Criteria) -> Result<Criteria> {
        let given = self.parse(criteria, Tz::UTC)?;
        let mut pairs = Vec::new();
        for (one, declared) in given.iter().zip(&self.0) {
            pairs.extend(one.values.iter().map(|value| (one.name.clone(), value.canonical())));
            if one.values.is_empty() && !declared.default.is_empty() {
                pairs.push((one.name.clone(), String::new()));
            }
        }
        Criteria::from_pairs(pairs)
    }

    fn unknown(&self, criteria: &Criteria) -> Vec<FieldError> {
        let mut unknown: Vec<&str> = Vec::new();
        for (name, _) in criteria.iter() {
            if !unknown.contains(&name) && !self.0.iter().any(|known| known.name == name) {
                unknown.push(name);
            }
        }
        let known: Vec<&str> = self.0.iter().map(|known| known.name.as_str()).collect();
        let message = match known.as_slice() {
            [] => "is not known: this file type takes no criteria".to_owned(),
            known => format!("is not known; the criteria are {}", known.join(", ")),
        };
        unknown.into_iter().map(|name| field_error(name, message.clone())).collect()
    }
}

fn field_error(name: &str, message: String) -> FieldError {
    FieldError { field: format!("criteria.{name}"), message }
}

pub(crate) use decimal::plain as decimal;
