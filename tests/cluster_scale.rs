//! One controller for many Rollouts: what it asks of the API server, how fast it still decides, and what it holds in memory.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)] // a test that panics has found something

use cluster::{api, teller};
use futures_util::{StreamExt, stream};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    runtime::{watcher, watcher::Event},
};
use proxy::contract::{
    Canary,
    evidence::{Bad, Cohort, Minute, Page, SCHEMA, Served, ServicePage, Tally},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
const NAMESPACE: &str = "default";
/// Most calls a second in the steady state.
const CALLS: f64 = 5.0;
/// Most memory of a controller, in MiB.
const MEMORY: f64 = 200.0;
/// From the first bad answer of a canary to weight 0.
const DECISION: Duration = Duration::from_secs(2);
/// Objects made at once.
const AT_ONCE: usize = 32;
/// Requests a second of each service under release.
const RATE: u64 = 100;
/// Every answer took about 32 ms.
const QUICK: u16 = 24;

fn all() -> bool {
    std::env::var("SERIN_TESTS").is_ok_and(|v| v == "all")
}

/// A stand-in with a controller beside it.
struct Town {
    runtime: Runtime,
    server: api::Server,
    client: Client,
    folder: PathBuf,
    controller: Option<Child>,
}

impl Town {
    fn start() -> Town {
        let runtime = Runtime::new().unwrap();
        let server = api::Server::start(api::Options::default()).unwrap();
        let config = server.kubeconfig("admin", &["system:masters"]);
        let client = runtime.block_on(async {
            let config = Kubeconfig::from_yaml(&config).unwrap();
            let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
            Client::try_from(config.unwrap()).unwrap()
        });
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("serin-scale-{}-{n}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let controller = server.kubeconfig("controller", &["system:masters"]);
        fs::write(folder.join("kubeconfig"), controller).unwrap();
        let town = Town {
            runtime,
            server,
            client,
            folder,
            controller: None,
        };
        let crd = Command::new(SERIN).arg("crd").output().unwrap().stdout;
        let crd: Value = serde_saphyr::from_str(&String::from_utf8(crd).unwrap()).unwrap();
        town.make(vec![crd]);
        town
    }

    /// Creates all of these, many at once.
    fn make(&self, objects: Vec<Value>) {
        let made = stream::iter(objects)
            .map(|o| self.create(o))
            .buffer_unordered(AT_ONCE);
        self.runtime.block_on(made.collect::<Vec<()>>());
    }

    async fn create(&self, object: Value) {
        let api = self.api(&object);
        let typed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let made = api.create(&PostParams::default(), &typed).await;
        made.unwrap_or_else(|e| panic!("{e} for {object:#}"));
        if !object["status"].is_null() && object["kind"] != "CustomResourceDefinition" {
            let name = object["metadata"]["name"].as_str().unwrap();
            let patch = Patch::Merge(json!({"status": object["status"]}));
            api.patch_status(name, &PatchParams::default(), &patch)
                .await
                .unwrap();
        }
    }

    fn api(&self, object: &Value) -> Api<DynamicObject> {
        let version = object["apiVersion"].as_str().unwrap();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
        let resource = ApiResource::from_gvk(&kind);
        match object["kind"].as_str() {
            Some("CustomResourceDefinition") => Api::all_with(self.client.clone(), &resource),
            _ => Api::namespaced_with(self.client.clone(), NAMESPACE, &resource),
        }
    }

    fn get(&self, version: &str, kind: &str, name: &str) -> Option<Value> {
        let api = self.api(&json!({"apiVersion": version, "kind": kind}));
        let found = self.runtime.block_on(api.get_opt(name)).unwrap();
        found.map(|o| serde_json::to_value(o).unwrap())
    }

    fn control(&mut self) {
        let log = fs::File::create(self.folder.join("log")).unwrap();
        let child = Command::new(SERIN)
            .args(["controller", "--listen=127.0.0.1:0", "--lease-namespace=default"])
            .env("KUBECONFIG", self.folder.join("kubeconfig"))
            .env("POD_NAME", "controller")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.controller = Some(child.unwrap());
    }

    fn wait<T>(&self, what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
        self.wait_at(Duration::from_millis(20), what, limit, look)
    }

    /// Waits with a look every so often.
    fn wait_at<T>(
        &self,
        pace: Duration,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look() {
                println!("{what} after {:.1?}", begun.elapsed());
                return found;
            }
            assert!(begun.elapsed() < limit, "waited {limit:?} in vain: {what}");
            std::thread::sleep(pace);
        }
    }

    /// Waits until so many Rollouts are in a phase. Each look lists all of them.
    fn wait_for(&self, phase: &str, count: usize, limit: u64) {
        let limit = Duration::from_secs(limit);
        self.wait_at(Duration::from_secs(1), &format!("{count} {phase}"), limit, || {
            (self.in_phase(phase) == count).then_some(())
        });
    }

    /// How many Rollouts are in a phase.
    fn in_phase(&self, phase: &str) -> usize {
        let api = self.api(&json!({"apiVersion": "serin.dev/v1alpha1", "kind": "Rollout"}));
        let listed = self.runtime.block_on(api.list(&Default::default())).unwrap();
        let is = |o: &&DynamicObject| o.data["status"]["phase"] == phase;
        listed.items.iter().filter(is).count()
    }

    /// What the controller asks of the API server in this time: by verb and resource.
    fn calls(&self, time: Duration) -> BTreeMap<String, usize> {
        self.server.forget_calls();
        std::thread::sleep(time);
        let mut by = BTreeMap::new();
        for call in self.server.calls().into_iter().filter(|c| c.user == "controller") {
            let what = format!(
                "{} {} {} {}",
                call.verb, call.resource, call.subresource, call.code
            );
            *by.entry(what).or_default() += 1;
        }
        by
    }

    /// The controller's resident memory in MiB.
    fn memory(&self) -> f64 {
        let id = self.controller.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib / 1024.0
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        if let Some(mut child) = self.controller.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A service with its tracks, stable and Rollout.
fn idle(name: &str) -> Vec<Value> {
    let service = |name: String, annotations: Value, selector: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        })
    };
    let track = |track: &str| {
        service(
            format!("{name}-{track}"),
            json!({}),
            json!({"app": name, "track": track}),
        )
    };
    let names = json!({"serin.dev/stable-service": format!("{name}-stable"), "serin.dev/canary-service": format!("{name}-canary")});
    let front = service(name.to_owned(), names, json!({"serin.dev/proxy": name}));
    let rollout = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "Rollout", "metadata": {"name": name},
        "spec": {
            "service": name, "stable": {"name": format!("{name}-server")}, "canary": {"name": format!("{name}-next")},
            "pacing": {"steps": [{"weight": 20, "hold": "1h"}]}, "judgement": {"warmUp": "1s"},
        },
    });
    vec![
        front,
        track("stable"),
        track("canary"),
        workload(name, "server", "stable", "v1.0.0"),
        rollout,
    ]
}

