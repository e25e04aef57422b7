//! Where one step works: what it knows, what it has decided, what is to be done.

use crate::{
    checks,
    judge::{Basis, Entry, Grounds, Judge, Setting},
    observation::{Observation, Table, Tracks},
    plan::Plan,
    state::{Ledger, Run, Stage, State},
    step::{Action, Recorded, Step},
    telemetry, words,
};
use contract::{
    Split,
    names::{CONTROLLER, FILE},
    release::{Decision, Figures, Phase, Status, Verdict},
};
use std::time::Duration;

/// Time between steps while a release is under way: a second's counts are read soon after its end.
const ACTIVE_MS: u64 = 250;
/// Time between steps otherwise.
const QUIET_MS: u64 = 1000;
/// How long after the end of a proxy's second its counts are complete, with some room for the poll itself.
const AFTER_SECOND_MS: u64 = 30;
/// Shortest sleep: an engine that never sleeps would starve its own proxies.
const LEAST_MS: u64 = 20;

/// One step under way.
pub(crate) struct Desk<'a> {
    pub plan: &'a Plan,
    pub seen: &'a Observation,
    pub ledger: Ledger,
    /// The phase at this point of the step.
    pub phase: Phase,
    /// Whether this very step began a rollback: no order may undo what its author has not seen.
    pub fell: bool,
    /// What the evidence of this step is explained by.
    basis: Option<Basis>,
    /// For the log of blocks, in order.
    journal: Vec<Entry>,
    actions: Vec<Action>,
    answers: Vec<Result<(), String>>,
    why: Option<String>,
}

