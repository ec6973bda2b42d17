//! A value as the type that a definition gives its column.

use std::fmt::Write;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::de::IgnoredAny;
use uuid::Uuid;

use super::{
    definition::ColumnType,
    value::{Cell, Kind},
};

/// What the cells of a column of that type are. `None` for date and time, of which the cells say
/// whether they have an offset.
pub(super) fn kind(kind: ColumnType) -> Option<Kind> {
    Some(match kind {
        ColumnType::Integer => Kind::Integer,
        ColumnType::Decimal => Kind::Decimal,
        ColumnType::Float => Kind::Float,
        ColumnType::Text => Kind::Text,
        ColumnType::Boolean => Kind::Bool,
        ColumnType::Date => Kind::Date,
        ColumnType::Time => Kind::Time,
        ColumnType::DateTime => return None,
        ColumnType::Uuid => Kind::Uuid,
        ColumnType::Json => Kind::Json,
    })
}

/// The value as a column of that type has it, `None` when something of it would be lost. Digits behind
/// the point of a float are those of the nearest double. Text that is made goes to `scratch`.
pub(super) fn fit<'a>(
    kind: ColumnType,
    cell: Cell<'a>,
    zone: Tz,
    scratch: &'a mut String,
) -> Option<Cell<'a>> {
    Some(match (kind, cell) {
        (_, Cell::Null) => cell,
        (ColumnType::Boolean, Cell::Bool(_)) => cell,
        (ColumnType::Boolean, Cell::Int(0)) => Cell::Bool(false),
        (ColumnType::Boolean, Cell::Int(1)) => Cell::Bool(true),
        (ColumnType::Integer, Cell::Int(_)) => cell,
        (ColumnType::Integer, Cell::Float(number)) => Cell::Int(whole(number)?),
        (ColumnType::Integer, Cell::Decimal(digits)) => Cell::Int(whole_digits(digits)?),
        (ColumnType::Integer, Cell::Text(text)) => Cell::Int(text.trim().parse().ok()?),
        (ColumnType::Float, Cell::Float(_)) => cell,
        (ColumnType::Float, Cell::Int(number)) => Cell::Float(exact(number)?),
        (ColumnType::Float, Cell::Decimal(digits)) => Cell::Float(nearest(digits)?),
        (ColumnType::Float, Cell::Text(text)) => Cell::Float(text.trim().parse().ok()?),
        (ColumnType::Decimal, Cell::Decimal(_)) => cell,
        (ColumnType::Decimal, Cell::Int(number)) => Cell::Decimal(kept(scratch, number)),
        (ColumnType::Decimal, Cell::Float(number)) if number.is_finite() => {
            Cell::Decimal(kept(scratch, number))
        }
        (ColumnType::Decimal, Cell::Text(text)) => {
            Cell::Decimal(kept(scratch, super::criteria::decimal(text.trim())?))
        }
        (ColumnType::Text, Cell::Text(_)) => cell,
        (ColumnType::Text, _) => Cell::Text(kept(scratch, cell.to_value().to_text(zone))),
        (ColumnType::Date, Cell::Date(_)) => cell,
        (ColumnType::Date, Cell::NaiveDateTime(at)) if at.time() == NaiveTime::MIN => {
            Cell::Date(at.date())
        }
        (ColumnType::Time, Cell::Time(_)) => cell,
        (ColumnType::DateTime, Cell::DateTime(_) | Cell::NaiveDateTime(_)) => cell,
        (ColumnType::DateTime, Cell::Date(day)) => {
            Cell::NaiveDateTime(day.and_time(NaiveTime::MIN))
        }
        (ColumnType::Uuid, Cell::Uuid(_)) => cell,
        (ColumnType::Uuid, Cell::Bytes(bytes)) => Cell::Uuid(Uuid::from_slice(bytes).ok()?),
        (ColumnType::Json, Cell::Json(_)) => cell,
        (_, Cell::Text(text)) => of_text(kind, text)?,
        _ => return None,
    })
}

fn of_text(kind: ColumnType, text: &str) -> Option<Cell<'_>> {
    Some(match kind {
        ColumnType::Boolean => match text.trim() {
            "true" | "t" => Cell::Bool(true),
            "false" | "f" => Cell::Bool(false),
            _ => return None,
        },
        ColumnType::Date => Cell::Date(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?),
        ColumnType::Time => Cell::Time(
            ["%H:%M:%S%.f", "%H:%M"]
                .into_iter()
                .find_map(|form| NaiveTime::parse_from_str(text, form).ok())?,
        ),
        ColumnType::DateTime => match date_and_time(text)? {
            Moment::Utc(at) => Cell::DateTime(at),
            Moment::Wall(at) => Cell::NaiveDateTime(at),
        },
        ColumnType::Uuid => Cell::Uuid(Uuid::parse_str(text).ok()?),
        ColumnType::Json => {
            serde_json::from_str::<IgnoredAny>(text).ok()?;
            Cell::Json(text)
        }
        _ => return None,
    })
}

/// Its text, kept there.
fn kept(scratch: &mut String, what: impl std::fmt::Display) -> &str {
    scratch.clear();
    // Writing to a string cannot fail.
    let _ = write!(scratch, "{what}");
    scratch
}

/// A float without a fraction as the integer that it is.
fn whole(number: f64) -> Option<i64> {
    let integer = number as i64;
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(integer)
}

fn whole_digits(digits: &str) -> Option<i64> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    whole.parse().ok().filter(|_| fraction.bytes().all(|digit| digit == b'0'))
}

fn exact(number: i64) -> Option<f64> {
    (number.unsigned_abs() <= 1 << 53).then_some(number as f64)
}

/// The nearest double, unless it would round what stands before the point.
fn nearest(digits: &str) -> Option<f64> {
    let whole = digits.split('.').next()?;
    exact(whole.parse().ok()?)?;
    digits.parse().ok()
}

/// A date and time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Moment {
    /// One that says how far it is off UTC.
    Utc(DateTime<Utc>),
    /// One that does not.
    Wall(NaiveDateTime),
}

/// The forms that sqlx, SQLite's own functions and most libraries write.
pub(super) fn date_and_time(text: &str) -> Option<Moment> {
    match usual(text.as_bytes()) {
        Some((wall, None)) => return Some(Moment::Wall(wall)),
        Some((wall, Some(offset))) => {
            let utc = wall.checked_sub_signed(TimeDelta::try_minutes(offset)?)?;
            return Some(Moment::Utc(utc.and_utc()));
        }
        None => {}
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(Moment::Utc(at.with_timezone(&Utc)));
    }
    let forms =
        ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    if let Some(at) = forms.into_iter().find_map(|f| NaiveDateTime::parse_from_str(text, f).ok()) {
        return Some(Moment::Wall(at));
    }
    let at = DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%:z").ok()?;
    Some(Moment::Utc(at.with_timezone(&Utc)))
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
