//! What the controller reads: counts by second of request start. Written by one worker, read by anybody at any time.
//!
//! An entry is marked by a tag (second and epoch of the split). The writer takes the tag off, clears the counts and
//! puts the new tag on; a reader takes what it read only if the tag was the same before and after.

pub mod noise;
pub mod pods;
pub mod slices;

use crate::meter::bump;
use contract::{
    evidence::{Bad, Cohort, HISTORY_MINUTES, LATENCY_MINUTES, Minute, RING_SECONDS, Served, Tally},
    latency::BUCKETS,
    names::Track,
};
use std::{
    array::from_fn,
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    },
    time::Duration,
};

/// Entries: two minutes of seconds, and as many changes of the split again.
const ENTRIES: usize = 256;
/// Minutes of stable's sums that are held; two more than are told.
const MINUTES: usize = HISTORY_MINUTES as usize + 2;
/// Ages at which bad ends are told apart.
const BAD_AGES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::MAX,
];
/// Ages at which good ends are told apart.
const SERVED_AGES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(1)];
/// Bits of a tag that hold the epoch.
const EPOCH_BITS: u32 = 24;

/// The evidence of one service on one worker.
#[derive(Debug, Default)]
pub struct Ring {
    /// Made at the first request: most services of a large table have none.
    parts: OnceLock<Box<Parts>>,
}

#[derive(Debug)]
struct Parts {
    entries: [Entry; ENTRIES],
    /// The newest entry.
    newest: AtomicUsize,
    minutes: [MinuteEntry; MINUTES],
}

#[derive(Debug)]
struct Entry {
    /// [`tag`], or 0 while it is not valid.
    tag: AtomicU64,
    tracks: [Counts; 2],
}

#[derive(Debug)]
struct Counts {
    started: AtomicU32,
    finished: AtomicU32,
    /// Within 1 s, 5 s, 30 s, ever.
    bad: [AtomicU32; 4],
    /// Within half a second, 1 s.
    served: [AtomicU32; 2],
    cancelled: AtomicU32,
    latency: [AtomicU32; BUCKETS],
}

#[derive(Debug)]
struct MinuteEntry {
    /// Minute + 1, or 0.
    tag: AtomicU64,
    started: AtomicU32,
    bad: AtomicU32,
    latency: [AtomicU32; BUCKETS],
}

/// Where a request was counted as begun.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    index: usize,
    tag: u64,
    minute: u64,
}

/// How a judged request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Well.
    Good,
    /// With a failure of the backend, or a status from 500.
    Bad,
    /// The client went away.
    Cancelled,
    /// By a fault of the client's or our own, which no track is blamed for.
    Nobody,
}

/// Counts an end under every limit that its age keeps.
fn bump_within<const N: usize>(counts: &[AtomicU32; N], limits: [Duration; N], age: Duration) {
    let reached = counts.iter().zip(limits).filter(|(_, limit)| age <= *limit);
    reached.for_each(|(count, _)| bump(count));
}

/// Whole seconds and epoch in one number; never 0, because epochs begin at 1.
fn tag(second: u64, epoch: u32) -> u64 {
    second << EPOCH_BITS | u64::from(epoch) & ((1 << EPOCH_BITS) - 1)
}

impl Ring {
    /// Counts a request that begins, at this age of the process.
    pub fn begin(&self, track: Track, at: Duration, epoch: u32) -> Mark {
        let parts = self.parts.get_or_init(Box::default);
        let second = at.as_secs();
        let tag = tag(second, epoch);
        let index = parts.entry(tag);
        bump(&parts.entries[index].tracks[track.index()].started);
        let minute = second / 60;
        if track == Track::Stable {
            bump(&parts.minute(minute).started);
        }
        Mark { index, tag, minute }
    }

    /// Counts a request that ends, unless its entry has been used again meanwhile.
    pub fn end(&self, track: Track, mark: Mark, end: End, age: Duration, bucket: usize) {
        let Some(parts) = self.parts.get() else { return };
        if track == Track::Stable {
            parts.end_minute(mark.minute, end, bucket);
        }
        let entry = &parts.entries[mark.index];
        if entry.tag.load(Ordering::Relaxed) == mark.tag {
            entry.tracks[track.index()].end(end, age, bucket);
        }
    }

