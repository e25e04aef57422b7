//! One release under the real engine, in virtual time: [`engine::step`] once a second, fed with a proxy's pages.
//!
//! Requests end within their second, so each second is published when it ends. The weight rises with the next second;
//! on the way back it stays in force for the rest of the reaction time, as the pacing assumes.

use super::{
    end::{End, Verdict},
    sheet::{minute, nothing, passed, table, tally},
    traffic::Traffic,
};
use controller::{
    contract::{
        Split,
        evidence::{Cohort, RING_SECONDS, ServicePage},
        release::Phase,
    },
    engine::{self, Action, Observation, Plan, Proxy, Readiness, Smoked, State, Step, Table, Told},
    stats::Arm,
};

/// Minutes of stable's past: as long as the engine looks back.
const PAST: u64 = 10;
/// Milliseconds after the end of a second at which its counts are read.
const READ_MS: u64 = 30;
/// Unix time of the first weight; nothing depends on it.
const EPOCH: f64 = 1_700_000_000.0;
/// Turns until a canary that answers has its first weight; with smoke requests there are a few more.
const TURNS_TO_BEGIN: u32 = 16;

/// A proxy and its controller.
struct Release<'a> {
    plan: &'a Plan,
    state: State,
    table: Table,
    page: ServicePage,
    traffic: Traffic,
    bad: u64,
    silent_since: Option<f64>,
    readiness: Readiness,
    smoked: Vec<Smoked>,
}

/// Runs until a decision or the horizon; `reaction` seconds lie between a verdict and weight 0.
pub fn run(plan: &Plan, traffic: Traffic, reaction: u64, horizon: u64) -> End {
    let mut release = Release::new(plan, traffic);
    for _ in 0..TURNS_TO_BEGIN {
        release.turn();
        if !release.table.split.is_none() {
            break;
        }
    }
    let verdict = release.decide(reaction, horizon);
    End {
        verdict,
        seconds: release.traffic.seconds(),
        bad: release.bad,
    }
}

impl<'a> Release<'a> {
    fn new(plan: &'a Plan, mut traffic: Traffic) -> Release<'a> {
        let mut page = nothing();
        page.history = (0..PAST).map(|m| minute(m, traffic.minute())).collect();
        let mut release = Release {
            plan,
            state: State::fresh(),
            table: table(Split::NONE),
            page,
            traffic,
            bad: 0,
            silent_since: None,
            readiness: Readiness::Unknown,
            smoked: Vec::new(),
        };
        release.put(Split::NONE);
        release
    }

    fn decide(&mut self, reaction: u64, horizon: u64) -> Verdict {
        while self.traffic.seconds() < horizon {
            self.second();
            let step = self.turn();
            let all = step.split.is_some_and(|s| s.same_share(Split::ALL));
            match step.phase {
                Phase::RollingBack => {
                    (1..reaction).for_each(|_| self.second());
                    return Verdict::RolledBack;
                }
                Phase::Succeeded => return Verdict::Promoted,
                Phase::Promoting if all => return Verdict::Promoted,
                _ => {}
            }
        }
        Verdict::Undecided
    }

    /// A second of traffic.
    fn second(&mut self) {
        let tracks = self.traffic.second(self.page.share);
        self.bad += tracks[1].x;
        let second = PAST * 60 + self.traffic.seconds() - 1;
        self.remember(second / 60, tracks[0]);
        self.page.cohorts.push(Cohort {
            second,
            hash: self.table.hash.clone(),
            share: self.page.share,
            tracks: tracks.map(tally),
            slices: Vec::new(),
        });
    }

    fn remember(&mut self, minute: u64, stable: Arm) {
        let history = &mut self.page.history;
        match history.last_mut().filter(|m| m.minute == minute) {
            Some(m) => (m.started, m.bad) = (m.started + stable.n, m.bad + stable.x),
            None => {
                history.remove(0);
                history.push(super::sheet::minute(minute, stable));
            }
        }
    }

    /// Observe, decide, act.
    fn turn(&mut self) -> Turned {
        let since = self.state.since().unwrap_or(u64::MAX);
        self.forget(since);
        let seen = self.observe(since);
        let state = std::mem::replace(&mut self.state, State::fresh());
        let step = engine::step(self.plan, state, &seen);
        self.take_back(seen);
        self.act(step)
    }

    /// Drops what has been judged, and what a ring would have lost in a long silence.
    fn forget(&mut self, since: u64) {
        let now = PAST * 60 + self.traffic.seconds();
        let first = since.clamp(now - RING_SECONDS, now);
        let old = self.page.cohorts.partition_point(|c| c.second < first);
        self.page.cohorts.drain(..old);
    }

    fn observe(&mut self, since: u64) -> Observation {
        let own = self.traffic.seconds() + PAST * 60;
        let now = EPOCH + self.traffic.seconds() as f64;
        let told = if self.traffic.is_silent() {
            Told::Missing {
                since: *self.silent_since.get_or_insert(now),
                reason: "telemetry is silent".into(),
            }
        } else {
            self.silent_since = None;
            Told::Page {
                process: "p".into(),
                now_ms: own * 1000 + READ_MS,
                since,
                page: std::mem::replace(&mut self.page, nothing()),
            }
        };
        Observation {
            now,
            table: Some(self.table.clone()),
            proxies: vec![Proxy {
                name: "p".into(),
                told,
            }],
            readiness: std::mem::take(&mut self.readiness),
            smoke: std::mem::take(&mut self.smoked),
            checks: Vec::new(),
            orders: Vec::new(),
        }
    }

    /// The page was lent, so that nothing is copied.
    fn take_back(&mut self, seen: Observation) {
        for proxy in seen.proxies {
            if let Told::Page { page, .. } = proxy.told {
                self.page = page;
            }
        }
    }

    fn act(&mut self, step: Step) -> Turned {
        let phase = step.status.phase;
        self.state = step.state;
        let mut split = None;
        for action in step.actions {
            match action {
                Action::SetSplit { split: wanted, .. } => split = Some(wanted),
                Action::Probe => self.readiness = Readiness::Ready,
                Action::Smoke(open) => self.smoked = open.into_iter().map(passed).collect(),
                Action::Measure(_) | Action::Record(_) => {}
            }
        }
        // What is on its way back is still served: `decide` ends there.
        if let Some(split) = split.filter(|_| phase != Phase::RollingBack) {
            self.put(split);
        }
        Turned { phase, split }
    }

    fn put(&mut self, split: Split) {
        self.table = table(split);
        self.page.hash.clone_from(&self.table.hash);
        self.page.share = split.share();
    }
}

/// What came of a turn.
struct Turned {
    phase: Phase,
    split: Option<Split>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::{policy, traffic::Scene, worlds::World};
    use controller::contract::policy::{Policy, Smoke};

