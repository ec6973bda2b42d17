//! What is written for one and for many at once is the same.

use std::collections::BTreeSet;

use super::{insert, publish};

/// Columns of a request that has a past: they are at their defaults in one that begins.
const OF_A_PAST: [&str; 10] = [
    "attempts",
    "content_type",
    "finished_at",
    "generation",
    "rows",
    "sha256",
    "size",
    "started_at",
    "status",
    "storage_key",
];

/// What stands between the first `(` and the next `)` after `from`.
fn listed<'s>(sql: &'s str, from: &str) -> Vec<&'s str> {
    let (_, rest) = sql.split_once(from).unwrap();
    let (_, rest) = rest.split_once('(').unwrap();
    let (list, _) = rest.split_once(')').unwrap();
    list.split(',').map(str::trim).collect()
}

/// The columns that an UPDATE sets, up to its `end`.
fn set<'s>(sql: &'s str, end: &str) -> BTreeSet<&'s str> {
    let (_, rest) = sql.split_once(" SET ").unwrap();
    let (list, _) = rest.split_once(end).unwrap();
    let mut depth = 0;
    let parts = list.split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    parts.map(|part| part.split_once('=').unwrap().0.trim()).collect()
}

#[test]
fn requests_that_begin_have_the_same_columns_one_by_one_and_together() {
    let one = listed(insert::ONE, "INTO");
    let many = listed(insert::MANY, "INTO");
    let begins: Vec<_> = one.into_iter().filter(|name| !OF_A_PAST.contains(name)).collect();
    assert_eq!(many, begins);
}

#[test]
fn files_are_published_with_the_same_columns_one_by_one_and_together() {
    assert_eq!(set(publish::ONE, " WHERE "), set(publish::MANY, " FROM "));
    // What comes in is what is set: named once each, in the order of the values.
    let given = listed(publish::MANY, " AS f");
    let distinct: BTreeSet<_> = given.iter().collect();
    assert_eq!((given.len(), distinct.len()), (12, 12));
    for (number, name) in (1..).zip(given).skip(2) {
        let (one, many) = (format!("{name} = ${number}"), format!("{name} = f.{name}"));
        assert!(publish::ONE.contains(&one), "{one}");
        assert!(publish::MANY.contains(&many), "{many}");
    }
}
