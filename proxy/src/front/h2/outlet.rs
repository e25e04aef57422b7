//! The body of an answer on its way out, as the client's windows allow.

use super::stream::Stream;
use crate::{
    error::Failure,
    headers,
    stream::Download,
    upstream::{Piece, Upload},
    wire::{block, lines::Lines},
};
use bytes::Bytes;
use h2::{Reason, SendStream};
use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

/// The body of an answer.
pub(super) struct Writing {
    send: SendStream<Bytes>,
    body: Download<Stream>,
    /// What the client has not opened its window for.
    waits: Bytes,
    /// How long it may not do so.
    idle: Duration,
}

/// A stream that belongs to another protocol (RFC 8441). Each direction ends by itself; the way up is moved by the flow.
pub(super) struct Tunnel {
    down: Writing,
    /// Whether the backend has ended.
    ended: bool,
}

impl Writing {
    pub(super) fn new(send: SendStream<Bytes>, body: Download<Stream>, idle: Duration) -> Writing {
        Writing {
            send,
            body,
            waits: Bytes::new(),
            idle,
        }
    }

    /// Ready when the answer has ended, one way or another.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.send.poll_reset(cx).is_ready() {
            return Poll::Ready(());
        }
        match ready!(self.pump(cx)) {
            Ok(()) => {}
            Err(Failure::Cancelled) => self.send.send_reset(Reason::CANCEL),
            Err(_) => self.send.send_reset(Reason::INTERNAL_ERROR),
        }
        Poll::Ready(())
    }

    /// Moves pieces on as the client's windows allow.
    fn pump(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        loop {
            if !self.waits.is_empty() {
                match self.push(cx) {
                    Poll::Ready(sent) => sent?,
                    Poll::Pending => return self.body.poll_stalled(self.idle, cx),
                }
                if self.waits.is_empty() && self.body.is_end() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match ready!(self.body.poll_piece(cx))? {
                Piece::Data(data) => self.waits = data,
                Piece::End(trailers) => return Poll::Ready(self.end(trailers)),
            }
        }
    }

    /// Sends as much as there is room for: what waits beyond stays here, where it has a deadline.
    fn push(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.send.reserve_capacity(self.waits.len());
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                _ => return Poll::Ready(Err(Failure::Cancelled)),
            }
        }
        let n = self.send.capacity().min(self.waits.len());
        let piece = self.waits.split_to(n);
        let last = self.waits.is_empty() && self.body.is_end();
        let sent = self.send.send_data(piece, last);
        Poll::Ready(sent.map_err(|_| Failure::Cancelled))
    }

    fn end(&mut self, trailers: Option<Lines>) -> Result<(), Failure> {
        let sent = match trailers {
            Some(trailers) => self
                .send
                .send_trailers(block::map(&trailers, headers::trailer_passes)),
            None => self.send.send_data(Bytes::new(), true),
        };
        sent.map_err(|_| Failure::Cancelled)
    }
}

impl Tunnel {
    pub(super) fn new(down: Writing) -> Tunnel {
        Tunnel { down, ended: false }
    }

    /// Ready when both directions have ended, or one of them broke: then the stream is reset with the code that stands
    /// for a connection's reset (RFC 8441, 5).
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.down.send.poll_reset(cx).is_ready() {
            return Poll::Ready(());
        }
        if ready!(self.poll_both(cx)).is_err() {
            self.down.send.send_reset(Reason::CANCEL);
        }
        Poll::Ready(())
    }

    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if !self.ended
            && let Poll::Ready(sent) = self.down.pump(cx)
        {
            sent?;
            self.ended = true;
        }
        let body = &mut self.down.body;
        body.drive(cx)?;
        if self.ended && body.is_request_over() {
            return Poll::Ready(Ok(()));
        }
        match body.upload().is_some_and(|u| u.alarm().rings(cx)) {
            true => Poll::Ready(Err(Failure::BodyTimeout)),
            false => Poll::Pending,
        }
    }
}
