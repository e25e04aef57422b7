//! Clients of all protocols at once: HTTP/1.1 and HTTP/2, bare and under TLS, at a steady rate on kept connections.
#![allow(dead_code)] // each test binary uses its part

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time};
use tokio_rustls::{TlsConnector, rustls};

/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests at once on one HTTP/2 connection.
const STREAMS: usize = 4;
/// Connections of each kind.
const CONNECTIONS: [(Kind, usize); 4] = [(Kind::H1, 16), (Kind::H2, 4), (Kind::TlsH1, 16), (Kind::TlsH2, 4)];

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    H1,
    H2,
    TlsH1,
    TlsH2,
}

/// A proxy's two listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
}

/// Whom clients trust and whom they ask for.
#[derive(Clone)]
pub struct Trust {
    pub roots: rustls::RootCertStore,
    pub name: &'static str,
}

/// Running clients.
pub struct Mixed {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    stop: AtomicBool,
    doors: Mutex<Vec<Door>>,
    turn: AtomicUsize,
    trust: Trust,
    tally: Mutex<Tally>,
}

/// What they have seen.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub sent: u64,
    /// Good answers by kind.
    pub good: BTreeMap<Kind, u64>,
    /// Connections made, the first ones among them.
    pub connections: u64,
    /// Requests sent a second time, on a new connection: the server is sure not to have begun them.
    pub again: u64,
    /// Whatever else happened to a request.
    pub failures: Vec<String>,
    /// Times of answers.
    pub took: Vec<Duration>,
}

impl Tally {
    /// The time within which this share of all answers came.
    pub fn within(&self, share: f64) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let at = (took.len() as f64 * share) as usize;
        took.get(at.min(took.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }

    pub fn answered(&self) -> u64 {
        self.good.values().sum()
    }
}

impl Mixed {
    /// So many requests a second, a quarter of them of each kind.
    pub fn start(doors: &[Door], trust: Trust, rate: f64) -> Mixed {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            doors: Mutex::new(doors.to_vec()),
            turn: AtomicUsize::new(0),
            trust,
            tally: Mutex::default(),
        });
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || run(&shared, rate)
        });
        Mixed { shared, thread }
    }

    /// Where new connections may go from now on; old ones stay until their server ends them.
    pub fn lead_to(&self, doors: &[Door]) {
        *self.shared.doors.lock().unwrap() = doors.to_vec();
    }

    pub fn seen(&self) -> Tally {
        self.shared.tally.lock().unwrap().clone()
    }

    /// Ends, with the last answers.
    pub fn stop(self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.shared.tally.lock().unwrap().clone()
    }
}

fn run(shared: &Arc<Shared>, rate: f64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut clients = tokio::task::JoinSet::new();
        for (kind, count) in CONNECTIONS {
            let streams = if matches!(kind, Kind::H2 | Kind::TlsH2) {
                STREAMS
            } else {
                1
            };
            let pause = Duration::from_secs_f64((count * streams) as f64 / (rate / 4.0));
            for i in 0..count {
                let offset = pause.mul_f64(i as f64 / count as f64);
                clients.spawn(visit(shared.clone(), kind, streams, pause, offset));
            }
        }
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
    });
}

/// One connection's requests, `streams` at once each time.
async fn visit(shared: Arc<Shared>, kind: Kind, streams: usize, pause: Duration, offset: Duration) {
    time::sleep(offset).await;
    let mut ticks = time::interval(pause);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Burst);
    let mut sender = None;
    while !shared.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let begun = Instant::now();
        let mut outcome = send(&shared, kind, &mut sender, streams).await;
        let unsent = outcome.iter().filter(|o| **o == Err(Lost::Unsent)).count();
        if unsent > 0 {
            outcome.retain(|o| *o != Err(Lost::Unsent));
            sender = None;
            outcome.extend(send(&shared, kind, &mut sender, unsent).await);
        }
        let mut tally = shared.tally.lock().unwrap();
        tally.again += unsent as u64;
        for one in outcome {
            tally.sent += 1;
            match one {
                Ok(()) => {
                    *tally.good.entry(kind).or_default() += 1;
                    tally.took.push(begun.elapsed());
                }
                Err(why) => {
                    tally.failures.push(format!("{kind:?}: {why:?}"));
                    sender = None;
                }
            }
        }
    }
}

/// Why a request has no good answer.
#[derive(Debug, PartialEq)]
enum Lost {
    /// The server is sure not to have begun it, and the client sends it again on a new connection, as every pool does;
    /// once only. Either the connection ended after it was found ready and before a byte of the request was written, or
    /// its stream is beyond the last one that a GOAWAY without an error names (RFC 9113, 6.8).
    Unsent,
    Failed(String),
}

