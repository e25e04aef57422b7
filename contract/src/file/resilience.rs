use crate::Span;
use serde::{Deserialize, Serialize};

/// How the endpoints of one service are chosen, limited, checked and tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ResilienceEntry {
    /// Time to the head of an answer, all attempts together: from the start of a request without a body, from the last
    /// octet of one with a body. Without it: `proxy.requestTimeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<Span>,
    /// Time to the head of an answer for one attempt, from its connection on. Both tracks are judged by it, so it must be
    /// above what a good request takes. Without it: only the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub try_timeout: Option<Span>,
    /// Time for a whole request with its answer; 0s: no limit. Never for upgrades, event streams and gRPC.
    pub total_timeout: Span,
    /// Second tries within the same track: percent of the requests of the last ten seconds.
    pub retry_share: u32,
    /// Such tries that are always allowed: so many a second and worker.
    pub retry_min: u32,
    /// How long an endpoint that joins others gets less than its share, from a tenth of it upwards; 0s: not at all.
    pub slow_start: Span,
    /// Failures in a row (502, 503, 504, no answer) after which an endpoint is left alone; one that refuses connections is
    /// at once. 0: never.
    pub eject_after: u32,
    /// For how long at first; doubled each time, up to 30 s.
    pub eject_time: Span,
    /// Most endpoints of a track that are left alone at once, in percent, and never the last one.
    pub max_ejected: u32,
    /// Most requests under way at one endpoint, shared out evenly among the workers; 0: no limit.
    pub max_connections: u32,
    /// Most requests of a track that wait for an endpoint with room, shared out likewise.
    pub max_pending: u32,
    /// How long they wait before they are answered with 503.
    pub pending_timeout: Span,
    /// Asks each endpoint whether it is well; without it, nobody asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheckEntry>,
}

/// How endpoints are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HealthCheckEntry {
    /// What is asked for by GET; 200 to 399 is well.
    pub path: String,
    /// From one question to the next.
    pub interval: Span,
    /// For the head of the answer.
    pub timeout: Span,
    /// Good answers in a row after which an unwell endpoint is well.
    pub healthy: u32,
    /// Bad answers in a row after which a well endpoint is unwell.
    pub unhealthy: u32,
}

impl Default for ResilienceEntry {
    fn default() -> ResilienceEntry {
        ResilienceEntry {
            request_timeout: None,
            try_timeout: None,
            total_timeout: Span::seconds(300),
            retry_share: 20,
            retry_min: 10,
            slow_start: Span::seconds(10),
            eject_after: 5,
            eject_time: Span::seconds(1),
            max_ejected: 50,
            max_connections: 0,
            max_pending: 100,
            pending_timeout: Span::seconds(1),
            health_check: None,
        }
    }
}

impl Default for HealthCheckEntry {
    fn default() -> HealthCheckEntry {
        HealthCheckEntry {
            path: "/".into(),
            interval: Span::seconds(5),
            timeout: Span::seconds(1),
            healthy: 2,
            unhealthy: 3,
        }
    }
}
