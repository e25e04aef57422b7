//! A proxy with one worker, a backend that counts, and an honest client that may notice nothing.

use crate::support::{Run, file, free_ports, get};
use socket2::{Domain, Socket, Type};
use std::{
    collections::HashMap,
    fmt, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

/// Between two requests of the honest client.
const PAUSE: Duration = Duration::from_millis(5);
/// The honest client must be answered within this at the 99th percentile, however busy the machine is.
const SLOW: Duration = Duration::from_secs(2);

static SMALL: LazyLock<Vec<u8>> = LazyLock::new(|| text(2));
static LARGE: LazyLock<Vec<u8>> = LazyLock::new(|| text(1 << 20));
/// More than the kernel keeps for anybody.
static HUGE: LazyLock<Vec<u8>> = LazyLock::new(|| text(32 << 20));

/// An answer with a body of this length.
fn text(length: usize) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    text.resize(text.len() + length, b'x');
    text
}

/// Requests by path: begun, and open still.
#[derive(Default)]
pub struct Backend {
    begun: AtomicU64,
    open: Mutex<HashMap<String, u64>>,
}

impl Backend {
    fn start(port: u16) -> Arc<Backend> {
        let backend = Arc::<Backend>::default();
        // A thousand may come at once: a full backlog drops, and who was dropped tries again after a second.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&crate::support::loopback(port).into()).unwrap();
        socket.listen(4096).unwrap();
        let listener = TcpListener::from(socket);
        let mine = Arc::clone(&backend);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let backend = Arc::clone(&mine);
                thread::Builder::new()
                    .stack_size(128 << 10)
                    .spawn(move || drop(backend.serve(stream)))
                    .unwrap();
            }
        });
        backend
    }

    /// Requests of attackers that have begun.
    pub fn attacks(&self) -> u64 {
        self.begun.load(SeqCst)
    }

    /// Requests for a path that are open.
    pub fn open(&self, path: &str) -> u64 {
        let open = self.open.lock().unwrap();
        open.iter()
            .filter(|(p, _)| p.starts_with(path))
            .map(|(_, n)| n)
            .sum()
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut from = BufReader::new(stream);
        loop {
            let Some((path, chunked, length)) = head(&mut from)? else {
                return Ok(());
            };
            if path.starts_with("/attack") {
                self.begun.fetch_add(1, SeqCst);
            }
            *self.open.lock().unwrap().entry(path.clone()).or_default() += 1;
            let done = answer(&mut from, &path, chunked, length);
            *self.open.lock().unwrap().entry(path).or_default() -= 1;
            done?;
        }
    }
}

type Head = Option<(String, bool, usize)>;

/// Path, whether the body is chunked, its length.
fn head(from: &mut impl BufRead) -> std::io::Result<Head> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut chunked, mut length) = (false, 0);
    loop {
        line.clear();
        if from.read_line(&mut line)? <= 2 {
            return Ok(Some((path, chunked, length)));
        }
        let lower = line.trim_end().to_ascii_lowercase();
        chunked |= lower == "transfer-encoding: chunked";
        if let Some(n) = lower.strip_prefix("content-length: ") {
            length = n.parse().unwrap();
        }
    }
}

fn answer(from: &mut BufReader<TcpStream>, path: &str, chunked: bool, length: usize) -> std::io::Result<()> {
    if chunked {
        skip_chunks(from)?;
    }
    std::io::copy(&mut from.by_ref().take(length as u64), &mut std::io::sink())?;
    if path.ends_with("stuck") {
        // Until the proxy gives up.
        from.get_mut().read_exact(&mut [0])?;
    }
    if path.ends_with("slow") {
        thread::sleep(Duration::from_millis(300));
    }
    match path.rsplit('/').next() {
        Some("large") => from.get_mut().write_all(&LARGE),
        Some("huge") => from.get_mut().write_all(&HUGE),
        _ => from.get_mut().write_all(&SMALL),
    }
}

fn skip_chunks(from: &mut impl BufRead) -> std::io::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let n = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
        std::io::copy(&mut from.by_ref().take(n + 2), &mut std::io::sink())?;
        if n == 0 {
            return Ok(());
        }
    }
}

/// All of it.
pub struct Scene {
    pub run: Run,
    pub backend: Arc<Backend>,
}

impl Scene {
    /// `lines` go into the file's proxy table.
    pub fn new(lines: &str) -> Scene {
        let [origin, a, b, c] = free_ports();
        let backend = Backend::start(origin);
        let text = file([a, b, c], 1, &[origin], &[], &[], "");
        let text = text.replacen("\n[controller]", &format!("{lines}\n[controller]"), 1);
        Scene {
            run: Run::start([a, b, c], &text),
            backend,
        }
    }

