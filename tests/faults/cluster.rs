//! Private PostgreSQL clusters, and what a run begins with: a schema, users and tokens. All of it is
//! made once and copied for each lane.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    process,
    programs::{binaries, is_root, run},
};

pub struct Cluster {
    folder: PathBuf,
    pub port: u16,
}

impl Cluster {
    /// An empty one, stopped.
    pub fn make(folder: &Path) -> Cluster {
        std::fs::create_dir_all(folder).unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(folder));
        }
        let cluster = Cluster { folder: folder.to_owned(), port: process::free_port() };
        let data = cluster.folder.join("data");
        let args = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
        run(cluster.program(&binaries().join("initdb")).args(args).arg("-D").arg(data));
        cluster
    }

    /// The same again; this one must be stopped.
    pub fn copy(&self, folder: &Path) -> Cluster {
        run(Command::new("cp").arg("-a").arg(&self.folder).arg(folder));
        Cluster { folder: folder.to_owned(), port: process::free_port() }
    }

    /// The server refuses to run as root.
    fn program(&self, program: &Path) -> Command {
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
        command.current_dir(&self.folder);
        command
    }

    /// A crash of the server is no crash of the machine, so nothing waits for the disk.
    pub fn start(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off \
             -c max_connections=200 -c shared_buffers=32MB",
            self.port,
            self.folder.display()
        );
        let log = self.folder.join("log");
        // Its clock is that of our processes. Not before it is the server's user, as libfaketime keeps
        // files of its own.
        process::forget_clocks();
        self.set_clock(0);
        let mut command = self.program(Path::new("/usr/bin/env"));
        let clock = process::clock_environment(&self.folder.join("clock"));
        command.args(clock.iter().map(|(name, value)| format!("{name}={value}")));
        command.arg(binaries().join("pg_ctl"));
        command.args(["-w", "-D"]).arg(self.folder.join("data")).arg("-l").arg(log);
        // Its output would be held open by the server.
        let status = command.arg("-o").arg(options).arg("start").stdout(Stdio::null()).status();
        assert!(status.unwrap().success(), "PostgreSQL did not start: {}", self.folder.display());
    }

    pub fn set_clock(&self, ahead: i64) {
        process::set_clock(&self.folder.join("clock"), ahead);
    }

    /// `immediate` is a crash.
    pub fn stop(&self, mode: &str) {
        let mut command = self.program(&binaries().join("pg_ctl"));
        command.args(["-w", "-m", mode, "-D"]).arg(self.folder.join("data")).arg("stop");
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    pub async fn run(&self, sql: &str) {
        use sqlx::{Connection, Executor};
        let mut admin = sqlx::PgConnection::connect(&self.url("postgres")).await.unwrap();
        admin.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop("immediate");
    }
}

/// What every run begins with.
pub struct Ground {
    pub folder: PathBuf,
    pub cluster: Cluster,
    /// API tokens: of an application that may ask for anybody, and of a stranger.
    pub sqlite: [String; 2],
    pub postgres: [String; 2],
}

/// A migrated database with two users and their tokens.
fn prepare(url: &str) -> [String; 2] {
    let bgfiles = |args: &[&str]| {
        let out = process::bgfiles().args(args).env("DATABASE_URL", url).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    bgfiles(&["migrate"]);
    accounts(&bgfiles)
}

pub fn accounts(bgfiles: &dyn Fn(&[&str]) -> String) -> [String; 2] {
    bgfiles(&["create-client", "harness", "--token-ttl", "never"]);
    ["service", "user"].map(|role| {
        let name = format!("a-{role}");
        bgfiles(&["create-user", &name, "--role", role]);
        bgfiles(&["create-token", "--user", &name, "--client", "harness"])
    })
}

impl Ground {
    pub async fn lay(folder: &Path) -> Ground {
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder).unwrap();
        process::keep_binary(folder);
        let sqlite = prepare(&format!("sqlite:{}", folder.join("template.db").display()));
        let cluster = Cluster::make(&folder.join("cluster"));
        cluster.start();
        cluster.run("CREATE DATABASE template").await;
        let postgres = prepare(&cluster.url("template"));
        cluster.stop("fast");
        Ground { folder: folder.to_owned(), cluster, sqlite, postgres }
    }
}
