//! One worker thread's world: nothing here is shared, so nothing here locks.

use crate::wire::request::Protocol;
use crate::{
    budget::Budget,
    choose::Dice,
    clock::Clock,
    config::Settings,
    error::Failure,
    front::Peer,
    meter::{self, Meter},
    overload::Gate,
    pool::Endpoint,
    queue::Queue,
    service::Service,
    shared::{Phase, Shared},
    strata::Strata,
    table::{Route, Table},
    telemetry::note::Teller,
};
use contract::{Split, names::Track};
use rand::{Rng, rngs::SmallRng};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

/// What one worker owns.
#[derive(Debug)]
pub struct Worker {
    /// Its number, from 0.
    pub number: usize,
    /// Listeners and limits.
    pub settings: Arc<Settings>,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Its deadlines.
    pub clock: Rc<Clock>,
    view: RefCell<Rc<View>>,
    lots: RefCell<HashMap<String, Rc<RefCell<Strata>>>>,
    random: RefCell<SmallRng>,
    /// Copies under way.
    pub copies: Cell<u32>,
    /// Open client connections of this worker.
    pub connections: Cell<u64>,
    /// Tells of requests, if anything is told of them.
    pub teller: Option<Rc<Teller>>,
    /// Which requests are admitted.
    pub gate: Gate,
}

/// A table as this worker sees it. A request takes one and keeps it.
#[derive(Debug, Default)]
pub struct View {
    /// Which publication it is; tables count from 1.
    version: u64,
    table: Arc<Table>,
    lanes: Vec<Rc<Lane>>,
}

/// One route on this worker: its rules, its counters, its connections.
#[derive(Debug)]
pub struct Lane {
    /// The compiled route.
    pub route: Arc<Route>,
    /// Epoch of its split, for the evidence.
    pub epoch: u32,
    /// When the process began.
    pub birth: Instant,
    service: Arc<Service>,
    worker: usize,
    endpoints: [Vec<Rc<Endpoint>>; 2],
    /// Who waits for room at an endpoint, by track.
    queues: [Rc<Queue>; 2],
    /// This worker's part of the limits.
    limit: Option<u32>,
    max_pending: usize,
    strata: Rc<RefCell<Strata>>,
    /// Which requests are copied.
    mirror: Rc<RefCell<Strata>>,
    budget: Rc<Budget>,
}

impl Worker {
    /// A worker with its randomness.
    pub fn new(number: usize, shared: Arc<Shared>, random: SmallRng) -> Worker {
        Worker {
            teller: shared.telemetry.teller(number, &shared.settings).map(Rc::new),
            number,
            gate: Gate::new(shared.settings.limits.max_requests, shared.settings.workers),
            settings: Arc::clone(&shared.settings),
            shared,
            clock: Rc::default(),
            view: RefCell::default(),
            lots: RefCell::default(),
            random: RefCell::new(random),
            copies: Cell::new(0),
            connections: Cell::new(0),
        }
    }

    /// The table in force, one comparison when it has not changed.
    pub fn view(&self) -> Rc<View> {
        let version = self.shared.version();
        if self.view.borrow().version != version {
            let fresh = Rc::new(self.look(version, &self.shared.table()));
            self.view.replace(fresh);
        }
        Rc::clone(&self.view.borrow())
    }

    fn look(&self, version: u64, table: &Arc<Table>) -> View {
        let old = Rc::clone(&self.view.borrow());
        let lanes = table.routes.iter().map(|r| Rc::new(self.lane(r, &old))).collect();
        View {
            version,
            table: Arc::clone(table),
            lanes,
        }
    }

