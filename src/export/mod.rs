//! Declared file types, and tables for everybody.
//!
//! `jobs/flights.toml` declares file type `flights`: SQL, criteria, formats. [`Definition`] is the
//! file, [`DeclaredExport`] the [`Handler`] made of it and of a database ([`Source`]), and
//! [`TableWriter`] what writes its rows in any [`Format`]; handlers written in Rust use it
//! as well.
//!
//! ```text
//! definition  NAME.toml and NAME.sql, checked
//! criteria    from text to typed values
//! sql         where the parameters are
//! query       rows out of PostgreSQL or SQLite
//! value       one cell
//! fit         a cell as the type that a definition gives its column
//! table       rows in, a file out
//! format      one file a format
//! ```

pub mod criteria;
pub mod definition;
mod fit;
mod format;
mod localized;
mod query;
mod sources;
pub mod sql;
mod table;
mod value;

use std::{convert::Infallible, future, time::Duration};

use async_trait::async_trait;
use chrono_tz::Tz;

pub use definition::Definition;
pub use format::Format;
pub use localized::Localized;
pub(crate) use query::{CONNECTIONS, SOURCE_BUSY};
pub use query::{PostgresSource, Source, SqliteFile};
pub use sources::Sources;
pub use table::TableWriter;
pub use value::{Column, Interval, Kind, Value};

use crate::{
    auth_token::Role,
    error::{Error, Result},
    file_request::{
        Criteria,
        links::{LinkPolicy, RequesterOnly},
    },
    registry::{Delivery, GUESS_AFTER, Guess, Handler, Job, Output},
};

/// How long a caller may be kept waiting for the decision between now and later.
const EVALUATE: Duration = Duration::from_secs(5);

/// A declared file type with the database that it reads: a [`Handler`].
#[derive(Clone, Debug)]
pub struct DeclaredExport {
    definition: Definition,
    source: Source,
    formats: Vec<&'static str>,
}

impl DeclaredExport {
    /// A handler for a definition. `source` is what the configuration has under the name
    /// `definition.source`.
    pub fn new(definition: Definition, source: Source) -> Self {
        let formats = definition.formats.iter().map(|format| format.name()).collect();
        DeclaredExport { definition, source, formats }
    }

    /// What it was made of.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Asks the database about the query: whether it runs, whether it only reads, and which
    /// columns it has. Nothing is executed.
    ///
    /// # Errors
    /// [`Error::Query`] naming the file, and the line where the database tells it;
    /// [`Error::Config`] naming the file, and the column where it is about one;
    /// [`Error::Database`] when the database is not to be reached.
    pub async fn check(&self) -> Result<Vec<Column>> {
        let definition = &self.definition;
        let columns = self.source.describe(definition, "en").await?;
        for (name, settings) in &definition.columns {
            if !columns.iter().any(|column| column.name == *name) {
                let known: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
                return Err(Error::Config(format!(
                    "{}: the query has no column {name:?}; it has {}",
                    settings.place,
                    known.join(", ")
                )));
            }
        }
        Ok(columns)
    }
}

impl DeclaredExport {
    /// Says how many rows there will be, so that people see how far it is. Not at once: what takes
    /// a moment is done before anybody looks.
    async fn estimate(&self, given: &[criteria::Given], job: &Job) -> Infallible {
        tokio::time::sleep(GUESS_AFTER).await;
        let Definition { max_rows, timeout, count, .. } = self.definition;
        let estimated = async {
            if count {
                let rows = self.source.count_up_to(
                    &self.definition,
                    given,
                    max_rows,
                    job.timezone,
                    timeout,
                );
                job.progress.set_total(rows.await?);
            } else if let Some(rows) =
                self.source.estimate(&self.definition, given, job.timezone, EVALUATE).await?
            {
                job.progress.guess_total(rows, Guess::Plan);
            }
            Ok::<_, Error>(())
        };
        if let Err(error) = estimated.await {
            tracing::debug!(%error, "nobody knows how many rows there are");
        }
        future::pending().await
    }

