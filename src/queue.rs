//! The wake-up: apalis over PostgreSQL or SQLite. The only place that names a backend.
//!
//! What a queue job carries is an id. Losing one delays, and never loses: the worker's sweeper
//! wakes rows that were forgotten. A job that comes twice finds nothing to claim.
//!
//! apalis 1.0's own promises are not relied on; `ARCHITECTURE.md` lists why, one by one.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use apalis::prelude::{
    BackendExt, BoxDynError, Data, PollSnapshot, PollStrategy, Task, TaskBuilder, WorkerBuilder,
    WorkerBuilderExt,
};
use apalis_postgres::PostgresStorage;
use apalis_sqlite::SqliteStorage;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sqlx::{
    PgPool, SqlitePool,
    sqlite::{SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        mpsc,
    },
    time::{Instant, Sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::{
    db::{Conn, Db, ear::Ear, on, pool},
    error::{Error, Result},
    ids::RequestId,
};

/// Workers say that they live this often …
const HEARTBEAT: Duration = Duration::from_secs(5);
/// … and their jobs are given to others after this many silences (the default is 300 s in all).
const MISSED: usize = 2;
/// PostgreSQL announces inserts; the tick is for announcements that got lost.
const TICK_POSTGRES: Duration = Duration::from_secs(1);
/// SQLite announces nothing to other processes.
const TICK_SQLITE: Duration = Duration::from_millis(25);
/// Jobs that only wake are fetched and acknowledged so many at once …
const BATCH: usize = 128;
/// … so long after they were announced, which woke already: one by one they would be a third of what
/// a small export costs the database.
const PAUSE: Duration = Duration::from_millis(100);
/// Where a trigger announces requests, whoever inserts them (see the migration); whoever else listens
/// to apalis's channel expects jobs there.
const CHANNEL: &str = "bgfiles";
/// The books of apalis's migrations on SQLite; sqlx's default name may be the host application's.
const BOOKS: &str = "_apalis_migrations";

/// Which of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Files to be made: long.
    Requests,
    /// Mails to be sent: short.
    Notices,
}

impl Kind {
    /// The queue's name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Requests => "bgfiles::requests",
            Kind::Notices => "bgfiles::notices",
        }
    }
}

/// What a queue job says: look at this row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// The row.
    pub id: Uuid,
    #[serde(skip, default = "requests")]
    kind: Kind,
}

fn requests() -> Kind {
    Kind::Requests
}

impl Wake {
    /// A file is to be made.
    pub fn request(id: RequestId) -> Self {
        Wake { id: id.0, kind: Kind::Requests }
    }

    /// A mail is to be sent.
    pub fn notice(id: Uuid) -> Self {
        Wake { id, kind: Kind::Notices }
    }
}

/// Wakes a worker once the caller's transaction commits.
///
/// # Errors
/// The database's.
pub async fn push(conn: Conn<'_>, wake: Wake, now: DateTime<Utc>) -> Result<()> {
    push_all(conn, &[wake], now).await
}

/// As [`push`], for wake-ups of one kind.
///
/// # Errors
/// The database's.
pub async fn push_all(conn: Conn<'_>, wakes: &[Wake], now: DateTime<Utc>) -> Result<()> {
    let Some(first) = wakes.first() else { return Ok(()) };
    let queue = first.kind.name();
    // An hour ago: neither a clock ahead of the database's nor one behind it delays the job, and
    // PostgreSQL announces only what is due.
    let due = (now - TimeDelta::hours(1)).timestamp().max(0).unsigned_abs();
    let mut tasks: Vec<Task<Vec<u8>>> = Vec::with_capacity(wakes.len());
    for wake in wakes {
        let args = serde_json::to_vec(wake).map_err(|e| Error::Internal(e.to_string()))?;
        // Attempts are counted in our row.
        tasks.push(TaskBuilder::new(args).run_at_timestamp(due).max_attempts(1).build());
    }
    match conn {
        Conn::Postgres(c) => apalis_postgres::queries::push_tasks(c, queue, tasks)
            .await
            .map_err(|e| Error::Database(unwrap_postgres(e))),
        Conn::Sqlite(c) => apalis_sqlite::queries::push_tasks(c, queue, &tasks)
            .await
            .map_err(|e| Error::Database(unwrap_sqlite(e))),
    }
}

