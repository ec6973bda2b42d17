//! XLSX, streamed: `rust_xlsxwriter` makes the workbook around the rows ([`package`]), the rows go
//! through a writer of ours straight into the zip, without a temporary file, compressed on a thread
//! of its own.
//!
//! Cells are typed, as far as Excel's numbers go. A number is text when Excel would lose digits of
//! it (more than 15 significant ones) or has no such number (NaN); a date is text (ISO 8601) when
//! it lies before 1900 or after 9999. Moments are shown in the requester's time zone and keep
//! milliseconds. Text is always written as text, so that nothing is ever run as a formula.
//!
//! Rows and cells do not say where they are (`r`, optional by ECMA-376 part 1, 18.3.1.4 and
//! 18.3.1.73): each follows the one before it. That is a third of the file.

mod package;

use std::io::Write;

use chrono::{Datelike, NaiveDate, NaiveTime, Timelike};
use rust_xlsxwriter::XlsxError;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions, write::StreamWriter};

use self::package::{Look, Package};
use super::{Encoder, Layout, Sink, apart::Apart, io_error};
use crate::{
    error::{Error, Result},
    export::value::{Cell, Column, Kind, is_safe, local, write_float, write_int, write_padded},
};

/// What a cell of text may hold (Excel's limits), in UTF-16 units.
const LONGEST_TEXT: usize = 32_767;
/// Columns of a sheet (Excel's limits).
const MOST_COLUMNS: usize = 16_384;
/// Of deflate.
const COMPRESSION: i64 = 1;
/// Rows that are looked at for the width of a column.
const SAMPLE: u64 = 100;
/// Numbers of more than 15 digits begin here.
const UNSAFE_INT: u64 = 1_000_000_000_000_000;
/// Rows are passed on when they are so many bytes.
const BLOCK: usize = 32 * 1024;

/// Rows whose widths are looked at are passed on earlier: at this many bytes.
const MOST_SAMPLED: usize = 1024 * 1024;

/// Where the next sheet begins, however few rows there are: a part of 4 GiB or more would have to
/// say so before its first byte (ZIP64), and LibreOffice 7.4 opens no streamed part that does.
const MOST_XML: u64 = (4 << 30) - (256 << 20);

type Zip = ZipWriter<StreamWriter<Sink>>;

pub(super) struct Xlsx {
    zip: Place,
    layout: Layout,
    package: Package,
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
    /// Cells without content before the next one with.
    empty: usize,
    text: Vec<u8>,
}

/// Where the zip is.
enum Place {
    /// Between two parts.
    Between(Zip),
    /// In the midst of a sheet.
    InSheet(Apart<Zip>),
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
        let mut encoder = Xlsx {
            zip: Place::Between(ZipWriter::new_stream(to)),
            package: Package::of(&layout.columns)?,
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
        self.xml.extend_from_slice(b"<row>");
        for column in &self.layout.columns {
            open(&mut self.xml, self.package.header, STRING);
            escape(&column.label, &mut self.xml);
            self.xml.extend_from_slice(STRING_END);
        }
        self.xml.extend_from_slice(b"</row>");
        self.rows_of_sheet = 1;
    }

    /// Puts what is known before the first row into the zip.
    fn begin_sheet(&mut self) -> Result<()> {
        let Place::Between(mut zip) = std::mem::replace(&mut self.zip, Place::Gone) else {
            return Err(Error::Internal("a sheet within a sheet".into()));
        };
        if self.sheet == 1 {
            self.package.begin(&mut zip, self.layout.made_at)?;
        }
        let options = options().compression_level(Some(COMPRESSION));
        zip.start_file(package::sheet_name(self.sheet), options).map_err(zip_error)?;
        let mut zip = Apart::new(zip);
        let before = self.package.before_rows(self.sheet, &self.widths);
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
            self.begin_sheet()?;
        }
        self.pass_on()?;
        let Place::InSheet(mut zip) = std::mem::replace(&mut self.zip, Place::Gone) else {
            return Err(Error::OutputClosed);
        };
        zip.write_all(self.package.after_rows.as_bytes()).map_err(io_error)?;
        zip.into_inner().map_err(io_error)
    }

    fn next_sheet(&mut self) -> Result<()> {
        self.zip = Place::Between(self.end_sheet()?);
        self.sheet += 1;
        self.xml_of_sheet = 0;
        self.header();
        self.begin_sheet()
    }

    /// Opens a cell, after those without content before it.
    fn open(&mut self, look: Look, kind: &[u8]) {
        for _ in 0..self.empty {
            self.xml.extend_from_slice(b"<c/>");
        }
        self.empty = 0;
        open(&mut self.xml, look, kind);
    }

    fn number(&mut self, look: Look, write: impl FnOnce(&mut Vec<u8>)) {
        self.open(look, NUMBER);
        write(&mut self.xml);
        self.xml.extend_from_slice(NUMBER_END);
    }

    /// Days, and of the last of them the part that has passed, to a hundred-thousandth of a second:
    /// who reads it rounds to milliseconds.
    fn date(&mut self, look: Look, days: i64, time: Option<NaiveTime>) {
        self.number(look, |xml| {
            write_int(days, xml);
            let passed = time.map_or(0, |time| {
                u64::from(time.num_seconds_from_midnight()) * 1_000
                    // A leap second is past its day's last.
                    + u64::from(time.nanosecond().min(999_999_999) / 1_000_000)
            });
            if passed > 0 {
                xml.push(b'.');
                write_padded((passed * 10_000_000_000 + DAY / 2) / DAY, 10, xml);
            }
        });
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
            if let std::borrow::Cow::Owned(mended) = mend_lines(text) {
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
            self.empty += 1;
            return Ok(());
        }
        let padded = text.starts_with(BLANK) || text.ends_with(BLANK);
        self.open(0, if padded { PADDED_STRING } else { STRING });
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
            self.xml.extend_from_slice(b"<row>");
        }
        let looks = self.package.looks[at];
        match cell {
            Cell::Null => self.empty += 1,
            Cell::Bool(flag) => {
                self.open(0, BOOLEAN);
                self.xml.push(if flag { b'1' } else { b'0' });
                self.xml.extend_from_slice(NUMBER_END);
            }
            Cell::Int(number) if number.unsigned_abs() < UNSAFE_INT => {
                self.number(looks.number, |xml| write_int(number, xml));
            }
            Cell::Float(number) if number.is_finite() => {
                self.number(looks.number, |xml| write_float(number, xml));
            }
            Cell::Decimal(digits)
                if is_safe(digits) && digits.parse().is_ok_and(f64::is_finite) =>
            {
                self.number(looks.number, |xml| xml.extend_from_slice(digits.as_bytes()));
            }
            Cell::Date(day) if is_excel_date(day) => self.date(looks.date, serial(day), None),
            Cell::Time(time) => self.date(looks.time, 0, Some(time)),
            Cell::DateTime(moment) => match local(moment, self.layout.zone) {
                Some((wall, _)) if is_excel_date(wall.date()) => {
                    self.date(looks.moment, serial(wall.date()), Some(wall.time()));
                }
                _ => self.text(at, cell)?,
            },
            Cell::NaiveDateTime(wall) if is_excel_date(wall.date()) => {
                self.date(looks.moment, serial(wall.date()), Some(wall.time()));
            }
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
            Place::Between(_) => self.begin_sheet(),
            _ if self.xml.len() >= BLOCK => self.pass_on(),
            _ => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let mut zip = self.end_sheet()?;
        self.package.end(&mut zip, &self.layout.columns, self.sheet)?;
        let mut sink = zip.finish().map_err(zip_error)?.into_inner();
        sink.flush().map_err(io_error)
    }
}

