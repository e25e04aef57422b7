//! HTTP/1 in front, by hand: a general server library hides what is ambiguous in a request (both lengths, bare line
//! feeds, doubled lines), and a front must refuse exactly those. It also costs twice the instructions and ten times
//! the memory of an idle connection.

use crate::{
    clock::Alarm,
    error::Failure,
    front::{Peer, linger::linger, tunnel::Tunnel},
    handle::{handle, refusal},
    headers,
    socket::{Half, Socket},
    stream::{Answer, Download},
    upstream::{Piece, Upload, last_chunk},
    wire::{
        MAX_HEAD,
        body::{Decoder, Framing, Step},
        lines::Lines,
        name::Name,
        outbox::{Outbox, decimal},
        reader,
        request::{Method, Protocol, Request},
    },
    worker::Worker,
};
use bytes::Bytes;
use contract::file::LimitsEntry;
use http::StatusCode;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::AsyncWrite;

/// How long a client that sent what is no request has to take the answer.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is read of a client after an answer that came before its upload had ended: few uploads are longer, and to read so
/// much away is less than a second's work.
const UPLOAD: usize = 64 * 1024 * 1024;

/// The reading side of a connection.
struct Inlet<'a> {
    read: Half<'a>,
    /// Read and not yet used.
    rest: Bytes,
    alarm: Alarm,
    /// Interim answers that the client has not taken yet.
    early: &'a Early,
}

/// Interim answers wait here for room; the final answer goes behind them.
type Early = Cell<Vec<u8>>;

/// The body of the request that is being served.
struct Body<'a, 'b> {
    inlet: &'a mut Inlet<'b>,
    decoder: Decoder,
    /// Whether the client knows interim answers.
    interim: bool,
}

/// How the body of an answer is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// There is none, or its length was told.
    Known,
    Chunked,
    Close,
    /// It does not: the connection belongs to another protocol now.
    Tunnel,
}

/// What comes after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Another request.
    Keep,
    /// The end, in good order.
    Close,
    /// The end, with something of the client's unread.
    Linger,
    /// The end, in the middle of an answer.
    Break,
}

/// Serves a connection to its end.
pub async fn serve(worker: &Rc<Worker>, stream: Socket, peer: &Peer, first: Bytes, alarm: Alarm) {
    let socket = RefCell::new(stream);
    let early = Early::default();
    let mut write = Half(&socket);
    let mut inlet = Inlet {
        read: Half(&socket),
        rest: first,
        alarm,
        early: &early,
    };
    let next = loop {
        let next = match inlet.head(worker).await {
            // Boxed, so that a connection without a request does not hold the room for one.
            Ok(Some(request)) => Box::pin(exchange(worker, &mut inlet, &mut write, &request, peer)).await,
            Ok(None) => Next::Close,
            Err(failure) => {
                worker.rejected(peer, Protocol::Http11, failure);
                reject(&mut inlet, &mut write, failure).await
            }
        };
        if next != Next::Keep {
            break next;
        }
    };
    match next {
        Next::Linger => {
            inlet.rest = Bytes::new();
            linger(&mut write, &inlet.alarm, UPLOAD).await;
        }
        // A reset tells the client that the answer is not whole, whatever its framing.
        Next::Break => drop(socket.borrow().tcp().set_zero_linger()),
        _ => socket.borrow_mut().farewell(),
    }
}

/// One request and its answer.
async fn exchange(
    worker: &Rc<Worker>,
    inlet: &mut Inlet<'_>,
    write: &mut Half<'_>,
    request: &Request,
    peer: &Peer,
) -> Next {
    if request.expects && inlet.rest.is_empty() && interim(write).await.is_err() {
        return Next::Close;
    }
    let body = Body {
        inlet,
        decoder: Decoder::new(request.framing),
        interim: request.protocol == Protocol::Http11,
    };
    let early = body.inlet.early;
    let answer = handle(worker, request, peer, body).await;
    respond(worker, write, request, early.take(), answer).await
}

/// Tells a client that waits for it to send its body.
async fn interim(write: &mut Half<'_>) -> Result<(), Failure> {
    let mut out = Outbox::default();
    out.text().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    poll_fn(|cx| out.poll_flush(write, cx))
        .await
        .map_err(|_| Failure::Cancelled)
}

