//! The exchange with a backend: one request out, the head of its answer in, both at the same time, because a backend
//! may answer before it has read everything.

use crate::{
    clock::{Alarm, Patience},
    error::Failure,
    headers,
    pool::Lease,
    wire::{body::Framing, lines::Lines, outbox::Outbox, reader, response::Head},
};
use bytes::Bytes;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// A part of a body.
#[derive(Debug)]
pub enum Piece {
    /// Some octets, never none.
    Data(Bytes),
    /// The end, with trailers.
    End(Option<Lines>),
}

/// The client's side of a request, of whichever protocol.
pub trait Upload {
    /// The next part of the request's body.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Failure>>;
    /// Ready when the client has gone away.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// The deadline of this request.
    fn alarm(&self) -> &Alarm;
    /// Passes an interim answer (1xx) on, if the client can take it. Nobody waits for it.
    fn interim(&mut self, status: u16, lines: &Lines, cx: &mut Context<'_>);
    /// From here on the octets are those of another protocol.
    fn switch(&mut self);
}

/// A request on its way out.
#[derive(Debug)]
pub struct Sending {
    outbox: Outbox,
    framing: Framing,
    state: State,
    /// Octets of the body so far.
    octets: u64,
    /// What the client has given of the body, while it may be sent again: it cannot be asked to give it twice.
    given: Option<Box<Given>>,
}

/// The beginning of a body, kept until the backend has shown that it processes the request. Only on shared
/// connections, where a backend may say that it did not (RFC 9113, 8.7): a call of gRPC has its body right behind its
/// head.
#[derive(Debug, Default)]
struct Given {
    pieces: Vec<Bytes>,
    octets: usize,
    /// How it ended, if it has.
    end: Option<Option<Lines>>,
    /// How many of the pieces have been sent in this attempt.
    at: usize,
    /// Whether it was too much to be kept.
    lost: bool,
}

/// Most of a body that is kept.
const KEPT: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The head waits; a body that is there already may go with it.
    Head,
    /// The body is on its way.
    Body,
    /// All of it is in the outbox, and then this direction of the connection is to be closed.
    Closing,
    /// All of it is in the outbox.
    Ended,
    /// The backend takes no more; its answer may still come.
    Broken,
}

impl Sending {
    /// A request whose head is written by `head`.
    pub fn new(framing: Framing, head: impl FnOnce(&mut Vec<u8>)) -> Sending {
        let mut outbox = Outbox::default();
        head(outbox.text());
        let state = if framing == Framing::Empty {
            State::Ended
        } else {
            State::Head
        };
        Sending {
            outbox,
            framing,
            state,
            octets: 0,
            given: None,
        }
    }

    /// Whether all of it has been sent.
    pub fn is_done(&self) -> bool {
        self.state == State::Ended && self.outbox.is_empty()
    }

    /// Octets of the body so far.
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Whether there is nothing more to do.
    pub fn is_over(&self) -> bool {
        self.state == State::Broken || self.is_done()
    }

    /// The request is through, and what the client sends from here on goes to the backend as it is.
    pub fn switch(&mut self) {
        self.outbox.clear();
        self.framing = Framing::Tunnel;
        self.state = State::Body;
    }

    /// The head as text, for who says it in another protocol. It stays, for another attempt.
    pub fn head(&self) -> &[u8] {
        self.outbox.all()
    }

    /// Adds a line to the head, while nothing was sent.
    pub fn add_line(&mut self, name: &str, value: &[u8]) {
        let text = self.outbox.text();
        text.truncate(text.len().saturating_sub(2));
        headers::line(text, name, value);
        text.extend_from_slice(b"\r\n");
    }

    /// The head has gone by another way.
    pub fn head_gone(&mut self) {
        self.outbox.skip();
        if self.state == State::Head {
            self.state = State::Body;
        }
    }

    /// Whether the head is all.
    pub fn is_bodyless(&self) -> bool {
        self.framing == Framing::Empty
    }

    /// Some of the body has gone by another way.
    pub fn body_gone(&mut self, octets: usize) {
        self.octets += octets as u64;
    }

