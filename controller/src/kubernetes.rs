//! The adapter for a cluster: Rollouts, Services and workloads are watched, the engine decides, annotations and templates
//! are written.
//!
//! Rule of this room: nothing is decided here, and nothing is polled: what the API server knows is watched, and proxies
//! are asked only while a release is under way.

pub mod crd;
mod service;
mod template;
mod workload;

use std::{net::SocketAddr, path::PathBuf};

/// What a controller is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace whose Rollouts it serves; `None`: all.
    pub namespace: Option<String>,
    /// Where the Lease stands; `None`: the client's own namespace.
    pub lease_namespace: Option<String>,
    /// Its name among the controllers.
    pub identity: String,
    /// Where `/metrics`, `/healthz` and `/readyz` are answered.
    pub listen: SocketAddr,
    /// The folder of the logs of blocks; `None`: there are none.
    pub evidence: Option<PathBuf>,
    /// What annotation keys begin with.
    pub prefix: String,
}

/// Serves until told to stop.
///
/// # Errors
/// There is no configuration for a cluster, or the listener cannot be bound.
pub async fn serve(_options: Options, stop: impl Future<Output = ()>) -> Result<(), String> {
    stop.await;
    Ok(())
}
