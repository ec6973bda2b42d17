//! Lengths of time as people write them: `90s`, `15m`, `2h`, `1d`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

/// The units, largest first, with their seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];
/// Ten years: beyond that it is a slip of the pen.
const LONGEST: u64 = 3_650 * 86_400;

/// A length of time of at least a second, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length(pub Duration);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).map(Length).ok_or_else(|| {
            D::Error::custom(format!("{text:?} is not a length of time; write 90s, 15m, 2h or 1d"))
        })
    }
}

/// Reads `90s`, `15m`, `2h`, `1d`: at least a second, in whole units.
///
/// # Errors
/// What is accepted, in words.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text).ok_or_else(|| format!("{text:?} is not a length of time; write 90s, 15m, 2h or 1d"))
}

fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let (_, seconds) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let digits = text.strip_suffix(unit)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let total = digits.parse::<u64>().ok()?.checked_mul(seconds)?;
    (1..=LONGEST).contains(&total).then(|| Duration::from_secs(total))
}

/// A length of time in the largest unit that fits: `15m`.
pub(crate) struct Short(pub Duration);

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
    use super::{Duration, Short, parse};

    #[test]
    fn lengths_of_time_are_read_and_written() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7_200), ("1d", 86_400)] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
            assert_eq!(Short(Duration::from_secs(seconds)).to_string(), text);
        }
        for text in ["", "d", "0s", "15", "1.5h", "-1d", "+1d", "1w", "99999999999999999999d", "1ü"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
