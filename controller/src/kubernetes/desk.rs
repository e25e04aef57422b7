//! One Rollout under way: observe, decide, act, save.

use super::{
    Hub,
    api::Key,
    deploy::Patience,
    ears::{Ears, Heard},
    events::Note,
    hands::{Change, Hands},
    pods::Pods,
    rollout,
    sight::{self, Sight},
};
use crate::{gates::Gates, measure::Measures, probe::Errands};
use contract::{
    names::ORDER,
    policy::Smoke,
    release::{Command, Phase},
    rollout::{Condition, OrderStatus, Proxies, RolloutStatus},
};
use engine::{Action, Hand, Handover, Observation, Order, Readiness, State, Step, Workloads};
use serde_json::Value;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::Notify, time::Instant};

/// Time between two writes of the status while nothing but figures changes.
pub(super) const FIGURES: Duration = Duration::from_secs(30);
/// Time until what could not be done or written is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(500);
/// Who aborts when the Rollout is deleted.
const DELETION: &str = "the deletion of the Rollout";
/// How the answer to an order begins that is still to be obeyed.
const PUT_OFF: &str = "not done yet, and still asked for: ";
/// Longest wait for the way back when a Rollout is deleted.
pub(super) const LETTING_GO: Duration = Duration::from_secs(330);
/// Time for proxies to hear of a weight, where nobody waits for their answer.
pub(super) const HEARSAY: Duration = Duration::from_secs(5);

/// One Rollout.
pub(super) struct Desk {
    pub(super) key: Key,
    pub(super) hub: Arc<Hub>,
    pub(super) news: Arc<Notify>,
    pub(super) state: State,
    pub(super) sight: Option<Sight>,
    pub(super) ears: Ears,
    pub(super) errands: Errands,
    pub(super) measures: Measures,
    pub(super) gates: Gates,
    pub(super) pods: Option<Pods>,
    pub(super) order: Option<OrderStatus>,
    pub(super) deploy_image: Option<String>,
    pub(super) conditions: Vec<Condition>,
    pub(super) written: Option<(Instant, RolloutStatus)>,
    pub(super) proxies: Proxies,
    /// What somebody should mend; the last failure of an act.
    pub(super) trouble: Option<String>,
    pub(super) failure: Option<String>,
    pub(super) told: Vec<String>,
    /// Whether it was the weight that could not be set.
    pub(super) urgent: bool,
    pub(super) failing: Patience,
    pub(super) deploying: Patience,
    /// Why the image that is asked for is not there yet.
    pub(super) undeployed: Option<String>,
    pub(super) leaving: Option<Instant>,
    /// When a deletion has sent everybody to stable without the engine.
    pub(super) sent_home: Option<Instant>,
}

/// What comes after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another turn, at the latest then.
    In(Duration),
    /// Nothing until something changes.
    Idle,
    /// The Rollout is gone.
    Gone,
}

impl Desk {
    /// Goes on from what the status says.
    pub async fn open(hub: &Arc<Hub>, key: &Key, known: &rollout::Known, news: Arc<Notify>) -> Desk {
        let decisions = match rollout::unpacked(&known.saved.state) {
            Err(_) if !known.saved.state.is_empty() => hub.decisions(key).await,
            _ => Vec::new(),
        };
        let (state, note) = rollout::restored(&known.saved.state, || decisions);
        if let Some(note) = note {
            hub.events
                .post(known.reference(key), Note::warning("StateDamaged", note));
        }
        Desk {
            key: key.clone(),
            hub: hub.clone(),
            news,
            state,
            sight: None,
            ears: Ears::default(),
            errands: Errands::default(),
            measures: Measures::default(),
            gates: Gates::default(),
            pods: None,
            order: known.saved.order.clone(),
            deploy_image: known.saved.deploy_image.clone(),
            conditions: known.saved.conditions.clone(),
            written: (!known.saved.conditions.is_empty()).then(|| (Instant::now(), known.saved.clone())),
            proxies: Proxies::default(),
            trouble: None,
            failure: None,
            told: Vec::new(),
            urgent: false,
            failing: Patience::default(),
            deploying: Patience::default(),
            undeployed: None,
            leaving: None,
            sent_home: None,
        }
    }

