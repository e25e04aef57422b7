//! The demo's users: requests at random times, at a steady mean rate (a Poisson process), over kept connections.
//!
//! Open loop: a slow service does not slow the users down, which is what makes a hang visible.

use crate::app::on_thread;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A client for many small requests.
pub type HttpClient = Client<HttpConnector, Empty<Bytes>>;

/// What the users have seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests sent.
    pub sent: u64,
    /// Good answers by version.
    pub good: BTreeMap<String, u64>,
    /// Bad answers (status 500 and above) by version.
    pub bad: BTreeMap<String, u64>,
    /// Requests that got no answer from any version: broken, timed out, or answered by the proxy itself.
    pub lost: u64,
}

/// One answer, as a user sees it.
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// What stands behind `version:`, if a version answered.
    pub version: Option<String>,
    /// Time until the whole answer was there.
    pub took: Duration,
}

/// Longest wait of a user.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most of an answer that is read.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Starts users on a thread of their own; what they see can be read at any time.
pub fn start(uri: Uri, rps: f64, seed: u64) -> Arc<Mutex<Seen>> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = seen.clone();
    on_thread(move || arrivals(uri, rps, seed, shared));
    seen
}

/// What the users have seen until now.
pub fn look(seen: &Mutex<Seen>) -> Seen {
    seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A client with kept connections.
pub fn client() -> HttpClient {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build_http()
}

async fn arrivals(uri: Uri, rps: f64, seed: u64, seen: Arc<Mutex<Seen>>) {
    let client = client();
    let mut random = SmallRng::seed_from_u64(seed);
    let begin = Instant::now();
    let mut due = 0.0f64;
    loop {
        due -= (1.0 - random.random::<f64>()).ln() / rps;
        tokio::time::sleep_until((begin + Duration::from_secs_f64(due)).into()).await;
        let (client, uri, seen) = (client.clone(), uri.clone(), seen.clone());
        tokio::task::spawn_local(async move {
            note(&seen, |s| s.sent += 1);
            let answer = ask(&client, request(uri)).await;
            note(&seen, |s| s.count(answer.as_ref()));
        });
    }
}

fn request(uri: Uri) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri;
    request
}

/// One request, and the whole answer. `None`: no answer.
pub async fn ask(client: &HttpClient, request: Request<Empty<Bytes>>) -> Option<Answer> {
    let begin = Instant::now();
    let whole = async {
        let response = client.request(request).await.ok()?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT)
            .collect()
            .await
            .ok()?
            .to_bytes();
        let text = String::from_utf8_lossy(&body);
        let version = text.trim().strip_prefix("version: ").map(str::to_owned);
        Some(Answer {
            status,
            version,
            took: begin.elapsed(),
        })
    };
    tokio::time::timeout(PATIENCE, whole).await.ok().flatten()
}

fn note(seen: &Mutex<Seen>, change: impl FnOnce(&mut Seen)) {
    change(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
}

impl Seen {
    fn count(&mut self, answer: Option<&Answer>) {
        match answer {
            Some(Answer {
                status,
                version: Some(v),
                ..
            }) if *status < 500 => *self.good.entry(v.clone()).or_default() += 1,
            Some(Answer { version: Some(v), .. }) => *self.bad.entry(v.clone()).or_default() += 1,
            _ => self.lost += 1,
        }
    }

    /// Answers, good and bad, of one version.
    pub fn answers(&self, version: &str) -> (u64, u64) {
        let of = |m: &BTreeMap<String, u64>| m.get(version).copied().unwrap_or(0);
        (of(&self.good), of(&self.bad))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, version: Option<&str>) -> Answer {
        Answer {
            status,
            version: version.map(str::to_owned),
            took: Duration::ZERO,
        }
    }

    #[test]
    fn counts_good_bad_and_lost_apart() {
        let mut seen = Seen::default();
        for a in [
            Some(answer(200, Some("v1"))),
            Some(answer(500, Some("v1"))),
            Some(answer(502, None)),
            None,
        ] {
            seen.count(a.as_ref());
        }
        assert_eq!(
            (seen.answers("v1"), seen.answers("v2"), seen.lost),
            ((1, 1), (0, 0), 2)
        );
    }
}
