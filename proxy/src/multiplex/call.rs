//! One request on a shared connection.

use super::{Seat, words};
use crate::{
    clock::Patience,
    error::Failure,
    headers,
    pool::Busy,
    upstream::{Piece, Sending, Upload, Wait, late},
    wire::{block, lines::Lines, response::Head},
};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::uri::Scheme;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// One request. Dropped before its end it is cancelled: the endpoint gets a reset and can stop.
pub struct Call {
    response: ResponseFuture,
    up: Option<SendStream<Bytes>>,
    /// A piece of the body for which there was no room yet.
    waiting: Bytes,
    down: Option<RecvStream>,
    /// What was handed on and still counts against the endpoint's window: it is given room again when more is asked for.
    held: usize,
    /// Why the endpoint reset it.
    reason: Option<Reason>,
    seat: Seat,
    busy: Busy,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.seat.fmt(f)
    }
}

impl Call {
    /// Sends the head.
    ///
    /// # Errors
    /// When it cannot be said, or the connection takes no more requests.
    pub fn begin(seat: Seat, busy: Busy, scheme: &Scheme, sending: &mut Sending) -> Result<Call, Failure> {
        let address = busy.endpoint().address.to_string();
        let request = words::request(sending.head(), scheme, &address)?;
        let ended = sending.is_bodyless();
        let (response, up) = seat.send(request, ended).map_err(|_| Failure::Unprocessed)?;
        sending.head_gone();
        Ok(Call {
            response,
            up: (!ended).then_some(up),
            waiting: Bytes::new(),
            down: None,
            held: 0,
            reason: None,
            seat,
            busy,
        })
    }

    /// Where.
    pub fn busy(&self) -> &Busy {
        &self.busy
    }

    /// Whether the connection had answered requests before.
    pub fn is_reused(&self) -> bool {
        self.seat.is_reused()
    }

    /// Why the endpoint reset it, if it did.
    pub fn reason(&self) -> Option<Reason> {
        self.reason
    }

    /// One step of waiting for the head of the answer, while the request is still being sent.
    ///
    /// # Errors
    /// Whatever ends the wait, with its side.
    pub fn poll_head(
        &mut self,
        sending: &mut Sending,
        upload: &mut impl Upload,
        wait: &Wait,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Failure>> {
        if let Poll::Ready(Err(failure)) = self.poll_send(sending, upload, wait.patience, cx) {
            return Poll::Ready(Err(failure));
        }
        if let Poll::Ready(head) = self.poll_answer(sending, upload, wait.to_head, cx) {
            return Poll::Ready(head);
        }
        if upload.alarm().rings(cx) {
            return Poll::Ready(Err(late(sending, self.waiting.is_empty())));
        }
        if self.up.is_none() && upload.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Failure::Cancelled));
        }
        Poll::Pending
    }

    fn poll_answer(
        &mut self,
        sending: &mut Sending,
        upload: &mut impl Upload,
        to_head: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Failure>> {
        while let Poll::Ready(Some(Ok(interim))) = self.response.poll_informational(cx) {
            if let Ok(lines) = block::lines(interim.headers()) {
                upload.interim(interim.status().as_u16(), &lines, cx);
            }
        }
        let answer = match ready!(Pin::new(&mut self.response).poll(cx)) {
            Ok(answer) => answer,
            Err(e) => return Poll::Ready(Err(self.failure(&e, sending))),
        };
        self.seat.served();
        sending.forget();
        let (parts, body) = answer.into_parts();
        let head = words::head(&parts, body.is_end_stream(), to_head);
        self.down = Some(body);
        Poll::Ready(head)
    }

    /// What was not processed may be sent again (RFC 9113, 6.8 and 8.7), if all of it is still there.
    fn failure(&self, e: &h2::Error, sending: &Sending) -> Failure {
        let unprocessed = e.is_remote() && (e.is_go_away() || e.reason() == Some(Reason::REFUSED_STREAM));
        match (unprocessed && sending.is_whole(), e.is_library()) {
            (true, _) => Failure::Unprocessed,
            (_, true) => Failure::BadHead("it breaks the rules of HTTP/2"),
            _ => Failure::Reset,
        }
    }

    /// Sends as much of the body as there is room for.
    ///
    /// # Errors
    /// The client's failure. One of the endpoint only ends the sending: it may have answered already.
    pub fn poll_send(
        &mut self,
        sending: &mut Sending,
        upload: &mut impl Upload,
        patience: Patience,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        while let Some(up) = &mut self.up {
            // Registers for a reset as well: who waits for the client's body must hear of it.
            let gone = up.poll_reset(cx).is_ready();
            if gone || !self.waiting.is_empty() && !ready!(push(up, &mut self.waiting, cx)) {
                sending.broken();
                self.up = None;
                break;
            }
            if !self.waiting.is_empty() {
                continue;
            }
            let piece = ready!(sending.poll_kept(upload, cx))?;
            upload.alarm().wait(patience);
            match piece {
                Piece::Data(data) => {
                    sending.body_gone(data.len());
                    self.waiting = data;
                }
                Piece::End(trailers) => {
                    finish(up, trailers.as_ref());
                    sending.ended();
                    self.up = None;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The next part of the answer's body.
    ///
    /// # Errors
    /// When the endpoint broke it off, or broke the rules.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Failure>> {
        let Some(down) = &mut self.down else {
            return Poll::Ready(Ok(Piece::End(None)));
        };
        loop {
            // What came before has been written to the client: only now may the endpoint send as much again.
            let _ = down
                .flow_control()
                .release_capacity(std::mem::take(&mut self.held));
            let failed = match ready!(down.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => continue,
                Some(Ok(data)) => {
                    self.held = data.len();
                    return Poll::Ready(Ok(Piece::Data(data)));
                }
                Some(Err(e)) => e,
                None => match ready!(down.poll_trailers(cx)) {
                    Ok(trailers) => return Poll::Ready(ending(trailers)),
                    Err(e) => e,
                },
            };
            self.reason = failed.reason();
            return Poll::Ready(Err(match failed.is_library() {
                true => Failure::BadBody("it breaks the rules of HTTP/2"),
                false => Failure::BodyReset,
            }));
        }
    }

    /// Whether all of the answer, with its trailers, has been handed out.
    pub fn is_end(&self) -> bool {
        self.down.as_ref().is_none_or(RecvStream::is_end_stream)
    }
}

/// Sends what the window takes. False when the endpoint takes no more.
fn push(up: &mut SendStream<Bytes>, waiting: &mut Bytes, cx: &mut Context<'_>) -> Poll<bool> {
    up.reserve_capacity(waiting.len());
    match ready!(up.poll_capacity(cx)) {
        Some(Ok(n)) => {
            let part = waiting.split_to(n.min(waiting.len()));
            Poll::Ready(part.is_empty() || up.send_data(part, false).is_ok())
        }
        _ => Poll::Ready(false),
    }
}

/// Ends the body. A connection that breaks here is found by who waits for the answer.
fn finish(up: &mut SendStream<Bytes>, trailers: Option<&Lines>) {
    let trailers = trailers.map(|t| block::map(t, headers::trailer_passes));
    let _ = match trailers.filter(|t| !t.is_empty()) {
        Some(trailers) => up.send_trailers(trailers),
        None => up.send_data(Bytes::new(), true),
    };
}

fn ending(trailers: Option<http::HeaderMap>) -> Result<Piece, Failure> {
    let lines = trailers.map(|t| block::lines(&t)).transpose();
    lines
        .map(Piece::End)
        .map_err(|_| Failure::BadBody("its trailers are too long"))
}
