//! The adapter for a cluster: Rollouts, Services and workloads are watched, the engine decides, annotations and templates
//! are written.
//!
//! Rule of this room: nothing is decided here, and nothing is polled: what the API server knows is watched, and proxies
//! are asked only while a release is under way. One task for each Rollout that has something to do.

mod api;
mod audit;
pub mod crd;
mod deploy;
mod desk;
mod ears;
mod events;
mod evidence;
mod hands;
mod lease;
mod metrics;
pub mod page;
mod pods;
mod rollout;
mod save;
mod service;
mod settle;
mod sight;
mod template;
mod told;
mod watching;
mod workload;
mod world;

pub(crate) use evidence::Credentials;

use crate::{
    blocks::Blocks,
    notify::{Courier, Words},
};
use api::{Key, Kind, Server};
use audit::Audit;
use contract::{names::LEASE, release::Decision};
use desk::{Desk, Next};
use engine::Entry;
use events::Events;
use evidence::Secrets;
use lease::{Leadership, Trust};
use metrics::Meter;
use page::Page;
use std::{
    collections::HashMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::{JoinHandle, JoinSet},
    time::{Instant, interval, sleep_until, timeout},
};
use told::Told;
use world::World;

/// Time to connect to the API server.
const CONNECT: Duration = Duration::from_secs(2);
/// Time for giving the Lease back.
const GOODBYE: Duration = Duration::from_secs(1);
/// Time between two counts of Rollouts by phase.
const COUNT: Duration = Duration::from_secs(1);
/// Rollouts without a release that are looked at side by side: after a start all of them are due at once.
const QUIET: usize = 16;
/// Least time between two turns of one Rollout: a storm of changes is looked at once.
const BREATH: Duration = Duration::from_millis(20);

/// What a controller is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace whose Rollouts it serves; `None`: all.
    pub namespace: Option<String>,
    /// Where the Lease stands; `None`: the client's own namespace.
    pub lease_namespace: Option<String>,
    /// Its name among the controllers.
    pub identity: String,
    /// Where `/metrics`, `/healthz` and `/readyz` are answered.
    pub listen: SocketAddr,
    /// The folder of the logs of blocks; `None`: there are none.
    pub evidence: Option<PathBuf>,
    /// The audit log: one JSON line a decision; `None`: there is none.
    pub audit: Option<PathBuf>,
    /// What annotation keys begin with.
    pub prefix: String,
    /// The page for people; `None`: there is none.
    pub page: Option<page::Options>,
}

/// What all Rollouts share.
struct Hub {
    server: Server,
    world: Arc<World>,
    secrets: Secrets,
    events: Events,
    leadership: Leadership,
    blocks: Option<Mutex<Blocks>>,
    courier: Mutex<Courier>,
    audit: Option<Audit>,
    /// What the page is told from, where there is one.
    told: Option<Arc<Told>>,
    quiet: Arc<Semaphore>,
}

/// The tasks of Rollouts that have something to do.
#[derive(Default)]
struct Desks {
    open: HashMap<Key, (Arc<Notify>, JoinHandle<()>)>,
}

