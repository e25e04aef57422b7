//! The end of a turn: gates, the finalizer, letting go, and the status, last.

use super::{
    api::{Key, Kind, is_absent, is_conflict, told},
    desk::{AGAIN, Desk, FIGURES, HEARSAY, LETTING_GO, Next},
    hands::{Change, Front},
    rollout,
    save::{Said, is_news},
    service,
    sight::Sight,
};
use crate::{
    gates::{self, Question},
    notify::Words,
};
use contract::{
    Split,
    names::{CHANGED_BY, FINALIZER, ORDER, STABLE_SERVICE},
    release::{Decision, Status},
    rollout::RolloutStatus,
};
use engine::{Action, Step, Tracks};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
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
            ..self.named(Question::of(&gate, &sight.plan))
        };
        self.gates.ask(&hook, question, &credentials.webhook);
        Ok(())
    }

    fn named(&self, question: Question) -> Question {
        Question {
            rollout: self.key.name.clone(),
            namespace: self.key.namespace.clone(),
            ..question
        }
    }

    /// Tells the gates that are only told.
    async fn tell_gates(&self, sight: &Sight, decision: &Decision) {
        for (gate, hook) in gates::told(&sight.plan, decision.to) {
            let secrets = self.hub.secrets.of(&self.hub.server, &self.key.namespace, false);
            if let Ok(credentials) = secrets.await {
                let news = self.named(Question::after(gate, &sight.plan, decision));
                gates::tell(hook, news, &credentials.webhook);
            }
        }
    }

    /// Queues news for whoever is to be told.
    async fn notify(&self, sight: &Sight, decision: &Decision) {
        let receivers = &sight.plan.policy.notify;
        if receivers.is_empty() {
            return;
        }
        let secrets = self.hub.secrets.of(&self.hub.server, &self.key.namespace, false);
        if let Ok(credentials) = secrets.await {
            let words = Words {
                rollout: &self.key.name,
                namespace: &self.key.namespace,
                stable: &sight.plan.stable.name,
                decision,
            };
            self.hub.notify(receivers, &words, &credentials.webhook);
        }
    }

    /// Puts the finalizer on, so that a deletion mid-way can be made good.
    pub(super) async fn hold(&mut self, known: &rollout::Known) {
        let mut finalizers = known.finalizers.clone();
        finalizers.push(FINALIZER.to_owned());
        self.set_finalizers(known, &finalizers).await;
    }

    /// Whether they are as they should be; after a conflict somebody has to come again.
    async fn set_finalizers(&mut self, known: &rollout::Known, finalizers: &[String]) -> bool {
        let body =
            json!({ "metadata": { "finalizers": finalizers, "resourceVersion": known.version.to_string() } });
        match self.hub.server.merge(Kind::Rollout, &self.key, &body).await {
            Ok(now) => {
                self.hub.world.learn(Kind::Rollout, &now);
                true
            }
            Err(e) if is_absent(&e) => true,
            // The next sight of it comes with the version that it has now.
            Err(e) if is_conflict(&e) => false,
            Err(e) => {
                self.fail(format!("the finalizer is not written: {}", told(&e)));
                false
            }
        }
    }

    /// Of a Rollout that is deleted: whether everything is as it should be left, and the object may go.
    pub(super) async fn let_go(&mut self, known: &rollout::Known, step: Option<&Step>) -> bool {
        let is_tidy = match self.fronted(known) {
            Some((key, front)) => self.leave(known, step, &key, &front).await,
            None => true,
        };
        if !is_tidy {
            return false;
        }
        let rest: Vec<String> = known
            .finalizers
            .iter()
            .filter(|f| *f != FINALIZER)
            .cloned()
            .collect();
        self.set_finalizers(known, &rest).await
    }

    /// The Service of the Rollout as it is now, seen or not; none that another Rollout moves.
    fn fronted(&self, known: &rollout::Known) -> Option<(Key, Arc<service::Known>)> {
        if self.hub.world.mover(&self.key).is_some() {
            return None;
        }
        let named = known.spec.as_ref().ok().map(|s| &s.service);
        let name = self.sight.as_ref().map(|s| &s.spec.service).or(named)?;
        let key = self.key.beside(name);
        self.hub.world.service(&key).map(|front| (key, front))
    }

    /// Whether the Service and the workloads may be left. Past all patience, or where nothing can be seen, the weight
    /// alone counts: what was made for the Rollout goes with it, and traffic must not be sent there.
    async fn leave(
        &mut self,
        known: &rollout::Known,
        step: Option<&Step>,
        key: &Key,
        front: &service::Known,
    ) -> bool {
        let late = self.leaving.is_some_and(|since| since.elapsed() > LETTING_GO);
        let Some(sight) = self.sight.clone().filter(|_| !late) else {
            return self.is_stable(key, front).await
                && self.sent_home.is_none_or(|at| at.elapsed() >= HEARSAY);
        };
        let Some(step) = step else { return false };
        if !step.state.phase().is_final() || !self.is_stable(key, front).await {
            return false;
        }
        let tidied = self.hands(known, &sight).tidy().await;
        tidied.map_err(|why| self.fail(why)).is_ok()
    }

    /// Whether all traffic is at the stable Service, as the annotations say; else it is sent there.
    async fn is_stable(&mut self, key: &Key, front: &service::Known) -> bool {
        let prefix = &self.hub.world.prefix;
        if front.is_home(&key.name, prefix) {
            return true;
        }
        let gone = service::previous(&key.name);
        let usual = front.usual(prefix).ok().filter(|[stable, _]| *stable != gone);
        if usual.is_none() && front.get(prefix, STABLE_SERVICE) == Some(&gone) {
            self.fail(format!(
                "the Service {gone} goes with the Rollout; name another one in {}'s annotation {prefix}{STABLE_SERVICE}",
                key.name
            ));
            return false;
        }
        let front = Front {
            key: key.clone(),
            known: front,
            usual: usual.as_ref(),
        };
        let cause = format!("the Rollout {} is deleted", self.key.name);
        let change = Change {
            split: Split::NONE,
            tracks: Tracks::Usual,
            force: true,
            cause: &cause,
        };
        match front.set(&self.hub.server, &self.hub.world, &change).await {
            Ok(()) => self.sent_home = Some(Instant::now()),
            Err(why) => self.fail(format!("the weight 0 is not in force: {why}")),
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
                    self.notify(&sight, &recorded.decision).await;
                }
            }
        }
        let saved = self.save(known, step.map(|s| &s.status)).await;
        // Without a step nothing was obeyed: what is asked for must not get lost.
        if saved && step.is_some() {
            self.obeyed(known).await;
        }
        let is_held = self.hub.world.rollout(&self.key).is_none_or(|r| r.is_held());
        let is_quiet = saved && is_held && self.failure.is_none() && !known.deleting;
        if self.failure.is_none() {
            self.failing.clear();
        }
        match step {
            _ if !is_quiet => Next::In(self.again(known, step, saved)),
            Some(step) if step.state.phase().is_final() && step.actions.is_empty() => Next::Idle,
            Some(step) => Next::In(step.wake),
            None => Next::Idle,
        }
    }

    /// What stands as it is while nothing is at stake is tried less and less often.
    fn again(&mut self, known: &rollout::Known, step: Option<&Step>, saved: bool) -> Duration {
        let is_calm = step.is_some_and(|s| s.state.phase().is_final());
        match &self.failure {
            Some(why) if is_calm && saved && !self.urgent && !known.deleting => {
                self.failing.failed(why, Instant::now())
            }
            _ => AGAIN,
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