/// Milliseconds.
const DAY: u64 = 86_400_000;
/// What [`open`] continues with, and what closes it.
const NUMBER: &[u8] = b"><v>";
const BOOLEAN: &[u8] = b" t=\"b\"><v>";
const NUMBER_END: &[u8] = b"</v></c>";
const STRING: &[u8] = b" t=\"inlineStr\"><is><t>";
const PADDED_STRING: &[u8] = b" t=\"inlineStr\"><is><t xml:space=\"preserve\">";
const STRING_END: &[u8] = b"</t></is></c>";
/// What readers may take away at the ends of text.
const BLANK: [char; 3] = [' ', '\t', '\n'];

fn open(xml: &mut Vec<u8>, look: Look, kind: &[u8]) {
    xml.extend_from_slice(b"<c");
    if look != 0 {
        xml.extend_from_slice(b" s=\"");
        write_int(look.into(), xml);
        xml.push(b'"');
    }
    xml.extend_from_slice(kind);
}

fn mend_lines(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains("\r\n") { text.replace("\r\n", "\n").into() } else { text.into() }
}

/// Writes text as XML has it, and what XML cannot have as Excel does: `_x0007_` (ECMA-376 part 1,
/// 22.9.2.19). What looks like that but is not gets its `_` escaped.
fn escape(text: &str, xml: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if !IS_SPECIAL[usize::from(*byte)] {
            continue;
        }
        let rest = &bytes[at + 1..];
        let (length, instead): (usize, &[u8]) = match byte {
            b'&' => (1, b"&amp;"),
            b'<' => (1, b"&lt;"),
            b'>' => (1, b"&gt;"),
            b'_' if is_escape(rest) => (1, b"_x005F_"),
            0xEF if rest.starts_with(b"\xBF\xBE") => (3, b"_xFFFE_"),
            0xEF if rest.starts_with(b"\xBF\xBF") => (3, b"_xFFFF_"),
            b'_' | 0xEF => continue,
            control => {
                xml.extend_from_slice(&bytes[from..at]);
                // Writing to memory cannot fail.
                let _ = write!(xml, "_x{control:04X}_");
                from = at + 1;
                continue;
            }
        };
        xml.extend_from_slice(&bytes[from..at]);
        xml.extend_from_slice(instead);
        from = at + length;
    }
    xml.extend_from_slice(&bytes[from..]);
}

/// Whether an `_` followed by this would be read as an escape.
fn is_escape(rest: &[u8]) -> bool {
    matches!(rest, [b'x', a, b, c, d, b'_', ..] if [a, b, c, d].iter().all(|h| h.is_ascii_hexdigit()))
}

/// Bytes that [`escape`] has to look at.
const IS_SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 0x20 {
        table[at] = at != 0x09 && at != 0x0A;
        at += 1;
    }
    table[b'&' as usize] = true;
    table[b'<' as usize] = true;
    table[b'>' as usize] = true;
    table[b'_' as usize] = true;
    table[0xEF] = true;
    table
};

fn is_excel_date(day: NaiveDate) -> bool {
    (1900..=9999).contains(&day.year())
}

/// Days since 1899-12-31, and from March 1900 on one more: to Excel, 1900 was a leap year.
fn serial(day: NaiveDate) -> i64 {
    // Days of the common era until 1899-12-31.
    let days = i64::from(day.num_days_from_ce()) - 693_595;
    if days > 59 { days + 1 } else { days }
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

fn options() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated)
}

fn zip_error(error: zip::result::ZipError) -> Error {
    match error {
        zip::result::ZipError::Io(error) => io_error(error),
        other => Error::Internal(format!("xlsx: {other}")),
    }
}

fn xlsx_error(error: XlsxError) -> Error {
    Error::permanent("xlsx", error.to_string())
}
