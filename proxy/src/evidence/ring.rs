//! One worker's ring of seconds and minutes.

use super::{
    End, Sums,
    counts::{Counts, SliceCounts, merge, merge_slice},
    noise::Block,
};
use crate::meter::bump;
use contract::{
    evidence::{HISTORY_MINUTES, Minute, SLICES},
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
pub(super) const ENTRIES: usize = 256;
/// Minutes of stable's sums that are held; two more than are told.
const MINUTES: usize = HISTORY_MINUTES as usize + 2;
/// Bits of a tag that hold the epoch.
const EPOCH_BITS: u32 = 24;

/// The evidence of one service on one worker: 218 KiB from its first request on, of which the slices are 48.
#[derive(Debug, Default)]
pub struct Ring {
    /// Made at the first request: most services of a large table have none.
    parts: OnceLock<Box<Parts>>,
}

#[derive(Debug)]
struct Parts {
    entries: [Entry; ENTRIES],
    /// The newest entry; those before it, backwards and round, are ever older.
    newest: AtomicUsize,
    minutes: [MinuteEntry; MINUTES],
}

#[derive(Debug)]
struct Entry {
    /// [`tag`], or 0 while it is not valid.
    tag: AtomicU64,
    tracks: [Counts; 2],
    slices: [SliceCounts; SLICES],
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
    /// Its slice, if it is stable's and has one.
    slice: Option<u8>,
}

/// Whole seconds and epoch in one number; never 0, because epochs begin at 1.
fn tag(second: u64, epoch: u32) -> u64 {
    second << EPOCH_BITS | u64::from(epoch) & ((1 << EPOCH_BITS) - 1)
}

impl Mark {
    /// Whole minutes of the process at which it began.
    pub fn minute(&self) -> u64 {
        self.minute
    }
}

impl Ring {
    /// Whether anything was ever counted.
    pub fn is_used(&self) -> bool {
        self.parts.get().is_some()
    }

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
        Mark {
            index,
            tag,
            minute,
            slice: None,
        }
    }

    /// Counts a request of stable in its slice, which may be known later than its track; once a request.
    pub fn place(&self, mark: &mut Mark, slice: u8) {
        let Some(entry) = self.entry_of(*mark) else { return };
        if let Some(counts) = entry.slices.get(usize::from(slice)) {
            bump(&counts.started);
            mark.slice = Some(slice);
        }
    }

    /// Counts a request that ends, unless its entry has been used again meanwhile.
    pub fn end(&self, track: Track, mark: Mark, end: End, age: Duration, bucket: usize) {
        if track == Track::Stable
            && let Some(parts) = self.parts.get()
        {
            parts.end_minute(mark.minute, end, bucket);
        }
        let Some(entry) = self.entry_of(mark) else { return };
        if let Some(counts) = mark.slice.and_then(|s| entry.slices.get(usize::from(s))) {
            counts.end(end, age);
        }
        entry.tracks[track.index()].end(end, age, bucket);
    }

    /// The entry of a request, while it is that one's.
    fn entry_of(&self, mark: Mark) -> Option<&Entry> {
        let entry = &self.parts.get()?.entries[mark.index];
        (entry.tag.load(Ordering::Relaxed) == mark.tag).then_some(entry)
    }

    /// Adds what this worker has to `cohorts`, by second and epoch.
    pub fn read(&self, since: u64, cohorts: &mut BTreeMap<(u64, u32), Sums>) {
        let Some(parts) = self.parts.get() else { return };
        for entry in &parts.entries {
            if let Some((key, sums)) = entry.read(since) {
                cohorts.entry(key).or_default().add(&sums);
            }
        }
    }

    /// Adds what the slices have of one second. Looks from the newest entry back to that second and no further, so that
    /// a recent second costs little and an idle service next to nothing.
    pub fn read_slices(&self, second: u64, block: &mut Block) {
        let Some(parts) = self.parts.get() else { return };
        let newest = parts.newest.load(Ordering::Acquire);
        for back in 0..ENTRIES {
            let entry = &parts.entries[(newest + ENTRIES - back) % ENTRIES];
            let tag = entry.tag.load(Ordering::Acquire);
            match tag >> EPOCH_BITS {
                s if s == second => entry.add_slices(tag, block),
                s if s < second => return,
                _ => {}
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
            let Some((minute, started, bad)) = entry.read().filter(|(m, ..)| *m >= first) else {
                continue;
            };
            let sum = minutes.entry(minute).or_insert(Minute {
                minute,
                ..Minute::default()
            });
            sum.started += started;
            sum.bad += bad;
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

impl MinuteEntry {
    /// Minute, begun, ended badly.
    fn read(&self) -> Option<(u64, u64, u64)> {
        let tag = self.tag.load(Ordering::Acquire);
        let minute = tag.checked_sub(1)?;
        let [started, bad] = [&self.started, &self.bad].map(|c| u64::from(c.load(Ordering::Relaxed)));
        fence(Ordering::Acquire);
        (self.tag.load(Ordering::Relaxed) == tag).then_some((minute, started, bad))
    }
}

impl Default for Parts {
    fn default() -> Parts {
        Parts {
            entries: from_fn(|_| Entry {
                tag: AtomicU64::new(0),
                tracks: from_fn(|_| Counts::default()),
                slices: from_fn(|_| SliceCounts::default()),
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
        // After the tag: who looks back from the newest finds it valid.
        self.newest.store(next, Ordering::Release);
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
        self.slices.iter().for_each(SliceCounts::clear);
        self.tag.store(tag, Ordering::Release);
    }

    fn read(&self, since: u64) -> Option<((u64, u32), Sums)> {
        let before = self.tag.load(Ordering::Acquire);
        let (second, epoch) = (before >> EPOCH_BITS, before as u32 & ((1 << EPOCH_BITS) - 1));
        if before == 0 || second < since {
            return None;
        }
        let sums = Sums {
            tracks: from_fn(|i| self.tracks[i].read()),
            slices: from_fn(|i| self.slices[i].read()),
        };
        fence(Ordering::Acquire);
        (self.tag.load(Ordering::Relaxed) == before).then_some(((second, epoch), sums))
    }

    /// Adds the slices, if the entry is still that of `tag` when they have been read.
    fn add_slices(&self, tag: u64, block: &mut Block) {
        let read: [_; SLICES] = from_fn(|i| self.slices[i].read());
        fence(Ordering::Acquire);
        if self.tag.load(Ordering::Relaxed) == tag {
            let sums = block.iter_mut().zip(read);
            sums.for_each(|(sum, slice)| sum.add(slice.started, slice.bad.ever));
        }
    }
}

impl Sums {
    /// Adds another worker's, or another epoch's.
    pub(super) fn add(&mut self, more: &Sums) {
        let tracks = self.tracks.iter_mut().zip(&more.tracks);
        tracks.for_each(|(s, t)| merge(s, t));
        let slices = self.slices.iter_mut().zip(more.slices);
        slices.for_each(|(s, t)| merge_slice(s, t));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_what_is_said() {
        assert_eq!(size_of::<Parts>().div_ceil(1024), 218);
        assert_eq!(ENTRIES * SLICES * size_of::<SliceCounts>(), 48 * 1024);
    }
}
