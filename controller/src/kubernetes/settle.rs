//! The end of a turn: gates, the finalizer, letting go, and the status, last.

use super::{
    api::{Kind, is_absent, is_conflict, told},
    desk::{AGAIN, Desk, FIGURES, LETTING_GO, Next},
    rollout,
    save::{Said, is_news},
    sight::Sight,
};
use crate::gates::{self, Question};
use contract::{
    Split,
    names::{CHANGED_BY, FINALIZER, ORDER},
    policy::{At, Gate},
    release::{Decision, Phase, Status},
    rollout::RolloutStatus,
};
use engine::{Action, Step, Table, Tracks};
use serde_json::{Value, json};
use tokio::time::Instant;

impl Desk {
    /// Where smoke requests go.
    pub(super) fn endpoints(&self, sight: &Sight) -> Vec<String> {
        let service = self.hub.world.service(&self.key.beside(&sight.usual[1]));
        let ports: Value = service
            .and_then(|s| serde_json::from_str(&s.ports).ok())
            .unwrap_or_default();
        let first = &ports[0];
        let target = if first["targetPort"].is_null() {
            &first["port"]
        } else {
            &first["targetPort"]
        };
        self.pods
            .as_ref()
            .map(|p| p.endpoints(target))
            .unwrap_or_default()
    }

    /// Asks a gate's webhook.
    pub(super) async fn ask(
        &mut self,
        sight: &Sight,
        gate: usize,
        question: &str,
        intent: &str,
    ) -> Result<(), String> {
        let Some(gate) = sight.plan.policy.gates.get(gate).cloned() else {
            return Ok(());
        };
        let Some(hook) = gate.webhook.clone() else {
            return Ok(());
        };
        let credentials = self
            .hub
            .secrets
            .of(&self.hub.server, &self.key.namespace, false)
            .await?;
        let question = Question {
            question: question.to_owned(),
            intent: intent.to_owned(),
            phase: self.state.phase().to_string(),
            weight: sight
                .table
                .as_ref()
                .map_or_else(|_| String::new(), |t| t.split.to_string()),
            reason: String::new(),
            ..self.question(sight, &gate)
        };
        self.gates.ask(&hook, question, &credentials.webhook);
        Ok(())
    }

    fn question(&self, sight: &Sight, gate: &Gate) -> Question {
        Question {
            rollout: self.key.name.clone(),
            namespace: self.key.namespace.clone(),
            gate: gate.name.clone(),
            at: gate.at.to_string(),
            question: String::new(),
            intent: String::new(),
            version: sight.plan.canary.name.clone(),
            weight: String::new(),
            phase: String::new(),
            reason: String::new(),
        }
    }

    /// Tells the gates that are only told.
    pub(super) async fn tell_gates(&self, sight: &Sight, decision: &Decision) {
        let at = match decision.to {
            Phase::Succeeded => At::AfterPromotion,
            Phase::RolledBack => At::AfterRollback,
            _ => return,
        };
        for gate in sight.plan.policy.gates.iter().filter(|g| g.at == at) {
            let secrets = self.hub.secrets.of(&self.hub.server, &self.key.namespace, false);
            let (Some(hook), Ok(credentials)) = (&gate.webhook, secrets.await) else {
                continue;
            };
            let news = Question {
                question: format!("{}/{}", gate.name, decision.number),
                version: decision.version.clone(),
                weight: decision.weight.to_string(),
                phase: decision.to.to_string(),
                reason: decision.reason.clone(),
                ..self.question(sight, gate)
            };
            gates::tell(hook, news, &credentials.webhook);
        }
    }

    /// Puts the finalizer on, so that a deletion mid-way can be made good.
    pub(super) async fn hold(&mut self, known: &rollout::Known) {
        let mut finalizers = known.finalizers.clone();
        finalizers.push(FINALIZER.to_owned());
        self.set_finalizers(known, &finalizers).await;
    }

    async fn set_finalizers(&mut self, known: &rollout::Known, finalizers: &[String]) {
        let body =
            json!({ "metadata": { "finalizers": finalizers, "resourceVersion": known.version.to_string() } });
        match self.hub.server.merge(Kind::Rollout, &self.key, &body).await {
            Ok(now) => self.hub.world.learn(Kind::Rollout, &now),
            // The next sight of it comes with the version that it has now.
            Err(e) if is_conflict(&e) || is_absent(&e) => {}
            Err(e) => self.fail(format!("the finalizer is not written: {}", told(&e))),
        }
    }

