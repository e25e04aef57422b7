//! The endpoints of a track on one worker: idle connections, load, and whether they can be reached.

use crate::{
    clock, dial,
    error::Failure,
    evidence::pods::{Lap, Pod},
    multiplex::Links,
    queue::Queue,
    resilience::{EJECT_LONGEST, Ejection},
    socket::Socket,
    transport::Transport,
    wire::{
        body::{Decoder, Framing, Step},
        response::Head,
    },
};
use bytes::Bytes;
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// Idle connections that one worker keeps to one endpoint.
const IDLE: usize = 256;
/// How long an idle connection is kept: below the usual keep-alive times of servers.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// How fast what an endpoint took is forgotten.
const FADING: Duration = Duration::from_secs(10);

/// One endpoint on one worker.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: SocketAddr,
    /// Its connections that many requests share.
    pub links: Links,
    pod: Arc<Pod>,
    transport: Transport,
    worker: usize,
    idle: RefCell<Vec<Idle>>,
    busy: Cell<u32>,
    /// Who waits for it, or for another of its track.
    queue: Rc<Queue>,
    /// Whether it has others beside it: only then anything below matters.
    is_one_of_many: Cell<bool>,
    /// What it took lately, in nanoseconds, and when that was.
    took: Cell<Option<(f64, Instant)>>,
    /// When it joined others that were there before, while that is not long ago.
    joined: Cell<Option<Instant>>,
    /// Failures in a row.
    row: Cell<u32>,
    /// Whether it is left alone, until when it was, and for the how-manieth time in a row.
    is_out: Cell<bool>,
    out_until: Cell<Option<Instant>>,
    times: Cell<u32>,
}

#[derive(Debug)]
struct Idle {
    stream: Socket,
    /// The tick since which it is idle.
    since: u64,
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
    pub fn new(pod: Arc<Pod>, transport: Transport, worker: usize, queue: &Rc<Queue>) -> Endpoint {
        Endpoint {
            address: pod.address,
            links: Links::default(),
            pod,
            transport,
            worker,
            idle: RefCell::default(),
            busy: Cell::new(0),
            queue: Rc::clone(queue),
            is_one_of_many: Cell::new(false),
            took: Cell::new(None),
            joined: Cell::new(None),
            row: Cell::new(0),
            is_out: Cell::new(false),
            out_until: Cell::new(None),
            times: Cell::new(0),
        }
    }

    /// These endpoints on this worker: those that are known already, with their connections, and new ones. Where all
    /// are new, none is a newcomer.
    pub fn for_all(
        pods: &[Arc<Pod>],
        transport: &Transport,
        worker: usize,
        known: &[Rc<Endpoint>],
        queue: &Rc<Queue>,
    ) -> Vec<Rc<Endpoint>> {
        let is = |e: &Endpoint, p| Arc::ptr_eq(&e.pod, p) && e.transport.is_same(transport, e.address);
        let find = |p| known.iter().find(|e| is(e, p)).map(Rc::clone);
        let others = pods.iter().any(|p| find(p).is_some());
        let fresh = |p| {
            let endpoint = Endpoint::new(Arc::clone(p), transport.clone(), worker, queue);
            endpoint.joined.set(others.then(Instant::now));
            Rc::new(endpoint)
        };
        let all: Vec<_> = pods.iter().map(|p| find(p).unwrap_or_else(|| fresh(p))).collect();
        all.iter().for_each(|e| e.is_one_of_many.set(all.len() > 1));
        all
    }

    /// What all workers share of it.
    pub fn pod(&self) -> &Arc<Pod> {
        &self.pod
    }

    /// Its slice, while it serves stable beside others.
    pub fn slice(&self) -> Option<u8> {
        self.pod.slice()
    }

    /// What this worker counts of it.
    pub fn lap(&self) -> Option<&Lap> {
        self.pod.lap(self.worker)
    }

    /// How it is spoken to.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Requests under way.
    pub fn load(&self) -> u32 {
        self.busy.get()
    }

    /// Whether nothing is to be said against it. No clock is read.
    pub fn is_plain(&self) -> bool {
        !self.is_out.get() && self.joined.get().is_none() && self.pod.is_well()
    }

    /// Whether it may be tried now.
    pub fn is_up(&self, now: Instant) -> bool {
        if self.is_out.get() && self.out_until.get().is_none_or(|until| until <= now) {
            self.is_out.set(false);
        }
        !self.is_out.get() && self.pod.is_well()
    }

