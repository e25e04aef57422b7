//! One HTTP/2 connection to an endpoint, and the task that moves its frames.

use crate::{clock::Alarm, socket::Socket, wire::MAX_HEAD};
use bytes::Bytes;
use h2::{
    Ping, PingPong,
    client::{Builder, Connection, ResponseFuture, SendRequest},
};
use http::Request;
use std::{
    cell::{Cell, RefCell},
    fmt,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Requests at once on one connection, if the endpoint allows as many: more share the fate of one connection, and wait
/// for one another's packets.
const STREAMS: usize = 100;
/// What an endpoint may send ahead on one stream. All streams together may as well, so that a client that does not
/// read stops nobody else; that makes 25 MiB a connection at worst.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * STREAMS as u32;
/// What waits to be sent on one stream.
const SEND_BUFFER: usize = 256 * 1024;
/// How long an endpoint may be silent while requests wait before it is asked whether it lives, and how long it has to
/// answer that. It is asked once a silence: servers of gRPC close connections that ask often.
const SILENCE: Duration = Duration::from_secs(5);

/// One connection.
pub struct Link {
    sender: RefCell<SendRequest<Bytes>>,
    state: Rc<State>,
}

#[derive(Debug)]
struct State {
    active: Cell<usize>,
    /// Whether a request was ever answered on it.
    served: Cell<bool>,
    idle_since: Cell<Instant>,
    /// Counts what was read.
    heard: Cell<u64>,
    closed: Cell<bool>,
}

/// Room for one request on a connection.
#[derive(Debug)]
pub struct Seat(Rc<Link>);

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

impl Link {
    /// Begins to speak HTTP/2 on a socket; its frames are moved by a task on this thread.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn begin(socket: Socket, alarm: Alarm) -> Result<Rc<Link>, h2::Error> {
        let state = Rc::new(State {
            active: Cell::new(0),
            served: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
            heard: Cell::new(0),
            closed: Cell::new(false),
        });
        let heard = Heard {
            socket,
            state: Rc::clone(&state),
        };
        let (sender, mut connection) = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEAD as u32)
            .handshake::<_, Bytes>(heard)
            .await?;
        let watch = Watch {
            pings: connection.ping_pong(),
            state: Rc::clone(&state),
            alarm,
            last: 0,
            asked: false,
            waits: false,
        };
        tokio::task::spawn_local(drive(connection, watch));
        Ok(Rc::new(Link {
            sender: RefCell::new(sender),
            state,
        }))
    }

    /// A seat, if there is room.
    pub fn seat(self: &Rc<Link>) -> Option<Seat> {
        let active = self.state.active.get();
        if active >= STREAMS || active >= self.sender.borrow().current_max_send_streams() {
            return None;
        }
        self.state.active.set(active + 1);
        Some(Seat(Rc::clone(self)))
    }

    /// Whether new requests may go there: not after a GOAWAY, nor after its end.
    pub fn is_open(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !self.state.closed.get()
            && !matches!(self.sender.borrow_mut().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// Since when no request has been on it.
    pub fn idle_for(&self, now: Instant) -> Option<Duration> {
        (self.state.active.get() == 0).then(|| now.duration_since(self.state.idle_since.get()))
    }
}

impl Seat {
    /// Sends the head of a request.
    ///
    /// # Errors
    /// When the connection takes no more requests: nothing was sent.
    pub fn send(&self, request: Request<()>, ended: bool) -> Result<Sent, h2::Error> {
        self.0.sender.borrow_mut().send_request(request, ended)
    }

    /// Whether an earlier request was answered on the connection.
    pub fn is_reused(&self) -> bool {
        self.0.state.served.get()
    }

    /// Notes that a request was answered.
    pub fn served(&self) {
        self.0.state.served.set(true);
    }
}

type Sent = (ResponseFuture, h2::SendStream<Bytes>);

impl Drop for Seat {
    fn drop(&mut self) {
        let state = &self.0.state;
        state.active.set(state.active.get().saturating_sub(1));
        if state.active.get() == 0 {
            state.idle_since.set(Instant::now());
        }
    }
}

/// Finds out whether a silent endpoint still lives.
struct Watch {
    pings: Option<PingPong>,
    state: Rc<State>,
    alarm: Alarm,
    /// What had been heard when it was last looked.
    last: u64,
    /// Whether it was asked in this silence.
    asked: bool,
    /// Whether the answer is missing.
    waits: bool,
}

/// Moves the frames of a connection to its end.
async fn drive(mut connection: Connection<Heard, Bytes>, mut watch: Watch) {
    watch.alarm.set(SILENCE);
    let end = poll_fn(|cx| {
        if let Poll::Ready(end) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(end.err());
        }
        watch.poll_dead(cx).map(|()| None)
    });
    if let Some(e) = end.await {
        tracing::debug!("an HTTP/2 connection to an endpoint ended: {e}");
    }
    watch.state.closed.set(true);
}

impl Watch {
    /// Ready when the endpoint does not answer any more.
    fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else {
            return Poll::Pending;
        };
        let heard = self.state.heard.get();
        if self.waits && pings.poll_pong(cx).is_ready() {
            (self.waits, self.last) = (false, heard);
        }
        if !self.alarm.rings(cx) {
            return Poll::Pending;
        }
        if self.waits {
            return Poll::Ready(());
        }
        let silent = heard == self.last && self.state.active.get() > 0;
        if !silent {
            (self.asked, self.last) = (false, heard);
        } else if !self.asked {
            self.asked = true;
            self.waits = pings.send_ping(Ping::opaque()).is_ok();
            cx.waker().wake_by_ref();
        }
        self.alarm.set(SILENCE);
        let _ = self.alarm.rings(cx);
        Poll::Pending
    }
}

/// A socket that notes when something was read.
struct Heard {
    socket: Socket,
    state: Rc<State>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        if read.is_ready() {
            self.state.heard.set(self.state.heard.get().wrapping_add(1));
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
