//! The whole product in a test: a database, a folder, mail in memory, a clock that stands still.

use std::{
    net::SocketAddr,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use bgfiles::{
    Clock, Db, FileRequest, NewFileRequest, Registry, RequestId, Toolbox,
    auth_token::{self, Client, Role, TokenPolicy, Users},
    config::Serve,
    file_request::{notice, store},
    limits::{Rate, TokenTtl},
    lock_token,
    mail::Mailer,
    request_token,
    storage::Storage,
    templates::Templates,
    toolbox::{Dispatched, LockPolicy, NewUser, Tools},
    visitor::TrustedProxies,
    web::{WebState, router, server},
    worker::{self, WorkerOptions},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    handlers::{self, Seen},
    patience, postgres, template,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

pub const SECRET: &str = "a-secret-for-tests-0123456789abcdef";

pub struct TestApp {
    pub kind: Kind,
    pub toolbox: Toolbox,
    pub url: String,
    pub dir: tempfile::TempDir,
    pub seen: Seen,
    pub http: reqwest::Client,
    pub stop: CancellationToken,
    database: Option<String>,
    is_sibling: bool,
    /// Whether a worker ran here, which is to send all mails.
    works: AtomicBool,
}

/// What a test may change before the app begins.
pub struct Parts {
    pub clock: Clock,
    pub storage: Option<Storage>,
    pub mailer: Option<Mailer>,
    pub registry: Option<Registry>,
    pub lease: Duration,
    pub templates: Templates,
    pub base_url: &'static str,
    pub request_tokens: request_token::Settings,
    pub trusted_proxies: TrustedProxies,
    pub download_rate: Option<Rate>,
    pub inline_timeout: Duration,
    pub auth: auth_token::Settings,
    pub users: Users,
    pub locks: lock_token::Settings,
    pub lock_policy: Option<std::sync::Arc<dyn LockPolicy>>,
}

impl Default for Parts {
    fn default() -> Self {
        Parts {
            clock: Clock::fixed(start()),
            storage: None,
            mailer: None,
            registry: None,
            lease: Duration::from_secs(10),
            templates: Templates::new(None),
            base_url: "http://files.example.com",
            request_tokens: request_token::Settings::new([SECRET]).unwrap(),
            trusted_proxies: TrustedProxies::default(),
            download_rate: None,
            inline_timeout: Duration::from_secs(60),
            auth: auth_token::Settings::default(),
            users: Users::Own,
            locks: lock_token::Settings::default(),
            lock_policy: None,
        }
    }
}

/// When fixed clocks begin.
pub fn start() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

impl TestApp {
    pub async fn new(kind: Kind) -> Self {
        Self::with(kind, Parts::default()).await
    }

    /// On the machine's clock, for tests with a running worker.
    pub async fn live(kind: Kind) -> Self {
        Self::with(kind, Parts { clock: Clock::system(), ..Parts::default() }).await
    }

    pub async fn with(kind: Kind, parts: Parts) -> Self {
        // `TEST_LOG=debug cargo test -- --nocapture name` shows what goes on.
        if let Ok(filter) = std::env::var("TEST_LOG") {
            let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
        }
        let dir = tempfile::tempdir().unwrap();
        let (url, database) = match kind {
            Kind::Sqlite => {
                let file = dir.path().join("test.db");
                template::copy_sqlite(&file).await;
                (format!("sqlite:{}", file.display()), None)
            }
            Kind::Postgres => {
                let (name, url) = postgres::create().await;
                (url, Some(name))
            }
        };
        let seen = Seen::default();
        let files = url::Url::from_file_path(dir.path().join("files")).unwrap();
        let tools = Tools::new(
            Db::open(&url).unwrap(),
            parts.storage.unwrap_or_else(|| Storage::open(files.as_str(), &[]).unwrap()),
            parts
                .mailer
                .unwrap_or_else(|| Mailer::open("memory:", "bgfiles <files@example.com>").unwrap()),
            parts.registry.unwrap_or_else(|| handlers::registry(&seen)),
            [SECRET],
            parts.base_url.parse().unwrap(),
        );
        let toolbox = Toolbox::new(Tools {
            templates: parts.templates,
            clock: parts.clock,
            lease: parts.lease,
            request_tokens: parts.request_tokens,
            trusted_proxies: parts.trusted_proxies,
            download_rate: parts.download_rate,
            inline_timeout: parts.inline_timeout,
            auth: parts.auth,
            users: parts.users,
            locks: parts.locks,
            lock_policy: parts.lock_policy,
            ..tools.unwrap()
        });
        Self::over(kind, toolbox, url, dir, seen, database)
    }

    /// Another web process over the same database: nothing in memory is shared.
    pub fn sibling(&self) -> TestApp {
        self.sibling_with(handlers::registry(&self.seen))
    }

    /// One that makes other files.
    pub fn sibling_with(&self, registry: Registry) -> TestApp {
        let tools = Tools::new(
            Db::open(&self.url).unwrap(),
            Storage::open("memory:", &[]).unwrap(),
            Mailer::open("memory:", "bgfiles <files@example.com>").unwrap(),
            registry,
            [SECRET],
            self.toolbox.base_url().clone(),
        );
        let toolbox = Toolbox::new(Tools {
            clock: self.toolbox.clock().clone(),
            auth: self.toolbox.auth_settings().clone(),
            users: self.toolbox.users().clone(),
            ..tools.unwrap()
        });
        let dir = tempfile::tempdir().unwrap();
        let seen = self.seen.clone();
        let mut app = Self::over(self.kind, toolbox, self.url.clone(), dir, seen, None);
        app.is_sibling = true;
        app
    }

    fn over(
        kind: Kind,
        toolbox: Toolbox,
        url: String,
        dir: tempfile::TempDir,
        seen: Seen,
        database: Option<String>,
    ) -> Self {
        TestApp {
            kind,
            toolbox,
            url,
            dir,
            seen,
            http: reqwest::Client::builder()
                // The server closes idle connections after two seconds.
                .pool_idle_timeout(Duration::from_secs(1))
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            stop: CancellationToken::new(),
            database,
            is_sibling: false,
            works: AtomicBool::new(false),
        }
    }

    pub fn files(&self) -> std::path::PathBuf {
        self.dir.path().join("files")
    }

    /// Every stored object's path, relative to the folder.
    pub fn objects(&self) -> Vec<String> {
        fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true => walk(root, &path, found),
                    false => found.push(path.strip_prefix(root).unwrap().display().to_string()),
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.files(), &self.files(), &mut found);
        found.sort();
        found
    }

    pub fn advance(&self, seconds: i64) {
        self.toolbox.clock().advance(TimeDelta::seconds(seconds));
    }

    pub fn new_request(file_type: &str, criteria: &str) -> NewFileRequest {
        let mut new = NewFileRequest::new(file_type.parse().unwrap());
        new.criteria = bgfiles::Criteria::from_query(criteria).unwrap();
        new.requester.id = Some("amy".into());
        new.requester.email = "amy@example.com".into();
        new
    }

    pub async fn add(&self, new: NewFileRequest) -> FileRequest {
        let mut tx = self.toolbox.db().begin().await.unwrap();
        let row = self.toolbox.add_request(&mut tx, new).await.unwrap();
        tx.commit().await.unwrap();
        row
    }

    pub async fn request(&self, file_type: &str, criteria: &str) -> FileRequest {
        self.add(Self::new_request(file_type, criteria)).await
    }

    pub async fn dispatch(&self, id: RequestId) -> Dispatched {
        self.toolbox.dispatch(id, "test-worker", &CancellationToken::new()).await.unwrap()
    }

    /// Asked for and made.
    pub async fn finished(&self, file_type: &str, criteria: &str) -> FileRequest {
        let row = self.request(file_type, criteria).await;
        assert_eq!(self.dispatch(row.id).await, Dispatched::Handled);
        self.row(row.id).await
    }

    pub async fn find(&self, id: RequestId) -> Option<FileRequest> {
        let mut tx = self.toolbox.db().read().await.unwrap();
        store::find(&mut tx, id).await.unwrap()
    }

    pub async fn row(&self, id: RequestId) -> FileRequest {
        self.find(id).await.expect("the request is there")
    }

    /// Sends every notice that is due; how many.
    pub async fn deliver_notices(&self) -> usize {
        let mut tx = self.toolbox.db().read().await.unwrap();
        let due = notice::store::due(&mut tx, self.toolbox.clock().now(), 1000).await.unwrap();
        drop(tx);
        for id in &due {
            self.toolbox.deliver_notice(*id).await.unwrap();
        }
        due.len()
    }

    /// A user with a token that never expires.
    pub async fn user(&self, name: &str, role: Role) -> String {
        self.add_user(name, role, None).await;
        let client = format!("client-{name}");
        self.client(&client, TokenTtl::Never, "", TokenPolicy::One).await;
        self.token(name, &client).await
    }

    pub async fn add_user(&self, name: &str, role: Role, password: Option<&str>) {
        let new = NewUser {
            username: name.into(),
            email: format!("{name}@example.com"),
            role,
            password: password.map(str::to_owned),
        };
        self.toolbox.create_user(new).await.unwrap();
    }

    pub async fn client(
        &self,
        name: &str,
        ttl: TokenTtl,
        rate: &str,
        tokens: TokenPolicy,
    ) -> Client {
        self.toolbox.create_client(name, Some(ttl), rate, tokens).await.unwrap()
    }

    pub async fn token(&self, user: &str, client: &str) -> String {
        let (person, client) = self.toolbox.person_and_client(user, client).await.unwrap();
        self.toolbox.issue_secret(&person, &client).await.unwrap().secret.expose().to_owned()
    }

    /// A running web server; its address.
    pub async fn serve(&self) -> SocketAddr {
        self.serve_as(Serve::Stream).await
    }

    pub async fn serve_as(&self, serve: Serve) -> SocketAddr {
        let state = WebState { serve, ..WebState::new(self.toolbox.clone()) };
        let limits = server::Limits {
            header: Duration::from_secs(2),
            write: Duration::from_secs(5),
            drain: Duration::from_secs(2),
        };
        self.serve_with(state, limits).await
    }

    pub async fn serve_with(&self, state: WebState, limits: server::Limits) -> SocketAddr {
        let listener = server::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = WebState { shutdown: self.stop.clone(), ..state };
        tokio::spawn(server::serve(listener, router(state), limits, self.stop.clone()));
        address
    }

    /// A running worker; fire the token and await the handle to end it.
    pub fn work(&self, slots: usize) -> (CancellationToken, JoinHandle<()>) {
        self.works.store(true, Ordering::SeqCst);
        let stop = CancellationToken::new();
        let options = WorkerOptions { slots, drain: Duration::from_secs(20) };
        let run = worker::run(self.toolbox.clone(), options, stop.clone());
        (stop, tokio::spawn(run))
    }

    /// The path of a request's link on the test server.
    pub fn link(&self, row: &FileRequest) -> String {
        let url = self.toolbox.download_url(row);
        url.strip_prefix("http://files.example.com").unwrap().to_owned()
    }

    /// One statement on the database, written so that both take it.
    pub async fn sql(&self, sql: &'static str) {
        match self.toolbox.db() {
            Db::Postgres(pool) => sqlx::query(sql).execute(pool).await.map(drop).unwrap(),
            Db::Sqlite(pool) => sqlx::query(sql).execute(pool).await.map(drop).unwrap(),
        }
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        match self.toolbox.db() {
            Db::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
            Db::Sqlite(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
        }
    }
}

impl TestApp {
    /// What should not be there once a test is over.
    async fn left_over(&self) -> Vec<String> {
        let mut left = Vec::new();
        if let Err(error) = self.toolbox.flush_receipts().await {
            left.push(format!("receipts: {error}"));
        }
        let waits =
            "SELECT count(*) FROM bgfiles_notices WHERE status = 'pending' AND error IS NULL";
        if self.works.load(Ordering::SeqCst) && self.count(waits).await > 0 {
            left.push("a mail that a worker was to send".into());
        }
        if self.kind == Kind::Postgres {
            let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()";
            let until = Instant::now() + patience(Duration::from_secs(5));
            while self.count(open).await > 0 {
                if Instant::now() > until {
                    left.push("a transaction that nobody ended".into());
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        left
    }

    /// Only of what began with a database of its own, and while the test can still wait.
    fn check_left_over(&self) {
        use tokio::runtime::{Handle, RuntimeFlavor};
        let is_closed = match self.toolbox.db() {
            Db::Postgres(pool) => pool.is_closed(),
            Db::Sqlite(pool) => pool.is_closed(),
        };
        let is_done = std::thread::panicking() || self.is_sibling || is_closed;
        let Ok(runtime) = Handle::try_current() else { return };
        if is_done || runtime.runtime_flavor() != RuntimeFlavor::MultiThread {
            return;
        }
        let left = tokio::task::block_in_place(|| runtime.block_on(self.left_over()));
        assert!(left.is_empty(), "left over: {left:?}");
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.check_left_over();
        self.stop.cancel();
        if let Some(name) = self.database.take() {
            postgres::drop_database(name);
        }
    }
}

/// The body of a JSON answer with its status.
pub async fn json(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, body)
}