/// Says when it is time for a job: it is written, fetched and acknowledged, so one is pushed only now
/// and then. A trigger announces whatever is inserted in between.
///
/// An announcement that is lost (nobody was connected) costs two seconds: then workers look anyway.
#[derive(Debug, Default)]
pub struct Bell(Mutex<Option<Instant>>);

impl Bell {
    /// Whether a job is to be pushed, by [`push`], with the rows that are inserted now. SQLite
    /// announces nothing, so there it always is.
    pub fn ring(&self, db: &Db) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_time = last.is_none_or(|last| last.elapsed() >= PAUSE);
        if is_time {
            *last = Some(Instant::now());
        }
        is_time || matches!(db, Db::Sqlite(_))
    }
}

fn unwrap_postgres(error: apalis_postgres::Error) -> sqlx::Error {
    match error {
        apalis_postgres::Error::Database(e) => e,
        other => sqlx::Error::Protocol(other.to_string()),
    }
}

fn unwrap_sqlite(error: apalis_sqlite::Error) -> sqlx::Error {
    match error {
        apalis_sqlite::Error::Database(e) => e,
        other => sqlx::Error::Protocol(other.to_string()),
    }
}

/// Makes apalis's tables.
///
/// # Errors
/// When a migration fails.
pub async fn migrate(db: &Db) -> Result<()> {
    match db {
        Db::Postgres(_) => migrate_postgres(db).await?,
        // Not apalis's `setup`, which also turns `synchronous` off for the connection.
        Db::Sqlite(pool) => {
            let mut migrator = SqliteStorage::<()>::migrations();
            migrator.dangerous_set_table_name(BOOKS);
            migrator.set_ignore_missing(true).run(pool).await?;
            // Measured: with these, the cost of an acknowledgement grows with the backlog
            // (about 200 jobs/s at 20,000 waiting, against 15,000 and more without).
            for index in ["LIdx", "idx_jobs_status_run_at", "idx_jobs_claimable"] {
                let sql = match index {
                    "LIdx" => "DROP INDEX IF EXISTS LIdx",
                    "idx_jobs_status_run_at" => "DROP INDEX IF EXISTS idx_jobs_status_run_at",
                    _ => "DROP INDEX IF EXISTS idx_jobs_claimable",
                };
                sqlx::query(sql).execute(pool).await?;
            }
            // Without any index on `lock_by`, the rescue of orphans reads all jobs once for each
            // silent worker. This one holds only the few that are being worked on.
            let sql = "CREATE INDEX IF NOT EXISTS bgfiles_jobs_taken ON Jobs (lock_by) \
                WHERE status = 'Running' OR status = 'Queued'";
            sqlx::query(sql).execute(pool).await?;
        }
    }
    Ok(())
}

async fn migrate_postgres(db: &Db) -> Result<()> {
    // Its books are in a schema of apalis's own: a host application may use apalis too.
    let mut migrator = PostgresStorage::<()>::migrations();
    if let Conn::Postgres(c) = Conn::from(&mut db.acquire().await?) {
        migrator.set_ignore_missing(true).run(c).await?;
    }
    // Jobs to purge; one at a time, as two that make it at once get in each other's way.
    let mut tx = db.begin().await?;
    if let Conn::Postgres(c) = tx.conn() {
        let sql = "SELECT pg_advisory_xact_lock(hashtext('bgfiles_jobs_done'))";
        sqlx::query(sql).execute(&mut *c).await?;
        let sql = "CREATE INDEX IF NOT EXISTS bgfiles_jobs_done ON apalis.jobs (done_at) \
            WHERE job_type IN ('bgfiles::requests', 'bgfiles::notices') \
            AND status IN ('Done', 'Failed', 'Killed')";
        sqlx::query(sql).execute(c).await?;
    }
    tx.commit().await
}

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

