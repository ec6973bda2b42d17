//! Rates and lifetimes, as people write them.

use std::{num::NonZeroU32, time::Duration};

use chrono::{DateTime, Datelike, TimeDelta, Utc};

use crate::duration::{Short, in_units};

/// What to say of a time that [`is_plain`] refuses.
pub const PLAIN_TIME: &str = "must be in the years 1 to 9999";

/// Whether RFC 3339 can write a time. PostgreSQL does not keep all others, and nobody means them.
pub fn is_plain(at: DateTime<Utc>) -> bool {
    (1..=9999).contains(&at.year())
}

/// `N/s`, `N/m`, `N/h` or `N/d`: a bucket that holds N calls and fills evenly, N in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: NonZeroU32,
    unit: char,
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "must be N/s, N/m, N/h or N/d with N above 0, e.g. 100/m".to_owned();
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let unit = match unit {
            "s" => 's',
            "m" => 'm',
            "h" => 'h',
            "d" => 'd',
            _ => return Err(wrong()),
        };
        if !count.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        Ok(Rate { count: count.parse().map_err(|_| wrong())?, unit })
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.count, self.unit)
    }
}

/// What is left of a rate once a call was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Of which rate.
    pub rate: Rate,
    /// Calls that would be admitted now.
    pub calls: u32,
    /// When all of them would be.
    pub full_in: Duration,
}

impl Rate {
    /// Calls of one period.
    pub fn count(self) -> u32 {
        self.count.get()
    }

    /// What is left at `now` in a bucket that will be full again at `full_at`.
    pub fn left(self, full_at: i64, now: i64) -> Left {
        let missing = (full_at - now).max(0);
        let calls = (self.period() - missing).max(0) / self.cost();
        let calls = u32::try_from(calls).unwrap_or(u32::MAX).min(self.count());
        Left { rate: self, calls, full_in: Duration::from_micros(missing.unsigned_abs()) }
    }

    /// One period, in microseconds.
    pub fn period(self) -> i64 {
        let seconds = match self.unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => 86_400,
        };
        seconds * 1_000_000
    }

    /// What one call costs, in microseconds.
    pub fn cost(self) -> i64 {
        (self.period() / i64::from(self.count.get())).max(1)
    }

    /// One call at `now` on a bucket that will be full again at `full_at` (the generic cell rate
    /// algorithm, ITU-T I.371): when it will then be full again, or how long to wait.
    pub fn admit(self, full_at: i64, now: i64) -> Result<i64, Duration> {
        let then = full_at.max(now) + self.cost();
        if then - now <= self.period() { Ok(then) } else { Err(self.wait(full_at, now)) }
    }

    /// How long until a call is admitted.
    pub fn wait(self, full_at: i64, now: i64) -> Duration {
        let micros = full_at.max(now) + self.cost() - now - self.period();
        Duration::from_micros(micros.max(0).unsigned_abs())
    }
}

/// How long tokens live: `90s`, `15m`, `12h`, `30d`, `never`; or as Django writes durations,
/// `14 00:00` (`[DAYS ][[HOURS:]MINUTES:]SECONDS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenTtl {
    /// This many seconds.
    Seconds(NonZeroU32),
    /// For ever.
    Never,
}

impl TokenTtl {
    /// One day, durin's default.
    pub const DAY: TokenTtl = TokenTtl::Seconds(NonZeroU32::new(86_400).unwrap());

    /// As it stands in the database: seconds, or null for ever.
    pub fn seconds(self) -> Option<i64> {
        match self {
            TokenTtl::Seconds(seconds) => Some(seconds.get().into()),
            TokenTtl::Never => None,
        }
    }

    /// When something ends that begins at a time and lasts so many seconds; never without.
    pub fn end(seconds: Option<i64>, from: DateTime<Utc>) -> Option<DateTime<Utc>> {
        from.checked_add_signed(TimeDelta::try_seconds(seconds?)?)
    }
}

impl std::str::FromStr for TokenTtl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "never" {
            return Ok(TokenTtl::Never);
        }
        let seconds = in_units(text.trim()).or_else(|| as_django(text.trim()));
        let fits =
            seconds.and_then(|seconds| u32::try_from(seconds).ok()).and_then(NonZeroU32::new);
        fits.map(TokenTtl::Seconds).ok_or_else(|| {
            "must be a second or more and 136 years or less, written as 90s, 15m, 12h, 30d or 14 00:00; or never".into()
        })
    }
}

impl std::fmt::Display for TokenTtl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TokenTtl::Seconds(seconds) => Short(Duration::from_secs(seconds.get().into())).fmt(f),
            TokenTtl::Never => f.write_str("never"),
        }
    }
}

fn digits(text: &str) -> Option<u64> {
    let fits = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

fn as_django(text: &str) -> Option<u64> {
    let (days, clock) = match text.split_once(' ') {
        Some((days, clock)) => (digits(days)?, clock.trim_start()),
        None => (0, text),
    };
    let parts: Option<Vec<u64>> = clock.split(':').map(digits).collect();
    let seconds = match parts?.as_slice() {
        [seconds] => *seconds,
        [minutes, seconds] => minutes * 60 + seconds,
        [hours, minutes, seconds] => hours * 3600 + minutes * 60 + seconds,
        _ => return None,
    };
    days.checked_mul(86_400)?.checked_add(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_of_five_in_a_minute() {
        let rate: Rate = "5/m".parse().unwrap();
        let (mut full_at, second) = (0, 1_000_000);
        for _ in 0..5 {
            full_at = rate.admit(full_at, 100 * second).unwrap();
        }
        assert_eq!(rate.admit(full_at, 100 * second), Err(Duration::from_secs(12)));
        assert!(rate.admit(full_at, 111 * second).is_err());
        full_at = rate.admit(full_at, 112 * second).unwrap();
        assert!(rate.admit(full_at, 112 * second).is_err());
        let left = |now| {
            let Left { calls, full_in, .. } = rate.left(full_at, now * second);
            (calls, full_in.as_secs())
        };
        assert_eq!([left(112), left(130), left(500)], [(0, 60), (1, 42), (5, 0)]);
        for wrong in ["", "blahblah", "2/minute", "0/m", "-1/m", "+1/m", "1.5/m", "/m", "5", "5/M"]
        {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
        assert_eq!("100/d".parse::<Rate>().unwrap().to_string(), "100/d");
    }

    #[test]
    fn lifetimes() {
        let seconds = |text: &str| text.parse::<TokenTtl>().map(TokenTtl::seconds);
        for (text, expected) in [
            ("90s", 90),
            ("2h", 7200),
            ("14 00:00", 14 * 86_400),
            ("1 02:03:04", 86_400 + 7384),
            ("30:00", 1800),
            ("45", 45),
        ] {
            assert_eq!(seconds(text), Ok(Some(expected)), "{text}");
        }
        assert_eq!(seconds("never"), Ok(None));
        for wrong in
            ["", "0", "0s", "-1d", "00:00", "blah", "1 d", "1:2:3:4", "9999999999d", "1.5h"]
        {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
