//! Rows in, a file out.
//!
//! Encoding burns CPU, therefore it runs on a thread of its own: leases go on being renewed, and a
//! slow reader slows the rows instead of filling memory. Rows come to that thread in one of two
//! ways. [`TableWriter`], for handlers, and PostgreSQL send batches through a bounded channel
//! ([`Feeder`]); SQLite, which works where it is called, is read on that thread itself.

use chrono_tz::Tz;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    definition::Definition,
    format::{Encoder, Format, Layout, Sink, XLSX_ROWS, encoder},
    value::{Cell, Column, Value},
};
use crate::{
    error::{Error, Result},
    registry::{Job, Output, Progress},
};

/// Rows of a batch.
const BATCH_ROWS: usize = 512;
/// A batch of long rows is passed on earlier: at this many bytes.
const BATCH_BYTES: usize = 512 * 1024;
/// Batches that wait for the encoder: at least the last one and word that it was the last.
const DEPTH: usize = 2;
/// Rows between two looks at whether to go on.
const LOOK: u64 = 256;

/// One row.
type Row = Vec<Value>;

/// A table that is to be written: everything but its rows.
pub(super) struct Table {
    format: Format,
    out: Output,
    layout: Layout,
    max_rows: Option<u64>,
    progress: Progress,
    cancelled: CancellationToken,
}

impl Table {
    /// # Errors
    /// [`Error::Permanent`] when the job's format is none that tables know, or there are no
    /// columns.
    pub(super) fn new(out: Output, job: &Job, columns: Vec<Column>) -> Result<Self> {
        let name = &job.request.format;
        let format = Format::parse(name).ok_or_else(|| {
            let known = Format::ALL.map(Format::name).join(", ");
            let message = format!("tables cannot be written as {name:?}; use one of {known}");
            Error::permanent("unsupported_format", message)
        })?;
        if columns.is_empty() {
            return Err(Error::permanent("no_columns", "a table needs at least one column"));
        }
        Ok(Table {
            format,
            out,
            layout: Layout {
                columns,
                zone: job.timezone,
                made_at: job.request.started_at.unwrap_or(job.request.requested_at),
                rows_per_sheet: XLSX_ROWS,
                references: true,
                dictionaries: true,
            },
            max_rows: None,
            progress: job.progress.clone(),
            cancelled: job.cancelled.clone(),
        })
    }

    /// As the definition wants it.
    ///
    /// # Errors
    /// As [`Table::new`].
    pub(super) fn declared(
        out: Output,
        job: &Job,
        columns: Vec<Column>,
        definition: &Definition,
    ) -> Result<Self> {
        let mut table = Table::new(out, job, columns)?;
        table.max_rows = Some(definition.max_rows);
        table.layout.references = definition.xlsx.references;
        table.layout.dictionaries = definition.parquet.dictionaries;
        Ok(table)
    }

    /// Writes the file here, on a thread that may block. `feed` gives the rows; the file is whole
    /// only when it returns `Ok`.
    pub(super) fn write(self, feed: impl FnOnce(&mut Rows) -> Result<()>) -> Result<()> {
        let cancelled = self.cancelled.clone();
        let work = || {
            let sink = Sink::new(self.out.into_writer(), self.cancelled.clone());
            self.progress.set_rows(0);
            let mut rows = Rows {
                encoder: encoder(self.format, self.layout, sink)?,
                at: 0,
                done: 0,
                max_rows: self.max_rows.unwrap_or(u64::MAX),
                progress: self.progress,
                cancelled: self.cancelled,
            };
            feed(&mut rows)?;
            rows.finish()
        };
        // A sink that was cancelled looks like one that nobody reads.
        work().map_err(|error| if cancelled.is_cancelled() { Error::Cancelled } else { error })
    }
}

/// Takes the rows of a table cell by cell.
pub(super) struct Rows {
    encoder: Box<dyn Encoder>,
    /// The column of the next cell.
    at: usize,
    done: u64,
    max_rows: u64,
    progress: Progress,
    cancelled: CancellationToken,
}

impl Rows {
    /// The next cell of the row.
    pub(super) fn cell(&mut self, cell: Cell<'_>) -> Result<()> {
        let at = self.at;
        self.at += 1;
        self.encoder.cell(at, cell)
    }

