//! Pools of connections to PostgreSQL: what is asked of a connection that is lent and of one that
//! comes back, each within a limit, and how many there may be.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    Connection, Executor, PgConnection, PgPool, SqliteConnection,
    pool::PoolConnectionMetadata,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    error::{Error, sentence},
    tls,
};

/// Who was used so short a time ago is taken to work: asking costs every transaction a round trip.
const FRESH: Duration = Duration::from_secs(1);
/// How long an idle connection may take to say that it works.
const WORD: Duration = Duration::from_secs(2);
/// How long one that comes back may take to be at rest.
const REST: Duration = Duration::from_secs(3);
/// A connection that was idle for so long is closed: where a pooler has few for all, others need it.
const IDLE_FOR: Duration = Duration::from_secs(60);
/// What a new connection is asked.
const FIRST: &str = "SELECT 1";
/// How long one attempt to connect may take.
const KNOCK: Duration = Duration::from_secs(3);
/// Connections apart from the pools: a web process listens on one and announces on another, a worker
/// listens on one.
const APART: u32 = 2;

/// How many connections the pool for work gets of the `most` that a process may open.
pub(crate) fn share_of_work(most: u32) -> u32 {
    let total = |work: &u32| work + APART + share_of_queue(*work);
    (1..=most).rev().find(|work| total(work) <= most).unwrap_or(1)
}

/// How many the queue gets, both kinds together, beside so many for work.
pub(crate) fn share_of_queue(work: u32) -> u32 {
    (work / 3).clamp(1, 6)
}

/// The options of every pool of PostgreSQL.
pub(crate) fn options(most: u32) -> PgPoolOptions {
    let pulse = Arc::new(Pulse::default());
    PgPoolOptions::new()
        .max_connections(most)
        .idle_timeout(IDLE_FOR)
        // A pooler that is full lets everybody in, and then lets them wait with their first statement.
        .after_connect(|conn, _| Box::pin(async { conn.execute(FIRST).await.map(drop) }))
        // Asked below, within a limit.
        .test_before_acquire(false)
        .before_acquire(move |conn, meta| {
            let idle = Idle { time: meta.idle_for, pulse: pulse.clone() };
            Box::pin(async move {
                // Whoever asks by itself can drop what does not answer. The pool closes it, which
                // over TLS waits for the other end.
                match IDLE.try_with(|told| told.replace(Some(idle.clone()))) {
                    Ok(_) => Ok(true),
                    Err(_) => Ok(idle.works(conn).await),
                }
            })
        })
        .after_release(|conn, _| {
            Box::pin(async move {
                match AT_REST.try_with(|known| *known) {
                    Ok(true) => Ok(true),
                    _ => is_at_rest(conn).await,
                }
            })
        })
}

/// The options of a connection by its URL.
pub(crate) fn connect_options(url: &str) -> Option<PgConnectOptions> {
    tls::install();
    let mut url = url::Url::parse(url).ok()?;
    let is_known = |name: &str| KNOWN.contains(&name) || name.starts_with("options[");
    if url.query_pairs().any(|(name, _)| !is_known(&name)) {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let (known, unknown): (Vec<_>, Vec<_>) =
            pairs.into_iter().partition(|(name, _)| is_known(name));
        for (name, _) in unknown {
            // sqlx would log its value, and `PASSWORD` is one that it does not know.
            tracing::warn!(
                name,
                "a parameter of a database URL is not known; it counts for nothing"
            );
        }
        url.query_pairs_mut().clear().extend_pairs(known);
    }
    url.as_str().parse().ok()
}

/// The parameters of a URL that sqlx reads.
const KNOWN: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

tokio::task_local! {
    static IDLE: RefCell<Option<Idle>>;
    static AT_REST: bool;
}

/// Gives a connection back; one that is known to be at rest is not asked, which saves a round trip.
pub(crate) fn back<T>(is_at_rest: bool, back: impl Future<Output = T>) -> impl Future<Output = T> {
    AT_REST.scope(is_at_rest, back)
}

/// When a connection was asked that did not answer. Those that are idle since before then go with it:
/// one by one, twenty would take twenty times as long.
type Pulse = Mutex<Option<Instant>>;

/// How long a connection was idle, and what is known of its pool.
#[derive(Clone)]
pub(crate) struct Idle {
    time: Duration,
    pulse: Arc<Pulse>,
}

