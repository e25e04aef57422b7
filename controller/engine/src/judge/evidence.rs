//! Several metrics, one verdict (statistics 2c): bad requests, slower requests, requests without an answer; and the
//! placebos that watch the engine itself (2d). A fold over [`Event`]s and nothing else: the same events give the same
//! bits, whenever they are read.

use super::{
    calibration::{Calibration, Manner},
    event::{Event, Tick},
    outcome::Outcome,
    packed,
    speed::Speed,
};
use crate::plan::Plan;
use contract::{
    evidence::SLICES,
    policy::Weights,
    release::{self, Latencies},
};
use serde::{Deserialize, Serialize};
use stats::{
    Arm, Counts, combine,
    errors::{ErrorProcess, Phi},
    placebo::Placebos,
};

/// One thing that a canary may be worse in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// More bad requests.
    Errors,
    /// Slower requests.
    Latency,
    /// More requests without an answer in time.
    Stalled,
}

/// In the order of every array of metrics here.
pub(crate) const METRICS: [Metric; 3] = [Metric::Errors, Metric::Latency, Metric::Stalled];
/// Which metrics see the same cohorts at the same age: errors and latency do.
const RELEASES: [usize; 3] = [0, 0, 1];

/// The two chances of being wrong that a run may take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Risk {
    /// Chance of rolling back a canary as good as stable.
    pub alpha: f64,
    /// Chance of promoting one beyond the promotion margin.
    pub beta: f64,
}

/// The evidence of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    risk: Risk,
    calibration: Calibration,
    errors: ErrorProcess,
    /// `None`: errors alone are judged.
    speed: Option<Speed>,
    weights: Weights,
    /// Log evidence of each release that an earlier part of the run brought along: the watch goes on with the capital
    /// that the ramp has left, so that alpha holds for both together.
    carried: [f64; 2],
    /// `None`: stable cannot be divided, or the policy wants none.
    placebos: Option<Placebos>,
    /// The placebo that would have been rolled back.
    alarm: Option<u32>,
    /// The most that any placebo has shown, in nats, 0 or more.
    highest: f64,
    totals: Counts,
    /// Events so far.
    events: u64,
    /// Share of the canary in the last event.
    share: f64,
    /// Of all metrics, after the last event: asked for several times a second.
    log_rollback: f64,
    worse: bool,
}

/// Requests of a block that say more of the canary's part than its share does.
const MANY: u64 = 50;
/// Part of latency's weight that goes to errors when stable's past is too thin to judge latency from the start: with so
/// little traffic, errors are what can be seen.
const THIN: f64 = 2.0 / 3.0;

fn weights(wanted: Weights, thin: bool) -> Weights {
    let moved = if thin { THIN * wanted.latency } else { 0.0 };
    Weights {
        errors: wanted.errors + moved,
        latency: wanted.latency - moved,
        ..wanted
    }
}

/// Stable before the canary.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Past {
    pub counts: Arm,
    /// Pairs of bucket and count, as pages tell them.
    pub latency: Vec<(u16, u64)>,
    pub manner: Manner,
}

impl Risk {
    /// The policy's, halved for each earlier run of the same release: "retry until green" must not pay.
    pub(crate) fn of(plan: &Plan, retry: u32) -> Risk {
        let j = &plan.policy.judgement;
        Risk {
            alpha: combine::after_retries(j.alpha, retry),
            beta: combine::after_retries(j.beta, retry),
        }
    }
}

impl Evidence {
    /// No request yet.
    pub(crate) fn start(plan: &Plan, risk: Risk, past: &Past) -> Evidence {
        Evidence::calibrated(plan, risk, past, Calibration::of(plan, &past.manner))
    }

    /// The evidence of the watch: fresh counts, and what stable had shown before the canary came.
    pub(crate) fn again(&self, plan: &Plan, past: &Past) -> Evidence {
        Evidence::calibrated(plan, self.risk, past, self.calibration).follow(self)
    }

