//! The exchange with a backend: one request out, the head of its answer in, both at the same time, because a backend
//! may answer before it has read everything.

use crate::{
    clock::{Alarm, Patience},
    error::Failure,
    headers,
    pool::Lease,
    wire::{body::Framing, lines::Lines, outbox::Outbox, reader, response::Head},
};
use bytes::{Buf, Bytes};
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
}

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

    /// Begins again: a request without a body, or one of which nothing was sent.
    pub fn rewind(&mut self) {
        self.outbox.rewind();
        if self.state == State::Broken {
            self.state = State::Ended;
        }
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
            if let Poll::Ready(piece) = upload.poll_piece(cx) {
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
            let piece = ready!(upload.poll_piece(cx))?;
            upload.alarm().wait(patience);
            self.outbox.clear();
            self.take(piece);
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

/// The end of a chunked body.
pub fn last_chunk(trailers: Option<&Lines>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers {
        headers::answer(trailers, out);
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
    if let Poll::Ready(head) = poll_answer(lease, wait.to_head, cx) {
        return Poll::Ready(head);
    }
    if upload.alarm().rings(cx) {
        return Poll::Ready(Err(late(sending)));
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

/// Who was late: the client, when it is its body that is waited for.
fn late(sending: &Sending) -> Failure {
    if sending.state == State::Body && sending.outbox.is_empty() {
        Failure::Upload
    } else {
        Failure::Timeout
    }
}

/// Reads until the head of the final answer is there; interim answers are skipped.
fn poll_answer(lease: &mut Lease, to_head: bool, cx: &mut Context<'_>) -> Poll<Result<Head, Failure>> {
    loop {
        let more = match ready!(reader::poll_read(&mut lease.stream, cx)) {
            Ok(more) if !more.is_empty() => more,
            _ if lease.rest.is_empty() => return Poll::Ready(Err(Failure::Reset)),
            _ => return Poll::Ready(Err(Failure::BadHead("it ends in the middle"))),
        };
        lease.rest = reader::join(&lease.rest, more);
        while let Some((head, n)) = Head::parse(&lease.rest, to_head)? {
            lease.rest.advance(n);
            if head.status >= 200 || head.framing == Framing::Tunnel {
                return Poll::Ready(Ok(head));
            }
            if lease.rest.is_empty() {
                break;
            }
        }
    }
}
