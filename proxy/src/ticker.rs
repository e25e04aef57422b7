//! The beat of a worker's clock: a timer of the kernel's that the runtime waits for as it waits for sockets. A timer of
//! the runtime's own would make every wait a timed one: two more looks at the time and one more timer in the kernel for
//! each request.

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::{
    cell::Cell,
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Beats for as long as it lives.
#[derive(Debug)]
pub struct Ticker {
    timer: AsyncFd<OwnedFd>,
    period: Duration,
    /// When the next beat is due.
    due: Cell<Instant>,
}

impl Ticker {
    /// Beats once a `period`; to be made on the thread that waits for it.
    ///
    /// # Errors
    /// A lack of descriptors.
    pub fn new(period: Duration) -> io::Result<Ticker> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        let each = Timespec {
            tv_sec: period.as_secs() as i64,
            tv_nsec: period.subsec_nanos().into(),
        };
        let beats = Itimerspec {
            it_interval: each,
            it_value: each,
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &beats)?;
        // The successor is unsafe: its caller must promise what an `OwnedFd` keeps, to be one descriptor for ever.
        #[allow(deprecated)]
        let timer = AsyncFd::with_interest(timer, Interest::READABLE)?;
        Ok(Ticker {
            timer,
            period,
            due: Cell::new(Instant::now() + period),
        })
    }

    /// Waits for the next beat, and says by how much it is late; those that were missed meanwhile are one with it.
    ///
    /// # Errors
    /// Those of the timer.
    pub async fn tick(&self) -> io::Result<Duration> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut beats = [0; 8];
            if let Ok(read) = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut beats)?)) {
                let due = self.due.get();
                let count = u32::try_from(u64::from_ne_bytes(beats)).unwrap_or(u32::MAX);
                self.due.set(due + self.period.saturating_mul(count));
                // One read takes all beats: without this the next wait would begin with another that finds none. A beat
                // that comes meanwhile is an event of its own.
                ready.clear_ready();
                return read.map(|_| due.elapsed());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beats_come_at_their_rate_and_missed_ones_are_one() {
        let (begun, ticker) = (Instant::now(), Ticker::new(Duration::from_millis(5)).unwrap());
        for _ in 0..4 {
            ticker.tick().await.unwrap();
        }
        assert!(begun.elapsed() >= Duration::from_millis(20));
        std::thread::sleep(Duration::from_millis(50));
        let late = Instant::now();
        assert!(ticker.tick().await.unwrap() >= Duration::from_millis(40));
        for _ in 0..3 {
            ticker.tick().await.unwrap();
        }
        assert!(
            late.elapsed() >= Duration::from_millis(10),
            "{:?}",
            late.elapsed()
        );
    }
}
