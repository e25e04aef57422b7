//! How all Rollouts stand, as this controller can tell: those that it has under way as of their last turn, the others as
//! their status says. And orders of the page, which go the way of everybody's: by the Rollout's annotation.

use super::{
    Hub,
    api::{Key, Kind, told as problem},
    desk::unix_now,
    evidence::random,
    rollout,
};
use crate::{
    admin::{Ask, Handler, Known},
    course::{Courses, Decided, Recorder},
    store::{Recent, Records, Shelf},
};
use contract::{
    names::{CHANGED_BY, ORDER},
    release::Status,
    rollout::Ordered,
};
use engine::{Action, Grounds, Step};
use serde_json::json;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, timeout},
};

/// Time between two looks at what others have written.
const LOOK: Duration = Duration::from_secs(1);
/// Least time between two looks: many turns are told at once.
const BREATH: Duration = Duration::from_millis(100);
/// Longest wait for the controller that leads to take an order up; shorter than the page's.
const TAKEN_UP: Duration = Duration::from_millis(4500);
/// Time between two looks at whether it has.
const GLANCE: Duration = Duration::from_millis(50);
/// Orders that may wait.
const WAITING: usize = 64;
/// Releases whose course is kept at one time.
const COURSES: usize = 24;
/// As whom the page writes orders.
const MANAGER: &str = "serin-page";

/// What the page is told from.
pub(super) struct Told {
    live: Mutex<HashMap<Key, Live>>,
    news: Notify,
    recent: Recent,
    decided: mpsc::UnboundedSender<Decided>,
    voices: Voices,
    asks: mpsc::Sender<Ask>,
}

struct Live {
    status: Status,
    grounds: Option<Grounds>,
}

struct Voices {
    statuses: watch::Sender<Vec<Status>>,
    grounds: watch::Sender<BTreeMap<String, Grounds>>,
    courses: watch::Sender<Courses>,
}

/// What must run for it.
pub(super) struct Works {
    recorder: Recorder,
    asks: mpsc::Receiver<Ask>,
}

impl Told {
    pub fn new() -> (Arc<Told>, Works) {
        let voices = Voices {
            statuses: watch::Sender::new(Vec::new()),
            grounds: watch::Sender::new(BTreeMap::new()),
            courses: watch::Sender::new(Courses::default()),
        };
        let (decided, decisions) = mpsc::unbounded_channel();
        let (asks, asked) = mpsc::channel(WAITING);
        let recorder = Recorder {
            statuses: voices.statuses.subscribe(),
            grounds: voices.grounds.subscribe(),
            decided: decisions,
            courses: voices.courses.clone(),
            shelf: Shelf::new(None),
            most: COURSES,
        };
        let told = Told {
            live: Mutex::default(),
            news: Notify::new(),
            recent: Recent::default(),
            decided,
            voices,
            asks,
        };
        (
            Arc::new(told),
            Works {
                recorder,
                asks: asked,
            },
        )
    }

    /// What answers calls.
    pub fn handler(&self) -> Handler {
        Handler::of_cluster(Known {
            statuses: self.voices.statuses.subscribe(),
            grounds: self.voices.grounds.subscribe(),
            courses: self.voices.courses.subscribe(),
            records: Records::Memory(self.recent.clone()),
            folder: None,
            asks: self.asks.clone(),
        })
    }

    /// A turn of ours.
    pub fn turn(&self, key: &Key, step: &Step, trouble: Option<&str>) {
        let name = key.to_string();
        let mut status = Status {
            service: name.clone(),
            ..step.status.clone()
        };
        if let Some(trouble) = trouble {
            status.reason = format!("{}; to be mended: {trouble}", status.reason);
        }
        let live = Live {
            status,
            grounds: step.grounds.clone(),
        };
        self.live().insert(key.clone(), live);
        for action in &step.actions {
            if let Action::Record(recorded) = action {
                self.recent.keep(&name, &recorded.explained());
                // Nobody draws any more: the end is near.
                let _ = self.decided.send((name.clone(), recorded.clone()));
            }
        }
        self.news.notify_one();
    }

    /// We have no more to tell of it than its status says.
    pub fn rest(&self, key: &Key) {
        self.live().remove(key);
        self.news.notify_one();
    }

    /// Somebody else leads, or nobody.
    pub fn clear(&self) {
        self.live().clear();
        self.news.notify_one();
    }

