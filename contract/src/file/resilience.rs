use crate::Span;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

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
    /// What is asked for by GET, over what the endpoints speak.
    pub path: String,
    /// The statuses that are well: `200`, or a range such as `200-399`.
    pub status: String,
    /// Instead of a GET, grpc.health.v1 is asked about this service; empty: about the whole server. For endpoints with
    /// `h2c` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
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
            status: "200-399".into(),
            grpc: None,
            interval: Span::seconds(5),
            timeout: Span::seconds(1),
            healthy: 2,
            unhealthy: 3,
        }
    }
}

impl HealthCheckEntry {
    /// The statuses that are well, if they are said so that they can be understood.
    pub fn statuses(&self) -> Option<RangeInclusive<u16>> {
        let (first, last) = self
            .status
            .split_once('-')
            .unwrap_or((&self.status, &self.status));
        let status = |s: &str| s.trim().parse().ok().filter(|s| (200..=599).contains(s));
        let (first, last) = (status(first)?, status(last)?);
        (first <= last).then_some(first..=last)
    }

    /// Whether a status is well.
    pub fn expects(&self, status: u16) -> bool {
        self.statuses().is_some_and(|s| s.contains(&status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_one_or_a_range() {
        let statuses = |status: &str| {
            let status = status.to_owned();
            HealthCheckEntry {
                status,
                ..HealthCheckEntry::default()
            }
            .statuses()
        };
        assert_eq!(HealthCheckEntry::default().statuses(), Some(200..=399));
        assert_eq!(statuses("204"), Some(204..=204));
        assert_eq!(statuses("200 - 299"), Some(200..=299));
        for bad in ["", "-", "2xx", "100", "200-", "299-200", "200-600", "200,204"] {
            assert_eq!(statuses(bad), None, "{bad}");
        }
    }
}
