//! Checks besides the proxies' counts: limits that a number from elsewhere must keep.
//!
//! A check is no evidence: it says nothing about chance, and cannot know whose fault a number is. So it never speaks
//! against a rollback, it rolls back only by a series of its own, and not while nobody can be blamed.

use crate::{
    desk::Desk,
    observation::{Checked, Observation},
    plan::Plan,
    stages,
    state::{Stage, Trial},
    step::Action,
    words,
};
use contract::{
    policy::{Check, NoData},
    release::{Amount, CheckStatus},
};
use serde::{Deserialize, Serialize};

/// What is known of the checks of one run, in the order of the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Checks(Vec<Known>);

/// What is known of one check. Times are unix seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    name: String,
    /// Since when it is as it is: in its limit, beyond it, or without a number.
    since: f64,
    /// When it was last asked.
    asked: Option<f64>,
    /// The last answer of any kind, so that none counts twice.
    answered: Option<f64>,
    /// The last answer that was a number.
    heard: Option<(f64, Amount)>,
    /// Why the answers since then were none.
    failed: Option<String>,
    /// Breaches in a row for which the canary may be blamed.
    breaches: u32,
}

/// How a check stands at one moment.
enum Standing {
    Kept,
    Breach(Amount),
    /// Why there is no number, as a clause.
    Missing(String),
}

/// Takes the answers of this step; why they roll back, if they do. A crash repeats a step without its answers, and
/// the next ones count on from the saved series.
pub(crate) fn read(desk: &Desk, trial: &mut Trial) -> Option<String> {
    let (plan, seen) = (desk.plan, desk.seen);
    let degraded = trial.judge.degraded(plan.policy.judgement.degraded).is_some();
    // Without traffic the canary did nothing, and beside a degraded stable nobody knows who did.
    let blames = !degraded && !desk.ledger.wanted.is_none();
    trial.checks.meet(plan, seen.now);
    let found = trial.checks.take(plan, seen, blames)?;
    let counts = words::counts(&trial.judge.figures());
    Some(format!("rolled back: {found}; {counts}"))
}

/// Asks for what is due; not once a person has ordered the promotion, whatever a check may say.
pub(crate) fn ask(desk: &mut Desk, stage: &mut Stage) {
    if stages::is_ordered(stage) {
        return;
    }
    let (plan, now) = (desk.plan, desk.seen.now);
    let Some(trial) = stage.trial_mut() else { return };
    trial.checks.meet(plan, now);
    let due = trial.checks.due(plan, now);
    if !due.is_empty() {
        desk.act(Action::Measure(due));
    }
}

/// Why the weight must stay, if it must: the first check that is beyond its limit, else the first without a number.
pub(crate) fn hold(desk: &Desk, trial: &Trial) -> Option<String> {
    let now = desk.seen.now;
    let mut silent = None;
    for (check, known) in trial.checks.pairs(desk.plan) {
        match known.standing(check, now) {
            Standing::Kept => {}
            Standing::Breach(value) => return Some(beyond(check, known.breaches, value)),
            Standing::Missing(_) if check.no_data == NoData::Ignore => {}
            Standing::Missing(why) => silent = silent.or_else(|| Some(without(check, &why))),
        }
    }
    silent
}

/// For people.
pub(crate) fn shown(plan: &Plan, trial: &Trial, now: f64) -> Vec<CheckStatus> {
    let pairs = trial.checks.pairs(plan);
    pairs.map(|(check, known)| known.shown(check, now)).collect()
}

impl Checks {
    /// One entry for each check of the policy; a policy may be edited in the middle of a run.
    fn meet(&mut self, plan: &Plan, now: f64) {
        let checks = &plan.policy.judgement.checks;
        if self.0.iter().map(|k| &k.name).eq(checks.iter().map(|c| &c.name)) {
            return;
        }
        let mut before = std::mem::take(&mut self.0);
        self.0.extend(checks.iter().map(|check| {
            let at = before.iter().position(|k| k.name == check.name);
            at.map_or_else(|| Known::new(&check.name, now), |i| before.swap_remove(i))
        }));
    }

    fn pairs<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = (&'a Check, &'a Known)> {
        let both = plan.policy.judgement.checks.iter().zip(&self.0);
        both.filter(|(check, known)| check.name == known.name)
    }

    /// Enters the answers; what the first of them that rolls back has found.
    fn take(&mut self, plan: &Plan, seen: &Observation, blames: bool) -> Option<String> {
        let mut found = None;
        for (check, known) in plan.policy.judgement.checks.iter().zip(&mut self.0) {
            for answer in seen.checks.iter().filter(|a| a.name == check.name) {
                let verdict = known.enter(check, answer, blames);
                found = found.or(verdict);
            }
        }
        found
    }

    /// Indices of the checks whose interval has passed.
    fn due(&mut self, plan: &Plan, now: f64) -> Vec<usize> {
        let mut due = Vec::new();
        for (i, (check, known)) in plan.policy.judgement.checks.iter().zip(&mut self.0).enumerate() {
            if known.is_due(check, now) {
                known.asked = Some(now);
                due.push(i);
            }
        }
        due
    }
}

impl Known {
    fn new(name: &str, now: f64) -> Known {
        Known {
            name: name.to_owned(),
            since: now,
            asked: None,
            answered: None,
            heard: None,
            failed: None,
            breaches: 0,
        }
    }

