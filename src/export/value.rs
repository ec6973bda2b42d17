//! One cell of a table, with its text.

use std::fmt::Write;

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

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
}

/// What the cells of a column are, as far as that is known before the first row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Value::Bool`].
    Bool,
    /// [`Value::Int`].
    Integer,
    /// [`Value::Float`].
    Float,
    /// [`Value::Decimal`].
    Decimal,
    /// [`Value::Text`].
    Text,
    /// [`Value::Date`].
    Date,
    /// [`Value::Time`].
    Time,
    /// [`Value::DateTime`].
    DateTime,
    /// [`Value::NaiveDateTime`].
    NaiveDateTime,
    /// [`Value::Uuid`].
    Uuid,
    /// [`Value::Json`].
    Json,
    /// [`Value::Bytes`].
    Bytes,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// For programs: the key in JSON Lines.
    pub name: String,
    /// For people: the heading in CSV and XLSX.
    pub label: String,
    /// What its cells are, when that is known. A cell may still be something else.
    pub kind: Option<Kind>,
    /// An Excel number format (`#,##0.00`), for numbers, dates and times.
    pub format: Option<String>,
}

impl Column {
    /// A column whose label is its name and whose kind is left to its cells.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Column { label: name.clone(), name, kind: None, format: None }
    }
}

impl Value {
    /// Appends the text of this value, as CSV has it; nothing for [`Value::Null`].
    ///
    /// Moments are RFC 3339 in `zone`, bytes `\x…` in lower-case hex (as PostgreSQL writes
    /// them), floats the shortest digits that read back as the same number.
    pub fn write_text(&self, zone: Tz, out: &mut String) {
        // Writing to a string cannot fail.
        let _ = match self {
            Value::Null => Ok(()),
            Value::Bool(flag) => write!(out, "{flag}"),
            Value::Int(number) => write!(out, "{number}"),
            Value::Float(number) => write_float(*number, out),
            Value::Decimal(text) | Value::Text(text) | Value::Json(text) => out.write_str(text),
            Value::Date(day) => write!(out, "{day:?}"),
            Value::Time(time) => write!(out, "{time:?}"),
            Value::DateTime(at) => write_moment(*at, zone, out),
            Value::NaiveDateTime(at) => write!(out, "{at:?}"),
            Value::Uuid(id) => write!(out, "{id}"),
            Value::Bytes(bytes) => write_hex(bytes, out),
        };
    }

    /// The text of this value; see [`Value::write_text`].
    pub fn to_text(&self, zone: Tz) -> String {
        let mut text = String::new();
        self.write_text(zone, &mut text);
        text
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

/// The date and time on a clock on the wall of `zone`, with what that clock is off UTC. `None`
/// at the ends of the calendar, where there is no such date.
pub(crate) fn local(at: DateTime<Utc>, zone: Tz) -> Option<(NaiveDateTime, FixedOffset)> {
    let utc = at.naive_utc();
    let offset = zone.offset_from_utc_datetime(&utc).fix();
    Some((utc.checked_add_offset(offset)?, offset))
}

fn write_moment(at: DateTime<Utc>, zone: Tz, out: &mut String) -> std::fmt::Result {
    match local(at, zone) {
        // Before time zones, towns had offsets with seconds, which RFC 3339 cannot express.
        Some((wall, offset)) if offset.local_minus_utc() % 60 == 0 && zone != Tz::UTC => {
            write!(out, "{wall:?}{offset}")
        }
        _ => write!(out, "{:?}Z", at.naive_utc()),
    }
}

fn write_float(number: f64, out: &mut String) -> std::fmt::Result {
    let size = number.abs();
    if number.is_nan() {
        out.write_str("NaN")
    } else if number.is_infinite() {
        out.write_str(if number > 0.0 { "Infinity" } else { "-Infinity" })
    } else if size == 0.0 || (1e-5..1e17).contains(&size) {
        write!(out, "{number}")
    } else {
        write!(out, "{number:e}")
    }
}

fn write_hex(bytes: &[u8], out: &mut String) -> std::fmt::Result {
    out.reserve(2 + 2 * bytes.len());
    out.push_str("\\x");
    bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

/// The significant digits of a decimal number: those from the first that is not zero to the last
/// that is not zero.
pub(crate) fn significant_digits(decimal: &str) -> usize {
    let digits: Vec<u8> = decimal.bytes().filter(u8::is_ascii_digit).collect();
    let Some(first) = digits.iter().position(|d| *d != b'0') else { return 0 };
    let last = digits.iter().rposition(|d| *d != b'0').unwrap_or(first);
    last + 1 - first
}

/// Digits that every reader of IEEE 754 doubles keeps, and that Excel shows.
pub(crate) const SAFE_DIGITS: usize = 15;
