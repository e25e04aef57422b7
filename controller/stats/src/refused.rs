//! Why a constructor refused its input.

use std::fmt;

/// A setting outside the range for which the proofs and the numerics hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Refused {
    /// Tolerated ratio must be in `1..=1e6`.
    Ratio(f64),
    /// Tolerated absolute difference must be in `0..=0.9`.
    Absolute(f64),
    /// Dispersion must be finite and at least 1.
    Phi(f64),
    /// Planned seconds must be finite and positive.
    Horizon(f64),
    /// Share of the capital in play from the start must be strictly between 0 and 1.
    HeadStart(f64),
    /// Error probability must be strictly between 0 and 1.
    Probability(f64),
    /// Pacing limits must be finite, positive, and the smallest weight at most the largest, at most 1.
    Pace(f64),
    /// Fewer latency buckets than the shifts need, or saved histograms of different lengths.
    Buckets(usize),
    /// Saved capital of so many bets, which is not what the family of bets has.
    Alternatives(usize),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Ratio(v) => write!(f, "tolerated ratio {v} is not between 1 and 1e6"),
            Refused::Absolute(v) => write!(f, "tolerated absolute difference {v} is not between 0 and 0.9"),
            Refused::Phi(v) => write!(f, "dispersion phi {v} is not a finite number of at least 1"),
            Refused::Horizon(v) => write!(f, "planned seconds {v} are not finite and positive"),
            Refused::HeadStart(v) => write!(f, "head start {v} is not strictly between 0 and 1"),
            Refused::Probability(v) => write!(f, "error probability {v} is not strictly between 0 and 1"),
            Refused::Pace(v) => write!(f, "pacing setting {v} is not finite, positive and in order"),
            Refused::Buckets(v) => write!(f, "{v} latency buckets leave no room for the shifts"),
            Refused::Alternatives(v) => write!(f, "capital of {v} bets belongs to another family of bets"),
        }
    }
}

impl std::error::Error for Refused {}
