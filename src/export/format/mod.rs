//! The formats of tables, one file each.

mod apart;
mod archive;
mod csv;
mod deflate;
mod jsonl;
mod number_format;
mod parquet;
mod typed;
mod xlsx;

use std::io::{self, Write};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use tokio_util::sync::CancellationToken;

pub(in crate::export) use self::number_format::check_number_format;

use self::apart::Apart;
use super::value::{Cell, Column};
use crate::{
    error::{Error, Result},
    registry::OutputWriter,
};

/// Rows of one sheet that Excel can open, the header included.
pub(crate) const XLSX_ROWS: u32 = 1_048_576;

/// Of gzip, up to 9.
const GZIP: u32 = 2;
/// Of Zstandard, up to 22.
const ZSTD: i32 = 1;

/// Bytes of lines that are passed on together.
const BLOCK: usize = 64 * 1024;

/// A format that tables can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values, RFC 4180.
    Csv,
    /// An Excel workbook.
    Xlsx,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// CSV, compressed by gzip.
    CsvGz,
    /// CSV, compressed by Zstandard.
    CsvZst,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 6] =
        [Format::Csv, Format::Xlsx, Format::Jsonl, Format::Parquet, Format::CsvGz, Format::CsvZst];

    /// As it is asked for, and as file names end.
    pub fn name(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Xlsx => "xlsx",
            Format::Jsonl => "jsonl",
            Format::Parquet => "parquet",
            Format::CsvGz => "csv.gz",
            Format::CsvZst => "csv.zst",
        }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv; charset=utf-8",
            Format::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Format::Jsonl => "application/x-ndjson",
            Format::Parquet => "application/vnd.apache.parquet",
            Format::CsvGz => "application/gzip",
            Format::CsvZst => "application/zstd",
        }
    }

    /// The format of that name.
    pub fn parse(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// What an encoder needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub columns: Vec<Column>,
    pub zone: Tz,
    /// What the file says of when it was made.
    pub made_at: DateTime<Utc>,
    /// Rows of one sheet, the header included; only XLSX has sheets.
    pub rows_per_sheet: u32,
    /// Whether rows and cells of XLSX say where they are.
    pub references: bool,
    /// Whether Parquet keeps values that come again once.
    pub dictionaries: bool,
}

/// Turns rows into the bytes of a format.
pub(crate) trait Encoder {
    /// Takes the next cell of the row, which belongs to column `at`, counted from 0.
    fn cell(&mut self, at: usize, cell: Cell<'_>) -> Result<()>;

    /// Ends the row; each of its columns was given a cell.
    fn end_row(&mut self) -> Result<()>;

    /// Writes what is left.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Starts a file.
pub(crate) fn encoder(format: Format, layout: Layout, to: Sink) -> Result<Box<dyn Encoder>> {
    Ok(match format {
        Format::Csv => Box::new(csv::Csv::new(layout, to)?),
        Format::Xlsx => Box::new(xlsx::Xlsx::new(layout, to)?),
        Format::Jsonl => {
            typed::typed(layout, |layout| Ok(Box::new(jsonl::Jsonl::new(layout, to)?)))?
        }
        Format::Parquet => {
            typed::typed(layout, |layout| Ok(Box::new(parquet::Parquet::new(layout, to)?)))?
        }
        Format::CsvGz => {
            let level = flate2::Compression::new(GZIP);
            let to = flate2::write::GzEncoder::new(to, level);
            Box::new(csv::Csv::new(layout, Apart::new(to))?)
        }
        Format::CsvZst => {
            let mut to = zstd::stream::write::Encoder::new(to, ZSTD).map_err(io_error)?;
            // Zstandard has none unless it is told to.
            to.include_checksum(true).map_err(io_error)?;
            Box::new(csv::Csv::new(layout, Apart::new(to))?)
        }
    })
}

/// A writer that can say whether everything arrived.
pub(crate) trait Finish: Write {
    /// Writes what is left.
    fn finish(self) -> io::Result<()>;
}

impl Finish for Sink {
    fn finish(mut self) -> io::Result<()> {
        self.flush()
    }
}

impl Finish for flate2::write::GzEncoder<Sink> {
    fn finish(self) -> io::Result<()> {
        flate2::write::GzEncoder::finish(self)?.flush()
    }
}

impl Finish for zstd::stream::write::Encoder<'static, Sink> {
    fn finish(self) -> io::Result<()> {
        zstd::stream::write::Encoder::finish(self)?.flush()
    }
}

impl<W: Finish + Send + 'static> Finish for Apart<W> {
    fn finish(self) -> io::Result<()> {
        self.into_inner()?.finish()
    }
}

/// Where encoders write: fails as soon as the work was cancelled, however far the encoder is.
///
/// It says so once. Writers that close what they have begun when they are dropped, as zip does,
/// then write to nobody.
pub(crate) struct Sink {
    to: OutputWriter,
    cancelled: CancellationToken,
    is_broken: bool,
}

impl Sink {
    pub(crate) fn new(to: OutputWriter, cancelled: CancellationToken) -> Self {
        Sink { to, cancelled, is_broken: false }
    }

    fn look(&self) -> io::Result<()> {
        // Not `Interrupted`, which means "try again".
        if self.cancelled.is_cancelled() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_broken {
            return Ok(bytes.len());
        }
        let written = self.look().and_then(|()| self.to.write(bytes));
        self.is_broken = written.is_err();
        written
    }

    /// Fails if anything has failed before.
    fn flush(&mut self) -> io::Result<()> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.look()?;
        self.to.flush()
    }
}

/// A cell that is not of its column's type: where, and what to do.
fn misfit(code: &'static str, column: &Column, row: u64, cell: Cell<'_>, fits: &str) -> Error {
    let name = &column.name;
    let text = cell.to_value().to_text(Tz::UTC);
    let text: String = text.chars().take(40).collect();
    let message = format!(
        "column {name:?}, row {row}: {text:?} does not fit into {fits}; let the query cast it, set \
         type = \"text\" under [columns.{name}], or ask for another format"
    );
    Error::permanent(code, message)
}

/// The only thing that fails in a [`Sink`] is its reader; everything else is a disk of ours.
fn io_error(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Error::OutputClosed
    } else {
        Error::io("writing a table")(error)
    }
}