/// A Deployment that says of itself that all its pods are ready.
fn workload(app: &str, name: &str, track: &str, version: &str) -> Value {
    let labels = json!({"app": app, "track": track, "version": version});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": format!("{app}-{name}")},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": app, "track": track}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{
                    "name": "app", "image": format!("example.com/{app}:{version}"),
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "env": [{"name": "LOG", "value": "info"}],
                    "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
                }]},
            },
        },
        "status": {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3},
    })
}

/// The only proxy of a service.
fn front(name: &str, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("{name}-front"), "labels": {"serin.dev/proxy": name}},
        "spec": {"containers": [{"name": "proxy", "image": "serin", "ports": [{"name": "signals", "containerPort": port}]}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// What the only proxy of a service has counted.
struct Script {
    born: Instant,
    canary: Canary,
    /// From when on every answer of the canary is bad; the first second that is.
    bad: Option<Instant>,
    first_bad: Option<Instant>,
    cohorts: Vec<Cohort>,
}

type Scripts = Arc<BTreeMap<String, Mutex<Script>>>;

impl Script {
    fn new() -> Script {
        Script {
            born: Instant::now(),
            canary: Canary::parse(&BTreeMap::new(), "serin.dev/").unwrap(),
            bad: None,
            first_bad: None,
            cohorts: Vec::new(),
        }
    }

    fn page(&mut self, service: &str, since: u64) -> String {
        let now_ms = self.born.elapsed().as_millis() as u64;
        self.flow(now_ms / 1000);
        let page = ServicePage {
            hash: self.canary.hash(),
            share: self.canary.split.share(),
            inflight: [0, 0],
            endpoints: [3, 3],
            guard: None,
            cohorts: self
                .cohorts
                .iter()
                .filter(|c| c.second >= since)
                .cloned()
                .collect(),
            history: vec![Minute {
                minute: 0,
                started: now_ms / 1000 * RATE,
                bad: 0,
                noise: Default::default(),
            }],
            latency: vec![(QUICK, now_ms / 1000 * RATE)],
            pods: Vec::new(),
            local: false,
            rejected: Vec::new(),
        };
        let page = Page {
            schema: SCHEMA,
            process: service.to_owned(),
            now_ms,
            services: BTreeMap::from([(service.to_owned(), page)]),
        };
        serde_json::to_string(&page).unwrap()
    }

    /// The seconds that are over.
    fn flow(&mut self, now: u64) {
        let next = self.cohorts.last().map_or(0, |c| c.second + 1);
        for second in next..now {
            let share = self.canary.split.share();
            let canary = (RATE as f64 * share) as u64;
            let begins = self.born + Duration::from_secs(second);
            let is_bad = self.bad.is_some_and(|since| begins >= since) && canary > 0;
            if is_bad {
                self.first_bad.get_or_insert(begins);
            }
            self.cohorts.push(Cohort {
                second,
                hash: self.canary.hash(),
                share,
                tracks: [
                    tally(RATE - canary, 0),
                    tally(canary, if is_bad { canary } else { 0 }),
                ],
                slices: Vec::new(),
            });
        }
        let surplus = self.cohorts.len().saturating_sub(120);
        self.cohorts.drain(..surplus);
    }
}

fn tally(started: u64, bad: u64) -> Tally {
    let good = started - bad;
    Tally {
        started,
        finished: started,
        bad: Bad {
            by_1s: bad,
            by_5s: bad,
            by_30s: bad,
            ever: bad,
        },
        served: Served {
            by_500ms: good,
            by_1s: good,
        },
        cancelled: 0,
        latency: vec![(QUICK, started)],
    }
}

fn script<'a>(scripts: &'a Scripts, name: &str) -> MutexGuard<'a, Script> {
    scripts[name].lock().unwrap()
}

