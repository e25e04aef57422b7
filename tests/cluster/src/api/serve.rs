//! Connections and answers: TLS, one task a connection, one call at a time through the rules.

use super::ask::Ask;
use super::failure::Failure;
use super::read::{self, Watch};
use super::{Call, State, access, delete, discovery, effects, events, rbac, scale, table, write};
use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Accepts until told to stop; then cuts every connection that it made.
pub(super) async fn listen(
    listener: TcpListener,
    tls: TlsAcceptor,
    state: Arc<State>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.wait_for(|&stop| stop) => break,
            Some(_) = connections.join_next() => (),
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, tls.clone(), state.clone()));
                }
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, state: Arc<State>) {
    let _late = stream.set_nodelay(true);
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let second = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| answer(state.clone(), request));
    let io = TokioIo::new(stream);
    // A connection that breaks is the client's affair; it asks again.
    if second {
        let _broken = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await;
    } else {
        let _broken = hyper::server::conn::http1::Builder::new()
            .serve_connection(io, service)
            .await;
    }
}

/// An error makes hyper cut the connection, which is what a rule may want.
async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Err(io::Error::other("the body broke off"));
    };
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let user = state.tokens().user(header("authorization"));
    let Some(user) = user else {
        let failure = Failure::new(401, "Unauthorized", "Unauthorized");
        return Ok(refusal(&failure));
    };
    let user = match access::acting(user, &head.headers) {
        Ok(user) => user,
        Err(failure) => return Ok(refusal(&failure)),
    };
    let found = discovery::answer(&state.store(), head.uri.path());
    if let Some(found) = found {
        return Ok(json(200, found.to_string()));
    }
    let parsed = Ask::parse(&head, body.to_bytes(), user, &state.store().kinds);
    match parsed {
        Ok(ask) => call(&state, ask).await,
        Err(failure) => Ok(refusal(&failure)),
    }
}

/// Troubles, rights, the call itself, and the record of it.
async fn call(state: &Arc<State>, ask: Ask) -> Result<Response<Body>, io::Error> {
    let fate = state.rules().fate(&ask);
    tokio::time::sleep(fate.delay).await;
    let mut record = Call::of(&ask);
    if fate.cut {
        state.record(record);
        return Err(io::Error::other("cut by a rule"));
    }
    let result = match fate.failure {
        Some(failure) => Err(failure),
        None => allowed(state, &ask).and_then(|()| carried(state, ask)),
    };
    let response = result.unwrap_or_else(|failure| refusal(&failure));
    record.code = response.status().as_u16();
    record.at = SystemTime::now();
    state.record(record);
    Ok(response)
}

/// Lets go of the store before the call is carried out.
fn allowed(state: &State, ask: &Ask) -> Result<(), Failure> {
    rbac::allowed(&state.store(), ask)
}

fn carried(state: &Arc<State>, ask: Ask) -> Result<Response<Body>, Failure> {
    if ask.kind.fleeting {
        return rbac::review(&state.store(), &ask).map(|review| json(201, review.to_string()));
    }
    if !served(&ask) {
        return Err(Failure::unknown_path());
    }
    match ask.verb {
        "watch" => Watch::open(state, ask).map(stream),
        "list" => {
            let found = read::list(&state.store(), &ask);
            let page = found?;
            Ok(json(
                200,
                if table::wanted(&ask) {
                    table::page(&ask, &page).into()
                } else {
                    page.written(&ask)
                },
            ))
        }
        "get" if ask.sub == "scale" => {
            scale::get(&state.store(), &ask).map(|scale| json(200, scale.to_string()))
        }
        "get" if ask.sub == "log" => logs(state, &ask),
        "get" => {
            let found = write::present(&state.store(), &ask)?;
            Ok(object(&ask, 200, &found))
        }
        "deletecollection" => {
            let mut store = state.store();
            let page = read::list(&store, &ask)?;
            delete::collection(&mut store, &ask, &page.objects)?;
            Ok(json(200, page.written(&ask)))
        }
        _ => written(state, &ask),
    }
}

fn written(state: &Arc<State>, ask: &Ask) -> Result<Response<Body>, Failure> {
    let mut store = state.store();
    let (code, found) = match ask.verb {
        "create" if !ask.sub.is_empty() => effects::posted(&mut store, ask)?,
        "create" => write::create(&mut store, ask)?,
        "update" => write::update(&mut store, ask)?,
        "patch" => write::patch(&mut store, ask)?,
        _ => delete::delete(&mut store, ask)?,
    };
    drop(store);
    Ok(object(ask, code, &found))
}

/// Whether the kind has the subresource that the path names.
fn served(ask: &Ask) -> bool {
    let kind = &ask.kind;
    if kind.namespaced && ask.namespace.is_none() && !matches!(ask.verb, "list" | "watch") {
        return false;
    }
    match ask.sub.as_str() {
        "" => true,
        "status" => kind.status,
        "scale" => kind.scale.is_some(),
        "finalize" => kind.is("", "namespaces"),
        "log" | "binding" | "eviction" => kind.is("", "pods"),
        _ => false,
    }
}

/// A pod's log, from whoever runs the pods.
fn logs(state: &Arc<State>, ask: &Ask) -> Result<Response<Body>, Failure> {
    let pod = write::present(&state.store(), ask)?;
    let text = state.logs(&pod, ask.query.get("container"));
    let text =
        text.ok_or_else(|| Failure::new(501, "NotImplemented", "this cluster keeps no logs of its pods"))?;
    let mut response = json(200, text);
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn object(ask: &Ask, code: u16, found: &Arc<Value>) -> Response<Body> {
    if found["kind"] == "Status" || found["kind"] == "Scale" {
        return json(code, found.to_string());
    }
    if table::wanted(ask) && ask.verb == "get" {
        return json(code, table::one(ask, found, true).to_string());
    }
    json(code, events::shown(&ask.kind, found).to_string())
}

fn stream(watch: Watch) -> Response<Body> {
    let lines = stream::unfold(watch, |mut watch| async move {
        let line = watch.next().await?;
        Some((line.map(Frame::data), watch))
    });
    response(200, BodyExt::boxed_unsync(StreamBody::new(lines)))
}

pub(super) fn json(code: u16, text: impl Into<Bytes>) -> Response<Body> {
    response(
        code,
        Full::new(text.into())
            .map_err(|never| match never {})
            .boxed_unsync(),
    )
}

fn refusal(failure: &Failure) -> Response<Body> {
    let mut response = json(failure.code, failure.status().to_string());
    if let Some(seconds) = failure.retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

fn response(code: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}
