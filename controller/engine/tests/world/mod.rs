//! A proxy with two versions behind it, in virtual time and by counts alone.
#![allow(dead_code, reason = "each test file uses its part of the world")]

mod fleet;

#[allow(unused_imports, reason = "each test file uses its part of the world")]
pub use fleet::{Fleet, Pods};

use contract::{
    Canary, Split,
    evidence::{Cohort, Minute, RING_SECONDS, ServicePage, Tally},
    file::ServiceEntry,
    latency::{BUCKETS, bucket},
    names::CONTROLLER,
    policy::Policy,
    routes::Backends,
};
use engine::{
    Action, Answered, Checked, Hand, Observation, Plan, Proxy, Readiness, Recorded, Smoked, State, Step,
    Table, Told, Tracks, step,
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Binomial, Distribution, Poisson, StandardNormal};
use std::{collections::VecDeque, thread};

/// Milliseconds that the proxy has run when the release begins.
const WARM_MS: u64 = 660_000;
/// What a slow request takes.
const SLOW_NS: u64 = 1_500_000_000;
/// Unix time at which the proxy started.
const EPOCH: f64 = 1_700_000_000.0;

/// Most requests that the past is made of: more would tell nothing new.
const PAST: u64 = 30_000;

pub type Rate = fn(f64) -> f64;
/// `Err("")`: no answer at all.
pub type Gauge = fn(f64, f64) -> Result<f64, &'static str>;
/// Seconds that a request takes: of the seconds since the canary appeared, a standard normal and a uniform number.
pub type Delay = fn(f64, f64, f64) -> f64;

/// Half of the requests within 50 ms, 99 % within 202 ms.
pub fn usual(_: f64, normal: f64, _: f64) -> f64 {
    0.05 * (0.6 * normal).exp()
}

/// What the two versions do. Error rates depend on the seconds since the canary appeared.
#[derive(Clone)]
pub struct Nature {
    pub rps: f64,
    pub stable: Rate,
    pub canary: Rate,
    /// Part of the requests that end only after 1.5 s.
    pub slow: f64,
    /// How long requests of stable and of the canary take; without effect while latency is not judged.
    pub delay: [Delay; 2],
    /// Seconds, from and to, without telemetry.
    pub silence: Option<(f64, f64)>,
    /// Second at which the proxy restarts.
    pub restart: Option<f64>,
}

/// Requests that have not ended: when they do, of which cohort, track, how many, and whether badly.
struct Slow {
    due_ms: u64,
    second: u64,
    hash: String,
    track: usize,
    count: u64,
    bad: u64,
    nanos: u64,
}

pub struct World {
    pub rng: StdRng,
    pub nature: Nature,
    pub plan: Plan,
    pub state: State,
    pub table: Table,
    /// Canary requests that were bad since it appeared, as users saw them.
    pub harm: u64,
    /// Highest weight so far.
    pub top: f64,
    /// Decisions on record, as a history file would have them.
    pub history: Vec<contract::release::Decision>,
    /// The log of blocks.
    pub log: Vec<engine::Entry>,
    pub orders: Vec<engine::Order>,
    /// What a check finds: of the seconds since the canary appeared and the weight in force.
    pub gauge: Gauge,
    clock_ms: u64,
    born_ms: u64,
    process: u64,
    ring: VecDeque<Cohort>,
    minutes: Vec<Minute>,
    slow: Vec<Slow>,
    /// Of the delays alone, so that they change nothing else.
    delays: StdRng,
    /// Stable's finished requests by bucket.
    past: [u64; BUCKETS],
    silent_since: Option<f64>,
    readiness: Readiness,
    smoked: Vec<Smoked>,
    checked: Vec<Checked>,
    /// The workloads, when it plays in a cluster.
    pub fleet: Option<Fleet>,
    pub room: Option<f64>,
    pub hands: Vec<Hand>,
    /// What gates were asked.
    pub asked: Vec<String>,
    /// Whether gates say yes.
    pub says_yes: bool,
    answered: Vec<Answered>,
}

pub fn entry(policy: Policy) -> ServiceEntry {
    let backends = |version: &str, at: &str| Backends {
        version: version.into(),
        endpoints: vec![at.into()],
        ..Backends::default()
    };
    ServiceEntry {
        name: "echo".into(),
        stable: backends("v1", "127.0.0.1:1"),
        canary: backends("v2", "127.0.0.1:2"),
        rollout: policy,
        ..ServiceEntry::default()
    }
}

impl World {
    /// In a cluster, with v2 beside v1.
    pub fn in_cluster(seed: u64, nature: Nature, policy: Policy) -> World {
        let fleet = Fleet::new(policy.clone());
        World {
            plan: fleet.plan(),
            fleet: Some(fleet),
            ..World::new(seed, nature, policy)
        }
    }

