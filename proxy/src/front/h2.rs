//! HTTP/2 in front: the h2 crate speaks it; requests and answers are turned into ours. The crate alone, without a
//! server around it: only so can a flood be answered with its reason, and a client be cut that never opens a window.

mod crew;
mod frames;
mod words;

use self::{
    crew::Crew,
    frames::{Ledger, Watched},
    words::{response, translate},
};
use crate::{
    clock::{Alarm, TICK},
    error::Failure,
    front::Peer,
    handle::{handle, refusal},
    headers,
    socket::Socket,
    stream::{Answer, Download},
    upstream::{Piece, Upload},
    wire::{
        block,
        lines::Lines,
        reader,
        request::{Method, Protocol},
    },
    worker::Worker,
};
use bytes::Bytes;
use contract::file::LimitsEntry;
use h2::{
    Reason, RecvStream, SendStream,
    server::{Builder, Connection, SendResponse},
};
use http::{StatusCode, request};
use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::AsyncWriteExt;

/// Octets of one answer that wait for the socket, beside what its stream holds back.
const SEND_BUFFER: usize = 64 * 1024;
/// How long, and how much, is read of a client that was told to go, so that it can read why.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_SIZE: usize = 1024 * 1024;

type Speaking<'a> = Connection<&'a mut Watched, Bytes>;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client has closed it, or was asked to and did.
    Closed,
    /// It broke the rules of HTTP/2, or its socket broke.
    Broken,
    /// It asked for too much beside requests.
    Flood,
    /// Nothing moved on it for too long.
    Idle,
}

/// Serves a connection to its end.
pub async fn serve(worker: &Rc<Worker>, stream: Socket, peer: Rc<Peer>, first: Bytes, alarm: Alarm) {
    let ledger = Rc::new(Ledger::new(
        Rc::clone(&worker.clock),
        worker.settings.limits.http2_control_frames,
    ));
    let mut watched = Watched::new(first, stream, Rc::clone(&ledger));
    let end = converse(worker, &mut watched, &peer, &ledger, &alarm).await;
    tracing::debug!("an HTTP/2 connection of {} ended: {end:?}", peer.address);
    if end == End::Flood {
        worker.rejected(&peer, Protocol::Http2, Failure::Flood);
        linger(watched.into_inner(), &alarm).await;
    }
}

async fn converse(
    worker: &Rc<Worker>,
    watched: &mut Watched,
    peer: &Rc<Peer>,
    ledger: &Rc<Ledger>,
    alarm: &Alarm,
) -> End {
    let mut handshake = pin!(builder(&worker.settings.limits).handshake::<_, Bytes>(watched));
    alarm.set(worker.settings.header_timeout);
    let begun = poll_fn(|cx| match handshake.as_mut().poll(cx) {
        Poll::Pending if alarm.rings(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
        Poll::Ready(begun) => Poll::Ready(begun.ok()),
    });
    let Some(connection) = begun.await else {
        return End::Broken;
    };
    let mut talk = Talk {
        worker,
        connection,
        peer,
        ledger,
        alarm,
        under_way: Rc::default(),
        interims: Rc::default(),
        told: None,
    };
    alarm.set(talk.next_look());
    poll_fn(|cx| talk.poll(cx)).await
}

fn builder(limits: &LimitsEntry) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.http2_streams)
        .initial_window_size(limits.http2_stream_window)
        .initial_connection_window_size(limits.http2_connection_window)
        .max_header_list_size(limits.header_size as u32)
        .max_send_buffer_size(SEND_BUFFER)
        // All that may be open may be given up at once.
        .max_pending_accept_reset_streams(limits.http2_streams as usize)
        .max_local_error_reset_streams(Some(limits.http2_provoked_resets));
    builder
}