    /// Of a Rollout that is deleted: whether everything is as it should be left, and the object may go.
    pub(super) async fn let_go(&mut self, known: &rollout::Known, step: Option<&Step>) -> bool {
        let late = self.leaving.is_some_and(|since| since.elapsed() > LETTING_GO);
        if let (Some(sight), false) = (self.sight.clone(), late)
            && self
                .hub
                .world
                .service(&self.key.beside(&sight.spec.service))
                .is_some()
        {
            let Some(step) = step else { return false };
            if !step.state.phase().is_final() || !self.is_stable(known, &sight).await {
                return false;
            }
            let tidied = self.hands(known, &sight).tidy().await;
            if let Err(why) = tidied {
                self.fail(why);
                return false;
            }
        }
        let rest: Vec<String> = known
            .finalizers
            .iter()
            .filter(|f| *f != FINALIZER)
            .cloned()
            .collect();
        self.set_finalizers(known, &rest).await;
        self.failure.is_none()
    }

    /// Whether all traffic is at the stable Service, as the annotations say; else it is sent there.
    async fn is_stable(&mut self, known: &rollout::Known, sight: &Sight) -> bool {
        let is_usual = |t: &Table| t.split.share() == 0.0 && t.tracks == Tracks::Usual;
        if sight.table.as_ref().is_ok_and(is_usual) {
            return true;
        }
        let act = Action::SetSplit {
            split: Split::NONE,
            tracks: Tracks::Usual,
            force: true,
            cause: format!("the Rollout {} is deleted", self.key.name),
        };
        if let Err(why) = self.act(known, sight, &act).await {
            self.fail(why);
        }
        false
    }

    /// Saves, and says when to come again.
    pub(super) async fn after(&mut self, known: &rollout::Known, step: Option<&Step>) -> Next {
        if !self.hub.leads() {
            return Next::Idle;
        }
        if let (Some(sight), Some(step)) = (self.sight.clone(), step) {
            for action in &step.actions {
                if let Action::Record(recorded) = action {
                    self.tell_gates(&sight, &recorded.decision).await;
                }
            }
        }
        let saved = self.save(known, step.map(|s| &s.status)).await;
        if saved {
            self.obeyed(known).await;
        }
        let is_quiet = saved && self.failure.is_none() && !known.deleting;
        match step {
            _ if !is_quiet => Next::In(AGAIN),
            Some(step) if step.state.phase().is_final() && step.actions.is_empty() => Next::Idle,
            Some(step) => Next::In(step.wake),
            None => Next::Idle,
        }
    }

    /// Whether what is to be saved is saved.
    async fn save(&mut self, known: &rollout::Known, status: Option<&Status>) -> bool {
        let trouble = self.trouble.clone().or_else(|| self.failure.clone());
        let said = Said {
            rollout: known,
            sight: self.sight.as_ref(),
            status,
            state: &self.state,
            trouble: trouble.as_deref(),
            proxies: self.proxies,
            order: self.order.clone(),
            deploy_image: self.deploy_image.clone(),
            before: &self.conditions,
        };
        let now = match said.written() {
            Ok(now) => now,
            Err(why) => {
                self.fail(why);
                return true;
            }
        };
        if !self.is_due(&now) {
            return true;
        }
        self.write(now).await
    }

    fn is_due(&self, now: &RolloutStatus) -> bool {
        self.written.as_ref().is_none_or(|(at, before)| {
            is_news(before, now) || !now.phase.is_final() && at.elapsed() >= FIGURES && before != now
        })
    }

    async fn write(&mut self, now: RolloutStatus) -> bool {
        let Ok(mut status) = serde_json::to_value(&now) else {
            return true;
        };
        // What is left out of a merge stays: what is gone must be said.
        for key in ["order", "deployImage", "checks", "state"] {
            if status.get(key).is_none() {
                status[key] = Value::Null;
            }
        }
        match self
            .hub
            .server
            .merge_status(Kind::Rollout, &self.key, &json!({ "status": status }))
            .await
        {
            Ok(object) => {
                self.hub.world.learn(Kind::Rollout, &object);
                self.conditions.clone_from(&now.conditions);
                self.written = Some((Instant::now(), now));
                true
            }
            Err(e) if is_absent(&e) => true,
            Err(e) => {
                self.fail(format!("the status is not written: {}", told(&e)));
                false
            }
        }
    }

    /// Takes an order away that has been answered; one that was written meanwhile stays.
    async fn obeyed(&mut self, known: &rollout::Known) {
        let Some(asked) = &known.asked else { return };
        let Some(now) = self
            .hub
            .world
            .rollout(&self.key)
            .filter(|r| r.asked.as_ref() == Some(asked))
        else {
            return;
        };
        let prefix = &self.hub.world.prefix;
        let (order, by) = (format!("{prefix}{ORDER}"), format!("{prefix}{CHANGED_BY}"));
        let body = json!({ "metadata": {
            "resourceVersion": now.version.to_string(),
            "annotations": { order: null, by: null },
        }});
        match self.hub.server.merge(Kind::Rollout, &self.key, &body).await {
            Ok(object) => self.hub.world.learn(Kind::Rollout, &object),
            Err(e) if is_conflict(&e) || is_absent(&e) => {}
            Err(e) => self.fail(format!("the order is not taken away: {}", told(&e))),
        }
    }
}
