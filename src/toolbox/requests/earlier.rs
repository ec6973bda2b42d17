//! What the last file of a type tells about the next one.

use std::{convert::Infallible, future};

use crate::{
    error::Result,
    file_request::{
        FileRequest,
        store::{self, Earlier},
    },
    registry::{GUESS_AFTER, Guess, Job},
    toolbox::{Toolbox, requests::inline::PATIENCE},
};

impl Toolbox {
    /// Guesses how many rows there will be, once making them takes long enough for people to look.
    pub(in crate::toolbox) async fn look_back(&self, job: &Job) -> Infallible {
        tokio::time::sleep(GUESS_AFTER).await;
        if let Some(earlier) = self.earlier(&job.request).await {
            let rows = u64::try_from(earlier.rows).unwrap_or_default();
            let guess = match earlier.criteria == job.request.criteria {
                true => Guess::LastAlike,
                false => Guess::LastOfType,
            };
            job.progress.guess_total(rows, guess);
        }
        future::pending().await
    }

    /// Whether nothing speaks against making it at once. Only what was made of the same criteria
    /// does: a try costs little, and is stopped when it shows to be large.
    pub(in crate::toolbox) async fn was_small(&self, row: &FileRequest, most: u64) -> bool {
        let alike = self.earlier(row).await.filter(|earlier| earlier.criteria == row.criteria);
        let is_small = |earlier: Earlier| {
            let took = earlier.finished_at.zip(earlier.started_at).map(|(end, begin)| end - begin);
            u64::try_from(earlier.rows).is_ok_and(|rows| rows <= most)
                && took.is_none_or(|took| took.to_std().unwrap_or_default() <= PATIENCE)
        };
        alike.is_none_or(is_small)
    }

    async fn earlier(&self, row: &FileRequest) -> Option<Earlier> {
        let found: Result<_> = async {
            store::earlier(&mut self.db().acquire().await?, &row.file_type, row.criteria.as_str())
                .await
        }
        .await;
        found.unwrap_or_else(|error| {
            tracing::debug!(request = %row.id, %error, "nobody knows how large the last file was");
            None
        })
    }
}
