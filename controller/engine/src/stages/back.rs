//! RollingBack, RolledBack: stable serves everybody.

use crate::{
    desk::Desk,
    plan::Handover,
    state::{Return, Run, Stage},
    telemetry,
};
use contract::{Split, names::CONTROLLER, release::Phase};

/// Longest wait for proxies that do not answer and requests that do not end, seconds.
const PATIENCE: f64 = 300.0;

/// Weight 0, before anything else is looked at.
pub(crate) fn roll_back(desk: &mut Desk, run: Run, by: &str, reason: String) -> Stage {
    desk.want(Split::NONE);
    desk.fell = true;
    desk.decide(&run, Phase::RollingBack, by, reason.clone());
    Stage::RollingBack(
        run,
        Return {
            since: desk.seen.now,
            reason,
        },
    )
}

/// Left when weight 0 is in force everywhere and nothing is in flight there.
pub(super) fn returning(desk: &mut Desk, run: Run, mut way: Return) -> Stage {
    // A clock that was set back must not make the wait longer.
    way.since = way.since.min(desk.seen.now);
    if desk.plan.handover != Handover::Weight {
        return super::handover::returning(desk, run, way);
    }
    let in_table = desk.seen.table.as_ref().is_some_and(|t| t.split.is_none());
    let is_home = in_table && telemetry::is_home(desk.seen);
    if is_home || desk.seen.now - way.since >= PATIENCE {
        let proof = if is_home {
            "weight 0 is in force everywhere"
        } else {
            "not every proxy has confirmed weight 0"
        };
        desk.decide(
            &run,
            Phase::RolledBack,
            CONTROLLER,
            format!("{}; {proof}", way.reason),
        );
        return Stage::RolledBack(run);
    }
    desk.say(way.reason.clone());
    Stage::RollingBack(run, way)
}

/// Left by a retry, by a person's weight, or by another canary.
pub(super) fn returned(desk: &mut Desk, run: Run) -> Stage {
    if desk
        .ledger
        .decisions
        .last()
        .is_none_or(|d| d.release != run.release)
    {
        desk.say(format!(
            "{} was rolled back before and is not tried again by itself; retry it by hand",
            run.version
        ));
    }
    Stage::RolledBack(run)
}
