use serde::{Deserialize, Serialize};

/// TLS in front. Files are watched: a changed certificate is shown from the next handshake on, and a bad one never is.
/// Relative paths count from the file's folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsEntry {
    /// Where clients connect by TLS (HTTP/1.1 and HTTP/2 by ALPN), beside `proxy.listen`; empty: nowhere.
    pub listen: String,
    /// What we show. The name that a client asks for (SNI) chooses, by the names in the certificates; the first is for
    /// who asks for none, or for another one.
    pub certificates: Vec<CertificateEntry>,
    /// The lowest version that is spoken: `1.2` or `1.3`.
    pub min_version: TlsVersion,
    /// Whether clients must show a certificate.
    pub client_auth: ClientAuth,
    /// Certificates of those who may have signed the clients' (PEM).
    pub client_ca: String,
}

/// One certificate and its private key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CertificateEntry {
    /// The certificate, and behind it those that lead to a root (PEM).
    pub cert: String,
    /// Its private key (PEM).
    pub key: String,
}

/// A version of TLS; older ones are not spoken at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// None is asked for.
    #[default]
    None,
    /// One that is shown must be good.
    Optional,
    /// Who shows none is turned away.
    Required,
}

/// Whether connections begin with a header that names the client (HAProxy's PROXY protocol).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// They do not.
    #[default]
    Off,
    /// All begin with the text form.
    V1,
    /// All begin with the binary form.
    V2,
    /// All begin with either.
    Any,
}
