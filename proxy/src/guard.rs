//! The guard: a proxy cuts its own canary's share when its own last seconds show a gross failure beyond chance, without
//! controller and API server. It lifts only on a new split. Looked at by the control thread, counted by the workers.

pub mod wager;

use crate::{control::Control, meter::bump, service::Service, shared::Shared, table::Route};
use contract::names::Track;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering, fence},
    },
    time::Duration,
};
use wager::{Block, ENOUGH, Ended, Wager};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);
/// Looks in a second.
const LOOKS: usize = 10;
/// The last looks, over which the estimates are taken: two seconds.
const RECENT: usize = 20;
/// Requests that make a block: fewer tell next to nothing about odds.
const BLOCK: u64 = 20;
/// The canary's error rate from which on it may be cut.
const GROSS: f64 = 0.2;
/// How many times stable's error rate the canary's must be.
const TIMES: f64 = 5.0;
/// Bad requests below which nobody is cut.
const FEW: u64 = 5;

/// What one worker counts for the guard: judged requests that ended, well or badly, under the split of one epoch.
#[derive(Debug, Default)]
pub struct Pulse {
    /// The epoch, or 0 while it changes.
    epoch: AtomicU32,
    /// All and bad, by track.
    counts: [[AtomicU32; 2]; 2],
}

impl Pulse {
    /// Counts a request that ended. One of a split that is over says nothing about this one.
    pub fn end(&self, epoch: u32, track: Track, is_bad: bool) {
        let current = self.epoch.load(Ordering::Relaxed);
        if epoch < current {
            return;
        }
        if epoch > current {
            self.renew(epoch);
        }
        let [all, bad] = &self.counts[track.index()];
        if is_bad {
            bump(bad);
        }
        bump(all);
    }

    fn renew(&self, epoch: u32) {
        self.epoch.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        self.counts
            .iter()
            .flatten()
            .for_each(|c| c.store(0, Ordering::Relaxed));
        self.epoch.store(epoch, Ordering::Release);
    }

    /// What was counted under this epoch; nothing under others.
    fn read(&self, epoch: u32) -> Block {
        let before = self.epoch.load(Ordering::Acquire);
        let [stable, canary] = &self.counts;
        let ended = |counts: &[AtomicU32; 2]| {
            let [all, bad] = counts;
            let all = u64::from(all.load(Ordering::Acquire));
            // A bad one is counted before it is counted at all: never more are bad than have ended.
            let bad = u64::from(bad.load(Ordering::Relaxed));
            Ended {
                all,
                bad: bad.min(all),
            }
        };
        let block = Block {
            stable: ended(stable),
            canary: ended(canary),
        };
        fence(Ordering::Acquire);
        let is_valid = before == epoch && self.epoch.load(Ordering::Relaxed) == epoch;
        if is_valid { block } else { Block::default() }
    }
}

/// Watches all services until the process ends.
pub async fn watch(shared: Arc<Shared>, control: Arc<Control>) {
    let mut watched: BTreeMap<String, Watched> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let table = shared.table();
        for route in &table.routes {
            let name = &route.source.service;
            let service = shared.services.of(name);
            let known = watched.entry(name.clone()).or_default();
            if let Some(reason) = known.look(route, &service) {
                tracing::error!(service = name, "the guard cuts the canary: {reason}");
                control.trip(name, &route.hash, reason);
            }
        }
        watched.retain(|name, _| table.service(name).is_some());
    }
}

/// What is known of one service.
#[derive(Debug, Default)]
struct Watched {
    hash: String,
    /// Whether what is known must not be carried over to another split: there was no canary, or it was cut.
    over: bool,
    epoch: u32,
    /// What the epoch had at the last look.
    seen: Block,
    scales: Scales,
}

impl Watched {
    /// Looks once. The reason, when the canary is to be cut.
    fn look(&mut self, route: &Route, service: &Service) -> Option<String> {
        self.turn_to(route);
        if !route.source.canary.guard || route.guard.is_some() {
            return None;
        }
        let pulses = service.meters.iter().map(|m| m.pulse.read(route.epoch));
        let now = pulses.fold(Block::default(), Block::plus);
        let fresh = since(now, self.seen);
        self.seen = now;
        let reason = self.scales.look(fresh);
        self.over |= reason.is_some();
        reason
    }

    /// Begins anew with a release: when the share rises from nothing, or after a cut. The weights of one release share one
    /// wager, so that they share one chance of a false alarm.
    fn turn_to(&mut self, route: &Route) {
        if self.hash != route.hash {
            self.hash.clone_from(&route.hash);
            if std::mem::take(&mut self.over) {
                self.scales = Scales::default();
            }
        }
        self.over |= route.source.canary.split.is_none();
        if self.epoch != route.epoch {
            (self.epoch, self.seen) = (route.epoch, Block::default());
        }
    }
}

