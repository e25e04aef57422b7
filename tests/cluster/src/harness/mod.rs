//! What cluster tests use: a network of their own, a cluster with nodes that run pods, kubectl, traffic.

#![allow(clippy::panic, clippy::unwrap_used)] // a harness fails its test by panicking

mod dump;
mod forge;
mod network;
mod objects;
mod real;
mod story;

pub use forge::Forger;
pub use network::own_network;
pub use story::{Story, StoryOptions};

use crate::{
    api,
    load::{Load, Traffic},
    loops::Loops,
    node::{self, Keys, Node},
};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    hash::{BuildHasher, Hasher, RandomState},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// Pause between two looks at a condition.
const LOOK: Duration = Duration::from_millis(10);
/// Longest wait for what a real control plane does for each namespace.
const FIRST_WORK: Duration = Duration::from_secs(20);
const ADMIN: &str = "admin";
const MASTERS: &str = "system:masters";

/// The kubeconfig of a cluster that is already there, if the environment names one.
fn foreign() -> Option<PathBuf> {
    std::env::var_os("SERIN_CLUSTER_KUBECONFIG").map(PathBuf::from)
}

/// How to make a world.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program of the pods: `env!("CARGO_BIN_EXE_serin")`.
    pub serin: PathBuf,
    /// Nodes; the first is `process-node`.
    pub nodes: usize,
    /// Probe every 100 ms, whatever the manifests say.
    pub fast_probes: bool,
    /// Other programs, by image.
    pub images: BTreeMap<String, PathBuf>,
    /// Where the test lives; none, and it has a namespace of its own.
    pub namespace: Option<String>,
}

impl Options {
    /// One node, fast probes.
    pub fn new(serin: impl Into<PathBuf>) -> Options {
        Options {
            serin: serin.into(),
            nodes: 1,
            fast_probes: true,
            images: BTreeMap::new(),
            namespace: None,
        }
    }
}

/// A cluster with a namespace for one test. What it knows is printed when the test fails.
pub struct World {
    // The order of fields is the order of their end: pods before the server that they speak to.
    nodes: Vec<Node>,
    loops: Option<Loops>,
    runtime: Runtime,
    server: Option<Arc<api::Server>>,
    real: Option<real::ControlPlane>,
    client: Client,
    namespace: String,
    folder: PathBuf,
    options: Options,
    shown: bool,
}

impl World {
    /// Starts everything: the stand-in, or a real API server where `KUBEBUILDER_ASSETS` names its binaries, or none where
    /// `SERIN_CLUSTER_KUBECONFIG` names a cluster.
    pub fn start(options: Options) -> World {
        let folder = scratch();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let ground = Ground::find(&folder);
        fs::write(folder.join("admin.kubeconfig"), &ground.kubeconfig).unwrap();
        let client = runtime.block_on(connect(&ground.kubeconfig));
        let loops = ground.loops.then(|| {
            let _inside = runtime.enter();
            Loops::start(&client)
        });
        let mut world = World {
            nodes: Vec::new(),
            loops,
            server: ground.server,
            real: ground.real,
            namespace: options.namespace.clone().unwrap_or_else(name),
            client,
            folder,
            options,
            shown: false,
            runtime,
        };
        for n in 0..world.options.nodes {
            world.add_node(n, ground.keys.clone());
        }
        world.prepare();
        world
    }

    fn add_node(&mut self, n: usize, keys: Keys) {
        let _inside = self.runtime.enter();
        let name = if n == 0 {
            "process-node".into()
        } else {
            format!("process-node-{}", n + 1)
        };
        let options = node::Options {
            name,
            binary: self.options.serin.clone(),
            images: self.options.images.clone(),
            fast_probes: self.options.fast_probes,
            keys,
            folder: self.folder.clone(),
        };
        self.nodes.push(Node::start(&self.client, options));
    }

