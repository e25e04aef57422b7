//! The one home of every shared name: annotation keys, headers, metrics, labels, reasons.
//!
//! A name that appears in two rooms, in a document or on the wire stands here and nowhere else.

/// Prefix of every annotation key; the flag `--annotation-prefix` changes it.
pub const PREFIX: &str = "serin.dev/";

/// Service that holds the stable endpoints (same namespace).
pub const STABLE_SERVICE: &str = "stable-service";
/// Service that holds the canary endpoints (same namespace).
pub const CANARY_SERVICE: &str = "canary-service";
/// Share of the undecided requests that goes to the canary, as a part of [`CANARY_WEIGHT_TOTAL`].
pub const CANARY_WEIGHT: &str = "canary-weight";
/// What the weight is a share of; 100 when absent.
pub const CANARY_WEIGHT_TOTAL: &str = "canary-weight-total";
/// Header whose `always` / `never` chooses the track.
pub const CANARY_BY_HEADER: &str = "canary-by-header";
/// Exact value that replaces `always` / `never`.
pub const CANARY_BY_HEADER_VALUE: &str = "canary-by-header-value";
/// Regular expression, used only without an exact value.
pub const CANARY_BY_HEADER_PATTERN: &str = "canary-by-header-pattern";
/// Cookie whose `always` / `never` chooses the track.
pub const CANARY_BY_COOKIE: &str = "canary-by-cookie";
/// JSON list of matches in Gateway API words; any match goes to the canary.
pub const CANARY_MATCH: &str = "canary-match";
/// What one user is, for cohorts.
pub const CANARY_COHORT: &str = "canary-cohort";
/// Which users come first.
pub const CANARY_COHORT_SALT: &str = "canary-cohort-salt";
/// Whether stable answers where the canary failed.
pub const CANARY_SHIELD: &str = "canary-shield";
/// Whether the proxy itself cuts a grossly failing canary.
pub const CANARY_GUARD: &str = "canary-guard";
/// Percent of replay-safe requests that are copied to the canary at weight 0.
pub const CANARY_MIRROR: &str = "canary-mirror";
/// Who made the last change: a person, or [`CONTROLLER`].
pub const CHANGED_BY: &str = "changed-by";
/// Why the last change was made, in the words of who made it.
pub const CHANGE_CAUSE: &str = "change-cause";
/// An image to release, on the stable workload: `image`, or `container=image`.
pub const DEPLOY_IMAGE: &str = "deploy-image";
/// An order for a release, on the `Rollout`; taken away when it is obeyed or refused.
pub const ORDER: &str = "order";
/// On a workload that was scaled away: how many replicas it had.
pub const SCALED_FROM: &str = "scaled-from";
/// On objects that the controller has made: the `Rollout` that they belong to.
pub const MADE_FOR: &str = "made-for";
/// Label of the pods that are proxies of a Service; the value is its name.
pub const PROXY: &str = "proxy";
/// Finalizer of a `Rollout`, with the prefix.
pub const FINALIZER: &str = "serin.dev/restore";
/// A proxy beside an application: its container, and the account that such a pod may have for its sake. What tells stable's
/// pods from the canary's by these alone is no version.
pub const SIDECAR: &str = "serin-proxy";
/// On objects that `serin front` or `serin inject` changed: what they were before.
pub const PLAIN: &str = "plain";
/// On a Deployment that they changed: the Service that it was changed for.
pub const FRONTED_BY: &str = "fronted-by";
/// Port of a proxy pod at which signals are told, by name.
pub const SIGNALS_PORT: &str = "signals";

/// Every key that the data plane reads.
pub const TRAFFIC_KEYS: [&str; 14] = [
    STABLE_SERVICE,
    CANARY_SERVICE,
    CANARY_WEIGHT,
    CANARY_WEIGHT_TOTAL,
    CANARY_BY_HEADER,
    CANARY_BY_HEADER_VALUE,
    CANARY_BY_HEADER_PATTERN,
    CANARY_BY_COOKIE,
    CANARY_MATCH,
    CANARY_COHORT,
    CANARY_COHORT_SALT,
    CANARY_SHIELD,
    CANARY_GUARD,
    CANARY_MIRROR,
];

/// Keys with our prefix that say who and why, and never change where a request goes.
pub const RECORD_KEYS: [&str; 3] = [CHANGED_BY, CHANGE_CAUSE, DEPLOY_IMAGE];

/// Keys with our prefix that stand on workloads.
pub const WORKLOAD_KEYS: [&str; 7] = [
    CHANGED_BY,
    CHANGE_CAUSE,
    DEPLOY_IMAGE,
    SCALED_FROM,
    MADE_FOR,
    PLAIN,
    FRONTED_BY,
];

/// The name under which the controller writes.
pub const CONTROLLER: &str = "serin-controller";
/// The name under which a change of the watched file is recorded when the file names nobody.
pub const FILE: &str = "file";

