//! The exporter of spans: batches over HTTP to a collector, from a thread of its own.

use super::{Inbox, entry::Entry, otlp};
use crate::{
    config::Tracing,
    shared::{Phase, Shared},
};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    runtime::Builder,
    time::{sleep, timeout},
};

/// How often the queues are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Most spans of one export.
const BATCH: usize = 512;
/// Time for one export.
const PATIENCE: Duration = Duration::from_secs(2);
/// Tries of one batch, and the pause before the second; each further one is twice as long.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
/// How often a trouble is told.
const COMPLAIN: Duration = Duration::from_secs(60);
/// Most of a collector's answer that is read.
const ANSWER: usize = 64 * 1024;

/// What became of spans.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Taken by the collector.
    pub exported: Arc<AtomicU64>,
    /// Lost.
    pub dropped: Arc<AtomicU64>,
}

/// Exports spans.
#[derive(Debug)]
pub struct Exporter {
    to: Tracing,
    process: String,
    inbox: Inbox,
    counts: Counts,
    complained: Option<Instant>,
}

/// Why an export failed.
#[derive(Debug)]
enum Trouble {
    /// It may go better later.
    Later(String),
    /// It will not.
    Never(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Trouble::Later(why) | Trouble::Never(why)) = self;
        f.write_str(why)
    }
}

impl Exporter {
    /// To a collector, in the name of this process.
    pub fn new(to: &Tracing, process: &str, inbox: Inbox, counts: Counts) -> Exporter {
        Exporter {
            to: to.clone(),
            process: process.to_owned(),
            inbox,
            counts,
            complained: None,
        }
    }

    /// Exports until the end of all things, and then once what is left.
    pub fn run(mut self, shared: &Shared) {
        match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.follow(shared)),
            Err(e) => tracing::error!("spans cannot be exported: {e}; raise the limit of open files"),
        }
    }

    async fn follow(&mut self, shared: &Shared) {
        while shared.phase() != Phase::Ended {
            sleep(LOOK).await;
            self.drain(shared).await;
        }
        self.drain(shared).await;
    }

    /// Exports what waits. At the end nobody waits for a collector that does not answer.
    async fn drain(&mut self, shared: &Shared) {
        loop {
            let batch = self.batch();
            if batch.is_empty() {
                return;
            }
            let taken = self.export(&batch, shared).await;
            let count = if taken {
                &self.counts.exported
            } else {
                &self.counts.dropped
            };
            count.fetch_add(batch.len() as u64, Relaxed);
            if !taken && shared.phase() == Phase::Ended {
                return self.give_up();
            }
        }
    }

    fn give_up(&self) {
        let lost = self.inbox.iter().flat_map(|queue| queue.try_iter()).count();
        self.counts.dropped.fetch_add(lost as u64, Relaxed);
    }

    fn batch(&self) -> Vec<Entry> {
        let waiting = self.inbox.iter().flat_map(|queue| queue.try_iter());
        waiting.take(BATCH).map(|entry| *entry).collect()
    }

    /// Whether the collector took it.
    async fn export(&mut self, batch: &[Entry], shared: &Shared) -> bool {
        let body = Bytes::from(otlp::request(&self.process, batch).to_string());
        for i in 0..TRIES {
            let late = Err(Trouble::Later("no answer in time".to_owned()));
            let trouble = match timeout(PATIENCE, self.post(body.clone())).await.unwrap_or(late) {
                Ok(()) => return true,
                Err(trouble) => trouble,
            };
            self.complain(&trouble);
            if matches!(trouble, Trouble::Never(_)) || shared.phase() == Phase::Ended {
                return false;
            }
            sleep(PAUSE * 2u32.pow(i)).await;
        }
        false
    }

    /// One export on a connection of its own: a few a second at most.
    async fn post(&self, body: Bytes) -> Result<(), Trouble> {
        let later = |e: &dyn fmt::Display| Trouble::Later(e.to_string());
        let stream = TcpStream::connect(&self.to.authority)
            .await
            .map_err(|e| later(&e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| later(&e))?;
        let request = Request::post(&self.to.path)
            .header(header::HOST, &self.to.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| Trouble::Never(e.to_string()))?;
        // It ends with the sender, or with the runtime.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|e| later(&e))?;
        let status = answer.status();
        let _ = Limited::new(answer.into_body(), ANSWER).collect().await;
        judge(status)
    }

    fn complain(&mut self, trouble: &Trouble) {
        if self.complained.is_some_and(|at| at.elapsed() < COMPLAIN) {
            return;
        }
        self.complained = Some(Instant::now());
        let at = &self.to.authority;
        tracing::warn!(
            "spans cannot be exported to {at}: {trouble}; check proxy.tracing.otlp and the collector"
        );
    }
}

/// Which answers are worth another try (OTLP/HTTP, "Retryable Response Codes").
fn judge(status: StatusCode) -> Result<(), Trouble> {
    match status.as_u16() {
        200..=299 => Ok(()),
        429 | 502..=504 => Err(Trouble::Later(format!("it answers {status}"))),
        _ => Err(Trouble::Never(format!("it answers {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_answers_are_worth_another_try() {
        assert!(judge(StatusCode::OK).is_ok());
        assert!(matches!(
            judge(StatusCode::SERVICE_UNAVAILABLE),
            Err(Trouble::Later(_))
        ));
        assert!(matches!(judge(StatusCode::BAD_REQUEST), Err(Trouble::Never(_))));
    }
}