    /// The decisions that a Rollout's status keeps are on record too, when a path asks for some.
    pub async fn recall(&self, hub: &Hub, path: &str) {
        let mut parts = path.split('/').skip(2);
        let (Some(namespace), Some(name)) = (parts.next(), parts.next()) else {
            return;
        };
        let key = Key {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        if hub.world.rollout(&key).is_some() {
            self.recent.learn(&key.to_string(), hub.decisions(&key).await);
        }
    }

    /// Tells how all stand, for ever.
    async fn speak(&self, hub: &Hub) {
        loop {
            self.look(hub);
            sleep(BREATH).await;
            let _ = timeout(LOOK, self.news.notified()).await;
        }
    }

    /// Grounds first: whoever hears a status finds the grounds of the same turn.
    fn look(&self, hub: &Hub) {
        let all = hub.world.rollouts();
        let mut live = self.live();
        live.retain(|key, _| all.contains_key(key));
        let grounds = live.iter();
        let grounds = grounds.filter_map(|(key, l)| Some((key.to_string(), l.grounds.clone()?)));
        self.voices.grounds.send_replace(grounds.collect());
        let status = |(key, known): (&Key, &Arc<rollout::Known>)| match live.get(key) {
            Some(live) => live.status.clone(),
            None => of_status(key, known),
        };
        let told: Vec<Status> = all.iter().map(status).collect();
        self.voices.statuses.send_if_modified(|before| {
            let changed = *before != told;
            *before = told;
            changed
        });
    }

    fn live(&self) -> MutexGuard<'_, HashMap<Key, Live>> {
        // Whoever panicked while holding it left whole entries behind.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As its status has it.
fn of_status(key: &Key, known: &rollout::Known) -> Status {
    let mut status = known.saved.shown(&key.to_string());
    if let (Err(why), true) = (&known.spec, status.reason.is_empty()) {
        status.reason.clone_from(why);
    }
    status
}

impl Works {
    /// Keeps courses, tells news and passes orders on, for ever.
    pub async fn run(self, hub: Arc<Hub>, told: Arc<Told>) {
        let mut asks = self.asks;
        let obey = async {
            while let Some(ask) = asks.recv().await {
                tokio::spawn(obey(hub.clone(), ask));
            }
        };
        tokio::join!(self.recorder.run(), told.speak(&hub), obey);
    }
}

/// Writes the annotation that `serin` writes, waits for what comes of it, and tells.
async fn obey(hub: Arc<Hub>, ask: Ask) {
    let key = ask.service.split_once('/').map(|(namespace, name)| Key {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    });
    let Some(key) = key.filter(|key| hub.world.rollout(key).is_some()) else {
        return ask.unknown();
    };
    let order = Ordered {
        id: random().unwrap_or_else(|_| unix_now().to_string()),
        command: ask.order.command.clone(),
        who: format!("{} (on the page)", ask.order.who),
        why: ask.order.why.clone(),
    };
    let answer = match write(&hub, &key, &order).await {
        Ok(()) => taken_up(&hub, &key, &order.id).await,
        Err(why) => Err(why),
    };
    ask.answer(answer);
}

async fn write(hub: &Hub, key: &Key, order: &Ordered) -> Result<(), String> {
    let text = serde_json::to_string(order).map_err(|e| e.to_string())?;
    let prefix = &hub.world.prefix;
    // An earlier author's stamp must not stand beside another's order.
    let body = json!({ "metadata": { "annotations": {
        format!("{prefix}{ORDER}"): text, format!("{prefix}{CHANGED_BY}"): null,
    }}});
    let written = hub.server.order(key, &body, MANAGER).await;
    let object = written.map_err(|e| format!("the order is not written: {}", problem(&e)))?;
    hub.world.learn(Kind::Rollout, &object);
    Ok(())
}

async fn taken_up(hub: &Hub, key: &Key, id: &str) -> Result<Status, String> {
    let until = Instant::now() + TAKEN_UP;
    while Instant::now() < until {
        let known = hub.world.rollout(key).ok_or("the Rollout was deleted")?;
        if let Some(answer) = known.saved.order.as_ref().filter(|o| o.id == id) {
            return match answer.done {
                true => Ok(of_status(key, &known)),
                false => Err(answer.answer.clone()),
            };
        }
        sleep(GLANCE).await;
    }
    Err(
        "the order is written, but no controller has taken it up yet; is one leading? kubectl get lease -A"
            .to_owned(),
    )
}
