//! One container: its process, its end, its restarts.

use super::{
    Place, Shared,
    env::{self, Env},
    probe::{self, Probes},
    volumes::Mounts,
};
use k8s_openapi::{
    api::core::v1::{Container, LifecycleHandler, Pod},
    jiff::Timestamp,
};
use std::{
    fs::OpenOptions,
    net::Ipv4Addr,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    sync::{Notify, watch},
    task::JoinSet,
    time::{self, Instant},
};

/// Pause before the first restart; each further one waits twice as long.
const BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// A container that ran so long begins its pauses anew.
const STEADY: Duration = Duration::from_secs(10);
/// Pause before another look for what the manifest names and the cluster has not.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How long an image with `crash` in its name lives.
const CRASH: Duration = Duration::from_millis(300);

/// What the pod wants of its containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Run, and restart by the policy.
    Run,
    /// End within so long.
    Stop(Duration),
    /// End now.
    Kill,
}

/// Whether an ended container starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Whatever its exit code.
    Always,
    /// Only after a failure.
    OnFailure,
    /// Never.
    Never,
}

/// How a container ended.
#[derive(Clone, Debug)]
pub struct End {
    /// Its exit code; 128 + the signal's number.
    pub code: i32,
    /// `Completed` or `Error`, or why it never began.
    pub reason: &'static str,
    /// More, where there is more to say.
    pub message: String,
    /// When it began and ended.
    pub span: (Timestamp, Timestamp),
}

/// What a container does.
#[derive(Clone, Debug)]
pub enum Phase {
    /// Not running, for this reason, with this message.
    Waiting(&'static str, String),
    /// Running since.
    Running(Timestamp),
    /// At its end.
    Terminated(End),
}

/// What the status says of a container.
#[derive(Clone, Debug)]
pub struct State {
    /// What it does.
    pub phase: Phase,
    /// How it ended the last time.
    pub last: Option<End>,
    /// How often it was started again.
    pub restarts: i32,
    /// Whether its readiness probe succeeds.
    pub ready: bool,
    /// Whether its startup probe has succeeded.
    pub started: bool,
}

/// The states of a pod's containers, and a bell for whoever publishes them.
pub struct Board {
    states: Mutex<Vec<State>>,
    /// Rings at every change.
    pub changed: Notify,
}

impl Board {
    /// For so many containers, all waiting.
    pub fn new(containers: usize, reason: &'static str) -> Board {
        let state = State {
            phase: Phase::Waiting(reason, String::new()),
            last: None,
            restarts: 0,
            ready: false,
            started: false,
        };
        Board {
            states: Mutex::new(vec![state; containers]),
            changed: Notify::new(),
        }
    }

    /// All states as they are now.
    pub fn all(&self) -> Vec<State> {
        self.lock().clone()
    }

    /// Changes one and rings.
    pub fn change(&self, index: usize, edit: impl FnOnce(&mut State)) {
        if let Some(state) = self.lock().get_mut(index) {
            edit(state);
        }
        self.changed.notify_one();
    }

