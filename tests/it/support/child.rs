//! Real processes. Workers with the test's own handlers are this test binary, started again.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bgfiles::{
    Db, Handler, Job, Output, RequestId, Result, Toolbox,
    mail::Mailer,
    storage::Storage,
    toolbox::Tools,
    worker::{self, WorkerOptions},
};
use tokio_util::sync::CancellationToken;

use super::{
    TestApp,
    app::SECRET,
    handlers::{self, Seen},
};

/// A process that is killed when dropped.
pub struct Process(pub Child);

impl Process {
    /// kill -9.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).arg(self.0.id().to_string());
        assert!(kill.status().unwrap().success());
    }

    pub fn running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// The exit code, once it has ended within `seconds`.
    pub fn wait(&mut self, seconds: u64) -> Option<i32> {
        for _ in 0..seconds * 40 {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("the process did not end within {seconds} s");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The real binary.
pub fn bgfiles() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bgfiles"));
    for (name, _) in std::env::vars() {
        if name.starts_with("BGFILES_") || name == "DATABASE_URL" {
            command.env_remove(name);
        }
    }
    command.env("BGFILES_SECRET_KEY", SECRET).stdin(Stdio::null());
    command
}

/// A worker process over the app's database, folder and a mailbox folder, with the test handlers
/// and a short lease.
pub fn worker(app: &TestApp) -> Process {
    worker_with_lease(app, 3)
}

/// The same with a lease of so many seconds.
pub fn worker_with_lease(app: &TestApp, lease: u64) -> Process {
    let log = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(app.dir.path().join("worker.log"))
        .unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "support::child::worker_process", "--nocapture"])
        .env("CHILD_DATABASE", &app.url)
        .env("CHILD_DIR", app.dir.path())
        .env("CHILD_LEASE", lease.to_string())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Process(child)
}

/// Says in a file how often it has begun with a request, and takes its time with some.
struct Begins(PathBuf);

#[async_trait::async_trait]
impl Handler for Begins {
    fn file_type(&self) -> &str {
        "begins"
    }

    async fn write(&self, job: &Job, mut out: Output) -> Result<()> {
        std::fs::create_dir_all(&self.0).unwrap();
        let path = self.0.join(job.request.id.to_string());
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, b"x").unwrap();
        let pause = if job.request.id.0.as_bytes()[0].is_multiple_of(8) { 250 } else { 5 };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        out.write("done\n").await
    }
}

/// How often a handler has begun with a request.
pub fn begins(app: &TestApp, id: RequestId) -> usize {
    let path = app.dir.path().join("begun").join(id.to_string());
    std::fs::read(path).map_or(0, |begins| begins.len())
}

/// Where child workers put mail.
pub fn mailbox(app: &TestApp) -> PathBuf {
    app.dir.path().join("mail")
}

/// How many mails are in the mailbox.
pub fn mails(app: &TestApp) -> usize {
    let entries = std::fs::read_dir(mailbox(app)).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "eml")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by other tests as a process of its own"]
async fn worker_process() {
    let setting = |name: &str| std::env::var(name).ok();
    let (Some(url), Some(dir), Some(lease)) =
        (setting("CHILD_DATABASE"), setting("CHILD_DIR"), setting("CHILD_LEASE"))
    else {
        return;
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let folder = |name: &str| url::Url::from_file_path(format!("{dir}/{name}")).unwrap();
    let mut registry = handlers::registry(&Seen::default());
    registry.register(Begins(PathBuf::from(&dir).join("begun"))).unwrap();
    let tools = Tools::new(
        Db::open(&url).unwrap(),
        Storage::open(folder("files").as_str(), &[]).unwrap(),
        Mailer::open(folder("mail").as_str(), "files@example.com").unwrap(),
        registry,
        [SECRET],
        "http://files.example.com".parse().unwrap(),
    );
    let lease = Duration::from_secs(lease.parse().unwrap());
    let toolbox = Toolbox::new(Tools { lease, ..tools.unwrap() });
    let stop = CancellationToken::new();
    let fired = stop.clone();
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    tokio::spawn(async move {
        terminate.recv().await;
        fired.cancel();
    });
    let options = WorkerOptions { slots: 4, drain: Duration::from_secs(2) };
    worker::run(toolbox, options, stop).await;
}
