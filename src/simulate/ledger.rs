//! What a proxy remembers of stable: minutes, noise, pods, durations; written into its page.

use super::{
    durations::{Cells, Durations, NONE},
    pods::PODS,
};
use controller::{
    contract::{
        evidence::{Bad, HISTORY_MINUTES, LATENCY_MINUTES, Minute, Noise, Pod, SLICES, ServicePage, Slice},
        names::Track,
    },
    stats::Arm,
};
use std::collections::VecDeque;

/// Seconds of the blocks in which slices are compared.
const LENGTHS: [u64; 3] = [1, 10, 60];

/// Stable's requests of a second by slice.
pub type Slices = [Arm; SLICES];

/// Of one proxy.
#[derive(Default)]
pub struct Ledger {
    open: [Slices; LENGTHS.len()],
    pods: VecDeque<[Arm; PODS]>,
    latency: VecDeque<Box<Cells>>,
}

impl Ledger {
    /// A second of stable.
    pub fn count(&mut self, page: &mut ServicePage, second: u64, stable: Arm) {
        let minute = second / 60;
        match page.history.last_mut().filter(|m| m.minute == minute) {
            Some(m) => (m.started, m.bad) = (m.started + stable.n, m.bad + stable.x),
            None => self.begin_minute(page, minute, stable),
        }
    }

    fn begin_minute(&mut self, page: &mut ServicePage, minute: u64, stable: Arm) {
        let old = |kept: usize, most: u64| (kept + 1).saturating_sub(most as usize);
        page.history.drain(..old(page.history.len(), HISTORY_MINUTES));
        page.history.push(Minute {
            minute,
            started: stable.n,
            bad: stable.x,
            noise: Noise::default(),
        });
        self.pods.drain(..old(self.pods.len(), HISTORY_MINUTES));
        self.pods.push_back([Arm::default(); PODS]);
        self.latency.drain(..old(self.latency.len(), LATENCY_MINUTES + 1));
        self.latency.push_back(Box::new(NONE));
    }

    /// The same second by pod, after it was counted.
    pub fn divide(&mut self, page: &mut ServicePage, second: u64, pods: &[Arm; PODS]) -> Slices {
        if let Some(sums) = self.pods.back_mut() {
            sums.iter_mut()
                .zip(pods)
                .for_each(|(sum, more)| *sum = sum.plus(*more));
        }
        let slices = slices(pods);
        if let Some(minute) = page.history.last_mut() {
            self.compare(&mut minute.noise, second, &slices);
        }
        slices
    }

    /// The same second by duration, after it was counted.
    pub fn time(&mut self, cells: &Cells) {
        if let Some(sums) = self.latency.back_mut() {
            sums.iter_mut().zip(cells).for_each(|(sum, more)| *sum += more);
        }
    }

    /// Blocks end with the seconds that their length divides.
    fn compare(&mut self, noise: &mut Noise, second: u64, slices: &Slices) {
        for (i, (open, length)) in self.open.iter_mut().zip(LENGTHS).enumerate() {
            open.iter_mut()
                .zip(slices)
                .for_each(|(sum, more)| *sum = sum.plus(*more));
            if (second + 1).is_multiple_of(length) {
                let (found, expected) = variances(open);
                noise.found[i] += found;
                noise.expected[i] += expected;
                *open = Slices::default();
            }
        }
    }

    /// Sums over the pods' last half hour.
    pub fn show_pods(&self, page: &mut ServicePage) {
        let sum = |i: usize| {
            self.pods
                .iter()
                .fold(Arm::default(), |sum, minute| sum.plus(minute[i]))
        };
        page.pods.clear();
        page.pods.extend((0..PODS).map(|i| pod(i, sum(i))));
    }

