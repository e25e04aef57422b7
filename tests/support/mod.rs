//! What the black-box tests share: scratch folders, free ports, child processes that die with the test, a tiny HTTP
//! client, and `serin run` with a file.
#![allow(dead_code)] // each test binary uses its part

pub mod prometheus;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// The built binary.
pub const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// Whether the long repetitions are asked for (`tests/run --all`).
pub fn all() -> bool {
    std::env::var("SERIN_TESTS").is_ok_and(|v| v == "all")
}

/// The program that ships: built as the Dockerfile builds it, once for all tests, which takes minutes the first time; or
/// what `SERIN_SHIPPED` names.
pub fn shipped() -> PathBuf {
    if let Some(built) = std::env::var_os("SERIN_SHIPPED") {
        return built.into();
    }
    let root = env!("CARGO_MANIFEST_DIR");
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| format!("{root}/target"));
    let folder = format!("{target}/image");
    let triple = "x86_64-unknown-linux-gnu";
    let build = "build --release --locked --quiet --bin serin";
    let status = Command::new(env!("CARGO"))
        .args(build.split(' '))
        .args(["--target", triple, "--target-dir", &folder])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .current_dir(root)
        .status()
        .unwrap();
    assert!(status.success());
    PathBuf::from(format!("{folder}/{triple}/release/serin"))
}

/// A folder that goes with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "serin-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes as careful people do: beside, then renamed.
    pub fn replace(&self, name: &str, text: &str) {
        let next = self.path(&format!("{name}.next"));
        fs::write(&next, text).unwrap();
        fs::rename(next, self.path(name)).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Ports that were free a moment ago. Listeners are held together, so that all are different.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|l| l.local_addr().unwrap().port())
}

/// A child process that dies with the test; what it prints is kept.
pub struct Process {
    pub child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub fn start(command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        keep(child.stdout.take().unwrap(), lines.clone());
        keep(child.stderr.take().unwrap(), lines.clone());
        Process { child, lines }
    }

    pub fn printed(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .arg(format!("-{name}"))
                .arg(self.pid().to_string())
                .status()
                .unwrap()
                .success()
        );
    }

    /// `kill -9`, and wait until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

fn keep(from: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- printed by process {}:\n{}", self.pid(), self.printed());
        }
    }
}

/// Runs `serin` to its end.
pub fn serin(args: &[&str]) -> Output {
    Command::new(SERIN)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// One request on a connection of its own. `None` when nothing that is HTTP came back.
pub fn http(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<Answer> {
    let extra: String = headers.iter().map(|(k, v)| format!("{k}: {v}\r\n")).collect();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-length: {}\r\n{extra}\r\n{body}",
        body.len()
    );
    raw(to, text.as_bytes())
}

/// Bytes as they are, and the answer to them.
pub fn raw(to: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(15))).ok()?;
    stream.write_all(bytes).ok()?;
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let text = String::from_utf8_lossy(&all).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        head: head.to_owned(),
        body: body.to_owned(),
    })
}

pub fn get(to: SocketAddr, path: &str) -> Option<Answer> {
    http(to, "GET", path, &[], "")
}

/// Waits until something is so; says what it waited for when it never is.
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// `serin app`, answering.
pub fn app(port: u16, version: &str, faults: &[&str]) -> Process {
    let listen = format!("127.0.0.1:{port}");
    let process = Process::start(
        Command::new(SERIN)
            .args(["app", "--listen", &listen, "--version", version])
            .args(faults),
    );
    until("the app answers", Duration::from_secs(10), || {
        get(loopback(port), "/healthz")
    });
    process
}

/// A policy that shifts quickly, for tests that wait for ends.
pub const QUICK: &str = r#"
[service.rollout]
deadline = "10m"
[service.rollout.pacing]
soak = "10s"
interval = "1s"
[service.rollout.judgement]
warmUp = "0s"
[service.rollout.promotion]
watch = "3s"
"#;

/// `serin run` with a file in a scratch folder.
pub struct Run {
    pub scratch: Scratch,
    pub process: Process,
    pub listen: SocketAddr,
    pub signals: SocketAddr,
    pub admin: SocketAddr,
}

