//! What one second says: counts and durations of both tracks at the outcome age (statistics 2b, 2h).

use contract::{
    evidence::{Cohort, Tally},
    latency::{BUCKETS, EDGES, edge_seconds},
    names::Track,
};
use serde::{Deserialize, Serialize};
use stats::{Arm, Counts, blocks, latency::Histograms};

/// A second, or a block of them. Errors and latency are judged by the same blocks, so that their average is evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Requests and bad ones.
    pub counts: Counts,
    /// Empty when latency is not judged; else as many requests as are counted.
    pub latency: Histograms,
}

impl blocks::Tally for Outcome {
    fn requests(&self) -> (u64, u64) {
        self.counts.requests()
    }

    fn absorb(&mut self, tick: &Outcome) {
        self.counts.absorb(&tick.counts);
        self.latency.absorb(&tick.latency);
    }
}

/// Buckets of a histogram in which nothing is told apart above an age, in seconds: what ends later, and what has not
/// ended, is the overflow, in both tracks.
pub(crate) fn buckets(age: f64) -> usize {
    (0..EDGES).filter(|i| edge_seconds(*i) <= age).count() + 1
}

/// Durations of a cohort in so many buckets; what is pending is the overflow.
pub(crate) fn durations(cohort: &Cohort, buckets: usize) -> Histograms {
    let [stable, canary] = Track::BOTH.map(|t| of_track(&cohort.tracks[t.index()], buckets));
    Histograms { stable, canary }
}

fn of_track(tally: &Tally, buckets: usize) -> Vec<u64> {
    let mut histogram = spread(&tally.latency, buckets);
    if let Some(last) = histogram.last_mut() {
        *last = last.saturating_add(tally.pending());
    }
    histogram
}

/// Seconds below which durations are one: what differs there is decided by a scheduler, and nobody waits for it. A
/// transformation that is fixed beforehand and the same for both tracks leaves every chance as stated.
const FLOOR: f64 = 0.001;

/// The bucket that ends at [`FLOOR`].
fn floor() -> usize {
    (0..EDGES).filter(|i| edge_seconds(*i) < FLOOR * ROUNDING).count()
}

/// Room for the rounding of an edge.
const ROUNDING: f64 = 1.0 - 1e-9;

/// A page's pairs of bucket and count as a histogram of so many buckets.
pub(crate) fn spread(pairs: &[(u16, u64)], buckets: usize) -> Vec<u64> {
    let buckets = buckets.clamp(1, BUCKETS);
    let mut histogram = vec![0u64; buckets];
    let floor = floor();
    for (bucket, n) in pairs {
        let at = usize::from(*bucket).max(floor).min(buckets - 1);
        if let Some(sum) = histogram.get_mut(at) {
            *sum = sum.saturating_add(*n);
        }
    }
    histogram
}

/// Age at which a request of the canary must have a good answer, in seconds; one of stable in half of that, so that a
/// canary up to twice as slow is a matter of latency, and not a hang.
pub(crate) const STALL_AGE: f64 = 1.0;

/// Requests without a good answer at [`STALL_AGE`].
pub(crate) fn stalled(cohort: &Cohort) -> Counts {
    let [stable, canary] = Track::BOTH.map(|t| &cohort.tracks[t.index()]);
    let arm = |t: &Tally, served: u64| Arm::new(t.started, t.started.saturating_sub(served));
    Counts {
        stable: arm(stable, stable.served.by_500ms),
        canary: arm(canary, canary.served.by_1s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::evidence::Served;
    use stats::blocks::Tally as _;

    fn tally(started: u64, latency: &[(u16, u64)]) -> Tally {
        Tally {
            started,
            finished: latency.iter().map(|(_, n)| n).sum(),
            served: Served {
                by_500ms: 1,
                by_1s: 2,
            },
            latency: latency.to_vec(),
            ..Tally::default()
        }
    }

    fn cohort() -> Cohort {
        Cohort {
            second: 0,
            hash: "h".into(),
            share: 0.5,
            tracks: [tally(9, &[(0, 5), (60, 1)]), tally(5, &[(2, 1)])],
            slices: Vec::new(),
        }
    }

    #[test]
    fn what_is_pending_or_above_the_age_is_the_overflow() {
        let n = buckets(5.0);
        assert!(edge_seconds(n - 2) <= 5.0 && edge_seconds(n - 1) > 5.0);
        let found = durations(&cohort(), n);
        assert_eq!(found.requests(), (9, 5));
        assert_eq!((found.stable[4], found.stable[n - 1]), (5, 4));
        assert_eq!((found.canary[4], found.canary[n - 1]), (1, 4));
        assert_eq!(buckets(1e9), BUCKETS);
    }

    #[test]
    fn below_a_millisecond_all_durations_are_one() {
        assert!(
            (edge_seconds(floor()) - FLOOR).abs() < 1e-9,
            "the bucket ends there"
        );
        let fast = spread(&[(0, 3), (3, 2), (4, 1), (5, 7)], 20);
        assert_eq!((fast[..4].iter().sum::<u64>(), fast[4], fast[5]), (0, 6, 7));
    }

    #[test]
    fn stable_must_answer_in_half_the_time() {
        assert_eq!(stalled(&cohort()), Counts::new((9, 8), (5, 3)));
    }
}
