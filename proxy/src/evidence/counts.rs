//! The counters of one entry: a track's, and a slice's.

use super::End;
use crate::meter::bump;
use contract::{
    evidence::{Bad, Served, Slice, Tally},
    latency::BUCKETS,
};
use std::{
    array::from_fn,
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

/// Ages at which bad ends are told apart.
const BAD_AGES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::MAX,
];
/// Ages at which good ends are told apart.
const SERVED_AGES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(1)];

/// What is counted of one track.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) started: AtomicU32,
    finished: AtomicU32,
    /// Within 1 s, 5 s, 30 s, ever.
    bad: [AtomicU32; 4],
    /// Within half a second, 1 s.
    served: [AtomicU32; 2],
    cancelled: AtomicU32,
    latency: [AtomicU32; BUCKETS],
}

/// What is counted of one slice of stable: 24 octets.
#[derive(Debug, Default)]
pub(super) struct SliceCounts {
    pub(super) started: AtomicU32,
    finished: AtomicU32,
    /// As in [`Counts`].
    bad: [AtomicU32; 4],
}

/// Counts an end under every limit that its age keeps.
fn bump_within<const N: usize>(counts: &[AtomicU32; N], limits: [Duration; N], age: Duration) {
    let reached = counts.iter().zip(limits).filter(|(_, limit)| age <= *limit);
    reached.for_each(|(count, _)| bump(count));
}

/// Counts an end after everything else about it: a reader in between never sees a request finished and good before it
/// is bad.
fn finish(finished: &AtomicU32) {
    let n = finished.load(Ordering::Relaxed).wrapping_add(1);
    finished.store(n, Ordering::Release);
}

fn get(count: &AtomicU32) -> u64 {
    u64::from(count.load(Ordering::Relaxed))
}

fn read_bad(bad: &[AtomicU32; 4]) -> Bad {
    Bad {
        by_1s: get(&bad[0]),
        by_5s: get(&bad[1]),
        by_30s: get(&bad[2]),
        ever: get(&bad[3]),
    }
}

impl Default for Counts {
    fn default() -> Counts {
        Counts {
            started: AtomicU32::new(0),
            finished: AtomicU32::new(0),
            bad: from_fn(|_| AtomicU32::new(0)),
            served: from_fn(|_| AtomicU32::new(0)),
            cancelled: AtomicU32::new(0),
            latency: from_fn(|_| AtomicU32::new(0)),
        }
    }
}

impl Counts {
    fn all(&self) -> impl Iterator<Item = &AtomicU32> {
        [&self.started, &self.finished, &self.cancelled]
            .into_iter()
            .chain(&self.bad)
            .chain(&self.served)
            .chain(&self.latency)
    }

    pub(super) fn clear(&self) {
        self.all().for_each(|c| c.store(0, Ordering::Relaxed));
    }

    pub(super) fn end(&self, end: End, age: Duration, bucket: usize) {
        bump(&self.latency[bucket.min(BUCKETS - 1)]);
        match end {
            End::Bad => bump_within(&self.bad, BAD_AGES, age),
            End::Cancelled => bump(&self.cancelled),
            End::Good | End::Nobody => bump_within(&self.served, SERVED_AGES, age),
        }
        finish(&self.finished);
    }

    pub(super) fn read(&self) -> Tally {
        // Finished first: what is read after it has been counted by then.
        let finished = u64::from(self.finished.load(Ordering::Acquire));
        Tally {
            finished,
            bad: read_bad(&self.bad),
            served: Served {
                by_500ms: get(&self.served[0]),
                by_1s: get(&self.served[1]),
            },
            cancelled: get(&self.cancelled),
            latency: self
                .latency
                .iter()
                .enumerate()
                .map(|(i, c)| (i as u16, get(c)))
                .filter(|(_, n)| *n > 0)
                .collect(),
            started: get(&self.started),
        }
    }
}

impl SliceCounts {
    pub(super) fn clear(&self) {
        let all = [&self.started, &self.finished].into_iter().chain(&self.bad);
        all.for_each(|c| c.store(0, Ordering::Relaxed));
    }

    pub(super) fn end(&self, end: End, age: Duration) {
        if end == End::Bad {
            bump_within(&self.bad, BAD_AGES, age);
        }
        finish(&self.finished);
    }

    pub(super) fn read(&self) -> Slice {
        // As in `Counts::read`.
        let finished = u64::from(self.finished.load(Ordering::Acquire));
        Slice {
            finished,
            bad: read_bad(&self.bad),
            started: get(&self.started),
        }
    }
}

fn merge_bad(sum: &mut Bad, more: Bad) {
    sum.by_1s += more.by_1s;
    sum.by_5s += more.by_5s;
    sum.by_30s += more.by_30s;
    sum.ever += more.ever;
}

/// Adds `more` to `sum`.
pub(super) fn merge(sum: &mut Tally, more: &Tally) {
    sum.started += more.started;
    sum.finished += more.finished;
    merge_bad(&mut sum.bad, more.bad);
    sum.served.by_500ms += more.served.by_500ms;
    sum.served.by_1s += more.served.by_1s;
    sum.cancelled += more.cancelled;
    let mut buckets: BTreeMap<u16, u64> = sum.latency.iter().copied().collect();
    for (bucket, n) in &more.latency {
        *buckets.entry(*bucket).or_default() += n;
    }
    sum.latency = buckets.into_iter().collect();
}

/// Adds `more` to `sum`.
pub(super) fn merge_slice(sum: &mut Slice, more: Slice) {
    sum.started += more.started;
    sum.finished += more.finished;
    merge_bad(&mut sum.bad, more.bad);
}
