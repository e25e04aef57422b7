//! Requests of one track on one worker that wait until an endpoint has room, first come, first served. Nobody polls:
//! whoever gives room back wakes the first.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::{Context, Waker},
};

/// Who waits.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    issued: Cell<u64>,
}

/// A place in a queue; given back when it is dropped.
#[derive(Debug)]
pub struct Ticket {
    queue: Rc<Queue>,
    number: u64,
}

impl Queue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a place, which counts from the first time that it waits.
    pub fn ticket(self: &Rc<Queue>) -> Ticket {
        let number = self.issued.get();
        self.issued.set(number.wrapping_add(1));
        Ticket {
            queue: Rc::clone(self),
            number,
        }
    }

    /// Tells the first that there may be room.
    pub fn wake(&self) {
        if let Some((_, waker)) = self.waiting.borrow().front() {
            waker.wake_by_ref();
        }
    }
}

impl Ticket {
    /// Whether nobody is before this one.
    pub fn is_first(&self) -> bool {
        let waiting = self.queue.waiting.borrow();
        waiting.front().is_none_or(|(number, _)| *number == self.number)
    }

    /// Waits to be woken.
    pub fn wait(&self, cx: &Context<'_>) {
        let mut waiting = self.queue.waiting.borrow_mut();
        let waker = cx.waker().clone();
        match waiting.iter_mut().find(|(number, _)| *number == self.number) {
            Some(place) => place.1 = waker,
            None => waiting.push_back((self.number, waker)),
        }
    }
}

impl Drop for Ticket {
    /// The next may find room too, or was to be woken after this one.
    fn drop(&mut self) {
        self.queue.waiting.borrow_mut().retain(|(n, _)| *n != self.number);
        self.queue.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_first_and_leaves_a_place() {
        let queue = Rc::new(Queue::default());
        let cx = Context::from_waker(Waker::noop());
        let (a, b, c) = (queue.ticket(), queue.ticket(), queue.ticket());
        assert!(a.is_first() && b.is_first(), "nobody waits yet");
        b.wait(&cx);
        a.wait(&cx);
        c.wait(&cx);
        b.wait(&cx);
        assert!(b.is_first() && !a.is_first() && queue.len() == 3);
        drop(b);
        assert!(a.is_first() && !c.is_first());
        drop(a);
        drop(c);
        assert!(queue.is_empty());
    }
}
