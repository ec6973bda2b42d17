//! The formats of tables, one file each.

mod csv;
mod jsonl;
mod xlsx;

use std::io::{self, Write};

use chrono_tz::Tz;
use tokio_util::sync::CancellationToken;

use super::value::{Column, Value};
use crate::{
    error::{Error, Result},
    registry::OutputWriter,
};

/// Rows of one sheet that Excel can open, the header included.
pub(crate) const XLSX_ROWS: u32 = 1_048_576;

/// A format that tables can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values, RFC 4180.
    Csv,
    /// An Excel workbook.
    Xlsx,
    /// One JSON object a line.
    Jsonl,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 3] = [Format::Csv, Format::Xlsx, Format::Jsonl];

    /// As it is asked for, and as file names end.
    pub fn name(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Xlsx => "xlsx",
            Format::Jsonl => "jsonl",
        }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Csv => "text/csv; charset=utf-8",
            Format::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Format::Jsonl => "application/x-ndjson",
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
    /// Rows of one sheet, the header included; only XLSX has sheets.
    pub rows_per_sheet: u32,
}

/// Turns rows into the bytes of a format.
pub(crate) trait Encoder {
    /// Takes the next row: as many values as there are columns.
    fn row(&mut self, row: &[Value]) -> Result<()>;

    /// Writes what is left.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// Starts a file.
pub(crate) fn encoder(format: Format, layout: Layout, to: Sink) -> Result<Box<dyn Encoder>> {
    Ok(match format {
        Format::Csv => Box::new(csv::Csv::new(layout, to)?),
        Format::Xlsx => Box::new(xlsx::Xlsx::new(layout, to)?),
        Format::Jsonl => Box::new(jsonl::Jsonl::new(layout, to)?),
    })
}

/// Where encoders write: fails as soon as the work was cancelled, however far the encoder is.
pub(crate) struct Sink {
    to: OutputWriter,
    cancelled: CancellationToken,
}

impl Sink {
    pub(crate) fn new(to: OutputWriter, cancelled: CancellationToken) -> Self {
        Sink { to, cancelled }
    }

    fn look(&self) -> io::Result<()> {
        // Not `Interrupted`, which means "try again".
        if self.cancelled.is_cancelled() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.look()?;
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.look()?;
        self.to.flush()
    }
}

/// The only thing that fails in a [`Sink`] is its reader; everything else is a disk of ours.
fn io_error(error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Error::OutputClosed
    } else {
        Error::io("writing a table")(error)
    }
}
