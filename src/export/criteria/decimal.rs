//! Decimal numbers as text, exact.

use std::cmp::Ordering;

/// Longest number accepted, in characters: far beyond money and measures, far below what would
/// slow a database.
const LONGEST: usize = 200;

/// `-0012.50` as `-12.50`, and `1e-7`, which is how JSON may write it (RFC 8259, section 6), as
/// `0.0000001`; `None` when it is no decimal number, or too long when written out.
pub(crate) fn normalise(text: &str) -> Option<String> {
    match text.split_once(['e', 'E']) {
        None => plain(text),
        Some((digits, exponent)) => shifted(&plain(digits)?, exponent),
    }
}

/// The same without exponents.
pub(crate) fn plain(text: &str) -> Option<String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if text.len() > LONGEST || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        rest => rest,
    };
    let sign = if negative { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    let number = format!("{sign}{whole}{point}{fraction}");
    // What is written out is read again.
    (number.len() <= LONGEST).then_some(number)
}

/// A plain number with its point moved.
fn shifted(number: &str, exponent: &str) -> Option<String> {
    // Nothing longer is written out, so that `1e999999999` costs nothing.
    let by: i16 =
        exponent.parse().ok().filter(|by: &i16| usize::from(by.unsigned_abs()) <= LONGEST)?;
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let places = usize::from(by.unsigned_abs());
    let moved = if by < 0 {
        let whole = format!("{whole:0>places$}");
        let (whole, first) = whole.split_at(whole.len() - places);
        format!("{sign}{whole}.{first}{fraction}")
    } else {
        let fraction = format!("{fraction:0<places$}");
        let (last, fraction) = fraction.split_at(places);
        format!("{sign}{whole}{last}.{fraction}")
    };
    plain(&moved)
}

/// Compares two normalised numbers by value.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Parts::of(a), Parts::of(b));
    match (a.negative, b.negative) {
        (false, false) => a.compare_size(&b),
        (true, true) => b.compare_size(&a),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    }
}

struct Parts<'t> {
    negative: bool,
    whole: &'t str,
    fraction: &'t str,
}

impl<'t> Parts<'t> {
    fn of(text: &'t str) -> Self {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        // There is no negative zero.
        Parts { negative: negative && !(whole.is_empty() && fraction.is_empty()), whole, fraction }
    }

    fn compare_size(&self, other: &Parts<'_>) -> Ordering {
        self.whole
            .len()
            .cmp(&other.whole.len())
            .then_with(|| self.whole.cmp(other.whole))
            .then_with(|| self.fraction.cmp(other.fraction))
    }
}
