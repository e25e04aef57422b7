//! The two small servers beside the traffic, on the control thread: never a worker's.

use crate::door::{ByTls, Door};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::{convert::Infallible, net::TcpListener as Plain, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// Largest body of a call.
const MAX_BODY: usize = 256 * 1024;
/// Time for a call's header.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// Time for a whole call to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// First octet of a connection that begins with a TLS handshake (RFC 8446, 5.1); no method begins so.
const HANDSHAKE: u8 = 22;

/// An answer whose body is there.
pub type Reply = Response<Bytes>;
/// An answer whose body may come bit by bit, for as long as the caller listens.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves calls on a listener for ever; with a door, by TLS too.
pub async fn serve<F>(listener: Plain, door: Option<Arc<Door>>, answer: F)
where
    F: AsyncFn(Request<Bytes>) -> Response<Body> + 'static,
{
    let Ok(listener) = TcpListener::from_std(listener) else {
        tracing::error!("a listener for signals or admin calls cannot be used");
        return;
    };
    let answer = Rc::new(answer);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (answer, door) = (Rc::clone(&answer), door.clone());
                tokio::task::spawn_local(greet(stream, door, answer));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Tells by the first octet whether the caller speaks TLS.
async fn greet<F>(stream: TcpStream, door: Option<Arc<Door>>, answer: Rc<F>)
where
    F: AsyncFn(Request<Bytes>) -> Response<Body> + 'static,
{
    let Some(door) = door else {
        return connection(stream, false, answer).await;
    };
    let mut first = [0];
    match timeout(HEADER_TIME, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] == HANDSHAKE => secret(stream, &door, answer).await,
        Ok(Ok(1)) => connection(stream, false, answer).await,
        _ => {}
    }
}

async fn secret<F>(stream: TcpStream, door: &Door, answer: Rc<F>)
where
    F: AsyncFn(Request<Bytes>) -> Response<Body> + 'static,
{
    let Some(tls) = door.tls() else {
        return tracing::debug!("a call by TLS came before there was a certificate");
    };
    match timeout(HEADER_TIME, tls.accept(stream)).await {
        Ok(Ok(stream)) => connection(stream, true, answer).await,
        Ok(Err(e)) => tracing::debug!("a call by TLS failed: {e}"),
        Err(_) => tracing::debug!("a call by TLS did not begin in time"),
    }
}

async fn connection<S, F>(stream: S, by_tls: bool, answer: Rc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: AsyncFn(Request<Bytes>) -> Response<Body> + 'static,
{
    let service = service_fn(|mut request: Request<Incoming>| {
        if by_tls {
            request.extensions_mut().insert(ByTls);
        }
        let answer = Rc::clone(&answer);
        async move { Ok::<_, Infallible>(call(request, &*answer).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .half_close(false);
    if let Err(e) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("a call ended early: {e}");
    }
}

async fn call(
    request: Request<Incoming>,
    answer: &impl AsyncFn(Request<Bytes>) -> Response<Body>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let arrived = timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await;
    match arrived {
        Ok(Ok(body)) => answer(Request::from_parts(parts, body.to_bytes())).await,
        _ => crate::admin::refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 256 KiB or did not arrive; send less".to_owned(),
        )
        .map(whole),
    }
}

/// A body that is there.
pub fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).boxed_unsync()
}

/// A JSON answer.
pub fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut reply = Response::new(Bytes::from(body));
    *reply.status_mut() = status;
    let kind = header::HeaderValue::from_static("application/json");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}
