//! Working a queue off with apalis.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use apalis::prelude::{
    BackendExt, BoxDynError, Data, PollSnapshot, PollStrategy, WorkerBuilder, WorkerBuilderExt,
};
use apalis_postgres::PostgresStorage;
use apalis_sqlite::SqliteStorage;
use futures::future::BoxFuture;
use sqlx::sqlite::{SqlitePoolOptions, SqliteSynchronous};
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Kind, PAUSE, Wake,
    line::{Ends, Line, OWN, overhear},
};
use crate::{
    db::pool,
    error::{Error, Result},
};

/// Workers say that they live this often …
const HEARTBEAT: Duration = Duration::from_secs(30);
/// … and their jobs are given to others after this many silences (the default is 300 s in all). They
/// only wake, and workers look for what is due anyway.
const MISSED: usize = 2;
/// New work is heard of; the tick is for what was not heard.
const TICK: Duration = Duration::from_secs(15);
/// Where nothing is heard of it.
const TICK_DEAF: Duration = Duration::from_millis(25);
/// Jobs that only wake are fetched and acknowledged so many at once …
const BATCH: usize = 128;

/// What is done with each job.
#[derive(Clone)]
struct Run(Arc<dyn Fn(Uuid) -> BoxFuture<'static, ()> + Send + Sync>);

async fn run(args: serde_json::Value, job: Data<Run>) -> Result<(), BoxDynError> {
    let Run(job) = &*job;
    // Decoded here: a job that apalis cannot decode would end every worker that fetches it.
    match serde_json::from_value::<Wake>(args) {
        Ok(wake) => job(wake.id).await,
        Err(error) => tracing::warn!(%error, "a job in the queue is none of ours"),
    }
    Ok(())
}

/// How a queue is worked off.
#[derive(Clone, Debug)]
pub struct Slots {
    /// A name that no worker ever had: apalis takes a known one for the same worker come back.
    pub worker: String,
    /// Jobs at the same time.
    pub slots: usize,
}

/// Works a queue off until `stop` fires, calling `heard` when the database announces new ones, whoever
/// fetches them. `stop` should fire once no job runs any more: a stopped worker
/// of apalis neither says that it lives nor acknowledges, and may hold a transaction open.
///
/// It also ends when the backend gives up (a database that is away for long); the caller starts it
/// again under another name. All jobs share one task of the runtime: `job` spawns what takes long.
///
/// # Errors
/// What made the backend give up.
pub async fn work(
    line: &Line,
    kind: Kind,
    slots: Slots,
    heard: impl Fn() + Send + Sync + 'static,
    job: impl Fn(Uuid) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    stop: CancellationToken,
) -> Result<()> {
    let data = Run(Arc::new(job));
    let signal = async move {
        stop.cancelled().await;
        Ok::<(), std::io::Error>(())
    };
    macro_rules! work {
        ($backend:expr) => {
            WorkerBuilder::new(slots.worker.as_str())
                .backend($backend)
                .concurrency(slots.slots)
                .data(data)
                .build(run)
                .run_until(signal)
                .await
        };
    }
    let tick = match kind {
        _ if line.hears() => TICK,
        Kind::Requests => TICK_DEAF,
        Kind::Notices => TICK_DEAF * 8,
    };
    let inserts = overhear(line.inserts.subscribe(), kind, heard);
    let ticks = Ticks::new(tick, (inserts, PAUSE));
    let ended = match &line.ends {
        Ends::Postgres(pool) => {
            let config = apalis_postgres::Config::default()
                .queue(kind.name())
                .batch_size(BATCH)
                .heartbeat_interval(HEARTBEAT)
                .missed_heartbeats(MISSED)
                // One write less a job; who works on what stands in our row.
                .lock_tasks(false);
            let backend = PostgresStorage::<serde_json::Value>::new(pool).with_config(config);
            work!(backend.poll_with_strategy(ticks))
        }
        Ends::Sqlite(pool) => {
            // As in `own_pool`.
            let options = (*pool.connect_options()).clone().synchronous(SqliteSynchronous::Normal);
            let pool = SqlitePoolOptions::new()
                .max_connections(OWN)
                .before_acquire(|conn, meta| Box::pin(pool::is_at_rest_here(conn, meta)))
                .connect_lazy_with(options);
            let config = apalis_sqlite::Config::default()
                .queue(kind.name())
                .batch_size(BATCH)
                .heartbeat_interval(HEARTBEAT)
                .missed_heartbeats(MISSED)
                // One write less a job; who works on what stands in our row.
                .lock_tasks(false);
            let backend = SqliteStorage::<serde_json::Value>::new(&pool).with_config(config);
            work!(backend.poll_with_strategy(ticks))
        }
    };
    ended.map_err(|e| Error::Internal(format!("queue {}: {e}", kind.name())))
}

/// When to look for jobs: at each tick, and a pause after something came through the channel.
///
/// apalis's own interval loses its timer when a fetch completes within one poll. This one always
/// leaves a waker behind.
struct Ticks {
    every: Duration,
    sleep: Pin<Box<Sleep>>,
    inserts: mpsc::Receiver<()>,
    pause: Duration,
}

impl Ticks {
    fn new(every: Duration, (inserts, pause): (mpsc::Receiver<()>, Duration)) -> Self {
        Ticks { every, sleep: Box::pin(tokio::time::sleep(every)), inserts, pause }
    }
}

impl PollStrategy for Ticks {
    fn poll_drive(&mut self, cx: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        let mut due = false;
        while let Poll::Ready(Some(())) = self.inserts.poll_recv(cx) {
            let at = Instant::now() + self.pause;
            if at < self.sleep.deadline() {
                self.sleep.as_mut().reset(at);
            }
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            self.sleep.as_mut().reset(Instant::now() + self.every);
            due = true;
        }
        if due { Poll::Ready(Some(())) } else { Poll::Pending }
    }
}
