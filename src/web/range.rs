//! Conditional and range requests (RFC 9110, sections 13 and 14).

use axum::http::{HeaderMap, HeaderName, header};
use chrono::{DateTime, Utc};

/// Which bytes to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// All of them, 200.
    Whole,
    /// `from..to`, 206.
    Part(u64, u64),
    /// 304.
    NotModified,
    /// 412.
    Failed,
    /// 416.
    NotSatisfiable,
}

/// What the conditions are about.
pub(super) struct Representation<'a> {
    pub(super) etag: &'a str,
    pub(super) last_modified: DateTime<Utc>,
    pub(super) size: u64,
}

/// Evaluates the conditions in the order of RFC 9110, section 13.2.2, then the range.
pub(super) fn answer(headers: &HeaderMap, file: &Representation<'_>) -> Answer {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let modified = file.last_modified.timestamp();
    if let Some(tags) = text(header::IF_MATCH) {
        if !any_match(tags, file.etag, false) {
            return Answer::Failed;
        }
    } else if text(header::IF_UNMODIFIED_SINCE).and_then(date).is_some_and(|at| modified > at) {
        return Answer::Failed;
    }
    if let Some(tags) = text(header::IF_NONE_MATCH) {
        if any_match(tags, file.etag, true) {
            return Answer::NotModified;
        }
    } else if text(header::IF_MODIFIED_SINCE).and_then(date).is_some_and(|at| modified <= at) {
        return Answer::NotModified;
    }
    let Some(range) = text(header::RANGE) else { return Answer::Whole };
    let unchanged = text(header::IF_RANGE).is_none_or(|validator| {
        // Weak tags never match here, and a date must be the very one.
        validator == file.etag || date(validator).is_some_and(|at| at == modified)
    });
    if unchanged { parse(range, file.size) } else { Answer::Whole }
}

fn any_match(tags: &str, etag: &str, weak: bool) -> bool {
    tags.split(',').map(str::trim).any(|tag| {
        let tag = if weak { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
        tag == "*" || tag == etag
    })
}

fn date(text: &str) -> Option<i64> {
    let at = httpdate::parse_http_date(text).ok()?;
    Some(DateTime::<Utc>::from(at).timestamp())
}

/// One range is answered; several, other units and nonsense are ignored, as a server may.
fn parse(range: &str, size: u64) -> Answer {
    let Some((unit, ranges)) = range.split_once('=') else { return Answer::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
        return Answer::Whole;
    }
    let Some((first, last)) = ranges.trim().split_once('-') else { return Answer::Whole };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return Answer::Whole;
    }
    // More digits than a u64 holds is beyond any file's end.
    let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
    match (first, last) {
        ("", "") => Answer::Whole,
        ("", suffix) => match number(suffix) {
            0 => Answer::NotSatisfiable,
            _ if size == 0 => Answer::NotSatisfiable,
            suffix => Answer::Part(size - suffix.min(size), size),
        },
        (first, last) => {
            let first = number(first);
            let end = if last.is_empty() { size } else { number(last).saturating_add(1).min(size) };
            if !last.is_empty() && number(last) < first {
                Answer::Whole
            } else if first >= size {
                Answer::NotSatisfiable
            } else {
                Answer::Part(first, end)
            }
        }
    }
}