impl<'a> Desk<'a> {
    pub fn open(plan: &'a Plan, seen: &'a Observation, ledger: Ledger, phase: Phase) -> Desk<'a> {
        Desk {
            plan,
            seen,
            ledger,
            phase,
            fell: false,
            basis: None,
            journal: Vec::new(),
            actions: Vec::new(),
            answers: Vec::new(),
            why: None,
        }
    }

    /// The weight to have from now on.
    pub fn want(&mut self, split: Split) {
        if !split.same_share(self.ledger.wanted) {
            self.ledger.wanted = split;
            self.ledger.confirmed = false;
        }
    }

    /// The workloads that the tracks are to be from now on.
    pub fn lead(&mut self, tracks: Tracks) {
        self.ledger.tracks = tracks;
    }

    /// Puts a decision on record.
    pub fn decide(&mut self, run: &Run, to: Phase, by: &str, reason: impl Into<String>) {
        let reason = with_loss(reason.into(), self.ledger.lost.take());
        let decision = Decision {
            number: self.ledger.number + 1,
            at: self.seen.now,
            version: run.version.clone(),
            release: run.release.clone(),
            from: self.phase,
            to,
            weight: self.ledger.wanted,
            reason,
            by: by.to_owned(),
            figures: self.ledger.figures,
            explanation: None,
        };
        let grounds = self.basis.clone().map(|basis| self.grounds(basis));
        self.phase = to;
        self.why = None;
        self.ledger.record(decision.clone());
        self.journal.push(Entry::Decided(Box::new(decision.clone())));
        self.actions.push(Action::Record(Recorded { decision, grounds }));
    }

    /// Keeps what the judge has read, for the log of blocks.
    pub fn log(&mut self, judge: &mut Judge) {
        self.journal.extend(judge.journal());
    }

    /// What the release waits for; not a decision.
    pub fn say(&mut self, why: impl Into<String>) {
        self.why = Some(why.into());
    }

    pub fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub fn answer(&mut self, answer: Result<(), String>) {
        self.answers.push(answer);
    }

    /// The evidence as it stands, for what is decided next.
    pub fn note(&mut self, judge: &Judge) {
        self.ledger.figures = judge.figures();
        self.basis = Some(judge.basis());
    }

    /// A new run: no evidence yet.
    pub fn forget(&mut self) {
        self.ledger.figures = Figures::default();
        self.basis = None;
    }

    fn grounds(&self, basis: Basis) -> Grounds {
        let policy = &self.plan.policy;
        let soak_left = policy.pacing.soak.as_seconds() - basis.soaked;
        let setting = Setting {
            share: self.ledger.wanted.share(),
            steady: self.ledger.steady_share(),
            soak_left: soak_left.max(0.0),
            errors: policy.judgement.errors,
        };
        Grounds { basis, setting }
    }

    /// The wanted weight is in the table, and every proxy has acknowledged it.
    pub fn is_taken(&self) -> bool {
        let wanted = |t: &&Table| t.split.same_share(self.ledger.wanted) && t.tracks == self.ledger.tracks;
        self.seen
            .table
            .as_ref()
            .filter(wanted)
            .is_some_and(|t| telemetry::has_taken(self.seen, t))
    }

    /// Ends the step.
    pub fn close(mut self, mut stage: Stage) -> Step {
        if let Some(trial) = stage.trial_mut() {
            self.log(&mut trial.judge);
        }
        self.observe_table();
        if let Some(set) = self.split_to_set(&stage) {
            // Before everything else that is to be done: nothing may delay a rollback.
            self.actions.insert(0, set);
        }
        let wake = self.wake(&stage);
        let status = self.status(&stage);
        let grounds = stage.trial().map(|t| self.grounds(t.judge.basis()));
        Step {
            grounds,
            why: status.reason.clone(),
            status,
            wake,
            actions: self.actions,
            journal: self.journal,
            answers: self.answers,
            state: State::with(self.ledger, stage),
        }
    }

    fn observe_table(&mut self) {
        let Some(table) = &self.seen.table else { return };
        self.ledger.table = Some(table.split);
        self.ledger.confirmed |= table.split.same_share(self.ledger.wanted);
        if table.changed_by.as_deref().is_none_or(|who| who == FILE) {
            self.ledger.ground = Some(table.split);
        }
    }

    fn split_to_set(&self, stage: &Stage) -> Option<Action> {
        let wanted = self.ledger.wanted;
        let returning = matches!(stage, Stage::RollingBack(..));
        let is_needed = match &self.seen.table {
            None => wanted.is_none() && (returning || !self.ledger.confirmed),
            Some(t) if t.split.same_share(wanted) && t.tracks == self.ledger.tracks => {
                returning && telemetry::is_exposed(self.seen)
            }
            Some(t) if wanted.exceeds(t.split) => telemetry::is_complete(self.seen),
            Some(t) => self.owns(stage, t),
        };
        let rises = self.seen.table.as_ref().is_some_and(|t| wanted.exceeds(t.split));
        let cause = self.ledger.reason.clone();
        is_needed.then_some(Action::SetSplit {
            split: wanted,
            tracks: self.ledger.tracks,
            force: !rises,
            cause,
        })
    }

    /// Without a release the weight is people's own, but for what this controller has left there.
    fn owns(&self, stage: &Stage, table: &Table) -> bool {
        let idle = matches!(stage, Stage::Idle);
        !idle || !self.ledger.confirmed || table.changed_by.as_deref() == Some(CONTROLLER)
    }

    fn wake(&self, stage: &Stage) -> Duration {
        if stage.phase().is_final() {
            return Duration::from_millis(QUIET_MS);
        }
        let next = self.seen.clocks().map(to_next_counts).min().unwrap_or(ACTIVE_MS);
        Duration::from_millis(next.clamp(LEAST_MS, ACTIVE_MS))
    }

    fn status(&self, stage: &Stage) -> Status {
        Status {
            service: self.plan.service.clone(),
            stable_version: self.plan.stable.name.clone(),
            canary_version: self.plan.canary.name.clone(),
            phase: stage.phase(),
            wanted: self.ledger.wanted,
            taken: telemetry::share(self.seen),
            verdict: self.verdict(stage),
            reason: self.reason(stage),
            figures: self.ledger.figures,
            decisions: self.ledger.decisions.clone(),
            needed: stage
                .trial()
                .and_then(|t| words::needed(self.plan, &t.judge.figures()))
                .map(|n| n as u64),
            steps: self.steps(stage),
            checks: stage
                .trial()
                .map(|t| checks::shown(self.plan, t, self.seen.now))
                .unwrap_or_default(),
        }
    }

    fn steps(&self, stage: &Stage) -> Option<(usize, usize)> {
        let all = self.plan.policy.pacing.steps.len();
        let done = stage.trial().map_or(0, |t| t.steps_done);
        (all > 0).then_some((done, all))
    }

    fn reason(&self, stage: &Stage) -> String {
        let said = self.why.clone().unwrap_or_else(|| self.ledger.reason.clone());
        let said = with_loss(said, self.ledger.lost.clone());
        if said.is_empty() {
            words::nothing(stage.phase())
        } else {
            said
        }
    }

    fn verdict(&self, stage: &Stage) -> Verdict {
        match stage {
            Stage::Succeeded(_) => Verdict::Same,
            Stage::RollingBack(..) | Stage::RolledBack(_) => self.past_verdict(),
            other => other.trial().map_or(Verdict::NotYet, |t| t.judge.verdict()),
        }
    }

    /// After a rollback by order or smoke request the evidence may have said nothing.
    fn past_verdict(&self) -> Verdict {
        let f = &self.ledger.figures;
        let worse = f.rollback_at > 0.0 && f.log_rollback >= f.rollback_at;
        if worse { Verdict::Worse } else { Verdict::NotYet }
    }
}

/// Milliseconds until a proxy's next second can be read.
fn to_next_counts(now_ms: u64) -> u64 {
    (999 + AFTER_SECOND_MS - now_ms % 1000) % 1000 + 1
}

/// What was lost is said once more than it is recorded: a reader of either must see it.
fn with_loss(reason: String, lost: Option<String>) -> String {
    match lost {
        Some(lost) if reason.is_empty() => lost,
        Some(lost) => format!("{reason} ({lost})"),
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_look_is_soon_after_the_end_of_a_second() {
        for (now, wait) in [
            (0, 30),
            (5, 25),
            (29, 1),
            (30, 1000),
            (31, 999),
            (755, 275),
            (999, 31),
            (7_010, 20),
        ] {
            assert_eq!(to_next_counts(now), wait, "{now}");
        }
    }
}
