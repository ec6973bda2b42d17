//! Rows of a query with values.

use futures::TryStreamExt;
use sqlx::{
    Postgres, Row, ValueRef,
    postgres::{PgArguments, PgRow, PgValueFormat},
    query::Query,
};

use super::{plan::Plan, session::Session};
use crate::{
    error::{Error, Result},
    export::table::{Feeder, Rows, Table},
};

pub(super) async fn fetch(
    mut session: Session,
    query: Query<'_, Postgres, PgArguments>,
    plan: Plan,
    table: Table,
) -> Result<()> {
    let mut text = String::new();
    let mut feeder =
        Feeder::start(table, move |row: PgRow, rows| feed(&plan, &row, &mut text, rows));
    let explain = session.explainer();
    let mut rows = query.fetch(session.conn()?);
    while let Some(row) = rows.try_next().await.map_err(&explain)? {
        let bytes = weight(&row);
        feeder.push(row, bytes).await?;
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
fn feed(plan: &Plan, row: &PgRow, text: &mut String, rows: &mut Rows) -> Result<()> {
    for at in 0..plan.reads.len() {
        let raw = row.try_get_raw(at)?;
        let bytes = match raw.format() {
            _ if raw.is_null() => None,
            PgValueFormat::Binary => Some(raw.as_bytes().map_err(sqlx::Error::Decode)?),
            PgValueFormat::Text => {
                return Err(Error::Internal("text came where binary was asked for".into()));
            }
        };
        rows.cell(plan.cell(at, bytes, text)?)?;
    }
    rows.end()
}
