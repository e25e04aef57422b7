//! What is known at one moment. What is missing is a value too.

use contract::{Split, evidence::ServicePage, release::Command};
use serde::{Deserialize, Serialize};

/// Everything that a step may look at.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Unix time, seconds.
    pub now: f64,
    /// The split in force as the routing table says it; `None`: unknown.
    pub table: Option<Table>,
    /// One entry for each known proxy, in a fixed order.
    pub proxies: Vec<Proxy>,
    /// Whether the canary answers.
    pub readiness: Readiness,
    /// What came of smoke requests since the last step.
    pub smoke: Vec<Smoked>,
    /// What came of checks since the last step, oldest first.
    pub checks: Vec<Checked>,
    /// What people asked for since the last step, oldest first.
    pub orders: Vec<Order>,
    /// What gates answered since the last step.
    pub gates: Vec<Answered>,
    /// The workloads of a cluster; `None` where they are unknown, or where the weight alone is moved.
    pub workloads: Option<Workloads>,
    /// Largest share that the canary's ready pods can take and stable's could take back; `None`: no limit is known.
    pub room: Option<f64>,
}

/// The workloads of one release in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workloads {
    /// The stable one.
    pub stable: Workload,
    /// The one on trial; `None`: there is none.
    pub canary: Option<Workload>,
    /// Where the old version lives on; `None`: there is none.
    pub previous: Option<Workload>,
}

/// One workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Hash of its pod template.
    pub hash: String,
    /// Pods that it should have.
    pub wanted: u32,
    /// Pods of it that are ready.
    pub ready: u32,
    /// Whether all its pods are of its template and ready, and no other is left.
    pub settled: bool,
    /// Why it will not settle by itself, as a clause: its progress deadline has passed.
    pub stuck: Option<String>,
}

/// Which workloads the two tracks of the Service are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tracks {
    /// Stable and the canary.
    #[default]
    Usual,
    /// The old version, and stable in the canary's place: after a promotion, while both are compared, and on the way back.
    Previous,
}

/// What a gate answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Which question: [`crate::Action::Ask`] has it.
    pub question: String,
    /// Yes, or why not yet, as a clause.
    pub outcome: Result<(), String>,
}

/// The split in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The split.
    pub split: Split,
    /// Hash that proxies acknowledge.
    pub hash: String,
    /// Who changed it last, if that is recorded.
    pub changed_by: Option<String>,
    /// Why, in their words.
    pub cause: Option<String>,
    /// Which workloads it splits between.
    pub tracks: Tracks,
}

/// One proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// Which one: an address or a pod's name.
    pub name: String,
    /// What it told.
    pub told: Told,
}

/// What a proxy told.
#[expect(
    clippy::large_enum_variant,
    reason = "a missing page is rare, and a page is not worth a box each time"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Its counts.
    Page {
        /// Identity of the process, new at each start.
        process: String,
        /// Milliseconds on the process's own clock.
        now_ms: u64,
        /// The second from which on cohorts were asked for: earlier ones may be missing here.
        since: u64,
        /// The counts of the service.
        page: ServicePage,
    },
    /// Nothing.
    Missing {
        /// Since when, unix seconds.
        since: f64,
        /// Why, as a clause: "the connection was refused".
        reason: String,
    },
}

/// Whether the canary answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// Not asked yet.
    #[default]
    Unknown,
    /// All endpoints answer.
    Ready,
    /// Not yet, and why, as a clause.
    NotReady(String),
}

/// What came of one smoke request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smoked {
    /// Which one of the policy's list.
    pub index: usize,
    /// Success, or what went wrong, as a clause.
    pub outcome: Result<(), String>,
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// Which one of the policy's list, by its name.
    pub name: String,
    /// When the answer was there, unix seconds.
    pub at: f64,
    /// The number, or why there is none, as a clause.
    pub outcome: Result<f64, String>,
}

/// What a person asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// What.
    pub command: Command,
    /// Who.
    pub who: String,
    /// Why, in their words.
    pub why: Option<String>,
}

impl Observation {
    /// A moment at which nothing is known but the time.
    pub fn nothing(now: f64) -> Observation {
        Observation {
            now,
            table: None,
            proxies: Vec::new(),
            readiness: Readiness::Unknown,
            smoke: Vec::new(),
            checks: Vec::new(),
            orders: Vec::new(),
            gates: Vec::new(),
            workloads: None,
            room: None,
        }
    }

    /// The pages of the proxies that told something.
    pub(crate) fn pages(&self) -> impl Iterator<Item = &ServicePage> {
        self.proxies.iter().filter_map(|p| match &p.told {
            Told::Page { page, .. } => Some(page),
            Told::Missing { .. } => None,
        })
    }

    /// The proxies' own clocks, in milliseconds.
    pub(crate) fn clocks(&self) -> impl Iterator<Item = u64> {
        self.proxies.iter().filter_map(|p| match &p.told {
            Told::Page { now_ms, .. } => Some(*now_ms),
            Told::Missing { .. } => None,
        })
    }
}
