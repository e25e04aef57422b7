//! How much the slices of stable differ: a second is looked at once, when it has settled, by the control thread,
//! whether or not anybody reads pages. A release that begins finds half an hour of it.

use contract::evidence::{HISTORY_MINUTES, Minute, Noise, RING_SECONDS, SLICES};
use std::collections::{BTreeMap, VecDeque};

/// How long after its end a second is looked at; what ends badly later is not noise any more but a hang.
const SETTLED: u64 = 10;
/// Lengths of the blocks, in seconds; each divides a minute.
const LENGTHS: [u64; 3] = [1, 10, 60];

/// What the slices have in one block.
pub type Block = [Part; SLICES];

/// What one slice has in one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Requests begun.
    begun: u64,
    /// Of these, ended badly.
    bad: u64,
}

/// The noise of one service: 2 KiB when it has seen half an hour of requests.
#[derive(Debug, Default)]
pub struct Observer {
    /// The first second that has not been looked at.
    next: u64,
    /// The running block of each length.
    blocks: [Block; 3],
    /// By minute, oldest first; minutes without noise are left out.
    minutes: VecDeque<(u64, Noise)>,
}

impl Part {
    /// Adds requests begun, and those of them that ended badly.
    pub fn add(&mut self, begun: u64, bad: u64) {
        self.begun += begun;
        self.bad += bad;
    }
}

impl Observer {
    /// Looks at the seconds that have settled since the last time; `read` adds one second's counts to a block.
    pub fn advance(&mut self, now: u64, read: impl Fn(u64, &mut Block)) {
        let end = now.saturating_sub(SETTLED);
        let oldest = end.saturating_sub(RING_SECONDS);
        if self.next < oldest {
            // Nobody has looked for so long that the ring has forgotten; a block with a hole is none.
            (self.next, self.blocks) = (oldest, Default::default());
        }
        while self.next < end {
            let mut counts = Block::default();
            read(self.next, &mut counts);
            self.take(self.next, &counts);
            self.next += 1;
        }
    }

    fn take(&mut self, second: u64, counts: &Block) {
        for (i, length) in LENGTHS.into_iter().enumerate() {
            let block = &mut self.blocks[i];
            let parts = block.iter_mut().zip(counts);
            parts.for_each(|(sum, part)| sum.add(part.begun, part.bad));
            if (second + 1).is_multiple_of(length)
                && let Some((found, expected)) = spread(&std::mem::take(block))
            {
                let noise = self.minute(second / 60);
                noise.found[i] += found;
                noise.expected[i] += expected;
            }
        }
    }

    /// The sums of a minute, which is the last one or a new one.
    fn minute(&mut self, minute: u64) -> &mut Noise {
        if self.minutes.back().is_none_or(|(last, _)| *last != minute) {
            self.minutes.push_back((minute, Noise::default()));
            self.minutes.retain(|(m, _)| m + HISTORY_MINUTES > minute);
        }
        let last = self.minutes.len() - 1;
        &mut self.minutes[last].1
    }

    /// Adds the noise to the minutes that are told.
    pub fn read(&self, minutes: &mut BTreeMap<u64, Minute>) {
        for (minute, noise) in &self.minutes {
            if let Some(told) = minutes.get_mut(minute) {
                told.noise = *noise;
            }
        }
    }
}

