//! The controller's part of the admin calls: `/rollouts…` ([`contract::admin`]).

use crate::{
    course::Courses,
    events::{self, Listener, Stream},
    store::{Records, Which, read_series},
};
use bytes::Bytes;
use contract::{
    admin::Refusal,
    names::{HEADER_ACTOR, HEADER_CAUSE},
    release::{Command, Decision, Status},
    series::Series,
};
use engine::{Grounds, Order};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Serialize;
use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::spawn_blocking,
    time::timeout,
};

/// Longest wait for a turn: several of the longest turns.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest name and reason that are recorded, in characters.
const LONGEST_NAME: usize = 128;
const LONGEST_REASON: usize = 1000;
/// Listeners to events at one time; whoever comes later asks again and again.
const LISTENERS: usize = 64;
/// Who acts when nobody is named.
const NOBODY: &str = "admin";

/// Answers `/rollouts…`; whoever serves the admin listener has checked the token. Cheap to clone, usable from any
/// thread and runtime.
#[derive(Clone, Debug)]
pub struct Handler {
    known: Known,
    listeners: Arc<Semaphore>,
    /// Parts of a name: a service has one, and a Rollout its namespace before it.
    depth: usize,
}

/// Where everything that is told comes from.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub statuses: watch::Receiver<Vec<Status>>,
    pub grounds: watch::Receiver<BTreeMap<String, Grounds>>,
    pub courses: watch::Receiver<Courses>,
    pub records: Records,
    /// The state folder, if there is one.
    pub folder: Option<PathBuf>,
    pub asks: mpsc::Sender<Ask>,
}

/// What somebody asked for, and where the answer goes.
#[derive(Debug)]
pub(crate) struct Ask {
    pub service: String,
    pub order: Order,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
enum Answer {
    Done(Box<Status>),
    Refused(String),
    Unknown,
}

type Reply = Result<Response<Bytes>, (StatusCode, String)>;

impl Handler {
    pub(crate) fn new(known: Known) -> Handler {
        Handler {
            known,
            listeners: Arc::new(Semaphore::new(LISTENERS)),
            depth: 1,
        }
    }

    /// For names with a namespace.
    pub(crate) fn of_cluster(known: Known) -> Handler {
        Handler {
            depth: 2,
            ..Handler::new(known)
        }
    }

