//! A declared file type: `jobs/NAME.toml`, with its SQL there or in `jobs/NAME.sql`.
//!
//! What can be known without a database is checked here, all of it before anything runs, and each
//! fault names file and line (`jobs/flights.toml:12: …`). What only the database knows is for
//! [`DeclaredExport::check`](super::DeclaredExport::check).

mod build;
mod criterion;
mod raw;
mod shape;
mod template;
#[cfg(test)]
mod tests;
mod written;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

pub use template::Template;
pub(super) use written::Written;

use super::{criteria::Declared, format::Format, localized::Localized, sql::Statement};
use crate::{
    auth_token::Role,
    error::{Error, Result},
    file_request::links::LinkPolicy,
    ids::FileType,
};

/// Configuration of the cleaner, which lives in the same folder.
const NOT_A_FILE_TYPE: &str = "cleaner.toml";

/// One declared file type, complete and consistent.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The name: that of the file without its ending.
    pub file_type: FileType,
    /// Where it was read from.
    pub path: PathBuf,
    /// For people.
    pub title: Localized,
    /// What a caller may choose from; the first is the default. Never empty.
    pub formats: Vec<Format>,
    /// The name of the file.
    pub filename: Template,
    /// The configured database that it reads; `default` unless given.
    pub source: String,
    /// Up to this many rows are delivered at once when the caller leaves it to us; 10,000 unless
    /// given.
    pub delay_over: u64,
    /// Whether rows are counted for their progress and for `delay_over`, which costs about what the
    /// query costs, once more; estimated unless given.
    pub count: bool,
    /// How long a finished file stays; as configured for all when `None`.
    pub expires_after: Option<Duration>,
    /// Which users may ask for it; all when empty.
    pub roles: Vec<Role>,
    /// `requester_only`, `max_uses`, `max_age` and `scanner_safe` of links; none unless given.
    pub link_policy: LinkPolicy,
    /// More rows are an error; 5,000,000 unless given.
    pub max_rows: u64,
    /// How long the query, and one attempt at the file, may take; one hour unless given.
    pub timeout: Duration,
    /// Attempts before a request fails for good; 3 unless given.
    pub max_attempts: i32,
    /// What to read.
    pub query: Statement,
    /// Where that is written.
    pub(super) written: Written,
    /// What callers may ask for.
    pub criteria: Declared,
    /// How columns look, by name.
    pub columns: BTreeMap<String, ColumnSettings>,
    /// How XLSX is written.
    pub xlsx: XlsxSettings,
    /// How Parquet is written.
    pub parquet: ParquetSettings,
}

/// How XLSX is written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct XlsxSettings {
    /// Whether rows and cells say where they are; yes unless given. A file without is smaller, and a
    /// third of the programs that read XLSX cannot read it.
    pub references: bool,
}

impl Default for XlsxSettings {
    fn default() -> Self {
        XlsxSettings { references: true }
    }
}

/// How Parquet is written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParquetSettings {
    /// Whether values that come again are kept once; yes unless given. Some readers take no decimals
    /// that are.
    pub dictionaries: bool,
}

impl Default for ParquetSettings {
    fn default() -> Self {
        ParquetSettings { dictionaries: true }
    }
}

/// How a column looks.
#[derive(Clone, Debug, Default)]
pub struct ColumnSettings {
    /// The heading; the column's name when there is none.
    pub label: Option<Localized>,
    /// An Excel number format.
    pub format: Option<String>,
    /// What its cells are; as the database says unless given. On PostgreSQL a value that cannot be
    /// that without loss ends the export; SQLite's, which have types of their own, stay what they are.
    pub kind: Option<ColumnType>,
    /// Of `decimal(12, 2)`: how many digits there are at most, and how many of them are decimals.
    pub digits: Option<(u8, u8)>,
    /// Where it is declared, for errors: `jobs/flights.toml:12`.
    pub place: String,
}

