//! How host names are looked up: whom to ask, and for how long an answer counts.

use contract::{Fault, Span, file::DnsEntry};
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Where name servers listen (RFC 1035, section 4.2).
pub const PORT: u16 = 53;

/// How host names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Name servers instead of those of the system.
    pub servers: Vec<SocketAddr>,
    /// `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// The shortest time for which an answer counts.
    pub min_ttl: Duration,
    /// The longest.
    pub max_ttl: Duration,
}

impl Dns {
    /// From what the file says.
    pub(super) fn from_entry(entry: &DnsEntry, faults: &mut Vec<Fault>) -> Dns {
        times(entry, faults);
        Dns {
            servers: servers(&entry.servers, faults),
            resolv_conf: entry.resolv_conf.clone().into(),
            hosts: entry.hosts.clone().into(),
            min_ttl: entry.min_ttl.duration(),
            max_ttl: entry.max_ttl.duration(),
        }
    }
}

fn servers(all: &[String], faults: &mut Vec<Fault>) -> Vec<SocketAddr> {
    let mut good = Vec::with_capacity(all.len());
    for (i, text) in all.iter().enumerate() {
        let plain = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
        match text.parse().or_else(|_| plain()) {
            Ok(address) => good.push(address),
            Err(_) => faults.push(Fault::new(
                format!("proxy.dns.servers[{i}]"),
                text,
                "is not an address",
                "write for example 10.96.0.10, or 127.0.0.1:5353",
            )),
        }
    }
    good
}

fn times(entry: &DnsEntry, faults: &mut Vec<Fault>) {
    let mut refuse = |key: &str, span: Span, reason: &str, remedy: &str| {
        let key = format!("proxy.dns.{key}");
        faults.push(Fault::new(key, &span.to_string(), reason, remedy));
    };
    if entry.min_ttl.duration() < Duration::from_millis(100) {
        let remedy = "write 100ms or more; 1s is a good value";
        refuse("minTtl", entry.min_ttl, "would ask without a pause", remedy);
    }
    if entry.max_ttl.duration() < entry.min_ttl.duration() {
        refuse(
            "maxTtl",
            entry.max_ttl,
            "is less than minTtl",
            "write for example 60s",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_be_left_out_and_faults_come_together() {
        let mut entry = DnsEntry {
            servers: vec!["10.0.0.1".into(), "[::1]:5353".into(), "fd00::1".into()],
            ..DnsEntry::default()
        };
        let mut faults = Vec::new();
        let dns = Dns::from_entry(&entry, &mut faults);
        assert!(faults.is_empty());
        let told: Vec<_> = dns.servers.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["10.0.0.1:53", "[::1]:5353", "[fd00::1]:53"]);
        entry.servers.push("dns.example".into());
        (entry.min_ttl, entry.max_ttl) = (Span::seconds(0), Span::seconds(0));
        Dns::from_entry(&entry, &mut faults);
        entry.min_ttl = Span::seconds(2);
        Dns::from_entry(&entry, &mut faults);
        let keys: Vec<_> = faults.iter().map(|f| f.key.as_str()).collect();
        let (server, min, max) = ("proxy.dns.servers[3]", "proxy.dns.minTtl", "proxy.dns.maxTtl");
        assert_eq!(keys, [min, server, max, server]);
    }
}
