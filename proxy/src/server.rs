//! The two small servers beside the traffic, on the control thread: never a worker's.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use std::{convert::Infallible, net::TcpListener as Plain, rc::Rc, time::Duration};
use tokio::net::{TcpListener, TcpStream};

/// Largest body of a call.
const MAX_BODY: usize = 256 * 1024;
/// Time for a call's header.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// Time for a whole call to arrive.
const BODY_TIME: Duration = Duration::from_secs(30);

/// An answer.
pub type Reply = Response<Bytes>;

/// Serves calls on a listener for ever.
pub async fn serve<F>(listener: Plain, answer: F)
where
    F: AsyncFn(Request<Bytes>) -> Reply + 'static,
{
    let Ok(listener) = TcpListener::from_std(listener) else {
        tracing::error!("a listener for signals or admin calls cannot be used");
        return;
    };
    let answer = Rc::new(answer);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = Rc::clone(&answer);
                tokio::task::spawn_local(connection(stream, answer));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection<F>(stream: TcpStream, answer: Rc<F>)
where
    F: AsyncFn(Request<Bytes>) -> Reply + 'static,
{
    let service = service_fn(|request| {
        let answer = Rc::clone(&answer);
        async move { Ok::<_, Infallible>(call(request, &*answer).await.map(Full::new)) }
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

async fn call(request: Request<Incoming>, answer: &impl AsyncFn(Request<Bytes>) -> Reply) -> Reply {
    let (parts, body) = request.into_parts();
    let whole = tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await;
    match whole {
        Ok(Ok(body)) => answer(Request::from_parts(parts, body.to_bytes())).await,
        _ => crate::admin::refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 256 KiB or did not arrive; send less".to_owned(),
        ),
    }
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