/// The text of a file with one service `echo`.
pub fn file(
    ports: [u16; 3],
    workers: usize,
    stable: &[u16],
    canary: &[u16],
    annotations: &[(&str, &str)],
    rest: &str,
) -> String {
    let list = |ports: &[u16]| {
        ports
            .iter()
            .map(|p| format!("\"127.0.0.1:{p}\""))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let annotations: String = annotations
        .iter()
        .map(|(k, v)| format!("\"serin.dev/{k}\" = '{v}'\n"))
        .collect();
    format!(
        "[proxy]\nlisten = \"127.0.0.1:{}\"\nsignals = \"127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\nworkers = {workers}\ndrainGrace = \"200ms\"\ndebugHeaders = true\n\n[controller]\nstate = \"state\"\n\n[[service]]\nname = \"echo\"\nstable = {{ version = \"v1\", endpoints = [{}] }}\ncanary = {{ version = \"v2\", endpoints = [{}] }}\n[service.annotations]\n{annotations}{rest}",
        ports[0],
        ports[1],
        ports[2],
        list(stable),
        list(canary)
    )
}

impl Run {
    /// Starts it and waits until it is ready.
    pub fn start(ports: [u16; 3], text: &str) -> Run {
        Run::start_in(Scratch::new(), ports, text)
    }

    pub fn start_in(scratch: Scratch, ports: [u16; 3], text: &str) -> Run {
        scratch.replace("serin.toml", text);
        let process = Run::launch(&scratch.path("serin.toml"));
        let [listen, signals, admin] = ports.map(loopback);
        let run = Run {
            scratch,
            process,
            listen,
            signals,
            admin,
        };
        run.wait_ready();
        run
    }

    pub fn launch(file: &Path) -> Process {
        Process::start(
            Command::new(SERIN)
                .args(["run", "-f"])
                .arg(file)
                .env("SERIN_ACTOR", "tester"),
        )
    }

    pub fn wait_ready(&self) {
        until("serin run is ready", Duration::from_secs(10), || {
            get(self.signals, "/readyz").filter(|a| a.status == 200)
        });
    }

    /// Starts the same file again, after a kill.
    pub fn restart(&mut self) {
        self.process = Run::launch(&self.scratch.path("serin.toml"));
        self.wait_ready();
    }

    pub fn token(&self) -> String {
        fs::read_to_string(self.scratch.path("state/admin-token"))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// A command of the program against this run: `command(&["weight", "echo", "10"])`.
    pub fn command(&self, args: &[&str]) -> Output {
        let file = self.scratch.path("serin.toml");
        Command::new(SERIN)
            .args(args)
            .arg("-f")
            .arg(file)
            .env("SERIN_ACTOR", "tester")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    pub fn status(&self) -> serde_json::Value {
        let out = self.command(&["status", "echo", "--output", "json"]);
        assert!(out.status.success(), "{}", stderr(&out));
        serde_json::from_slice(&out.stdout).unwrap()
    }

    pub fn try_status(&self) -> Option<serde_json::Value> {
        let token = format!("Bearer {}", self.token());
        let answer = http(
            self.admin,
            "GET",
            "/rollouts/echo",
            &[("authorization", &token)],
            "",
        )?;
        serde_json::from_str(&answer.body)
            .ok()
            .filter(|s: &serde_json::Value| s["phase"].is_string())
    }

    pub fn phase(&self) -> String {
        self.try_status()
            .and_then(|s| s["phase"].as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    pub fn wait_phase(&self, phases: &[&str], patience: Duration) -> serde_json::Value {
        until(&format!("phase {phases:?}"), patience, || {
            self.try_status()
                .filter(|s| phases.contains(&s["phase"].as_str().unwrap_or("")))
        })
    }

    /// The admin call that sets annotations.
    pub fn patch(&self, body: &str) -> Answer {
        let token = format!("Bearer {}", self.token());
        let headers = [
            ("authorization", token.as_str()),
            ("content-type", "application/json"),
            ("x-serin-actor", "tester"),
        ];
        http(self.admin, "PATCH", "/services/echo/annotations", &headers, body).unwrap()
    }

    /// The service page of `/evidence`.
    pub fn evidence(&self) -> serde_json::Value {
        let page = get(self.signals, "/evidence").unwrap();
        let page: serde_json::Value = serde_json::from_str(&page.body).unwrap();
        page["services"]["echo"].clone()
    }
}

/// Users: requests at a steady rate on kept connections, until stopped. Everything that goes wrong is kept.
pub struct Users {
    stop: Arc<std::sync::atomic::AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Report>>,
}

/// What users have seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub sent: u64,
    /// Answers by (status, body's first line), with the time of the first one.
    pub answers: std::collections::BTreeMap<(u16, String), u64>,
    /// Time of each answer of 500 and above.
    pub bad_at: Vec<Instant>,
    /// Connections that broke or closed, and requests without an answer.
    pub broken: u64,
}

impl Users {
    /// `rps` requests a second over `connections` connections.
    pub fn start(to: SocketAddr, rps: f64, connections: u32) -> Users {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let pause = Duration::from_secs_f64(f64::from(connections) / rps);
        let threads = (0..connections).map(|i| {
            let stop = stop.clone();
            let offset = pause.mul_f64(f64::from(i) / f64::from(connections));
            std::thread::spawn(move || visit(to, pause, offset, &stop))
        });
        Users {
            threads: threads.collect(),
            stop,
        }
    }

    pub fn stop(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().fold(Report::default(), |mut all, t| {
            let one = t.join().unwrap();
            all.sent += one.sent;
            all.broken += one.broken;
            all.bad_at.extend(one.bad_at);
            for (key, n) in one.answers {
                *all.answers.entry(key).or_default() += n;
            }
            all
        })
    }
}

fn visit(to: SocketAddr, pause: Duration, offset: Duration, stop: &std::sync::atomic::AtomicBool) -> Report {
    let mut report = Report::default();
    let mut connection: Option<BufReader<TcpStream>> = None;
    let mut due = Instant::now() + offset;
    while !stop.load(Ordering::Relaxed) {
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(wait);
        }
        due += pause;
        report.sent += 1;
        if connection.is_none() {
            connection = TcpStream::connect(to).ok().map(BufReader::new);
        }
        match connection.as_mut().and_then(exchange) {
            Some((status, line)) => {
                if status >= 500 {
                    report.bad_at.push(Instant::now());
                }
                *report.answers.entry((status, line)).or_default() += 1;
            }
            None => {
                report.broken += 1;
                connection = None;
            }
        }
    }
    report
}

/// One GET on a kept connection; `None` when it broke or was closed.
fn exchange(c: &mut BufReader<TcpStream>) -> Option<(u16, String)> {
    c.get_ref().set_read_timeout(Some(Duration::from_secs(15))).ok()?;
    c.get_mut()
        .write_all(b"GET / HTTP/1.1\r\nhost: echo.test\r\n\r\n")
        .ok()?;
    let (mut line, mut status, mut length) = (String::new(), 0, None);
    loop {
        line.clear();
        if c.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        if status == 0 {
            status = text.split(' ').nth(1)?.parse().ok()?;
        }
        let lower = text.to_ascii_lowercase();
        if let Some(n) = lower.strip_prefix("content-length:") {
            length = n.trim().parse::<usize>().ok();
        }
        if lower == "connection: close" {
            return None;
        }
    }
    let mut body = vec![0; length?];
    c.read_exact(&mut body).ok()?;
    Some((
        status,
        String::from_utf8_lossy(&body)
            .lines()
            .next()
            .unwrap_or("")
            .to_owned(),
    ))
}

/// A real nginx that answers `version`, with its own access log.
pub struct Nginx {
    pub process: Process,
    pub port: u16,
    log: PathBuf,
}

impl Nginx {
    pub fn start(scratch: &Scratch, port: u16, version: &str) -> Nginx {
        let folder = scratch.path(&format!("nginx-{version}"));
        fs::create_dir_all(&folder).unwrap();
        let log = folder.join("access.log");
        let config = folder.join("nginx.conf");
        let text = format!(
            "daemon off; pid {0}/pid; error_log {0}/error.log; events {{ worker_connections 1024; }}\nhttp {{ access_log {0}/access.log; client_body_temp_path {0}/t1; proxy_temp_path {0}/t2; fastcgi_temp_path {0}/t3; uwsgi_temp_path {0}/t4; scgi_temp_path {0}/t5; keepalive_requests 1000000;\nserver {{ listen 127.0.0.1:{port}; location / {{ default_type text/plain; return 200 'version: {version}\\n'; }} }} }}\n",
            folder.display()
        );
        fs::write(&config, text).unwrap();
        let program = ["/usr/sbin/nginx", "nginx"]
            .into_iter()
            .find(|p| Path::new(p).exists())
            .unwrap_or("nginx");
        let process = Process::start(
            Command::new(program)
                .arg("-p")
                .arg(&folder)
                .arg("-c")
                .arg(&config),
        );
        until("nginx answers", Duration::from_secs(10), || {
            get(loopback(port), "/started")
        });
        Nginx { process, port, log }
    }

    /// Requests for `/` in the access log.
    pub fn served(&self) -> u64 {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter(|l| l.contains("\"GET / ")).count() as u64
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.process.signal("TERM");
        let _ = self.process.child.wait();
    }
}
