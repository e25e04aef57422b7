//! In a cluster: how the canary's template comes into stable, and how the old one comes back. Each step looks at what
//! there is and does what is missing, so that a step that was cut off is simply done again.

use super::finish;
use crate::{
    desk::Desk,
    observation::{Table, Tracks, Workload, Workloads},
    plan::Handover,
    state::{Return, Run, Stage, Takeover, Trial},
    step::{Action, Hand},
    telemetry,
};
use contract::{Split, names::CONTROLLER, release::Phase, split::DEFAULT_TOTAL};

/// Longest wait for proxies that do not answer and requests that do not end before pods go, seconds.
const PATIENCE: f64 = 300.0;

/// Left when stable runs the new version: for the watch, or for the end.
pub(super) fn promoting(desk: &mut Desk, trial: Trial, how: Takeover) -> Stage {
    let Some(seen) = desk.seen.workloads.clone() else {
        desk.say("waiting to see the workloads");
        return Stage::Promoting(trial, how);
    };
    if seen.stable.hash != trial.run.release {
        return bring(desk, trial, how, &seen);
    }
    if is_replaced(desk, &trial.run, &seen) {
        desk.want(Split::NONE);
    }
    if let Some(why) = seen.stable.stuck.as_deref().filter(|_| how != Takeover::Watched) {
        let reason = format!(
            "rolled back: stable does not get ready with {}: {why}",
            trial.run.version
        );
        return super::roll_back(desk, trial.run, CONTROLLER, reason);
    }
    if !seen.stable.settled && how != Takeover::Watched {
        let Workload { ready, wanted, .. } = seen.stable;
        desk.say(format!(
            "{} goes into stable: {ready} of {wanted} pods are ready",
            trial.run.version
        ));
        return Stage::Promoting(trial, how);
    }
    if how == Takeover::Judged && is_watched(desk) && is_kept(desk, &trial.run) {
        return begin_watch(desk, trial, &seen);
    }
    end(desk, trial, how, &seen)
}

/// Whether the canary has become another version while it still has its share: nobody has judged that one. Stable serves
/// everybody then, in two versions of which both are known to be good.
fn is_replaced(desk: &Desk, run: &Run, seen: &Workloads) -> bool {
    let other = seen.canary.as_ref().is_some_and(|c| c.hash != run.release);
    other && desk.ledger.tracks == Tracks::Usual
}

/// Only what is copied can be compared with what is kept: nobody else keeps the old version.
fn is_watched(desk: &Desk) -> bool {
    desk.plan.handover == Handover::Copy && desk.plan.policy.promotion.watch.as_seconds() > 0.0
}

/// The old template is kept first, then the new one is copied; or somebody else brings it.
fn bring(desk: &mut Desk, trial: Trial, how: Takeover, seen: &Workloads) -> Stage {
    if desk.plan.handover == Handover::External {
        desk.say(format!(
            "waiting for stable to be updated to {} by its source; the canary serves {} until then",
            trial.run.version, desk.ledger.wanted
        ));
        return Stage::Promoting(trial, how);
    }
    let up = how == Takeover::Judged && is_watched(desk);
    let kept = seen.previous.as_ref().is_some_and(|p| holds(p, &trial.run, up));
    if kept {
        desk.act(Action::Hand(Hand::Copy));
        desk.say(format!("{} goes into stable", trial.run.version));
    } else {
        desk.act(Action::Hand(Hand::Keep { up }));
        desk.say("keeping the old version at hand");
    }
    Stage::Promoting(trial, how)
}

fn holds(previous: &Workload, run: &Run, up: bool) -> bool {
    let is_up = previous.wanted > 0 && previous.ready >= previous.wanted;
    previous.hash == run.stable && (!up || is_up)
}

/// The new version is stable now; the old one keeps a small share to be compared with.
fn begin_watch(desk: &mut Desk, trial: Trial, seen: &Workloads) -> Stage {
    if !seen.previous.as_ref().is_some_and(|p| holds(p, &trial.run, true)) {
        desk.act(Action::Hand(Hand::Keep { up: true }));
        desk.say("the old version gets its pods, to be compared with");
        return Stage::Promoting(trial, Takeover::Judged);
    }
    let share = 1.0 - desk.plan.policy.promotion.watch_weight / 100.0;
    desk.want(Split::of_share(share, DEFAULT_TOTAL));
    desk.lead(Tracks::Previous);
    if !desk.is_taken() {
        desk.say(format!(
            "waiting for every proxy to take {} of the new stable",
            desk.ledger.wanted
        ));
        return Stage::Promoting(trial, Takeover::Judged);
    }
    finish::watch(desk, trial)
}

/// Everybody to stable, then the pods that nobody needs go, then the end.
fn end(desk: &mut Desk, trial: Trial, how: Takeover, seen: &Workloads) -> Stage {
    desk.want(Split::NONE);
    desk.lead(Tracks::Usual);
    if !desk.is_taken() || !telemetry::is_home(desk.seen) {
        desk.say("waiting for every proxy to send everybody to stable");
        return Stage::Promoting(trial, how);
    }
    if let Some(clear) = crowd(desk, &trial.run, seen) {
        desk.act(Action::Hand(clear));
        desk.say("scaling away what nobody needs any more");
        return Stage::Promoting(trial, how);
    }
    finish::succeed(desk, trial.run)
}

