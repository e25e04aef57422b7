//! The body of an answer on its way to the client, and whatever of the request's body is still on its way up.

use crate::{
    clock::{Moment, Patience},
    deadline,
    error::Failure,
    grpc::{self, Code},
    line::Line,
    overload::Seat,
    record::Record,
    upstream::{Piece, Sending, Upload},
    wire::{
        body::{Decoder, Framing, Step},
        lines::Lines,
        reader,
        response::Head,
    },
};
use bytes::Bytes;
use contract::names::{Reason, Track};
use std::{
    task::{Context, Poll},
    time::Duration,
};

/// A client that has not come back for more for so long is the one that is waited for.
const SLOW: Duration = Duration::from_secs(1);

/// A stream (server-sent events, gRPC) that has lived so long counts as good, as an upgrade does: it may last for hours,
/// and what has not ended is judged as bad after half a minute.
const SETTLED: Duration = Duration::from_secs(10);

/// An answer, of a backend or of our own.
#[derive(Debug)]
pub struct Answer<U> {
    /// Its status.
    pub status: u16,
    /// The backend's header lines.
    pub lines: Lines,
    /// How the body ends, as the backend framed it.
    pub framing: Framing,
    /// Header lines of our own.
    pub extra: Vec<(&'static str, String)>,
    /// Its body.
    pub body: Download<U>,
    /// Whether the client's connection cannot go on after it.
    pub closes: bool,
    /// Its request's place among those under way.
    pub seat: Option<Seat>,
}

/// The body of an answer. Boxed where it is large: to move it from hand to hand costs six times what the box costs.
#[derive(Debug)]
pub enum Download<U> {
    /// Made by ourselves; empty once it was taken.
    Own(Bytes),
    /// From a backend.
    Flow(Box<Flow<U>>),
}

/// A body that comes from a backend.
#[derive(Debug)]
pub struct Flow<U> {
    /// Gone when the body has ended.
    line: Option<Line>,
    decoder: Decoder,
    keep_alive: bool,
    sending: Sending,
    upload: U,
    record: Record,
    /// With what an endpoint reset the request.
    reset: Option<h2::Reason>,
    patience: Patience,
    /// When it will have lived long enough, and what is the latest moment of all then.
    settles: Moment,
    latest: Moment,
    /// When the client will have been slow, if it does not come back for more.
    slow_from: Moment,
    /// Whether it was: then a whole answer that came too late is not the backend's fault.
    slow: bool,
    /// The most that is read at once, for it is held until the client takes it.
    reach: usize,
}

impl<U: Upload> Download<U> {
    /// The next part. After the end it is the end for ever.
    ///
    /// # Errors
    /// Why the body broke off: the client must see it broken too.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Failure>> {
        match self {
            Download::Own(text) if text.is_empty() => Poll::Ready(Ok(Piece::End(None))),
            Download::Own(text) => Poll::Ready(Ok(Piece::Data(std::mem::take(text)))),
            Download::Flow(flow) => flow.poll_piece(cx),
        }
    }

    /// Moves what is left of the request on, while the client does not take the answer.
    ///
    /// # Errors
    /// Why the request broke off.
    pub fn drive(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        match self {
            Download::Own(_) => Ok(()),
            Download::Flow(flow) => flow.send(cx).map_err(|f| flow.fail(f)),
        }
    }

    /// The client does not take what there is. What it sends must flow all the same, or both wait for ever; and not
    /// for longer than `idle`.
    ///
    /// # Errors
    /// Why the request broke off, or that the client waited too long.
    pub fn poll_stalled(&mut self, idle: Duration, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.drive(cx)?;
        if let Download::Flow(flow) = self {
            flow.reach = reader::FIRST;
        }
        if let Some(upload) = self.upload() {
            if upload.alarm().rings(cx) {
                return Poll::Ready(Err(Failure::Cancelled));
            }
            upload.alarm().set_if_clear(idle);
        }
        Poll::Pending
    }

    /// Whether all of it, including trailers, has been handed out.
    pub fn is_end(&self) -> bool {
        match self {
            Download::Own(text) => text.is_empty(),
            Download::Flow(flow) => flow.line.is_none(),
        }
    }

