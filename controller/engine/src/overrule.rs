//! What comes before the phases: another plan, another hand on the weight.

use crate::{
    checks::Checks,
    desk::Desk,
    judge::{Judge, Risk},
    observation::{Table, Tracks},
    plan::Handover,
    stages,
    state::{Ended, Pause, Run, Stage, Takeover, Trial},
    words,
};
use contract::{
    Split,
    names::{CONTROLLER, FILE},
    release::Phase,
};

/// Another canary, no canary, or another stable: weight 0 first, and the evidence is gone.
pub(crate) fn by_plan(desk: &mut Desk, stage: Stage) -> Stage {
    let Some(run) = stage.run().cloned() else {
        return stage;
    };
    if desk.plan.handover != Handover::Weight
        && let Some(kept) = in_cluster(desk, &stage, &run)
    {
        return match kept {
            Kept::AsItIs => stage,
            Kept::Taken => taken(desk, stage),
            Kept::Left => displaced(desk, &run),
        };
    }
    if desk.plan.release() != Some(run.release.as_str()) {
        return leave(desk, &run);
    }
    let is_over = stage.phase().is_final() || matches!(stage, Stage::RollingBack(..));
    if run.stable == desk.plan.stable.hash || is_over {
        return stage;
    }
    let stable = desk.plan.stable.name.clone();
    let run = Run::new(desk.plan, &desk.ledger);
    desk.want(Split::NONE);
    desk.forget();
    desk.decide(
        &run,
        Phase::Starting,
        CONTROLLER,
        format!("stable has changed to {stable}: the evidence starts again"),
    );
    Stage::Starting(run)
}

/// What becomes of a run whose versions are not, or no longer, side by side in the workloads.
enum Kept {
    /// That is as it should be.
    AsItIs,
    /// Somebody has put the new version into stable by hand.
    Taken,
    /// Somebody has put another version into stable after the new one was there.
    Left,
}

/// `None`: the rules of every place hold.
fn in_cluster(desk: &Desk, stage: &Stage, run: &Run) -> Option<Kept> {
    let (copied, next) = (stages::is_copied(desk, run), desk.plan.release());
    match stage {
        Stage::RollingBack(..) => Some(Kept::AsItIs),
        // Stable holds the new version: a canary that changes now waits for the end of this release.
        Stage::Promoting(..) | Stage::Watching(_) if copied => Some(Kept::AsItIs),
        Stage::Promoting(_, Takeover::Watched) | Stage::Watching(_) => Some(Kept::Left),
        // Put back, restarted as something else, healed from a source: what was promoted does not serve any more.
        Stage::Succeeded(_) if !copied => Some(Kept::Left),
        Stage::Succeeded(_) | Stage::RolledBack(_) if next.is_none() => Some(Kept::AsItIs),
        Stage::Succeeded(_) | Stage::RolledBack(_) => None,
        // A person's hand on the weight after the copy: it was ours, and the release stands where it stood.
        _ if copied && stages::is_kept(desk, run) => Some(Kept::AsItIs),
        _ if copied => Some(Kept::Taken),
        _ => None,
    }
}

/// The new version stands in stable by another hand than ours: all that is left is to send everybody there.
fn taken(desk: &mut Desk, stage: Stage) -> Stage {
    let trial = trial(desk, stage);
    let reason = format!(
        "{} was put into stable by another hand; nothing is judged any more",
        trial.run.version
    );
    desk.decide(&trial.run, Phase::Promoting, CONTROLLER, reason);
    Stage::Promoting(trial, Takeover::Ordered)
}

/// Another version stands in stable: it serves everybody, and the one before it does not come again by itself.
fn displaced(desk: &mut Desk, run: &Run) -> Stage {
    desk.want(Split::NONE);
    desk.lead(Tracks::Usual);
    desk.ledger.ended(&run.release, Ended::Promoted);
    let reason = format!(
        "{} left: another hand has put {} into stable",
        run.version, desk.plan.stable.name
    );
    desk.decide(run, Phase::Idle, CONTROLLER, reason);
    desk.forget();
    Stage::Idle
}

