//! Shifting, Holding, Paused, Undecided: users see the canary, and evidence grows.

use crate::{
    checks,
    desk::Desk,
    gates,
    observation::Tracks,
    overrule,
    plan::Handover,
    state::{Cause, Pause, Run, Stage, Takeover, Trial},
    step::{Action, Hand},
    telemetry, words,
};
use contract::{
    Split,
    names::CONTROLLER,
    policy::{At, Step, Undecided},
    release::{Phase, Verdict},
    split::DEFAULT_TOTAL,
};

/// Least factor between two weights: smaller steps cost changes and bring no evidence.
const LEAST_FACTOR: f64 = 1.5;
/// Room for the four digits in which a weight is written.
const ROUNDING: f64 = 1.0 - 1e-3;

/// The first weight: by the budget, as if every canary request failed; or the first plain step.
pub(super) fn first(desk: &mut Desk, run: Run) -> Stage {
    let mut trial = overrule::begin(
        desk,
        Run {
            verified: true,
            ..run
        },
    );
    let rate = trial.judge.rate();
    let weight = match desk.plan.policy.pacing.steps.first() {
        Some(step) => percent(step.weight),
        None => Split::of_share(desk.plan.pace.first(rate), DEFAULT_TOTAL),
    };
    let weight = capped(desk, weight);
    desk.want(weight);
    desk.note(&trial.judge);
    desk.log(&mut trial.judge);
    let reason = format!("the canary answers: first weight {weight} at about {rate:.0} requests/s");
    desk.decide(&trial.run, Phase::Shifting, CONTROLLER, reason);
    Stage::Shifting(trial)
}

/// Shifting and Holding: promote, end undecided, hold, or raise; in this order.
pub(super) fn go_on(desk: &mut Desk, trial: Trial, held: Option<Cause>) -> Stage {
    if super::is_copied(desk, &trial.run) && desk.ledger.tracks == Tracks::Usual {
        return finish_copy(desk, trial);
    }
    let cause = cause(desk, &trial, held);
    if cause.is_none() && is_promotable(desk, &trial) {
        return promote(desk, trial);
    }
    if is_late(desk, &trial) && may_end(desk, cause.as_ref().map(|(c, _)| *c)) {
        return late(desk, trial);
    }
    match cause {
        Some((cause, why)) => hold(desk, trial, held, cause, why),
        None => shift(desk, trial, held),
    }
}

/// Resumed after the copy: the promotion goes on where it stood.
fn finish_copy(desk: &mut Desk, trial: Trial) -> Stage {
    let reason = format!(
        "{} is in stable already: the promotion goes on",
        trial.run.version
    );
    desk.decide(&trial.run, Phase::Promoting, CONTROLLER, reason);
    Stage::Promoting(trial, Takeover::Judged)
}

/// Why the weight must stay, if it must. A suspicion is dropped later than it is taken up, so that it does not flicker.
fn cause(desk: &Desk, trial: &Trial, held: Option<Cause>) -> Option<(Cause, String)> {
    let judge = &trial.judge;
    if let Some(why) = telemetry::lost(desk.seen) {
        return Some((Cause::Telemetry, words::silent(&why)));
    }
    if let Some(d) = judge.degraded(desk.plan.policy.judgement.degraded) {
        return Some((Cause::Degraded, words::degraded(&d)));
    }
    if judge.is_miscalibrated() {
        return Some((Cause::Miscalibrated, words::miscalibrated(judge.evidence())));
    }
    let lingers = held == Some(Cause::Suspicion) && !judge.is_calm();
    if judge.is_suspicious() || lingers {
        return Some((Cause::Suspicion, words::suspicious(&judge.figures())));
    }
    checks::hold(desk, trial).map(|why| (Cause::Check, why))
}

/// Why a watched canary may not yet be left alone with everybody.
pub(super) fn hesitation(desk: &Desk, trial: &Trial) -> Option<String> {
    // The watch has no deadline: what a part of stable shows may not keep it from ending.
    let against = cause(desk, trial, None).filter(|(cause, _)| *cause != Cause::Miscalibrated);
    against.map(|(_, why)| why)
}

