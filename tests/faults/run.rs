//! One seed, from the first process to the verdict.

use std::{
    collections::BTreeSet,
    ffi::CStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use bgfiles::Db;
use chrono::{DateTime, TimeDelta, Utc};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::{
    checker,
    cluster::{Cluster, Ground, accounts},
    evidence::{self, Disruption, Evidence, all},
    plan::{Database, EVERYBODY, Fault, Plan, Service, Store, Who, Wire},
    process::{self, Process},
    proxy::Proxy,
    s3,
    smtp::Sink,
    workload::{Asked, Clients},
};

/// A silent worker's request is taken over after so many seconds.
const LEASE: &str = "2";
/// Work that goes on at SIGTERM gets so many.
const DRAIN: &str = "2";
/// Giving back, mailing and the queues' last words take up to 25 s more where nothing answers.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// What a worker does between rows, so that faults hit it there.
const PACE: &str = "generating=sleep(30)";
/// What has not changed for so long, whatever time it is made to be, never will.
const QUIET: Duration = Duration::from_secs(60);
/// Seconds after which whatever waits is woken again.
const REWAKE: i64 = 62;
const SMALL_DISK: &CStr = c"size=128m";

/// Our processes and all they talk to.
pub struct House {
    pub plan: Arc<Plan>,
    pub folder: PathBuf,
    disk: PathBuf,
    cluster: Arc<Cluster>,
    pub database: Proxy,
    mail: Proxy,
    store: Proxy,
    pub sink: Arc<Sink>,
    /// Where the database is, not through the proxy.
    pub direct: String,
    env: Vec<(String, String)>,
    pub processes: Vec<Arc<Process>>,
    pub clients: Arc<Clients>,
    pub disruptions: Mutex<Vec<Disruption>>,
    /// Seconds by which all clocks are ahead.
    ahead: AtomicI64,
    /// One fault at a time at the same thing.
    busy: [tokio::sync::Mutex<()>; 9],
}

/// Settings that a scenario may want otherwise.
pub struct Pace {
    pub lease: &'static str,
    pub failpoints: &'static str,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { lease: LEASE, failpoints: PACE }
    }
}

fn number(who: Who) -> usize {
    EVERYBODY.iter().position(|one| *one == who).unwrap()
}

fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

