//! What an HTTP/2 client makes us do beside requests, counted frame by frame.
//!
//! The h2 crate bounds what each kind of abuse can hold (streams, header blocks, windows, unread data). It does not
//! bound what a client can make us *do*: pings and settings to be answered, priorities to be read, streams that are
//! opened and reset in pairs. Here each such frame costs, requests and answers earn, and time earns; who is overdrawn
//! is told ENHANCE_YOUR_CALM (RFC 9113, 7) and closed. What is counted is headers of frames alone: nine octets, however
//! long a frame is.

use crate::{
    clock::{Clock, TICK},
    socket::Socket,
};
use bytes::Bytes;
use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Time in which an empty budget fills up: who stays below a tenth of it a second is never cut.
const REFILL_TICKS: u64 = 10_000 / TICK.as_millis() as u64;
/// Length of what a client sends first (RFC 9113, 3.4).
const PREFACE: usize = 24;
/// An answer of this length earns as much as a frame more: a client that reads much may open windows often.
const EARNS: usize = 1024;
/// Least payload that earns: a window that is opened octet by octet earns nothing.
const WORTH: usize = 5;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The account of one connection.
#[derive(Debug)]
pub struct Ledger {
    clock: Rc<Clock>,
    /// Most that can be saved up.
    most: i64,
    budget: Cell<i64>,
    refilled: Cell<u64>,
    overdrawn: Cell<bool>,
    /// Tick of the last part of a request or an answer.
    moved: Cell<u64>,
    /// Tick in which an unfinished header block began.
    block: Cell<Option<u64>>,
}

impl Ledger {
    /// A full account of `most` frames.
    pub fn new(clock: Rc<Clock>, most: u32) -> Ledger {
        Ledger {
            most: most.into(),
            budget: Cell::new(most.into()),
            refilled: Cell::new(clock.now()),
            overdrawn: Cell::new(false),
            moved: Cell::new(clock.now()),
            block: Cell::new(None),
            clock,
        }
    }

    /// Whether the client has asked for too much.
    pub fn is_overdrawn(&self) -> bool {
        self.overdrawn.get()
    }

    /// Ticks since the last part of a request or an answer.
    pub fn idle(&self) -> u64 {
        self.clock.now().saturating_sub(self.moved.get())
    }

    /// Ticks since an unfinished header block began.
    pub fn waits_for_header(&self) -> Option<u64> {
        self.block.get().map(|t| self.clock.now().saturating_sub(t))
    }

    fn spend(&self, n: i64) {
        let passed = self.clock.now() - self.refilled.get();
        if passed > 0 {
            self.refilled.set(self.clock.now());
            self.earn(self.most * passed.min(REFILL_TICKS) as i64 / REFILL_TICKS as i64);
        }
        self.budget.set(self.budget.get() - n);
        if self.budget.get() < 0 {
            self.overdrawn.set(true);
        }
    }

    fn earn(&self, n: i64) {
        self.budget.set((self.budget.get() + n).min(self.most));
    }

    fn moves(&self) {
        self.moved.set(self.clock.now());
    }

    /// A frame of the client's. A reset costs twice what its request earned: half of all requests may be cancelled.
    fn received(&self, frame: Head) {
        match frame.kind {
            DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => self.moves(),
            HEADERS => {
                self.moves();
                self.earn(1);
                self.block.set(Some(self.clock.now()));
            }
            RST_STREAM => self.spend(2),
            _ => self.spend(1),
        }
    }

    /// The whole of a frame of the client's is there.
    fn finished(&self, frame: Head) {
        if matches!(frame.kind, HEADERS | CONTINUATION) && frame.flags & END_HEADERS != 0 {
            self.block.set(None);
        }
    }

    /// A frame of ours. Resets that a client provokes (MadeYouReset) cost like its own.
    fn sent(&self, frame: Head) {
        match frame.kind {
            HEADERS => {
                self.moves();
                self.earn(2);
            }
            DATA => {
                self.moves();
                self.earn((frame.length / EARNS) as i64 + i64::from(frame.length >= WORTH));
            }
            RST_STREAM => self.spend(2),
            _ => {}
        }
    }
}

/// What the nine octets before a frame say, but its stream.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    kind: u8,
    flags: u8,
    length: usize,
}

/// One direction of a connection, cut into frames.
#[derive(Debug, Default)]
struct Frames {
    head: Head,
    /// Octets of the next head that are there already.
    octets: [u8; 9],
    have: usize,
    /// Octets of the payload that are still to come.
    left: usize,
}

impl Frames {
    /// Takes what was read or written; `begun` and `ended` hear of each frame.
    fn take(&mut self, mut octets: &[u8], begun: impl Fn(Head), ended: impl Fn(Head)) {
        while !octets.is_empty() {
            if self.left > 0 {
                let n = self.left.min(octets.len());
                self.left -= n;
                octets = octets.get(n..).unwrap_or_default();
            } else {
                octets = self.gather(octets);
                if self.have < self.octets.len() {
                    return;
                }
                self.begin();
                begun(self.head);
            }
            if self.left == 0 && self.have == 0 {
                ended(self.head);
            }
        }
    }

