//! The life of the control plane: prepared, started, stopped. One thread of its own with one runtime.

use crate::{
    admin::{Ask, Handler, Known},
    course::{Courses, Recorder},
    notify::{self, Courier},
    store::{Shelf, Store},
    turn::{Turns, Voices},
};
use contract::release::Status;
use engine::Grounds;
use std::{
    collections::BTreeMap,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
};

/// Commands that may wait for a turn.
const WAITING: usize = 64;

/// Releases whose course is kept in memory: a file names a handful of services.
const COURSES: usize = 200;

/// What is known before the proxy starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder for state and history; made when absent, locked while the controller lives.
    pub state: PathBuf,
}

/// Where the proxy listens, known once it does.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Read-only listener: `/evidence`.
    pub signals: SocketAddr,
    /// Listener that changes state: `/services`.
    pub admin: SocketAddr,
    /// The admin token.
    pub token: String,
}

/// Why the control plane cannot start: one sentence with the remedy.
#[derive(Debug)]
pub struct StartError {
    message: String,
}

/// Holds the state folder until the addresses of the proxy are known.
#[derive(Debug)]
pub struct Starter {
    store: Store,
    asks: mpsc::Receiver<Ask>,
    statuses: watch::Sender<Vec<Status>>,
    grounds: watch::Sender<BTreeMap<String, Grounds>>,
    courses: watch::Sender<Courses>,
}

/// A running control plane. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    statuses: watch::Receiver<Vec<Status>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Takes the state folder.
///
/// # Errors
/// The folder cannot be made or written, or another controller holds it.
pub fn prepare(options: Options) -> Result<(Handler, Starter), StartError> {
    let store = Store::open(&options.state).map_err(|e| StartError {
        message: e.to_string(),
    })?;
    Ok(with(store))
}

/// The same without a folder: nothing is kept, and a restart knows nothing; but the log of blocks goes to a file if
/// somebody wants it.
///
/// # Errors
/// The file cannot be written.
pub fn prepare_in_memory(blocks: Option<&Path>) -> Result<(Handler, Starter), StartError> {
    let store = Store::in_memory(blocks).map_err(|e| StartError {
        message: format!("{}: {e}", blocks.unwrap_or(Path::new("memory")).display()),
    })?;
    Ok(with(store))
}

fn with(store: Store) -> (Handler, Starter) {
    let (statuses, seen) = watch::channel(Vec::new());
    let (grounds, known) = watch::channel(BTreeMap::new());
    let (courses, drawn) = watch::channel(BTreeMap::new());
    let (ask, asks) = mpsc::channel(WAITING);
    let handler = Handler::new(Known {
        statuses: seen,
        grounds: known,
        courses: drawn,
        records: store.records(),
        folder: store.folder(),
        asks: ask,
    });
    let starter = Starter {
        store,
        asks,
        statuses,
        grounds,
        courses,
    };
    (handler, starter)
}

impl Starter {
    /// Where every release stands, after each turn that changed something.
    pub fn statuses(&self) -> watch::Receiver<Vec<Status>> {
        self.statuses.subscribe()
    }

    /// Begins to take turns.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn start(self, addresses: Addresses) -> Result<Running, StartError> {
        let statuses = self.statuses();
        let (stop, stopped) = oneshot::channel();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::system)?;
        let outcomes = notify::outcomes().map_err(|e| StartError::system(io::Error::other(e)))?;
        let courier = Courier::new(outcomes, self.store.folder());
        let (decided, decisions) = mpsc::unbounded_channel();
        let recorder = Recorder {
            statuses: self.statuses.subscribe(),
            grounds: self.grounds.subscribe(),
            decided: decisions,
            courses: self.courses,
            shelf: Shelf::new(self.store.folder()),
            most: COURSES,
        };
        let voices = Voices {
            statuses: self.statuses,
            grounds: self.grounds,
            decided,
        };
        let turns = Turns::new(self.store, courier, &addresses, self.asks, voices);
        let thread = thread::Builder::new()
            .name("serin-controller".to_owned())
            .spawn(move || {
                runtime.spawn(recorder.run());
                runtime.block_on(turns.run(stopped));
                // A check's host name may still be looked up; that is not waited for.
                runtime.shutdown_background();
            })
            .map_err(StartError::system)?;
        Ok(Running {
            statuses,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Running {
    /// Where every release stands, after each turn that changed something.
    pub fn statuses(&self) -> watch::Receiver<Vec<Status>> {
        self.statuses.clone()
    }

    /// Ends the turn under way, saves, and gives the state folder back. The weight stays as it is.
    pub fn stop(self) {}
}

impl Drop for Running {
    fn drop(&mut self) {
        // Dropping the sender is the signal; a thread that has ended already needs none.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the controller's thread ended in a panic; its state is that of the last save");
        }
    }
}

impl StartError {
    fn system(e: io::Error) -> StartError {
        StartError {
            message: format!("the controller's thread cannot be started: {e}"),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartError {}