/// Serves until told to stop.
///
/// # Errors
/// There is no configuration for a cluster, or the listener or the folder cannot be had.
pub async fn serve(options: Options, stop: impl Future<Output = ()>) -> Result<(), String> {
    let mut config = kube::Config::infer()
        .await
        .map_err(|e| format!("there is no cluster to control: {e}; run it in a pod, or set KUBECONFIG"))?;
    config.connect_timeout = Some(CONNECT);
    // Its pauses are longer than ours, and hide what happens.
    config.default_retry = false;
    let lease = Key {
        namespace: options
            .lease_namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone()),
        name: LEASE.to_owned(),
    };
    let client = kube::Client::try_from(config)
        .map_err(|e| format!("the cluster's configuration cannot be used: {e}"))?;
    let listener = TcpListener::bind(options.listen).await.map_err(|e| {
        format!(
            "cannot listen on {}: {e}; choose another address with --listen",
            options.listen
        )
    })?;
    let (told, works) = options.page.as_ref().map(|_| Told::new()).unzip();
    let (hub, news) = hub(client, &options, told.clone())?;
    println!(
        "controller {} on http://{}",
        options.identity,
        listener.local_addr().unwrap_or(options.listen)
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(metrics::serve(listener, hub.server.meter.clone()));
    tasks.spawn(
        hub.world
            .clone()
            .watch(hub.server.clone(), options.namespace.clone()),
    );
    let (h, l) = (hub.clone(), lease.clone());
    tasks.spawn(async move { h.leadership.strive(&h.server, &l).await });
    if let (Some(told), Some(works), Some(at)) = (told, works, options.page) {
        let page = Page::new(hub.clone(), told.clone(), at, lease.namespace.clone());
        tasks.spawn(works.run(hub.clone(), told));
        tasks.spawn(page.clone().own());
        tasks.spawn(page.serve());
    }
    tasks.spawn(lead(hub.clone(), news));
    tasks.spawn(count(hub.clone()));
    stop.await;
    tasks.shutdown().await;
    // Past that, the Lease ends by itself.
    let _ = timeout(GOODBYE, hub.leadership.release(&hub.server, &lease)).await;
    Ok(())
}

fn hub(
    client: kube::Client,
    options: &Options,
    told: Option<Arc<Told>>,
) -> Result<(Arc<Hub>, mpsc::UnboundedReceiver<Key>), String> {
    let meter = Meter::new().map_err(|e| format!("the metrics cannot be made: {e}"))?;
    let (world, news) = World::new(&options.prefix);
    let blocks = options.evidence.as_deref().map(folder).transpose()?;
    let audit = options.audit.as_deref().map(Audit::open).transpose()?;
    let trust = Trust::default();
    let hub = Hub {
        events: Events::new(client.clone(), &options.identity),
        courier: Mutex::new(Courier::new(meter.notifications.clone(), None)),
        server: Server {
            client,
            meter: Arc::new(meter),
            trust: trust.clone(),
        },
        world,
        secrets: Secrets::default(),
        leadership: Leadership::new(&options.identity, trust),
        blocks,
        audit,
        told,
        quiet: Arc::new(Semaphore::new(QUIET)),
    };
    Ok((Arc::new(hub), news))
}

fn folder(path: &Path) -> Result<Mutex<Blocks>, String> {
    let failed = |e: io::Error| {
        format!(
            "{}: {e}; name a writable folder with --evidence-dir",
            path.display()
        )
    };
    fs::create_dir_all(path).map_err(failed)?;
    Ok(Mutex::new(Blocks::in_folder(path)))
}

/// Gives each Rollout that has something to look at its task, while this controller leads.
async fn lead(hub: Arc<Hub>, mut news: mpsc::UnboundedReceiver<Key>) {
    let mut leads = hub.leadership.changes();
    let mut desks = Desks::default();
    loop {
        tokio::select! {
            changed = leads.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = *leads.borrow_and_update();
                hub.server.meter.leader.set(i64::from(now));
                tracing::info!("this controller {}", if now { "leads" } else { "follows" });
                desks.close();
                if let Some(told) = &hub.told {
                    told.clear();
                }
                if now {
                    hub.world.wake_all();
                }
            }
            Some(key) = news.recv() => {
                if hub.world.is_whole() && hub.leads() {
                    desks.wake(&hub, key);
                }
            }
        }
    }
}

/// Keeps the gauges.
async fn count(hub: Arc<Hub>) {
    let mut pace = interval(COUNT);
    loop {
        pace.tick().await;
        if hub.world.is_whole() {
            hub.server.meter.set_ready();
        }
        hub.server.meter.count(&hub.world.phases());
    }
}