/// How far the slices of one block are from their common rate, squared and summed, and how far independent requests
/// would be: given how many are bad, those of a slice are drawn without putting back, hence N / (N - 1). Nothing unless
/// two slices have requests.
fn spread(block: &Block) -> Option<(f64, f64)> {
    if block.iter().filter(|p| p.begun > 0).count() < 2 {
        return None;
    }
    let all: u64 = block.iter().map(|p| p.begun).sum();
    let bad: u64 = block.iter().map(|p| p.bad).sum();
    let (all, rate) = (all as f64, bad as f64 / all as f64);
    let sum = |f: &dyn Fn(f64, f64) -> f64| block.iter().map(|p| f(p.begun as f64, p.bad as f64)).sum();
    let found = sum(&|n, x| (x - n * rate).powi(2));
    let expected = sum(&|n, _| n * rate * (1.0 - rate) * (1.0 - n / all));
    Some((found, expected * all / (all - 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slices by second.
    fn watched(now: u64, seconds: &[&[(u64, u64)]]) -> Observer {
        let mut observer = Observer::default();
        let read = |second, block: &mut Block| fill(block, seconds[second as usize % seconds.len()]);
        (0..=now).for_each(|now| observer.advance(now, read));
        observer
    }

    fn fill(block: &mut Block, slices: &[(u64, u64)]) {
        block.iter_mut().zip(slices).for_each(|(p, (n, x))| p.add(*n, *x));
    }

    fn told(observer: &Observer, first: u64, last: u64) -> Vec<Noise> {
        let named = |minute| Minute {
            minute,
            ..Minute::default()
        };
        let mut minutes = (first..=last).map(|m| (m, named(m))).collect();
        observer.read(&mut minutes);
        minutes.into_values().map(|m| m.noise).collect()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12 * b.abs().max(1.0)
    }

    #[test]
    fn the_quotient_is_that_of_the_reference() {
        let columns: [&[(u64, u64)]; 3] = [
            &[(100, 1), (100, 2), (100, 0)],
            &[(100, 0), (100, 1), (100, 2)],
            &[(100, 12), (100, 0), (100, 1)],
        ];
        let noise = told(&watched(13, &columns), 0, 0)[0];
        assert!(near(noise.found[0], 2.0 + 2.0 + 798.0 / 9.0), "{noise:?}");
        // The reference draws with putting back.
        assert!(near(
            noise.found[0] / noise.expected[0] * 300.0 / 299.0,
            7.563_939_778_704_88
        ));
        assert_eq!(
            (noise.found[1], noise.expected[2]),
            (0.0, 0.0),
            "no such block is over"
        );
    }

    #[test]
    fn unequal_slices_are_weighed_by_their_size() {
        // Rate 0.1: 10 of 100 and 0 of 0 as expected, 5 of 20 too many, 5 of 80 too few.
        let (found, expected) = spread(&{
            let mut block = Block::default();
            fill(&mut block, &[(100, 10), (0, 0), (20, 5), (80, 5)]);
            block
        })
        .unwrap();
        assert!(near(found, 9.0 + 9.0), "{found}");
        let by_hand = 0.09 * (100.0 * 0.5 + 20.0 * 0.9 + 80.0 * 0.6);
        assert!(near(expected, by_hand * 200.0 / 199.0), "{expected}");
    }

    #[test]
    fn blocks_of_each_length_belong_to_the_minute_in_which_they_end() {
        let steady: [&[(u64, u64)]; 1] = [&[(10, 1), (10, 0)]];
        let all = told(&watched(130 + SETTLED, &steady), 0, 2);
        // One block: rate 0.05, 0.5 away each; a longer one is that far away as often as it has seconds, squared.
        for (noise, blocks) in all
            .iter()
            .zip([[60.0, 6.0, 1.0], [60.0, 6.0, 1.0], [10.0, 1.0, 0.0]])
        {
            for (i, length) in LENGTHS.into_iter().enumerate() {
                let length = length as f64;
                assert!(
                    near(noise.found[i], blocks[i] * 0.5 * length * length),
                    "{noise:?}"
                );
                let requests = 20.0 * length;
                let one = requests * 0.05 * 0.95 * 0.5 * requests / (requests - 1.0);
                assert!(near(noise.expected[i], blocks[i] * one));
            }
        }
    }

    #[test]
    fn a_second_counts_once_and_only_when_it_has_settled() {
        let steady: [&[(u64, u64)]; 1] = [&[(10, 1), (10, 0)]];
        let mut observer = watched(10, &steady);
        assert_eq!(told(&observer, 0, 0)[0], Noise::default());
        for _ in 0..3 {
            observer.advance(11, |second, block| {
                assert_eq!(second, 0);
                fill(block, steady[0]);
            });
        }
        assert!(near(told(&observer, 0, 0)[0].found[0], 0.5));
    }

    #[test]
    fn one_slice_says_nothing_and_neither_does_none() {
        let alone: [&[(u64, u64)]; 2] = [&[(10, 5)], &[]];
        let observer = watched(1000, &alone);
        assert!(observer.minutes.is_empty());
    }

    #[test]
    fn half_an_hour_is_kept_and_a_gap_ends_the_blocks() {
        let mut observer = Observer::default();
        for now in 0..4000 {
            observer.advance(now, |_, block| fill(block, &[(10, 1), (10, 0)]));
        }
        assert_eq!(observer.minutes.len() as u64, HISTORY_MINUTES);
        observer.advance(9_005, |second, block| {
            assert!(second >= 9_005 - SETTLED - RING_SECONDS);
            fill(block, &[(1, 1), (1, 0)]);
        });
        let found = told(&observer, 147, 147)[0].found;
        assert!(
            near(found[2], 0.5 * 5.0 * 5.0),
            "only the seconds since the gap: {found:?}"
        );
        assert_eq!(observer.minutes.len(), 3, "{observer:?}");
    }
}