    /// Adds what this worker has to `cohorts`, by second and epoch.
    pub fn read(&self, since: u64, cohorts: &mut BTreeMap<(u64, u32), [Tally; 2]>) {
        let Some(parts) = self.parts.get() else { return };
        for entry in &parts.entries {
            if let Some((key, tallies)) = entry.read(since) {
                let sum = cohorts.entry(key).or_default();
                sum.iter_mut().zip(&tallies).for_each(|(s, t)| merge(s, t));
            }
        }
    }

    /// Adds stable's durations of the minutes from `first` on, bucket by bucket.
    pub fn read_latency(&self, first: u64, sums: &mut [u64; BUCKETS]) {
        let Some(parts) = self.parts.get() else { return };
        for entry in &parts.minutes {
            let tag = entry.tag.load(Ordering::Acquire);
            if tag <= first {
                continue;
            }
            let counts: [u32; BUCKETS] = from_fn(|i| entry.latency[i].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if entry.tag.load(Ordering::Relaxed) == tag {
                sums.iter_mut().zip(counts).for_each(|(s, n)| *s += u64::from(n));
            }
        }
    }

    /// Adds stable's minutes from `first` on.
    pub fn read_minutes(&self, first: u64, minutes: &mut BTreeMap<u64, Minute>) {
        let Some(parts) = self.parts.get() else { return };
        for entry in &parts.minutes {
            let Some(minute) = entry
                .tag
                .load(Ordering::Acquire)
                .checked_sub(1)
                .filter(|m| *m >= first)
            else {
                continue;
            };
            let (started, bad) = (
                entry.started.load(Ordering::Relaxed),
                entry.bad.load(Ordering::Relaxed),
            );
            fence(Ordering::Acquire);
            if entry.tag.load(Ordering::Relaxed) == minute + 1 {
                let sum = minutes.entry(minute).or_insert(Minute {
                    noise: Default::default(),
                    minute,
                    ..Minute::default()
                });
                sum.started += u64::from(started);
                sum.bad += u64::from(bad);
            }
        }
    }
}

impl Default for MinuteEntry {
    fn default() -> MinuteEntry {
        MinuteEntry {
            tag: AtomicU64::new(0),
            started: AtomicU32::new(0),
            bad: AtomicU32::new(0),
            latency: from_fn(|_| AtomicU32::new(0)),
        }
    }
}

impl Default for Parts {
    fn default() -> Parts {
        Parts {
            entries: from_fn(|_| Entry {
                tag: AtomicU64::new(0),
                tracks: from_fn(|_| Counts::default()),
            }),
            newest: AtomicUsize::new(0),
            minutes: from_fn(|_| MinuteEntry::default()),
        }
    }
}

impl Parts {
    /// The entry of a tag: the newest, or the next one made new.
    fn entry(&self, tag: u64) -> usize {
        let newest = self.newest.load(Ordering::Relaxed);
        if self.entries[newest].tag.load(Ordering::Relaxed) == tag {
            return newest;
        }
        let next = (newest + 1) % ENTRIES;
        self.entries[next].renew(tag);
        self.newest.store(next, Ordering::Relaxed);
        next
    }

    fn minute(&self, minute: u64) -> &MinuteEntry {
        let entry = &self.minutes[minute as usize % MINUTES];
        if entry.tag.load(Ordering::Relaxed) != minute + 1 {
            entry.tag.store(0, Ordering::Relaxed);
            fence(Ordering::Release);
            entry.started.store(0, Ordering::Relaxed);
            entry.bad.store(0, Ordering::Relaxed);
            entry.latency.iter().for_each(|c| c.store(0, Ordering::Relaxed));
            entry.tag.store(minute + 1, Ordering::Release);
        }
        entry
    }

    fn end_minute(&self, minute: u64, end: End, bucket: usize) {
        let entry = &self.minutes[minute as usize % MINUTES];
        if entry.tag.load(Ordering::Relaxed) != minute + 1 {
            return;
        }
        bump(&entry.latency[bucket.min(BUCKETS - 1)]);
        if end == End::Bad {
            bump(&entry.bad);
        }
    }
}

impl Entry {
    fn renew(&self, tag: u64) {
        self.tag.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        self.tracks.iter().for_each(Counts::clear);
        self.tag.store(tag, Ordering::Release);
    }

