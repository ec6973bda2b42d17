//! CSV as RFC 4180 has it: commas, `"` doubled, CRLF, UTF-8, a header of labels; an empty cell is
//! NULL.
//!
//! A spreadsheet runs a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return as a
//! formula (OWASP, "CSV injection"). Text that does gets a leading `'`; numbers, dates and JSON
//! cannot carry a formula and stay as they are.

use chrono_tz::Tz;

use super::{Encoder, Layout, Sink, io_error};
use crate::{
    error::{Error, Result},
    export::value::Value,
};

pub(super) struct Csv {
    to: csv::Writer<Sink>,
    zone: Tz,
    cell: String,
}

impl Csv {
    pub(super) fn new(layout: Layout, to: Sink) -> Result<Self> {
        let mut to = csv::WriterBuilder::new()
            .terminator(csv::Terminator::CRLF)
            .buffer_capacity(64 * 1024)
            .from_writer(to);
        to.write_record(layout.columns.iter().map(|column| &column.label)).map_err(csv_error)?;
        Ok(Csv { to, zone: layout.zone, cell: String::new() })
    }
}

impl Encoder for Csv {
    fn row(&mut self, row: &[Value]) -> Result<()> {
        for value in row {
            self.cell.clear();
            if let Value::Text(text) = value
                && is_formula(text)
            {
                self.cell.push('\'');
            }
            value.write_text(self.zone, &mut self.cell);
            self.to.write_field(&self.cell).map_err(csv_error)?;
        }
        self.to.write_record(None::<&[u8]>).map_err(csv_error)
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        // Flushes the sink too.
        self.to.flush().map_err(io_error)
    }
}

/// Whether a spreadsheet would run it.
pub(super) fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

fn csv_error(error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => io_error(error),
        other => Error::Internal(format!("csv: {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::is_formula;

    #[test]
    fn text_that_a_spreadsheet_would_run_is_recognised() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert!(is_formula(text), "{text:?}");
        }
        for text in ["", " =1", "a=1", "'=1", "1-1"] {
            assert!(!is_formula(text), "{text:?}");
        }
    }
}
