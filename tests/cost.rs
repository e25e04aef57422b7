//! What a request costs the program that ships, in figures that repeat on a busy machine: user instructions, system
//! calls, and memory of idle connections. Microseconds beside other proxies are what `tests/peers` measures.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use support::*;

/// Most user instructions for a plain GET over HTTP/1.1.
const INSTRUCTIONS: f64 = 16_000.0;
/// Most system calls for one, with 64 connections that never wait.
const CALLS: f64 = 4.1;
/// Most memory of an idle HTTP/1.1 connection, octets.
const IDLE: f64 = 6.0 * 1024.0;
/// A program under valgrind begins slowly.
const PATIENCE: Duration = Duration::from_secs(60);

/// One measurement at a time: beside another the proxy is woken for fewer requests at once, which is more calls.
static MACHINE: Mutex<()> = Mutex::new(());

/// Two backends, and the file of a proxy before them.
struct Bench {
    _machine: MutexGuard<'static, ()>,
    scratch: Scratch,
    program: std::path::PathBuf,
    _backends: [Nginx; 2],
    endpoints: [u16; 2],
    /// Backends whose answers have few lines.
    lean: [u16; 2],
}

/// The proxy, perhaps under a tool.
struct Proxy {
    process: Process,
    listen: SocketAddr,
}

impl Bench {
    fn new() -> Bench {
        let (scratch, endpoints) = (Scratch::new(), free_ports::<2>());
        Bench {
            _machine: MACHINE.lock().unwrap_or_else(PoisonError::into_inner),
            program: shipped(),
            _backends: [
                Nginx::start(&scratch, endpoints[0], "v1"),
                Nginx::start(&scratch, endpoints[1], "v2"),
            ],
            scratch,
            endpoints,
            lean: [lean("v1"), lean("v2")],
        }
    }

    /// One worker, all defaults, a tenth to the canary; behind `tool`, if there is one.
    fn proxy(&self, tool: &[&str], [stable, canary]: [u16; 2]) -> Proxy {
        let ports = free_ports();
        let rules = [("canary-weight", "10"), ("canary-by-header", "x-canary")];
        let text = file(ports, 1, &[stable], &[canary], &rules, "");
        self.scratch.replace("serin.toml", &text);
        let program = self.program.to_str().unwrap();
        let all: Vec<&str> = [tool, &[program, "proxy", "-f"]].concat();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).arg(self.scratch.path("serin.toml"));
        let proxy = Proxy {
            process: Process::start(&mut command),
            listen: loopback(ports[0]),
        };
        until("the proxy is ready", PATIENCE, || {
            get(loopback(ports[1]), "/readyz").filter(|a| a.status == 200)
        });
        proxy
    }

    /// User instructions of a whole run with so many requests.
    fn instructions(&self, before: [u16; 2], load: impl FnOnce(SocketAddr)) -> f64 {
        let out = self.scratch.path("callgrind.out");
        let place = format!("--callgrind-out-file={}", out.display());
        let proxy = self.proxy(&["valgrind", "--tool=callgrind", "-q", &place], before);
        load(proxy.listen);
        proxy.end();
        let text = fs::read_to_string(out).unwrap();
        let total = text.lines().find_map(|l| l.strip_prefix("totals: "));
        total.expect("callgrind wrote a total").trim().parse().unwrap()
    }

    /// The difference of two runs: what the start costs falls out.
    fn per_request(&self, before: [u16; 2], load: impl Fn(SocketAddr, u32)) -> f64 {
        let [few, many] = [500, 2500].map(|n| self.instructions(before, |to| load(to, n)));
        (many - few) / 2000.0
    }

    /// System calls of a whole run, and its requests.
    fn calls(&self, load: impl FnOnce(SocketAddr) -> f64) -> (f64, f64) {
        let out = self.scratch.path("strace.out");
        let proxy = self.proxy(
            &["strace", "-f", "-c", "-o", out.to_str().unwrap()],
            self.endpoints,
        );
        let requests = load(proxy.listen);
        proxy.end();
        let text = fs::read_to_string(out).unwrap();
        let total = text.lines().rfind(|l| l.ends_with(" total")).unwrap();
        let calls = total.split_whitespace().nth(3).unwrap();
        (calls.parse().unwrap(), requests)
    }
}

impl Proxy {
    /// Ends in good order, as tools want it: callgrind is the proxy's process, strace is its parent and deaf.
    fn end(mut self) {
        let pid = self.process.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let proxy = children
            .split_whitespace()
            .next()
            .map_or(pid.to_string(), str::to_owned);
        assert!(Command::new("kill").arg(proxy).status().unwrap().success());
        until("the proxy has ended", PATIENCE, || {
            (!self.process.is_running()).then_some(())
        });
    }