    /// A lane takes over the connections and the split's position of the lane before it.
    fn lane(&self, route: &Arc<Route>, old: &View) -> Lane {
        let name = &route.source.service;
        let before = old.lanes.iter().find(|l| l.route.source.service == *name);
        let service = self.shared.services.of(name);
        let limits = &route.resilience;
        let queues = before.map(|l| l.queues.clone()).unwrap_or_default();
        let endpoints = Track::BOTH.map(|track| {
            let known = before.map(|l| l.endpoints(track)).unwrap_or_default();
            let transport = &route.transports[track.index()];
            let (pods, queue) = (&route.pods[track.index()], &queues[track.index()]);
            Endpoint::for_all(pods, transport, self.number, known, queue)
        });
        Lane {
            epoch: route.epoch,
            birth: self.shared.birth,
            route: Arc::clone(route),
            worker: self.number,
            service,
            endpoints,
            limit: limits.max_connections.map(|most| self.part(most).max(1)),
            max_pending: self.part(limits.max_pending) as usize,
            queues,
            mirror: before.map(|l| Rc::clone(&l.mirror)).unwrap_or_default(),
            budget: before.map(|l| Rc::clone(&l.budget)).unwrap_or_default(),
            strata: Rc::clone(self.lots.borrow_mut().entry(name.clone()).or_default()),
        }
    }

    /// This worker's part of what all of them may have.
    fn part(&self, all: u32) -> u32 {
        let workers = u32::try_from(self.settings.workers).unwrap_or(u32::MAX).max(1);
        all / workers + u32::from((self.number as u32) < all % workers)
    }

    /// Whether idle connections are to be closed.
    pub fn is_closing(&self) -> bool {
        self.shared.phase() >= Phase::Closing
    }

    /// Counts and tells what was no request.
    pub fn rejected(&self, peer: &Peer, protocol: Protocol, failure: Failure) {
        meter::add_shared(&self.shared.strays[failure.index()]);
        if let Some(teller) = &self.teller {
            teller.rejected(peer.address, protocol.name(), failure);
        }
    }

    /// A random number.
    pub fn random(&self) -> u64 {
        self.random.borrow_mut().next_u64()
    }

    /// Closes connections that have been idle for too long.
    pub fn sweep(&self) {
        let now = Instant::now();
        for lane in &self.view.borrow().lanes {
            lane.endpoints.iter().flatten().for_each(|e| e.sweep(now));
        }
    }
}

impl View {
    /// The lane that answers to a host.
    pub fn find(&self, host: &[u8]) -> Option<&Rc<Lane>> {
        self.lanes.get(self.table.find(host)?)
    }
}

impl Lane {
    /// The service that it belongs to.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// This worker's counters.
    pub fn meter(&self) -> &Meter {
        &self.service.meters[self.worker]
    }

    /// Whether the next request is copied.
    pub fn draws_copy(&self, share: Split, worker: &Worker) -> bool {
        let mut random = worker.random.borrow_mut();
        self.mirror.borrow_mut().draw(share, &mut *random)
    }

    /// Takes a second try from the budget, and counts whether there was one.
    pub fn may_retry(&self, track: Track) -> bool {
        let (meter, limits) = (self.meter(), &self.route.resilience);
        let granted = self.budget.take(
            self.birth.elapsed(),
            meter.decided_so_far(),
            limits.retry_share,
            limits.retry_min,
        );
        meter.retried(track, granted);
        granted
    }

    /// Who waits for an endpoint of a track.
    pub fn queue(&self, track: Track) -> &Rc<Queue> {
        &self.queues[track.index()]
    }

    /// Most requests under way at one endpoint.
    pub fn limit(&self) -> Option<u32> {
        self.limit
    }

    /// Most requests of a track that wait.
    pub fn max_pending(&self) -> usize {
        self.max_pending
    }

    /// The endpoints of a track.
    pub fn endpoints(&self, track: Track) -> &[Rc<Endpoint>] {
        &self.endpoints[track.index()]
    }
}

/// The randomness of one choice.
#[derive(Debug)]
pub struct Lot<'a> {
    /// Whose.
    pub worker: &'a Worker,
    /// On which route.
    pub lane: &'a Lane,
}

impl Dice for Lot<'_> {
    fn draw(&mut self, split: Split) -> bool {
        let mut random = self.worker.random.borrow_mut();
        self.lane.strata.borrow_mut().draw(split, &mut *random)
    }

    fn identity(&mut self) -> u64 {
        self.worker.random()
    }
}
