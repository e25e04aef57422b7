//! The one place that changes the table: by the file, by admin calls, by new addresses of a name.

use crate::{
    addresses::Addresses,
    dns::{self, Missing},
    shared::Shared,
    source::{
        file::{self, Loaded},
        overlay::{self, Overlay},
        sealed,
    },
    table::{Route, Table},
    tls::front::Front,
    transport::Transport,
};
use contract::{
    Fault,
    admin::ServiceState,
    annotations::Annotations,
    evidence::Page,
    file::File,
    names::{self, Track},
    routes,
};
use futures_util::future::join_all;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// For so long a new table waits for the addresses of its names.
const LOOKUP: Duration = Duration::from_secs(1);

/// The state behind the table.
#[derive(Debug)]
pub struct Control {
    shared: Arc<Shared>,
    prefix: String,
    /// Where the overlay is kept.
    cache: Option<PathBuf>,
    /// Whether the table comes from a cluster.
    cluster: bool,
    /// What the guard has cut, by service.
    cuts: Mutex<BTreeMap<String, Cut>>,
    state: Mutex<State>,
}

/// A canary that the guard has cut, for as long as this split is in force.
#[derive(Clone, Debug)]
struct Cut {
    hash: String,
    reason: String,
}

#[derive(Debug)]
struct State {
    /// The last good file.
    file: File,
    text: String,
    overlay: Overlay,
    addresses: Addresses,
}

/// What an admin call changes.
#[derive(Clone, Debug, Default)]
pub struct Patch {
    /// Keys with their new values; `None` removes.
    pub keys: BTreeMap<String, Option<String>>,
    /// Who.
    pub actor: String,
    /// Why.
    pub cause: Option<String>,
    /// The hash that must be in force.
    pub if_match: Option<String>,
}

/// Why a patch was not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// There is no such service.
    Unknown,
    /// Another hash is in force.
    Changed(String),
    /// The annotations are those of a Service in a cluster, and are changed there.
    Elsewhere,
    /// The result would be invalid.
    Faults(Vec<Fault>),
}

impl Control {
    /// The control of a process that has loaded its file.
    pub fn new(shared: Arc<Shared>, loaded: Loaded, prefix: String, cache: Option<PathBuf>) -> Control {
        let mut overlay = cache.as_deref().map(overlay::restore).unwrap_or_default();
        overlay.settle(&loaded.file);
        Control {
            shared,
            prefix,
            cache,
            cluster: false,
            cuts: Mutex::default(),
            state: Mutex::new(State {
                file: loaded.file,
                text: loaded.text,
                overlay,
                addresses: Addresses::default(),
            }),
        }
    }

    /// The control of a process whose table comes from a cluster ([`Control::take`]); none is in force yet.
    pub fn of_cluster(shared: Arc<Shared>, prefix: String) -> Control {
        let state = State {
            file: File::default(),
            text: String::new(),
            overlay: Overlay::default(),
            addresses: Addresses::default(),
        };
        Control {
            shared,
            prefix,
            cache: None,
            cluster: true,
            cuts: Mutex::default(),
            state: Mutex::new(state),
        }
    }

    /// Takes the one service of a cluster. True when it changed anything.
    ///
    /// # Errors
    /// Its faults; the last good one stays in force.
    pub fn take(&self, entry: contract::file::ServiceEntry) -> Result<bool, Vec<Fault>> {
        let mut state = self.lock();
        if state.file.service.first() == Some(&entry) {
            return Ok(false);
        }
        let file = File {
            service: vec![entry],
            ..File::default()
        };
        self.apply(&file, &state.overlay, &state.addresses)?;
        state.file = file;
        Ok(true)
    }

    /// Notes what is wrong now with what a service's source says, and reports it when that is new.
    pub fn reject(&self, source: &str, service: &str, faults: Vec<Fault>) {
        if self.shared.fault(service, faults.clone()) && !faults.is_empty() {
            self.refuse(source, Some(service), &faults);
        }
    }