    /// One turn.
    pub async fn turn(&mut self) -> Next {
        let Some(known) = self.hub.world.rollout(&self.key) else {
            return Next::Gone;
        };
        if known.deleting && !known.is_held() {
            return Next::Gone;
        }
        (self.failure, self.urgent) = (None, false);
        if let Ok(spec) = &known.spec {
            let things = sight::things(&self.hub.world, &self.key, spec);
            self.hub.world.concern(&self.key, things);
        }
        if !known.deleting && !known.is_held() {
            self.hold(&known).await;
        }
        // Proxies wait for their Secret; it is read once, and a failure is told when evidence is asked for.
        let _ = self
            .hub
            .secrets
            .of(&self.hub.server, &self.key.namespace, false)
            .await;
        self.look(&known);
        let step = self.step(&known).await;
        if let (Some(told), Some(step)) = (&self.hub.told, &step) {
            told.turn(&self.key, step, self.trouble.as_deref());
        }
        self.deploy(&known, step.as_ref()).await;
        if known.deleting && self.let_go(&known, step.as_ref()).await {
            return Next::Gone;
        }
        self.after(&known, step.as_ref()).await
    }

    /// Looks at the cluster. What cannot be seen leaves the last sight as the plan.
    fn look(&mut self, known: &rollout::Known) {
        match Sight::of(&self.hub.world, &self.key, known) {
            Ok(sight) => {
                self.trouble = sight.table.as_ref().err().cloned();
                if sight.plan.handover == Handover::Copy
                    && let Some(why) = sight::in_the_way(&self.hub.world, &self.key, &sight.spec)
                {
                    self.warn(known, "NeedsMending", why);
                }
                self.sight = Some(sight);
            }
            Err(why) => {
                self.trouble = Some(why);
                if self.hub.world.mover(&self.key).is_some() {
                    self.sight = None;
                }
                if let Some(sight) = &mut self.sight {
                    sight.table = Err("unknown".to_owned());
                    sight.is_current = false;
                }
            }
        }
        if let Some(why) = self.trouble.clone() {
            self.warn(known, "NeedsMending", why);
        }
    }

    /// A warning, once.
    pub(super) fn warn(&mut self, known: &rollout::Known, reason: &'static str, text: String) {
        if !self.told.contains(&text) {
            tracing::warn!(rollout = %self.key, "{text}");
            self.hub
                .events
                .post(known.reference(&self.key), Note::warning(reason, text.clone()));
            self.told.push(text);
        }
    }

