//! Types of criteria, and their values.

use std::cmp::Ordering;

use chrono::{
    DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, TimeDelta, TimeZone,
    Utc,
};
use chrono_tz::Tz;
use uuid::Uuid;

use super::decimal;

/// What a criterion's text stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Any text.
    Text,
    /// A whole number of 64 bits.
    Integer,
    /// A number with decimals, exact.
    Decimal,
    /// A day, `2013-12-31`.
    Date,
    /// A moment; in the requester's time zone when it has no offset.
    DateTime,
    /// `true` or `false`.
    Boolean,
    /// A UUID.
    Uuid,
    /// One of its choices.
    Choice,
}

/// A criterion's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Typed {
    /// [`Type::Text`] and [`Type::Choice`].
    Text(String),
    /// [`Type::Integer`].
    Integer(i64),
    /// [`Type::Decimal`]: digits without exponent, sign only when negative.
    Decimal(String),
    /// [`Type::Date`].
    Date(NaiveDate),
    /// [`Type::DateTime`], with the text it came from when that had no offset.
    DateTime(DateTime<Utc>, Option<NaiveDateTime>),
    /// [`Type::Boolean`].
    Boolean(bool),
    /// [`Type::Uuid`].
    Uuid(Uuid),
}

impl Type {
    /// Every type, by the name it has in a definition.
    pub const ALL: [(&'static str, Type); 8] = [
        ("text", Type::Text),
        ("integer", Type::Integer),
        ("decimal", Type::Decimal),
        ("date", Type::Date),
        ("datetime", Type::DateTime),
        ("boolean", Type::Boolean),
        ("uuid", Type::Uuid),
        ("choice", Type::Choice),
    ];

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Type> {
        Type::ALL.into_iter().find(|(n, _)| *n == name).map(|(_, kind)| kind)
    }

    /// Reads a value.
    ///
    /// # Errors
    /// What the text should have been.
    pub fn parse(self, text: &str, zone: Tz) -> Result<Typed, String> {
        let trimmed = text.trim();
        let value = match self {
            Type::Text | Type::Choice => return Ok(Typed::Text(text.to_owned())),
            Type::Integer => whole(trimmed).map(Typed::Integer),
            Type::Decimal => decimal::normalise(trimmed).map(Typed::Decimal),
            Type::Date => date(trimmed).map(Typed::Date),
            Type::DateTime => moment(trimmed, zone),
            Type::Boolean => boolean(trimmed).map(Typed::Boolean),
            Type::Uuid => Uuid::parse_str(trimmed).ok().map(Typed::Uuid),
        };
        value.ok_or_else(|| format!("{text:?} is not {}", self.described()))
    }

    fn described(self) -> &'static str {
        match self {
            Type::Text | Type::Choice => "text",
            Type::Integer => "a whole number",
            Type::Decimal => "a decimal number, e.g. 12.50",
            Type::Date => "a date, e.g. 2013-12-31",
            Type::DateTime => {
                "a date and time, e.g. 2013-12-31T23:59:00, with or without an offset"
            }
            Type::Boolean => "true or false",
            Type::Uuid => "a UUID",
        }
    }

    /// Whether `min` and `max` make sense.
    pub fn is_ordered(self) -> bool {
        matches!(self, Type::Integer | Type::Decimal | Type::Date | Type::DateTime)
    }
}

impl Typed {
    /// The one text that stands for this value; [`Type::parse`] reads it again.
    pub fn canonical(&self) -> String {
        match self {
            Typed::Text(text) | Typed::Decimal(text) => text.clone(),
            Typed::Integer(number) => number.to_string(),
            Typed::Date(day) => format!("{day:?}"),
            Typed::DateTime(_, Some(wall)) => format!("{wall:?}"),
            Typed::DateTime(at, None) => at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            Typed::Boolean(flag) => flag.to_string(),
            Typed::Uuid(id) => id.to_string(),
        }
    }

    /// The same value, no longer tied to a time zone: what a database gets.
    pub fn in_utc(&self) -> Typed {
        match self {
            Typed::DateTime(at, _) => Typed::DateTime(*at, None),
            other => other.clone(),
        }
    }

    /// Which of two values of the same ordered type is the greater.
    pub fn compare(&self, other: &Typed) -> Option<Ordering> {
        match (self, other) {
            (Typed::Integer(a), Typed::Integer(b)) => Some(a.cmp(b)),
            (Typed::Decimal(a), Typed::Decimal(b)) => Some(decimal::compare(a, b)),
            (Typed::Date(a), Typed::Date(b)) => Some(a.cmp(b)),
            (Typed::DateTime(a, _), Typed::DateTime(b, _)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

/// `5`; also `5.0` and `5e0`, which are the same number to JSON and to many of its writers.
fn whole(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| {
        let number = decimal::normalise(text)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
        fraction.bytes().all(|digit| digit == b'0').then(|| whole.parse().ok())?
    })
}

/// Four digits of year: what every database and reader takes.
fn date(text: &str) -> Option<NaiveDate> {
    if text.len() != 10 || !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|day| has_plain_year(day.year()))
}

fn has_plain_year(year: i32) -> bool {
    (1..=9999).contains(&year)
}

fn moment(text: &str, zone: Tz) -> Option<Typed> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        let at = at.with_timezone(&Utc);
        return has_plain_year(at.year()).then_some(Typed::DateTime(at, None));
    }
    let wall = match date(text) {
        Some(day) => day.and_time(NaiveTime::MIN),
        // The forms that browsers send for `<input type="datetime-local">`, and their SQL kin.
        None => {
            ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
                .into_iter()
                .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
                .filter(|wall| has_plain_year(wall.year()))?
        }
    };
    Some(Typed::DateTime(in_zone(wall, zone)?, Some(wall)))
}

/// The first of two moments when the clock is put back; when it is put forward, the skipped hour
/// is read on the clock before that. Both as PostgreSQL does it.
fn in_zone(wall: NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    let found = zone.from_local_datetime(&wall).earliest().or_else(|| {
        let before = wall.checked_sub_signed(TimeDelta::days(1))?;
        let ahead = before - zone.from_local_datetime(&before).earliest()?.naive_utc();
        Some(zone.from_utc_datetime(&wall.checked_sub_signed(ahead)?))
    });
    found.map(|at| at.with_timezone(&Utc)).filter(|at| has_plain_year(at.year()))
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}
