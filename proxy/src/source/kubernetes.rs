//! The table from a cluster: one Service, the EndpointSlices of its two tracks, and the Secret for `/evidence`. Watched,
//! never written. All of it on the control thread; when the API server is gone, the last table serves on.

mod cache;
pub mod endpoints;
pub mod front;
mod store;
mod watching;

use crate::{control::Control, door::Door};
use cache::Cache;
use contract::{
    Fault,
    file::{ProxyEntry, ResilienceEntry, ServiceEntry},
    names::Track,
    routes::{AppProtocol, BackendTls, Backends},
};
use front::{Front, Terms};
use k8s_openapi::api::{core::v1::Secret, core::v1::Service, discovery::v1::EndpointSlice};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use store::Store;
use tokio::{task::JoinHandle, time::timeout};
use watching::{News, Watches};

/// Time to connect to the API server.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a start waits for the API server before it takes the cached table.
const START: Duration = Duration::from_secs(2);
/// How often time alone is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Which Service of which cluster is fronted.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Where the API server is, and who asks.
    pub config: kube::Config,
    /// The namespace of the Service.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// Its port by name or number; not needed where it has only one.
    pub port: Option<String>,
    /// Where the application is, when it runs in this very pod.
    pub local: Option<std::net::SocketAddr>,
    /// This pod's own address: which track is local; without it, stable is.
    pub pod: Option<std::net::IpAddr>,
    /// Where the last good table is kept across restarts.
    pub cache: Option<PathBuf>,
    /// How pods that speak TLS are trusted.
    pub tls: BackendTls,
    /// How endpoints are chosen, limited, checked and tried again.
    pub resilience: ResilienceEntry,
    /// Listeners and limits.
    pub proxy: ProxyEntry,
}

/// A client of the cluster; it connects when it is first used. In a runtime only.
///
/// # Errors
/// What is wrong with the configuration.
pub fn client(cluster: &Cluster) -> Result<kube::Client, String> {
    let mut config = cluster.config.clone();
    config.connect_timeout = Some(CONNECT);
    // Its pauses are longer than ours, and hide what happens.
    config.default_retry = false;
    kube::Client::try_from(config).map_err(|e| e.to_string())
}

/// Takes what the cluster says, for ever.
pub async fn run(
    cluster: Cluster,
    client: kube::Client,
    prefix: String,
    control: Arc<Control>,
    door: Arc<Door>,
) {
    let (watches, mut news) = Watches::new(client, &cluster.namespace);
    let mut desk = Desk::new(cluster, prefix, control, door, watches);
    loop {
        match timeout(LOOK, news.recv()).await {
            Ok(Some(first)) => desk.take(first),
            Ok(None) => return,
            Err(_) => {
                desk.look();
                continue;
            }
        }
        // What came together makes one table.
        while let Ok(more) = news.try_recv() {
            desk.take(more);
        }
        desk.settle();
        desk.look();
    }
}

/// What was seen, and what was made of it.
struct Desk {
    terms: Terms,
    namespace: String,
    tls: BackendTls,
    resilience: ResilienceEntry,
    control: Arc<Control>,
    door: Arc<Door>,
    watches: Watches,
    service: Store<Service>,
    secret: Store<Secret>,
    slices: Slices,
    /// The last good reading of the Service.
    front: Option<Front>,
    /// Slices without the port, when they were last told.
    portless: Vec<String>,
    /// The `appProtocol` that was not understood, when it was last told.
    foreign: Option<String>,
    /// Whether the Service was missing when it was last looked for.
    missing: bool,
    cache: Cache,
    /// When it began; over as soon as there is a table, or nothing more to start from.
    starting: Option<Instant>,
}

/// The slices of the tracks that were asked for last.
#[derive(Default)]
struct Slices {
    names: BTreeSet<String>,
    /// Which watch they come from: news of an earlier one means nothing.
    generation: u64,
    store: Store<EndpointSlice>,
    watch: Option<JoinHandle<()>>,
}

