//! Where calls may go: listed hosts only, and no private address unless its host is allowed by name.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use countersign_policy::Egress;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Why `url` may not be called, if so. Names are checked when they are resolved, on the very address that is
/// connected to, so that a name which changes its address in between gains nothing.
pub(super) fn refusal(url: &Url, egress: &Egress) -> Option<String> {
    let Some(host) = url.host_str() else { return Some("it names no host".into()) };
    let host = host.trim_matches(['[', ']']).to_owned();
    if !matches!(url.scheme(), "http" | "https") {
        return Some(format!("the scheme {:?} is not http or https", url.scheme()));
    }
    if !egress.allow_hosts.iter().any(|allowed| allowed == &host) {
        return Some(format!("the host {host:?} is not in egress.allow_hosts"));
    }
    let address = match url.host()? {
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
        Host::Domain(_) => return None,
    };
    let allowed = egress.allow_private.iter().any(|allowed| allowed == &host);
    (!allowed && is_private(address)).then(|| format!("{address} is not a public address"))
}

/// Resolves names, leaving out private addresses unless the name is allowed to have them.
pub(super) struct PublicOnly {
    allow_private: Arc<[String]>,
}

impl PublicOnly {
    pub(super) fn new(egress: &Egress) -> Self {
        Self { allow_private: egress.allow_private.clone().into() }
    }
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.allow_private.iter().any(|allowed| allowed == name.as_str());
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> =
                found.filter(|address| allowed || !is_private(address.ip())).collect();
            if public.is_empty() {
                return Err(format!("{:?} has no public address", name.as_str()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Everything that is not a public unicast address, after IANA's special-purpose registries.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && b & 0xc0 == 64) // 100.64.0.0/10: carrier-grade NAT
        || (a == 198 && b & 0xfe == 18) // 198.18.0.0/15: benchmarks
        || (a == 192 && b == 0 && c == 0) // 192.0.0.0/24: protocol assignments
        || (a == 192 && b == 88 && c == 99) // 192.88.99.0/24: 6to4 relays
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_private_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        // ::/96 and ::ffff:0:0/96 embed an IPv4 address; :: and ::1 are among them.
        (0, 0) if [c, d, e] == [0; 3] && (f == 0 || f == 0xffff) => embedded(g, h),
        // NAT64; 64:ff9b:1::/48 beside it is for local use.
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => embedded(g, h),
        (0x2002, high) => embedded(high, c), // 6to4
        (0x2001, 0xdb8) => true,             // documentation
        (0x3fff, b) if b < 0x1000 => true,   // 3fff::/20: documentation
        // 2001::/23, protocol assignments: Teredo, benchmarks, ORCHID and others that are no servers'.
        (0x2001, b) if b < 0x200 => true,
        // Global unicast is 2000::/3; all else is local, multicast or unassigned.
        _ => a & 0xe000 != 0x2000,
    }
}
