//! XLSX, streamed: `rust_xlsxwriter` makes the workbook around the rows ([`package`]), the rows go
//! through a writer of ours straight into the zip, without a temporary file, compressed on a thread
//! of its own.
//!
//! Cells are typed, as far as Excel's numbers go. A number is text when it has more than 15 digits
//! before its point, which Excel would lose, or when Excel has no such number (NaN); a date is text
//! (ISO 8601) when it lies before March 1900, where programs disagree about the day, or after 9999.
//! Moments are shown in the requester's time zone and keep milliseconds; intervals below a month are
//! durations. Text is always written as text, so that nothing is ever run as a formula.
//!
//! Rows and cells say where they are (`r`). ECMA-376 part 1 (18.3.1.4, 18.3.1.73) makes that optional,
//! and a third of the readers take it for granted.

mod escape;
mod numbers;
mod openings;
mod package;

use std::{borrow::Cow, io::Write};

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use self::{
    escape::{escape, mend_lines},
    numbers::{
        DAY, UNSAFE_INT, has_short_whole, is_excel_date, milliseconds, serial, write_moment,
    },
    openings::{NUMBER_END, Opening, Openings, Piece, STRING, STRING_END, column_name},
    package::{Package, Zip},
};
use super::{
    Encoder, Layout, Sink,
    apart::Apart,
    archive::{Archive, Member},
    io_error,
};
use crate::{
    error::{Error, Result},
    export::value::{Cell, Column, Interval, Kind, local, write_float, write_int},
};

/// What a cell of text may hold (Excel's limits), in UTF-16 units.
const LONGEST_TEXT: usize = 32_767;
/// What readers may take away at the ends of text.
const BLANK: [char; 3] = [' ', '\t', '\n'];
/// Columns of a sheet (Excel's limits).
const MOST_COLUMNS: usize = 16_384;
/// Rows that are looked at for the width of a column.
const SAMPLE: u64 = 100;
/// Digits of a number that say which double it is; more of them say nothing.
const DIGITS_OF_A_DOUBLE: usize = 17;
/// Rows are passed on when they are so many bytes.
const BLOCK: usize = 32 * 1024;

/// Rows whose widths are looked at are passed on earlier: at this many bytes.
const MOST_SAMPLED: usize = 1024 * 1024;

/// Where the next sheet begins, however few rows there are: a part of 4 GiB or more would have to
/// say so before its first byte (ZIP64), and LibreOffice 7.4 opens no streamed part that does.
const MOST_XML: u64 = (4 << 30) - (256 << 20);

pub(super) struct Xlsx {
    zip: Place,
    layout: Layout,
    package: Package,
    /// What its cells begin with, by column.
    openings: Vec<Openings>,
    /// The number of this row, where cells say it.
    row: Piece,
    /// How many characters each column shows.
    widths: Vec<usize>,
    /// Rows that were not passed on yet: of the first sheet, all until their widths were looked at.
    xml: Vec<u8>,
    /// Which sheet it is, counted from 1.
    sheet: usize,
    /// Rows of this sheet, the header included.
    rows_of_sheet: u32,
    /// Bytes of this sheet that were passed on.
    xml_of_sheet: u64,
    /// Data rows so far, on all sheets.
    rows: u64,
    /// Cells without content before the next one with, where cells do not say where they are.
    empty: usize,
    text: Vec<u8>,
}

/// Where the zip is.
enum Place {
    /// Between two parts.
    Between(Zip),
    /// In the midst of a sheet.
    InSheet(Apart<Member<Sink>>),
    /// Broken.
    Gone,
}

impl Xlsx {
    pub(super) fn new(layout: Layout, to: Sink) -> Result<Self> {
        if layout.columns.len() > MOST_COLUMNS {
            let message = format!(
                "{} columns are more than an Excel sheet has ({MOST_COLUMNS}); use csv",
                layout.columns.len()
            );
            return Err(Error::permanent("too_many_columns", message));
        }
        let widths: Vec<usize> = layout.columns.iter().map(first_width).collect();
        let package = Package::of(&layout.columns)?;
        let looks = (0..).zip(&*package.looks);
        let mut encoder = Xlsx {
            zip: Place::Between(Archive::new(to)),
            openings: looks
                .map(|(at, looks)| Openings::new(at, looks, layout.references))
                .collect(),
            row: Piece::new(&[]),
            package,
            layout,
            widths,
            xml: Vec::with_capacity(BLOCK + BLOCK / 4),
            sheet: 1,
            rows_of_sheet: 0,
            xml_of_sheet: 0,
            rows: 0,
            empty: 0,
            text: Vec::new(),
        };
        encoder.header();
        Ok(encoder)
    }

