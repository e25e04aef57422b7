//! gRPC and WebSocket with clients and servers that were not written here (grpcio and websockets of Python): what they
//! do directly they do through the proxy, case by case.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};
use support::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/protocols")
}

/// Where Python finds its packages: installed once, beside what is built. Test processes wait for one another.
fn packages() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let wanted = folder().join("packages");
        let path = Path::new(SERIN).parent().unwrap().join("python");
        let lock = File::create(path.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        let text = std::fs::read_to_string(&wanted).unwrap();
        if std::fs::read_to_string(path.join("installed")).is_ok_and(|t| t == text) {
            return path;
        }
        let _ = std::fs::remove_dir_all(&path);
        let installed = Command::new("pip3")
            .args(["install", "--quiet", "--no-warn-script-location", "--target"])
            .arg(&path)
            .arg("-r")
            .arg(&wanted)
            .output()
            .expect("pip3 is needed (Debian: python3-pip)");
        assert!(
            installed.status.success(),
            "pip3 cannot install {text}: {}",
            stderr(&installed)
        );
        std::fs::write(path.join("installed"), text).unwrap();
        path
    })
}

/// A Python program of ours; it ends with the test.
struct Python {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Python {
    fn start(script: &str, args: &[&str]) -> Python {
        let mut child = Command::new("python3")
            .env("PYTHONPATH", packages())
            .env("GRPC_ENABLE_FORK_SUPPORT", "0")
            .arg(folder().join(script))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed");
        let lines = BufReader::new(child.stdout.take().unwrap());
        Python { child, lines }
    }

    /// A server, and its port.
    fn server(script: &str) -> (Python, u16) {
        Python::server_with(script, &[])
    }

    fn server_with(script: &str, args: &[&str]) -> (Python, u16) {
        let mut server = Python::start(script, args);
        let port = server.line().expect("a port").trim().parse().unwrap();
        (server, port)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.lines.read_line(&mut line).unwrap() > 0).then_some(line)
    }

    /// The next case that was told: its name, and what came of it.
    fn told(&mut self) -> Option<(String, String)> {
        let line = self.line()?;
        let (name, rest) = line.trim().strip_prefix("[\"")?.split_once("\", ")?;
        Some((name.to_owned(), rest.strip_suffix(']')?.to_owned()))
    }

    /// All that it tells until its end.
    fn all(mut self) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        while let Some((name, what)) = self.told() {
            all.entry(name).or_default().push(what);
        }
        let mut rest = String::new();
        let _ = self.lines.read_to_string(&mut rest);
        assert!(self.child.wait().unwrap().success(), "it failed: {rest}");
        all
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A certificate for this machine that signs itself, and its key.
struct Certificate(Scratch);

impl Certificate {
    fn new() -> Certificate {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let scratch = Scratch::new();
        scratch.replace("tls.crt", &made.cert.pem());
        scratch.replace("tls.key", &made.signing_key.serialize_pem());
        Certificate(scratch)
    }

    fn cert(&self) -> String {
        self.0.path("tls.crt").display().to_string()
    }

    fn key(&self) -> String {
        self.0.path("tls.key").display().to_string()
    }
}

/// `serin proxy` before one service, with and without TLS.
struct Front {
    process: Process,
    scratch: Scratch,
    ports: [u16; 4],
    /// What is said of both tracks beside their endpoints.
    speaks: String,
    tracks: [u16; 2],
    certificate: Certificate,
}

impl Front {
    fn start(protocol: &str, tracks: [u16; 2]) -> Front {
        Front::speaking(format!("protocol = \"{protocol}\""), tracks)
    }

