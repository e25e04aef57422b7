//! One request as it is told: owned, so that it can leave its thread, and bounded.

use super::trace::Span;
use crate::{error::Failure, grpc, service::Service};
use contract::names::{Reason, Track};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Longest path, query and `user-agent` that are told, in octets; the rest is cut.
pub const LONGEST: usize = 1024;
/// Longest host, identity and method.
pub const SHORT: usize = 256;

/// One request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it ended.
    pub ended: SystemTime,
    /// How long it took, from its head to the end of its answer.
    pub took: Duration,
    /// How much of that connecting took, in the last attempt.
    pub connecting: Duration,
    /// Its service; none when no service answers to its host.
    pub service: Option<Arc<Service>>,
    /// Who served it, and why; or who would have.
    pub choice: Option<(Track, Reason)>,
    /// What the client said of it.
    pub said: Said,
    /// The client.
    pub client: IpAddr,
    /// The client's protocol.
    pub protocol: &'static str,
    /// What it was answered with.
    pub status: u16,
    /// Its status as a call of gRPC, if it is one.
    pub grpc: Option<grpc::Code>,
    /// Octets of its body.
    pub received: u64,
    /// Octets of its answer's body.
    pub sent: u64,
    /// Where it was sent last.
    pub endpoint: Option<SocketAddr>,
    /// How often it was sent.
    pub attempts: u32,
    /// The first failure, and to which track it happened.
    pub blame: Option<(Option<Track>, Failure)>,
    /// A track's answer, by its status, that was not passed on.
    pub replaced: Option<(Track, u16)>,
    /// Its trace, if one is known.
    pub trace: Option<String>,
    /// Our span, if it is exported.
    pub span: Option<Span>,
}

/// What the client said of a request.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// The query, if it is to be told.
    pub query: String,
    /// Host.
    pub host: String,
    /// `x-request-id`: the client's, or ours.
    pub request_id: String,
    /// `user-agent`, if it is to be told.
    pub user_agent: String,
}

impl Entry {
    /// Whether the canary failed and stable answered.
    pub fn is_shielded(&self) -> bool {
        matches!(self.choice, Some((_, Reason::Shield)))
    }

    /// The name of its service.
    pub fn service(&self) -> Option<&str> {
        self.service.as_ref().map(|s| s.name.as_str())
    }
}

/// Text of at most so many octets; what is no UTF-8 is replaced.
pub fn text(octets: &[u8], longest: usize) -> String {
    let cut = octets.get(..longest).unwrap_or(octets);
    String::from_utf8_lossy(cut).into_owned()
}
