//! Whom endpoints that speak TLS must be signed by, and what they are shown.

use super::{
    Expiry,
    certificate::{self, Pair, Shown},
    files::{Contents, Watched},
};
use contract::{Fault, routes::BackendTls};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The configurations of all backends, by what was written: each is made once, and again when its files change.
#[derive(Debug, Default)]
pub struct Vault {
    folder: PathBuf,
    all: Mutex<BTreeMap<BackendTls, Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// Where it was written first.
    key: String,
    watched: Watched<Made>,
}

#[derive(Debug)]
struct Made {
    config: Arc<ClientConfig>,
    expiry: Option<Expiry>,
}

impl Vault {
    /// An empty one; relative names of files count from this folder.
    pub fn new(folder: &Path) -> Vault {
        Vault {
            folder: folder.to_owned(),
            all: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BackendTls, Kept>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration for an entry that is written at `key`; the same one until its files change.
    ///
    /// # Errors
    /// Every fault of its files, if it was never good.
    pub fn config(&self, key: &str, entry: &BackendTls) -> Result<Arc<ClientConfig>, Vec<Fault>> {
        let mut all = self.lock();
        if let Some(kept) = all.get(entry) {
            return Ok(Arc::clone(&kept.watched.value().config));
        }
        if !entry.verify {
            tracing::warn!("{key}.verify = false: whoever can stand in for an endpoint reads everything");
        }
        let given = [&entry.ca, &entry.cert, &entry.key];
        let names = given.into_iter().filter(|n| !n.is_empty()).cloned().collect();
        let watched = Watched::new(&self.folder, names, |contents| make(key, entry, contents))?;
        let config = Arc::clone(&watched.value().config);
        let key = key.to_owned();
        all.insert(entry.clone(), Kept { key, watched });
        Ok(config)
    }

    /// Looks whether files have changed, and forgets entries that are not used any more. True when there is a new
    /// configuration; besides, the faults of what cannot be used: there the last good one stays in force.
    pub fn look(&self, used: &[&BackendTls]) -> (bool, Vec<Fault>) {
        let mut all = self.lock();
        all.retain(|entry, _| used.contains(&entry));
        let (mut changed, mut faults) = (false, Vec::new());
        for (entry, kept) in &*all {
            match kept.watched.look(|contents, _| make(&kept.key, entry, contents)) {
                Ok(new) => changed |= new,
                Err(more) => faults.extend(more),
            }
        }
        (changed, faults)
    }

    /// When the certificates that we show end.
    pub fn expiries(&self) -> Vec<Expiry> {
        let all = self.lock();
        all.values()
            .filter_map(|k| k.watched.value().expiry.clone())
            .collect()
    }
}

fn make(key: &str, entry: &BackendTls, contents: &Contents) -> Result<Made, Vec<Fault>> {
    let mut faults = Vec::new();
    let provider = Arc::new(ring::default_provider());
    let shown = shown(key, entry, contents).map_err(|f| faults.push(f));
    let roots = roots(key, entry, contents).map_err(|f| faults.push(f));
    let (Ok(shown), Ok(roots)) = (shown, roots) else {
        return Err(faults);
    };
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| {
        let reason = format!("cannot be used ({e})");
        vec![Fault::new(key, "", reason, "report this")]
    })?;
    let builder = match roots {
        Some(roots) => builder.with_root_certificates(roots),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Blind(provider))),
    };
    let expiry = shown.as_ref().and_then(Shown::expiry);
    let config = match shown {
        Some(one) => {
            let pair: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(one.pair));
            builder.with_client_cert_resolver(pair)
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Made {
        config: Arc::new(config),
        expiry,
    })
}

fn shown(key: &str, entry: &BackendTls, contents: &Contents) -> Result<Option<Shown>, Fault> {
    if entry.cert.is_empty() {
        return Ok(None);
    }
    let at = Pair {
        key,
        cert: &entry.cert,
        private: &entry.key,
    };
    Shown::read(contents, at).map(Some)
}

/// Whom we trust; `None`: everybody. Without a bundle the system's: whoever runs the machine says whom it trusts, and
/// roots that were compiled in would age with the program.
fn roots(key: &str, entry: &BackendTls, contents: &Contents) -> Result<Option<RootCertStore>, Fault> {
    let key = format!("{key}.ca");
    if !entry.verify {
        return Ok(None);
    }
    if !entry.ca.is_empty() {
        return certificate::roots(contents, &key, &entry.ca).map(Some);
    }
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    if good > 0 {
        return Ok(Some(roots));
    }
    let why = found
        .errors
        .first()
        .map(|e| format!(" ({e})"))
        .unwrap_or_default();
    let reason = format!("is not set, and this system has no certificates of authorities{why}");
    let remedy = "name a file with the certificates (PEM) of those who sign the endpoints'";
    Err(Fault::new(key, "", reason, remedy))
}

/// Verifies nothing but that the other side has the key of the certificate that it shows.
#[derive(Debug)]
struct Blind(Arc<CryptoProvider>);

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
