//! How each column of a query is fetched and read.

use std::{fmt::Write, sync::Arc, time::Duration};

use chrono_tz::Tz;
use sqlx::{
    Column as _, Row,
    postgres::{PgColumn, PgRow},
};

use super::{connections::Connections, decode::Read, digits::digits, session::Session};
use crate::{
    error::{Error, Result},
    export::{
        definition::{ColumnType, Definition},
        fit::{self, fit},
        query::{check_names, check_size, column, fault},
        value::{Cell, Column, Kind},
    },
};

pub(super) struct Plan {
    pub columns: Vec<Column>,
    pub shape: Arc<[Shape]>,
    /// The types that the definition gives the columns.
    settings: Vec<Option<ColumnType>>,
    /// Of moments as text.
    zone: Tz,
}

/// Where the text of a cell is made.
#[derive(Default)]
pub(super) struct Scratch {
    read: String,
    fit: String,
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
    /// Whether its text is anybody's.
    is_free_text: bool,
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
    /// With the labels, looks and types that the definition gives the columns.
    pub(super) fn new(
        shape: Arc<[Shape]>,
        definition: &Definition,
        language: &str,
        zone: Tz,
    ) -> Plan {
        let setting = |one: &Shape| definition.columns.get(&one.name).and_then(|one| one.kind);
        let look = |one: &Shape| {
            let kind = setting(one).map_or(Some(one.kind), fit::kind);
            Column {
                likely: Some(Kind::NaiveDateTime),
                defuse: one.is_free_text,
                ..column(definition, language, &one.name, kind)
            }
        };
        let settings = shape.iter().map(setting).collect();
        Plan { columns: shape.iter().map(look).collect(), settings, shape, zone }
    }

    /// Begins a session for the definition's query, which is `query` without values.
    pub(super) async fn make(
        connections: &Connections,
        timeout: Duration,
        definition: &Definition,
        query: &str,
        language: &str,
        zone: Tz,
    ) -> Result<(Session, Plan)> {
        let (mut session, found) = columns(connections, timeout, zone, query).await?;
        check_names(definition, found.iter().map(|one| one.name.as_str()))?;
        let unknown = found.iter().map(|one| one.oid).filter(|oid| built_in(*oid).is_none());
        let types = types(&mut session, unknown.collect()).await?;
        let shape = found.into_iter().map(|Found { name, oid }| {
            let looked_up = || types.iter().find(|one| one.oid == oid).and_then(Type::how);
            let Some(How { fetch, read, kind, is_free_text }) = built_in(oid).or_else(looked_up)
            else {
                let type_name = types.iter().find(|one| one.oid == oid).map(|one| &one.name);
                let message = format!(
                    "column {name:?} has type {}, which no file can show; leave it out or cast it",
                    type_name.map_or("unknown", String::as_str)
                );
                return Err(fault(definition, message));
            };
            let oid = if let Fetch::Plain = fetch { oid } else { TEXT };
            Ok(Shape { name, oid, read, kind, fetch, is_free_text })
        });
        let shape: Result<Arc<[Shape]>> = shape.collect();
        Ok((session, Plan::new(shape?, definition, language, zone)))
    }

    /// Asks how many digits numbers have, for formats that have to know. `query` is without values.
    pub(super) async fn ask_for_digits(
        &mut self,
        session: &mut Session,
        query: &str,
    ) -> Result<()> {
        let mut numbers: Vec<&mut Column> = self
            .columns
            .iter_mut()
            .zip(&*self.shape)
            .filter(|(column, shape)| shape.oid == NUMERIC && column.digits.is_none())
            .map(|(column, _)| column)
            .collect();
        let names: Vec<String> = numbers.iter().map(|column| column.name.clone()).collect();
        for (column, known) in numbers.iter_mut().zip(digits(session, query, &names).await?) {
            column.digits = known;
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
        scratch: &'a mut Scratch,
    ) -> Result<Cell<'a>> {
        let shape = &self.shape[at];
        check_size(bytes.map_or(0, <[u8]>::len), &shape.name, row)?;
        let cell = shape.read.cell(bytes, &mut scratch.read).map_err(|why| {
            let message = format!("column {:?}, row {row}: {why}", shape.name);
            Error::permanent("unreadable_value", message)
        })?;
        let Some(kind) = self.settings[at] else { return Ok(cell) };
        fit(kind, cell, self.zone, &mut scratch.fit)
            .ok_or_else(|| unfit(&shape.name, row, kind, cell))
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
                // `format` makes an empty text of NULL.
                Fetch::Text => write!(
                    sql,
                    "{comma}CASE WHEN {name} IS NOT NULL THEN pg_catalog.format('%s', {name}) END"
                ),
            };
        }
        sql + "\nFROM (\n" + inner + "\n) AS q"
    }
}

