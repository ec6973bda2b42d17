//! SQLite: connections that cannot write, and a progress handler as the statement timeout.
//!
//! SQLite types values, not columns. What a column is comes from the definition, else from the
//! type that its table declares; a value that does not fit that stays what SQLite stores.

mod decode;
mod session;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures::TryStreamExt;
use serde_json::json;
use sqlx::{
    AssertSqlSafe, Column as _, Executor, Row, SqlSafeStr, Sqlite, SqlitePool, Statement,
    query::Query,
    sqlite::{SqliteArguments, SqliteColumn, SqliteRow},
};

use self::{decode::Read, session::Session};
use super::{check_names, column, fault};
use crate::{
    error::{Error, Result},
    export::{
        criteria::{Given, Type, Typed},
        definition::Definition,
        table::TableWriter,
        value::{Column, Value},
    },
    registry::{Job, Output},
};

/// What it may take to describe a query.
const DESCRIBE: Duration = Duration::from_secs(30);

/// How each column is read.
struct Plan {
    columns: Vec<Column>,
    reads: Vec<Read>,
}

pub(super) async fn describe(
    pool: &SqlitePool,
    definition: &Definition,
    language: &str,
) -> Result<Vec<Column>> {
    let mut session = Session::begin(pool, DESCRIBE).await?;
    let plan = plan(&mut session, definition, language).await?;
    // What changes data is a syntax error there.
    let (inner, _) = rewritten(definition)?;
    let sql = AssertSqlSafe(never_cached(format!("SELECT * FROM (\n{inner}\n)"))).into_sql_str();
    let prepared = session.conn()?.prepare(sql).await.map(drop);
    prepared.map_err(|e| session.explain(e))?;
    session.end().await?;
    Ok(plan.columns)
}

pub(super) async fn count(
    pool: &SqlitePool,
    definition: &Definition,
    given: &[Given],
    most: i64,
    timeout: Duration,
) -> Result<i64> {
    let mut session = Session::begin(pool, timeout).await?;
    let (inner, names) = rewritten(definition)?;
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM (\n{inner}\n) LIMIT {most})");
    let row = bound(sql, &names, given).fetch_one(session.conn()?).await;
    let count = row.and_then(|row| row.try_get(0)).map_err(|e| session.explain(e))?;
    session.end().await?;
    Ok(count)
}

pub(super) async fn write(
    pool: &SqlitePool,
    definition: &Definition,
    given: &[Given],
    job: &Job,
    out: Output,
) -> Result<()> {
    let mut session = Session::begin(pool, definition.timeout).await?;
    let Plan { columns, reads } = plan(&mut session, definition, &job.language).await?;
    let mut table = TableWriter::new(out, job, columns)?.with_max_rows(definition.max_rows);
    let (sql, names) = rewritten(definition)?;
    let explain = session.explainer();
    let mut rows = bound(sql, &names, given).fetch(session.conn()?);
    while let Some(row) = rows.try_next().await.map_err(&explain)? {
        let values = read(&reads, &row, table.rows() + 1)?;
        table.row(values).await?;
    }
    drop(rows);
    session.end().await?;
    table.finish().await
}

async fn plan(session: &mut Session, definition: &Definition, language: &str) -> Result<Plan> {
    let (sql, _) = rewritten(definition)?;
    let sql = AssertSqlSafe(never_cached(sql)).into_sql_str();
    let prepared = session.conn()?.prepare(sql).await;
    let statement = prepared.map_err(|e| session.explain(e))?;
    let found = statement.columns();
    check_names(definition, found.iter().map(|c| c.name()))?;
    let mut plan = Plan { columns: Vec::new(), reads: Vec::new() };
    for one in found {
        let settings = definition.columns.get(one.name()).and_then(|settings| settings.kind);
        let read = match settings {
            Some(kind) => Read::of_setting(kind),
            None => Read::of_declaration(&declared_type(session, one).await?),
        };
        plan.columns.push(column(definition, language, one.name(), read.kind()));
        plan.reads.push(read);
    }
    Ok(plan)
}

/// The same statement in a text that never came before. sqlx keeps what it has learnt of a
/// statement by its text, for as long as the connection lives, and a migration may change the
/// columns meanwhile.
fn never_cached(sql: String) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("/* {} */ {sql}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The type that a column's table declares for it; empty for what is computed. sqlx knows it only
/// as one of its own types, which have no DECIMAL and no JSON.
async fn declared_type(session: &mut Session, column: &SqliteColumn) -> Result<String> {
    let origin = column.origin();
    let Some(origin) = origin.table_column() else { return Ok(String::new()) };
    let declared: Option<String> =
        sqlx::query_scalar("SELECT type FROM pragma_table_xinfo($1) WHERE name = $2")
            .bind(origin.table.to_string())
            .bind(origin.name.to_string())
            .fetch_optional(session.conn()?)
            .await?;
    Ok(declared.unwrap_or_default())
}

/// The definition's query with SQLite's numbered parameters.
fn rewritten(definition: &Definition) -> Result<(String, Vec<&str>)> {
    if let Some(parameter) = definition.query.sqlite_parameter() {
        let message = format!("SQLite takes {parameter:?} for a parameter; use :name");
        return Err(fault(definition, message));
    }
    Ok(definition.query.rewrite(|name, n| {
        let criterion = definition.criteria.0.iter().find(|one| one.name == name);
        match criterion {
            Some(one) if one.kind == Type::Decimal && !one.list => {
                format!("CAST(?{n} AS NUMERIC)")
            }
            _ => format!("?{n}"),
        }
    }))
}

fn bound<'q>(sql: String, names: &[&str], given: &[Given]) -> Query<'q, Sqlite, SqliteArguments> {
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    for name in names {
        let one = given.iter().find(|one| one.name == *name);
        let values = one.map(|one| one.values.as_slice()).unwrap_or_default();
        query = match (values, one.is_some_and(|one| one.list)) {
            ([], _) => query.bind(None::<String>),
            (values, true) => query.bind(json_list(values)),
            ([Typed::Integer(number), ..], false) => query.bind(*number),
            ([Typed::Boolean(flag), ..], false) => query.bind(i64::from(*flag)),
            ([value, ..], false) => query.bind(text(value)),
        };
    }
    query
}

/// As sqlx writes such values to SQLite.
fn text(value: &Typed) -> String {
    match value {
        Typed::DateTime(at, _) => at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, false),
        other => other.canonical(),
    }
}

/// For `json_each(:name)`.
fn json_list(values: &[Typed]) -> String {
    let items: Vec<String> = values
        .iter()
        .map(|value| match value {
            Typed::Integer(_) | Typed::Decimal(_) => value.canonical(),
            Typed::Boolean(flag) => i64::from(*flag).to_string(),
            other => json!(text(other)).to_string(),
        })
        .collect();
    format!("[{}]", items.join(","))
}

fn read(reads: &[Read], row: &SqliteRow, number: u64) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(reads.len());
    for (at, read) in reads.iter().enumerate() {
        values.push(read.value(row.try_get_raw(at)?).map_err(|why| {
            let name = row.columns().get(at).map_or("", |column| column.name());
            let message = format!("column {name:?}, row {number}: {why}");
            Error::permanent("unreadable_value", message)
        })?);
    }
    Ok(values)
}
