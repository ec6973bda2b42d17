//! Receipts: each hit of a link is logged, and downloads are counted.
//!
//! Receipts of links that may be used as often as one likes, of refusals and of pages are gathered,
//! and written together every 50 ms or 1,000: a transaction for each would be most of the work of a small download, and
//! make everybody who has the same link wait for its row. They were written behind their answers
//! before, too. Who kills the process (`kill -9`) loses the lines and counts of the last tenth of
//! a second; one that ends writes them first. What decides something is never gathered: the use of
//! a limited link is counted before its grant is given, and the pieces under a grant are written
//! one by one, since which one completes the file is decided there.
//!
//! Hits that are alike are one line with their number (`file_request::links::line`), so that whoever
//! has a link does not fill the database with it.
//!
//! While the database does not answer they are kept, up to a bound, and tried again. Only when the
//! answer to a commit is lost may a line stand twice.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};

use crate::{
    error::{Error, Result},
    file_request::links::{Event, Hit, cover, line, store},
    toolbox::Toolbox,
};

/// How long receipts are gathered.
const GATHER: Duration = Duration::from_millis(50);
/// So many are not kept waiting.
const MANY: usize = 1_000;
/// Receipts that are written together at most.
const BATCH: usize = 4_096;
/// With so many, answers wait for the database to catch up.
const TOO_MANY: usize = 16_384;
/// Receipts that wait at most; further ones are written one by one.
const MOST: usize = 32_768;
/// How long an answer waits for that. A database that is away holds up nobody for longer.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time between two tries when the database does not take them.
const AGAIN: Duration = Duration::from_secs(1);

/// Receipts that were not written yet.
#[derive(Debug, Default)]
pub(in crate::toolbox) struct Receipts {
    waiting: Mutex<Waiting>,
    /// There are many.
    many: tokio::sync::Notify,
    /// Those that are being written: one batch after the other, in order. What could not be written
    /// stays here and is tried again.
    writing: tokio::sync::Mutex<Vec<(Hit, DateTime<Utc>)>>,
}

#[derive(Debug, Default)]
struct Waiting {
    hits: VecDeque<(Hit, DateTime<Utc>)>,
    /// How many are being written.
    under_way: usize,
    /// Whether somebody will write them.
    taken_care_of: bool,
}

impl Waiting {
    fn number(&self) -> usize {
        self.hits.len() + self.under_way
    }
}

impl Receipts {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is left. Then nobody writes what comes next until somebody is told to.
    fn rest(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.taken_care_of = waiting.number() > 0;
        !waiting.taken_care_of
    }
}

/// Who writes what was noted.
struct Care {
    toolbox: Toolbox,
    done: bool,
}

impl Drop for Care {
    fn drop(&mut self) {
        if !self.done {
            // It could not go on, as its runtime ended: the next receipt finds another.
            self.toolbox.receipts().waiting().taken_care_of = false;
        }
    }
}

impl Toolbox {
    /// Logs a hit that decides nothing: soon, and at once when there is no room for it.
    ///
    /// # Errors
    /// The database's.
    pub async fn record_hit(&self, hit: Hit) -> Result<()> {
        let Some(hit) = self.note(hit) else { return Ok(()) };
        self.write_earlier_receipts().await;
        self.write_together(&[(hit, self.clock().now())]).await
    }

    /// Logs bytes that were sent of a file of `size` bytes: `range`, or `complete` when with them
    /// the last missing byte is out. Under a grant the pieces of all its answers count together,
    /// and the use was counted when the link was redeemed; without one a whole answer is a
    /// download.
    ///
    /// # Errors
    /// The database's.
    pub async fn record_sent(&self, hit: Hit, size: i64) -> Result<()> {
        self.write_earlier_receipts().await;
        let now = self.clock().now();
        let Some(grant) = hit.grant.clone() else {
            let event = if is_whole(&hit, size) { Event::Complete } else { Event::Range };
            return self.write_together(&[(Hit { event, ..hit }, now)]).await;
        };
        let mut tx = self.db().begin().await?;
        // The request before the grant, as who removes it does.
        line::store::hold(&mut tx, &BTreeSet::from([hit.request_id])).await?;
        let mut pieces = store::hold_grant(&mut tx, &grant).await?;
        let (first, length) = (hit.first_byte.unwrap_or_default(), hit.bytes.unwrap_or_default());
        pieces.push((first, first.saturating_add(length)));
        let (covered, whole) = cover(pieces, size);
        store::cover_grant(&mut tx, &grant, &covered).await?;
        let complete = whole && store::complete_grant(&mut tx, &grant, now).await?;
        let event = if complete { Event::Complete } else { Event::Range };
        line::store::log(&mut tx, &[(Hit { event, ..hit }, now)]).await?;
        tx.commit().await?;
        metrics::counter!("bgfiles_links_total", "event" => event.as_str()).increment(1);
        Ok(())
    }

    /// As [`Toolbox::record_sent`], soon: without waiting for the database. Only for links that may
    /// be used as often as one likes; gives back what has to be recorded at once, and what there is
    /// no room for.
    pub fn note_sent(&self, hit: Hit, size: i64) -> Option<Hit> {
        let event = if is_whole(&hit, size) { Event::Complete } else { Event::Range };
        self.note(Hit { event, ..hit })
    }