impl Desks {
    fn wake(&mut self, hub: &Arc<Hub>, key: Key) {
        if let Some((notify, task)) = self.open.get(&key)
            && !task.is_finished()
        {
            notify.notify_one();
            return;
        }
        self.open.retain(|_, (_, task)| !task.is_finished());
        let notify = Arc::new(Notify::new());
        let task = tokio::spawn(begin(hub.clone(), key.clone(), notify.clone()));
        self.open.insert(key, (notify, task));
    }

    /// What was under way may be done twice by the next leader, and never by two at once.
    fn close(&mut self) {
        self.open.drain().for_each(|(_, (_, task))| task.abort());
    }
}

impl Drop for Desks {
    fn drop(&mut self) {
        self.close();
    }
}

/// Small as long as it waits, and when it has ended: of these there are as many as Rollouts.
async fn begin(hub: Arc<Hub>, key: Key, news: Arc<Notify>) {
    let queued = hub.queue(&key).await;
    Box::pin(attend(hub, key, news, queued)).await;
}

/// Takes turns for one Rollout as long as there is something to do; queued is what the first of them needs.
async fn attend(hub: Arc<Hub>, key: Key, news: Arc<Notify>, mut queued: Option<OwnedSemaphorePermit>) {
    let Some(known) = hub.world.rollout(&key) else {
        return;
    };
    let mut desk = Desk::open(&hub, &key, &known, news.clone()).await;
    let _told = Rest(&hub, &key);
    drop(known);
    while hub.leads() {
        let began = Instant::now();
        let timer = hub.server.meter.turns.start_timer();
        let next = desk.turn().await;
        timer.observe_duration();
        drop(queued.take());
        let wake = match next {
            Next::Gone => return,
            // What came during the turn is looked at; then the task may end, for the status has its state.
            Next::Idle => Duration::from_millis(200),
            Next::In(wake) => wake,
        };
        tokio::select! {
            // A change that comes as the task would end must not be lost.
            biased;
            () = news.notified() => sleep_until(began + BREATH).await,
            () = sleep_until(began + wake.max(BREATH)) => {
                if next == Next::Idle {
                    return;
                }
            }
        }
    }
}

/// Whoever takes no more turns has nothing to tell beyond the status.
struct Rest<'a>(&'a Hub, &'a Key);

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        if let Some(told) = &self.0.told {
            told.rest(self.1);
        }
    }
}

impl Hub {
    /// Whether acts are ours.
    fn leads(&self) -> bool {
        self.leadership.holds()
    }

    /// Whoever has no release under way waits for the first turn; whoever has one waits for nobody.
    async fn queue(&self, key: &Key) -> Option<OwnedSemaphorePermit> {
        let known = self.world.rollout(key)?;
        if !known.saved.phase.is_final() || known.deleting {
            return None;
        }
        self.quiet.clone().acquire_owned().await.ok()
    }

    /// What a turn has read, for a replay.
    fn journal(&self, key: &Key, entries: &[Entry]) {
        let Some(blocks) = &self.blocks else { return };
        let mut blocks = blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{}.{}", key.namespace, key.name);
        if let Err(e) = blocks.append(&name, entries) {
            tracing::warn!(rollout = %key, "blocks are not logged, and a replay will miss them: {e}");
        }
    }

    /// Queues a decision for whoever is to be told.
    fn notify(&self, receivers: &[contract::policy::Notify], words: &Words<'_>, key: &str) {
        let mut courier = self.courier.lock().unwrap_or_else(PoisonError::into_inner);
        courier.tell(receivers, words, key);
    }

    /// The decisions that a status has on record.
    async fn decisions(&self, key: &Key) -> Vec<Decision> {
        let object = self.server.find(Kind::Rollout, key).await.ok().flatten();
        let decisions = object.map(|mut o| o.data["status"]["decisions"].take());
        decisions
            .and_then(|d| serde_json::from_value(d).ok())
            .unwrap_or_default()
    }
}
