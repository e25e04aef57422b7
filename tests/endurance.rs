//! Under load, while everything changes: certificates, endpoints, weights, processes. Nothing may fail, nothing may grow.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

#[path = "support/mixed.rs"]
mod mixed;
mod support;

use mixed::{Door, Kind, Mixed, Tally, Trust};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{
    net::SocketAddr,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use support::*;
use tokio_rustls::rustls::{RootCertStore, pki_types::CertificateDer};

/// What clients ask for.
const NAME: &str = "echo.test";
/// Requests a second.
const RATE: f64 = 5_000.0;
/// One change of the table after the other.
const CHURN: Duration = Duration::from_millis(10);
/// One certificate after the other.
const RENEW: Duration = Duration::from_millis(500);
/// The share of what the machine can do that the soak asks for.
const SOAK_SHARE: f64 = 0.6;

/// A certificate authority of the test's own.
struct Authority(Issuer<'static, KeyPair>, CertificateDer<'static>);

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Authority(Issuer::new(params, key), certificate.der().clone())
    }

    fn trust(&self) -> Trust {
        let mut roots = RootCertStore::empty();
        roots.add(self.1.clone()).unwrap();
        Trust { roots, name: NAME }
    }

    /// Puts a new pair into the folder, as a mounted Secret is renewed.
    fn renew(&self, scratch: &Scratch) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        scratch.replace("tls.key", &key.serialize_pem());
        scratch.replace("tls.crt", &certificate.pem());
    }
}

/// One proxy with both listeners, and its file.
struct Proxy {
    scratch: Scratch,
    process: Process,
    door: Door,
    signals: SocketAddr,
    ports: [u16; 4],
}

impl Proxy {
    fn start(authority: &Authority, stable: &[u16], canary: &[u16]) -> Proxy {
        let (scratch, ports) = (Scratch::new(), free_ports::<4>());
        authority.renew(&scratch);
        scratch.replace("serin.toml", &table(ports, stable, canary, 10));
        let file = scratch.path("serin.toml");
        let process = Process::start(Command::new(SERIN).args(["proxy", "-f"]).arg(file));
        let proxy = Proxy {
            door: Door {
                plain: loopback(ports[0]),
                tls: loopback(ports[1]),
            },
            signals: loopback(ports[2]),
            scratch,
            process,
            ports,
        };
        until("the proxy is ready", Duration::from_secs(10), || {
            get(proxy.signals, "/readyz").filter(|a| a.status == 200)
        });
        proxy
    }

    fn change(&self, stable: &[u16], canary: &[u16], weight: u32) {
        self.scratch
            .replace("serin.toml", &table(self.ports, stable, canary, weight));
    }

    /// Resident memory in KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Open descriptors.
    fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process.pid());
        std::fs::read_dir(folder).unwrap().count()
    }
}

fn table(ports: [u16; 4], stable: &[u16], canary: &[u16], weight: u32) -> String {
    let list =
        |ports: &[u16]| -> Vec<String> { ports.iter().map(|p| format!("\"127.0.0.1:{p}\"")).collect() };
    let [plain, tls, signals, admin] = ports;
    format!(
        r#"[proxy]
listen = "127.0.0.1:{plain}"
signals = "127.0.0.1:{signals}"
admin = "127.0.0.1:{admin}"
workers = 2
drainGrace = "1s"
drainDeadline = "10s"
[proxy.tls]
listen = "127.0.0.1:{tls}"
certificates = [{{ cert = "tls.crt", key = "tls.key" }}]
[[service]]
name = "echo"
stable = {{ version = "v1", endpoints = [{}] }}
canary = {{ version = "v2", endpoints = [{}] }}
[service.annotations]
"serin.dev/canary-weight" = "{weight}"
"#,
        list(stable).join(", "),
        list(canary).join(", ")
    )
}

/// Every other endpoint of a track, another half each time; never none.
fn half(all: &[u16], turn: u32) -> Vec<u16> {
    let even = turn.is_multiple_of(2);
    let some = all
        .iter()
        .enumerate()
        .filter(|(i, _)| i.is_multiple_of(2) == even);
    some.map(|(_, p)| *p).collect()
}