    /// All wait for the same.
    pub fn all_wait(&self, reason: &'static str, message: &str) {
        for state in self.lock().iter_mut() {
            state.phase = Phase::Waiting(reason, message.into());
        }
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One container of one pod on this node.
pub struct Task {
    /// The node's.
    pub shared: Arc<Shared>,
    /// The pod it belongs to.
    pub pod: Arc<Pod>,
    /// The pod's address.
    pub address: Ipv4Addr,
    /// What the manifest says of it.
    pub container: Container,
    /// Whether it starts again.
    pub policy: Policy,
    /// Where its state stands.
    pub board: Arc<Board>,
    /// Which state.
    pub index: usize,
    /// Its name among all processes.
    pub place: Place,
}

impl Task {
    /// Runs it until an order or its policy ends it.
    pub async fn run(self, mut orders: watch::Receiver<Order>) {
        let mut pause = BACKOFF;
        while *orders.borrow_and_update() == Order::Run {
            let command = match self.command().await {
                Ok(command) => command,
                Err((reason, message)) => {
                    self.wait(reason, message);
                    interrupted(LOOK_AGAIN, &mut orders).await;
                    continue;
                }
            };
            let begun = Instant::now();
            let end = self.once(command, &mut orders).await;
            if *orders.borrow() != Order::Run || !self.again(&end) {
                return self.ended(end);
            }
            if begun.elapsed() > STEADY {
                pause = BACKOFF;
            }
            self.back_off(&end, pause);
            if interrupted(pause, &mut orders).await {
                return self.ended(end);
            }
            pause = (pause * 2).min(LONGEST_BACKOFF);
        }
    }

    fn again(&self, end: &End) -> bool {
        match self.policy {
            Policy::Always => true,
            Policy::OnFailure => end.code != 0,
            Policy::Never => false,
        }
    }

    fn wait(&self, reason: &'static str, message: String) {
        self.board
            .change(self.index, |s| s.phase = Phase::Waiting(reason, message));
    }

    fn back_off(&self, end: &End, pause: Duration) {
        let message = format!(
            "back-off {pause:?} restarting failed container={}",
            self.container.name
        );
        self.board.change(self.index, |s| {
            s.phase = Phase::Waiting("CrashLoopBackOff", message);
            s.last = Some(end.clone());
            s.restarts += 1;
            (s.ready, s.started) = (false, false);
        });
    }

    fn ended(&self, end: End) {
        self.board.change(self.index, |s| {
            s.phase = Phase::Terminated(end);
            (s.ready, s.started) = (false, false);
        });
    }

    /// One run of the process, from its start to its end.
    async fn once(&self, mut command: Command, orders: &mut watch::Receiver<Order>) -> End {
        let begun = Timestamp::now();
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(e) => {
                let program = command.as_std().get_program().display().to_string();
                return end(128, "StartError", format!("cannot run {program}: {e}"), begun);
            }
        };
        self.note(child.id());
        self.board.change(self.index, |s| s.phase = Phase::Running(begun));
        let mut probes = JoinSet::new();
        probes.spawn(self.probes().watch(self.board.clone(), self.index));
        let (status, why) = self.outcome(&mut child, &mut probes, orders).await;
        self.note(None);
        told(status, why, begun)
    }

    /// Waits for the process, an unhealthy probe, or an order.
    async fn outcome(
        &self,
        child: &mut Child,
        probes: &mut JoinSet<String>,
        orders: &mut watch::Receiver<Order>,
    ) -> (std::io::Result<ExitStatus>, Why) {
        let crash = async {
            match self.image().contains("crash") {
                true => time::sleep(CRASH).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            status = child.wait() => (status, Why::Itself),
            Some(Ok(message)) = probes.join_next() => (self.stop(child, self.grace(), orders).await, Why::Unhealthy(message)),
            () = crash => (kill(child).await, Why::Crash),
            order = other(orders) => {
                let grace = if let Order::Stop(grace) = order { grace } else { Duration::ZERO };
                (self.stop(child, grace, orders).await, Why::Itself)
            }
        }
    }

    /// preStop, SIGTERM, and SIGKILL at the end of the grace or at an order.
    async fn stop(
        &self,
        child: &mut Child,
        grace: Duration,
        orders: &mut watch::Receiver<Order>,
    ) -> std::io::Result<ExitStatus> {
        let gently = async {
            self.pre_stop().await;
            if let Some(pid) = child.id() {
                signal("TERM", pid).await;
            }
            child.wait().await
        };
        tokio::select! {
            status = gently => return status,
            () = time::sleep(grace) => {}
            _ = orders.wait_for(|o| *o == Order::Kill) => {}
        }
        kill(child).await
    }

    async fn pre_stop(&self) {
        let hook = self
            .container
            .lifecycle
            .as_ref()
            .and_then(|l| l.pre_stop.as_ref());
        match hook {
            Some(LifecycleHandler {
                sleep: Some(sleep), ..
            }) => {
                time::sleep(Duration::from_secs(sleep.seconds.max(0) as u64)).await;
            }
            Some(LifecycleHandler { exec: Some(exec), .. }) => {
                if let Some((program, args)) = exec.command.as_deref().unwrap_or_default().split_first() {
                    let program = self.shared.program(self.image(), Some(program));
                    let _ = Command::new(program).args(args).kill_on_drop(true).status().await;
                }
            }
            Some(LifecycleHandler {
                http_get: Some(get), ..
            }) => {
                let _ = probe::get(get, &self.container, self.address).await;
            }
            _ => {}
        }
    }

    fn grace(&self) -> Duration {
        let seconds = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.termination_grace_period_seconds);
        Duration::from_secs(seconds.unwrap_or(30).max(0) as u64)
    }

    fn image(&self) -> &str {
        self.container.image.as_deref().unwrap_or_default()
    }

    fn note(&self, pid: Option<u32>) {
        let mut running = self.shared.running();
        match pid {
            Some(pid) => drop(running.insert(self.place.clone(), pid)),
            None => drop(running.remove(&self.place)),
        }
    }

    fn probes(&self) -> Probes {
        Probes {
            container: self.container.clone(),
            address: self.address,
            fast: self.shared.options.fast_probes,
        }
    }

    /// The process, ready to start; or why it cannot: a reason as the kubelet gives it, and what is wrong.
    async fn command(&self) -> Result<Command, (&'static str, String)> {
        if self.image().contains("missing") {
            return Err((
                "ImagePullBackOff",
                format!("Back-off pulling image \"{}\"", self.image()),
            ));
        }
        let env = env::resolve(&self.shared.client, &self.pod, self.address, &self.container)
            .await
            .map_err(|e| ("CreateContainerConfigError", e))?;
        self.build(env).map_err(|e| ("CreateContainerError", e))
    }

    fn build(&self, env: Env) -> Result<Command, String> {
        let mounts = Mounts::of(&self.shared, &self.pod, &self.container);
        let fill = |text: &String| mounts.replace(&env::expand(text, &env));
        let given: Vec<_> = self.container.command.iter().flatten().map(fill).collect();
        let mut command = Command::new(
            self.shared
                .program(self.image(), given.first().map(String::as_str)),
        );
        command
            .args(given.iter().skip(1))
            .args(self.container.args.iter().flatten().map(fill));
        command.env_clear();
        command.envs(
            ["PATH", "RUST_BACKTRACE", "RUST_LOG"]
                .into_iter()
                .filter_map(|k| Some((k, std::env::var_os(k)?))),
        );
        command.env("KUBECONFIG", self.shared.private(&self.pod).join("kubeconfig"));
        command.envs(env.iter().map(|(k, v)| (k, mounts.replace(v))));
        let [out, err] = log(&self.shared.log(&self.place))?;
        command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .kill_on_drop(true);
        Ok(command)
    }
}

fn log(path: &Path) -> Result<[std::fs::File; 2], String> {
    let open = || OpenOptions::new().create(true).append(true).open(path);
    let files = open().and_then(|file| Ok([file.try_clone()?, file]));
    files.map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// Why a process was ended.
enum Why {
    Itself,
    Unhealthy(String),
    Crash,
}

fn told(status: std::io::Result<ExitStatus>, why: Why, begun: Timestamp) -> End {
    let code = status
        .ok()
        .map_or(137, |s| s.code().unwrap_or_else(|| 128 + s.signal().unwrap_or(0)));
    match why {
        Why::Crash => end(1, "Error", String::new(), begun),
        Why::Unhealthy(message) => end(code.max(1), "Error", message, begun),
        Why::Itself if code == 0 => end(0, "Completed", String::new(), begun),
        Why::Itself => end(code, "Error", String::new(), begun),
    }
}

fn end(code: i32, reason: &'static str, message: String, begun: Timestamp) -> End {
    End {
        code,
        reason,
        message,
        span: (begun, Timestamp::now()),
    }
}

async fn kill(child: &mut Child) -> std::io::Result<ExitStatus> {
    let _ = child.start_kill();
    child.wait().await
}

/// Sends a signal by the shell's own `kill`: std can only send SIGKILL.
async fn signal(name: &str, pid: u32) {
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status()
        .await;
}

/// Waits for an order to end.
async fn other(orders: &mut watch::Receiver<Order>) -> Order {
    let order = orders.wait_for(|o| *o != Order::Run).await;
    order.map_or(Order::Kill, |o| *o)
}

/// Pauses; whether an order to end came meanwhile.
async fn interrupted(pause: Duration, orders: &mut watch::Receiver<Order>) -> bool {
    tokio::select! {
        () = time::sleep(pause) => false,
        _ = other(orders) => true,
    }
}
