//! `bgfiles health`

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use super::setup;
use crate::{
    config::Flags,
    duration::parse_seconds,
    error::{Error, Result},
};

/// Asks `/healthz` of a process on this machine, for images that have no curl. Exit 0 when it
/// answers, 1 when not.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  bgfiles health\n  bgfiles health --address 127.0.0.1:9100 --ready"
)]
pub(super) struct Health {
    /// Where it listens [default: BGFILES_BIND]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<SocketAddr>,
    /// Ask `/readyz`: whether database and storage answer, too
    #[arg(long)]
    ready: bool,
    /// How long it may take
    #[arg(long, value_name = "TIME", default_value = "3", value_parser = parse_seconds)]
    timeout: Duration,
}

impl Health {
    pub(super) async fn run(self, flags: &Flags) -> Result<ExitCode> {
        let address = match self.address {
            Some(address) => address,
            None => setup::config(flags)?.bind,
        };
        let url = format!(
            "http://{}/{}",
            reachable(address),
            if self.ready { "readyz" } else { "healthz" }
        );
        let no = |why: String| Error::Unreachable(format!("{url}: {why}"));
        let client = reqwest::Client::builder().no_proxy().timeout(self.timeout).build();
        let client = client.map_err(|e| no(e.to_string()))?;
        let answer = client.get(&url).send().await.map_err(|e| {
            no(if e.is_timeout() { "no answer in time".into() } else { "nobody answers".into() })
        })?;
        match answer.status() {
            status if status.is_success() => Ok(ExitCode::SUCCESS),
            status => Err(no(format!("answers {status}"))),
        }
    }
}

/// Who listens on all addresses listens on this machine's own.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
