//! The worker process: looks for what is due when the queue wakes it, mails what was made here,
//! wakes what was forgotten, and ends well.

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
    error::Result,
    file_request::{notice, store::Which},
    operations::{self, WorkerState},
    queue::{self, Kind, Wake},
    toolbox::Toolbox,
};

/// How often a worker looks for rows that nobody told it of.
const SWEEP: Duration = Duration::from_secs(2);
/// How far back a look goes in between; older rows were there when it last looked for all.
const RECENT: TimeDelta = TimeDelta::seconds(1);
/// The pause between looks while there is more than there are slots for.
const GATHER: Duration = Duration::from_millis(3);
/// The pause after a look that failed.
const PAUSE: Duration = Duration::from_millis(500);
/// A waiting notice is woken again after this long; a repeat costs a look at the row.
const REWAKE: TimeDelta = TimeDelta::seconds(60);
/// How often a process says that it lives.
const SHOW_UP: Duration = Duration::from_secs(5);
/// Processes that were last seen so long ago are forgotten.
const FORGET: TimeDelta = TimeDelta::days(1);
/// Rows woken at once.
const SWEEP_BATCH: i64 = 200;
/// Mails sent at the same time.
const NOTICE_SLOTS: usize = 16;
/// What mails may take at the end of the process; what is left is another's.
const LAST_MAILS: Duration = Duration::from_secs(10);
/// The longest pause before a queue that ended is worked off again.
const RESTART: Duration = Duration::from_secs(2);
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
    /// One for each file that may be made at the same time.
    slots: Arc<Semaphore>,
    /// Something may be due.
    woken: Arc<Notify>,
    running: TaskTracker,
    /// Fires when nothing new is to be begun.
    closing: CancellationToken,
    /// Fires when the drain limit has passed.
    release: CancellationToken,
}

