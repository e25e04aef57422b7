//! Reads: get, list in pages, and watches.

use super::ask::Ask;
use super::failure::Failure;
use super::select::Selector;
use super::store::{Change, Key, Store};
use super::{State, events, table};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, Interval};

/// The objects that a list found, and what the next page needs.
pub(super) struct Page {
    pub(super) objects: Vec<Arc<Value>>,
    revision: u64,
    next: Option<String>,
    remaining: usize,
}

/// How often a watch hears that nothing happened; real servers say so about once a minute.
const BOOKMARK: Duration = Duration::from_secs(10);

/// Changes taken from the store at once.
const BATCH: usize = 256;

pub(super) fn selector(ask: &Ask) -> Result<Selector, Failure> {
    let mut fields = ask.query.get("fieldSelector").to_owned();
    if let Some(name) = &ask.name {
        fields = format!("metadata.name={name}");
    }
    Selector::parse(ask.query.get("labelSelector"), &fields)
}

/// One page, in the order of keys. All pages of a list show the revision of the first, so that a watch
/// from there misses nothing.
pub(super) fn list(store: &Store, ask: &Ask) -> Result<Page, Failure> {
    let selector = selector(ask)?;
    let limit = usize::try_from(ask.query.number("limit")?.unwrap_or_default()).unwrap_or_default();
    let (revision, after) = position(store, ask)?;
    let resource = ask.kind.shelf();
    let found = store.scan(&resource, ask.namespace.as_deref(), after.as_ref());
    let mut found = found.filter(|(_, object)| selector.matches(object));
    let limit = if limit == 0 { usize::MAX } else { limit };
    let page: Vec<(&Key, &Arc<Value>)> = found.by_ref().take(limit).collect();
    let remaining = found.count();
    let next = page
        .last()
        .filter(|_| remaining > 0)
        .map(|(key, _)| token(revision, key));
    Ok(Page {
        objects: page.into_iter().map(|(_, object)| object.clone()).collect(),
        revision,
        next,
        remaining,
    })
}

impl Page {
    /// The page as a `...List`, written without copying the objects.
    pub(super) fn written(&self, ask: &Ask) -> Bytes {
        let kind = &ask.kind;
        let head = json!({"kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(), "metadata": self.metadata()});
        let mut text = head.to_string();
        text.pop();
        text.push_str(",\"items\":[");
        for (index, object) in self.objects.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            text.push_str(&events::shown(kind, object).to_string());
        }
        text.push_str("]}");
        text.into()
    }

    pub(super) fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if let Some(next) = &self.next {
            metadata["continue"] = next.clone().into();
            metadata["remainingItemCount"] = self.remaining.into();
        }
        metadata
    }
}