    pub fn new(seed: u64, nature: Nature, policy: Policy) -> World {
        let mut world = World {
            rng: StdRng::seed_from_u64(seed),
            plan: Plan::of(&entry(policy)).unwrap(),
            state: State::fresh(),
            table: Table {
                split: Split::NONE,
                hash: hash(Split::NONE),
                changed_by: None,
                cause: None,
                tracks: Tracks::Usual,
            },
            harm: 0,
            top: 0.0,
            history: Vec::new(),
            log: Vec::new(),
            orders: Vec::new(),
            clock_ms: WARM_MS,
            born_ms: 0,
            process: 1,
            ring: VecDeque::new(),
            minutes: Vec::new(),
            slow: Vec::new(),
            delays: StdRng::seed_from_u64(seed ^ 0x5eed),
            past: [0; BUCKETS],
            silent_since: None,
            readiness: Readiness::Unknown,
            smoked: Vec::new(),
            checked: Vec::new(),
            gauge: |_, _| Ok(0.0),
            fleet: None,
            room: None,
            hands: Vec::new(),
            asked: Vec::new(),
            says_yes: true,
            answered: Vec::new(),
            nature,
        };
        for minute in 0..=WARM_MS / 60_000 {
            let full = (WARM_MS - minute * 60_000).min(60_000);
            let started = poisson(&mut world.rng, world.nature.rps * full as f64 / 1000.0);
            let bad = binomial(&mut world.rng, started, (world.nature.stable)(-1.0));
            world.minutes.push(Minute {
                minute,
                started,
                bad,
                noise: Default::default(),
            });
        }
        if world.has_delays() {
            for _ in 0..PAST.min((world.nature.rps * 600.0) as u64) {
                let is_slow = world.delays.random_bool(world.nature.slow);
                let nanos = if is_slow { SLOW_NS } else { world.delay(0, -1.0) };
                world.past[bucket(nanos)] += 1;
            }
        }
        world
    }

    fn has_delays(&self) -> bool {
        self.plan.policy.judgement.latency.enabled
    }

    /// Nanoseconds that a request takes.
    fn delay(&mut self, track: usize, t: f64) -> u64 {
        let (normal, uniform) = (StandardNormal.sample(&mut self.delays), self.delays.random());
        ((self.nature.delay[track])(t, normal, uniform) * 1e9) as u64
    }

    /// Seconds since the canary appeared.
    pub fn elapsed(&self) -> f64 {
        (self.clock_ms - WARM_MS) as f64 / 1000.0
    }

    pub fn now(&self) -> f64 {
        EPOCH + self.clock_ms as f64 / 1000.0
    }

    fn own_ms(&self) -> u64 {
        self.clock_ms - self.born_ms
    }

    fn second(&self) -> u64 {
        self.own_ms() / 1000
    }

    /// Lets traffic flow for `ms`, which must not cross the end of a second.
    pub fn flow(&mut self, ms: u64) {
        let (t, share) = (self.elapsed(), self.table.split.share());
        let requests = self.nature.rps * ms as f64 / 1000.0;
        let arms = [
            (1.0 - share, (self.nature.stable)(t)),
            (share, (self.nature.canary)(t)),
        ];
        for (track, (part, bad)) in arms.into_iter().enumerate() {
            let started = poisson(&mut self.rng, requests * part);
            let slow = binomial(&mut self.rng, started, self.nature.slow);
            self.count(track, started, slow, bad, ms);
        }
        self.clock_ms += ms;
        self.end_slow();
        if self.nature.restart.is_some_and(|at| self.elapsed() >= at) {
            self.nature.restart = None;
            self.restart();
        }
    }

    fn count(&mut self, track: usize, started: u64, slow: u64, rate: f64, ms: u64) {
        if started == 0 {
            return;
        }
        let bad = binomial(&mut self.rng, started - slow, rate);
        let late = binomial(&mut self.rng, slow, rate);
        self.harm += if track == 1 { bad + late } else { 0 };
        let (second, hash) = (self.second(), self.table.hash.clone());
        self.tally(second, &hash, track).started += started;
        if self.has_delays() {
            for i in 0..started {
                let is_slow = i >= started - slow;
                let nanos = if is_slow {
                    SLOW_NS
                } else {
                    self.delay(track, self.elapsed())
                };
                let is_bad = if is_slow {
                    i - (started - slow) < late
                } else {
                    i < bad
                };
                let begun = self.clock_ms + self.delays.random_range(0..ms);
                self.pend(
                    Slow {
                        due_ms: begun.saturating_add(nanos / 1_000_000),
                        second,
                        hash: hash.clone(),
                        track,
                        count: 1,
                        bad: u64::from(is_bad),
                        nanos,
                    },
                    ms,
                );
            }
        } else {
            end(self.tally(second, &hash, track), started - slow, bad, 0);
            if slow > 0 {
                let due_ms = self.clock_ms + 1500;
                self.slow.push(Slow {
                    due_ms,
                    second,
                    hash,
                    track,
                    count: slow,
                    bad: late,
                    nanos: SLOW_NS,
                });
            }
        }
        if track == 0 {
            let minute = self.own_ms() / 60_000;
            match self.minutes.last_mut().filter(|m| m.minute == minute) {
                Some(m) => (m.started, m.bad) = (m.started + started, m.bad + bad + late),
                None => self.minutes.push(Minute {
                    noise: Default::default(),
                    minute,
                    started,
                    bad: bad + late,
                }),
            }
        }
    }

