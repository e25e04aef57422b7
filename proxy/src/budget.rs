//! How many second tries within a track a worker may make: a share of the requests of the last ten seconds, so that
//! endpoints that fail are not buried under repetitions (the retry budget of Finagle). Time and counts are arguments.
//!
//! The shield needs no budget. It moves each request at most once, from the canary to stable, and so gives stable no
//! more than it would have at weight 0, which is what a rollback gives it at any moment. Second tries within a track are
//! what multiplies load.

use std::{cell::Cell, time::Duration};

/// What was saved longer ago than this is worth nothing.
const MEMORY: f64 = 10.0;

/// The budget of one service on one worker.
#[derive(Debug, Default)]
pub struct Budget {
    tokens: Cell<f64>,
    /// Requests at the last look, and when that was.
    requests: Cell<u64>,
    looked: Cell<Duration>,
    begun: Cell<bool>,
}

impl Budget {
    /// Takes one second try, if there is one. `requests` is how many there were so far; `share` of each and `min` a
    /// second are saved.
    pub fn take(&self, now: Duration, requests: u64, share: f64, min: f64) -> bool {
        let mut tokens = self.saved(now, requests, share, min);
        let has = tokens >= 1.0;
        if has {
            tokens -= 1.0;
        }
        self.tokens.set(tokens);
        has
    }

    /// Old savings fade, new ones come as if evenly over the time since the last look: nothing is done on the way of a
    /// request that succeeds.
    fn saved(&self, now: Duration, requests: u64, share: f64, min: f64) -> f64 {
        if !self.begun.replace(true) {
            // The first second's minimum is there from the beginning.
            self.tokens.set(min);
        }
        let passed = now.saturating_sub(self.looked.replace(now)).as_secs_f64();
        let fresh = requests.wrapping_sub(self.requests.replace(requests)) as f64;
        let fading = (-passed / MEMORY).exp();
        let kept = if passed > 0.0 {
            (1.0 - fading) * MEMORY / passed
        } else {
            1.0
        };
        self.tokens.get() * fading + (fresh * share + passed * min) * kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Second tries that are granted when every request of a second asks for one, over so many seconds.
    fn granted(rate: u64, seconds: u64, share: f64, min: f64) -> u64 {
        let budget = Budget::default();
        let mut granted = 0;
        for i in 0..rate * seconds {
            let now = Duration::from_secs_f64(i as f64 / rate as f64);
            granted += u64::from(budget.take(now, i + 1, share, min));
        }
        granted
    }

    #[test]
    fn a_share_of_requests_and_a_minimum_are_granted() {
        let all = granted(1000, 30, 0.2, 0.0);
        assert!((5_900..=6_000).contains(&all), "{all}");
        let all = granted(100, 30, 0.0, 10.0);
        assert!((290..=310).contains(&all), "{all}");
        assert_eq!(granted(100, 10, 0.0, 0.0), 0);
    }

    #[test]
    fn savings_fade() {
        let budget = Budget::default();
        let at = Duration::from_secs;
        assert!(budget.take(at(0), 0, 0.2, 1.0));
        // 100 000 requests long ago: what is left is what the last ten seconds would have saved at that pace.
        assert!(budget.take(at(1000), 100_000, 0.2, 0.0));
        let mut left = 0;
        while budget.take(at(1000), 100_000, 0.2, 0.0) {
            left += 1;
        }
        assert!((190..=210).contains(&left), "{left}");
        assert!(!budget.take(at(1100), 100_000, 0.2, 0.0));
    }
}
