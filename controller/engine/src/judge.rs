//! The judgement of one run: counts in, evidence and verdict out (statistics 2a to 2d, 2h).

mod calibration;
mod cursor;
mod event;
mod evidence;
mod explain;
mod outcome;
pub(crate) mod packed;
mod reading;
mod recent;
mod speed;

pub use event::{Entry, Event, Tick};
pub use evidence::{Evidence, Risk};
pub use explain::Grounds;
pub use outcome::Outcome;

pub(crate) use evidence::Metric;
pub(crate) use explain::{Basis, Setting};
pub(crate) use outcome::STALL_AGE;
pub(crate) use reading::Terms;
pub(crate) use recent::Degraded;

use crate::{observation::Observation, plan::Plan};
use contract::release::{self, Figures, Verdict};
use reading::{Stream, before};
use recent::Recent;
use serde::{Deserialize, Serialize};
use speed::Speed;
use stats::{
    Arm, Counts,
    pacing::{self, Sight},
};
use std::sync::Arc;

/// Part of the way to a rollback, in nats, below which a suspicion is dropped; it is taken up at a half.
const CALM: f64 = 0.4;

/// Evidence and everything needed to go on after a restart. All times are seconds of judged traffic, so that a gap
/// in what is known counts nowhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Judge {
    /// Shared with the decisions of a step, which explain themselves only to whoever asks.
    #[serde(with = "shared")]
    evidence: Arc<Evidence>,
    streams: Vec<Stream>,
    recent: Recent,
    totals: Counts,
    /// Requests of the canary that had no answer at the outcome age.
    unanswered: u64,
    /// Stable before the canary, for "degraded".
    before: Arm,
    /// Requests per second before the canary.
    start_rate: f64,
    seconds: u64,
    /// Seconds that are known at [`STALL_AGE`].
    ahead: u64,
    /// Seconds with a share for the canary in which it is forgiven to be slow.
    warm_up: u64,
    /// Such seconds so far, whole ones and at [`STALL_AGE`].
    warm: u64,
    warm_ahead: u64,
    at_weight: u64,
    soaked: u64,
    spent: u64,
    /// Stable by slices in the seconds that no event has told yet.
    slices: (f64, Vec<Arm>),
    /// What was read since the last step, for the log of blocks.
    #[serde(skip)]
    journal: Vec<Entry>,
}

impl Judge {
    /// Begins with stable's last ten minutes as the baseline, and the seconds under way as the first cohorts.
    pub fn start(plan: &Plan, risk: Risk, seen: &Observation) -> Judge {
        let (past, start_rate) = before(seen);
        let mut judge = Judge {
            evidence: Arc::new(Evidence::start(plan, risk, &past)),
            streams: Vec::new(),
            recent: Recent::default(),
            totals: Counts::default(),
            unanswered: 0,
            before: past.counts,
            start_rate,
            seconds: 0,
            ahead: 0,
            warm_up: plan.policy.judgement.warm_up.as_seconds() as u64,
            warm: 0,
            warm_ahead: 0,
            at_weight: 0,
            soaked: 0,
            spent: 0,
            slices: (0.0, Vec::new()),
            journal: Vec::new(),
        };
        judge.streams = reading::streams(&judge, seen);
        judge.begun()
    }

    /// The judge of the watch after promotion: fresh counts, the old capital and calibration. The canary is
    /// warm.
    pub fn follow(&self, plan: &Plan, seen: &Observation) -> Judge {
        let fresh = Judge::start(plan, self.evidence.risk(), seen);
        let judge = Judge {
            evidence: Arc::new(self.evidence.again(plan, &before(seen).0)),
            warm_up: 0,
            journal: Vec::new(),
            ..fresh
        };
        judge.begun()
    }

    /// Who is worse, most certain first, once the verdict is that.
    pub fn blamed(&self) -> Vec<Metric> {
        self.evidence.blamed()
    }

    /// Takes everything that has become known. Stops at the block that proves the canary worse, so that the counts
    /// of the decision are the same whenever they are read.
    pub fn read(&mut self, seen: &Observation, terms: &Terms) {
        reading::read(self, seen, terms);
    }

