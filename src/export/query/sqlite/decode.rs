//! SQLite's values, with the type that somebody has declared for them.

use chrono_tz::Tz;
use rusqlite::types::ValueRef;

use crate::export::{
    definition::ColumnType,
    fit::{self, fit},
    value::{Cell, Kind},
};

/// What a column's values are tried as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// As SQLite stores each, when it is not said.
    kind: Option<ColumnType>,
    /// Whether a date and time without an offset is UTC; else it has no zone.
    is_utc: bool,
    /// What SQLite prefers to store in such a column.
    affinity: Option<Kind>,
}

impl Read {
    pub(super) fn of_setting(kind: ColumnType) -> Read {
        Read { kind: Some(kind), ..Read::default() }
    }

    /// By what stands in `CREATE TABLE`, `DECIMAL(10, 2)`. Numbers and text say it themselves.
    pub(super) fn of_declaration(declared: &str) -> Read {
        let declared = declared.to_ascii_uppercase();
        let name = declared.split('(').next().unwrap_or_default().trim();
        let kind = match name {
            "BOOL" | "BOOLEAN" => ColumnType::Boolean,
            "DEC" | "DECIMAL" | "NUMERIC" | "NUMBER" | "MONEY" => ColumnType::Decimal,
            "DATE" => ColumnType::Date,
            "TIME" => ColumnType::Time,
            "DATETIME" | "TIMESTAMPTZ" => ColumnType::DateTime,
            "UUID" => ColumnType::Uuid,
            "JSON" | "JSONB" => ColumnType::Json,
            // TIMESTAMP(6) WITH TIME ZONE.
            _ if name.starts_with("TIMESTAMP") => ColumnType::DateTime,
            _ => return Read { affinity: affinity(name), ..Read::default() },
        };
        let is_utc = name == "TIMESTAMPTZ" || declared.contains("WITH TIME ZONE");
        Read { is_utc, ..Read::of_setting(kind) }
    }

    /// What the column's cells are, where every cell that fits is that.
    pub(super) fn kind(self) -> Option<Kind> {
        if self.is_utc { Some(Kind::DateTime) } else { self.kind.and_then(fit::kind) }
    }

    /// What they are when no cell tells.
    pub(super) fn likely(self) -> Option<Kind> {
        self.kind().or(self.kind.map(|_| Kind::NaiveDateTime)).or(self.affinity)
    }

    /// The cell, or why it cannot be read. Text that is not stored as such goes to `scratch`.
    pub(super) fn cell<'a>(
        self,
        raw: ValueRef<'a>,
        scratch: &'a mut String,
    ) -> Result<Cell<'a>, String> {
        let stored = match raw {
            ValueRef::Null => return Ok(Cell::Null),
            ValueRef::Integer(number) => Cell::Int(number),
            ValueRef::Real(number) => Cell::Float(number),
            ValueRef::Text(bytes) => {
                Cell::Text(std::str::from_utf8(bytes).map_err(|_| "the value is no valid TEXT")?)
            }
            ValueRef::Blob(bytes) => Cell::Bytes(bytes),
        };
        let Some(kind) = self.kind else { return Ok(stored) };
        Ok(match fit(kind, stored, Tz::UTC, scratch) {
            Some(Cell::NaiveDateTime(at)) if self.is_utc => Cell::DateTime(at.and_utc()),
            Some(cell) => cell,
            // What does not fit stays what SQLite stores.
            None => stored,
        })
    }
}

/// By SQLite's rules ("Datatypes In SQLite", 3.1), of a declaration that is none of the above.
fn affinity(name: &str) -> Option<Kind> {
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match name {
        _ if has(&["INT"]) => Some(Kind::Integer),
        _ if has(&["CHAR", "CLOB", "TEXT"]) => Some(Kind::Text),
        _ if has(&["BLOB"]) => Some(Kind::Bytes),
        _ if has(&["REAL", "FLOA", "DOUB"]) => Some(Kind::Float),
        _ => None,
    }
}

/// Precision and scale in `DECIMAL(10, 2)`.
pub(super) fn digits(declared: &str) -> Option<(u8, u8)> {
    let (_, inner) = declared.split_once('(')?;
    let (precision, scale) = inner.trim().strip_suffix(')')?.split_once(',')?;
    Some((precision.trim().parse().ok()?, scale.trim().parse().ok()?))
}