/// What came since; a worker that was read while it turned to another epoch has counted nothing yet.
fn since(now: Block, before: Block) -> Block {
    let ended = |now: Ended, before: Ended| {
        let all = now.all.saturating_sub(before.all);
        Ended {
            all,
            bad: now.bad.saturating_sub(before.bad).min(all),
        }
    };
    Block {
        stable: ended(now.stable, before.stable),
        canary: ended(now.canary, before.canary),
    }
}

/// Evidence and estimates of one release.
#[derive(Debug, Default)]
struct Scales {
    wager: Wager,
    looks: usize,
    /// What is too little for a block yet.
    open: Block,
    recent: VecDeque<Block>,
}

impl Scales {
    /// Takes what ended since the last look. The reason, when that is enough.
    fn look(&mut self, fresh: Block) -> Option<String> {
        self.looks += 1;
        if self.looks.is_multiple_of(LOOKS) {
            self.wager.second();
        }
        self.recent.push_back(fresh);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        // Whether a block is whole must not depend on how its requests ended.
        self.open = self.open.plus(fresh);
        let (canary, stable) = (self.open.canary.all, self.open.stable.all);
        if canary > 0 && stable > 0 && canary + stable >= BLOCK {
            self.wager.take(&std::mem::take(&mut self.open));
        }
        (self.wager.worth() >= ENOUGH).then(|| self.gross())?
    }

    /// Whether it is gross besides, as far as can be estimated.
    fn gross(&self) -> Option<String> {
        let Block { stable, canary } = self.recent.iter().fold(Block::default(), |sum, b| sum.plus(*b));
        let is_gross = canary.bad >= FEW && canary.rate() >= GROSS && canary.rate() >= TIMES * stable.rate();
        is_gross.then(|| {
            format!(
                "in the last {} s {} of {} requests failed on the canary and {} of {} on stable",
                RECENT / LOOKS,
                canary.bad,
                canary.all,
                stable.bad,
                stable.all
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(canary: (u64, u64), stable: (u64, u64)) -> Block {
        let ended = |(bad, all)| Ended { all, bad };
        Block {
            stable: ended(stable),
            canary: ended(canary),
        }
    }

    /// Looks until the cut, at this block a look.
    fn looks(scales: &mut Scales, block: Block) -> Option<(usize, String)> {
        (1..=300).find_map(|i| Some((i, scales.look(block)?)))
    }

    #[test]
    fn a_failing_canary_is_cut_within_a_second_with_the_counts() {
        let mut scales = Scales::default();
        assert_eq!(looks(&mut scales, block((0, 10), (0, 90))), None);
        let (n, reason) = looks(&mut scales, block((10, 10), (0, 90))).unwrap();
        assert!(n <= 10, "{n}");
        let counts = format!(
            "{} of 200 requests failed on the canary and 0 of 1800 on stable",
            n * 10
        );
        assert!(reason.ends_with(&counts), "{reason}");
    }

    #[test]
    fn a_slow_trickle_is_judged_in_blocks() {
        let mut scales = Scales::default();
        let mut cut = None;
        for i in 0..1200 {
            let canary = if i % 10 == 0 { (1, 1) } else { (0, 0) };
            cut = cut.or(scales.look(block(canary, (0, 1))));
        }
        assert_eq!(cut, None, "one bad request a second is never five in two seconds");
        for i in 0..100 {
            let canary = if i % 3 == 0 { (1, 1) } else { (0, 0) };
            cut = cut.or(scales.look(block(canary, (0, 1))));
        }
        assert!(cut.is_some());
    }

    #[test]
    fn a_stable_that_fails_likewise_or_a_mild_fault_is_left_to_the_judgement() {
        for (canary, stable) in [
            ((5, 10), (45, 90)),
            ((10, 10), (90, 90)),
            ((1, 10), (0, 90)),
            ((5, 10), (14, 90)),
        ] {
            assert_eq!(
                looks(&mut Scales::default(), block(canary, stable)),
                None,
                "{canary:?} {stable:?}"
            );
        }
    }

    #[test]
    fn a_pulse_counts_one_epoch() {
        let pulse = Pulse::default();
        pulse.end(1, Track::Canary, true);
        pulse.end(1, Track::Stable, false);
        assert_eq!(pulse.read(1), block((1, 1), (0, 1)));
        assert_eq!(pulse.read(2), Block::default());
        pulse.end(2, Track::Canary, false);
        pulse.end(1, Track::Canary, true);
        assert_eq!(pulse.read(2), block((0, 1), (0, 0)));
        assert_eq!(
            since(block((1, 3), (0, 5)), block((0, 1), (0, 9))),
            block((1, 2), (0, 0))
        );
    }
}
