//! What is judged besides errors, and what is done about uneven traffic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Latency buckets of 2^(1/4), 19 %, by which every quantile of the canary may be slower before it counts against it:
/// none, since a tenth slower must be found; [`TOLERANCE`] keeps the small differences out.
pub const ROLLBACK_SHIFT: usize = 0;
/// Latency buckets by which p50, p95 and p99 may be slower and still be good enough: 41 %.
pub const PROMOTE_SHIFT: usize = 2;
/// Estimated slow-down below which a canary that is provably slower is kept all the same: with much traffic, chance lets
/// differences be proven that nobody cares about.
pub const TOLERANCE: f64 = 1.05;
/// Largest rollback shift: 2^(4/4), twice as slow. Hangs are told from slowness by that factor.
pub const LARGEST_ROLLBACK_SHIFT: usize = 4;
/// Largest promotion shift: eight times as slow.
pub const LARGEST_PROMOTE_SHIFT: usize = 12;

/// What is tolerated in latency. One bucket is a factor of 2^(1/4), 19 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Latency {
    /// Off: errors alone are judged, and neither slowness nor a hang is seen.
    pub enabled: bool,
    /// Buckets by which every quantile of the canary may be slower before it counts against it.
    pub rollback_shift: usize,
    /// Estimated slow-down (of the mean, of the typical request, or by a bucket at p95 or p99) below which a canary that
    /// is provably slower is kept all the same.
    pub tolerance: f64,
    /// Buckets by which p50, p95 and p99 may be slower and still be good enough; more than the first.
    pub promote_shift: usize,
}

/// What is done about traffic that is less even than chance (statistics 2d). Measured on stable, in the half hour
/// before the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Noise {
    /// Evidence is divided by the dispersion of stable's slices: bursts of errors at single pods.
    pub dispersion: bool,
    /// Margins grow with the spread of error rates between stable's pods.
    pub pod_spread: bool,
    /// Slices of stable are judged like canaries; when one would be rolled back, the release holds.
    pub placebos: bool,
}

impl Default for Noise {
    fn default() -> Noise {
        Noise {
            dispersion: true,
            pod_spread: true,
            placebos: true,
        }
    }
}

impl Default for Latency {
    fn default() -> Latency {
        Latency {
            enabled: true,
            rollback_shift: ROLLBACK_SHIFT,
            tolerance: TOLERANCE,
            promote_shift: PROMOTE_SHIFT,
        }
    }
}

/// Shares of the metrics in the evidence for a rollback (statistics 2c); they sum to 1. Each is above 0: a share costs
/// `ln(1 / share)` nats of evidence, 0.7 for errors. Without latency, errors have it all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// Bad requests.
    pub errors: f64,
    /// Slower requests.
    pub latency: f64,
    /// Requests without a good answer after a second.
    pub stalled: f64,
}

impl Default for Weights {
    fn default() -> Weights {
        Weights {
            errors: 0.5,
            latency: 0.45,
            stalled: 0.05,
        }
    }
}

impl Weights {
    /// Must be 1.
    pub fn sum(&self) -> f64 {
        self.errors + self.latency + self.stalled
    }
}
