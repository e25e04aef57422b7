//! What is remembered between steps: enough that a killed controller goes on where it was.

use crate::{
    checks::Checks,
    judge::{Judge, packed},
    observation::Tracks,
    plan::Plan,
};
use contract::{
    Split,
    release::{Decision, Figures, Phase},
};
use serde::{Deserialize, Serialize};

/// Version of this shape; a reader sets aside one that it does not know.
pub const SCHEMA: u32 = 2;
/// Decisions that are kept here; all of them stand in the adapter's history.
const KEPT_DECISIONS: usize = 20;
/// Releases whose outcome is remembered here.
const KEPT_PASTS: usize = 32;

/// The state of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    schema: u32,
    pub(crate) ledger: Ledger,
    pub(crate) stage: Stage,
}

/// What outlives a phase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// The weight that the controller wants.
    pub wanted: Split,
    /// Which workloads it should be between.
    #[serde(default)]
    pub tracks: Tracks,
    /// Whether it has been seen in force since it was wanted.
    pub confirmed: bool,
    /// The weight that stood in the file, or with nobody's name: what a restarted proxy comes back with.
    pub ground: Option<Split>,
    /// The weight in force when it was last seen: only a difference to it is somebody's act.
    pub table: Option<Split>,
    /// How releases ended.
    pub pasts: Vec<Past>,
    /// The last decisions, oldest first.
    pub decisions: Vec<Decision>,
    /// Decisions so far.
    pub number: u64,
    /// What was lost before this state began, until a decision has it on record.
    pub lost: Option<String>,
    /// Why things are as they are.
    pub reason: String,
    /// The evidence of the last run.
    pub figures: Figures,
}

/// How a release ended, by its hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Past {
    pub release: String,
    /// Runs that went back: each halves the next run's alpha and beta.
    pub failures: u32,
    pub ended: Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ended {
    Promoted,
    RolledBack,
}

/// One attempt to release one version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Hash of the canary.
    pub release: String,
    /// Hash of stable: when it changes, the evidence restarts.
    pub stable: String,
    /// The canary's name in sentences.
    pub version: String,
    /// Earlier runs that went back.
    pub retry: u32,
    /// Whether readiness and smoke requests have been passed.
    pub verified: bool,
    /// What gates have said yes to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved: Vec<String>,
    /// What gates are asked now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asked: Vec<String>,
}

/// A run with evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trial {
    pub run: Run,
    #[serde(with = "packed")]
    pub judge: Judge,
    /// Plain steps that are done.
    pub steps_done: usize,
    /// What the checks have found.
    #[serde(default)]
    pub checks: Checks,
}

/// The phase with what belongs to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Stage {
    Idle,
    Starting(Run),
    Verifying(Run, Smoke),
    Shifting(Trial),
    Holding(Trial, Cause),
    Paused(Trial, Pause),
    Undecided(Trial),
    Promoting(Trial, Takeover),
    Watching(Trial),
    Succeeded(Run),
    RollingBack(Run, Return),
    RolledBack(Run),
}

/// Smoke requests passed, and failures in a row, by index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Smoke {
    pub passed: Vec<bool>,
    pub failures: u32,
}

/// Why the weight stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Cause {
    Telemetry,
    Degraded,
    Miscalibrated,
    Suspicion,
    Check,
}

/// Why it is paused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pause {
    /// One clause with the name.
    pub reason: String,
    /// Whether a plain step asked for it: resuming ends the step.
    pub by_step: bool,
}

/// How the canary takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Takeover {
    /// By evidence: judged on, and watched afterwards.
    Judged,
    /// By a person's order: neither.
    Ordered,
    /// In a cluster: it has been watched, and only the end is left.
    Watched,
}

/// The way back to stable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Return {
    /// Unix time.
    pub since: f64,
    /// Why.
    pub reason: String,
}

impl State {
    /// Nothing has happened yet.
    pub fn fresh() -> State {
        State {
            schema: SCHEMA,
            ledger: Ledger::fresh(),
            stage: Stage::Idle,
        }
    }

    /// After the state was lost: outcomes are learned from the recorded decisions, and everything else begins anew,
    /// at weight 0. `note` says what was lost; it stands in the status, then in the first decision.
    pub fn recovered(decisions: impl IntoIterator<Item = Decision>, note: &str) -> State {
        let mut state = State::fresh();
        for decision in decisions {
            state.ledger.record(decision);
        }
        state.ledger.lost = Some(note.to_owned());
        state
    }

    /// Version of the shape that was read.
    pub fn schema(&self) -> u32 {
        self.schema
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        self.stage.phase()
    }

    /// Number of the last decision.
    pub fn number(&self) -> u64 {
        self.ledger.number
    }

    /// Oldest second that is wanted of the proxies' pages; `None`: only what is under way.
    pub fn since(&self) -> Option<u64> {
        self.stage.trial().map(|t| t.judge.since())
    }

    /// Oldest second that is wanted of one proxy's page; `None`: only what is under way.
    pub fn since_of(&self, proxy: &str) -> Option<u64> {
        self.stage.trial().and_then(|t| t.judge.since_of(proxy))
    }

