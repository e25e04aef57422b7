//! The client's side of one stream of HTTP/2: the body of its request, and what is said before its answer.

use crate::{
    clock::Alarm,
    error::Failure,
    headers,
    upstream::{Piece, Upload},
    wire::{MAX_HEAD, block, lines::Lines},
};
use h2::RecvStream;
use http::StatusCode;
use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// Interim answers that are to be said; one for all streams of a connection, for it is empty between two polls.
pub(super) type Interims = Rc<RefCell<Vec<http::Response<()>>>>;

/// The request's body, with the request's own deadline.
pub(super) struct Stream {
    body: RecvStream,
    alarm: Alarm,
    interims: Interims,
    /// Octets of interim answers so far.
    said: usize,
}

impl Stream {
    /// The body of a request that begins.
    pub(super) fn new(body: RecvStream, alarm: Alarm, interims: &Interims) -> Stream {
        Stream {
            body,
            alarm,
            interims: Rc::clone(interims),
            said: 0,
        }
    }

    /// Tells a client that waits for it to send its body.
    pub(super) fn invite(&self) {
        let mut head = http::Response::new(());
        *head.status_mut() = StatusCode::CONTINUE;
        self.interims.borrow_mut().push(head);
    }
}

impl Upload for Stream {
    /// The client may send more only when this was taken.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Failure>> {
        while let Some(data) = ready!(self.body.poll_data(cx)) {
            let data = data.map_err(|_| Failure::Cancelled)?;
            let _ = self.body.flow_control().release_capacity(data.len());
            if !data.is_empty() {
                return Poll::Ready(Ok(Piece::Data(data)));
            }
        }
        let trailers = ready!(self.body.poll_trailers(cx)).map_err(|_| Failure::Cancelled)?;
        Poll::Ready(Ok(Piece::End(trailers.and_then(|t| block::lines(&t).ok()))))
    }

    /// Whoever serves the stream sees its reset first.
    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// Said as soon as the answer's future has been polled. 100 is ours to say, and was said when the body was asked for.
    /// They wait in the crate until the client reads, so one request has room for as much as a head.
    fn interim(&mut self, status: u16, lines: &Lines, _: &mut Context<'_>) {
        self.said += lines.block().len();
        if status == 100 || self.said > MAX_HEAD {
            return;
        }
        if let Ok(status) = StatusCode::from_u16(status) {
            let mut head = http::Response::new(());
            *head.status_mut() = status;
            *head.headers_mut() = block::map(lines, headers::answer_passes);
            self.interims.borrow_mut().push(head);
        }
    }

    /// What comes from here on is octets as well.
    fn switch(&mut self) {}
}