    fn speaking(speaks: String, tracks: [u16; 2]) -> Front {
        let (scratch, ports, certificate) = (Scratch::new(), free_ports(), Certificate::new());
        scratch.replace("serin.toml", &text(ports, &certificate, &speaks, tracks, 0));
        let process = Process::start(
            Command::new(SERIN)
                .args(["proxy", "-f"])
                .arg(scratch.path("serin.toml")),
        );
        let front = Front {
            process,
            scratch,
            ports,
            speaks,
            tracks,
            certificate,
        };
        until("the proxy is ready", Duration::from_secs(10), || {
            get(loopback(front.ports[1]), "/readyz").filter(|a| a.status == 200)
        });
        front
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// Where it speaks TLS, and the file of the certificate to be trusted.
    fn secure(&self) -> [String; 2] {
        [format!("127.0.0.1:{}", self.ports[3]), self.certificate.cert()]
    }

    /// Changes the weight, and waits until it is in force.
    fn weigh(&self, weight: u32) {
        let next = text(self.ports, &self.certificate, &self.speaks, self.tracks, weight);
        self.scratch.replace("serin.toml", &next);
        until("the weight is in force", Duration::from_secs(10), || {
            let page = get(loopback(self.ports[1]), "/metrics")?.body;
            let line = page.lines().find(|l| l.starts_with("serin_split_weight{"))?;
            line.ends_with(&format!(" {weight}")).then_some(())
        });
    }

    /// The value of the metric whose line holds all of these.
    fn metric(&self, parts: &[&str]) -> u64 {
        let page = get(loopback(self.ports[1]), "/metrics").unwrap().body;
        let lines = page
            .lines()
            .filter(|l| !l.starts_with('#') && parts.iter().all(|p| l.contains(p)));
        lines
            .filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }
}

fn text(ports: [u16; 4], certificate: &Certificate, speaks: &str, tracks: [u16; 2], weight: u32) -> String {
    let [listen, signals, admin, tls] = ports;
    let [stable, canary] = tracks;
    let (cert, key) = (certificate.cert(), certificate.key());
    format!(
        "[proxy]\nlisten = \"127.0.0.1:{listen}\"\nsignals = \"127.0.0.1:{signals}\"\nadmin = \"127.0.0.1:{admin}\"\n\
         workers = 2\ndrainGrace = \"100ms\"\ndrainDeadline = \"2s\"\n\
         [proxy.tls]\nlisten = \"127.0.0.1:{tls}\"\ncertificates = [{{ cert = \"{cert}\", key = \"{key}\" }}]\n\
         [[service]]\nname = \"echo\"\n\
         stable = {{ {speaks}, endpoints = [\"127.0.0.1:{stable}\"] }}\n\
         canary = {{ {speaks}, endpoints = [\"127.0.0.1:{canary}\"] }}\n\
         [service.annotations]\n\"serin.dev/canary-weight\" = \"{weight}\"\n"
    )
}

/// How often each status is at least told by all cases. Cancelled three times by the client; its deadline, kept by
/// whoever is first, is no cancellation.
const STATUSES: [(u16, u64); 8] = [
    (0, 300),
    (1, 3),
    (2, 1),
    (4, 2),
    (12, 2),
    (13, 1),
    (14, 1),
    (15, 2),
];

/// All cases through a proxy at `to` (an address, and the file of a certificate if it speaks TLS): the same as `direct`,
/// what was told in trailers is counted, and what speaks of the server is charged.
fn grpc_is_the_same(direct: &BTreeMap<String, Vec<String>>, front: &Front, to: &[String]) {
    let args: Vec<&str> = match to {
        [address, trust] => vec![address, "all", trust],
        _ => to.iter().map(String::as_str).collect(),
    };
    let through = Python::start("grpc_client.py", &args).all();
    for (name, told) in direct {
        assert!(!told[0].contains("Error: "), "{name} directly: {told:?}");
        assert_eq!(through.get(name), Some(told), "{name} through {to:?}");
    }
    assert_eq!(direct.len(), through.len());
    until("all calls have ended", Duration::from_secs(5), || {
        (front.metric(&["serin_inflight", "stable"]) == 0).then_some(())
    });
    for (status, least) in STATUSES {
        let label = format!("grpc_status=\"{status}\"");
        let n = front.metric(&["serin_grpc_requests_total", "stable", "true", &label]);
        assert!(n >= least, "{n} calls with status {status}");
    }
    assert_eq!(
        front.metric(&["serin_grpc_requests_total", "grpc_status=\"none\""]),
        0
    );
    assert_eq!(front.metric(&["serin_failures_total", "kind=\"cancel\""]), 2);
}

#[test]
fn grpc_is_the_same_directly_and_through_the_proxy_with_and_without_tls_on_either_side() {
    let (_server, port) = Python::server("grpc_server.py");
    let direct = Python::start("grpc_client.py", &[&format!("127.0.0.1:{port}")]).all();
    assert!(direct.len() >= 16, "{direct:?}");
    let plain = Front::start("h2c", [port, port]);
    grpc_is_the_same(&direct, &plain, &[plain.address()]);
    let secure = Front::start("h2c", [port, port]);
    grpc_is_the_same(&direct, &secure, &secure.secure());

    let own = Certificate::new();
    let (_server, port) = Python::server_with("grpc_server.py", &[&own.cert(), &own.key()]);
    let speaks = format!("protocol = \"https\", tls = {{ ca = \"{}\" }}", own.cert());
    for both in [false, true] {
        let front = Front::speaking(speaks.clone(), [port, port]);
        let to = if both {
            front.secure().to_vec()
        } else {
            vec![front.address()]
        };
        grpc_is_the_same(&direct, &front, &to);
    }
}

#[test]
fn a_call_that_finds_no_server_is_told_so_in_words_of_grpc() {
    let [dead] = free_ports();
    let front = Front::start("h2c", [dead, dead]);
    let told = Python::start("grpc_client.py", &[&front.address(), "fail"]).all();
    let told = &told["fail"][0];
    assert!(told.contains("\"code\": \"UNAVAILABLE\""), "{told}");
    assert!(told.contains("serin: the backend refuses connections"), "{told}");
    assert_eq!(
        front.metric(&[
            "serin_grpc_requests_total",
            "stable",
            "true",
            "grpc_status=\"14\""
        ]),
        1
    );
}

#[test]
fn a_server_that_dies_ends_its_calls_as_unavailable() {
    let (mut server, port) = Python::server("grpc_server.py");
    let front = Front::start("h2c", [port, port]);
    let mut client = Python::start("grpc_client.py", &[&front.address(), "hang"]);
    until("the call is under way", Duration::from_secs(10), || {
        (front.metric(&["serin_inflight", "stable"]) == 1).then_some(())
    });
    server.child.kill().unwrap();
    let (_, told) = client.told().unwrap();
    assert!(told.contains("\"code\": \"UNAVAILABLE\""), "{told}");
    assert_eq!(
        front.metric(&["serin_failures_total", "stable", "backend", "reset"]),
        1
    );
}

#[test]
fn a_change_of_weight_ends_no_stream_of_grpc() {
    let (_stable, s) = Python::server("grpc_server.py");
    let (_canary, c) = Python::server("grpc_server.py");
    let front = Front::start("h2c", [s, c]);
    let client = Python::start("grpc_client.py", &[&front.address(), "hold"]);
    for weight in [100, 0, 50, 100, 10] {
        front.weigh(weight);
        thread::sleep(Duration::from_millis(200));
    }
    let told = client.all();
    let told = &told["hold"][0];
    assert!(
        told.contains("\"enough\": true") && told.contains("\"code\": \"OK\""),
        "{told}"
    );
    assert!(front.metric(&["serin_grpc_requests_total", "canary", "grpc_status=\"0\""]) > 0);
    assert_eq!(front.metric(&["serin_failures_total"]), 0);
}

#[test]
fn websocket_is_the_same_directly_and_through_the_proxy() {
    let (_server, port) = Python::server("websocket_server.py");
    let front = Front::start("http", [port, port]);
    let cases = |address: &str| {
        Python::start("websocket_client.py", &[&format!("ws://{address}/chat"), "cases"]).all()
    };
    let direct = cases(&format!("127.0.0.1:{port}"));
    assert!(direct.len() >= 7 && direct["16 MiB"].len() == 2, "{direct:?}");
    assert_eq!(direct, cases(&front.address()));
    assert_eq!(front.metric(&["serin_requests_total", "code=\"101\""]), 2);
    assert_eq!(front.metric(&["serin_failures_total"]), 0);
}

/// A client of HTTP/2 cannot go directly to a server that knows HTTP/1.1 alone: it must be told what one of HTTP/1.1 is
/// told, but for the status.
#[test]
fn websocket_over_http_2_is_what_it_is_over_http_1() {
    let (_server, port) = Python::server("websocket_server.py");
    let front = Front::start("http", [port, port]);
    let url = format!("ws://127.0.0.1:{port}/chat");
    let mut expected = Python::start("websocket_client.py", &[&url, "cases"]).all();
    expected.insert("status".into(), vec!["200".into()]);
    let [address, trust] = front.secure();
    for args in [vec![front.address()], vec![address, trust]] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let told = Python::start("websocket_over_http2.py", &args).all();
        assert_eq!(told, expected, "{args:?}");
    }
    assert_eq!(
        front.metric(&["serin_requests_total", "code=\"101\"", "protocol=\"h2\""]),
        4
    );
    assert_eq!(front.metric(&["serin_failures_total"]), 0);
}

#[test]
fn websockets_outlive_a_change_of_weight_and_end_with_the_drain() {
    let (_stable, s) = Python::server("websocket_server.py");
    let (_canary, c) = Python::server("websocket_server.py");
    let mut front = Front::start("http", [s, c]);
    front.weigh(50);
    let mut client = Python::start(
        "websocket_client.py",
        &[&format!("ws://{}/", front.address()), "hold"],
    );
    assert_eq!(client.told(), Some(("open".into(), "20".into())));
    for weight in [0, 100, 1] {
        front.weigh(weight);
        thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(
        front.metric(&["serin_inflight"]),
        20,
        "both tracks keep what they have"
    );
    let drained = Instant::now();
    front.process.signal("TERM");
    let mut last = None;
    while let Some((name, what)) = client.told() {
        if name == "closed" {
            // The deadline is two seconds, after the grace.
            let took = drained.elapsed();
            assert!((1.8..6.0).contains(&took.as_secs_f64()), "{took:?}");
            assert_eq!(what, "[20, true]", "all at the deadline, none before");
        } else if drained.elapsed() < Duration::from_millis(1500) {
            assert!(what.starts_with("[20, "), "closed before the deadline: {what}");
        }
        last = Some(name);
    }
    assert_eq!(last.as_deref(), Some("closed"));
    until("the proxy ends", Duration::from_secs(5), || {
        (!front.process.is_running()).then_some(())
    });
}
