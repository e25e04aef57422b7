//! Asking the canary itself, at weight 0: does it answer, and does it answer well? Never evidence.

use crate::client::{Client, refused};
use bytes::Bytes;
use contract::{names::HEADER_SYNTHETIC, policy::Smoke};
use engine::{Readiness, Smoked};
use http::Request;
use std::time::Duration;
use tokio::{net::TcpStream, sync::oneshot, time::timeout};

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(1);
/// Time for a smoke request.
const SMOKE: Duration = Duration::from_secs(5);

/// Errands under way for one service. They run beside the turns: no rollback ever waits for a canary's answer.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    release: String,
    probe: Option<oneshot::Receiver<Readiness>>,
    smoke: Option<oneshot::Receiver<Vec<Smoked>>>,
}

impl Errands {
    /// Answers about an earlier canary say nothing about this one.
    pub fn turn_to(&mut self, release: &str) {
        if self.release != release {
            *self = Errands {
                release: release.to_owned(),
                ..Errands::default()
            };
        }
    }

    /// Asks, unless asking already.
    pub fn probe(&mut self, endpoints: &[String]) {
        if self.probe.is_none() {
            let endpoints = endpoints.to_vec();
            self.probe = Some(send(async move { readiness(&endpoints).await }));
        }
    }

    /// Sends these smoke requests to every endpoint, unless some are under way.
    pub fn smoke(&mut self, endpoints: &[String], requests: Vec<(usize, Smoke)>) {
        if self.smoke.is_none() {
            let endpoints = endpoints.to_vec();
            self.smoke = Some(send(async move { all(&endpoints, &requests).await }));
        }
    }

    /// The answer to the last question, once.
    pub fn readiness(&mut self) -> Readiness {
        take(&mut self.probe).unwrap_or_default()
    }

    /// Outcomes, once.
    pub fn smoked(&mut self) -> Vec<Smoked> {
        take(&mut self.smoke).unwrap_or_default()
    }
}

/// Runs an errand beside the turns.
pub(crate) fn send<T: Send + 'static>(
    errand: impl Future<Output = T> + Send + 'static,
) -> oneshot::Receiver<T> {
    let (answer, receiver) = oneshot::channel();
    tokio::spawn(async move {
        // Nobody listens any more when the release has changed.
        let _ = answer.send(errand.await);
    });
    receiver
}

/// What an errand has brought, once.
pub(crate) fn take<T>(errand: &mut Option<oneshot::Receiver<T>>) -> Option<T> {
    match errand.as_mut()?.try_recv() {
        Ok(answer) => {
            *errand = None;
            Some(answer)
        }
        Err(oneshot::error::TryRecvError::Empty) => None,
        Err(oneshot::error::TryRecvError::Closed) => {
            *errand = None;
            None
        }
    }
}

async fn readiness(endpoints: &[String]) -> Readiness {
    for endpoint in endpoints {
        if let Err(why) = connect(endpoint).await {
            return Readiness::NotReady(format!("{endpoint}: {why}"));
        }
    }
    Readiness::Ready
}

async fn connect(endpoint: &str) -> Result<(), String> {
    match timeout(CONNECT, TcpStream::connect(endpoint)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e)) => Err(refused(&e)),
        Err(_) => Err(format!("no connection within {} s", CONNECT.as_secs())),
    }
}

async fn all(endpoints: &[String], requests: &[(usize, Smoke)]) -> Vec<Smoked> {
    let mut outcomes = Vec::with_capacity(requests.len());
    for (index, smoke) in requests {
        outcomes.push(Smoked {
            index: *index,
            outcome: everywhere(endpoints, smoke).await,
        });
    }
    outcomes
}

async fn everywhere(endpoints: &[String], smoke: &Smoke) -> Result<(), String> {
    for endpoint in endpoints {
        one(endpoint, smoke)
            .await
            .map_err(|why| format!("{endpoint}: {why}"))?;
    }
    Ok(())
}

async fn one(endpoint: &str, smoke: &Smoke) -> Result<(), String> {
    let request = Request::get(&smoke.path)
        .header(HEADER_SYNTHETIC, "1")
        .body(Bytes::new());
    let (status, _) = Client::new(endpoint, SMOKE)
        .call(request.map_err(|e| e.to_string())?)
        .await?;
    if status.as_u16() == smoke.status {
        Ok(())
    } else {
        Err(format!("{status} instead of {}", smoke.status))
    }
}