/// Where a page begins: the revision that the list shows, and the key after which to go on.
fn position(store: &Store, ask: &Ask) -> Result<(u64, Option<Key>), Failure> {
    let token = ask.query.get("continue");
    if token.is_empty() {
        return Ok((store.revision, None));
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let parsed = bytes.and_then(|bytes| serde_json::from_slice::<(u64, String, String)>(&bytes).ok());
    let (revision, namespace, name) = parsed.ok_or_else(|| Failure::bad("continue key is not valid"))?;
    store.changes(&ask.kind.shelf(), revision, 0)?;
    Ok((revision, Some((namespace, name))))
}

fn token(revision: u64, (namespace, name): &Key) -> String {
    URL_SAFE_NO_PAD.encode(json!([revision, namespace, name]).to_string())
}

/// A running watch: a stream of lines.
pub(super) struct Watch {
    state: Arc<State>,
    ask: Ask,
    selector: Selector,
    since: u64,
    ready: VecDeque<String>,
    bell: watch::Receiver<u64>,
    cut: watch::Receiver<u64>,
    until: Instant,
    tick: Interval,
    headed: bool,
    over: bool,
}

impl Watch {
    /// Opens the watch, with what is there already if the caller asked for that.
    pub(super) fn open(state: &Arc<State>, ask: Ask) -> Result<Watch, Failure> {
        let selector = selector(&ask)?;
        let seconds = ask.query.number("timeoutSeconds")?.unwrap_or(1800);
        let mut store = state.store();
        let wanted = ask.query.number("resourceVersion")?.unwrap_or_default();
        let initial =
            wanted == 0 && ask.query.get("sendInitialEvents") != "false" || ask.query.is("sendInitialEvents");
        let bell = store.listen(&ask.kind.shelf());
        let now = Instant::now();
        let mut watch = Watch {
            state: state.clone(),
            selector,
            since: if initial { store.revision } else { wanted },
            ready: VecDeque::new(),
            bell,
            cut: state.cut.subscribe(),
            until: now + Duration::from_secs(seconds.min(86_400)),
            tick: tokio::time::interval_at(now + BOOKMARK, BOOKMARK),
            headed: false,
            over: false,
            ask,
        };
        if initial {
            watch.begin(&store);
        } else {
            store.changes(&watch.ask.kind.shelf(), watch.since, 0)?;
        }
        Ok(watch)
    }

    /// The next line; none when the watch is over; an error when it was cut.
    pub(super) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(Ok(line.into()));
            }
            if self.over {
                return None;
            }
            if self.fill() {
                continue;
            }
            tokio::select! {
                _ = self.bell.changed() => (),
                _ = self.cut.changed() => {
                    self.over = true;
                    return Some(Err(io::Error::other("the watch was cut")));
                }
                _ = self.tick.tick() => self.bookmark(None),
                () = tokio::time::sleep_until(self.until) => self.over = true,
            }
        }
    }

    /// Takes what happened since; whether anything did.
    fn fill(&mut self) -> bool {
        let changes = self
            .state
            .store()
            .changes(&self.ask.kind.shelf(), self.since, BATCH);
        match changes {
            Ok(changes) => {
                self.since = changes.last().map_or(self.since, |change| change.revision);
                let any = !changes.is_empty();
                changes.iter().for_each(|change| self.tell(change));
                any
            }
            Err(failure) => {
                self.ready.push_back(line("ERROR", &failure.status()));
                self.over = true;
                true
            }
        }
    }

    /// A change as this watch's selector sees it: an object may come into sight and leave it.
    fn tell(&mut self, change: &Change) {
        if self
            .ask
            .namespace
            .as_deref()
            .is_some_and(|space| change.object["metadata"]["namespace"] != space)
        {
            return;
        }
        let before = change
            .before
            .as_ref()
            .is_some_and(|before| self.selector.matches(before));
        let after = !change.gone && self.selector.matches(&change.object);
        let name = match (before, after) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return,
        };
        self.push(name, &change.object);
    }

    fn begin(&mut self, store: &Store) {
        let resource = self.ask.kind.shelf();
        let namespace = self.ask.namespace.clone();
        for (_, object) in store.scan(&resource, namespace.as_deref(), None) {
            if self.selector.matches(object) {
                self.push("ADDED", object);
            }
        }
        if self.ask.query.is("sendInitialEvents") {
            self.bookmark(Some(json!({"k8s.io/initial-events-end": "true"})));
        }
    }

    /// Says up to which revision the watcher knows everything.
    fn bookmark(&mut self, annotations: Option<Value>) {
        if !self.ask.query.is("allowWatchBookmarks") {
            return;
        }
        let kind = &self.ask.kind;
        let mut object = json!({
            "kind": kind.kind, "apiVersion": kind.api_version(),
            "metadata": {"resourceVersion": self.since.to_string(), "creationTimestamp": null},
        });
        if let Some(annotations) = annotations {
            object["metadata"]["annotations"] = annotations;
        }
        self.ready.push_back(line("BOOKMARK", &object));
    }

    fn push(&mut self, name: &str, object: &Arc<Value>) {
        let shown = if table::wanted(&self.ask) {
            let head = !std::mem::replace(&mut self.headed, true);
            line(name, &table::one(&self.ask, object, head))
        } else {
            line(name, &events::shown(&self.ask.kind, object))
        };
        self.ready.push_back(shown);
    }
}

fn line(name: &str, object: &Value) -> String {
    format!("{{\"type\":\"{name}\",\"object\":{object}}}\n")
}