    /// Logs that somebody else was told to send the bytes.
    ///
    /// # Errors
    /// The database's.
    pub async fn record_handed_over(&self, hit: Hit) -> Result<()> {
        let hit = Hit { event: Event::HandedOver, ..hit };
        if hit.grant.is_none() {
            return self.record_hit(hit).await;
        }
        // The use was counted when the link was redeemed.
        let mut tx = self.db().begin().await?;
        line::store::log(&mut tx, &[(hit, self.clock().now())]).await?;
        tx.commit().await
    }

    fn note(&self, hit: Hit) -> Option<Hit> {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return Some(hit) };
        let mut waiting = self.receipts().waiting();
        if hit.grant.is_some() || waiting.number() >= MOST {
            return Some(hit);
        }
        waiting.hits.push_back((hit, self.clock().now()));
        let (many, alone) = (waiting.hits.len().is_multiple_of(MANY), !waiting.taken_care_of);
        waiting.taken_care_of = true;
        drop(waiting);
        if many {
            self.receipts().many.notify_one();
        }
        if alone {
            runtime.spawn(write_behind(Care { toolbox: self.clone(), done: false }));
        }
        None
    }

    /// Writes down every receipt that was noted before. Who reads the log, or a number of
    /// downloads, and wants to see what this process has just sent, calls this first.
    ///
    /// # Errors
    /// The database's; the receipts are kept.
    pub async fn flush_receipts(&self) -> Result<()> {
        if self.receipts().waiting().number() == 0 {
            return Ok(());
        }
        let toolbox = self.clone();
        // A task of its own: whoever asked may go away in the middle of it.
        let written = tokio::spawn(async move { toolbox.write_receipts().await });
        written.await.map_err(|e| Error::Internal(e.to_string()))?
    }

    /// Lines stand in the log in the order in which things happened. When the earlier ones cannot
    /// be written yet, they come later.
    pub(in crate::toolbox) async fn write_earlier_receipts(&self) {
        if let Err(error) = self.flush_receipts().await {
            tracing::warn!(%error, "receipts were not written yet");
        }
    }

    /// To be awaited before an answer: holds it up while the database is behind, so that what is to
    /// be written does not grow without bound.
    pub async fn keep_pace(&self) {
        if self.receipts().waiting().number() >= TOO_MANY {
            let _ = tokio::time::timeout(PATIENCE, self.flush_receipts()).await;
        }
    }

    async fn write_receipts(&self) -> Result<()> {
        let receipts = self.receipts();
        let mut batch = receipts.writing.lock().await;
        // Those that come meanwhile are the next one's.
        let mut left = receipts.waiting().hits.len();
        while left > 0 || !batch.is_empty() {
            if batch.is_empty() {
                let mut waiting = receipts.waiting();
                let number = left.min(BATCH).min(waiting.hits.len());
                batch.extend(waiting.hits.drain(..number));
                waiting.under_way = number;
                left -= number;
                if number == 0 {
                    break;
                }
            }
            match self.write_together(&batch).await {
                // Of one of them, whatever for: the others are written all the same.
                Err(error) if !error.is_retryable() => {
                    tracing::warn!(%error, "receipts are refused; they are written one by one");
                    while let Some(hit) = batch.last() {
                        self.write_or_give_up(hit).await?;
                        batch.pop();
                        receipts.waiting().under_way = batch.len();
                    }
                }
                written => {
                    written?;
                    batch.clear();
                    receipts.waiting().under_way = 0;
                }
            }
        }
        Ok(())
    }

    async fn write_together(&self, hits: &[(Hit, DateTime<Utc>)]) -> Result<()> {
        let mut counted = BTreeMap::new();
        let mut numbers: BTreeMap<&'static str, u64> = BTreeMap::new();
        for (hit, at) in hits {
            let one = counted.entry(hit.request_id).or_insert(store::Downloads {
                request_id: hit.request_id,
                number: 0,
                last_at: None,
            });
            if matches!(hit.event, Event::Complete | Event::HandedOver) {
                one.number += 1;
                one.last_at = one.last_at.max(Some(*at));
            }
            *numbers.entry(hit.event.as_str()).or_default() += 1;
        }
        let counted: Vec<_> = counted.into_values().collect();
        let mut tx = self.db().begin().await?;
        line::store::log(&mut tx, hits).await?;
        store::count_downloads(&mut tx, &counted).await?;
        tx.commit().await?;
        for (event, number) in numbers {
            metrics::counter!("bgfiles_links_total", "event" => event).increment(number);
        }
        Ok(())
    }

    async fn write_or_give_up(&self, hit: &(Hit, DateTime<Utc>)) -> Result<()> {
        match self.write_together(std::slice::from_ref(hit)).await {
            Err(error) if !error.is_retryable() => {
                tracing::error!(%error, "a receipt was not written");
                Ok(())
            }
            written => written,
        }
    }
}

/// Writes what was noted, until there is nothing left.
async fn write_behind(mut care: Care) {
    let toolbox = care.toolbox.clone();
    let mut pause = GATHER;
    while !care.done {
        let _ = tokio::time::timeout(pause, toolbox.receipts().many.notified()).await;
        pause = match toolbox.write_receipts().await {
            Ok(()) => GATHER,
            Err(Error::Database(sqlx::Error::PoolClosed)) => return,
            Err(error) => {
                tracing::warn!(%error, "receipts were not written; they are kept and tried again");
                AGAIN
            }
        };
        care.done = toolbox.receipts().rest();
    }
}

fn is_whole(hit: &Hit, size: i64) -> bool {
    hit.first_byte == Some(0) && hit.bytes == Some(size)
}