/// Runs until `shutdown` fires, then lets running work end within the drain limit and gives the
/// rest back. Trouble with the database never ends it.
pub async fn run(toolbox: Toolbox, options: WorkerOptions, shutdown: CancellationToken) {
    let worker = Worker {
        toolbox,
        name: unique_name().into(),
        slots: Arc::new(Semaphore::new(options.slots)),
        woken: Arc::default(),
        running: TaskTracker::new(),
        closing: shutdown.clone(),
        release: CancellationToken::new(),
    };
    tracing::info!(worker = %worker.name, slots = options.slots, "working");
    // The queues end last: see `queue::work`.
    let (queues, ended) = (TaskTracker::new(), CancellationToken::new());
    for kind in [Kind::Requests, Kind::Notices] {
        queues.spawn(supervise(worker.clone(), kind, ended.clone()));
    }
    worker.running.spawn(look(worker.clone()));
    let last_call = CancellationToken::new();
    let mails = tokio::spawn(mail(worker.clone(), last_call.clone()));
    queues.spawn(sweep(worker.toolbox.clone(), shutdown.clone()));
    let state = WorkerState {
        name: worker.name.to_string(),
        host: host(),
        slots: i32::try_from(options.slots).unwrap_or(i32::MAX),
        started_at: worker.toolbox.clock.now(),
        seen_at: worker.toolbox.clock.now(),
        ended_at: None,
    };
    queues.spawn(show_up(worker.toolbox.clone(), state, ended.clone()));
    shutdown.cancelled().await;
    worker.running.close();
    queues.close();
    tracing::info!(running = worker.running.len(), "ending");
    if tokio::time::timeout(options.drain, worker.running.wait()).await.is_err() {
        tracing::warn!(running = worker.running.len(), "the drain limit passed; giving work back");
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
    let (postman, mut notices) = mpsc::channel(NOTICE_SLOTS);
    worker.toolbox.hire(postman);
    let hands = Arc::new(Semaphore::new(NOTICE_SLOTS));
    while let Ok(hand) = hands.clone().acquire_owned().await {
        let next = tokio::select! {
            biased;
            next = notices.recv() => next,
            () = last_call.cancelled() => {
                // Further notices go through the queue; those that were handed over come out.
                notices.close();
                notices.recv().await
            }
        };
        let Some(errand) = next else { return };
        let toolbox = worker.toolbox.clone();
        worker.running.spawn(async move {
            let _hand = hand;
            if let Err(error) = toolbox.carry(&errand).await {
                tracing::warn!(%error, "what became of a notice was not written; it is woken again");
            }
        });
    }
}

/// The machine's name.
fn host() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// Says again and again that this process lives, and at last that it ended well.
async fn show_up(toolbox: Toolbox, mut state: WorkerState, ended: CancellationToken) {
    let say = async |state: &WorkerState| {
        let mut tx = toolbox.db.begin().await?;
        operations::store::beat(&mut tx, state).await?;
        operations::store::forget_workers(&mut tx, state.seen_at - FORGET).await?;
        tx.commit().await
    };
    loop {
        state.seen_at = toolbox.clock.now();
        state.ended_at = ended.is_cancelled().then_some(state.seen_at);
        let said: Result<()> = say(&state).await;
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
async fn supervise(worker: Worker, kind: Kind, shutdown: CancellationToken) {
    let mut pause = Duration::from_millis(500);
    while !shutdown.is_cancelled() {
        let began = tokio::time::Instant::now();
        let jobs = worker.clone();
        let slots = queue::Slots { worker: unique_name(), slots: NOTICE_SLOTS };
        let job = move |id| jobs.clone().job(kind, id).boxed();
        let woken = worker.woken.clone();
        let heard = move || {
            if kind == Kind::Requests {
                woken.notify_one();
            }
        };
        let work = queue::work(&worker.toolbox.db, kind, slots, heard, job, shutdown.clone());
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
        let slots = tokio::select! {
            slots = worker.free_slots() => slots,
            () = worker.closing.cancelled() => return,
        };
        let looked = async {
            if !is_tick {
                return worker.claim(slots, Which::DueSince(since)).await;
            }
            let mut left = worker.claim(slots, Which::Silent).await?.0;
            // One after the other: what it ends is then known.
            let alone = left.pop().into_iter().collect();
            left.extend(worker.claim(alone, Which::Suspect).await?.0);
            worker.claim(left, Which::DueSince(DateTime::UNIX_EPOCH)).await
        };
        match looked.await {
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

/// Each lets one file be made.
type Slots = Vec<OwnedSemaphorePermit>;

impl Worker {
    /// Claims as many requests as there are slots. Answers the slots that are left, and since when
    /// the oldest of them was due.
    async fn claim(&self, mut slots: Slots, which: Which) -> Result<(Slots, DateTime<Utc>)> {
        let mut oldest = self.toolbox.clock.now();
        if slots.is_empty() {
            return Ok((slots, oldest));
        }
        for row in self.toolbox.claim_some(which, slots.len(), &self.name).await? {
            oldest = oldest.min(row.run_at);
            let (worker, slot) = (self.clone(), slots.pop());
            self.running.spawn(async move {
                let id = row.id;
                if let Err(error) = worker.toolbox.work(row, &worker.release, slot).await {
                    tracing::warn!(request = %id, %error, "how a request ended was not written; it begins anew when its lease has ended");
                }
            });
        }
        Ok((slots, oldest))
    }

    /// All that are free, when at least one is.
    async fn free_slots(&self) -> Slots {
        let mut free: Vec<_> = self.slots.clone().acquire_owned().await.into_iter().collect();
        while let Ok(slot) = self.slots.clone().try_acquire_owned() {
            free.push(slot);
        }
        free
    }

    /// One job of the queue. It never fails there: what happened stands in our rows.
    async fn job(self, kind: Kind, id: Uuid) {
        match kind {
            Kind::Requests => self.woken.notify_one(),
            Kind::Notices if self.closing.is_cancelled() => {
                if let Err(error) = self.leave_to_others(id).await {
                    tracing::debug!(%error, "left to others, who find it by themselves in a while");
                }
            }
            // The task goes on when its queue worker gives up; the tracker still knows it.
            Kind::Notices => match self.running.spawn(self.clone().notice(id)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%id, %error, "a notice could not be looked at; it is woken again");
                }
                Err(error) => tracing::error!(%id, %error, "mailing a notice panicked"),
            },
        }
    }

    async fn notice(self, id: Uuid) -> Result<()> {
        self.toolbox.deliver_notice(id).await.map(drop)
    }

    /// A wake-up that came while ending: another process's sweeper is to see it soon.
    async fn leave_to_others(&self, id: Uuid) -> Result<()> {
        let mut tx = self.toolbox.db.begin().await?;
        notice::store::forget_wake(&mut tx, id).await?;
        tx.commit().await
    }
}

/// Wakes notices that are due and that nobody was told of: those to be tried again, those of silent
/// workers, and those whose wake-up was lost.
async fn sweep(toolbox: Toolbox, shutdown: CancellationToken) {
    let mut skewed = false;
    loop {
        match sweep_once(&toolbox).await {
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
            Err(error) => tracing::warn!(%error, "the sweeper failed; it tries again"),
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn sweep_once(toolbox: &Toolbox) -> Result<TimeDelta> {
    wake_forgotten(toolbox).await?;
    let mut tx = toolbox.db.read().await?;
    queue::clock_ahead(tx.conn(), toolbox.clock.now()).await
}

/// One pass of the sweeper. Answers how many notices it woke.
///
/// # Errors
/// The database's.
pub async fn wake_forgotten(toolbox: &Toolbox) -> Result<usize> {
    let now = toolbox.clock.now();
    let mut tx = toolbox.db.begin().await?;
    let woken = notice::store::take_unwoken(&mut tx, now, now - REWAKE, SWEEP_BATCH).await?;
    let wakes: Vec<Wake> = woken.iter().map(|id| Wake::notice(*id)).collect();
    queue::push_all(tx.conn(), &wakes, now).await?;
    tx.commit().await?;
    if !wakes.is_empty() {
        tracing::debug!(notices = wakes.len(), "woken");
    }
    Ok(wakes.len())
}
