//! What to expect before a rollout starts: information per request, times, smallest visible effect (evidence 2f).

use crate::bounds::nats;
use crate::errors::Phi;
use crate::halfplane::{Bet, Margin, Rates, Side, divergence};
use serde::{Deserialize, Serialize};

/// Traffic and settings that the expected times depend on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// Requests per second, both arms.
    pub rate: f64,
    /// Share of the canary, strictly between 0 and 1.
    pub weight: f64,
    /// Dispersion.
    pub phi: Phi,
    /// Chance of a false rollback.
    pub alpha: f64,
    /// Chance of a false promotion.
    pub beta: f64,
    /// Line of the rollback.
    pub roll_back: Margin,
    /// Line of the promotion.
    pub promote: Margin,
    /// Part of all capital that the winning bet starts with: metric weight x alternative weight x head start.
    pub stake: f64,
}

/// Metric weight .5 (errors), alternative weight .22 (most of them, the learned one too), head start .7.
pub const TYPICAL_STAKE: f64 = 0.5 * 0.22 * 0.7;

/// Largest rate that the search for a visible effect tries.
const WORST: f64 = 0.999;

/// Halvings until the smallest visible rate is known to the last digit that matters.
const HALVINGS: usize = 60;

/// Nats per request, both arms counted, that separate `rates` from the line; 0 when they lie on the other side.
pub fn information(rates: Rates, weight: f64, margin: Margin, side: Side) -> f64 {
    let stable = 1.0 - weight;
    Bet::place(stable, weight, rates, margin, side).map_or(0.0, |bet| bet.growth(stable, weight).max(0.0))
}

impl Outlook {
    /// Expected seconds until a canary with these rates is rolled back; `None` when it never is.
    pub fn roll_back_seconds(&self, rates: Rates) -> Option<f64> {
        let information = information(rates, self.weight, self.roll_back, Side::Worse);
        self.seconds(
            self.phi.get() * (nats(self.alpha) + nats(self.stake)),
            information,
        )
    }

    /// No test of the same null at this alpha can be faster on average.
    pub fn floor_seconds(&self, rates: Rates) -> Option<f64> {
        let information = information(rates, self.weight, self.roll_back, Side::Worse);
        self.seconds(nats(self.alpha), information)
    }

    /// Wald's floor with both rates known in advance: the gap to it is the price of trusting concurrent traffic only.
    pub fn wald_seconds(&self, rates: Rates) -> Option<f64> {
        let edge = |rate: f64| rate.clamp(1e-12, 1.0 - 1e-12);
        let information = self.weight * divergence(edge(rates.canary), edge(rates.stable));
        self.seconds(nats(self.alpha), information)
    }

    /// Expected seconds until a canary as good as stable is promoted, soak time apart.
    pub fn promote_seconds(&self, stable: f64) -> Option<f64> {
        let same = Rates {
            stable,
            canary: stable,
        };
        let information = information(same, self.weight, self.promote, Side::Good);
        self.seconds(self.phi.get() * nats(self.beta), information)
    }

    /// Smallest canary error rate that is rolled back within `seconds`; `None` when not even total failure is.
    pub fn smallest_visible(&self, stable: f64, seconds: f64) -> Option<f64> {
        let seen = |canary| {
            self.roll_back_seconds(Rates { stable, canary })
                .is_some_and(|t| t <= seconds)
        };
        if !seen(WORST) {
            return None;
        }
        let (mut hidden, mut visible) = (stable.clamp(0.0, WORST), WORST);
        for _ in 0..HALVINGS {
            let middle = 0.5 * (hidden + visible);
            if seen(middle) {
                visible = middle
            } else {
                hidden = middle
            }
        }
        Some(visible)
    }

    fn seconds(&self, nats: f64, information: f64) -> Option<f64> {
        let seconds = nats / (self.rate * information);
        (self.rate > 0.0 && seconds.is_finite()).then_some(seconds)
    }
}

/// Nats that a failure costs which starts late instead of with the canary: its slice of the capital is thin.
pub fn late_start_cost(spread: crate::capital::Spread) -> f64 {
    (spread.horizon() / (1.0 - spread.head_start())).ln() + spread.head_start().ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capital::Spread;

    fn outlook(rate: f64, weight: f64) -> Outlook {
        Outlook {
            rate,
            weight,
            phi: Phi::ONE,
            alpha: 0.01,
            beta: 0.05,
            roll_back: Margin::NONE,
            promote: Margin::PROMOTE,
            stake: TYPICAL_STAKE,
        }
    }

    #[test]
    fn half_the_canary_failing_is_seen_at_once_and_a_doubling_is_not() {
        let outlook = outlook(10.0, 0.1);
        let seconds = |canary| {
            outlook
                .roll_back_seconds(Rates {
                    stable: 0.001,
                    canary,
                })
                .unwrap()
        };
        assert!(seconds(0.5) < 8.0, "{}", seconds(0.5));
        assert!(seconds(0.002) > 3600.0, "{}", seconds(0.002));
        assert_eq!(
            outlook.roll_back_seconds(Rates {
                stable: 0.001,
                canary: 0.001
            }),
            None
        );
    }

    #[test]
    fn floors_are_below_the_expected_time() {
        let outlook = outlook(100.0, 0.5);
        let rates = Rates {
            stable: 0.001,
            canary: 0.01,
        };
        let [wald, floor, expected] = [
            outlook.wald_seconds(rates),
            outlook.floor_seconds(rates),
            outlook.roll_back_seconds(rates),
        ];
        assert!(wald.is_some() && wald < floor && floor < expected);
    }

    #[test]
    fn the_smallest_visible_rate_takes_just_the_time_given() {
        let outlook = outlook(10.0, 0.1);
        let canary = outlook.smallest_visible(0.001, 600.0).unwrap();
        let seconds = outlook
            .roll_back_seconds(Rates {
                stable: 0.001,
                canary,
            })
            .unwrap();
        assert!((seconds - 600.0).abs() < 1e-6, "{canary} {seconds}");
        assert_eq!(outlook.smallest_visible(0.001, 0.01), None);
    }

    #[test]
    fn no_traffic_takes_no_finite_time() {
        assert_eq!(outlook(0.0, 0.1).promote_seconds(0.001), None);
        assert_eq!(outlook(10.0, 0.0).promote_seconds(0.001), None);
        assert!(
            outlook(10.0, 0.1)
                .promote_seconds(0.0)
                .is_some_and(|s| s > 2900.0 && s < 3700.0)
        );
    }

    #[test]
    fn a_late_failure_costs_eight_nats_more() {
        assert!((late_start_cost(Spread::DEFAULT) - (6000.0_f64.ln() + 0.7_f64.ln())).abs() < 1e-12);
    }
}
