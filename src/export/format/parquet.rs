//! Apache Parquet: typed columns, snappy, row groups bounded by their bytes.
//!
//! | cells | column |
//! |---|---|
//! | booleans, integers, floats | `BOOLEAN`, `INT64`, `DOUBLE` |
//! | decimals of a declared precision (`numeric(12, 2)`) | `DECIMAL(12, 2)` |
//! | decimals without | `STRING`, as no number type holds all of them |
//! | dates, times | `DATE`, `TIME(MICROS)` |
//! | moments | `TIMESTAMP(MICROS, isAdjustedToUTC = true)` |
//! | date and time without zone | `TIMESTAMP(MICROS, isAdjustedToUTC = false)` |
//! | bytes | `BYTE_ARRAY` |
//! | text, JSON, UUIDs, intervals | `STRING` |

use std::{io::Write, sync::Arc};

use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{
        BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder,
        Int64Builder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
    },
};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use chrono::{Datelike, NaiveTime, Timelike};
use chrono_tz::Tz;
use parquet::{
    arrow::ArrowWriter, basic::Compression, errors::ParquetError,
    file::properties::WriterProperties, schema::types::ColumnPath,
};

use super::{Encoder, Layout, Sink, io_error, misfit};
use crate::{
    error::{Error, Result},
    export::value::{Cell, Column, Kind},
};

/// Rows that are handed over together.
const BATCH: usize = 8_192;
/// Bytes of text that are handed over earlier.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// A row group ends at so many encoded bytes, which are all in memory until then.
const ROW_GROUP: usize = 24 * 1024 * 1024;
/// A column's dictionary is given up at this many bytes; the library's 1 MiB means to look up a
/// hundred thousand unique numbers first.
const DICTIONARY: usize = 256 * 1024;
/// Digits of the largest decimal.
const MOST_DIGITS: u8 = 38;

pub(super) struct Parquet {
    layout: Layout,
    writer: ArrowWriter<Sink>,
    schema: Arc<Schema>,
    cells: Vec<Cells>,
    /// Rows that were not passed on yet, and about how many bytes they are.
    waiting: usize,
    bytes: usize,
    /// Rows so far.
    rows: u64,
    text: Vec<u8>,
}