/// What has pods that only the release needed. What is somebody else's to scale is left alone, and so is a canary that
/// has become another version, or whose Rollout goes.
fn crowd(desk: &Desk, run: &Run, seen: &Workloads) -> Option<Hand> {
    let has_pods = |w: &Workload| w.wanted > 0;
    let canary = seen
        .canary
        .as_ref()
        .is_some_and(|c| has_pods(c) && c.hash == run.release && !desk.plan.leaving);
    let previous = seen.previous.as_ref().is_some_and(has_pods);
    (desk.plan.handover == Handover::Copy && (canary || previous)).then_some(Hand::Clear { canary })
}

/// Left when weight 0 is in force everywhere, nothing is in flight there, stable is what it was, and the pods are gone.
pub(super) fn returning(desk: &mut Desk, run: Run, mut way: Return) -> Stage {
    let Some(seen) = desk.seen.workloads.clone() else {
        desk.say(way.reason.clone());
        return Stage::RollingBack(run, way);
    };
    desk.want(Split::NONE);
    let overwritten =
        desk.plan.handover == Handover::Copy && seen.stable.hash == run.release && run.stable != run.release;
    if overwritten {
        return restore(desk, run, way, &seen);
    }
    if desk.ledger.tracks == Tracks::Previous && !seen.stable.settled {
        let Workload { ready, wanted, .. } = seen.stable;
        desk.say(format!(
            "{}; stable gets its old version back: {ready} of {wanted} pods are ready",
            way.reason
        ));
        return Stage::RollingBack(run, way);
    }
    if desk.ledger.tracks != Tracks::Usual {
        // Pods go only after proxies have had their time to leave them.
        desk.lead(Tracks::Usual);
        way.since = desk.seen.now;
    }
    let home = is_home(desk);
    if !(home || has_waited(desk, &way)) {
        desk.say(way.reason.clone());
        return Stage::RollingBack(run, way);
    }
    if let Some(clear) = crowd(desk, &run, &seen) {
        desk.act(Action::Hand(clear));
        desk.say(way.reason.clone());
        return Stage::RollingBack(run, way);
    }
    returned(
        desk,
        run,
        &way,
        if home {
            "weight 0 is in force everywhere"
        } else {
            "not every proxy has confirmed weight 0"
        },
    )
}

/// Everybody to the previous workload, then its template back into stable.
fn restore(desk: &mut Desk, run: Run, way: Return, seen: &Workloads) -> Stage {
    let Some(previous) = seen.previous.as_ref().filter(|p| p.hash == run.stable) else {
        desk.lead(Tracks::Usual);
        let proof =
            "stable keeps the new version, for the old template is gone: apply the version that you want";
        return returned(desk, run, &way, proof);
    };
    if previous.wanted == 0 && !previous.settled {
        // The ready pods that are told of are on their way out.
        desk.say(format!(
            "{}; the old version's last pods are just going",
            way.reason
        ));
        return Stage::RollingBack(run, way);
    }
    if previous.wanted == 0 || previous.ready < previous.wanted {
        // With nobody else to go to, everybody stays where they are until the old version has its pods.
        desk.act(Action::Hand(Hand::Keep { up: true }));
        if previous.wanted == 0 || previous.ready == 0 {
            desk.say(format!("{}; the old version gets its pods back", way.reason));
            return Stage::RollingBack(run, way);
        }
    }
    desk.lead(Tracks::Previous);
    if is_home(desk) || has_waited(desk, &way) {
        desk.act(Action::Hand(Hand::Restore));
    }
    desk.say(format!(
        "{}; the old version serves everybody while stable gets it back",
        way.reason
    ));
    Stage::RollingBack(run, way)
}

/// Weight 0 between the right workloads is in the table and at every proxy that answers, and nothing is under way.
fn is_home(desk: &Desk) -> bool {
    let taken = |t: &Table| {
        let all = desk.seen.pages().all(|p| p.hash == t.hash);
        t.split.is_none() && t.tracks == desk.ledger.tracks && all
    };
    desk.seen.table.as_ref().is_some_and(taken) && telemetry::is_home(desk.seen)
}

/// Whether proxies have had their time since the tracks in the table are the wanted ones.
fn has_waited(desk: &Desk, way: &Return) -> bool {
    let switched = |t: &Table| t.tracks == desk.ledger.tracks;
    desk.seen.table.as_ref().is_some_and(switched) && desk.seen.now - way.since >= PATIENCE
}

/// Whether the old version of this run is kept: then it was us who put the new one into stable.
pub(crate) fn is_kept(desk: &Desk, run: &Run) -> bool {
    let kept = |w: &Workloads| w.previous.as_ref().is_some_and(|p| p.hash == run.stable);
    desk.plan.handover == Handover::Copy && desk.seen.workloads.as_ref().is_some_and(kept)
}

fn returned(desk: &mut Desk, run: Run, way: &Return, proof: &str) -> Stage {
    let reason = format!("{}; {proof}", way.reason);
    desk.decide(&run, Phase::RolledBack, CONTROLLER, reason);
    Stage::RolledBack(run)
}

/// Whether stable holds the new version of this run.
pub(crate) fn is_copied(desk: &Desk, run: &Run) -> bool {
    desk.plan.handover != Handover::Weight && desk.plan.stable.hash == run.release
}

/// Whether stable is becoming the new version, so that its counts are a mix of two.
pub(crate) fn is_mixed(desk: &Desk, stage: &Stage) -> bool {
    let usual = desk.ledger.tracks == Tracks::Usual || matches!(stage, Stage::Promoting(..));
    usual && stage.trial().is_some_and(|t| is_copied(desk, &t.run))
}
