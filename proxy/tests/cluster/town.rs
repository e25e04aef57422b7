//! A namespace with a fronted Service, its two tracks, and a proxy that may read no more than its Role grants.

use crate::world::{Backend, Message, Wire};
use cluster::api::{Options as Place, Server};
use k8s_openapi::api::{
    core::v1::{Namespace, Secret, Service},
    discovery::v1::EndpointSlice,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client, Config, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use proxy::{
    Cluster, Options, Running,
    contract::{evidence::ServicePage, file::ProxyEntry, names::*},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    fmt::Debug,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::runtime::Runtime;

pub const NAMESPACE: &str = "shop";
pub const READER: &str = "a-token-for-the-evidence";
const ACCOUNT: &str = "system:serviceaccount:shop:echo-proxy";

/// The cluster of a test.
pub struct Town {
    pub server: Server,
    pub folder: PathBuf,
    runtime: Runtime,
    client: Client,
}

/// An address of this machine that an EndpointSlice may hold: loopback ones are refused. Nothing is sent.
pub fn own_address() -> IpAddr {
    let find = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("198.18.0.1:9")?;
        socket.local_addr()
    };
    let found = find().expect("a machine with a route: `ip addr add 198.18.0.1/32 dev lo` makes one");
    assert!(!found.ip().is_loopback(), "an address besides loopback is needed");
    found.ip()
}

/// Where a backend is for the cluster.
pub fn of(backend: &Backend) -> SocketAddr {
    SocketAddr::new(own_address(), backend.address.port())
}

async fn config(server: &Server, user: &str, groups: &[&str]) -> Config {
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(user, groups)).unwrap();
    let options = KubeConfigOptions::default();
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap()
}

impl Town {
    /// With a Role that grants what a proxy needs, and nothing else.
    pub fn new() -> Town {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let n = NUMBER.fetch_add(1, Ordering::SeqCst);
        let folder = std::env::temp_dir().join(format!("serin-town-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let server = Server::start(Place::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(async {
            let config = config(&server, "admin", &["system:masters"]).await;
            Client::try_from(config).unwrap()
        });
        let town = Town {
            server,
            folder,
            runtime,
            client,
        };
        let namespace: Namespace = from(json!({"metadata": {"name": NAMESPACE}}));
        let all: Api<Namespace> = Api::all(town.client.clone());
        let made = town
            .runtime
            .block_on(all.create(&PostParams::default(), &namespace));
        made.unwrap();
        town.grant();
        town
    }

    fn grant(&self) {
        let read = ["get", "list", "watch"];
        self.create::<Role>(json!({
            "metadata": {"name": "echo-proxy"},
            "rules": [
                {"apiGroups": [""], "resources": ["services"], "resourceNames": ["echo"], "verbs": read},
                {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [EVIDENCE_SECRET], "verbs": read},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
            ],
        }));
        self.create::<RoleBinding>(json!({
            "metadata": {"name": "echo-proxy"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "echo-proxy"},
            "subjects": [{"kind": "ServiceAccount", "name": "echo-proxy", "namespace": NAMESPACE}],
        }));
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub fn create<K>(&self, value: Value)
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let made = self
            .runtime
            .block_on(api.create(&PostParams::default(), &from(value)));
        made.unwrap();
    }