    fn calibrated(plan: &Plan, risk: Risk, past: &Past, calibration: Calibration) -> Evidence {
        let errors = calibration.widen(plan.errors);
        let wanted = plan.policy.judgement.noise.placebos && past.manner.is_divided;
        let of_slices = stats::errors::ErrorConfig {
            phi: calibration.phi_of_slice(),
            ..errors
        };
        let speed = plan
            .latency
            .map(|config| Speed::start(plan, config, &calibration, past));
        let thin = speed.as_ref().is_some_and(Speed::is_learning);
        Evidence {
            risk,
            calibration,
            errors: ErrorProcess::new(errors, past.counts),
            speed,
            weights: weights(plan.policy.judgement.weights, thin),
            carried: [0.0; 2],
            placebos: wanted.then(|| Placebos::new(of_slices, past.counts, SLICES)),
            alarm: None,
            highest: 0.0,
            totals: Counts::default(),
            events: 0,
            share: 0.0,
            log_rollback: 0.0,
            worse: false,
        }
        .weighed()
    }

    fn weighed(mut self) -> Evidence {
        self.log_rollback = combine::largest(&self.parts());
        self
    }

    /// Of the first run of a plan without a past.
    #[cfg(test)]
    pub(crate) fn of_nothing(plan: &Plan) -> Evidence {
        Evidence::start(plan, Risk::of(plan, 0), &Past::default())
    }

    /// Fresh counts, the capital of `before`.
    fn follow(self, before: &Evidence) -> Evidence {
        let metrics = before.parts();
        let gained = |release: usize| {
            let part = metrics.iter().filter(|m| m.release == release);
            let weight: f64 = part.map(|m| m.weight).sum();
            if weight > 0.0 {
                combine::of_release(&metrics, release) - weight.ln()
            } else {
                0.0
            }
        };
        Evidence {
            carried: [0, 1].map(gained),
            ..self
        }
        .weighed()
    }

    /// The evidence of a word in the log of blocks.
    ///
    /// # Errors
    /// What is wrong with the word, as a clause.
    pub fn of_word(word: &str) -> Result<Evidence, String> {
        packed::unpack(word)
    }

    /// The evidence as a word.
    pub fn word(&self) -> String {
        // Writing into memory fails only for shapes that are refused when they are compiled.
        packed::pack(self).unwrap_or_default()
    }

    /// Takes an event. What is `cold` is evidence for nothing but errors.
    pub fn apply(&mut self, event: &Event) {
        self.events += 1;
        match event {
            Event::Whole(tick) => self.whole(tick),
            Event::Early(tick) => self.early(tick),
            Event::Slices { dt, slices } => self.slices(*dt, slices),
        }
        if !matches!(event, Event::Slices { .. }) {
            self.log_rollback = combine::largest(&self.parts());
        }
        self.worse |= self.log_rollback >= self.rollback_at();
    }

    fn whole(&mut self, tick: &Tick<Outcome>) {
        let counts: Vec<Counts> = tick.blocks.iter().map(|b| b.counts).collect();
        self.totals = counts.iter().fold(self.totals, |sum, c| sum.plus(*c));
        if !tick.blocks.is_empty() {
            self.share = tick.share;
        }
        let phi = self.phi(tick.share, &counts);
        self.errors.set_phi(phi);
        if tick.cold {
            self.errors.tick_cold(tick.dt, &counts);
        } else {
            self.errors.tick(tick.dt, &counts);
        }
        if let Some(speed) = &mut self.speed {
            speed.tick(tick, phi);
        }
    }

    fn early(&mut self, tick: &Tick<Counts>) {
        let phi = self.phi(tick.share, &tick.blocks);
        if let Some(speed) = &mut self.speed {
            speed.tick_stalled(tick, phi);
        }
    }

    /// By what the canary has of the requests, where that is more than its share: under a cohort rule the share is one of
    /// users. Counts of requests that began are known before their outcomes.
    fn phi(&self, share: f64, blocks: &[Counts]) -> Phi {
        let had = |b: &Counts| b.canary.requests() / (b.canary.requests() + b.stable.requests()).max(1.0);
        let most = blocks.iter().filter(|b| b.canary.n + b.stable.n >= MANY).map(had);
        self.calibration.phi_at(most.fold(share, f64::max))
    }

    fn slices(&mut self, dt: f64, slices: &[Arm]) {
        let Some(placebos) = &mut self.placebos else {
            return;
        };
        placebos.tick(dt, slices);
        let alarm = placebos.alarm(self.risk.alpha).map(|i| i as u32);
        self.alarm = self.alarm.or(alarm);
        self.highest = self.highest.max(placebos.largest().unwrap_or(0.0));
    }

    /// Whether the canary has been proven worse.
    pub fn is_worse(&self) -> bool {
        self.worse
    }

