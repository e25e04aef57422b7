//! Every metric: its type, its labels, what it means. The exposition takes its words from here, and so does
//! docs/metrics.md. A name ends in its unit; `_total` is a count.

use crate::names::{
    METRIC_API_REQUESTS, METRIC_CERTIFICATE_EXPIRY, METRIC_CONFIG_REJECTED, METRIC_CONNECTIONS,
    METRIC_DECISIONS, METRIC_DNS_LOOKUPS, METRIC_DNS_STALE, METRIC_DURATION, METRIC_EJECTIONS,
    METRIC_FAILURES, METRIC_GRPC_REQUESTS, METRIC_GUARD, METRIC_HANDSHAKES, METRIC_INFLIGHT, METRIC_LEADER,
    METRIC_LOG_DROPPED, METRIC_MIRROR, METRIC_MIRROR_DURATION, METRIC_NGINX_DURATION, METRIC_NGINX_REQUESTS,
    METRIC_NOTIFICATIONS, METRIC_REQUESTS, METRIC_RETRIES, METRIC_ROLLOUTS, METRIC_SCRAPE_FAILURES,
    METRIC_SPANS, METRIC_SPANS_DROPPED, METRIC_SPLIT_INFO, METRIC_SPLIT_WEIGHT, METRIC_TURN,
    METRIC_WEIGHT_DECISIONS,
};

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until a restart.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// Who tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Every proxy, at `signals`.
    Proxy,
    /// A proxy with `ingressNginxMetrics`.
    Compatible,
    /// The controller of a cluster, at `--listen`.
    Controller,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// Who tells it.
    pub source: Source,
    /// Its labels, comma between.
    pub labels: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// What it means.
    pub help: &'static str,
}

const fn of_proxy(
    name: &'static str,
    kind: Kind,
    labels: &'static str,
    unit: &'static str,
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        source: Source::Proxy,
        labels,
        unit,
        help,
    }
}

const fn of_controller(
    name: &'static str,
    kind: Kind,
    labels: &'static str,
    unit: &'static str,
    help: &'static str,
) -> Metric {
    Metric {
        source: Source::Controller,
        ..of_proxy(name, kind, labels, unit, help)
    }
}

const fn compatible(
    name: &'static str,
    kind: Kind,
    labels: &'static str,
    unit: &'static str,
    help: &'static str,
) -> Metric {
    Metric {
        source: Source::Compatible,
        ..of_proxy(name, kind, labels, unit, help)
    }
}

