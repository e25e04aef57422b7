//! What the controller reads: counts by second of request start. Written by one worker, read by anybody at any time.
//!
//! An entry is marked by a tag (second and epoch of the split). The writer takes the tag off, clears the counts and
//! puts the new tag on; a reader takes what it read only if the tag was the same before and after.

mod counts;
pub mod noise;
pub mod pods;
pub mod ring;
pub mod slices;

pub use ring::{Mark, Ring};

use contract::{
    evidence::{Cohort, HISTORY_MINUTES, LATENCY_MINUTES, Minute, RING_SECONDS, SLICES, Slice, Tally},
    latency::BUCKETS,
};
use std::collections::BTreeMap;

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

/// What one second has under one split.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    tracks: [Tally; 2],
    slices: [Slice; SLICES],
}

impl Sums {
    /// The slices up to the last that has a request.
    fn slices(&self) -> &[Slice] {
        let used = self.slices.iter().rposition(|s| s.started > 0);
        &self.slices[..used.map_or(0, |last| last + 1)]
    }
}

/// The cohorts of all workers, oldest first, at most two minutes of them.
pub fn cohorts<'a>(
    rings: impl Iterator<Item = &'a Ring>,
    since: u64,
    now: u64,
    name: impl Fn(u32) -> Option<(String, f64)>,
) -> Vec<Cohort> {
    let since = since.max(now.saturating_sub(RING_SECONDS));
    let mut entries = BTreeMap::new();
    rings.for_each(|r| r.read(since, &mut entries));
    // A split that was left and taken again within a second is one cohort.
    let mut known: Vec<(u64, String, f64, Sums)> = Vec::with_capacity(entries.len());
    for ((second, epoch), sums) in entries {
        let Some((hash, share)) = name(epoch) else {
            continue;
        };
        match known.iter_mut().rev().find(|c| c.0 == second && c.1 == hash) {
            Some(same) => same.3.add(&sums),
            None => known.push((second, hash, share, sums)),
        }
    }
    known.into_iter().map(cohort).collect()
}

fn cohort((second, hash, share, sums): (u64, String, f64, Sums)) -> Cohort {
    Cohort {
        second,
        hash,
        share,
        slices: sums.slices().to_vec(),
        tracks: sums.tracks,
    }
}

/// Stable's minutes over all workers, by number.
pub fn history<'a>(rings: impl Iterator<Item = &'a Ring>, now: u64) -> BTreeMap<u64, Minute> {
    let first = (now / 60 + 1).saturating_sub(HISTORY_MINUTES);
    let mut minutes = BTreeMap::new();
    rings.for_each(|r| r.read_minutes(first, &mut minutes));
    minutes
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
    use super::{ring::ENTRIES, *};
    use contract::{
        evidence::{Bad, Served},
        names::Track,
    };
    use std::time::Duration;

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
    fn slices_are_summed_over_workers_and_make_up_the_track() {
        let rings = [Ring::default(), Ring::default()];
        for i in 0..60u8 {
            let ring = &rings[usize::from(i % 2)];
            let mut mark = ring.begin(Track::Stable, at(3), 1);
            ring.place(&mut mark, i % 3);
            if i % 7 > 0 {
                let end = [End::Good, End::Bad, End::Cancelled][usize::from(i % 5 % 3)];
                ring.end(Track::Stable, mark, end, at(u64::from(i)), 0);
            }
        }
        let canary = rings[0].begin(Track::Canary, at(3), 1);
        rings[0].end(Track::Canary, canary, End::Bad, at(0), 0);
        let all = cohorts(rings.iter(), 0, 5, named);
        let (slices, stable) = (&all[0].slices, &all[0].tracks[0]);
        assert_eq!(slices.iter().map(|s| s.started).collect::<Vec<_>>(), [20; 3]);
        let sum = |part: fn(&Slice) -> u64| slices.iter().map(part).sum::<u64>();
        assert_eq!(sum(|s| s.finished), stable.finished);
        let bad = Bad {
            by_1s: sum(|s| s.bad.by_1s),
            by_5s: sum(|s| s.bad.by_5s),
            by_30s: sum(|s| s.bad.by_30s),
            ever: sum(|s| s.bad.ever),
        };
        assert_eq!(bad, stable.bad);
        assert!(bad.by_1s < bad.by_5s && bad.by_5s < bad.by_30s && bad.by_30s < bad.ever);
    }

    #[test]
    fn without_slices_none_are_told_and_a_late_end_spoils_no_other_second() {
        let ring = Ring::default();
        let mut late = ring.begin(Track::Stable, at(0), 1);
        assert!(cohorts([&ring].into_iter(), 0, 5, named)[0].slices.is_empty());
        ring.place(&mut late, 5);
        assert_eq!(cohorts([&ring].into_iter(), 0, 5, named)[0].slices.len(), 6);
        for second in 1..=ENTRIES as u64 {
            ring.begin(Track::Stable, at(second), 1);
        }
        ring.end(Track::Stable, late, End::Bad, at(300), 0);
        let all = cohorts([&ring].into_iter(), 0, 256, named);
        assert!(all.iter().all(|c| c.slices.is_empty()));
    }

    #[test]
    fn a_second_of_slices_is_found_among_others_over_all_splits() {
        let ring = Ring::default();
        for (second, epoch, slice) in [(7, 1, 0), (8, 1, 0), (8, 2, 0), (8, 2, 1), (9, 2, 1), (20, 2, 1)] {
            let mut mark = ring.begin(Track::Stable, at(second), epoch);
            ring.place(&mut mark, slice);
            ring.end(Track::Stable, mark, End::Bad, at(0), 0);
        }
        let read = |second| {
            let mut block = noise::Block::default();
            ring.read_slices(second, &mut block);
            [0, 1].map(|i| block[i])
        };
        let part = |n| {
            let mut part = noise::Part::default();
            part.add(n, n);
            part
        };
        assert_eq!(read(8), [part(2), part(1)]);
        assert_eq!(read(9), [part(0), part(1)]);
        assert_eq!(read(10), [part(0); 2]);
        assert_eq!(read(30), [part(0); 2]);
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
        let history: Vec<_> = history([&ring].into_iter(), 39 * 60 + 5).into_values().collect();
        assert_eq!(history.len(), 30);
        assert_eq!((history[0].minute, history[29].minute), (10, 39));
        assert!(history.iter().all(|m| m.started == 1 && m.bad == 1));
    }
}
