//! One release under the real engine, in virtual time: [`engine::step`] once a second, fed with a proxy's pages.
//!
//! Requests that end count with their second, which is published when it ends: what the wait for slow ones costs is part
//! of the reaction time. The weight rises with the next second; on the way back it stays in force for the rest of the
//! reaction time, as the pacing assumes.

use super::{
    end::{End, Verdict},
    ledger::{Ledger, Slices, told},
    sheet::{nothing, passed, table, tally},
    traffic::Traffic,
};
use controller::{
    contract::{
        Split,
        evidence::{Cohort, HISTORY_MINUTES, LATENCY_MINUTES, RING_SECONDS, ServicePage, Tally},
        release::Phase,
    },
    engine::{self, Action, Observation, Plan, Proxy, Readiness, Smoked, State, Step, Table, Told},
    stats::Arm,
};

/// Seconds of stable's past: as long as the engine looks back.
const PAST: u64 = HISTORY_MINUTES * 60;
/// Seconds of it whose durations are on the page.
const TIMED: u64 = LATENCY_MINUTES * 60;
/// Milliseconds after the end of a second at which its counts are read.
const READ_MS: u64 = 30;
/// Unix time of the first weight; nothing depends on it.
const EPOCH: f64 = 1_700_000_000.0;
/// Turns until a canary that answers has its first weight; with smoke requests there are a few more.
const TURNS_TO_BEGIN: u32 = 16;

/// How the reason begins of a release that a placebo's alarm holds.
const ALARM: &str = "the evidence is miscalibrated";

/// What the policy has a use for: the rest is not drawn.
#[derive(Clone, Copy)]
struct Detail {
    durations: bool,
    pods: bool,
}

/// A proxy and its controller.
struct Release<'a> {
    plan: &'a Plan,
    state: State,
    table: Table,
    page: ServicePage,
    ledger: Ledger,
    traffic: Traffic,
    detail: Detail,
    bad: u64,
    /// Canary requests that ended, and the slow ones among them, as far as durations are drawn.
    ended: u64,
    slow: u64,
    alarmed: bool,
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
    release.end(verdict)
}

impl Detail {
    fn of(plan: &Plan) -> Detail {
        let (latency, noise) = (plan.policy.judgement.latency, plan.policy.judgement.noise);
        Detail {
            durations: latency.enabled,
            pods: noise.dispersion || noise.pod_spread || noise.placebos,
        }
    }
}

