//! PostgreSQL: a READ ONLY transaction, a statement timeout, and every type.
//!
//! The query is wrapped: `SELECT q."a", to_json(q."b")::text, q."c"::text FROM (…) AS q`, so that
//! each column arrives in a form that we can read: as it is (numbers, text, dates, bytes …), as
//! JSON (arrays, composite types) or as PostgreSQL's own text (intervals, addresses, ranges, and
//! what nobody has thought of yet). The wrapping also makes a statement that changes data a syntax
//! error.

mod copy;
mod decode;
mod numeric;
mod plan;
mod rows;
mod session;
mod source;

use std::time::Duration;

use sqlx::{AssertSqlSafe, Postgres, Row, postgres::PgArguments, query::Query};

pub use self::source::PostgresSource;
use self::{plan::Plan, session::Session};
use crate::{
    error::{Error, Result},
    export::{
        criteria::{Given, Type},
        definition::Definition,
        format::Format,
        table::Table,
        value::Column,
    },
    registry::{Job, Output},
};

/// What it may take to describe a query.
const DESCRIBE: Duration = Duration::from_secs(30);

pub(super) async fn describe(
    source: &PostgresSource,
    definition: &Definition,
    language: &str,
) -> Result<Vec<Column>> {
    let query = without_values(definition);
    let (session, plan) = Plan::make(source, DESCRIBE, definition, &query, language).await?;
    session.end().await?;
    Ok(plan.columns)
}

pub(super) async fn count(
    source: &PostgresSource,
    definition: &Definition,
    given: &[Given],
    most: i64,
    timeout: Duration,
) -> Result<i64> {
    let mut session = Session::begin(source, timeout).await?;
    let (inner, names) = rewritten(definition, |n| format!("${n}"));
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM (\n{inner}\n) AS q LIMIT {most}) AS c");
    let row = bound(sql, &names, given).fetch_one(session.conn()?).await;
    let count = row.and_then(|row| row.try_get(0)).map_err(|e| session.explain(e))?;
    session.end().await?;
    Ok(count)
}

/// The rows of the plan's top node, planned for these very values.
pub(super) async fn estimate(
    source: &PostgresSource,
    definition: &Definition,
    given: &[Given],
    timeout: Duration,
) -> Result<Option<u64>> {
    let mut session = Session::begin(source, timeout).await?;
    let (inner, names) = rewritten(definition, |n| format!("${n}"));
    let sql = format!("EXPLAIN (FORMAT JSON) SELECT * FROM (\n{inner}\n) AS q");
    let row = bound(sql, &names, given).fetch_one(session.conn()?).await;
    let plan: serde_json::Value =
        row.and_then(|row| row.try_get(0)).map_err(|e| session.explain(e))?;
    session.end().await?;
    // A number too large for 64 bits is read as a float, and that comes down to the largest.
    Ok(plan[0]["Plan"]["Plan Rows"].as_f64().map(|rows| rows as u64))
}

pub(super) async fn write(
    source: &PostgresSource,
    definition: &Definition,
    given: &[Given],
    job: &Job,
    out: Output,
) -> Result<()> {
    let is_given = |name: &str| given.iter().any(|one| one.name == name && !one.values.is_empty());
    let has_values = definition.query.parameters().any(|(name, _)| is_given(name));
    let (query, mut out) = (without_values(definition), Some(out));
    loop {
        let (mut session, mut plan, is_remembered) =
            source.plan(definition.timeout, definition, &query, &job.language).await?;
        if job.request.format == Format::Parquet.name() {
            plan.ask_for_digits(&mut session).await?;
        }
        let (columns, shape) = (std::mem::take(&mut plan.columns), plan.shape.clone());
        // Made once the database has begun to answer.
        let table = || {
            let out = out.take().ok_or(Error::OutputClosed)?;
            Ok(Table::new(out, job, columns)?.with_max_rows(definition.max_rows))
        };
        let done = if has_values {
            // Bound, so that PostgreSQL plans for these very values.
            let (inner, names) = rewritten(definition, |n| format!("${n}"));
            let bound = bound(plan.wrap(&inner), &names, given);
            rows::fetch(session, bound, plan, table).await
        } else if is_remembered {
            // It comes again and again: it stays prepared, and PostgreSQL tells when it has changed.
            let prepared = sqlx::query(AssertSqlSafe(plan.wrap(&query)));
            rows::fetch(session, prepared, plan, table).await
        } else {
            // COPY takes no values, and costs less by the row.
            let wrapped = plan.wrap(&query);
            copy::fetch(session, &wrapped, plan, table).await
        };
        return match done {
            // Nothing was written, and the columns may not be what they were.
            Err(Error::Database(_)) if is_remembered && out.is_some() => {
                source.forget(&query);
                continue;
            }
            Ok(()) if !is_remembered => {
                source.remember(query, shape, job.progress.rows().unwrap_or(u64::MAX));
                Ok(())
            }
            done => done,
        };
    }
}

fn without_values(definition: &Definition) -> String {
    rewritten(definition, |_| "NULL".to_owned()).0
}

/// The definition's query with `value(n)` for each parameter, cast to its type. Every value is sent
/// as text, so that what PostgreSQL infers of a parameter never depends on what happens to be
/// given.
fn rewritten(definition: &Definition, value: impl Fn(usize) -> String) -> (String, Vec<&str>) {
    definition.query.rewrite(|name, n| {
        let criterion = definition.criteria.0.iter().find(|one| one.name == name);
        let (kind, value) = (criterion.map_or("text", |one| type_name(one.kind)), value(n));
        match criterion {
            Some(one) if one.list => format!("CAST({value}::text[] AS {kind}[])"),
            _ => format!("CAST({value}::text AS {kind})"),
        }
    })
}

fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::Text | Type::Choice => "text",
        Type::Integer => "bigint",
        Type::Decimal => "numeric",
        Type::Date => "date",
        Type::DateTime => "timestamptz",
        Type::Boolean => "boolean",
        Type::Uuid => "uuid",
    }
}

/// The statement with its values. It is not kept prepared: nothing says that it comes again.
fn bound<'q>(sql: String, names: &[&str], given: &[Given]) -> Query<'q, Postgres, PgArguments> {
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    for name in names {
        let one = given.iter().find(|one| one.name == *name);
        let texts: Option<Vec<String>> = one
            .filter(|one| !one.values.is_empty())
            .map(|one| one.values.iter().map(|value| value.in_utc().canonical()).collect());
        query = if one.is_some_and(|one| one.list) {
            query.bind(texts)
        } else {
            query.bind(texts.and_then(|texts| texts.into_iter().next()))
        };
    }
    query
}
