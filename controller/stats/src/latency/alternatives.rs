//! The ways a canary may be slower that the latency process bets on (evidence 2b), in two families.

use super::shapes;
use super::tilt::Tilt;
use serde::{Deserialize, Serialize};

/// Which bet, for the explanation of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Slower {
    /// The slowest `tail` of the requests `times` as frequent.
    Tail {
        /// Share of stable's requests in the tail.
        tail: f64,
        /// Factor before normalisation.
        times: f64,
    },
    /// A little more of the slower requests: likelihood ratio `exp(slope * rank)`, ranks from 0 to 1.
    Ranks {
        /// Log-likelihood ratio between the slowest and the fastest request.
        slope: f64,
    },
    /// The whole distribution a little to the right: likelihood ratio `exp(slope * z)`, `z` being the normal quantile
    /// of the rank. For log-normal latencies of spread sigma that is every request `exp(slope * sigma)` times slower.
    Scores {
        /// Log-likelihood ratio for one standard deviation.
        slope: f64,
    },
    /// Every request slower.
    Everything {
        /// Factor.
        times: f64,
    },
    /// A part of the requests slower, whichever they are: a cold cache, one bad replica, one slow query.
    Part {
        /// Share of the requests.
        share: f64,
        /// Factor.
        times: f64,
    },
    /// The shape learned from the canary's own past.
    Learned,
}

/// Which bets are placed. Either family is valid; they differ in what they find soon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Family {
    /// The fifteen of the specification. Agreement with its prototype is tested with them.
    Reference,
    /// Ten that look like what goes wrong: everything slower, or a part of the requests much slower. Against the
    /// reference they find slowness in 0.7 to 0.9 of the time (`tests/detection.rs`).
    #[default]
    Broad,
}

const fn tail(tail: f64, times: f64) -> Slower {
    Slower::Tail { tail, times }
}

const fn part(share: f64, times: f64) -> Slower {
    Slower::Part { share, times }
}

const REFERENCE: [Slower; 15] = [
    tail(0.5, 1.3),
    tail(0.5, 2.5),
    tail(0.2, 1.4),
    tail(0.2, 3.0),
    tail(0.05, 1.6),
    tail(0.05, 4.0),
    tail(0.01, 2.0),
    tail(0.01, 6.0),
    tail(0.001, 8.0),
    tail(0.001, 60.0),
    tail(0.0001, 60.0),
    tail(0.0001, 600.0),
    Slower::Ranks { slope: 0.5 },
    Slower::Ranks { slope: 1.5 },
    Slower::Learned,
];

/// Three quarters to the tilts fixed at the start, a quarter to the learned one.
const REFERENCE_WEIGHTS: [f64; 15] = [
    0.06, 0.06, 0.06, 0.06, 0.06, 0.06, 0.0525, 0.0525, 0.0525, 0.0525, 0.0225, 0.0225, 0.0675, 0.0675, 0.25,
];

const BROAD: [Slower; 10] = [
    Slower::Scores { slope: 0.15 },
    Slower::Everything { times: 1.25 },
    Slower::Everything { times: 2.0 },
    part(0.2, 2.0),
    part(0.05, 3.0),
    part(0.03, 10.0),
    part(0.01, 10.0),
    part(0.003, 30.0),
    tail(0.0001, 600.0),
    Slower::Learned,
];

/// Most to what is hardest to see: a strong effect is found soon with a thin stake too.
const BROAD_WEIGHTS: [f64; 10] = [0.26, 0.04, 0.04, 0.07, 0.09, 0.07, 0.10, 0.06, 0.03, 0.24];

/// Pseudo-requests of the baseline that the learned shape starts from. With few it learns within a minute, and pays
/// for it; the broad bets leave it the unforeseen only, so it may take its time.
const REFERENCE_SHRINKAGE: f64 = 60.0;
const BROAD_SHRINKAGE: f64 = 200.0;

impl Family {
    /// All bets in the order of [`Family::weights`]; the learned one is last.
    pub fn alternatives(self) -> &'static [Slower] {
        match self {
            Family::Reference => &REFERENCE,
            Family::Broad => &BROAD,
        }
    }

    /// Capital of each bet; sums to 1.
    pub fn weights(self) -> &'static [f64] {
        match self {
            Family::Reference => &REFERENCE_WEIGHTS,
            Family::Broad => &BROAD_WEIGHTS,
        }
    }

    /// Capital of one bet; 0 when the family does not place it.
    pub fn weight(self, bet: Slower) -> f64 {
        let pairs = self.alternatives().iter().zip(self.weights());
        pairs.filter(|(b, _)| **b == bet).map(|(_, w)| w).sum()
    }

    /// Pseudo-requests that [`super::learned()`] starts from.
    pub fn shrinkage(self) -> f64 {
        match self {
            Family::Reference => REFERENCE_SHRINKAGE,
            Family::Broad => BROAD_SHRINKAGE,
        }
    }

    /// The tilts that are fixed once the baseline `p` is, in the order of [`Family::alternatives`]; the learned one
    /// is missing.
    pub fn tilts(self, p: &[f64]) -> Vec<Tilt> {
        let bets = self.alternatives().iter();
        bets.filter_map(|bet| Some(Tilt::new(p, &factors(*bet, p)?)))
            .collect()
    }

    /// The family of states that were saved before there was a choice.
    pub(super) fn before_there_were_two() -> Family {
        Family::Reference
    }
}

/// Ratio of alternative to baseline before normalisation, never falling; `None` for the learned one.
fn factors(bet: Slower, p: &[f64]) -> Option<Vec<f64>> {
    match bet {
        Slower::Tail { tail, times } => Some(shapes::step(p, tail, times)),
        Slower::Ranks { slope } => Some(shapes::ranked(p, slope)),
        Slower::Scores { slope } => Some(shapes::scored(p, slope)),
        Slower::Everything { times } => Some(shapes::slower(p, 1.0, times)),
        Slower::Part { share, times } => Some(shapes::slower(p, share, times)),
        Slower::Learned => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILIES: [Family; 2] = [Family::Reference, Family::Broad];

    #[test]
    fn every_bet_has_a_weight_and_they_sum_to_one() {
        for family in FAMILIES {
            assert_eq!(family.weights().len(), family.alternatives().len());
            assert!((family.weights().iter().sum::<f64>() - 1.0).abs() < 1e-15);
            assert_eq!(family.alternatives().last(), Some(&Slower::Learned));
        }
        assert_eq!(Family::Broad.weight(part(0.01, 10.0)), 0.10);
        assert_eq!(Family::Broad.weight(part(0.01, 11.0)), 0.0);
    }

    #[test]
    fn every_tilt_is_a_distribution_with_rising_ratio() {
        let p = [0.5, 0.3, 0.15, 0.04, 0.009, 0.001];
        for tilt in FAMILIES.iter().flat_map(|family| family.tilts(&p)) {
            assert!((tilt.probabilities(&p).iter().sum::<f64>() - 1.0).abs() < 1e-14);
            let ratios = tilt.probabilities(&[1.0; 6]);
            assert!(ratios.is_sorted(), "{ratios:?}");
        }
    }
}
