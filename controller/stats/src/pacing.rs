//! How fast the weight may rise: a budget of bad requests per reaction time (evidence 2e).
//!
//! The quantile here paces only; no decision uses it. Warm-up, approvals and limits of the plan are the caller's.

use crate::bounds::nats;
use crate::counts::Arm;
use crate::refused::Refused;
use serde::{Deserialize, Serialize};
use statrs::function::beta::checked_beta_reg;

/// Settings of the ramp.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawPace")]
pub struct Pace {
    budget: f64,
    reaction: f64,
    least: f64,
    most: f64,
}

/// What the next weight depends on. Only closed blocks may enter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sight {
    /// Requests per second of both arms.
    pub rate: f64,
    /// Canary totals since its start.
    pub canary: Arm,
    /// Stable error rate (`SX / SN`).
    pub stable: f64,
    /// `ln M` of the rollback.
    pub log_roll: f64,
    /// Chance of a false rollback.
    pub alpha: f64,
}

/// The pacing bound: nine in ten canaries with these counts have a lower rate.
const QUANTILE: f64 = 0.9;

/// A canary is never trusted to be less than this above stable: the ramp would jump.
const LEAST_EXCESS: f64 = 1e-4;

/// Above this both counts are large enough for Carter's normal approximation (relative error below 2e-5 here).
const LARGE: f64 = 300.0;

/// Above this the log-gamma functions of the exact quantile cancel; it scales with one over the requests there.
const HUGE: f64 = 1e8;

/// Upper decile of the standard normal distribution.
const NORMAL_DECILE: f64 = 1.281_551_565_544_600_4;

impl Pace {
    /// Ten bad requests in three seconds (tick, decide, push), from 0.1 % to half of the traffic.
    pub const DEFAULT: Pace = Pace {
        budget: 10.0,
        reaction: 3.0,
        least: 0.001,
        most: 0.5,
    };

    /// `budget` bad requests per `reaction` seconds, weights from `least` to `most` (`0 < least <= most <= 1`).
    pub fn new(budget: f64, reaction: f64, least: f64, most: f64) -> Result<Pace, Refused> {
        let positive = |v: f64| v > 0.0 && v.is_finite();
        if let Some(bad) = [budget, reaction, least].into_iter().find(|v| !positive(*v)) {
            return Err(Refused::Pace(bad));
        }
        if !(least <= most && most <= 1.0) {
            return Err(Refused::Pace(most));
        }
        Ok(Pace {
            budget,
            reaction,
            least,
            most,
        })
    }

    /// Weight to start with at `rate` requests per second, as if every canary request failed.
    pub fn first(&self, rate: f64) -> f64 {
        if rate > 0.0 {
            self.allowed(rate, 1.0)
        } else {
            self.least
        }
    }

    /// The next weight: never below `weight`, unchanged while the canary is suspect or nothing is known of the traffic.
    pub fn next(&self, weight: f64, sight: &Sight) -> f64 {
        let known = sight.rate > 0.0 && sight.rate.is_finite();
        if !known || suspect(sight.log_roll, sight.alpha) {
            return weight;
        }
        let excess = (upper_rate(sight.canary) - sight.stable).max(LEAST_EXCESS);
        weight.max(self.allowed(sight.rate, excess))
    }

    fn allowed(&self, rate: f64, excess: f64) -> f64 {
        (self.budget / (rate * self.reaction * excess)).clamp(self.least, self.most)
    }
}

/// True while the evidence against the canary is half way to a rollback, in nats: the weight must not rise.
pub fn suspect(log_roll: f64, alpha: f64) -> bool {
    log_roll > 0.5 * nats(alpha)
}

/// 90 % upper quantile of `Beta(x + 1/2, n - x + 1/2)`.
pub fn upper_rate(canary: Arm) -> f64 {
    beta_quantile(canary.bad() + 0.5, canary.good() + 0.5, QUANTILE)
}

fn beta_quantile(a: f64, b: f64, p: f64) -> f64 {
    if a > b {
        return 1.0 - beta_quantile(b, a, 1.0 - p);
    }
    if a > LARGE {
        return carter(a, b, p);
    }
    let counted = b.min(HUGE);
    bisect(a, counted, p) * (counted / b)
}

