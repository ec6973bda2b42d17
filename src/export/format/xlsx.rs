//! XLSX through `rust_xlsxwriter` in its constant-memory mode: rows wait in temporary files (about
//! 50 bytes a cell, in the system's folder for temporary files) until the workbook is zipped.
//!
//! Cells are typed, as far as Excel's numbers go. A number is text when Excel would lose digits of
//! it (more than 15 significant ones) or has no such number (NaN); a date is text (ISO 8601) when
//! it lies before 1900 or after 9999. Moments are shown in the requester's time zone and keep
//! milliseconds. Text is always written as text, so that nothing is ever run as a formula.

use rust_xlsxwriter::{Format, IntoExcelDateTime, Workbook, Worksheet, XlsxError};

use chrono::{Datelike, NaiveDate};

use super::{Encoder, Layout, Sink, io_error};
use crate::{
    error::{Error, Result},
    export::value::{Column, Kind, SAFE_DIGITS, Value, local, significant_digits},
};

/// What a cell of text may hold (Excel's limits), in UTF-16 units.
const LONGEST_TEXT: usize = 32_767;
/// Columns of a sheet (Excel's limits).
const MOST_COLUMNS: usize = 16_384;
/// Half the CPU of the library's default for a file 6 % larger. For 336,776 rows × 10 columns,
/// levels 1, 2 and 3 took 2.1, 2.2 and 2.6 CPU seconds and gave 30, 22.5 and 20.8 MB.
const COMPRESSION: u8 = 3;
/// Rows that are looked at for the width of a column.
const SAMPLE: u64 = 100;
/// Numbers of more than 15 digits begin here.
const UNSAFE_INT: u64 = 1_000_000_000_000_000;

pub(super) struct Xlsx {
    to: Sink,
    book: Workbook,
    sheet: Worksheet,
    /// Where the next row goes; 0 holds the header.
    next: u32,
    /// Data rows so far, on all sheets.
    rows: u64,
    layout: Layout,
    header: Format,
    formats: Vec<Formats>,
    /// Characters, by column.
    widths: Vec<usize>,
    text: String,
}

/// How the cells of a column look.
struct Formats {
    number: Option<Format>,
    date: Format,
    time: Format,
    moment: Format,
}

