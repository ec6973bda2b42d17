//! Throttling: in memory on SQLite, where one machine does it all; in a table on PostgreSQL, where
//! several web processes share each caller's bucket.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use chrono::{DateTime, Utc};

use super::limit_store;
use crate::{
    db::Db,
    error::{Error, Result},
    limits::{Left, Rate},
};

/// Buckets in memory above which full ones are forgotten, whenever there are twice as many as the
/// last time.
const MANY: usize = 10_000;
/// Buckets in memory above which half of them are, those first that will be full first.
const TOO_MANY: usize = 500_000;

/// Everybody's buckets.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    full_at: HashMap<String, i64>,
    /// How many stayed when full ones were forgotten last.
    stayed: usize,
}

impl Throttle {
    /// Counts one call of `who`; what is left.
    ///
    /// # Errors
    /// [`Error::Throttled`] above the rate; the database's.
    pub async fn take(&self, db: &Db, who: String, rate: Rate, now: DateTime<Utc>) -> Result<Left> {
        let now = now.timestamp_micros();
        let taken = match db {
            Db::Sqlite(_) => self.take_here(who, rate, now),
            Db::Postgres(_) => {
                let mut conn = db.acquire().await?;
                match limit_store::take(&mut conn, &who, rate.cost(), rate.period(), now).await? {
                    Some(full_at) => Ok(full_at),
                    None => {
                        let full_at = limit_store::full_at(&mut conn, &who).await?;
                        Err(rate.wait(full_at.unwrap_or(now), now))
                    }
                }
            }
        };
        match taken {
            Ok(full_at) => Ok(rate.left(full_at, now)),
            Err(retry_after) => {
                metrics::counter!("bgfiles_throttled_total").increment(1);
                Err(Error::Throttled { retry_after })
            }
        }
    }

    fn take_here(&self, who: String, rate: Rate, now: i64) -> Result<i64, Duration> {
        let mut buckets = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let Buckets { full_at, stayed } = &mut *buckets;
        if full_at.len() >= MANY.max(*stayed * 2) {
            full_at.retain(|_, full_at| *full_at > now);
            if full_at.len() > TOO_MANY {
                let mut times: Vec<i64> = full_at.values().copied().collect();
                let middle = times.len() / 2;
                let (_, middle, _) = times.select_nth_unstable(middle);
                let middle = *middle;
                full_at.retain(|_, full_at| *full_at > middle);
            }
            *stayed = full_at.len();
        }
        let full_at = full_at.entry(who).or_insert(now);
        *full_at = rate.admit(*full_at, now)?;
        Ok(*full_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_buckets_forget_the_emptiest_half() {
        let (throttle, rate): (_, Rate) = (Throttle::default(), "1000000/d".parse().unwrap());
        let strict: Rate = "1/d".parse().unwrap();
        // Somebody has used up what they may; then all the world comes once.
        throttle.take_here("amy".into(), strict, 0).unwrap();
        for number in 0..1_200_000 {
            throttle.take_here(number.to_string(), rate, 0).unwrap();
        }
        assert!(throttle.0.lock().unwrap().full_at.len() <= 2 * TOO_MANY);
        assert!(
            throttle.take_here("amy".into(), strict, 1).is_err(),
            "who is refused stays refused"
        );
    }
}