fn hold(desk: &mut Desk, trial: Trial, held: Option<Cause>, cause: Cause, why: String) -> Stage {
    if held == Some(cause) {
        desk.say(why);
    } else {
        desk.decide(&trial.run, Phase::Holding, CONTROLLER, why);
    }
    Stage::Holding(trial, cause)
}

fn shift(desk: &mut Desk, trial: Trial, held: Option<Cause>) -> Stage {
    if held.is_some() {
        let reason = format!("goes on: {}", words::counts(&trial.judge.figures()));
        desk.decide(&trial.run, Phase::Shifting, CONTROLLER, reason);
        return Stage::Shifting(trial);
    }
    desk.say(words::waiting(desk.plan, &trial));
    let seasoned = trial.judge.at_weight() >= desk.plan.policy.pacing.interval.as_seconds();
    if !seasoned || !desk.is_taken() {
        return Stage::Shifting(trial);
    }
    match desk.plan.policy.pacing.steps.get(trial.steps_done) {
        Some(step) => plain(desk, trial, step),
        None if desk.plan.policy.pacing.steps.is_empty() => by_evidence(desk, trial),
        None => Stage::Shifting(trial),
    }
}

fn by_evidence(desk: &mut Desk, trial: Trial) -> Stage {
    let now = desk.ledger.wanted;
    let share = desk.plan.pace.next(now.share(), &trial.judge.sight());
    // The same rule for slow requests; the smaller weight.
    let slow = trial.judge.sight_of_slow();
    let share = slow.map_or(share, |s| share.min(desk.plan.pace_of_slow.next(now.share(), &s)));
    let next = Split::of_share(share, DEFAULT_TOTAL);
    let is_step = |next: Split| next.exceeds(now) && next.share() >= LEAST_FACTOR * now.share() * ROUNDING;
    if !is_step(next) {
        return Stage::Shifting(trial);
    }
    let possible = capped(desk, next);
    if is_step(possible) {
        return raise(desk, trial, possible);
    }
    desk.say(words::no_room(next, &desk.seen.room));
    Stage::Shifting(trial)
}

/// No more than the canary's ready pods can take; more of them are asked for.
fn capped(desk: &mut Desk, weight: Split) -> Split {
    match desk.seen.room {
        Some(room) if weight.share() > room => {
            desk.act(Action::Hand(Hand::Room(weight.share())));
            Split::of_share(room * ROUNDING, DEFAULT_TOTAL)
        }
        _ => weight,
    }
}

/// A plain step: taken, held for its time, then perhaps until a person resumes.
fn plain(desk: &mut Desk, mut trial: Trial, step: &Step) -> Stage {
    let weight = percent(step.weight);
    if weight.exceeds(desk.ledger.wanted) {
        if !capped(desk, weight).same_share(weight) {
            desk.say(words::no_room(weight, &desk.seen.room));
            return Stage::Shifting(trial);
        }
        return raise(desk, trial, weight);
    }
    if trial.judge.at_weight() < step.hold.as_seconds() {
        return Stage::Shifting(trial);
    }
    if step.pause {
        let n = trial.steps_done + 1;
        let reason = format!(
            "paused: step {n} at {} % waits for a person to resume",
            step.weight
        );
        desk.decide(&trial.run, Phase::Paused, CONTROLLER, reason.clone());
        return Stage::Paused(
            trial,
            Pause {
                reason,
                by_step: true,
            },
        );
    }
    trial.steps_done += 1;
    Stage::Shifting(trial)
}

fn raise(desk: &mut Desk, mut trial: Trial, weight: Split) -> Stage {
    // The next weight changes with each second of evidence, and the question must not.
    let (detail, intent) = (format!("from {}", desk.ledger.wanted), format!("gets {weight}"));
    if let Some(why) = gates::wait(desk, &mut trial.run, At::BeforeIncrease, &detail, &intent) {
        desk.say(why);
        return Stage::Shifting(trial);
    }
    trial.judge.weight_changed();
    desk.want(weight);
    let reason = words::raised(weight, &trial.judge.figures());
    desk.decide(&trial.run, Phase::Shifting, CONTROLLER, reason);
    desk.say(words::waiting(desk.plan, &trial));
    Stage::Shifting(trial)
}