    fn end(policy: Policy, world: World, reaction: u64) -> End {
        let scene = Scene {
            world,
            rps: 200.0,
            baseline: 0.001,
        };
        let plan = policy::plan(policy).unwrap();
        run(&plan, Traffic::new(scene, 5), reaction, 3600)
    }

    #[test]
    fn each_ending() {
        let ends = [World::Healthy, World::Half, World::NoTraffic].map(|w| end(Policy::default(), w, 3));
        let expected = [Verdict::Promoted, Verdict::RolledBack, Verdict::Undecided];
        assert_eq!(ends.map(|e| e.verdict), expected);
        // Soak and watch.
        assert!(ends[0].seconds >= 480, "{:?}", ends[0]);
        assert_eq!((ends[2].seconds, ends[2].bad), (3600, 0));
    }

    #[test]
    fn a_slower_reaction_costs_its_seconds_and_their_requests() {
        let [quick, slow] = [1, 9].map(|r| end(Policy::default(), World::All, r));
        assert_eq!(slow.seconds, quick.seconds + 8);
        assert!(slow.bad > quick.bad);
    }

    #[test]
    fn smoke_requests_pass_before_the_first_weight() {
        let mut policy = policy::reference(Policy::default());
        let plain = end(policy.clone(), World::Healthy, 3);
        policy.verify.smoke = vec![Smoke {
            path: "/".into(),
            status: 200,
        }];
        assert_eq!(end(policy, World::Healthy, 3), plain);
    }

    #[test]
    fn nothing_is_promoted_in_silence() {
        let plan = policy::plan(policy::reference(Policy::default())).unwrap();
        let scene = Scene {
            world: World::Gaps,
            rps: 200.0,
            baseline: 0.001,
        };
        for seed in 0..20 {
            let end = run(&plan, Traffic::new(scene, seed), 3, 3600);
            assert_eq!(end.verdict, Verdict::Promoted, "{end:?}");
            assert!(!World::Gaps.is_silent(end.seconds - 1), "{end:?}");
        }
    }
}
