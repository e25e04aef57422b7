//! Tasks that serve one request after another. A task for each request would cost more than the request's own way:
//! tokio aligns a new one to two cache lines, moves its whole state in, and moves it twice more at the end.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// Most tasks of a thread that wait for work, a few KiB each.
const IDLE: usize = 128;

/// The tasks of one kind of work that have none.
pub(super) struct Crew<W: 'static> {
    idle: RefCell<Vec<Rc<Hand<W>>>>,
}

/// What one task is to do next.
struct Hand<W> {
    work: Cell<Option<W>>,
    waker: RefCell<Option<Waker>>,
}

impl<W: 'static> Crew<W> {
    pub(super) const fn new() -> Crew<W> {
        Crew {
            idle: RefCell::new(Vec::new()),
        }
    }

    /// Has work done, by a task that waits for some or by a new one.
    pub(super) fn put<F: Future<Output = ()>>(
        crew: &'static std::thread::LocalKey<Crew<W>>,
        work: W,
        serve: impl Fn(W) -> F + 'static,
    ) {
        if let Some(hand) = crew.with(|c| c.idle.borrow_mut().pop()) {
            return hand.give(work);
        }
        let hand = Rc::new(Hand {
            work: Cell::new(Some(work)),
            waker: RefCell::default(),
        });
        tokio::task::spawn_local(async move {
            loop {
                let work = poll_fn(|cx| hand.poll_work(cx)).await;
                serve(work).await;
                let stays = crew.with(|c| c.keep(&hand));
                if !stays {
                    return;
                }
            }
        });
    }

    fn keep(&self, hand: &Rc<Hand<W>>) -> bool {
        let mut idle = self.idle.borrow_mut();
        let stays = idle.len() < IDLE;
        if stays {
            idle.push(Rc::clone(hand));
        }
        stays
    }
}

impl<W> Hand<W> {
    fn give(&self, work: W) {
        self.work.set(Some(work));
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn poll_work(&self, cx: &Context<'_>) -> Poll<W> {
        if let Some(work) = self.work.take() {
            return Poll::Ready(work);
        }
        // The task is the same each time, and so is its waker.
        self.waker.borrow_mut().get_or_insert_with(|| cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, time::Duration};
    use tokio::{
        task::{LocalSet, id},
        time::sleep,
    };

    thread_local! {
        static CREW: Crew<u32> = const { Crew::new() };
        static DONE: RefCell<Vec<(u32, tokio::task::Id)>> = const { RefCell::new(Vec::new()) };
    }

    async fn serve(work: u32) {
        tokio::task::yield_now().await;
        DONE.with_borrow_mut(|done| done.push((work, id())));
    }

    async fn round(work: std::ops::Range<u32>) -> Vec<(u32, tokio::task::Id)> {
        for n in work {
            Crew::put(&CREW, n, serve);
        }
        sleep(Duration::from_millis(20)).await;
        DONE.take()
    }

    /// All work is done once, by as few tasks as there is work at once, and no more of them are kept than may be.
    #[test]
    fn tasks_serve_one_request_after_another() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let tasks = |done: &[(u32, tokio::task::Id)]| done.iter().map(|d| d.1).collect::<BTreeSet<_>>();
            let work = |done: &[(u32, tokio::task::Id)]| done.iter().map(|d| d.0).collect::<BTreeSet<_>>();
            let first = round(0..10).await;
            assert_eq!((first.len(), work(&first)), (10, (0..10).collect()));
            let second = round(10..20).await;
            assert_eq!((second.len(), work(&second)), (10, (10..20).collect()));
            assert_eq!(tasks(&first), tasks(&second));
            let crowd = round(0..300).await;
            assert_eq!(tasks(&crowd).len(), 300);
            assert_eq!(CREW.with(|c| c.idle.borrow().len()), IDLE);
        });
    }
}