    /// A row of labels.
    fn header(&mut self) {
        self.rows_of_sheet = 0;
        self.open_row();
        let opening = Opening::new(self.package.header, STRING, self.layout.references);
        for (column, openings) in self.layout.columns.iter().zip(&self.openings) {
            openings.cell.write(&mut self.xml);
            self.row.write(&mut self.xml);
            opening.0.write(&mut self.xml);
            escape(&column.label, &mut self.xml);
            self.xml.extend_from_slice(STRING_END);
        }
        self.xml.extend_from_slice(b"</row>");
        self.rows_of_sheet = 1;
    }

    fn open_row(&mut self) {
        if !self.layout.references {
            return self.xml.extend_from_slice(b"<row>");
        }
        self.row.set(itoa::Buffer::new().format(self.rows_of_sheet + 1).as_bytes());
        self.xml.extend_from_slice(b"<row r=\"");
        self.row.write(&mut self.xml);
        self.xml.extend_from_slice(b"\">");
    }

    /// Puts what is known before the first row into the zip; `is_whole` says that no row is to come.
    fn begin_sheet(&mut self, is_whole: bool) -> Result<()> {
        let Place::Between(mut zip) = std::mem::replace(&mut self.zip, Place::Gone) else {
            return Err(Error::Internal("a sheet within a sheet".into()));
        };
        if self.sheet == 1 {
            self.package.begin(&mut zip, self.layout.made_at)?;
        }
        let cells = is_whole.then(|| {
            let last = column_name(self.layout.columns.len().saturating_sub(1));
            format!("A1:{last}{}", self.rows_of_sheet)
        });
        let member = zip.begin(&package::sheet_name(self.sheet));
        let mut zip = Apart::new(member.map_err(io_error)?);
        let before = self.package.before_rows(self.sheet, &self.widths, cells.as_deref());
        zip.write_all(before.as_bytes()).map_err(io_error)?;
        self.zip = Place::InSheet(zip);
        self.pass_on()
    }

    fn pass_on(&mut self) -> Result<()> {
        let Place::InSheet(zip) = &mut self.zip else { return Ok(()) };
        zip.write_all(&self.xml).map_err(io_error)?;
        self.xml_of_sheet += self.xml.len() as u64;
        self.xml.clear();
        Ok(())
    }

    fn end_sheet(&mut self) -> Result<Zip> {
        if let Place::Between(_) = self.zip {
            self.begin_sheet(true)?;
        }
        self.pass_on()?;
        let Place::InSheet(mut zip) = std::mem::replace(&mut self.zip, Place::Gone) else {
            return Err(Error::OutputClosed);
        };
        zip.write_all(self.package.after_rows.as_bytes()).map_err(io_error)?;
        zip.into_inner().and_then(Member::end).map_err(io_error)
    }

    fn next_sheet(&mut self) -> Result<()> {
        self.zip = Place::Between(self.end_sheet()?);
        self.sheet += 1;
        self.xml_of_sheet = 0;
        self.header();
        self.begin_sheet(false)
    }

    /// Opens a cell, after those without content before it.
    fn open(&mut self, at: usize, kind: impl FnOnce(&Openings) -> &Opening) {
        for _ in 0..self.empty {
            self.xml.extend_from_slice(b"<c/>");
        }
        self.empty = 0;
        let openings = &self.openings[at];
        openings.cell.write(&mut self.xml);
        self.row.write(&mut self.xml);
        kind(openings).0.write(&mut self.xml);
    }

    /// A cell without content: it is left out, as long as the next one says where it is.
    fn blank(&mut self) {
        self.empty += usize::from(!self.layout.references);
    }

    fn number(
        &mut self,
        at: usize,
        kind: impl FnOnce(&Openings) -> &Opening,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.open(at, kind);
        write(&mut self.xml);
        self.xml.extend_from_slice(NUMBER_END);
    }

    fn decimal(&mut self, at: usize, digits: &str) {
        self.number(
            at,
            |openings| &openings.number,
            |xml| match digits.parse() {
                Ok(number) if digits.len() > DIGITS_OF_A_DOUBLE + 2 => write_float(number, xml),
                _ => xml.extend_from_slice(digits.as_bytes()),
            },
        );
    }

    fn date(&mut self, at: usize, day: NaiveDate) {
        self.number(at, |openings| &openings.date, |xml| write_int(serial(day), xml));
    }

    fn time(&mut self, at: usize, time: NaiveTime) {
        self.number(
            at,
            |openings| &openings.time,
            |xml| {
                write_float(milliseconds(time) as f64 / DAY as f64, xml);
            },
        );
    }

    fn moment(&mut self, at: usize, wall: NaiveDateTime) {
        self.number(
            at,
            |openings| &openings.moment,
            |xml| {
                write_moment(serial(wall.date()), milliseconds(wall.time()), xml);
            },
        );
    }

    fn duration(&mut self, at: usize, micros: i64) {
        self.number(
            at,
            |openings| &openings.duration,
            |xml| {
                write_float((micros / 1_000) as f64 / DAY as f64, xml);
            },
        );
    }

