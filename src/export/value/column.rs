//! Columns, and what their cells are.

/// What the cells of a column are, as far as that is known before the first row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Value::Bool`](super::Value::Bool).
    Bool,
    /// [`Value::Int`](super::Value::Int).
    Integer,
    /// [`Value::Float`](super::Value::Float).
    Float,
    /// [`Value::Decimal`](super::Value::Decimal).
    Decimal,
    /// [`Value::Text`](super::Value::Text).
    Text,
    /// [`Value::Date`](super::Value::Date).
    Date,
    /// [`Value::Time`](super::Value::Time).
    Time,
    /// [`Value::DateTime`](super::Value::DateTime).
    DateTime,
    /// [`Value::NaiveDateTime`](super::Value::NaiveDateTime).
    NaiveDateTime,
    /// [`Value::Uuid`](super::Value::Uuid).
    Uuid,
    /// [`Value::Json`](super::Value::Json).
    Json,
    /// [`Value::Bytes`](super::Value::Bytes).
    Bytes,
    /// [`Value::Interval`](super::Value::Interval).
    Interval,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// For programs: the key in JSON Lines, the column in Parquet.
    pub name: String,
    /// For people: the heading in CSV and XLSX.
    pub label: String,
    /// What its cells are, when that is known. A cell may still be something else.
    pub kind: Option<Kind>,
    /// What they are when `kind` is not known and no cell tells either: a table without rows.
    pub likely: Option<Kind>,
    /// An Excel number format (`#,##0.00`), for numbers, dates and times.
    pub format: Option<String>,
    /// Of decimals: how many digits there are at most, and how many of them are decimals, as the
    /// database declares it (`numeric(12, 2)`).
    pub digits: Option<(u8, u8)>,
    /// Whether CSV puts a `'` before text of it that a spreadsheet would run as a formula.
    pub defuse: bool,
}

impl Column {
    /// A column whose label is its name and whose kind is left to its cells.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Column {
            label: name.clone(),
            name,
            kind: None,
            likely: None,
            format: None,
            digits: None,
            defuse: true,
        }
    }
}