/// Works a queue off until `stop` fires, calling `heard` when PostgreSQL announces new jobs, whoever
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
    let ended = match &line.ends {
        Ends::Postgres { pool, inserts } => {
            let config = apalis_postgres::Config::default()
                .queue(kind.name())
                .batch_size(BATCH)
                .heartbeat_interval(HEARTBEAT)
                .missed_heartbeats(MISSED)
                // One write less a job; who works on what stands in our row.
                .lock_tasks(false);
            let backend = PostgresStorage::<serde_json::Value>::new(pool).with_config(config);
            let inserts = overhear(inserts.subscribe(), kind, heard);
            work!(backend.poll_with_strategy(Ticks::new(TICK_POSTGRES, Some((inserts, PAUSE)))))
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
            let tick = if kind == Kind::Requests { TICK_SQLITE } else { TICK_SQLITE * 8 };
            work!(backend.poll_with_strategy(Ticks::new(tick, None)))
        }
    };
    ended.map_err(|e| Error::Internal(format!("queue {}: {e}", kind.name())))
}

/// What both queues of a process have together: connections for the queue alone (a heartbeat that
/// waits for a busy pool looks like death), and one on which PostgreSQL announces.
pub struct Line {
    ends: Ends,
    /// Ends the listening.
    _listening: Option<DropGuard>,
}

enum Ends {
    Postgres { pool: PgPool, inserts: broadcast::Sender<Heard> },
    Sqlite(SqlitePool),
}

/// Something is to be done in that queue; and whether a job says so.
#[derive(Clone, Copy)]
struct Heard {
    kind: Kind,
    is_job: bool,
}

impl Line {
    /// Over a database. Connects on first use, and listens from now on.
    pub fn open(db: &Db) -> Line {
        match db {
            Db::Postgres(pool) => {
                let (inserts, stop) = (broadcast::Sender::new(16), CancellationToken::new());
                tokio::spawn(listen(pool.clone(), inserts.clone(), stop.clone()));
                let ends = Ends::Postgres { pool: own_pool(pool), inserts };
                Line { ends, _listening: Some(stop.drop_guard()) }
            }
            Db::Sqlite(pool) => Line { ends: Ends::Sqlite(pool.clone()), _listening: None },
        }
    }
}

/// Connections of SQLite's queue, of each kind.
const OWN: u32 = 3;

/// What is written there need not survive a power cut: a job that is fetched or acknowledged twice
/// finds nothing to claim. So nobody waits for a disk.
fn own_pool(pool: &PgPool) -> PgPool {
    let options = (*pool.connect_options()).clone();
    pool::options(pool::share_of_queue(pool.options().get_max_connections()))
        .after_connect(|conn, _| {
            Box::pin(async {
                sqlx::query("SET synchronous_commit = off").execute(conn).await.map(drop)
            })
        })
        .connect_lazy_with(options)
}

/// When to look for jobs: at each tick, and a pause after something came through the channel.
///
/// apalis's own interval loses its timer when a fetch completes within one poll. This one always
/// leaves a waker behind.
struct Ticks {
    every: Duration,
    sleep: Pin<Box<Sleep>>,
    inserts: Option<(mpsc::Receiver<()>, Duration)>,
}

impl Ticks {
    fn new(every: Duration, inserts: Option<(mpsc::Receiver<()>, Duration)>) -> Self {
        Ticks { every, sleep: Box::pin(tokio::time::sleep(every)), inserts }
    }
}

impl PollStrategy for Ticks {
    fn poll_drive(&mut self, cx: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        let mut due = false;
        if let Some((inserts, pause)) = &mut self.inserts {
            while let Poll::Ready(Some(())) = inserts.poll_recv(cx) {
                let at = Instant::now() + *pause;
                if at < self.sleep.deadline() {
                    self.sleep.as_mut().reset(at);
                }
            }
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            self.sleep.as_mut().reset(Instant::now() + self.every);
            due = true;
        }
        if due { Poll::Ready(Some(())) } else { Poll::Pending }
    }
}

