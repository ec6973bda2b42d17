//! Receipts: each hit of a link is logged, and downloads are counted.

use super::Toolbox;
use crate::{
    error::Result,
    file_request::links::{Event, Hit, covers, store},
};

impl Toolbox {
    /// Logs a hit.
    ///
    /// # Errors
    /// The database's.
    pub async fn record_hit(&self, hit: Hit) -> Result<()> {
        metrics::counter!("bgfiles_links_total", "event" => hit.event.as_str()).increment(1);
        let mut tx = self.db.begin().await?;
        store::log(&mut tx, &hit, self.clock.now()).await?;
        tx.commit().await
    }

    /// Logs bytes that were sent of a file of `size` bytes: `range`, or `complete` when with them
    /// the last missing byte is out. Under a grant the pieces of all its answers count together,
    /// and the use was counted when the link was redeemed; without one a whole answer is a
    /// download.
    ///
    /// # Errors
    /// The database's.
    pub async fn record_sent(&self, hit: Hit, size: i64) -> Result<()> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        if let Some(grant) = &hit.grant {
            store::hold_grant(&mut tx, grant).await?;
        }
        let logged = store::log(&mut tx, &Hit { event: Event::Range, ..hit.clone() }, now).await?;
        let complete = match &hit.grant {
            Some(grant) => {
                covers(store::pieces(&mut tx, grant).await?, size)
                    && store::complete_grant(&mut tx, grant, now).await?
            }
            None => hit.first_byte == Some(0) && hit.bytes == Some(size),
        };
        if let (true, Some(id)) = (complete, logged) {
            store::relabel(&mut tx, id, Event::Complete).await?;
            if hit.grant.is_none() {
                store::count_download(&mut tx, hit.request_id, now).await?;
            }
        }
        tx.commit().await?;
        let event = if complete { Event::Complete } else { Event::Range };
        metrics::counter!("bgfiles_links_total", "event" => event.as_str()).increment(1);
        Ok(())
    }

    /// Logs that somebody else was told to send the bytes.
    ///
    /// # Errors
    /// The database's.
    pub async fn record_handed_over(&self, hit: Hit) -> Result<()> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        store::log(&mut tx, &Hit { event: Event::HandedOver, ..hit.clone() }, now).await?;
        if hit.grant.is_none() {
            store::count_download(&mut tx, hit.request_id, now).await?;
        }
        tx.commit().await
    }
}
