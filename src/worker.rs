//! The worker process: looks for files and mails that are due, when the queue wakes it and now and
//! then, mails what was made here, and ends well.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    time::MissedTickBehavior,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    db::{self, Db},
    error::Result,
    file_request::store::{self, Which},
    operations::{self, WorkerState},
    queue::{self, Kind},
    toolbox::{Toolbox, Unknown},
};

/// How often a worker looks for rows that nobody told it of.
const SWEEP: Duration = Duration::from_secs(2);
/// How far back a look goes in between; older rows were there when it last looked for all.
const RECENT: TimeDelta = TimeDelta::seconds(1);
/// The pause between looks while there is more than there are slots for.
const GATHER: Duration = Duration::from_millis(3);
/// The pause after a look that failed.
const PAUSE: Duration = Duration::from_millis(500);
/// How often a process says that it lives.
const SHOW_UP: Duration = Duration::from_secs(5);
/// Processes that were last seen so long ago are forgotten …
const FORGET: TimeDelta = TimeDelta::days(1);
/// … after the first word, and each time after so many more (an hour).
const FORGET_EACH: u32 = 720;
/// How often a process looks for requests of types that nobody knows.
const GIVE_UP: Duration = Duration::from_secs(30);
/// What may be under way at the same time, for each slot: one file that is made, and one that is
/// ready and waits for its commit. So many small ones are committed together, and what a process
/// that dies takes with it is bounded.
const UNDER_WAY: usize = 2;
/// Mails of what is made here that are sent at the same time; and as many of others.
const NOTICE_SLOTS: usize = 16;
/// What mails may take at the end of the process; what is left is another's.
const LAST_MAILS: Duration = Duration::from_secs(10);
/// The longest pause before a queue that ended is worked off again.
const RESTART: Duration = Duration::from_secs(2);
/// How often the database's clock is looked at.
const CLOCK: Duration = Duration::from_secs(60);
/// A difference between our clock and the database's that is worth a warning.
const SKEW: TimeDelta = TimeDelta::seconds(2);

/// How a worker process is to run.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Files made at the same time.
    pub slots: usize,
    /// How long running work may go on once `run` is told to stop.
    pub drain: Duration,
}

/// What runs in this process, whichever incarnation of the queue's worker started it.
#[derive(Clone)]
struct Worker {
    toolbox: Toolbox,
    name: Arc<str>,
    /// The types that it knows.
    file_types: Arc<[String]>,
    /// One for each file that may be made at the same time.
    slots: Arc<Semaphore>,
    /// One for each request whose lease may be held at the same time.
    under_way: Arc<Semaphore>,
    /// How many those are.
    most: usize,
    /// A request may be due.
    woken: Arc<Notify>,
    /// A mail may be due.
    mail_woken: Arc<Notify>,
    running: TaskTracker,
    /// Fires when nothing new is to be begun.
    closing: CancellationToken,
    /// Fires when the drain limit has passed.
    release: CancellationToken,
}

/// Runs until `shutdown` fires, then lets running work end within the drain limit and gives the
/// rest back. Trouble with the database never ends it.
pub async fn run(toolbox: Toolbox, options: WorkerOptions, shutdown: CancellationToken) {
    let worker = Worker::new(toolbox, &options, &shutdown);
    tracing::info!(worker = %worker.name, slots = options.slots, "working");
    // The queues end last: see `queue::work`.
    let (queues, ended) = (TaskTracker::new(), CancellationToken::new());
    let line = Arc::new(queue::Line::open(worker.toolbox.db()));
    for kind in [Kind::Requests, Kind::Notices] {
        queues.spawn(supervise(worker.clone(), line.clone(), kind, ended.clone()));
    }
    worker.running.spawn(look(worker.clone()));
    worker.running.spawn(look_for_mails(worker.clone()));
    let last_call = CancellationToken::new();
    let mails = tokio::spawn(mail(worker.clone(), last_call.clone()));
    queues.spawn(watch_clock(worker.toolbox.clone(), shutdown.clone()));
    queues.spawn(give_up(worker.clone()));
    let state = state(&worker.toolbox, worker.name.to_string(), options.slots);
    queues.spawn(show_up(worker.toolbox.clone(), state, ended.clone()));
    shutdown.cancelled().await;
    worker.running.close();
    queues.close();
    tracing::info!(running = worker.under_way(), "ending");
    if tokio::time::timeout(options.drain, worker.running.wait()).await.is_err() {
        tracing::warn!(running = worker.under_way(), "the drain limit passed; giving work back");
        worker.release.cancel();
        // Giving back takes a moment; a database that is away must not keep the process.
        let _ = tokio::time::timeout(Duration::from_secs(10), worker.running.wait()).await;
    }
    // What was made last is mailed, too.
    last_call.cancel();
    let mailed = async {
        let _ = mails.await;
        worker.running.wait().await;
    };
    let _ = tokio::time::timeout(LAST_MAILS, mailed).await;
    ended.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(5), queues.wait()).await;
}

