//! Conditional and range requests (RFC 9110, sections 13 and 14).

use axum::{
    body::HttpBody,
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::Response,
};
use chrono::{DateTime, Datelike, Months, NaiveDateTime, Utc};

use crate::toolbox::Expected;

/// Which bytes to answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
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
pub struct Representation<'a> {
    /// In its quotes.
    pub etag: &'a str,
    /// Counts in whole seconds.
    pub last_modified: DateTime<Utc>,
    /// Bytes.
    pub size: u64,
}

/// Evaluates the conditions in the order of RFC 9110, section 13.2.2, then the range.
pub fn answer(
    method: &Method,
    headers: &HeaderMap,
    file: &Representation<'_>,
    now: DateTime<Utc>,
) -> Answer {
    let has = |name| headers.contains_key(name);
    let date = |name| only(headers, name).and_then(|text| date(text, now));
    let modified = file.last_modified.timestamp();
    if has(header::IF_MATCH) {
        if !matches(headers, header::IF_MATCH, |weak, tag| !weak && tag == file.etag.as_bytes()) {
            return Answer::Failed;
        }
    } else if date(header::IF_UNMODIFIED_SINCE).is_some_and(|at| modified > at) {
        return Answer::Failed;
    }
    if has(header::IF_NONE_MATCH) {
        if matches(headers, header::IF_NONE_MATCH, |_, tag| tag == file.etag.as_bytes()) {
            return Answer::NotModified;
        }
    } else if date(header::IF_MODIFIED_SINCE).is_some_and(|at| modified <= at) {
        return Answer::NotModified;
    }
    // Ranges are for GET (section 14.2).
    if *method != Method::GET {
        return Answer::Whole;
    }
    let Some(range) = only(headers, header::RANGE) else { return Answer::Whole };
    // Weak tags never match here. A date must be the very one, and its second over: until then
    // the file may become another one of the same date (section 8.8.2.2).
    let is_current = |validator: &str| {
        let is_date = || date(header::IF_RANGE) == Some(modified) && modified < now.timestamp();
        validator == file.etag || is_date()
    };
    let unchanged =
        !has(header::IF_RANGE) || only(headers, header::IF_RANGE).is_some_and(is_current);
    if unchanged { parse(range, file.size) } else { Answer::Whole }
}

/// What `If-Match` of a change says (section 13.1.1): tags of what it counts on, weak ones never.
pub(super) fn expected(headers: &HeaderMap) -> Expected {
    if !headers.contains_key(header::IF_MATCH) || matches(headers, header::IF_MATCH, |_, _| false) {
        return Expected::Anything;
    }
    let list = joined(headers, header::IF_MATCH);
    let strong = tags(&list).filter(|(weak, _)| !weak);
    Expected::OneOf(strong.map(|(_, tag)| String::from_utf8_lossy(tag).into_owned()).collect())
}

/// An answer of 200 as 304: without its bytes, which the caller has.
pub(super) fn not_modified(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    let bytes = std::mem::take(response.body_mut());
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    // Of HEAD the framework would say zero, which must not be (section 8.6).
    if let Some(length) = bytes.size_hint().exact() {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

/// Whether `If-None-Match` names what there is (section 13.1.2), however weakly.
pub(super) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers.contains_key(header::IF_NONE_MATCH)
        && matches(headers, header::IF_NONE_MATCH, |_, known| known == tag.as_bytes())
}

/// The value of a field that is no list; `None` also when it stands there twice.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?.to_str().ok()?;
    lines.next().is_none().then_some(line)
}

/// Whether the field is `*`, or a list, on however many lines, with a tag that `is` it.
fn matches(headers: &HeaderMap, name: HeaderName, is: impl Fn(bool, &[u8]) -> bool) -> bool {
    let list = joined(headers, name);
    list == b"*" || tags(&list).any(|(weak, tag)| is(weak, tag))
}

/// The lines of a list as one.
fn joined(headers: &HeaderMap, name: HeaderName) -> Vec<u8> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.as_bytes()).collect();
    lines.join(&b", "[..])
}

/// The entity tags of a list up to where it is none (section 8.8.3): whether each is weak, and the
/// tag, quotes included. Within the quotes may be commas, and bytes that are no ASCII.
fn tags(mut list: &[u8]) -> impl Iterator<Item = (bool, &[u8])> {
    std::iter::from_fn(move || {
        let begin = list.iter().position(|b| !matches!(b, b' ' | b'\t' | b','))?;
        let weak = list[begin..].strip_prefix(b"W/");
        let tag = weak.unwrap_or(&list[begin..]);
        let end = tag.strip_prefix(b"\"")?.iter().position(|b| *b == b'"')? + 2;
        list = tag[end..].trim_ascii_start();
        matches!(list, [] | [b',', ..]).then_some((weak.is_some(), &tag[..end]))
    })
}

/// A date in one of its three forms (section 5.6.7), in seconds. The name of the day must be right.
fn date(text: &str, now: DateTime<Utc>) -> Option<i64> {
    let exactly = |text: &str, form| {
        let at = NaiveDateTime::parse_from_str(text, form).ok()?;
        let same = at.format(form).to_string() == text && (0..=9999).contains(&at.year());
        same.then(|| at.and_utc())
    };
    let of_two_digits = || {
        let (day, rest) = text.rsplit_once('-')?;
        let latest = now + Months::new(50 * 12);
        let century = now.year() / 100;
        [century + 1, century, century - 1].into_iter().find_map(|century| {
            exactly(&format!("{day}-{century}{rest}"), "%A, %d-%b-%Y %H:%M:%S GMT")
                .filter(|at| *at <= latest)
        })
    };
    let forms = ["%a, %d %b %Y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y", "%a %b %d %H:%M:%S %Y"];
    let at = forms.into_iter().find_map(|form| exactly(text, form)).or_else(of_two_digits)?;
    Some(at.timestamp())
}

/// One range is answered; several, other units and nonsense are ignored, as a server may.
fn parse(range: &str, size: u64) -> Answer {
    let Some((unit, ranges)) = range.split_once('=') else { return Answer::Whole };
    // Empty elements of a list count for nothing (section 5.6.1.2).
    let mut ranges = ranges.split(',').map(str::trim).filter(|range| !range.is_empty());
    let (Some(range), None) = (ranges.next(), ranges.next()) else { return Answer::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Answer::Whole;
    }
    let Some((first, last)) = range.split_once('-') else { return Answer::Whole };
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
            // All of nothing is asked for, and no `Content-Range` can say so.
            _ if size == 0 => Answer::Whole,
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