impl Formats {
    fn new(column: &Column) -> Self {
        let of = |default: &str| {
            Format::new().set_num_format(column.format.as_deref().unwrap_or(default))
        };
        Formats {
            number: column.format.as_ref().map(|format| Format::new().set_num_format(format)),
            date: of("yyyy-mm-dd"),
            time: of("hh:mm:ss"),
            moment: of("yyyy-mm-dd hh:mm:ss"),
        }
    }
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
        let mut book = Workbook::new();
        book.set_zip_compression_level(COMPRESSION);
        // Costs a few bytes, and a sheet past 4 GB of XML is no error.
        book.use_zip_large_file(true);
        let sheet = book.new_worksheet_with_constant_memory().map_err(xlsx_error)?;
        let mut encoder = Xlsx {
            to,
            book,
            sheet,
            next: 0,
            rows: 0,
            header: Format::new().set_bold(),
            formats: layout.columns.iter().map(Formats::new).collect(),
            widths: layout.columns.iter().map(first_width).collect(),
            layout,
            text: String::new(),
        };
        encoder.write_header()?;
        Ok(encoder)
    }

    fn write_header(&mut self) -> Result<()> {
        for (at, column) in (0..).zip(&self.layout.columns) {
            self.sheet
                .write_string_with_format(0, at, &column.label, &self.header)
                .map_err(xlsx_error)?;
        }
        self.sheet.set_freeze_panes(1, 0).map_err(xlsx_error)?;
        self.next = 1;
        Ok(())
    }

    /// Hands the sheet over to the workbook.
    fn end_sheet(&mut self, mut sheet: Worksheet) -> Result<()> {
        for (at, width) in (0..).zip(&self.widths) {
            // At most 60.
            sheet.set_column_width(at, *width as f64).map_err(xlsx_error)?;
        }
        self.book.push_worksheet(sheet);
        Ok(())
    }

    fn cell(&mut self, at: u16, value: &Value) -> Result<()> {
        let formats = &self.formats[usize::from(at)];
        let as_is = formats.number.as_ref();
        match value {
            Value::Null => Ok(()),
            Value::Bool(flag) => {
                self.sheet.write_boolean(self.next, at, *flag).map(drop).map_err(xlsx_error)
            }
            Value::Int(number) if number.unsigned_abs() < UNSAFE_INT => {
                number_cell(&mut self.sheet, self.next, at, *number as f64, as_is)
            }
            Value::Float(number) if number.is_finite() => {
                number_cell(&mut self.sheet, self.next, at, *number, as_is)
            }
            Value::Decimal(digits) => match digits.parse() {
                Ok(number) if significant_digits(digits) <= SAFE_DIGITS => {
                    number_cell(&mut self.sheet, self.next, at, number, as_is)
                }
                _ => self.text_cell(at, value),
            },
            Value::Date(day) if is_excel_date(*day) => {
                date_cell(&mut self.sheet, self.next, at, *day, &formats.date)
            }
            Value::Time(time) => date_cell(&mut self.sheet, self.next, at, *time, &formats.time),
            Value::DateTime(moment) => match local(*moment, self.layout.zone) {
                Some((wall, _)) if is_excel_date(wall.date()) => {
                    date_cell(&mut self.sheet, self.next, at, wall, &formats.moment)
                }
                _ => self.text_cell(at, value),
            },
            Value::NaiveDateTime(wall) if is_excel_date(wall.date()) => {
                date_cell(&mut self.sheet, self.next, at, *wall, &formats.moment)
            }
            _ => self.text_cell(at, value),
        }
    }

    fn text_cell(&mut self, at: u16, value: &Value) -> Result<()> {
        self.text.clear();
        value.write_text(self.layout.zone, &mut self.text);
        if self.text.contains('\r') {
            // Excel breaks lines with a line feed, and shows other control characters as boxes.
            self.text = self.text.replace("\r\n", "\n");
        }
        // UTF-8 never has fewer bytes than UTF-16 has units.
        if self.text.len() > LONGEST_TEXT && self.text.encode_utf16().count() > LONGEST_TEXT {
            let column = &self.layout.columns[usize::from(at)];
            let message = format!(
                "column {:?}, row {}: the text is longer than the {LONGEST_TEXT} characters that \
                 an Excel cell can hold; ask for csv or jsonl",
                column.name,
                self.rows + 1
            );
            return Err(Error::permanent("text_too_long", message));
        }
        if self.rows < SAMPLE {
            let longest_line = self.text.lines().map(|line| line.chars().count()).max();
            let width = &mut self.widths[usize::from(at)];
            *width = (*width).max(longest_line.unwrap_or(0).saturating_add(1).min(60));
        }
        self.sheet.write_string(self.next, at, &self.text).map(drop).map_err(xlsx_error)
    }
}

impl Encoder for Xlsx {
    fn row(&mut self, row: &[Value]) -> Result<()> {
        if self.next >= self.layout.rows_per_sheet {
            let next = self.book.new_worksheet_with_constant_memory().map_err(xlsx_error)?;
            let full = std::mem::replace(&mut self.sheet, next);
            self.end_sheet(full)?;
            self.write_header()?;
        }
        for (at, value) in (0..).zip(row) {
            self.cell(at, value)?;
        }
        self.next += 1;
        self.rows += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let last = std::mem::replace(&mut self.sheet, Worksheet::new());
        self.end_sheet(last)?;
        self.book.save_to_writer(&mut self.to).map_err(xlsx_error)?;
        std::io::Write::flush(&mut self.to).map_err(io_error)
    }
}

fn number_cell(
    sheet: &mut Worksheet,
    row: u32,
    at: u16,
    number: f64,
    format: Option<&Format>,
) -> Result<()> {
    match format {
        Some(format) => sheet.write_number_with_format(row, at, number, format),
        None => sheet.write_number(row, at, number),
    }
    .map(drop)
    .map_err(xlsx_error)
}

fn date_cell(
    sheet: &mut Worksheet,
    row: u32,
    at: u16,
    date: impl IntoExcelDateTime,
    format: &Format,
) -> Result<()> {
    sheet.write_datetime_with_format(row, at, date, format).map(drop).map_err(xlsx_error)
}

fn is_excel_date(day: NaiveDate) -> bool {
    (1900..=9999).contains(&day.year())
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

fn xlsx_error(error: XlsxError) -> Error {
    match error {
        XlsxError::IoError(error) => io_error(error),
        XlsxError::ZipError(error) => io_error(error.into()),
        XlsxError::TempFileError(folder, error) => {
            Error::io(format!("temporary file in {}", folder.display()))(error)
        }
        other => Error::permanent("xlsx", other.to_string()),
    }
}
