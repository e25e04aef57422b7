//! Listeners and limits: from the words of the file to sockets and durations, with every fault at once.

mod dns;
mod telemetry;
mod tls;

pub use dns::{Dns, PORT as DNS_PORT};
pub use telemetry::{Log, LogTarget, Tracing};

use crate::wire::{MAX_HEAD, MAX_LINES};
use contract::{
    Fault,
    file::{LimitsEntry, ProxyEntry, ProxyProtocol, TlsEntry},
    matches::Cidr,
};
use std::{net::SocketAddr, path::Path, thread::available_parallelism, time::Duration};

/// Most workers that may be asked for: each holds a ring of evidence for each service.
pub const MAX_WORKERS: usize = 256;

/// What the data plane runs with, from start to end.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Read-only listener.
    pub signals: SocketAddr,
    /// Loopback listener for what changes state.
    pub admin: SocketAddr,
    /// Worker threads, at least one.
    pub workers: usize,
    /// Time to connect to an endpoint.
    pub connect_timeout: Duration,
    /// Time from the start of a request to the head of its answer.
    pub request_timeout: Duration,
    /// Time without a byte in a body.
    pub stream_idle_timeout: Duration,
    /// Time for a request's header to arrive.
    pub header_timeout: Duration,
    /// How long readiness fails before the listeners close.
    pub drain_grace: Duration,
    /// How long requests under way may take to finish.
    pub drain_deadline: Duration,
    /// Most client connections at once, over all workers.
    pub max_connections: usize,
    /// Whether clients may ask which track served.
    pub debug_headers: bool,
    /// Whether metrics have the names of ingress-nginx too; if so, the namespace that they tell.
    pub ingress_nginx: Option<String>,
    /// Peers that are believed about their clients.
    pub trusted_proxies: Vec<Cidr>,
    /// Where clients connect by TLS, if they can.
    pub tls_listen: Option<SocketAddr>,
    /// TLS in front.
    pub tls: TlsEntry,
    /// What every connection begins with.
    pub proxy_protocol: ProxyProtocol,
    /// What clients may ask for.
    pub limits: LimitsEntry,
    /// How host names are looked up.
    pub dns: Dns,
    /// The log of requests, if there is one.
    pub access_log: Option<Log>,
    /// Export of spans, if there is one.
    pub tracing: Option<Tracing>,
}

impl Settings {
    /// Settings from the file's entry.
    ///
    /// # Errors
    /// Every fault: no address, an admin listener that others can reach, limits that would stop all traffic.
    pub fn from_entry(entry: &ProxyEntry) -> Result<Settings, Vec<Fault>> {
        let mut faults = Vec::new();
        let listen = address("proxy.listen", &entry.listen, &mut faults);
        let signals = address("proxy.signals", &entry.signals, &mut faults);
        let admin = address("proxy.admin", &entry.admin, &mut faults);
        tls::listen(&entry.tls, &mut faults);
        if let Some(open) = admin.filter(|a| !a.ip().is_loopback()) {
            faults.push(Fault::new(
                "proxy.admin",
                &open.to_string(),
                "can be reached from other machines",
                "use a loopback address such as 127.0.0.1:9902",
            ));
        }
        limits(entry, &mut faults);
        proxies(entry, &mut faults);
        Dns::from_entry(&entry.dns, &mut faults);
        Log::from_entry(&entry.access_log, &mut faults);
        Tracing::from_entry(&entry.tracing, &mut faults);
        match (listen, signals, admin) {
            (Some(listen), Some(signals), Some(admin)) if faults.is_empty() => {
                Ok(Settings::with(entry, listen, signals, admin))
            }
            _ => Err(faults),
        }
    }

    fn with(entry: &ProxyEntry, listen: SocketAddr, signals: SocketAddr, admin: SocketAddr) -> Settings {
        Settings {
            listen,
            signals,
            admin,
            workers: match entry.workers {
                0 => cores(),
                n => n,
            },
            connect_timeout: entry.connect_timeout.duration(),
            request_timeout: entry.request_timeout.duration(),
            stream_idle_timeout: entry.stream_idle_timeout.duration(),
            header_timeout: entry.header_timeout.duration(),
            drain_grace: entry.drain_grace.duration(),
            drain_deadline: entry.drain_deadline.duration(),
            max_connections: entry.max_connections,
            debug_headers: entry.debug_headers,
            ingress_nginx: entry.ingress_nginx_metrics.then(String::new),
            trusted_proxies: entry
                .trusted_proxies
                .iter()
                .filter_map(|r| r.parse().ok())
                .collect(),
            // Its faults were collected before.
            tls_listen: tls::listen(&entry.tls, &mut Vec::new()),
            tls: entry.tls.clone(),
            proxy_protocol: entry.proxy_protocol,
            limits: entry.limits.clone(),
            // Their faults were collected before.
            dns: Dns::from_entry(&entry.dns, &mut Vec::new()),
            access_log: Log::from_entry(&entry.access_log, &mut Vec::new()),
            tracing: Tracing::from_entry(&entry.tracing, &mut Vec::new()),
        }
    }
}

fn address(key: &str, text: &str, faults: &mut Vec<Fault>) -> Option<SocketAddr> {
    let parsed = text.parse().ok();
    if parsed.is_none() {
        faults.push(Fault::new(
            key,
            text,
            "is not an address with a port",
            "write for example 127.0.0.1:8080 or [::]:8080",
        ));
    }
    parsed
}

