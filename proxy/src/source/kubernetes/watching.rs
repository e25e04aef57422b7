//! The watches: each a task of the control thread that tells what it sees and begins again after whatever goes wrong.

use super::{Slices, endpoints::SERVICE_NAME, store::Store};
use contract::names::EVIDENCE_SECRET;
use futures_util::StreamExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Secret, Service},
        discovery::v1::EndpointSlice,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::watcher::{self, Event},
};
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, fmt::Debug, pin::pin, time::Duration};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How long one watch call lasts: a connection that died without a word is noticed that late.
const CALL: u32 = 60;
/// Pause after a first failure; doubled with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The longest pause: with its random part, an API server that is back is heard within a second.
const PAUSE_LONGEST: Duration = Duration::from_millis(500);
/// Pause while the API server answers that this is not allowed: that changes only by a person's hand.
const PAUSE_DENIED: Duration = Duration::from_secs(3);

/// What a watch saw.
pub enum News {
    /// Of the Service.
    Service(Box<Event<Service>>),
    /// Of the slices, in the watch of this generation.
    Slices(u64, Event<EndpointSlice>),
    /// Of the Secret.
    Secret(Event<Secret>),
}

/// Begins watches.
pub struct Watches {
    client: Client,
    namespace: String,
    news: UnboundedSender<News>,
}

impl Watches {
    /// None yet; what they see comes through the receiver.
    pub fn new(client: Client, namespace: &str) -> (Watches, UnboundedReceiver<News>) {
        let (news, receiver) = unbounded_channel();
        let watches = Watches {
            client,
            namespace: namespace.to_owned(),
            news,
        };
        (watches, receiver)
    }

    /// Watches one Service.
    pub fn service(&self, name: &str) {
        self.begin("Service", named(name), |event| News::Service(Box::new(event)));
    }

    /// Watches the Secret for `/evidence`.
    pub fn secret(&self) {
        self.begin("Secret", named(EVIDENCE_SECRET), News::Secret);
    }

    /// Watches the slices of these Services; none, if there are none.
    pub fn slices(&self, names: BTreeSet<String>, generation: u64) -> Slices {
        let list = names.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let selector = format!("{SERVICE_NAME} in ({list})");
        let config = watcher::Config::default().labels(&selector).timeout(CALL);
        let tell = move |event| News::Slices(generation, event);
        Slices {
            watch: (!names.is_empty()).then(|| self.begin("EndpointSlices", config, tell)),
            names,
            generation,
            store: Store::default(),
        }
    }

    fn begin<K>(
        &self,
        what: &'static str,
        config: watcher::Config,
        tell: impl Fn(Event<K>) -> News + 'static,
    ) -> tokio::task::JoinHandle<()>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + 'static,
        K::DynamicType: Default,
    {
        let api = Api::<K>::namespaced(self.client.clone(), &self.namespace);
        let news = self.news.clone();
        tokio::task::spawn_local(follow(what, api, config, move |event| {
            news.send(tell(event)).is_ok()
        }))
    }
}

fn named(name: &str) -> watcher::Config {
    let selector = format!("metadata.name={name}");
    watcher::Config::default().fields(&selector).timeout(CALL)
}

/// Watches until nobody listens.
async fn follow<K>(what: &str, api: Api<K>, config: watcher::Config, tell: impl Fn(Event<K>) -> bool)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut stream = pin!(watcher::watcher(api, config));
    let mut trouble = Trouble::new(what);
    while let Some(seen) = stream.next().await {
        match seen {
            Ok(event) => {
                trouble.over();
                // Who owns which field is the larger part of many objects, and nothing to us.
                let event = event.modify(|object| object.managed_fields_mut().clear());
                if !tell(event) {
                    return;
                }
            }
            Err(e) => tokio::time::sleep(trouble.pause(&e)).await,
        }
    }
}

/// Failures in a row: told once, and answered with growing pauses.
struct Trouble<'a> {
    what: &'a str,
    times: u32,
    told: String,
}

impl Trouble<'_> {
    fn new(what: &str) -> Trouble<'_> {
        Trouble {
            what,
            times: 0,
            told: String::new(),
        }
    }

    fn over(&mut self) {
        if !self.told.is_empty() {
            tracing::info!("{} can be watched again", self.what);
        }
        (self.times, self.told) = (0, String::new());
    }

    /// How long to wait after a failure.
    fn pause(&mut self, error: &watcher::Error) -> Duration {
        let denied = is_denied(error);
        self.tell(error, denied);
        let pause = (PAUSE_FIRST * 2u32.pow(self.times.min(8))).min(PAUSE_LONGEST);
        self.times += 1;
        let pause = if denied { PAUSE_DENIED } else { pause };
        // Proxies that lost the same server do not come back in step.
        pause.mul_f64(0.5 + (crate::entropy::bits() % 1024) as f64 / 2048.0)
    }

    /// A first failure is usual: a watch call ends, a version is too old.
    fn tell(&mut self, error: &watcher::Error, denied: bool) {
        let text = error.to_string();
        if (self.times == 0 && !denied) || text == self.told {
            return;
        }
        let remedy = match denied {
            true => "grant get, list and watch on it in the proxy's Role",
            false => "it is tried again; what is in force stays",
        };
        tracing::warn!("{} cannot be watched: {text}; {remedy}", self.what);
        self.told = text;
    }
}

fn is_denied(error: &watcher::Error) -> bool {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => status,
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status,
        watcher::Error::WatchError(status) => status,
        _ => return false,
    };
    matches!(status.code, 401 | 403)
}