impl Drop for Slices {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

impl Desk {
    fn new(
        cluster: Cluster,
        prefix: String,
        control: Arc<Control>,
        door: Arc<Door>,
        watches: Watches,
    ) -> Desk {
        watches.service(&cluster.service);
        watches.secret();
        let cache = Cache::new(cluster.cache, &cluster.namespace);
        Desk {
            terms: Terms {
                service: cluster.service,
                port: cluster.port,
                local: cluster.local,
                pod: cluster.pod,
                prefix,
            },
            namespace: cluster.namespace,
            tls: cluster.tls,
            resilience: cluster.resilience,
            control,
            door,
            watches,
            service: Store::default(),
            secret: Store::default(),
            slices: Slices::default(),
            front: None,
            portless: Vec::new(),
            foreign: None,
            missing: false,
            cache,
            starting: Some(Instant::now()),
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Service(event) => {
                if self.service.take(*event) {
                    self.read_service();
                }
            }
            News::Secret(event) => {
                if self.secret.take(event)
                    && let Some(secret) = self.secret.only()
                {
                    self.door.take(secret);
                }
            }
            News::Slices(generation, event) if generation == self.slices.generation => {
                self.slices.store.take(event);
            }
            News::Slices(..) => {}
        }
    }

    /// Takes the Service as it is now. A bad or missing one changes nothing that is in force, but that a plain weight 0
    /// of a bad one counts.
    fn read_service(&mut self) {
        let Some(service) = self.service.only() else {
            return self.note_missing();
        };
        self.missing = false;
        let read = front::read(service, &self.terms);
        let faults = read.as_ref().err().cloned().unwrap_or_default();
        let usable = match (read, &self.front) {
            (Ok(front), _) => Some(front),
            (Err(_), None) => front::stable_only(service, &self.terms),
            (Err(_), Some(last)) => front::at_zero(service, &self.terms, last),
        };
        if let Some(front) = usable {
            let foreign = front::unknown_protocol(service, &front).map(str::to_owned);
            self.front = Some(front);
            self.note_foreign(foreign);
        }
        self.reject(faults);
    }

    fn note_foreign(&mut self, foreign: Option<String>) {
        if let Some(said) = foreign.as_ref().filter(|_| foreign != self.foreign) {
            tracing::warn!(
                "appProtocol {said} of Service {} is not known here, so its pods are asked in plain HTTP; http, https, kubernetes.io/h2c and kubernetes.io/ws are known",
                self.terms.service
            );
        }
        self.foreign = foreign;
    }

    fn note_missing(&mut self) {
        if !std::mem::replace(&mut self.missing, true) {
            tracing::error!(
                "there is no Service {} in namespace {}; create it, or name another one with --service and --namespace; {}",
                self.terms.service,
                self.namespace,
                if self.front.is_some() {
                    "the last table stays in force"
                } else {
                    "nothing is served until then"
                },
            );
        }
    }

    fn reject(&self, faults: Vec<Fault>) {
        let source = format!("Service {}/{}", self.namespace, self.terms.service);
        self.control.reject(&source, &self.terms.service, faults);
    }

    /// Puts what is known in force, as soon as it is whole: annotations never take force with the endpoints of other
    /// Services.
    fn settle(&mut self) {
        let Some(front) = self.front.clone() else { return };
        let names: BTreeSet<String> = self.names(&front).into_iter().flatten().cloned().collect();
        if names != self.slices.names {
            self.slices = self.watches.slices(names, self.slices.generation + 1);
        }
        if self.slices.names.is_empty() || self.slices.store.is_whole() {
            let entry = self.entry(&front);
            self.enforce(&front, entry);
        }
    }

    fn enforce(&mut self, front: &Front, entry: ServiceEntry) {
        match self.control.take(entry.clone()) {
            Ok(true) => self.cache.note(front, &entry, &self.terms),
            Ok(false) => {}
            Err(faults) => return self.reject(faults),
        }
        self.starting = None;
    }