/// Mails notices about what is made in this process, without the way through the queue.
async fn mail(worker: Worker, last_call: CancellationToken) {
    let (sender, mut notices) = mpsc::channel(NOTICE_SLOTS);
    worker.toolbox.set_mail_sender(sender);
    let permits = Arc::new(Semaphore::new(NOTICE_SLOTS));
    while let Ok(permit) = permits.clone().acquire_owned().await {
        let next = tokio::select! {
            biased;
            next = notices.recv() => next,
            () = last_call.cancelled() => {
                // Further notices go through the queue; those that were handed over come out.
                notices.close();
                notices.recv().await
            }
        };
        let Some(claimed) = next else { return };
        let toolbox = worker.toolbox.clone();
        worker.running.spawn(async move {
            let _permit = permit;
            if let Err(error) = toolbox.deliver(&claimed).await {
                tracing::warn!(%error, "what became of a notice was not written; it is mailed again when its lease has ended");
            }
        });
    }
}

/// The machine's name.
pub(crate) fn host() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// What a process says of itself.
pub(crate) fn state(toolbox: &Toolbox, name: String, slots: usize) -> WorkerState {
    let now = toolbox.clock().now();
    WorkerState {
        name,
        host: host(),
        slots: i32::try_from(slots).unwrap_or(i32::MAX),
        started_at: now,
        seen_at: now,
        ended_at: None,
        file_types: toolbox.known_types().join(","),
    }
}

/// Says again and again that this process lives, and at last that it ended well.
pub(crate) async fn show_up(toolbox: Toolbox, mut state: WorkerState, ended: CancellationToken) {
    let say = async |state: &WorkerState, forget: bool| {
        let mut tx = toolbox.db().begin().await?;
        operations::store::beat(&mut tx, state).await?;
        if forget {
            operations::store::forget_workers(&mut tx, state.seen_at - FORGET).await?;
        }
        tx.commit().await
    };
    let mut said_so_far: u32 = 0;
    loop {
        state.seen_at = toolbox.clock().now();
        state.ended_at = ended.is_cancelled().then_some(state.seen_at);
        let said: Result<()> =
            db::within(db::SILENCE, say(&state, said_so_far.is_multiple_of(FORGET_EACH))).await;
        said_so_far = said_so_far.wrapping_add(1);
        if let Err(error) = said {
            tracing::debug!(%error, "nobody knows that this worker lives");
        }
        if state.ended_at.is_some() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(SHOW_UP) => {}
            () = ended.cancelled() => {}
        }
    }
}

/// Process and a random part: never the same twice.
fn unique_name() -> String {
    format!("bgfiles-{}-{}", std::process::id(), Uuid::new_v4().simple())
}