    /// Whether it may have one more request.
    pub fn has_room(&self, limit: Option<u32>) -> bool {
        limit.is_none_or(|most| self.busy.get() < most)
    }

    /// How long ago it joined, while that is less than this.
    pub fn age(&self, now: Instant, young: Duration) -> Option<Duration> {
        let age = now.saturating_duration_since(self.joined.get()?);
        if age >= young {
            self.joined.set(None);
            return None;
        }
        Some(age)
    }

    /// What it takes: a peak at once, and less only as time passes (the peak EWMA of Finagle). What is long ago fades, so
    /// that it is asked again some day.
    pub fn cost(&self, now: Instant) -> Option<f64> {
        let (nanos, then) = self.took.get()?;
        Some(nanos * fading(then, now))
    }

    /// Notes what it took to the head of an answer, if that matters to anybody.
    pub fn took(&self, time: Duration, now: Instant) {
        if !self.is_one_of_many.get() {
            return;
        }
        let nanos = time.as_nanos() as f64;
        let cost = match self.took.get() {
            Some((before, then)) if before > nanos => {
                let weight = fading(then, now);
                before * weight + nanos * (1.0 - weight)
            }
            _ => nanos,
        };
        self.took.set(Some((cost, now)));
    }

    /// Whether it has others beside it.
    pub fn is_one_of_many(&self) -> bool {
        self.is_one_of_many.get()
    }

    /// It has answered.
    pub fn did_well(&self) {
        self.row.set(0);
    }

    /// It has failed. Left alone after enough of that, or at once when it is `certain` that it cannot serve; not when too
    /// many `others` are. True when it is left alone from now on.
    pub fn stumbled(
        &self,
        others: &[Rc<Endpoint>],
        ejection: &Ejection,
        certain: bool,
        now: Instant,
        random: u64,
    ) -> bool {
        self.row.set(self.row.get().saturating_add(1));
        let enough = certain || self.row.get() >= ejection.after;
        if ejection.after == 0 || !enough || self.is_out.get() {
            return false;
        }
        let out = others.iter().filter(|e| e.is_out.get() && !e.is_up(now)).count();
        if out >= ejection.cap(others.len()) {
            return false;
        }
        self.leave_alone(ejection, now, random);
        true
    }

    fn leave_alone(&self, ejection: &Ejection, now: Instant, random: u64) {
        let recently = self
            .out_until
            .get()
            .is_some_and(|until| now < until + EJECT_LONGEST);
        let times = if recently { self.times.get() + 1 } else { 0 };
        let pause = ejection.pause(times);
        // Up to a tenth more, so that not all workers come back at once.
        let jitter = pause.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64 / 10.0);
        self.times.set(times);
        self.out_until.set(Some(now + pause + jitter));
        self.is_out.set(true);
        self.row.set(0);
    }

    /// Counts a request that goes there.
    pub fn occupy(self: &Rc<Endpoint>) -> Busy {
        self.busy.set(self.busy.get() + 1);
        Busy(Rc::clone(self))
    }

    /// Closes what has been idle for too long.
    pub fn sweep(&self, now: Instant) {
        let tick = clock::tick();
        self.idle
            .borrow_mut()
            .retain(|i| tick.saturating_sub(i.since) < clock::ticks(IDLE_TIME));
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
            let Some(mut idle) = self.0.idle.borrow_mut().pop() else {
                return Err(self);
            };
            if idle.stream.is_quiet() {
                return Ok(Lease {
                    stream: idle.stream,
                    rest: Bytes::new(),
                    reused: true,
                    busy: self,
                });
            }
        }
    }

    /// A new connection; `upgrades`: to be upgraded.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(self, upgrades: bool) -> Result<Lease, Failure> {
        let stream = dial::dial(&self.0, upgrades).await?;
        Ok(Lease {
            stream,
            rest: Bytes::new(),
            reused: false,
            busy: self,
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get().saturating_sub(1));
        self.0.queue.wake();
    }
}

/// What is left of a value after this time.
fn fading(then: Instant, now: Instant) -> f64 {
    let passed = now.saturating_duration_since(then);
    (-passed.as_secs_f64() / FADING.as_secs_f64()).exp()
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
                since: clock::tick(),
            });
        }
    }
}
