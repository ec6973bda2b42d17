//! PostgreSQL: a READ ONLY transaction, a statement timeout, and every type.
//!
//! The query is wrapped: `SELECT q."a", to_json(q."b")::text, format('%s', q."c") FROM (…) AS q`, so
//! that each column arrives in a form that we can read: as it is (numbers, text, dates, bytes …), as
//! JSON (arrays, composite types) or as PostgreSQL's own text (addresses, ranges, and what nobody has
//! thought of yet), which the type's output function makes and not whatever cast to text somebody has
//! added. The wrapping also makes a statement that changes data a syntax error.

mod connections;
mod copy;
mod decode;
mod digits;
mod numeric;
mod plan;
mod rights;
mod rows;
mod session;
mod shapes;

use std::time::Duration;

use chrono_tz::Tz;
use sqlx::{
    AssertSqlSafe, Postgres, Row,
    postgres::{PgArguments, PgConnectOptions},
    query::Query,
};

use self::{connections::Connections, plan::Plan, session::Session, shapes::Shapes};
use super::explain::locate;
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

/// A parameter that has no value.
const NULL: &str = "NULL";
/// What it may take to describe a query.
const DESCRIBE: Duration = Duration::from_secs(30);

/// A PostgreSQL database that exports read.
#[derive(Clone, Debug)]
pub struct PostgresSource {
    connections: Connections,
    /// What its queries gave a moment ago.
    shapes: Shapes,
}

impl PostgresSource {
    /// Connects on first use.
    pub(super) fn new(options: PgConnectOptions) -> Self {
        PostgresSource { connections: Connections::new(options), shapes: Shapes::default() }
    }

    /// Begins a session for the definition's query, which is `query` without values. Its columns are
    /// those of a moment ago if that is known (`true`). They may have changed since: whoever fails
    /// with them [forgets](Shapes::forget) them and looks again.
    async fn plan(
        &self,
        timeout: Duration,
        definition: &Definition,
        query: &str,
        language: &str,
        zone: Tz,
    ) -> Result<(Session, Plan, bool)> {
        if let Some(shape) = self.shapes.of(query) {
            let session = Session::begin(&self.connections, timeout, zone).await?;
            return Ok((session, Plan::new(shape, definition, language, zone), true));
        }
        let made = Plan::make(&self.connections, timeout, definition, query, language, zone);
        let (session, plan) = made.await?;
        Ok((session, plan, false))
    }
}

/// What the role of a source may do beyond reading.
pub(super) async fn warnings(source: &PostgresSource) -> Result<Vec<String>> {
    rights::warnings(&source.connections).await
}

pub(super) async fn describe(
    source: &PostgresSource,
    definition: &Definition,
    language: &str,
) -> Result<Vec<Column>> {
    let query = without_values(definition);
    let described = async {
        let made = Plan::make(&source.connections, DESCRIBE, definition, &query, language, Tz::UTC);
        let (session, plan) = made.await?;
        session.end().await?;
        Ok(plan.columns)
    };
    described.await.map_err(|error| located(definition, error))
}

pub(super) async fn count(
    source: &PostgresSource,
    definition: &Definition,
    given: &[Given],
    most: i64,
    zone: Tz,
    timeout: Duration,
) -> Result<i64> {
    let (inner, names) = with_values(definition);
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM (\n{inner}\n) AS q LIMIT {most}) AS c");
    let counted = async {
        let mut session = Session::begin(&source.connections, timeout, zone).await?;
        let row = bound(sql.clone(), &names, given).fetch_one(session.conn()?).await;
        let count = row.and_then(|row| row.try_get(0)).map_err(session.explainer(&sql))?;
        session.end().await?;
        Ok(count)
    };
    counted.await.map_err(|error| located(definition, error))
}