impl Parquet {
    /// The kind of each column is known, see [`super::typed`].
    pub(super) fn new(layout: Layout, to: Sink) -> Result<Self> {
        let columns = &layout.columns;
        let cells: Vec<Cells> = columns.iter().map(Cells::new).collect();
        let fields = columns.iter().zip(&cells);
        let fields =
            fields.map(|(column, cells)| Field::new(&column.name, cells.data_type(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_dictionary_page_size_limit(DICTIONARY);
        for (column, cells) in columns.iter().zip(&cells) {
            if !layout.dictionaries || !cells.repeat() {
                let path = ColumnPath::new(vec![column.name.clone()]);
                properties = properties.set_column_dictionary_enabled(path, false);
            }
        }
        let properties = properties.build();
        let writer =
            ArrowWriter::try_new(to, schema.clone(), Some(properties)).map_err(parquet_error)?;
        Ok(Parquet {
            layout,
            writer,
            schema,
            cells,
            waiting: 0,
            bytes: 0,
            rows: 0,
            text: Vec::new(),
        })
    }

    fn pass_on(&mut self) -> Result<()> {
        if self.waiting == 0 {
            return Ok(());
        }
        let arrays = self.cells.iter_mut().map(Cells::finish).collect();
        let batch = RecordBatch::try_new(self.schema.clone(), arrays).map_err(arrow_error)?;
        (self.waiting, self.bytes) = (0, 0);
        self.writer.write(&batch).map_err(parquet_error)?;
        if self.writer.in_progress_size() >= ROW_GROUP {
            self.writer.flush().map_err(parquet_error)?;
        }
        Ok(())
    }
}

impl Encoder for Parquet {
    fn cell(&mut self, at: usize, cell: Cell<'_>) -> Result<()> {
        let cells = &mut self.cells[at];
        let Some(bytes) = cells.push(cell, self.layout.zone, &mut self.text) else {
            let column = &self.layout.columns[at];
            let fits = format!("a column of type {}", cells.data_type());
            return Err(misfit("parquet_type", column, self.rows + 1, cell, &fits));
        };
        self.bytes += bytes;
        Ok(())
    }

    fn end_row(&mut self) -> Result<()> {
        self.rows += 1;
        self.waiting += 1;
        if self.waiting >= BATCH || self.bytes >= BATCH_BYTES { self.pass_on() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.pass_on()?;
        self.writer.into_inner().map_err(parquet_error)?.flush().map_err(io_error)
    }
}

/// The cells of a column that were not passed on yet.
enum Cells {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    /// With its scale.
    Decimal(Decimal128Builder, u8, u8),
    Text(StringBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Moment(TimestampMicrosecondBuilder),
    Wall(TimestampMicrosecondBuilder),
    Bytes(BinaryBuilder),
}

/// How moments are kept.
const UTC: &str = "UTC";

impl Cells {
    fn new(column: &Column) -> Cells {
        match column.kind {
            Some(Kind::Bool) => Cells::Bool(BooleanBuilder::new()),
            Some(Kind::Integer) => Cells::Int(Int64Builder::new()),
            Some(Kind::Float) => Cells::Float(Float64Builder::new()),
            Some(Kind::Decimal) => match column.digits {
                Some((precision, scale)) if precision <= MOST_DIGITS && scale <= precision => {
                    let data_type = DataType::Decimal128(precision, scale.cast_signed());
                    let builder = Decimal128Builder::new().with_data_type(data_type);
                    Cells::Decimal(builder, precision, scale)
                }
                _ => Cells::Text(StringBuilder::new()),
            },
            Some(Kind::Date) => Cells::Date(Date32Builder::new()),
            Some(Kind::Time) => Cells::Time(Time64MicrosecondBuilder::new()),
            Some(Kind::DateTime) => {
                Cells::Moment(TimestampMicrosecondBuilder::new().with_timezone(UTC))
            }
            Some(Kind::NaiveDateTime) => Cells::Wall(TimestampMicrosecondBuilder::new()),
            Some(Kind::Bytes) => Cells::Bytes(BinaryBuilder::new()),
            Some(Kind::Text | Kind::Json | Kind::Uuid | Kind::Interval) | None => {
                Cells::Text(StringBuilder::new())
            }
        }
    }

    /// Whether the same values may well come again. Of what does not repeat, a dictionary is work
    /// for nothing.
    fn repeat(&self) -> bool {
        !matches!(self, Cells::Float(_) | Cells::Time(_) | Cells::Moment(_) | Cells::Wall(_))
    }

    fn data_type(&self) -> DataType {
        match self {
            Cells::Bool(_) => DataType::Boolean,
            Cells::Int(_) => DataType::Int64,
            Cells::Float(_) => DataType::Float64,
            Cells::Decimal(_, precision, scale) => {
                DataType::Decimal128(*precision, scale.cast_signed())
            }
            Cells::Text(_) => DataType::Utf8,
            Cells::Date(_) => DataType::Date32,
            Cells::Time(_) => DataType::Time64(TimeUnit::Microsecond),
            Cells::Moment(_) => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Cells::Wall(_) => DataType::Timestamp(TimeUnit::Microsecond, None),
            Cells::Bytes(_) => DataType::Binary,
        }
    }

    /// Takes a cell and says how many bytes it is; `None` when it does not fit.
    fn push(&mut self, cell: Cell<'_>, zone: Tz, text: &mut Vec<u8>) -> Option<usize> {
        match (self, cell) {
            (cells, Cell::Null) => cells.push_null(),
            (Cells::Bool(to), Cell::Bool(flag)) => to.append_value(flag),
            (Cells::Int(to), Cell::Int(number)) => to.append_value(number),
            (Cells::Float(to), Cell::Float(number)) => to.append_value(number),
            // Larger ones would be rounded.
            (Cells::Float(to), Cell::Int(number)) if number.unsigned_abs() <= 1 << 53 => {
                to.append_value(number as f64);
            }
            (Cells::Decimal(to, precision, scale), Cell::Int(number)) => {
                let digits = itoa::Buffer::new().format(number).to_owned();
                to.append_value(scaled(&digits, *precision, *scale)?);
            }
            (Cells::Decimal(to, precision, scale), Cell::Decimal(digits)) => {
                to.append_value(scaled(digits, *precision, *scale)?);
            }
            (Cells::Date(to), Cell::Date(day)) => {
                // The first day of 1970 is the 719,163rd of the calendar.
                to.append_value(day.num_days_from_ce() - 719_163);
            }
            (Cells::Time(to), Cell::Time(time)) => to.append_value(micros(time)),
            (Cells::Moment(to), Cell::DateTime(at)) => to.append_value(at.timestamp_micros()),
            (Cells::Wall(to), Cell::NaiveDateTime(at)) => {
                to.append_value(at.and_utc().timestamp_micros());
            }
            (Cells::Bytes(to), Cell::Bytes(bytes)) => {
                to.append_value(bytes);
                return Some(bytes.len());
            }
            (Cells::Text(to), Cell::Text(known) | Cell::Json(known) | Cell::Decimal(known)) => {
                to.append_value(known);
                return Some(known.len());
            }
            (Cells::Text(to), cell) => {
                text.clear();
                cell.write_text(zone, text);
                to.append_value(std::str::from_utf8(text).ok()?);
                return Some(text.len());
            }
            _ => return None,
        }
        Some(8)
    }

    fn push_null(&mut self) {
        match self {
            Cells::Bool(to) => to.append_null(),
            Cells::Int(to) => to.append_null(),
            Cells::Float(to) => to.append_null(),
            Cells::Decimal(to, ..) => to.append_null(),
            Cells::Text(to) => to.append_null(),
            Cells::Date(to) => to.append_null(),
            Cells::Time(to) => to.append_null(),
            Cells::Moment(to) | Cells::Wall(to) => to.append_null(),
            Cells::Bytes(to) => to.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Cells::Bool(from) => Arc::new(from.finish()),
            Cells::Int(from) => Arc::new(from.finish()),
            Cells::Float(from) => Arc::new(from.finish()),
            Cells::Decimal(from, ..) => Arc::new(from.finish()),
            Cells::Text(from) => Arc::new(from.finish()),
            Cells::Date(from) => Arc::new(from.finish()),
            Cells::Time(from) => Arc::new(from.finish()),
            Cells::Moment(from) | Cells::Wall(from) => Arc::new(from.finish()),
            Cells::Bytes(from) => Arc::new(from.finish()),
        }
    }
}

/// Microseconds since midnight; a leap second is its day's last.
fn micros(time: NaiveTime) -> i64 {
    let nanos = time.nanosecond().min(999_999_999);
    i64::from(time.num_seconds_from_midnight()) * 1_000_000 + i64::from(nanos / 1_000)
}

/// `12.5` with scale 2 as 1250; `None` when it has more digits than that.
fn scaled(digits: &str, precision: u8, scale: u8) -> Option<i128> {
    let (sign, unsigned) = match digits.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, digits),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let scale = usize::from(scale);
    let fraction = match fraction.split_at_checked(scale) {
        Some((kept, rest)) if rest.bytes().all(|digit| digit == b'0') => kept,
        Some(_) => return None,
        None => fraction,
    };
    let zeros = std::iter::repeat_n(b'0', scale - fraction.len());
    let mut number: i128 = 0;
    for digit in whole.bytes().chain(fraction.bytes()).chain(zeros) {
        let digit = digit.is_ascii_digit().then(|| i128::from(digit - b'0'))?;
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    (number < 10_i128.checked_pow(precision.into())?).then_some(sign * number)
}

fn parquet_error(error: ParquetError) -> Error {
    // What the sink said is kept as text only.
    match error {
        ParquetError::External(source) => match source.downcast::<std::io::Error>() {
            Ok(error) => io_error(*error),
            Err(other) => Error::Internal(format!("parquet: {other}")),
        },
        other => Error::Internal(format!("parquet: {other}")),
    }
}

fn arrow_error(error: ArrowError) -> Error {
    Error::Internal(format!("parquet: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_scaled_or_refused() {
        for (digits, expected) in [
            ("12.5", Some(1250)),
            ("-12.50", Some(-1250)),
            ("12.500", Some(1250)),
            ("0", Some(0)),
            ("99999999.99", Some(9_999_999_999)),
            ("100000000", None),
            ("12.501", None),
            ("1e5", None),
            ("NaN", None),
        ] {
            assert_eq!(scaled(digits, 10, 2), expected, "{digits}");
        }
    }
}
