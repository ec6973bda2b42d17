//! From the shape of the file to a definition, holding its parts against each other.

use std::{collections::BTreeMap, path::Path, time::Duration};

use toml::Spanned;

use super::{
    ColumnSettings, Definition, Template, raw,
    written::{Written, line_of, on_one_line},
};
use crate::{
    export::{
        criteria::{Criterion, Declared},
        format::{Format, check_number_format},
        localized::Localized,
        sql::Statement,
    },
    file_request::links::LinkPolicy,
    ids::FileType,
};

const DELAY_OVER: u64 = 10_000;
const MAX_ROWS: u64 = 5_000_000;
const TIMEOUT: Duration = Duration::from_secs(3_600);
const MAX_ATTEMPTS: i32 = 3;

/// What a definition is read from.
pub(super) struct Sources<'f> {
    pub path: &'f Path,
    pub toml: &'f str,
    pub sql_path: &'f Path,
    /// The text of the SQL file, when there is one.
    pub sql: Option<String>,
}

/// Faults found so far; one line each.
pub(super) type Faults = Vec<String>;

impl Sources<'_> {
    pub(super) fn build(&self, file_type: FileType) -> Result<Definition, Faults> {
        let raw = self.shape()?;
        let mut faults = Faults::new();
        let criteria = self.criteria(&raw.criteria, &mut faults);
        let formats = self.formats(&raw.formats, &mut faults);
        let filename = self.filename(&raw, &file_type, &formats, &criteria, &mut faults);
        let query = self.query(&raw, &criteria, &mut faults);
        let max_attempts = raw.max_attempts.as_ref().map_or(MAX_ATTEMPTS, |n| *n.get_ref());
        if let Some(given) = &raw.max_rows
            && *given.get_ref() == 0
        {
            let message = "max_rows must be at least 1: no file has fewer rows than none";
            faults.push(self.fault(given.span().start, message));
        }
        for (name, column) in &raw.columns {
            let Some(format) = &column.format else { continue };
            if let Err(why) = check_number_format(format.get_ref()) {
                let message = format!(
                    "columns.{}: {:?} is not an Excel number format: {why}",
                    name.get_ref(),
                    format.get_ref()
                );
                faults.push(self.fault(format.span().start, message));
            }
        }
        if let Some(given) = &raw.max_attempts
            && max_attempts < 1
        {
            faults.push(self.fault(given.span().start, "max_attempts must be at least 1"));
        }
        let (Some((query, written)), Some(filename), true) = (query, filename, faults.is_empty())
        else {
            return Err(faults);
        };
        Ok(Definition {
            path: self.path.to_owned(),
            title: raw.title.clone().unwrap_or_else(|| Localized::new(file_type.as_str())),
            columns: self.columns(&raw),
            xlsx: raw.xlsx,
            parquet: raw.parquet,
            file_type,
            formats,
            filename,
            source: raw.source.unwrap_or_else(|| "default".into()),
            delay_over: raw.delay_over.unwrap_or(DELAY_OVER),
            count: raw.count,
            expires_after: raw.expires_after.map(|length| length.0),
            roles: raw.roles.iter().map(|role| role.0).collect(),
            link_policy: LinkPolicy {
                max_uses: raw.max_uses,
                scanner_safe: raw.scanner_safe,
                max_age: raw.max_age.map(|length| length.0),
                requester_only: raw.requester_only.0,
            },
            max_rows: raw.max_rows.as_ref().map_or(MAX_ROWS, |rows| *rows.get_ref()),
            timeout: raw.timeout.map_or(TIMEOUT, |length| length.0),
            max_attempts,
            query,
            written,
            criteria: Declared(criteria.into_iter().map(|(_, one)| one).collect()),
        })
    }

    /// A fault at an offset of the TOML file.
    pub(super) fn fault(&self, offset: usize, message: impl std::fmt::Display) -> String {
        format!("{}: {}", self.place(offset), on_one_line(message))
    }

    fn place(&self, offset: usize) -> String {
        format!("{}:{}", self.path.display(), line_of(self.toml, offset))
    }

    fn formats(
        &self,
        raw: &Spanned<Vec<Spanned<raw::FormatName>>>,
        faults: &mut Faults,
    ) -> Vec<Format> {
        let mut formats = Vec::new();
        for name in raw.get_ref() {
            let format = name.get_ref().0;
            if formats.contains(&format) {
                let message = format!("format {:?} is listed twice", format.name());
                faults.push(self.fault(name.span().start, message));
            }
            formats.push(format);
        }
        if formats.is_empty() {
            faults.push(self.fault(raw.span().start, "formats must name at least one"));
        }
        formats
    }

    fn filename(
        &self,
        raw: &raw::File,
        file_type: &FileType,
        formats: &[Format],
        criteria: &[(usize, Criterion)],
        faults: &mut Faults,
    ) -> Option<Template> {
        let names = criteria.iter().map(|(_, one)| one.name.as_str());
        let (parsed, at) = match &raw.filename {
            Some(given) => (Template::parse(given.get_ref(), names), given.span().start),
            // Nobody wrote it, so it has no place that a criterion could be meant by.
            None => (Template::parse(&format!("{file_type}.{{ext}}"), std::iter::empty()), 0),
        };
        match parsed {
            Ok(template) if formats.len() > 1 && !template.has_ext() => {
                let message = "filename needs {ext}, as there are several formats";
                faults.push(self.fault(at, message));
                None
            }
            Ok(template) => Some(template),
            Err(message) => {
                faults.push(self.fault(at, format!("filename: {message}")));
                None
            }
        }
    }

    /// The query, with its parameters held against the criteria.
    fn query(
        &self,
        raw: &raw::File,
        criteria: &[(usize, Criterion)],
        faults: &mut Faults,
    ) -> Option<(Statement, Written)> {
        let (text, written) = match (&raw.query, &self.sql) {
            (Some(query), None) => {
                (query.get_ref(), Written::in_toml(self.path, self.toml, query.span()))
            }
            (None, Some(sql)) => (sql, Written::in_sql(self.sql_path, sql)),
            (Some(query), Some(_)) => {
                let sql = self.sql_path.display();
                let message = format!("there is a query here and one in {sql}; remove one");
                faults.push(self.fault(query.span().start, message));
                return None;
            }
            (None, None) => {
                let sql = self.sql_path.display();
                faults.push(self.fault(0, format!("there is no query, and no {sql} either")));
                return None;
            }
        };
        let statement = Statement::parse(text)
            .map_err(|fault| faults.push(written.fault(fault.offset, &fault.message)))
            .ok()?;
        for (name, offset) in statement.parameters() {
            if !criteria.iter().any(|(_, known)| known.name == name) {
                let message = format!("parameter :{name} is not declared; add [criteria.{name}]");
                faults.push(written.fault(offset, message));
            }
        }
        for (at, criterion) in criteria {
            let name = &criterion.name;
            if !statement.parameters().any(|(used, _)| used == name) {
                faults.push(self.fault(*at, format!("the query does not use :{name}")));
            }
        }
        Some((statement, written))
    }

    /// How columns look.
    fn columns(&self, raw: &raw::File) -> BTreeMap<String, ColumnSettings> {
        raw.columns
            .iter()
            .map(|(name, column)| {
                let settings = ColumnSettings {
                    label: column.label.clone(),
                    format: column.format.as_ref().map(|format| format.get_ref().clone()),
                    kind: column.r#type.map(|one| one.kind),
                    digits: column.r#type.and_then(|one| one.digits),
                    place: self.place(name.span().start),
                };
                (name.get_ref().clone(), settings)
            })
            .collect()
    }
}
