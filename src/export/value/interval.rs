//! Lengths of time.

use std::io::Write;

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
    pub(super) fn write(self, out: &mut Vec<u8>) {
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
