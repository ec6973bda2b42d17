//! How each column of a query is fetched and read.

use std::{fmt::Write, sync::Arc, time::Duration};

use sqlx::{
    Column as _, Row,
    postgres::{PgColumn, PgRow},
};

use super::{decode::Read, session::Session, source::PostgresSource};
use crate::{
    error::{Error, Result},
    export::{
        definition::Definition,
        query::{check_names, column, fault},
        value::{Cell, Column, Kind},
    },
};

pub(super) struct Plan {
    pub columns: Vec<Column>,
    pub shape: Arc<[Shape]>,
}

/// How one column arrives, whoever asks for it.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub name: String,
    /// Of the type in which it arrives.
    oid: u32,
    read: Read,
    kind: Kind,
    fetch: Fetch,
    /// Of a column that is `numeric`: the table that it comes from and its number there.
    number: Option<(i64, i16)>,
}

/// The form in which a column is asked for.
#[derive(Clone, Copy, Debug)]
enum Fetch {
    /// As it is.
    Plain,
    /// Through `to_json`.
    Json,
    /// As PostgreSQL's own text.
    Text,
}

impl Plan {
    /// With the labels and looks that the definition gives the columns.
    pub(super) fn new(shape: Arc<[Shape]>, definition: &Definition, language: &str) -> Plan {
        let look = |one: &Shape| column(definition, language, &one.name, Some(one.kind));
        Plan { columns: shape.iter().map(look).collect(), shape }
    }

    /// Begins a session for the definition's query, which is `query` without values.
    pub(super) async fn make(
        source: &PostgresSource,
        timeout: Duration,
        definition: &Definition,
        query: &str,
        language: &str,
    ) -> Result<(Session, Plan)> {
        let (mut session, found) = columns(source, timeout, query).await?;
        check_names(definition, found.iter().map(|one| one.name.as_str()))?;
        let unknown = found.iter().map(|one| one.oid).filter(|oid| built_in(*oid).is_none());
        let types = types(&mut session, unknown.collect()).await?;
        let shape = found.into_iter().map(|Found { name, oid, origin }| {
            let looked_up = || types.iter().find(|one| one.oid == oid).and_then(Type::how);
            let Some((fetch, read, kind)) = built_in(oid).or_else(looked_up) else {
                let type_name = types.iter().find(|one| one.oid == oid).map(|one| &one.name);
                let message = format!(
                    "column {name:?} has type {}, which no file can show; leave it out or cast it",
                    type_name.map_or("unknown", String::as_str)
                );
                return Err(fault(definition, message));
            };
            let number = origin.filter(|_| oid == NUMERIC);
            let oid = if let Fetch::Plain = fetch { oid } else { TEXT };
            Ok(Shape { name, oid, read, kind, fetch, number })
        });
        let shape: Result<Arc<[Shape]>> = shape.collect();
        Ok((session, Plan::new(shape?, definition, language)))
    }

    /// Asks how many digits numbers have, for formats that have to know.
    pub(super) async fn ask_for_digits(&mut self, session: &mut Session) -> Result<()> {
        let numbers = self.shape.iter().filter_map(|one| one.number);
        let digits = digits(session, numbers).await?;
        for (column, shape) in self.columns.iter_mut().zip(&*self.shape) {
            let known = digits.iter().find(|one| Some((one.table, one.number)) == shape.number);
            column.digits = known.and_then(Digits::read);
        }
        Ok(())
    }

    /// Whether a row's columns are what they were when the query was described.
    pub(super) fn fits(&self, row: &PgRow) -> bool {
        let oids = row.columns().iter().map(|one| one.type_info().oid().map(|oid| oid.0));
        oids.eq(self.shape.iter().map(|one| Some(one.oid)))
    }

    /// The cell of a column, of its bytes, in a row that counts from 1.
    pub(super) fn cell<'a>(
        &self,
        at: usize,
        row: u64,
        bytes: Option<&'a [u8]>,
        text: &'a mut String,
    ) -> Result<Cell<'a>> {
        let shape = &self.shape[at];
        shape.read.cell(bytes, text).map_err(|why| {
            let message = format!("column {:?}, row {row}: {why}", shape.name);
            Error::permanent("unreadable_value", message)
        })
    }

    /// The query that fetches every column in the form in which it is read.
    pub(super) fn wrap(&self, inner: &str) -> String {
        let mut sql = String::from("SELECT ");
        for (i, one) in self.shape.iter().enumerate() {
            let name = format!("q.\"{}\"", one.name.replace('"', "\"\""));
            let comma = if i == 0 { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = match one.fetch {
                Fetch::Plain => write!(sql, "{comma}{name}"),
                Fetch::Json => write!(sql, "{comma}to_json({name})::text"),
                Fetch::Text => write!(sql, "{comma}{name}::text"),
            };
        }
        sql + "\nFROM (\n" + inner + "\n) AS q"
    }
}

/// `text` and `numeric`, by their numbers in `pg_type.dat`.
const TEXT: u32 = 25;
const NUMERIC: u32 = 1700;

/// A column as PostgreSQL describes it.
struct Found {
    name: String,
    /// Of its type.
    oid: u32,
    /// The table that it comes from and its number there, unless it is computed.
    origin: Option<(i64, i16)>,
}