    /// Puts the first table in force.
    ///
    /// # Errors
    /// The faults of file and overlay together.
    pub fn begin(&self) -> Result<(), Vec<Fault>> {
        let state = self.lock();
        if self.apply(&state.file, &state.overlay, &state.addresses).is_ok() {
            return Ok(());
        }
        drop(state);
        // What was set by admin calls does not fit the file any more: the file alone is known to be good.
        tracing::error!("what admin calls had set does not fit the file any more and is forgotten");
        let mut state = self.lock();
        state.overlay = Overlay::default();
        self.apply(&state.file, &state.overlay, &state.addresses)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compiles and publishes.
    fn apply(&self, file: &File, overlay: &Overlay, addresses: &Addresses) -> Result<(), Vec<Fault>> {
        let sources = file::routes(file, overlay, &self.prefix)?;
        let routes = sources
            .into_iter()
            .zip(&file.service)
            .enumerate()
            .map(|(i, (source, entry))| self.route(i, source, entry, addresses))
            .collect::<Result<Vec<_>, _>>()?;
        let entered = routes.into_iter().map(|route| self.enter(route)).collect();
        self.shared.publish(Table::new(entered));
        Ok(())
    }

    fn route(
        &self,
        number: usize,
        source: routes::Route,
        entry: &contract::file::ServiceEntry,
        addresses: &Addresses,
    ) -> Result<Route, Vec<Fault>> {
        let endpoints = Track::BOTH.map(|t| addresses.of(&source.backends(t).endpoints));
        let transport = |track: Track| {
            let (key, backends) = (
                format!("service[{number}].{}", track.name()),
                source.backends(track),
            );
            let names = addresses.names(&backends.endpoints);
            Transport::new(&key, backends, &source.hosts, names, &self.shared.keys.backends)
        };
        let transports = [transport(Track::Stable)?, transport(Track::Canary)?];
        let mut route = Route::compile(source, entry.clone(), endpoints, &self.prefix)?;
        route.transports = transports;
        Ok(route)
    }

    /// Gives a route what its service remembers: only when the whole table is good, because it is about to take force.
    fn enter(&self, mut route: Route) -> Arc<Route> {
        let service = self.shared.services.of(&route.source.service);
        if let Some(cut) = self.cut(&route) {
            route.cut(cut.reason);
        }
        route.epoch = service.epoch(&route.hash, route.rules.split.share());
        route.pods = service.enter(&route.endpoints, self.shared.birth.elapsed().as_secs());
        Arc::new(route)
    }

    /// What the guard has cut of this route. A new split lifts it.
    fn cut(&self, route: &Route) -> Option<Cut> {
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let name = &route.source.service;
        if cuts.get(name).is_some_and(|c| c.hash != route.hash) {
            cuts.remove(name);
            tracing::info!(service = name, "a new split lifts the guard");
        }
        cuts.get(name).cloned()
    }

    /// Cuts the canary's share of a service to nothing while this split is in force.
    pub fn trip(&self, service: &str, hash: &str, reason: String) {
        let cut = Cut {
            hash: hash.to_owned(),
            reason,
        };
        let state = self.lock();
        let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        cuts.insert(service.to_owned(), cut);
        drop(cuts);
        if let Err(faults) = self.apply(&state.file, &state.overlay, &state.addresses) {
            tracing::error!("{}", routes::report("guard", &faults));
        }
    }

    /// Takes a changed file. True when it changed anything.
    ///
    /// # Errors
    /// Its faults; the last good one stays in force.
    pub async fn reload(&self, text: String) -> Result<bool, Vec<Fault>> {
        if self.lock().text == text {
            return Ok(false);
        }
        let loaded = file::parse(text, &self.prefix)?;
        self.resolve(&loaded.file).await;
        let mut state = self.lock();
        if loaded.file.proxy != state.file.proxy {
            tracing::warn!("the [proxy] section has changed; that needs a restart");
        }
        let overlay = state.overlay.after(&state.file, &loaded.file, &self.prefix);
        self.apply(&loaded.file, &overlay, &state.addresses)?;
        (state.file, state.text) = (loaded.file, loaded.text);
        let State { file, addresses, .. } = &mut *state;
        addresses.keep(&file::names(file).collect::<Vec<_>>());
        self.keep(&mut state, overlay);
        Ok(true)
    }

    /// Applies an admin call.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn patch(&self, service: &str, patch: Patch) -> Result<ServiceState, Denied> {
        if self.cluster {
            return Err(Denied::Elsewhere);
        }
        let mut state = self.lock();
        let Some(entry) = state.file.service.iter().find(|s| s.name == service) else {
            return Err(Denied::Unknown);
        };
        let hash = self
            .shared
            .table()
            .service(service)
            .map(|r| r.hash.clone())
            .unwrap_or_default();
        if patch.if_match.is_some_and(|wanted| wanted != hash) {
            return Err(Denied::Changed(hash));
        }
        let faults = self.foreign(patch.keys.keys());
        if !faults.is_empty() {
            return Err(Denied::Faults(faults));
        }
        let mut overlay = state.overlay.clone();
        let by = overlay::key(&self.prefix, names::CHANGED_BY);
        let cause = overlay::key(&self.prefix, names::CHANGE_CAUSE);
        overlay.set(entry, &by, Some(patch.actor));
        overlay.set(entry, &cause, patch.cause);
        for (key, value) in patch.keys {
            overlay.set(entry, &key, value);
        }
        self.apply(&state.file, &overlay, &state.addresses)
            .map_err(Denied::Faults)?;
        self.keep(&mut state, overlay);
        drop(state);
        self.state(service).ok_or(Denied::Unknown)
    }

