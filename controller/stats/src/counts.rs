//! Requests and bad requests per arm: the only thing evidence about errors is made of.

use serde::{Deserialize, Serialize};

/// One arm of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// Requests started.
    pub n: u64,
    /// Bad requests among them. More than `n` is read as `n`.
    pub x: u64,
}

/// Both arms over the same seconds, the same proxy and the same split hash (evidence 2h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The version that serves today.
    pub stable: Arm,
    /// The version under trial.
    pub canary: Arm,
}

impl Arm {
    /// `x` bad requests among `n`.
    pub const fn new(n: u64, x: u64) -> Arm {
        Arm { n, x }
    }

    /// Requests.
    pub fn requests(self) -> f64 {
        self.n as f64
    }

    /// Bad requests, at most all of them.
    pub fn bad(self) -> f64 {
        self.x.min(self.n) as f64
    }

    /// Good requests. Subtracted as integers: above 2^53 a difference of floats would lose them.
    pub fn good(self) -> f64 {
        self.n.saturating_sub(self.x) as f64
    }

    /// Both counts added, saturating.
    pub fn plus(self, other: Arm) -> Arm {
        let bad = self.x.min(self.n).saturating_add(other.x.min(other.n));
        Arm::new(self.n.saturating_add(other.n), bad)
    }
}

impl Counts {
    /// From `(n, x)` of stable and `(n, x)` of the canary.
    pub const fn new(stable: (u64, u64), canary: (u64, u64)) -> Counts {
        Counts {
            stable: Arm::new(stable.0, stable.1),
            canary: Arm::new(canary.0, canary.1),
        }
    }

    /// Arm-wise sum, saturating.
    pub fn plus(self, other: Counts) -> Counts {
        Counts {
            stable: self.stable.plus(other.stable),
            canary: self.canary.plus(other.canary),
        }
    }
}
