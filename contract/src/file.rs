//! The one file of a machine without Kubernetes: what `serin run -f` and `serin proxy -f` read (TOML).
//!
//! Only the shape stands here. The proxy reads and watches the file; the controller gets its part through the binary.

mod access_log;
mod dns;
mod limits;
mod resilience;
mod tls;
mod tracing;

pub use self::{
    access_log::{AccessLogEntry, LogFormat},
    dns::DnsEntry,
    limits::LimitsEntry,
    resilience::{HealthCheckEntry, ResilienceEntry},
    tls::{CertificateEntry, ClientAuth, ProxyProtocol, TlsEntry, TlsVersion},
    tracing::TracingEntry,
};

use crate::{Span, annotations::Annotations, policy::Policy, routes::Backends};
use serde::{Deserialize, Serialize};

/// The whole file. Unknown keys are refused: a typing error must not become a default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The data plane.
    #[serde(default)]
    pub proxy: ProxyEntry,
    /// The control plane; only `serin run` reads it.
    #[serde(default)]
    pub controller: ControllerEntry,
    /// The fronted services.
    #[serde(default)]
    pub service: Vec<ServiceEntry>,
}

/// Listeners and limits of the data plane. Changes need a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ProxyEntry {
    /// Where clients connect without TLS (HTTP/1.1 and HTTP/2).
    pub listen: String,
    /// Read-only: `/metrics`, `/evidence`, `/healthz`, `/readyz`.
    pub signals: String,
    /// Loopback only, with a token: everything that changes state.
    pub admin: String,
    /// Worker threads; 0: one for each core of the CPU quota.
    pub workers: usize,
    /// Time to connect to an endpoint.
    pub connect_timeout: Span,
    /// Time from the start of a request to the head of its answer.
    pub request_timeout: Span,
    /// Time without a byte in either direction after which a body is given up.
    pub stream_idle_timeout: Span,
    /// Time in which a request's header must have arrived.
    pub header_timeout: Span,
    /// On SIGTERM: how long readiness fails before the listeners close.
    pub drain_grace: Span,
    /// On SIGTERM: how long requests under way may take to finish.
    pub drain_deadline: Span,
    /// Most client connections at once.
    pub max_connections: usize,
    /// Whether clients may ask with `x-serin-debug` which track served and why.
    pub debug_headers: bool,
    /// Whether `/metrics` tells requests and durations by the names of ingress-nginx too, for dashboards made for it.
    pub ingress_nginx_metrics: bool,
    /// Whether every connection begins with a PROXY protocol header: `off`, `v1`, `v2` or `any`. Only for listeners that
    /// nobody but a load balancer can reach: whoever can, chooses the address that he is taken for.
    pub proxy_protocol: ProxyProtocol,
    /// Address ranges of the proxies before this one: `10.0.0.0/8`. Only they are believed about who asks (`x-forwarded-*`,
    /// `forwarded`); what others say of it is dropped.
    pub trusted_proxies: Vec<String>,
    /// TLS in front.
    pub tls: TlsEntry,
    /// What one client may ask for, and what all of them together.
    pub limits: LimitsEntry,
    /// How endpoints that are host names are looked up.
    pub dns: DnsEntry,
    /// The log of requests.
    pub access_log: AccessLogEntry,
    /// Export of spans.
    pub tracing: TracingEntry,
}

impl Default for ProxyEntry {
    fn default() -> ProxyEntry {
        ProxyEntry {
            listen: "127.0.0.1:8080".into(),
            signals: "127.0.0.1:9901".into(),
            admin: "127.0.0.1:9902".into(),
            workers: 0,
            connect_timeout: Span::seconds(2),
            request_timeout: Span::seconds(30),
            stream_idle_timeout: Span::seconds(300),
            header_timeout: Span::seconds(10),
            drain_grace: Span::seconds(1),
            drain_deadline: Span::seconds(30),
            max_connections: 10_000,
            debug_headers: false,
            ingress_nginx_metrics: false,
            proxy_protocol: ProxyProtocol::Off,
            trusted_proxies: Vec::new(),
            tls: TlsEntry::default(),
            limits: LimitsEntry::default(),
            dns: DnsEntry::default(),
            access_log: AccessLogEntry::default(),
            tracing: TracingEntry::default(),
        }
    }
}

/// The control plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControllerEntry {
    /// Folder for state, history and the admin token; relative paths count from the file's folder.
    pub state: String,
}

impl Default for ControllerEntry {
    fn default() -> ControllerEntry {
        ControllerEntry {
            state: "serin-state".into(),
        }
    }
}

/// One fronted service, its two tracks, its annotations, and the policy under which its canary is released.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServiceEntry {
    /// Its name: the label in metrics, the NAME of commands.
    pub name: String,
    /// Hosts that it answers to; empty: all.
    pub hosts: Vec<String>,
    /// Where everybody was before.
    pub stable: Backends,
    /// Where the version on trial is; no endpoint: no release.
    pub canary: Backends,
    /// The same keys as on a Kubernetes Service.
    pub annotations: Annotations,
    /// How its endpoints are chosen, limited, checked and tried again.
    pub resilience: ResilienceEntry,
    /// How the canary is released; `serin proxy` alone ignores it.
    pub rollout: Policy,
}
