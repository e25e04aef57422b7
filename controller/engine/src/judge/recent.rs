//! The last half minute: how much traffic there is, and whether stable itself fails.

use serde::{Deserialize, Serialize};
use stats::{Arm, Counts, halfplane::divergence};

/// Seconds that are remembered.
const KEPT: usize = 30;
/// Seconds looked at for "degraded": the short window sees a failure soon, the long one sees it with little traffic.
const WINDOWS: [usize; 2] = [10, KEPT];
/// Seconds that must be known before they say how much traffic there is; the rate before the release serves until then.
const ENOUGH: usize = 5;
/// Chance of calling a healthy stable degraded at one look: a false hold costs only time.
const CHANCE: f64 = 1e-3;
/// How far above its own past stable must be: five times, plus one in a hundred.
const FAR: (f64, f64) = (5.0, 0.01);

/// Requests and bad ones of stable, requests and bad ones of the canary, by second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recent(Vec<[u64; 4]>);

/// Why the baseline is called degraded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Degraded {
    pub stable: Arm,
    pub seconds: usize,
    pub limit: f64,
}

impl Recent {
    /// A new second.
    pub fn advance(&mut self) {
        if self.0.len() >= KEPT {
            self.0.remove(0);
        }
        self.0.push([0; 4]);
    }

    /// Adds to the newest second.
    pub fn add(&mut self, c: &Counts) {
        if let Some(last) = self.0.last_mut() {
            let more = [c.stable.n, c.stable.x, c.canary.n, c.canary.x];
            for (sum, n) in last.iter_mut().zip(more) {
                *sum = sum.saturating_add(n);
            }
        }
    }

    /// Requests per second.
    pub fn rate(&self) -> Option<f64> {
        let requests: f64 = self.0.iter().map(|s| s[0] as f64 + s[2] as f64).sum();
        (self.0.len() >= ENOUGH).then(|| requests / self.0.len() as f64)
    }

    /// Whether stable's rate is beyond chance above `limit`, or far above its own rate `before` the release.
    pub fn degraded(&self, limit: f64, before: Arm) -> Option<Degraded> {
        let usual = (before.bad() + 0.5) / (before.requests() + 1.0);
        let limit = limit.min(FAR.0 * usual + FAR.1);
        WINDOWS
            .iter()
            .map(|w| (*w, self.stable(*w)))
            .find(|(_, stable)| surely_above(*stable, limit))
            .map(|(seconds, stable)| Degraded {
                stable,
                seconds,
                limit,
            })
    }

    fn stable(&self, seconds: usize) -> Arm {
        let newest = self.0.iter().rev().take(seconds);
        newest.fold(Arm::default(), |sum, s| sum.plus(Arm::new(s[0], s[1])))
    }
}

/// Chernoff's bound: a rate of at most `limit` gives such counts with a chance of at most [`CHANCE`].
fn surely_above(arm: Arm, limit: f64) -> bool {
    let rate = arm.bad() / arm.requests().max(1.0);
    rate > limit && arm.requests() * divergence(rate, limit) >= -CHANCE.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: usize, stable: (u64, u64)) -> Recent {
        let mut recent = Recent::default();
        for _ in 0..n {
            recent.advance();
            recent.add(&Counts::new(stable, (10, 0)));
        }
        recent
    }

    const CLEAN: Arm = Arm::new(60_000, 60);

    #[test]
    fn a_few_errors_are_not_degraded_and_many_are() {
        assert_eq!(seconds(10, (10, 0)).degraded(0.05, CLEAN), None);
        assert_eq!(seconds(1, (10, 1)).degraded(0.05, CLEAN), None);
        let found = seconds(10, (10, 2)).degraded(0.05, CLEAN).unwrap();
        assert_eq!((found.stable, found.seconds), (Arm::new(100, 20), 10));
    }

    #[test]
    fn far_above_its_own_past_is_degraded_below_the_limit_too() {
        assert!(seconds(30, (100, 4)).degraded(0.05, CLEAN).is_some());
        assert_eq!(seconds(30, (100, 4)).degraded(0.05, Arm::new(60_000, 2400)), None);
    }

    #[test]
    fn without_a_past_only_the_limit_counts() {
        assert_eq!(seconds(30, (100, 4)).degraded(0.05, Arm::default()), None);
        assert!(seconds(30, (100, 40)).degraded(0.05, Arm::default()).is_some());
    }

    #[test]
    fn the_rate_needs_five_seconds() {
        assert_eq!(seconds(4, (10, 0)).rate(), None);
        assert_eq!(seconds(60, (10, 0)).rate(), Some(20.0));
    }
}