    /// Whether the request was sent to its end.
    pub fn is_request_sent(&self) -> bool {
        match self {
            Download::Own(_) => false,
            Download::Flow(flow) => flow.sending.is_done(),
        }
    }

    /// Whether nothing more goes up, because all has or nobody takes it.
    pub fn is_request_over(&self) -> bool {
        match self {
            Download::Own(_) => true,
            Download::Flow(flow) => flow.line.is_none() || flow.sending.is_over(),
        }
    }

    /// Ends it as if it were whole: nobody wants the rest.
    pub fn enough(&mut self) {
        if let Download::Flow(flow) = self {
            flow.record.complete();
        }
    }

    /// The upload, when there is one, to wait for the client with.
    pub fn upload(&mut self) -> Option<&mut U> {
        match self {
            Download::Own(_) => None,
            Download::Flow(flow) => Some(&mut flow.upload),
        }
    }
}

impl<U: Upload> Flow<U> {
    /// The body that belongs to a head.
    pub fn new(
        head: &Head,
        line: Line,
        sending: Sending,
        upload: U,
        mut record: Record,
        patience: Patience,
    ) -> Flow<U> {
        record.answered(head.status);
        if let Some(call) = record.call() {
            call.look(&head.lines);
        }
        let switched = head.framing == Framing::Tunnel;
        let mut flow = Flow {
            line: Some(line),
            decoder: Decoder::new(head.framing),
            keep_alive: head.keep_alive && head.framing != Framing::Close,
            sending,
            upload,
            record,
            reset: None,
            settles: Moment::NEVER,
            latest: patience.latest,
            patience,
            slow_from: Moment::NEVER,
            slow: false,
            reach: 2 * reader::FIRST,
        };
        if switched {
            flow.switch();
        } else if flow.decoder.is_done() {
            flow.finish();
        } else {
            if flow.record.is_judged() && deadline::is_open_stream(head) {
                flow.settles = flow.upload.alarm().clock().after(SETTLED);
                flow.patience.latest = flow.settles.min(flow.latest);
            }
            flow.upload.alarm().wait(flow.patience);
        }
        flow
    }

    /// From here on a tunnel: what was asked has been answered, and its time taken.
    fn switch(&mut self) {
        self.keep_alive = false;
        self.record.switched();
        self.sending.switch();
        self.upload.switch();
        self.patience.latest = Moment::NEVER;
        self.upload.alarm().wait(self.patience);
    }

    /// Who serves, and why.
    pub fn served(&self) -> (Track, Reason) {
        (self.record.track(), self.record.reason())
    }

    /// The next part, noted where it matters. A client of gRPC is told in trailers why its answer broke off, which is
    /// more than a reset could say.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Failure>> {
        let step = self.poll_step(cx);
        if let (Some(call), Poll::Ready(piece)) = (self.record.call(), &step) {
            match piece {
                Ok(Piece::Data(_)) => call.begun(),
                Ok(Piece::End(_)) => {}
                Err(failure) => {
                    let code = self.reset.map_or(Code::of(*failure), Code::of_reset);
                    let trailers = grpc::trailers(code, *failure);
                    return Poll::Ready(Ok(Piece::End(Some(trailers))));
                }
            }
        }
        step
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Failure>> {
        if self.upload.alarm().clock().has_come(self.settles) {
            self.settle();
        }
        if let Err(failure) = self.send(cx) {
            return Poll::Ready(Err(self.fail(failure)));
        }
        self.slow |= self.upload.alarm().clock().has_come(self.slow_from);
        self.slow_from = Moment::NEVER;
        loop {
            let lease = match &mut self.line {
                None => return Poll::Ready(Ok(Piece::End(None))),
                Some(Line::Own(lease)) => lease,
                Some(Line::Shared(call)) => {
                    let step = call.poll_piece(cx);
                    return self.shared(step, cx);
                }
            };
            match self.decoder.decode(&mut lease.rest) {
                Ok(Step::Data(data)) => {
                    self.record.sent(data.len());
                    if self.decoder.is_done() {
                        self.finish();
                    } else {
                        self.slow_from = self.upload.alarm().clock().after(SLOW);
                    }
                    return Poll::Ready(Ok(Piece::Data(data)));
                }
                Ok(Step::End(trailers)) => {
                    self.look(trailers.as_ref());
                    self.finish();
                    return Poll::Ready(Ok(Piece::End(trailers)));
                }
                Ok(Step::More) => {}
                Err(why) => return Poll::Ready(Err(self.fail(Failure::BadBody(why)))),
            }
            match reader::poll_read_up_to(&mut lease.stream, self.reach, cx) {
                Poll::Pending => return self.pending(cx),
                Poll::Ready(Ok(more)) if !more.is_empty() => {
                    lease.rest = more;
                    self.upload.alarm().wait(self.patience);
                    self.reach = self.reach.saturating_mul(2);
                }
                // The other direction of a tunnel may still be open.
                Poll::Ready(Ok(_)) if self.record.is_tunnel() && !self.sending.is_over() => {
                    return Poll::Ready(Ok(Piece::End(None)));
                }
                Poll::Ready(Ok(_)) if self.decoder.ends_with_connection() => self.finish(),
                Poll::Ready(_) => return Poll::Ready(Err(self.fail(Failure::BodyReset))),
            }
        }
    }

