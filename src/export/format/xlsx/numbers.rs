//! Which numbers and dates Excel has, and how it counts them.

use chrono::{Datelike, NaiveDate, NaiveTime, Timelike};

use crate::export::value::{whole_and_fraction, write_int, write_padded};

/// Digits before the point that Excel keeps.
const MOST_DIGITS: usize = 15;
/// Numbers of more digits than that begin here.
pub(super) const UNSAFE_INT: u64 = 10_u64.pow(MOST_DIGITS as u32);
/// A day, in milliseconds.
pub(super) const DAY: u64 = 86_400_000;

/// Whether it is a number of which Excel keeps what stands before the point.
pub(super) fn has_short_whole(digits: &str) -> bool {
    whole_and_fraction(digits)
        .is_some_and(|(whole, _)| whole.trim_start_matches('0').len() <= MOST_DIGITS)
}

/// Since midnight. A leap second is past its day's last.
pub(super) fn milliseconds(time: NaiveTime) -> u64 {
    u64::from(time.num_seconds_from_midnight()) * 1_000
        + u64::from(time.nanosecond().min(999_999_999) / 1_000_000)
}

/// Days, and how many milliseconds of the next one have passed.
///
/// A double holds no such fraction exactly, and of the readers some round and some cut off. Ten
/// decimals, rounded up and a unit more (0.009 ms), show all of them the second that is meant. (Times
/// of day, which have no days before them, are exact enough as the nearest double.)
pub(super) fn write_moment(days: i64, passed: u64, xml: &mut Vec<u8>) {
    write_int(days, xml);
    if passed > 0 {
        xml.push(b'.');
        write_padded((passed * 10_000_000_000).div_ceil(DAY) + 1, 10, xml);
    }
}

/// To Excel, 1900 was a leap year; other programs, which know better, are a day off before March.
pub(super) fn is_excel_date(day: NaiveDate) -> bool {
    serial(day) >= 61 && day.year() <= 9999
}

/// Days since 1899-12-30: what counts from March 1900 on.
pub(super) fn serial(day: NaiveDate) -> i64 {
    // Days of the common era until then.
    i64::from(day.num_days_from_ce()) - 693_594
}
