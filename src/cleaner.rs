//! The cleaner: removes what nobody may use any more, one sweep after the other, in batches.
//!
//! `jobs/cleaner.toml` says which sweeps there are and how long things are kept.

use std::{collections::HashMap, path::Path, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use serde::{Deserialize, Deserializer, de::Error as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    auth_token::{self, limit_store},
    duration::Bare,
    error::{Error, Result},
    file_request::{self, Status, store},
    ids::RequestId,
    operations::{self, SweepRun},
    request_token,
    storage::StorageKey,
    toolbox::Toolbox,
};

/// Rows looked at together.
const BATCH: i64 = 100;
/// Objects whose requests are looked up together.
const OBJECTS: usize = 500;

/// When one run of the cleaner ends. (dj-bgfiles passed `sleep` and `timeout` swapped, for want of
/// names.)
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Pause between two removals.
    pub sleep: Duration,
    /// End after this long; at least one removal is made.
    pub timeout: Option<Duration>,
    /// End after this many removals.
    pub items: Option<u64>,
    /// End when this fires: after the removal under way.
    pub stop: CancellationToken,
}

/// How a sweep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nothing is left.
    Processed,
    /// As many as asked for.
    MaxItems,
    /// The time was up.
    Timeout,
    /// Somebody wants the process to end.
    Stopped,
}

impl Ended {
    /// In dj-bgfiles's words.
    pub fn as_str(self) -> &'static str {
        match self {
            Ended::Processed => "processed",
            Ended::MaxItems => "max_items",
            Ended::Timeout => "timeout",
            Ended::Stopped => "stopped",
        }
    }
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// The sweep.
    pub name: &'static str,
    /// How it ended.
    pub ended: Ended,
    /// Removed.
    pub removed: u64,
    /// Removable when it began, when that is known.
    pub total: Option<u64>,
    /// Tried in vain; they are tried again next time.
    pub failed: u64,
}

/// The sweeps with what they keep: `jobs/cleaner.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sweeps {
    /// Requests past their expiry.
    pub expired_requests: Keep,
    /// Objects that no request refers to.
    pub orphan_objects: Keep,
    /// Jobs of the queue that ended, and workers that are gone.
    pub queue: Keep,
    /// Idempotency keys.
    pub idempotency_keys: Keep,
    /// Lines of the log of request tokens.
    pub request_token_log: Keep,
    /// Sessions that ended.
    pub sessions: Keep,
    /// Auth tokens and secrets whose time is over.
    pub auth_tokens: Keep,
    /// Failed logins and throttled callers of the past.
    pub rate_limits: Keep,
    /// Locks that nobody holds any more.
    pub locks: Keep,
    /// Attempts at requests that are gone.
    pub attempts: Keep,
    /// Lines of the audit log.
    pub audit: Keep,
    /// The tally of requests: how long it is believed before all are counted anew.
    pub tally: Keep,
}

/// One sweep's setting.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Whether it runs.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Seconds that things are kept (for expired requests: the leeway); `1h` or `3600` in the file.
    #[serde(deserialize_with = "length")]
    pub keep: u32,
}

fn yes() -> bool {
    true
}

fn length<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let text = match toml::Value::deserialize(from)? {
        toml::Value::String(text) => text,
        other => other.to_string(),
    };
    let length = Bare::Seconds.parse(&text);
    let length = length.map_err(|why| D::Error::custom(format!("{text:?} {why}")))?;
    Ok(u32::try_from(length.as_secs()).unwrap_or(u32::MAX))
}

impl Keep {
    const fn seconds(keep: u32) -> Self {
        Keep { enabled: true, keep }
    }

    fn before(self, now: DateTime<Utc>) -> DateTime<Utc> {
        now - TimeDelta::seconds(self.keep.into())
    }
}

impl Default for Keep {
    fn default() -> Self {
        Keep::seconds(3600)
    }
}

impl Default for Sweeps {
    fn default() -> Self {
        Sweeps {
            expired_requests: Keep::seconds(3600),
            orphan_objects: Keep::seconds(6 * 3600),
            queue: Keep::seconds(3600),
            idempotency_keys: Keep::seconds(24 * 3600),
            request_token_log: Keep::seconds(90 * 24 * 3600),
            sessions: Keep::seconds(3600),
            auth_tokens: Keep::seconds(0),
            rate_limits: Keep::seconds(3600),
            locks: Keep::seconds(24 * 3600),
            attempts: Keep::seconds(24 * 3600),
            audit: Keep::seconds(365 * 24 * 3600),
            tally: Keep::seconds(24 * 3600),
        }
    }
}

