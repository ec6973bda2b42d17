//! The pauses between tries, of files and of mails.

use chrono::TimeDelta;

use crate::ids::random_bytes;

/// How long to wait after the n-th failed attempt: 5 s, 10 s, 20 s … up to an hour, each between
/// three quarters and five quarters of that, so that what failed together does not come back
/// together.
pub fn backoff(attempts: i32) -> TimeDelta {
    let doublings = attempts.clamp(1, 20).unsigned_abs() - 1;
    let base = (5_000_i64 << doublings).min(3_600_000);
    let jitter = i64::from(u16::from_be_bytes(random_bytes())) * base / (2 * 65_536);
    TimeDelta::milliseconds(base * 3 / 4 + jitter)
}
