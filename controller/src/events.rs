//! Server-sent events: what has changed, as soon as it has.

use crate::course::Courses;
use bytes::Bytes;
use contract::{release::Status, series::News};
use futures_util::stream::unfold;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde::Serialize;
use std::{convert::Infallible, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::sleep,
};

/// Time between two signs of life when nothing happens: whoever hears nothing for longer asks again.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A body that comes bit by bit.
pub type Stream = UnsyncBoxBody<Bytes, Infallible>;

/// One listener.
pub(crate) struct Listener {
    pub statuses: watch::Receiver<Vec<Status>>,
    pub courses: watch::Receiver<Courses>,
    /// The service that it listens to; `None`: all.
    pub service: Option<String>,
    /// There are only so many.
    pub _permit: OwnedSemaphorePermit,
}

/// What a listener has heard.
struct Ear {
    listener: Listener,
    statuses: Vec<Status>,
    last: Option<(f64, f64)>,
}

/// The answer that goes on until the listener leaves or the controller ends.
pub(crate) fn stream(listener: Listener) -> Response<Stream> {
    let ear = Ear {
        listener,
        statuses: Vec::new(),
        last: None,
    };
    let frames = unfold(ear, |mut ear| async move {
        let text = ear.next().await?;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), ear))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Ear {
    /// `None`: there will be no more.
    async fn next(&mut self) -> Option<String> {
        loop {
            let news = self.status() + &self.point();
            if !news.is_empty() {
                return Some(news);
            }
            tokio::select! {
                changed = self.listener.statuses.changed() => changed.ok()?,
                changed = self.listener.courses.changed() => changed.ok()?,
                () = sleep(HEARTBEAT) => return Some(": alive\n\n".to_owned()),
            }
        }
    }

    fn status(&mut self) -> String {
        let service = self.listener.service.as_deref();
        let mut now: Vec<Status> = {
            let all = self.listener.statuses.borrow_and_update();
            let mine = |s: &&Status| service.is_none_or(|name| s.service == name);
            all.iter().filter(mine).cloned().collect()
        };
        if service.is_none() {
            now.iter_mut().for_each(|s| s.decisions.clear());
        }
        if now == self.statuses {
            return String::new();
        }
        self.statuses = now;
        match (service, self.statuses.first()) {
            (None, _) => event("rollouts", &self.statuses),
            (Some(_), Some(status)) => event("status", status),
            (Some(_), None) => String::new(),
        }
    }

    fn point(&mut self) -> String {
        let courses = self.listener.courses.borrow_and_update();
        let service = self.listener.service.as_ref();
        let course = service.and_then(|name| courses.get(name)?.last());
        let news = course.and_then(|series| {
            Some(News {
                began: series.began,
                step: series.step,
                point: series.points.last()?.clone(),
            })
        });
        let Some(news) = news else {
            return String::new();
        };
        let mark = Some((news.began, news.point.at));
        if self.last == mark {
            return String::new();
        }
        self.last = mark;
        event("point", &news)
    }
}

fn event(name: &str, value: &impl Serialize) -> String {
    let data = serde_json::to_string(value).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n")
}
