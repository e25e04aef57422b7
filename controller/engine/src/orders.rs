//! What people ask for: accepted, or refused with a sentence.

use crate::{
    desk::Desk,
    gates,
    observation::Order,
    overrule,
    plan::Handover,
    stages,
    state::{Pause, Run, Stage, Takeover},
    words,
};
use contract::{
    Split,
    release::{Command, Phase},
};

type Reply = (Stage, Result<(), String>);

/// Does what was asked for, if the phase allows it.
pub(crate) fn obey(desk: &mut Desk, stage: Stage, order: &Order) -> Stage {
    let is_back = matches!(order.command, Command::Undo | Command::Abort) && stage.run().is_some();
    // After the copy stable and the canary are one version, and the release is still under way.
    let copied = stage.run().is_some_and(|r| stages::is_copied(desk, r));
    let (stage, answer) = if desk.plan.release().is_none() && !is_back && !copied {
        refuse(stage, "there is no canary")
    } else if desk.fell && order.command != Command::Abort {
        refuse(
            stage,
            "the release is just being rolled back; look at the reason, then ask again",
        )
    } else {
        match &order.command {
            Command::Promote => promote(desk, stage, order),
            Command::Abort => abort(desk, stage, order),
            Command::Pause => pause(desk, stage, order),
            Command::Resume => resume(desk, stage, order),
            Command::Retry => retry(desk, stage, order),
            Command::Weight(split) => weight(desk, stage, order, *split),
            Command::Undo => undo(desk, stage, order),
            Command::Approve(gate) => approve(stage, gate),
        }
    };
    desk.answer(answer);
    stage
}

fn refuse(stage: Stage, why: &str) -> Reply {
    (stage, Err(why.to_owned()))
}

/// Whatever the evidence says; so nothing is judged or watched afterwards. An abort is honoured at any time.
fn promote(desk: &mut Desk, stage: Stage, order: &Order) -> Reply {
    if matches!(stage, Stage::Succeeded(_)) {
        return refuse(stage, "it is promoted already");
    }
    let trial = overrule::trial(desk, stage);
    if desk.plan.handover == Handover::Weight {
        desk.want(Split::ALL);
    }
    let reason = format!(
        "promoted by {}{}, whatever the evidence says",
        order.who,
        why(order)
    );
    desk.decide(&trial.run, Phase::Promoting, &order.who, reason);
    (Stage::Promoting(trial, Takeover::Ordered), Ok(()))
}

fn abort(desk: &mut Desk, stage: Stage, order: &Order) -> Reply {
    match stage.run().cloned() {
        _ if desk.fell => (stage, Ok(())),
        Some(run) if matches!(stage, Stage::Succeeded(_)) && !has_way_back(desk, &run) => {
            refuse(stage, "it is promoted, and the old version is not kept any more")
        }
        Some(run) if !matches!(stage, Stage::RolledBack(_) | Stage::RollingBack(..)) => {
            let reason = format!("aborted by {}{}", order.who, why(order));
            (stages::roll_back(desk, run, &order.who, reason), Ok(()))
        }
        _ => refuse(stage, "nothing is under way that could be aborted"),
    }
}

fn pause(desk: &mut Desk, stage: Stage, order: &Order) -> Reply {
    match stage {
        Stage::Shifting(trial) | Stage::Holding(trial, _) | Stage::Undecided(trial) => {
            let reason = format!("paused by {}{}", order.who, why(order));
            desk.decide(&trial.run, Phase::Paused, &order.who, reason.clone());
            (
                Stage::Paused(
                    trial,
                    Pause {
                        reason,
                        by_step: false,
                    },
                ),
                Ok(()),
            )
        }
        Stage::Paused(..) => refuse(stage, "it is paused already"),
        other => refuse(other, "only a release whose weight is growing can be paused"),
    }
}

fn resume(desk: &mut Desk, stage: Stage, order: &Order) -> Reply {
    let reason = format!("resumed by {}{}", order.who, why(order));
    match stage {
        Stage::Paused(trial, _) if !trial.run.verified => {
            desk.want(Split::NONE);
            desk.decide(&trial.run, Phase::Starting, &order.who, reason);
            (Stage::Starting(trial.run), Ok(()))
        }
        Stage::Paused(mut trial, pause) => {
            trial.steps_done += usize::from(pause.by_step);
            desk.decide(&trial.run, Phase::Shifting, &order.who, reason);
            (Stage::Shifting(trial), Ok(()))
        }
        Stage::Undecided(mut trial) => {
            trial.judge.forgive_time();
            desk.decide(&trial.run, Phase::Shifting, &order.who, reason);
            (Stage::Shifting(trial), Ok(()))
        }
        other => refuse(other, "it is not paused"),
    }
}

/// A full run with half the alpha and beta of the run before; the earlier ones stay on record.
fn retry(desk: &mut Desk, stage: Stage, order: &Order) -> Reply {
    match stage {
        Stage::RolledBack(_) | Stage::Idle => {
            let run = Run::new(desk.plan, &desk.ledger);
            let reason = format!(
                "tried again by {}{}; {} earlier run(s) went back",
                order.who,
                why(order),
                run.retry
            );
            (stages::begin(desk, run, &order.who, reason), Ok(()))
        }
        other => refuse(other, "only a release that was rolled back can be tried again"),
    }
}

/// In a cluster the way back after a promotion leads over the kept template.
fn has_way_back(desk: &Desk, run: &Run) -> bool {
    desk.plan.handover == Handover::Weight || stages::is_copied(desk, run) && stages::is_kept(desk, run)
}

/// Back to the version before. After a promotion that is the previous workload, if it still holds the old template.
fn undo(desk: &mut Desk, stage: Stage, order: &Order) -> Reply {
    let (true, Some(run)) = (matches!(stage, Stage::Succeeded(_)), stage.run().cloned()) else {
        return abort(desk, stage, order);
    };
    if !has_way_back(desk, &run) {
        return refuse(
            stage,
            "the old version is not kept any more; apply the version that you want",
        );
    }
    let reason = format!("undone by {}{}", order.who, why(order));
    (stages::roll_back(desk, run, &order.who, reason), Ok(()))
}

/// A person's yes: remembered with what it was said to.
fn approve(mut stage: Stage, gate: &str) -> Reply {
    let answer = match stage.run_mut() {
        Some(run) => gates::approve(run, gate),
        None => Err("no gate waits for an answer".to_owned()),
    };
    (stage, answer)
}

fn weight(desk: &mut Desk, stage: Stage, order: &Order, split: Split) -> Reply {
    if matches!(stage, Stage::RollingBack(..)) {
        return refuse(stage, "the release is being rolled back");
    }
    let reason = format!(
        "paused: the weight was set to {split} by {}{}",
        order.who,
        why(order)
    );
    (overrule::pause(desk, stage, split, &order.who, reason), Ok(()))
}

fn why(order: &Order) -> String {
    words::because(order.why.as_deref())
}
