//! The page's listener: whoever reaches it may look, and whoever has the token may act.
//!
//! It stands on loopback, so that the way to it is `kubectl port-forward`, which the API server allows or not. Names that
//! somebody points at the loopback, and pages of others, are sent away.

use super::{
    Hub,
    api::{Kind, is_conflict, told},
    evidence::random,
    told::Told,
};
use crate::{
    admin::Handler,
    page::{self, Plane},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use contract::{
    admin::{Lead, Refusal, is_own, same},
    names::{PAGE_SECRET, PAGE_TOKEN},
};
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::core::DynamicObject;
use serde::Serialize;
use serde_json::json;
use std::{
    convert::Infallible, fmt, fs, net::SocketAddr, path::PathBuf, sync::Arc, sync::OnceLock, time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore, time::interval};

/// Connections at one time: a browser takes six.
const CONNECTIONS: usize = 256;
/// Time for the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// Largest body, in octets: an order is a few words.
const LARGEST: usize = 64 * 1024;
/// Shortest token that opens anything.
const SHORTEST: usize = 16;
/// Time between two looks at whether the Secret must be made.
const LOOK: Duration = Duration::from_millis(500);

/// The explanation in words, which the program makes: `None`, something else is asked for.
pub type Words = Arc<
    dyn for<'a> Fn(&'a Handler, &'a Request<Bytes>) -> BoxFuture<'a, Option<Response<Bytes>>> + Send + Sync,
>;

/// Where the page is, and what it needs.
#[derive(Clone)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The file with the token that orders need: the Secret, mounted. Without it nobody can give orders here.
    pub token: Option<PathBuf>,
    /// Says why, in words.
    pub words: Words,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Refused = (StatusCode, String);

/// The page of one controller.
pub(super) struct Page {
    hub: Arc<Hub>,
    told: Arc<Told>,
    handler: Handler,
    options: Options,
    namespace: String,
    /// The token that this controller has made.
    made: OnceLock<String>,
}

impl Page {
    pub fn new(hub: Arc<Hub>, told: Arc<Told>, options: Options, namespace: String) -> Arc<Page> {
        Arc::new(Page {
            handler: told.handler(),
            made: OnceLock::new(),
            hub,
            told,
            options,
            namespace,
        })
    }

    /// Listens for ever. A page that cannot listen keeps nobody from a release.
    pub async fn serve(self: Arc<Page>) {
        let at = self.options.listen;
        let listener = match TcpListener::bind(at).await {
            Ok(listener) => listener,
            Err(e) => {
                tracing::error!(
                    "there is no page, for it cannot listen on {at}: {e}; choose another address with --page"
                );
                return;
            }
        };
        println!("page on http://{}/", listener.local_addr().unwrap_or(at));
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, or a client that has gone: neither is helped by a hot loop.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let page = self.clone();
            tokio::spawn(async move {
                let answer = service_fn(|request| {
                    let page = page.clone();
                    async move { Ok::<_, Infallible>(page.answer(request).await) }
                });
                // A client that breaks off is its own matter.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD)
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
                drop(permit);
            });
        }
    }

    /// Makes the Secret with the token once, if nobody has: a leader alone writes. Whoever did not make it reads it where
    /// it is mounted, a minute or two later.
    pub async fn own(self: Arc<Page>) {
        let mut pace = interval(LOOK);
        while self.options.token.is_some() && self.token().is_none() {
            pace.tick().await;
            if self.hub.leads() && self.token().is_none() && self.make().await {
                return;
            }
        }
    }

    /// Whether nothing more is to be done.
    async fn make(&self) -> bool {
        let Ok(token) = random() else {
            return false;
        };
        let secret = DynamicObject::new(PAGE_SECRET, &Kind::Secret.resource())
            .within(&self.namespace)
            .data(json!({ "type": "Opaque", "data": { PAGE_TOKEN: STANDARD.encode(&token) } }));
        match self
            .hub
            .server
            .create(Kind::Secret, &self.namespace, &secret)
            .await
        {
            Ok(_) => {
                tracing::info!(
                    "the page's token is made: Secret {PAGE_SECRET} in {}",
                    self.namespace
                );
                self.made.set(token).is_ok()
            }
            Err(e) if is_conflict(&e) => true,
            Err(e) => {
                tracing::warn!(
                    "the Secret {PAGE_SECRET} is not made, and nobody can act on the page: {}",
                    told(&e)
                );
                false
            }
        }
    }

    /// What orders need; `None`: not known yet. The file comes first: somebody may have changed the Secret.
    fn token(&self) -> Option<String> {
        let file = self.options.token.as_ref()?;
        let read = fs::read_to_string(file).ok().map(|text| text.trim().to_owned());
        read.filter(|t| t.len() >= SHORTEST)
            .or_else(|| self.made.get().cloned())
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        if let Err((status, error)) = at_home(&parts.headers) {
            return refuse(status, error);
        }
        let body = match Limited::new(body, LARGEST).collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large".to_owned()),
        };
        let request = Request::from_parts(parts, body);
        match *request.method() {
            Method::GET => self.look(request).await,
            _ => match self.may_act(request.headers()) {
                Ok(()) => self.rest(request).await,
                Err((status, error)) => refuse(status, error),
            },
        }
    }

    async fn look(&self, request: Request<Bytes>) -> Response<Body> {
        let path = request.uri().path();
        if let Some(page) = page::at(path, Plane::Cluster) {
            return whole(page);
        }
        if path == "/controller" {
            return json_of(&self.lead());
        }
        if let Some(stream) = self.handler.events(&request) {
            return stream;
        }
        if path.contains("/decisions") || path.ends_with("/words") {
            self.told.recall(&self.hub, path).await;
        }
        if let Some(words) = (self.options.words)(&self.handler, &request).await {
            return whole(words);
        }
        self.rest(request).await
    }

    async fn rest(&self, request: Request<Bytes>) -> Response<Body> {
        match self.handler.handle(request).await {
            Some(answer) => whole(answer),
            None => refuse(StatusCode::NOT_FOUND, "there is nothing here; try /".to_owned()),
        }
    }

    fn lead(&self) -> Lead {
        Lead {
            identity: self.hub.leadership.identity().to_owned(),
            leads: self.hub.leads(),
            leader: self.hub.leadership.leader(),
            namespace: self.namespace.clone(),
            port: self.options.listen.port(),
        }
    }

    /// Whether a caller may change something.
    fn may_act(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let remedy = format!(
            "it lies in the Secret {PAGE_SECRET}: kubectl -n {} get secret {PAGE_SECRET} -o go-template='{{{{.data.{PAGE_TOKEN} | base64decode}}}}'",
            self.namespace
        );
        let Some(token) = self.token() else {
            let why = "this controller does not know the token yet; its Secret is mounted within two minutes, or give it --page-token-file";
            return Err((StatusCode::SERVICE_UNAVAILABLE, why.to_owned()));
        };
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return Err((StatusCode::UNAUTHORIZED, format!("no token was given; {remedy}")));
        };
        let given = given.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default();
        match same(given, token.as_bytes()) {
            true => Ok(()),
            false => Err((StatusCode::FORBIDDEN, format!("the token is wrong; {remedy}"))),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page on {}", self.listen)
    }
}

