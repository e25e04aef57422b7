//! How far the seconds of one proxy process have been read for one purpose, and the block that is open there.
//!
//! A block never spans two hashes, two shares, or the end of the warm-up, so it closes before any weight change.

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
    drawn: Option<Drawn>,
    block: Closer<T>,
}

/// The split that the open block was drawn under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Drawn {
    hash: String,
    share: f64,
    /// Whether the canary was warming up.
    cold: bool,
}

/// Blocks that one cohort has closed: one of before, drawn otherwise, and its own.
pub(super) struct Closed<T> {
    pub before: Option<(T, bool)>,
    pub own: Option<(T, bool)>,
}

impl<T: Tally> Cursor<T> {
    pub fn begin(next: u64, counted: u64) -> Cursor<T> {
        Cursor {
            next,
            counted,
            drawn: None,
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
    pub fn idle(&mut self) -> Option<(T, bool)> {
        let cold = self.is_cold();
        self.block.push(1.0, &T::default()).map(|block| (block, cold))
    }

    /// Counts of a cohort that add `age` seconds to the open block.
    pub fn push(&mut self, cohort: &Cohort, cold: bool, age: f64, counts: &T) -> Closed<T> {
        let same = |d: &Drawn| d.hash == cohort.hash && is_same(d.share, cohort.share) && d.cold == cold;
        let before = if self.drawn.as_ref().is_some_and(same) {
            None
        } else {
            let closed = self.close();
            self.drawn = Some(Drawn {
                hash: cohort.hash.clone(),
                share: cohort.share,
                cold,
            });
            closed
        };
        let own = self.block.push(age, counts).map(|block| (block, cold));
        Closed { before, own }
    }

    /// The open block as it stands.
    pub fn close(&mut self) -> Option<(T, bool)> {
        let cold = self.is_cold();
        self.block.close().map(|block| (block, cold))
    }

    pub fn share(&self) -> f64 {
        self.drawn.as_ref().map_or(0.0, |d| d.share)
    }

    pub fn is_at(&self, share: f64) -> bool {
        is_same(self.share(), share)
    }

    fn is_cold(&self) -> bool {
        self.drawn.as_ref().is_some_and(|d| d.cold)
    }
}

impl<T> Closed<T> {
    /// Blocks as evidence of the same kind: all at once, or the cold one first.
    pub fn parts(self) -> Vec<(Vec<T>, bool)> {
        match (self.before, self.own) {
            (Some((a, cold)), Some((b, too))) if cold == too => vec![(vec![a, b], cold)],
            (before, own) => before
                .into_iter()
                .chain(own)
                .map(|(block, cold)| (vec![block], cold))
                .collect(),
        }
    }
}

pub(super) fn is_same(a: f64, b: f64) -> bool {
    (a - b).abs() < SAME_SHARE
}
