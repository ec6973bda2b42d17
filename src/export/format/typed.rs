//! Formats whose columns have one type from the first row to the last.
//!
//! Where nobody has declared a type, the first [`SAMPLE`] rows decide.

use super::{Encoder, Layout};
use crate::{
    error::{Error, Result},
    export::value::{Cell, Kind, Value},
};

/// Rows that are looked at for the types of columns that nobody has declared.
const SAMPLE: usize = 1_000;
/// Bytes of them; rows may be long.
const SAMPLE_BYTES: usize = 8 * 1024 * 1024;

/// An encoder that begins once the kind of every column is known.
pub(super) fn typed(
    layout: Layout,
    begin: impl FnOnce(Layout) -> Result<Box<dyn Encoder>> + 'static,
) -> Result<Box<dyn Encoder>> {
    if layout.columns.iter().all(|column| column.kind.is_some()) {
        return begin(layout);
    }
    let sample = Sample { layout, rows: Vec::new(), row: Vec::new(), bytes: 0 };
    Ok(Box::new(Typed::Sampling(sample, begin)))
}

enum Typed<B> {
    /// Until the kinds are known.
    Sampling(Sample, B),
    Writing(Box<dyn Encoder>),
    /// In the midst of a change.
    Gone,
}

/// The first rows.
struct Sample {
    layout: Layout,
    rows: Vec<Vec<Value>>,
    row: Vec<Value>,
    bytes: usize,
}

impl<B: FnOnce(Layout) -> Result<Box<dyn Encoder>>> Typed<B> {
    /// Decides about the kinds and writes what was looked at.
    fn begin(&mut self) -> Result<()> {
        let (Sample { mut layout, rows, .. }, begin) = match std::mem::replace(self, Typed::Gone) {
            Typed::Sampling(sample, begin) => (sample, begin),
            other => {
                *self = other;
                return Ok(());
            }
        };
        for (at, column) in layout.columns.iter_mut().enumerate() {
            let seen = || common(rows.iter().map(|row| &row[at]));
            column.kind = column.kind.or_else(seen).or(column.likely).or(Some(Kind::Text));
        }
        let mut encoder = begin(layout)?;
        for row in rows {
            for (at, value) in row.iter().enumerate() {
                encoder.cell(at, value.cell())?;
            }
            encoder.end_row()?;
        }
        *self = Typed::Writing(encoder);
        Ok(())
    }
}

impl<B: FnOnce(Layout) -> Result<Box<dyn Encoder>>> Encoder for Typed<B> {
    fn cell(&mut self, at: usize, cell: Cell<'_>) -> Result<()> {
        match self {
            Typed::Sampling(sample, _) => {
                let value = cell.to_value();
                sample.bytes += value.weight();
                sample.row.push(value);
                Ok(())
            }
            Typed::Writing(encoder) => encoder.cell(at, cell),
            Typed::Gone => Err(Error::OutputClosed),
        }
    }

    fn end_row(&mut self) -> Result<()> {
        match self {
            Typed::Sampling(sample, _) => {
                sample.rows.push(std::mem::take(&mut sample.row));
                if sample.rows.len() >= SAMPLE || sample.bytes >= SAMPLE_BYTES {
                    self.begin()?;
                }
                Ok(())
            }
            Typed::Writing(encoder) => encoder.end_row(),
            Typed::Gone => Err(Error::OutputClosed),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.begin()?;
        match *self {
            Typed::Writing(encoder) => encoder.finish(),
            Typed::Sampling(..) | Typed::Gone => Err(Error::OutputClosed),
        }
    }
}

/// The kind that all values have, or that can hold them all.
fn common<'v>(mut values: impl Iterator<Item = &'v Value>) -> Option<Kind> {
    values
        .try_fold(None, |known, value| match (known, value.kind()) {
            (known, None) => Ok(known),
            (None, kind) => Ok(kind),
            (Some(known), Some(kind)) if known == kind => Ok(Some(known)),
            (Some(Kind::Integer | Kind::Float), Some(Kind::Integer | Kind::Float)) => {
                Ok(Some(Kind::Float))
            }
            (Some(Kind::Integer | Kind::Decimal), Some(Kind::Integer | Kind::Decimal)) => {
                Ok(Some(Kind::Decimal))
            }
            _ => Err(()),
        })
        .unwrap_or(Some(Kind::Text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_tells_the_kind() {
        let kind = |values: &[Value]| common(values.iter());
        assert_eq!(kind(&[Value::Null, Value::Int(1)]), Some(Kind::Integer));
        assert_eq!(kind(&[Value::Int(1), Value::Float(0.5), Value::Int(2)]), Some(Kind::Float));
        assert_eq!(kind(&[Value::Int(1), Value::Text("x".into())]), Some(Kind::Text));
        assert_eq!(kind(&[Value::Decimal("1.5".into()), Value::Int(1)]), Some(Kind::Decimal));
        assert_eq!(kind(&[Value::Null]), None);
    }
}
