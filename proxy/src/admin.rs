//! The admin listener: everything that changes state, behind a token ([`contract::admin`] has the calls).

use crate::{
    ask::{self, Form},
    control::{Control, Denied, Patch},
    decide::decide,
    server::{Body, Reply, json, whole},
    shared::Shared,
};
use bytes::Bytes;
use contract::{
    admin::{Refusal, is_own},
    decision::{Decision, Question},
    fault,
    names::{HEADER_ACTOR, HEADER_CAUSE},
};
use http::{Method, Request, Response, StatusCode, header};
use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

pub use contract::admin::same;

/// Longest name and longest cause that are recorded.
const MAX_ACTOR: usize = 256;
const MAX_CAUSE: usize = 4096;
/// Most services that are named to who asks for an unknown one.
const MAX_NAMES: usize = 20;

/// Answers paths that are not the proxy's; the token has been checked.
pub type Extra =
    Arc<dyn Fn(Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> + Send + Sync>;
/// The page at a path, without any token.
pub type Pages = fn(&str) -> Option<Reply>;

/// The admin calls.
pub struct Admin {
    /// The state behind the table.
    pub control: Arc<Control>,
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// What callers must know.
    pub token: String,
    /// Answers other paths.
    pub extra: Option<Extra>,
    /// Pages for people that need no token.
    pub pages: Option<Pages>,
}

impl Admin {
    /// Answers one call.
    pub async fn answer(&self, request: Request<Bytes>) -> Response<Body> {
        let unauthorized = self.unauthorized(&request);
        if unauthorized.is_some()
            && let Some(error) = misdirected(&request)
        {
            return refuse(StatusCode::MISDIRECTED_REQUEST, error).map(whole);
        }
        if let Some(page) = self.page(&request) {
            return page.map(whole);
        }
        if let Some(error) = unauthorized {
            return refuse(StatusCode::UNAUTHORIZED, error).map(whole);
        }
        if let Some(reply) = self.own(&request) {
            return reply.map(whole);
        }
        match &self.extra {
            Some(extra) => extra(request).await,
            None => {
                let error = format!("there is nothing at {}; try GET /services", request.uri().path());
                refuse(StatusCode::NOT_FOUND, error).map(whole)
            }
        }
    }

    /// The answer to the proxy's own calls.
    fn own(&self, request: &Request<Bytes>) -> Option<Reply> {
        let path = request.uri().path();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        Some(match (request.method(), parts.as_slice()) {
            (&Method::GET, ["services"]) => json(StatusCode::OK, &self.control.states()),
            (&Method::GET, ["services", name]) => match self.control.state(name) {
                Some(state) => json(StatusCode::OK, &state),
                None => self.unknown(name),
            },
            (&Method::PATCH, ["services", name, "annotations"]) => self.patch(name, request),
            (&Method::POST, ["decide"]) => self.decide(request),
            (_, ["decide"]) => wrong_method("POST"),
            (_, ["services"] | ["services", _]) => wrong_method("GET"),
            (_, ["services", _, "annotations"]) => wrong_method("PATCH"),
            _ => return None,
        })
    }

    /// Why the caller may not call, if so.
    fn unauthorized(&self, request: &Request<Bytes>) -> Option<String> {
        let remedy = "send `authorization: Bearer <token>`; the token lies in the state folder";
        let Some(given) = request.headers().get(header::AUTHORIZATION) else {
            return Some(format!("no token was given; {remedy}"));
        };
        let token = given.as_bytes().strip_prefix(b"Bearer ").unwrap_or_default();
        (!same(token, self.token.as_bytes())).then(|| format!("the token is wrong; {remedy}"))
    }

    /// The page for people: nothing is told on it without the token, which is a field of its form.
    fn page(&self, request: &Request<Bytes>) -> Option<Reply> {
        Some(match (request.method(), request.uri().path()) {
            (&Method::GET, "/where") => ask::page(&Form::default(), None),
            (&Method::GET, "/where.css") => ask::style(),
            (&Method::POST, "/where") => {
                let form = Form::read(request.body());
                let answer = self.asked(&form);
                ask::page(&form, Some(answer))
            }
            (&Method::GET, path) => return self.pages.and_then(|pages| pages(path)),
            _ => return None,
        })
    }

    fn asked(&self, form: &Form) -> Result<Decision, String> {
        if !same(form.token.as_bytes(), self.token.as_bytes()) {
            return Err("the token is wrong; it lies in the state folder".to_owned());
        }
        match &form.bad_client {
            Some(text) => Err(format!("{text} is not an address; write for example 192.0.2.7")),
            None => decide(&self.shared, &form.question),
        }
    }

    fn decide(&self, request: &Request<Bytes>) -> Reply {
        let read = serde_json::from_slice::<Question>(request.body());
        let question = read.map_err(|e| {
            format!("the body is no question ({e}); write for example {{\"method\": \"GET\", \"url\": \"/\", \"headers\": [\"x-canary: always\"]}}")
        });
        match question.and_then(|q| decide(&self.shared, &q)) {
            Ok(decision) => json(StatusCode::OK, &decision),
            Err(error) => refuse(StatusCode::BAD_REQUEST, error),
        }
    }

    fn unknown(&self, name: &str) -> Reply {
        let table = self.shared.table();
        let names = || table.routes.iter().map(|r| r.source.service.as_str());
        let remedy = match fault::meant(name, names()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!(
                "there are: {}",
                names().take(MAX_NAMES).collect::<Vec<_>>().join(", ")
            ),
        };
        // The list is cut, and a slip has one guess: all of them are a call away.
        refuse(
            StatusCode::NOT_FOUND,
            format!("there is no service {name}; {remedy} (GET /services lists all)"),
        )
    }

    fn patch(&self, name: &str, request: &Request<Bytes>) -> Reply {
        let patch = match read_patch(request) {
            Ok(patch) => patch,
            Err(error) => return refuse(StatusCode::BAD_REQUEST, error),
        };
        match self.control.patch(name, patch) {
            Ok(state) => json(StatusCode::OK, &state),
            Err(Denied::Unknown) => self.unknown(name),
            Err(Denied::Changed(hash)) => refuse(
                StatusCode::PRECONDITION_FAILED,
                format!("the hash in force is {hash}; read the service again and decide anew"),
            ),
            Err(Denied::Elsewhere) => refuse(
                StatusCode::CONFLICT,
                format!("this proxy follows its Service; use kubectl annotate service {name}"),
            ),
            Err(Denied::Faults(faults)) => {
                self.control
                    .refuse(&format!("admin call for {name}"), Some(name), &faults);
                let error = "the annotations are invalid; nothing was changed".to_owned();
                json(StatusCode::UNPROCESSABLE_ENTITY, &Refusal { error, faults })
            }
        }
    }
}

fn read_patch(request: &Request<Bytes>) -> Result<Patch, String> {
    let keys: BTreeMap<String, Option<String>> = serde_json::from_slice(request.body()).map_err(|e| {
        format!("the body is not a JSON object of texts ({e}); write for example {{\"serin.dev/canary-weight\": \"5\"}}")
    })?;
    Ok(Patch {
        keys,
        actor: text(request, HEADER_ACTOR, MAX_ACTOR)?.unwrap_or_else(|| "admin".to_owned()),
        cause: text(request, HEADER_CAUSE, MAX_CAUSE)?,
        if_match: text(request, header::IF_MATCH.as_str(), MAX_ACTOR)?
            .map(|t| t.trim_matches('"').to_owned()),
    })
}

fn text(request: &Request<Bytes>, name: &str, longest: usize) -> Result<Option<String>, String> {
    let Some(value) = request.headers().get(name) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| format!("{name} is not UTF-8; write plain text"))?;
    if text.len() > longest {
        return Err(format!("{name} is longer than {longest} octets; shorten it"));
    }
    Ok(Some(text.to_owned()))
}

/// Why a request without the token is not for us: a name that somebody pointed at the loopback (DNS rebinding) would let
/// that somebody's page speak to this listener from inside the user's browser.
fn misdirected(request: &Request<Bytes>) -> Option<String> {
    let host = request.headers().get(header::HOST)?;
    let text = host.to_str().unwrap_or_default();
    (!is_own(text)).then(|| {
        format!("host `{text}` is none of this listener's names; use localhost or its address, 127.0.0.1")
    })
}

fn wrong_method(right: &str) -> Reply {
    refuse(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("the method does not fit; use {right}"),
    )
}

/// A refusal without faults of an input.
pub fn refuse(status: StatusCode, error: String) -> Reply {
    json(status, &Refusal::because(error))
}
