//! How a setting's value is read: text in the environment, text or a number in the file.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use figment::value::Value;
use serde::{Deserialize, Deserializer, de};

use super::values::Secret;
use crate::duration::Bare;

/// Values are text in the environment and may be numbers in the file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Integer(i64),
    Boolean(bool),
}

impl Scalar {
    fn text(self) -> String {
        match self {
            Scalar::Text(text) => text,
            Scalar::Integer(number) => number.to_string(),
            Scalar::Boolean(flag) => flag.to_string(),
        }
    }
}

/// A value of either source as text; `None` for what is no single value.
pub(super) fn text_of(value: Value) -> Option<String> {
    value.deserialize::<Scalar>().ok().map(Scalar::text)
}

pub(super) fn parsed<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<T, D::Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text = Scalar::deserialize(deserializer)?.text();
    text.parse().map_err(|e| de::Error::custom(format!("{text:?}: {e}")))
}

pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration(deserializer, Bare::Seconds)
}

pub(super) fn minutes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    duration(deserializer, Bare::Minutes)
}

fn duration<'de, D: Deserializer<'de>>(from: D, bare: Bare) -> Result<Duration, D::Error> {
    let text = Scalar::deserialize(from)?.text();
    bare.parse(text.trim()).map_err(|why| de::Error::custom(format!("{text:?} {why}")))
}

pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Secret>, D::Error> {
    let text = Scalar::deserialize(deserializer)?.text();
    let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty());
    Ok(keys.map(Secret::new).collect())
}

pub(super) fn names<'de, D>(deserializer: D) -> Result<BTreeSet<String>, D::Error>
where
    D: Deserializer<'de>,
{
    let text = Scalar::deserialize(deserializer)?.text();
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

pub(super) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let text = Scalar::deserialize(deserializer)?.text();
    let parse =
        |text: String| text.parse().map_err(|e| de::Error::custom(format!("{text:?}: {e}")));
    (!text.is_empty()).then_some(text).map(parse).transpose()
}

pub(super) fn optional_path<'de, D>(deserializer: D) -> Result<Option<PathBuf>, D::Error>
where
    D: Deserializer<'de>,
{
    let text = Scalar::deserialize(deserializer)?.text();
    Ok((!text.is_empty()).then(|| text.into()))
}
