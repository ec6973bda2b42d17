//! Values as text.

use chrono::DateTime;
use chrono_tz::Tz;
use proptest::prelude::*;

use super::{Interval, Value};

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
