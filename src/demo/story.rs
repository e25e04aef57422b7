//! The demo as plain lines, and how it ended.

use super::{CANARY, FRAME, STABLE, Stage, TOO_LONG, is_end};
use crate::{
    cli::{DemoArgs, Fault},
    load::Seen,
    view,
};
use proxy::contract::release::{Phase, Status};
use std::time::Duration;

/// How often a line is printed when nothing changes.
const QUIET: Duration = Duration::from_secs(5);

/// What is to be seen at one moment.
pub struct Scene {
    /// Since the start.
    pub elapsed: Duration,
    /// Whether the new version has appeared.
    pub released: bool,
    /// Where the release stands.
    pub status: Option<Status>,
    /// What the users have seen.
    pub seen: Seen,
}

impl Scene {
    /// Whether the story is over, well or not.
    pub fn is_over(&self) -> bool {
        self.elapsed > TOO_LONG || self.released && self.status.as_ref().is_some_and(|s| is_end(s.phase))
    }

    /// The phase, as far as it is known.
    pub fn phase(&self) -> Phase {
        self.status.as_ref().map_or(Phase::Idle, |s| s.phase)
    }

    /// Promoted without a fault, rolled back with one.
    pub fn ended_well(&self, fault: Fault) -> bool {
        match fault {
            Fault::None => self.phase() == Phase::Succeeded,
            _ => self.phase() == Phase::RolledBack,
        }
    }

    /// The end in one sentence, with the reason of the last verdict.
    pub fn last_line(&self, args: &DemoArgs) -> String {
        let took = format!("{:.0} s", self.elapsed.as_secs_f64());
        let (good, bad) = self.seen.answers(CANARY);
        let users = format!(
            "users saw {bad} bad answers of {} from {CANARY}, and lost {} requests",
            good + bad,
            self.seen.lost
        );
        let reason = self
            .status
            .as_ref()
            .map_or("the controller said nothing", |s| verdict_reason(s));
        let end = match self.phase() {
            Phase::Succeeded => format!("PROMOTED after {took}: {reason}"),
            Phase::RolledBack => format!(
                "ROLLED BACK after {took}: {}",
                reason.trim_start_matches("rolled back: ")
            ),
            phase => format!("NOT DECIDED after {took} ({phase}): {reason}"),
        };
        let judged = if self.ended_well(args.fault) {
            "This is how it should end."
        } else {
            "THIS IS NOT HOW IT SHOULD END."
        };
        format!("{end}\n{users}. {judged}")
    }

    /// One line of figures.
    pub fn line(&self) -> String {
        let (s1, s2) = (self.seen.answers(STABLE), self.seen.answers(CANARY));
        let Some(status) = &self.status else {
            return format!("{} {}", self.stamp(), "starting");
        };
        let f = &status.figures;
        format!(
            "{} {:<11} weight {:<15} {STABLE} {} bad of {}, {CANARY} {} bad of {}, evidence: worse {:.0} %, good {:.0} %",
            self.stamp(),
            status.phase,
            view::weight(status),
            s1.1,
            s1.0 + s1.1,
            s2.1,
            s2.0 + s2.1,
            view::progress(f.log_rollback, f.rollback_at) * 100.0,
            view::progress(f.log_promote, f.promote_at) * 100.0
        )
    }

    fn stamp(&self) -> String {
        format!("{:>5.1}s", self.elapsed.as_secs_f64())
    }
}

/// The reason of the decision that settled it: the last one that is not a mere arrival at an end phase.
fn verdict_reason(s: &Status) -> &str {
    let settled = |p: Phase| matches!(p, Phase::Promoting | Phase::RollingBack | Phase::Undecided);
    s.decisions
        .iter()
        .rev()
        .find(|d| settled(d.to))
        .map_or(&s.reason, |d| &d.reason)
}

/// What it runs under, before it begins.
pub fn opening(stage: &Stage, args: &DemoArgs) -> Vec<String> {
    let (policy, at) = (stage.policy(), stage.addresses());
    let (j, p) = (&policy.judgement, &policy.pacing);
    let (worse, good) = (j.errors.rollback, j.errors.promote);
    vec![
        format!("page: {}", stage.page()),
        format!(
            "{STABLE} serves {} requests/s; then {CANARY} appears (fault: {:?}, seed {})",
            args.rps, args.fault, args.seed
        )
        .to_lowercase(),
        format!(
            "policy: roll back above {} x stable's error rate + {} (alpha {}),",
            worse.ratio, worse.absolute, j.alpha
        ),
        format!(
            "        promote below {} x + {} (beta {}), soak {}, watch {},",
            good.ratio, good.absolute, j.beta, p.soak, policy.promotion.watch
        ),
        format!(
            "        weight {} to {} %, error budget {} bad requests a reaction",
            p.min_weight, p.max_weight, p.error_budget
        ),
        format!(
            "look: curl http://{}/   counts: http://{}/metrics",
            at.listen, at.signals
        ),
    ]
}

/// Plays it in lines: one at each change of phase or weight, one every few seconds, one for each decision.
pub fn play(stage: &Stage, args: &DemoArgs) -> Scene {
    for line in opening(stage, args) {
        println!("{line}");
    }
    let mut said = (None, Duration::ZERO, 0.0);
    loop {
        let scene = stage.look();
        let mark = scene.status.as_ref().map(|s| (s.phase, s.wanted));
        if mark != said.0 || scene.elapsed - said.1 > QUIET {
            println!("{}", scene.line());
            (said.0, said.1) = (mark, scene.elapsed);
        }
        said.2 = decisions(&scene, said.2);
        if scene.is_over() {
            return scene;
        }
        std::thread::sleep(FRAME);
    }
}

/// Prints the decisions after `told`, and gives the time of the last one.
fn decisions(scene: &Scene, told: f64) -> f64 {
    let new = scene
        .status
        .iter()
        .flat_map(|s| &s.decisions)
        .filter(|d| d.at > told);
    new.fold(told, |_, d| {
        println!("{} {} -> {}: {}", scene.stamp(), d.from, d.to, d.reason);
        d.at
    })
}
