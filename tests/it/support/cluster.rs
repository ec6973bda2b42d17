//! A PostgreSQL server of a test's own, where the common one will not do: with certificates, with
//! passwords, with few connections.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub use super::programs::run;
use super::programs::{binaries, is_root};

/// Stopped when dropped.
pub struct Cluster {
    pub folder: tempfile::TempDir,
    pub port: u16,
}

impl Cluster {
    /// A running one with these settings and this `pg_hba.conf`; `prepare` puts what they name into
    /// its folder.
    pub fn start(settings: &str, hba: &str, prepare: impl FnOnce(&Path)) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Cluster { folder, port };
        cluster.own();
        let args = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"];
        run(cluster.program("initdb").args(args).arg(cluster.data()));
        let own = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
             fsync = off\nshared_buffers = 16MB\n{settings}\n",
            cluster.folder.path().display()
        );
        std::fs::write(cluster.data().join("postgresql.auto.conf"), own).unwrap();
        // The test itself comes by the socket.
        let hba = format!("local all postgres trust\n{hba}\n");
        std::fs::write(cluster.data().join("pg_hba.conf"), hba).unwrap();
        prepare(&cluster.data());
        cluster.own();
        let log = cluster.folder.path().join("log");
        let mut start = cluster.program("pg_ctl");
        start.args(["-w", "-D"]).arg(cluster.data()).arg("-l").arg(&log).arg("start");
        // Its output would be held open by the server.
        let status = start.stdout(Stdio::null()).stdin(Stdio::null()).status().unwrap();
        let said = std::fs::read_to_string(log).unwrap_or_default();
        assert!(status.success(), "PostgreSQL did not start: {said}");
        cluster
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn own(&self) {
        if is_root() {
            run(Command::new("chown").args(["-R", "postgres:"]).arg(self.folder.path()));
        }
    }

    /// The server refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let program = binaries().join(name);
        if !is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
        command.current_dir(self.folder.path());
        command
    }

    pub fn url(&self, user: &str, query: &str) -> String {
        format!("postgres://{user}@localhost:{}/postgres?{query}", self.port)
    }

    /// By the socket, as the server's owner.
    pub async fn admin(&self) -> sqlx::PgConnection {
        use sqlx::{Connection, postgres::PgConnectOptions};
        let options = PgConnectOptions::new_without_pgpass().username("postgres");
        let options = options.socket(self.folder.path()).port(self.port).database("postgres");
        sqlx::PgConnection::connect_with(&options).await.unwrap()
    }

    pub async fn run(&self, sql: &str) {
        use sqlx::Executor;
        self.admin().await.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = self.program("pg_ctl");
        stop.args(["-w", "-m", "immediate", "-D"]).arg(self.data()).arg("stop");
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}
