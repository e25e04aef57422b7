//! What is told of single requests: lines of the access log, and spans. Workers put entries into bounded queues of their
//! own and go on; one thread writes lines, another exports spans. What finds no room is dropped and counted.

pub mod access_log;
pub mod entry;
pub mod note;
pub mod otlp;
pub mod spans;
pub mod trace;

use crate::{config::Settings, shared::Shared};
use entry::Entry;
use note::Teller;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

/// Entries of one worker that may wait for the writer.
const LINES: usize = 4096;
/// Entries of one worker that may wait for the exporter.
const SPANS: usize = 1024;

/// The queues of all workers, and what became of their entries.
#[derive(Debug, Default)]
pub struct Telemetry {
    lines: Option<Channel>,
    spans: Option<Channel>,
    /// Entries that the log could not take.
    pub lines_dropped: Arc<AtomicU64>,
    /// Spans that were exported.
    pub exported: Arc<AtomicU64>,
    /// Spans that could not be exported.
    pub spans_dropped: Arc<AtomicU64>,
}

/// The queues of one kind: the writing end of each worker.
#[derive(Debug)]
struct Channel(Vec<SyncSender<Box<Entry>>>);

/// The reading ends of the queues of one kind.
pub type Inbox = Vec<Receiver<Box<Entry>>>;

/// The writing end of one worker's queue.
#[derive(Clone, Debug)]
pub struct Tap {
    queue: SyncSender<Box<Entry>>,
    dropped: Arc<AtomicU64>,
}

impl Tap {
    /// Hands an entry over, or drops it.
    fn put(&self, entry: Box<Entry>) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.queue.try_send(entry) {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// Who reads the queues; begun when the workers can be.
#[derive(Debug, Default)]
pub struct Readers {
    /// Writes lines.
    pub log: Option<access_log::Writer>,
    /// Exports spans.
    pub spans: Option<spans::Exporter>,
}

impl Readers {
    /// Starts their threads.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn start(self, shared: &Arc<Shared>) -> io::Result<Vec<JoinHandle<()>>> {
        let mut threads = Vec::new();
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        if let Some(log) = self.log {
            let shared = Arc::clone(shared);
            threads.push(named("access-log").spawn(move || log.run(&shared))?);
        }
        if let Some(spans) = self.spans {
            let shared = Arc::clone(shared);
            threads.push(named("spans").spawn(move || spans.run(&shared))?);
        }
        Ok(threads)
    }
}

impl Telemetry {
    /// The queues that these settings ask for, and who reads them.
    ///
    /// # Errors
    /// When the file of the log cannot be opened.
    pub fn prepare(settings: &Settings, process: &str) -> io::Result<(Telemetry, Readers)> {
        let mut telemetry = Telemetry::default();
        let mut readers = Readers::default();
        if let Some(log) = &settings.access_log {
            let (channel, inbox) = channel(settings.workers, LINES);
            telemetry.lines = Some(channel);
            readers.log = Some(access_log::Writer::open(log, inbox, &telemetry.lines_dropped)?);
        }
        if let Some(tracing) = &settings.tracing {
            let (channel, inbox) = channel(settings.workers, SPANS);
            telemetry.spans = Some(channel);
            let counts = spans::Counts {
                exported: Arc::clone(&telemetry.exported),
                dropped: Arc::clone(&telemetry.spans_dropped),
            };
            readers.spans = Some(spans::Exporter::new(tracing, process, inbox, counts));
        }
        Ok((telemetry, readers))
    }

    /// What a worker tells with; `None` when nothing is to be told.
    pub fn teller(&self, worker: usize, settings: &Settings) -> Option<Teller> {
        let log = tap(&self.lines, worker, &self.lines_dropped);
        let spans = tap(&self.spans, worker, &self.spans_dropped);
        (log.is_some() || spans.is_some()).then(|| Teller::new(log, spans, settings))
    }

    /// Whether lines are written.
    pub fn has_log(&self) -> bool {
        self.lines.is_some()
    }

    /// Whether spans are exported.
    pub fn has_spans(&self) -> bool {
        self.spans.is_some()
    }
}

fn channel(workers: usize, room: usize) -> (Channel, Inbox) {
    let (writing, reading) = (0..workers).map(|_| sync_channel(room)).unzip();
    (Channel(writing), reading)
}

fn tap(channel: &Option<Channel>, worker: usize, dropped: &Arc<AtomicU64>) -> Option<Tap> {
    let queue = channel.as_ref()?.0.get(worker)?.clone();
    Some(Tap {
        queue,
        dropped: Arc::clone(dropped),
    })
}
