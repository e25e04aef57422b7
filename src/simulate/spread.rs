//! Many runs over all cores: handed out by index, given back in the order of the indices.

use std::{
    io::{IsTerminal, Write, stderr},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// How often a terminal is told how far it is.
const TELLS: usize = 200;

/// The results of `work(0)` to `work(jobs - 1)`. Which thread did what leaves no trace.
pub fn spread<T: Send>(jobs: usize, threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let progress = Progress::of(jobs);
    let share = || -> Vec<(usize, T)> {
        let indices = std::iter::from_fn(|| {
            let index = next.fetch_add(1, Ordering::Relaxed);
            (index < jobs).then_some(index)
        });
        let done = |index| (index, work(index));
        indices.inspect(|index| progress.tell(*index)).map(done).collect()
    };
    let mut all: Vec<(usize, T)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(share)).collect();
        workers.into_iter().flat_map(joined).collect()
    });
    progress.clear();
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, result)| result).collect()
}

/// A worker's panic is the whole run's.
fn joined<T>(worker: thread::ScopedJoinHandle<'_, T>) -> T {
    worker
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A line on a terminal that goes again.
struct Progress {
    jobs: usize,
    shown: bool,
}

impl Progress {
    fn of(jobs: usize) -> Progress {
        Progress {
            jobs,
            shown: stderr().is_terminal(),
        }
    }

    fn tell(&self, index: usize) {
        if self.shown && index.is_multiple_of(self.jobs / TELLS + 1) {
            let _ = write!(stderr(), "\r{index} of {} releases", self.jobs);
        }
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_once_and_in_order() {
        for threads in [0, 1, 3, 8] {
            let squares = spread(100, threads, |i| i * i);
            assert_eq!(squares, (0..100).map(|i| i * i).collect::<Vec<_>>());
        }
        assert!(spread(0, 2, |i| i).is_empty());
    }
}