/// Secret, beside a fronted Service, with what reading `/evidence` takes; the controller makes it.
pub const EVIDENCE_SECRET: &str = "serin-evidence";
/// Its key with the token that a reader must send.
pub const EVIDENCE_TOKEN: &str = "token";
/// Its key with the certificate that proxies show (PEM), self-signed.
pub const EVIDENCE_CERTIFICATE: &str = "tls.crt";
/// Its key with the private key of the certificate (PEM).
pub const EVIDENCE_KEY: &str = "tls.key";
/// The DNS name in the certificate: readers connect to pods by address, so the name is the same for all.
pub const EVIDENCE_NAME: &str = "serin-proxy";

/// Request header that asks for [`HEADER_TRACK`] and [`HEADER_REASON`] on the answer.
pub const HEADER_DEBUG: &str = "x-serin-debug";
/// Response header: the track that served.
pub const HEADER_TRACK: &str = "x-serin-track";
/// Response header: why this track.
pub const HEADER_REASON: &str = "x-serin-reason";
/// Response header on answers that Serin itself made: the kind of failure.
pub const HEADER_ERROR: &str = "x-serin-error";
/// Request header that marks traffic made by Serin (smoke requests); never evidence.
pub const HEADER_SYNTHETIC: &str = "x-serin-synthetic";
/// Request header that marks a copy for a canary without weight ([`CANARY_MIRROR`]).
pub const HEADER_MIRROR: &str = "x-serin-mirror";
/// Request header of an admin call: who is acting.
pub const HEADER_ACTOR: &str = "x-serin-actor";
/// Request header of an admin call: why.
pub const HEADER_CAUSE: &str = "x-serin-cause";
/// Request identity, passed on or begun.
pub const HEADER_REQUEST_ID: &str = "x-request-id";
/// Pseudonym of this proxy in `Via` (RFC 9110, 7.6.3).
pub const VIA: &str = "serin";

/// Histogram of request durations.
pub const METRIC_DURATION: &str = "serin_request_duration_seconds";
/// Counter of answered requests.
pub const METRIC_REQUESTS: &str = "serin_requests_total";
/// Counter of answered calls of gRPC, by their own status.
pub const METRIC_GRPC_REQUESTS: &str = "serin_grpc_requests_total";
/// Counter of routing decisions.
pub const METRIC_DECISIONS: &str = "serin_decisions_total";
/// Counter of failures by side and kind.
pub const METRIC_FAILURES: &str = "serin_failures_total";
/// Counter of copies for the canary, by how they differed from what the client got.
pub const METRIC_MIRROR: &str = "serin_mirror_total";
/// Histogram of the durations of originals and their copies.
pub const METRIC_MIRROR_DURATION: &str = "serin_mirror_duration_seconds";
/// Counter of times that an endpoint was left alone because it kept failing.
pub const METRIC_EJECTIONS: &str = "serin_ejections_total";
/// Counter of second tries within a track, by outcome.
pub const METRIC_RETRIES: &str = "serin_retries_total";
/// Gauge: the weight in force, in percent.
pub const METRIC_SPLIT_WEIGHT: &str = "serin_split_weight";
/// Gauge that is 1 for the hash in force.
pub const METRIC_SPLIT_INFO: &str = "serin_split_info";
/// Gauge of requests under way.
pub const METRIC_INFLIGHT: &str = "serin_inflight";
/// Counter of configuration that was refused.
pub const METRIC_CONFIG_REJECTED: &str = "serin_config_rejected_total";
/// Gauge that is 1 while the guard has cut the canary's share.
pub const METRIC_GUARD: &str = "serin_guard_tripped";
/// Gauge of open client connections.
pub const METRIC_CONNECTIONS: &str = "serin_client_connections";
/// Counter of lines that the access log could not take.
pub const METRIC_LOG_DROPPED: &str = "serin_access_log_dropped_total";
/// Counter of spans that were exported.
pub const METRIC_SPANS: &str = "serin_spans_exported_total";
/// Counter of spans that could not be exported.
pub const METRIC_SPANS_DROPPED: &str = "serin_spans_dropped_total";
/// Gauge: when a certificate of ours ends, in seconds since 1970.
pub const METRIC_CERTIFICATE_EXPIRY: &str = "serin_tls_certificate_expiry_seconds";
/// Counter of TLS handshakes of clients.
pub const METRIC_HANDSHAKES: &str = "serin_tls_handshakes_total";
/// Counter of lookups of endpoints' host names.
pub const METRIC_DNS_LOOKUPS: &str = "serin_dns_lookups_total";
/// Gauge: host names of endpoints whose last lookup failed.
pub const METRIC_DNS_STALE: &str = "serin_dns_stale_names";
/// Counter of answered requests, as ingress-nginx calls it.
pub const METRIC_NGINX_REQUESTS: &str = "nginx_ingress_controller_requests";
/// Histogram of request durations, as ingress-nginx calls it.
pub const METRIC_NGINX_DURATION: &str = "nginx_ingress_controller_request_duration_seconds";
/// Gauge that is 1 for the controller that leads.
pub const METRIC_LEADER: &str = "serin_controller_leader";
/// Gauge of Rollouts by phase.
pub const METRIC_ROLLOUTS: &str = "serin_rollouts";
/// Counter of the controller's decisions by the phase that they led to.
pub const METRIC_WEIGHT_DECISIONS: &str = "serin_controller_decisions_total";
/// Counter of the controller's requests to the API server.
pub const METRIC_API_REQUESTS: &str = "serin_controller_api_requests_total";
/// Histogram of the duration of turns.
pub const METRIC_TURN: &str = "serin_controller_turn_duration_seconds";
/// Counter of pages of evidence that could not be read.
pub const METRIC_SCRAPE_FAILURES: &str = "serin_controller_scrape_failures_total";
/// Counter of notifications by outcome: `delivered`, `failed` (an attempt), `dropped` (for want of room), `expired`.
pub const METRIC_NOTIFICATIONS: &str = "serin_controller_notifications_total";

