//! A form out of the JSON Schema of a file type's criteria, and criteria out of the form.

use chrono::{DateTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use minijinja::{Value, context};
use serde_json::Value as Json;

use crate::error::FieldError;

/// What criteria's fields begin with, so that none of ours has the name of one.
const PREFIX: &str = "c.";

/// What one criterion takes, as its field shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Select,
    Checks,
    Lines,
    Boolean,
    Integer,
    Date,
    DateTime,
    Text,
}

fn kind(schema: &Json) -> Kind {
    let of_type = |wanted: &str| match &schema["type"] {
        Json::String(name) => name == wanted,
        Json::Array(names) => names.iter().any(|name| name == wanted),
        _ => false,
    };
    if of_type("array") {
        let chosen = schema["items"]["enum"].is_array();
        return if chosen { Kind::Checks } else { Kind::Lines };
    }
    match schema["format"].as_str() {
        _ if schema["enum"].is_array() => Kind::Select,
        Some("date") => Kind::Date,
        Some("date-time") => Kind::DateTime,
        _ if of_type("boolean") => Kind::Boolean,
        // A decimal is text in JSON as well: browsers would round it.
        _ if of_type("integer") => Kind::Integer,
        _ => Kind::Text,
    }
}

fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

fn texts(value: &Json) -> Vec<String> {
    match value {
        Json::Array(values) => values.iter().map(text).collect(),
        Json::Null => Vec::new(),
        one => vec![text(one)],
    }
}

fn properties(schema: &Json) -> impl Iterator<Item = (&String, &Json)> {
    schema["properties"].as_object().into_iter().flatten()
}

/// The fields of the form, filled in with `given`; with its default where that has nothing of one.
pub(super) fn fields(
    schema: &Json,
    given: &[(String, String)],
    zone: Tz,
    errors: &[FieldError],
) -> Vec<Value> {
    let required = texts(&schema["required"]);
    let field = |(name, property): (&String, &Json)| {
        let kind = kind(property);
        let mut values: Vec<String> =
            given.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect();
        if values.is_empty() {
            values = texts(&property["default"]);
        }
        let first = values.first().cloned().unwrap_or_default();
        let options = |names: Vec<(String, String)>| -> Vec<Value> {
            let option = |(value, label): (String, String)| {
                context! { selected => values.contains(&value), value, label }
            };
            names.into_iter().map(option).collect()
        };
        let same = |values: &Json| texts(values).into_iter().map(|v| (v.clone(), v)).collect();
        let (shown, value, options) = match kind {
            Kind::Select => ("select", first, options(same(&property["enum"]))),
            Kind::Checks => ("checks", String::new(), options(same(&property["items"]["enum"]))),
            Kind::Boolean => {
                let both = [("true", "✓"), ("false", "✗")];
                let both =
                    both.map(|(value, label)| (value.to_owned(), format!("{label} {value}")));
                ("select", first, options(both.to_vec()))
            }
            Kind::Lines => ("lines", values.join("\n"), Vec::new()),
            Kind::Integer => ("number", first, Vec::new()),
            Kind::Date => ("date", first, Vec::new()),
            Kind::DateTime => ("datetime-local", to_local(&first, zone), Vec::new()),
            Kind::Text => ("text", first, Vec::new()),
        };
        let error =
            errors.iter().find(|e| e.field.strip_prefix("criteria.") == Some(name.as_str()));
        let limit = |names: [&str; 2]| {
            let limit = names.into_iter().map(|name| text(&property[name])).find(|t| !t.is_empty());
            limit.map(|limit| if kind == Kind::DateTime { to_local(&limit, zone) } else { limit })
        };
        context! {
            id => format!("c-{name}"),
            name => format!("{PREFIX}{name}"),
            label => property["title"].as_str().unwrap_or(name),
            kind => shown,
            required => required.contains(name),
            value,
            options,
            min => limit(["minimum", "formatMinimum"]),
            max => limit(["maximum", "formatMaximum"]),
            step => (kind == Kind::DateTime).then_some("1"),
            error => error.map(|error| &error.message),
        }
    };
    properties(schema).map(field).collect()
}

/// The criteria of a form that was sent. Times without an offset are those of `zone`. A field that
/// has a default and was emptied is empty text; of other fields nothing says the same.
pub(super) fn read(schema: &Json, form: &[(String, String)], zone: Tz) -> Vec<(String, String)> {
    let mut criteria = Vec::new();
    for (field, value) in form {
        let Some(name) = field.strip_prefix(PREFIX) else { continue };
        match kind(&schema["properties"][name]) {
            Kind::Lines => {
                let lines = value.lines().map(str::trim).filter(|line| !line.is_empty());
                criteria.extend(lines.map(|line| (name.to_owned(), line.to_owned())));
            }
            Kind::DateTime => criteria.push((name.to_owned(), from_local(value, zone))),
            _ if value.trim().is_empty() => {}
            _ => criteria.push((name.to_owned(), value.trim().to_owned())),
        }
    }
    criteria.retain(|(_, value)| !value.is_empty());
    for (name, _) in properties(schema).filter(|(_, property)| !property["default"].is_null()) {
        let sent =
            |(field, _): &(String, String)| field.strip_prefix(PREFIX) == Some(name.as_str());
        if form.iter().any(sent) && !criteria.iter().any(|(given, _)| given == name) {
            criteria.push((name.clone(), String::new()));
        }
    }
    criteria
}

/// What `datetime-local` wants: `2026-03-01T13:00:00`.
fn to_local(rfc3339: &str, zone: Tz) -> String {
    match DateTime::parse_from_rfc3339(rfc3339) {
        Ok(at) => at.with_timezone(&zone).format("%Y-%m-%dT%H:%M:%S").to_string(),
        Err(_) => rfc3339.to_owned(),
    }
}

/// With the offset that the zone has then; unreadable text stays, for the handler to refuse.
fn from_local(text: &str, zone: Tz) -> String {
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"];
    let naive =
        formats.into_iter().find_map(|f| NaiveDateTime::parse_from_str(text.trim(), f).ok());
    let Some(naive) = naive else { return text.trim().to_owned() };
    // In the hour that a clock skips, the offset of before.
    let at = zone.from_local_datetime(&naive).earliest();
    match at {
        Some(at) => at.to_rfc3339(),
        None => {
            let offset = zone
                .offset_from_utc_datetime(
                    &(naive.checked_sub_signed(chrono::TimeDelta::hours(3)).unwrap_or(naive)),
                )
                .fix();
            naive
                .and_local_timezone(offset)
                .earliest()
                .map_or(text.to_owned(), |at| at.to_rfc3339())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_zone() {
        let zone = chrono_tz::America::New_York;
        assert_eq!(from_local("2013-07-01T08:30", zone), "2013-07-01T08:30:00-04:00");
        assert_eq!(from_local("2013-01-01T08:30:05", zone), "2013-01-01T08:30:05-05:00");
        // Clocks went from 2 to 3 o'clock.
        assert_eq!(from_local("2013-03-10T02:30", zone), "2013-03-10T02:30:00-05:00");
        assert_eq!(from_local("soon", zone), "soon");
        assert_eq!(to_local("2013-07-01T12:30:00Z", zone), "2013-07-01T08:30:00");
    }
}
