//! What clients are shown.

use super::{
    Expiry, H2, HTTP11,
    certificate::{self, Pair, Shown},
    files::{Contents, Watched},
};
use contract::{
    Fault,
    file::{ClientAuth, TlsEntry, TlsVersion},
};
use rustls::{
    ALL_VERSIONS, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    server::{
        ClientHello, ResolvesServerCert, ServerSessionMemoryCache, StoresServerSessions,
        WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version::TLS13,
};
use std::{collections::HashMap, path::Path, sync::Arc};

/// Sessions that are remembered for clients of TLS 1.2 without tickets: 300 octets each.
const SESSIONS: usize = 4096;

/// Certificates in force, made again when their files change.
#[derive(Debug)]
pub struct Front {
    entry: TlsEntry,
    watched: Watched<Made>,
}

/// A configuration, and what it was made of.
#[derive(Debug)]
struct Made {
    config: Arc<ServerConfig>,
    expiries: Vec<Expiry>,
    /// Who may have signed the clients' certificates, as it was written.
    trusted: Vec<u8>,
}

/// The certificate by the name that a client asks for.
#[derive(Debug)]
struct ByName {
    all: Vec<Arc<CertifiedKey>>,
    /// Places in `all`, in the order of the file; `*.` stands for one label (RFC 6125, 6.4.3).
    names: HashMap<String, Vec<usize>>,
}

impl Front {
    /// Reads the files that an entry names; relative names count from a folder.
    ///
    /// # Errors
    /// Every fault of the files.
    pub fn new(entry: TlsEntry, folder: &Path) -> Result<Front, Vec<Fault>> {
        let pairs = entry.certificates.iter().flat_map(|c| [&c.cert, &c.key]);
        let mut names: Vec<String> = pairs.cloned().collect();
        if entry.client_auth != ClientAuth::None {
            names.push(entry.client_ca.clone());
        }
        let watched = Watched::new(folder, names, |contents| make(&entry, contents, None))?;
        Ok(Front { entry, watched })
    }

    /// For a handshake that begins.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.watched.value().config)
    }

    /// Looks whether the files have changed. True when new certificates are in force.
    ///
    /// # Errors
    /// The faults of files that cannot be used; the last good ones stay in force.
    pub fn look(&self) -> Result<bool, Vec<Fault>> {
        self.watched
            .look(|contents, last| make(&self.entry, contents, Some(last)))
    }

    /// When the certificates end.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.watched.value().expiries.clone()
    }
}

fn make(entry: &TlsEntry, contents: &Contents, last: Option<&Made>) -> Result<Made, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut shown = Vec::new();
    for (i, c) in entry.certificates.iter().enumerate() {
        let at = Pair {
            key: &format!("proxy.tls.certificates[{i}]"),
            cert: &c.cert,
            private: &c.key,
        };
        match Shown::read(contents, at) {
            Ok(one) => shown.push(one),
            Err(fault) => faults.push(fault),
        }
    }
    let verifier = verifier(entry, contents).map_err(|f| faults.push(f));
    let (Ok(verifier), true) = (verifier, faults.is_empty()) else {
        return Err(faults);
    };
    let trusted = match entry.client_auth {
        ClientAuth::None => Vec::new(),
        _ => contents
            .of("", &entry.client_ca)
            .map(<[u8]>::to_vec)
            .unwrap_or_default(),
    };
    let expiries = shown.iter().filter_map(Shown::expiry).collect();
    let mut config = config(entry, ByName::new(shown), verifier).map_err(|f| vec![f])?;
    remember(&mut config, last.filter(|l| l.trusted == trusted)).map_err(|f| vec![f])?;
    Ok(Made {
        config: Arc::new(config),
        expiries,
        trusted,
    })
}

/// All versions from this one on.
fn versions(least: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match least {
        TlsVersion::V12 => ALL_VERSIONS,
        TlsVersion::V13 => NEWEST,
    }
}

static NEWEST: &[&SupportedProtocolVersion] = &[&TLS13];

fn config(
    entry: &TlsEntry,
    names: ByName,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, Fault> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions(entry.min_version))
        .map_err(|e| {
            Fault::new(
                "proxy.tls",
                "",
                format!("cannot be served ({e})"),
                "write minVersion = \"1.2\"",
            )
        })?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(names));
    config.alpn_protocols = vec![H2.to_vec(), HTTP11.to_vec()];
    Ok(config)
}

/// Sessions outlive their certificates, so that a new one costs nobody a full handshake. They do not outlive a change
/// of whom we trust: who resumes a session shows no certificate.
fn remember(config: &mut ServerConfig, last: Option<&Made>) -> Result<(), Fault> {
    if let Some(last) = last {
        config.ticketer = Arc::clone(&last.config.ticketer);
        config.session_storage = Arc::clone(&last.config.session_storage);
        return Ok(());
    }
    let storage: Arc<dyn StoresServerSessions> = ServerSessionMemoryCache::new(SESSIONS);
    config.session_storage = storage;
    config.ticketer = ring::Ticketer::new().map_err(|e| {
        let reason = format!("has no keys for session tickets ({e})");
        Fault::new(
            "proxy.tls",
            "",
            reason,
            "look after the system's source of random numbers",
        )
    })?;
    Ok(())
}

fn verifier(entry: &TlsEntry, contents: &Contents) -> Result<Option<Arc<dyn ClientCertVerifier>>, Fault> {
    if entry.client_auth == ClientAuth::None {
        return Ok(None);
    }
    let key = "proxy.tls.clientCa";
    let roots = Arc::new(certificate::roots(contents, key, &entry.client_ca)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::new(ring::default_provider()));
    if entry.client_auth == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    let made = builder.build().map_err(|e| {
        let reason = format!("cannot verify anybody ({e})");
        Fault::new(
            key,
            &entry.client_ca,
            reason,
            "write the certificates of authorities in PEM",
        )
    })?;
    Ok(Some(made))
}

impl ByName {
    fn new(shown: Vec<Shown>) -> ByName {
        let (mut all, mut names) = (Vec::new(), HashMap::<String, Vec<usize>>::new());
        for one in shown {
            for name in one.names {
                names.entry(name).or_default().push(all.len());
            }
            all.push(Arc::new(one.pair));
        }
        ByName { all, names }
    }

    fn named(&self, name: &str) -> &[usize] {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let wild = || {
            let (_, parent) = name.split_once('.')?;
            self.names.get(&format!("*.{parent}"))
        };
        self.names.get(&name).or_else(wild).map_or(&[], Vec::as_slice)
    }
}

impl ResolvesServerCert for ByName {
    /// Of several that have the name, the first of a kind that the client can verify.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |k: &&Arc<CertifiedKey>| k.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = self.named(hello.server_name().unwrap_or_default());
        let mut by_name = named.iter().filter_map(|i| self.all.get(*i));
        let found = by_name.find(fits).or_else(|| self.all.iter().find(fits));
        found.map(Arc::clone)
    }
}
