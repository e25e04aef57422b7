//! What clients saw.

use http::response::Parts;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Header on answers that Serin itself made.
const ERROR: &str = "x-serin-error";

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was sent.
    pub begun: Instant,
    /// How long the whole answer took.
    pub took: Duration,
    /// Who was asked; nobody where no address was ready.
    pub peer: Option<SocketAddr>,
    /// Status code; 0 without an answer.
    pub status: u16,
    /// `v1.0.0` from the application's `version: v1.0.0`.
    pub version: Option<String>,
    /// All headers whose name begins with `x-serin-`.
    pub headers: BTreeMap<String, String>,
    /// Why this is an error that the application did not make.
    pub loss: Option<String>,
}

impl Sample {
    pub(super) fn lost(begun: Instant, peer: Option<SocketAddr>, why: String) -> Sample {
        Sample {
            begun,
            took: begun.elapsed(),
            peer,
            status: 0,
            version: None,
            headers: BTreeMap::new(),
            loss: Some(why),
        }
    }

    pub(super) fn answered(begun: Instant, peer: SocketAddr, head: &Parts, body: &[u8]) -> Sample {
        let headers: BTreeMap<_, _> = head
            .headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("x-serin-"))
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        let own = headers.get(ERROR).filter(|_| head.status.as_u16() >= 500);
        Sample {
            begun,
            took: begun.elapsed(),
            peer: Some(peer),
            status: head.status.as_u16(),
            version: version(body),
            loss: own.map(|kind| format!("{} by the proxy: {kind}", head.status)),
            headers,
        }
    }
}

fn version(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    Some(text.strip_prefix("version: ")?.trim_end().to_owned())
}

/// All requests of a load, in the order of their ends.
#[derive(Clone, Debug)]
pub struct Report {
    /// When the load began.
    pub begun: Instant,
    /// Each request that has ended.
    pub samples: Vec<Sample>,
    /// How often a kept connection was closed by its server before a request; no loss.
    pub reconnected: usize,
    pub(super) under_way: usize,
}

impl Report {
    pub(super) fn new() -> Report {
        Report {
            begun: Instant::now(),
            samples: Vec::new(),
            reconnected: 0,
            under_way: 0,
        }
    }

    /// Requests that ended with an error that the application did not make.
    pub fn losses(&self) -> Vec<&Sample> {
        self.samples.iter().filter(|s| s.loss.is_some()).collect()
    }

    /// How many requests there were, and that none was lost.
    ///
    /// # Panics
    /// When one was lost, or when none was sent.
    pub fn no_loss(&self) -> usize {
        let lost: Vec<_> = self.losses().iter().map(|s| self.line(s)).collect();
        assert!(
            lost.is_empty(),
            "{} of {} requests lost:\n{}",
            lost.len(),
            self.samples.len(),
            lost[..lost.len().min(20)].join("\n")
        );
        assert!(!self.samples.is_empty(), "no request was sent");
        self.samples.len()
    }

    fn line(&self, sample: &Sample) -> String {
        let at = sample.begun.duration_since(self.begun);
        let peer = sample.peer.map_or("nobody".into(), |p| p.to_string());
        let why = sample.loss.as_deref().unwrap_or("answered");
        format!("{at:.3?} {peer} after {:.1?}: {why}", sample.took)
    }

    /// Answers of each version.
    pub fn versions(&self) -> BTreeMap<&str, usize> {
        let mut versions = BTreeMap::new();
        for version in self.samples.iter().filter_map(|s| s.version.as_deref()) {
            *versions.entry(version).or_default() += 1;
        }
        versions
    }

    /// The share of a version among the answers to requests sent from `from` until `to`; nothing without answers.
    pub fn share(&self, version: &str, from: Instant, to: Instant) -> Option<f64> {
        let inside = self.samples.iter().filter(|s| s.begun >= from && s.begun < to);
        let told: Vec<_> = inside.filter_map(|s| s.version.as_deref()).collect();
        let own = told.iter().filter(|v| **v == version).count();
        (!told.is_empty()).then(|| own as f64 / told.len() as f64)
    }

    /// The share of a version in each window since the load began.
    pub fn shares(&self, version: &str, window: Duration) -> Vec<(Duration, f64)> {
        let last = self.samples.iter().map(|s| s.begun).max().unwrap_or(self.begun);
        let mut series = Vec::new();
        let mut from = self.begun;
        while from <= last {
            let share = self.share(version, from, from + window);
            series.extend(share.map(|s| (from.duration_since(self.begun), s)));
            from += window;
        }
        series
    }

    /// When the first answer with this status arrived.
    pub fn first_status(&self, status: u16) -> Option<Instant> {
        let ends = self.samples.iter().filter(|s| s.status == status);
        ends.map(|s| s.begun + s.took).min()
    }

    /// When the last answer of a version arrived.
    pub fn last_answer(&self, version: &str) -> Option<Instant> {
        let own = self
            .samples
            .iter()
            .filter(|s| s.version.as_deref() == Some(version));
        own.map(|s| s.begun + s.took).max()
    }

    /// Answers of a version that were sent from then on.
    pub fn answers_since(&self, version: &str, from: Instant) -> usize {
        let own = self
            .samples
            .iter()
            .filter(|s| s.version.as_deref() == Some(version));
        own.filter(|s| s.begun >= from).count()
    }
}