/// Answers what is no request.
async fn reject(inlet: &mut Inlet<'_>, write: &mut Half<'_>, failure: Failure) -> Next {
    inlet.alarm.set(FAREWELL);
    let answer: Answer<Body<'_, '_>> = refusal(failure, true);
    let mut out = Outbox::default();
    head(&answer, None, false, out.text());
    if let Download::Own(text) = &answer.body {
        out.plain(text.clone());
    }
    let written = poll_fn(|cx| {
        if inlet.alarm.rings(cx) {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        out.poll_flush(write, cx)
    });
    if written.await.is_ok() {
        Next::Linger
    } else {
        Next::Close
    }
}

/// Sends an answer.
async fn respond(
    worker: &Worker,
    write: &mut Half<'_>,
    request: &Request,
    early: Vec<u8>,
    mut answer: Answer<Body<'_, '_>>,
) -> Next {
    let wanted = request.keep_alive && !answer.closes && !worker.shared.is_draining();
    let mut out = Outbox::default();
    if !early.is_empty() {
        out.text().extend_from_slice(&early);
    }
    let ending = head(&answer, Some(request), wanted, out.text());
    if request.method == Method::Head
        && let Download::Own(text) = &mut answer.body
    {
        text.clear();
    }
    if ending == Ending::Tunnel {
        let mut tunnel = Tunnel::new(out);
        let end = poll_fn(|cx| tunnel.poll(&mut answer.body, write, cx)).await;
        return end.map_or(Next::Break, |()| Next::Close);
    }
    let mut writing = Writing {
        out,
        ending,
        ended: false,
    };
    let idle = worker.settings.stream_idle_timeout;
    if poll_fn(|cx| writing.poll(&mut answer.body, write, idle, cx))
        .await
        .is_err()
    {
        return Next::Break;
    }
    let sent = request.framing == Framing::Empty || answer.body.is_request_sent();
    match (wanted && ending != Ending::Close, sent) {
        (true, true) => Next::Keep,
        (_, true) => Next::Close,
        (_, false) => Next::Linger,
    }
}

/// An answer on its way out.
struct Writing {
    out: Outbox,
    ending: Ending,
    /// Whether all of it is in the outbox.
    ended: bool,
}

impl Writing {
    /// Takes pieces and writes them. The head goes with the first piece if that is there already.
    fn poll(
        &mut self,
        body: &mut Download<Body<'_, '_>>,
        write: &mut Half<'_>,
        idle: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        loop {
            let waits = !self.ended && self.out.has_room() && self.fill(body, cx)?;
            match self.out.poll_flush(write, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failure::Cancelled)),
                Poll::Pending => return body.poll_stalled(idle, cx),
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            self.out.clear();
            if waits {
                return Poll::Pending;
            }
        }
    }

    /// Puts the next piece into the outbox. True when there is none yet.
    fn fill(&mut self, body: &mut Download<Body<'_, '_>>, cx: &mut Context<'_>) -> Result<bool, Failure> {
        match body.poll_piece(cx)? {
            Poll::Pending => return Ok(true),
            Poll::Ready(Piece::Data(data)) if self.ending == Ending::Chunked => self.out.chunk(data),
            Poll::Ready(Piece::Data(data)) => {
                self.out.plain(data);
                self.ended = body.is_end();
            }
            Poll::Ready(Piece::End(trailers)) => {
                if self.ending == Ending::Chunked {
                    last_chunk(trailers.as_ref(), self.out.text());
                }
                self.ended = true;
            }
        }
        Ok(false)
    }
}

