//! One coarse timer a thread, instead of a timer a request: setting an alarm is one store.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

/// How often alarms are looked at; deadlines are exact to this.
pub const TICK: Duration = Duration::from_millis(25);
/// No alarm is set.
const NEVER: u64 = u64::MAX;

thread_local! {
    static TICKS: Cell<u64> = const { Cell::new(0) };
}

/// What [`Clock::now`] says on this thread, for who has no clock at hand.
pub fn tick() -> u64 {
    TICKS.get()
}

/// The alarms of one thread.
#[derive(Debug, Default)]
pub struct Clock {
    /// Ticks since the thread began.
    now: Cell<u64>,
    /// When each alarm is due, in ticks; contiguous, so that a look at ten thousand is cheap.
    due: RefCell<Vec<u64>>,
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
}

/// One alarm; at most one time is set.
#[derive(Debug)]
pub struct Alarm {
    clock: Rc<Clock>,
    slot: usize,
}

/// A moment of a thread's clock, exact to a [`TICK`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// How long to wait for the next step, and until when for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For one step.
    pub each: Duration,
    /// For all.
    pub latest: Moment,
}

impl Moment {
    /// Does not come.
    pub const NEVER: Moment = Moment(NEVER);
}

impl Clock {
    /// An alarm that is not set.
    pub fn alarm(self: &Rc<Clock>) -> Alarm {
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            self.due.borrow_mut().push(NEVER);
            self.wakers.borrow_mut().push(None);
            self.due.borrow().len() - 1
        });
        Alarm {
            clock: Rc::clone(self),
            slot,
        }
    }

    /// Ticks since the thread began.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// The moment after this time.
    pub fn after(&self, time: Duration) -> Moment {
        Moment(self.now() + ticks(time))
    }

    /// Whether a moment has come.
    pub fn has_come(&self, moment: Moment) -> bool {
        moment.0 <= self.now()
    }

    /// Moves on to `now` ticks and wakes whoever waits for that.
    pub fn advance(&self, now: u64) {
        self.now.set(now);
        TICKS.set(now);
        let wakers = self.wakers.borrow();
        for (due, waker) in self.due.borrow().iter().zip(wakers.iter()) {
            if *due <= now
                && let Some(waker) = waker
            {
                waker.wake_by_ref();
            }
        }
    }

    /// Wakes everybody who has looked at an alarm: something else than time has changed.
    pub fn wake_all(&self) {
        self.wakers.borrow().iter().flatten().for_each(Waker::wake_by_ref);
    }

    fn put(&self, slot: usize, due: u64) {
        if let Some(place) = self.due.borrow_mut().get_mut(slot) {
            *place = due;
        }
    }
}

/// `after` in ticks, rounded up, and one more because the running tick is partly over.
pub fn ticks(after: Duration) -> u64 {
    (after.as_millis() as u64).div_ceil(TICK.as_millis() as u64) + 1
}

impl Alarm {
    /// Rings after this time, unless it is set again.
    pub fn set(&self, after: Duration) {
        self.clock.put(self.slot, self.clock.now() + ticks(after));
    }

    /// Rings when this patience is over, unless it is set again.
    pub fn wait(&self, patience: Patience) {
        let each = self.clock.now() + ticks(patience.each);
        self.clock.put(self.slot, each.min(patience.latest.0));
    }

    /// The clock that it belongs to.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// As [`Alarm::set`], unless a time is set already.
    pub fn set_if_clear(&self, after: Duration) {
        if self.clock.due.borrow().get(self.slot) == Some(&NEVER) {
            self.set(after);
        }
    }

    /// Does not ring.
    pub fn clear(&self) {
        self.clock.put(self.slot, NEVER);
    }

    /// Whether it rings; if not, the task will be woken when it does.
    pub fn rings(&self, cx: &Context<'_>) -> bool {
        if self
            .clock
            .due
            .borrow()
            .get(self.slot)
            .is_some_and(|due| *due <= self.clock.now())
        {
            return true;
        }
        if let Some(waker) = self.clock.wakers.borrow_mut().get_mut(self.slot) {
            match waker {
                Some(known) if known.will_wake(cx.waker()) => {}
                _ => *waker = Some(cx.waker().clone()),
            }
        }
        false
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.clear();
        if let Some(waker) = self.clock.wakers.borrow_mut().get_mut(self.slot) {
            *waker = None;
        }
        self.clock.free.borrow_mut().push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_when_due_and_not_before() {
        let clock = Rc::new(Clock::default());
        let (a, b) = (clock.alarm(), clock.alarm());
        let cx = Context::from_waker(Waker::noop());
        a.set(Duration::from_millis(50));
        clock.advance(2);
        assert!(!a.rings(&cx) && !b.rings(&cx));
        clock.advance(3);
        assert!(a.rings(&cx) && !b.rings(&cx));
        a.set(Duration::from_secs(1));
        assert!(!a.rings(&cx));
    }

    #[test]
    fn patience_ends_with_the_last_moment() {
        let clock = Rc::new(Clock::default());
        let alarm = clock.alarm();
        let cx = Context::from_waker(Waker::noop());
        let patience = Patience {
            each: Duration::from_millis(100),
            latest: clock.after(Duration::from_millis(150)),
        };
        alarm.wait(patience);
        clock.advance(4);
        assert!(!alarm.rings(&cx));
        alarm.wait(patience);
        clock.advance(7);
        assert!(alarm.rings(&cx) && clock.has_come(patience.latest));
        assert!(!clock.has_come(Moment::NEVER));
    }

    #[test]
    fn slots_are_used_again() {
        let clock = Rc::new(Clock::default());
        for _ in 0..1000 {
            clock.alarm().set(Duration::ZERO);
        }
        assert_eq!(clock.due.borrow().len(), 1);
    }
}
