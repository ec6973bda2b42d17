use chrono_tz::Tz;
use serde_json::json;

use super::{Criterion, Declared, Type, decimal::compare};
use crate::{error::Error, file_request::Criteria};

fn criterion(name: &str, kind: Type) -> Criterion {
    Criterion {
        name: name.into(),
        kind,
        list: false,
        required: false,
        label: None,
        choices: Vec::new(),
        default: Vec::new(),
        min: None,
        max: None,
    }
}

fn normalised(declared: &Declared, query: &str) -> Result<String, Vec<(String, String)>> {
    match declared.normalise(&Criteria::from_query(query).unwrap()) {
        Ok(criteria) => Ok(criteria.encode()),
        Err(Error::Invalid(errors)) => {
            Err(errors.into_iter().map(|e| (e.field, e.message)).collect())
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn each_type_has_one_canonical_text() {
    for (kind, given, canonical) in [
        (Type::Text, " JFK ", " JFK "),
        (Type::Integer, " 007", "7"),
        (Type::Integer, "-9223372036854775808", "-9223372036854775808"),
        (Type::Decimal, "+0012.50", "12.50"),
        (Type::Decimal, "-.5", "-0.5"),
        (Type::Decimal, "1e-7", "0.0000001"),
        (Type::Decimal, "-1.25E+1", "-12.5"),
        (Type::Decimal, "0.05e2", "5"),
        (Type::Decimal, "12.5e-3", "0.0125"),
        (Type::Integer, "5.0", "5"),
        (Type::Integer, "5e0", "5"),
        (Type::Integer, "-9.223372036854775808e18", "-9223372036854775808"),
        (Type::Date, "2013-12-31", "2013-12-31"),
        (Type::DateTime, "2013-12-31T23:59:00+01:00", "2013-12-31T22:59:00Z"),
        (Type::DateTime, "2013-12-31 23:59", "2013-12-31T23:59:00"),
        (Type::DateTime, "2013-12-31", "2013-12-31T00:00:00"),
        (Type::Boolean, "ON", "true"),
        (Type::Boolean, "0", "false"),
        (
            Type::Uuid,
            "{F47AC10B-58CC-4372-A567-0E02B2C3D479}",
            "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        ),
    ] {
        let value = kind.parse(given, Tz::UTC).unwrap();
        assert_eq!(value.canonical(), canonical, "{kind:?}");
        assert_eq!(kind.parse(canonical, Tz::UTC).unwrap(), value, "{kind:?}");
    }
}

#[test]
fn what_is_not_of_the_type_is_refused() {
    for (kind, given) in [
        (Type::Integer, "1.5"),
        (Type::Integer, "1e-1"),
        (Type::Integer, "9223372036854775808.0"),
        (Type::Integer, "9223372036854775808"),
        (Type::Integer, "abc"),
        (Type::Decimal, "1e"),
        (Type::Decimal, "e5"),
        (Type::Decimal, "1e5e5"),
        (Type::Decimal, "1e5.0"),
        (Type::Decimal, "1e200"),
        (Type::Decimal, "1e-199"),
        (Type::Decimal, "1e999999999"),
        (Type::Decimal, "1e-99999999999999999999"),
        (Type::Decimal, "Infinity"),
        (Type::Decimal, "NaN"),
        (Type::Decimal, "."),
        (Type::Date, "2013-02-30"),
        (Type::Date, "13-02-01"),
        (Type::Date, "+12013-01-01"),
        (Type::Date, "0000-01-01"),
        (Type::DateTime, "2013-01-01T25:00"),
        (Type::DateTime, "yesterday"),
        (Type::Boolean, "maybe"),
        (Type::Uuid, "123"),
    ] {
        assert!(kind.parse(given, Tz::UTC).is_err(), "{kind:?} {given}");
    }
}

#[test]
fn a_moment_without_offset_is_read_in_the_requesters_time_zone() {
    let zone = Tz::Europe__Amsterdam;
    for (wall, utc) in [
        ("2013-07-01 12:00", "2013-07-01T10:00:00Z"),
        // Skipped: 02:30 does not exist and is 03:30 summer time.
        ("2013-03-31 02:30", "2013-03-31T01:30:00Z"),
        // Twice: the first.
        ("2013-10-27 02:30", "2013-10-27T00:30:00Z"),
    ] {
        let value = Type::DateTime.parse(wall, zone).unwrap();
        assert_eq!(value.in_utc().canonical(), utc, "{wall}");
    }
}

#[test]
fn every_wrong_field_is_named() {
    let mut origin = criterion("origin", Type::Choice);
    origin.choices = vec!["EWR".into(), "JFK".into()];
    let mut day = criterion("day", Type::Date);
    day.required = true;
    let mut size = criterion("size", Type::Decimal);
    size.min = Some(Type::Decimal.parse("-1.5", Tz::UTC).unwrap());
    size.max = Some(Type::Decimal.parse("10", Tz::UTC).unwrap());
    let declared = Declared(vec![origin, day, size, criterion("carrier", Type::Text)]);
    let errors = normalised(&declared, "origin=XXX&size=10.01&carrier=AA&carrier=UA&x=1&x=2&day=")
        .unwrap_err();
    let expected = [
        ("criteria.x", "is not known; the criteria are origin, day, size, carrier"),
        ("criteria.origin", "\"XXX\" is not one of EWR, JFK"),
        ("criteria.day", "is required"),
        ("criteria.size", "10.01 is more than 10, the most allowed"),
        ("criteria.carrier", "is given several times, but takes one value"),
    ];
    let errors: Vec<_> = errors.iter().map(|(f, m)| (f.as_str(), m.as_str())).collect();
    assert_eq!(errors, expected);
    let errors = normalised(&declared, "day=2013-01-01&size=-1.51").unwrap_err();
    assert_eq!(errors[0].1, "-1.51 is less than -1.5, the least allowed");
}

#[test]
fn defaults_are_for_what_is_left_out_and_lists_keep_their_order() {
    let mut carriers = criterion("carriers", Type::Text);
    carriers.list = true;
    let mut top = criterion("top", Type::Integer);
    top.default = vec!["5".into()];
    let declared = Declared(vec![criterion("origin", Type::Text), carriers, top]);
    assert_eq!(
        normalised(&declared, "carriers=UA&origin=&carriers=&carriers=AA").unwrap(),
        "carriers=UA&carriers=AA&top=5"
    );
    assert_eq!(normalised(&declared, "top=7&origin=JFK").unwrap(), "origin=JFK&top=7");
    assert_eq!(normalised(&declared, "top=&top=").unwrap(), "top=");
    let empty = declared.parse(&Criteria::from_query("top=").unwrap(), Tz::UTC).unwrap();
    assert!(empty.iter().all(|one| one.values.is_empty()));
}

#[test]
fn decimals_are_compared_by_value() {
    use std::cmp::Ordering::{Equal, Greater, Less};
    for (a, b, order) in [
        ("1", "1.00", Equal),
        ("-0", "0.0", Equal),
        ("9", "10", Less),
        ("-9", "-10", Greater),
        ("0.1", "0.09", Greater),
        ("-1", "0", Less),
        ("12345678901234567890.1", "12345678901234567890.2", Less),
    ] {
        assert_eq!(compare(a, b), order, "{a} {b}");
        assert_eq!(compare(b, a), order.reverse(), "{b} {a}");
    }
}

#[test]
fn the_json_schema_says_what_is_checked() {
    let mut origin = criterion("origin", Type::Choice);
    origin.required = true;
    origin.choices = vec!["EWR".into()];
    let mut numbers = criterion("numbers", Type::Integer);
    numbers.list = true;
    numbers.min = Some(Type::Integer.parse("1", Tz::UTC).unwrap());
    numbers.default = vec!["1".into()];
    let schema = Declared(vec![origin, numbers]).json_schema("en");
    assert_eq!(
        schema,
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "origin": {"type": "string", "enum": ["EWR"]},
                "numbers": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 1},
                    "default": [1],
                },
            },
            "required": ["origin"],
            "additionalProperties": false,
        })
    );
}
