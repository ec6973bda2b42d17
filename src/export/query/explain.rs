//! From what a database says of the statement that was sent to what the operator wrote.

use crate::{
    error::{Error, QueryFault, Sent},
    export::definition::Definition,
};

/// A way in which the parameters of a query are rewritten.
pub(super) type Placeholder<'a> = &'a dyn Fn(&str, usize) -> String;

/// An error of a query, with its place in the definition. The statement that was sent has the query
/// rewritten in one of these ways.
pub(super) fn locate(definition: &Definition, error: Error, ways: &[Placeholder<'_>]) -> Error {
    let Error::Query(mut fault) = error else { return error };
    let offset = fault.sent.take().and_then(|sent| {
        ways.iter().find_map(|way| {
            let (inner, _) = definition.query.rewrite(way);
            Some(definition.query.origin(way, position(&sent, &inner)?))
        })
    });
    // SQLite says of some names only that there is no such thing.
    let offset = offset.or_else(|| {
        let (written, _) = definition.query.rewrite(|name, _| format!(":{name}"));
        named(&fault.message, &written)
    });
    Error::Query(Box::new(QueryFault { place: definition.written.place(offset), ..*fault }))
}

/// Where a query first has the table, column or function that a message is about.
fn named(message: &str, query: &str) -> Option<usize> {
    let what = message.strip_prefix("no such ")?;
    let (_, name) = what.split_once(": ")?;
    let name = name.rsplit('.').next().unwrap_or(name);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    query.match_indices(name).map(|(at, _)| at).find(|at| {
        let before = query[..*at].chars().next_back();
        let after = query[at + name.len()..].chars().next();
        !name.is_empty() && !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Where in the rewritten query that is, which was sent alone or as the innermost of what is around
/// it, between parentheses on lines of their own.
fn position(sent: &Sent, inner: &str) -> Option<usize> {
    let from = match sent.sql == inner {
        true => 0,
        false => sent.sql.rfind(&format!("(\n{inner}\n)"))? + 2,
    };
    let at = sent.at.checked_sub(from)?;
    // At the parenthesis after it, the query has ended too early.
    (at <= inner.len() + 1).then(|| at.min(inner.trim_end().len()))
}

#[cfg(test)]
mod tests {
    use super::{Sent, named, position};

    #[test]
    fn what_is_not_there_is_found_by_its_name() {
        let query = "SELECT xa,\n a FROM b";
        assert_eq!(named("no such column: q.a", query), Some(12));
        assert_eq!(named("no such table: b", query), Some(19));
        assert_eq!(named("no such table: c", query), None);
        assert_eq!(named("near \"FROM\": syntax error", query), None);
    }

    #[test]
    fn a_position_in_what_is_around_the_query_is_none_of_it() {
        let sql = "COPY (\nSELECT q.\"a\"\nFROM (\nSELECT ü\n) AS q\n) TO STDOUT";
        let at = |word: &str| {
            position(&Sent { sql: sql.into(), at: sql.find(word).unwrap() }, "SELECT ü")
        };
        assert_eq!(at("SELECT ü"), Some(0));
        assert_eq!(at("ü"), Some(7));
        assert_eq!(at(") AS q"), Some(9), "it ends too early");
        for outside in ["COPY", "q.", "AS q", "STDOUT"] {
            assert_eq!(at(outside), None, "{outside}");
        }
        let alone = Sent { sql: "SELECT a".into(), at: 7 };
        assert_eq!(position(&alone, "SELECT a"), Some(7));
        assert_eq!(position(&alone, "SELECT b"), None);
    }
}