impl<'a> Release<'a> {
    fn new(plan: &'a Plan, traffic: Traffic) -> Release<'a> {
        let mut release = Release {
            plan,
            state: State::fresh(),
            table: table(Split::NONE),
            page: nothing(),
            ledger: Ledger::default(),
            traffic,
            detail: Detail::of(plan),
            bad: 0,
            ended: 0,
            slow: 0,
            alarmed: false,
            silent_since: None,
            readiness: Readiness::Unknown,
            smoked: Vec::new(),
        };
        release.put(Split::NONE);
        release.before();
        release
    }

    /// Stable alone. Without pods only what the baseline is made of.
    fn before(&mut self) {
        let first = if self.detail.pods { 0 } else { PAST - TIMED };
        let mut sum = Arm::default();
        for second in first..PAST {
            let stable = self.traffic.before();
            self.ledger.count(&mut self.page, second, stable);
            sum = sum.plus(stable);
            if self.detail.pods {
                let slices = self.divide(second, stable);
                self.last_before(second, stable, &slices);
            }
            if second % 60 == 59 {
                self.time_minute(second, std::mem::take(&mut sum));
            }
        }
        self.show();
    }

    /// The last second before the release is in the ring.
    fn last_before(&mut self, second: u64, stable: Arm, slices: &Slices) {
        if second + 1 == PAST {
            self.page.cohorts.push(Cohort {
                second,
                hash: self.table.hash.clone(),
                share: 0.0,
                tracks: [tally(stable, stable.n), Tally::default()],
                slices: told(slices),
            });
        }
    }

    /// Durations of a minute of stable before the release, all at once.
    fn time_minute(&mut self, second: u64, stable: Arm) {
        if self.detail.durations && second >= PAST - TIMED {
            let cells = self.traffic.durations(0, stable.n);
            self.ledger.time(&cells);
        }
    }

    fn end(mut self, verdict: Verdict) -> End {
        if !self.detail.durations {
            self.slow = self.guess_slow();
        }
        End {
            verdict,
            seconds: self.traffic.seconds(),
            bad: self.bad,
            slow: self.slow,
            alarmed: self.alarmed,
        }
    }

    /// Durations that nobody judged may be drawn at the end, together.
    fn guess_slow(&mut self) -> u64 {
        let cells = self.traffic.durations(1, self.ended);
        self.traffic.scale().slow(&cells)
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
        let arms = self.traffic.second(self.page.share);
        let second = PAST + self.traffic.seconds() - 1;
        self.bad += self.traffic.harm(arms[1]);
        self.ledger.count(&mut self.page, second, arms[0]);
        let slices = if self.detail.pods {
            told(&self.divide(second, arms[0]))
        } else {
            Vec::new()
        };
        let tracks = [0, 1].map(|track| self.track(track, arms[track]));
        self.page.cohorts.push(Cohort {
            second,
            hash: self.table.hash.clone(),
            share: self.page.share,
            tracks,
            slices,
        });
        if second % 60 == 59 {
            self.show();
        }
    }

    fn divide(&mut self, second: u64, stable: Arm) -> Slices {
        let pods = self.traffic.divide(stable);
        self.ledger.divide(&mut self.page, second, &pods)
    }

    fn track(&mut self, track: usize, arm: Arm) -> Tally {
        let mut tally = tally(arm, self.traffic.ended(track, arm.n));
        if !self.detail.durations {
            self.ended += if track == 1 { tally.finished } else { 0 };
            return tally;
        }
        let cells = self.traffic.time(track, &mut tally);
        if track == 0 {
            self.ledger.time(&cells);
        } else {
            self.slow += self.traffic.scale().slow(&cells);
        }
        tally
    }

    /// What is told of longer times, as often as it matters: a judgement begins with it.
    fn show(&mut self) {
        if self.detail.pods {
            self.ledger.show_pods(&mut self.page);
        }
        if self.detail.durations {
            self.ledger.show_latency(&mut self.page, self.traffic.scale());
        }
    }

    /// Observe, decide, act.
    fn turn(&mut self) -> Turned {
        // Before the first weight the ring is on the page: that stable can be divided is seen there.
        let since = self.state.since().unwrap_or(0);
        self.forget(since);
        let seen = self.observe(since);
        let state = std::mem::replace(&mut self.state, State::fresh());
        let step = engine::step(self.plan, state, &seen);
        self.take_back(seen);
        self.act(step)
    }

    /// Drops what has been judged, and what a ring would have lost in a long silence.
    fn forget(&mut self, since: u64) {
        let now = PAST + self.traffic.seconds();
        let first = since.clamp(now - RING_SECONDS, now);
        let old = self.page.cohorts.partition_point(|c| c.second < first);
        self.page.cohorts.drain(..old);
    }

    fn observe(&mut self, since: u64) -> Observation {
        let own = PAST + self.traffic.seconds();
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
            ..Observation::nothing(now)
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
        self.alarmed |= phase == Phase::Holding && step.status.reason.starts_with(ALARM);
        self.state = step.state;
        let mut split = None;
        for action in step.actions {
            match action {
                Action::SetSplit { split: wanted, .. } => split = Some(wanted),
                Action::Probe => self.readiness = Readiness::Ready,
                Action::Smoke(open) => self.smoked = open.into_iter().map(passed).collect(),
                Action::Measure(_) | Action::Record(_) | Action::Ask { .. } | Action::Hand(_) => {}
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
    use crate::simulate::{policy, traffic::tests::scene, worlds::World};
    use controller::contract::policy::{Policy, Smoke};

    fn end(policy: Policy, world: World, reaction: u64) -> End {
        let plan = policy::plan(policy).unwrap();
        run(&plan, Traffic::new(scene(world, 200.0, 0.001), 5), reaction, 3600)
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
        for seed in 0..20 {
            let end = run(
                &plan,
                Traffic::new(scene(World::Gaps, 200.0, 0.001), seed),
                3,
                3600,
            );
            assert_eq!(end.verdict, Verdict::Promoted, "{end:?}");
            assert!(!World::Gaps.is_silent(end.seconds - 1), "{end:?}");
        }
    }
}
