//! Scripted backends, a plain client and a proxy, all on real sockets.

use proxy::{Options, Running};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub const TOKEN: &str = "let-me-in";

/// One message as it came over a socket.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, v)| v.as_str())
    }

    pub fn status(&self) -> u16 {
        self.start
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .unwrap_or(0)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection read line by line.
pub struct Wire {
    reader: BufReader<TcpStream>,
}

impl Wire {
    /// Gives back every octet until there are no more; then says goodbye.
    pub fn echo(&mut self) {
        let mut buf = vec![0; 65_536];
        while let Ok(n @ 1..) = self.read(&mut buf) {
            if self.stream().write_all(&buf[..n]).is_err() {
                return;
            }
        }
        let _ = self.stream().write_all(b"bye");
    }

    pub fn new(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Wire {
            reader: BufReader::with_capacity(256 * 1024, stream),
        }
    }

    pub fn connect(address: SocketAddr) -> Wire {
        Wire::new(TcpStream::connect(address).unwrap())
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        self.reader.get_mut()
    }

    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream().write_all(text.as_ref()).unwrap();
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        Some(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn fields(&mut self) -> Option<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(fields);
            }
            let (n, v) = line.split_once(':')?;
            fields.push((n.to_owned(), v.trim().to_owned()));
        }
    }

    /// One message, if a whole one comes. `bodyless`: an answer to HEAD.
    pub fn message(&mut self, bodyless: bool) -> Option<Message> {
        let start = self.line()?;
        let headers = self.fields()?;
        let mut m = Message {
            start,
            headers,
            ..Message::default()
        };
        if bodyless || [204, 304].contains(&m.status()) {
            return Some(m);
        }
        if m.header("transfer-encoding").is_some() {
            self.chunks(&mut m)?;
        } else if let Some(n) = m.header("content-length") {
            m.body = vec![0; n.parse().unwrap()];
            self.reader.read_exact(&mut m.body).ok()?;
        } else if m.start.starts_with("HTTP/") {
            self.reader.read_to_end(&mut m.body).ok()?;
        }
        Some(m)
    }

    fn chunks(&mut self, m: &mut Message) -> Option<()> {
        loop {
            let n = usize::from_str_radix(self.line()?.split(';').next()?, 16).ok()?;
            if n == 0 {
                m.trailers = self.fields()?;
                return Some(());
            }
            let at = m.body.len();
            m.body.resize(at + n, 0);
            self.reader.read_exact(&mut m.body[at..]).ok()?;
            self.line()?;
        }
    }

    pub fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.reader.read(buf)
    }

    /// Reads so many octets away.
    pub fn skip(&mut self, mut n: usize) {
        let mut buf = vec![0; 65_536];
        while n > 0 {
            let most = n.min(buf.len());
            n -= self.reader.read(&mut buf[..most]).expect("more to skip");
        }
    }

    pub fn head(&mut self) -> Option<Message> {
        let start = self.line()?;
        let headers = self.fields()?;
        Some(Message {
            start,
            headers,
            ..Message::default()
        })
    }

    pub fn ask(&mut self, request: &str) -> Message {
        self.send(request);
        self.message(request.starts_with("HEAD")).expect("an answer")
    }

    pub fn get(&mut self, path: &str, headers: &[&str]) -> Message {
        let lines: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n"))
    }

    /// Whether the other side has closed.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.reader.fill_buf(), Ok([]) | Err(_))
    }
}

/// A backend that answers as its script says.
pub struct Backend {
    pub address: SocketAddr,
    pub hits: Arc<AtomicU64>,
    pub seen: Arc<Mutex<Vec<Message>>>,
}

impl Backend {
    /// Each connection is handed to `script`.
    pub fn raw(script: impl Fn(Wire) + Send + Sync + 'static) -> Backend {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Backend::on(listener, SocketAddr::from(([127, 0, 0, 1], port)), script)
    }