    /// Durations of the last ten minutes and the running one.
    pub fn show_latency(&self, page: &mut ServicePage, durations: &Durations) {
        let mut all = NONE;
        for minute in &self.latency {
            all.iter_mut()
                .zip(minute.iter())
                .for_each(|(sum, more)| *sum += more);
        }
        durations.pairs(&all, &mut page.latency);
    }
}

fn pod(index: usize, sum: Arm) -> Pod {
    Pod {
        endpoint: format!("10.0.0.{}:80", index + 1),
        track: Track::Stable,
        started: sum.n,
        bad: sum.x,
        // All pods are as fast as each other here: nothing to tell.
        finished: 0,
        buckets: 0,
    }
}

/// By endpoint: the ninth pod shares the slice of the first.
fn slices(pods: &[Arm; PODS]) -> Slices {
    let mut slices = Slices::default();
    for (i, pod) in pods.iter().enumerate() {
        slices[i % SLICES] = slices[i % SLICES].plus(*pod);
    }
    slices
}

/// As a page tells them, all ended.
pub fn told(slices: &Slices) -> Vec<Slice> {
    let told = |arm: &Arm| Slice {
        started: arm.n,
        finished: arm.n,
        bad: at_any_age(arm.x),
    };
    slices.iter().map(told).collect()
}

/// Bad ends that came before any age that is asked for.
pub fn at_any_age(bad: u64) -> Bad {
    Bad {
        by_1s: bad,
        by_5s: bad,
        by_30s: bad,
        ever: bad,
    }
}

/// Squared deviations from the pooled rate, and what independent requests would give.
fn variances(slices: &Slices) -> (f64, f64) {
    let all = slices.iter().fold(Arm::default(), |sum, s| sum.plus(*s));
    if all.x == 0 || all.n < 2 {
        return (0.0, 0.0);
    }
    let (requests, rate) = (all.requests(), all.bad() / all.requests());
    let drawn = requests / (requests - 1.0);
    let both = |s: &Arm| {
        let expected = s.requests() * rate * (1.0 - rate) * (1.0 - s.requests() / requests) * drawn;
        ((s.bad() - s.requests() * rate).powi(2), expected)
    };
    slices
        .iter()
        .map(both)
        .fold((0.0, 0.0), |sum, v| (sum.0 + v.0, sum.1 + v.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::sheet::nothing;

    #[test]
    fn blocks_of_each_length_end_in_their_minute() {
        let (mut ledger, mut page) = (Ledger::default(), nothing());
        for second in 0..120 {
            let mut pods = [Arm::new(10, 0); PODS];
            pods[1].x = u64::from(second == 59);
            ledger.count(&mut page, second, Arm::new(90, pods[1].x));
            ledger.divide(&mut page, second, &pods);
        }
        let [first, second] = [page.history[0].noise, page.history[1].noise];
        assert!(first.expected.iter().all(|e| *e > 0.0) && second == Noise::default());
        // One error among 90, 900 and 5400 requests.
        assert!((first.expected[0] - 0.864).abs() < 0.01, "{first:?}");
        assert_eq!((page.history.len(), page.history[1].started), (2, 5400));
        ledger.show_pods(&mut page);
        assert_eq!(
            (page.pods.len(), page.pods[1].started, page.pods[1].bad),
            (PODS, 1200, 1)
        );
    }

    #[test]
    fn half_an_hour_is_kept_of_counts_and_eleven_minutes_of_durations() {
        let (mut ledger, mut page) = (Ledger::default(), nothing());
        let durations = Durations::of(crate::simulate::worlds::Delay::Usual);
        for minute in 0..50 {
            ledger.count(&mut page, minute * 60, Arm::new(5, 0));
            let mut cells = NONE;
            cells[40] = 5;
            ledger.time(&cells);
        }
        ledger.show_latency(&mut page, &durations);
        assert_eq!((page.history.len(), page.history[0].minute), (30, 20));
        assert_eq!(page.latency.iter().map(|(_, n)| n).sum::<u64>(), 55);
    }
}
