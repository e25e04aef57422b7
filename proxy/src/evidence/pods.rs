//! What each endpoint has answered lately, and which slice of stable it is.

use super::slices::{self, Had};
use crate::meter::bump;
use contract::{
    evidence::{HISTORY_MINUTES, SLICES},
    names::Track,
};
use std::{
    array::from_fn,
    collections::{BTreeMap, btree_map::Entry},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering, fence},
    },
};

/// Minutes that are counted together: fewer counters an endpoint, for a limit that is up to five minutes early.
const PERIOD: u64 = 5;
/// Periods that are held: the running one and those before it within [`HISTORY_MINUTES`].
const PERIODS: usize = (HISTORY_MINUTES / PERIOD) as usize;
/// Endpoints that have left the table and are remembered, for half an hour at most: what restarts at its old address
/// goes on with its counts, and addresses that never come back take at most 8 KiB a worker.
const GONE: usize = 64;
/// No slice.
const NONE: u8 = u8::MAX;

/// One endpoint of one service.
#[derive(Debug)]
pub struct Pod {
    /// Its address.
    pub address: SocketAddr,
    /// Its slice while it serves stable, or [`NONE`]. Changed by the control thread when the table changes.
    slice: AtomicU8,
    /// Whether it answers health checks; true while nobody asks.
    well: AtomicBool,
    /// By worker.
    laps: Box<[Lap]>,
}

/// What one worker counts of one endpoint: 128 octets, so that no two workers share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Lap {
    periods: [Period; PERIODS],
}

#[derive(Debug, Default)]
struct Period {
    /// Period + 1, or 0 while it is not valid.
    tag: AtomicU32,
    started: AtomicU32,
    bad: AtomicU32,
    finished: AtomicU32,
    /// Sum of bucket numbers, at most 69: enough for 200 000 requests a second.
    buckets: AtomicU32,
}

/// What one endpoint has answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Requests begun.
    pub started: u64,
    /// Of these, ended badly.
    pub bad: u64,
    /// Of these, ended.
    pub finished: u64,
    /// Sum of the buckets of their durations.
    pub buckets: u64,
}

/// The endpoints of one service, by address, for as long as they are in the table and a while longer.
#[derive(Debug, Default)]
pub struct Roster {
    known: BTreeMap<SocketAddr, Known>,
}

#[derive(Debug)]
struct Known {
    pod: Arc<Pod>,
    /// The minute in which it left the table, if it has.
    left: Option<u64>,
}

impl Pod {
    /// An endpoint that has answered nothing yet, on so many workers.
    pub fn new(address: SocketAddr, workers: usize) -> Pod {
        Pod {
            address,
            slice: AtomicU8::new(NONE),
            well: AtomicBool::new(true),
            laps: (0..workers).map(|_| Lap::default()).collect(),
        }
    }

    /// Which slice of stable it is.
    pub fn slice(&self) -> Option<u8> {
        Some(self.slice.load(Ordering::Relaxed)).filter(|s| usize::from(*s) < SLICES)
    }

    /// Whether it answers health checks.
    pub fn is_well(&self) -> bool {
        self.well.load(Ordering::Relaxed)
    }

    /// Notes what a health check found.
    pub fn set_well(&self, well: bool) {
        self.well.store(well, Ordering::Relaxed);
    }

    /// What one worker counts.
    pub fn lap(&self, worker: usize) -> Option<&Lap> {
        self.laps.get(worker)
    }

    /// What became of the requests that began within [`HISTORY_MINUTES`] of this minute.
    pub fn read(&self, minute: u64) -> Answered {
        let periods = self.laps.iter().flat_map(|l| &l.periods);
        let counts = periods.filter_map(|p| p.read(minute / PERIOD));
        let sum = counts.fold(Answered::default(), Answered::plus);
        // Read while it is counted: an end may be seen before its start.
        Answered {
            started: sum.started.max(sum.bad).max(sum.finished),
            ..sum
        }
    }
}

impl Lap {
    /// Counts a request that begins in this minute.
    pub fn begin(&self, minute: u64) {
        let (period, tag) = self.period(minute);
        if period.tag.load(Ordering::Relaxed) != tag {
            period.renew(tag);
        }
        bump(&period.started);
    }

