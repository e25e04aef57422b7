//! The status that is written: what people read, and what a successor goes on from.

use super::{rollout, sight::Sight};
use contract::{
    release::{Phase, Status},
    rollout::{Condition, KEPT_DECISIONS, OrderStatus, Proxies, RolloutStatus, condition},
};
use engine::State;
use k8s_openapi::jiff::Timestamp;

/// What a status is made of.
pub(super) struct Said<'a> {
    pub rollout: &'a rollout::Known,
    pub sight: Option<&'a Sight>,
    pub status: Option<&'a Status>,
    pub state: &'a State,
    /// What somebody should mend.
    pub trouble: Option<&'a str>,
    pub proxies: Proxies,
    pub order: Option<OrderStatus>,
    pub deploy_image: Option<String>,
    pub before: &'a [Condition],
}

impl Said<'_> {
    /// The whole status.
    pub fn written(&self) -> Result<RolloutStatus, String> {
        let state = rollout::packed(self.state).map_err(|e| format!("the state cannot be written: {e}"))?;
        let mut written = RolloutStatus {
            observed_generation: Some(self.rollout.generation),
            proxies: self.proxies,
            order: self.order.clone(),
            deploy_image: self.deploy_image.clone(),
            conditions: self.conditions(),
            state,
            ..RolloutStatus::default()
        };
        match self.status {
            Some(status) => self.tell(&mut written, status),
            None => {
                written.phase = self.state.phase();
                written.reason = self.trouble.unwrap_or_default().to_owned();
            }
        }
        Ok(written)
    }

    fn tell(&self, written: &mut RolloutStatus, status: &Status) {
        written.phase = status.phase;
        written.step = status
            .steps
            .map_or_else(String::new, |(done, all)| format!("{done}/{all}"));
        written.weight = status.weight_column();
        written.verdict = status.verdict_column();
        let fault = self.sight.and_then(Sight::fault);
        written.reason = match (self.trouble, fault) {
            (Some(trouble), _) if status.phase.is_final() => trouble.to_owned(),
            (_, Some(fault)) => format!("{}; to be mended: {fault}", status.reason),
            _ => status.reason.clone(),
        };
        written.stable_version.clone_from(&status.stable_version);
        written.canary_version.clone_from(&status.canary_version);
        written.release = self
            .sight
            .map_or_else(String::new, |s| s.plan.canary.hash.clone());
        written.told = status.verdict;
        written.figures = status.figures;
        let surplus = status.decisions.len().saturating_sub(KEPT_DECISIONS);
        written.decisions = status.decisions[surplus..].to_vec();
        written.checks.clone_from(&status.checks);
    }

    fn conditions(&self) -> Vec<Condition> {
        let phase = self.state.phase();
        let sentence = self.status.map_or("", |s| s.reason.as_str());
        let now = Timestamp::now().to_string();
        condition::ALL
            .iter()
            .map(|kind| {
                let holds = match *kind {
                    condition::HEALTHY => self.trouble.is_none(),
                    other => holds(other, phase),
                };
                let message = match (*kind, self.trouble) {
                    (condition::HEALTHY, trouble) => trouble.unwrap_or_default(),
                    _ if holds => sentence,
                    _ => "",
                };
                self.condition(kind, holds, phase, message, &now)
            })
            .collect()
    }

    fn condition(&self, kind: &str, holds: bool, phase: Phase, message: &str, now: &str) -> Condition {
        let status = if holds { "True" } else { "False" };
        let before = self.before.iter().find(|c| c.kind == kind && c.status == status);
        let reason = match (kind, holds) {
            (condition::HEALTHY, true) => "AsItShouldBe".to_owned(),
            (condition::HEALTHY, false) => "NeedsMending".to_owned(),
            _ => phase.to_string(),
        };
        Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason,
            message: message.to_owned(),
            last_transition_time: before.map_or_else(|| now.to_owned(), |c| c.last_transition_time.clone()),
            observed_generation: Some(self.rollout.generation),
        }
    }
}

