//! One step: the order in which things are looked at.

use crate::{
    checks,
    desk::Desk,
    judge::{Entry, Grounds},
    observation::{Observation, Tracks},
    orders, overrule,
    plan::Plan,
    stages,
    state::{Stage, State},
    telemetry, words,
};
use contract::{
    Split,
    names::CONTROLLER,
    release::{Decision, Status, Verdict},
};
use std::time::Duration;

/// What a step decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// To be saved after the actions are done: a crash then repeats a step and never skips one.
    pub state: State,
    /// To be done in this order. Each may be done twice without harm.
    pub actions: Vec<Action>,
    /// For the log of blocks, to be kept before the state is: what a replay needs.
    pub journal: Vec<Entry>,
    /// One answer for each order of the observation: accepted, or why not.
    pub answers: Vec<Result<(), String>>,
    /// How long nothing needs to be looked at.
    pub wake: Duration,
    /// One sentence: what happened last, or what it waits for.
    pub why: String,
    /// The same and everything else, for people.
    pub status: Status,
    /// From which the evidence is explained on demand; `None` while nothing is judged.
    pub grounds: Option<Grounds>,
}

/// Something to be done.
#[expect(
    clippy::large_enum_variant,
    reason = "a step has a handful of acts, and a record is most of them"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put this split in force.
    SetSplit {
        /// The split.
        split: Split,
        /// Which workloads it is between.
        tracks: Tracks,
        /// Whatever stands there now; without it, only if the table is still the one that was observed.
        force: bool,
        /// Why, for the record.
        cause: String,
    },
    /// Ask whether the canary answers; the answer belongs into the next observation.
    Probe,
    /// Send these smoke requests, by index; the outcomes belong into the next observation.
    Smoke(Vec<usize>),
    /// Ask for these checks of the policy, by index; the outcomes belong into a later observation.
    Measure(Vec<usize>),
    /// Ask a gate of the policy, by index; the answer belongs into a later observation.
    Ask {
        /// Which one.
        gate: usize,
        /// Identity of the question, the same until it is answered: name, time and, before an increase, the weight.
        question: String,
        /// What would happen next, in a sentence.
        intent: String,
    },
    /// Bring a workload of the cluster a step further. Each is done once it is seen to be so, and may be asked for again.
    Hand(Hand),
    /// Append to the history, unless the number is there already.
    Record(Recorded),
}

/// What is done to the workloads of a cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hand {
    /// Let the canary have its pods: make it, or scale it back from where it was scaled away.
    Raise,
    /// Let a canary that the controller has made have pods for this share.
    Room(f64),
    /// Keep stable's template, as it was before the canary, in the previous workload; `up`: with as many pods as stable.
    Keep {
        /// Whether it has pods.
        up: bool,
    },
    /// Put the canary's template into stable.
    Copy,
    /// Put the previous template back into stable.
    Restore,
    /// Scale the previous workload away.
    Clear {
        /// And the canary.
        canary: bool,
    },
}

/// A decision and what it rests on. The explanation is made when somebody writes it down: it costs about as much as a
/// hundred steps, and whoever plays thousands of releases wants none.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The decision as the state keeps it.
    pub decision: Decision,
    /// `None`: it rests on no evidence.
    pub grounds: Option<Grounds>,
}

impl Recorded {
    /// The decision with its explanation, for the history.
    pub fn explained(&self) -> Decision {
        Decision {
            explanation: self.grounds.as_ref().map(|g| Box::new(g.explain())),
            ..self.decision.clone()
        }
    }
}

/// Decides what is next. Rollback first: counts are read and judged before anything else is looked at.
pub fn step(plan: &Plan, state: State, seen: &Observation) -> Step {
    let phase = state.phase();
    let mut desk = Desk::open(plan, seen, state.ledger, phase);
    let stage = judge(&mut desk, state.stage);
    let stage = overrule::by_plan(&mut desk, stage);
    let stage = overrule::by_table(&mut desk, stage);
    let stage = seen
        .orders
        .iter()
        .fold(stage, |stage, order| orders::obey(&mut desk, stage, order));
    let mut stage = advance(&mut desk, stage);
    checks::ask(&mut desk, &mut stage);
    desk.close(stage)
}

/// A suspended release goes nowhere but back.
fn advance(desk: &mut Desk, stage: Stage) -> Stage {
    if desk.plan.suspended && !matches!(stage, Stage::RollingBack(..)) {
        desk.say("suspended: spec.suspend is true");
        return stage;
    }
    stages::advance(desk, stage)
}

/// Reads what has become known; a Worse verdict, a tripped guard or a check beyond its limit rolls back.
fn judge(desk: &mut Desk, mut stage: Stage) -> Stage {
    let terms = stages::terms(desk, &stage);
    let judged = !stages::is_ordered(&stage);
    let mixed = stages::is_mixed(desk, &stage);
    let Some(trial) = stage.trial_mut() else {
        return stage;
    };
    if !mixed {
        trial.judge.read(desk.seen, &terms);
    }
    desk.log(&mut trial.judge);
    desk.note(&trial.judge);
    let beyond = checks::read(desk, trial);
    let reason = if !judged {
        None
    } else if trial.judge.verdict() == Verdict::Worse {
        let (figures, blamed) = (trial.judge.figures(), trial.judge.blamed());
        Some(words::rolled_back(
            &figures,
            &blamed,
            trial.judge.is_miscalibrated(),
        ))
    } else if desk.ledger.wanted.is_none() {
        None
    } else {
        let guarded = telemetry::guard(desk.seen).map(|why| words::guarded(why, &trial.judge.figures()));
        guarded.or(beyond)
    };
    match reason {
        Some(reason) => stages::roll_back(desk, trial.run.clone(), CONTROLLER, reason),
        None => stage,
    }
}
