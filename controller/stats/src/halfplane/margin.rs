//! What a canary may be worse by without being called worse (evidence 2a).

use crate::refused::Refused;
use serde::{Deserialize, Serialize};

/// What may be tolerated: `canary <= ratio * stable + absolute`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawMargin")]
pub struct Margin {
    ratio: f64,
    absolute: f64,
}

impl Margin {
    /// No tolerance at all: `canary <= stable`.
    pub const NONE: Margin = Margin {
        ratio: 1.0,
        absolute: 0.0,
    };
    /// Default line for a rollback (evidence 2a).
    pub const ROLL_BACK: Margin = Margin {
        ratio: 1.1,
        absolute: 0.0002,
    };
    /// Default line for promotion; its absolute part is what lets a service without any error be promoted.
    pub const PROMOTE: Margin = Margin {
        ratio: 1.25,
        absolute: 0.001,
    };

    /// `ratio` in `1..=1e6`, `absolute` in `0..=0.9`.
    pub fn new(ratio: f64, absolute: f64) -> Result<Margin, Refused> {
        if !(1.0..=1e6).contains(&ratio) {
            return Err(Refused::Ratio(ratio));
        }
        if !(0.0..=0.9).contains(&absolute) {
            return Err(Refused::Absolute(absolute));
        }
        Ok(Margin { ratio, absolute })
    }

    /// Tolerated ratio (rho).
    pub fn ratio(self) -> f64 {
        self.ratio
    }

    /// Tolerated absolute difference (d).
    pub fn absolute(self) -> f64 {
        self.absolute
    }

    /// The largest canary rate tolerated for a stable rate; may exceed 1.
    pub fn line(self, stable: f64) -> f64 {
        self.ratio * stable + self.absolute
    }

    pub(super) fn inverse(self, canary: f64) -> f64 {
        (canary - self.absolute) / self.ratio
    }
}

#[derive(Deserialize)]
struct RawMargin {
    ratio: f64,
    absolute: f64,
}

impl TryFrom<RawMargin> for Margin {
    type Error = Refused;

    fn try_from(raw: RawMargin) -> Result<Margin, Refused> {
        Margin::new(raw.ratio, raw.absolute)
    }
}