    fn on(
        listener: TcpListener,
        address: SocketAddr,
        script: impl Fn(Wire) + Send + Sync + 'static,
    ) -> Backend {
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let script = Arc::clone(&script);
                thread::spawn(move || script(Wire::new(stream)));
            }
        });
        Backend {
            address,
            hits: Arc::default(),
            seen: Arc::default(),
        }
    }

    /// Each whole request is answered with the octets that `script` gives; an empty answer closes.
    pub fn new(script: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static) -> Backend {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Backend::answering(listener, SocketAddr::from(([127, 0, 0, 1], port)), script)
    }

    /// Two early hints, and an answer 50 ms after them.
    pub fn hinting() -> Backend {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n";
        Backend::raw(move |mut wire| {
            while wire.message(false).is_some() {
                wire.send("HTTP/1.1 100 Continue\r\n\r\n");
                wire.send(hints);
                thread::sleep(Duration::from_millis(50));
                wire.send([hints.as_bytes(), &ok("S")].concat());
            }
        })
    }

    /// So many on one port, each at an address of its own, from 127.0.0.2 on; they say the last number of it, half a
    /// second late for `/slow`.
    pub fn on_one_port<const N: usize>() -> [Backend; N] {
        let all = (0..100).find_map(|_| {
            let first = TcpListener::bind("127.0.0.2:0").ok()?;
            let port = first.local_addr().ok()?.port();
            let mut all = vec![first];
            for n in 1..N as u8 {
                all.push(TcpListener::bind(SocketAddr::from(([127, 0, 0, 2 + n], port))).ok()?);
            }
            Some(all)
        });
        let each = all.expect("a port that is free at all addresses").into_iter();
        let each = each.map(|listener| {
            let address = listener.local_addr().unwrap();
            let name = address.ip().to_string();
            Backend::answering(listener, address, move |m| {
                if m.start.starts_with("GET /slow ") {
                    thread::sleep(Duration::from_millis(500));
                }
                ok(name.rsplit('.').next().unwrap())
            })
        });
        each.collect::<Vec<_>>().try_into().ok().unwrap()
    }

    fn answering(
        listener: TcpListener,
        address: SocketAddr,
        script: impl Fn(&Message) -> Vec<u8> + Send + Sync + 'static,
    ) -> Backend {
        let (hits, seen) = (Arc::<AtomicU64>::default(), Arc::<Mutex<Vec<Message>>>::default());
        let (h, s) = (Arc::clone(&hits), Arc::clone(&seen));
        let mut backend = Backend::on(listener, address, move |mut wire| {
            while let Some(request) = wire.message(false) {
                h.fetch_add(1, Ordering::SeqCst);
                let answer = script(&request);
                s.lock().unwrap().push(request);
                if answer.is_empty() || wire.stream().write_all(&answer).is_err() {
                    return;
                }
            }
        });
        (backend.hits, backend.seen) = (hits, seen);
        backend
    }

    /// Says its name to every request.
    pub fn named(name: &'static str) -> Backend {
        Backend::new(move |_| ok(name))
    }

    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }

    pub fn last(&self) -> Message {
        self.seen.lock().unwrap().last().cloned().unwrap()
    }
}

pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Closes with a reset instead of an end.
pub fn reset(mut wire: Wire) {
    let socket = socket2::SockRef::from(&*wire.stream());
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// A backend that resets each connection after a request.
pub fn resetting() -> Backend {
    Backend::raw(|mut wire| {
        wire.message(false);
        reset(wire);
    })
}

/// A backend that takes requests and never answers, for as long as the connection stands.
pub fn hanging() -> Backend {
    Backend::raw(|mut wire| {
        wire.message(false);
        while !wire.is_closed() {}
    })
}

/// An address where nobody listens: taken for as long as the process lives, or another test would begin to listen there.
pub fn nobody() -> SocketAddr {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}

/// A proxy with its file.
pub struct World {
    pub running: Running,
    pub file: PathBuf,
}

/// What a test's file says.
#[derive(Clone)]
pub struct Plan {
    pub proxy: String,
    pub services: String,
}

/// A proxy before one backend, with a line of `[proxy]`.
pub fn before(backend: &Backend, line: &str) -> World {
    Plan::new()
        .set(line)
        .service("echo", &[backend.address], &[], &[])
        .start()
}

impl Plan {
    pub fn new() -> Plan {
        Plan {
            proxy: "workers = 1\ndrainGrace = \"100ms\"\n".into(),
            services: String::new(),
        }
    }

    pub fn set(mut self, line: &str) -> Plan {
        self.proxy += line;
        self.proxy.push('\n');
        self
    }

    pub fn service(
        mut self,
        name: &str,
        stable: &[SocketAddr],
        canary: &[SocketAddr],
        lines: &[(&str, &str)],
    ) -> Plan {
        let list = |a: &[SocketAddr]| format!("{:?}", a.iter().map(ToString::to_string).collect::<Vec<_>>());
        self.services += &format!(
            "[[service]]\nname = \"{name}\"\nstable.endpoints = {}\ncanary.endpoints = {}\n",
            list(stable),
            list(canary)
        );
        for (key, value) in lines {
            if *key == "protocol" {
                self.services += &format!("stable.protocol = \"{value}\"\ncanary.protocol = \"{value}\"\n");
            }
            if *key == "hosts" {
                self.services += &format!("hosts = [\"{value}\"]\n");
            }
        }
        self.services += "[service.annotations]\n";
        for (key, value) in lines.iter().filter(|(k, _)| !["hosts", "protocol"].contains(k)) {
            self.services += &format!("\"serin.dev/{key}\" = '{value}'\n");
        }
        self
    }

    /// Lines of the last service's `[service.resilience]`.
    pub fn resilience(mut self, lines: &str) -> Plan {
        self.services += &format!("[service.resilience]\n{lines}\n");
        self
    }

    pub fn text(&self) -> String {
        format!(
            "[proxy]\nlisten = \"127.0.0.1:0\"\nsignals = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n{}{}",
            self.proxy, self.services
        )
    }

    pub fn start(self) -> World {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let n = NUMBER.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("serin-proxy-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("serin.toml");
        std::fs::write(&file, self.text()).unwrap();
        let mut options = Options::new(&file, TOKEN);
        options.cache = Some(folder.join("cache"));
        World {
            running: proxy::start(options).unwrap(),
            file,
        }
    }
}

/// A stable, a canary, and these annotations.
pub fn pair(stable: &Backend, canary: &Backend, lines: &[(&str, &str)]) -> World {
    Plan::new()
        .service("echo", &[stable.address], &[canary.address], lines)
        .start()
}

impl World {
    pub fn client(&self) -> Wire {
        Wire::connect(self.running.addresses().listen)
    }

    pub fn signals(&self, path: &str) -> Message {
        Wire::connect(self.running.addresses().signals).get(path, &[])
    }

    /// An admin call with the token.
    pub fn call(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Message {
        let lines: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
        let n = body.len();
        Wire::connect(self.running.addresses().admin).ask(&format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {n}\r\n{lines}\r\n{body}"
        ))
    }

    pub fn annotate(&self, service: &str, key: &str, value: &str) -> Message {
        let body = format!("{{\"serin.dev/{key}\": {value:?}}}");
        self.call("PATCH", &format!("/services/{service}/annotations"), &[], &body)
    }

    /// The value of a metric whose line holds all of these.
    pub fn metric(&self, parts: &[&str]) -> f64 {
        let text = self.running.metrics();
        let lines = text
            .lines()
            .filter(|l| !l.starts_with('#') && parts.iter().all(|p| l.contains(p)));
        lines
            .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Sums of a track over all cohorts: started, finished, bad, cancelled.
    pub fn tally(&self, service: &str, track: usize) -> [u64; 4] {
        let page = self.running.evidence(0);
        page.services[service].cohorts.iter().fold([0; 4], |s, c| {
            let t = &c.tracks[track];
            [
                s[0] + t.started,
                s[1] + t.finished,
                s[2] + t.bad.ever,
                s[3] + t.cancelled,
            ]
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(folder) = self.file.parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Waits until it holds, at most five seconds.
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(5), "not in 5 s: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
