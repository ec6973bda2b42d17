//! Rows of a query without values, by `COPY … TO STDOUT` in binary: the same bytes as in rows,
//! with less around them.

use bytes::Bytes;
use futures::TryStreamExt;

use super::{
    plan::{Plan, Scratch},
    session::Session,
};
use crate::{
    error::{Error, Result},
    export::table::{Feeder, Rows, Table},
};

/// What the data begin with; eleven bytes (PostgreSQL, "COPY", binary format).
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, and the length of an extension that nobody has made yet.
const HEADER: usize = SIGNATURE.len() + 8;

pub(super) async fn fetch(
    mut session: Session,
    query: &str,
    plan: Plan,
    table: impl FnOnce() -> Result<Table>,
) -> Result<()> {
    let sql = format!("COPY (\n{query}\n) TO STDOUT (FORMAT binary)");
    let explain = session.explainer(&sql);
    let mut messages = session.conn()?.copy_out_raw(&sql).await.map_err(&explain)?;
    let (mut text, mut has_begun) = (Scratch::default(), false);
    let mut feeder = Feeder::new(table()?, move |message: Bytes, rows| {
        let mut bytes: &[u8] = &message;
        if !has_begun {
            bytes = bytes.get(HEADER..).filter(|_| bytes.starts_with(SIGNATURE)).ok_or_else(odd)?;
            has_begun = true;
        }
        feed(&plan, bytes, &mut text, rows)
    });
    // A message is a row.
    let mut came = 0;
    while let Some(message) = messages.try_next().await.map_err(|e| explain(e).after_rows(came))? {
        came += 1;
        let bytes = message.len();
        feeder.push(message, bytes).await?;
    }
    drop(messages);
    session.end().await?;
    feeder.finish().await
}

/// The rows in a message: one, but nothing depends on it.
fn feed(plan: &Plan, mut bytes: &[u8], text: &mut Scratch, rows: &mut Rows) -> Result<()> {
    while let Some((count, rest)) = bytes.split_first_chunk() {
        bytes = rest;
        match i16::from_be_bytes(*count) {
            // The end.
            -1 => return Ok(()),
            count if usize::try_from(count) == Ok(plan.shape.len()) => {}
            _ => return Err(odd()),
        }
        let row = rows.done() + 1;
        for at in 0..plan.shape.len() {
            let (length, rest) = bytes.split_first_chunk().ok_or_else(odd)?;
            bytes = rest;
            let cell = match usize::try_from(i32::from_be_bytes(*length)) {
                Ok(length) => {
                    let (cell, rest) = bytes.split_at_checked(length).ok_or_else(odd)?;
                    bytes = rest;
                    Some(cell)
                }
                // -1 is NULL.
                Err(_) => None,
            };
            rows.cell(plan.cell(at, row, cell, text)?)?;
        }
        rows.end()?;
    }
    Ok(())
}

fn odd() -> Error {
    Error::Internal("PostgreSQL sent something that is no binary copy".into())
}
