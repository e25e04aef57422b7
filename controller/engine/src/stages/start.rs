//! Idle, Starting, Verifying: everything at weight 0.

use crate::{
    desk::Desk,
    gates,
    observation::{Readiness, Tracks, Workloads},
    overrule,
    plan::Handover,
    state::{Ended, Run, Smoke, Stage},
    step::{Action, Hand},
    telemetry, words,
};
use contract::{
    Split,
    names::{CONTROLLER, FILE},
    policy::At,
    release::Phase,
};

/// Rounds of smoke requests that may fail in a row: at four rounds a second this is time for a slow start.
const SMOKE_ROUNDS: u32 = 20;

/// Left when there is a canary that was neither promoted nor rolled back.
pub(super) fn idle(desk: &mut Desk) -> Stage {
    clear(desk);
    let Some(release) = desk.plan.release() else {
        desk.say(words::nothing(Phase::Idle));
        return Stage::Idle;
    };
    let run = Run::new(desk.plan, &desk.ledger);
    match desk.ledger.past(release).map(|p| p.ended) {
        None => appear(desk, run),
        Some(Ended::RolledBack) => {
            desk.want(Split::NONE);
            Stage::RolledBack(run)
        }
        Some(Ended::Promoted)
            if desk.plan.handover == Handover::Weight && desk.ledger.just_promoted(release) =>
        {
            desk.want(Split::ALL);
            Stage::Succeeded(Run {
                verified: true,
                ..run
            })
        }
        Some(Ended::Promoted) => {
            desk.say(format!(
                "{} was promoted before, so nothing starts; retry or promote it by hand",
                run.version
            ));
            Stage::Idle
        }
    }
}

/// Of a release that another hand has ended, the old version may still have pods.
fn clear(desk: &mut Desk) {
    let is_up = |w: &Workloads| w.previous.as_ref().is_some_and(|p| p.wanted > 0);
    let is_usual = desk
        .seen
        .table
        .as_ref()
        .is_some_and(|t| t.tracks == Tracks::Usual);
    if is_usual && desk.seen.workloads.as_ref().is_some_and(is_up) {
        desk.act(Action::Hand(Hand::Clear { canary: false }));
    }
}

/// A canary that is new: its release begins, unless a person has set its weight.
fn appear(desk: &mut Desk, run: Run) -> Stage {
    if let Some((weight, who)) = standing(desk) {
        let reason = format!("paused: {who} has set the weight to {weight} before the release began");
        return overrule::pause(desk, Stage::Idle, weight, &who, reason);
    }
    let reason = format!(
        "{} stands beside {}: it must answer before it gets traffic{}",
        run.version,
        stable(desk),
        words::because(desk.plan.cause.as_deref())
    );
    begin(desk, run, CONTROLLER, reason)
}

/// A weight that a person has set, found at the very first look: it is meant. Later a new canary begins at 0, because
/// the weight that stands there was meant for another one.
fn standing(desk: &Desk) -> Option<(Split, String)> {
    let table = desk
        .seen
        .table
        .as_ref()
        .filter(|t| desk.ledger.table.is_none() && !t.split.is_none())?;
    let who = table.changed_by.as_deref().unwrap_or(FILE);
    (who != CONTROLLER).then(|| (table.split, who.to_owned()))
}

fn stable(desk: &Desk) -> String {
    match desk.plan.stable.name.as_str() {
        "" => "stable".to_owned(),
        name => name.to_owned(),
    }
}

/// A new run: weight 0 first, whatever stands there.
pub(crate) fn begin(desk: &mut Desk, run: Run, by: &str, reason: String) -> Stage {
    desk.want(Split::NONE);
    desk.forget();
    desk.decide(&run, Phase::Starting, by, reason);
    Stage::Starting(run)
}

