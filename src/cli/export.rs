//! `bgfiles export`

use std::{path::PathBuf, process::ExitCode};

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{
    output::{self, note, progress, progress_done},
    setup,
};
use crate::{
    clock::Clock,
    config::Flags,
    error::{Error, Result},
    file_request::NewFileRequest,
    registry::{Job, Output, Registry},
};

/// Runs a file type here and now: no queue, no storage, no mail. Writes to standard output, or to
/// a file that appears whole or not at all.
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
    /// Write to this file
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
            ..NewFileRequest::new(Error::parse_file_type(&self.file_type)?)
        };
        new.validate()?;
        let job = Job::new(new.into_row(Clock::system().now()))?;
        let stop = setup::shutdown()?;
        let (cancelled, rows) = (job.cancelled.clone(), job.progress.clone());
        tokio::spawn(async move {
            stop.cancelled().await;
            cancelled.cancel();
        });
        let (out, bytes) = Output::channel();
        let write = async move { handler.write(&job, out).await };
        let written = match &self.output {
            None => both(write, bytes, tokio::io::stdout(), &rows).await,
            Some(path) => {
                let draft = draft_of(path);
                let context = || setup::display(&draft);
                let file = tokio::fs::File::create(&draft).await.map_err(Error::io(context()))?;
                let written = both(write, bytes, file, &rows).await;
                let moved = match written {
                    Ok(()) => tokio::fs::rename(&draft, path).await.map_err(Error::io(context())),
                    Err(e) => Err(e),
                };
                if moved.is_err() {
                    // What is not whole must not stay.
                    let _ = tokio::fs::remove_file(&draft).await;
                }
                moved
            }
        };
        progress_done();
        written?;
        if let (Some(rows), Some(path)) = (rows.rows(), &self.output) {
            note(format_args!("{rows} rows written to {}", path.display()));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn draft_of(path: &std::path::Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.part", std::process::id()))
}

/// Writes while the handler makes.
async fn both(
    write: impl Future<Output = Result<()>>,
    mut bytes: tokio::sync::mpsc::Receiver<bytes::Bytes>,
    mut to: impl AsyncWrite + Unpin,
    rows: &crate::registry::Progress,
) -> Result<()> {
    let pass_on = async move {
        while let Some(chunk) = bytes.recv().await {
            to.write_all(&chunk).await.map_err(Error::io("writing the file"))?;
            progress(output::rows(rows.done(), rows.total(), rows.is_estimated()));
        }
        to.flush().await.map_err(Error::io("writing the file"))
    };
    let (written, passed_on) = tokio::join!(write, pass_on);
    // A reader that is gone is the cause, the handler's failure its effect.
    passed_on?;
    written
}