/// Runs a queue's worker for ever, each time under another name.
async fn supervise(
    worker: Worker,
    line: Arc<queue::Line>,
    kind: Kind,
    shutdown: CancellationToken,
) {
    let mut pause = Duration::from_millis(500);
    while !shutdown.is_cancelled() {
        let began = tokio::time::Instant::now();
        let jobs = worker.clone();
        let slots = queue::Slots { worker: unique_name(), slots: NOTICE_SLOTS };
        // A job only wakes: what is due stands in our rows.
        let job = move |_| {
            jobs.woken(kind).notify_one();
            std::future::ready(()).boxed()
        };
        let woken = worker.clone();
        let heard = move || woken.woken(kind).notify_one();
        let work = queue::work(&line, kind, slots, heard, job, shutdown.clone());
        // A panic inside the queue's library is one more reason to start again.
        let ended = std::panic::AssertUnwindSafe(work).catch_unwind().await;
        if shutdown.is_cancelled() {
            return;
        }
        if began.elapsed() > Duration::from_secs(60) {
            pause = Duration::from_millis(500);
        }
        match ended {
            Ok(Ok(())) => tracing::warn!(queue = kind.name(), "the queue ended; starting again"),
            Ok(Err(error)) => tracing::warn!(%error, "the queue failed; starting again"),
            Err(_) => tracing::error!(queue = kind.name(), "the queue panicked; starting again"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(RESTART),
            () = shutdown.cancelled() => return,
        }
    }
}

/// Claims what is due as slots come free, until nothing new is to be begun: when the queue says so,
/// and now and then, as retries, requests inserted by SQL, those of silent workers and those whose
/// wake-up was lost come without a word.
async fn look(worker: Worker) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut is_empty, mut since) = (true, DateTime::UNIX_EPOCH);
    loop {
        let is_tick = tokio::select! {
            biased;
            () = worker.closing.cancelled() => return,
            _ = ticks.tick() => true,
            () = worker.woken.notified(), if is_empty => false,
            () = std::future::ready(()), if !is_empty => false,
        };
        if !is_empty {
            // More slots come free together than one by one: files are published together.
            tokio::time::sleep(GATHER).await;
        }
        let places = tokio::select! {
            places = worker.free_places() => places,
            () = worker.closing.cancelled() => return,
        };
        let looked = async {
            let since = if is_tick { DateTime::UNIX_EPOCH } else { since };
            // On PostgreSQL it was announced that there is something, and a claim waits for nobody.
            let all = store::Claimable { due: true, silent: is_tick };
            let there = match worker.toolbox.db() {
                Db::Postgres(_) if !is_tick => all,
                _ => worker.toolbox.claimable(since).await?,
            };
            let mut left = places;
            if is_tick && there.silent {
                left = worker.claim(left, Which::Silent).await?.0;
                // One after the other: what it ends is then known.
                let alone = left.pop().into_iter().collect();
                left.extend(worker.claim(alone, Which::Suspect).await?.0);
            }
            let which = Which::DueSince(since);
            if there.due { worker.claim(left, which).await } else { Ok((left, worker.now())) }
        };
        match db::within(db::SILENCE, looked).await {
            Ok((left, oldest)) => {
                is_empty = !left.is_empty();
                // Whatever is older was taken.
                since = oldest - RECENT;
            }
            Err(error) => {
                tracing::warn!(%error, "a worker could not look for what is due; it tries again");
                tokio::time::sleep(PAUSE).await;
                ticks.reset_immediately();
            }
        }
    }
}

/// Claims notices that are due and that nobody is at: those that go through the queue, those to be
/// tried again, those of silent workers, and those whose wake-up was lost.
async fn look_for_mails(worker: Worker) {
    let mut ticks = tokio::time::interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let permits = Arc::new(Semaphore::new(NOTICE_SLOTS));
    let mut is_empty = true;
    loop {
        tokio::select! {
            biased;
            () = worker.closing.cancelled() => return,
            _ = ticks.tick(), if is_empty => {}
            () = worker.mail_woken.notified(), if is_empty => {}
            () = std::future::ready(()), if !is_empty => {}
        }
        let free = tokio::select! {
            free = all_free(&permits) => free,
            () = worker.closing.cancelled() => return,
        };
        match db::within(db::SILENCE, worker.claim_mails(free)).await {
            Ok(is_last) => is_empty = is_last,
            Err(error) => {
                tracing::warn!(%error, "a worker could not look for mails; it tries again");
                tokio::time::sleep(PAUSE).await;
                ticks.reset_immediately();
                is_empty = true;
            }
        }
    }
}

/// All permits that are free, when at least one is.
async fn all_free(semaphore: &Arc<Semaphore>) -> Vec<OwnedSemaphorePermit> {
    let mut free: Vec<_> = semaphore.clone().acquire_owned().await.into_iter().collect();
    while let Ok(one) = semaphore.clone().try_acquire_owned() {
        free.push(one);
    }
    free
}

/// Lets one request be claimed.
struct Place {
    /// Until its file is stored.
    slot: OwnedSemaphorePermit,
    /// Until its end is written.
    under_way: OwnedSemaphorePermit,
}

impl Worker {
    fn new(toolbox: Toolbox, options: &WorkerOptions, shutdown: &CancellationToken) -> Self {
        Worker {
            name: unique_name().into(),
            file_types: toolbox.known_types().into(),
            toolbox,
            slots: Arc::new(Semaphore::new(options.slots)),
            under_way: Arc::new(Semaphore::new(options.slots * UNDER_WAY)),
            most: options.slots * UNDER_WAY,
            woken: Arc::default(),
            mail_woken: Arc::default(),
            running: TaskTracker::new(),
            closing: shutdown.clone(),
            release: CancellationToken::new(),
        }
    }

