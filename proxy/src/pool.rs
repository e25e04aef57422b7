//! The endpoints of a track on one worker: idle connections, load, and whether they can be reached.

use crate::{
    dial,
    evidence::pods::{Lap, Pod},
    multiplex::Links,
    socket::Socket,
    wire::{
        body::{Decoder, Framing, Step},
        response::Head,
    },
};
use bytes::Bytes;
use contract::backends::AppProtocol;
use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// Idle connections that one worker keeps to one endpoint.
const IDLE: usize = 256;
/// How long an idle connection is kept: below the usual keep-alive times of servers.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// How long an endpoint is left alone after its first failed connection; doubled with each further one.
const DOWN_FIRST: Duration = Duration::from_secs(1);
/// The longest such time.
const DOWN_LONGEST: Duration = Duration::from_secs(30);

/// One endpoint on one worker.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: AppProtocol,
    /// Its connections that many requests share.
    pub links: Links,
    pod: Arc<Pod>,
    worker: usize,
    idle: RefCell<Vec<Idle>>,
    busy: Cell<u32>,
    failures: Cell<u32>,
    down_until: Cell<Option<Instant>>,
}

#[derive(Debug)]
struct Idle {
    stream: Socket,
    since: Instant,
}

/// A connection in use; its endpoint counts it as busy until it is dropped.
#[derive(Debug)]
pub struct Lease {
    /// The socket.
    pub stream: Socket,
    /// What was read and belongs to the next part of the answer.
    pub rest: Bytes,
    /// Whether it has served a request before.
    pub reused: bool,
    busy: Busy,
}

/// Counts as load on its endpoint while it lives.
#[derive(Debug)]
pub struct Busy(Rc<Endpoint>);

impl Endpoint {
    /// An endpoint without connections, on this worker.
    pub fn new(pod: Arc<Pod>, protocol: AppProtocol, worker: usize) -> Endpoint {
        Endpoint {
            address: pod.address,
            protocol,
            links: Links::default(),
            pod,
            worker,
            idle: RefCell::default(),
            busy: Cell::new(0),
            failures: Cell::new(0),
            down_until: Cell::new(None),
        }
    }

    /// These endpoints on this worker: those that are known already, with their connections, and new ones.
    pub fn for_all(
        pods: &[Arc<Pod>],
        protocol: AppProtocol,
        worker: usize,
        known: &[Rc<Endpoint>],
    ) -> Vec<Rc<Endpoint>> {
        let is = |e: &Endpoint, p| Arc::ptr_eq(&e.pod, p) && e.protocol == protocol;
        let find = |p| known.iter().find(|e| is(e, p)).map(Rc::clone);
        let new = |p| Rc::new(Endpoint::new(Arc::clone(p), protocol, worker));
        pods.iter().map(|p| find(p).unwrap_or_else(|| new(p))).collect()
    }

    /// Its slice, while it serves stable beside others.
    pub fn slice(&self) -> Option<u8> {
        self.pod.slice()
    }

    /// What this worker counts of it.
    pub fn lap(&self) -> Option<&Lap> {
        self.pod.lap(self.worker)
    }

    /// Requests under way.
    pub fn load(&self) -> u32 {
        self.busy.get()
    }

    /// Whether it may be tried now.
    pub fn is_up(&self) -> bool {
        // Without a failure the clock is not read.
        self.down_until.get().is_none_or(|until| until <= Instant::now())
    }

    /// Counts a request that goes there.
    pub fn occupy(self: &Rc<Endpoint>) -> Busy {
        self.busy.set(self.busy.get() + 1);
        Busy(Rc::clone(self))
    }

    fn failed(&self) {
        let times = self.failures.get().min(8);
        self.failures.set(times + 1);
        let pause = (DOWN_FIRST * 2u32.pow(times)).min(DOWN_LONGEST);
        self.down_until.set(Some(Instant::now() + pause));
    }

    fn recovered(&self) {
        self.failures.set(0);
        self.down_until.set(None);
    }

    /// Closes what has been idle for too long.
    pub fn sweep(&self, now: Instant) {
        self.idle
            .borrow_mut()
            .retain(|i| now.duration_since(i.since) < IDLE_TIME);
        self.links.sweep(now);
    }
}

impl Busy {
    /// Where.
    pub fn endpoint(&self) -> &Rc<Endpoint> {
        &self.0
    }

    /// An idle connection that its endpoint has not closed, the most recently used first.
    pub fn reuse(self) -> Result<Lease, Busy> {
        loop {
            let Some(idle) = self.0.idle.borrow_mut().pop() else {
                return Err(self);
            };
            if is_quiet(idle.stream.tcp()) {
                return Ok(Lease {
                    stream: idle.stream,
                    rest: Bytes::new(),
                    reused: true,
                    busy: self,
                });
            }
        }
    }

    /// A new connection. A failure keeps others away from the endpoint for a while.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn connect(self) -> io::Result<Lease> {
        match dial::dial(&self.0).await {
            Ok(stream) => {
                self.0.recovered();
                Ok(Lease {
                    stream,
                    rest: Bytes::new(),
                    reused: false,
                    busy: self,
                })
            }
            Err(e) => {
                self.0.failed();
                Err(e)
            }
        }
    }

    /// The endpoint did not take a connection in time.
    pub fn timed_out(endpoint: &Endpoint) {
        endpoint.failed();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get().saturating_sub(1));
    }
}

/// Whether nothing has come on an idle connection: an octet or an end would make it useless. No system call while
/// the runtime has seen no event.
fn is_quiet(stream: &TcpStream) -> bool {
    let ready = pin!(stream.readable()).poll(&mut Context::from_waker(Waker::noop()));
    match ready {
        Poll::Pending => true,
        Poll::Ready(_) => {
            let read = stream.try_read(&mut [0]);
            matches!(read, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
        }
    }
}

impl Lease {
    /// Which endpoint.
    pub fn endpoint(&self) -> &Rc<Endpoint> {
        &self.busy.0
    }

    /// Gives up an answer whose head was read. The connection is kept only when all of it is there already: to wait for
    /// the rest of what nobody wants would hold up whoever needs the connection.
    pub fn discard(mut self, head: &Head) {
        let mut decoder = Decoder::new(head.framing);
        while !decoder.is_done() {
            match decoder.decode(&mut self.rest) {
                Ok(Step::Data(_)) => {}
                Ok(Step::End(_)) => break,
                _ => return,
            }
        }
        if head.keep_alive && head.framing != Framing::Close {
            self.release();
        }
    }

    /// The socket, for who shares it from now on, and the place of the one request.
    pub fn into_parts(self) -> (Socket, Busy) {
        (self.stream, self.busy)
    }

    /// Gives the connection back; only after a whole answer, and when the backend goes on with it.
    pub fn release(self) {
        if !self.rest.is_empty() {
            return;
        }
        let mut idle = self.busy.0.idle.borrow_mut();
        if idle.len() < IDLE {
            idle.push(Idle {
                stream: self.stream,
                since: Instant::now(),
            });
        }
    }
}