    /// Ends at once what ends before `ms` have passed, and forgets what never does.
    fn pend(&mut self, request: Slow, ms: u64) {
        if request.due_ms <= self.clock_ms + ms {
            self.end(&request);
        } else if request.nanos < u64::MAX {
            self.slow.push(request);
        }
    }

    fn end(&mut self, s: &Slow) {
        if s.track == 0 {
            self.past[bucket(s.nanos)] += s.count;
        }
        end(self.tally(s.second, &s.hash, s.track), s.count, s.bad, s.nanos);
    }

    fn tally(&mut self, second: u64, hash: &str, track: usize) -> &mut Tally {
        let share = self.table.split.share();
        let at = self
            .ring
            .iter()
            .rposition(|c| c.second == second && c.hash == hash);
        let at = at.unwrap_or_else(|| {
            let tracks = [Tally::default(), Tally::default()];
            self.ring.push_back(Cohort {
                second,
                hash: hash.to_owned(),
                share,
                tracks,
                slices: Vec::new(),
            });
            self.ring.len() - 1
        });
        &mut self.ring[at].tracks[track]
    }

    fn end_slow(&mut self) {
        let due: Vec<Slow> = {
            let now = self.clock_ms;
            let (due, rest) = std::mem::take(&mut self.slow)
                .into_iter()
                .partition(|s| s.due_ms <= now);
            self.slow = rest;
            due
        };
        for s in due {
            self.end(&s);
        }
        let oldest = self.second().saturating_sub(RING_SECONDS);
        while self.ring.front().is_some_and(|c| c.second < oldest) {
            self.ring.pop_front();
        }
    }

    /// A new process: no counts, and the table as the file has it.
    fn restart(&mut self) {
        self.process += 1;
        self.born_ms = self.clock_ms;
        self.ring.clear();
        self.minutes.clear();
        self.past = [0; BUCKETS];
        self.slow.clear();
        self.put(Split::NONE, None);
    }

    pub fn put(&mut self, split: Split, who: Option<&str>) {
        self.top = self.top.max(split.share());
        self.table = Table {
            split,
            hash: hash(split),
            changed_by: who.map(str::to_owned),
            cause: None,
            tracks: Tracks::Usual,
        };
    }

    pub fn is_silent(&self) -> bool {
        let t = self.elapsed();
        self.nature.silence.is_some_and(|(from, to)| t >= from && t < to)
    }

    pub fn observe(&mut self) -> Observation {
        if let Some(fleet) = &mut self.fleet {
            fleet.pass();
            self.plan = fleet.plan();
            let canary = fleet.told().canary;
            let ready = canary.is_some_and(|c| c.settled && c.ready > 0);
            self.readiness = if ready {
                Readiness::Ready
            } else {
                Readiness::NotReady("0 pods are ready".into())
            };
        }
        let told = if self.is_silent() {
            self.missing()
        } else {
            self.page()
        };
        Observation {
            now: self.now(),
            table: (!self.is_silent()).then(|| self.table.clone()),
            proxies: vec![Proxy {
                name: "p".into(),
                told,
            }],
            readiness: std::mem::take(&mut self.readiness),
            smoke: std::mem::take(&mut self.smoked),
            checks: std::mem::take(&mut self.checked),
            orders: std::mem::take(&mut self.orders),
            gates: std::mem::take(&mut self.answered),
            workloads: self.fleet.as_ref().map(Fleet::told),
            room: self.room,
        }
    }

    fn missing(&mut self) -> Told {
        let since = *self
            .silent_since
            .get_or_insert(EPOCH + self.clock_ms as f64 / 1000.0);
        Told::Missing {
            since,
            reason: "cut".into(),
        }
    }