/// Writes the head of an answer, and says how its body will end.
fn head<U>(answer: &Answer<U>, request: Option<&Request>, keep: bool, out: &mut Vec<u8>) -> Ending {
    status_line(answer.status, out);
    headers::answer(&answer.lines, out);
    for (name, value) in &answer.extra {
        headers::line(out, name, value.as_bytes());
    }
    let chunks = request.is_none_or(|r| headers::knows_chunks(r.protocol));
    let to_head = request.is_some_and(|r| r.method == Method::Head);
    let ending = framing(answer, to_head, chunks, out);
    if ending == Ending::Tunnel {
        headers::upgrade(&answer.lines, out);
    } else if !keep || ending == Ending::Close {
        out.extend_from_slice(b"connection: close\r\n");
    } else if !chunks {
        out.extend_from_slice(b"connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    ending
}

fn status_line(status: u16, out: &mut Vec<u8>) {
    if status == 200 {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(status.into(), out);
    out.push(b' ');
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|s| s.canonical_reason());
    out.extend_from_slice(reason.unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// RFC 9112, 6: the answer's length as its backend told it, or chunks, or the end of the connection.
fn framing<U>(answer: &Answer<U>, to_head: bool, chunks: bool, out: &mut Vec<u8>) -> Ending {
    let told = answer.lines.of(Name::ContentLength).next();
    match (answer.framing, answer.status) {
        (Framing::Tunnel, _) => return Ending::Tunnel,
        (_, 204) => {}
        (Framing::Empty, 304) | (Framing::Empty, _) if to_head || answer.status == 304 => {
            if let Some(length) = told {
                headers::line(out, "content-length", length);
            }
        }
        (Framing::Empty, _) => headers::line(out, "content-length", b"0"),
        (Framing::Length(n), _) => {
            out.extend_from_slice(b"content-length: ");
            decimal(n, out);
            out.extend_from_slice(b"\r\n");
        }
        _ if chunks => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            return Ending::Chunked;
        }
        _ => return Ending::Close,
    }
    Ending::Known
}

impl Inlet<'_> {
    /// The next request's head. `None` when the client goes, or lies idle for too long, or the end has come.
    async fn head(&mut self, worker: &Worker) -> Result<Option<Request>, Failure> {
        let mut begun = !self.rest.is_empty();
        let mut looked = 0;
        if !begun {
            self.alarm.set(worker.settings.limits.idle_timeout.duration());
        }
        loop {
            if let Some(request) = self.parse(&worker.settings.limits, &mut looked)? {
                self.alarm.clear();
                return Ok(Some(request));
            }
            let more = poll_fn(|cx| self.poll_more(worker, begun, cx)).await?;
            let Some(more) = more else { return Ok(None) };
            if !std::mem::replace(&mut begun, true) {
                self.alarm.set(worker.settings.header_timeout);
            }
            self.rest = reader::join(&self.rest, more);
        }
    }

    /// A head that comes octet by octet is not parsed again for each: only when a line has ended since the last look.
    fn parse(&mut self, limits: &LimitsEntry, looked: &mut usize) -> Result<Option<Request>, Failure> {
        let fresh = self.rest.get(*looked..).unwrap_or_default();
        let line_ended = memchr::memchr(b'\n', fresh).is_some();
        *looked = self.rest.len();
        if !line_ended && *looked < limits.header_size {
            return Ok(None);
        }
        Request::take_within(&mut self.rest, limits.header_size, limits.header_count)
    }

    fn poll_more(
        &mut self,
        worker: &Worker,
        begun: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Failure>> {
        if let Poll::Ready(read) = reader::poll_read(&mut self.read, cx) {
            return Poll::Ready(Ok(read.ok().filter(|b| !b.is_empty())));
        }
        if self.alarm.rings(cx) {
            return Poll::Ready(if begun {
                Err(Failure::HeaderTimeout)
            } else {
                Ok(None)
            });
        }
        if !begun && worker.is_closing() {
            return Poll::Ready(Ok(None));
        }
        Poll::Pending
    }
}

impl Upload for Body<'_, '_> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Failure>> {
        loop {
            match self
                .decoder
                .decode(&mut self.inlet.rest)
                .map_err(Failure::Malformed)?
            {
                Step::Data(data) => return Poll::Ready(Ok(Piece::Data(data))),
                Step::End(trailers) => return Poll::Ready(Ok(Piece::End(trailers))),
                Step::More => {}
            }
            match ready!(reader::poll_read(&mut self.inlet.read, cx)) {
                Ok(more) if !more.is_empty() => self.inlet.rest = more,
                Ok(_) if self.decoder.ends_with_connection() => return Poll::Ready(Ok(Piece::End(None))),
                _ => return Poll::Ready(Err(Failure::Cancelled)),
            }
        }
    }

    /// A client that sends its next request early has not gone; it is read later.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.inlet.rest.is_empty() || !self.decoder.is_done() {
            return Poll::Pending;
        }
        match ready!(reader::poll_read(&mut self.inlet.read, cx)) {
            Ok(more) if !more.is_empty() => {
                self.inlet.rest = more;
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    fn alarm(&self) -> &Alarm {
        &self.inlet.alarm
    }

    /// 100 is ours to say, and was said when the body was asked for.
    fn interim(&mut self, status: u16, lines: &Lines, cx: &mut Context<'_>) {
        if !self.interim || status == 100 {
            return;
        }
        let mut text = self.inlet.early.take();
        if text.len() < MAX_HEAD {
            status_line(status, &mut text);
            headers::answer(lines, &mut text);
            text.extend_from_slice(b"\r\n");
        }
        // What is not taken now goes with the final answer; a client that has gone is found by who reads.
        if let Poll::Ready(Ok(n)) = Pin::new(&mut self.inlet.read).poll_write(cx, &text) {
            text.drain(..n.min(text.len()));
        }
        self.inlet.early.set(text);
    }

    fn switch(&mut self) {
        self.decoder = Decoder::new(Framing::Tunnel);
    }
}
