//! One pod's life: address, folders, containers, status, and the end that its deletion asks for.

use super::{
    RETRY, Shared, account, address,
    container::{Board, Order, Phase, Policy, Task},
    status::{Facts, Times, place, sidecar},
    volumes,
};
use k8s_openapi::{
    api::core::v1::{Container, Pod},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};
use std::{net::Ipv4Addr, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet, time};

/// Pause before another try to make a pod's surroundings.
const AGAIN: Duration = Duration::from_millis(200);

struct Life {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    address: Ipv4Addr,
    began: Timestamp,
    board: Arc<Board>,
    /// To the containers, and to sidecars, which end after all others.
    orders: watch::Sender<Order>,
    last_orders: watch::Sender<Order>,
}

/// Runs a pod from its binding until its object is gone.
pub async fn live(shared: Arc<Shared>, pod: Pod, mut news: watch::Receiver<Option<Pod>>) {
    let life = Arc::new(Life::new(shared, pod));
    let mut tasks = JoinSet::new();
    tasks.spawn(life.clone().publish(news.clone()));
    let mut running = JoinSet::new();
    running.spawn(life.clone().run());
    life.obey(&mut news, running).await;
    if let Err(e) = address::remove(life.address).await {
        tracing::debug!("{}: {e}", life.pod.name_any());
    }
}

impl Life {
    fn new(shared: Arc<Shared>, pod: Pod) -> Life {
        let containers = pod.spec.as_ref().map_or(0, |s| {
            s.containers.len() + s.init_containers.as_ref().map_or(0, Vec::len)
        });
        Life {
            shared,
            pod: Arc::new(pod),
            address: address::next(),
            began: Timestamp::now(),
            board: Arc::new(Board::new(containers, "ContainerCreating")),
            orders: watch::channel(Order::Run).0,
            last_orders: watch::channel(Order::Run).0,
        }
    }

    /// Waits for the deletion, ends the processes, and takes the object away.
    async fn obey(&self, news: &mut watch::Receiver<Option<Pod>>, mut running: JoinSet<()>) {
        let Some(grace) = deletion(news).await else {
            self.order(Order::Kill);
            return drop(running.join_next().await);
        };
        self.order(Order::Stop(grace));
        let gone = async {
            let _ = news.wait_for(Option::is_none).await;
        };
        tokio::select! {
            _ = running.join_next() => self.take_away(news).await,
            () = gone => {
                self.order(Order::Kill);
                running.join_next().await;
            }
        }
    }

    fn order(&self, order: Order) {
        self.orders.send_replace(order);
        if order == Order::Kill {
            self.last_orders.send_replace(order);
        }
    }

    /// Deletes the object for good, this very one.
    async fn take_away(&self, news: &watch::Receiver<Option<Pod>>) {
        let exactly = Preconditions {
            uid: self.pod.uid(),
            resource_version: None,
        };
        let now = DeleteParams::default().grace_period(0).preconditions(exactly);
        while news.borrow().is_some() {
            match self.api().delete(&self.pod.name_any(), &now).await {
                Ok(_) => return,
                Err(kube::Error::Api(e)) if matches!(e.code, 404 | 409) => return,
                Err(e) => tracing::debug!("{}: {e}", self.pod.name_any()),
            }
            time::sleep(RETRY).await;
        }
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(
            self.shared.client.clone(),
            &self.pod.namespace().unwrap_or_default(),
        )
    }

    async fn run(self: Arc<Life>) {
        if !self.prepare().await {
            return;
        }
        let spec = self.pod.spec.clone().unwrap_or_default();
        let initial = spec.init_containers.unwrap_or_default();
        let mut sidecars = JoinSet::new();
        if !self.begin(&initial, &mut sidecars).await {
            return;
        }
        let mut mains = JoinSet::new();
        for (n, container) in spec.containers.iter().enumerate() {
            let task = self.task(initial.len() + n, container, self.policy());
            mains.spawn(task.run(self.orders.subscribe()));
        }
        mains.join_all().await;
        self.last_orders.send_if_modified(|last| {
            let first = *last == Order::Run;
            *last = if first {
                Order::Stop(Duration::from_secs(2))
            } else {
                *last
            };
            first
        });
        sidecars.join_all().await;
    }

