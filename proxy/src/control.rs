//! The one place that changes the table: by the file, by admin calls, by new addresses of a name.

use crate::{
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
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::lookup_host, time::timeout};

/// Time to find the addresses of a name.
const LOOKUP: Duration = Duration::from_secs(1);

/// Addresses by `name:port`.
type Addresses = BTreeMap<String, Vec<SocketAddr>>;

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
                addresses: Addresses::new(),
            }),
        }
    }

    /// The control of a process whose table comes from a cluster ([`Control::take`]); none is in force yet.
    pub fn of_cluster(shared: Arc<Shared>, prefix: String) -> Control {
        let state = State {
            file: File::default(),
            text: String::new(),
            overlay: Overlay::default(),
            addresses: Addresses::new(),
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
        let endpoints = Track::BOTH.map(|t| resolved(&source.backends(t).endpoints, addresses));
        let transport = |track: Track| {
            let (key, backends) = (
                format!("service[{number}].{}", track.name()),
                source.backends(track),
            );
            let names = named(&backends.endpoints, addresses);
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
        self.resolve(&loaded.file, false).await;
        let mut state = self.lock();
        if loaded.file.proxy != state.file.proxy {
            tracing::warn!("the [proxy] section has changed; that needs a restart");
        }
        let overlay = state.overlay.after(&state.file, &loaded.file, &self.prefix);
        self.apply(&loaded.file, &overlay, &state.addresses)?;
        (state.file, state.text) = (loaded.file, loaded.text);
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
        overlay.set(service, &entry.annotations, &by, Some(patch.actor));
        overlay.set(service, &entry.annotations, &cause, patch.cause);
        for (key, value) in patch.keys {
            overlay.set(service, &entry.annotations, &key, value);
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

    /// Looks names up: all of them, or only the ones that are not known yet. True when an address has changed.
    pub async fn resolve(&self, file: &File, all: bool) -> bool {
        let wanted: Vec<String> = {
            let state = self.lock();
            let known = |n: &&str| !all && state.addresses.contains_key(*n);
            file::names(file)
                .filter(|n| !known(n))
                .map(str::to_owned)
                .collect()
        };
        let mut changed = false;
        for name in wanted {
            let found = lookup(&name).await;
            changed |= self.note(name, found);
        }
        changed
    }

    /// Takes the addresses of a name. A failed lookup keeps the ones that are known.
    fn note(&self, name: String, found: Option<Vec<SocketAddr>>) -> bool {
        let mut state = self.lock();
        match found {
            Some(found) if state.addresses.get(&name) != Some(&found) => {
                state.addresses.insert(name, found);
                true
            }
            Some(_) => false,
            None => {
                let known = state.addresses.contains_key(&name);
                tracing::warn!(
                    endpoint = name,
                    known,
                    "the name cannot be resolved; check its spelling and the resolver"
                );
                false
            }
        }
    }

    /// Looks all names up again, and publishes when an address has changed.
    pub async fn refresh(&self) {
        let file = self.lock().file.clone();
        if self.resolve(&file, true).await {
            let state = self.lock();
            if let Err(faults) = self.apply(&state.file, &state.overlay, &state.addresses) {
                tracing::error!("{}", routes::report("addresses", &faults));
            }
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

async fn lookup(name: &str) -> Option<Vec<SocketAddr>> {
    let found = timeout(LOOKUP, lookup_host(name)).await.ok()?.ok()?;
    let mut found: Vec<_> = found.collect();
    // Each address counts as an endpoint, so a name of both families would be twice itself, and its IPv6 half is often
    // not served: the canary would be charged for that.
    if found.iter().any(SocketAddr::is_ipv4) {
        found.retain(SocketAddr::is_ipv4);
    }
    // Resolvers turn the order round; the order means nothing to us.
    found.sort_unstable();
    found.dedup();
    (!found.is_empty()).then_some(found)
}

/// The host names under which addresses were found.
fn named(endpoints: &[String], addresses: &Addresses) -> BTreeMap<IpAddr, String> {
    let mut names = BTreeMap::new();
    for endpoint in endpoints {
        let (Some(found), Some((host, _))) = (addresses.get(endpoint), endpoint.rsplit_once(':')) else {
            continue;
        };
        for address in found {
            names.entry(address.ip()).or_insert_with(|| host.to_owned());
        }
    }
    names
}

fn resolved(endpoints: &[String], addresses: &Addresses) -> Vec<SocketAddr> {
    let mut all = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        match endpoint.parse() {
            Ok(address) => all.push(address),
            Err(_) => all.extend(addresses.get(endpoint).into_iter().flatten()),
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}
