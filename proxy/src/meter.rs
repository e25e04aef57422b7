//! Counters of one service on one worker: one writer, so that counting is a load and a store; whoever reads sums over
//! the workers. Nothing here waits, locks or allocates.

use crate::{
    error::{Failure, KINDS},
    evidence::Ring,
    grpc,
    guard::Pulse,
    wire::request::{Method, Protocol},
};
use contract::{
    latency::{self, BUCKETS},
    names::{Reason, Track},
};
use std::{
    array::from_fn,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// Slots of the table of answered requests; what does not fit is counted in one more.
const SLOTS: usize = 256;
/// What becomes of a wish for a second try, in the order of their counters.
pub const RETRIES: [&str; 2] = ["tried", "over_budget"];
/// Key of the slot for what did not fit.
const OVERFLOW: u32 = u32::MAX;

/// Adds to a counter that only this thread writes.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

/// Adds one to a counter that several threads write: only off the usual path.
pub fn add_shared(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// Adds one to a small counter that only this thread writes.
pub fn bump(counter: &AtomicU32) {
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

/// The counters of one service on one worker. Aligned to two cache lines, so that no two workers share one.
#[derive(Debug)]
#[repr(align(128))]
pub struct Meter {
    /// Durations by track, and whether they are evidence.
    pub durations: [[Histogram; 2]; 2],
    /// Decisions by track and reason.
    pub decisions: [[AtomicU64; Reason::ALL.len()]; 2],
    /// Failures by track and kind.
    pub failures: [[AtomicU64; KINDS.len()]; 2],
    /// Second tries within a track: made, and not made because the budget was spent.
    pub retries: [[AtomicU64; RETRIES.len()]; 2],
    /// Times that an endpoint was left alone, by track.
    pub ejections: [AtomicU64; 2],
    /// Copies, by what became of them.
    pub mirrors: [AtomicU64; Mirror::ALL.len()],
    /// Durations of originals and of their copies.
    pub mirror_durations: [Histogram; 2],
    /// Requests under way by track.
    pub inflight: [AtomicU64; 2],
    /// Answered requests by code, method, protocol, track and evidence.
    pub answers: Answers,
    /// Calls of gRPC by track, whether they are evidence, and status.
    pub calls: [[[AtomicU64; grpc::CODES]; 2]; 2],
    /// Evidence by second of start.
    pub ring: Ring,
    /// What the guard looks at.
    pub pulse: Pulse,
}

/// What became of a copy, beside what the client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirror {
    /// The same status, and a body as long.
    Same,
    /// Another status.
    StatusDiffers,
    /// The same status, and a body of another length.
    SizeDiffers,
    /// The canary failed, or took too long.
    Failed,
    /// It was not sent, because there were too many, or there was nothing to compare it with.
    Dropped,
}

impl Mirror {
    /// All, in the order of their counters, with their label values.
    pub const ALL: [(Mirror, &'static str); 5] = [
        (Mirror::Same, "same"),
        (Mirror::StatusDiffers, "status_differs"),
        (Mirror::SizeDiffers, "size_differs"),
        (Mirror::Failed, "failed"),
        (Mirror::Dropped, "dropped"),
    ];
}

/// Durations in the buckets of the contract.
#[derive(Debug)]
pub struct Histogram {
    /// Counts by bucket.
    pub buckets: [AtomicU64; BUCKETS],
    /// Sum in nanoseconds.
    pub nanos: AtomicU64,
}

/// Open addressing over atomic slots; slots are taken and never given back.
#[derive(Debug)]
pub struct Answers {
    slots: [(AtomicU32, AtomicU64); SLOTS],
    overflow: AtomicU64,
}

/// What answered requests are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answer {
    /// Which track, 0 or 1.
    pub track: usize,
    /// Whether it is evidence.
    pub evidence: bool,
    /// Status; 0 for the ones that did not fit.
    pub code: u16,
    /// Method as index into [`Method::ALL`].
    pub method: usize,
    /// Protocol as index into [`Protocol::ALL`].
    pub protocol: usize,
}

impl Default for Meter {
    fn default() -> Meter {
        Meter {
            durations: from_fn(|_| from_fn(|_| Histogram::default())),
            decisions: from_fn(|_| from_fn(|_| AtomicU64::new(0))),
            failures: from_fn(|_| from_fn(|_| AtomicU64::new(0))),
            retries: from_fn(|_| from_fn(|_| AtomicU64::new(0))),
            ejections: from_fn(|_| AtomicU64::new(0)),
            mirrors: from_fn(|_| AtomicU64::new(0)),
            mirror_durations: from_fn(|_| Histogram::default()),
            inflight: from_fn(|_| AtomicU64::new(0)),
            answers: Answers::default(),
            calls: from_fn(|_| from_fn(|_| from_fn(|_| AtomicU64::new(0)))),
            ring: Ring::default(),
            pulse: Pulse::default(),
        }
    }
}

impl Meter {
    /// Counts a decision.
    pub fn decided(&self, track: Track, reason: Reason) {
        add(&self.decisions[track.index()][reason as usize], 1);
    }

    /// Counts a failure that is charged to a track.
    pub fn failed(&self, track: Track, failure: Failure) {
        add(&self.failures[track.index()][failure.index()], 1);
    }

    /// Counts a second try, or that there is no budget for it.
    pub fn retried(&self, track: Track, granted: bool) {
        add(&self.retries[track.index()][usize::from(!granted)], 1);
    }

    /// Counts that an endpoint is left alone.
    pub fn ejected(&self, track: Track) {
        add(&self.ejections[track.index()], 1);
    }

    /// Counts a copy.
    pub fn mirrored(&self, outcome: Mirror) {
        add(&self.mirrors[outcome as usize], 1);
    }

    /// Requests so far, second tries among them.
    pub fn decided_so_far(&self) -> u64 {
        let all = self.decisions.iter().flatten();
        all.fold(0, |n, d| n.wrapping_add(d.load(Relaxed)))
    }

    /// Counts a request that begins (1) or ends (-1, as its two's complement).
    pub fn under_way(&self, track: Track, change: u64) {
        add(&self.inflight[track.index()], change);
    }

    /// Counts a call of gRPC.
    pub fn called(&self, track: Track, evidence: bool, code: grpc::Code) {
        add(&self.calls[track.index()][usize::from(evidence)][code.index()], 1);
    }

    /// Counts a duration.
    pub fn took(&self, track: Track, evidence: bool, nanos: u64) {
        self.durations[track.index()][usize::from(evidence)].add(nanos);
    }
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            buckets: from_fn(|_| AtomicU64::new(0)),
            nanos: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one.
    pub fn add(&self, nanos: u64) {
        add(&self.buckets[latency::bucket(nanos).min(BUCKETS - 1)], 1);
        add(&self.nanos, nanos);
    }
}

impl Default for Answers {
    fn default() -> Answers {
        Answers {
            slots: from_fn(|_| (AtomicU32::new(0), AtomicU64::new(0))),
            overflow: AtomicU64::new(0),
        }
    }
}

impl Answers {
    /// Counts one answer.
    pub fn add(&self, answer: Answer) {
        let key = answer.key();
        let start = (key.wrapping_mul(0x9e37_79b9) >> 24) as usize;
        for i in 0..SLOTS {
            let (taken, count) = &self.slots[(start + i) % SLOTS];
            match taken.load(Relaxed) {
                0 => taken.store(key, Relaxed),
                k if k == key => {}
                _ => continue,
            }
            return add(count, 1);
        }
        add(&self.overflow, 1);
    }

    /// All counts so far.
    pub fn read(&self) -> impl Iterator<Item = (Answer, u64)> {
        let slots = self.slots.iter().map(|(k, n)| (k.load(Relaxed), n.load(Relaxed)));
        slots
            .chain([(OVERFLOW, self.overflow.load(Relaxed))])
            .filter(|(k, n)| *k != 0 && *n != 0)
            .map(|(k, n)| (Answer::of_key(k), n))
    }
}

impl Answer {
    /// An answer to be counted.
    pub fn new(track: Track, evidence: bool, code: u16, method: Method, protocol: Protocol) -> Answer {
        Answer {
            track: track.index(),
            evidence,
            code,
            method: method as usize,
            protocol: protocol as usize,
        }
    }

    /// Never 0: the highest used bit is always set.
    fn key(self) -> u32 {
        let code = u32::from(self.code.min(1023)) << 8;
        let method = (self.method as u32 & 15) << 4;
        let protocol = (self.protocol as u32 & 3) << 2;
        1 << 20 | code | method | protocol | (self.track as u32 & 1) << 1 | u32::from(self.evidence)
    }

    fn of_key(key: u32) -> Answer {
        if key == OVERFLOW {
            return Answer {
                track: 0,
                evidence: false,
                code: 0,
                method: Method::Other as usize,
                protocol: 0,
            };
        }
        Answer {
            track: (key >> 1 & 1) as usize,
            evidence: key & 1 == 1,
            code: (key >> 8 & 1023) as u16,
            method: (key >> 4 & 15) as usize,
            protocol: (key >> 2 & 3) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_apart_and_the_rest_together() {
        let answers = Answers::default();
        for code in 100..600 {
            let a = Answer::new(Track::Canary, true, code, Method::Get, Protocol::Http2);
            answers.add(a);
            answers.add(a);
        }
        let read: Vec<_> = answers.read().collect();
        assert_eq!(read.len(), SLOTS + 1);
        assert_eq!(read.iter().map(|r| r.1).sum::<u64>(), 1000);
        assert_eq!(
            read.last().map(|r| (r.0.code, r.1)),
            Some((0, 1000 - 2 * SLOTS as u64))
        );
        assert!(
            read[..SLOTS]
                .iter()
                .all(|(a, n)| a.track == 1 && a.evidence && *n == 2)
        );
    }
}
