//! What outlives a table: the meters of each service, and the names of its splits. Shared by workers and readers.

use crate::{
    evidence::{
        self,
        noise::Observer,
        pods::{Pod, Roster},
    },
    meter::Meter,
};
use contract::evidence::{Cohort, Minute};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// Splits that are remembered: more than a ring has entries, so that every entry finds its name.
const EPOCHS: u32 = 1024;

/// One service, for as long as the process lives.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its counters, by worker.
    pub meters: Vec<Meter>,
    epochs: Mutex<Epochs>,
    roster: Mutex<Roster>,
    noise: Mutex<Observer>,
}

#[derive(Debug, Default)]
struct Epochs {
    last: u32,
    names: BTreeMap<u32, (String, f64)>,
}

impl Service {
    /// A service on so many workers.
    pub fn new(name: &str, workers: usize) -> Service {
        Service {
            name: name.to_owned(),
            meters: (0..workers).map(|_| Meter::default()).collect(),
            epochs: Mutex::default(),
            roster: Mutex::default(),
            noise: Mutex::default(),
        }
    }

    /// The epoch of a split: a new one when hash or share differ from the last.
    pub fn epoch(&self, hash: &str, share: f64) -> u32 {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        let last = epochs.last;
        if epochs
            .names
            .get(&last)
            .is_some_and(|(h, s)| h == hash && *s == share)
        {
            return last;
        }
        let next = last + 1;
        epochs.last = next;
        epochs.names.insert(next, (hash.to_owned(), share));
        epochs.names.retain(|e, _| e + EPOCHS > next);
        next
    }

    /// The cohorts since a second, `now` being the current one.
    pub fn cohorts(&self, since: u64, now: u64) -> Vec<Cohort> {
        let names = self
            .epochs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .names
            .clone();
        let rings = self.meters.iter().map(|m| &m.ring);
        evidence::cohorts(rings, since, now, |e| names.get(&e).cloned())
    }

    /// The endpoints of a table that takes force at this second of the process.
    pub fn enter(&self, addresses: &[Vec<SocketAddr>; 2], now: u64) -> [Vec<Arc<Pod>>; 2] {
        let mut roster = self.roster.lock().unwrap_or_else(PoisonError::into_inner);
        roster.enter(addresses, self.meters.len(), now / 60)
    }

    /// Takes the seconds that have settled by now into the noise of stable. Nothing while there was no request.
    pub fn observe(&self, now: u64) {
        if !self.meters.iter().any(|m| m.ring.is_used()) {
            return;
        }
        let mut noise = self.noise.lock().unwrap_or_else(PoisonError::into_inner);
        noise.advance(now, |second, block| {
            self.meters.iter().for_each(|m| m.ring.read_slices(second, block));
        });
    }

    /// Stable's minutes, oldest first.
    pub fn history(&self, now: u64) -> Vec<Minute> {
        let mut minutes = evidence::history(self.meters.iter().map(|m| &m.ring), now);
        let noise = self.noise.lock().unwrap_or_else(PoisonError::into_inner);
        noise.read(&mut minutes);
        minutes.into_values().collect()
    }

    /// Stable's durations of the last ten minutes.
    pub fn latency(&self, now: u64) -> Vec<(u16, u64)> {
        evidence::latency(self.meters.iter().map(|m| &m.ring), now)
    }
}

/// All services that were ever in a table.
#[derive(Debug)]
pub struct Services {
    workers: usize,
    known: Mutex<BTreeMap<String, Arc<Service>>>,
}

impl Services {
    /// None yet.
    pub fn new(workers: usize) -> Services {
        Services {
            workers,
            known: Mutex::default(),
        }
    }

    /// The service of a name, made when it is new.
    pub fn of(&self, name: &str) -> Arc<Service> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let made = known
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Service::new(name, self.workers)));
        Arc::clone(made)
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Service>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().cloned().collect()
    }
}