    /// The next part of the body: what was given in an earlier attempt first. From here on the beginning is kept.
    pub fn poll_kept(
        &mut self,
        upload: &mut impl Upload,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Piece, Failure>> {
        let given = self.given.get_or_insert_default();
        if let Some(piece) = given.next() {
            return Poll::Ready(Ok(piece));
        }
        let piece = ready!(upload.poll_piece(cx))?;
        given.keep(&piece);
        Poll::Ready(Ok(piece))
    }

    /// The backend processes the request: it will not be sent again.
    pub fn forget(&mut self) {
        if let Some(given) = &mut self.given {
            given.lose();
        }
    }

    /// All of it has gone by another way.
    pub fn ended(&mut self) {
        self.state = State::Ended;
    }

    /// Nobody takes the rest.
    pub fn broken(&mut self) {
        self.state = State::Broken;
    }

    /// Whether it can be sent again as a whole.
    pub fn is_whole(&self) -> bool {
        self.framing == Framing::Empty || self.given.as_ref().is_none_or(|g| !g.lost)
    }

    /// Begins again: a request without a body, or one of which nothing was sent.
    pub fn rewind(&mut self) {
        self.outbox.rewind();
        if let Some(given) = &mut self.given {
            given.at = 0;
            self.octets = 0;
        }
        self.state = match self.framing {
            Framing::Empty => State::Ended,
            _ => State::Head,
        };
    }

    /// Sends as much as can be sent now.
    ///
    /// # Errors
    /// The client's failure. One of the backend only ends the sending: it may have answered already.
    pub fn poll(
        &mut self,
        lease: &mut Lease,
        upload: &mut impl Upload,
        patience: Patience,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        if self.state == State::Head {
            self.state = State::Body;
            // One look only: a head must not wait for its body.
            if let Poll::Ready(piece) = self.poll_next(upload, cx) {
                self.take(piece?);
            }
        }
        loop {
            if self.state == State::Broken {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.outbox.poll_flush(&mut lease.stream, cx)).is_err() {
                self.state = State::Broken;
                return Poll::Ready(Ok(()));
            }
            if self.state == State::Closing {
                // A connection that cannot be closed is closed already.
                let _ = ready!(Pin::new(&mut lease.stream).poll_shutdown(cx));
                self.state = State::Ended;
            }
            if self.state == State::Ended {
                return Poll::Ready(Ok(()));
            }
            let piece = ready!(self.poll_next(upload, cx))?;
            upload.alarm().wait(patience);
            self.outbox.clear();
            self.take(piece);
        }
    }

    /// As [`Sending::poll_kept`], but keeps nothing.
    fn poll_next(&mut self, upload: &mut impl Upload, cx: &mut Context<'_>) -> Poll<Result<Piece, Failure>> {
        match self.given.as_mut().and_then(|g| g.next()) {
            Some(piece) => Poll::Ready(Ok(piece)),
            None => upload.poll_piece(cx),
        }
    }

    fn take(&mut self, piece: Piece) {
        if let Piece::Data(data) = &piece {
            self.octets += data.len() as u64;
        }
        match (piece, self.framing) {
            (Piece::Data(data), Framing::Length(_) | Framing::Tunnel) => self.outbox.plain(data),
            (Piece::Data(data), _) => self.outbox.chunk(data),
            (Piece::End(_), Framing::Tunnel) => self.state = State::Closing,
            (Piece::End(trailers), framing) => {
                if framing == Framing::Chunked {
                    last_chunk(trailers.as_ref(), self.outbox.text());
                }
                self.state = State::Ended;
            }
        }
    }
}

impl Given {
    fn next(&mut self) -> Option<Piece> {
        if let Some(piece) = self.pieces.get(self.at) {
            self.at += 1;
            return Some(Piece::Data(piece.clone()));
        }
        self.end.clone().map(Piece::End)
    }

    fn keep(&mut self, piece: &Piece) {
        match piece {
            _ if self.lost => {}
            Piece::End(trailers) => self.end = Some(trailers.clone()),
            Piece::Data(data) if self.octets + data.len() > KEPT => self.lose(),
            Piece::Data(data) => {
                self.octets += data.len();
                self.pieces.push(data.clone());
                self.at = self.pieces.len();
            }
        }
    }

    fn lose(&mut self) {
        self.lost = true;
        if self.at >= self.pieces.len() {
            self.pieces = Vec::new();
            self.at = 0;
        }
    }
}

/// The end of a chunked body.
pub fn last_chunk(trailers: Option<&Lines>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        headers::trailers(trailers, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// One step of waiting for the head of an answer, while the request is still being sent.
///
/// # Errors
/// Whatever ends the wait, with its side.
pub fn poll_head(
    lease: &mut Lease,
    sending: &mut Sending,
    upload: &mut impl Upload,
    wait: &Wait,
    cx: &mut Context<'_>,
) -> Poll<Result<Head, Failure>> {
    if !sending.is_over()
        && let Poll::Ready(Err(failure)) = sending.poll(lease, upload, wait.patience, cx)
    {
        return Poll::Ready(Err(failure));
    }
    if let Poll::Ready(head) = poll_answer(lease, upload, wait.to_head, cx) {
        return Poll::Ready(head);
    }
    if upload.alarm().rings(cx) {
        return Poll::Ready(Err(late(sending, sending.outbox.is_empty())));
    }
    // While the body comes, its end is found by whoever reads it.
    if sending.is_over() && upload.poll_gone(cx).is_ready() {
        return Poll::Ready(Err(Failure::Cancelled));
    }
    Poll::Pending
}

/// What the wait for a head depends on.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Whether the request is a HEAD.
    pub to_head: bool,
    /// The time that the backend has from the last octet of the request.
    pub patience: Patience,
}

/// Who was late: the client, when it is its body that is waited for and `all_gone` of what there is has been sent.
pub fn late(sending: &Sending, all_gone: bool) -> Failure {
    if sending.state == State::Body && all_gone {
        Failure::Upload
    } else {
        Failure::Timeout
    }
}

/// Reads until the head of the final answer is there; interim answers go on to the client as they come.
fn poll_answer(
    lease: &mut Lease,
    upload: &mut impl Upload,
    to_head: bool,
    cx: &mut Context<'_>,
) -> Poll<Result<Head, Failure>> {
    loop {
        let more = match ready!(reader::poll_read_up_to(&mut lease.stream, reader::FIRST, cx)) {
            Ok(more) if !more.is_empty() => more,
            _ if lease.rest.is_empty() => return Poll::Ready(Err(Failure::Reset)),
            _ => return Poll::Ready(Err(Failure::BadHead("it ends in the middle"))),
        };
        lease.rest = reader::join(&lease.rest, more);
        while let Some(head) = Head::take(&mut lease.rest, to_head)? {
            if head.status >= 200 || head.framing == Framing::Tunnel {
                return Poll::Ready(Ok(head));
            }
            upload.interim(head.status, &head.lines, cx);
            if lease.rest.is_empty() {
                break;
            }
        }
    }
}