#[derive(Clone)]
enum Sender {
    H1(Arc<tokio::sync::Mutex<conn::http1::SendRequest<Empty<Bytes>>>>),
    H2(conn::http2::SendRequest<Empty<Bytes>>),
}

/// So many requests at once, on the connection that there is or on a new one.
async fn send(
    shared: &Shared,
    kind: Kind,
    sender: &mut Option<Sender>,
    streams: usize,
) -> Vec<Result<(), Lost>> {
    match ready(shared, kind, sender).await {
        Ok(sender) => ask(sender, shared, streams).await,
        Err(e) => vec![Err(Lost::Failed(format!("cannot connect: {e}")))],
    }
}

/// The connection, if it can take another request; else a new one, as every client makes.
async fn ready<'a>(shared: &Shared, kind: Kind, sender: &'a mut Option<Sender>) -> io::Result<&'a Sender> {
    let open = match sender {
        Some(Sender::H1(s)) => s.lock().await.ready().await.is_ok(),
        Some(Sender::H2(s)) => s.ready().await.is_ok(),
        None => false,
    };
    if !open {
        *sender = Some(connect(shared, kind).await?);
        shared.tally.lock().unwrap().connections += 1;
    }
    sender.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

async fn connect(shared: &Shared, kind: Kind) -> io::Result<Sender> {
    let door = {
        let doors = shared.doors.lock().unwrap();
        doors[shared.turn.fetch_add(1, Ordering::Relaxed) % doors.len()]
    };
    let bare = matches!(kind, Kind::H1 | Kind::H2);
    let stream = TcpStream::connect(if bare { door.plain } else { door.tls }).await?;
    stream.set_nodelay(true)?;
    if bare {
        return handshake(stream, kind == Kind::H2).await;
    }
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(shared.trust.roots.clone())
            .with_no_client_auth();
    let wanted: &[u8] = if kind == Kind::TlsH2 { b"h2" } else { b"http/1.1" };
    config.alpn_protocols = vec![wanted.to_vec()];
    let name = rustls::pki_types::ServerName::try_from(shared.trust.name).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let agreed = stream.get_ref().1.alpn_protocol();
    if agreed != Some(wanted) {
        return Err(io::Error::other(format!(
            "wanted {wanted:?} by ALPN and got {agreed:?}"
        )));
    }
    handshake(stream, kind == Kind::TlsH2).await
}

async fn handshake(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    h2: bool,
) -> io::Result<Sender> {
    let stream = TokioIo::new(stream);
    if h2 {
        let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), stream)
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        return Ok(Sender::H2(sender));
    }
    let (sender, connection) = conn::http1::handshake(stream).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(Sender::H1(Arc::new(tokio::sync::Mutex::new(sender))))
}

async fn ask(sender: &Sender, shared: &Shared, streams: usize) -> Vec<Result<(), Lost>> {
    let all = (0..streams).map(|_| async {
        match time::timeout(PATIENCE, one(sender.clone(), shared.trust.name)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Lost::Failed("no answer in time".to_owned())),
        }
    });
    futures_util::future::join_all(all).await
}

async fn one(sender: Sender, host: &str) -> Result<(), Lost> {
    let answer: Response<Incoming> = match sender {
        Sender::H1(s) => {
            let request = Request::get("/").header("host", host).body(Empty::new()).unwrap();
            s.lock().await.try_send_request(request).await.map_err(lost)?
        }
        Sender::H2(mut s) => {
            let request = Request::get(format!("http://{host}/"))
                .body(Empty::new())
                .unwrap();
            s.try_send_request(request).await.map_err(lost)?
        }
    };
    let status = answer.status();
    let body = answer.into_body().collect().await;
    let body = body.map_err(|e| Lost::Failed(format!("{e:?}")))?.to_bytes();
    if status != 200 || !body.starts_with(b"version: ") {
        let text = String::from_utf8_lossy(&body);
        return Err(Lost::Failed(format!("{status}: {text}")));
    }
    Ok(())
}

fn lost<T>(mut e: conn::TrySendError<T>) -> Lost {
    if e.take_message().is_some() {
        return Lost::Unsent;
    }
    let e = e.into_error();
    // h2 ends no other streams with this error: those that the server has begun go on, or break with the socket's error.
    let reason = std::error::Error::source(&e).map(|h2| format!("{h2:?}"));
    match reason.as_deref() {
        Some(r#"Error { kind: GoAway(b"", NO_ERROR, Remote) }"#) => Lost::Unsent,
        _ => Lost::Failed(format!("{e:?}")),
    }
}
