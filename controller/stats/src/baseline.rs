//! The error rate the alternatives start from (evidence 2a).
//!
//! It is no part of any null: a wrong baseline costs power, never validity.

use crate::counts::Arm;
use serde::{Deserialize, Serialize};

/// Decayed totals of stable traffic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    bad: f64,
    requests: f64,
}

/// Seconds in which old traffic loses half its say: long against bursts, short against the daily course.
const HALF_LIFE: f64 = 600.0;

/// Rates nearer to 0 or 1 than any traffic can tell; keeps every logarithm finite.
const EDGE: f64 = 1e-9;

impl Baseline {
    /// From the stable traffic before the canary (ten minutes of it by default).
    pub fn new(history: Arm) -> Baseline {
        Baseline {
            bad: history.bad(),
            requests: history.requests(),
        }
    }

    /// Ages by `dt` seconds, then adds the stable counts of the blocks that closed in this tick.
    /// To be called on every tick, also when nothing closed.
    pub fn tick(&mut self, dt: f64, stable: Arm) {
        let kept = 0.5_f64.powf(dt / HALF_LIFE);
        self.bad = self.bad * kept + stable.bad();
        self.requests = self.requests * kept + stable.requests();
    }

    /// Rate with half a bad request in one added, so that no history is not certainty.
    pub fn rate(&self) -> f64 {
        ((self.bad + 0.5) / (self.requests + 1.0)).clamp(EDGE, 1.0 - EDGE)
    }

    /// Plain rate; 0 without traffic.
    pub fn plain_rate(&self) -> f64 {
        if self.requests > 0.0 {
            self.bad / self.requests
        } else {
            0.0
        }
    }
}
