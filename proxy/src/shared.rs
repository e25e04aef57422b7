//! What all threads share: the table in force, the meters, and whether the end has begun.

use crate::{
    config::Settings,
    dns::Lookups,
    entropy,
    error::KINDS,
    headers,
    service::Services,
    table::Table,
    telemetry::Telemetry,
    tls::{Handshakes, Keys},
};
use arc_swap::ArcSwap;
use contract::Fault;
use std::{
    array::from_fn,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Instant,
};

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// It has not begun.
    Serving,
    /// Readiness fails, connections are not kept; listeners are open still.
    Draining,
    /// Listeners are closed, idle connections too.
    Closing,
    /// Whatever is left is dropped.
    Ended,
}

/// Shared by workers, readers and the control thread.
#[derive(Debug)]
pub struct Shared {
    /// Listeners and limits.
    pub settings: Arc<Settings>,
    /// Every service that was ever in a table.
    pub services: Services,
    /// When the process began; all seconds of the evidence count from here.
    pub birth: Instant,
    /// Identity of the process, new at each start.
    pub process: String,
    /// Our entry in `via`.
    pub via: String,
    /// Open client connections.
    pub connections: AtomicU64,
    /// Whether stable is reached over loopback, in the same pod.
    pub local: bool,
    /// What is made of certificates.
    pub keys: Keys,
    /// TLS handshakes of clients.
    pub handshakes: Handshakes,
    /// Lookups of endpoints' host names.
    pub lookups: Lookups,
    /// What is told of single requests.
    pub telemetry: Telemetry,
    /// Failures before a route was known, by kind.
    pub strays: [AtomicU64; KINDS.len()],
    phase: AtomicU8,
    table: ArcSwap<Table>,
    version: AtomicU64,
    rejected: Mutex<BTreeMap<(String, String), u64>>,
    /// What is wrong now, by service.
    faults: Mutex<BTreeMap<String, Vec<Fault>>>,
}

impl Shared {
    /// With the first table.
    pub fn new(settings: Settings, services: Services, table: Arc<Table>) -> Shared {
        let process = format!("{:016x}", entropy::bits());
        Shared {
            via: headers::via(&process),
            settings: Arc::new(settings),
            services,
            birth: Instant::now(),
            process,
            connections: AtomicU64::new(0),
            local: false,
            keys: Keys::default(),
            handshakes: Handshakes::default(),
            lookups: Lookups::default(),
            telemetry: Telemetry::default(),
            strays: from_fn(|_| AtomicU64::new(0)),
            phase: AtomicU8::new(Phase::Serving as u8),
            table: ArcSwap::new(table),
            version: AtomicU64::new(1),
            rejected: Mutex::default(),
            faults: Mutex::default(),
        }
    }

    /// The table in force.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Number of the publication in force: to see whether it has changed, at the price of one load.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Puts a table in force: from the next request on, on every thread.
    pub fn publish(&self, table: Table) {
        self.table.store(Arc::new(table));
        // After the table: who sees the new number also finds the new table.
        self.version.fetch_add(1, Ordering::Release);
    }

    /// How far the end has come.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            2 => Phase::Closing,
            _ => Phase::Ended,
        }
    }

    /// Goes on towards the end, never back.
    pub fn advance(&self, to: Phase) {
        self.phase.fetch_max(to as u8, Ordering::Relaxed);
    }

    /// Whether the end has begun.
    pub fn is_draining(&self) -> bool {
        self.phase() != Phase::Serving
    }

    /// What is wrong now with what a service's source says; none when it is good. True when that is new.
    pub fn fault(&self, service: &str, faults: Vec<Fault>) -> bool {
        let mut all = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let before = if faults.is_empty() {
            all.remove(service).unwrap_or_default()
        } else {
            all.insert(service.to_owned(), faults.clone()).unwrap_or_default()
        };
        before != faults
    }

    /// What is wrong now, by service.
    pub fn faults(&self) -> BTreeMap<String, Vec<Fault>> {
        let all = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }

    /// Counts refused configuration.
    pub fn rejected(&self, service: &str, faults: &[Fault]) {
        let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        for fault in faults {
            *rejected
                .entry((service.to_owned(), fault.key.clone()))
                .or_default() += 1;
        }
    }

    /// The counts of refused configuration, by service and key.
    pub fn rejections(&self) -> BTreeMap<(String, String), u64> {
        self.rejected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