    fn read(&self, since: u64) -> Option<((u64, u32), [Tally; 2])> {
        let before = self.tag.load(Ordering::Acquire);
        let (second, epoch) = (before >> EPOCH_BITS, before as u32 & ((1 << EPOCH_BITS) - 1));
        if before == 0 || second < since {
            return None;
        }
        let tallies = [self.tracks[0].read(), self.tracks[1].read()];
        fence(Ordering::Acquire);
        (self.tag.load(Ordering::Relaxed) == before).then_some(((second, epoch), tallies))
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

    fn clear(&self) {
        self.all().for_each(|c| c.store(0, Ordering::Relaxed));
    }

    /// The order matters for a reader in between: a request is never finished and good before it is bad.
    fn end(&self, end: End, age: Duration, bucket: usize) {
        bump(&self.latency[bucket.min(BUCKETS - 1)]);
        match end {
            End::Bad => bump_within(&self.bad, BAD_AGES, age),
            End::Cancelled => bump(&self.cancelled),
            End::Good | End::Nobody => bump_within(&self.served, SERVED_AGES, age),
        }
        self.finished.store(
            self.finished.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Release,
        );
    }

    fn read(&self) -> Tally {
        let get = |c: &AtomicU32| u64::from(c.load(Ordering::Relaxed));
        // Finished first: what is read after it has been counted by then.
        let finished = u64::from(self.finished.load(Ordering::Acquire));
        Tally {
            finished,
            bad: Bad {
                by_1s: get(&self.bad[0]),
                by_5s: get(&self.bad[1]),
                by_30s: get(&self.bad[2]),
                ever: get(&self.bad[3]),
            },
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

/// Adds `more` to `sum`.
fn merge(sum: &mut Tally, more: &Tally) {
    sum.started += more.started;
    sum.finished += more.finished;
    sum.bad.by_1s += more.bad.by_1s;
    sum.bad.by_5s += more.bad.by_5s;
    sum.bad.by_30s += more.bad.by_30s;
    sum.bad.ever += more.bad.ever;
    sum.served.by_500ms += more.served.by_500ms;
    sum.served.by_1s += more.served.by_1s;
    sum.cancelled += more.cancelled;
    let mut buckets: BTreeMap<u16, u64> = sum.latency.iter().copied().collect();
    for (bucket, n) in &more.latency {
        *buckets.entry(*bucket).or_default() += n;
    }
    sum.latency = buckets.into_iter().collect();
}

/// The cohorts of all workers, oldest first, at most two minutes of them.
pub fn cohorts<'a>(
    rings: impl Iterator<Item = &'a Ring>,
    since: u64,
    now: u64,
    name: impl Fn(u32) -> Option<(String, f64)>,
) -> Vec<Cohort> {
    let since = since.max(now.saturating_sub(RING_SECONDS));
    let mut sums = BTreeMap::new();
    rings.for_each(|r| r.read(since, &mut sums));
    let mut cohorts: Vec<Cohort> = Vec::with_capacity(sums.len());
    for ((second, epoch), tracks) in sums {
        let Some((hash, share)) = name(epoch) else {
            continue;
        };
        // A split that was left and taken again within a second is one cohort.
        match cohorts
            .iter_mut()
            .rev()
            .find(|c| c.second == second && c.hash == hash)
        {
            Some(known) => known
                .tracks
                .iter_mut()
                .zip(&tracks)
                .for_each(|(s, t)| merge(s, t)),
            None => cohorts.push(Cohort {
                second,
                hash,
                share,
                tracks,
                slices: Vec::new(),
            }),
        }
    }
    cohorts
}

/// Stable's minutes over all workers, oldest first.
pub fn history<'a>(rings: impl Iterator<Item = &'a Ring>, now: u64) -> Vec<Minute> {
    let first = (now / 60 + 1).saturating_sub(HISTORY_MINUTES);
    let mut minutes = BTreeMap::new();
    rings.for_each(|r| r.read_minutes(first, &mut minutes));
    minutes.into_values().collect()
}

/// Stable's durations of the last minutes over all workers: (bucket, count), empty buckets left out.
pub fn latency<'a>(rings: impl Iterator<Item = &'a Ring>, now: u64) -> Vec<(u16, u64)> {
    let mut sums = [0; BUCKETS];
    let first = (now / 60).saturating_sub(LATENCY_MINUTES);
    rings.for_each(|r| r.read_latency(first, &mut sums));
    let filled = sums.iter().enumerate().filter(|(_, n)| **n > 0);
    filled.map(|(bucket, n)| (bucket as u16, *n)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn named(epoch: u32) -> Option<(String, f64)> {
        Some((format!("h{epoch}"), 0.1))
    }

    #[test]
    fn requests_count_in_the_second_of_their_start() {
        let ring = Ring::default();
        let a = ring.begin(Track::Canary, at(3), 1);
        let b = ring.begin(Track::Canary, at(3), 1);
        let _pending = ring.begin(Track::Stable, at(4), 2);
        ring.end(Track::Canary, a, End::Bad, at(4), 7);
        ring.end(Track::Canary, b, End::Cancelled, at(1), 9);
        let cohorts = cohorts([&ring].into_iter(), 0, 5, named);
        assert_eq!(cohorts.len(), 2);
        let canary = &cohorts[0].tracks[1];
        assert_eq!((cohorts[0].second, cohorts[0].hash.as_str()), (3, "h1"));
        assert_eq!((canary.started, canary.finished, canary.cancelled), (2, 2, 1));
        assert_eq!(
            (
                canary.bad.by_1s,
                canary.bad.by_5s,
                canary.bad.by_30s,
                canary.bad.ever
            ),
            (0, 1, 1, 1)
        );
        assert_eq!(canary.latency, [(7, 1), (9, 1)]);
        assert_eq!(cohorts[1].tracks[0].pending(), 1);
    }

    #[test]
    fn an_answer_counts_as_served_from_its_age_on_and_only_a_good_one() {
        let ring = Ring::default();
        let ends = [
            (End::Good, 400),
            (End::Nobody, 900),
            (End::Good, 4_000),
            (End::Good, 9_000),
            (End::Bad, 100),
            (End::Cancelled, 100),
        ];
        for (end, ms) in ends {
            let mark = ring.begin(Track::Canary, at(3), 1);
            ring.end(Track::Canary, mark, end, Duration::from_millis(ms), 0);
        }
        let served = cohorts([&ring].into_iter(), 0, 5, named)[0].tracks[1].served;
        let expected = Served {
            by_500ms: 1,
            by_1s: 2,
        };
        assert_eq!(served, expected);
    }

    #[test]
    fn the_latencies_of_stable_are_those_of_the_last_ten_minutes() {
        let rings = [Ring::default(), Ring::default()];
        for ring in &rings {
            for minute in 0..40 {
                for track in Track::BOTH {
                    let mark = ring.begin(track, at(minute * 60), 1);
                    ring.end(track, mark, End::Good, at(0), minute as usize);
                }
            }
        }
        let told = latency(rings.iter(), 39 * 60 + 5);
        assert_eq!(told, (29..40).map(|bucket| (bucket, 2)).collect::<Vec<_>>());
    }

    #[test]
    fn workers_are_summed_and_since_is_obeyed() {
        let rings = [Ring::default(), Ring::default()];
        for ring in &rings {
            for second in 0..10 {
                let m = ring.begin(Track::Stable, at(second), 1);
                ring.end(Track::Stable, m, End::Good, at(0), 0);
            }
        }
        let all = cohorts(rings.iter(), 7, 10, named);
        assert_eq!(all.iter().map(|c| c.second).collect::<Vec<_>>(), [7, 8, 9]);
        assert!(all.iter().all(|c| c.is_finished() && c.tracks[0].started == 2));
    }

    #[test]
    fn a_used_entry_is_not_touched_by_latecomers() {
        let ring = Ring::default();
        let late = ring.begin(Track::Canary, at(0), 1);
        for second in 1..=ENTRIES as u64 {
            ring.begin(Track::Canary, at(second), 1);
        }
        ring.end(Track::Canary, late, End::Bad, at(300), 0);
        let all = cohorts([&ring].into_iter(), 0, 256, named);
        assert!(
            all.iter()
                .all(|c| c.tracks[1].finished == 0 && c.tracks[1].started == 1)
        );
        assert!(all.len() <= RING_SECONDS as usize + 1);
    }

    #[test]
    fn history_holds_thirty_minutes_of_stable() {
        let ring = Ring::default();
        for minute in 0..40 {
            let m = ring.begin(Track::Stable, at(minute * 60), 1);
            ring.end(Track::Stable, m, End::Bad, at(1), 0);
            ring.begin(Track::Canary, at(minute * 60), 1);
        }
        let history = history([&ring].into_iter(), 39 * 60 + 5);
        assert_eq!(history.len(), 30);
        assert_eq!((history[0].minute, history[29].minute), (10, 39));
        assert!(history.iter().all(|m| m.started == 1 && m.bad == 1));
    }
}
