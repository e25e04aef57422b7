//! TLS on both sides: what we show, whom we trust, and the connections themselves. Certificates are made into rustls'
//! configurations on the control thread; a handshake takes the one in force, and a connection never changes it.

pub mod backend;
pub mod certificate;
mod codec;
pub mod files;
pub mod front;
mod stream;

pub use {codec::Session, stream::Tls};

use crate::meter;
use contract::{
    Fault,
    file::{File, TlsEntry},
    routes::AppProtocol,
};
use rustls::{HandshakeKind, ProtocolVersion};
use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// HTTP/2 in a handshake (RFC 9113, 3.2).
pub const H2: &[u8] = b"h2";
/// HTTP/1.1 in a handshake (RFC 7301, 6).
pub const HTTP11: &[u8] = b"http/1.1";

/// All that is made of certificates.
#[derive(Debug, Default)]
pub struct Keys {
    /// What clients are shown.
    pub front: Option<front::Front>,
    /// Whom endpoints must be signed by, and what they are shown.
    pub backends: backend::Vault,
}

/// When a certificate of ours ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Its file, as it was given.
    pub file: String,
    /// The first name in it.
    pub name: String,
    /// Seconds since 1970.
    pub at: i64,
}

/// Handshakes of clients that came to their end, by version and whether an earlier session was resumed.
#[derive(Debug, Default)]
pub struct Handshakes([[AtomicU64; 2]; 2]);

impl Handshakes {
    /// Counts one.
    pub fn count(&self, session: &Session) {
        let version = usize::from(session.protocol_version() == Some(ProtocolVersion::TLSv1_3));
        let resumed = usize::from(session.handshake_kind() == Some(HandshakeKind::Resumed));
        if let Some(counter) = self.0.get(version).and_then(|v| v.get(resumed)) {
            meter::add_shared(counter);
        }
    }

    /// All counts: version, whether resumed, how many.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, bool, u64)> {
        let versions = ["1.2", "1.3"].into_iter().zip(&self.0);
        versions.flat_map(|(version, counts)| {
            let kinds = [false, true].into_iter().zip(counts);
            kinds.map(move |(resumed, n)| (version, resumed, n.load(Ordering::Relaxed)))
        })
    }
}

/// Looks at all files of certificates and keys that a file names, relative ones from a folder.
///
/// # Errors
/// Every fault.
pub fn check(file: &File, folder: &Path) -> Result<(), Vec<Fault>> {
    let mut faults = Vec::new();
    let vault = backend::Vault::new(folder);
    if let Err(more) = Keys::new(&file.proxy.tls, folder) {
        faults.extend(more);
    }
    for (i, service) in file.service.iter().enumerate() {
        for (track, backends) in [("stable", &service.stable), ("canary", &service.canary)] {
            let key = format!("service[{i}].{track}.tls");
            if backends.protocol == AppProtocol::Https
                && let Err(more) = vault.config(&key, &backends.tls)
            {
                faults.extend(more);
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(faults) }
}

impl Keys {
    /// Reads what clients are shown. Names of files count from a folder.
    ///
    /// # Errors
    /// Every fault of the files.
    pub fn new(entry: &TlsEntry, folder: &Path) -> Result<Keys, Vec<Fault>> {
        let front = (!entry.listen.is_empty()).then(|| front::Front::new(entry.clone(), folder));
        Ok(Keys {
            front: front.transpose()?,
            backends: backend::Vault::new(folder),
        })
    }

    /// When our certificates end, each file once.
    pub fn expiries(&self) -> Vec<Expiry> {
        let mut all = self.backends.expiries();
        all.extend(self.front.iter().flat_map(front::Front::expiries));
        all.sort_by(|a, b| a.file.cmp(&b.file));
        all.dedup_by(|a, b| a.file == b.file);
        all
    }
}

impl certificate::Shown {
    fn expiry(&self) -> Option<Expiry> {
        Some(Expiry {
            file: self.file.clone(),
            name: self.names.first().cloned().unwrap_or_default(),
            at: self.expiry?,
        })
    }
}
