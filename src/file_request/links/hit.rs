//! Receipts: what happened to a link.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{ids::RequestId, visitor::Visitor};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, utoipa::ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Event {
    /// It was opened, by a person or a scanner, and shown as a page or a problem.
    Page,
    /// It was redeemed: one use.
    Redeemed,
    /// Some bytes were sent.
    Range,
    /// With this answer the last missing byte was sent.
    Complete,
    /// A front server or the object store was told to send the bytes.
    HandedOver,
    /// It was refused.
    Denied,
}

impl Event {
    /// As it stands in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Page => "page",
            Event::Redeemed => "redeemed",
            Event::Range => "range",
            Event::Complete => "complete",
            Event::HandedOver => "handed_over",
            Event::Denied => "denied",
        }
    }
}

/// One hit, to be logged.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Of which file.
    pub request_id: RequestId,
    /// By which link; `None` for one without a row.
    pub jti: Option<Uuid>,
    /// Under which grant.
    pub grant: Option<String>,
    /// What happened.
    pub event: Event,
    /// Why it was denied: an error's code.
    pub reason: Option<String>,
    /// The first byte sent, counted from 0.
    pub first_byte: Option<i64>,
    /// How many bytes were handed to the connection.
    pub bytes: Option<i64>,
    /// Who.
    pub visitor: Visitor,
    /// Who was logged in.
    pub user: Option<String>,
}

/// A line as stored: hits that are alike.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct HitRow {
    /// Grows.
    pub id: i64,
    /// By which link.
    pub jti: Option<Uuid>,
    /// What happened.
    pub event: String,
    /// Why it was denied.
    pub reason: Option<String>,
    /// The first byte sent; `None` when that differs.
    pub first_byte: Option<i64>,
    /// How many, of all together.
    pub bytes: Option<i64>,
    /// Through trusted proxies only.
    pub client_ip: Option<String>,
    /// As the client says.
    pub user_agent: String,
    /// Who was logged in.
    pub user_id: Option<String>,
    /// When the first of them was; the others are of the same minute.
    pub timestamp: DateTime<Utc>,
    /// How many there were.
    pub times: i64,
}

/// Most stretches that are remembered of what was sent; who fetches a file in more pieces than that,
/// with gaps between, is not noticed to have all of it.
const STRETCHES: usize = 1_000;

/// Stretches (first byte and end) in their order, those that touch as one; whether they cover all of
/// `0..size`.
pub fn cover(mut pieces: Vec<(i64, i64)>, size: i64) -> (Vec<(i64, i64)>, bool) {
    pieces.sort_unstable();
    let mut stretches: Vec<(i64, i64)> = Vec::new();
    for (first, end) in pieces {
        match stretches.last_mut() {
            Some((_, until)) if first <= *until => *until = (*until).max(end),
            _ => stretches.push((first, end)),
        }
    }
    stretches.truncate(STRETCHES);
    let whole = size <= 0 || stretches.iter().any(|(first, end)| *first <= 0 && *end >= size);
    (stretches, whole)
}

#[cfg(test)]
mod tests {
    use super::cover;

    #[test]
    fn pieces_cover_when_no_byte_is_missing() {
        let covers = |pieces: Vec<(i64, i64)>, size| cover(pieces, size).1;
        assert!(covers(vec![(5, 10), (0, 5)], 10));
        assert!(covers(vec![(0, 7), (2, 5), (6, 10)], 10));
        assert!(!covers(vec![(0, 5), (6, 10)], 10));
        assert!(!covers(vec![(1, 10)], 10));
        assert!(!covers(vec![(0, 9)], 10));
        assert!(covers(vec![], 0));
        assert_eq!(cover(vec![(8, 9), (0, 3), (3, 5), (1, 2)], 9).0, [(0, 5), (8, 9)]);
        assert_eq!(cover((0..5_000).map(|i| (2 * i, 2 * i + 1)).collect(), 9).0.len(), 1_000);
    }
}