    /// Counts, no further than the answer needs.
    async fn evaluate_by_count(&self, given: &[criteria::Given], zone: Tz) -> Result<Delivery> {
        let limit = self.definition.delay_over;
        let timeout = self.definition.timeout.min(EVALUATE);
        let counted = self.source.count_up_to(&self.definition, given, limit, zone, timeout);
        match tokio::time::timeout(EVALUATE, counted).await {
            Ok(Ok(count)) if count <= limit => Ok(Delivery::Now),
            Ok(Err(error)) if !is_timeout(&error) => Err(error),
            // What takes long to count takes longer to write; or other exports leave no room at the
            // moment.
            _ => Ok(Delivery::Later),
        }
    }

    /// Asks for the plan and runs nothing. Where there is none, and where it is wrong, the try
    /// tells.
    async fn evaluate_by_plan(&self, given: &[criteria::Given], zone: Tz) -> Result<Delivery> {
        let limit = self.definition.delay_over;
        let estimate = self.source.estimate(&self.definition, given, zone, EVALUATE);
        match tokio::time::timeout(EVALUATE, estimate).await {
            Ok(Ok(rows)) if rows.is_none_or(|rows| rows <= limit) => {
                Ok(Delivery::NowIfSmall { rows: limit })
            }
            Ok(Err(error)) if !is_timeout(&error) => Err(error),
            // It is large, or other exports leave no room at the moment.
            _ => Ok(Delivery::Later),
        }
    }
}

#[async_trait]
impl Handler for DeclaredExport {
    fn file_type(&self) -> &str {
        self.definition.file_type.as_str()
    }

    async fn write(&self, job: &Job, out: Output) -> Result<()> {
        let given = self.definition.criteria.parse(&job.criteria, job.timezone)?;
        job.progress.set_most(self.definition.max_rows);
        tokio::select! {
            biased;
            // Dropping the other branches stops the queries and the encoder.
            () = job.cancelled.cancelled() => Err(Error::Cancelled),
            done = self.source.write(&self.definition, &given, job, out) => done,
            never = self.estimate(&given, job) => match never {},
        }
    }

    fn title(&self, language: &str) -> String {
        self.definition.title.get(language).to_owned()
    }

    fn formats(&self) -> &[&'static str] {
        &self.formats
    }

    fn may_ask(&self, role: Role) -> bool {
        self.definition.roles.is_empty() || self.definition.roles.contains(&role)
    }

    fn criteria_schema(&self, language: &str) -> serde_json::Value {
        self.definition.criteria.json_schema(language)
    }

    fn parse_criteria(&self, criteria: &Criteria) -> Result<Criteria> {
        self.definition.criteria.normalise(criteria)
    }

    async fn evaluate(&self, job: &Job) -> Result<Delivery> {
        let given = self.definition.criteria.parse(&job.criteria, job.timezone)?;
        match self.definition.count {
            true => self.evaluate_by_count(&given, job.timezone).await,
            false => self.evaluate_by_plan(&given, job.timezone).await,
        }
    }

    fn filename(&self, job: &Job) -> String {
        let definition = &self.definition;
        // Criteria that no longer fit the definition leave their places empty.
        let given = definition.criteria.parse(&job.criteria, job.timezone).unwrap_or_default();
        let date = job.request.requested_at.with_timezone(&job.timezone).date_naive();
        definition.filename.render(&given, &job.request.format, date)
    }

    fn extension(&self, job: &Job) -> String {
        job.request.format.clone()
    }

    fn content_type(&self, job: &Job) -> String {
        let format = Format::parse(&job.request.format);
        format.map_or("application/octet-stream", Format::content_type).to_owned()
    }

    fn requester_only(&self) -> bool {
        self.definition.link_policy.requester_only != RequesterOnly::No
    }

    fn link_policy(&self) -> LinkPolicy {
        self.definition.link_policy
    }

    fn expires_after(&self) -> Option<Duration> {
        self.definition.expires_after
    }

    fn timeout(&self) -> Duration {
        self.definition.timeout
    }

    fn max_attempts(&self) -> i32 {
        self.definition.max_attempts
    }
}

fn is_timeout(error: &Error) -> bool {
    matches!(error, Error::Permanent { code, .. } if *code == "timeout")
}
