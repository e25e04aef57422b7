//! The phases, each with how it is left.

mod back;
mod finish;
mod handover;
mod start;
mod trial;

pub(crate) use back::roll_back;
pub(crate) use handover::{is_copied, is_kept, is_mixed};
pub(crate) use start::begin;

use crate::{
    desk::Desk,
    judge::Terms,
    state::{Cause, Stage, Takeover},
};

/// Goes as far as the present phase can go now.
pub(crate) fn advance(desk: &mut Desk, stage: Stage) -> Stage {
    match stage {
        Stage::Idle => start::idle(desk),
        Stage::Starting(run) => start::starting(desk, run),
        Stage::Verifying(run, smoke) => start::verifying(desk, run, smoke),
        Stage::Shifting(trial) => trial::go_on(desk, trial, None),
        Stage::Holding(trial, cause) => trial::go_on(desk, trial, Some(cause)),
        Stage::Paused(trial, pause) => trial::paused(desk, trial, pause),
        Stage::Undecided(trial) => trial::undecided(desk, trial),
        Stage::Promoting(trial, how) => finish::promoting(desk, trial, how),
        Stage::Watching(trial) => finish::watching(desk, trial),
        Stage::Succeeded(run) => Stage::Succeeded(run),
        Stage::RollingBack(run, way) => back::returning(desk, run, way),
        Stage::RolledBack(run) => back::returned(desk, run),
    }
}

/// How seconds of traffic count in this phase.
pub(crate) fn terms(desk: &Desk, stage: &Stage) -> Terms {
    let shifting = matches!(stage, Stage::Shifting(_));
    let suspended = matches!(stage, Stage::Holding(_, Cause::Degraded | Cause::Telemetry));
    let holding = matches!(stage, Stage::Holding(..));
    Terms {
        outcome_age: desk.plan.policy.judgement.outcome_age.as_seconds(),
        share: desk.ledger.wanted.share(),
        soaks: shifting || (holding && !suspended),
        spends: shifting || holding,
    }
}

/// Promoted by a person's order: the evidence does not speak.
pub(crate) fn is_ordered(stage: &Stage) -> bool {
    matches!(stage, Stage::Promoting(_, Takeover::Ordered | Takeover::Watched))
}
