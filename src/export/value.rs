//! One cell of a table, with its text.

use std::io::Write;

use chrono::{
    DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone,
    Timelike, Utc,
};
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
    /// For programs: the key in JSON Lines, the column in Parquet.
    pub name: String,
    /// For people: the heading in CSV and XLSX.
    pub label: String,
    /// What its cells are, when that is known. A cell may still be something else.
    pub kind: Option<Kind>,
    /// An Excel number format (`#,##0.00`), for numbers, dates and times.
    pub format: Option<String>,
    /// Of decimals: how many digits there are at most, and how many of them are decimals, as the
    /// database declares it (`numeric(12, 2)`).
    pub digits: Option<(u8, u8)>,
}

impl Column {
    /// A column whose label is its name and whose kind is left to its cells.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Column { label: name.clone(), name, kind: None, format: None, digits: None }
    }
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
        }
    }
}

/// Appends what `fmt` makes of it.
fn write_fmt(text: impl std::fmt::Debug, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{text:?}");
}

pub(crate) fn write_int(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A number below 100 in two digits.
fn write_two(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]);
}

fn write_date(day: NaiveDate, out: &mut Vec<u8>) {
    match u32::try_from(day.year()) {
        Ok(year) if year <= 9999 => {
            write_two(year / 100, out);
            write_two(year % 100, out);
            out.push(b'-');
            write_two(day.month(), out);
            out.push(b'-');
            write_two(day.day(), out);
        }
        _ => write_fmt(day, out),
    }
}

fn write_time(time: NaiveTime, out: &mut Vec<u8>) {
    let nanos = time.nanosecond();
    // A leap second.
    if nanos >= 1_000_000_000 {
        return write_fmt(time, out);
    }
    write_two(time.hour(), out);
    out.push(b':');
    write_two(time.minute(), out);
    out.push(b':');
    write_two(time.second(), out);
    let (digits, fraction) = match nanos {
        0 => return,
        _ if nanos.is_multiple_of(1_000_000) => (3, nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => (6, nanos / 1_000),
        _ => (9, nanos),
    };
    out.push(b'.');
    write_padded(u64::from(fraction), digits, out);
}

/// A number with zeros before it, in that many digits; at most 19.
pub(crate) fn write_padded(number: u64, digits: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number).as_bytes();
    let zeros = digits.saturating_sub(text.len());
    out.extend_from_slice(&b"0000000000000000000"[..zeros.min(19)]);
    out.extend_from_slice(text);
}

fn write_wall(at: NaiveDateTime, out: &mut Vec<u8>) {
    write_date(at.date(), out);
    out.push(b'T');
    write_time(at.time(), out);
}

/// The date and time on a clock on the wall of `zone`, with what that clock is off UTC. `None`
/// at the ends of the calendar, where there is no such date.
pub(crate) fn local(at: DateTime<Utc>, zone: Tz) -> Option<(NaiveDateTime, FixedOffset)> {
    let utc = at.naive_utc();
    let offset = zone.offset_from_utc_datetime(&utc).fix();
    Some((utc.checked_add_offset(offset)?, offset))
}

fn write_moment(at: DateTime<Utc>, zone: Tz, out: &mut Vec<u8>) {
    if zone != Tz::UTC
        && let Some((wall, offset)) = local(at, zone)
        // Before time zones, towns had offsets with seconds, which RFC 3339 cannot express.
        && offset.local_minus_utc() % 60 == 0
    {
        write_wall(wall, out);
        let minutes = offset.local_minus_utc() / 60;
        out.push(if minutes < 0 { b'-' } else { b'+' });
        // At most a day.
        write_two(minutes.unsigned_abs() / 60, out);
        out.push(b':');
        write_two(minutes.unsigned_abs() % 60, out);
        return;
    }
    write_wall(at.naive_utc(), out);
    out.push(b'Z');
}

