//! Lengths of time as people write them: `90s`, `15m`, `2h`, `1d`. The one reader of all of them:
//! settings, flags, declared file types, `cleaner.toml`.

use std::{fmt, time::Duration};

/// The units, largest first, with their seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
/// A week is read, and written in days.
const WEEK: (char, u64) = ('w', 7 * 86_400);
/// Ten years: beyond that it is a slip of the pen.
const LONGEST: u64 = 3_650 * 86_400;

/// How one is written, for who wrote it otherwise.
pub const HOW: &str = "write 90s, 15m, 2h or 1d";

/// What a number without a unit counts, where people wrote such before there were units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// `60` is a minute.
    Seconds,
    /// `60` is an hour.
    Minutes,
}

impl Bare {
    fn seconds(self) -> u64 {
        match self {
            Bare::Seconds => 1,
            Bare::Minutes => 60,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Bare::Seconds => "seconds",
            Bare::Minutes => "minutes",
        }
    }

    /// Reads a length of time with a unit, or a whole number of these; nothing (`0`, `0s`) included.
    ///
    /// # Errors
    /// What is accepted, in words.
    pub fn parse(self, text: &str) -> Result<Duration, String> {
        let total = match whole(text) {
            Some(number) => number.checked_mul(self.seconds()),
            None => in_units(text),
        };
        // What other programs keep: 136 years.
        let total = total.and_then(|total| u32::try_from(total).ok());
        total.map(|total| Duration::from_secs(total.into())).ok_or_else(|| {
            format!("is not a length of time; {HOW}, or a number of {}", self.name())
        })
    }
}

/// Reads `90s`, `15m`, `2h`, `1d`: at least a second, in whole units, ten years at most.
///
/// # Errors
/// What is accepted, in words.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let total = in_units(text).filter(|total| (1..=LONGEST).contains(total));
    total.map(Duration::from_secs).ok_or_else(|| match whole(text) {
        Some(_) => format!("{text:?} has no unit; {HOW}"),
        None => format!("{text:?} is not a length of time; {HOW}"),
    })
}

/// For flags: the same, or a number of seconds with fractions, nothing included; ten years at most.
///
/// # Errors
/// What is accepted, in words.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    let length = match text.parse() {
        Ok(number) => Duration::try_from_secs_f64(number).ok(),
        Err(_) => in_units(text).map(Duration::from_secs),
    };
    let fits = length.filter(|length| *length <= Duration::from_secs(LONGEST));
    fits.ok_or_else(|| format!("{HOW}, or a number of seconds; ten years at most"))
}

/// Seconds of `90s`, `15m`, `2h`, `1d`, `1w`.
pub(crate) fn in_units(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let mut units = UNITS.into_iter().chain([WEEK]);
    let (_, seconds) = units.find(|(name, _)| *name == unit)?;
    whole(text.strip_suffix(unit)?)?.checked_mul(seconds)
}

/// A number of digits alone.
pub(crate) fn whole(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// A length of time in the largest unit that fits: `15m`.
pub struct Short(pub Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.as_secs();
        let (unit, seconds) = UNITS
            .into_iter()
            .find(|(_, s)| total >= *s && total.is_multiple_of(*s))
            .unwrap_or(('s', 1));
        write!(f, "{}{unit}", total / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bare, Duration, Short, parse_duration, parse_seconds};

    #[test]
    fn lengths_of_time_are_read_and_written() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7_200), ("1d", 86_400)] {
            let length = Duration::from_secs(seconds);
            assert_eq!(parse_duration(text), Ok(length), "{text}");
            assert_eq!(Bare::Minutes.parse(text), Ok(length), "{text}");
            assert_eq!(parse_seconds(text), Ok(length), "{text}");
            assert_eq!(Short(length).to_string(), text);
        }
        assert_eq!(parse_duration("1w"), Ok(Duration::from_secs(7 * 86_400)));
        for text in ["", "d", "0s", "15", "1.5h", "-1d", "+1d", "1y", "99999999999999999999d", "1ü"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_counts_what_it_always_did() {
        assert_eq!(Bare::Seconds.parse("60"), Ok(Duration::from_secs(60)));
        assert_eq!(Bare::Minutes.parse("60"), Ok(Duration::from_secs(3600)));
        assert_eq!(Bare::Seconds.parse("0"), Ok(Duration::ZERO));
        assert_eq!(Bare::Seconds.parse("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(Short(Duration::ZERO).to_string(), "0s");
        for text in ["", "soon", "-1", "1.5", "1e3", "4294967296", "1 d"] {
            assert!(Bare::Seconds.parse(text).is_err(), "{text}");
        }
        for text in ["nan", "-1", "1e99", "11000d", "x"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