/// Carter's approximation (algorithm AS 109), relative error below 2e-5 for both parameters above [`LARGE`].
fn carter(a: f64, b: f64, p: f64) -> f64 {
    let y = if p > 0.5 { -NORMAL_DECILE } else { NORMAL_DECILE };
    let (s, t) = (1.0 / (2.0 * a - 1.0), 1.0 / (2.0 * b - 1.0));
    let (r, h) = ((y * y - 3.0) / 6.0, 2.0 / (s + t));
    let w = y * (h + r).sqrt() / h - (t - s) * (r + 5.0 / 6.0 - 2.0 / (3.0 * h));
    a / (a + b * (2.0 * w).exp())
}

/// By bisection: Newton's method of the library does not end for some large parameters.
fn bisect(a: f64, b: f64, p: f64) -> f64 {
    let below = |x: f64| checked_beta_reg(a, b, x).is_ok_and(|mass| mass < p);
    let (mut low, mut high) = (0.0, 1.0);
    while high - low > 1e-12 * high {
        let middle = 0.5 * (low + high);
        if below(middle) {
            low = middle
        } else {
            high = middle
        }
    }
    high
}

#[derive(Deserialize)]
struct RawPace {
    budget: f64,
    reaction: f64,
    least: f64,
    most: f64,
}

impl TryFrom<RawPace> for Pace {
    type Error = Refused;

    fn try_from(raw: RawPace) -> Result<Pace, Refused> {
        Pace::new(raw.budget, raw.reaction, raw.least, raw.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(rate: f64, n: u64, x: u64) -> Sight {
        Sight {
            rate,
            canary: Arm::new(n, x),
            stable: 0.001,
            log_roll: 0.0,
            alpha: 0.01,
        }
    }

    #[test]
    fn starts_with_the_budget() {
        assert!((Pace::DEFAULT.first(1000.0) - 1.0 / 300.0).abs() < 1e-15);
        assert!((Pace::DEFAULT.first(10.0) - 1.0 / 3.0).abs() < 1e-15);
        assert_eq!(Pace::DEFAULT.first(1e9), 0.001);
        assert_eq!(Pace::DEFAULT.first(0.0), 0.001);
    }

    #[test]
    fn clean_traffic_raises_the_weight_and_errors_do_not_lower_it() {
        let clean = Pace::DEFAULT.next(0.01, &sight(1000.0, 10_000, 10));
        assert!(clean > 0.3, "{clean}");
        assert_eq!(Pace::DEFAULT.next(0.2, &sight(1000.0, 100, 60)), 0.2);
    }

    #[test]
    fn suspicion_or_missing_traffic_freezes() {
        let suspicious = Sight {
            log_roll: 2.31,
            ..sight(1000.0, 10_000, 10)
        };
        assert_eq!(Pace::DEFAULT.next(0.01, &suspicious), 0.01);
        assert_eq!(Pace::DEFAULT.next(0.01, &sight(0.0, 10_000, 10)), 0.01);
        assert_eq!(Pace::DEFAULT.next(0.01, &sight(f64::NAN, 10_000, 10)), 0.01);
    }

    #[test]
    fn settings_out_of_order_are_refused() {
        assert_eq!(Pace::new(10.0, 3.0, 0.6, 0.5), Err(Refused::Pace(0.5)));
        assert_eq!(Pace::new(0.0, 3.0, 0.1, 0.5), Err(Refused::Pace(0.0)));
    }

    /// Expected values from an independent implementation (SciPy).
    #[test]
    fn the_upper_rate_is_right_from_no_request_to_a_million_million() {
        for (n, x, expected) in [
            (0, 0, 0.9755282581475768),
            (100, 0, 0.013403267944441844),
            (1000, 3, 0.005997984798302421),
            (10_000, 100, 0.011346269658472394),
            (10_000, 299, 0.032150292887524475),
            (10_000, 301, 0.03235732296938094),
            (1_000_000, 1000, 0.001041222701684861),
            (1_000_000, 500_000, 0.5006407753594802),
            (10, 10, 0.9992302446953152),
            (1_000_000_000, 5, 8.637504240881183e-09),
            (1_000_000_000, 250, 2.709854162614352e-07),
            (1_000_000_000_000, 1000, 1.041244439789995e-09),
            (100_000, 99_990, 0.9999338010567684),
            (1_000_000_000_000, 3, 6.0085183118797246e-12),
        ] {
            let found = upper_rate(Arm::new(n, x));
            assert!((found / expected - 1.0).abs() < 2e-5, "{n} {x}: {found}");
        }
    }
}