    /// Ends the row, which has a cell for each column.
    pub(super) fn end(&mut self) -> Result<()> {
        if self.done >= self.max_rows {
            return Err(too_many_rows(self.max_rows));
        }
        self.at = 0;
        self.done += 1;
        self.encoder.end_row()?;
        if self.done.is_multiple_of(LOOK) {
            self.progress.set_rows(self.done);
            crate::failpoint::reached("generating");
            if self.cancelled.is_cancelled() {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }

    /// Rows so far.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    fn finish(self) -> Result<()> {
        self.progress.set_rows(self.done);
        self.encoder.finish()
    }
}

/// Rows on their way to the thread that encodes them, in batches.
pub(super) struct Feeder<R> {
    to: mpsc::Sender<Message<R>>,
    encoding: Encoding,
    cancelled: CancellationToken,
    batch: Vec<R>,
    batch_bytes: usize,
}

enum Message<R> {
    Batch(Vec<R>),
    /// A channel that just closes means that the rows are not complete.
    Finish,
}

enum Encoding {
    /// The first batch is not full yet. All rows of a small table are there before the thread
    /// begins, which then waits for nothing.
    Later(Box<dyn FnOnce() -> Result<()> + Send>),
    UnderWay(JoinHandle<Result<()>>),
    /// The outcome was handed out.
    Over,
}

impl<R: Send + 'static> Feeder<R> {
    /// Rows for a thread that hands each of them to `each`.
    pub(super) fn new(
        table: Table,
        mut each: impl FnMut(R, &mut Rows) -> Result<()> + Send + 'static,
    ) -> Self {
        let cancelled = table.cancelled.clone();
        let (to, mut from) = mpsc::channel(DEPTH);
        let encode = move || {
            table.write(|rows| {
                loop {
                    match from.blocking_recv() {
                        Some(Message::Batch(batch)) => {
                            batch.into_iter().try_for_each(|row| each(row, rows))?;
                        }
                        Some(Message::Finish) => return Ok(()),
                        None => return Err(Error::OutputClosed),
                    }
                }
            })
        };
        let encoding = Encoding::Later(Box::new(encode));
        Feeder { to, encoding, cancelled, batch: Vec::new(), batch_bytes: 0 }
    }

    /// Takes a row of about so many bytes; waits while the encoder is behind.
    ///
    /// # Errors
    /// [`Error::Cancelled`]; [`Error::OutputClosed`] when nobody reads any more; the first error
    /// of the encoder, some rows late.
    pub(super) async fn push(&mut self, row: R, bytes: usize) -> Result<()> {
        self.batch.push(row);
        self.batch_bytes += bytes;
        if self.batch.len() >= BATCH_ROWS || self.batch_bytes >= BATCH_BYTES {
            self.begin();
            self.send_batch(BATCH_ROWS).await?;
            // Rows that are ready without waiting would keep this thread from everything else.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Starts the thread, unless it was.
    fn begin(&mut self) {
        if let Encoding::Later(_) = self.encoding
            && let Encoding::Later(encode) = std::mem::replace(&mut self.encoding, Encoding::Over)
        {
            self.encoding = Encoding::UnderWay(tokio::task::spawn_blocking(encode));
        }
    }

    async fn send_batch(&mut self, room: usize) -> Result<()> {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(room));
        self.batch_bytes = 0;
        self.pass_on(Message::Batch(batch)).await
    }

    /// Waits until all of it was taken by the reader.
    ///
    /// # Errors
    /// As [`Feeder::push`].
    pub(super) async fn finish(mut self) -> Result<()> {
        // There is room for both, should nothing have begun yet.
        self.send_batch(0).await?;
        self.pass_on(Message::Finish).await?;
        self.begin();
        self.outcome().await
    }

    async fn pass_on(&mut self, message: Message<R>) -> Result<()> {
        let sent = tokio::select! {
            biased;
            () = self.cancelled.cancelled() => return Err(Error::Cancelled),
            sent = self.to.send(message) => sent,
        };
        match sent {
            Ok(()) => Ok(()),
            // The encoder has stopped listening: it says why.
            Err(_) => self.outcome().await.and(Err(Error::OutputClosed)),
        }
    }

    async fn outcome(&mut self) -> Result<()> {
        let Encoding::UnderWay(encoder) = &mut self.encoding else {
            return Err(Error::OutputClosed);
        };
        let outcome = tokio::select! {
            biased;
            () = self.cancelled.cancelled() => return Err(Error::Cancelled),
            outcome = encoder => outcome,
        };
        self.encoding = Encoding::Over;
        match outcome {
            Ok(result) => result,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            // The runtime is shutting down.
            Err(_) => Err(Error::OutputClosed),
        }
    }
}

/// Writes a table in the format of its request, in memory that does not grow with its rows.
///
/// ```no_run
/// # use bgfiles::{error::Result, export::{Column, TableWriter, Value}, registry::{Job, Output}};
/// # async fn write(job: &Job, out: Output) -> Result<()> {
/// let columns = vec![Column::new("name"), Column::new("born")];
/// let mut table = TableWriter::new(out, job, columns)?;
/// table.row(vec![Value::Text("Ada".into()), Value::Int(1815)]).await?;
/// table.finish().await
/// # }
/// ```
///
/// Dropping it without [`TableWriter::finish`] leaves a file that is cut off: return an error.
pub struct TableWriter {
    state: State,
    columns: usize,
    rows: u64,
}

enum State {
    /// Nothing was passed on yet. Boxed, as it is much larger than the rest.
    New(Box<Table>),
    Running(Feeder<Row>),
    /// In the midst of starting.
    Gone,
}

impl TableWriter {
    /// A table in `job.request.format`, in the job's time zone.
    ///
    /// # Errors
    /// [`Error::Permanent`] when the format is none that tables know, or there are no columns.
    pub fn new(out: Output, job: &Job, columns: Vec<Column>) -> Result<Self> {
        Ok(TableWriter {
            columns: columns.len(),
            state: State::New(Box::new(Table::new(out, job, columns)?)),
            rows: 0,
        })
    }

