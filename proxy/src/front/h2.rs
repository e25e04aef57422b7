//! HTTP/2 in front: the h2 crate speaks it; requests and answers are turned into ours. The crate alone, without a
//! server around it: only so can a flood be answered with its reason, and a client be cut that never opens a window.

mod crew;
mod frames;
mod outlet;
mod stream;
mod words;

use self::{
    crew::Crew,
    frames::{Ledger, Watched},
    outlet::{Tunnel, Writing},
    stream::{Interims, Stream},
    words::{response, translate},
};
use crate::{
    clock::{Alarm, TICK},
    error::Failure,
    front::{Peer, linger::linger},
    handle::{handle, refusal},
    socket::Socket,
    stream::{Answer, Download},
    wire::{
        body::Framing,
        request::{Method, Protocol},
    },
    worker::Worker,
};
use bytes::Bytes;
use contract::file::LimitsEntry;
use h2::{
    Reason, RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::request;
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

/// Octets of one answer that wait for the socket, beside what its stream holds back.
const SEND_BUFFER: usize = 64 * 1024;
/// How long a client that is to be closed at once has to take what it is told.
const FAREWELL: Duration = Duration::from_secs(2);

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
        // An honest client has no more than this under way: the window forbids it.
        let most = worker.settings.limits.http2_connection_window as usize;
        linger(&mut watched.into_inner(), &alarm, most).await;
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
        // WebSocket (RFC 8441).
        .enable_connect_protocol()
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
        self.alarm.set(FAREWELL);
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
    let switched = answer.framing == Framing::Tunnel;
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
            let mut writing = Writing::new(send, body, worker.settings.stream_idle_timeout);
            if switched {
                let mut tunnel = Tunnel::new(writing);
                return poll_fn(|cx| tunnel.poll(cx)).await;
            }
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
    match translate(parts, &body, &worker.settings.limits, || worker.random()) {
        Ok(request) => {
            let to_head = request.method == Method::Head;
            let upload = Stream::new(body, worker.clock.alarm(), interims);
            if request.expects {
                upload.invite();
            }
            (handle(worker, &request, peer, upload).await, to_head)
        }
        Err(failure) => {
            worker.rejected(peer, Protocol::Http2, failure);
            (refusal(failure, false), parts.method == http::Method::HEAD)
        }
    }
}
