//! The life of a data plane: start, drain, end.

use crate::{
    admin::Admin,
    config::Settings,
    control::Control,
    door::Door,
    guard, health,
    listen::{self, Doors},
    options::{Options, StartError},
    server,
    service::Services,
    shared::{Phase, Shared},
    signals::Signals,
    source::{
        file,
        kubernetes::{self, Cluster},
        watch::Watch,
    },
    table::Table,
    telemetry::Telemetry,
    threads::Threads,
    tls::Keys,
};
use contract::{Fault, evidence::Page};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
    thread,
    time::Duration,
};
use tokio::runtime::{Builder, LocalOptions};

/// How often it is looked which names are due: where there are any, and where there are none.
const NAMES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// How often files of certificates are looked at.
const RENEW: Duration = Duration::from_secs(1);

/// How often settled seconds are looked at.
const OBSERVE: Duration = Duration::from_secs(1);

/// Where a data plane listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For clients.
    pub listen: SocketAddr,
    /// For clients, by TLS.
    pub tls: Option<SocketAddr>,
    /// For signals.
    pub signals: SocketAddr,
    /// For admin calls.
    pub admin: SocketAddr,
}

/// A data plane at work. Dropping it ends it at once.
#[derive(Debug)]
pub struct Running {
    addresses: Addresses,
    shared: Arc<Shared>,
    control: Arc<Control>,
    threads: Mutex<Threads>,
    drained: Arc<AtomicBool>,
}

/// Starts a data plane: the file is read and checked, the listeners are opened, the workers run.
///
/// # Errors
/// Whatever stands in the way, with address or key and the remedy; nothing is left running.
pub fn start(options: Options) -> Result<Running, StartError> {
    let (mut settings, loaded) = options.settings()?;
    let keys =
        Keys::new(&settings.tls, options.folder()).map_err(|f| StartError::Faults(options.source(), f))?;
    let (listen, listeners) = listen::listeners(settings.listen, settings.workers)
        .map_err(|e| StartError::Listen("listen", settings.listen, e))?;
    let (tls, tls_listeners) = secure(&settings)?;
    let (signals, signals_listener) = side("signals", settings.signals)?;
    let (admin, admin_listener) = side("admin", settings.admin)?;
    (settings.listen, settings.signals, settings.admin) = (listen, signals, admin);
    settings.tls_listen = tls;
    let services = Services::new(settings.workers);
    let mut shared = Shared::new(settings, services, Arc::new(Table::default()));
    shared.local = options.cluster.as_ref().is_some_and(|c| c.local.is_some());
    let (telemetry, readers) =
        Telemetry::prepare(&shared.settings, &shared.process).map_err(StartError::AccessLog)?;
    shared.telemetry = telemetry;
    shared.keys = keys;
    let shared = Arc::new(shared);
    let control = Arc::new(control(&options, loaded, &shared)?);
    let desk = Desk {
        options,
        shared: Arc::clone(&shared),
        control: Arc::clone(&control),
        signals: signals_listener,
        admin: admin_listener,
    };
    desk.start()?;
    let failed = |e| {
        shared.advance(Phase::Ended);
        StartError::Thread(e)
    };
    let doors = listeners.into_iter().zip(tls_listeners);
    let workers = doors
        .map(|(plain, tls)| Doors { plain, tls })
        .enumerate()
        .map(|(i, doors)| listen::start(i, Arc::clone(&shared), doors))
        .collect::<io::Result<Vec<_>>>();
    let workers = workers.map_err(failed)?;
    let readers = readers.start(&shared).map_err(failed)?;
    Ok(Running {
        addresses: Addresses {
            listen,
            tls,
            signals,
            admin,
        },
        shared,
        control,
        threads: Mutex::new(Threads { workers, readers }),
        drained: Arc::default(),
    })
}