    fn resident(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.pid())).unwrap();
        let line = text.lines().find(|l| l.starts_with("Rss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
    }
}

/// A backend that answers as those of the design's own measurements do, whose figures the limit comes from: three
/// lines and 100 octets. nginx sends five lines, and each costs.
fn lean(version: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answers(stream, version));
        }
    });
    port
}

fn answers(mut stream: TcpStream, version: &str) {
    let body = format!("{:x>100}", format!("version: {version}\n"));
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-backend: {version}\r\ncontent-length: 100\r\n\r\n{body}"
    );
    let (mut seen, mut room) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = stream.read(&mut room) {
        seen.extend_from_slice(&room[..n]);
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// One GET on a kept connection, read to the end of the answer.
fn ask(stream: &mut TcpStream) {
    stream
        .write_all(b"GET /b100 HTTP/1.1\r\nHost: echo.test\r\n\r\n")
        .unwrap();
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while !answer.windows(9).any(|w| w == b"version: ") || !answer.ends_with(b"\n") {
        let n = stream.read(&mut part).unwrap();
        assert_ne!(n, 0, "the connection ended");
        answer.extend_from_slice(&part[..n]);
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One connection, one request after the other.
fn plain(to: SocketAddr, n: u32) {
    let mut stream = connect(to);
    (0..n).for_each(|_| ask(&mut stream));
}

/// The same by h2load, over HTTP/2.
fn h2(to: SocketAddr, n: u32) {
    let (n, url) = (n.to_string(), format!("http://{to}/b100"));
    let out = Command::new("h2load")
        .args(["-n", &n, "-c", "1", "-m", "1", &url])
        .output()
        .expect("h2load runs (Debian: nghttp2-client)");
    assert!(stdout(&out).contains(&format!("{n} 2xx")), "{}", stdout(&out));
}

/// 64 connections for so many seconds; how many requests were answered.
fn saturating(to: SocketAddr, seconds: u32) -> f64 {
    let out = Command::new("wrk")
        .args([
            "-t1",
            "-c64",
            &format!("-d{seconds}s"),
            &format!("http://{to}/b100"),
        ])
        .output()
        .expect("wrk runs (Debian: wrk)");
    let text = stdout(&out);
    assert!(
        !text.contains("Non-2xx") && !text.contains("Socket errors"),
        "{text}"
    );
    let line = text
        .lines()
        .find(|l| l.contains(" requests in "))
        .expect("wrk tells a count");
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_request_costs_few_instructions() {
    let bench = Bench::new();
    let h1 = bench.per_request(bench.lean, plain);
    let nginx = bench.per_request(bench.endpoints, plain);
    println!(
        "user instructions for a GET over HTTP/1.1: {h1:.0}; of an answer as long as nginx's: {nginx:.0}"
    );
    let h2 = bench.per_request(bench.lean, h2);
    println!("user instructions for a GET over HTTP/2 without TLS: {h2:.0}");
    assert!(h1 <= INSTRUCTIONS, "{h1} instructions");
}

#[test]
fn a_request_costs_four_system_calls() {
    let bench = Bench::new();
    let mut rounds: Vec<f64> = (1..=3).map(|_| calls_each(&bench)).collect();
    rounds.sort_by(f64::total_cmp);
    println!(
        "system calls for a GET over HTTP/1.1, saturated: {:.2} ({rounds:.2?})",
        rounds[1]
    );
    assert!(rounds[1] <= CALLS, "{rounds:?} system calls");
}

/// The difference of two runs again.
fn calls_each(bench: &Bench) -> f64 {
    let [(few, before), (many, after)] = [1, 4].map(|seconds| bench.calls(|to| saturating(to, seconds)));
    let requests = after - before;
    assert!(requests > 1000.0, "only {requests} requests");
    (many - few) / requests
}

#[test]
fn an_idle_connection_holds_little() {
    let bench = Bench::new();
    let proxy = bench.proxy(&[], bench.endpoints);
    let mut held = Vec::new();
    let mut hold = |n| {
        while held.len() < n {
            held.push(connect(proxy.listen));
            ask(held.last_mut().unwrap());
        }
        proxy.resident()
    };
    let (few, many) = (hold(100), hold(800));
    let each = (many - few) / 700.0;
    println!("memory of an idle HTTP/1.1 connection: {:.2} KiB", each / 1024.0);
    assert!(each <= IDLE, "{each} octets");
}
