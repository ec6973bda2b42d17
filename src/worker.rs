//! The worker process: works the queues off, wakes what was forgotten, and ends well.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    error::Result,
    file_request::{notice, store},
    ids::RequestId,
    operations::{self, WorkerState},
    queue::{self, Kind, Slots, Wake},
    toolbox::Toolbox,
};

/// How often the sweeper looks for rows that nobody was told of.
const SWEEP: Duration = Duration::from_secs(2);
/// A waiting row is woken again after this long; a repeat costs a look at the row.
const REWAKE_PENDING: TimeDelta = TimeDelta::seconds(60);
/// A silent worker's row, after this long.
const REWAKE_SILENT: TimeDelta = TimeDelta::seconds(10);
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
    /// Held while a file is made: work that outlived its queue worker counts too.
    files: Arc<Semaphore>,
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
        files: Arc::new(Semaphore::new(options.slots)),
        running: TaskTracker::new(),
        closing: shutdown.clone(),
        release: CancellationToken::new(),
    };
    tracing::info!(worker = %worker.name, slots = options.slots, "working");
    // The queues end last: see `queue::work`.
    let (queues, ended) = (TaskTracker::new(), CancellationToken::new());
    for (kind, slots) in [(Kind::Requests, options.slots), (Kind::Notices, NOTICE_SLOTS)] {
        queues.spawn(supervise(worker.clone(), kind, slots, ended.clone()));
    }
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
        let Some(id) = next else { return };
        let toolbox = worker.toolbox.clone();
        worker.running.spawn(async move {
            let _hand = hand;
            if let Err(error) = toolbox.deliver_notice(id).await {
                tracing::warn!(%id, %error, "a notice could not be looked at; it is woken again");
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
async fn supervise(worker: Worker, kind: Kind, slots: usize, shutdown: CancellationToken) {
    let mut pause = Duration::from_millis(500);
    while !shutdown.is_cancelled() {
        let began = tokio::time::Instant::now();
        let jobs = worker.clone();
        let slots = Slots { worker: unique_name(), slots };
        let job = move |id| jobs.clone().job(kind, id).boxed();
        let work = queue::work(&worker.toolbox.db, kind, slots, job, shutdown.clone());
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
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
            () = shutdown.cancelled() => return,
        }
    }
}

impl Worker {
    /// One job of the queue. It never fails there: what happened stands in our rows.
    async fn job(self, kind: Kind, id: Uuid) {
        if self.closing.is_cancelled() {
            if let Err(error) = self.leave_to_others(kind, id).await {
                tracing::debug!(%error, "left to others, who find it by themselves in a while");
            }
            return;
        }
        // The task goes on when its queue worker gives up; the tracker still knows it.
        let tracker = self.running.clone();
        let ended = tracker.spawn(async move {
            match kind {
                Kind::Requests => self.request(RequestId(id)).await,
                Kind::Notices => self.toolbox.deliver_notice(id).await.map(drop),
            }
        });
        match ended.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%id, %error, "a job could not be looked at; it is woken again")
            }
            Err(error) => tracing::error!(%id, %error, "a job panicked"),
        }
    }

    /// A wake-up that came while ending: another process's sweeper is to see it soon.
    async fn leave_to_others(&self, kind: Kind, id: Uuid) -> Result<()> {
        let mut tx = self.toolbox.db.begin().await?;
        match kind {
            Kind::Requests => store::forget_wake(&mut tx, RequestId(id)).await?,
            Kind::Notices => notice::store::forget_wake(&mut tx, id).await?,
        }
        tx.commit().await
    }

    async fn request(self, id: RequestId) -> Result<()> {
        let _slot = tokio::select! {
            slot = self.files.acquire() => slot,
            () = self.release.cancelled() => return Ok(()),
        };
        self.toolbox.dispatch(id, &self.name, &self.release).await.map(drop)
    }
}

/// Wakes rows that are due and that nobody was told of: retries, requests inserted by SQL, those
/// of silent workers, and those whose wake-up was lost.
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

/// One pass of the sweeper. Answers how many rows it woke.
///
/// # Errors
/// The database's.
pub async fn wake_forgotten(toolbox: &Toolbox) -> Result<usize> {
    let now = toolbox.clock.now();
    let mut tx = toolbox.db.begin().await?;
    let (pending, silent) = (now - REWAKE_PENDING, now - REWAKE_SILENT);
    let requests = store::take_unwoken(&mut tx, now, pending, silent, SWEEP_BATCH).await?;
    let notices = notice::store::take_unwoken(&mut tx, now, pending, SWEEP_BATCH).await?;
    let wakes = requests.iter().map(|id| Wake::request(*id));
    let wakes: Vec<Wake> = wakes.chain(notices.iter().map(|id| Wake::notice(*id))).collect();
    for wake in &wakes {
        queue::push(tx.conn(), *wake, now).await?;
    }
    tx.commit().await?;
    if !wakes.is_empty() {
        tracing::debug!(requests = requests.len(), notices = notices.len(), "woken");
    }
    Ok(wakes.len())
}