/// Proxies that take every split at once.
async fn follow(client: Client, scripts: Scripts) {
    let api = Api::<k8s_openapi::api::core::v1::Service>::namespaced(client, NAMESPACE);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let (Ok(Event::Apply(service)) | Ok(Event::InitApply(service))) = event else {
            continue;
        };
        let name = service.metadata.name.unwrap_or_default();
        let annotations = service.metadata.annotations.unwrap_or_default();
        if let Some(script) = scripts.get(&name) {
            script.lock().unwrap().canary = Canary::parse(&annotations, "serin.dev/").unwrap();
        }
    }
}

fn names(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|n| format!("s-{n:05}")).collect()
}

/// So many Rollouts, of which so many are in the middle of a release.
fn busy(idle_ones: usize, active: usize, time: Duration) {
    let mut town = Town::start();
    town.make(
        names(0, idle_ones + active)
            .iter()
            .flat_map(|n| idle(n))
            .collect(),
    );
    town.control();
    town.wait_for("Idle", idle_ones + active, 120);
    let names = names(0, active);
    let scripts: Scripts = Arc::new(
        names
            .iter()
            .map(|n| (n.clone(), Mutex::new(Script::new())))
            .collect(),
    );
    let secret = town.get("v1", "Secret", "serin-evidence").unwrap();
    let door = teller::door(&secret).unwrap();
    let _inside = town.runtime.enter();
    tokio::spawn(follow(town.client.clone(), scripts.clone()));
    let fronts = names.iter().map(|name| {
        let (scripts, service) = (scripts.clone(), name.clone());
        let pages: teller::Pages = Arc::new(move |since| script(&scripts, &service).page(&service, since));
        let address = town.runtime.block_on(teller::tell(door.clone(), pages)).unwrap();
        front(name, address.port())
    });
    town.make(fronts.collect());
    // What a proxy remembers of the time before.
    std::thread::sleep(Duration::from_secs(5));
    town.make(
        names
            .iter()
            .map(|n| workload(n, "next", "canary", "v2.0.0"))
            .collect(),
    );
    town.wait_for("Shifting", active, 60);
    std::thread::sleep(Duration::from_secs(5));
    let calls = town.calls(time);
    let rate = calls.values().sum::<usize>() as f64 / time.as_secs_f64();
    println!(
        "{idle_ones} idle, {active} active: {rate:.2} calls/s; {calls:#?}; {:.1} MiB",
        town.memory()
    );
    assert!(rate <= CALLS, "{rate} calls a second: {calls:#?}");
    let mut worst = Duration::ZERO;
    for name in names.iter().take(5) {
        worst = worst.max(returned(&town, &scripts, name));
    }
    println!("the slowest of five decisions took {worst:.2?}");
    assert!(worst < DECISION, "the slowest decision took {worst:?}");
}

