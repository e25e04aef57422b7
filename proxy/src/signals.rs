//! The signals listener: read-only.

use crate::{
    admin::refuse,
    door::{ByTls, Door},
    exposition::{self, openmetrics},
    page,
    server::{Reply, json},
    shared::Shared,
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use std::sync::Arc;

/// Media type of Prometheus text.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is told.
pub struct Signals {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// Who may read evidence; without a door, everybody who can connect.
    pub door: Option<Arc<Door>>,
}

impl Signals {
    /// Answers one call.
    pub fn answer(&self, request: &Request<Bytes>) -> Reply {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "nothing can be changed here; use GET".to_owned(),
            );
        }
        match request.uri().path() {
            "/metrics" => self.metrics(request),
            "/evidence" => self.guarded(request),
            "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => self.ready(),
            path => refuse(
                StatusCode::NOT_FOUND,
                format!("there is nothing at {path}; try /metrics, /evidence, /healthz or /readyz"),
            ),
        }
    }

    fn metrics(&self, request: &Request<Bytes>) -> Reply {
        let (metrics, kind) = if openmetrics::is_asked_for(request.headers()) {
            (exposition::openmetrics(&self.shared), openmetrics::MEDIA_TYPE)
        } else {
            (exposition::text(&self.shared), PROMETHEUS)
        };
        let mut reply = text(StatusCode::OK, metrics);
        let kind = header::HeaderValue::from_static(kind);
        reply.headers_mut().insert(header::CONTENT_TYPE, kind);
        // The same address answers in two formats.
        let vary = header::HeaderValue::from_static("accept");
        reply.headers_mut().insert(header::VARY, vary);
        reply
    }

    /// Evidence for who may have it.
    fn guarded(&self, request: &Request<Bytes>) -> Reply {
        let by_tls = request.extensions().get::<ByTls>().is_some();
        let refusal = self
            .door
            .as_ref()
            .and_then(|d| d.refusal(request.headers(), by_tls));
        match refusal {
            Some((status, why)) => refuse(status, why.to_owned()),
            None => self.evidence(request.uri().query().unwrap_or_default()),
        }
    }

    fn evidence(&self, query: &str) -> Reply {
        let since = query.split('&').find_map(|p| p.strip_prefix("since="));
        match since.map_or(Ok(0), str::parse) {
            Ok(since) => json(StatusCode::OK, &page::of(&self.shared, since)),
            Err(_) => refuse(
                StatusCode::BAD_REQUEST,
                "since is not a whole number of seconds; write for example ?since=120".to_owned(),
            ),
        }
    }

    fn ready(&self) -> Reply {
        if self.shared.is_draining() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
        }
        if self.shared.table().routes.is_empty() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "no table yet\n".to_owned());
        }
        text(StatusCode::OK, "ready\n".to_owned())
    }
}

fn text(status: StatusCode, text: String) -> Reply {
    let mut reply = Response::new(Bytes::from(text));
    *reply.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}
