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
    Error::Query(Box::new(QueryFault { place: definition.written.place(offset), ..*fault }))
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
    use super::{Sent, position};

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