    /// The namespace, the kubeconfig that begins in it, and the pods' logs for kubectl.
    fn prepare(&mut self) {
        let namespace = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n",
            self.namespace
        );
        self.apply(&namespace);
        if self.loops.is_none() {
            self.wait("the account of pods that name none", FIRST_WORK, || {
                self.json("v1/ServiceAccount", "default")
            });
        }
        let path = self.kubeconfig();
        let mut config: serde_json::Value =
            serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        config["contexts"][0]["context"]["namespace"] = self.namespace.clone().into();
        fs::write(path, config.to_string()).unwrap();
        if let Some(server) = &self.server {
            let logs = self.folder.join("logs");
            server.tell_logs(Box::new(move |namespace, pod, container| {
                fs::read_to_string(logs.join(format!("{namespace}_{pod}_{container}.log"))).ok()
            }));
        }
    }

    /// The test's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether a real API server answers.
    pub fn is_real(&self) -> bool {
        self.server.is_none()
    }

    /// The stand-in, to make trouble with and to read calls from.
    ///
    /// # Panics
    /// On a real cluster: ask [`World::is_real`] before.
    pub fn standin(&self) -> &api::Server {
        self.server.as_ref().expect("only the stand-in makes trouble")
    }

    /// A client that may do everything.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client of the service account in the test's namespace; only on the stand-in.
    pub fn client_as(&self, user: &str, groups: &[&str]) -> Client {
        self.run(connect(&self.standin().kubeconfig(user, groups)))
    }

    /// A client that acts as somebody else, who must have rights of his own; also on a real API server.
    pub fn client_acting(&self, user: &str, groups: &[&str]) -> Client {
        let text = fs::read_to_string(self.kubeconfig()).unwrap();
        let mut config: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        config["users"][0]["user"]["as"] = user.into();
        config["users"][0]["user"]["as-groups"] = groups.into();
        self.run(connect(&config.to_string()))
    }

    /// The admin's kubeconfig, which begins in the test's namespace.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// A folder that goes with the test.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a future to its end.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The real kubectl; its output.
    ///
    /// # Panics
    /// When it fails.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {}: {error}", args.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The real kubectl, whatever it says.
    pub fn try_kubectl(&self, args: &[&str]) -> Output {
        self.command("kubectl", args).output().unwrap_or_else(|e| {
            panic!("cannot run kubectl: {e}; install it from https://dl.k8s.io and put it on the PATH")
        })
    }

    /// The command line of Serin, whatever it says.
    pub fn serin(&self, args: &[&str]) -> Output {
        self.command(&self.options.serin, args).output().unwrap()
    }

    /// A command with the admin's kubeconfig, not yet started.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", &self.folder)
            .stdin(Stdio::null());
        command
    }

    /// Asks `look` every 10 ms until it has something.
    ///
    /// # Panics
    /// After `limit`; the world's state is printed then.
    pub fn wait<T>(&self, what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(begun.elapsed() < limit, "waited {limit:?} in vain: {what}");
            std::thread::sleep(LOOK);
        }
    }

    /// Sends requests to the ready pods of a Service, as its clients behind kube-proxy would.
    pub fn load(&self, service: &str, traffic: Traffic) -> Load {
        let _inside = self.runtime.enter();
        Load::start(self.client(), &self.namespace, service, traffic)
    }

    /// Prints the world now and not again when the test fails.
    pub fn show(&mut self) {
        self.shown = true;
        eprintln!("{}", dump::of(self));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed && !self.shown {
            eprintln!("{}", dump::of(self));
        }
        // Pods write logs until they end.
        self.nodes.clear();
        self.real.take();
        if !failed {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// What a world stands on.
struct Ground {
    server: Option<Arc<api::Server>>,
    real: Option<real::ControlPlane>,
    kubeconfig: String,
    keys: Keys,
    loops: bool,
}

impl Ground {
    fn find(folder: &Path) -> Ground {
        if let Some(path) = foreign() {
            let text = fs::read_to_string(&path);
            let text = text.unwrap_or_else(|e| panic!("SERIN_CLUSTER_KUBECONFIG={}: {e}", path.display()));
            return Ground::of_real(text, None, false);
        }
        match std::env::var_os("KUBEBUILDER_ASSETS") {
            Some(binaries) => {
                let plane = real::ControlPlane::start(Path::new(&binaries), &folder.join("control-plane"));
                let loops = !plane.has_controllers();
                Ground::of_real(plane.kubeconfig(), Some(plane), loops)
            }
            None => Ground::standin(),
        }
    }

    fn standin() -> Ground {
        let server = Arc::new(api::Server::start(api::Options::default()).unwrap());
        let signer = server.clone();
        Ground {
            kubeconfig: server.kubeconfig(ADMIN, &[MASTERS]),
            keys: Keys::Signed(Arc::new(move |user, groups| signer.kubeconfig(user, groups))),
            server: Some(server),
            real: None,
            loops: true,
        }
    }

    fn of_real(kubeconfig: String, real: Option<real::ControlPlane>, loops: bool) -> Ground {
        let (url, ca) = real::address(&kubeconfig);
        Ground {
            server: None,
            real,
            kubeconfig,
            keys: Keys::Requested { url, ca },
            loops,
        }
    }
}

async fn connect(kubeconfig: &str) -> Client {
    let config = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

/// A folder under the temporary one, which can be seen from inside the test's namespaces.
fn scratch() -> PathBuf {
    let path = std::env::temp_dir().join(name());
    fs::create_dir_all(&path).unwrap();
    path
}

/// Names of namespaces are never used again: on an API server without controllers a deleted one stays for ever. Chance tells
/// them apart: two tests begin in the same microsecond, each as the same process of a namespace of its own.
fn name() -> String {
    let chance = RandomState::new().build_hasher().finish();
    format!("serin-{chance:016x}")
}