    /// Refuses more than `rows` rows: an error that says so, never a silent cut. To be called
    /// before the first row.
    pub fn with_max_rows(mut self, rows: u64) -> Self {
        if let State::New(table) = &mut self.state {
            table.max_rows = Some(rows);
        }
        self
    }

    /// Goes on with a further XLSX sheet after this many rows, the header included; at most (and
    /// by default) 1,048,576, at least 2. To be called before the first row.
    pub fn with_rows_per_sheet(mut self, rows: u32) -> Self {
        if let State::New(table) = &mut self.state {
            table.layout.rows_per_sheet = rows.clamp(2, XLSX_ROWS);
        }
        self
    }

    /// Whether rows and cells of XLSX say where they are; they do unless told otherwise. A file
    /// without is smaller by a quarter or more, and a third of the programs that read XLSX cannot read it. To be
    /// called before the first row.
    pub fn with_references(mut self, references: bool) -> Self {
        if let State::New(table) = &mut self.state {
            table.layout.references = references;
        }
        self
    }

    /// Shows moments in this time zone instead of the job's. To be called before the first row.
    pub fn with_timezone(mut self, zone: Tz) -> Self {
        if let State::New(table) = &mut self.state {
            table.layout.zone = zone;
        }
        self
    }

    /// Writes a row: one value for each column.
    ///
    /// # Errors
    /// [`Error::Permanent`] `too_many_rows` past [`TableWriter::with_max_rows`];
    /// [`Error::Cancelled`] once `job.cancelled` has fired; [`Error::OutputClosed`] when nobody
    /// reads any more; the first error of the encoder. All of them some rows late. After an error,
    /// stop.
    pub async fn row(&mut self, row: Vec<Value>) -> Result<()> {
        if row.len() != self.columns {
            return Err(Error::Internal(format!(
                "a row of {} values in a table of {} columns",
                row.len(),
                self.columns
            )));
        }
        self.rows += 1;
        let bytes = row.iter().map(Value::weight).sum();
        self.feeder()?.push(row, bytes).await
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes what is left and waits until all of it was taken by the reader.
    ///
    /// # Errors
    /// As [`TableWriter::row`].
    pub async fn finish(mut self) -> Result<()> {
        self.feeder()?;
        match self.state {
            State::Running(feeder) => feeder.finish().await,
            State::New(_) | State::Gone => Err(Error::OutputClosed),
        }
    }

    fn feeder(&mut self) -> Result<&mut Feeder<Row>> {
        if let State::New(_) = self.state
            && let State::New(table) = std::mem::replace(&mut self.state, State::Gone)
        {
            self.state = State::Running(Feeder::new(*table, encode));
        }
        match &mut self.state {
            State::Running(feeder) => Ok(feeder),
            State::New(_) | State::Gone => Err(Error::OutputClosed),
        }
    }
}

fn encode(row: Row, rows: &mut Rows) -> Result<()> {
    row.iter().try_for_each(|value| rows.cell(value.cell()))?;
    rows.end()
}

fn too_many_rows(limit: u64) -> Error {
    let message = format!(
        "there are more than {limit} rows, the most that this file may have; \
         narrow the criteria, or let the operator raise max_rows"
    );
    Error::permanent("too_many_rows", message)
}