/// The state behind the table; of a file, with the first table in force.
fn control(
    options: &Options,
    loaded: Option<file::Loaded>,
    shared: &Arc<Shared>,
) -> Result<Control, StartError> {
    let (shared, prefix) = (Arc::clone(shared), options.prefix.clone());
    let Some(loaded) = loaded else {
        return Ok(Control::of_cluster(shared, prefix));
    };
    let control = Control::new(shared, loaded, prefix, options.cache.clone());
    control
        .begin()
        .map_err(|f| StartError::Faults(options.source(), f))?;
    Ok(control)
}

/// The listeners for clients that come by TLS, if they can.
fn secure(settings: &Settings) -> Result<(Option<SocketAddr>, Vec<Option<TcpListener>>), StartError> {
    let Some(address) = settings.tls_listen else {
        return Ok((None, (0..settings.workers).map(|_| None).collect()));
    };
    let (bound, all) = listen::listeners(address, settings.workers)
        .map_err(|e| StartError::Listen("tls.listen", address, e))?;
    Ok((Some(bound), all.into_iter().map(Some).collect()))
}

/// A listener that only one process may have.
fn side(key: &'static str, address: SocketAddr) -> Result<(SocketAddr, TcpListener), StartError> {
    let open = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok((listener.local_addr()?, listener))
    };
    open().map_err(|e| StartError::Listen(key, address, e))
}

/// What runs on the control thread.
struct Desk {
    options: Options,
    shared: Arc<Shared>,
    control: Arc<Control>,
    signals: TcpListener,
    admin: TcpListener,
}

impl Desk {
    /// The first addresses of names are known when this returns.
    fn start(self) -> Result<(), StartError> {
        let runtime = Builder::new_current_thread();
        let (ready, begun) = std::sync::mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            let mut runtime = runtime;
            match runtime.enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime.block_on(self.run(ready)),
                Err(e) => drop(ready.send(Err(StartError::Thread(e)))),
            }
        });
        thread.map_err(StartError::Thread)?;
        let ended = || StartError::Thread(io::Error::other("the control thread ended"));
        begun.recv().unwrap_or_else(|_| Err(ended()))
    }

    async fn run(self, ready: SyncSender<Result<(), StartError>>) {
        let began = match self.options.cluster.clone() {
            Some(cluster) => self.join(cluster).map(Some),
            None => {
                self.follow().await;
                Ok(None)
            }
        };
        let door = match began {
            Ok(door) => door,
            Err(e) => return drop(ready.send(Err(e))),
        };
        let _ = ready.send(Ok(()));
        let shared = Arc::clone(&self.shared);
        self.serve(door);
        while shared.phase() != Phase::Ended {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Begins to follow a cluster; whoever reads evidence comes through the door.
    fn join(&self, cluster: Cluster) -> Result<Arc<Door>, StartError> {
        let client = kubernetes::client(&cluster).map_err(StartError::Cluster)?;
        let door = Arc::<Door>::default();
        let (control, prefix) = (Arc::clone(&self.control), self.options.prefix.clone());
        let run = kubernetes::run(cluster, client, prefix, control, Arc::clone(&door));
        tokio::task::spawn_local(run);
        Ok(door)
    }

    /// Begins to follow the file.
    async fn follow(&self) {
        self.control.settle().await;
        if self.options.text.is_none() {
            let file = self.options.file.clone();
            let watch = Watch::new(&file);
            tokio::task::spawn_local(follow(Arc::clone(&self.control), file, watch));
        }
        tokio::task::spawn_local(refresh(Arc::clone(&self.control)));
    }

    fn serve(self, door: Option<Arc<Door>>) {
        let signals = Signals {
            shared: Arc::clone(&self.shared),
            door: door.clone(),
        };
        let admin = Admin {
            control: Arc::clone(&self.control),
            shared: Arc::clone(&self.shared),
            token: self.options.token.clone(),
            extra: self.options.extra_admin.clone(),
            pages: self.options.pages,
        };
        let answer = async move |r| signals.answer(&r).map(server::whole);
        tokio::task::spawn_local(server::serve(self.signals, door, answer));
        let answer = async move |r| admin.answer(r).await;
        tokio::task::spawn_local(server::serve(self.admin, None, answer));
        tokio::task::spawn_local(renew(Arc::clone(&self.control)));
        let guarded = guard::watch(Arc::clone(&self.shared), self.control);
        tokio::task::spawn_local(guarded);
        tokio::task::spawn_local(health::watch(Arc::clone(&self.shared)));
        tokio::task::spawn_local(observe(self.shared));
    }
}

/// Takes each change of the file. A file that stays bad is reported once.
async fn follow(control: Arc<Control>, path: PathBuf, mut watch: Watch) {
    let mut refused = String::new();
    loop {
        watch.changed().await;
        let text = match file::read(&path) {
            Ok(text) => text,
            Err(e) => {
                tracing::debug!("{}: {e}", path.display());
                continue;
            }
        };
        if text == refused {
            continue;
        }
        match control.reload(text.clone()).await {
            Ok(true) => tracing::info!("{} is in force", path.display()),
            Ok(false) => {}
            Err(faults) => {
                control.refuse(&path.display().to_string(), None, &faults);
                refused = text;
                continue;
            }
        }
        refused.clear();
    }
}

/// Looks at the slices of stable as their seconds settle: what they tell must not depend on who reads pages. It ends
/// with the control thread's runtime.
async fn observe(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(OBSERVE).await;
        let now = shared.birth.elapsed().as_secs();
        shared.services.all().iter().for_each(|s| s.observe(now));
    }
}

