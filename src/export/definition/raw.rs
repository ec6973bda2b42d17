//! The shape of `jobs/NAME.toml`, before its parts are held against each other.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};
use toml::Spanned;

use super::{ColumnType, ParquetSettings, XlsxSettings};
use crate::auth_token::Role;
use crate::duration::parse_duration;
use crate::export::{criteria::Type, format::Format, localized::Localized};
use crate::file_request::links::RequesterOnly;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub title: Option<Localized>,
    pub formats: Spanned<Vec<Spanned<FormatName>>>,
    pub filename: Option<Spanned<String>>,
    pub source: Option<String>,
    pub delay_over: Option<u64>,
    #[serde(default)]
    pub count: bool,
    pub expires_after: Option<Length>,
    #[serde(default)]
    pub roles: Vec<RoleName>,
    #[serde(default)]
    pub requester_only: Floor,
    pub max_uses: Option<std::num::NonZeroU32>,
    pub max_age: Option<Length>,
    #[serde(default)]
    pub scanner_safe: bool,
    pub max_rows: Option<Spanned<u64>>,
    pub timeout: Option<Length>,
    pub max_attempts: Option<Spanned<i32>>,
    pub query: Option<Spanned<String>>,
    #[serde(default)]
    pub criteria: BTreeMap<Spanned<String>, Criterion>,
    #[serde(default)]
    pub columns: BTreeMap<Spanned<String>, Column>,
    #[serde(default)]
    pub xlsx: XlsxSettings,
    #[serde(default)]
    pub parquet: ParquetSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Criterion {
    pub r#type: Spanned<CriterionType>,
    pub of: Option<Spanned<ItemType>>,
    #[serde(default)]
    pub required: bool,
    pub label: Option<Localized>,
    pub choices: Option<Spanned<Vec<Spanned<Scalar>>>>,
    pub default: Option<Spanned<ScalarOrList>>,
    pub min: Option<Spanned<Scalar>>,
    pub max: Option<Spanned<Scalar>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Column {
    pub label: Option<Localized>,
    pub format: Option<Spanned<String>>,
    pub r#type: Option<TypeName>,
}

/// A length of time of at least a second, in whole seconds.
#[derive(Clone, Copy)]
pub(super) struct Length(pub Duration);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = match toml::Value::deserialize(from)? {
            toml::Value::String(text) => text,
            other => other.to_string(),
        };
        parse_duration(&text).map(Length).map_err(D::Error::custom)
    }
}

/// `decimal`, or `decimal(12, 2)`.
#[derive(Clone, Copy)]
pub(super) struct TypeName {
    pub kind: ColumnType,
    pub digits: Option<(u8, u8)>,
}

impl TypeName {
    fn parse(text: &str) -> Option<Self> {
        let (name, digits) = match text.split_once('(') {
            Some((name, digits)) => (name.trim(), Some(digits)),
            None => (text, None),
        };
        let (_, kind) = ColumnType::ALL.into_iter().find(|(known, _)| *known == name)?;
        let Some(digits) = digits else { return Some(TypeName { kind, digits: None }) };
        let (precision, scale) = digits.trim().strip_suffix(')')?.split_once(',')?;
        let digits: (u8, u8) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
        let is_valid = kind == ColumnType::Decimal && (1..=38).contains(&digits.0);
        (is_valid && digits.1 <= digits.0).then_some(TypeName { kind, digits: Some(digits) })
    }
}

impl<'de> Deserialize<'de> for TypeName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        TypeName::parse(&text).ok_or_else(|| {
            let known = ColumnType::ALL.map(|(name, _)| name).join(", ");
            let message = format!(
                "{text:?} is not a type; use {known}, or decimal(12, 2) with at most 38 digits"
            );
            D::Error::custom(message)
        })
    }
}

#[derive(Clone, Copy)]
pub(super) struct RoleName(pub Role);

impl<'de> Deserialize<'de> for RoleName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        name.parse()
            .map(RoleName)
            .map_err(|why: String| D::Error::custom(format!("{name:?} {why}")))
    }
}

/// `true`, `false` or `"always"`.
#[derive(Clone, Copy, Default)]
pub(super) struct Floor(pub RequesterOnly);

impl<'de> Deserialize<'de> for Floor {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(from)? {
            toml::Value::Boolean(only) => Ok(Floor(only.into())),
            toml::Value::String(text) if text == "always" => Ok(Floor(RequesterOnly::Always)),
            other => {
                Err(D::Error::custom(format!("{other} is none of true, false and \"always\"")))
            }
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct FormatName(pub Format);

impl<'de> Deserialize<'de> for FormatName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Format::parse(&name).map(FormatName).ok_or_else(|| {
            let known = Format::ALL.map(Format::name).join(", ");
            D::Error::custom(format!("{name:?} is not a format; use {known}"))
        })
    }
}

/// `text`, `list of text`, or `list` (with `of`).
#[derive(Clone, Copy)]
pub(super) enum CriterionType {
    One(Type),
    ListOf(Type),
    List,
}

impl<'de> Deserialize<'de> for CriterionType {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let found = match name.strip_prefix("list of ") {
            Some(item) => Type::from_name(item.trim()).map(CriterionType::ListOf),
            None if name == "list" => Some(CriterionType::List),
            None => Type::from_name(&name).map(CriterionType::One),
        };
        found.ok_or_else(|| D::Error::custom(unknown_type(&name, "list of …")))
    }
}

#[derive(Clone, Copy)]
pub(super) struct ItemType(pub Type);

impl<'de> Deserialize<'de> for ItemType {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Type::from_name(&name)
            .map(ItemType)
            .ok_or_else(|| D::Error::custom(unknown_type(&name, "")))
    }
}

fn unknown_type(name: &str, more: &str) -> String {
    let mut known = Type::ALL.map(|(name, _)| name).join(", ");
    if !more.is_empty() {
        known = format!("{known}, {more}");
    }
    format!("{name:?} is not a type; use {known}")
}

/// A number, a date, a text or a truth value, as the text that a caller would give.
pub(super) struct Scalar(pub String);

impl Scalar {
    fn new(value: &toml::Value) -> Option<Self> {
        Some(Scalar(match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            toml::Value::Datetime(at) => at.to_string(),
            toml::Value::Array(_) | toml::Value::Table(_) => return None,
        }))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Scalar::new(&toml::Value::deserialize(from)?)
            .ok_or_else(|| D::Error::custom("must be a single value"))
    }
}

pub(super) struct ScalarOrList(pub Vec<Scalar>);

impl<'de> Deserialize<'de> for ScalarOrList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = toml::Value::deserialize(from)?;
        let values = match &value {
            toml::Value::Array(values) => values.iter().map(Scalar::new).collect(),
            single => Scalar::new(single).map(|one| vec![one]),
        };
        values
            .map(ScalarOrList)
            .ok_or_else(|| D::Error::custom("must be a single value or a list of them"))
    }
}