    /// Keys without our prefix are none of our business, and would only be forgotten.
    fn foreign<'a>(&self, keys: impl Iterator<Item = &'a String>) -> Vec<Fault> {
        keys.filter(|k| !k.starts_with(&self.prefix))
            .map(|k| {
                let remedy = format!("use keys that begin with {}", self.prefix);
                Fault::new(k, "", "is not a key of ours", remedy)
            })
            .collect()
    }

    fn keep(&self, state: &mut State, overlay: Overlay) {
        if state.overlay == overlay {
            return;
        }
        if let Some(path) = &self.cache
            && let Err(e) = sealed::keep(path, &overlay)
        {
            tracing::error!(
                "{}: {e}; after a restart the file alone would be in force",
                path.display()
            );
        }
        state.overlay = overlay;
    }

    /// The service as it is in force.
    pub fn state(&self, service: &str) -> Option<ServiceState> {
        self.shared.table().service(service).map(|r| told(r))
    }

    /// All services as they are in force.
    pub fn states(&self) -> Vec<ServiceState> {
        self.shared.table().routes.iter().map(|r| told(r)).collect()
    }

    /// Looks up the names that are not known yet, all at once, and not for long. True when there were any.
    async fn resolve(&self, file: &File) -> bool {
        let unknown = {
            let addresses = &mut self.lock().addresses;
            let unknown: Vec<_> = file::names(file).filter(|n| !addresses.has(n)).collect();
            addresses.due(unknown.into_iter(), Instant::now())
        };
        let each = unknown.iter().map(|name| async move {
            let result = timeout(LOOKUP, self.ask(name)).await;
            self.note(name, result.unwrap_or(Err(Missing::Silence)));
        });
        !join_all(each).await.is_empty()
    }

    /// Looks up all names of the file, before the first request.
    pub async fn settle(&self) {
        let file = self.lock().file.clone();
        if self.resolve(&file).await {
            self.publish();
        }
    }

    /// The names that are to be looked up now, and whether there are any at all.
    pub fn due(&self) -> (Vec<String>, bool) {
        let State { file, addresses, .. } = &mut *self.lock();
        let due = addresses.due(file::names(file), Instant::now());
        (due, file::names(file).next().is_some())
    }

    /// Looks a name up that is due, and publishes when its addresses have changed.
    pub async fn look_up(&self, name: &str) {
        if self.note(name, self.ask(name).await) {
            self.publish();
        }
    }

    async fn ask(&self, name: &str) -> Result<dns::Found, Missing> {
        let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
        dns::lookup(&self.shared.settings.dns, host).await
    }

    /// Takes the end of a lookup. True when an address has changed.
    fn note(&self, name: &str, result: Result<dns::Found, Missing>) -> bool {
        let lookups = &self.shared.lookups;
        lookups.count(result.is_ok());
        let mut state = self.lock();
        let changed = state.addresses.take(name, result, Instant::now());
        lookups.stale.store(state.addresses.stale() as u64, Relaxed);
        changed
    }

    /// Puts what is known now in force.
    fn publish(&self) {
        let state = self.lock();
        if let Err(faults) = self.apply(&state.file, &state.overlay, &state.addresses) {
            tracing::error!("{}", routes::report("addresses", &faults));
        }
    }

    /// Takes certificates that have changed. What cannot be used is reported, and the last good ones stay in force.
    pub fn renew(&self) {
        let keys = &self.shared.keys;
        match keys.front.as_ref().map_or(Ok(false), Front::look) {
            Ok(true) => tracing::info!("the certificates of [proxy.tls] have changed and are in force"),
            Ok(false) => {}
            Err(faults) => self.refuse("certificates", Some(""), &faults),
        }
        let state = self.lock();
        let each = state.file.service.iter().flat_map(|s| [&s.stable, &s.canary]);
        let used: Vec<_> = each.map(|b| &b.tls).collect();
        let (changed, faults) = keys.backends.look(&used);
        if changed {
            tracing::info!("the certificates for backends have changed and are in force");
            if let Err(faults) = self.apply(&state.file, &state.overlay, &state.addresses) {
                tracing::error!("{}", routes::report("certificates", &faults));
            }
        }
        drop(state);
        if !faults.is_empty() {
            self.refuse("certificates", None, &faults);
        }
    }

    /// Reports refused configuration: of one service, or of the file.
    pub fn refuse(&self, source: &str, service: Option<&str>, faults: &[Fault]) {
        tracing::error!(
            "{}the last good configuration stays in force",
            routes::report(source, faults)
        );
        for fault in faults {
            let named = service.map(str::to_owned);
            let service = named.unwrap_or_else(|| self.service_of(&fault.key));
            self.shared.rejected(&service, std::slice::from_ref(fault));
        }
    }

    /// The service that a key such as `service[0].hosts` belongs to; of one service alone, every key.
    fn service_of(&self, key: &str) -> String {
        let state = self.lock();
        let index = key.strip_prefix("service[").and_then(|k| k.split_once(']'));
        let entry = match (
            index.and_then(|(n, _)| n.parse::<usize>().ok()),
            state.file.service.as_slice(),
        ) {
            (Some(n), all) => all.get(n),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        entry.map(|s| s.name.clone()).unwrap_or_default()
    }

    /// The evidence since a second.
    pub fn page(&self, since: u64) -> Page {
        crate::page::of(&self.shared, since)
    }
}

fn told(route: &Route) -> ServiceState {
    ServiceState {
        entry: route.entry.clone(),
        annotations: Annotations::clone(&route.source.annotations),
        hash: route.hash.clone(),
    }
}