/// How long the listener hears nothing before it asks whether its connection works.
const QUIET: Duration = Duration::from_secs(15);
/// How long that may take.
const WORD: Duration = Duration::from_secs(5);
/// How long a pooler that shares sessions is left alone; whoever the session is lent to would hear.
const SHARED: Duration = Duration::from_secs(30);

/// Passes PostgreSQL's announcements on until it is stopped.
async fn listen(pool: PgPool, inserts: broadcast::Sender<Heard>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let heard = tokio::select! {
            heard = hear(&pool, &inserts) => heard,
            () = stop.cancelled() => return,
        };
        let pause = match heard {
            Ok(true) => continue,
            Ok(false) => SHARED,
            Err(error) => {
                tracing::debug!(%error, "listening for new jobs; the tick goes on meanwhile");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Until the connection is lost; `false` where there is nothing to hear.
async fn hear(pool: &PgPool, inserts: &broadcast::Sender<Heard>) -> Result<bool, sqlx::Error> {
    #[derive(Deserialize)]
    struct Insert {
        job_type: String,
    }
    let Some(ear) = Ear::open(pool, pool).await? else { return Ok(false) };
    let mut listener = ear.into_listener();
    listener.listen_all(["apalis::job::insert", CHANNEL]).await?;
    loop {
        let Ok(heard) = tokio::time::timeout(QUIET, listener.try_recv()).await else {
            // A connection that is silently gone announces nothing, and says nothing of it.
            let word = sqlx::query("SELECT 1").execute(&mut listener);
            let word = tokio::time::timeout(WORD, word).await;
            word.map_err(|_| sqlx::Error::PoolTimedOut)??;
            continue;
        };
        let Some(notification) = heard? else { return Ok(true) };
        let is_job = notification.channel() != CHANNEL;
        let insert = is_job.then(|| serde_json::from_str::<Insert>(notification.payload()));
        let name = match &insert {
            Some(Ok(insert)) => insert.job_type.as_str(),
            Some(Err(_)) => continue,
            None => notification.payload(),
        };
        let kind = [Kind::Requests, Kind::Notices].into_iter().find(|kind| kind.name() == name);
        // Nobody may be working at the moment.
        let _ = kind.map(|kind| inserts.send(Heard { kind, is_job }));
    }
}

/// What is announced for this queue, for as long as the receiver lives.
fn overhear(
    mut from: broadcast::Receiver<Heard>,
    kind: Kind,
    heard: impl Fn() + Send + Sync + 'static,
) -> mpsc::Receiver<()> {
    let (to, inserts) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let one = tokio::select! {
                one = from.recv() => one,
                () = to.closed() => return,
            };
            let one = match one {
                Ok(one) => one,
                // More than were kept: one of them was for this queue, perhaps.
                Err(RecvError::Lagged(_)) => Heard { kind, is_job: true },
                Err(RecvError::Closed) => return,
            };
            if one.kind == kind {
                heard();
                if one.is_job {
                    // A full channel says already what this would say.
                    let _ = to.try_send(());
                }
            }
        }
    });
    inserts
}

