//! Promoting, Watching: the canary takes over, in two steps when it is watched between.

use crate::{
    desk::Desk,
    observation::Tracks,
    plan::Handover,
    state::{Run, Stage, Takeover, Trial},
    words,
};
use contract::{Split, names::CONTROLLER, release::Phase};

/// Left when every proxy has taken the weight. By evidence, the old version keeps a small share to compare with.
pub(super) fn promoting(desk: &mut Desk, trial: Trial, how: Takeover) -> Stage {
    if desk.plan.handover != Handover::Weight {
        return super::handover::promoting(desk, trial, how);
    }
    if !desk.is_taken() {
        desk.say(format!("waiting for every proxy to take {}", desk.ledger.wanted));
        return Stage::Promoting(trial, how);
    }
    if how == Takeover::Ordered || desk.ledger.wanted.same_share(Split::ALL) {
        return succeed(desk, trial.run);
    }
    watch(desk, trial)
}

/// Both versions are compared once more.
pub(super) fn watch(desk: &mut Desk, trial: Trial) -> Stage {
    let watch = desk.plan.policy.promotion.watch;
    let reason = format!(
        "{} serves {}; both are compared for {watch} more",
        trial.run.version, desk.ledger.wanted
    );
    desk.decide(&trial.run, Phase::Watching, CONTROLLER, reason);
    let judge = trial.judge.follow(desk.plan, desk.seen);
    desk.note(&judge);
    Stage::Watching(Trial { judge, ..trial })
}

/// Left after the watch time, counted in traffic at this weight; not while anything speaks against it.
pub(super) fn watching(desk: &mut Desk, trial: Trial) -> Stage {
    let left = desk.plan.policy.promotion.watch.as_seconds() - trial.judge.at_weight();
    let figures = words::counts(&trial.judge.figures());
    match super::trial::hesitation(desk, &trial) {
        Some(why) => desk.say(format!("watching, and waiting: {why}")),
        None if left > 0.0 => desk.say(format!("watching for {left:.0} s more: {figures}")),
        None if !desk.is_taken() => desk.say("watching: waiting for every proxy"),
        None => return rest(desk, trial),
    }
    Stage::Watching(trial)
}

/// The watch has passed: the last share, and then the end.
fn rest(desk: &mut Desk, trial: Trial) -> Stage {
    let how = match desk.plan.handover {
        Handover::Weight => {
            desk.want(Split::ALL);
            Takeover::Judged
        }
        Handover::Copy | Handover::External => {
            desk.want(Split::NONE);
            desk.lead(Tracks::Usual);
            Takeover::Watched
        }
    };
    let watch = desk.plan.policy.promotion.watch;
    let figures = words::counts(&trial.judge.figures());
    desk.decide(
        &trial.run,
        Phase::Promoting,
        CONTROLLER,
        format!("good enough, also in the watch of {watch}: {figures}"),
    );
    Stage::Promoting(trial, how)
}

pub(super) fn succeed(desk: &mut Desk, run: Run) -> Stage {
    let reason = format!("promoted: {} serves everybody", run.version);
    desk.decide(&run, Phase::Succeeded, CONTROLLER, reason);
    Stage::Succeeded(run)
}