/// Changes table and certificate until told to stop; how many changes of the table there were.
fn churn(proxy: &Proxy, authority: &Authority, stable: &[u16], canary: &[u16], stop: &AtomicBool) -> u32 {
    let (mut turn, mut renewed, mut due) = (0, Instant::now(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        proxy.change(&half(stable, turn), &half(canary, turn / 2), turn % 101);
        if renewed.elapsed() > RENEW {
            renewed = Instant::now();
            authority.renew(&proxy.scratch);
        }
        due += CHURN;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    turn
}

fn apps<const N: usize>(version: &str) -> ([u16; N], Vec<Process>) {
    let ports = free_ports::<N>();
    (ports, ports.iter().map(|p| app(*p, version, &[])).collect())
}

fn told(what: &str, tally: &Tally) {
    println!(
        "{what}: {} sent, {} of them again, {} good {:?}, {} connections, {} failed; half within {:?}, 99 % within {:?}",
        tally.sent,
        tally.again,
        tally.answered(),
        tally.good,
        tally.connections,
        tally.failures.len(),
        tally.within(0.5),
        tally.within(0.99)
    );
    let first: Vec<_> = tally.failures.iter().take(10).collect();
    assert!(tally.failures.is_empty(), "{first:#?}");
    for kind in [Kind::H1, Kind::H2, Kind::TlsH1, Kind::TlsH2] {
        assert!(
            tally.good.get(&kind).is_some_and(|n| *n > 100),
            "{kind:?}: {:?}",
            tally.good
        );
    }
}

#[test]
fn certificates_endpoints_and_weights_change_and_nothing_fails() {
    let seconds = if all() { 60 } else { 10 };
    let authority = Authority::new();
    let ((stable, _stable), (canary, _canary)) = (apps::<4>("v1"), apps::<2>("v2"));
    let proxy = Proxy::start(&authority, &stable, &canary);
    let load = Mixed::start(&[proxy.door], authority.trust(), RATE);
    let stop = AtomicBool::new(false);
    let turns = std::thread::scope(|s| {
        let churning = s.spawn(|| churn(&proxy, &authority, &stable, &canary, &stop));
        std::thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
        churning.join().unwrap()
    });
    let tally = load.stop();
    println!(
        "{turns} changes of endpoints and weight, {} certificates",
        seconds * 2
    );
    told("everything changes", &tally);
    let wanted = RATE * seconds as f64;
    assert!(
        tally.sent as f64 > 0.7 * wanted,
        "the load was not reached: {} of {wanted}",
        tally.sent
    );
    assert!(
        u64::from(turns) > seconds * 80,
        "the churn was not reached: {turns}"
    );
    assert_eq!(tally.again, 0, "a change made clients send again");
    assert!(
        tally.connections <= 40,
        "a change closed connections: {}",
        tally.connections
    );
}

#[test]
fn one_of_two_proxies_ends_and_nothing_fails() {
    let authority = Authority::new();
    let ((stable, _stable), (canary, _canary)) = (apps::<2>("v1"), apps::<1>("v2"));
    let mut leaving = Proxy::start(&authority, &stable, &canary);
    let staying = Proxy::start(&authority, &stable, &canary);
    let load = Mixed::start(&[leaving.door, staying.door], authority.trust(), RATE);
    std::thread::sleep(Duration::from_secs(2));
    let begun = Instant::now();
    leaving.process.signal("TERM");
    until("readiness fails", Duration::from_secs(1), || {
        get(leaving.signals, "/readyz").filter(|a| a.status == 503)
    });
    // What kube-proxy needs to hear of it.
    std::thread::sleep(Duration::from_millis(300));
    load.lead_to(&[staying.door]);
    until("the proxy ends", Duration::from_secs(10), || {
        (!leaving.process.is_running()).then_some(())
    });
    println!("ended after {:?}", begun.elapsed());
    std::thread::sleep(Duration::from_secs(1));
    let tally = load.stop();
    told("one of two ends", &tally);
    // What half of the connections carry at once: the others' server stays.
    assert!(tally.again <= 32, "{} requests had to be sent again", tally.again);
    assert_eq!(leaving.process.child.wait().unwrap().code(), Some(0));
    assert!(!leaving.process.printed().contains("panicked"));
}

#[test]
fn it_runs_and_runs_and_does_not_grow() {
    let seconds = if all() { 600 } else { 120 };
    let authority = Authority::new();
    let ((stable, _stable), (canary, _canary)) = (apps::<4>("v1"), apps::<2>("v2"));
    let mut proxy = Proxy::start(&authority, &stable, &canary);
    let capacity = capacity(&proxy, &authority);
    let rate = capacity * SOAK_SHARE;
    let load = Mixed::start(&[proxy.door], authority.trust(), rate);
    let stop = AtomicBool::new(false);
    let (memory, descriptors) = std::thread::scope(|s| {
        s.spawn(|| churn(&proxy, &authority, &stable, &canary, &stop));
        let watched = watch(&proxy, Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
        watched
    });
    let tally = load.stop();
    println!(
        "{seconds} s at {rate:.0} of {capacity:.0} requests/s: memory {memory:?} KiB, descriptors {descriptors:?}"
    );
    told("the soak", &tally);
    assert_eq!(tally.again, 0, "a change made clients send again");
    let (early, late) = (
        mean(&memory[..memory.len() / 4]),
        mean(&memory[memory.len() * 3 / 4..]),
    );
    assert!(
        late < early * 1.05,
        "memory grows: {early:.0} KiB, then {late:.0}"
    );
    let most = descriptors[..descriptors.len() / 4].iter().max().unwrap() + 20;
    assert!(
        *descriptors.last().unwrap() <= most,
        "descriptors leak: {descriptors:?}"
    );
    assert!(proxy.process.is_running() && !proxy.process.printed().contains("panicked"));
}

/// Requests a second that proxy and clients together can do here.
fn capacity(proxy: &Proxy, authority: &Authority) -> f64 {
    let load = Mixed::start(&[proxy.door], authority.trust(), 1_000_000.0);
    std::thread::sleep(Duration::from_secs(1));
    let (begun, before) = (Instant::now(), load.seen().answered());
    std::thread::sleep(Duration::from_secs(3));
    let rate = (load.seen().answered() - before) as f64 / begun.elapsed().as_secs_f64();
    load.stop();
    rate
}

/// Memory and descriptors, twenty times after a beginning in which caches fill.
fn watch(proxy: &Proxy, time: Duration) -> (Vec<u64>, Vec<usize>) {
    std::thread::sleep(time / 6);
    let pause = time * 5 / 6 / 20;
    (0..20)
        .map(|_| {
            std::thread::sleep(pause);
            (proxy.memory(), proxy.descriptors())
        })
        .unzip()
}

fn mean(of: &[u64]) -> f64 {
    of.iter().sum::<u64>() as f64 / of.len() as f64
}
