//! When enough has been seen for a bet: closing blocks of ticks (evidence 2.0).
//!
//! The rule looks at request counts only, never at outcomes, so it may not bias a block. One closer per stream
//! (proxy and split hash): streams with different weights must not be summed before `log e` (evidence 2h).

use crate::counts::Counts;
use crate::seconds::seconds;
use serde::{Deserialize, Serialize};

/// What a closer can accumulate.
pub trait Tally: Default {
    /// Requests of stable and of the canary.
    fn requests(&self) -> (u64, u64);
    /// Adds a later tick of the same stream.
    fn absorb(&mut self, tick: &Self);
}

/// The open block of one stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Closer<T> {
    open: T,
    age: f64,
}

/// One request of each arm decides little: a bet on 1 against 1 spends its projection on noise.
const ENOUGH: u64 = 2;

/// Seconds after which one request of each arm must do: waiting longer would mix different loads,
/// and at 0.2 requests/s a total failure would otherwise be seen minutes later.
const PATIENCE: f64 = 30.0;

impl<T: Tally> Closer<T> {
    /// Adds one tick of `dt` seconds; returns the block when this tick completes it.
    pub fn push(&mut self, dt: f64, tick: &T) -> Option<T> {
        self.open.absorb(tick);
        self.age += seconds(dt);
        self.is_full().then(|| self.take())
    }

    /// Closes before a weight change. A one-armed block says nothing (`log e = 0`) but still feeds the baseline.
    /// `None` when no request is waiting.
    pub fn close(&mut self) -> Option<T> {
        let (stable, canary) = self.open.requests();
        let block = self.take();
        (stable > 0 || canary > 0).then_some(block)
    }

    fn is_full(&self) -> bool {
        let (stable, canary) = self.open.requests();
        let fewest = stable.min(canary);
        fewest >= ENOUGH || (fewest >= 1 && self.age >= PATIENCE)
    }

    fn take(&mut self) -> T {
        self.age = 0.0;
        std::mem::take(&mut self.open)
    }
}

impl Tally for Counts {
    fn requests(&self) -> (u64, u64) {
        (self.stable.n, self.canary.n)
    }

    fn absorb(&mut self, tick: &Counts) {
        *self = self.plus(*tick);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(stable: u64, canary: u64) -> Counts {
        Counts::new((stable, 0), (canary, 0))
    }

    #[test]
    fn closes_at_once_with_two_requests_in_each_arm() {
        let mut closer = Closer::default();
        assert_eq!(closer.push(1.0, &tick(9, 1)), None);
        assert_eq!(closer.push(1.0, &tick(9, 1)), Some(tick(18, 2)));
        assert_eq!(closer, Closer::default());
    }

    #[test]
    fn closes_with_one_request_in_each_arm_after_thirty_seconds() {
        let mut closer = Closer::default();
        assert_eq!(closer.push(1.0, &tick(5, 1)), None);
        assert_eq!(closer.push(28.5, &tick(5, 0)), None);
        assert_eq!(closer.push(0.5, &tick(0, 0)), Some(tick(10, 1)));
    }

    #[test]
    fn one_armed_traffic_waits_for_the_other_arm() {
        let mut closer = Closer::default();
        assert_eq!(closer.push(600.0, &tick(100, 0)), None);
        assert_eq!(closer.push(1.0, &tick(100, 1)), Some(tick(200, 1)));
    }

    #[test]
    fn closing_gives_up_what_is_open() {
        let mut closer = Closer::default();
        assert_eq!(closer.close(), None);
        closer.push(1.0, &tick(3, 0));
        assert_eq!(closer.close(), Some(tick(3, 0)));
        assert_eq!(closer.close(), None);
    }
}
