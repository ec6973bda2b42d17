//! JSON Lines: one object a line, in UTF-8; the keys are the columns' names.
//!
//! A column has one form from the first line to the last, so that readers that look at the first lines
//! alone can read them all:
//!
//! | column | JSON |
//! |---|---|
//! | booleans | `true`, `false` |
//! | integers | numbers, with all their digits: JSON sets no limit, but a reader that keeps numbers as doubles rounds beyond 2^53 |
//! | decimals, floats | numbers with all their digits, and with a point even when whole (`12.0`): else a reader takes the column for integers. `null` for NaN and infinity, for which JSON has no number |
//! | json | as it is |
//! | everything else | text, as in CSV but never defused |
//!
//! Null is `null` in each of them.

use std::io::Write;

use chrono_tz::Tz;

use super::{BLOCK, Encoder, Layout, Sink, io_error, misfit};
use crate::{
    error::{Error, Result},
    export::value::{Cell, Column, Kind, whole_and_fraction},
};

pub(super) struct Jsonl {
    to: Sink,
    zone: Tz,
    columns: Vec<Column>,
    /// `{"first":`, `,"second":` …
    keys: Vec<String>,
    forms: Vec<Form>,
    /// Lines that were not passed on yet.
    lines: Vec<u8>,
    /// Lines so far.
    rows: u64,
}

/// What the values of a column look like.
#[derive(Clone, Copy, Debug)]
enum Form {
    Truth,
    Whole,
    Number,
    Text,
    Any,
}

impl Form {
    fn of(column: &Column) -> Form {
        match column.kind {
            Some(Kind::Bool) => Form::Truth,
            Some(Kind::Integer) => Form::Whole,
            Some(Kind::Float | Kind::Decimal) => Form::Number,
            Some(Kind::Json) => Form::Any,
            _ => Form::Text,
        }
    }

    fn described(self) -> &'static str {
        match self {
            Form::Truth => "a column of booleans",
            Form::Whole => "a column of integers",
            Form::Number => "a column of numbers",
            Form::Text | Form::Any => "its column",
        }
    }
}

impl Jsonl {
    /// The kind of each column is known, see [`super::typed`].
    pub(super) fn new(layout: Layout, to: Sink) -> Result<Self> {
        let mut keys = Vec::with_capacity(layout.columns.len());
        for column in &layout.columns {
            let open = if keys.is_empty() { '{' } else { ',' };
            let name = serde_json::to_string(&column.name)
                .map_err(|e| Error::Internal(format!("column {:?}: {e}", column.name)))?;
            keys.push(format!("{open}{name}:"));
        }
        let forms = layout.columns.iter().map(Form::of).collect();
        let (columns, zone) = (layout.columns, layout.zone);
        Ok(Jsonl { to, zone, columns, keys, forms, lines: Vec::new(), rows: 0 })
    }

    fn pass_on(&mut self) -> Result<()> {
        self.to.write_all(&self.lines).map_err(io_error)?;
        self.lines.clear();
        Ok(())
    }

    /// Writes a value, unless it does not fit into its column.
    fn value(&mut self, form: Form, cell: Cell<'_>) -> Result<bool> {
        let before = self.lines.len();
        match (form, cell) {
            (_, Cell::Null) => self.lines.extend_from_slice(b"null"),
            (Form::Truth | Form::Any, Cell::Bool(_)) | (Form::Whole | Form::Any, Cell::Int(_)) => {
                cell.write_text(self.zone, &mut self.lines);
            }
            (Form::Number | Form::Any, Cell::Float(number)) if !number.is_finite() => {
                self.lines.extend_from_slice(b"null");
            }
            (Form::Number, Cell::Decimal(digits)) if !is_number(digits) => return Ok(false),
            (Form::Number, Cell::Int(_) | Cell::Float(_) | Cell::Decimal(_))
            | (Form::Any, Cell::Float(_)) => {
                cell.write_text(self.zone, &mut self.lines);
                if !self.lines[before..].iter().any(|byte| matches!(byte, b'.' | b'e')) {
                    self.lines.extend_from_slice(b".0");
                }
            }
            (Form::Truth | Form::Whole | Form::Number, _) => return Ok(false),
            // Between the tokens of JSON a line break is a space; inside strings there is none.
            (Form::Any, Cell::Json(text)) => self
                .lines
                .extend(text.bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b })),
            (_, Cell::Text(text) | Cell::Decimal(text) | Cell::Json(text)) => {
                serde_json::to_writer(&mut self.lines, text)
                    .map_err(|e| Error::Internal(format!("json: {e}")))?;
            }
            // Digits, letters and `\`: only of bytes, and only at their beginning.
            _ => {
                self.lines.push(b'"');
                if let Cell::Bytes(_) = cell {
                    self.lines.push(b'\\');
                }
                cell.write_text(self.zone, &mut self.lines);
                self.lines.push(b'"');
            }
        }
        Ok(true)
    }
}

/// Whether JSON has this number: `-12.50`, but neither `.5` nor `007`.
fn is_number(digits: &str) -> bool {
    whole_and_fraction(digits).is_some_and(|(whole, _)| whole == "0" || !whole.starts_with('0'))
}

impl Encoder for Jsonl {
    fn cell(&mut self, at: usize, cell: Cell<'_>) -> Result<()> {
        self.lines.extend_from_slice(self.keys[at].as_bytes());
        let form = self.forms[at];
        if self.value(form, cell)? {
            return Ok(());
        }
        Err(misfit("jsonl_type", &self.columns[at], self.rows + 1, cell, form.described()))
    }

    fn end_row(&mut self) -> Result<()> {
        self.rows += 1;
        self.lines.extend_from_slice(b"}\n");
        if self.lines.len() >= BLOCK {
            self.pass_on()?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.pass_on()?;
        self.to.flush().map_err(io_error)
    }
}
