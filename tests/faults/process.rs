//! Our processes: started, watched, signalled, and started again when they end.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

pub const SECRET: &str = "a secret of the fault harness that is long enough";

static BINARY: OnceLock<PathBuf> = OnceLock::new();

/// Keeps a copy of the binary for this run, as another build may replace it meanwhile. The
/// environment may name a binary of another build.
pub fn keep_binary(folder: &Path) {
    let binary = std::env::var_os("FAULTS_BINARY").unwrap_or(env!("CARGO_BIN_EXE_bgfiles").into());
    let copy = folder.join("bgfiles");
    std::fs::copy(binary, &copy).unwrap();
    BINARY.set(copy).unwrap();
}

/// The real binary, with nothing of our environment but the path.
pub fn bgfiles() -> Command {
    let mut command = Command::new(BINARY.get().unwrap());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("BGFILES_SECRET_KEY", SECRET).stdin(Stdio::null());
    command
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The library that moves clocks.
pub fn libfaketime() -> PathBuf {
    let places = [
        "/usr/lib/*/faketime",
        "/usr/lib/faketime",
        "/usr/lib64/faketime",
        "/usr/local/lib/faketime",
    ];
    let mut found = places.iter().flat_map(|place| match place.split_once("/*/") {
        Some((above, below)) => std::fs::read_dir(above)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join(below))
            .collect::<Vec<_>>(),
        None => vec![PathBuf::from(place)],
    });
    let found = found
        .find_map(|dir| Some(dir.join("libfaketimeMT.so.1")).filter(|library| library.exists()));
    found.expect("libfaketime is missing: run scripts/faults, which brings it")
}