/// All of them, in the order in which they are told.
#[rustfmt::skip]
pub const ALL: [Metric; 31] = [
    of_proxy(METRIC_DURATION, Kind::Histogram, "service, track, evidence", "seconds", "Duration of requests, connecting apart."),
    of_proxy(METRIC_REQUESTS, Kind::Counter, "service, track, evidence, code, method, protocol", "requests", "Answered requests."),
    of_proxy(METRIC_GRPC_REQUESTS, Kind::Counter, "service, track, evidence, grpc_status", "calls", "Answered calls of gRPC."),
    of_proxy(METRIC_DECISIONS, Kind::Counter, "service, track, reason", "requests", "Decisions where a request goes."),
    of_proxy(METRIC_FAILURES, Kind::Counter, "service, track, side, kind", "failures", "Failures by side and kind."),
    of_proxy(METRIC_RETRIES, Kind::Counter, "service, track, outcome", "tries", "Second tries within a track, and those for which there was no budget."),
    of_proxy(METRIC_MIRROR, Kind::Counter, "service, outcome", "copies", "Copies for the canary, by how they differed from what the client got."),
    of_proxy(METRIC_MIRROR_DURATION, Kind::Histogram, "service, track", "seconds", "Duration of originals and of their copies, connecting apart."),
    of_proxy(METRIC_EJECTIONS, Kind::Counter, "service, track", "ejections", "Times that an endpoint was left alone because it kept failing, by worker."),
    of_proxy(METRIC_INFLIGHT, Kind::Gauge, "service, track", "requests", "Requests under way."),
    of_proxy(METRIC_SPLIT_WEIGHT, Kind::Gauge, "service", "percent", "Weight in force, percent."),
    of_proxy(METRIC_GUARD, Kind::Gauge, "service", "0 or 1", "Whether the guard has cut the canary."),
    of_proxy(METRIC_SPLIT_INFO, Kind::Gauge, "service, hash", "1", "Hash of the split in force."),
    of_proxy(METRIC_CONFIG_REJECTED, Kind::Counter, "service, key", "values", "Refused configuration."),
    of_proxy(METRIC_CERTIFICATE_EXPIRY, Kind::Gauge, "file, name", "seconds since 1970", "When a certificate of ours ends, in seconds since 1970."),
    of_proxy(METRIC_HANDSHAKES, Kind::Counter, "version, resumed", "handshakes", "TLS handshakes of clients."),
    of_proxy(METRIC_CONNECTIONS, Kind::Gauge, "", "connections", "Open client connections."),
    of_proxy(METRIC_DNS_LOOKUPS, Kind::Counter, "result", "lookups", "Lookups of endpoints' host names."),
    of_proxy(METRIC_DNS_STALE, Kind::Gauge, "", "names", "Host names of endpoints whose last lookup failed; their last addresses are kept."),
    of_proxy(METRIC_LOG_DROPPED, Kind::Counter, "", "lines", "Requests that the access log could not take."),
    of_proxy(METRIC_SPANS, Kind::Counter, "", "spans", "Spans taken by the collector."),
    of_proxy(METRIC_SPANS_DROPPED, Kind::Counter, "", "spans", "Spans that could not be exported."),
    compatible(METRIC_NGINX_REQUESTS, Kind::Counter, "namespace, ingress, service, status, method, host, path, canary", "requests", "Answered requests, by the name and labels of ingress-nginx."),
    compatible(METRIC_NGINX_DURATION, Kind::Histogram, "namespace, ingress, service, host, path, canary", "seconds", "Duration of requests, by the name and labels of ingress-nginx."),
    of_controller(METRIC_LEADER, Kind::Gauge, "", "0 or 1", "1 while this controller leads."),
    of_controller(METRIC_ROLLOUTS, Kind::Gauge, "phase", "rollouts", "Rollouts by phase."),
    of_controller(METRIC_WEIGHT_DECISIONS, Kind::Counter, "phase", "decisions", "Decisions by the phase that they led to."),
    of_controller(METRIC_API_REQUESTS, Kind::Counter, "verb, resource, code", "requests", "Requests to the API server, watches apart; code 0: no answer."),
    of_controller(METRIC_TURN, Kind::Histogram, "", "seconds", "Duration of turns."),
    of_controller(METRIC_SCRAPE_FAILURES, Kind::Counter, "", "pages", "Pages of evidence that could not be read."),
    of_controller(METRIC_NOTIFICATIONS, Kind::Counter, "outcome", "messages", "Notifications by outcome: delivered, failed (attempts), dropped (for want of room), expired (too old)."),
];

/// The metric of a name.
pub fn named(name: &str) -> Option<&'static Metric> {
    ALL.iter().find(|m| m.name == name)
}

/// What a metric means; empty for a name that is none.
pub fn help(name: &str) -> &'static str {
    named(name).map_or("", |m| m.help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_say_their_unit() {
        for (i, m) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|other| other.name != m.name), "{}", m.name);
            assert_eq!(
                m.kind == Kind::Counter && m.source != Source::Compatible,
                m.name.ends_with("_total"),
                "{}",
                m.name
            );
            assert_eq!(
                m.unit.starts_with("seconds"),
                m.name.ends_with("_seconds"),
                "{}",
                m.name
            );
            assert!(m.help.ends_with('.'), "{}", m.name);
        }
    }
}
