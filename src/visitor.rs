//! Who knocks: the address, through trusted proxies only, and the user agent.

use std::net::IpAddr;

use ipnet::IpNet;

/// Most characters of a user agent that are kept.
const MAX_AGENT: usize = 200;

/// Where a request came from, as far as that can be trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visitor {
    /// The client's address; `None` when nobody knows.
    pub ip: Option<IpAddr>,
    /// The `User-Agent`, cut to 200 characters; empty when there was none.
    pub user_agent: String,
}

impl Visitor {
    /// A visitor with a user agent of bounded length and without control characters.
    pub fn new(ip: Option<IpAddr>, user_agent: &str) -> Self {
        let visible = user_agent.chars().filter(|c| !c.is_control());
        Visitor { ip, user_agent: visible.take(MAX_AGENT).collect() }
    }

    /// What one party has of the net: an IPv4 address, or the /64 of an IPv6 one.
    pub fn network(&self) -> String {
        match self.ip {
            Some(IpAddr::V6(ip)) => {
                let [a, b, c, d, ..] = ip.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
            Some(ip) => ip.to_string(),
            None => "unknown".into(),
        }
    }

    /// The networks around [`Visitor::network`] that one party may have as well, and how many parties'
    /// each counts for: of IPv6 the /56 that households get, and the /48 that anybody can get.
    pub fn wider_networks(&self) -> Vec<(String, i64)> {
        let Some(IpAddr::V6(ip)) = self.ip else { return Vec::new() };
        let [a, b, c, d, ..] = ip.segments();
        let household = d & 0xff00;
        vec![
            (format!("{a:x}:{b:x}:{c:x}:{household:x}::/56"), 4),
            (format!("{a:x}:{b:x}:{c:x}::/48"), 16),
        ]
    }

    /// The address as text.
    pub fn ip_text(&self) -> Option<String> {
        self.ip.map(|ip| ip.to_string())
    }
}

/// The proxies whose `X-Forwarded-For` is believed: addresses and networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl std::str::FromStr for TrustedProxies {
    type Err = String;

    /// `10.0.0.0/8, 127.0.0.1, ::1`; nothing trusts nobody.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let nets = parts.map(|part| {
            let address = part.parse::<IpAddr>().map(IpNet::from);
            address.or_else(|_| part.parse()).map_err(|_| {
                format!("{part:?} is neither an address nor a network like 10.0.0.0/8")
            })
        });
        nets.collect::<Result<_, _>>().map(TrustedProxies)
    }
}

impl TrustedProxies {
    /// Whether this is the address of such a proxy.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|net| net.contains(&ip))
    }

    /// The client behind a peer: each trusted proxy vouches for the address it saw, so the list is
    /// read from its end, up to the first address that nobody vouches for. What stands before it
    /// was written by the client itself.
    pub fn client(&self, peer: Option<IpAddr>, forwarded_for: &[&str]) -> Option<IpAddr> {
        let mut client = peer.map(|ip| ip.to_canonical())?;
        let hops = forwarded_for.iter().rev().flat_map(|line| line.rsplit(','));
        for hop in hops {
            if !self.trusts(client) {
                break;
            }
            match address(hop) {
                Some(ip) => client = ip,
                None => break,
            }
        }
        Some(client)
    }
}

/// An address, with or without a port or brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let plain = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let ip = plain.or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|at| at.ip()));
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies: TrustedProxies = "10.0.0.0/8, ::1".parse().unwrap();
        let client = |peer: &str, lines: &[&str]| {
            proxies.client(Some(peer.parse().unwrap()), lines).unwrap().to_string()
        };
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "a stranger's word");
        assert_eq!(client("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("::1", &["2001:db8::5"]), "2001:db8::5");
        assert_eq!(client("::ffff:10.0.0.1", &["[2001:db8::5]:443"]), "2001:db8::5");
        assert_eq!(client("10.0.0.1", &["nonsense"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(proxies.client(None, &["198.51.100.7"]), None);
        assert!("10.0.0.0/99".parse::<TrustedProxies>().is_err());
    }
}
