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

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool, Postgres, Row, postgres::PgArguments, query::Query};

use self::{plan::Plan, session::Session};
use crate::{
    error::Result,
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
    pool: &PgPool,
    definition: &Definition,
    language: &str,
) -> Result<Vec<Column>> {
    let (session, plan) = Plan::make(pool, DESCRIBE, definition, language).await?;
    session.end().await?;
    Ok(plan.columns)
}

pub(super) async fn count(
    pool: &PgPool,
    definition: &Definition,
    given: &[Given],
    most: i64,
    timeout: Duration,
) -> Result<i64> {
    let mut session = Session::begin(pool, timeout).await?;
    let (inner, names) = rewritten(definition, |n| format!("${n}"));
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM (\n{inner}\n) AS q LIMIT {most}) AS c");
    let row = bound(sql, &names, given).fetch_one(session.conn()?).await;
    let count = row.and_then(|row| row.try_get(0)).map_err(|e| session.explain(e))?;
    session.end().await?;
    Ok(count)
}

pub(super) async fn write(
    pool: &PgPool,
    definition: &Definition,
    given: &[Given],
    job: &Job,
    out: Output,
) -> Result<()> {
    let (mut session, mut plan) =
        Plan::make(pool, definition.timeout, definition, &job.language).await?;
    if job.request.format == Format::Parquet.name() {
        plan.ask_for_digits(&mut session).await?;
    }
    let columns = std::mem::take(&mut plan.columns);
    let table = Table::new(out, job, columns)?.with_max_rows(definition.max_rows);
    let is_given = |name: &str| given.iter().any(|one| one.name == name && !one.values.is_empty());
    if definition.query.parameters().any(|(name, _)| is_given(name)) {
        // Bound, so that PostgreSQL plans for these very values.
        let (inner, names) = rewritten(definition, |n| format!("${n}"));
        let query = bound(plan.wrap(&inner), &names, given);
        rows::fetch(session, query, plan, table).await
    } else {
        // COPY takes no values, and costs less by the row.
        let (inner, _) = rewritten(definition, |_| "NULL".to_owned());
        let query = plan.wrap(&inner);
        copy::fetch(session, &query, plan, table).await
    }
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
