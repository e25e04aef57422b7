//! A stand-in API server: the kinds and verbs that Serin uses, answered as a real server answers them.
//!
//! Only what the contract tests pin may be relied on; they run against a real cluster too.

mod access;
mod apply;
mod ask;
mod cel;
mod clock;
mod defaults;
mod delete;
mod discovery;
mod effects;
mod events;
mod failure;
mod faults;
mod fields;
mod jsonpath;
mod kinds;
mod merge;
mod openapi;
mod rbac;
mod read;
mod scale;
mod schema;
mod select;
mod serve;
mod shape;
mod store;
mod strategic;
mod table;
mod tls;
mod validate;
mod write;

pub use faults::{Match, Rule, Trouble};

use access::Tokens;
use ask::Ask;
use base64::Engine;
use serde_json::Value;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use store::Store;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
}

/// One call that was answered. A watch is recorded once, when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The authenticated name.
    pub user: String,
    /// As RBAC names it: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: &'static str,
    /// API group; empty for core.
    pub group: String,
    /// The plural.
    pub resource: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// Empty for cluster kinds and lists of all namespaces.
    pub namespace: String,
    /// Empty for lists and creations.
    pub name: String,
    /// The answer's status code; 0 where the connection was cut.
    pub code: u16,
    /// The client's own name.
    pub user_agent: String,
    /// When it was answered.
    pub at: SystemTime,
}

/// Who tells a pod's log: namespace, pod and container in, text out; none where there is none.
pub type Logs = Box<dyn Fn(&str, &str, &str) -> Option<String> + Send + Sync>;

/// A running server. It ends when dropped.
pub struct Server {
    state: Arc<State>,
    tls: TlsAcceptor,
    ca: String,
    address: SocketAddr,
    stop: Mutex<Option<Listening>>,
    runtime: Option<Runtime>,
}

/// The troubles of a server; see [`Rule`].
pub struct Faults<'a>(&'a State);

struct Listening {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    store: Mutex<Store>,
    tokens: Mutex<Tokens>,
    rules: Mutex<faults::Rules>,
    calls: Mutex<Vec<Call>>,
    logs: Mutex<Option<Logs>>,
    cut: watch::Sender<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }
}

impl Server {
    /// Starts on a runtime of its own, so that blocking tests can use it.
    ///
    /// # Errors
    /// When the address cannot be bound or no certificate can be made.
    pub fn start(options: Options) -> io::Result<Server> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("standin")
            .enable_all()
            .build()?;
        let made = tls::make(options.address.ip())?;
        let mut server = Server {
            state: Arc::new(State::new()),
            tls: made.acceptor,
            ca: made.ca,
            address: options.address,
            stop: Mutex::new(None),
            runtime: Some(runtime),
        };
        server.address = server.bind()?;
        Ok(server)
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The authority that signed the server's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// A token of the user. The server adds the groups that a real one adds by itself.
    pub fn token(&self, user: &str, groups: &[&str]) -> String {
        self.state.tokens().issue(user, groups)
    }

    /// A kubeconfig for the user, as YAML, with the token in it.
    pub fn kubeconfig(&self, user: &str, groups: &[&str]) -> String {
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: standin\nclusters:\n- name: standin\n  cluster:\n    \
             server: {url}\n    certificate-authority-data: {ca}\nusers:\n- name: {user:?}\n  user:\n    token: {token}\n\
             contexts:\n- name: standin\n  context:\n    cluster: standin\n    user: {user:?}\n    namespace: default\n",
            url = self.url(),
            token = self.token(user, groups),
        )
    }

    /// All calls answered so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        locked(&self.state.calls).clone()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        locked(&self.state.calls).clear();
    }

    /// The troubles to make.
    pub fn faults(&self) -> Faults<'_> {
        Faults(&self.state)
    }

    /// Lets `kubectl logs` read what the pods write.
    pub fn tell_logs(&self, logs: Logs) {
        *locked(&self.state.logs) = Some(logs);
    }

    /// An outage: all connections are cut and none is accepted. Data, tokens and address stay.
    pub fn stop_listening(&self) {
        let Some(listening) = locked(&self.stop).take() else {
            return;
        };
        listening.stop.send_replace(true);
        if let Some(runtime) = &self.runtime {
            let _ended = spawned(runtime, listening.task);
        }
    }

    /// The end of an outage.
    ///
    /// # Errors
    /// When somebody else took the address meanwhile.
    pub fn listen_again(&self) -> io::Result<()> {
        if locked(&self.stop).is_some() {
            return Ok(());
        }
        self.bind().map(drop)
    }

    fn bind(&self) -> io::Result<SocketAddr> {
        let listener = std::net::TcpListener::bind(self.address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = self
            .runtime
            .as_ref()
            .ok_or_else(|| io::Error::other("the server has ended"))?;
        let _inside = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (stop, stopped) = watch::channel(false);
        let task = runtime.spawn(serve::listen(
            listener,
            self.tls.clone(),
            self.state.clone(),
            stopped,
        ));
        *locked(&self.stop) = Some(Listening { stop, task });
        Ok(address)
    }
}

/// Waits for a task from a blocking thread or from inside another runtime alike.
fn spawned(runtime: &Runtime, task: tokio::task::JoinHandle<()>) -> Result<(), std::sync::mpsc::RecvError> {
    let (done, ended) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        let _ended = task.await;
        let _gone = done.send(());
    });
    ended.recv()
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Faults<'_> {
    /// Adds a rule; rules apply in the order in which they were added.
    pub fn add(&self, rule: Rule) {
        self.0.rules().0.push(rule);
    }

    /// Ends all rules.
    pub fn clear(&self) {
        self.0.rules().0.clear();
    }

    /// Cuts all watches that are running, without a word.
    pub fn drop_watches(&self) {
        self.0.cut.send_modify(|count| *count += 1);
    }

    /// Forgets all changes so far: watches from an older revision, running or new, get 410 Gone.
    pub fn compact(&self) {
        self.0.store().compact();
    }
}

impl State {
    fn new() -> State {
        let mut store = Store::new();
        effects::first(&mut store);
        State {
            store: Mutex::new(store),
            tokens: Mutex::default(),
            rules: Mutex::default(),
            calls: Mutex::default(),
            logs: Mutex::new(None),
            cut: watch::Sender::new(0),
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        locked(&self.store)
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        locked(&self.tokens)
    }

    fn rules(&self) -> MutexGuard<'_, faults::Rules> {
        locked(&self.rules)
    }

    fn record(&self, call: Call) {
        locked(&self.calls).push(call);
    }

    fn logs(&self, pod: &Value, container: &str) -> Option<String> {
        let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
        let logs = locked(&self.logs);
        logs.as_ref()
            .and_then(|logs| logs(text("namespace"), text("name"), container))
    }
}

impl Call {
    fn of(ask: &Ask) -> Call {
        Call {
            user: ask.user.name.clone(),
            verb: ask.verb,
            group: ask.kind.group.clone(),
            resource: ask.kind.plural.clone(),
            subresource: ask.sub.clone(),
            namespace: ask.namespace.clone().unwrap_or_default(),
            name: ask.name.clone().unwrap_or_default(),
            code: 0,
            user_agent: ask.agent.clone(),
            at: SystemTime::now(),
        }
    }
}

/// A lock that a panicking test left behind is still good: every write is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
