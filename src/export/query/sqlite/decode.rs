//! SQLite's values, with the type that somebody has declared for them.

use std::fmt::Write;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use rusqlite::types::ValueRef;
use serde::de::IgnoredAny;
use uuid::Uuid;

use crate::export::{
    definition::ColumnType,
    value::{Cell, Kind, Value},
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

    /// The cell, or why it cannot be read. Text that is not stored as such goes to `scratch`.
    pub(super) fn cell<'a>(
        self,
        raw: ValueRef<'a>,
        scratch: &'a mut String,
    ) -> Result<Cell<'a>, String> {
        let stored = match raw {
            ValueRef::Null => return Ok(Cell::Null),
            ValueRef::Integer(number) => Cell::Int(number),
            ValueRef::Real(number) => Cell::Float(number),
            ValueRef::Text(bytes) => {
                Cell::Text(std::str::from_utf8(bytes).map_err(|_| "the value is no valid TEXT")?)
            }
            ValueRef::Blob(bytes) => Cell::Bytes(bytes),
        };
        Ok(self.fit(stored, scratch).unwrap_or(stored))
    }

    /// The value as what it was declared to be; `None` when it is not.
    fn fit<'a>(self, stored: Cell<'a>, scratch: &'a mut String) -> Option<Cell<'a>> {
        Some(match (self, stored) {
            (Read::AsStored, _) => stored,
            (Read::Bool, Cell::Int(0)) => Cell::Bool(false),
            (Read::Bool, Cell::Int(1)) => Cell::Bool(true),
            (Read::Integer, Cell::Float(number)) => Cell::Int(whole(number)?),
            (Read::Integer, Cell::Text(text)) => Cell::Int(text.trim().parse().ok()?),
            (Read::Float, Cell::Int(number)) => Cell::Float(exact(number)?),
            (Read::Float, Cell::Text(text)) => Cell::Float(text.trim().parse().ok()?),
            (Read::Decimal, Cell::Int(number)) => Cell::Decimal(kept(scratch, number)),
            (Read::Decimal, Cell::Float(number)) if number.is_finite() => {
                Cell::Decimal(kept(scratch, number))
            }
            (Read::Decimal, Cell::Text(text)) => {
                Cell::Decimal(kept(scratch, crate::export::criteria::decimal(text.trim())?))
            }
            (Read::Text, Cell::Int(number)) => Cell::Text(kept(scratch, number)),
            (Read::Text, Cell::Float(number)) => {
                Cell::Text(kept(scratch, Value::Float(number).to_text(chrono_tz::Tz::UTC)))
            }
            (Read::Uuid, Cell::Bytes(bytes)) => Cell::Uuid(Uuid::from_slice(bytes).ok()?),
            (_, Cell::Text(text)) => self.fit_text(text)?,
            _ => return None,
        })
    }

    fn fit_text(self, text: &str) -> Option<Cell<'_>> {
        Some(match self {
            Read::Date => Cell::Date(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?),
            Read::Time => Cell::Time(
                ["%H:%M:%S%.f", "%H:%M"]
                    .into_iter()
                    .find_map(|form| NaiveTime::parse_from_str(text, form).ok())?,
            ),
            Read::DateTime => moment(text, Cell::NaiveDateTime)?,
            Read::Utc => moment(text, |at| Cell::DateTime(at.and_utc()))?,
            Read::Uuid => Cell::Uuid(Uuid::parse_str(text).ok()?),
            Read::Json => {
                serde_json::from_str::<IgnoredAny>(text).ok()?;
                Cell::Json(text)
            }
            _ => return None,
        })
    }
}

/// Precision and scale in `DECIMAL(10, 2)`.
pub(super) fn digits(declared: &str) -> Option<(u8, u8)> {
    let (_, inner) = declared.split_once('(')?;
    let (precision, scale) = inner.trim().strip_suffix(')')?.split_once(',')?;
    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
}

/// Its text, kept there.
fn kept(scratch: &mut String, what: impl std::fmt::Display) -> &str {
    scratch.clear();
    // Writing to a string cannot fail.
    let _ = write!(scratch, "{what}");
    scratch
}

/// The forms that sqlx, SQLite's own functions and most libraries write.
fn moment<'a>(text: &str, without_offset: impl Fn(NaiveDateTime) -> Cell<'a>) -> Option<Cell<'a>> {
    match usual(text.as_bytes()) {
        Some((wall, None)) => return Some(without_offset(wall)),
        Some((wall, Some(offset))) => {
            let utc = wall.checked_sub_signed(TimeDelta::try_minutes(offset)?)?;
            return Some(Cell::DateTime(utc.and_utc()));
        }
        None => {}
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(Cell::DateTime(at.with_timezone(&Utc)));
    }
    let forms =
        ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    if let Some(at) = forms.into_iter().find_map(|f| NaiveDateTime::parse_from_str(text, f).ok()) {
        return Some(without_offset(at));
    }
    let at = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%:z").ok()?;
    Some(Cell::DateTime(at.with_timezone(&Utc)))
}

