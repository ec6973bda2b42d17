//! What somebody might try. `scripts/attack` runs these, and what of the other files shows the same
//! (`tests/attacks.txt`), and prints which attack was tried by which test.

mod accounts;
mod caching;
mod house;
mod inputs;
mod leaks;
mod names;
mod sessions;
mod sources;
mod tokens;
mod wire;
mod wycheproof;

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use bgfiles::web::{WebState, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{TestApp, child::Process, eventually};

/// A port that nobody listens on.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Everything that a server says to these bytes, until it closes the connection.
async fn say(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // Whoever is refused in the middle need not say the rest.
    let _ = stream.write_all(bytes).await;
    let mut heard = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut heard)).await;
    assert!(read.is_ok(), "the connection stays open: {}", String::from_utf8_lossy(&heard));
    String::from_utf8_lossy(&heard).into_owned()
}

/// The status of each answer in what a server said.
fn answers(heard: &str) -> Vec<u16> {
    let lines = heard.match_indices("HTTP/1.");
    // "HTTP/1.1 200 OK"
    lines.filter_map(|(at, _)| heard.get(at + 9..at + 12)?.parse().ok()).collect()
}

/// The address of a server with the waits of a real one, for tests that take long.
async fn patient(app: &TestApp) -> String {
    let state = WebState::new(app.toolbox.clone());
    format!("http://{}", app.serve_with(state, server::Limits::default()).await)
}

/// A client that begins a connection for each request: slow tests outlive kept ones.
fn fresh() -> reqwest::Client {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    client.pool_max_idle_per_host(0).build().unwrap()
}

/// A real nginx in front of a server.
struct Nginx {
    address: SocketAddr,
    _process: Process,
}

impl Nginx {
    /// Passes everything on to `to`; `more` is for the `server` block.
    async fn start(folder: &Path, to: SocketAddr, more: &str) -> Nginx {
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let here = folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {here}/{name};\n"))
            .concat();
        let text = format!(
            "daemon off; master_process off; pid {here}/pid; error_log {here}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n{temporary}access_log off;\n\
             proxy_cache_path {here}/cache keys_zone=cache:1m;\n\
             upstream ours {{ server {to}; keepalive 4; }}\n\
             server {{ listen {address};\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";\n\
             {more}\nlocation / {{ proxy_pass http://ours; }} }} }}\n"
        );
        let path = folder.join("nginx.conf");
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new("nginx");
        // Debian keeps it where only root looks.
        let paths = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{paths}:/usr/sbin:/usr/local/sbin"));
        command.arg("-c").arg(&path).arg("-p").arg(folder).stderr(std::process::Stdio::null());
        let process = command.spawn().expect("nginx is missing: run the tests by scripts/test");
        eventually("nginx listens", 20, async || {
            tokio::net::TcpStream::connect(address).await.ok().map(drop)
        })
        .await;
        Nginx { address, _process: Process(process) }
    }
}