    /// Moves octets into the head; the rest comes back.
    fn gather<'a>(&mut self, octets: &'a [u8]) -> &'a [u8] {
        let n = (self.octets.len() - self.have).min(octets.len());
        let (now, rest) = octets.split_at(n);
        if let Some(room) = self.octets.get_mut(self.have..self.have + n) {
            room.copy_from_slice(now);
        }
        self.have += n;
        rest
    }

    /// RFC 9113, 4.1.
    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.octets;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.head = Head { kind, flags, length };
        (self.have, self.left) = (0, length);
    }
}

/// A client's connection, whose first octets were read already; both directions are counted.
#[derive(Debug)]
pub struct Watched {
    first: Bytes,
    stream: Socket,
    ledger: Rc<Ledger>,
    inbound: Frames,
    outbound: Frames,
}

impl Watched {
    /// A connection from its preface on.
    pub fn new(first: Bytes, stream: Socket, ledger: Rc<Ledger>) -> Watched {
        let inbound = Frames {
            left: PREFACE,
            ..Frames::default()
        };
        Watched {
            first,
            stream,
            ledger,
            inbound,
            outbound: Frames::default(),
        }
    }

    /// The connection alone.
    pub fn into_inner(self) -> Socket {
        self.stream
    }

    fn received(&mut self, octets: &[u8]) {
        let ledger = &self.ledger;
        self.inbound
            .take(octets, |f| ledger.received(f), |f| ledger.finished(f));
    }

    fn sent(&mut self, octets: &[u8]) {
        let ledger = &self.ledger;
        self.outbound.take(octets, |f| ledger.sent(f), |_| {});
    }
}

impl AsyncRead for Watched {
    /// Nothing more is read of who is overdrawn: whoever polls looks at the ledger next.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ledger.is_overdrawn() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if self.first.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let n = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(n));
        }
        self.received(buf.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.sent(buf.get(..n).unwrap_or_default());
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let n = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        let mut left = n;
        for buf in bufs {
            let of_this = left.min(buf.len());
            self.sent(buf.get(..of_this).unwrap_or_default());
            left -= of_this;
        }
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [.., a, b, c] = (length as u32).to_be_bytes();
        let mut out = vec![a, b, c, kind, flags, 0, 0, 0, 1];
        out.resize(9 + length, 7);
        out
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let text = [
            frame(4, 0, 0),
            frame(HEADERS, 5, 20),
            frame(DATA, 0, 300),
            frame(6, 0, 8),
        ]
        .concat();
        for n in 1..text.len() {
            let (begun, ended) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
            let mut frames = Frames::default();
            for piece in text.chunks(n) {
                frames.take(
                    piece,
                    |f| begun.borrow_mut().push((f.kind, f.length)),
                    |f| ended.borrow_mut().push(f.kind),
                );
            }
            assert_eq!(*begun.borrow(), [(4, 0), (1, 20), (0, 300), (6, 8)], "{n}");
            assert_eq!(*ended.borrow(), [4, 1, 0, 6], "{n}");
        }
    }

    fn ledger() -> (Rc<Clock>, Ledger) {
        let clock = Rc::<Clock>::default();
        (Rc::clone(&clock), Ledger::new(clock, 100))
    }

    fn head(kind: u8, length: usize) -> Head {
        Head {
            kind,
            flags: END_HEADERS,
            length,
        }
    }

    #[test]
    fn a_client_that_cancels_every_second_request_is_never_cut() {
        let (_, ledger) = ledger();
        for _ in 0..10_000 {
            ledger.received(head(HEADERS, 30));
            ledger.received(head(HEADERS, 30));
            ledger.received(head(RST_STREAM, 4));
        }
        assert!(!ledger.is_overdrawn());
    }

    #[test]
    fn rapid_reset_and_pings_are_cut() {
        let (_, resets) = ledger();
        for _ in 0..102 {
            resets.received(head(HEADERS, 30));
            resets.received(head(RST_STREAM, 4));
        }
        assert!(resets.is_overdrawn());
        let (_, pings) = ledger();
        (0..101).for_each(|_| pings.received(head(6, 8)));
        assert!(pings.is_overdrawn());
    }

    #[test]
    fn time_and_answers_earn() {
        let (clock, ledger) = ledger();
        for tick in 0..10_000 {
            clock.advance(tick * 4);
            ledger.received(head(6, 8));
        }
        // A reader of large answers opens two windows for each four KiB.
        for _ in 0..10_000 {
            ledger.sent(head(DATA, 16_384));
            (0..8).for_each(|_| ledger.received(head(8, 4)));
        }
        assert!(!ledger.is_overdrawn());
    }
}