    /// Events so far: the place in the log of blocks.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Evidence for a rollback, in nats.
    pub fn log_rollback(&self) -> f64 {
        self.log_rollback
    }

    /// Where it rolls back: ln(1/alpha). When a placebo has alarmed, chance is larger than it should be for this
    /// traffic: then a canary must be beyond the most that any placebo has ever shown by as much, and what a burst brings
    /// grows with the size of the group that it hits.
    pub fn rollback_at(&self) -> f64 {
        let plain = -self.risk.alpha.ln();
        match (&self.placebos, self.alarm) {
            (Some(placebos), Some(_)) => {
                let groups = placebos.groups() as f64;
                plain + groups.ln() + self.highest * self.calibration.size(self.share).max(1.0)
            }
            _ => plain,
        }
    }

    /// Evidence for a promotion, in nats: all must be proven, so the least counts (no correction is needed).
    pub fn log_promote(&self) -> f64 {
        let errors = self.errors.log_promote();
        match &self.speed {
            Some(speed) => errors.min(speed.log_promote()),
            None => errors,
        }
    }

    /// Whether errors are proven, and latency is what a promotion waits for.
    pub(crate) fn lacks_latency(&self) -> bool {
        self.errors.log_promote() >= self.promote_at() && self.log_promote() < self.promote_at()
    }

    /// Where it may promote: ln(1/beta).
    pub fn promote_at(&self) -> f64 {
        -self.risk.beta.ln()
    }

    /// Who is worse: those that closed testing names, or else the one with most of the evidence.
    pub(crate) fn blamed(&self) -> Vec<Metric> {
        let parts = self.parts();
        let guilty = combine::guilty_among(&parts, self.risk.alpha);
        let named: Vec<Metric> = METRICS
            .into_iter()
            .zip(guilty)
            .filter_map(|(m, guilty)| guilty.then_some(m))
            .collect();
        if !named.is_empty() {
            return named;
        }
        let size = |m: &combine::Metric| m.weight.ln() + m.log_m;
        let most = METRICS
            .into_iter()
            .zip(&parts)
            .max_by(|a, b| size(a.1).total_cmp(&size(b.1)));
        most.map(|(m, _)| m).into_iter().collect()
    }

    pub(crate) fn risk(&self) -> Risk {
        self.risk
    }

    pub(crate) fn errors(&self) -> &ErrorProcess {
        &self.errors
    }

    pub(crate) fn speed(&self) -> Option<&Speed> {
        self.speed.as_ref()
    }

    pub(crate) fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    pub(crate) fn placebos(&self) -> Option<&Placebos> {
        self.placebos.as_ref()
    }

    /// The placebo that would have been rolled back: the engine is miscalibrated for this traffic.
    pub(crate) fn alarm(&self) -> Option<u32> {
        self.alarm
    }

    /// Judged requests of the run.
    pub(crate) fn totals(&self) -> Counts {
        self.totals
    }

    pub(crate) fn shown(&self) -> Option<release::Metrics> {
        let speed = self.speed.as_ref()?;
        let shown = |arm: Arm| release::Counts {
            requests: arm.n,
            bad: arm.x,
        };
        let stalled = speed.stalled_counts();
        Some(release::Metrics {
            errors: self.errors.log_roll(),
            latency: speed.log_latency(),
            stalled: speed.log_stalled(),
            promote_errors: self.errors.log_promote(),
            promote_latency: speed.log_promote_by_quantile(),
            canary_stalled: shown(stalled.canary),
            stable_stalled: shown(stalled.stable),
        })
    }

    /// Quantiles of both tracks, once both have some.
    pub(crate) fn latencies(&self) -> Option<Latencies> {
        self.speed.as_ref()?.latencies()
    }

    /// The metrics with what each brings to the verdict.
    pub(crate) fn parts(&self) -> Vec<combine::Metric> {
        let Some(speed) = &self.speed else {
            return vec![combine::Metric {
                log_m: self.carried[0] + self.errors.log_roll(),
                weight: 1.0,
                release: 0,
            }];
        };
        let w = &self.weights;
        let weights = [w.errors, w.latency, w.stalled];
        let logs = [self.errors.log_roll(), speed.log_latency(), speed.log_stalled()];
        [0, 1, 2]
            .map(|i| combine::Metric {
                log_m: self.carried[RELEASES[i]] + logs[i],
                weight: weights[i],
                release: RELEASES[i],
            })
            .to_vec()
    }
}