    /// A date and time, or the text of `cell`, which it is of.
    fn wall(&mut self, at: usize, wall: NaiveDateTime, cell: Cell<'_>) -> Result<()> {
        if !is_excel_date(wall.date()) {
            return self.text(at, cell);
        }
        self.moment(at, wall);
        Ok(())
    }

    fn text(&mut self, at: usize, cell: Cell<'_>) -> Result<()> {
        self.text.clear();
        cell.write_text(self.layout.zone, &mut self.text);
        let text = std::mem::take(&mut self.text);
        let known = std::str::from_utf8(&text).map_err(|e| Error::Internal(e.to_string()))?;
        let done = self.string(at, known);
        self.text = text;
        done
    }

    fn string(&mut self, at: usize, text: &str) -> Result<()> {
        if text.contains('\r') {
            // Excel breaks lines with a line feed, and shows other control characters as boxes.
            if let Cow::Owned(mended) = mend_lines(text) {
                return self.string(at, &mended);
            }
        }
        // UTF-8 never has fewer bytes than UTF-16 has units.
        if text.len() > LONGEST_TEXT && text.encode_utf16().count() > LONGEST_TEXT {
            let column = &self.layout.columns[at];
            let message = format!(
                "column {:?}, row {}: the text is longer than the {LONGEST_TEXT} characters that \
                 an Excel cell can hold; ask for csv, jsonl or parquet",
                column.name,
                self.rows + 1
            );
            return Err(Error::permanent("text_too_long", message));
        }
        if self.rows < SAMPLE {
            let longest_line = text.lines().map(|line| line.chars().count()).max();
            let width = &mut self.widths[at];
            *width = (*width).max(longest_line.unwrap_or(0).saturating_add(1).min(60));
        }
        if text.is_empty() {
            self.blank();
            return Ok(());
        }
        if text.starts_with(BLANK) || text.ends_with(BLANK) {
            self.open(at, |openings| &openings.padded_string);
        } else {
            self.open(at, |openings| &openings.string);
        }
        escape(text, &mut self.xml);
        self.xml.extend_from_slice(STRING_END);
        Ok(())
    }
}

impl Encoder for Xlsx {
    fn cell(&mut self, at: usize, cell: Cell<'_>) -> Result<()> {
        if at == 0 {
            if self.rows_of_sheet >= self.layout.rows_per_sheet || self.xml_of_sheet >= MOST_XML {
                self.next_sheet()?;
            }
            self.open_row();
        }
        match cell {
            Cell::Null => self.blank(),
            Cell::Bool(flag) => {
                self.number(
                    at,
                    |openings| &openings.boolean,
                    |xml| {
                        xml.push(if flag { b'1' } else { b'0' });
                    },
                );
            }
            Cell::Int(number) if number.unsigned_abs() < UNSAFE_INT => {
                self.number(at, |openings| &openings.number, |xml| write_int(number, xml));
            }
            Cell::Float(number) if number.is_finite() => {
                self.number(at, |openings| &openings.number, |xml| write_float(number, xml));
            }
            Cell::Decimal(digits) if has_short_whole(digits) => self.decimal(at, digits),
            Cell::Date(day) if is_excel_date(day) => self.date(at, day),
            Cell::Time(time) => self.time(at, time),
            Cell::DateTime(moment) => match local(moment, self.layout.zone) {
                Some((wall, _)) => self.wall(at, wall, cell)?,
                None => self.text(at, cell)?,
            },
            Cell::NaiveDateTime(wall) => self.wall(at, wall, cell)?,
            Cell::Interval(length) => match Interval::below_a_month(length) {
                Some(micros) => self.duration(at, micros),
                None => self.text(at, cell)?,
            },
            Cell::Text(text) | Cell::Json(text) => self.string(at, text)?,
            _ => self.text(at, cell)?,
        }
        Ok(())
    }

    fn end_row(&mut self) -> Result<()> {
        self.empty = 0;
        self.xml.extend_from_slice(b"</row>");
        self.rows += 1;
        self.rows_of_sheet += 1;
        match self.zip {
            Place::Between(_) if self.rows < SAMPLE && self.xml.len() < MOST_SAMPLED => Ok(()),
            Place::Between(_) => self.begin_sheet(false),
            _ if self.xml.len() >= BLOCK => self.pass_on(),
            _ => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let mut zip = self.end_sheet()?;
        self.package.end(&mut zip, &self.layout.columns, self.sheet)?;
        zip.finish().and_then(|mut sink| sink.flush()).map_err(io_error)
    }
}

/// Wide enough for the label in bold, and for what is known of the cells.
fn first_width(column: &Column) -> usize {
    let by_kind = match column.kind {
        Some(Kind::DateTime | Kind::NaiveDateTime) => 19,
        Some(Kind::Date) => 11,
        Some(Kind::Uuid) => 37,
        _ => 9,
    };
    by_kind.max(column.label.chars().count() + 2).min(60)
}