    /// The release that a path of `/rollouts` names, and what of it is asked for.
    pub fn parts<'a>(&self, path: &'a str) -> Option<Vec<&'a str>> {
        let rest = path.strip_prefix("/rollouts")?;
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        let end = rest.match_indices('/').nth(self.depth - 1);
        let (name, of) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
        Some(std::iter::once(name).chain(of.split('/').skip(1)).collect())
    }

    /// The stream of `GET /events` and `GET /rollouts/NAME/events`; `None`: something else is asked for, or there are
    /// too many listeners, and [`Handler::handle`] says so.
    pub fn events(&self, request: &Request<Bytes>) -> Option<Response<Stream>> {
        let service = self.listened(request)?;
        let is_known = |name: &String| self.known.statuses.borrow().iter().any(|s| s.service == *name);
        if !service.as_ref().is_none_or(is_known) {
            return None;
        }
        Some(events::stream(Listener {
            statuses: self.known.statuses.clone(),
            courses: self.known.courses.clone(),
            service,
            _permit: self.listeners.clone().try_acquire_owned().ok()?,
        }))
    }

    /// The answer, or `None` when the path is none of the controller's.
    pub async fn handle(&self, request: Request<Bytes>) -> Option<Response<Bytes>> {
        let path = request.uri().path().to_owned();
        if path == "/events" {
            return Some(crowded());
        }
        let parts = self.parts(&path)?;
        let reply = match (request.method(), parts.as_slice()) {
            (&Method::GET, [] | [""]) => json(StatusCode::OK, &*self.known.statuses.borrow()),
            (&Method::GET, [name]) => self.one(name),
            (&Method::GET, [name, "explanation"]) => self.explanation(name),
            (&Method::GET, [name, "series"]) => self.series(name, request.uri().query()).await,
            (&Method::GET, [name, "releases"]) => self.releases(name).await,
            (&Method::GET, [name, "events"]) => self.one(name).map(|_| crowded()),
            (&Method::GET, [name, "decisions"]) => self.decisions(name).await,
            (&Method::GET, [name, "decisions", which]) => self.decision(name, which).await,
            (&Method::POST, [name, "command"]) => self.command(name, &request).await,
            (
                _,
                []
                | [_]
                | [_, "explanation" | "series" | "releases" | "events" | "decisions"]
                | [_, "decisions", _],
            ) => wrong_method("GET"),
            (_, [_, "command"]) => wrong_method("POST"),
            _ => Err((
                StatusCode::NOT_FOUND,
                format!("there is nothing at {path}; try GET /rollouts"),
            )),
        };
        Some(reply.unwrap_or_else(|(status, error)| refuse(status, error)))
    }

    fn one(&self, name: &str) -> Reply {
        let statuses = self.known.statuses.borrow();
        match statuses.iter().find(|s| s.service == name) {
            Some(status) => json(StatusCode::OK, status),
            None => Err(unknown(name)),
        }
    }

    /// Made here, and not in the turn that is asked: a turn has better things to do.
    fn explanation(&self, name: &str) -> Reply {
        self.one(name)?;
        let grounds = self.known.grounds.borrow().get(name).cloned();
        json(StatusCode::OK, &grounds.map(|g| g.explain()))
    }

    /// Also of a service that is gone: its page says what became of it.
    async fn series(&self, name: &str, query: Option<&str>) -> Reply {
        let began = match query
            .and_then(|q| q.strip_prefix("began="))
            .map(str::parse::<f64>)
        {
            Some(Err(_)) => {
                let known = "`began` is no time; GET /rollouts/NAME/releases lists them";
                return Err((StatusCode::BAD_REQUEST, known.to_owned()));
            }
            other => other.and_then(Result::ok),
        };
        let mut all = self.courses(name).await;
        let series = match began {
            None => all.pop(),
            Some(began) => all.into_iter().find(|s| s.began == began),
        };
        json(StatusCode::OK, &series)
    }

    async fn releases(&self, name: &str) -> Reply {
        let all = self.courses(name).await;
        json(
            StatusCode::OK,
            &all.iter().map(Series::release).collect::<Vec<_>>(),
        )
    }

    /// The courses that are kept, oldest first.
    async fn courses(&self, name: &str) -> Vec<Series> {
        if let Some(course) = self.known.courses.borrow().get(name) {
            return course.clone();
        }
        let (folder, service) = (self.known.folder.clone(), name.to_owned());
        let kept = spawn_blocking(move || folder.map(|f| read_series(&f, &service)));
        kept.await.ok().flatten().unwrap_or_default()
    }

    /// Which service a listener asks for, if it is one.
    fn listened(&self, request: &Request<Bytes>) -> Option<Option<String>> {
        let path = request.uri().path();
        if request.method() != Method::GET {
            return None;
        }
        if path == "/events" {
            return Some(None);
        }
        match self.parts(path)?.as_slice() {
            [name, "events"] => Some(Some((*name).to_owned())),
            _ => None,
        }
    }

    async fn decisions(&self, name: &str) -> Reply {
        let (records, service) = (self.known.records.clone(), name.to_owned());
        match spawn_blocking(move || records.all(&service)).await {
            Ok(Ok(decisions)) => json(StatusCode::OK, &decisions),
            Ok(Err(e)) => Err(unreadable(&e)),
            Err(e) => Err(unreadable(&e)),
        }
    }

    async fn decision(&self, name: &str, which: &str) -> Reply {
        self.one(name)?;
        let Some(wanted) = Which::parse(which) else {
            let known = format!("`{which}` is no decision; write a number, or `last`");
            return Err((StatusCode::BAD_REQUEST, known));
        };
        let (records, service) = (self.known.records.clone(), name.to_owned());
        let found = spawn_blocking(move || records.find(&service, wanted)).await;
        let found: io::Result<Option<Decision>> = found.unwrap_or_else(|e| Err(io::Error::other(e)));
        match found {
            Ok(Some(decision)) => json(StatusCode::OK, &decision),
            Ok(None) => Err((
                StatusCode::NOT_FOUND,
                format!("{name} has no decision {which} on record; GET /rollouts/{name} lists the last ones"),
            )),
            Err(e) => Err(unreadable(&e)),
        }
    }

    async fn command(&self, name: &str, request: &Request<Bytes>) -> Reply {
        let command: Command = serde_json::from_slice(request.body()).map_err(|e| {
            let known = "write for example \"pause\", or {\"weight\": {\"weight\": \"5\", \"total\": 100}}";
            (
                StatusCode::BAD_REQUEST,
                format!("the body is no command ({e}); {known}"),
            )
        })?;
        let who = said(request, HEADER_ACTOR, LONGEST_NAME).unwrap_or_else(|| NOBODY.to_owned());
        let order = Order {
            command,
            who,
            why: said(request, HEADER_CAUSE, LONGEST_REASON),
        };
        match self.ask(name, order).await {
            Some(Answer::Done(status)) => json(StatusCode::OK, &status),
            Some(Answer::Refused(why)) => Err((StatusCode::CONFLICT, format!("{name}: {why}"))),
            Some(Answer::Unknown) => Err(unknown(name)),
            None => Err((
                StatusCode::SERVICE_UNAVAILABLE,
                "the controller takes no turns; look at its log".to_owned(),
            )),
        }
    }

    async fn ask(&self, name: &str, order: Order) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask {
            service: name.to_owned(),
            order,
            answer,
        };
        let turn = async {
            self.known.asks.send(ask).await.ok()?;
            answered.await.ok()
        };
        timeout(PATIENCE, turn).await.ok().flatten()
    }
}

impl Ask {
    /// The engine's answer. Nobody waits any more when the caller has gone away.
    pub fn answer(self, answer: Result<Status, String>) {
        let answer = answer.map_or_else(Answer::Refused, |status| Answer::Done(Box::new(status)));
        let _ = self.answer.send(answer);
    }

    pub fn unknown(self) {
        let _ = self.answer.send(Answer::Unknown);
    }
}

/// A header's text in one line, shortened; control characters would forge lines of the log.
fn said(request: &Request<Bytes>, name: &str, longest: usize) -> Option<String> {
    let value = request.headers().get(name)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    let plain: String = text.chars().filter(|c| !c.is_control()).take(longest).collect();
    let plain = plain.trim();
    (!plain.is_empty()).then(|| plain.to_owned())
}

fn crowded() -> Response<Bytes> {
    refuse(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("{LISTENERS} listen already; use GET, ask again from time to time"),
    )
}

fn unreadable(why: &dyn std::fmt::Display) -> (StatusCode, String) {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("the history cannot be read: {why}"),
    )
}

fn unknown(name: &str) -> (StatusCode, String) {
    (
        StatusCode::NOT_FOUND,
        format!("there is no service {name}; GET /rollouts lists them"),
    )
}

fn wrong_method(right: &str) -> Reply {
    Err((
        StatusCode::METHOD_NOT_ALLOWED,
        format!("the method does not fit; use {right}"),
    ))
}

fn refuse(status: StatusCode, error: String) -> Response<Bytes> {
    json(status, &Refusal::because(error)).unwrap_or_default()
}

fn json<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    let body = serde_json::to_vec(value).map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