    fn page(&mut self) -> Told {
        self.silent_since = None;
        let since = self.state.since().unwrap_or(u64::MAX);
        let first = self.ring.partition_point(|c| c.second < since);
        let waiting = |track| {
            self.slow
                .iter()
                .filter(|s| s.track == track)
                .map(|s| s.count)
                .sum()
        };
        let page = ServicePage {
            hash: self.table.hash.clone(),
            share: self.table.split.share(),
            inflight: [waiting(0), waiting(1)],
            endpoints: [1, 1],
            guard: None,
            pods: ends(),
            cohorts: self.ring.iter().skip(first).cloned().collect(),
            history: self.minutes.iter().rev().take(30).rev().copied().collect(),
            latency: self
                .past
                .iter()
                .enumerate()
                .map(|(b, n)| (b as u16, *n))
                .filter(|(_, n)| *n > 0)
                .collect(),
            local: false,
            rejected: Vec::new(),
        };
        Told::Page {
            process: format!("process-{}", self.process),
            now_ms: self.own_ms(),
            since,
            page,
        }
    }

    /// One whole turn: observe, decide, act, save.
    pub fn turn(&mut self) -> Step {
        let seen = self.observe();
        let step = step(&self.plan, self.state.clone(), &seen);
        self.act(&step.actions);
        self.state = step.state.clone();
        step
    }

    pub fn act(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::SetSplit { split, tracks, .. } => {
                    self.put(*split, Some(CONTROLLER));
                    self.table.tracks = *tracks;
                }
                Action::Probe if self.fleet.is_some() => {}
                Action::Probe => self.readiness = Readiness::Ready,
                Action::Smoke(open) => {
                    self.smoked = open
                        .iter()
                        .map(|i| Smoked {
                            index: *i,
                            outcome: Ok(()),
                        })
                        .collect();
                }
                Action::Measure(due) => {
                    let outcome = (self.gauge)(self.elapsed(), self.table.split.share());
                    for i in due.iter().filter(|_| outcome != Err("")) {
                        self.checked.push(Checked {
                            name: self.plan.policy.judgement.checks[*i].name.clone(),
                            at: self.now(),
                            outcome: outcome.map_err(str::to_owned),
                        });
                    }
                }
                Action::Ask { question, .. } => {
                    self.asked.push(question.clone());
                    if self.says_yes {
                        self.answered.push(Answered {
                            question: question.clone(),
                            outcome: Ok(()),
                        });
                    }
                }
                Action::Hand(hand) => {
                    self.hands.push(*hand);
                    if let Some(fleet) = &mut self.fleet {
                        fleet.take(hand);
                    }
                }
                Action::Record(Recorded { decision: d, .. }) => {
                    if self.history.last().is_none_or(|last| last.number < d.number) {
                        self.history.push(d.clone());
                    }
                }
            }
        }
    }

    pub fn chance(&mut self, p: f64) -> bool {
        self.rng.random_bool(p)
    }
}

fn end(tally: &mut Tally, count: u64, bad: u64, nanos: u64) {
    tally.finished += count;
    let within = |ms: u64, n: u64| if nanos <= ms * 1_000_000 { n } else { 0 };
    let (b, s, good) = (&mut tally.bad, &mut tally.served, count - bad);
    b.by_1s += within(1_000, bad);
    b.by_5s += within(5_000, bad);
    b.by_30s += within(30_000, bad);
    b.ever += bad;
    s.by_500ms += within(500, good);
    s.by_1s += within(1_000, good);
    let bucket = bucket(nanos) as u16;
    match tally.latency.iter_mut().find(|(b, _)| *b == bucket) {
        Some((_, n)) => *n += count,
        None => tally.latency.push((bucket, count)),
    }
}

pub fn hash(split: Split) -> String {
    Canary {
        split,
        ..Canary::default()
    }
    .hash()
}

pub fn poisson(rng: &mut impl Rng, mean: f64) -> u64 {
    if mean <= 0.0 {
        0
    } else {
        Poisson::new(mean).unwrap().sample(rng) as u64
    }
}

pub fn binomial(rng: &mut impl Rng, n: u64, p: f64) -> u64 {
    if n == 0 || p <= 0.0 {
        0
    } else {
        Binomial::new(n, p.min(1.0)).unwrap().sample(rng)
    }
}

/// Two endpoints of stable: enough for parts that are judged like canaries.
fn ends() -> Vec<contract::evidence::Pod> {
    let pod = |endpoint: &str| contract::evidence::Pod {
        endpoint: endpoint.into(),
        track: contract::names::Track::Stable,
        started: 0,
        bad: 0,
        finished: 0,
        buckets: 0,
    };
    ["10.0.0.1:80", "10.0.0.2:80"].map(pod).to_vec()
}

/// One result a seed, on both cores, in the order of the seeds.
pub fn by_seed<T: Send>(count: u64, one: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let part = |from: u64, to: u64| -> Vec<T> { (from..to).map(&one).collect() };
    thread::scope(|scope| {
        let first = scope.spawn(|| part(0, count / 2));
        let rest = part(count / 2, count);
        first.join().unwrap().into_iter().chain(rest).collect()
    })
}
