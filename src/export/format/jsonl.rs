//! JSON Lines: one object a line, in UTF-8; the keys are the columns' names.
//!
//! | value | JSON |
//! |---|---|
//! | null, booleans | `null`, `true`, `false` |
//! | integers | numbers, with all their digits: JSON sets no limit, but a reader that keeps numbers as doubles rounds beyond 2^53 |
//! | floats | numbers; `"NaN"`, `"Infinity"`, `"-Infinity"`, for which JSON has no number |
//! | decimals | numbers of up to 15 significant digits, which no reader rounds; beyond that text |
//! | json | as it is |
//! | everything else | text, as in CSV but never defused |

use std::io::Write;

use chrono_tz::Tz;

use super::{BLOCK, Encoder, Layout, Sink, io_error};
use crate::{
    error::{Error, Result},
    export::value::{Cell, is_safe},
};

pub(super) struct Jsonl {
    to: Sink,
    zone: Tz,
    /// `{"first":`, `,"second":` …
    keys: Vec<String>,
    /// Lines that were not passed on yet.
    lines: Vec<u8>,
}

impl Jsonl {
    pub(super) fn new(layout: Layout, to: Sink) -> Result<Self> {
        let mut keys = Vec::with_capacity(layout.columns.len());
        for column in &layout.columns {
            let open = if keys.is_empty() { '{' } else { ',' };
            let name = serde_json::to_string(&column.name)
                .map_err(|e| Error::Internal(format!("column {:?}: {e}", column.name)))?;
            keys.push(format!("{open}{name}:"));
        }
        Ok(Jsonl { to, zone: layout.zone, keys, lines: Vec::new() })
    }

    fn pass_on(&mut self) -> Result<()> {
        self.to.write_all(&self.lines).map_err(io_error)?;
        self.lines.clear();
        Ok(())
    }

    fn value(&mut self, cell: Cell<'_>) -> Result<()> {
        match cell {
            Cell::Null => self.lines.extend_from_slice(b"null"),
            Cell::Bool(_) | Cell::Int(_) => cell.write_text(self.zone, &mut self.lines),
            Cell::Float(number) if number.is_finite() => {
                cell.write_text(self.zone, &mut self.lines);
            }
            Cell::Decimal(digits) if is_safe_number(digits) => {
                self.lines.extend_from_slice(digits.as_bytes());
            }
            // Between the tokens of JSON a line break is a space; inside strings there is none.
            Cell::Json(text) => self
                .lines
                .extend(text.bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b })),
            Cell::Text(text) | Cell::Decimal(text) => serde_json::to_writer(&mut self.lines, text)
                .map_err(|e| Error::Internal(format!("json: {e}")))?,
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
        Ok(())
    }
}

/// Whether JSON has this number and every reader keeps its digits.
fn is_safe_number(digits: &str) -> bool {
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let whole = whole.strip_prefix('-').unwrap_or(whole);
    let all_digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    all_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(all_digits)
        && is_safe(digits)
}

impl Encoder for Jsonl {
    fn cell(&mut self, at: usize, cell: Cell<'_>) -> Result<()> {
        self.lines.extend_from_slice(self.keys[at].as_bytes());
        self.value(cell)
    }

    fn end_row(&mut self) -> Result<()> {
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
