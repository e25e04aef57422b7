//! What a proxy tells on `/evidence`: counts per second of request *start*, first attempts only.
//!
//! A *cohort* is all requests that began in one second under one split. It is told while it grows, and is finished
//! when no request of it is pending; whoever reads decides when to use it (statistics 2h). Only requests that the
//! weight or a cohort rule sent count; opt-in, mirrored and synthetic ones never do.

use crate::{Fault, names::Track};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of this shape; a reader refuses one that it does not know.
pub const SCHEMA: u32 = 1;
/// Seconds that the ring remembers: two minutes of missed polls lose nothing.
pub const RING_SECONDS: u64 = 120;
/// Placebo slices of stable at most.
pub const SLICES: usize = 8;
/// Whole minutes of stable's latencies that are told: the baseline of a judgement.
pub const LATENCY_MINUTES: u64 = 10;
/// Minutes of stable's sums that are kept besides.
pub const HISTORY_MINUTES: u64 = 30;

/// One answer of `/evidence`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Identity of the process, new at each start.
    pub process: String,
    /// Milliseconds since the process started, on its monotonic clock. Cohort seconds count on the same clock.
    pub now_ms: u64,
    /// By service name.
    pub services: BTreeMap<String, ServicePage>,
}

/// The evidence of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicePage {
    /// Hash of the split in force ([`crate::Canary::hash`]).
    pub hash: String,
    /// The share in force, 0 to 1: less than the split says while a guard or an empty track overrules it.
    pub share: f64,
    /// Requests under way, by track.
    pub inflight: [u64; 2],
    /// Endpoints by track.
    pub endpoints: [u64; 2],
    /// Whether the guard has tripped, and why.
    pub guard: Option<String>,
    /// Cohorts whose second is at least the one asked for (`?since=N`), in start order, at most the ring.
    pub cohorts: Vec<Cohort>,
    /// Stable's sums by minute, oldest first, at most thirty, the running minute last.
    pub history: Vec<Minute>,
    /// Durations of stable's finished requests that began in the running minute or the [`LATENCY_MINUTES`] before:
    /// (bucket of [`crate::latency`], count), empty buckets left out.
    #[serde(default)]
    pub latency: Vec<(u16, u64)>,
    /// Endpoints of both tracks that are in the table, in its order.
    #[serde(default)]
    pub pods: Vec<Pod>,
    /// Whether stable is reached over loopback, in the same pod: its latency does not compare with the canary's.
    #[serde(default)]
    pub local: bool,
    /// What is wrong with what the Service says now, while an earlier table is in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Fault>,
}

/// The requests that began in one second under one split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cohort {
    /// Whole seconds since the process started.
    pub second: u64,
    /// Hash of the split that they were drawn under.
    pub hash: String,
    /// The share that they were drawn with, 0 to 1.
    pub share: f64,
    /// By [`crate::names::Track::index`].
    pub tracks: [Tally; 2],
    /// Stable's requests by slice, at most [`SLICES`]: by endpoint, or by user where a cohort rule chooses users, whose
    /// requests hang together. Empty when stable cannot be divided: one endpoint, and no cohort rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
}

/// Counts of one track in one cohort.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests begun.
    pub started: u64,
    /// Of these, ended in whatever way. The rest is pending.
    pub finished: u64,
    /// Ended badly within 1 s, 5 s and 30 s of their start, and in the end.
    pub bad: Bad,
    /// Ended, and neither badly nor because the client went away, by age: what is missing to `started` had no good
    /// answer at that age, whenever this is read.
    #[serde(default)]
    pub served: Served,
    /// Ended because the client went away: nobody's error; their age is in the histogram.
    pub cancelled: u64,
    /// Durations of the finished ones: (bucket of [`crate::latency`], count), empty buckets left out.
    pub latency: Vec<(u16, u64)>,
}

/// Bad ends by the age at which they came; each includes the ones before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// Within 1 s.
    pub by_1s: u64,
    /// Within 5 s.
    pub by_5s: u64,
    /// Within 30 s.
    pub by_30s: u64,
    /// At any time.
    pub ever: u64,
}

/// Good ends by the age at which they came, connecting included; each includes the one before. Stable is counted
/// at half the age of the canary: twice as slow is slow, and no hang.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Served {
    /// Within half a second.
    pub by_500ms: u64,
    /// Within 1 s.
    pub by_1s: u64,
}

/// A part of stable's requests in one cohort, for comparing stable with itself (statistics 2d).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Requests begun.
    pub started: u64,
    /// Of these, ended in whatever way.
    pub finished: u64,
    /// Ended badly, by age.
    pub bad: Bad,
}

/// What one endpoint has answered in the last [`HISTORY_MINUTES`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its address.
    pub endpoint: String,
    /// Which track it serves now.
    pub track: Track,
    /// Requests begun.
    pub started: u64,
    /// Of these, ended badly.
    pub bad: u64,
    /// Of these, ended in whatever way.
    #[serde(default)]
    pub finished: u64,
    /// Sum of the numbers of the buckets ([`crate::latency`]) of their durations: divided by `finished`, the logarithm of
    /// the typical duration in quarter octaves.
    #[serde(default)]
    pub buckets: u64,
}

/// How much the slices of stable differed within blocks of 1, 10 and 60 s that ended in one minute (statistics 2d):
/// their quotient is the dispersion, 1 for independent requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// Squared deviations of bad requests from the rate pooled over the slices of each block.
    pub found: [f64; 3],
    /// What independent requests would give.
    pub expected: [f64; 3],
}

/// One minute of stable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Minute {
    /// Whole minutes since the process started.
    pub minute: u64,
    /// Requests begun.
    pub started: u64,
    /// Of these, ended badly.
    pub bad: u64,
    /// How much the slices differed.
    #[serde(default)]
    pub noise: Noise,
}

impl Tally {
    /// Requests begun and not ended.
    pub fn pending(&self) -> u64 {
        self.started.saturating_sub(self.finished)
    }
}

impl Cohort {
    /// Whether no request of it is pending.
    pub fn is_finished(&self) -> bool {
        self.tracks.iter().all(|t| t.pending() == 0)
    }
}