    /// What was read since this was asked last.
    pub fn journal(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.journal)
    }

    /// What an explanation of this moment rests on.
    pub fn basis(&self) -> Basis {
        Basis {
            evidence: self.evidence.clone(),
            rate: self.rate(),
            seconds: self.seconds as f64,
            soaked: self.soaked as f64,
            warm_up_left: self.warm_up.saturating_sub(self.seconds) as f64,
        }
    }

    /// The evidence itself.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Oldest second that is still wanted of any proxy.
    pub fn since(&self) -> u64 {
        self.streams.iter().map(Stream::next).min().unwrap_or(0)
    }

    /// Oldest second that is still wanted of this proxy; `None`: it has not been heard yet.
    pub fn since_of(&self, proxy: &str) -> Option<u64> {
        self.streams.iter().find(|s| s.is_of(proxy)).map(Stream::next)
    }

    pub fn verdict(&self) -> Verdict {
        if self.evidence.is_worse() {
            Verdict::Worse
        } else if self.evidence.log_promote() >= self.evidence.promote_at() {
            Verdict::Same
        } else {
            Verdict::NotYet
        }
    }

    /// Evidence half way to a rollback, in nats: the weight must not rise.
    pub fn is_suspicious(&self) -> bool {
        pacing::suspect(self.evidence.log_rollback(), self.evidence.risk().alpha)
    }

    /// Clearly below suspicion again.
    pub fn is_calm(&self) -> bool {
        self.evidence.log_rollback() < CALM * self.evidence.rollback_at()
    }

    /// Stable itself fails, beyond chance: nobody can be blamed.
    pub fn degraded(&self, limit: f64) -> Option<Degraded> {
        self.recent.degraded(limit, self.before)
    }

    /// A part of stable would have been rolled back: chance is larger here than the evidence allows for.
    pub fn is_miscalibrated(&self) -> bool {
        self.evidence.alarm().is_some()
    }

    /// Requests per second, both tracks; 0 when unknown.
    pub fn rate(&self) -> f64 {
        self.recent.rate().unwrap_or(self.start_rate)
    }

    /// What the pace of the ramp depends on.
    pub fn sight(&self) -> Sight {
        let errors = self.evidence.errors();
        Sight {
            rate: self.rate(),
            canary: errors.canary(),
            stable: errors.stable().plain_rate(),
            log_roll: self.evidence.log_rollback(),
            alpha: self.evidence.risk().alpha,
        }
    }

    /// The same by slow requests instead of bad ones; `None` while nothing is known of them.
    pub fn sight_of_slow(&self) -> Option<Sight> {
        let slow = self.evidence.speed().and_then(Speed::slow)?;
        Some(Sight {
            canary: slow.canary,
            stable: slow.stable.bad() / slow.stable.requests().max(1.0),
            ..self.sight()
        })
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
            log_rollback: self.evidence.log_rollback(),
            rollback_at: self.evidence.rollback_at(),
            log_promote: self.evidence.log_promote(),
            promote_at: self.evidence.promote_at(),
            metrics: self.evidence.shown(),
            latency: self.evidence.latencies(),
            unanswered: self.unanswered,
            events: self.evidence.events(),
        }
    }

    /// Buckets of the durations that are wanted; `None`: none are.
    fn buckets(&self) -> Option<usize> {
        self.evidence.speed().map(Speed::buckets)
    }

    fn begun(mut self) -> Judge {
        let evidence = self.evidence.word();
        self.journal.push(Entry::Begun { evidence });
        self
    }

    fn take(&mut self, event: Event) {
        if self.evidence.is_worse() {
            return;
        }
        Arc::make_mut(&mut self.evidence).apply(&event);
        let n = self.evidence.events();
        self.journal.push(Entry::Taken { n, event });
    }
}

fn shown(arm: Arm) -> release::Counts {
    release::Counts {
        requests: arm.n,
        bad: arm.x,
    }
}

/// The evidence as it is, saved without its sharing.
mod shared {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(to)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(from).map(Arc::new)
    }
}
