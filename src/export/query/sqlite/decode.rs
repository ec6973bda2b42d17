//! SQLite's values, with the type that somebody has declared for them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use serde::de::IgnoredAny;
use sqlx::{Decode, Sqlite, TypeInfo, ValueRef, sqlite::SqliteValueRef};
use uuid::Uuid;

use crate::export::{
    definition::ColumnType,
    value::{Kind, Value},
};

/// What a column's values are tried as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// As SQLite stores each.
    AsStored,
    Bool,
    Integer,
    Float,
    Decimal,
    Text,
    Date,
    Time,
    /// Date and time; one without an offset has no zone.
    DateTime,
    /// Date and time; one without an offset is UTC.
    Utc,
    Uuid,
    Json,
}

impl Read {
    pub(super) fn of_setting(kind: ColumnType) -> Read {
        match kind {
            ColumnType::Integer => Read::Integer,
            ColumnType::Decimal => Read::Decimal,
            ColumnType::Float => Read::Float,
            ColumnType::Text => Read::Text,
            ColumnType::Boolean => Read::Bool,
            ColumnType::Date => Read::Date,
            ColumnType::Time => Read::Time,
            ColumnType::DateTime => Read::DateTime,
            ColumnType::Uuid => Read::Uuid,
            ColumnType::Json => Read::Json,
        }
    }

    /// By what stands in `CREATE TABLE`, `DECIMAL(10, 2)`. Numbers and text say it themselves.
    pub(super) fn of_declaration(declared: &str) -> Read {
        let declared = declared.to_ascii_uppercase();
        let name = declared.split('(').next().unwrap_or_default().trim();
        match name {
            "BOOL" | "BOOLEAN" => Read::Bool,
            "DEC" | "DECIMAL" | "NUMERIC" | "NUMBER" | "MONEY" => Read::Decimal,
            "DATE" => Read::Date,
            "TIME" => Read::Time,
            "DATETIME" => Read::DateTime,
            "TIMESTAMPTZ" => Read::Utc,
            "UUID" => Read::Uuid,
            "JSON" | "JSONB" => Read::Json,
            // TIMESTAMP(6) WITH TIME ZONE.
            _ if name.starts_with("TIMESTAMP") => {
                if declared.contains("WITH TIME ZONE") {
                    Read::Utc
                } else {
                    Read::DateTime
                }
            }
            _ => Read::AsStored,
        }
    }

    /// What the column's cells are, where every cell that fits is that.
    pub(super) fn kind(self) -> Option<Kind> {
        Some(match self {
            Read::AsStored => return None,
            Read::Bool => Kind::Bool,
            Read::Integer => Kind::Integer,
            Read::Float => Kind::Float,
            Read::Decimal => Kind::Decimal,
            Read::Text => Kind::Text,
            Read::Date => Kind::Date,
            Read::Time => Kind::Time,
            Read::DateTime | Read::Utc => Kind::DateTime,
            Read::Uuid => Kind::Uuid,
            Read::Json => Kind::Json,
        })
    }

    /// The value, or why it cannot be read.
    pub(super) fn value(self, raw: SqliteValueRef<'_>) -> Result<Value, String> {
        if raw.is_null() {
            return Ok(Value::Null);
        }
        let stored = stored(raw)?;
        Ok(self.fit(&stored).unwrap_or(stored))
    }

    /// The value as what it was declared to be; `None` when it is not.
    fn fit(self, stored: &Value) -> Option<Value> {
        Some(match (self, stored) {
            (Read::Bool, Value::Int(0)) => Value::Bool(false),
            (Read::Bool, Value::Int(1)) => Value::Bool(true),
            (Read::Integer, Value::Float(number)) => Value::Int(whole(*number)?),
            (Read::Integer, Value::Text(text)) => Value::Int(text.trim().parse().ok()?),
            (Read::Float, Value::Int(number)) => Value::Float(exact(*number)?),
            (Read::Float, Value::Text(text)) => Value::Float(text.trim().parse().ok()?),
            (Read::Decimal, Value::Int(number)) => Value::Decimal(number.to_string()),
            (Read::Decimal, Value::Float(number)) if number.is_finite() => {
                Value::Decimal(number.to_string())
            }
            (Read::Decimal, Value::Text(text)) => {
                Value::Decimal(crate::export::criteria::decimal(text.trim())?)
            }
            (Read::Text, Value::Int(_) | Value::Float(_)) => {
                Value::Text(stored.to_text(chrono_tz::Tz::UTC))
            }
            (Read::Uuid, Value::Bytes(bytes)) => Value::Uuid(Uuid::from_slice(bytes).ok()?),
            (_, Value::Text(text)) => self.fit_text(text)?,
            _ => return None,
        })
    }

    fn fit_text(self, text: &str) -> Option<Value> {
        Some(match self {
            Read::Date => Value::Date(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?),
            Read::Time => Value::Time(
                ["%H:%M:%S%.f", "%H:%M"]
                    .into_iter()
                    .find_map(|form| NaiveTime::parse_from_str(text, form).ok())?,
            ),
            Read::DateTime => moment(text, Value::NaiveDateTime)?,
            Read::Utc => moment(text, |at| Value::DateTime(at.and_utc()))?,
            Read::Uuid => Value::Uuid(Uuid::parse_str(text).ok()?),
            Read::Json => {
                serde_json::from_str::<IgnoredAny>(text).ok()?;
                Value::Json(text.to_owned())
            }
            _ => return None,
        })
    }
}

/// The forms that sqlx, SQLite's own functions and most libraries write.
fn moment(text: &str, without_offset: impl Fn(NaiveDateTime) -> Value) -> Option<Value> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(Value::DateTime(at.with_timezone(&Utc)));
    }
    let forms =
        ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    if let Some(at) = forms.into_iter().find_map(|f| NaiveDateTime::parse_from_str(text, f).ok()) {
        return Some(without_offset(at));
    }
    let at = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%:z").ok()?;
    Some(Value::DateTime(at.with_timezone(&Utc)))
}

/// As SQLite has it.
fn stored(raw: SqliteValueRef<'_>) -> Result<Value, String> {
    let class = raw.type_info().name().to_owned();
    let read = match class.as_str() {
        "INTEGER" => <i64 as Decode<Sqlite>>::decode(raw).map(Value::Int),
        "REAL" => <f64 as Decode<Sqlite>>::decode(raw).map(Value::Float),
        "TEXT" => <String as Decode<Sqlite>>::decode(raw).map(Value::Text),
        _ => <Vec<u8> as Decode<Sqlite>>::decode(raw).map(Value::Bytes),
    };
    read.map_err(|_| format!("the value is no valid {class}"))
}

/// A float without a fraction as the integer that it is.
fn whole(number: f64) -> Option<i64> {
    let integer = number as i64;
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(integer)
}

fn exact(number: i64) -> Option<f64> {
    (number.unsigned_abs() <= 1 << 53).then_some(number as f64)
}
