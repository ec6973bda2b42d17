//! PostgreSQL's values on the wire.
//!
//! Read by hand, as sqlx's own readers panic on or refuse what a database may well hold: infinite
//! and far-off dates, `24:00:00`, numbers of a hundred digits.

use std::fmt::Write;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use uuid::Uuid;

use super::numeric;
use crate::export::value::{Cell, Interval};

const MICROS_OF_DAY: i64 = 86_400_000_000;
/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL begins to count.
const EPOCH: i64 = 10_957;

/// How the bytes of a column are read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Read {
    Bool,
    Bytes,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Uuid,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Json,
    Jsonb,
    Interval,
}

impl Read {
    /// The cell of these bytes (`None`: NULL), or why it cannot be read. Text that is not sent as
    /// such goes to `text`.
    pub(super) fn cell<'a>(
        self,
        bytes: Option<&'a [u8]>,
        text: &'a mut String,
    ) -> Result<Cell<'a>, String> {
        let Some(bytes) = bytes else { return Ok(Cell::Null) };
        self.parse(bytes, text).ok_or_else(|| match self {
            Read::Text | Read::Json | Read::Jsonb => not_utf8(bytes),
            _ => format!("these bytes are no {self:?}"),
        })
    }

    fn parse<'a>(self, bytes: &'a [u8], text: &'a mut String) -> Option<Cell<'a>> {
        Some(match self {
            Read::Bool => Cell::Bool(*bytes.first()? != 0),
            Read::Bytes => Cell::Bytes(bytes),
            Read::Int2 => Cell::Int(i16::from_be_bytes(bytes.try_into().ok()?).into()),
            Read::Int4 => Cell::Int(i32::from_be_bytes(bytes.try_into().ok()?).into()),
            Read::Int8 => Cell::Int(i64::from_be_bytes(bytes.try_into().ok()?)),
            Read::Float4 => Cell::Float(widen(f32::from_be_bytes(bytes.try_into().ok()?))),
            Read::Float8 => Cell::Float(f64::from_be_bytes(bytes.try_into().ok()?)),
            Read::Numeric => numeric::read(bytes, text)?,
            Read::Text => Cell::Text(std::str::from_utf8(bytes).ok()?),
            Read::Uuid => Cell::Uuid(Uuid::from_slice(bytes).ok()?),
            Read::Date => date(i32::from_be_bytes(bytes.try_into().ok()?), text),
            Read::Time => time(i64::from_be_bytes(bytes.try_into().ok()?), text),
            Read::Timestamp => timestamp(i64::from_be_bytes(bytes.try_into().ok()?), false, text),
            Read::Timestamptz => timestamp(i64::from_be_bytes(bytes.try_into().ok()?), true, text),
            Read::Json => Cell::Json(std::str::from_utf8(bytes).ok()?),
            // One byte of version first.
            Read::Jsonb => Cell::Json(std::str::from_utf8(bytes.get(1..)?).ok()?),
            Read::Interval => Cell::Interval(interval(bytes)?),
        })
    }
}

/// `interval_send`: microseconds, days, months.
fn interval(bytes: &[u8]) -> Option<Interval> {
    let (micros, rest) = bytes.split_first_chunk()?;
    let (days, months) = rest.split_first_chunk()?;
    Some(Interval {
        months: i32::from_be_bytes(months.try_into().ok()?),
        days: i32::from_be_bytes(*days),
        micros: i64::from_be_bytes(*micros),
    })
}

/// Databases in SQL_ASCII hold whatever somebody put there.
fn not_utf8(bytes: &[u8]) -> String {
    let good = std::str::from_utf8(bytes).map_or_else(|e| e.valid_up_to(), str::len);
    let byte = bytes.get(good).copied().unwrap_or_default();
    format!("the text is not UTF-8: byte 0x{byte:02x} at place {}", good + 1)
}

/// The double that is written with the same digits: 0.1, not 0.10000000149011612.
fn widen(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| number.into())
}

/// A cell of text that was made here.
fn kept(text: &mut String, made: String) -> Cell<'_> {
    *text = made;
    Cell::Text(text)
}

fn date(days: i32, text: &mut String) -> Cell<'_> {
    match days {
        i32::MAX => return Cell::Text("infinity"),
        i32::MIN => return Cell::Text("-infinity"),
        _ => {}
    }
    let days = i64::from(days) + EPOCH;
    match plain_date(days) {
        Some(day) => Cell::Date(day),
        None => kept(text, far_date(days, "")),
    }
}

fn time(micros: i64, text: &mut String) -> Cell<'_> {
    match plain_time(micros) {
        Some(time) => Cell::Time(time),
        // PostgreSQL has 24:00:00.
        None => kept(text, clock(micros)),
    }
}

fn timestamp(micros: i64, zoned: bool, text: &mut String) -> Cell<'_> {
    match micros {
        i64::MAX => return Cell::Text("infinity"),
        i64::MIN => return Cell::Text("-infinity"),
        _ => {}
    }
    let days = micros.div_euclid(MICROS_OF_DAY) + EPOCH;
    let rest = micros.rem_euclid(MICROS_OF_DAY);
    match (plain_date(days), plain_time(rest)) {
        (Some(day), Some(time)) => {
            let at = NaiveDateTime::new(day, time);
            if zoned { Cell::DateTime(at.and_utc()) } else { Cell::NaiveDateTime(at) }
        }
        _ => {
            let zone = if zoned { "+00" } else { "" };
            kept(text, far_date(days, &format!(" {}{zone}", clock(rest))))
        }
    }
}

/// Years 1 to 9999: what RFC 3339 and every reader know.
fn plain_date(days: i64) -> Option<NaiveDate> {
    // 1970-01-01 is the 719,163rd day of the calendar, 9999-12-31 the 3,652,059th.
    let days = i32::try_from(days + 719_163).ok().filter(|day| (1..=3_652_059).contains(day))?;
    NaiveDate::from_num_days_from_ce_opt(days)
}

fn plain_time(micros: i64) -> Option<NaiveTime> {
    let seconds = u32::try_from(micros.div_euclid(1_000_000)).ok()?;
    let nanos = u32::try_from(micros.rem_euclid(1_000_000) * 1_000).ok()?;
    NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanos)
}

fn clock(micros: i64) -> String {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if fraction > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, ".{}", format!("{fraction:06}").trim_end_matches('0'));
    }
    text
}

/// As PostgreSQL writes it, `0044-03-15 BC`. From days since 1970-01-01 in the proleptic
/// Gregorian calendar, by H. Hinnant's `civil_from_days`.
fn far_date(days: i64, rest: &str) -> String {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (year, suffix) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    format!("{year:04}-{month:02}-{day:02}{rest}{suffix}")
}
