//! SQLite: connections that cannot write, and a progress handler as the statement timeout.
//!
//! SQLite types values, not columns. What a column is comes from the definition, else from the
//! type that its table declares; a value that does not fit that stays what SQLite stores.

mod decode;
mod file;

use std::time::Duration;

use rusqlite::{Connection, Statement, types::ValueRef};
use serde_json::json;

use self::decode::Read;
use self::file::MOMENTS;
pub use self::file::SqliteFile;
use super::{check_names, check_size, column, explain::locate, fault};
use crate::{
    error::{Error, QueryFault, Result},
    export::{
        criteria::{Given, Type, Typed},
        definition::Definition,
        table::{Rows, Table},
        value::Column,
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
    file: &SqliteFile,
    definition: &Definition,
    language: &str,
) -> Result<Vec<Column>> {
    let (sql, _) = rewritten(definition)?;
    let (definition, language) = (definition.clone(), language.to_owned());
    file.run(DESCRIBE, move |conn| {
        let refused = |error| explain(&definition, error, Phase::Preparing);
        let plan = Plan::make(&conn.prepare(&sql).map_err(refused)?, &definition, &language)?;
        // What changes data is a syntax error there.
        conn.prepare(&format!("SELECT * FROM (\n{sql}\n)")).map_err(refused)?;
        Ok(plan.columns)
    })
    .await
}

pub(super) async fn count(
    file: &SqliteFile,
    definition: &Definition,
    given: &[Given],
    most: i64,
    timeout: Duration,
) -> Result<i64> {
    let (inner, names) = rewritten(definition)?;
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM (\n{inner}\n) LIMIT {most})");
    let (values, definition) = (bound(&names, given), definition.clone());
    file.run(timeout, move |conn| {
        let refused = |error| explain(&definition, error, Phase::Preparing);
        let mut statement = conn.prepare(&sql).map_err(refused)?;
        let count = statement.query_row(rusqlite::params_from_iter(values), |row| row.get(0));
        count.map_err(|error| explain(&definition, error, Phase::Running))
    })
    .await
}

pub(super) async fn write(
    file: &SqliteFile,
    definition: &Definition,
    given: &[Given],
    job: &Job,
    out: Output,
) -> Result<()> {
    let (sql, names) = rewritten(definition)?;
    let values = bound(&names, given);
    let (job, timeout) = (job.clone(), definition.timeout);
    let definition = definition.clone();
    let write = move |conn: &Connection| {
        let refused = |error| explain(&definition, error, Phase::Preparing);
        let mut statement = conn.prepare(&sql).map_err(refused)?;
        let Plan { columns, reads } = Plan::make(&statement, &definition, &job.language)?;
        let table = Table::declared(out, &job, columns, &definition)?;
        table.write(|rows| {
            let mut found = statement.query(rusqlite::params_from_iter(values))?;
            let mut text = String::new();
            let failed = |error| explain(&definition, error, Phase::Running);
            while let Some(row) = found.next().map_err(|e| failed(e).after_rows(rows.done()))? {
                feed(&reads, row, &mut text, rows)?;
            }
            Ok(())
        })
    };
    file.run(timeout, write).await
}

impl Plan {
    fn make(statement: &Statement<'_>, definition: &Definition, language: &str) -> Result<Plan> {
        let found = statement.columns();
        check_names(definition, found.iter().map(|c| c.name()))?;
        let mut plan = Plan { columns: Vec::new(), reads: Vec::new() };
        for one in found {
            let settings = definition.columns.get(one.name());
            let read = match settings.and_then(|settings| settings.kind) {
                Some(kind) => Read::of_setting(kind),
                // Empty for what is computed.
                None => Read::of_declaration(one.decl_type().unwrap_or_default()),
            };
            let column = column(definition, language, one.name(), read.kind());
            plan.columns.push(Column {
                likely: read.likely(),
                digits: column.digits.or_else(|| one.decl_type().and_then(decode::digits)),
                ..column
            });
            plan.reads.push(read);
        }
        Ok(plan)
    }
}

/// What SQLite is at. It says whether a statement is right before it runs.
enum Phase {
    Preparing,
    Running,
}

/// What an error of SQLite means in terms of the definition. An interruption is for who caused it.
fn explain(definition: &Definition, error: rusqlite::Error, phase: Phase) -> Error {
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) {
        return error.into();
    }
    match QueryFault::sqlite(&error, matches!(phase, Phase::Running)) {
        Some(fault) => locate(
            definition,
            Error::Query(Box::new(fault)),
            &[&|name, n| placeholder(definition, name, n)],
        ),
        None => error.into(),
    }
}

/// The definition's query with SQLite's numbered parameters.
fn rewritten(definition: &Definition) -> Result<(String, Vec<&str>)> {
    if let Some(parameter) = definition.query.sqlite_parameter() {
        let message = format!("SQLite takes {parameter:?} for a parameter; use :name");
        return Err(fault(definition, message));
    }
    Ok(definition.query.rewrite(|name, n| placeholder(definition, name, n)))
}

fn placeholder(definition: &Definition, name: &str, n: usize) -> String {
    let criterion = definition.criteria.0.iter().find(|one| one.name == name);
    match criterion {
        Some(one) if one.kind == Type::Decimal && !one.list => format!("CAST(?{n} AS NUMERIC)"),
        Some(one) if one.kind == Type::DateTime && !one.list => format!("(?{n} COLLATE {MOMENTS})"),
        _ => format!("?{n}"),
    }
}

/// The value of each parameter.
fn bound(names: &[&str], given: &[Given]) -> Vec<rusqlite::types::Value> {
    let value = |name: &&str| {
        let one = given.iter().find(|one| one.name == *name);
        let values = one.map(|one| one.values.as_slice()).unwrap_or_default();
        match (values, one.is_some_and(|one| one.list)) {
            ([], _) => rusqlite::types::Value::Null,
            (values, true) => json_list(values).into(),
            ([Typed::Integer(number), ..], false) => (*number).into(),
            ([Typed::Boolean(flag), ..], false) => i64::from(*flag).into(),
            ([value, ..], false) => text(value).into(),
        }
    };
    names.iter().map(value).collect()
}

/// A moment as SQLite's own functions write it, in UTC: what they take, and what a column that they
/// filled compares with.
fn text(value: &Typed) -> String {
    match value {
        Typed::DateTime(at, _) => at.format("%Y-%m-%d %H:%M:%S%.f").to_string(),
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

/// One row, cell by cell.
fn feed(reads: &[Read], row: &rusqlite::Row<'_>, text: &mut String, rows: &mut Rows) -> Result<()> {
    for (at, read) in reads.iter().enumerate() {
        let value = row.get_ref(at)?;
        if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = value {
            let name = row.as_ref().column_name(at).unwrap_or_default();
            check_size(bytes.len(), name, rows.done() + 1)?;
        }
        let cell = read.cell(value, text).map_err(|why| {
            let name = row.as_ref().column_name(at).unwrap_or_default().to_owned();
            let message = format!("column {name:?}, row {}: {why}", rows.done() + 1);
            Error::permanent("unreadable_value", message)
        })?;
        rows.cell(cell)?;
    }
    rows.end()
}
