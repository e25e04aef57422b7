//! What the server remembers: objects by kind, one counter of revisions, and a window of changes for watches.

use super::failure::Failure;
use super::kinds::{Kinds, Resource};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use tokio::sync::watch;

/// Namespace (empty for cluster kinds) and name.
pub(super) type Key = (String, String);

/// Changes kept for watches that come late; older ones answer 410.
const WINDOW: usize = 20_000;

/// All objects.
pub(super) struct Store {
    pub(super) revision: u64,
    pub(super) kinds: Kinds,
    shelves: BTreeMap<Resource, Shelf>,
    /// Service addresses handed out.
    pub(super) addresses: BTreeSet<String>,
}

/// The objects of one kind and what happened to them.
pub(super) struct Shelf {
    pub(super) objects: BTreeMap<Key, Arc<Value>>,
    log: VecDeque<Change>,
    /// Changes up to this revision are forgotten.
    forgotten: u64,
    bell: watch::Sender<u64>,
}

/// One change.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) revision: u64,
    /// The object after the change; as it last was when it is gone.
    pub(super) object: Arc<Value>,
    pub(super) before: Option<Arc<Value>>,
    pub(super) gone: bool,
}

impl Store {
    pub(super) fn new() -> Store {
        Store {
            revision: 1,
            kinds: Kinds::builtin(),
            shelves: BTreeMap::new(),
            addresses: BTreeSet::new(),
        }
    }

    pub(super) fn get(&self, resource: &Resource, key: &Key) -> Option<Arc<Value>> {
        self.shelves.get(resource)?.objects.get(key).cloned()
    }

    /// Objects after `after`, in the order of their keys; one namespace, or all.
    pub(super) fn scan<'a>(
        &'a self,
        resource: &Resource,
        namespace: Option<&'a str>,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> + use<'a> {
        let start = match (after, namespace) {
            (Some(key), _) => Bound::Excluded(key.clone()),
            (None, Some(namespace)) => Bound::Included((namespace.to_owned(), String::new())),
            (None, None) => Bound::Unbounded,
        };
        let objects = self
            .shelves
            .get(resource)
            .map(|shelf| shelf.objects.range((start, Bound::Unbounded)));
        objects
            .into_iter()
            .flatten()
            .take_while(move |(key, _)| namespace.is_none_or(|namespace| key.0 == namespace))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Resource, &Key, &Arc<Value>)> {
        self.shelves.iter().flat_map(|(resource, shelf)| {
            shelf
                .objects
                .iter()
                .map(move |(key, object)| (resource, key, object))
        })
    }

    /// Stores the object under a new revision and tells the watches.
    pub(super) fn put(&mut self, resource: &Resource, key: Key, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let object = Arc::new(object);
        let revision = self.revision;
        let shelf = self.shelf(resource);
        let before = shelf.objects.insert(key, object.clone());
        shelf.tell(Change {
            revision,
            object: object.clone(),
            before,
            gone: false,
        });
        object
    }

    pub(super) fn remove(&mut self, resource: &Resource, key: &Key) -> Option<Arc<Value>> {
        let before = self.shelf(resource).objects.remove(key)?;
        self.revision += 1;
        let mut last = (*before).clone();
        last["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let object = Arc::new(last);
        let revision = self.revision;
        self.shelf(resource).tell(Change {
            revision,
            object: object.clone(),
            before: Some(before),
            gone: true,
        });
        Some(object)
    }

    pub(super) fn listen(&mut self, resource: &Resource) -> watch::Receiver<u64> {
        self.shelf(resource).bell.subscribe()
    }

    /// Changes after `since`, at most `limit` of them.
    pub(super) fn changes(
        &self,
        resource: &Resource,
        since: u64,
        limit: usize,
    ) -> Result<Vec<Change>, Failure> {
        let Some(shelf) = self.shelves.get(resource) else {
            return Ok(Vec::new());
        };
        if since < shelf.forgotten {
            return Err(Failure::gone(since, shelf.forgotten));
        }
        let first = shelf.log.partition_point(|change| change.revision <= since);
        Ok(shelf.log.range(first..).take(limit).cloned().collect())
    }

    /// Forgets all changes, as a compaction does.
    pub(super) fn compact(&mut self) {
        self.revision += 1;
        for shelf in self.shelves.values_mut() {
            shelf.log.clear();
            shelf.forgotten = self.revision;
        }
    }

    /// Removes all objects of a kind that is no longer served.
    pub(super) fn empty(&mut self, resource: &Resource) {
        let keys: Vec<Key> = self
            .scan(resource, None, None)
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.remove(resource, &key);
        }
    }

    fn shelf(&mut self, resource: &Resource) -> &mut Shelf {
        self.shelves.entry(resource.clone()).or_insert_with(Shelf::new)
    }
}

impl Shelf {
    fn new() -> Shelf {
        let bell = watch::Sender::new(0);
        Shelf {
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            forgotten: 0,
            bell,
        }
    }

    fn tell(&mut self, change: Change) {
        let revision = change.revision;
        self.log.push_back(change);
        if self.log.len() > WINDOW {
            self.forgotten = self.log.pop_front().map_or(self.forgotten, |old| old.revision);
        }
        self.bell.send_replace(revision);
    }
}
