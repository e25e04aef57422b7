//! The cluster of the README: what `k8s/` says, applied by the real kubectl, in the namespace `default`. Images are
//! mapped by the node, so nothing is built or loaded.

use cluster::harness::{Options, World, own_network};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

const SERIN: &str = env!("CARGO_BIN_EXE_serin");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// The defaults, with times that fit into a minute.
const FAST: &str = r#"{"spec":{"pacing":{"soak":"3s","interval":"1s"},"promotion":{"watch":"2s"},"judgement":{"warmUp":"1s","errors":{"promote":{"ratio":1.5,"absolute":0.02}},"latency":{"enabled":false}}}}"#;

/// Longest wait for what takes a moment.
pub const LIMIT: Duration = Duration::from_secs(30);
/// Longest release.
pub const RELEASE: Duration = Duration::from_secs(90);
pub const RATE: f64 = 200.0;

/// Where the controller lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    /// `k8s/controller`: in `serin-system`, for the whole cluster.
    Cluster,
    /// `k8s/controller-namespaced`: beside the application.
    Namespaced,
}

/// The cluster, and a folder that looks like the repository.
pub struct Town {
    pub world: World,
}

/// Runs a test in a cluster of its own.
pub fn in_town(test: &str, controller: Controller, body: impl FnOnce(&Town)) {
    own_network(test, || {
        let town = Town::empty();
        town.found(controller);
        body(&town);
    });
}

/// Whether a proxy finds somebody to answer: a pod may be ready some milliseconds before its proxies have heard of it.
fn answers(at: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(at)?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: echo\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
}

impl Town {
    pub fn empty() -> Town {
        Town::of(BTreeMap::new())
    }

    /// Where these images are programs of their own.
    pub fn of(images: BTreeMap<String, PathBuf>) -> Town {
        let mut options = Options::new(SERIN);
        options.images = images;
        options.namespace = Some("default".into());
        let world = World::start(options);
        symlink(Path::new(ROOT).join("k8s"), world.folder().join("k8s")).unwrap();
        Town { world }
    }

    /// Controller and example, as the README has them, with the paces of a test.
    pub fn found(&self, controller: Controller) {
        match controller {
            Controller::Cluster => drop(self.sh("kubectl apply -k k8s/controller")),
            Controller::Namespaced => {
                self.sh("kubectl apply -k k8s/crd && kubectl apply -k k8s/controller-namespaced");
            }
        }
        self.sh("kubectl wait --for=condition=Established crd/rollouts.serin.dev --timeout=20s");
        self.sh("kubectl apply -k k8s/example");
        self.hurry();
        self.phase("Idle", LIMIT);
        self.world.ready("serin.dev/proxy=echo", 2, LIMIT);
        self.world.ready("app=echo,track=stable", 3, LIMIT);
        self.heard();
    }

    /// Waits until every proxy has heard of stable's pods.
    pub fn heard(&self) {
        self.world.wait("every proxy knows stable's pods", LIMIT, || {
            let all = self.world.addresses("echo");
            (all.len() == 2 && all.into_iter().all(answers)).then_some(())
        });
    }

    pub fn hurry(&self) {
        self.sh(&format!("kubectl patch rollout echo --type=merge -p '{FAST}'"));
    }

    /// A line as people type it, in a folder with `k8s/` in it.
    pub fn command(&self, line: &str) -> Command {
        let mut command = self.world.command("bash", &["-o", "pipefail", "-c", line]);
        let own = Path::new(SERIN).parent().unwrap().display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .current_dir(self.world.folder())
            .env("PATH", format!("{own}:{path}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn try_sh(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// What a line that must succeed prints.
    pub fn sh(&self, line: &str) -> String {
        let run = self.try_sh(line);
        let error = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{line}: {error}");
        String::from_utf8_lossy(&run.stdout).into_owned()
    }

    /// What a line that must fail says.
    pub fn refused(&self, line: &str) -> String {
        let run = self.try_sh(line);
        let error = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!run.status.success(), "{line} succeeded");
        error
    }

    /// Applies the template of the pipeline.
    pub fn canary(&self, version: &str, replicas: u32) {
        self.sh(&format!(
            "sed 's/{{{{VERSION}}}}/{version}/; s/{{{{IMAGE}}}}/serin:dev/; s/{{{{REPLICAS}}}}/{replicas}/' \
             k8s/pipeline/canary.yml > canary.yml && kubectl apply -f canary.yml"
        ));
    }

    /// The same, failing half of its requests.
    pub fn bad_canary(&self, version: &str) {
        self.sh(&format!(
            "sed 's/{{{{VERSION}}}}/{version}/; s/{{{{IMAGE}}}}/serin:dev/; s/{{{{REPLICAS}}}}/1/; \
             s/--version=$(VERSION)\"/--version=$(VERSION)\", --errors=0.5/' k8s/pipeline/canary.yml > canary.yml \
             && grep -q errors=0.5 canary.yml && kubectl apply -f canary.yml"
        ));
    }

    pub fn status(&self) -> Value {
        let rollout = self.world.json("serin.dev/v1alpha1/Rollout", "echo");
        rollout.unwrap_or_default()["status"].take()
    }

    pub fn phase(&self, wanted: &str, limit: Duration) -> Value {
        self.world.wait(&format!("phase {wanted}"), limit, || {
            let status = self.status();
            (status["phase"] == wanted).then_some(status)
        })
    }

    pub fn note(&self, object: &str, key: &str) -> String {
        let (kind, name) = object.rsplit_once('/').unwrap();
        let object = self.world.json(kind, name).unwrap_or_default();
        let value = &object["metadata"]["annotations"][key];
        value.as_str().unwrap_or_default().to_owned()
    }

    /// The canary's weight in force, in percent.
    pub fn weight(&self) -> f64 {
        let total = self.note("v1/Service/echo", "serin.dev/canary-weight-total");
        let weight = self.note("v1/Service/echo", "serin.dev/canary-weight");
        let number = |text: &str, none: f64| text.parse().unwrap_or(none);
        100.0 * number(&weight, 0.0) / number(&total, 100.0)
    }

    /// Waits until the canary has more than this.
    pub fn above(&self, percent: f64, limit: Duration) -> f64 {
        let what = format!("a weight above {percent} %");
        self.world.wait(&what, limit, || {
            let weight = self.weight();
            (weight > percent).then_some(weight)
        })
    }
}
