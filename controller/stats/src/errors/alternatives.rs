//! The seven ways a canary may be worse that the error process bets on (evidence 2a).

use crate::counts::Arm;
use crate::halfplane::Margin;
use serde::{Deserialize, Serialize};

/// Which bet, for the explanation of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Alternative {
    /// Odds 1.5 times those of the tolerated rate.
    Times1_5,
    /// Odds 3 times.
    Times3,
    /// Odds 10 times.
    Times10,
    /// One request in ten fails.
    Tenth,
    /// Half of the requests fail.
    Half,
    /// Nine in ten fail.
    NineTenths,
    /// The rate learned from the canary's own past.
    Learned,
}

/// All alternatives, in the order of their weights.
pub const ALTERNATIVES: [Alternative; 7] = [
    Alternative::Times1_5,
    Alternative::Times3,
    Alternative::Times10,
    Alternative::Tenth,
    Alternative::Half,
    Alternative::NineTenths,
    Alternative::Learned,
];

/// Capital of each alternative; sums to 1.
pub const WEIGHTS: [f64; 7] = [0.22, 0.22, 0.14, 0.07, 0.07, 0.06, 0.22];

/// Odds of the learned alternative at least this much above the tolerated ones: below, a bet wins too little.
const LEAST_LEARNED: f64 = 1.15;

/// No bet on total failure: a single good canary request would cost it everything.
const MOST: f64 = 0.97;

/// Range of the tolerated rate that the multiples start from; above 0.6 they would crowd at the top.
const TOLERATED: (f64, f64) = (1e-9, 0.6);

/// Canary rates to bet on, from the past only: the stable rate `baseline`, the margin, the canary's totals.
pub(crate) fn canary_rates(baseline: f64, margin: Margin, canary: Arm) -> [f64; 7] {
    let tolerated = margin.line(baseline).clamp(TOLERATED.0, TOLERATED.1);
    let learned = (canary.bad() + 1.5) / (canary.requests() + 1.0 / tolerated);
    [
        odds_times(tolerated, 1.5),
        odds_times(tolerated, 3.0),
        odds_times(tolerated, 10.0),
        0.1,
        0.5,
        0.9,
        learned.max(odds_times(tolerated, LEAST_LEARNED)),
    ]
    .map(|rate| rate.min(MOST))
}

fn odds_times(rate: f64, times: f64) -> f64 {
    let odds = rate / (1.0 - rate) * times;
    odds / (1.0 + odds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one() {
        assert!((WEIGHTS.iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }

    #[test]
    fn rates_stay_inside_for_any_counts() {
        for canary in [
            Arm::new(0, 0),
            Arm::new(u64::MAX, u64::MAX),
            Arm::new(u64::MAX, 0),
        ] {
            for baseline in [1e-9, 0.5, 1.0 - 1e-9] {
                for rate in canary_rates(baseline, Margin::ROLL_BACK, canary) {
                    assert!(rate > 0.0 && rate <= MOST);
                }
            }
        }
    }
}