fn leave(desk: &mut Desk, run: &Run) -> Stage {
    let was_over = matches!(desk.phase, Phase::RolledBack);
    desk.want(Split::NONE);
    desk.lead(Tracks::Usual);
    if !was_over {
        let next = match desk.plan.release() {
            Some(_) => format!("{} takes its place", desk.plan.canary.called()),
            None => "there is no canary any more".to_owned(),
        };
        desk.decide(
            run,
            Phase::Idle,
            CONTROLLER,
            format!("{} left at weight 0: {next}", run.version),
        );
    }
    desk.phase = Phase::Idle;
    desk.forget();
    Stage::Idle
}

/// The weight in force is not the wanted one, and not for want of writing it.
pub(crate) fn by_table(desk: &mut Desk, stage: Stage) -> Stage {
    let Some(table) = desk.seen.table.as_ref() else {
        return stage;
    };
    let touched = desk
        .ledger
        .table
        .is_some_and(|before| !before.same_share(table.split));
    let ours =
        matches!(stage, Stage::Idle | Stage::RollingBack(..)) || table.split.same_share(desk.ledger.wanted);
    if ours || !touched {
        return stage;
    }
    match table.changed_by.as_deref() {
        None => stage,
        Some(CONTROLLER) => by_lost_turn(desk, stage, table),
        // A restarted proxy comes back with what stands in its file; that is nobody's wish.
        Some(FILE) if desk.ledger.ground.is_some_and(|g| g.same_share(table.split)) => stage,
        Some(who) => by_person(desk, stage, table, who),
    }
}

/// A turn that was cut off after its first act has lowered the weight: only a fall can explain that, and no fall is
/// taken back without knowing why.
fn by_lost_turn(desk: &mut Desk, stage: Stage, table: &Table) -> Stage {
    let ends = table.tracks != desk.ledger.tracks || stages::is_mixed(desk, &stage);
    if ends || !desk.ledger.confirmed || !desk.ledger.wanted.exceeds(table.split) {
        return stage;
    }
    let Some(run) = stage.run().cloned().filter(|_| table.split.is_none()) else {
        return adopt(desk, stage, table.split);
    };
    let reason =
        "rolled back: an earlier turn took the weight to 0 and was cut off before it could record why";
    stages::roll_back(desk, run, CONTROLLER, reason.to_owned())
}

fn adopt(desk: &mut Desk, mut stage: Stage, split: Split) -> Stage {
    desk.want(split);
    if let Some(trial) = stage.trial_mut() {
        trial.judge.weight_changed();
    }
    stage
}

fn by_person(desk: &mut Desk, stage: Stage, table: &Table, who: &str) -> Stage {
    let cause = words::because(table.cause.as_deref());
    let reason = format!("paused: the weight was set to {} by {who}{cause}", table.split);
    pause(desk, stage, table.split, who, reason)
}

/// Pauses at `split`; a release that is over begins a new run with that.
pub(crate) fn pause(desk: &mut Desk, stage: Stage, split: Split, who: &str, reason: String) -> Stage {
    let mut trial = trial(desk, stage);
    trial.judge.weight_changed();
    desk.want(split);
    desk.note(&trial.judge);
    desk.log(&mut trial.judge);
    desk.decide(&trial.run, Phase::Paused, who, reason.clone());
    Stage::Paused(
        trial,
        Pause {
            reason,
            by_step: false,
        },
    )
}

/// The evidence under way, or a new run's.
pub(crate) fn trial(desk: &Desk, mut stage: Stage) -> Trial {
    if let Stage::Shifting(t)
    | Stage::Holding(t, _)
    | Stage::Paused(t, _)
    | Stage::Undecided(t)
    | Stage::Promoting(t, _)
    | Stage::Watching(t) = stage
    {
        return t;
    }
    let verified = matches!(stage, Stage::Succeeded(_));
    if let Stage::Idle | Stage::RolledBack(_) = stage {
        stage = Stage::Idle;
    }
    let run = stage
        .run()
        .cloned()
        .unwrap_or_else(|| Run::new(desk.plan, &desk.ledger));
    begin(desk, Run { verified, ..run })
}

/// A run at its first count.
pub(crate) fn begin(desk: &Desk, run: Run) -> Trial {
    let risk = Risk::of(desk.plan, run.retry);
    Trial {
        judge: Judge::start(desk.plan, risk, desk.seen),
        run,
        steps_done: 0,
        checks: Checks::default(),
    }
}
