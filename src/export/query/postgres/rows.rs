//! Rows of a query with values, or of a small one that comes again and again.

use futures::TryStreamExt;
use sqlx::{
    Postgres, Row, ValueRef,
    postgres::{PgArguments, PgRow, PgValueFormat},
    query::Query,
};

use super::{
    plan::{Plan, Scratch},
    session::Session,
};
use crate::{
    error::{Error, Result},
    export::table::{Feeder, Rows, Table},
};

/// Fetches by `query`, whose text is `sql`.
pub(super) async fn fetch(
    mut session: Session,
    sql: &str,
    query: Query<'_, Postgres, PgArguments>,
    plan: Plan,
    table: impl FnOnce() -> Result<Table>,
) -> Result<()> {
    let explain = session.explainer(sql);
    let mut rows = query.fetch(session.conn()?);
    let mut next = rows.try_next().await.map_err(&explain)?;
    if next.as_ref().is_some_and(|row| !plan.fits(row)) {
        let message = "the columns of the query are not what they were";
        return Err(sqlx::Error::Protocol(message.into()).into());
    }
    let mut text = Scratch::default();
    let mut feeder =
        Feeder::new(table()?, move |row: PgRow, rows| feed(&plan, &row, &mut text, rows));
    let mut came = 0;
    while let Some(row) = next {
        came += 1;
        let bytes = weight(&row);
        feeder.push(row, bytes).await?;
        next = rows.try_next().await.map_err(|e| explain(e).after_rows(came))?;
    }
    drop(rows);
    session.end().await?;
    feeder.finish().await
}

/// How many bytes its cells are.
fn weight(row: &PgRow) -> usize {
    let bytes = |at| row.try_get_raw(at).ok()?.as_bytes().ok().map(<[u8]>::len);
    (0..row.len()).filter_map(bytes).sum()
}

/// One row, cell by cell.
fn feed(plan: &Plan, row: &PgRow, text: &mut Scratch, rows: &mut Rows) -> Result<()> {
    let number = rows.done() + 1;
    for at in 0..plan.shape.len() {
        let raw = row.try_get_raw(at)?;
        let bytes = match raw.format() {
            _ if raw.is_null() => None,
            PgValueFormat::Binary => Some(raw.as_bytes().map_err(sqlx::Error::Decode)?),
            PgValueFormat::Text => {
                return Err(Error::Internal("text came where binary was asked for".into()));
            }
        };
        rows.cell(plan.cell(at, number, bytes, text)?)?;
    }
    rows.end()
}