pub(crate) fn write_float(number: f64, out: &mut Vec<u8>) {
    let size = number.abs();
    if size == 0.0 || (1e-5..1e16).contains(&size) {
        // The same digits as `{number}`, several times as fast.
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(number);
        out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
    } else if number.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if number.is_infinite() {
        out.extend_from_slice(if number > 0.0 { b"Infinity" } else { b"-Infinity" });
    } else if (1e16..1e17).contains(&size) {
        // Writing to memory cannot fail.
        let _ = write!(out, "{number}");
    } else {
        let _ = write!(out, "{number:e}");
    }
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + 2 * bytes.len());
    out.extend_from_slice(b"\\x");
    out.extend(
        bytes
            .iter()
            .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
    );
}

/// Whether a decimal number has at most [`SAFE_DIGITS`] significant digits: those from the first
/// that is not zero to the last that is not zero.
pub(crate) fn is_safe(decimal: &str) -> bool {
    if decimal.len() <= SAFE_DIGITS {
        return true;
    }
    let digits = || decimal.bytes().filter(u8::is_ascii_digit);
    let leading = digits().take_while(|digit| *digit == b'0').count();
    let trailing = digits().rev().take_while(|digit| *digit == b'0').count();
    digits().count().saturating_sub(leading + trailing) <= SAFE_DIGITS
}

/// Digits that every reader of IEEE 754 doubles keeps, and that Excel shows.
pub(crate) const SAFE_DIGITS: usize = 15;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: &Value) -> String {
        value.to_text(Tz::UTC)
    }

    /// Where two are as short and as near, `1218983471758264.25` as `….2` or as `….3`, either may do.
    fn is_shortest(number: f64) {
        let size = number.abs();
        let plain = size == 0.0 || (1e-5..1e17).contains(&size);
        let expected = if plain { format!("{number}") } else { format!("{number:e}") };
        let written = text(&Value::Float(number));
        assert_eq!(written.parse(), Ok(number), "{written} for {expected}");
        assert_eq!(written.len(), expected.len(), "{written} for {expected}");
        assert_eq!(written.contains('e'), !plain, "{written}");
    }

    #[test]
    fn of_two_that_are_as_near_one_is_written() {
        is_shortest(f64::from_bits(14_056_106_771_282_980_577));
    }

    proptest! {
        #[test]
        fn floats_have_the_shortest_digits(bits: u64) {
            let number = f64::from_bits(bits);
            prop_assume!(number.is_finite());
            is_shortest(number);
        }

        #[test]
        fn ordinary_floats_too(number in -1e18..1e18f64) {
            is_shortest(number);
        }

        #[test]
        fn moments_are_as_chrono_writes_them(seconds in -62_000_000_000..253_000_000_000i64, nanos in 0..1_000_000_000u32, coarse in 0..4u32) {
            let nanos = nanos - nanos % 1000u32.pow(coarse);
            let at = DateTime::from_timestamp(seconds, nanos).unwrap();
            let wall = at.naive_utc();
            prop_assert_eq!(text(&Value::NaiveDateTime(wall)), format!("{wall:?}"));
            prop_assert_eq!(text(&Value::DateTime(at)), format!("{wall:?}Z"));
            prop_assert_eq!(text(&Value::Date(wall.date())), format!("{:?}", wall.date()));
            prop_assert_eq!(text(&Value::Time(wall.time())), format!("{:?}", wall.time()));
        }

        #[test]
        fn digits_that_everybody_keeps(sign in "-?", whole in "[0-9]{1,20}", fraction in "(\\.[0-9]{1,20})?") {
            let digits: Vec<u8> = whole.bytes().chain(fraction.bytes().filter(u8::is_ascii_digit)).collect();
            let first = digits.iter().position(|d| *d != b'0');
            let last = digits.iter().rposition(|d| *d != b'0');
            let significant = first.zip(last).map_or(0, |(first, last)| last + 1 - first);
            prop_assert_eq!(is_safe(&format!("{sign}{whole}{fraction}")), significant <= SAFE_DIGITS);
        }
    }
}