/// How long it takes from the first bad answer to weight 0.
fn returned(town: &Town, scripts: &Scripts, name: &str) -> Duration {
    script(scripts, name).bad = Some(Instant::now());
    let first = town.wait("a bad answer", Duration::from_secs(5), || {
        script(scripts, name).first_bad
    });
    town.wait("weight 0", Duration::from_secs(10), || {
        let service = town.get("v1", "Service", name)?;
        (service["metadata"]["annotations"]["serin.dev/canary-weight"] == "0").then(|| first.elapsed())
    })
}

/// So many Rollouts with nothing to do: memory is small, stays as it is, and nothing is asked but the Lease.
fn quiet(count: usize, time: Duration) {
    let mut town = Town::start();
    let begun = Instant::now();
    town.make(names(0, count).iter().flat_map(|n| idle(n)).collect());
    println!("{count} made in {:.1?}", begun.elapsed());
    town.control();
    town.wait_for("Idle", count, 180);
    std::thread::sleep(Duration::from_secs(3));
    let before = town.memory();
    let calls = town.calls(time);
    let after = town.memory();
    let rate = calls.values().sum::<usize>() as f64 / time.as_secs_f64();
    println!("{count} idle: {before:.1} MiB, {time:?} later {after:.1} MiB; {rate:.2} calls/s; {calls:#?}");
    assert!(after < MEMORY, "{after} MiB");
    assert!(
        after < before * 1.02 + 1.0,
        "memory grew from {before} to {after} MiB"
    );
    assert!(rate < 2.0, "{rate} calls a second: {calls:#?}");
}

#[test]
fn releases_among_idle_rollouts_ask_little_and_decide_in_time() {
    let (idle, active, time) = if all() { (950, 50, 60) } else { (190, 10, 15) };
    busy(idle, active, Duration::from_secs(time));
}

#[test]
fn idle_rollouts_need_little_memory_and_no_calls() {
    let (count, time) = if all() { (10_000, 60) } else { (2_000, 10) };
    quiet(count, Duration::from_secs(time));
}