    /// Runs the init containers one after the other; whether all have come as far as they must.
    async fn begin(&self, initial: &[Container], sidecars: &mut JoinSet<()>) -> bool {
        for (index, container) in initial.iter().enumerate() {
            if sidecar(container) {
                let task = self.task(index, container, Policy::Always);
                sidecars.spawn(task.run(self.last_orders.subscribe()));
                self.until_started(index).await;
            } else {
                let task = self.task(index, container, self.first_policy());
                task.run(self.orders.subscribe()).await;
                if !self.succeeded(index) {
                    return false;
                }
            }
        }
        true
    }

    fn succeeded(&self, index: usize) -> bool {
        let states = self.board.all();
        let phase = states.get(index).map(|s| &s.phase);
        matches!(phase, Some(Phase::Terminated(end)) if end.code == 0)
    }

    /// Makes the address, the volumes and the credentials; whether the pod is still wanted.
    async fn prepare(&self) -> bool {
        while *self.orders.borrow() == Order::Run {
            match self.surroundings().await {
                Ok(()) => return true,
                Err((reason, message)) => self.board.all_wait(reason, &message),
            }
            time::sleep(AGAIN).await;
        }
        false
    }

    async fn surroundings(&self) -> Result<(), (&'static str, String)> {
        for folder in [self.shared.private(&self.pod), self.shared.logs()] {
            let made = tokio::fs::create_dir_all(&folder).await;
            made.map_err(|e| {
                (
                    "CreatePodSandboxError",
                    format!("cannot make {}: {e}", folder.display()),
                )
            })?;
        }
        volumes::fill(&self.shared, &self.pod)
            .await
            .map_err(|e| ("CreateContainerConfigError", e))?;
        account::kubeconfig(&self.shared, &self.pod)
            .await
            .map_err(|e| ("CreatePodSandboxError", e))?;
        address::add(self.address)
            .await
            .map_err(|e| ("CreatePodSandboxError", e))
    }

    fn task(&self, index: usize, container: &Container, policy: Policy) -> Task {
        Task {
            shared: self.shared.clone(),
            pod: self.pod.clone(),
            address: self.address,
            container: container.clone(),
            policy,
            board: self.board.clone(),
            index,
            place: place(&self.pod, container),
        }
    }

    fn policy(&self) -> Policy {
        match self.pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) {
            Some("Never") => Policy::Never,
            Some("OnFailure") => Policy::OnFailure,
            _ => Policy::Always,
        }
    }

    /// An init container runs until it succeeds, whatever the policy says of success.
    fn first_policy(&self) -> Policy {
        match self.policy() {
            Policy::Never => Policy::Never,
            _ => Policy::OnFailure,
        }
    }

    async fn until_started(&self, index: usize) {
        while *self.orders.borrow() == Order::Run {
            if self.board.all().get(index).is_some_and(|s| s.started) {
                return;
            }
            time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Tells the API server each change, and again until it has heard it.
    async fn publish(self: Arc<Life>, mut news: watch::Receiver<Option<Pod>>) {
        let mut times = Times::default();
        let mut told = Value::Null;
        loop {
            let states = self.board.all();
            let pod = news.borrow_and_update().clone();
            let facts = Facts {
                pod: pod.as_ref().unwrap_or(&self.pod),
                address: self.address,
                began: self.began,
                states: &states,
            };
            let status = facts.status(&mut times);
            if status != told {
                if !self.tell(&status).await {
                    time::sleep(RETRY).await;
                    continue;
                }
                told = status;
            }
            tokio::select! {
                () = self.board.changed.notified() => {}
                _ = news.changed() => {}
            }
        }
    }

    async fn tell(&self, status: &Value) -> bool {
        let patch = json!({"metadata": {"uid": self.pod.uid()}, "status": status});
        let name = self.pod.name_any();
        let manager = PatchParams {
            field_manager: Some("kubelet".into()),
            ..Default::default()
        };
        let told = self
            .api()
            .patch_status(&name, &manager, &Patch::Strategic(patch))
            .await;
        told.inspect_err(|e| tracing::debug!("status of {name}: {e}"))
            .is_ok()
    }
}

/// Waits for the pod's deletion and returns its grace; nothing when the object is gone already.
async fn deletion(news: &mut watch::Receiver<Option<Pod>>) -> Option<Duration> {
    let asked = |pod: &Option<Pod>| {
        pod.as_ref()
            .is_none_or(|p| p.metadata.deletion_timestamp.is_some())
    };
    let pod = news.wait_for(asked).await.ok()?.clone()?;
    let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
    Some(Duration::from_secs(seconds.max(0) as u64))
}