    /// What is to be done by time: the cached table, when the API server is away at the start, and keeping the last one.
    fn look(&mut self) {
        self.cache.write();
        if self.starting.is_some_and(|began| began.elapsed() >= START) {
            self.starting = None;
            self.resume();
        }
    }

    fn resume(&mut self) {
        let Some(mut kept) = self.cache.read(&self.terms) else {
            return tracing::warn!("no API server and no cached table: nothing is served until one answers");
        };
        tracing::warn!(
            "no table from the API server yet: the cached one, {} s old, is in force until it answers",
            kept.age()
        );
        // Whom we trust is ours to say, not the cache's.
        let tls = self.tls(&kept.front);
        for backends in [&mut kept.entry.stable, &mut kept.entry.canary] {
            backends.tls = tls.clone();
        }
        kept.entry.resilience = self.resilience.clone();
        if let Err(faults) = self.control.take(kept.entry) {
            return self.reject(faults);
        }
        self.front.get_or_insert(kept.front);
    }

    /// The Services whose slices are needed.
    fn names<'a>(&self, front: &'a Front) -> [Option<&'a String>; 2] {
        let [stable, canary] = &front.tracks;
        let stable = stable.as_ref().filter(|_| !self.terms.is_stable_local());
        [stable, canary.as_ref()]
    }

    fn entry(&mut self, front: &Front) -> ServiceEntry {
        let mut portless = Vec::new();
        let [stable, canary] = Track::BOTH.map(|track| {
            let found = self.endpoints(front, track);
            portless.extend(found.portless);
            Backends {
                endpoints: found.addresses.iter().map(ToString::to_string).collect(),
                protocol: front.port.protocol,
                tls: self.tls(front),
                ..Backends::default()
            }
        });
        self.note_portless(portless, front);
        ServiceEntry {
            name: self.terms.service.clone(),
            stable,
            canary,
            annotations: front.annotations.clone(),
            resilience: self.resilience.clone(),
            ..ServiceEntry::default()
        }
    }

    /// How endpoints that speak TLS are trusted: by the Service's name in the cluster, unless another one was given.
    fn tls(&self, front: &Front) -> BackendTls {
        if front.port.protocol != AppProtocol::Https {
            return BackendTls::default();
        }
        let mut tls = self.tls.clone();
        if tls.server_name.is_empty() {
            tls.server_name = format!("{}.{}.svc", self.terms.service, self.namespace);
        }
        tls
    }

    fn endpoints(&self, front: &Front, track: Track) -> endpoints::Found {
        if let Some(local) = self.terms.local.filter(|_| self.is_local(front, track)) {
            return endpoints::Found {
                addresses: vec![local],
                portless: Vec::new(),
            };
        }
        match self.names(front)[track.index()] {
            Some(name) => endpoints::of(self.slices.store.all(), name, &front.port, front.family),
            None => endpoints::Found::default(),
        }
    }

    /// Whether a track is in this very pod. In a promotion the tracks change places, and the pod stays where it is: its
    /// address tells whose it is.
    fn is_local(&self, front: &Front, track: Track) -> bool {
        match (self.names(front)[track.index()], self.terms.pod) {
            (Some(name), Some(pod)) => endpoints::has(self.slices.store.all(), name, pod),
            (Some(_), None) => false,
            (None, _) => track == Track::Stable,
        }
    }

    fn note_portless(&mut self, portless: Vec<String>, front: &Front) {
        if !portless.is_empty() && portless != self.portless {
            tracing::error!(
                "no port {} in the EndpointSlices {}: their endpoints are left out; give the tracks' Services a port of the front's name",
                if front.port.name.is_empty() {
                    front.port.number.to_string()
                } else {
                    front.port.name.clone()
                },
                portless.join(", ")
            );
        }
        self.portless = portless;
    }
}