fn proxies(entry: &ProxyEntry, faults: &mut Vec<Fault>) {
    for range in entry
        .trusted_proxies
        .iter()
        .filter(|r| r.parse::<Cidr>().is_err())
    {
        faults.push(Fault::new(
            "proxy.trustedProxies",
            range,
            "is not an address range",
            "write for example 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7",
        ));
    }
}

fn limits(entry: &ProxyEntry, faults: &mut Vec<Fault>) {
    if entry.workers > MAX_WORKERS {
        faults.push(Fault::new(
            "proxy.workers",
            &entry.workers.to_string(),
            format!("is more than {MAX_WORKERS}"),
            "write 0 for one worker a core",
        ));
    }
    bounds(&entry.limits, faults);
    if entry.max_connections == 0 {
        faults.push(Fault::new(
            "proxy.maxConnections",
            "0",
            "lets nobody in",
            "write for example 10000",
        ));
    }
    for (key, span) in [
        ("proxy.connectTimeout", entry.connect_timeout),
        ("proxy.requestTimeout", entry.request_timeout),
        ("proxy.streamIdleTimeout", entry.stream_idle_timeout),
        ("proxy.headerTimeout", entry.header_timeout),
        ("proxy.limits.idleTimeout", entry.limits.idle_timeout),
    ] {
        if span.duration().is_zero() {
            faults.push(Fault::new(
                key,
                &span.to_string(),
                "leaves no time at all",
                "write for example 10s",
            ));
        }
    }
}

/// Limits that have a least and a greatest value.
fn bounds(limits: &LimitsEntry, faults: &mut Vec<Fault>) {
    const LARGE: usize = 1 << 30;
    for (key, value, least, most) in [
        ("maxRequests", limits.max_requests, 1, LARGE),
        ("headerSize", limits.header_size, 1024, MAX_HEAD),
        ("headerCount", limits.header_count, 1, MAX_LINES),
        ("http2Streams", limits.http2_streams as usize, 1, 10_000),
        (
            "http2StreamWindow",
            limits.http2_stream_window as usize,
            1024,
            LARGE,
        ),
        (
            "http2ConnectionWindow",
            limits.http2_connection_window as usize,
            65_535,
            LARGE,
        ),
        (
            "http2ControlFrames",
            limits.http2_control_frames as usize,
            10,
            LARGE,
        ),
        ("http2ProvokedResets", limits.http2_provoked_resets, 1, LARGE),
    ] {
        if !(least..=most).contains(&value) {
            faults.push(Fault::new(
                format!("proxy.limits.{key}"),
                &value.to_string(),
                format!("is not between {least} and {most}"),
                "leave the key out for the default",
            ));
        }
    }
}

/// Cores of the CPU quota, rounded up, at most those of the machine.
pub fn cores() -> usize {
    let machine = available_parallelism().map_or(1, |n| n.get());
    quota(Path::new("/sys/fs/cgroup")).map_or(machine, |q| q.clamp(1, machine))
}

/// The quota of cgroup v2 (`cpu.max`), else of v1.
fn quota(root: &Path) -> Option<usize> {
    let read = |name: &str| std::fs::read_to_string(root.join(name)).ok();
    if let Some(text) = read("cpu.max") {
        let (quota, period) = text.trim().split_once(' ')?;
        return rounded_up(quota, period);
    }
    rounded_up(&read("cpu/cpu.cfs_quota_us")?, &read("cpu/cpu.cfs_period_us")?)
}

/// `max` and -1 are no quota.
fn rounded_up(quota: &str, period: &str) -> Option<usize> {
    let quota: u64 = quota.trim().parse().ok()?;
    let period: u64 = period.trim().parse().ok().filter(|p| *p > 0)?;
    usize::try_from(quota.div_ceil(period)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        let s = Settings::from_entry(&ProxyEntry::default()).unwrap();
        assert_eq!(s.listen.port(), 8080);
        assert!(s.workers >= 1);
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let entry = ProxyEntry {
            listen: "localhost".into(),
            signals: ":9901".into(),
            admin: "0.0.0.0:9902".into(),
            workers: 1000,
            max_connections: 0,
            trusted_proxies: vec!["10.0.0.0/8".into(), "10.0.0.0/33".into()],
            request_timeout: contract::Span::seconds(0),
            limits: LimitsEntry {
                max_requests: 0,
                header_size: 70_000,
                http2_connection_window: 1000,
                ..LimitsEntry::default()
            },
            ..ProxyEntry::default()
        };
        let keys: Vec<_> = Settings::from_entry(&entry)
            .unwrap_err()
            .into_iter()
            .map(|f| f.key)
            .collect();
        for key in [
            "proxy.listen",
            "proxy.signals",
            "proxy.admin",
            "proxy.workers",
            "proxy.maxConnections",
            "proxy.requestTimeout",
            "proxy.trustedProxies",
            "proxy.limits.maxRequests",
            "proxy.limits.headerSize",
            "proxy.limits.http2ConnectionWindow",
        ] {
            assert!(keys.iter().any(|k| k == key), "{key} not in {keys:?}");
        }
    }

    #[test]
    fn a_quota_is_rounded_up() {
        assert_eq!(rounded_up("150000", "100000\n"), Some(2));
        assert_eq!(rounded_up("max", "100000"), None);
        assert_eq!(rounded_up("-1", "100000"), None);
        assert_eq!(rounded_up("1", "0"), None);
    }
}