/// What a definition may say the cells of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// Whole numbers.
    Integer,
    /// Exact numbers.
    Decimal,
    /// Floating point numbers.
    Float,
    /// Text, whatever it looks like.
    Text,
    /// True and false, stored as 1 and 0.
    Boolean,
    /// Days, stored as `2013-12-31`.
    Date,
    /// Times of day, stored as `23:59:00`.
    Time,
    /// Moments, stored as RFC 3339; without an offset, dates and times of no zone.
    DateTime,
    /// UUIDs, stored as text or as 16 bytes.
    Uuid,
    /// JSON, stored as text.
    Json,
}

impl ColumnType {
    /// Every type, by the name it has in a definition.
    const ALL: [(&'static str, ColumnType); 10] = [
        ("integer", ColumnType::Integer),
        ("decimal", ColumnType::Decimal),
        ("float", ColumnType::Float),
        ("text", ColumnType::Text),
        ("boolean", ColumnType::Boolean),
        ("date", ColumnType::Date),
        ("time", ColumnType::Time),
        ("datetime", ColumnType::DateTime),
        ("uuid", ColumnType::Uuid),
        ("json", ColumnType::Json),
    ];

    /// As it stands in a definition.
    pub(super) fn name(self) -> &'static str {
        ColumnType::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl Definition {
    /// Reads `NAME.toml` and, where it has no query, `NAME.sql` beside it.
    ///
    /// # Errors
    /// [`Error::Config`] with one line for each fault, `path:line: what`.
    pub fn load(path: &Path) -> Result<Definition> {
        let shown = path.display();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let file_type = name
            .parse::<FileType>()
            .map_err(|why| Error::Config(format!("{shown}: {name:?} cannot be one: {why}")))?;
        let sql_path = path.with_extension("sql");
        let sql = if sql_path.exists() { Some(read(&sql_path)?) } else { None };
        let sources = build::Sources { path, toml: &read(path)?, sql_path: &sql_path, sql };
        sources.build(file_type).map_err(|faults| Error::Config(faults.join("\n")))
    }

    /// Reads every definition of a folder, in the order of their names; all but `cleaner.toml`.
    ///
    /// # Errors
    /// Every fault of every file, also an SQL file that belongs to no definition and names that
    /// differ in nothing but case.
    pub fn load_dir(dir: &Path) -> Result<Vec<Definition>, Vec<Error>> {
        let (definitions, errors) = Definition::load_what_is_sound(dir);
        if errors.is_empty() { Ok(definitions) } else { Err(errors) }
    }

    /// The same with the faults beside what is sound.
    pub fn load_what_is_sound(dir: &Path) -> (Vec<Definition>, Vec<Error>) {
        let files = match list(dir) {
            Ok(files) => files,
            Err(error) => return (Vec::new(), vec![error]),
        };
        let (mut definitions, mut errors) = (Vec::<Definition>::new(), Vec::new());
        for path in files {
            match path.extension().and_then(|ending| ending.to_str()) {
                Some("toml") => match Definition::load(&path) {
                    Ok(definition) => definitions.push(definition),
                    Err(error) => errors.push(error),
                },
                Some("sql") if !path.with_extension("toml").exists() => {
                    let message = format!("{}: there is no .toml beside it", path.display());
                    errors.push(Error::Config(message));
                }
                _ => {}
            }
        }
        for (i, one) in definitions.iter().enumerate() {
            let name = one.file_type.as_str();
            let twin = |other: &&Definition| other.file_type.as_str().eq_ignore_ascii_case(name);
            if let Some(first) = definitions.iter().take(i).find(twin) {
                errors.push(Error::Config(format!(
                    "{}: file type {name:?} is already declared in {}",
                    one.path.display(),
                    first.path.display()
                )));
            }
        }
        (definitions, errors)
    }
}

/// Without the byte order mark that editors on Windows put first.
fn read(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).map_err(Error::io(path.display().to_string()))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The files of a folder by name, without hidden ones (editors leave them).
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let failed = || Error::io(dir.display().to_string());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_file() && name != NOT_A_FILE_TYPE && !name.starts_with('.') {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
