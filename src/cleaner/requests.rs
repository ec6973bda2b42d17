//! The sweep of requests past their expiry, with their files.

use chrono::{DateTime, Utc};

use super::run::{Ended, Run};
use crate::{error::Result, file_request::store, toolbox::Toolbox};

/// Rows looked at together.
const BATCH: i64 = 100;

/// Soonest expired first. The object goes first, then the row: a crash in between leaves a row to
/// try again with, never an object that nobody knows.
pub(super) async fn sweep(
    toolbox: &Toolbox,
    threshold: DateTime<Utc>,
    run: &mut Run,
) -> Result<Ended> {
    let mut tx = toolbox.db().read().await?;
    run.total = u64::try_from(store::count_expired(&mut tx, threshold).await?).ok();
    drop(tx);
    loop {
        let mut tx = toolbox.db().read().await?;
        let skip = i64::try_from(run.failed).unwrap_or(i64::MAX - BATCH);
        let ids = store::expired(&mut tx, threshold, BATCH + skip).await?;
        drop(tx);
        // Those that failed are still there, at the front.
        let ids: Vec<_> = ids.into_iter().skip(usize::try_from(skip).unwrap_or(0)).collect();
        if ids.is_empty() {
            return Ok(Ended::Processed);
        }
        for id in ids {
            if let Some(ended) = run.ended() {
                return Ok(ended);
            }
            if run.removed + run.failed > 0 {
                run.pause().await;
            }
            let mut tx = toolbox.db().begin().await?;
            let row = store::begin_removal(&mut tx, id, threshold).await?;
            tx.commit().await?;
            let Some(row) = row else { continue };
            crate::failpoint::reached("cleaning");
            match toolbox.remove(&row).await {
                Ok(()) => run.removed += 1,
                Err(error) => {
                    tracing::warn!(request = %id, %error, "could not remove; trying again next time");
                    run.failed += 1;
                }
            }
        }
    }
}