/// The names and types of the query's columns, without running it: the one row of a left join
/// with none of its rows. Not by preparing it, as sqlx then looks up every type for itself and
/// fails on those that it has never heard of (multiranges).
async fn columns(
    source: &PostgresSource,
    timeout: Duration,
    query: &str,
) -> Result<(Session, Vec<Found>)> {
    let sql = format!(
        "SELECT q.* FROM (SELECT 1) AS one \
         LEFT JOIN (SELECT * FROM (\n{query}\n) AS i LIMIT 0) AS q ON true"
    );
    let (session, row) = Session::begin_with(source, timeout, &sql).await?;
    let found = |one: &PgColumn| Found {
        name: one.name().to_owned(),
        oid: one.type_info().oid().map_or(0, |oid| oid.0),
        origin: one.relation_id().map(|table| i64::from(table.0)).zip(one.relation_attribute_no()),
    };
    Ok((session, row.columns().iter().map(found).collect()))
}

/// How a table declares one of its numbers.
#[derive(sqlx::FromRow)]
struct Digits {
    table: i64,
    number: i16,
    modifier: i32,
}

impl Digits {
    /// Precision and scale, unless it has neither or a scale that is no count of decimals.
    fn read(&self) -> Option<(u8, u8)> {
        // numeric.c, `make_numeric_typmod`: precision, then eleven bits of scale.
        let packed = u32::try_from(self.modifier.checked_sub(4)?).ok()?;
        Some((u8::try_from(packed >> 16).ok()?, u8::try_from(packed & 0x7ff).ok()?))
    }
}

/// What tables say of these columns: each a table and a number there.
async fn digits(
    session: &mut Session,
    columns: impl Iterator<Item = (i64, i16)>,
) -> Result<Vec<Digits>> {
    let (tables, numbers): (Vec<i64>, Vec<i16>) = columns.unzip();
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT attrelid::bigint AS table, attnum AS number, atttypmod AS modifier \
               FROM pg_catalog.pg_attribute JOIN unnest($1::bigint[], $2::smallint[]) AS wanted (t, n) \
               ON attrelid = wanted.t::oid AND attnum = wanted.n";
    let digits = sqlx::query_as(sql).bind(tables).bind(numbers).fetch_all(session.conn()?).await;
    digits.map_err(|e| session.explain(e))
}

/// A type that somebody has added, or that is rare.
#[derive(sqlx::FromRow)]
struct Type {
    #[sqlx(try_from = "i64")]
    oid: u32,
    name: String,
    /// `typtype`: base, composite, domain, enum, pseudo, range, multirange.
    class: String,
    /// `typcategory`, of which `A` is for arrays.
    category: String,
}

async fn types(session: &mut Session, oids: Vec<u32>) -> Result<Vec<Type>> {
    if oids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT oid::bigint AS oid, format_type(oid, NULL) AS name, \
               typtype::text AS class, typcategory::text AS category \
               FROM pg_catalog.pg_type WHERE oid::bigint = ANY($1)";
    let oids: Vec<i64> = oids.into_iter().map(i64::from).collect();
    let types = sqlx::query_as(sql).bind(oids).fetch_all(session.conn()?).await;
    types.map_err(|e| session.explain(e))
}

impl Type {
    fn how(&self) -> Option<How> {
        let json = (Fetch::Json, Read::Json, Kind::Json);
        let text = (Fetch::Text, Read::Text, Kind::Text);
        match (self.class.as_str(), self.category.as_str()) {
            // Called a pseudo-type, but it has values; so has its array.
            ("p", _) if matches!(self.name.as_str(), "record" | "record[]") => Some(json),
            ("p", _) => None,
            ("c", _) | (_, "A") => Some(json),
            // It brings a cast to JSON.
            _ if self.name == "hstore" || self.name.ends_with(".hstore") => Some(json),
            _ => Some(text),
        }
    }
}

type How = (Fetch, Read, Kind);

/// By the number of a built-in type (`pg_type.dat`), which never changes.
fn built_in(oid: u32) -> Option<How> {
    let (read, kind) = match oid {
        16 => (Read::Bool, Kind::Bool),
        17 => (Read::Bytes, Kind::Bytes),
        20 => (Read::Int8, Kind::Integer),
        21 => (Read::Int2, Kind::Integer),
        23 => (Read::Int4, Kind::Integer),
        // name, text, bpchar, varchar.
        19 | TEXT | 1042 | 1043 => (Read::Text, Kind::Text),
        114 => (Read::Json, Kind::Json),
        700 => (Read::Float4, Kind::Float),
        701 => (Read::Float8, Kind::Float),
        1082 => (Read::Date, Kind::Date),
        1083 => (Read::Time, Kind::Time),
        1114 => (Read::Timestamp, Kind::NaiveDateTime),
        1184 => (Read::Timestamptz, Kind::DateTime),
        NUMERIC => (Read::Numeric, Kind::Decimal),
        2950 => (Read::Uuid, Kind::Uuid),
        3802 => (Read::Jsonb, Kind::Json),
        _ => return None,
    };
    Some((Fetch::Plain, read, kind))
}