    pub fn patch<K>(&self, name: &str, value: &Value)
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let (api, merge) = (self.api::<K>(), Patch::Merge(value));
        let params = PatchParams::default();
        // The first call after an outage may find its old connection cut.
        let again = self.runtime.block_on(api.patch(name, &params, &merge)).is_err();
        if again {
            self.runtime.block_on(api.patch(name, &params, &merge)).unwrap();
        }
    }

    /// The front, with these annotations besides those that name the tracks.
    pub fn front(&self, lines: &[(&str, &str)]) {
        let mut annotations = json!({
            "serin.dev/stable-service": "echo-stable",
            "serin.dev/canary-service": "echo-canary",
        });
        for (key, value) in lines {
            annotations[format!("serin.dev/{key}")] = json!(value);
        }
        self.create::<Service>(json!({
            "metadata": {"name": "echo", "annotations": annotations},
            "spec": {"selector": {"app": "proxy"}, "ports": [{"name": "http", "port": 80}]},
        }));
    }

    pub fn annotate(&self, key: &str, value: &str) {
        let annotations = json!({format!("serin.dev/{key}"): value});
        self.patch::<Service>("echo", &json!({"metadata": {"annotations": annotations}}));
    }

    /// A pod of a track: a slice of its own, because pods that share an address differ in their ports.
    pub fn pod(&self, service: &str, at: SocketAddr) {
        self.create::<EndpointSlice>(json!({
            "metadata": {
                "name": slice(service, at),
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": "IPv4",
            "endpoints": [endpoint(at, true)],
            "ports": [{"name": "http", "port": at.port()}],
        }));
    }

    /// The pod terminates: it serves on, and is to be left alone.
    pub fn leave(&self, service: &str, at: SocketAddr) {
        let endpoints = json!({"endpoints": [endpoint(at, false)]});
        self.patch::<EndpointSlice>(&slice(service, at), &endpoints);
    }

    pub fn remove(&self, service: &str, at: SocketAddr) {
        let api = self.api::<EndpointSlice>();
        let name = slice(service, at);
        let gone = self.runtime.block_on(api.delete(&name, &DeleteParams::default()));
        gone.unwrap();
    }

    /// The Secret for evidence; its certificate, for who asks.
    pub fn secret(&self, token: &str) -> String {
        let made = rcgen::generate_simple_self_signed([EVIDENCE_NAME.to_owned()]).unwrap();
        let certificate = made.cert.pem();
        self.create::<Secret>(json!({
            "metadata": {"name": EVIDENCE_SECRET},
            "type": "Opaque",
            "stringData": {
                EVIDENCE_TOKEN: token,
                EVIDENCE_CERTIFICATE: certificate,
                EVIDENCE_KEY: made.signing_key.serialize_pem(),
            },
        }));
        certificate
    }

    /// What a proxy of this cluster is started with; its account has the Role and nothing else.
    pub fn options(&self) -> Options {
        let config = self.runtime.block_on(config(&self.server, ACCOUNT, &[]));
        let any = "127.0.0.1:0".to_owned();
        Options::of(Cluster {
            config,
            namespace: NAMESPACE.into(),
            service: "echo".into(),
            port: None,
            local: None,
            pod: None,
            cache: Some(self.folder.join("table.json")),
            tls: proxy::contract::routes::BackendTls::default(),
            resilience: proxy::contract::file::ResilienceEntry::default(),
            proxy: ProxyEntry {
                listen: any.clone(),
                signals: any.clone(),
                admin: any,
                workers: 2,
                ..ProxyEntry::default()
            },
        })
    }

    pub fn start(&self) -> Proxy {
        Proxy::start(self.options())
    }

    /// What the proxies have asked the API server, without doubles.
    pub fn asked(&self) -> Vec<String> {
        let calls = self.server.calls().into_iter().filter(|c| c.user == ACCOUNT);
        let mut all: Vec<_> = calls
            .map(|c| format!("{} {} {}", c.verb, c.resource, c.code))
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn slice(service: &str, at: SocketAddr) -> String {
    format!("{service}-{}", at.port())
}

fn endpoint(at: SocketAddr, ready: bool) -> Value {
    let conditions = json!({"ready": ready, "serving": true, "terminating": !ready});
    json!({"addresses": [at.ip().to_string()], "conditions": conditions})
}

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A running proxy.
pub struct Proxy {
    pub running: Running,
}

impl Proxy {
    pub fn start(options: Options) -> Proxy {
        Proxy {
            running: proxy::start(options).unwrap(),
        }
    }

    pub fn client(&self) -> Wire {
        Wire::connect(self.running.addresses().listen)
    }

    pub fn signals(&self, path: &str) -> Message {
        Wire::connect(self.running.addresses().signals).get(path, &[])
    }

    pub fn is_ready(&self) -> bool {
        self.signals("/readyz").status() == 200
    }

    /// The page of the one service, if there is one.
    pub fn page(&self) -> Option<ServicePage> {
        self.running.evidence(0).services.remove("echo")
    }

    pub fn share(&self) -> f64 {
        self.page().map_or(-1.0, |p| p.share)
    }

    /// Endpoints by track.
    pub fn endpoints(&self) -> [u64; 2] {
        self.page().map_or([0; 2], |p| p.endpoints)
    }

    /// Who answers so many requests on connections of their own.
    pub fn answers(&self, n: usize) -> Vec<String> {
        (0..n).map(|_| self.client().get("/", &[]).text()).collect()
    }
}
