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

use super::{Encoder, Layout, Sink, io_error};
use crate::{
    error::{Error, Result},
    export::value::{SAFE_DIGITS, Value, significant_digits},
};

pub(super) struct Jsonl {
    to: Sink,
    zone: Tz,
    /// `{"first":`, `,"second":` …
    keys: Vec<String>,
    line: Vec<u8>,
    text: String,
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
        Ok(Jsonl { to, zone: layout.zone, keys, line: Vec::new(), text: String::new() })
    }

    fn value(&mut self, value: &Value) -> Result<()> {
        self.text.clear();
        value.write_text(self.zone, &mut self.text);
        match value {
            Value::Null => self.line.extend_from_slice(b"null"),
            Value::Float(number) if !number.is_finite() => self.quoted()?,
            Value::Decimal(digits) if !is_safe_number(digits) => self.quoted()?,
            Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Decimal(_) => {
                self.line.extend_from_slice(self.text.as_bytes());
            }
            // Between the tokens of JSON a line break is a space; inside strings there is none.
            Value::Json(text) => self
                .line
                .extend(text.bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b })),
            _ => self.quoted()?,
        }
        Ok(())
    }

    fn quoted(&mut self) -> Result<()> {
        serde_json::to_writer(&mut self.line, &self.text)
            .map_err(|e| Error::Internal(format!("json: {e}")))
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
        && significant_digits(digits) <= SAFE_DIGITS
}

impl Encoder for Jsonl {
    fn row(&mut self, row: &[Value]) -> Result<()> {
        self.line.clear();
        for (i, value) in row.iter().enumerate() {
            self.line.extend_from_slice(self.keys[i].as_bytes());
            self.value(value)?;
        }
        self.line.extend_from_slice(if row.is_empty() { b"{}\n" } else { b"}\n" });
        self.to.write_all(&self.line).map_err(io_error)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.to.flush().map_err(io_error)
    }
}
