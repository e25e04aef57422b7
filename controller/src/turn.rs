//! The loop that all decisions go through: observe, decide, act, save.

use crate::{
    admin::Ask,
    course::Decided,
    gates::{self, Gates, Question},
    measure::{
        Measures,
        scrape::{Reading, Scrape},
    },
    notify::{Courier, Words},
    probe::Errands,
    running::Addresses,
    standalone::{self, Change, Standalone},
    store::Store,
};
use contract::{
    admin::ServiceState,
    policy::Smoke,
    release::{Decision, Status},
};
use engine::{Action, Grounds, Observation, Order, Plan, State, Step, Table};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

/// Time between turns when nothing is known of any service.
const IDLE: Duration = Duration::from_secs(1);

/// One controller for one proxy.
#[derive(Debug)]
pub(crate) struct Turns {
    store: Store,
    scrape: Scrape,
    proxy: Standalone,
    seats: BTreeMap<String, Seat>,
    asks: mpsc::Receiver<Ask>,
    voices: Voices,
    /// What this turn has decided.
    decided: Vec<Decided>,
    /// Whether the last reading of the services failed, so that a failure is logged once.
    deaf: bool,
    /// Policies that were refused and logged.
    refused: BTreeMap<String, String>,
    courier: Courier,
}

/// Where everybody hears how things stand.
#[derive(Debug)]
pub(crate) struct Voices {
    pub statuses: watch::Sender<Vec<Status>>,
    pub grounds: watch::Sender<BTreeMap<String, Grounds>>,
    pub decided: mpsc::UnboundedSender<Decided>,
}

/// One service.
#[derive(Debug)]
struct Seat {
    plan: Plan,
    state: State,
    saved: State,
    table: Option<Table>,
    errands: Errands,
    measures: Measures,
    gates: Gates,
    status: Option<Status>,
    grounds: Option<Grounds>,
    /// The last failure of an act: it is tried four times a second, and told once.
    told: Option<String>,
}

/// What one turn saw, for all services.
struct Sight {
    now: f64,
    reading: Reading,
    asks: Vec<Ask>,
}

impl Turns {
    pub fn new(
        store: Store,
        courier: Courier,
        at: &Addresses,
        asks: mpsc::Receiver<Ask>,
        voices: Voices,
    ) -> Turns {
        Turns {
            store,
            scrape: Scrape::new(at.signals),
            proxy: Standalone::new(at.admin, at.token.clone()),
            seats: BTreeMap::new(),
            asks,
            voices,
            decided: Vec::new(),
            deaf: false,
            refused: BTreeMap::new(),
            courier,
        }
    }

