//! The threads that are waited for at the end, and the end itself.

use crate::shared::{Phase, Shared};
use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often it is looked whether a thread has ended.
const LOOK: Duration = Duration::from_millis(5);
/// How long the end waits for the access log and the spans: a pipe that nobody reads would hold it up for ever.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Who is waited for.
#[derive(Debug, Default)]
pub struct Threads {
    /// The workers.
    pub workers: Vec<JoinHandle<()>>,
    /// Who tells of requests: they end when all is told.
    pub readers: Vec<JoinHandle<()>>,
}

impl Threads {
    /// The end in good order: a grace with open listeners, then what is under way finishes until the deadline.
    pub fn end(self, shared: &Shared) {
        thread::sleep(shared.settings.drain_grace);
        shared.advance(Phase::Closing);
        let latest = Instant::now() + shared.settings.drain_deadline;
        while !are_finished(&self.workers) && Instant::now() < latest {
            thread::sleep(LOOK);
        }
        shared.advance(Phase::Ended);
        self.join();
    }

    /// Waits for all, when the end of all things has been told.
    pub fn join(self) {
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
        let latest = Instant::now() + LAST_WORDS;
        while !are_finished(&self.readers) {
            if Instant::now() > latest {
                return tracing::error!("what was still to be told of requests is lost: nobody takes it");
            }
            thread::sleep(LOOK);
        }
    }
}

fn are_finished(threads: &[JoinHandle<()>]) -> bool {
    threads.iter().all(JoinHandle::is_finished)
}