/// Evidence, soak, all plain steps done, and nothing missing.
fn is_promotable(desk: &Desk, trial: &Trial) -> bool {
    let pacing = &desk.plan.policy.pacing;
    trial.judge.verdict() == Verdict::Same
        && trial.judge.soaked() >= pacing.soak.as_seconds()
        && trial.steps_done >= pacing.steps.len()
        && desk.is_taken()
}

fn promote(desk: &mut Desk, mut trial: Trial) -> Stage {
    if let Some(why) = gates::wait(desk, &mut trial.run, At::BeforePromotion, "", "becomes stable") {
        desk.say(why);
        return Stage::Shifting(trial);
    }
    let promotion = &desk.plan.policy.promotion;
    let watched = promotion.watch.as_seconds() > 0.0;
    // In a cluster the weight stays until stable runs the new version.
    if desk.plan.handover == Handover::Weight {
        desk.want(if watched {
            percent(100.0 - promotion.watch_weight)
        } else {
            Split::ALL
        });
    }
    let reason = match trial.judge.verdict() {
        Verdict::Same => {
            let margin = trial.judge.evidence().errors().config().promote;
            words::good_enough(&trial.judge.figures(), margin, trial.judge.soaked())
        }
        _ => words::unproven(desk.plan, &trial),
    };
    desk.decide(&trial.run, Phase::Promoting, CONTROLLER, reason);
    Stage::Promoting(trial, Takeover::Judged)
}

fn is_late(desk: &Desk, trial: &Trial) -> bool {
    trial.judge.spent() >= desk.plan.policy.deadline.as_seconds()
}

/// Without telemetry time does not pass; and nothing is promoted for want of a verdict while something speaks against it.
fn may_end(desk: &Desk, cause: Option<Cause>) -> bool {
    match cause {
        None => true,
        Some(Cause::Telemetry) => false,
        Some(_) => desk.plan.policy.undecided != Undecided::Promote,
    }
}

fn late(desk: &mut Desk, trial: Trial) -> Stage {
    let deadline = desk.plan.policy.deadline;
    let reason = format!("no verdict within {deadline}: {}", missing(desk, &trial));
    match desk.plan.policy.undecided {
        Undecided::Hold => {
            desk.decide(&trial.run, Phase::Undecided, CONTROLLER, reason);
            Stage::Undecided(trial)
        }
        Undecided::Rollback => {
            super::roll_back(desk, trial.run, CONTROLLER, format!("rolled back: {reason}"))
        }
        Undecided::Promote if telemetry::is_complete(desk.seen) => promote(desk, trial),
        Undecided::Promote => Stage::Shifting(trial),
    }
}

/// What a promotion waits for.
fn missing(desk: &Desk, trial: &Trial) -> String {
    let against = cause(desk, trial, None).map(|(_, why)| why);
    against.unwrap_or_else(|| words::waiting(desk.plan, trial))
}

/// Left by evidence that came after all, or by a person.
pub(super) fn undecided(desk: &mut Desk, trial: Trial) -> Stage {
    if cause(desk, &trial, None).is_none() && is_promotable(desk, &trial) {
        return promote(desk, trial);
    }
    let waits = missing(desk, &trial);
    desk.say(format!(
        "no verdict within {}; the weight stays: {waits}",
        desk.plan.policy.deadline
    ));
    Stage::Undecided(trial)
}

/// Left by a person. The judgement goes on, and a Worse verdict still rolls back.
pub(super) fn paused(desk: &mut Desk, trial: Trial, pause: Pause) -> Stage {
    if !desk.ledger.wanted.is_none() {
        super::start::raise(desk);
    }
    desk.say(format!(
        "{}; {}",
        pause.reason,
        words::counts(&trial.judge.figures())
    ));
    Stage::Paused(trial, pause)
}

fn percent(weight: f64) -> Split {
    Split::of_share(weight / 100.0, DEFAULT_TOTAL)
}
