//! Lines: hits that are alike, together.
//!
//! Lines are for people. Whoever asks for a file ten thousand times within a minute gives one line
//! with a count and the sum of bytes. A request has so many lines at most; whatever comes then only
//! adds to one last line for each event.

pub mod store;

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::Hit;
use crate::ids::{RequestId, hex};

/// Lines of one request, above which nothing is told apart but what happened. As those who write at
/// the same time do not see each other's, there may be a few thousand more.
pub const MOST_LINES: i64 = 10_000;

/// What is added to a line, or begins it.
#[derive(Clone, Debug)]
pub struct Line {
    /// Digest of what is alike.
    key: String,
    /// The first of its hits, with the sum of their bytes.
    hit: Hit,
    at: DateTime<Utc>,
    times: i64,
}

impl Line {
    fn of(hit: &Hit, at: DateTime<Utc>, full: bool) -> Self {
        let mut digest = Sha256::new();
        let mut add = |text: &str| {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text);
        };
        add(&hit.request_id.to_string());
        add(hit.event.as_str());
        if full {
            return Line { key: hex(&digest.finalize()), hit: rest(hit), at, times: 1 };
        }
        add(&hit.jti.map(|jti| jti.to_string()).unwrap_or_default());
        add(hit.grant.as_deref().unwrap_or_default());
        add(hit.reason.as_deref().unwrap_or_default());
        add(hit.user.as_deref().unwrap_or_default());
        add(&hit.visitor.network());
        add(&hit.visitor.user_agent);
        add(&at.timestamp().div_euclid(60).to_string());
        Line { key: hex(&digest.finalize()), hit: hit.clone(), at, times: 1 }
    }

    /// Hits as lines, in the order in which they began. Those of `full` requests are not told apart.
    pub fn gather(hits: &[(Hit, DateTime<Utc>)], full: &BTreeSet<RequestId>) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (hit, at) in hits {
            let line = Line::of(hit, *at, full.contains(&hit.request_id));
            match places.get(&line.key) {
                Some(place) => lines[*place].add(line),
                None => {
                    places.insert(line.key.clone(), lines.len());
                    lines.push(line);
                }
            }
        }
        lines
    }

    fn add(&mut self, other: Line) {
        self.times += other.times;
        if self.hit.first_byte != other.hit.first_byte {
            self.hit.first_byte = None;
        }
        if let Some(bytes) = other.hit.bytes {
            self.hit.bytes = Some(self.hit.bytes.unwrap_or_default().saturating_add(bytes));
        }
    }
}

/// A hit of which only what happened is told.
fn rest(hit: &Hit) -> Hit {
    Hit {
        request_id: hit.request_id,
        jti: None,
        grant: None,
        event: hit.event,
        reason: None,
        first_byte: None,
        bytes: hit.bytes,
        visitor: Default::default(),
        user: None,
    }
}
