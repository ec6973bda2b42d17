//! The clocks of time zones.

use std::sync::LazyLock;

use chrono::{DateTime, Datelike, FixedOffset, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use jiff::{Timestamp, tz::TimeZoneDatabase};

/// The date and time on a clock on the wall of `zone`, with what that clock is off UTC. `None`
/// at the ends of the calendar, where there is no such date.
pub(crate) fn local(at: DateTime<Utc>, zone: Tz) -> Option<(NaiveDateTime, FixedOffset)> {
    let utc = at.naive_utc();
    let offset = far_offset(at, zone).unwrap_or_else(|| zone.offset_from_utc_datetime(&utc).fix());
    Some((utc.checked_add_offset(offset)?, offset))
}

/// The last year of which `chrono_tz` knows when the clocks change.
const LAST_KNOWN_YEAR: i32 = 2099;

/// Beyond what `chrono_tz` knows: by the zone's last rule, which jiff goes by for ever.
fn far_offset(at: DateTime<Utc>, zone: Tz) -> Option<FixedOffset> {
    if at.year() <= LAST_KNOWN_YEAR {
        return None;
    }
    static KNOWN: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    let zone = KNOWN.get(zone.name()).ok()?;
    let offset = zone.to_offset(Timestamp::from_second(at.timestamp()).ok()?);
    FixedOffset::east_opt(offset.seconds())
}
