//! Where a query is written, for what is said of it.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The text of a query in its file.
#[derive(Clone, Debug)]
pub(in crate::export) struct Written {
    path: PathBuf,
    /// Whether it is a string in a TOML file, whose lines need not be those of the text.
    is_toml: bool,
    /// The line on which it begins.
    first_line: usize,
    /// From there on, as it is in the file.
    source: Arc<str>,
}

impl Written {
    /// `jobs/NAME.sql`.
    pub(super) fn in_sql(path: &Path, text: &str) -> Self {
        Written { path: path.to_owned(), is_toml: false, first_line: 1, source: text.into() }
    }

    /// In a TOML file, as the string that takes these bytes of it.
    pub(super) fn in_toml(path: &Path, toml: &str, span: std::ops::Range<usize>) -> Self {
        let first_line = line_of(toml, span.start);
        let source = toml.get(span).unwrap_or_default().into();
        Written { path: path.to_owned(), is_toml: true, first_line, source }
    }

    /// `jobs/flights.toml:7: query` or `jobs/flights.sql:3`, with the line of an offset of the
    /// query's text, if that is known.
    pub(in crate::export) fn place(&self, offset: Option<usize>) -> String {
        let line = offset.map(|offset| match self.is_toml {
            true => self.first_line + lines_passed(&self.source, offset),
            false => line_of(&self.source, offset),
        });
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        let query = if self.is_toml { ": query" } else { "" };
        format!("{}{line}{query}", self.path.display())
    }

    /// A fault there, on one line.
    pub(super) fn fault(&self, offset: usize, message: impl Display) -> String {
        format!("{}: {}", self.place(Some(offset)), on_one_line(message))
    }
}

/// Counts from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|b| **b == b'\n').count()
}

/// How many lines of a TOML string (with its quotes) stand before an offset of the text that it
/// is read as. An escape is one character of it; a backslash at the end of a line is none, nor is
/// the white space after it; nor is a line break right after the opening quotes.
fn lines_passed(literal: &str, offset: usize) -> usize {
    let has_escapes = literal.starts_with('"');
    let is_long = literal.starts_with("\"\"\"") || literal.starts_with("'''");
    let mut rest = literal.get(if is_long { 3 } else { 1 }..).unwrap_or_default();
    let mut lines = 0;
    if is_long && let Some(text) = rest.strip_prefix("\r\n").or(rest.strip_prefix('\n')) {
        (rest, lines) = (text, 1);
    }
    let mut made = 0;
    while let Some(c) = rest.chars().next() {
        let (taken, gives) = match c {
            '\\' if has_escapes => escape(rest),
            c => (c.len_utf8(), c.len_utf8()),
        };
        // What gives nothing belongs to what comes after it.
        if made + gives > offset {
            break;
        }
        let (passed, left) = rest.split_at_checked(taken).unwrap_or((rest, ""));
        lines += passed.matches('\n').count();
        (made, rest) = (made + gives, left);
    }
    lines
}

/// How many bytes an escape takes, and how many its character has.
fn escape(text: &str) -> (usize, usize) {
    let digits = match text.as_bytes().get(1) {
        Some(b'u') => 4,
        Some(b'U') => 8,
        Some(b' ' | b'\t' | b'\r' | b'\n') => {
            let rest = text.get(1..).unwrap_or_default();
            return (text.len() - rest.trim_start().len(), 0);
        }
        _ => return (2, 1),
    };
    let code = text.get(2..2 + digits).and_then(|code| u32::from_str_radix(code, 16).ok());
    (2 + digits, code.and_then(char::from_u32).map_or(1, char::len_utf8))
}

/// A name in a message may have line breaks, and a fault has one line.
pub(super) fn on_one_line(message: impl std::fmt::Display) -> String {
    message.to_string().replace(|c: char| c.is_control(), " ")
}