    pub(super) fn hands<'a>(&'a self, known: &'a rollout::Known, sight: &'a Sight) -> Hands<'a> {
        Hands {
            server: &self.hub.server,
            world: &self.hub.world,
            key: &self.key,
            rollout: known,
            sight,
        }
    }

    async fn step(&mut self, known: &rollout::Known) -> Option<Step> {
        let Some(sight) = self.sight.clone() else {
            self.put_off(known);
            return None;
        };
        let (asked, refused) = self.asked(known);
        let mut orders: Vec<Order> = asked.iter().map(|(_, order)| order.clone()).collect();
        if known.deleting && self.leaving.is_none() && !self.state.phase().is_final() {
            let who = DELETION.to_owned();
            orders.push(Order {
                command: Command::Abort,
                who,
                why: None,
            });
        }
        orders.extend(self.superseded(known, &sight));
        let seen = self.observe(known, &sight, orders).await;
        let step = engine::step(&sight.plan, self.state.clone(), &seen);
        for action in &step.actions {
            if !self.hub.leads() {
                return None;
            }
            if let Err(why) = self.act(known, &sight, action).await {
                self.urgent |= matches!(action, Action::SetSplit { .. });
                self.fail(why);
            }
        }
        // A hand of this turn may just have taken the pods away, and made the mark true.
        let is_handled = step.actions.iter().any(|a| matches!(a, Action::Hand(_)));
        if sight.is_mismarked()
            && !is_handled
            && self.hub.leads()
            && let Err(why) = self.hands(known, &sight).hand(Hand::Raise).await
        {
            self.fail(why);
        }
        if known.deleting {
            self.leaving.get_or_insert_with(Instant::now);
        }
        if let Some(answer) = refused {
            self.order = Some(answer);
        }
        if let Some((id, order)) = asked {
            let answer = step.answers.first().cloned().unwrap_or(Ok(()));
            self.order = Some(answered(id, &order, answer));
        }
        self.hub.journal(&self.key, &step.journal);
        self.state = step.state.clone();
        Some(step)
    }

    /// What cannot be done as long as nothing can be seen is answered, and stays asked for.
    fn put_off(&mut self, known: &rollout::Known) {
        let (asked, refused) = self.asked(known);
        let why = self.trouble.clone().unwrap_or_default();
        let later = asked.map(|(id, _)| OrderStatus {
            id,
            done: false,
            answer: format!("{PUT_OFF}{why}"),
        });
        self.order = later.or(refused).or(self.order.take());
    }

    /// The order that the Rollout carries, unless it was taken up before.
    fn asked(&self, known: &rollout::Known) -> (Option<(String, Order)>, Option<OrderStatus>) {
        let Some(asked) = &known.asked else {
            return (None, None);
        };
        match asked.order() {
            Ok((id, _)) if is_answered(self.order.as_ref(), &id) => (None, None),
            Ok(order) => (Some(order), None),
            Err(why) => {
                let answer = format!("the annotation {}{ORDER} {why}", self.hub.world.prefix);
                (
                    None,
                    Some(OrderStatus {
                        id: String::new(),
                        done: false,
                        answer,
                    }),
                )
            }
        }
    }

    async fn observe(&mut self, known: &rollout::Known, sight: &Sight, orders: Vec<Order>) -> Observation {
        self.errands.turn_to(&sight.plan.canary.hash);
        self.measures.turn_to(&sight.plan);
        self.gates.turn_to(&sight.plan.canary.hash);
        self.watch_pods(sight);
        let now = unix_now();
        let heard = self.listen(known, sight, now).await;
        self.proxies = heard.counts;
        // While pages were waited for, somebody may have changed the weight.
        let table = match self.hub.world.service(&self.key.beside(&sight.spec.service)) {
            Some(service) if self.trouble.is_none() => {
                service.table(&sight.spec.service, &self.hub.world.prefix).ok()
            }
            _ => sight.table.clone().ok(),
        };
        Observation {
            now,
            table,
            proxies: heard.proxies,
            readiness: self.readiness(sight),
            smoke: self.errands.smoked(),
            checks: self.measures.checked(now),
            orders,
            gates: self.gates.answered(),
            workloads: self.workloads(sight),
            room: sight.room(),
        }
    }

    /// A way back needs them also with annotations that cannot be read. Stable gets no new version then: the annotations
    /// may be somebody's way to say no.
    fn workloads(&self, sight: &Sight) -> Option<Workloads> {
        let goes_in = self.state.phase() == Phase::Promoting && sight.stable.hash != sight.plan.canary.hash;
        let is_seen = sight.table.is_ok() || sight.fault().is_some() && !goes_in;
        is_seen.then(|| sight.workloads())
    }

    async fn listen(&mut self, known: &rollout::Known, sight: &Sight, now: f64) -> Heard {
        if self.state.phase().is_final() && !known.deleting {
            self.ears = Ears::default();
            return Heard::default();
        }
        let service = self.key.beside(&sight.spec.service);
        let pods = self.hub.world.proxies(&service);
        let secrets = (&self.hub.secrets, &self.hub.server);
        let heard = self.ears.listen(secrets, &service, &pods, &self.state, now).await;
        self.hub.server.meter.deaf.inc_by(heard.failures);
        for fault in &heard.rejected {
            self.warn(known, "ConfigRejected", fault.to_string());
        }
        heard
    }

    /// The canary's pods are looked at while it starts.
    fn watch_pods(&mut self, sight: &Sight) {
        let wanted = matches!(self.state.phase(), Phase::Starting | Phase::Verifying);
        let Some(canary) = sight.canary.as_ref().filter(|_| wanted) else {
            self.pods = None;
            return;
        };
        let labels = canary.known.matched();
        if !self.pods.as_ref().is_some_and(|p| p.are(&labels)) {
            let news = self.news.clone();
            self.pods = Some(Pods::watch(&self.hub.server, &self.key.namespace, labels, news));
        }
    }

    fn readiness(&self, sight: &Sight) -> Readiness {
        let Some(canary) = &sight.canary else {
            return Readiness::Unknown;
        };
        let counts = &canary.known.counts;
        if counts.settled && counts.ready > 0 {
            return Readiness::Ready;
        }
        let why = self
            .pods
            .as_ref()
            .and_then(Pods::trouble)
            .or_else(|| counts.stuck.clone());
        let why = why.map_or_else(String::new, |w| format!(": {w}"));
        Readiness::NotReady(format!("{} of {} pods ready{why}", counts.ready, counts.wanted))
    }

    pub(super) async fn act(
        &mut self,
        known: &rollout::Known,
        sight: &Sight,
        action: &Action,
    ) -> Result<(), String> {
        match action {
            Action::SetSplit {
                split,
                tracks,
                force,
                cause,
            } => {
                let change = Change {
                    split: *split,
                    tracks: *tracks,
                    force: *force,
                    cause,
                };
                let set = self.hands(known, sight).set(&change).await;
                set.map_err(|why| format!("the weight {split} is not in force: {why}"))
            }
            Action::Probe => Ok(()),
            Action::Smoke(open) => {
                self.errands.smoke(&self.endpoints(sight), requests(sight, open));
                Ok(())
            }
            Action::Measure(due) => {
                self.measures.ask(&sight.plan, due);
                Ok(())
            }
            Action::Ask {
                gate,
                question,
                intent,
            } => self.ask(sight, *gate, question, intent).await,
            Action::Hand(hand) => self.hands(known, sight).hand(*hand).await,
            Action::Record(recorded) => {
                let decision = &recorded.decision;
                tracing::info!(rollout = %self.key, from = %decision.from, to = %decision.to, weight = %decision.weight, "{}", decision.reason);
                self.hub
                    .events
                    .post(known.reference(&self.key), Note::of(decision));
                self.hub.server.meter.decision(&decision.to.to_string());
                if let Some(audit) = &self.hub.audit {
                    audit.append(&self.key, &recorded.explained());
                }
                Ok(())
            }
        }
    }

    pub(super) fn fail(&mut self, why: String) {
        tracing::warn!(rollout = %self.key, "{why}");
        self.failure = Some(why);
    }
}