async fn renew(control: Arc<Control>) {
    loop {
        tokio::time::sleep(RENEW).await;
        control.renew();
    }
}

/// Looks names up as they fall due; one that takes long keeps no other waiting.
async fn refresh(control: Arc<Control>) {
    loop {
        let (due, any) = control.due();
        for name in due {
            let control = Arc::clone(&control);
            tokio::task::spawn_local(async move { control.look_up(&name).await });
        }
        let [often, seldom] = NAMES;
        tokio::time::sleep(if any { often } else { seldom }).await;
    }
}

impl Running {
    /// Where it listens; ports that were given as 0 are the ones that were found.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// How many workers serve.
    pub fn workers(&self) -> usize {
        self.shared.settings.workers
    }

    /// The state behind the table: what admin calls do, without the way over a socket.
    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Puts another text in the place of the file's.
    ///
    /// # Errors
    /// Its faults; the last good one stays in force.
    pub async fn reload(&self, text: String) -> Result<bool, Vec<Fault>> {
        self.control.reload(text).await
    }

    /// The evidence since a second of the process.
    pub fn evidence(&self, since: u64) -> Page {
        self.control.page(since)
    }

    /// The metrics as Prometheus text.
    pub fn metrics(&self) -> String {
        crate::exposition::text(&self.shared)
    }

    /// Begins the end, and returns at once: readiness fails, after the grace the listeners close, what is under way
    /// finishes until the deadline.
    pub fn drain(&self) {
        if self.shared.is_draining() {
            return;
        }
        self.shared.advance(Phase::Draining);
        let threads = self.take();
        let (shared, drained) = (Arc::clone(&self.shared), Arc::clone(&self.drained));
        let draining = thread::Builder::new().name("drain".to_owned()).spawn(move || {
            threads.end(&shared);
            drained.store(true, Ordering::Release);
        });
        if let Err(e) = draining {
            tracing::error!("draining needs a thread: {e}; ending at once");
            self.shared.advance(Phase::Ended);
            self.drained.store(true, Ordering::Release);
        }
    }

    fn take(&self) -> Threads {
        std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether every request has finished, or was given up at the deadline.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    /// Drains, and waits for the end.
    pub fn wait(&self) {
        self.drain();
        while !self.is_drained() {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.advance(Phase::Ended);
        self.take().join();
    }
}