/// Whether a condition holds in a phase.
fn holds(kind: &str, phase: Phase) -> bool {
    match kind {
        condition::PROMOTED => phase == Phase::Succeeded,
        condition::ROLLED_BACK => phase == Phase::RolledBack,
        condition::PAUSED => phase == Phase::Paused,
        condition::PROGRESSING => !phase.is_final() && !matches!(phase, Phase::Paused | Phase::Undecided),
        _ => false,
    }
}

/// What it waits for. Figures change each second, and whoever waits needs none of them to know whom to ask.
fn said_without_figures(status: &RolloutStatus) -> String {
    let is_figure = |c: char| c.is_ascii_digit() || c == '.';
    status.reason.chars().filter(|c| !is_figure(*c)).collect()
}

/// Whether a change is written at once, or may wait with the figures.
pub(super) fn is_news(before: &RolloutStatus, now: &RolloutStatus) -> bool {
    let of = |s: &RolloutStatus| {
        let conditions: Vec<_> = s
            .conditions
            .iter()
            .map(|c| (c.kind.clone(), c.status.clone(), c.reason.clone()))
            .collect();
        let mended = s
            .conditions
            .iter()
            .find(|c| c.kind == condition::HEALTHY)
            .map(|c| c.message.clone());
        let told = (
            s.order.clone(),
            s.deploy_image.clone(),
            s.observed_generation,
            conditions,
            mended,
        );
        let stands = (
            s.phase,
            s.weight.clone(),
            s.step.clone(),
            s.release.clone(),
            s.decisions.last().map(|d| d.number),
        );
        (told, stands)
    };
    of(before) != of(now) || said_without_figures(before) != said_without_figures(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said<'a>(
        rollout: &'a rollout::Known,
        state: &'a State,
        trouble: Option<&'a str>,
        before: &'a [Condition],
    ) -> RolloutStatus {
        let said = Said {
            rollout,
            sight: None,
            status: None,
            state,
            trouble,
            proxies: Proxies::default(),
            order: None,
            deploy_image: None,
            before,
        };
        said.written().unwrap()
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes_and_trouble_is_news() {
        let object = json!({ "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": { "name": "echo", "generation": 3 } });
        let rollout = rollout::Known::of(&serde_json::from_value(object).unwrap(), "serin.dev/");
        let state = State::fresh();
        let mut first = said(&rollout, &state, None, &[]);
        assert_eq!(first.conditions.len(), condition::ALL.len());
        first
            .conditions
            .iter_mut()
            .for_each(|c| c.last_transition_time = "then".into());
        let second = said(&rollout, &state, None, &first.conditions);
        assert_eq!(first, second);
        assert!(!is_news(&first, &second));
        let third = said(&rollout, &state, Some("there is no Service"), &first.conditions);
        assert!(is_news(&second, &third));
        let changed: Vec<&str> = third
            .conditions
            .iter()
            .filter(|c| c.last_transition_time != "then")
            .map(|c| c.kind.as_str())
            .collect();
        assert_eq!(changed, [condition::HEALTHY]);
        assert_eq!(
            (third.reason.as_str(), third.observed_generation),
            ("there is no Service", Some(3))
        );
    }

    #[test]
    fn a_sentence_is_news_and_its_figures_are_not() {
        let at = |phase, reason: &str| RolloutStatus {
            phase,
            reason: reason.into(),
            ..RolloutStatus::default()
        };
        for phase in [Phase::Starting, Phase::Promoting, Phase::Shifting] {
            let now = at(phase, "0 of 1 pods ready");
            assert!(is_news(&now, &at(phase, "no such image")));
            assert!(!is_news(&now, &at(phase, "12 of 13 pods ready")));
        }
    }

    #[test]
    fn every_phase_has_at_most_one_of_the_conditions_that_tell_them_apart() {
        let kinds = [
            condition::PROMOTED,
            condition::ROLLED_BACK,
            condition::PROGRESSING,
            condition::PAUSED,
        ];
        let count = |phase| kinds.iter().filter(|k| holds(k, phase)).count();
        for (phase, n) in [
            (Phase::Idle, 0),
            (Phase::Starting, 1),
            (Phase::Paused, 1),
            (Phase::Succeeded, 1),
            (Phase::RolledBack, 1),
            (Phase::Undecided, 0),
        ] {
            assert_eq!(count(phase), n, "{phase}");
        }
    }
}
