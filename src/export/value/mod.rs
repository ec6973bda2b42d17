//! One cell of a table, with its text.

mod column;
mod interval;
#[cfg(test)]
mod tests;
mod text;
mod zone;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

use self::text::{write_date, write_hex, write_moment, write_time, write_wall};
pub use self::{
    column::{Column, Kind},
    interval::Interval,
};
pub(crate) use self::{
    text::{whole_and_fraction, write_float, write_int, write_padded},
    zone::local,
};

/// What is in a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing known.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A binary floating point number; may be NaN or infinite.
    Float(f64),
    /// A decimal number as its digits, `-12.50`: no exponent, no grouping.
    Decimal(String),
    /// Text.
    Text(String),
    /// A day.
    Date(NaiveDate),
    /// A time of day.
    Time(NaiveTime),
    /// A moment; shown in the requester's time zone.
    DateTime(DateTime<Utc>),
    /// A date and time that says nothing about its zone; shown as it is.
    NaiveDateTime(NaiveDateTime),
    /// A UUID.
    Uuid(Uuid),
    /// JSON as text, known to be valid.
    Json(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A length of time.
    Interval(Interval),
}

/// A cell on its way into a file: [`Value`], borrowed from wherever the row is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Decimal(&'a str),
    Text(&'a str),
    Date(NaiveDate),
    Time(NaiveTime),
    DateTime(DateTime<Utc>),
    NaiveDateTime(NaiveDateTime),
    Uuid(Uuid),
    Json(&'a str),
    Bytes(&'a [u8]),
    Interval(Interval),
}

impl Value {
    /// Borrows it.
    pub(crate) fn cell(&self) -> Cell<'_> {
        match self {
            Value::Null => Cell::Null,
            Value::Bool(flag) => Cell::Bool(*flag),
            Value::Int(number) => Cell::Int(*number),
            Value::Float(number) => Cell::Float(*number),
            Value::Decimal(digits) => Cell::Decimal(digits),
            Value::Text(text) => Cell::Text(text),
            Value::Date(day) => Cell::Date(*day),
            Value::Time(time) => Cell::Time(*time),
            Value::DateTime(at) => Cell::DateTime(*at),
            Value::NaiveDateTime(at) => Cell::NaiveDateTime(*at),
            Value::Uuid(id) => Cell::Uuid(*id),
            Value::Json(text) => Cell::Json(text),
            Value::Bytes(bytes) => Cell::Bytes(bytes),
            Value::Interval(length) => Cell::Interval(*length),
        }
    }

    /// The text of this value, as CSV has it; empty for [`Value::Null`].
    ///
    /// Moments are RFC 3339 in `zone`, bytes `\x…` in lower-case hex (as PostgreSQL writes
    /// them), floats the shortest digits that read back as the same number.
    pub fn to_text(&self, zone: Tz) -> String {
        let mut text = Vec::new();
        self.cell().write_text(zone, &mut text);
        // Everything that is written there is UTF-8.
        String::from_utf8(text).unwrap_or_default()
    }

    /// What it is; `None` for [`Value::Null`].
    pub(crate) fn kind(&self) -> Option<Kind> {
        Some(match self {
            Value::Null => return None,
            Value::Bool(_) => Kind::Bool,
            Value::Int(_) => Kind::Integer,
            Value::Float(_) => Kind::Float,
            Value::Decimal(_) => Kind::Decimal,
            Value::Text(_) => Kind::Text,
            Value::Date(_) => Kind::Date,
            Value::Time(_) => Kind::Time,
            Value::DateTime(_) => Kind::DateTime,
            Value::NaiveDateTime(_) => Kind::NaiveDateTime,
            Value::Uuid(_) => Kind::Uuid,
            Value::Json(_) => Kind::Json,
            Value::Bytes(_) => Kind::Bytes,
            Value::Interval(_) => Kind::Interval,
        })
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn weight(&self) -> usize {
        let heap = match self {
            Value::Decimal(text) | Value::Text(text) | Value::Json(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 0,
        };
        size_of::<Value>() + heap
    }
}

impl Cell<'_> {
    /// A copy that borrows nothing.
    pub(crate) fn to_value(self) -> Value {
        match self {
            Cell::Null => Value::Null,
            Cell::Bool(flag) => Value::Bool(flag),
            Cell::Int(number) => Value::Int(number),
            Cell::Float(number) => Value::Float(number),
            Cell::Decimal(digits) => Value::Decimal(digits.to_owned()),
            Cell::Text(text) => Value::Text(text.to_owned()),
            Cell::Date(day) => Value::Date(day),
            Cell::Time(time) => Value::Time(time),
            Cell::DateTime(at) => Value::DateTime(at),
            Cell::NaiveDateTime(at) => Value::NaiveDateTime(at),
            Cell::Uuid(id) => Value::Uuid(id),
            Cell::Json(text) => Value::Json(text.to_owned()),
            Cell::Bytes(bytes) => Value::Bytes(bytes.to_owned()),
            Cell::Interval(length) => Value::Interval(length),
        }
    }

    /// Appends its text; see [`Value::to_text`].
    pub(crate) fn write_text(self, zone: Tz, out: &mut Vec<u8>) {
        match self {
            Cell::Null => {}
            Cell::Bool(flag) => out.extend_from_slice(if flag { b"true" } else { b"false" }),
            Cell::Int(number) => write_int(number, out),
            Cell::Float(number) => write_float(number, out),
            Cell::Decimal(text) | Cell::Text(text) | Cell::Json(text) => {
                out.extend_from_slice(text.as_bytes());
            }
            Cell::Date(day) => write_date(day, out),
            Cell::Time(time) => write_time(time, out),
            Cell::DateTime(at) => write_moment(at, zone, out),
            Cell::NaiveDateTime(at) => write_wall(at, out),
            Cell::Uuid(id) => {
                let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
                out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
            }
            Cell::Bytes(bytes) => write_hex(bytes, out),
            Cell::Interval(length) => length.write(out),
        }
    }
}