    /// Counts the end of a request that began in this minute, unless that is too long ago.
    pub fn end(&self, minute: u64, is_bad: bool, bucket: usize) {
        let (period, tag) = self.period(minute);
        if period.tag.load(Ordering::Relaxed) != tag {
            return;
        }
        bump(&period.finished);
        let sum = period.buckets.load(Ordering::Relaxed);
        period
            .buckets
            .store(sum.wrapping_add(bucket as u32), Ordering::Relaxed);
        if is_bad {
            bump(&period.bad);
        }
    }

    fn period(&self, minute: u64) -> (&Period, u32) {
        let number = minute / PERIOD;
        let tag = (number as u32).wrapping_add(1);
        (&self.periods[number as usize % PERIODS], tag)
    }
}

impl Period {
    fn renew(&self, tag: u32) {
        self.tag.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        for count in [&self.started, &self.bad, &self.finished, &self.buckets] {
            count.store(0, Ordering::Relaxed);
        }
        self.tag.store(tag, Ordering::Release);
    }

    /// What it holds, if it is one of the last at the period `now`.
    fn read(&self, now: u64) -> Option<Answered> {
        let tag = self.tag.load(Ordering::Acquire);
        let number = u64::from(tag.checked_sub(1)?);
        let get = |count: &AtomicU32| u64::from(count.load(Ordering::Relaxed));
        let answered = Answered {
            started: get(&self.started),
            bad: get(&self.bad),
            finished: get(&self.finished),
            buckets: get(&self.buckets),
        };
        fence(Ordering::Acquire);
        let is_valid = self.tag.load(Ordering::Relaxed) == tag && number + PERIODS as u64 > now;
        is_valid.then_some(answered)
    }
}

impl Answered {
    fn plus(self, other: Answered) -> Answered {
        Answered {
            started: self.started + other.started,
            bad: self.bad + other.bad,
            finished: self.finished + other.finished,
            buckets: self.buckets + other.buckets,
        }
    }
}

impl Roster {
    /// The endpoints of a new table, by track and in its order: the known ones, and new ones. Stable's are given their
    /// slices. `minute` is the running one.
    pub fn enter(
        &mut self,
        addresses: &[Vec<SocketAddr>; 2],
        workers: usize,
        minute: u64,
    ) -> [Vec<Arc<Pod>>; 2] {
        let stable = &addresses[Track::Stable.index()];
        let had: Vec<Had> = stable.iter().map(|a| self.had(a)).collect();
        for known in self.known.values_mut() {
            known.left.get_or_insert(minute);
        }
        let pods: [Vec<Arc<Pod>>; 2] =
            from_fn(|track| addresses[track].iter().map(|a| self.pod(*a, workers)).collect());
        let given = slices::assign(&had);
        for (pod, slice) in pods[Track::Stable.index()].iter().zip(given) {
            pod.slice.store(slice.unwrap_or(NONE), Ordering::Relaxed);
        }
        self.forget(minute);
        pods
    }

    fn had(&self, address: &SocketAddr) -> Had {
        self.known.get(address).map_or_else(Had::default, |known| Had {
            slice: known.pod.slice(),
            stayed: known.left.is_none(),
        })
    }

