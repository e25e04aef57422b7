//! Notifications: each receiver has a queue beside the turns, in order, retried until delivered or too old.
//!
//! A turn only puts a message into a queue. What is not delivered yet outlives a restart where there is a folder.

mod lane;
mod letter;

pub(crate) use letter::Words;

use contract::{policy::Notify, release::Decision};
use lane::Lane;
use letter::Letter;
use prometheus::IntCounterVec;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// Environment variable with a key that signs notifications, so that receivers need not know the admin token.
const KEY: &str = "SERIN_NOTIFY_KEY";

/// What counts what became of messages: one label, the outcome.
pub(crate) type Outcomes = IntCounterVec;

/// All receivers of one controller.
pub(crate) struct Courier {
    lanes: BTreeMap<(String, String), Arc<Lane>>,
    outcomes: Outcomes,
    folder: Option<PathBuf>,
}

impl std::fmt::Debug for Courier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Courier({} receivers)", self.lanes.len())
    }
}

impl Courier {
    /// Queues are kept in `folder`, if there is one.
    pub fn new(outcomes: Outcomes, folder: Option<PathBuf>) -> Courier {
        Courier {
            lanes: BTreeMap::new(),
            outcomes,
            folder,
        }
    }

    /// Goes on with what an earlier process has left for these receivers.
    pub fn resume(&mut self, service: &str, receivers: &[Notify], key: &str) {
        if self.folder.is_some() {
            for receiver in receivers {
                self.lane(service, receiver, key).wake();
            }
        }
    }

    /// Queues a decision for each receiver that wants it. Never waits.
    pub fn tell(&mut self, receivers: &[Notify], words: &Words<'_>, key: &str) {
        let decision: &Decision = words.decision;
        let service = words.identity();
        for receiver in receivers.iter().filter(|r| r.wants(decision.from, decision.to)) {
            let lane = self.lane(&service, receiver, key);
            lane.put(Letter::new(receiver, words));
            lane.wake();
        }
    }

    fn lane(&mut self, service: &str, receiver: &Notify, key: &str) -> Arc<Lane> {
        let key = std::env::var(KEY)
            .ok()
            .filter(|k| !k.is_empty())
            .unwrap_or_else(|| key.to_owned());
        let (outcomes, folder) = (self.outcomes.clone(), self.folder.clone());
        let name = (service.to_owned(), receiver.name.clone());
        let lane = self.lanes.entry(name).or_insert_with(|| {
            let file = folder.map(|f| f.join(format!("{service}.{}.notify.json", receiver.name)));
            Arc::new(Lane::open(service, file, outcomes))
        });
        lane.aim(receiver.clone(), key);
        lane.clone()
    }
}

/// Counters that nobody reads, and those of [`contract::names::METRIC_NOTIFICATIONS`] alike.
pub(crate) fn outcomes() -> Result<Outcomes, prometheus::Error> {
    let name = contract::names::METRIC_NOTIFICATIONS;
    let opts = prometheus::Opts::new(name, contract::metrics::help(name));
    IntCounterVec::new(opts, &["outcome"])
}
