//! The judgement of one run: counts in, evidence and verdict out (statistics 2a, 2d, 2h).

mod cursor;
mod metrics;
mod outcome;
mod reading;
mod recent;

pub(crate) use metrics::Metric;
pub(crate) use outcome::STALL_AGE;
pub(crate) use reading::Terms;
pub(crate) use recent::Degraded;

use crate::{observation::Observation, plan::Plan};
use contract::release::{self, Figures, Verdict};
use metrics::Metrics;
use reading::{Stream, before};
use recent::Recent;
use serde::{Deserialize, Serialize};
use stats::{
    Arm, Counts,
    pacing::{self, Sight},
};

/// Part of the way to a rollback, in nats, below which a suspicion is dropped; it is taken up at a half.
const CALM: f64 = 0.4;

/// The two chances of being wrong that a run may take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Risk {
    /// Chance of rolling back a canary as good as stable.
    pub alpha: f64,
    /// Chance of promoting one beyond the promotion margin.
    pub beta: f64,
}

/// Evidence and everything needed to go on after a restart. All times are seconds of judged traffic, so that a gap
/// in what is known counts nowhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Judge {
    risk: Risk,
    metrics: Metrics,
    streams: Vec<Stream>,
    recent: Recent,
    totals: Counts,
    /// Stable before the canary, for "degraded".
    before: Arm,
    /// Requests per second before the canary.
    start_rate: f64,
    seconds: u64,
    /// Seconds that are known at [`STALL_AGE`].
    ahead: u64,
    /// Seconds from the first weight in which the canary is forgiven to be slow.
    warm_up: u64,
    at_weight: u64,
    soaked: u64,
    spent: u64,
    worse: bool,
}

impl Risk {
    /// The policy's, halved for each earlier run of the same release: "retry until green" must not pay.
    pub fn of(plan: &Plan, retry: u32) -> Risk {
        let half = 0.5f64.powi(retry.min(64) as i32);
        let j = &plan.policy.judgement;
        Risk {
            alpha: j.alpha * half,
            beta: j.beta * half,
        }
    }
}

impl Judge {
    /// Begins with stable's last ten minutes as the baseline, and the seconds under way as the first cohorts.
    pub fn start(plan: &Plan, risk: Risk, seen: &Observation) -> Judge {
        let (past, start_rate) = before(seen);
        let mut judge = Judge {
            risk,
            metrics: Metrics::start(plan, &past),
            streams: Vec::new(),
            recent: Recent::default(),
            totals: Counts::default(),
            before: past.counts,
            start_rate,
            seconds: 0,
            ahead: 0,
            warm_up: plan.policy.judgement.warm_up.as_seconds() as u64,
            at_weight: 0,
            soaked: 0,
            spent: 0,
            worse: false,
        };
        judge.streams = reading::streams(&judge, seen);
        judge
    }

    /// The judge of the watch after promotion: fresh counts, the old capital. The canary is warm.
    pub fn follow(&self, plan: &Plan, seen: &Observation) -> Judge {
        let fresh = Judge::start(plan, self.risk, seen);
        Judge {
            metrics: fresh.metrics.follow(&self.metrics),
            warm_up: 0,
            ..fresh
        }
    }

    /// Who is worse, most certain first, once the verdict is that.
    pub fn blamed(&self) -> Vec<Metric> {
        self.metrics.blamed(self.risk.alpha)
    }

    /// Takes everything that has become known. Stops at the block that proves the canary worse, so that the counts
    /// of the decision are the same whenever they are read.
    pub fn read(&mut self, seen: &Observation, terms: &Terms) {
        reading::read(self, seen, terms);
    }

    /// Oldest second that is still wanted of any proxy.
    pub fn since(&self) -> u64 {
        self.streams.iter().map(Stream::next).min().unwrap_or(0)
    }

    pub fn verdict(&self) -> Verdict {
        if self.worse {
            Verdict::Worse
        } else if self.log_promote() >= self.promote_at() {
            Verdict::Same
        } else {
            Verdict::NotYet
        }
    }

    /// Evidence half way to a rollback, in nats: the weight must not rise.
    pub fn is_suspicious(&self) -> bool {
        pacing::suspect(self.log_rollback(), self.risk.alpha)
    }

    /// Clearly below suspicion again.
    pub fn is_calm(&self) -> bool {
        self.log_rollback() < CALM * self.rollback_at()
    }

    /// Stable itself fails, beyond chance: nobody can be blamed.
    pub fn degraded(&self, limit: f64) -> Option<Degraded> {
        self.recent.degraded(limit, self.before)
    }

    /// Requests per second, both tracks; 0 when unknown.
    pub fn rate(&self) -> f64 {
        self.recent.rate().unwrap_or(self.start_rate)
    }

    /// What the pace of the ramp depends on.
    pub fn sight(&self) -> Sight {
        Sight {
            rate: self.rate(),
            canary: self.metrics.errors().canary(),
            stable: self.metrics.errors().stable().plain_rate(),
            log_roll: self.log_rollback(),
            alpha: self.risk.alpha,
        }
    }

    /// The weight changes: seconds at the new one count from zero.
    pub fn weight_changed(&mut self) {
        self.at_weight = 0;
    }

    /// A person gives the run its time again.
    pub fn forgive_time(&mut self) {
        self.spent = 0;
    }

    /// Seconds of traffic at the present weight.
    pub fn at_weight(&self) -> f64 {
        self.at_weight as f64
    }

    /// Seconds of traffic at a weight above 0, pauses and holds apart.
    pub fn soaked(&self) -> f64 {
        self.soaked as f64
    }

    /// Seconds of traffic since the first weight, pauses apart.
    pub fn spent(&self) -> f64 {
        self.spent as f64
    }

    pub fn figures(&self) -> Figures {
        Figures {
            stable: shown(self.totals.stable),
            canary: shown(self.totals.canary),
            log_rollback: self.log_rollback(),
            rollback_at: self.rollback_at(),
            log_promote: self.log_promote(),
            promote_at: self.promote_at(),
            metrics: self.metrics.shown(),
            latency: self.metrics.latencies(),
        }
    }

    fn log_rollback(&self) -> f64 {
        self.metrics.log_rollback()
    }

    fn log_promote(&self) -> f64 {
        self.metrics.log_promote()
    }

    fn rollback_at(&self) -> f64 {
        -self.risk.alpha.ln()
    }

    fn promote_at(&self) -> f64 {
        -self.risk.beta.ln()
    }
}

fn shown(arm: Arm) -> release::Counts {
    release::Counts {
        requests: arm.n,
        bad: arm.x,
    }
}
