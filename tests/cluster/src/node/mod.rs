//! The process node: pods as processes of this machine.
//!
//! It registers a Node and its Lease, and for each pod bound to it adds an address to the loopback, starts each
//! container as a process, probes it, restarts it by its policy and tells the API server. No image is looked at, no file
//! system is private: a `volumeMount` becomes a folder of the pod, whose path replaces the mount path in command, args and
//! env. An image whose name has `missing` in it is never found; one with `crash` dies 300 ms after each start.

mod account;
mod address;
mod container;
mod env;
mod pod;
mod probe;
mod register;
mod status;
mod volumes;

pub use account::Keys;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    runtime::watcher::{self, Event, watcher},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet, time};

/// Pause after a failed call to the API server.
const RETRY: Duration = Duration::from_millis(50);

/// How a node runs pods.
#[derive(Clone)]
pub struct Options {
    /// Its name.
    pub name: String,
    /// What a container without a command runs, and one whose command has the same file name.
    pub binary: PathBuf,
    /// Other programs, by image.
    pub images: BTreeMap<String, PathBuf>,
    /// Probes every 100 ms, whatever their period.
    pub fast_probes: bool,
    /// Where service accounts get their tokens from.
    pub keys: Keys,
    /// Logs, kubeconfigs and volumes.
    pub folder: PathBuf,
}

/// A running node. Its processes end when it goes.
pub struct Node {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// What all pods of a node see.
struct Shared {
    client: Client,
    options: Options,
    running: Mutex<HashMap<Place, u32>>,
}

/// Namespace, pod, container.
type Place = (String, String, String);

impl Node {
    /// Registers the node and begins to run what is bound to it, on the current runtime. The client's user must be
    /// allowed everything.
    pub fn start(client: &Client, options: Options) -> Node {
        let shared = Arc::new(Shared {
            client: client.clone(),
            options,
            running: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(register::keep(client.clone(), shared.options.name.clone()));
        tasks.spawn(follow(shared.clone()));
        Node {
            shared,
            _tasks: tasks,
        }
    }

    /// The process of each running container of a pod.
    pub fn processes(&self, namespace: &str, pod: &str) -> Vec<(String, u32)> {
        let running = self.shared.running();
        let of_pod = running.iter().filter(|(p, _)| p.0 == namespace && p.1 == pod);
        of_pod.map(|(place, pid)| (place.2.clone(), *pid)).collect()
    }

    /// Where the containers of a namespace write their output: `NAMESPACE_POD_CONTAINER.log`.
    pub fn logs(&self) -> PathBuf {
        self.shared.logs()
    }
}

impl Shared {
    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<Place, u32>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn logs(&self) -> PathBuf {
        self.options.folder.join("logs")
    }

    fn log(&self, place: &Place) -> PathBuf {
        self.logs()
            .join(format!("{}_{}_{}.log", place.0, place.1, place.2))
    }

    /// A folder of one pod.
    fn private(&self, pod: &Pod) -> PathBuf {
        self.options
            .folder
            .join("pods")
            .join(pod.uid().unwrap_or_default())
    }

    /// The program of an image and a command: the node's own binary for most.
    fn program(&self, image: &str, command: Option<&str>) -> PathBuf {
        let own = self.options.images.get(image).unwrap_or(&self.options.binary);
        match command {
            Some(given) if Path::new(given).file_name() != own.file_name() => given.into(),
            _ => own.clone(),
        }
    }
}

/// One pod that runs here: how it hears what the API server says of it.
struct Run {
    news: watch::Sender<Option<Pod>>,
}

/// Follows the pods bound to this node and gives each a task.
async fn follow(shared: Arc<Shared>) {
    let bound = format!("spec.nodeName={}", shared.options.name);
    let api = Api::<Pod>::all(shared.client.clone());
    let mut events = pin!(watcher(api, watcher::Config::default().fields(&bound)));
    let mut runs = Runs {
        shared,
        tasks: JoinSet::new(),
        by_uid: HashMap::new(),
        listed: HashSet::new(),
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => runs.take(event),
            Err(e) => {
                tracing::debug!("the node's watch: {e}");
                time::sleep(RETRY).await;
            }
        }
        while runs.tasks.try_join_next().is_some() {}
    }
}

struct Runs {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    by_uid: HashMap<String, Run>,
    listed: HashSet<String>,
}

impl Runs {
    fn take(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.extend(pod.uid());
                self.tell(pod);
            }
            Event::InitDone => self.forget_missing(),
            Event::Apply(pod) => self.tell(pod),
            Event::Delete(pod) => self.end(&pod.uid().unwrap_or_default()),
        }
    }

    fn tell(&mut self, pod: Pod) {
        let uid = pod.uid().unwrap_or_default();
        if let Some(run) = self.by_uid.get(&uid) {
            run.news.send_replace(Some(pod));
            return;
        }
        let (news, heard) = watch::channel(Some(pod.clone()));
        self.tasks.spawn(pod::live(self.shared.clone(), pod, heard));
        self.by_uid.insert(uid, Run { news });
    }

    /// The object is gone: whatever still runs for it has no right to.
    fn end(&mut self, uid: &str) {
        if let Some(run) = self.by_uid.remove(uid) {
            run.news.send_replace(None);
        }
    }

    fn forget_missing(&mut self) {
        let gone: Vec<_> = self
            .by_uid
            .keys()
            .filter(|uid| !self.listed.contains(*uid))
            .cloned()
            .collect();
        for uid in gone {
            self.end(&uid);
        }
    }
}