    /// How many requests are claimed and have not ended.
    fn under_way(&self) -> usize {
        self.most - self.under_way.available_permits()
    }

    fn now(&self) -> DateTime<Utc> {
        self.toolbox.clock().now()
    }

    fn woken(&self, kind: Kind) -> &Notify {
        match kind {
            Kind::Requests => &self.woken,
            Kind::Notices => &self.mail_woken,
        }
    }

    /// Claims as many requests as there are places. Answers the places that are left, and since when
    /// the oldest of the requests was due.
    async fn claim(
        &self,
        mut places: Vec<Place>,
        which: Which,
    ) -> Result<(Vec<Place>, DateTime<Utc>)> {
        let mut oldest = self.toolbox.clock().now();
        if places.is_empty() {
            return Ok((places, oldest));
        }
        let (most, types) = (places.len(), &self.file_types);
        for row in self.toolbox.claim_some(which, most, &self.name, types).await? {
            oldest = oldest.min(row.run_at);
            let (slot, under_way) = places.pop().map(|place| (place.slot, place.under_way)).unzip();
            let worker = self.clone();
            self.running.spawn(async move {
                let (id, _until_the_end) = (row.id, under_way);
                if let Err(error) = worker.toolbox.work(row, &worker.release, slot).await {
                    tracing::warn!(request = %id, %error, "how a request ended was not written; it begins anew when its lease has ended");
                }
            });
        }
        Ok((places, oldest))
    }

    /// All that are free, when at least one is.
    async fn free_places(&self) -> Vec<Place> {
        let first = (
            self.under_way.clone().acquire_owned().await,
            self.slots.clone().acquire_owned().await,
        );
        let mut free = Vec::new();
        let mut next = (first.0.ok(), first.1.ok());
        while let (Some(under_way), Some(slot)) = next {
            free.push(Place { slot, under_way });
            next = (
                self.under_way.clone().try_acquire_owned().ok(),
                self.slots.clone().try_acquire_owned().ok(),
            );
        }
        free
    }

    /// Claims as many notices as there are permits, and mails them. Answers whether those were all.
    async fn claim_mails(&self, mut permits: Vec<OwnedSemaphorePermit>) -> Result<bool> {
        let (claimed, at) = self.toolbox.claim_notices(permits.len()).await?;
        for notice in claimed {
            let (toolbox, permit) = (self.toolbox.clone(), permits.pop());
            self.running.spawn(async move {
                let _permit = permit;
                let id = notice.id;
                if let Err(error) = toolbox.deliver_claimed(notice, at).await {
                    tracing::warn!(%id, %error, "what became of a notice was not written; it is mailed again when its lease has ended");
                }
            });
        }
        Ok(!permits.is_empty())
    }
}

/// Lets requests fail whose type nobody has known for a while.
async fn give_up(worker: Worker) {
    loop {
        match worker.toolbox.give_up_unknown(&worker.name).await {
            Ok(Unknown { left, .. }) => {
                for one in left {
                    tracing::warn!(file_type = one.file_type, since = %one.since, "requests wait for a worker that knows their type");
                }
            }
            Err(error) => tracing::warn!(%error, "a worker could not look for unknown types"),
        }
        tokio::select! {
            () = tokio::time::sleep(GIVE_UP) => {}
            () = worker.closing.cancelled() => return,
        }
    }
}

/// Says so when the database's clock and ours differ.
async fn watch_clock(toolbox: Toolbox, shutdown: CancellationToken) {
    let ahead = async || {
        let mut tx = toolbox.db().read().await?;
        queue::clock_ahead(tx.conn(), toolbox.clock().now()).await
    };
    let mut skewed = false;
    loop {
        let looked: Result<TimeDelta> = ahead().await;
        match looked {
            Ok(ahead) => {
                let now = ahead.abs() > SKEW;
                if now && !skewed {
                    tracing::warn!(
                        ahead_ms = ahead.num_milliseconds(),
                        "the database's clock differs from ours"
                    );
                }
                skewed = now;
            }
            Err(error) => tracing::warn!(%error, "the database's clock was not read"),
        }
        tokio::select! {
            () = tokio::time::sleep(CLOCK) => {}
            () = shutdown.cancelled() => return,
        }
    }
}