/// Its environment: the clock is moved by what stands in the file.
pub fn clock_environment(clock: &Path) -> Vec<(String, String)> {
    let text = |path: &Path| path.display().to_string();
    let pairs = [
        ("LD_PRELOAD", text(&libfaketime())),
        ("FAKETIME_TIMESTAMP_FILE", text(clock)),
        ("FAKETIME_CACHE_DURATION", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ("DONT_FAKE_MONOTONIC", "1".into()),
        ("FAKETIME_DISABLE_SHM", "1".into()),
        ("NO_FAKE_STAT", "1".into()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Moves the clock of who has this file.
pub fn set_clock(clock: &Path, ahead: i64) {
    // In one step: who reads half of it would be at another time.
    let draft = clock.with_extension("draft");
    std::fs::write(&draft, format!("{ahead:+}\n")).unwrap();
    std::fs::rename(draft, clock).unwrap();
}

/// Removes what libfaketime keeps of processes that were killed.
pub fn forget_clocks() {
    for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((library, pid)) = name.rsplit_once('_') else { continue };
        if library.contains("faketime") && !Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// How a process ended, and whether it was asked to.
#[derive(Clone, Debug)]
pub struct Ended {
    pub name: String,
    pub at: Instant,
    pub status: ExitStatus,
    /// `None`: nobody had asked.
    pub asked: Option<&'static str>,
    /// From the signal to the end.
    pub took: Duration,
    /// Whether a failpoint was set that aborts.
    pub was_armed: bool,
}

impl Ended {
    /// Whether this may be: killed, ended well after SIGTERM, aborted at a failpoint.
    pub fn is_expected(&self) -> bool {
        match (self.asked, self.status.signal()) {
            (Some("KILL"), Some(9)) => true,
            (Some("TERM"), None) => self.status.code() == Some(0),
            (_, Some(6)) => self.was_armed,
            _ => false,
        }
    }
}

type Asked = Option<(&'static str, Instant)>;

/// One of our processes, over all its lives.
pub struct Process {
    pub name: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
    /// What happens where in the next life.
    failpoints: Mutex<String>,
    /// What is always in force.
    always: &'static str,
    pid: Mutex<Option<u32>>,
    asked: Mutex<Asked>,
    over: AtomicBool,
    pub ended: Mutex<Vec<Ended>>,
    pause: Duration,
}

impl Process {
    pub fn new(
        name: &str,
        args: &[&str],
        env: Vec<(String, String)>,
        folder: &Path,
        always: &'static str,
    ) -> Arc<Process> {
        Arc::new(Process {
            name: name.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env,
            log: folder.join(format!("{name}.log")),
            failpoints: Mutex::default(),
            always,
            pid: Mutex::default(),
            asked: Mutex::default(),
            over: AtomicBool::new(false),
            ended: Mutex::default(),
            pause: Duration::from_millis(300),
        })
    }

    /// The next life aborts when it has reached the step once more than so often.
    pub fn arm(&self, step: &str, after: u64) {
        let before = if after == 0 { String::new() } else { format!("{after}*off->") };
        *self.failpoints.lock().unwrap() = format!("{step}={before}1*return(abort)");
    }

    /// Also whether a failpoint was set that aborts.
    fn spawn(&self) -> (std::process::Child, bool) {
        let log = File::options().append(true).create(true).open(&self.log).unwrap();
        let armed = std::mem::take(&mut *self.failpoints.lock().unwrap());
        let step = armed.split('=').next().unwrap_or_default();
        let always = self.always.split(';').filter(|one| one.split('=').next() != Some(step));
        let failpoints: Vec<&str> =
            always.chain([armed.as_str()]).filter(|p| !p.is_empty()).collect();
        let mut command = bgfiles();
        command.args(&self.args).envs(self.env.iter().cloned());
        command.env("FAILPOINTS", failpoints.join(";"));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        (command.spawn().unwrap(), !armed.is_empty())
    }

    /// Lives until [`Process::end`], again and again.
    pub fn start(self: &Arc<Self>) {
        let process = self.clone();
        std::thread::spawn(move || {
            while !process.over.load(Ordering::SeqCst) {
                let (mut child, was_armed) = process.spawn();
                *process.pid.lock().unwrap() = Some(child.id());
                if process.over.load(Ordering::SeqCst) {
                    process.signal("KILL");
                }
                let status = child.wait().unwrap();
                *process.pid.lock().unwrap() = None;
                let asked = process.asked.lock().unwrap().take();
                let took = asked.map_or(Duration::ZERO, |(_, at)| at.elapsed());
                let asked = asked.map(|(name, _)| name);
                let name = process.name.clone();
                let ended = Ended { name, at: Instant::now(), status, asked, took, was_armed };
                process.ended.lock().unwrap().push(ended);
                std::thread::sleep(process.pause);
            }
        });
    }

    /// Sends a signal; whether there was somebody to send it to.
    pub fn signal(&self, name: &'static str) -> bool {
        let Some(pid) = *self.pid.lock().unwrap() else { return false };
        if name == "KILL" || name == "TERM" {
            self.asked.lock().unwrap().get_or_insert((name, Instant::now()));
            if name == "KILL" {
                *self.asked.lock().unwrap() = Some((name, Instant::now()));
            }
        }
        let signal = match name {
            "KILL" => Signal::KILL,
            "TERM" => Signal::TERM,
            "STOP" => Signal::STOP,
            "CONT" => Signal::CONT,
            other => panic!("{other}"),
        };
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    /// Ends it for good, now.
    pub fn give_up(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.signal("KILL");
    }

    pub fn pid(&self) -> Option<u32> {
        *self.pid.lock().unwrap()
    }

    pub fn is_running(&self) -> bool {
        self.pid.lock().unwrap().is_some()
    }

    pub fn deaths(&self) -> usize {
        self.ended.lock().unwrap().len()
    }

    /// Ends it for good by a signal; how long that took. `None`: not within the limit, and killed.
    pub async fn end(&self, name: &'static str, limit: Duration) -> Option<Duration> {
        self.over.store(true, Ordering::SeqCst);
        let began = Instant::now();
        // Between two lives there is nobody to signal.
        while self.is_running() && began.elapsed() < limit {
            if self.asked.lock().unwrap().is_none() {
                self.signal("CONT");
                self.signal(name);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if !self.is_running() {
            return Some(began.elapsed());
        }
        self.signal("KILL");
        while self.is_running() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }
}