impl Sweeps {
    /// Reads `cleaner.toml` in the folder of declared jobs; the defaults when there is none.
    ///
    /// # Errors
    /// [`Error::Config`] with file and line.
    pub fn load(jobs_dir: &Path) -> Result<Sweeps> {
        let path = jobs_dir.join("cleaner.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Sweeps::default()),
            Err(e) => return Err(Error::io(path.display().to_string())(e)),
        };
        toml::from_str(&text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = 1 + before.matches('\n').count();
            Error::Config(format!("{}:{line}: {}", path.display(), e.message()))
        })
    }
}

type Work = for<'a> fn(&'a Toolbox, Keep, Limits) -> BoxFuture<'a, Result<Swept>>;

/// A sweep: its name, its setting and its work.
struct Sweep {
    name: &'static str,
    keep: fn(&Sweeps) -> Keep,
    run: Work,
}

macro_rules! sweeps {
    ($($name:ident),* $(,)?) => {
        &[$(Sweep {
            name: stringify!($name),
            keep: |sweeps| sweeps.$name,
            run: |toolbox, keep, limits| $name(toolbox, keep, limits).boxed(),
        }),*]
    };
}

/// In the order in which they run.
const SWEEPS: &[Sweep] = sweeps![
    expired_requests,
    orphan_objects,
    queue,
    idempotency_keys,
    request_token_log,
    sessions,
    auth_tokens,
    rate_limits,
    locks,
    attempts,
    audit,
    tally,
];

/// Runs every sweep once, and writes down how each went.
///
/// # Errors
/// The database's; what a single object or row does is counted and tried again next time.
pub async fn clean(toolbox: &Toolbox, sweeps: &Sweeps, limits: Limits) -> Result<Vec<Swept>> {
    let mut swept = Vec::new();
    for sweep in SWEEPS {
        let keep = (sweep.keep)(sweeps);
        if !keep.enabled {
            continue;
        }
        if limits.stop.is_cancelled() {
            break;
        }
        let (ran_at, began) = (toolbox.clock.now(), Instant::now());
        let done = (sweep.run)(toolbox, keep, limits.clone()).await;
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let run = SweepRun {
            name: sweep.name.to_owned(),
            ran_at,
            millis: i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX),
            outcome: done.as_ref().map_or("error", |done| done.ended.as_str()).to_owned(),
            removed: done.as_ref().map_or(0, |done| count(done.removed)),
            failed: done.as_ref().map_or(0, |done| count(done.failed)),
        };
        write_down(toolbox, &run).await;
        let done = done?;
        metrics::counter!("bgfiles_swept_total", "sweep" => done.name).increment(done.removed);
        swept.push(done);
    }
    Ok(swept)
}

/// Operators look at it; cleaning goes on without.
async fn write_down(toolbox: &Toolbox, run: &SweepRun) {
    let write = async {
        let mut tx = toolbox.db.begin().await?;
        operations::store::swept(&mut tx, run).await?;
        tx.commit().await
    };
    let written: Result<()> = write.await;
    if let Err(error) = written {
        tracing::warn!(sweep = run.name, %error, "the run of a sweep was not written down");
    }
}

/// Counts removals against the limits.
struct Run {
    limits: Limits,
    deadline: Option<Instant>,
    removed: u64,
    failed: u64,
}

impl Run {
    fn new(limits: Limits) -> Self {
        let deadline = limits.timeout.map(|timeout| Instant::now() + timeout);
        Run { limits, deadline, removed: 0, failed: 0 }
    }

    /// Whether to stop now. The number of items wins over the time, and at least one removal is
    /// made.
    fn ended(&self) -> Option<Ended> {
        if self.limits.stop.is_cancelled() {
            return Some(Ended::Stopped);
        }
        if self.limits.items.is_some_and(|items| self.removed + self.failed >= items) {
            return Some(Ended::MaxItems);
        }
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        (late && self.removed + self.failed > 0).then_some(Ended::Timeout)
    }

    async fn pause(&self) {
        if !self.limits.sleep.is_zero() {
            let stopped = self.limits.stop.cancelled();
            let _ = tokio::time::timeout(self.limits.sleep, stopped).await;
        }
    }

    fn swept(self, name: &'static str, ended: Ended, total: Option<u64>) -> Swept {
        Swept { name, ended, removed: self.removed, total, failed: self.failed }
    }
}