    pub(crate) fn with(ledger: Ledger, stage: Stage) -> State {
        State {
            schema: SCHEMA,
            ledger,
            stage,
        }
    }
}

impl Ledger {
    fn fresh() -> Ledger {
        Ledger {
            wanted: Split::NONE,
            tracks: Tracks::Usual,
            confirmed: true,
            ground: None,
            table: None,
            pasts: Vec::new(),
            decisions: Vec::new(),
            number: 0,
            lost: None,
            reason: String::new(),
            figures: Figures::default(),
        }
    }

    /// Keeps a decision, and learns the outcome that it may be.
    pub fn record(&mut self, mut decision: Decision) {
        decision.explanation = None;
        self.number = self.number.max(decision.number);
        match decision.to {
            Phase::RollingBack => self.ended(&decision.release, Ended::RolledBack),
            Phase::Succeeded => self.ended(&decision.release, Ended::Promoted),
            _ => {}
        }
        decision.reason.clone_into(&mut self.reason);
        self.decisions.push(decision);
        let surplus = self.decisions.len().saturating_sub(KEPT_DECISIONS);
        self.decisions.drain(..surplus);
    }

    pub fn ended(&mut self, release: &str, ended: Ended) {
        let failures = self.failures(release) + u32::from(ended == Ended::RolledBack);
        self.pasts.retain(|p| p.release != release);
        self.pasts.push(Past {
            release: release.to_owned(),
            failures,
            ended,
        });
        let surplus = self.pasts.len().saturating_sub(KEPT_PASTS);
        self.pasts.drain(..surplus);
    }

    /// The canary's share since the evidence began, if it was one; by the decisions, for the evidence keeps none.
    pub fn steady_share(&self) -> Option<f64> {
        let begins = |d: &Decision| {
            matches!(d.from, Phase::Starting | Phase::Verifying)
                || d.to == Phase::Watching
                || d.to == Phase::Paused && d.from.is_final()
        };
        let first = self.decisions.iter().rposition(begins)?;
        let weight = self.decisions[first].weight;
        let same = self.decisions[first..]
            .iter()
            .all(|d| d.weight.same_share(weight));
        same.then(|| weight.share())
    }

    pub fn past(&self, release: &str) -> Option<&Past> {
        self.pasts.iter().find(|p| p.release == release)
    }

    pub fn failures(&self, release: &str) -> u32 {
        self.past(release).map_or(0, |p| p.failures)
    }

    /// Whether the last thing on record is that this release was promoted.
    pub fn just_promoted(&self, release: &str) -> bool {
        let last = self.decisions.last();
        last.is_some_and(|d| d.to == Phase::Succeeded && d.release == release)
    }
}

impl Run {
    /// A run of the plan's canary.
    pub fn new(plan: &Plan, ledger: &Ledger) -> Run {
        Run {
            release: plan.canary.hash.clone(),
            stable: plan.stable.hash.clone(),
            version: plan.canary.called().to_owned(),
            retry: ledger.failures(&plan.canary.hash),
            verified: false,
            approved: Vec::new(),
            asked: Vec::new(),
        }
    }
}

impl Stage {
    pub fn phase(&self) -> Phase {
        match self {
            Stage::Idle => Phase::Idle,
            Stage::Starting(_) => Phase::Starting,
            Stage::Verifying(..) => Phase::Verifying,
            Stage::Shifting(_) => Phase::Shifting,
            Stage::Holding(..) => Phase::Holding,
            Stage::Paused(..) => Phase::Paused,
            Stage::Undecided(_) => Phase::Undecided,
            Stage::Promoting(..) => Phase::Promoting,
            Stage::Watching(_) => Phase::Watching,
            Stage::Succeeded(_) => Phase::Succeeded,
            Stage::RollingBack(..) => Phase::RollingBack,
            Stage::RolledBack(_) => Phase::RolledBack,
        }
    }

    pub fn trial(&self) -> Option<&Trial> {
        match self {
            Stage::Shifting(t)
            | Stage::Holding(t, _)
            | Stage::Paused(t, _)
            | Stage::Undecided(t)
            | Stage::Promoting(t, _)
            | Stage::Watching(t) => Some(t),
            _ => None,
        }
    }

    /// The run, to note what gates say.
    pub fn run_mut(&mut self) -> Option<&mut Run> {
        match self {
            Stage::Starting(run) | Stage::Verifying(run, _) => Some(run),
            other => other.trial_mut().map(|t| &mut t.run),
        }
    }

    pub fn trial_mut(&mut self) -> Option<&mut Trial> {
        match self {
            Stage::Shifting(t)
            | Stage::Holding(t, _)
            | Stage::Paused(t, _)
            | Stage::Undecided(t)
            | Stage::Promoting(t, _)
            | Stage::Watching(t) => Some(t),
            _ => None,
        }
    }

    pub fn run(&self) -> Option<&Run> {
        match self {
            Stage::Idle => None,
            Stage::Starting(r)
            | Stage::Verifying(r, _)
            | Stage::Succeeded(r)
            | Stage::RollingBack(r, _)
            | Stage::RolledBack(r) => Some(r),
            other => other.trial().map(|t| &t.run),
        }
    }
}
