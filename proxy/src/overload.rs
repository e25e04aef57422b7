//! When new requests are refused so that those under way are served: too many at once, or a worker that is late.
//!
//! A worker's timer rings every 25 ms. How late it rings is how long everything else waits for its turn as well: one
//! number, measured anyway, that sees load of every kind. One late tick is a hiccup; when the *least* lateness of a
//! second is above the target, a queue stands that does not empty by itself (the signal of CoDel, RFC 8289), and a
//! growing share of new requests is refused.

use crate::worker::Worker;
use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

/// Over so long a time the least lateness is taken.
const WINDOW: Duration = Duration::from_secs(1);
/// By so much the refused share grows and shrinks each window.
const STEP: f64 = 0.1;
/// Who refuses everything never sees that it has become better.
const MOST: f64 = 0.9;

/// What is admitted on one worker.
#[derive(Debug)]
pub struct Gate {
    /// Requests under way.
    taken: Cell<usize>,
    most: usize,
    /// Share that is refused, of 2^32; 0: none.
    refused: Cell<u32>,
}

/// A request's place; free again when it is dropped.
#[derive(Debug)]
pub struct Seat(Rc<Worker>);

impl Gate {
    /// A worker's part of what the proxy admits.
    pub fn new(most: usize, workers: usize) -> Gate {
        Gate {
            taken: Cell::new(0),
            most: most.div_ceil(workers.max(1)),
            refused: Cell::new(0),
        }
    }

    /// Refuses this share of new requests.
    pub fn refuse(&self, share: f64) {
        self.refused.set((share * f64::from(u32::MAX)) as u32);
    }

    /// Whether one more may come. `random` is asked only while a share is refused.
    fn admits(&self, random: impl Fn() -> u64) -> bool {
        self.taken.get() < self.most && (self.refused.get() == 0 || random() as u32 >= self.refused.get())
    }
}

impl Seat {
    /// A place, if there is one.
    pub fn take(worker: &Rc<Worker>) -> Option<Seat> {
        let gate = &worker.gate;
        gate.admits(|| worker.random()).then(|| {
            gate.taken.set(gate.taken.get() + 1);
            Seat(Rc::clone(worker))
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let taken = &self.0.gate.taken;
        taken.set(taken.get().saturating_sub(1));
    }
}

/// How late a worker is, and what follows.
#[derive(Debug)]
pub struct Lateness {
    target: Duration,
    began: Instant,
    least: Duration,
    share: f64,
}

impl Lateness {
    /// Nothing was late so far; a target of zero is never reached.
    pub fn new(target: Duration, now: Instant) -> Lateness {
        Lateness {
            target,
            began: now,
            least: Duration::MAX,
            share: 0.0,
        }
    }

    /// A tick that came so late; at the end of a window, the share that is to be refused.
    pub fn tick(&mut self, late: Duration, now: Instant) -> Option<f64> {
        self.least = self.least.min(late);
        if self.target.is_zero() || now.duration_since(self.began) < WINDOW {
            return None;
        }
        let step = if self.least > self.target { STEP } else { -STEP };
        self.share = (self.share + step).clamp(0.0, MOST);
        (self.began, self.least) = (now, Duration::MAX);
        Some(self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Shares after each second of ticks that are so late.
    fn shares(target: Duration, late: &[Duration]) -> Vec<f64> {
        let start = Instant::now();
        let mut lateness = Lateness::new(target, start);
        let ticks = (1..).zip(late.iter().flat_map(|l| [*l; 40]));
        ticks
            .filter_map(|(i, l)| lateness.tick(l, start + 25 * MS * i))
            .collect()
    }

    #[test]
    fn a_standing_queue_is_answered_and_a_hiccup_is_not() {
        let over = shares(250 * MS, &[300 * MS; 12]);
        assert!(
            (over[0] - 0.1).abs() < 1e-9 && (over[11] - 0.9).abs() < 1e-9,
            "{over:?}"
        );
        let back = shares(250 * MS, &[300 * MS, 300 * MS, MS, MS, MS]);
        assert!(back[1] > 0.1 && back[4] == 0.0, "{back:?}");
        let start = Instant::now();
        let mut hiccup = Lateness::new(250 * MS, start);
        for i in 1..400 {
            let late = if i % 10 == 0 { 900 * MS } else { MS };
            assert_eq!(hiccup.tick(late, start + 25 * MS * i).unwrap_or(0.0), 0.0);
        }
        assert!(shares(Duration::ZERO, &[900 * MS; 5]).is_empty());
    }

    #[test]
    fn a_share_of_requests_is_refused() {
        let gate = Gate::new(10, 3);
        assert_eq!(gate.most, 4);
        assert!(gate.admits(|| 0));
        gate.refuse(0.5);
        assert!(!gate.admits(|| u64::from(u32::MAX / 4)) && gate.admits(|| u64::from(u32::MAX / 4 * 3)));
        gate.refuse(0.0);
        gate.taken.set(4);
        assert!(!gate.admits(|| u64::MAX));
    }
}