/// Plain words have no identity of their own: each writing of one is another order.
fn is_answered(last: Option<&OrderStatus>, id: &str) -> bool {
    let is_word = serde_json::from_value::<Command>(Value::String(id.to_owned())).is_ok();
    !is_word && last.is_some_and(|o| o.id == id && !o.answer.starts_with(PUT_OFF))
}

fn answered(id: String, order: &Order, answer: Result<(), String>) -> OrderStatus {
    OrderStatus {
        id,
        done: answer.is_ok(),
        answer: answer.err().unwrap_or_else(|| format!("done for {}", order.who)),
    }
}

fn requests(sight: &Sight, open: &[usize]) -> Vec<(usize, Smoke)> {
    let smoke = &sight.plan.policy.verify.smoke;
    open.iter()
        .filter_map(|i| Some((*i, smoke.get(*i)?.clone())))
        .collect()
}

pub(super) fn unix_now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_was_put_off_is_still_to_be_obeyed() {
        let last = |id: &str, answer: &str| OrderStatus {
            id: id.into(),
            done: false,
            answer: answer.into(),
        };
        assert!(!is_answered(None, "7"));
        assert!(is_answered(Some(&last("7", "there is no canary")), "7"));
        assert!(!is_answered(Some(&last("7", "there is no canary")), "8"));
        let put_off = format!("{PUT_OFF}there is no Service echo");
        assert!(!is_answered(Some(&last("7", &put_off)), "7"));
        assert!(!is_answered(Some(&last("abort", "done for ann")), "abort"));
    }
}