/// Lease by which controllers choose one of them.
pub const LEASE: &str = "serin-controller";
/// Secret beside the controllers with the token for orders on their page.
pub const PAGE_SECRET: &str = "serin-page";
/// Its key with the token.
pub const PAGE_TOKEN: &str = "token";
/// Key of the evidence Secret with the key that webhooks are signed with.
pub const WEBHOOK_KEY: &str = "webhook";
/// Annotation of ours on a fronted Service: the two usual track Services, comma between, while others may stand there.
pub const TRACKS: &str = "tracks";

/// One of the two versions side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Track {
    /// The version that everybody had before.
    Stable,
    /// The version on trial.
    Canary,
}

impl Track {
    /// Both, in the order in which arrays indexed by track stand.
    pub const BOTH: [Track; 2] = [Track::Stable, Track::Canary];

    /// The label value.
    pub const fn name(self) -> &'static str {
        match self {
            Track::Stable => "stable",
            Track::Canary => "canary",
        }
    }

    /// Index into arrays ordered as [`Track::BOTH`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The other one.
    pub const fn other(self) -> Track {
        match self {
            Track::Stable => Track::Canary,
            Track::Canary => Track::Stable,
        }
    }
}

/// Why a request went where it went: the `reason` label of [`METRIC_DECISIONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The header named by [`CANARY_BY_HEADER`].
    Header,
    /// The cookie named by [`CANARY_BY_COOKIE`].
    Cookie,
    /// One of the matches of [`CANARY_MATCH`].
    Match,
    /// The user's bucket.
    Cohort,
    /// The exact split.
    Weight,
    /// The chosen track had no endpoint.
    FallbackEmpty,
    /// The canary failed and stable answered.
    Shield,
    /// The guard had tripped.
    Guard,
}

impl Reason {
    /// All, in label order.
    pub const ALL: [Reason; 8] = [
        Reason::Header,
        Reason::Cookie,
        Reason::Match,
        Reason::Cohort,
        Reason::Weight,
        Reason::FallbackEmpty,
        Reason::Shield,
        Reason::Guard,
    ];

    /// The label value.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Header => "header",
            Reason::Cookie => "cookie",
            Reason::Match => "match",
            Reason::Cohort => "cohort",
            Reason::Weight => "weight",
            Reason::FallbackEmpty => "fallback_empty",
            Reason::Shield => "shield",
            Reason::Guard => "guard",
        }
    }

    /// Whether a request so decided may count as evidence: opt-in traffic is not a random sample.
    pub const fn is_evidence(self) -> bool {
        matches!(self, Reason::Cohort | Reason::Weight)
    }
}

/// Whose fault a failure was: the `side` label of [`METRIC_FAILURES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client broke the rules or went away.
    Client,
    /// Serin itself: never charged to a track.
    Proxy,
    /// The backend.
    Backend,
}

impl Side {
    /// The label value.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Proxy => "proxy",
            Side::Backend => "backend",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct() {
        let mut all: Vec<_> = TRAFFIC_KEYS.iter().chain(RECORD_KEYS.iter()).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), TRAFFIC_KEYS.len() + RECORD_KEYS.len());
    }

    #[test]
    fn tracks_index_as_listed() {
        for (i, t) in Track::BOTH.iter().enumerate() {
            assert_eq!(t.index(), i);
            assert_eq!(t.other().other(), *t);
        }
    }

    #[test]
    fn only_random_choices_are_evidence() {
        let counted: Vec<_> = Reason::ALL
            .iter()
            .filter(|r| r.is_evidence())
            .map(|r| r.name())
            .collect();
        assert_eq!(counted, ["cohort", "weight"]);
    }
}