    /// What happens to the proxy and to an honest client while something is done.
    pub fn during<T>(&self, harm: impl FnOnce() -> T) -> (Sight, T) {
        let pid = self.run.process.pid();
        let stop = Arc::new(AtomicBool::new(false));
        let honest = {
            let (to, stop) = (self.run.listen, Arc::clone(&stop));
            thread::spawn(move || visit(to, &stop))
        };
        let (attacks, memory, cpu) = (self.backend.attacks(), memory(pid), cpu(pid));
        // The highest mark begins anew.
        fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
        let begun = Instant::now();
        let done = harm();
        let took = begun.elapsed();
        stop.store(true, SeqCst);
        let (latencies, failures) = honest.join().unwrap();
        let sight = Sight {
            took,
            memory,
            peak: peak(pid),
            cpu: self::cpu(pid) - cpu,
            attacks: self.backend.attacks() - attacks,
            latencies,
            failures,
        };
        (sight, done)
    }

    /// Requests under way, by the proxy's own count.
    pub fn inflight(&self) -> f64 {
        self.metric("serin_inflight")
    }

    /// What the proxy holds now.
    pub fn memory(&self) -> u64 {
        memory(self.run.process.pid())
    }

    /// The sum of the lines that hold this.
    pub fn metric(&self, part: &str) -> f64 {
        let text = get(self.run.signals, "/metrics").unwrap().body;
        let lines = text.lines().filter(|l| !l.starts_with('#') && l.contains(part));
        lines
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// What was seen meanwhile.
pub struct Sight {
    took: Duration,
    memory: u64,
    peak: u64,
    cpu: Duration,
    /// Requests of attackers that reached the backend.
    pub attacks: u64,
    latencies: Vec<Duration>,
    failures: u64,
}

impl Sight {
    /// Nothing was lost, and no more was held than this.
    pub fn check(&self, memory: u64) {
        assert_eq!(self.failures, 0, "the honest client lost requests: {self}");
        assert!(self.percentile(99) < SLOW, "the honest client waited: {self}");
        assert!(
            self.peak.saturating_sub(self.memory) <= memory,
            "too much is held: {self}"
        );
    }

    fn percentile(&self, p: usize) -> Duration {
        let at = (self.latencies.len() * p / 100).min(self.latencies.len() - 1);
        self.latencies[at]
    }
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} s, memory {:.1} MiB + {:.1}, CPU {:.2} s, {} attacking requests at the backend, honest client: {} answers, {} failures, p50 {:.1} ms, p99 {:.1} ms",
            self.took.as_secs_f64(),
            self.memory as f64 / 1048576.0,
            self.peak.saturating_sub(self.memory) as f64 / 1048576.0,
            self.cpu.as_secs_f64(),
            self.attacks,
            self.latencies.len(),
            self.failures,
            self.percentile(50).as_secs_f64() * 1e3,
            self.percentile(99).as_secs_f64() * 1e3,
        )
    }
}

/// Sorted times of the answers, and how many requests failed.
fn visit(to: std::net::SocketAddr, stop: &AtomicBool) -> (Vec<Duration>, u64) {
    let mut latencies = Vec::new();
    let mut failures = 0;
    let mut connection = BufReader::new(TcpStream::connect(to).unwrap());
    let patience = Some(Duration::from_secs(10));
    connection.get_ref().set_read_timeout(patience).unwrap();
    connection.get_ref().set_nodelay(true).unwrap();
    while !stop.load(SeqCst) || latencies.is_empty() && failures == 0 {
        let begun = Instant::now();
        match ask(&mut connection) {
            Some(()) => latencies.push(begun.elapsed()),
            None => {
                failures += 1;
                connection = BufReader::new(TcpStream::connect(to).unwrap());
                connection.get_ref().set_read_timeout(patience).unwrap();
            }
        }
        thread::sleep(PAUSE);
    }
    latencies.sort_unstable();
    (latencies, failures)
}

fn ask(connection: &mut BufReader<TcpStream>) -> Option<()> {
    let request = b"GET /honest HTTP/1.1\r\nHost: a\r\n\r\n";
    connection.get_mut().write_all(request).ok()?;
    let mut line = String::new();
    connection.read_line(&mut line).ok()?;
    if !line.starts_with("HTTP/1.1 200") {
        return None;
    }
    while line.len() > 2 {
        line.clear();
        connection.read_line(&mut line).ok().filter(|n| *n > 0)?;
    }
    connection.read_exact(&mut [0; 2]).ok()
}

fn memory(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

fn peak(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

fn status(pid: u32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

/// User and system time so far.
fn cpu(pid: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = text.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|f| f.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}