/// The rows of the plan's top node, planned for these very values.
pub(super) async fn estimate(
    source: &PostgresSource,
    definition: &Definition,
    given: &[Given],
    zone: Tz,
    timeout: Duration,
) -> Result<Option<u64>> {
    let (inner, names) = with_values(definition);
    let sql = format!("EXPLAIN (FORMAT JSON) SELECT * FROM (\n{inner}\n) AS q");
    let estimated = async {
        let mut session = Session::begin(&source.connections, timeout, zone).await?;
        let row = bound(sql.clone(), &names, given).fetch_one(session.conn()?).await;
        let plan: serde_json::Value =
            row.and_then(|row| row.try_get(0)).map_err(session.explainer(&sql))?;
        session.end().await?;
        // A number too large for 64 bits is read as a float, and that comes down to the largest.
        Ok(plan[0]["Plan"]["Plan Rows"].as_f64().map(|rows| rows as u64))
    };
    estimated.await.map_err(|error| located(definition, error))
}

pub(super) async fn write(
    source: &PostgresSource,
    definition: &Definition,
    given: &[Given],
    job: &Job,
    out: Output,
) -> Result<()> {
    let made = make(source, definition, given, job, out).await;
    made.map_err(|error| located(definition, error))
}

async fn make(
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
        let (mut session, mut plan, is_remembered) = source
            .plan(definition.timeout, definition, &query, &job.language, job.timezone)
            .await?;
        if job.request.format == Format::Parquet.name() {
            plan.ask_for_digits(&mut session, &query).await?;
        }
        let (columns, shape) = (std::mem::take(&mut plan.columns), plan.shape.clone());
        // Made once the database has begun to answer.
        let table = || {
            let out = out.take().ok_or(Error::OutputClosed)?;
            Table::declared(out, job, columns, definition)
        };
        let done = if has_values {
            // Bound, so that PostgreSQL plans for these very values.
            let (inner, names) = with_values(definition);
            let sql = plan.wrap(&inner);
            let bound = bound(sql.clone(), &names, given);
            rows::fetch(session, &sql, bound, plan, table).await
        } else if is_remembered {
            // It comes again and again: it stays prepared, and PostgreSQL tells when it has changed.
            let sql = plan.wrap(&query);
            let prepared = sqlx::query(AssertSqlSafe(sql.clone()));
            rows::fetch(session, &sql, prepared, plan, table).await
        } else {
            // COPY takes no values, and costs less by the row.
            let wrapped = plan.wrap(&query);
            copy::fetch(session, &wrapped, plan, table).await
        };
        return match done {
            // Nothing was written, and the columns may not be what they were.
            Err(Error::Database(_) | Error::Query(_)) if is_remembered && out.is_some() => {
                source.shapes.forget(&query);
                continue;
            }
            Ok(()) if !is_remembered => {
                source.shapes.remember(query, shape, job.progress.rows().unwrap_or(u64::MAX));
                Ok(())
            }
            done => done,
        };
    }
}

/// An error with its place in the definition, whose query was sent with its values beside it or
/// without any.
fn located(definition: &Definition, error: Error) -> Error {
    let numbered = |name: &str, n: usize| placeholder(definition, name, &numbered(n));
    let empty = |name: &str, _: usize| placeholder(definition, name, NULL);
    locate(definition, error, &[&numbered, &empty])
}

fn without_values(definition: &Definition) -> String {
    definition.query.rewrite(|name, _| placeholder(definition, name, NULL)).0
}

/// The definition's query, and the names of its values in their order.
fn with_values(definition: &Definition) -> (String, Vec<&str>) {
    definition.query.rewrite(|name, n| placeholder(definition, name, &numbered(n)))
}

fn numbered(n: usize) -> String {
    format!("${n}")
}

/// A parameter of the query as `value`, cast to its type. Every value is sent as text, so that what
/// PostgreSQL infers of a parameter never depends on what happens to be given.
fn placeholder(definition: &Definition, name: &str, value: &str) -> String {
    let criterion = definition.criteria.0.iter().find(|one| one.name == name);
    let kind = criterion.map_or("text", |one| type_name(one.kind));
    match criterion {
        Some(one) if one.list => format!("CAST({value}::text[] AS {kind}[])"),
        _ => format!("CAST({value}::text AS {kind})"),
    }
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