    /// Good for the evidence; it goes on.
    fn settle(&mut self) {
        self.settles = Moment::NEVER;
        self.patience.latest = self.latest;
        self.record.settle();
        self.upload.alarm().wait(self.patience);
    }

    /// What a shared connection gave.
    fn shared(
        &mut self,
        step: Poll<Result<Piece, Failure>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Piece, Failure>> {
        match &step {
            Poll::Pending => return self.pending(cx),
            Poll::Ready(Err(failure)) => {
                self.reset = match &self.line {
                    Some(Line::Shared(call)) => call.reason(),
                    _ => None,
                };
                self.fail(*failure);
            }
            Poll::Ready(Ok(Piece::End(trailers))) => {
                self.look(trailers.as_ref());
                self.finish();
            }
            Poll::Ready(Ok(Piece::Data(data))) => {
                self.record.sent(data.len());
                self.upload.alarm().wait(self.patience);
                if matches!(&self.line, Some(Line::Shared(call)) if call.is_end()) {
                    self.finish();
                } else {
                    self.slow_from = self.upload.alarm().clock().after(SLOW);
                }
            }
        }
        step
    }

    /// The rest of the request, while the answer comes already.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        if self.sending.is_done() {
            return Ok(());
        }
        let Some(line) = &mut self.line else {
            return Ok(());
        };
        match line.poll_send(&mut self.sending, &mut self.upload, self.patience, cx) {
            Poll::Ready(sent) => sent,
            Poll::Pending => Ok(()),
        }
    }

    fn pending(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Failure>> {
        if self.upload.alarm().rings(cx) {
            let late = self.upload.alarm().clock().has_come(self.patience.latest);
            let failure = if late && self.slow {
                Failure::Cancelled
            } else {
                Failure::BodyTimeout
            };
            return Poll::Ready(Err(self.fail(failure)));
        }
        if self.sending.is_done() && self.upload.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(self.fail(Failure::Cancelled)));
        }
        Poll::Pending
    }

    /// The status of a call of gRPC stands in the trailers.
    fn look(&mut self, trailers: Option<&Lines>) {
        if let (Some(call), Some(trailers)) = (self.record.call(), trailers) {
            call.look(trailers);
        }
    }

    /// All of the answer is there: the backend's connection is free for the next request.
    fn finish(&mut self) {
        self.upload.alarm().clear();
        self.measure();
        self.record.complete();
        if let Some(Line::Own(lease)) = self.line.take()
            && self.keep_alive
            && self.sending.is_done()
        {
            lease.release();
        }
    }

    /// Notes how much of the request has been sent.
    fn measure(&mut self) {
        if let Some(note) = self.record.note() {
            note.received(self.sending.octets());
        }
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        self.upload.alarm().clear();
        self.measure();
        self.record.fail(failure);
        self.line = None;
        failure
    }
}