/// A connection and what it is judged by.
struct Talk<'a> {
    worker: &'a Rc<Worker>,
    connection: Speaking<'a>,
    peer: &'a Rc<Peer>,
    ledger: &'a Rc<Ledger>,
    alarm: &'a Alarm,
    /// Requests that are being served.
    under_way: Rc<Cell<u32>>,
    interims: Interims,
    /// The end that the client has been told.
    told: Option<End>,
}

impl Talk<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.begin(request, respond);
                    continue;
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(self.told.unwrap_or(End::Broken)),
                Poll::Ready(None) => return Poll::Ready(self.told.unwrap_or(End::Closed)),
                Poll::Pending => {}
            }
            // Who was told to go at once need not take it: its socket may be full.
            if let Some(end) = self.told.filter(|t| *t != End::Closed) {
                return if self.alarm.rings(cx) {
                    Poll::Ready(end)
                } else {
                    Poll::Pending
                };
            }
            match self.verdict(cx) {
                Some(end) => self.tell(end),
                None => return Poll::Pending,
            }
        }
    }

    fn begin(&self, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
        let errand = Errand {
            worker: Rc::clone(self.worker),
            request,
            respond,
            peer: Rc::clone(self.peer),
            interims: Rc::clone(&self.interims),
            _seat: Seat::take(&self.under_way),
        };
        Crew::put(&CREW, errand, exchange);
    }

    /// Whether it is time for the end, and which.
    fn verdict(&self, cx: &Context<'_>) -> Option<End> {
        if self.ledger.is_overdrawn() {
            return Some(End::Flood);
        }
        if self.told.is_none() && self.worker.shared.is_draining() {
            return Some(End::Closed);
        }
        if self.ledger.waits_for_header() == Some(0) {
            self.alarm.set(self.worker.settings.header_timeout);
        }
        // Registers the waker too: the end of all things wakes every alarm.
        if !self.alarm.rings(cx) {
            return None;
        }
        if self.is_idle() {
            return Some(End::Idle);
        }
        self.alarm.set(self.next_look());
        let _ = self.alarm.rings(cx);
        None
    }

    fn tell(&mut self, end: End) {
        self.told = Some(end);
        match end {
            End::Closed => return self.connection.graceful_shutdown(),
            End::Flood => self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM),
            End::Broken | End::Idle => self.connection.abrupt_shutdown(Reason::NO_ERROR),
        }
        self.alarm.set(LINGER);
    }

    fn next_look(&self) -> Duration {
        let (patience, idle) = (self.patience(), TICK * self.ledger.idle().min(1 << 30) as u32);
        let left = patience.checked_sub(idle).filter(|left| !left.is_zero());
        // What is patient now may hold an answer then.
        left.unwrap_or(patience)
            .min(self.worker.settings.stream_idle_timeout)
    }

    /// How long nothing may move. An answer that its client does not take waits as long as a body does.
    fn patience(&self) -> Duration {
        if self.connection.has_streams() {
            self.worker.settings.stream_idle_timeout
        } else {
            self.worker.settings.limits.idle_timeout.duration()
        }
    }

    /// Whether it is to be closed; a request that is being served has its own deadlines.
    fn is_idle(&self) -> bool {
        let header = ticks(self.worker.settings.header_timeout);
        if self.ledger.waits_for_header().is_some_and(|t| t >= header) {
            return true;
        }
        self.under_way.get() == 0 && self.ledger.idle() >= ticks(self.patience())
    }
}

fn ticks(time: Duration) -> u64 {
    (time.as_millis() / TICK.as_millis()) as u64
}

/// Counts a request while it is being served.
struct Seat(Rc<Cell<u32>>);