/// Left when every proxy has weight 0 and the canary answers. A canary that never does stays here, at weight 0.
pub(super) fn starting(desk: &mut Desk, mut run: Run) -> Stage {
    desk.act(Action::Probe);
    raise(desk);
    match &desk.seen.readiness {
        Readiness::Unknown => desk.say("asking whether the canary answers"),
        Readiness::NotReady(why) => desk.say(format!("waiting for the canary to answer: {why}")),
        Readiness::Ready if !is_at_zero(desk) => desk.say("waiting for every proxy to confirm weight 0"),
        Readiness::Ready if desk.seen.room == Some(0.0) => {
            desk.say("waiting for stable's pods: they could not take everybody back");
        }
        Readiness::Ready => {
            match gates::wait(desk, &mut run, At::BeforeStart, "", "gets its first request") {
                Some(why) => desk.say(why),
                None => return verify(desk, run),
            }
        }
    }
    Stage::Starting(run)
}

/// A canary that was scaled away, or is not made yet, gets its pods.
pub(super) fn raise(desk: &mut Desk) {
    let is_away = |w: &Workloads| w.canary.as_ref().is_none_or(|c| c.wanted == 0);
    if desk.seen.workloads.as_ref().is_some_and(is_away) {
        desk.act(Action::Hand(Hand::Raise));
    }
}

/// The table is as wanted, all proxies have it, and nobody reaches the canary by weight.
fn is_at_zero(desk: &Desk) -> bool {
    desk.ledger.wanted.is_none() && desk.is_taken() && !telemetry::is_exposed(desk.seen)
}

fn verify(desk: &mut Desk, run: Run) -> Stage {
    let smoke = desk.plan.policy.verify.smoke.len();
    if smoke == 0 {
        return super::trial::first(desk, run);
    }
    desk.decide(
        &run,
        Phase::Verifying,
        CONTROLLER,
        format!("the canary answers; {smoke} smoke request(s) come first"),
    );
    verifying(desk, run, Smoke::default())
}

/// Left when each smoke request has succeeded once; rounds of failures roll back.
pub(super) fn verifying(desk: &mut Desk, run: Run, mut smoke: Smoke) -> Stage {
    let count = desk.plan.policy.verify.smoke.len();
    smoke.passed.resize(count, false);
    let failure = note(desk, &mut smoke);
    if smoke.failures >= SMOKE_ROUNDS {
        let reason = failure.unwrap_or_else(|| "a smoke request failed".to_owned());
        return super::roll_back(
            desk,
            run,
            CONTROLLER,
            format!("rolled back before any user saw it: {reason}"),
        );
    }
    let open: Vec<usize> = (0..count).filter(|i| !smoke.passed[*i]).collect();
    if open.is_empty() && is_at_zero(desk) {
        return super::trial::first(desk, run);
    }
    desk.say(match failure {
        _ if open.is_empty() => "waiting for every proxy to confirm weight 0".to_owned(),
        Some(why) => format!("{why} ({} of {SMOKE_ROUNDS} tries)", smoke.failures),
        None => format!("{} of {count} smoke requests passed", count - open.len()),
    });
    if !open.is_empty() {
        desk.act(Action::Smoke(open));
    }
    Stage::Verifying(run, smoke)
}

/// Enters the outcomes; the first failure of this round in words.
fn note(desk: &Desk, smoke: &mut Smoke) -> Option<String> {
    let mut failure = None;
    for s in &desk.seen.smoke {
        match (&s.outcome, smoke.passed.get_mut(s.index)) {
            (Ok(()), Some(passed)) => *passed = true,
            (Err(why), Some(false)) => failure = failure.or_else(|| Some(describe(desk, s.index, why))),
            _ => {}
        }
    }
    smoke.failures = match (&failure, desk.seen.smoke.is_empty()) {
        (Some(_), _) => smoke.failures + 1,
        (None, true) => smoke.failures,
        (None, false) => 0,
    };
    failure
}

fn describe(desk: &Desk, index: usize, why: &str) -> String {
    let path = desk
        .plan
        .policy
        .verify
        .smoke
        .get(index)
        .map_or("", |s| s.path.as_str());
    format!("smoke request GET {path} failed: {why}")
}