    /// Takes turns until told to stop; then saves.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut asks = Vec::new();
        loop {
            let began = Instant::now();
            let wake = self.turn(std::mem::take(&mut asks)).await;
            tokio::select! {
                _ = sleep_until(began + wake) => {}
                Some(ask) = self.asks.recv() => asks.push(ask),
                _ = &mut stop => break,
            }
        }
        for (name, seat) in &mut self.seats {
            seat.save(&self.store, name);
        }
    }

    /// One turn; how long until the next.
    async fn turn(&mut self, mut asks: Vec<Ask>) -> Duration {
        while let Ok(ask) = self.asks.try_recv() {
            asks.push(ask);
        }
        // 1. Observe: the services and their splits, the counts, the time.
        let since = self.seats.values().filter_map(|s| s.state.since()).min();
        let now = unix_now();
        let (services, reading) = tokio::join!(self.proxy.services(), self.scrape.read(since, now));
        self.know(services, now);
        let mut sight = Sight { now, reading, asks };
        let mut wake = IDLE;
        let names: Vec<String> = self.seats.keys().cloned().collect();
        for name in names {
            wake = wake.min(self.serve(&name, &mut sight).await);
        }
        for ask in sight.asks {
            ask.unknown();
        }
        self.speak();
        wake
    }

    /// All at once: whoever hears a status finds the grounds of the same turn.
    fn speak(&mut self) {
        let grounds = self.seats.iter();
        let grounds = grounds.filter_map(|(name, s)| Some((name.clone(), s.grounds.clone()?)));
        self.voices.grounds.send_replace(grounds.collect());
        let told: Vec<Status> = self.seats.values().filter_map(|s| s.status.clone()).collect();
        self.voices.statuses.send_if_modified(|before| {
            let changed = *before != told;
            *before = told;
            changed
        });
        for decided in self.decided.drain(..) {
            // Nobody draws any more: the end is near.
            let _ = self.voices.decided.send(decided);
        }
    }

    async fn serve(&mut self, name: &str, sight: &mut Sight) -> Duration {
        let Some(seat) = self.seats.get_mut(name) else {
            return IDLE;
        };
        let (mine, others) = std::mem::take(&mut sight.asks)
            .into_iter()
            .partition(|a: &Ask| a.service == name);
        sight.asks = others;
        let mine: Vec<Ask> = mine;
        let orders = mine.iter().map(|a| a.order.clone()).collect();
        let seen = seat.observe(name, sight, orders);
        // 2. Decide.
        let step = engine::step(&seat.plan, seat.state.clone(), &seen);
        // 3. Act, in the order given. What fails is decided anew in the next turn.
        for action in &step.actions {
            let done = seat.act(name, action, &mut self.proxy, &mut self.store).await;
            seat.tell(name, done.err());
            if let Action::Record(recorded) = action {
                let words = Words {
                    rollout: name,
                    namespace: "",
                    stable: &seat.plan.stable.name,
                    decision: &recorded.decision,
                };
                self.courier
                    .tell(&seat.plan.policy.notify, &words, self.proxy.token());
                self.decided.push((name.to_owned(), recorded.clone()));
            }
        }
        // 4. Save, last: a crash repeats a turn, never skips one.
        let (wake, status, answers) = (step.wake, step.status.clone(), step.answers.clone());
        seat.keep(&mut self.store, name, step);
        for (ask, answer) in mine.into_iter().zip(answers) {
            ask.answer(answer.map(|()| status.clone()));
        }
        wake
    }

    /// Takes the services as they are now. Without an answer the plans stay and the tables are unknown.
    fn know(&mut self, services: Result<Vec<ServiceState>, String>, now: f64) {
        let services = match services {
            Ok(services) => services,
            Err(why) => {
                if !std::mem::replace(&mut self.deaf, true) {
                    tracing::warn!("the proxy's admin listener does not tell its services: {why}");
                }
                self.seats.values_mut().for_each(|s| s.table = None);
                return;
            }
        };
        self.deaf = false;
        self.seats
            .retain(|name, _| services.iter().any(|s| s.entry.name == *name));
        for service in &services {
            self.seat(service, now);
        }
    }

    fn seat(&mut self, service: &ServiceState, now: f64) {
        let name = service.entry.name.as_str();
        let plan = match Plan::of(&service.entry) {
            Ok(plan) => plan,
            Err(faults) => return self.refuse(name, contract::fault::listing(&faults)),
        };
        self.refused.remove(name);
        let table = standalone::table(service);
        match self.seats.get_mut(name) {
            Some(seat) => (seat.plan, seat.table) = (plan, table),
            None => {
                let state = self.store.load(name, now);
                self.courier.resume(name, &plan.policy.notify, self.proxy.token());
                self.seats.insert(name.to_owned(), Seat::new(plan, state, table));
            }
        }
    }

    fn refuse(&mut self, name: &str, listing: String) {
        if self.refused.get(name) != Some(&listing) {
            tracing::error!(
                service = name,
                "its policy is refused, the one before stays in force:\n{listing}"
            );
            self.refused.insert(name.to_owned(), listing);
        }
    }
}

impl Seat {
    fn new(plan: Plan, state: State, table: Option<Table>) -> Seat {
        Seat {
            plan,
            saved: state.clone(),
            state,
            table,
            errands: Errands::default(),
            measures: Measures::default(),
            gates: Gates::default(),
            status: None,
            grounds: None,
            told: None,
        }
    }

    fn observe(&mut self, name: &str, sight: &Sight, orders: Vec<Order>) -> Observation {
        self.errands.turn_to(&self.plan.canary.hash);
        self.measures.turn_to(&self.plan);
        self.gates.turn_to(&self.plan.canary.hash);
        Observation {
            now: sight.now,
            table: self.table.clone(),
            proxies: vec![sight.reading.of(name)],
            readiness: self.errands.readiness(),
            smoke: self.errands.smoked(),
            checks: self.measures.checked(sight.now),
            orders,
            gates: self.gates.answered(),
            ..Observation::nothing(sight.now)
        }
    }