/// Soonest expired first. The object goes first, then the row: a crash in between leaves a row to
/// try again with, never an object that nobody knows.
async fn expired_requests(toolbox: &Toolbox, keep: Keep, limits: Limits) -> Result<Swept> {
    const NAME: &str = "expired_requests";
    let threshold = keep.before(toolbox.clock.now());
    let mut tx = toolbox.db.read().await?;
    let total = u64::try_from(store::count_expired(&mut tx, threshold).await?).ok();
    drop(tx);
    let mut run = Run::new(limits);
    loop {
        let mut tx = toolbox.db.read().await?;
        let skip = i64::try_from(run.failed).unwrap_or(i64::MAX - BATCH);
        let ids = store::expired(&mut tx, threshold, BATCH + skip).await?;
        drop(tx);
        // Those that failed are still there, at the front.
        let ids: Vec<_> = ids.into_iter().skip(usize::try_from(skip).unwrap_or(0)).collect();
        if ids.is_empty() {
            return Ok(run.swept(NAME, Ended::Processed, total));
        }
        for id in ids {
            if let Some(ended) = run.ended() {
                return Ok(run.swept(NAME, ended, total));
            }
            if run.removed + run.failed > 0 {
                run.pause().await;
            }
            let mut tx = toolbox.db.begin().await?;
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

/// Objects that no row refers to: of crashed workers, lost leases and interrupted removals.
/// Young ones may be about to be published and are left alone.
async fn orphan_objects(toolbox: &Toolbox, keep: Keep, limits: Limits) -> Result<Swept> {
    const NAME: &str = "orphan_objects";
    let before = keep.before(toolbox.clock.now());
    let mut run = Run::new(limits);
    if let Some(ended) = unfinished_uploads(toolbox, before, &mut run).await? {
        return Ok(run.swept(NAME, ended, None));
    }
    // Fused: its end is met once by the last objects and once more after them.
    let mut objects = toolbox.storage.list().fuse();
    loop {
        let mut old = Vec::with_capacity(OBJECTS);
        while old.len() < OBJECTS {
            let Some(object) = objects.next().await.transpose()? else { break };
            if object.modified < before {
                old.push(object.key);
            }
        }
        if old.is_empty() {
            return Ok(run.swept(NAME, Ended::Processed, None));
        }
        for key in unwanted(toolbox, &old).await? {
            if let Some(ended) = run.ended() {
                return Ok(run.swept(NAME, ended, None));
            }
            // Pauses may have passed since it was looked up with the others.
            if unwanted(toolbox, &[key]).await?.is_empty() {
                continue;
            }
            match toolbox.storage.delete(key).await {
                Ok(()) => run.removed += 1,
                Err(error) => {
                    tracing::warn!(object = %key, %error, "could not remove an orphan object");
                    run.failed += 1;
                }
            }
            run.pause().await;
        }
    }
}

/// What is left of uploads whose process did not live to give them up.
async fn unfinished_uploads(
    toolbox: &Toolbox,
    before: DateTime<Utc>,
    run: &mut Run,
) -> Result<Option<Ended>> {
    let uploads = match toolbox.storage.unfinished().await {
        Ok(uploads) => uploads,
        Err(error) => {
            // A bucket may keep us from listing them, for ever: that fails no run.
            tracing::warn!(%error, "could not see which uploads were cut off");
            return Ok(None);
        }
    };
    for upload in uploads.iter().filter(|upload| upload.begun < before) {
        if let Some(ended) = run.ended() {
            return Ok(Some(ended));
        }
        let states = states(toolbox, &[upload.key]).await?;
        if states.get(&upload.key.request).is_some_and(|state| is_making(state, upload.key)) {
            continue;
        }
        match toolbox.storage.give_up(upload).await {
            Ok(()) => run.removed += 1,
            Err(error) => {
                tracing::warn!(object = %upload.key, %error, "could not give up an upload");
                run.failed += 1;
            }
        }
        run.pause().await;
    }
    Ok(None)
}

/// Those of the objects that no request refers to, and that none is making.
async fn unwanted(toolbox: &Toolbox, keys: &[StorageKey]) -> Result<Vec<StorageKey>> {
    let states = states(toolbox, keys).await?;
    let wanted = |key: &&StorageKey| {
        let state = states.get(&key.request);
        state.is_some_and(|state| has(state, **key) || is_making(state, **key))
    };
    Ok(keys.iter().filter(|key| !wanted(key)).copied().collect())
}

fn has(state: &store::ObjectState, key: StorageKey) -> bool {
    state.storage_key.as_ref().is_some_and(|at| *at == key.to_string())
}

fn is_making(state: &store::ObjectState, key: StorageKey) -> bool {
    state.status == Status::Running && state.generation == key.generation
}

/// What is known of the requests that the objects were made for.
async fn states(
    toolbox: &Toolbox,
    keys: &[StorageKey],
) -> Result<HashMap<RequestId, store::ObjectState>> {
    let ids: Vec<_> = keys.iter().map(|key| key.request).collect();
    let mut tx = toolbox.db.read().await?;
    let states = store::object_states(&mut tx, &ids).await?;
    Ok(states.into_iter().map(|state| (state.id, state)).collect())
}

async fn queue(toolbox: &Toolbox, keep: Keep, limits: Limits) -> Result<Swept> {
    let before = keep.before(toolbox.clock.now());
    let batch = || async move {
        let mut tx = toolbox.db.begin().await?;
        let removed = crate::queue::purge(tx.conn(), before, BATCH * 10).await?;
        tx.commit().await?;
        Ok(removed)
    };
    batches("queue", limits, || batch().boxed()).await
}

async fn idempotency_keys(toolbox: &Toolbox, keep: Keep, limits: Limits) -> Result<Swept> {
    let before = keep.before(toolbox.clock.now());
    let batch = || async move {
        let mut tx = toolbox.db.begin().await?;
        let removed = store::delete_keys(&mut tx, before, BATCH * 10).await?;
        tx.commit().await?;
        Ok(removed)
    };
    batches("idempotency_keys", limits, || batch().boxed()).await
}

async fn request_token_log(toolbox: &Toolbox, keep: Keep, limits: Limits) -> Result<Swept> {
    let before = keep.before(toolbox.clock.now());
    let batch = || async move {
        let mut tx = toolbox.db.begin().await?;
        let removed = request_token::store::delete_uses(&mut tx, before, BATCH * 10).await?;
        tx.commit().await?;
        Ok(removed)
    };
    batches("request_token_log", limits, || batch().boxed()).await
}

async fn sessions(toolbox: &Toolbox, keep: Keep, limits: Limits) -> Result<Swept> {
    let before = keep.before(toolbox.clock.now());
    let batch = || async move {
        let mut tx = toolbox.db.begin().await?;
        let removed = auth_token::store::delete_sessions(&mut tx, before, BATCH * 10).await?;
        tx.commit().await?;
        Ok(removed)
    };
    batches("sessions", limits, || batch().boxed()).await
}

async fn auth_tokens(toolbox: &Toolbox, keep: Keep, limits: Limits) -> Result<Swept> {
    let before = keep.before(toolbox.clock.now());
    let batch = || toolbox.purge_expired_tokens(before, BATCH * 10);
    batches("auth_tokens", limits, || batch().boxed()).await
}

async fn rate_limits(toolbox: &Toolbox, keep: Keep, limits: Limits) -> Result<Swept> {
    let before = keep.before(toolbox.clock.now());
    let batch = || async move {
        let mut tx = toolbox.db.begin().await?;
        let (millis, micros) = (before.timestamp_millis(), before.timestamp_micros());
        let attempts = limit_store::delete_forgotten(&mut tx, millis, BATCH * 10).await?;
        let buckets = limit_store::delete_full(&mut tx, micros, BATCH * 10).await?;
        tx.commit().await?;
        Ok(attempts + buckets)
    };
    batches("rate_limits", limits, || batch().boxed()).await
}

async fn locks(toolbox: &Toolbox, keep: Keep, limits: Limits) -> Result<Swept> {
    let before = keep.before(toolbox.clock.now());
    let batch = || async move {
        let (_, rows) = toolbox.remove_stale_locks(before, BATCH * 10).await?;
        Ok(rows)
    };
    batches("locks", limits, || batch().boxed()).await
}

async fn attempts(toolbox: &Toolbox, keep: Keep, limits: Limits) -> Result<Swept> {
    let before = keep.before(toolbox.clock.now());
    let batch = || async move {
        let mut tx = toolbox.db.begin().await?;
        let removed = file_request::attempts::store::forget(&mut tx, before, BATCH * 10).await?;
        tx.commit().await?;
        Ok(removed)
    };
    batches("attempts", limits, || batch().boxed()).await
}

async fn audit(toolbox: &Toolbox, keep: Keep, limits: Limits) -> Result<Swept> {
    let before = keep.before(toolbox.clock.now());
    let batch = || async move {
        let mut tx = toolbox.db.begin().await?;
        let removed = operations::store::forget_audit(&mut tx, before, BATCH * 10).await?;
        tx.commit().await?;
        Ok(removed)
    };
    batches("audit", limits, || batch().boxed()).await
}

/// Adds up the tally's lines, or counts all requests anew now and then. Nothing is removed.
async fn tally(toolbox: &Toolbox, keep: Keep, limits: Limits) -> Result<Swept> {
    let now = toolbox.clock.now();
    let mut tx = toolbox.db.begin().await?;
    if !operations::store::recount_tally(&mut tx, now, keep.before(now)).await? {
        operations::store::fold_tally(&mut tx).await?;
    }
    tx.commit().await?;
    Ok(Run::new(limits).swept("tally", Ended::Processed, None))
}

/// Removes batch after batch until one comes back empty.
async fn batches<'a>(
    name: &'static str,
    limits: Limits,
    mut remove: impl FnMut() -> BoxFuture<'a, Result<u64>>,
) -> Result<Swept> {
    let mut run = Run::new(limits);
    loop {
        match remove().await? {
            0 => return Ok(run.swept(name, Ended::Processed, None)),
            removed => run.removed += removed,
        }
        if let Some(ended) = run.ended() {
            return Ok(run.swept(name, ended, None));
        }
        run.pause().await;
    }
}