/// What most libraries write, `2026-03-01 12:00:00` with up to nine decimals, and an offset in
/// minutes if there is one (`Z`, `+02`, `+02:00`, `+0200`). Read without a pattern: patterns take as
/// long as everything else together.
fn usual(text: &[u8]) -> Option<(NaiveDateTime, Option<i64>)> {
    let number = |from: usize, to: usize| {
        text.get(from..to)?.iter().try_fold(0_u32, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0'))
        })
    };
    let is = |at: usize, what: &[u8]| text.get(at).is_some_and(|byte| what.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b" T") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let year = i32::try_from(number(0, 4)?).ok()?;
    let day = NaiveDate::from_ymd_opt(year, number(5, 7)?, number(8, 10)?)?;
    let (nanos, end) = match text.get(19) {
        Some(b'.') => {
            let decimals = text[20..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let missing = 9_u32.checked_sub(u32::try_from(decimals).ok()?).filter(|n| *n < 9)?;
            (number(20, 20 + decimals)? * 10_u32.pow(missing), 20 + decimals)
        }
        _ => (0, 19),
    };
    let wall = day.and_hms_nano_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?, nanos)?;
    let offset = match text.get(end..)? {
        [] => None,
        b"Z" => Some(0),
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let minutes = match rest.len() {
                2 => 0,
                4 => number(end + 3, end + 5)?,
                5 if is(end + 3, b":") => number(end + 4, end + 6)?,
                _ => return None,
            };
            let offset = number(end + 1, end + 3).filter(|hours| *hours < 24)? * 60 + minutes;
            let offset = i64::from((minutes < 60).then_some(offset)?);
            Some(if *sign == b'-' { -offset } else { offset })
        }
        _ => return None,
    };
    Some((wall, offset))
}

/// A float without a fraction as the integer that it is.
fn whole(number: f64) -> Option<i64> {
    let integer = number as i64;
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(integer)
}

fn exact(number: i64) -> Option<f64> {
    (number.unsigned_abs() <= 1 << 53).then_some(number as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_usual_form_is_read_as_by_its_pattern(seconds in -62_000_000_000..253_000_000_000i64, nanos in 0..1_000_000_000u32, decimals in 0..10usize, t in "[ T]", offset in "|Z|[+-](0[0-9]|1[0-4]):[0-5][0-9]") {
            let at = DateTime::from_timestamp(seconds, nanos).unwrap().naive_utc();
            let whole = at.format(&format!("%Y-%m-%d{t}%H:%M:%S")).to_string();
            let text = match decimals {
                0 => whole,
                _ => format!("{whole}.{}", &format!("{nanos:09}")[..decimals]),
            };
            let form = format!("%Y-%m-%d{t}%H:%M:%S%.f");
            let wall = NaiveDateTime::parse_from_str(&text, &form).unwrap();
            let read = usual(format!("{text}{offset}").as_bytes()).unwrap();
            prop_assert_eq!(read.0, wall);
            match read.1 {
                None => prop_assert_eq!(offset, ""),
                Some(minutes) => {
                    let rfc = format!("{text}{offset}").replace(' ', "T");
                    let at = DateTime::parse_from_rfc3339(&rfc).unwrap();
                    prop_assert_eq!(at.naive_utc(), wall - TimeDelta::minutes(minutes));
                }
            }
        }

        #[test]
        fn what_is_none_is_refused(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,11})?[Z ]?") {
            if let Some((at, offset)) = usual(text.as_bytes()) {
                let form = format!("%Y-%m-%d{}%H:%M:%S%.f", &text[10..11]);
                let wall = text.trim_end_matches('Z');
                prop_assert_eq!(NaiveDateTime::parse_from_str(wall, &form).ok(), Some(at));
                prop_assert_eq!(offset, text.ends_with('Z').then_some(0));
            }
        }
    }

    #[test]
    fn offsets_as_databases_write_them() {
        for (text, minutes) in
            [("+00", 0), ("-03", -180), ("+0530", 330), ("+05:30", 330), ("Z", 0)]
        {
            let read = usual(format!("2024-07-01 12:00:00.5{text}").as_bytes()).unwrap();
            assert_eq!(read.1, Some(minutes), "{text}");
        }
        for text in ["+5", "+24", "+00:60", "+00:0", "z", "UTC", "."] {
            assert_eq!(usual(format!("2024-07-01 12:00:00{text}").as_bytes()), None, "{text}");
        }
    }
}