    /// A clock that was set back must not put the next question off.
    fn is_due(&self, check: &Check, now: f64) -> bool {
        self.asked
            .is_none_or(|asked| now < asked || now - asked >= check.interval.as_seconds())
    }

    /// Enters one answer; what it has found, if it rolls back.
    fn enter(&mut self, check: &Check, answer: &Checked, blames: bool) -> Option<String> {
        if self.answered.replace(answer.at) == Some(answer.at) {
            return None;
        }
        match &answer.outcome {
            Ok(value) if !value.is_nan() => self.hear(check, Amount(*value), answer.at, blames),
            Ok(_) => self.miss(check, "the value is NaN", answer.at, blames),
            Err(why) => self.miss(check, why, answer.at, blames),
        }
    }

    fn hear(&mut self, check: &Check, value: Amount, at: f64, blames: bool) -> Option<String> {
        let was_beyond = self.heard.is_some_and(|(_, v)| breach(check, v).is_some());
        let beyond = breach(check, value);
        if self.heard.is_none() || self.failed.is_some() || was_beyond != beyond.is_some() {
            self.since = at;
        }
        (self.heard, self.failed) = (Some((at, value)), None);
        // A breach for which nobody can be blamed begins no series, and goes on with none.
        self.breaches = match beyond {
            Some(_) if blames => self.breaches.saturating_add(1),
            _ => 0,
        };
        let beyond = beyond.filter(|_| self.breaches >= check.breaches)?;
        Some(format!(
            "check \"{}\": {beyond}{}",
            check.name,
            in_a_row(self.breaches)
        ))
    }

    /// No number breaks no series: whoever fails must not be forgiven for being silent in between.
    fn miss(&mut self, check: &Check, why: &str, at: f64, blames: bool) -> Option<String> {
        if self.failed.is_none() && self.heard.is_some() {
            self.since = at;
        }
        // A clock that was set back must not make the wait longer.
        self.since = self.since.min(at);
        self.failed = Some(why.to_owned());
        let lasted = at - self.since;
        let is_over = lasted >= check.patience.as_seconds();
        (check.no_data == NoData::Rollback && is_over && blames)
            .then(|| format!("check \"{}\": no data for {lasted:.0} s ({why})", check.name))
    }

    fn standing(&self, check: &Check, now: f64) -> Standing {
        let recent = self.recent(check, now);
        let beyond = recent.filter(|value| breach(check, *value).is_some());
        match (&self.failed, self.heard, beyond) {
            // Silence that is ignored hides no breach that was just seen.
            (Some(_), _, Some(value)) if check.no_data == NoData::Ignore => Standing::Breach(value),
            (Some(why), ..) => Standing::Missing(why.clone()),
            (None, None, _) => Standing::Missing("it has not answered yet".to_owned()),
            (None, Some((at, _)), _) if recent.is_none() => {
                Standing::Missing(format!("its last answer is {:.0} s old", now - at))
            }
            (None, _, Some(value)) => Standing::Breach(value),
            (None, ..) => Standing::Kept,
        }
    }

    /// The last value, unless it is too old to be one.
    fn recent(&self, check: &Check, now: f64) -> Option<Amount> {
        let (at, value) = self.heard?;
        (now - at <= check.patience.as_seconds()).then_some(value)
    }

    fn shown(&self, check: &Check, now: f64) -> CheckStatus {
        let standing = self.standing(check, now);
        CheckStatus {
            name: check.name.clone(),
            value: self.heard.map(|(_, value)| value),
            limit: limit(check),
            breach: matches!(standing, Standing::Breach(_)),
            breaches: self.breaches,
            allowed: check.breaches,
            missing: match standing {
                Standing::Missing(why) => Some(why),
                _ => None,
            },
            since: self.since,
        }
    }
}

/// `0.93 is above 0.8`, if it is.
fn breach(check: &Check, value: Amount) -> Option<String> {
    let above = check.max.filter(|max| value.0 > *max);
    let below = check.min.filter(|min| value.0 < *min);
    match (above, below) {
        (Some(max), _) => Some(format!("{value} is above {}", Amount(max))),
        (None, Some(min)) => Some(format!("{value} is below {}", Amount(min))),
        (None, None) => None,
    }
}

/// `at most 0.8`
fn limit(check: &Check) -> String {
    match (check.min.map(Amount), check.max.map(Amount)) {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => "no limit".to_owned(),
    }
}

fn in_a_row(breaches: u32) -> String {
    match breaches {
        1 => String::new(),
        n => format!(", {n} times in a row"),
    }
}

fn beyond(check: &Check, breaches: u32, value: Amount) -> String {
    let series = match breaches {
        0 => String::new(),
        n => format!(" ({n} of the {} in a row that roll back)", check.breaches),
    };
    format!(
        "check \"{}\": {}{series}; the weight stays until it is {}",
        check.name,
        breach(check, value).unwrap_or_default(),
        limit(check)
    )
}

fn without(check: &Check, why: &str) -> String {
    let end = match check.no_data {
        NoData::Rollback => format!(
            "the weight stays until it answers, and goes back after {}",
            check.patience
        ),
        _ => "the weight stays until it answers".to_owned(),
    };
    format!("check \"{}\" has no data: {why}; {end}", check.name)
}
