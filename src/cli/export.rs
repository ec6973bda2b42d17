//! `bgfiles export`

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::{
    output::{self, note, progress, progress_done},
    setup,
    target::Target,
};
use crate::{
    clock::Clock,
    config::Flags,
    error::{Error, Result},
    file_request::NewFileRequest,
    registry::{Handler, Job, Output, Registry},
};

/// Runs a file type here and now: no queue, no storage, no mail. Writes to standard output, or to
/// a file that appears whole or not at all. A file that was there keeps its mode, a symbolic link
/// stays one; into a device or a FIFO it writes straight.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bgfiles export flights --format csv --criteria origin=JFK > jfk.csv\n  bgfiles export flights --format xlsx -o flights.xlsx"
)]
pub(super) struct Export {
    /// Which kind of file
    file_type: String,
    /// One of the file type's formats
    #[arg(long)]
    format: Option<String>,
    /// What to put in it; repeat as needed
    #[arg(long, value_name = "NAME=VALUE")]
    criteria: Vec<String>,
    /// Language of labels, e.g. `nl`
    #[arg(long)]
    language: Option<String>,
    /// Time zone of times, e.g. `Europe/Amsterdam`
    #[arg(long)]
    timezone: Option<String>,
    /// Write to this file; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    pub(super) async fn run(self, flags: &Flags, registry: Registry) -> Result<ExitCode> {
        let config = setup::config(flags)?;
        let registry = setup::declared(&config, registry)?;
        let handler = registry.get(&self.file_type)?.clone();
        let criteria = handler.parse_criteria(&setup::criteria(&self.criteria)?)?;
        let new = NewFileRequest {
            criteria,
            format: Some(handler.choose_format(self.format.as_deref())?),
            language: self.language,
            timezone: self.timezone,
            ..NewFileRequest::new(self.file_type.parse()?)
        };
        new.validate()?;
        let job = Job::new(new.into_row(Clock::system().now()))?;
        let stop = setup::shutdown()?;
        let (cancelled, rows) = (job.cancelled.clone(), job.progress.clone());
        tokio::spawn(async move {
            stop.cancelled().await;
            cancelled.cancel();
        });
        make(handler, job, self.output.as_deref()).await?;
        let file = self.output.filter(|path| *path != Path::new("-"));
        if let (Some(rows), Some(path)) = (rows.rows(), file) {
            note(format_args!("{rows} rows written to {}", path.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes the file where `-o` says.
async fn make(handler: Arc<dyn Handler>, job: Job, output: Option<&Path>) -> Result<()> {
    let (cancelled, rows) = (job.cancelled.clone(), job.progress.clone());
    let opened = tokio::select! {
        opened = Target::open(output) => opened,
        () = cancelled.cancelled() => Err(Error::Cancelled),
    };
    let mut target = opened?;
    let (out, bytes) = Output::channel();
    let write = async move { handler.write(&job, out).await };
    let written = both(write, bytes, target.writer(), &rows, &cancelled).await;
    progress_done();
    written?;
    target.finish()
}

/// Writes while the handler makes.
async fn both(
    write: impl Future<Output = Result<()>>,
    mut bytes: tokio::sync::mpsc::Receiver<bytes::Bytes>,
    to: &mut (dyn AsyncWrite + Send + Unpin),
    rows: &crate::registry::Progress,
    cancelled: &CancellationToken,
) -> Result<()> {
    let pass_on = async move {
        while let Some(chunk) = bytes.recv().await {
            tokio::select! {
                written = to.write_all(&chunk) => written.map_err(Error::io("writing the file"))?,
                // Nobody may be reading.
                () = cancelled.cancelled() => return Err(Error::Cancelled),
            }
            progress(output::rows(rows.done(), rows.total(), rows.is_estimated()));
        }
        to.flush().await.map_err(Error::io("writing the file"))
    };
    let (written, passed_on) = tokio::join!(write, pass_on);
    // A reader that is gone is the cause, the handler's failure its effect.
    passed_on?;
    written
}
