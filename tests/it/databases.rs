//! Databases that show a certificate, and those that do not let in.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::Connection;

use crate::{
    cli::run,
    support::{
        child::{Process, bgfiles},
        cluster::{self, Cluster},
        eventually, patience, postgres,
        postgres_proxy::Proxy,
    },
};

fn openssl(folder: &Path, args: &str) {
    cluster::run(Command::new("openssl").current_dir(folder).args(args.split(' ')));
}

/// An authority, and a certificate of it for each name.
fn authority(folder: &Path, names: &[(&str, &str)]) {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(folder, &format!("{new} -subj /CN=authority -keyout ca.key -out ca.pem"));
    for (name, extension) in names {
        std::fs::write(folder.join("extensions"), extension).unwrap();
        let new = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(folder, &format!("{new} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        openssl(
            folder,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                 -extfile extensions -out {name}.pem"
            ),
        );
    }
}

const TLS: &str =
    "ssl = on\nssl_ca_file = 'ca.pem'\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'";

#[test]
fn the_servers_certificate_is_checked_and_our_own_is_shown() {
    let (ours, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = ("server", "subjectAltName=DNS:localhost");
    authority(ours.path(), &[server, ("shop", "extendedKeyUsage=clientAuth")]);
    authority(others.path(), &[("shop", "extendedKeyUsage=clientAuth")]);
    let hba = "hostssl all shop 127.0.0.1/32 cert\nhostssl all postgres 127.0.0.1/32 trust";
    let cluster = Cluster::start(TLS, hba, |data| {
        for name in ["ca.pem", "server.pem", "server.key"] {
            std::fs::copy(ours.path().join(name), data.join(name)).unwrap();
        }
        cluster::run(Command::new("chmod").arg("600").arg(data.join("server.key")));
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(cluster.run("CREATE ROLE shop LOGIN SUPERUSER"));
    let file =
        |folder: &tempfile::TempDir, name: &str| folder.path().join(name).display().to_string();
    let (ca, foreign) = (file(&ours, "ca.pem"), file(&others, "ca.pem"));
    let call = |url: String, command: &str| {
        let mut call = bgfiles();
        call.env("DATABASE_URL", url).arg(command);
        call
    };
    let by = |query: String| cluster.url("postgres", &query);
    let done = |command: &mut Command| {
        let (code, out, err) = run(command);
        assert_eq!(code, 0, "{out}{err}");
    };
    let refused = |command: &mut Command, why: &str| {
        let (code, out, err) = run(command);
        assert!(code == 1 && err.contains(why), "{code} {out}{err}");
    };
    done(&mut call(by(format!("sslmode=verify-ca&sslrootcert={ca}")), "migrate"));
    done(&mut call(by(format!("sslmode=verify-full&sslrootcert={ca}")), "list-tokens"));
    done(&mut call(by("sslmode=require".into()), "list-tokens"));
    let mut by_environment = call(by(String::new()), "list-tokens");
    done(by_environment.env("PGSSLMODE", "verify-ca").env("PGSSLROOTCERT", &ca));
    // Its certificate is for localhost.
    let number = |url: String| url.replace("localhost", "127.0.0.1");
    done(&mut call(number(by(format!("sslmode=verify-ca&sslrootcert={ca}"))), "list-tokens"));
    let full = number(by(format!("sslmode=verify-full&sslrootcert={ca}")));
    refused(&mut call(full, "list-tokens"), "certificate");
    for mode in ["verify-ca", "verify-full"] {
        let url = by(format!("sslmode={mode}&sslrootcert={foreign}"));
        refused(&mut call(url, "list-tokens"), "certificate");
    }
    // Who comes with a certificate of the authority needs no password.
    let shop = |folder| {
        let (cert, key) = (file(folder, "shop.pem"), file(folder, "shop.key"));
        format!("sslmode=verify-ca&sslrootcert={ca}&sslcert={cert}&sslkey={key}")
    };
    done(&mut call(cluster.url("shop", &shop(&ours)), "list-tokens"));
    let mut by_environment = call(cluster.url("shop", "sslmode=verify-full"), "list-tokens");
    by_environment.env("PGSSLROOTCERT", &ca).env("PGSSLCERT", file(&ours, "shop.pem"));
    done(by_environment.env("PGSSLKEY", file(&ours, "shop.key")));
    refused(&mut call(cluster.url("shop", &shop(&others)), "list-tokens"), "database");
    let without = format!("sslmode=verify-ca&sslrootcert={ca}");
    refused(&mut call(cluster.url("shop", &without), "list-tokens"), "the database refuses: ");
    // Sources go the same way.
    let jobs = tempfile::tempdir().unwrap();
    let one =
        "title = \"One\"\nsource = \"far\"\nformats = [\"csv\"]\nquery = \"SELECT 1 AS one\"\n";
    std::fs::write(jobs.path().join("one.toml"), one).unwrap();
    let mut export = bgfiles();
    export.env("BGFILES_SOURCE_FAR", by(format!("sslmode=verify-ca&sslrootcert={ca}")));
    export.current_dir(jobs.path()).env("BGFILES_JOBS_DIR", jobs.path());
    let (code, out, err) = run(export.args(["export", "one"]));
    assert!(code == 0 && out.contains("one\r\n1"), "{out}{err}");
}

/// A process that goes on, and what it says.
struct Watched {
    process: Process,
    log: tempfile::NamedTempFile,
}

impl Watched {
    fn begin(url: &str, args: &[&str]) -> Watched {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = bgfiles();
        command.env("DATABASE_URL", url).args(args).stdout(Stdio::null());
        let folder = log.path().with_extension("files");
        command.env("BGFILES_STORAGE", format!("file:{}", folder.display()));
        let process = Process(command.stderr(log.reopen().unwrap()).spawn().unwrap());
        Watched { process, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    async fn says(&self, words: &str) {
        let until = Instant::now() + patience(Duration::from_secs(25));
        while !self.said().contains(words) {
            assert!(Instant::now() < until, "not {words:?}, but {}", self.said());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

const WEB: &[&str] = &["web", "--bind", "127.0.0.1:0"];

/// It ends at once, with 1, and says why.
fn refuses(url: &str, why: &str) {
    for args in [WEB, &["worker"], &["clean", "--every", "5m"], &["list-tokens"], &["migrate"]] {
        let mut one = Watched::begin(url, args);
        assert_eq!(one.process.wait(8), Some(1), "{args:?} {}", one.said());
        let said = one.said();
        assert!(said.contains("the database refuses: ") && said.contains(why), "{args:?} {said}");
    }
}

fn at(database: &str) -> String {
    let mut url = url::Url::parse(postgres::server()).unwrap();
    url.set_path(database);
    url.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_at_the_start_ends() {
    refuses(&at("no_such_database"), "\"no_such_database\" does not exist");
    let hba = "host all shop 127.0.0.1/32 scram-sha-256\nhost all stranger 127.0.0.1/32 trust";
    let cluster = Cluster::start("", hba, |_| {});
    cluster.run("CREATE ROLE shop LOGIN PASSWORD 'right'; CREATE ROLE unlisted LOGIN").await;
    refuses(&cluster.url("stranger", ""), "\"stranger\" does not exist");
    refuses(&cluster.url("shop:wrong", ""), "password authentication failed");
    refuses(&cluster.url("unlisted", ""), "no pg_hba.conf entry");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_shares_sessions_by_the_statement_is_refused() {
    let (name, url) = postgres::create().await;
    let words = "transaction blocks not allowed in statement pooling mode";
    let proxy = Proxy::that_refuses(&url, "08P01", words).await;
    for args in [WEB, &["worker"], &["list-tokens"]] {
        let mut one = Watched::begin(&proxy.url(&url), args);
        assert_eq!(one.process.wait(8), Some(1), "{args:?} {}", one.said());
        assert!(one.said().contains(&format!("the database refuses: {words}")), "{}", one.said());
    }
    postgres::drop_database(name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_at_a_pooler_is_waited_for() {
    let (name, url) = postgres::create().await;
    // PgBouncer says 08P01 of whatever it does not do.
    let words = "no more connections allowed (max_client_conn)";
    let proxy = Proxy::that_refuses(&url, "08P01", words).await;
    let mut worker = Watched::begin(&proxy.url(&url), &["worker"]);
    worker.says(words).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(worker.process.running(), "{}", worker.said());

    let proxy = Proxy::to(&url).await;
    proxy.fill(true);
    let mut worker = Watched::begin(&proxy.url(&url), &["worker"]);
    worker.says("the database does not answer").await;
    let (code, _, err) = run(bgfiles().env("DATABASE_URL", proxy.url(&url)).arg("list-tokens"));
    assert!(code == 1 && err.contains("the database does not answer"), "{err}");
    assert!(worker.process.running(), "{}", worker.said());
    proxy.fill(false);
    worker.says("working").await;
    postgres::drop_database(name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_runs_already_waits_until_the_password_is_right_again() {
    let hba = "host all shop 127.0.0.1/32 scram-sha-256";
    let cluster = Cluster::start("", hba, |_| {});
    cluster.run("CREATE ROLE shop LOGIN SUPERUSER PASSWORD 'one'").await;
    let url = cluster.url("shop:one", "");
    let (code, _, err) = run(bgfiles().env("DATABASE_URL", &url).arg("migrate"));
    assert_eq!(code, 0, "{err}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut web = Watched::begin(&url, &["web", "--bind", &format!("127.0.0.1:{port}")]);
    let mut worker = Watched::begin(&url, &["worker"]);
    let ready = async |status: u16| {
        let url = format!("http://127.0.0.1:{port}/readyz");
        eventually("readyz", 20, async || {
            let answer = reqwest::get(&url).await.ok()?;
            (answer.status().as_u16() == status).then_some(())
        })
        .await;
    };
    ready(200).await;
    worker.says("working").await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop'";
    cluster.run(&format!("ALTER ROLE shop PASSWORD 'two'; {cut}")).await;
    ready(503).await;
    let words = "the database refuses: password authentication failed";
    for one in [&web, &worker] {
        let why = Instant::now();
        while !one.said().contains(words) {
            assert!(why.elapsed() < patience(Duration::from_secs(20)), "{}", one.said());
            // Who was let in at the last moment, too.
            cluster.run(cut).await;
            ready(503).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    assert!(web.process.running() && worker.process.running());
    cluster.run("ALTER ROLE shop PASSWORD 'one'").await;
    ready(200).await;
    assert!(web.process.running() && worker.process.running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_clients_and_nobody_there_are_said_so() {
    let few = "max_connections = 6\nsuperuser_reserved_connections = 1\nmax_wal_senders = 0";
    let cluster = Cluster::start(few, "host all shop 127.0.0.1/32 trust", |_| {});
    cluster.run("CREATE ROLE shop LOGIN").await;
    let url = cluster.url("shop", "");
    let mut taken = Vec::new();
    while let Ok(one) = sqlx::PgConnection::connect(&url).await {
        taken.push(one);
    }
    taken.push(cluster.admin().await);
    let mut worker = Watched::begin(&url, &["worker"]);
    worker.says("too many clients").await;
    let (code, _, err) = run(bgfiles().env("DATABASE_URL", &url).arg("list-tokens"));
    assert!(code == 1 && err.contains("too many clients"), "{err}");
    assert!(worker.process.running(), "it waits");
    for one in taken {
        one.close().await.unwrap();
    }
    // Then it finds out that there is no schema.
    assert_eq!(worker.process.wait(20), Some(1));
    assert!(worker.said().contains("bgfiles migrate"), "{}", worker.said());

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://shop@127.0.0.1:{nobody}/postgres");
    let mut web = Watched::begin(&url, WEB);
    web.says("connection refused").await;
    let (code, _, err) = run(bgfiles().env("DATABASE_URL", &url).arg("list-tokens"));
    assert!(code == 1 && err.contains("connection refused"), "{err}");
    assert!(!web.said().contains("timed out"), "{}", web.said());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(web.process.running(), "it waits");
}