impl Seat {
    fn take(of: &Rc<Cell<u32>>) -> Seat {
        of.set(of.get() + 1);
        Seat(Rc::clone(of))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Reads what the client still sends: closing at once would reset the connection, and the client might never see why.
async fn linger(mut socket: Socket, alarm: &Alarm) {
    alarm.set(LINGER);
    let _ = socket.shutdown().await;
    let mut read = 0;
    while read < LINGER_SIZE {
        let more = poll_fn(|cx| match reader::poll_read(&mut socket, cx) {
            Poll::Ready(more) => Poll::Ready(more.map_or(0, |m| m.len())),
            Poll::Pending if alarm.rings(cx) => Poll::Ready(0),
            Poll::Pending => Poll::Pending,
        });
        match more.await {
            0 => return,
            n => read += n,
        }
    }
}

thread_local! {
    static CREW: Crew<Errand> = const { Crew::new() };
}

/// A request that is to be answered.
struct Errand {
    worker: Rc<Worker>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    peer: Rc<Peer>,
    interims: Interims,
    _seat: Seat,
}

/// One request and its answer. Who resets a request ends all that was begun for it; of one that was reset before its
/// turn came, the backend never hears.
async fn exchange(errand: Errand) {
    let Errand {
        worker,
        request,
        mut respond,
        peer,
        interims,
        _seat,
    } = errand;
    let (worker, peer, interims) = (&worker, &*peer, &interims);
    let (parts, body) = request.into_parts();
    let answered = {
        let mut answering = pin!(answer(worker, &parts, body, peer, interims));
        poll_fn(|cx| {
            if respond.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            let answered = answering.as_mut().poll(cx);
            for interim in interims.borrow_mut().drain(..) {
                let _ = respond.send_informational(interim);
            }
            answered.map(Some)
        })
        .await
    };
    let Some((mut answer, to_head)) = answered else {
        return;
    };
    let _seat = answer.seat.take();
    let (head, body) = response(answer, to_head);
    let ended = body.is_end();
    let Ok(mut send) = respond.send_response(head, ended) else {
        return;
    };
    match body {
        // Never waits for a window: it is one line, and the connection has a deadline for what is not taken.
        Download::Own(text) => drop(send.send_data(text, true)),
        _ if ended => {}
        body => {
            let mut writing = Writing {
                send,
                body,
                waits: Bytes::new(),
                idle: worker.settings.stream_idle_timeout,
            };
            poll_fn(|cx| writing.poll(cx)).await;
        }
    }
}

async fn answer(
    worker: &Rc<Worker>,
    parts: &request::Parts,
    body: RecvStream,
    peer: &Peer,
    interims: &Interims,
) -> (Answer<Stream>, bool) {
    match translate(parts, &body, &worker.settings.limits) {
        Ok(request) => {
            let to_head = request.method == Method::Head;
            let upload = Stream {
                body,
                alarm: worker.clock.alarm(),
                interims: Rc::clone(interims),
            };
            (handle(worker, &request, peer, upload).await, to_head)
        }
        Err(failure) => {
            worker.rejected(peer, Protocol::Http2, failure);
            (refusal(failure, false), parts.method == http::Method::HEAD)
        }
    }
}

/// The body of an answer on its way out.
struct Writing {
    send: SendStream<Bytes>,
    body: Download<Stream>,
    /// What the client has not opened its window for.
    waits: Bytes,
    idle: Duration,
}

impl Writing {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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

/// The request's body, with the request's own deadline.
struct Stream {
    body: RecvStream,
    alarm: Alarm,
    interims: Interims,
}

/// Interim answers that are to be said; one for all streams of a connection, for it is empty between two polls.
type Interims = Rc<RefCell<Vec<http::Response<()>>>>;

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

    /// Said as soon as the answer's future has been polled.
    fn interim(&mut self, status: u16, lines: &Lines, _: &mut Context<'_>) {
        if let Ok(status) = StatusCode::from_u16(status) {
            let mut head = http::Response::new(());
            *head.status_mut() = status;
            *head.headers_mut() = block::map(lines, headers::answer_passes);
            self.interims.borrow_mut().push(head);
        }
    }

    /// Never asked for: requests of HTTP/2 do not upgrade.
    fn switch(&mut self) {}
}
