//! What the controller manager and the scheduler do on a real cluster, as small loops for the stand-in.
//!
//! Each loop reads fresh lists, compares, writes, and is woken by any event of its kinds: with the few objects of a test
//! that costs less than a cache, and no stale cache can make a pod twice.

mod daemonsets;
mod deployments;
mod family;
mod progress;
mod replicasets;
mod rolling;
mod scheduler;
mod slices;

use futures_util::StreamExt;
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet},
        core::v1::{Node, Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::ListParams,
    runtime::watcher::{self, watcher},
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, future::Future, pin::pin, sync::Arc, time::Duration};
use tokio::{sync::Notify, task::JoinSet, time};

/// Events that come together are answered together.
const GATHER: Duration = Duration::from_millis(3);
/// A loop looks again after so long, whatever it heard.
const RESYNC: Duration = Duration::from_secs(5);
/// Pause after a failed write or list.
const RETRY: Duration = Duration::from_millis(50);

/// When a loop has to look again by itself, such as at the end of `minReadySeconds`.
type Pass = Result<Option<Duration>, kube::Error>;

/// The running loops; they end when this goes.
pub struct Loops {
    _tasks: JoinSet<()>,
}

impl Loops {
    /// Starts all loops on the current runtime. The client's user must be allowed everything.
    pub fn start(client: &Client) -> Loops {
        let mut start = Start {
            client: client.clone(),
            tasks: JoinSet::new(),
        };
        let bell = start.bell();
        start.hear::<Deployment>(&bell);
        start.hear::<ReplicaSet>(&bell);
        start.turn("deployments", bell, deployments::pass);
        let bell = start.bell();
        start.hear::<ReplicaSet>(&bell);
        start.hear::<Pod>(&bell);
        start.turn("replicasets", bell, replicasets::pass);
        let bell = start.bell();
        start.hear::<DaemonSet>(&bell);
        start.hear::<Node>(&bell);
        start.hear::<Pod>(&bell);
        start.turn("daemonsets", bell, daemonsets::pass);
        let bell = start.bell();
        start.hear::<Service>(&bell);
        start.hear::<Pod>(&bell);
        start.hear::<EndpointSlice>(&bell);
        start.turn("slices", bell, slices::pass);
        let bell = start.bell();
        start.hear::<Node>(&bell);
        start.hear::<Pod>(&bell);
        start.turn("scheduler", bell, scheduler::pass);
        Loops { _tasks: start.tasks }
    }
}

struct Start {
    client: Client,
    tasks: JoinSet<()>,
}

impl Start {
    fn bell(&self) -> Arc<Notify> {
        Arc::new(Notify::new())
    }

    fn hear<K>(&mut self, bell: &Arc<Notify>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        self.tasks
            .spawn(ring(Api::<K>::all(self.client.clone()), bell.clone()));
    }

    fn turn<F>(&mut self, name: &'static str, bell: Arc<Notify>, pass: fn(Client) -> F)
    where
        F: Future<Output = Pass> + Send + 'static,
    {
        let client = self.client.clone();
        self.tasks.spawn(async move {
            loop {
                let next = pass(client.clone()).await.unwrap_or_else(|e| {
                    tracing::debug!("{name}: {e}");
                    Some(RETRY)
                });
                tokio::select! {
                    () = bell.notified() => time::sleep(GATHER).await,
                    () = time::sleep(next.unwrap_or(RESYNC).min(RESYNC)) => {}
                }
            }
        });
    }
}

/// Rings at every event of a kind, and again and again while the server is away.
async fn ring<K>(api: Api<K>, bell: Arc<Notify>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut events = pin!(watcher(api, watcher::Config::default()));
    while let Some(event) = events.next().await {
        if event.is_err() {
            time::sleep(RETRY).await;
        }
        bell.notify_one();
    }
}

/// Everything of a kind, in all namespaces.
async fn all<K>(client: &Client) -> Result<Vec<K>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let list = Api::<K>::all(client.clone()).list(&ListParams::default()).await?;
    Ok(list.items)
}

/// The sooner of two wake-ups.
fn sooner(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Time since then; zero for a time to come.
fn since(then: &Time) -> Duration {
    Timestamp::now()
        .duration_since(then.0)
        .try_into()
        .unwrap_or_default()
}

/// Goes on with the next object when one fails, and tells the first failure at the end.
#[derive(Default)]
struct Outcome {
    wake: Option<Duration>,
    fault: Option<kube::Error>,
}

impl Outcome {
    fn add(&mut self, pass: Pass) {
        match pass {
            Ok(wake) => self.wake = sooner(self.wake, wake),
            Err(e) => {
                self.fault.get_or_insert(e);
            }
        }
    }

    fn end(self) -> Pass {
        self.fault.map_or(Ok(self.wake), Err)
    }
}