    fn pod(&mut self, address: SocketAddr, workers: usize) -> Arc<Pod> {
        let known = match self.known.entry(address) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Known {
                pod: Arc::new(Pod::new(address, workers)),
                left: None,
            }),
        };
        known.left = None;
        Arc::clone(&known.pod)
    }

    /// Forgets who left half an hour ago, or longest ago where too many have.
    fn forget(&mut self, minute: u64) {
        let gone = self.known.iter().filter_map(|(a, k)| Some((k.left?, *a)));
        let mut gone: Vec<(u64, SocketAddr)> = gone.collect();
        gone.sort_unstable();
        let excess = gone.len().saturating_sub(GONE);
        for (i, (left, address)) in gone.into_iter().enumerate() {
            if i < excess || left + HISTORY_MINUTES <= minute {
                self.known.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(i: u32) -> SocketAddr {
        (i.to_be_bytes(), 80).into()
    }

    fn enter(roster: &mut Roster, stable: &[u32], minute: u64) -> Vec<Arc<Pod>> {
        let stable = stable.iter().map(|i| address(*i)).collect();
        let [stable, _] = roster.enter(&[stable, vec![]], 2, minute);
        stable
    }

    #[test]
    fn workers_are_summed_and_half_an_hour_is_remembered() {
        let pod = Pod::new(address(1), 2);
        for minute in 100..110 {
            for worker in 0..2 {
                let lap = pod.lap(worker).unwrap();
                lap.begin(minute);
                lap.begin(minute);
                lap.end(minute, true, 7);
                lap.end(minute, false, 9);
            }
        }
        assert!(pod.lap(2).is_none());
        for now in [109, 120, 129] {
            let all = Answered {
                started: 40,
                bad: 20,
                finished: 40,
                buckets: 320,
            };
            assert_eq!(pod.read(now), all, "{now}");
        }
        assert_eq!(pod.read(130).started, 20, "the first five minutes are over");
        assert_eq!(pod.read(135), Answered::default());
    }

    #[test]
    fn a_period_that_was_used_again_is_not_touched_by_latecomers() {
        let pod = Pod::new(address(1), 1);
        let lap = pod.lap(0).unwrap();
        lap.begin(0);
        lap.begin(30);
        lap.end(0, true, 1);
        assert_eq!((pod.read(30).started, pod.read(30).finished), (1, 0));
        lap.end(30, true, 1);
        assert_eq!((pod.read(30).bad, pod.read(30).finished), (1, 1));
    }

    #[test]
    fn counters_of_two_workers_lie_apart() {
        assert_eq!((size_of::<Lap>(), align_of::<Lap>()), (128, 128));
    }

    #[test]
    fn an_endpoint_keeps_its_counts_and_its_slice_while_others_come_and_go() {
        let mut roster = Roster::default();
        let first = enter(&mut roster, &[1, 2, 3], 0);
        first[1].lap(0).unwrap().begin(0);
        assert_eq!(first[1].slice(), Some(1));
        let second = enter(&mut roster, &[2, 4], 1);
        assert!(Arc::ptr_eq(&first[1], &second[0]));
        assert_eq!((second[0].slice(), second[1].slice()), (Some(1), Some(0)));
        let alone = enter(&mut roster, &[2], 2);
        assert_eq!((alone[0].slice(), alone[0].read(2).started), (None, 1));
        let back = enter(&mut roster, &[1, 2, 3], 3);
        assert!(Arc::ptr_eq(&back[0], &first[0]) && Arc::ptr_eq(&back[2], &first[2]));
        assert_eq!(back[2].slice(), Some(2));
    }

    #[test]
    fn a_promoted_endpoint_keeps_its_counts() {
        let mut roster = Roster::default();
        let tracks = |s: &[u32], c: &[u32]| [s, c].map(|t| t.iter().map(|i| address(*i)).collect::<Vec<_>>());
        let [_, canary] = roster.enter(&tracks(&[1, 2], &[3]), 1, 0);
        assert_eq!(canary[0].slice(), None);
        let [stable, _] = roster.enter(&tracks(&[3, 4], &[]), 1, 0);
        assert!(Arc::ptr_eq(&stable[0], &canary[0]));
        assert_eq!((stable[0].slice(), stable[1].slice()), (Some(0), Some(1)));
    }

    #[test]
    fn endpoints_that_left_are_forgotten_by_time_and_by_number() {
        let mut roster = Roster::default();
        for i in 0..10_000 {
            enter(&mut roster, &[0, i + 1, i + 2], 1);
            assert!(roster.known.len() <= 3 + GONE);
        }
        let kept = enter(&mut roster, &[0], HISTORY_MINUTES);
        assert_eq!(roster.known.len(), 1 + GONE);
        enter(&mut roster, &[0], 1 + HISTORY_MINUTES);
        assert_eq!(roster.known.len(), 1 + 2, "those of the last table left later");
        enter(&mut roster, &[0], 2 * HISTORY_MINUTES);
        assert_eq!(roster.known.len(), 1);
        assert!(Arc::ptr_eq(&kept[0], &roster.known[&address(0)].pod));
    }
}