    async fn act(
        &mut self,
        name: &str,
        action: &Action,
        proxy: &mut Standalone,
        store: &mut Store,
    ) -> Result<(), String> {
        match action {
            Action::SetSplit {
                split, force, cause, ..
            } => {
                let hash = self.table.as_ref().map(|t| t.hash.as_str());
                let only_if = if *force { None } else { hash };
                let change = Change {
                    service: name,
                    split: *split,
                    only_if,
                    cause,
                };
                let set = proxy.set(&change).await;
                set.map_err(|why| format!("the weight {split} is not in force: {why}"))
            }
            Action::Probe => {
                self.errands.probe(&self.plan.canary.endpoints);
                Ok(())
            }
            Action::Smoke(open) => {
                self.errands
                    .smoke(&self.plan.canary.endpoints, self.requests(open));
                Ok(())
            }
            Action::Measure(due) => {
                self.measures.ask(&self.plan, due);
                Ok(())
            }
            Action::Ask {
                gate,
                question,
                intent,
            } => {
                self.ask(*gate, question, intent, proxy.token());
                Ok(())
            }
            Action::Hand(_) => Ok(()),
            Action::Record(recorded) => {
                let decision = &recorded.decision;
                tracing::info!(service = name, from = %decision.from, to = %decision.to, weight = %decision.weight, "{}", decision.reason);
                self.tell_gates(decision, proxy.token());
                let kept = store.record(name, &recorded.explained());
                kept.map_err(|e| format!("a decision is not in the history: {e}"))
            }
        }
    }

    fn ask(&mut self, gate: usize, question: &str, intent: &str, key: &str) {
        let gate = self.plan.policy.gates.get(gate);
        if let Some((gate, hook)) = gate.and_then(|g| Some((g, g.webhook.as_ref()?))) {
            let question = Question {
                question: question.to_owned(),
                intent: intent.to_owned(),
                phase: self.state.phase().to_string(),
                weight: self
                    .table
                    .as_ref()
                    .map_or_else(String::new, |t| t.split.to_string()),
                ..Question::of(gate, &self.plan)
            };
            self.gates.ask(hook, question, key);
        }
    }

    fn tell_gates(&self, decision: &Decision, key: &str) {
        for (gate, hook) in gates::told(&self.plan, decision.to) {
            gates::tell(hook, Question::after(gate, &self.plan, decision), key);
        }
    }

    fn tell(&mut self, name: &str, failure: Option<String>) {
        if let Some(why) = &failure
            && self.told != failure
        {
            tracing::warn!(service = name, "{why}");
            self.told = failure;
        }
    }

    fn requests(&self, open: &[usize]) -> Vec<(usize, Smoke)> {
        let smoke = &self.plan.policy.verify.smoke;
        open.iter()
            .filter_map(|i| Some((*i, smoke.get(*i)?.clone())))
            .collect()
    }

    /// The log of blocks comes before the state: what stands there twice can be told, and what is missing cannot.
    fn keep(&mut self, store: &mut Store, name: &str, step: Step) {
        let logged = store.journal(name, &step.journal);
        let failure = |e| format!("blocks are not logged, and a replay will miss them: {e}");
        self.tell(name, logged.err().map(failure));
        self.state = step.state;
        self.save(store, name);
        (self.status, self.grounds) = (Some(step.status), step.grounds);
    }

    /// Evidence changes once a second, when a second is published; so this writes about once a second, and whoever
    /// has seen a status can trust that the disk has it.
    fn save(&mut self, store: &Store, name: &str) {
        if self.saved == self.state {
            return;
        }
        match store.save(name, &self.state) {
            Ok(()) => self.saved = self.state.clone(),
            Err(e) => {
                let why = format!("the state is not saved: {e}; a restart would repeat what is decided now");
                self.tell(name, Some(why));
            }
        }
    }
}

/// Unix time, seconds.
pub(crate) fn unix_now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}
