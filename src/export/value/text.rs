//! Numbers, dates, times and bytes as text.

use std::io::Write;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use chrono_tz::Tz;

use super::zone::local;

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

pub(super) fn write_date(day: NaiveDate, out: &mut Vec<u8>) {
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

pub(super) fn write_time(time: NaiveTime, out: &mut Vec<u8>) {
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

pub(super) fn write_wall(at: NaiveDateTime, out: &mut Vec<u8>) {
    write_date(at.date(), out);
    out.push(b'T');
    write_time(at.time(), out);
}

pub(super) fn write_moment(at: DateTime<Utc>, zone: Tz, out: &mut Vec<u8>) {
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

pub(super) fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + 2 * bytes.len());
    out.extend_from_slice(b"\\x");
    out.extend(
        bytes
            .iter()
            .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
    );
}
