//! HTTP/2 without TLS (prior knowledge) in front: hyper speaks it; requests and answers are turned into ours.

use crate::{
    clock::Alarm,
    error::Failure,
    front::Peer,
    handle::{handle, refusal},
    headers,
    socket::Socket,
    stream::{Answer, Download},
    upstream::{Piece, Upload},
    wire::{
        MAX_HEAD,
        block::{self, Block},
        body::Framing,
        lines::Lines,
        name::Name,
        request::{Method, Parts, Protocol, Request, is_authority},
    },
    worker::Worker,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header, request};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Requests at once on one connection.
const STREAMS: u32 = 100;
/// Octets that a client may send ahead on one stream and on one connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Runs hyper's tasks on this thread.
#[derive(Clone, Copy, Debug)]
struct Here;

impl<F> hyper::rt::Executor<F> for Here
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Serves a connection to its end.
pub async fn serve(worker: &Rc<Worker>, stream: Socket, peer: Rc<Peer>, first: Bytes, alarm: Alarm) {
    alarm.clear();
    let service = service_fn(|r: http::Request<Incoming>| {
        let (worker, peer) = (Rc::clone(worker), Rc::clone(&peer));
        async move { Ok::<_, Infallible>(exchange(&worker, r, &peer).await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(Here);
    builder
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD as u32);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(Prefixed { first, stream }), service));
    let mut told = false;
    let end = poll_fn(|cx| {
        if let Poll::Ready(end) = connection.as_mut().poll(cx) {
            return Poll::Ready(end);
        }
        // Registers the waker: the end of all things wakes every alarm.
        let _ = alarm.rings(cx);
        if !told && worker.shared.is_draining() {
            told = true;
            connection.as_mut().graceful_shutdown();
            return connection.as_mut().poll(cx);
        }
        Poll::Pending
    });
    if let Err(e) = end.await {
        tracing::debug!("an HTTP/2 connection of {} ended: {e}", peer.address);
    }
}

/// One request and its answer.
async fn exchange(
    worker: &Rc<Worker>,
    request: http::Request<Incoming>,
    peer: &Peer,
) -> http::Response<Outcome> {
    let (parts, body) = request.into_parts();
    let upload = Stream {
        body,
        alarm: worker.clock.alarm(),
    };
    let (answer, to_head) = match translate(&parts, &upload.body) {
        Ok(request) => {
            let to_head = request.method == Method::Head;
            (Box::pin(handle(worker, &request, peer, upload)).await, to_head)
        }
        Err(failure) => {
            worker.rejected(peer, Protocol::Http2, failure);
            (refusal(failure, false), parts.method == http::Method::HEAD)
        }
    };
    response(answer, to_head)
}

/// The request in our words. Its text is laid out in one block, as HTTP/1 has it.
fn translate(parts: &request::Parts, body: &Incoming) -> Result<Request, Failure> {
    if parts.method == http::Method::CONNECT {
        return Err(Failure::Connect);
    }
    let mut block = Block::default();
    let method = block.text(parts.method.as_str().as_bytes())?;
    let target = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    let target = block.text(target.as_bytes())?;
    let host = block.text(host(parts)?)?;
    for (name, value) in &parts.headers {
        if name != header::COOKIE && name != header::HOST {
            block.line(name.as_str().as_bytes(), value.as_bytes())?;
        }
    }
    block.cookies(&parts.headers)?;
    Ok(Request::new(Parts {
        lines: block.done(),
        protocol: Protocol::Http2,
        method,
        target,
        host,
        framing: match body.size_hint().exact() {
            _ if body.is_end_stream() => Framing::Empty,
            Some(n) => Framing::Length(n),
            None => Framing::Chunked,
        },
    }))
}

/// `:authority`, or `host`; if both, they must agree (RFC 9113, 8.3.1).
fn host(parts: &request::Parts) -> Result<&[u8], Failure> {
    let mut hosts = parts
        .headers
        .get_all(header::HOST)
        .iter()
        .map(HeaderValue::as_bytes);
    let authority = parts.uri.authority().map(|a| a.as_str().as_bytes());
    let first = hosts.next();
    let host = authority.or(first).unwrap_or_default();
    if hosts.next().is_some() || first.is_some_and(|f| !f.eq_ignore_ascii_case(host)) {
        return Err(Failure::Malformed("host and authority disagree"));
    }
    if !is_authority(host) {
        return Err(Failure::Malformed("the authority is malformed"));
    }
    Ok(host)
}

/// The request's body, with the request's own deadline.
struct Stream {
    body: Incoming,
    alarm: Alarm,
}

impl Upload for Stream {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Failure>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(Ok(Piece::End(None))),
                Some(Err(_)) => return Poll::Ready(Err(Failure::Cancelled)),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Ok(Piece::Data(data))),
                Err(frame) => {
                    let trailers = frame.into_trailers().ok().and_then(|t| block::lines(&t).ok());
                    return Poll::Ready(Ok(Piece::End(trailers)));
                }
            }
        }
    }

    /// hyper drops the request when its stream is reset.
    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn alarm(&self) -> &Alarm {
        &self.alarm
    }

    /// hyper's server cannot say interim answers.
    fn interim(&mut self, _: u16, _: &Lines, _: &mut Context<'_>) {}

    /// Never asked for: requests of HTTP/2 do not upgrade.
    fn switch(&mut self) {}
}

/// The answer in hyper's words.
fn response(mut answer: Answer<Stream>, to_head: bool) -> http::Response<Outcome> {
    if to_head && let Download::Own(text) = &mut answer.body {
        text.clear();
    }
    let mut headers = block::map(&answer.lines, headers::answer_passes);
    for (name, value) in answer.extra {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::try_from(value),
        ) {
            headers.append(name, value);
        }
    }
    let told = answer
        .lines
        .of(Name::ContentLength)
        .next()
        .and_then(|v| HeaderValue::from_bytes(v).ok());
    let length = match answer.framing {
        Framing::Length(n) => Some(HeaderValue::from(n)),
        Framing::Empty => told,
        _ => None,
    };
    if let Some(length) = length.filter(|_| answer.status != 204) {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    let mut response = http::Response::new(Outcome(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = headers;
    response
}

/// The answer's body as hyper takes it.
struct Outcome(Download<Stream>);

/// Resets the stream: the client must see that the body is not whole.
#[derive(Debug)]
struct Broken(Failure);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Broken {}

impl Body for Outcome {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Poll::Ready(match ready!(self.0.poll_piece(cx)) {
            Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Piece::End(Some(trailers))) => Some(Ok(Frame::trailers(block::map(
                &trailers,
                headers::trailer_passes,
            )))),
            Ok(Piece::End(None)) => None,
            Err(failure) => Some(Err(Broken(failure))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.left() {
            Some(n) => SizeHint::with_exact(n),
            None => SizeHint::default(),
        }
    }
}

/// A socket whose first octets were read already.
struct Prefixed {
    first: Bytes,
    stream: Socket,
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let n = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
