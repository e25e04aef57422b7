//! Anytime bounds for the explanation of a decision; no decision uses them (evidence 2a, 2g).
//!
//! They hold at every look at once: "the error rate is between 0.01 % and 1.4 %" stays true with probability
//! `1 - alpha` however often it is printed.

mod quantile;

pub use quantile::{QuantileBounds, dkw_radius, quantile};

use crate::capital::log_sum;
use crate::counts::{Arm, Counts};
use crate::mixture::{Beta, Tried};
use serde::{Deserialize, Serialize};

/// A range of a quantity that may be unbounded above.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Lower bound; 0 when the data give none.
    pub low: f64,
    /// Upper bound; `None` when the data give none.
    pub high: Option<f64>,
}

/// Bounds of the ratio of error rates while the share of the canary stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatioBounds {
    /// Probability that an error is the canary's, lower and upper bound.
    pub theta: (f64, f64),
    /// Canary's error rate over stable's.
    pub ratio: Range,
}

/// Bounds of the ratio of error rates while the share changes: a likelihood at each of 121 ratios.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatioSet {
    log: Vec<f64>,
}

/// Prior of a proportion: Jeffreys' keeps the bounds tight near 0, where error rates live.
const JEFFREYS: Beta = Beta {
    hits: 0.5,
    misses: 0.5,
};

/// Ratios looked at: 1/64 to 64 in steps of 7 %.
const RATIOS: usize = 121;
const LARGEST_RATIO: f64 = 64.0;

/// Bounds of the error rate of one arm (Beta(1/2, 1/2) mixture), valid at every look with probability `1 - alpha`.
pub fn proportion(arm: Arm, alpha: f64) -> (f64, f64) {
    JEFFREYS.confidence(
        Tried {
            hits: arm.bad(),
            misses: arm.good(),
        },
        nats(alpha),
    )
}

/// Bounds of the error ratio when the canary's share of requests was `share` all the time.
/// For rare errors; read it as odds ratio otherwise. `None` for a share not strictly between 0 and 1.
pub fn ratio(counts: &Counts, share: f64, alpha: f64) -> Option<RatioBounds> {
    if !(share > 0.0 && share < 1.0) {
        return None;
    }
    let prior = Beta {
        hits: 1.0,
        misses: (1.0 - share) / share,
    };
    let errors = Tried {
        hits: counts.canary.bad(),
        misses: counts.stable.bad(),
    };
    let theta = prior.confidence(errors, nats(alpha));
    let odds = |theta: f64| theta / (1.0 - theta).max(f64::EPSILON) * prior.misses;
    let high = (theta.1 < 1.0).then(|| odds(theta.1));
    Some(RatioBounds {
        theta,
        ratio: Range {
            low: odds(theta.0),
            high,
        },
    })
}

impl Default for RatioSet {
    fn default() -> RatioSet {
        RatioSet {
            log: vec![0.0; RATIOS],
        }
    }
}

impl RatioSet {
    /// Adds a closed block. A one-armed block says nothing about the ratio.
    pub fn add(&mut self, block: &Counts) {
        let (stable, canary) = (block.stable.requests(), block.canary.requests());
        if stable <= 0.0 || canary <= 0.0 {
            return;
        }
        for (j, log) in self.log.iter_mut().enumerate() {
            let odds = ratio_at(j) * (canary / stable);
            *log -= block.canary.bad() * (1.0 / odds).ln_1p() + block.stable.bad() * odds.ln_1p();
        }
    }

    /// Ratios that the data do not refute; an end of the grid counts as no bound on that side.
    pub fn bounds(&self, alpha: f64) -> Range {
        let mixture = log_sum(self.log.iter().copied()) - (RATIOS as f64).ln();
        let kept = |log: &f64| mixture - log < nats(alpha);
        let first = self.log.iter().position(kept).unwrap_or(0);
        let last = self.log.iter().rposition(kept).unwrap_or(RATIOS - 1);
        Range {
            low: if first == 0 { 0.0 } else { ratio_at(first) },
            high: (last + 1 < RATIOS).then(|| ratio_at(last)),
        }
    }
}

/// Ratio number `j` of the grid.
fn ratio_at(j: usize) -> f64 {
    let middle = (RATIOS - 1) as f64 / 2.0;
    LARGEST_RATIO.powf((j as f64 - middle) / middle)
}

/// `ln(1 / alpha)`; an alpha outside 0..1 is read as the nearest one that means something.
pub(crate) fn nats(alpha: f64) -> f64 {
    -alpha.clamp(f64::MIN_POSITIVE, 1.0).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_data_bound_nothing() {
        assert_eq!(proportion(Arm::default(), 0.05), (0.0, 1.0));
        assert_eq!(RatioSet::default().bounds(0.05), Range { low: 0.0, high: None });
    }

    #[test]
    fn a_changing_share_does_not_move_the_ratio() {
        let mut set = RatioSet::default();
        for canary in [10, 50, 300] {
            set.add(&Counts::new((100_000, 100), (canary * 1000, canary * 4)));
        }
        let bounds = set.bounds(0.05);
        assert!(bounds.low > 3.0 && bounds.low < 4.0, "{bounds:?}");
        assert!(
            bounds.high.is_some_and(|high| high > 4.0 && high < 5.3),
            "{bounds:?}"
        );
    }

    #[test]
    fn a_canary_without_errors_has_no_lower_bound() {
        let bounds = ratio(&Counts::new((900, 20), (100, 0)), 0.1, 0.05).unwrap().ratio;
        assert_eq!(bounds.low, 0.0);
        assert!(bounds.high.is_some());
    }

    #[test]
    fn nonsense_alpha_is_no_panic() {
        for alpha in [0.0, -1.0, 2.0, f64::NAN] {
            let (low, high) = proportion(Arm::new(10, 3), alpha);
            assert!(low <= high, "{alpha}");
        }
    }
}