impl Idle {
    /// What `acquire` gives, and how long that was idle; `None` when it is new.
    pub(crate) async fn of<T>(acquire: impl Future<Output = T>) -> (T, Option<Idle>) {
        let told = IDLE.scope(RefCell::default(), async {
            let acquired = acquire.await;
            (acquired, IDLE.with(RefCell::take))
        });
        told.await
    }

    /// Whether the connection still works.
    pub(crate) async fn works<C: Connection>(&self, conn: &mut C) -> bool {
        if self.time <= FRESH {
            return true;
        }
        let asked = Instant::now();
        let lost = || self.pulse.lock().unwrap_or_else(PoisonError::into_inner);
        if lost().is_some_and(|lost| asked < lost + self.time) {
            return false;
        }
        match tokio::time::timeout(WORD, conn.ping()).await {
            Ok(word) => word.is_ok(),
            Err(_) => {
                *lost() = Some(asked);
                false
            }
        }
    }
}

/// A connection comes back when the server says that no transaction is open on it. Whose statement was
/// left in its middle, or whose state cannot be told, is closed.
async fn is_at_rest(conn: &mut PgConnection) -> sqlx::Result<bool> {
    let settled = async {
        // It begins nothing, and sqlx says which state the server then names: BeginFailed is none. In
        // a transaction that failed, the server refuses it.
        match conn.begin_with("SELECT").await {
            Err(sqlx::Error::BeginFailed) => Ok(true),
            // A BEGIN that nobody waited for, and nothing came after it: sqlx would have ended a
            // transaction that it knows. Or a pooler (pgpool) that keeps a transaction open around
            // what was acknowledged as done, and that must hold.
            Ok(unknown) => unknown.commit().await.map(|()| true),
            // Gone; saying so is the business of whoever used it.
            Err(_) => Ok(false),
        }
    };
    tokio::time::timeout(REST, settled).await.unwrap_or_else(|_| Err(silent()))
}

/// A transaction that SQLite ends by itself (a full disk) is one that sqlx believes to go on. Who
/// gets such a connection writes into a transaction that nobody commits, and locks everybody out.
pub(crate) async fn is_at_rest_here(
    conn: &mut SqliteConnection,
    _: PoolConnectionMetadata,
) -> sqlx::Result<bool> {
    Ok(!conn.is_in_transaction())
}

pub(super) fn silent() -> sqlx::Error {
    let kind = std::io::ErrorKind::TimedOut;
    sqlx::Error::Io(std::io::Error::new(kind, "the database does not answer"))
}

/// One attempt to connect, for its reason: a pool tries again until its time is over, and then says
/// only that.
pub(crate) async fn knock(pool: &PgPool) -> sqlx::Result<()> {
    let options = pool.connect_options();
    let attempt = async {
        let mut conn = PgConnection::connect_with(&options).await?;
        // A pooler that is full lets in and then says nothing.
        conn.execute(FIRST).await?;
        Ok(conn)
    };
    let conn = tokio::time::timeout(KNOCK, attempt).await.unwrap_or_else(|_| Err(silent()))?;
    let _ = tokio::time::timeout(KNOCK, conn.close()).await;
    Ok(())
}

/// Why no connection was to be had. Many ask at once, and one finds out.
pub(crate) async fn why_none(pool: &PgPool, error: sqlx::Error) -> Error {
    /// How long an answer counts.
    const COUNTS: Duration = Duration::from_secs(1);
    type Answer = (Instant, String, Result<(), String>);
    static LAST: tokio::sync::Mutex<Option<Answer>> = tokio::sync::Mutex::const_new(None);
    if !matches!(error, sqlx::Error::PoolTimedOut) {
        return error.into();
    }
    let options = pool.connect_options();
    let database = options.get_database().unwrap_or_default();
    let whose = format!("{}:{}/{database}", options.get_host(), options.get_port());
    let mut last = LAST.lock().await;
    let answer = match last.take() {
        Some(answer) if answer.0.elapsed() < COUNTS && answer.1 == whose => answer,
        _ => {
            let reason = knock(pool).await.map_err(|error| sentence(&error));
            (Instant::now(), whose, reason)
        }
    };
    let why = match &answer.2 {
        Ok(()) => error.into(),
        Err(why) => Error::Unreachable(why.clone()),
    };
    *last = Some(answer);
    why
}
