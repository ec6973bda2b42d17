//! Everything that is known of a request.

use crate::{
    error::Result,
    file_request::{
        attempts::{self, Attempt},
        links::{self, HitRow, Link},
        notice::{self, Notice},
    },
    ids::RequestId,
    toolbox::Toolbox,
};

/// What a request's page shows of its downloads.
const HITS: i64 = 100;
/// And of its links: all that are not over, as long as no more were made before there was a limit.
const SHOWN: i64 = 100;

/// Everything that is known of a request.
#[derive(Clone, Debug)]
pub struct History {
    /// Attempts that ended with a word.
    pub attempts: Vec<Attempt>,
    /// Mails about it.
    pub notices: Vec<Notice>,
    /// Links with a row: a hundred at most, those first that are not over.
    pub links: Vec<Link>,
    /// Whether there are more.
    pub more_links: bool,
    /// What became of its links, the newest first; the last hundred.
    pub hits: Vec<HitRow>,
}

impl Toolbox {
    /// Everything that is known of a request.
    ///
    /// # Errors
    /// The database's.
    pub async fn history(&self, id: RequestId) -> Result<History> {
        self.write_earlier_receipts().await;
        let (mut tx, now) = (self.db().read().await?, self.clock().now());
        let mut links = links::store::good_first(&mut tx, id, now, SHOWN + 1).await?;
        let more_links = links.len() as i64 > SHOWN;
        links.truncate(SHOWN as usize);
        Ok(History {
            attempts: attempts::store::of_request(&mut tx, id).await?,
            notices: notice::store::of_request(&mut tx, id).await?,
            links,
            more_links,
            hits: links::line::store::hits(&mut tx, id, None, None, HITS).await?,
        })
    }
}
