//! The worker threads: each with its own runtime, its own listener on the same port, its own everything.

use crate::{
    clock::{Alarm, TICK},
    entropy,
    error::Failure,
    front::{self, Entrance},
    meter,
    overload::Lateness,
    shared::{Phase, Shared},
    ticker::Ticker,
    worker::Worker,
};
use rand::{SeedableRng, rngs::SmallRng};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    future::poll_fn,
    io,
    net::{SocketAddr, TcpListener as Plain},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, LocalOptions, LocalRuntime},
};

/// Connections that the kernel holds for us.
const BACKLOG: i32 = 4096;
/// How often idle backend connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// Pause after an accept failed: most such failures are a lack of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// As many listeners on one address; port 0 becomes one free port for all.
///
/// # Errors
/// Those of the sockets.
pub fn listeners(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<Plain>)> {
    probe(address)?;
    let first = listener(address)?;
    let bound = first.local_addr()?;
    let mut all = vec![first];
    for _ in 1..count {
        all.push(listener(bound)?);
    }
    Ok((bound, all))
}

/// Whether anybody listens there. Sockets that share a port would let another process of the same user in silently,
/// and each of the two would get half of the connections.
fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

fn listener(address: SocketAddr) -> io::Result<Plain> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The listeners of one worker.
#[derive(Debug)]
pub struct Doors<L> {
    /// Without TLS.
    pub plain: L,
    /// With TLS, if it is spoken.
    pub tls: Option<L>,
}

/// Starts one worker.
///
/// # Errors
/// When the thread or its runtime cannot be made.
pub fn start(number: usize, shared: Arc<Shared>, doors: Doors<Plain>) -> io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread();
    thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || match local(runtime) {
            Ok(runtime) => runtime.block_on(run(number, shared, doors)),
            Err(e) => tracing::error!("worker {number} has no runtime: {e}"),
        })
}

fn local(mut runtime: Builder) -> io::Result<LocalRuntime> {
    runtime.enable_all().build_local(LocalOptions::default())
}

async fn run(number: usize, shared: Arc<Shared>, doors: Doors<Plain>) {
    let random = SmallRng::seed_from_u64(entropy::bits());
    let worker = Rc::new(Worker::new(number, shared, random));
    let Ok(doors) = doors.open() else {
        tracing::error!("worker {number} cannot use its listener");
        return;
    };
    let beat = match Ticker::new(TICK) {
        Ok(beat) => beat,
        Err(e) => return tracing::error!("worker {number} has no clock: {e}; raise the limit of open files"),
    };
    let ticker = tokio::task::spawn_local(tick(Rc::clone(&worker), beat));
    accept(&worker, doors).await;
    rest(&worker).await;
    ticker.abort();
}

/// Moves the clock on, and tells everybody when the end begins.
async fn tick(worker: Rc<Worker>, beat: Ticker) {
    let birth = Instant::now();
    let (mut swept, mut phase) = (birth, Phase::Serving);
    let target = worker.settings.limits.shed_lateness.duration();
    let mut lateness = Lateness::new(target, birth);
    loop {
        let late = match beat.tick().await {
            Ok(late) => late,
            Err(e) => {
                tracing::error!("a clock fails: {e}");
                tokio::time::sleep(TICK).await;
                Duration::ZERO
            }
        };
        if let Some(share) = lateness.tick(late, Instant::now()) {
            worker.gate.refuse(share);
        }
        worker
            .clock
            .advance((birth.elapsed().as_millis() / TICK.as_millis()) as u64);
        if phase != worker.shared.phase() {
            phase = worker.shared.phase();
            worker.clock.wake_all();
        }
        if swept.elapsed() > SWEEP {
            swept = Instant::now();
            worker.sweep();
        }
    }
}

/// Accepts until the listener is to be closed, and then what the kernel has accepted for us.
async fn accept(worker: &Rc<Worker>, doors: Doors<TcpListener>) {
    let alarm = worker.clock.alarm();
    while let Some(accepted) = poll_fn(|cx| poll_accept(worker, &doors, &alarm, cx)).await {
        match accepted {
            Ok((stream, peer, entrance)) => welcome(worker, stream, peer, entrance),
            Err(e) => {
                tracing::warn!(
                    "a connection could not be accepted: {e}; raise the limit of open files if this goes on"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

type Accepted = io::Result<(TcpStream, SocketAddr, Entrance)>;

fn poll_accept(
    worker: &Worker,
    doors: &Doors<TcpListener>,
    alarm: &Alarm,
    cx: &mut Context<'_>,
) -> Poll<Option<Accepted>> {
    if let Poll::Ready(accepted) = doors.poll_accept(cx) {
        return Poll::Ready(Some(accepted));
    }
    let _ = alarm.rings(cx);
    if worker.is_closing() {
        Poll::Ready(None)
    } else {
        Poll::Pending
    }
}

impl Doors<Plain> {
    fn open(self) -> io::Result<Doors<TcpListener>> {
        Ok(Doors {
            plain: TcpListener::from_std(self.plain)?,
            tls: self.tls.map(TcpListener::from_std).transpose()?,
        })
    }
}

impl Doors<TcpListener> {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Accepted> {
        if let Poll::Ready(accepted) = self.plain.poll_accept(cx) {
            return Poll::Ready(accepted.map(|(s, peer)| (s, peer, Entrance::Plain)));
        }
        match &self.tls {
            Some(tls) => tls.poll_accept(cx).map_ok(|(s, peer)| (s, peer, Entrance::Tls)),
            None => Poll::Pending,
        }
    }
}

/// Begins to serve a connection, if there is room.
fn welcome(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, entrance: Entrance) {
    let shared = &worker.shared;
    let before = shared.connections.fetch_add(1, Ordering::Relaxed);
    let guest = Guest::new(worker);
    if before >= worker.settings.max_connections as u64 {
        meter::add_shared(&shared.strays[Failure::Overload.index()]);
        if entrance == Entrance::Plain {
            let _ = stream.try_write(OVERLOAD);
        }
        return;
    }
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let _guest = guest;
        if stream.set_nodelay(true).is_ok() {
            front::serve(worker, stream, peer.ip(), entrance).await;
        }
    });
}

/// Said to who finds no room.
const OVERLOAD: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nx-serin-error: overload\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 53\r\n\r\nserin: too many connections; try again after a while\n";

/// Counts a connection while it lives.
struct Guest(Rc<Worker>);

impl Guest {
    fn new(worker: &Rc<Worker>) -> Guest {
        worker.connections.set(worker.connections.get() + 1);
        Guest(Rc::clone(worker))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits for the connections that are left, until the deadline.
async fn rest(worker: &Worker) {
    while worker.connections.get() > 0 && worker.shared.phase() != Phase::Ended {
        tokio::time::sleep(TICK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overload_answer_is_as_long_as_it_says() {
        let text = std::str::from_utf8(OVERLOAD).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            text.contains(&format!("content-length: {}\r\n", body.len())),
            "{}",
            body.len()
        );
    }

    #[test]
    fn workers_share_one_free_port() {
        let (address, all) = listeners(([127, 0, 0, 1], 0).into(), 3).unwrap();
        assert_ne!(address.port(), 0);
        assert!(all.iter().all(|l| l.local_addr().unwrap() == address));
    }
}
