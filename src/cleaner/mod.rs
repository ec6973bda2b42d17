//! The cleaner: removes what nobody may use any more, one sweep after the other, in batches.
//!
//! ```text
//! sweeps     the list: name, how long things are kept, and the work
//! settings   jobs/cleaner.toml, checked against the list
//! run        limits of a run, and what it came to
//! requests   the sweep of expired requests
//! objects    the sweep of objects that no request refers to
//! ```

mod objects;
mod requests;
mod run;
mod settings;
mod sweeps;

use tokio::time::Instant;

pub use run::{Ended, Limits, Swept};
pub use settings::{Keep, Sweeps};

use run::Run;
use sweeps::SWEEPS;

use crate::{
    error::Result,
    operations::{self, SweepRun},
    toolbox::Toolbox,
};

/// The name of each sweep, in their order.
pub fn sweep_names() -> impl Iterator<Item = &'static str> {
    SWEEPS.iter().map(|sweep| sweep.name)
}

/// Runs every sweep once, and writes down how each went.
///
/// # Errors
/// The database's; what a single object or row does is counted and tried again next time.
pub async fn clean(toolbox: &Toolbox, sweeps: &Sweeps, limits: Limits) -> Result<Vec<Swept>> {
    let mut swept = Vec::new();
    for sweep in SWEEPS {
        let Some(keep) = sweeps.of(sweep.name) else { continue };
        if limits.stop.is_cancelled() {
            break;
        }
        let (ran_at, began) = (toolbox.clock().now(), Instant::now());
        let mut run = Run::new(limits.clone());
        let done = sweep.run(toolbox, keep.before(ran_at), &mut run).await;
        let done = done.map(|ended| run.swept(sweep.name, ended));
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let line = SweepRun {
            name: sweep.name.to_owned(),
            ran_at,
            millis: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
            outcome: done.as_ref().map_or("error", |done| done.ended.as_str()).to_owned(),
            removed: done.as_ref().map_or(0, |done| count(done.removed)),
            failed: done.as_ref().map_or(0, |done| count(done.failed)),
        };
        write_down(toolbox, &line).await;
        let done = done?;
        metrics::counter!("bgfiles_swept_total", "sweep" => done.name).increment(done.removed);
        swept.push(done);
    }
    Ok(swept)
}

/// Operators look at it; cleaning goes on without.
async fn write_down(toolbox: &Toolbox, run: &SweepRun) {
    let write = async {
        let mut tx = toolbox.db().begin().await?;
        operations::store::swept(&mut tx, run).await?;
        tx.commit().await
    };
    let written: Result<()> = write.await;
    if let Err(error) = written {
        tracing::warn!(sweep = run.name, %error, "the run of a sweep was not written down");
    }
}
