//! CSV as RFC 4180 has it: commas, `"` doubled, CRLF, UTF-8, a header of labels; an empty cell is
//! NULL.
//!
//! A spreadsheet runs a cell that begins with `=`, `+`, `-`, `@` (full-width ones too), a tab or the
//! end of a line as a formula (OWASP, "CSV injection"). Text that does gets a leading `'`; what is of
//! a type that cannot carry a formula (numbers, dates, intervals, money, JSON) stays as it is.

use chrono_tz::Tz;

use super::{BLOCK, Encoder, Finish, Layout, io_error};
use crate::{error::Result, export::value::Cell};

pub(super) struct Csv<W> {
    to: W,
    zone: Tz,
    /// Which columns are defused.
    defused: Vec<bool>,
    /// Lines that were not passed on yet.
    lines: Vec<u8>,
    /// Where in them the row begins.
    row: usize,
}

impl<W: Finish> Csv<W> {
    pub(super) fn new(layout: Layout, to: W) -> Result<Self> {
        let mut csv = Csv {
            to,
            zone: layout.zone,
            defused: layout.columns.iter().map(|column| column.defuse).collect(),
            lines: Vec::with_capacity(BLOCK + BLOCK / 4),
            row: 0,
        };
        for (at, column) in layout.columns.iter().enumerate() {
            csv.separate(at);
            csv.text(&column.label);
        }
        csv.end_row()?;
        Ok(csv)
    }

    fn separate(&mut self, at: usize) {
        if at > 0 {
            self.lines.push(b',');
        }
    }

    /// A field of text, quoted if need be.
    fn field(&mut self, before: &str, text: &str) {
        // Without branches, so that it looks at many bytes at once.
        let needs_quotes = text.bytes().fold(false, |found, byte| {
            found | (byte == b',') | (byte == b'"') | (byte == b'\n') | (byte == b'\r')
        });
        if !needs_quotes {
            self.lines.extend_from_slice(before.as_bytes());
            self.lines.extend_from_slice(text.as_bytes());
            return;
        }
        self.lines.push(b'"');
        self.lines.extend_from_slice(before.as_bytes());
        for (at, piece) in text.split('"').enumerate() {
            if at > 0 {
                self.lines.extend_from_slice(b"\"\"");
            }
            self.lines.extend_from_slice(piece.as_bytes());
        }
        self.lines.push(b'"');
    }

    /// Text from anywhere.
    fn text(&mut self, text: &str) {
        self.field(if is_formula(text) { "'" } else { "" }, text);
    }

    fn pass_on(&mut self) -> Result<()> {
        self.to.write_all(&self.lines).map_err(io_error)?;
        self.lines.clear();
        Ok(())
    }
}

impl<W: Finish> Encoder for Csv<W> {
    fn cell(&mut self, at: usize, cell: Cell<'_>) -> Result<()> {
        self.separate(at);
        match cell {
            Cell::Text(text) if self.defused[at] => self.text(text),
            Cell::Text(text) | Cell::Json(text) | Cell::Decimal(text) => self.field("", text),
            // Nothing else has commas, quotes or line breaks.
            _ => cell.write_text(self.zone, &mut self.lines),
        }
        Ok(())
    }

    fn end_row(&mut self) -> Result<()> {
        // An empty line would be no row to many readers.
        if self.lines.len() == self.row {
            self.lines.extend_from_slice(b"\"\"");
        }
        self.lines.extend_from_slice(b"\r\n");
        if self.lines.len() >= BLOCK {
            self.pass_on()?;
        }
        self.row = self.lines.len();
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.pass_on()?;
        self.to.finish().map_err(io_error)
    }
}

/// Whether a spreadsheet would run it.
pub(super) fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keeps what is written.
    #[derive(Default)]
    struct Kept(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Finish for Kept {
        fn finish(self) -> std::io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_csv_crate_writes(rows in prop::collection::vec(prop::collection::vec("[a-z,\"\n\r 0é]{0,6}", 1..4), 0..8)) {
            let width = rows.iter().map(Vec::len).max().unwrap_or(1);
            let column = |at: usize| crate::export::Column::new(format!("c\"{at}"));
            let columns: Vec<_> = (0..width).map(column).collect();
            let mut theirs = csv::WriterBuilder::new()
                .terminator(csv::Terminator::CRLF)
                .from_writer(Vec::new());
            theirs.write_record(columns.iter().map(|c| &c.label)).unwrap();
            let layout = Layout { columns, zone: Tz::UTC, made_at: Default::default(), rows_per_sheet: 2, references: true, dictionaries: true };
            let kept = Kept::default();
            let written = kept.0.clone();
            let mut ours = Box::new(Csv::new(layout, kept).unwrap());
            for row in &rows {
                for at in 0..width {
                    let text = row.get(at).map(String::as_str).unwrap_or_default();
                    // Defusing is ours alone.
                    let text = text.trim_start_matches(['\r', '\n']);
                    ours.cell(at, Cell::Text(text)).unwrap();
                    theirs.write_field(text).unwrap();
                }
                ours.end_row().unwrap();
                theirs.write_record(None::<&[u8]>).unwrap();
            }
            ours.finish().unwrap();
            prop_assert_eq!(written.take(), theirs.into_inner().unwrap());
        }
    }

    #[test]
    fn text_that_a_spreadsheet_would_run_is_recognised() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"] {
            assert!(is_formula(text), "{text:?}");
        }
        for text in ["", " =1", "a=1", "'=1", "1-1"] {
            assert!(!is_formula(text), "{text:?}");
        }
    }
}
