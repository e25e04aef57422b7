//! HTTP/2 to endpoints: few connections, each with many requests at once (RFC 9113). The frames are those of the `h2`
//! crate; which connection, when another one, and what may be tried again is ours.

mod call;
mod link;
mod words;

pub use self::{
    call::Call,
    link::{Link, Seat},
};

use crate::error::Failure;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// How long a connection without requests is kept, as those of HTTP/1.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// The connections of one worker to one endpoint.
#[derive(Debug, Default)]
pub struct Links {
    open: RefCell<Vec<Rc<Link>>>,
    dialing: RefCell<Option<Rc<Dial>>>,
    /// Whether the endpoint chose HTTP/2 in its last TLS handshake.
    pub agreed: Cell<bool>,
}

/// A connection in the making: whoever comes meanwhile waits for it, so that a burst does not open one each.
#[derive(Debug, Default)]
pub struct Dial {
    outcome: Cell<Option<Result<(), Failure>>>,
    waiting: RefCell<Vec<Waker>>,
}

/// Whose turn it is to connect. Whoever goes away without an outcome lets the next one try.
#[derive(Debug)]
pub struct Turn<'a> {
    links: &'a Links,
    dial: Rc<Dial>,
}

impl Links {
    /// A seat on the first connection that has room: the later ones become idle, and are closed, when there is less.
    pub fn seat(&self) -> Option<Seat> {
        if self.open.borrow().is_empty() {
            return None;
        }
        self.open.borrow_mut().retain(|l| l.is_open());
        self.open.borrow().iter().find_map(Link::seat)
    }

    /// Adds a connection.
    pub fn add(&self, link: Rc<Link>) {
        self.open.borrow_mut().push(link);
    }

    /// The connection that is being made, or the turn to make one.
    pub fn dial(&self) -> Result<Turn<'_>, Rc<Dial>> {
        let mut dialing = self.dialing.borrow_mut();
        if let Some(dial) = &*dialing {
            return Err(Rc::clone(dial));
        }
        let dial = Rc::<Dial>::default();
        *dialing = Some(Rc::clone(&dial));
        Ok(Turn { links: self, dial })
    }

    /// Closes what has been idle for too long.
    pub fn sweep(&self, now: Instant) {
        self.open
            .borrow_mut()
            .retain(|l| l.is_open() && l.idle_for(now).is_none_or(|t| t < IDLE_TIME));
    }
}

impl Dial {
    /// Ready when the connection has been made, or not.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        self.waiting.borrow_mut().push(cx.waker().clone());
        Poll::Pending
    }
}

impl Turn<'_> {
    /// Tells those who wait what came of it.
    pub fn end(self, outcome: Result<(), Failure>) {
        self.dial.outcome.set(Some(outcome));
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.links.dialing.borrow_mut().take();
        if self.dial.outcome.get().is_none() {
            self.dial.outcome.set(Some(Ok(())));
        }
        self.dial.waiting.borrow_mut().drain(..).for_each(Waker::wake);
    }
}
