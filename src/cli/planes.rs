//! What can be typed to run one plane alone.

use super::TlsArgs;
use clap::Args;
use proxy::contract::{Span, names::PREFIX};
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// `serin proxy`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  serin proxy -f serin.toml\n  serin proxy -f serin.toml --token-file token --cache table.json\n  serin proxy --service echo --namespace shop --cache /var/cache/serin/table.json\n  serin proxy --service echo --local 127.0.0.1:8081"
)]
pub struct ProxyArgs {
    /// The file (TOML); it is watched. Its [controller] and rollout parts are not used here
    #[arg(
        short,
        long,
        default_value = "serin.toml",
        value_name = "FILE",
        conflicts_with = "service"
    )]
    pub file: PathBuf,
    /// Read the admin token from here; without it one is made in the state folder, or, in a cluster, nobody may call
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Keep here what must survive a restart: what admin calls changed; in a cluster, the last good table
    #[arg(long, env = "SERIN_CACHE", value_name = "FILE")]
    pub cache: Option<PathBuf>,
    /// Worker threads, instead of the file's; 0: one for each core of the CPU quota
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// In a cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `serin proxy --service`
#[derive(Args)]
#[command(next_help_heading = "In a cluster, instead of a file")]
pub struct ClusterArgs {
    /// The Service that clients call; its annotations name the tracks and split them
    #[arg(long, env = "SERIN_SERVICE", value_name = "NAME")]
    pub service: Option<String>,
    /// Its namespace [default: the kubeconfig's, or the pod's own]
    #[arg(long, env = "POD_NAMESPACE", value_name = "NS")]
    pub namespace: Option<String>,
    /// Its port, by number or name; not needed where it has only one
    #[arg(long, value_name = "PORT", requires = "service")]
    pub port: Option<String>,
    /// The application is in this very pod, at this address: the proxy is a sidecar
    #[arg(long, value_name = "ADDRESS", requires = "service")]
    pub local: Option<SocketAddr>,
    /// This pod's own address, by which a sidecar knows which track it is in; without it, stable's
    #[arg(long, env = "POD_IP", value_name = "IP")]
    pub pod_ip: Option<IpAddr>,
    /// Where clients connect
    #[arg(
        long,
        env = "SERIN_LISTEN",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,
    /// Read-only: metrics and health, and evidence by TLS with the token of the Secret serin-evidence
    #[arg(
        long,
        env = "SERIN_SIGNALS",
        default_value = "0.0.0.0:9901",
        value_name = "ADDRESS"
    )]
    pub signals: SocketAddr,
    /// Loopback only: admin calls
    #[arg(
        long,
        env = "SERIN_PROXY_ADMIN",
        default_value = "127.0.0.1:9902",
        value_name = "ADDRESS"
    )]
    pub admin: SocketAddr,
    /// Let clients ask with `x-serin-debug: 1` which track served and why
    #[arg(long, env = "SERIN_ALLOW_DEBUG")]
    pub allow_debug: bool,
    /// Tell requests and durations by the metric names of ingress-nginx too, for dashboards made for it
    #[arg(long, env = "SERIN_INGRESS_NGINX_METRICS", requires = "service")]
    pub ingress_nginx_metrics: bool,
    /// Address ranges of the proxies before this one, with commas between; only they are believed about who asks
    #[arg(
        long,
        env = "SERIN_TRUSTED_PROXIES",
        value_name = "RANGES",
        value_delimiter = ','
    )]
    pub trusted_proxies: Vec<String>,
    /// A TOML file with the keys of [service.resilience]: deadlines, retries, limits, health checks
    #[arg(long, env = "SERIN_RESILIENCE", value_name = "FILE", requires = "service")]
    pub resilience: Option<PathBuf>,
    /// Log requests: `stdout`, or a file
    #[arg(
        long,
        env = "SERIN_ACCESS_LOG",
        default_value = "",
        value_name = "TO",
        hide_default_value = true
    )]
    pub access_log: String,
    /// Share of requests that are logged, from 0 to 1; failures always are
    #[arg(
        long,
        env = "SERIN_ACCESS_LOG_SAMPLE",
        default_value_t = 0.01,
        value_name = "SHARE"
    )]
    pub access_log_sample: f64,
    /// Export spans by OTLP to this collector, such as http://127.0.0.1:4318
    #[arg(
        long,
        env = "SERIN_OTLP",
        default_value = "",
        value_name = "URL",
        hide_default_value = true
    )]
    pub otlp: String,
    /// Share of the traces begun here that are exported, from 0 to 1
    #[arg(
        long,
        env = "SERIN_TRACE_SAMPLE",
        default_value_t = 0.01,
        value_name = "SHARE"
    )]
    pub trace_sample: f64,
    /// On SIGTERM: how long readiness fails before the listeners close
    #[arg(long, env = "SERIN_DRAIN_GRACE", default_value = "5s", value_name = "TIME")]
    pub drain_grace: Span,
    /// On SIGTERM: how long requests under way may take to finish after that
    #[arg(
        long,
        env = "SERIN_DRAIN_DEADLINE",
        default_value = "20s",
        value_name = "TIME"
    )]
    pub drain_deadline: Span,
    /// What the annotation keys begin with
    #[arg(long, env = "SERIN_ANNOTATION_PREFIX", default_value = PREFIX, value_name = "PREFIX")]
    pub annotation_prefix: String,
    /// TLS.
    #[command(flatten)]
    pub tls: TlsArgs,
}
