//! The life of the control plane: prepared, started, stopped. One thread of its own with one runtime.

use crate::admin::Handler;
use contract::release::Status;
use std::{fmt, net::SocketAddr, path::PathBuf};
use tokio::sync::watch;

/// What is known before the proxy starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder for state and history; made when absent, locked while the controller lives.
    pub state: PathBuf,
}

/// Where the proxy listens, known once it does.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Read-only listener: `/evidence`.
    pub signals: SocketAddr,
    /// Listener that changes state: `/services`.
    pub admin: SocketAddr,
    /// The admin token.
    pub token: String,
}

/// Why the control plane cannot start.
#[derive(Debug)]
pub struct StartError {
    message: String,
}

/// Holds the state folder until the addresses of the proxy are known.
#[derive(Debug)]
pub struct Starter {
    statuses: watch::Sender<Vec<Status>>,
}

/// A running control plane. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    statuses: watch::Receiver<Vec<Status>>,
}

/// Takes the state folder.
///
/// # Errors
/// The folder cannot be made or written, or another controller holds it.
pub fn prepare(options: Options) -> Result<(Handler, Starter), StartError> {
    let _ = options;
    let (statuses, seen) = watch::channel(Vec::new());
    Ok((Handler::new(seen), Starter { statuses }))
}

impl Starter {
    /// Where every release stands, after each turn.
    pub fn statuses(&self) -> watch::Receiver<Vec<Status>> {
        self.statuses.subscribe()
    }

    /// Begins to take turns.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(self, addresses: Addresses) -> Result<Running, StartError> {
        let _ = addresses;
        Ok(Running {
            statuses: self.statuses(),
        })
    }
}

impl Running {
    /// Where every release stands, after each turn.
    pub fn statuses(&self) -> watch::Receiver<Vec<Status>> {
        self.statuses.clone()
    }

    /// Ends the turn under way, saves, and gives the state folder back. The weight stays as it is.
    pub fn stop(self) {}
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StartError {}
