//! One cell of a table, with its text.

use std::{io::Write, sync::LazyLock};

use chrono::{
    DateTime, Datelike, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone,
    Timelike, Utc,
};
use chrono_tz::Tz;
use jiff::{Timestamp, tz::TimeZoneDatabase};
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
    /// A length of time.
    Interval(Interval),
}

/// A length of time, as PostgreSQL keeps it: months and days differ in length, so each is counted for
/// itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Whole months, twelve of them a year.
    pub months: i32,
    /// Whole days.
    pub days: i32,
    /// The rest, in microseconds.
    pub micros: i64,
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
    /// [`Value::Interval`].
    Interval,
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
    /// What they are when `kind` is not known and no cell tells either: a table without rows.
    pub likely: Option<Kind>,
    /// An Excel number format (`#,##0.00`), for numbers, dates and times.
    pub format: Option<String>,
    /// Of decimals: how many digits there are at most, and how many of them are decimals, as the
    /// database declares it (`numeric(12, 2)`).
    pub digits: Option<(u8, u8)>,
    /// Whether CSV puts a `'` before text of it that a spreadsheet would run as a formula.
    pub defuse: bool,
}

impl Column {
    /// A column whose label is its name and whose kind is left to its cells.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Column {
            label: name.clone(),
            name,
            kind: None,
            likely: None,
            format: None,
            digits: None,
            defuse: true,
        }
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

const MICROS_OF_SECOND: u64 = 1_000_000;

impl Interval {
    /// What is below a month, in microseconds of days of 24 hours; `None` for longer ones, whose
    /// length depends on where they begin.
    pub(crate) fn below_a_month(self) -> Option<i64> {
        const DAY: i64 = 86_400_000_000;
        let micros = i64::from(self.days).checked_mul(DAY)?.checked_add(self.micros)?;
        (self.months == 0 && micros.unsigned_abs() < 30 * DAY.unsigned_abs()).then_some(micros)
    }

    /// As PostgreSQL writes it in its own style, `1 year 2 mons -3 days +04:05:06.789`.
    fn write(self, out: &mut Vec<u8>) {
        if let Some(infinite) = self.infinite() {
            return out.extend_from_slice(infinite.as_bytes());
        }
        let parts = [(self.months / 12, "year"), (self.months % 12, "mon"), (self.days, "day")];
        // After a negative part, a positive one says so.
        let (mut is_first, mut is_after_negative) = (true, false);
        for (count, unit) in parts.into_iter().filter(|(count, _)| *count != 0) {
            let blank = if is_first { "" } else { " " };
            let sign = if is_after_negative && count > 0 { "+" } else { "" };
            let ending = if count == 1 { "" } else { "s" };
            // Writing to memory cannot fail.
            let _ = write!(out, "{blank}{sign}{count} {unit}{ending}");
            (is_first, is_after_negative) = (false, count < 0);
        }
        if self.micros == 0 && !is_first {
            return;
        }
        let blank = if is_first { "" } else { " " };
        let sign = match self.micros {
            ..0 => "-",
            _ if is_after_negative => "+",
            _ => "",
        };
        let size = self.micros.unsigned_abs();
        let (seconds, fraction) = (size / MICROS_OF_SECOND, size % MICROS_OF_SECOND);
        let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
        let _ = write!(out, "{blank}{sign}{hours:02}:{minutes:02}:{:02}", seconds % 60);
        if fraction > 0 {
            let _ = write!(out, ".{}", format!("{fraction:06}").trim_end_matches('0'));
        }
    }

    /// PostgreSQL 17 has intervals without an end.
    fn infinite(self) -> Option<&'static str> {
        match (self.months, self.days, self.micros) {
            (i32::MAX, i32::MAX, i64::MAX) => Some("infinity"),
            (i32::MIN, i32::MIN, i64::MIN) => Some("-infinity"),
            _ => None,
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
    let offset = far_offset(at, zone).unwrap_or_else(|| zone.offset_from_utc_datetime(&utc).fix());
    Some((utc.checked_add_offset(offset)?, offset))
}

/// The last year of which `chrono_tz` knows when the clocks change.
const LAST_KNOWN_YEAR: i32 = 2099;

/// Beyond what `chrono_tz` knows: by the zone's last rule, which jiff goes by for ever.
fn far_offset(at: DateTime<Utc>, zone: Tz) -> Option<FixedOffset> {
    if at.year() <= LAST_KNOWN_YEAR {
        return None;
    }
    static KNOWN: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    let zone = KNOWN.get(zone.name()).ok()?;
    let offset = zone.to_offset(Timestamp::from_second(at.timestamp()).ok()?);
    FixedOffset::east_opt(offset.seconds())
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

/// What stands before the point of a decimal number, without its sign, and behind it; `None` when it
/// is not made of digits.
pub(crate) fn whole_and_fraction(decimal: &str) -> Option<(&str, &str)> {
    let unsigned = decimal.strip_prefix('-').unwrap_or(decimal);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (all_digits(whole) && all_digits(fraction)).then_some((whole, fraction))
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
    }

    #[test]
    fn intervals_are_as_postgresql_writes_them() {
        let hour = 3_600_000_000;
        for (months, days, micros, expected) in [
            (0, 0, 0, "00:00:00"),
            (14, -3, 4 * hour + 5 * 60_000_000, "1 year 2 mons -3 days +04:05:00"),
            (-1, 1, -hour, "-1 mons +1 day -01:00:00"),
            (0, 1, 0, "1 day"),
            (0, 0, 100 * hour + 500_000, "100:00:00.5"),
            (i32::MAX, i32::MAX, i64::MAX, "infinity"),
        ] {
            let length = Interval { months, days, micros };
            assert_eq!(text(&Value::Interval(length)), expected);
        }
    }

    #[test]
    fn summer_time_goes_on_after_the_last_known_year() {
        for (zone, at, expected) in [
            (Tz::America__New_York, "2100-07-01T12:00:00Z", "2100-07-01T08:00:00-04:00"),
            (Tz::America__New_York, "2100-01-01T00:00:00Z", "2099-12-31T19:00:00-05:00"),
            (Tz::Europe__Amsterdam, "2400-03-26T01:00:00Z", "2400-03-26T03:00:00+02:00"),
            (Tz::Australia__Sydney, "9999-01-01T00:00:00Z", "9999-01-01T11:00:00+11:00"),
            (Tz::Asia__Kolkata, "2100-07-01T12:00:00Z", "2100-07-01T17:30:00+05:30"),
        ] {
            assert_eq!(Value::DateTime(at.parse().unwrap()).to_text(zone), expected);
        }
    }
}
