//! The server's certificate, from an authority of its own.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// What a listener and its clients need.
pub(super) struct Made {
    pub(super) acceptor: TlsAcceptor,
    pub(super) ca: String,
}

/// Makes authority, certificate and acceptor for the address.
pub(super) fn make(address: IpAddr) -> io::Result<Made> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let params = authority();
    let ca = params.self_signed(&key).map_err(io::Error::other)?;
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().map_err(io::Error::other)?;
    let leaf = leaf(address)?
        .signed_by(&own, &issuer)
        .map_err(io::Error::other)?;
    let secret = PrivateKeyDer::try_from(own.serialize_der()).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let chain = vec![leaf.der().clone()];
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Made {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        ca: ca.pem(),
    })
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "standin authority");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf(address: IpAddr) -> io::Result<CertificateParams> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, "standin");
    params
        .subject_alt_names
        .extend([IpAddr::V4(Ipv4Addr::LOCALHOST), address].map(SanType::IpAddress));
    params.use_authority_key_identifier_extension = true;
    params
        .extended_key_usages
        .push(ExtendedKeyUsagePurpose::ServerAuth);
    Ok(params)
}