/// Removes jobs that ended before `before`, jobs that nobody fetched in some 23 hours before that (where
/// only `bgfiles process` runs; the sweeper wakes anew what is left to do), and then workers that
/// are silent since (jobs refer to them). At most `limit` of each; answers how many jobs.
///
/// # Errors
/// The database's.
pub async fn purge(conn: Conn<'_>, before: DateTime<Utc>, limit: i64) -> Result<u64> {
    let seconds = before.timestamp();
    match conn {
        Conn::Postgres(c) => {
            let sql = "DELETE FROM apalis.jobs WHERE id IN (SELECT id FROM apalis.jobs \
                WHERE job_type IN ('bgfiles::requests', 'bgfiles::notices') \
                AND status IN ('Done', 'Failed', 'Killed') \
                AND done_at < to_timestamp($1) LIMIT $2)";
            let ended = sqlx::query(sql).bind(seconds as f64).bind(limit).execute(&mut *c).await?;
            // With their priority, which all of ours have, by apalis's index; without, all that wait
            // are looked at.
            let sql = "DELETE FROM apalis.jobs WHERE id IN (SELECT id FROM apalis.jobs \
                WHERE job_type IN ('bgfiles::requests', 'bgfiles::notices') \
                AND status = 'Pending' AND priority = 0 \
                AND run_at < to_timestamp($1 - 86400) LIMIT $2)";
            let left = sqlx::query(sql).bind(seconds as f64).bind(limit).execute(&mut *c).await?;
            let sql = "DELETE FROM apalis.workers w WHERE w.id IN (SELECT id FROM apalis.workers \
                WHERE worker_type IN ('bgfiles::requests', 'bgfiles::notices') \
                AND last_seen < to_timestamp($1) LIMIT $2) \
                AND NOT EXISTS (SELECT 1 FROM apalis.jobs j WHERE j.lock_by = w.id)";
            sqlx::query(sql).bind(seconds as f64).bind(limit).execute(c).await?;
            Ok(ended.rows_affected() + left.rows_affected())
        }
        Conn::Sqlite(c) => {
            // The plus keeps SQLite from the index that begins with the type and knows no done_at.
            let sql = "DELETE FROM Jobs WHERE id IN (SELECT id FROM Jobs \
                WHERE +job_type IN ('bgfiles::requests', 'bgfiles::notices') \
                AND status IN ('Done', 'Failed', 'Killed') AND done_at < $1 LIMIT $2)";
            let ended = sqlx::query(sql).bind(seconds).bind(limit).execute(&mut *c).await?;
            let sql = "DELETE FROM Jobs WHERE id IN (SELECT id FROM Jobs \
                WHERE job_type IN ('bgfiles::requests', 'bgfiles::notices') \
                AND status = 'Pending' AND run_at < $1 - 86400 LIMIT $2)";
            let left = sqlx::query(sql).bind(seconds).bind(limit).execute(&mut *c).await?;
            let sql = "DELETE FROM Workers WHERE id IN (SELECT id FROM Workers \
                WHERE worker_type IN ('bgfiles::requests', 'bgfiles::notices') \
                AND last_seen < $1 LIMIT $2) \
                AND NOT EXISTS (SELECT 1 FROM Jobs WHERE Jobs.lock_by = Workers.id)";
            sqlx::query(sql).bind(seconds).bind(limit).execute(c).await?;
            Ok(ended.rows_affected() + left.rows_affected())
        }
    }
}

/// Jobs that wait, in both queues.
///
/// # Errors
/// The database's.
pub async fn depth(conn: Conn<'_>) -> Result<i64> {
    let sql = match &conn {
        Conn::Postgres(_) => {
            "SELECT count(*) FROM apalis.jobs WHERE job_type LIKE 'bgfiles::%' AND status = 'Pending'"
        }
        Conn::Sqlite(_) => {
            "SELECT count(*) FROM Jobs WHERE job_type LIKE 'bgfiles::%' AND status = 'Pending'"
        }
    };
    on!(conn, c => Ok(sqlx::query_scalar(sql).fetch_one(c).await?))
}

/// How far the database's clock is ahead of `now`. Nothing here relies on the two agreeing, but a
/// large difference shows in run times and log lines, and is worth a warning.
///
/// # Errors
/// The database's.
pub async fn clock_ahead(conn: Conn<'_>, now: DateTime<Utc>) -> Result<TimeDelta> {
    let theirs: i64 = match conn {
        Conn::Postgres(c) => {
            let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
            sqlx::query_scalar(sql).fetch_one(c).await?
        }
        // The same machine.
        Conn::Sqlite(_) => now.timestamp_millis(),
    };
    Ok(TimeDelta::milliseconds(theirs - now.timestamp_millis()))
}
