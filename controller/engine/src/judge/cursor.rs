//! How far the seconds of one proxy process have been read for one purpose, and the block that is open there.
//!
//! A block never spans two hashes, two shares, or the end of the warm-up, so it closes before any weight change.

use super::event::Tick;
use contract::evidence::{Cohort, RING_SECONDS};
use serde::{Deserialize, Serialize};
use stats::blocks::{Closer, Tally};

/// Two shares nearer than this are one: both were computed from the same fraction.
const SAME_SHARE: f64 = 1e-9;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cursor<T> {
    /// First second that is not yet published.
    pub next: u64,
    /// Judged seconds, counted from the start of the run: the leading stream drives the time.
    pub counted: u64,
    split: Option<Split>,
    block: Closer<T>,
}

/// The split that the open block was drawn under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Split {
    hash: String,
    share: f64,
    /// Whether the canary was warming up.
    cold: bool,
}

/// A closed block, and what it was drawn under.
pub(super) struct Drawn<T> {
    share: f64,
    cold: bool,
    block: T,
}

/// Blocks that one cohort has closed: one of before, drawn otherwise, and its own.
pub(super) struct Closed<T> {
    before: Option<Drawn<T>>,
    own: Option<Drawn<T>>,
}

impl<T: Tally> Cursor<T> {
    pub fn begin(next: u64, counted: u64) -> Cursor<T> {
        Cursor {
            next,
            counted,
            split: None,
            block: Closer::default(),
        }
    }

    /// Seconds that have fallen out of the ring are a gap: they count nowhere.
    pub fn skip_gap(&mut self, now_ms: u64) {
        self.next = self.next.max((now_ms / 1000).saturating_sub(RING_SECONDS - 1));
    }

    /// Another second is read; whether this stream leads, `seconds` being how many the run has.
    pub fn advance(&mut self, seconds: &mut u64) -> bool {
        self.next += 1;
        self.counted += 1;
        let leads = self.counted > *seconds;
        *seconds = self.counted.max(*seconds);
        leads
    }

    /// A second without any request.
    pub fn idle(&mut self) -> Option<Drawn<T>> {
        let block = self.block.push(1.0, &T::default());
        block.map(|block| self.drawn(block))
    }

    /// Counts of a cohort that add `age` seconds to the open block.
    pub fn push(&mut self, cohort: &Cohort, cold: bool, age: f64, counts: &T) -> Closed<T> {
        let same = |d: &Split| d.hash == cohort.hash && is_same(d.share, cohort.share) && d.cold == cold;
        let before = if self.split.as_ref().is_some_and(same) {
            None
        } else {
            let closed = self.close();
            self.split = Some(Split {
                hash: cohort.hash.clone(),
                share: cohort.share,
                cold,
            });
            closed
        };
        let own = self.block.push(age, counts).map(|block| self.drawn(block));
        Closed { before, own }
    }

    /// The open block as it stands.
    pub fn close(&mut self) -> Option<Drawn<T>> {
        let block = self.block.close();
        block.map(|block| self.drawn(block))
    }

    fn drawn(&self, block: T) -> Drawn<T> {
        Drawn {
            share: self.share(),
            cold: self.split.as_ref().is_some_and(|s| s.cold),
            block,
        }
    }

    pub fn share(&self) -> f64 {
        self.split.as_ref().map_or(0.0, |s| s.share)
    }

    pub fn is_at(&self, share: f64) -> bool {
        is_same(self.share(), share)
    }
}

impl<T> Closed<T> {
    /// At most one block.
    pub fn one(block: Option<Drawn<T>>) -> Closed<T> {
        Closed {
            before: None,
            own: block,
        }
    }

    /// One tick a block, the older first; the last one carries the time. Without a block, time passes all the same.
    pub fn ticks(self, dt: f64) -> Vec<Tick<T>> {
        let mut ticks: Vec<Tick<T>> = self.before.into_iter().chain(self.own).map(Drawn::tick).collect();
        match ticks.last_mut() {
            Some(last) => last.dt = dt,
            None if dt > 0.0 => ticks.push(Tick::idle(dt)),
            None => {}
        }
        ticks
    }
}

impl<T> Drawn<T> {
    fn tick(self) -> Tick<T> {
        Tick {
            dt: 0.0,
            share: self.share,
            cold: self.cold,
            blocks: vec![self.block],
        }
    }
}

pub(super) fn is_same(a: f64, b: f64) -> bool {
    (a - b).abs() < SAME_SHARE
}
