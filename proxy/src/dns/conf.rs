//! What the system says of names: `/etc/resolv.conf` (resolv.conf(5)) and `/etc/hosts` (hosts(5)). Pure.

use crate::config::Dns;
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

/// More name servers are not asked, as in the C library.
const MAX_SERVERS: usize = 3;
/// Where `timeout` is not said. The C library waits for 5 s; a proxy that asks ahead of time can ask the next server
/// sooner.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Largest file that is read.
const MAX_FILE: u64 = 1024 * 1024;

/// Whom to ask, and for which names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// Name servers, in order.
    pub servers: Vec<SocketAddr>,
    /// Domains in which short names are looked for.
    search: Vec<String>,
    /// Names with so many dots are looked for as they are first.
    ndots: usize,
    /// How long one server has to answer.
    pub timeout: Duration,
    /// How often all of them are asked.
    pub attempts: u32,
}

impl Default for Conf {
    fn default() -> Conf {
        Conf {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: TIMEOUT,
            attempts: 2,
        }
    }
}

impl Conf {
    /// As the system says now, and the file of the proxy before it.
    pub fn now(dns: &Dns) -> Conf {
        let mut conf = Conf::parse(&text(&dns.resolv_conf));
        if !dns.servers.is_empty() {
            conf.servers.clone_from(&dns.servers);
        }
        conf
    }

    fn parse(text: &str) -> Conf {
        let mut conf = Conf::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.server(words.next()),
                // The last one counts.
                Some("search" | "domain") => {
                    conf.search = words.map(|d| d.trim_matches('.').to_owned()).collect();
                }
                Some("options") => words.for_each(|o| conf.option(o)),
                _ => {}
            }
        }
        conf.search.retain(|d| !d.is_empty());
        if conf.servers.is_empty() {
            conf.servers
                .push(SocketAddr::from((Ipv4Addr::LOCALHOST, crate::config::DNS_PORT)));
        }
        conf
    }

    fn server(&mut self, address: Option<&str>) {
        let address = address.and_then(|a| a.parse::<IpAddr>().ok());
        let server = address.map(|ip| SocketAddr::new(ip, crate::config::DNS_PORT));
        if self.servers.len() < MAX_SERVERS {
            self.servers.extend(server);
        }
    }

    /// The bounds are those of the C library.
    fn option(&mut self, option: &str) {
        let Some((name, Ok(n))) = option.split_once(':').map(|(n, v)| (n, v.parse::<u32>())) else {
            return;
        };
        match name {
            "ndots" => self.ndots = n.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(n.clamp(1, 30).into()),
            "attempts" => self.attempts = n.clamp(1, 5),
            _ => {}
        }
    }

    /// The full names for which a name may stand, in the order in which they are tried.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(full) = name.strip_suffix('.') {
            return vec![full.to_owned()];
        }
        let mut all: Vec<_> = self.search.iter().map(|d| format!("{name}.{d}")).collect();
        let dots = name.matches('.').count();
        let at = if dots >= self.ndots { 0 } else { all.len() };
        all.insert(at, name.to_owned());
        all
    }
}

/// The addresses of a name that is known without asking.
pub fn known(dns: &Dns, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let found = in_hosts(&text(&dns.hosts), name);
    let local = name.to_ascii_lowercase();
    // RFC 6761, section 6.3: nobody is asked for these.
    if found.is_empty() && (local == "localhost" || local.ends_with(".localhost")) {
        return vec![Ipv4Addr::LOCALHOST.into()];
    }
    found
}

fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse::<IpAddr>().ok()?;
        words.any(|w| w.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(line).collect()
}

/// A file that is missing says nothing; so does one that is too large to be what it should.
fn text(path: &Path) -> String {
    let small = fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= MAX_FILE);
    let read = || fs::read(path).unwrap_or_default();
    if small {
        String::from_utf8_lossy(&read()).into_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_pod_is_understood() {
        let conf = Conf::parse(
            "# kubelet\nnameserver 10.96.0.10\nnameserver fe80::1%eth0\nnameserver fd00::a ; local\n\
             search old.test\nsearch shop.svc.cluster.local. svc.cluster.local\noptions ndots:5 timeout:99 attempts:0 rotate\n",
        );
        let servers: Vec<_> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10:53", "[fd00::a]:53"]);
        assert_eq!((conf.ndots, conf.timeout.as_secs(), conf.attempts), (5, 30, 1));
        let (short, full) = (conf.candidates("db"), conf.candidates("db.test."));
        assert_eq!(short, ["db.shop.svc.cluster.local", "db.svc.cluster.local", "db"]);
        assert_eq!(full, ["db.test"]);
        let plain = Conf::parse("search a.test");
        assert_eq!(plain.servers[0].to_string(), "127.0.0.1:53");
        assert_eq!(plain.candidates("db.test"), ["db.test", "db.test.a.test"]);
        assert_eq!(plain.candidates("db"), ["db.a.test", "db"]);
    }

    #[test]
    fn hosts_win_and_localhost_needs_none() {
        let hosts = "127.0.0.1 localhost\n10.0.0.1 a A.test # b\n10.0.0.2 a\n::1 a\nx y\n";
        let told = |name| {
            in_hosts(hosts, name)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(told("A"), ["10.0.0.1", "10.0.0.2", "::1"]);
        assert_eq!(told("a.TEST"), ["10.0.0.1"]);
        assert!(told("b").is_empty() && told("10.0.0.1").is_empty());
        let nowhere = Dns {
            servers: Vec::new(),
            resolv_conf: "/nowhere".into(),
            hosts: "/nowhere".into(),
            min_ttl: Duration::ZERO,
            max_ttl: Duration::ZERO,
        };
        assert_eq!(known(&nowhere, "db.LOCALHOST."), [IpAddr::from([127, 0, 0, 1])]);
        assert!(known(&nowhere, "db").is_empty());
    }
}
