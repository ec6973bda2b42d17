//! How many digits the numbers of a query have, where the database says so.
//!
//! PostgreSQL tells it in the description of a result (the type modifier), which sqlx reads and does
//! not pass on; for columns of tables alone the catalog would do. So it is asked in SQL, without
//! running the query: a number that is put into a record is rounded to the modifier of its field, and
//! a CASE has the modifier that all its branches have.

use std::fmt::Write;

use sqlx::{AssertSqlSafe, Row};

use super::session::Session;
use crate::error::Result;

/// Precision and scale, as Parquet has them: scale is at least 0 and at most precision.
type Digits = (u8, u8);

/// Digits of the largest decimal in Parquet.
const MOST_DIGITS: u8 = 38;
/// Decimals of the number that is rounded: a zero, which is in the range of every type.
const UNROUNDED: usize = 60;
/// Since this version there are numbers whose scale is negative or larger than their precision.
const ODD_SCALES_SINCE: u32 = 150_000;
/// The least scale that is looked for: numbers rounded to millions.
const LEAST_SCALE: i32 = -6;

/// Of each of these columns of the query, which is without values; `None` where nobody says.
pub(super) async fn digits(
    session: &mut Session,
    query: &str,
    columns: &[String],
) -> Result<Vec<Option<Digits>>> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let types = types(session, query, columns).await?;
    let plain: Vec<usize> = (0..columns.len()).filter(|at| types[*at].is_numeric()).collect();
    let names: Vec<&String> = plain.iter().map(|at| &columns[*at]).collect();
    let mut digits: Vec<Option<Digits>> = types.iter().map(Declared::digits).collect();
    for (at, scale) in plain.into_iter().zip(scales(session, query, &names).await?) {
        if let Some(scale) = scale {
            digits[at] = precision(session, query, &columns[at], scale).await?;
        }
    }
    Ok(digits)
}

/// `numeric`, or a domain over it with its modifier.
struct Declared {
    domain: bool,
    modifier: i32,
}

impl Declared {
    fn is_numeric(&self) -> bool {
        !self.domain
    }

    fn digits(&self) -> Option<Digits> {
        // numeric.c, `make_numeric_typmod`: precision, then eleven bits of scale, signed.
        let packed = u32::try_from(self.modifier.checked_sub(4)?).ok()?;
        let scale = ((packed & 0x7ff) ^ 0x400).cast_signed() - 0x400;
        held(i32::try_from(packed >> 16).ok()?, scale)
    }
}

/// As Parquet has it: a number of five digits that is rounded to hundreds has seven.
fn held(precision: i32, scale: i32) -> Option<Digits> {
    let precision = if scale < 0 { precision - scale } else { precision.max(scale) };
    let digits = (u8::try_from(precision).ok()?, u8::try_from(scale.max(0)).ok()?);
    (digits.0 <= MOST_DIGITS).then_some(digits)
}

/// Columns of the one row of a left join with none of the query's rows.
fn select(what: impl Iterator<Item = String>, query: &str) -> String {
    let what: Vec<String> = what.collect();
    format!(
        "SELECT {} FROM (SELECT 1) AS one \
         LEFT JOIN (SELECT * FROM (\n{query}\n) AS i LIMIT 0) AS q ON true",
        what.join(", ")
    )
}

fn quoted(name: &str) -> String {
    format!("q.\"{}\"", name.replace('"', "\"\""))
}

/// The modifiers of domains are in the catalog.
async fn types(session: &mut Session, query: &str, columns: &[String]) -> Result<Vec<Declared>> {
    let wanted = columns.iter().map(|name| format!("pg_typeof({})::oid", quoted(name)));
    let types = select(std::iter::once(format!("ARRAY[{}] AS oids", join(wanted))), query);
    let sql = format!(
        "WITH RECURSIVE wanted (number, oid, is_domain, modifier) AS (\
           SELECT number, oid, false, -1 FROM ({types}) AS t, \
             unnest(t.oids) WITH ORDINALITY AS w (oid, number) \
           UNION ALL \
           SELECT number, d.typbasetype, true, d.typtypmod FROM wanted \
             JOIN pg_catalog.pg_type AS d USING (oid) WHERE d.typtype = 'd') \
         SELECT DISTINCT ON (number) is_domain, modifier FROM wanted \
         ORDER BY number, modifier DESC, is_domain DESC"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
    let rows = query.fetch_all(session.conn()?).await.map_err(|e| session.explain(e))?;
    let declared = |row: &sqlx::postgres::PgRow| {
        Ok(Declared { domain: row.try_get(0)?, modifier: row.try_get(1)? })
    };
    rows.iter().map(declared).collect()
}

fn join(pieces: impl Iterator<Item = String>) -> String {
    pieces.collect::<Vec<_>>().join(", ")
}

/// The scales of numbers that have a modifier. A negative one shows as 0.
async fn scales(
    session: &mut Session,
    query: &str,
    columns: &[&String],
) -> Result<Vec<Option<i32>>> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let zeros = "0".repeat(UNROUNDED);
    let scale = |name: &&String| {
        let record = format!(
            "pg_catalog.jsonb_populate_record(ROW({}), '{{\"f1\": 0.{zeros}}}')",
            quoted(name)
        );
        format!("scale((to_jsonb({record}) ->> 'f1')::numeric)")
    };
    let sql = select(std::iter::once(format!("ARRAY[{}]", join(columns.iter().map(scale)))), query);
    let query = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false);
    let scales: Vec<i32> =
        query.fetch_one(session.conn()?).await.map_err(|e| session.explain(e))?;
    let known = |scale: i32| (scale < UNROUNDED as i32).then_some(scale);
    Ok(scales.into_iter().map(known).collect())
}

/// Of a number that is rounded to that scale.
async fn precision(
    session: &mut Session,
    query: &str,
    column: &str,
    scale: i32,
) -> Result<Option<Digits>> {
    let odd = session.conn()?.server_version_num().is_some_and(|v| v >= ODD_SCALES_SINCE);
    let scales = if odd && scale == 0 { LEAST_SCALE..=0 } else { scale..=scale };
    let least = if odd { 1 } else { scale.max(1) };
    let candidates: Vec<(i32, i32)> = scales
        .rev()
        .flat_map(|scale| (least..=i32::from(MOST_DIGITS)).map(move |precision| (precision, scale)))
        .collect();
    let (name, mut row, mut json) = (quoted(column), String::new(), String::new());
    for (number, (precision, scale)) in (1..).zip(&candidates) {
        let comma = if number == 1 { "" } else { ", " };
        // What PostgreSQL can work out beforehand it does, and takes what is left of a CASE for all
        // of it. Writing to a string cannot fail.
        let _ = write!(
            row,
            "{comma}CASE WHEN random() < 2 THEN {name} ELSE NULL::numeric({precision}, {scale}) END"
        );
        let _ = write!(json, "{comma}\"f{number}\": 0.{}", "0".repeat(UNROUNDED));
    }
    let record = format!("pg_catalog.jsonb_populate_record(ROW({row}), '{{{json}}}')");
    let first = format!(
        "(SELECT min(substr(key, 2)::int) FROM jsonb_each_text(to_jsonb({record})) \
         WHERE scale(value::numeric) < {UNROUNDED})"
    );
    let sql = select(std::iter::once(first), query);
    let query = sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false);
    let first: Option<i32> =
        query.fetch_one(session.conn()?).await.map_err(|e| session.explain(e))?;
    let found = first.and_then(|number| candidates.get(usize::try_from(number - 1).ok()?));
    Ok(found.and_then(|(precision, scale)| held(*precision, *scale)))
}