/// Whether a request comes from our own page, or from no page.
fn at_home(headers: &HeaderMap) -> Result<(), Refused> {
    let text = |name| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    if !is_own(host) {
        let error = format!(
            "host `{host}` is none of this listener's names; use localhost or its address, 127.0.0.1"
        );
        return Err((StatusCode::MISDIRECTED_REQUEST, error));
    }
    match text(header::ORIGIN) {
        Some(origin) if origin.strip_prefix("http://") != Some(host) => {
            let error = format!("a page of `{origin}` may not ask here; open http://{host}/");
            Err((StatusCode::FORBIDDEN, error))
        }
        _ => Ok(()),
    }
}

fn whole(answer: Response<Bytes>) -> Response<Body> {
    answer.map(|bytes| Full::new(bytes).boxed_unsync())
}

fn json_of(value: &impl Serialize) -> Response<Body> {
    let mut answer = Response::new(Bytes::from(serde_json::to_vec(value).unwrap_or_default()));
    let kind = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    whole(answer)
}

fn refuse(status: StatusCode, error: String) -> Response<Body> {
    let mut answer = json_of(&Refusal::because(error));
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_page_under_our_own_address_is_at_home() {
        let ask = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            at_home(&headers).err().map(|(status, _)| status.as_u16())
        };
        assert_eq!(ask("127.0.0.1:9904", None), None);
        assert_eq!(ask("localhost:9904", Some("http://localhost:9904")), None);
        assert_eq!(ask("evil.example:9904", None), Some(421));
        for origin in [
            "http://evil.example",
            "null",
            "http://localhost:1",
            "https://localhost:9904",
        ] {
            assert_eq!(ask("localhost:9904", Some(origin)), Some(403), "{origin}");
        }
        assert_eq!(
            at_home(&HeaderMap::new()).err().map(|(s, _)| s.as_u16()),
            Some(421)
        );
    }
}
