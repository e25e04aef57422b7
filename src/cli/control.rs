//! `serin controller`

use clap::Args;
use std::{net::SocketAddr, path::PathBuf};

/// `serin controller`
#[derive(Args)]
#[command(
    after_help = "Examples:\n  serin controller\n  serin controller --namespace shop --listen 127.0.0.1:9903\n  serin controller --evidence-dir /var/lib/serin"
)]
pub struct ControllerArgs {
    /// Serve the Rollouts of this namespace alone; without it, of all
    #[arg(short, long, env = "SERIN_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Where the Lease of the leader stands [default: the pod's own namespace]
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Who this is among the controllers [default: a random name]
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,
    /// Where `/metrics`, `/healthz` and `/readyz` are answered
    #[arg(long, env = "SERIN_LISTEN", default_value = "0.0.0.0:9903")]
    pub listen: SocketAddr,
    /// Keep the log of blocks here, for `serin replay`; without it there is none
    #[arg(long, env = "SERIN_EVIDENCE_DIR", value_name = "FOLDER")]
    pub evidence_dir: Option<PathBuf>,
    /// Append one JSON line for each decision to this file; docs/audit.md says what stands there
    #[arg(long, env = "SERIN_AUDIT_LOG", value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// Show the page for people here; without it there is none. Loopback, for `kubectl port-forward` leads there
    #[arg(long, env = "SERIN_PAGE", value_name = "ADDRESS")]
    pub page: Option<SocketAddr>,
    /// The token that orders on the page need: a mounted Secret, made if nobody has; without it the page is read-only
    #[arg(long, env = "SERIN_PAGE_TOKEN_FILE", value_name = "FILE", requires = "page")]
    pub page_token_file: Option<PathBuf>,
    /// What annotation keys begin with
    #[arg(long, env = "SERIN_ANNOTATION_PREFIX", default_value = controller::contract::names::PREFIX, value_name = "PREFIX")]
    pub annotation_prefix: String,
}
