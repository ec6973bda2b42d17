//! Rows in, a file out.
//!
//! [`TableWriter`] is for handlers that make tables, declared or written in Rust. Encoding burns
//! CPU (XLSX about a second for 150,000 rows of ten columns), therefore it runs on one thread of its own,
//! which is fed batches of rows through a bounded channel: leases go on being renewed, and a slow
//! reader slows the rows instead of filling memory.

use chrono_tz::Tz;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    format::{Encoder, Format, Layout, Sink, XLSX_ROWS, encoder},
    value::{Column, Value},
};
use crate::{
    error::{Error, Result},
    registry::{Job, Output, Progress},
};

/// Rows of a batch.
const BATCH_ROWS: usize = 512;
/// A batch of long rows is passed on earlier: at this many bytes.
const BATCH_BYTES: usize = 512 * 1024;
/// Batches that wait for the encoder.
const DEPTH: usize = 2;

/// One row.
type Row = Vec<Value>;

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
    batch: Vec<Row>,
    batch_bytes: usize,
    rows: u64,
    max_rows: Option<u64>,
    cancelled: CancellationToken,
}

enum State {
    /// Nothing was passed on yet. Boxed, as it is much larger than the rest.
    New(Box<Start>),
    Running(mpsc::Sender<Message>, JoinHandle<Result<()>>),
    /// The encoder's error was already handed out.
    Broken,
}

struct Start {
    format: Format,
    out: Output,
    layout: Layout,
    progress: Progress,
    cancelled: CancellationToken,
}

enum Message {
    Rows(Vec<Row>),
    /// A channel that just closes means that the rows are not complete.
    Finish,
}

impl TableWriter {
    /// A table in `job.request.format`, in the job's time zone.
    ///
    /// # Errors
    /// [`Error::Permanent`] when the format is none that tables know, or there are no columns.
    pub fn new(out: Output, job: &Job, columns: Vec<Column>) -> Result<Self> {
        let name = &job.request.format;
        let format = Format::parse(name).ok_or_else(|| {
            let known = Format::ALL.map(Format::name).join(", ");
            let message = format!("tables cannot be written as {name:?}; use one of {known}");
            Error::permanent("unsupported_format", message)
        })?;
        if columns.is_empty() {
            return Err(Error::permanent("no_columns", "a table needs at least one column"));
        }
        Ok(TableWriter {
            columns: columns.len(),
            state: State::New(Box::new(Start {
                format,
                out,
                layout: Layout { columns, zone: job.timezone, rows_per_sheet: XLSX_ROWS },
                progress: job.progress.clone(),
                cancelled: job.cancelled.clone(),
            })),
            batch: Vec::new(),
            batch_bytes: 0,
            rows: 0,
            max_rows: None,
            cancelled: job.cancelled.clone(),
        })
    }

    /// Refuses more than `rows` rows: an error that says so, never a silent cut.
    pub fn with_max_rows(mut self, rows: u64) -> Self {
        self.max_rows = Some(rows);
        self
    }

    /// Goes on with a further XLSX sheet after this many rows, the header included; at most (and
    /// by default) 1,048,576, at least 2. To be called before the first row.
    pub fn with_rows_per_sheet(mut self, rows: u32) -> Self {
        if let State::New(start) = &mut self.state {
            start.layout.rows_per_sheet = rows.clamp(2, XLSX_ROWS);
        }
        self
    }

    /// Shows moments in this time zone instead of the job's. To be called before the first row.
    pub fn with_timezone(mut self, zone: Tz) -> Self {
        if let State::New(start) = &mut self.state {
            start.layout.zone = zone;
        }
        self
    }

    /// Writes a row: one value for each column.
    ///
    /// # Errors
    /// [`Error::Permanent`] `too_many_rows` past [`TableWriter::with_max_rows`];
    /// [`Error::Cancelled`] once `job.cancelled` has fired; [`Error::OutputClosed`] when nobody
    /// reads any more; the first error of the encoder, some rows late. After an error, stop.
    pub async fn row(&mut self, row: Vec<Value>) -> Result<()> {
        if row.len() != self.columns {
            return Err(Error::Internal(format!(
                "a row of {} values in a table of {} columns",
                row.len(),
                self.columns
            )));
        }
        if let Some(limit) = self.max_rows
            && self.rows >= limit
        {
            return Err(too_many_rows(limit));
        }
        self.rows += 1;
        self.batch_bytes += row.iter().map(Value::weight).sum::<usize>();
        self.batch.push(row);
        if self.batch.len() >= BATCH_ROWS || self.batch_bytes >= BATCH_BYTES {
            self.pass_on().await?;
        }
        Ok(())
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
        self.pass_on().await?;
        self.send(Message::Finish).await?;
        self.outcome().await
    }

    async fn pass_on(&mut self) -> Result<()> {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_ROWS));
        self.batch_bytes = 0;
        self.send(Message::Rows(batch)).await?;
        // Rows that are ready without waiting would keep this thread from everything else.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<()> {
        if let State::New(_) = self.state
            && let State::New(start) = std::mem::replace(&mut self.state, State::Broken)
        {
            let (to, from) = mpsc::channel(DEPTH);
            self.state = State::Running(to, tokio::task::spawn_blocking(|| encode(*start, from)));
        }
        let State::Running(to, _) = &self.state else {
            return Err(Error::OutputClosed);
        };
        let sent = tokio::select! {
            biased;
            () = self.cancelled.cancelled() => return Err(Error::Cancelled),
            sent = to.send(message) => sent,
        };
        match sent {
            Ok(()) => Ok(()),
            // The encoder has stopped listening: it says why.
            Err(_) => self.outcome().await.and(Err(Error::OutputClosed)),
        }
    }

    async fn outcome(&mut self) -> Result<()> {
        let State::Running(to, mut encoder) = std::mem::replace(&mut self.state, State::Broken)
        else {
            return Err(Error::OutputClosed);
        };
        drop(to);
        let outcome = tokio::select! {
            biased;
            () = self.cancelled.cancelled() => return Err(Error::Cancelled),
            outcome = &mut encoder => outcome,
        };
        match outcome {
            Ok(result) => result,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            // The runtime is shutting down.
            Err(_) => Err(Error::OutputClosed),
        }
    }
}

/// The encoder's thread.
fn encode(start: Start, mut from: mpsc::Receiver<Message>) -> Result<()> {
    let Start { format, out, layout, progress, cancelled } = start;
    let work = || -> Result<()> {
        let sink = Sink::new(out.into_writer(), cancelled.clone());
        let mut encoder: Box<dyn Encoder> = encoder(format, layout, sink)?;
        let mut rows = 0;
        progress.set_rows(rows);
        loop {
            let batch = match from.blocking_recv() {
                Some(Message::Rows(batch)) => batch,
                Some(Message::Finish) => return encoder.finish(),
                None => return Err(Error::OutputClosed),
            };
            for row in batch {
                if cancelled.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                encoder.row(&row)?;
                rows += 1;
            }
            progress.set_rows(rows);
        }
    };
    // A sink that was cancelled looks like one that nobody reads.
    work().map_err(|error| if cancelled.is_cancelled() { Error::Cancelled } else { error })
}

fn too_many_rows(limit: u64) -> Error {
    let message = format!(
        "there are more than {limit} rows, the most that this file may have; \
         narrow the criteria, or let the operator raise max_rows"
    );
    Error::permanent("too_many_rows", message)
}
