//! From the text of a file to its shape, with every fault of form in it: after one, its entry is left
//! out and the rest read again.

use std::ops::Range;

use super::{
    build::{Faults, Sources},
    raw,
};
use crate::nearest::did_you_mean;

/// Faults of form that are told of one file at most.
const MOST: usize = 50;

impl Sources<'_> {
    pub(super) fn shape(&self) -> Result<raw::File, Faults> {
        let mut text = self.toml.to_owned();
        // With their places in the file: the fields of a table are not read in its order.
        let mut found: Vec<(usize, String)> = Vec::new();
        let in_order = |mut found: Vec<(usize, String)>| -> Faults {
            found.sort_by_key(|(at, _)| *at);
            found.into_iter().map(|(_, fault)| fault).collect()
        };
        loop {
            let error = match toml::from_str::<raw::File>(&text) {
                Ok(raw) if found.is_empty() => return Ok(raw),
                Ok(_) => return Err(in_order(found)),
                Err(error) => error,
            };
            // What is missing may have been left out here; and a text that is no TOML any more was
            // spoiled here.
            let is_of_ours = error.message().starts_with("missing field")
                || text.parse::<toml::Table>().is_err();
            if found.is_empty() || !is_of_ours {
                let at = error.span().map_or(0, |span| span.start);
                found.push((at, self.fault(at, plain(error.message()))));
            }
            let span = error.span().filter(|_| !is_of_ours && found.len() < MOST);
            let Some(rest) = span.and_then(|span| without(&text, span)) else {
                return Err(in_order(found));
            };
            text = rest;
        }
    }
}

/// The text without the lines of an entry, which stay as empty ones; without all of a table when it is
/// about its head.
fn without(text: &str, span: Range<usize>) -> Option<String> {
    let from = text.get(..span.start)?.rfind('\n').map_or(0, |at| at + 1);
    let line_end =
        |at: usize| text.get(at..).and_then(|t| t.find('\n')).map_or(text.len(), |n| at + n);
    let mut to = line_end(span.end.max(from));
    if text.get(from..)?.trim_start().starts_with('[') {
        while let Some(next) = text.get(to + 1..).filter(|rest| !rest.trim_start().starts_with('['))
        {
            if next.is_empty() {
                break;
            }
            to = line_end(to + 1);
        }
    }
    let lines = text.get(from..to)?;
    let is_blank = lines.trim().is_empty();
    let blank: String = lines
        .chars()
        .map(|c| if c == '\n' { "\n".into() } else { " ".repeat(c.len_utf8()) })
        .collect();
    (!is_blank).then(|| format!("{}{blank}{}", &text[..from], &text[to..]))
}

/// A fault of form in the words of who wrote the file.
fn plain(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((name, expected)) = rest.split_once('`')
    {
        let known = expected.split('`').skip(1).step_by(2);
        return match did_you_mean(name, known) {
            near if near.is_empty() => message.to_owned(),
            near => format!("unknown field `{name}`{near}"),
        };
    }
    let found = message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: "));
    let Some((found, expected)) = found.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return message.to_owned();
    };
    let (kind, value) = match found.split_once('`') {
        Some((kind, value)) => (kind.trim(), value.trim_end_matches('`')),
        None => found.split_once(' ').unwrap_or((found, "")),
    };
    let kind = match kind {
        "integer" | "floating point" | "boolean" | "string" => value.to_owned(),
        "sequence" => "a list".into(),
        "map" => "a table".into(),
        other => format!("{other} {value}"),
    };
    let wanted = match expected {
        "a string" => "text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list in [ ]",
        "a map" => "a table",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        other if other.starts_with("a nonzero") => "a whole number, 1 or more",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    format!("{kind} does not fit here; this is {wanted}")
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn faults_of_form_are_told_in_plain_words() {
        for (rust, words) in [
            (
                "invalid value: integer `0`, expected a nonzero u32",
                "0 does not fit here; this is a whole number, 1 or more",
            ),
            (
                "invalid type: integer `3600`, expected a string",
                "3600 does not fit here; this is text in quotes",
            ),
            (
                "invalid type: string \"yes\", expected a boolean",
                "\"yes\" does not fit here; this is true or false",
            ),
            (
                "invalid type: map, expected a string",
                "a table does not fit here; this is text in quotes",
            ),
            (
                "unknown field `max_attempt`, expected one of `title`, `max_attempts`",
                "unknown field `max_attempt`; did you mean max_attempts?",
            ),
            ("unknown field `x`, expected `title`", "unknown field `x`, expected `title`"),
            ("duplicate key", "duplicate key"),
        ] {
            assert_eq!(plain(rust), words);
        }
    }
}