/// A cell that is not what the definition says.
fn unfit(column: &str, row: u64, kind: ColumnType, cell: Cell<'_>) -> Error {
    let text = cell.to_value().to_text(Tz::UTC);
    let text: String = text.chars().take(40).collect();
    let message = format!(
        "column {column:?}, row {row}: {text:?} cannot be of type {} without loss, as \
         [columns.{column}] wants it",
        kind.name()
    );
    Error::permanent("column_type", message)
}

/// A column as PostgreSQL describes it.
struct Found {
    name: String,
    /// Of its type; of a domain, that of the type below it.
    oid: u32,
}

/// The names and types of the query's columns, without running it: the one row of a left join
/// with none of its rows. Not by preparing it, as sqlx then looks up every type for itself and
/// fails on those that it has never heard of (multiranges).
async fn columns(
    connections: &Connections,
    timeout: Duration,
    zone: Tz,
    query: &str,
) -> Result<(Session, Vec<Found>)> {
    let sql = format!(
        "SELECT q.* FROM (SELECT 1) AS one \
         LEFT JOIN (SELECT * FROM (\n{query}\n) AS i LIMIT 0) AS q ON true"
    );
    let (session, row) = Session::begin_with(connections, timeout, zone, &sql).await?;
    let found = |one: &PgColumn| Found {
        name: one.name().to_owned(),
        oid: one.type_info().oid().map_or(0, |oid| oid.0),
    };
    Ok((session, row.columns().iter().map(found).collect()))
}

/// A type that somebody has added, or that is rare.
#[derive(sqlx::FromRow)]
struct Type {
    #[sqlx(try_from = "i64")]
    oid: u32,
    name: String,
    /// `typtype`: base, composite, domain, enum, pseudo, range, multirange.
    class: String,
    /// `typcategory`, of which `A` is for arrays, `E` for enums, `S` for text.
    category: String,
    /// Whether it brings a cast to JSON, which `to_json` goes by.
    casts_to_json: bool,
}

async fn types(session: &mut Session, oids: Vec<u32>) -> Result<Vec<Type>> {
    if oids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT oid::bigint AS oid, format_type(oid, NULL) AS name, \
               typtype::text AS class, typcategory::text AS category, \
               EXISTS (SELECT FROM pg_catalog.pg_cast WHERE castsource = t.oid \
                 AND casttarget = 'pg_catalog.json'::regtype AND castmethod = 'f') AS casts_to_json \
               FROM pg_catalog.pg_type AS t WHERE oid::bigint = ANY($1)";
    let oids: Vec<i64> = oids.into_iter().map(i64::from).collect();
    let types = sqlx::query_as(sql).bind(oids).fetch_all(session.conn()?).await;
    types.map_err(|e| session.explain(e))
}

impl Type {
    fn how(&self) -> Option<How> {
        match (self.class.as_str(), self.category.as_str()) {
            // Called pseudo-types, but they have values.
            ("p", _) if matches!(self.oid, RECORD | RECORDS) => Some(How::JSON),
            ("p", _) => None,
            ("c", _) | (_, "A") => Some(How::JSON),
            // One form for a value, whether it stands alone or in an array.
            _ if self.casts_to_json => Some(How::JSON),
            (_, category) => {
                let is_free_text = matches!(category, "S" | "E") || matches!(self.oid, CHAR | XML);
                Some(How { is_free_text, ..How::TEXT })
            }
        }
    }
}

/// How a column is fetched and read, and what it then is.
#[derive(Clone, Copy)]
struct How {
    fetch: Fetch,
    read: Read,
    kind: Kind,
    is_free_text: bool,
}

impl How {
    const JSON: How =
        How { fetch: Fetch::Json, read: Read::Json, kind: Kind::Json, is_free_text: false };
    const TEXT: How =
        How { fetch: Fetch::Text, read: Read::Text, kind: Kind::Text, is_free_text: false };
}

/// Types by their numbers in `pg_type.dat`, which never change.
const CHAR: u32 = 18;
const TEXT: u32 = 25;
const XML: u32 = 142;
const NUMERIC: u32 = 1700;
const RECORD: u32 = 2249;
const RECORDS: u32 = 2287;

/// By the number of a built-in type.
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
        1186 => (Read::Interval, Kind::Interval),
        NUMERIC => (Read::Numeric, Kind::Decimal),
        2950 => (Read::Uuid, Kind::Uuid),
        3802 => (Read::Jsonb, Kind::Json),
        _ => return None,
    };
    let is_free_text = kind == Kind::Text;
    Some(How { fetch: Fetch::Plain, read, kind, is_free_text })
}
