//! Where lists go on: after a number that grows, or after a time and an id.

use std::{fmt::Display, str::FromStr};

use axum::{
    Json,
    http::{Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    toolbox::Toolbox,
    web::openapi::{self, ITEMS, MOST_ITEMS},
};

/// The query of a list.
#[derive(Deserialize)]
pub(crate) struct Page {
    cursor: Option<String>,
    limit: Option<String>,
}

impl Page {
    pub(crate) fn limit(&self) -> Result<i64> {
        limit(self.limit.as_deref())
    }

    pub(crate) fn before(&self) -> Result<Option<i64>> {
        before(self.cursor.as_deref())
    }

    /// As [`Page::before`], of a list by time and id.
    pub(crate) fn place<T: FromStr>(&self) -> Result<Option<(DateTime<Utc>, T)>> {
        filled(self.cursor.as_deref()).map(read_cursor).transpose()
    }
}

/// Where a list by time and id goes on after this one.
pub(crate) fn cursor(at: DateTime<Utc>, id: impl Display) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}:{id}", at.timestamp_micros()))
}

/// The place that [`cursor`] told.
///
/// # Errors
/// [`Error::Invalid`] on `cursor`.
pub(crate) fn read_cursor<T: FromStr>(text: &str) -> Result<(DateTime<Utc>, T)> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (micros, id) = text.split_once(':')?;
        let at = DateTime::from_timestamp_micros(micros.parse().ok()?)?;
        // PostgreSQL knows fewer years than chrono.
        (1..=9999).contains(&at.year()).then_some((at, id.parse().ok()?))
    };
    read().ok_or_else(|| Error::invalid("cursor", "take it as it stands in `next`"))
}

pub(crate) fn limit(text: Option<&str>) -> Result<i64> {
    match text.map(str::parse) {
        None => Ok(ITEMS),
        Some(Ok(limit)) if (1..=MOST_ITEMS).contains(&limit) => Ok(limit),
        Some(_) => Err(Error::invalid("limit", format!("must be 1 to {MOST_ITEMS}"))),
    }
}

/// What a query says, if it is more than the name.
pub(crate) fn filled(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

/// The cursor of a list whose rows have numbers; none when it is empty.
///
/// # Errors
/// [`Error::Invalid`] on `cursor`.
pub fn before(cursor: Option<&str>) -> Result<Option<i64>> {
    let cursor = filled(cursor).map(str::parse).transpose();
    cursor.map_err(|_| Error::invalid("cursor", "take it as it stands in `next`"))
}

/// A page, with the address of the next one (RFC 8288).
pub(super) fn listed<T: Serialize>(
    toolbox: &Toolbox,
    uri: &Uri,
    items: Vec<T>,
    next: Option<String>,
) -> Response {
    let page = openapi::Page { items, next };
    let Some(next) = page.next.clone() else { return Json(page).into_response() };
    let asked = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(asked.filter(|(name, _)| name != "cursor")).append_pair("cursor", &next);
    let url = toolbox.base_url().join(&format!("{}?{}", uri.path(), query.finish()));
    ([(header::LINK, format!("<{url}>; rel=\"next\""))], Json(page)).into_response()
}

/// Rows, of which one more than `limit` was asked for, as a page.
pub(super) fn page<Row, T: Serialize>(
    toolbox: &Toolbox,
    uri: &Uri,
    mut rows: Vec<Row>,
    limit: i64,
    cursor: impl Fn(&Row) -> String,
    item: impl Fn(&Row) -> T,
) -> Response {
    let more = rows.len() as i64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next = rows.last().filter(|_| more).map(cursor);
    listed(toolbox, uri, rows.iter().map(item).collect(), next)
}