impl House {
    pub async fn build(
        plan: Plan,
        ground: &Ground,
        cluster: Arc<Cluster>,
        folder: &Path,
        pace: Pace,
    ) -> House {
        let disk = folder.join("disk");
        // Of a run that was killed.
        let _ = unmount(&disk, UnmountFlags::DETACH);
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(&disk).unwrap();
        if plan.small_disk {
            let mounted = mount("bgfiles-faults", &disk, "tmpfs", MountFlags::empty(), SMALL_DISK);
            mounted.expect("a small disk can be mounted");
        }
        let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/jobs");
        let last_jobs = folder.join("jobs");
        std::fs::create_dir_all(&last_jobs).unwrap();
        for job in std::fs::read_dir(&jobs).unwrap().flatten() {
            std::fs::copy(job.path(), last_jobs.join(job.file_name())).unwrap();
        }
        let nothing_kept = "[expired_requests]\nkeep = 0\n\n[orphan_objects]\nkeep = 0\n";
        std::fs::write(last_jobs.join("cleaner.toml"), nothing_kept).unwrap();

        cluster.set_clock(0);
        let name = format!("seed_{}_{}", plan.seed, uuid::Uuid::new_v4().simple());
        let template = if plan.old_schema.is_some() { "" } else { " TEMPLATE template" };
        let (direct, mut tokens) = match plan.database {
            Database::Postgres => {
                cluster.run(&format!("CREATE DATABASE {name}{template}")).await;
                (cluster.url(&name), ground.postgres.clone())
            }
            Database::Sqlite => {
                let file = disk.join("bgfiles.db");
                if plan.old_schema.is_none() {
                    std::fs::copy(ground.folder.join("template.db"), &file).unwrap();
                    // There is one if the last who had it open did not live to close it.
                    let log = ground.folder.join("template.db-wal");
                    let _ = std::fs::copy(log, disk.join("bgfiles.db-wal"));
                }
                (format!("sqlite:{}", file.display()), ground.sqlite.clone())
            }
        };
        let database = Proxy::to(cluster.port).await;
        let url = direct.replace(&format!(":{}/", cluster.port), &format!(":{}/", database.port));

        let (port, sink) = Sink::serve().await;
        let mail = Proxy::to(port).await;
        let endpoint = s3::serve(&disk.join("s3")).await;
        let store = Proxy::to(port_of(&endpoint)).await;
        let fewer = folder.join("jobs-of-another-build");
        if plan.lacks_a_type {
            std::fs::create_dir_all(&fewer).unwrap();
            for job in std::fs::read_dir(&jobs).unwrap().flatten() {
                if job.file_name() != "wide.toml" {
                    std::fs::copy(job.path(), fewer.join(job.file_name())).unwrap();
                }
            }
        }
        let storage = match plan.store {
            Store::Folder => format!("file://{}", disk.join("files").display()),
            Store::S3 => "s3://bucket/files".into(),
        };
        let web = process::free_port();
        let env: Vec<(String, String)> = [
            ("DATABASE_URL", url),
            ("BGFILES_STORAGE", storage),
            ("BGFILES_MAIL", format!("smtp://127.0.0.1:{}?tls=none", mail.port)),
            ("BGFILES_BASE_URL", format!("http://127.0.0.1:{web}")),
            ("BGFILES_BIND", format!("127.0.0.1:{web}")),
            ("BGFILES_JOBS_DIR", jobs.display().to_string()),
            ("BGFILES_LEASE", pace.lease.into()),
            ("BGFILES_DRAIN", DRAIN.into()),
            ("BGFILES_WORKERS", "4".into()),
            ("BGFILES_LOG", "bgfiles=debug,info".into()),
            ("AWS_ENDPOINT", format!("http://127.0.0.1:{}", store.port)),
            ("AWS_ACCESS_KEY_ID", s3::KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", s3::SECRET.into()),
            ("AWS_REGION", "us-east-1".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if let Some(migrations) = plan.old_schema {
            old_schema(&direct, &plan, migrations).await;
            migrate_in_two(&env, &direct, plan.seed);
            tokens = accounts(&|args| {
                let mut command = process::bgfiles();
                let out = command.args(args).env("DATABASE_URL", &direct).output().unwrap();
                assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
                String::from_utf8(out.stdout).unwrap().trim().to_owned()
            });
        }
        let names = ["web", "worker-1", "worker-2", "cleaner"];
        let args: [&[&str]; 4] = [&["web"], &["worker"], &["worker"], &["clean", "--every", "2s"]];
        let processes = names.iter().zip(args).map(|(name, args)| {
            let clock = folder.join(format!("{name}.clock"));
            process::set_clock(&clock, 0);
            let mut env = env.clone();
            env.extend(process::clock_environment(&clock));
            if plan.lacks_a_type && *name == "worker-2" {
                env.push(("BGFILES_JOBS_DIR".into(), fewer.display().to_string()));
            }
            let always = if args == ["worker"] { pace.failpoints } else { "" };
            Process::new(name, args, env, folder, always)
        });
        House {
            processes: processes.collect(),
            clients: Clients::new(format!("http://127.0.0.1:{web}"), tokens),
            plan: Arc::new(plan),
            folder: folder.to_owned(),
            disk,
            cluster,
            database,
            mail,
            store,
            sink,
            direct,
            env,
            disruptions: Mutex::default(),
            ahead: AtomicI64::new(0),
            busy: Default::default(),
        }
    }

    pub fn process(&self, who: Who) -> &Arc<Process> {
        &self.processes[number(who)]
    }

    fn disrupted(&self, from: Instant, what: String) {
        self.disruptions.lock().unwrap().push(Disruption { from, to: Instant::now(), what });
    }

    async fn web_answers(&self) {
        for _ in 0..400 {
            let healthy =
                self.clients.http.get(format!("{}/healthz", self.clients.base)).send().await;
            if healthy.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the web process never answered");
    }

    pub async fn start(&self) {
        for (who, step, after) in &self.plan.armed {
            self.process(*who).arm(step, *after);
        }
        let away = self.plan.away_at_boot;
        if away.is_some() {
            self.database.set(Wire::Cut);
        }
        self.processes.iter().for_each(Process::start);
        if let Some(away) = away {
            tokio::time::sleep(away).await;
            self.database.set(Wire::Pass);
        }
        self.web_answers().await;
    }

    fn set_clock(&self, process: &Process, ahead: i64) {
        process::set_clock(&self.folder.join(format!("{}.clock", process.name)), ahead);
    }

    /// All clocks.
    fn set_clocks(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::SeqCst);
        self.cluster.set_clock(ahead);
        self.processes.iter().for_each(|process| self.set_clock(process, ahead));
    }

    fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::seconds(self.ahead.load(Ordering::SeqCst))
    }

    async fn wire(&self, service: Service, wire: Wire, lasts: Duration) {
        let (proxy, busy) = match service {
            Service::Database => (&self.database, 4),
            Service::Mail => (&self.mail, 5),
            Service::Store => (&self.store, 6),
        };
        let _one = self.busy[busy].lock().await;
        let from = Instant::now();
        proxy.set(wire);
        tokio::time::sleep(lasts.max(Duration::from_millis(50))).await;
        proxy.set(Wire::Pass);
        self.disrupted(from, format!("{service:?} {wire:?}"));
    }

    pub async fn postgres_away(&self, lasts: Duration) {
        let _one = self.busy[7].lock().await;
        let from = Instant::now();
        let cluster = self.cluster.clone();
        tokio::task::spawn_blocking(move || cluster.stop("immediate")).await.unwrap();
        tokio::time::sleep(lasts).await;
        let cluster = self.cluster.clone();
        tokio::task::spawn_blocking(move || cluster.start()).await.unwrap();
        self.disrupted(from, "PostgreSQL away".into());
    }

    async fn lock(&self, lasts: Duration) {
        let _one = self.busy[7].lock().await;
        let from = Instant::now();
        let db = Db::open(&self.direct).unwrap();
        // Somebody else at work may keep us from it.
        if let Ok(tx) = db.begin().await {
            tokio::time::sleep(lasts).await;
            drop(tx);
        }
        self.disrupted(from, "SQLite locked".into());
    }

    async fn fill_disk(&self, lasts: Duration) {
        let _one = self.busy[8].lock().await;
        let from = Instant::now();
        let ballast = self.disk.join("ballast");
        let filled = ballast.clone();
        tokio::task::spawn_blocking(move || {
            use std::io::Write;
            let mut file = std::fs::File::create(filled).unwrap();
            let mut piece: &[u8] = &vec![0; 1 << 20];
            while !piece.is_empty() {
                if file.write_all(piece).is_err() {
                    piece = &piece[..piece.len() / 2];
                }
            }
        })
        .await
        .unwrap();
        tokio::time::sleep(lasts).await;
        std::fs::remove_file(ballast).unwrap();
        self.disrupted(from, "disk full".into());
    }

    /// Clients leave while a transaction begins, as the database takes its time.
    async fn leave(&self, many: u64) {
        let slow = self.wire(Service::Database, Wire::Slow(3), Duration::from_secs(2));
        tokio::join!(slow, self.clients.leave(self.plan.seed, many));
    }

    /// Transactions that stay open while nobody asks for anything.
    async fn left_open(&self) -> usize {
        let db = Db::open(&self.direct).unwrap();
        let Db::Postgres(pool) = &db else { return 0 };
        let sql = "SELECT pid || ' ' || xact_start FROM pg_stat_activity \
            WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        let mut open: Option<BTreeSet<String>> = None;
        for _ in 0..4 {
            let now: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await.unwrap();
            let still = now.into_iter().filter(|one| open.as_ref().is_none_or(|o| o.contains(one)));
            open = Some(still.collect());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        db.close().await;
        open.map_or(0, |open| open.len())
    }

    async fn happen(&self, fault: Fault) {
        let from = Instant::now();
        match fault {
            Fault::Kill(who) => {
                let _one = self.busy[number(who)].lock().await;
                self.process(who).signal("KILL");
            }
            Fault::Terminate(who) => {
                let _one = self.busy[number(who)].lock().await;
                self.process(who).signal("TERM");
            }
            Fault::Stop(who, lasts) => {
                let _one = self.busy[number(who)].lock().await;
                self.process(who).signal("STOP");
                tokio::time::sleep(lasts).await;
                self.process(who).signal("CONT");
                self.disrupted(from, format!("{} stopped", self.process(who).name));
            }
            Fault::Arm(who, step, after) => {
                let _one = self.busy[number(who)].lock().await;
                self.process(who).arm(step, after);
                self.process(who).signal("KILL");
            }
            Fault::Postgres(lasts) => self.postgres_away(lasts).await,
            Fault::Lock(lasts) => self.lock(lasts).await,
            Fault::Wire(service, wire, lasts) => self.wire(service, wire, lasts).await,
            Fault::LoseAnswers(mails) => {
                self.sink.lose.fetch_add(mails, Ordering::SeqCst);
            }
            Fault::Refuse(mails) => {
                self.sink.refuse.fetch_add(mails, Ordering::SeqCst);
            }
            Fault::Leave(many) => self.leave(many).await,
            Fault::FillDisk(lasts) => self.fill_disk(lasts).await,
            Fault::Clock(who, seconds) => {
                self.set_clock(self.process(who), seconds);
                // Who is ahead by more than a lease takes over what others are at, until all clocks
                // are set anew.
                let to = from + Duration::from_secs(600);
                let what = format!("clock of {} off", self.process(who).name);
                self.disruptions.lock().unwrap().push(Disruption { from, to, what });
            }
            Fault::Migrate(after) => {
                let mut command = process::bgfiles();
                command.arg("migrate").envs(self.env.iter().cloned());
                command.stdout(Stdio::null()).stderr(Stdio::null());
                let mut migrate = command.spawn().unwrap();
                tokio::time::sleep(after).await;
                let _ = migrate.kill();
                let _ = migrate.wait();
            }
        }
    }

    /// Clients and faults, until both are through.
    pub async fn play(self: &Arc<Self>) {
        let faults = self.plan.faults.iter().map(|(at, fault)| {
            let (house, at, fault) = (self.clone(), *at, *fault);
            tokio::spawn(async move {
                tokio::time::sleep(at).await;
                house.happen(fault).await;
            })
        });
        let faults: Vec<_> = faults.collect();
        let visits = (0..self.plan.requests)
            .map(|number| tokio::spawn(self.clients.clone().visit(number, self.plan.clone())));
        let visits = futures::future::join_all(visits.collect::<Vec<_>>());
        for fault in faults {
            fault.await.unwrap();
        }
        tokio::pin!(visits);
        let visits = match tokio::time::timeout(Duration::from_secs(8), &mut visits).await {
            Ok(visits) => visits,
            Err(_) => {
                self.clients.closing.store(true, Ordering::SeqCst);
                visits.await
            }
        };
        for visit in visits {
            visit.unwrap();
        }
    }

    /// Waits until everything has ended. Where all that is left waits for a time to come, the clocks
    /// are moved there.
    pub async fn settle(&self) {
        // Files keep their times when clocks are moved: it would take what is being written for old.
        self.process(Who::Cleaner).end("TERM", ENDS_WITHIN).await;
        let from = Instant::now();
        self.set_clocks(20);
        self.disrupted(from, "clocks moved".into());
        let db = Db::open(&self.direct).unwrap();
        let (mut last, mut changed, mut since) = (String::new(), Instant::now(), Instant::now());
        while changed.elapsed() < QUIET {
            tokio::time::sleep(Duration::from_millis(250)).await;
            // (when it may be claimed, who has it until when)
            type Waiting = (String, DateTime<Utc>, Option<DateTime<Utc>>, i64);
            let requests = "SELECT status, run_at, lease_until, generation FROM \
                bgfiles_file_requests WHERE status IN ('pending', 'running')";
            let notices = "SELECT 'notice', run_at, lease_until, generation FROM bgfiles_notices \
                WHERE status = 'pending'";
            let requests: Result<Vec<Waiting>, _> = all!(&db, requests);
            let notices: Result<Vec<Waiting>, _> = all!(&db, notices);
            let (Ok(mut waiting), Ok(notices)) = (requests, notices) else { continue };
            waiting.extend(notices);
            if waiting.is_empty() {
                break;
            }
            let state = format!("{waiting:?}");
            if state != last {
                (last, changed, since) = (state, Instant::now(), Instant::now());
            }
            let now = self.now();
            let next = waiting
                .iter()
                .map(|(_, run_at, lease, _)| lease.map_or(*run_at, |lease| lease.max(*run_at)));
            let next = next.min().unwrap_or(now);
            // Then nobody is at it. What was woken in vain is woken again after a minute.
            let is_still = since.elapsed() > Duration::from_millis(2_500);
            let is_later = next > now + TimeDelta::seconds(2);
            if is_still && (is_later || since.elapsed() > Duration::from_secs(5)) {
                let ahead = (next.max(now) - Utc::now()).num_seconds() + REWAKE;
                self.set_clocks(ahead);
                // On a slow machine somebody may have been at it all the same.
                self.disrupted(Instant::now(), "clocks moved".into());
                since = Instant::now();
            }
        }
        db.close().await;
    }

    /// Files through the links that were mailed.
    pub async fn follow_links(&self) {
        let db = Db::open(&self.direct).unwrap();
        let tables = evidence::tables(&db).await;
        db.close().await;
        let mails = self.sink.so_far();
        let finished = tables.rows.iter().filter(|row| row.status == "finished" && row.notify);
        for row in finished.take(8) {
            let Some(mail) = mails.iter().find(|mail| mail.to == row.requester_email) else {
                continue;
            };
            let url = mail.text.split_whitespace().find(|word| word.contains("/d/"));
            let Some(url) = url else {
                self.clients.wrong(format!("the mail about {} has no link", row.tag()));
                continue;
            };
            let file_type = if row.file_type == "wide" { "wide" } else { "numbers" };
            let rows = row.criterion("upto").and_then(|rows| rows.parse().ok()).unwrap_or_default();
            let asked = Asked { file_type, rows, tag: row.tag().to_owned() };
            // Its process may be starting again.
            let mut tries = 0;
            while tries < 5 && !self.clients.download(url, &asked).await {
                tokio::time::sleep(Duration::from_secs(1)).await;
                tries += 1;
            }
            if tries == 5 {
                self.clients.wrong(format!("the mailed link to {} does not work", row.tag()));
            }
        }
    }

    /// All processes end.
    pub async fn close(&self) {
        let ends = self.processes.iter().map(|process| process.end("TERM", ENDS_WITHIN));
        futures::future::join_all(ends).await;
    }

    /// One pass of the cleaner that keeps nothing, once no process runs.
    pub async fn clean(&self) {
        let clock = self.folder.join("last.clock");
        process::set_clock(&clock, self.ahead.load(Ordering::SeqCst) + 5);
        let mut command = process::bgfiles();
        command.arg("clean").envs(self.env.iter().cloned());
        command.envs(process::clock_environment(&clock));
        command.env("BGFILES_JOBS_DIR", self.folder.join("jobs"));
        let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = [out.stdout, out.stderr].concat();
        std::fs::write(self.folder.join("last-clean.log"), &said).unwrap();
        if !out.status.success() {
            self.clients.wrong("the last pass of the cleaner failed: see last-clean.log".into());
        }
    }

    pub async fn evidence(&self) -> Evidence {
        let db = Db::open(&self.direct).unwrap();
        let tables = evidence::tables(&db).await;
        db.close().await;
        let folder = match self.plan.store {
            Store::Folder => self.disk.join("files"),
            Store::S3 => self.disk.join("s3"),
        };
        let (objects, unfinished) = evidence::objects(&folder, self.plan.store);
        let ended: Vec<_> = self
            .processes
            .iter()
            .flat_map(|process| process.ended.lock().unwrap().clone())
            .collect();
        let mut disruptions = self.disruptions.lock().unwrap().clone();
        disruptions.extend(ended.iter().map(|ended| Disruption {
            from: ended.at - ended.took,
            to: ended.at,
            what: format!("{} {}", ended.name, ended.status),
        }));
        Evidence {
            rows: tables.rows,
            attempts: tables.attempts,
            links: tables.links,
            tokens: tables.tokens,
            notices_waiting: tables.notices_waiting,
            left_open: 0,
            objects,
            unfinished,
            mails: self.sink.so_far(),
            told: self.clients.told.lock().unwrap().clone(),
            ended,
            disruptions,
            drain: ENDS_WITHIN,
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for process in &self.processes {
            process.give_up();
        }
        if self.plan.small_disk {
            // Kept for whoever looks into a failure.
            let kept = self.folder.join("disk-kept");
            let _ = Command::new("cp").arg("-a").arg(&self.disk).arg(kept).status();
            let _ = unmount(&self.disk, UnmountFlags::DETACH);
        }
    }
}

/// The first so many migrations, and requests that were recorded before the others.
async fn old_schema(url: &str, plan: &Plan, migrations: usize) {
    use sqlx::migrate::Migrator;
    let kind = if plan.database == Database::Postgres { "postgres" } else { "sqlite" };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(kind);
    let mut migrator = Migrator::new(source).await.unwrap();
    migrator.migrations = migrator.migrations.iter().take(migrations).cloned().collect();
    migrator.dangerous_set_table_name("_bgfiles_migrations");
    let db = Db::open(url).unwrap();
    match &db {
        Db::Postgres(pool) => migrator.run(pool).await.unwrap(),
        Db::Sqlite(pool) => migrator.run(pool).await.unwrap(),
    }
    let waiting = if migrations == 0 { 0 } else { 5 };
    for number in 0..waiting {
        let tag = format!("s{}old{number}", plan.seed);
        let criteria = format!("upto={}&tag={tag}", number * 200 + 1);
        let sql = "INSERT INTO bgfiles_file_requests (file_type, criteria, format, requester, \
            requester_email) VALUES ('numbers', $1, 'csv', $2, $3)";
        macro_rules! insert {
            ($pool:expr) => {{
                let query = sqlx::query(sql).bind(&criteria).bind(&tag);
                query.bind(format!("{tag}@example.com")).execute($pool).await.map(drop)
            }};
        }
        match &db {
            Db::Postgres(pool) => insert!(pool).unwrap(),
            Db::Sqlite(pool) => insert!(pool).unwrap(),
        }
    }
    db.close().await;
}

/// A migration that is cut off at a failpoint, then one that is not.
fn migrate_in_two(env: &[(String, String)], direct: &str, seed: u64) {
    let migrate = |failpoints: &str| {
        let mut command = process::bgfiles();
        command.arg("migrate").envs(env.iter().cloned()).env("DATABASE_URL", direct);
        command.env("FAILPOINTS", failpoints).output().unwrap()
    };
    let step = ["migrating", "migrated"][usize::try_from(seed / 4 % 2).unwrap()];
    let cut = migrate(&format!("{step}=return(abort)"));
    assert!(!cut.status.success(), "the failpoint {step} did nothing");
    let whole = migrate("");
    assert!(
        whole.status.success(),
        "migrating again after a crash: {}",
        String::from_utf8_lossy(&whole.stderr)
    );
}

/// What the checker found under a seed.
pub async fn seed(
    plan: Plan,
    ground: &Ground,
    cluster: Arc<Cluster>,
    folder: &Path,
) -> (Vec<String>, Evidence) {
    let house = House::build(plan, ground, cluster, folder, Pace::default()).await;
    let house = Arc::new(house);
    house.start().await;
    house.play().await;
    house.settle().await;
    house.follow_links().await;
    let left_open = house.left_open().await;
    house.close().await;
    house.clean().await;
    let evidence = Evidence { left_open, ..house.evidence().await };
    let found = checker::check(&evidence);
    house.clients.write_log(&folder.join("calls.jsonl"));
    let mails: Vec<String> = evidence.mails.iter().map(|mail| format!("{mail:?}")).collect();
    let _ = std::fs::write(folder.join("mails.log"), mails.join("\n"));
    let disruptions: Vec<String> =
        evidence.disruptions.iter().map(|one| format!("{one:?}")).collect();
    let _ = std::fs::write(folder.join("disruptions.log"), disruptions.join("\n"));
    (found, evidence)
}
