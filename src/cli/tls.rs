//! What can be typed about TLS where there is no file to say it in.

use clap::Args;
use proxy::contract::{
    file::{CertificateEntry, ClientAuth, ProxyProtocol, TlsEntry},
    routes::BackendTls,
};
use std::net::SocketAddr;

/// TLS on both sides of a proxy in a cluster. Files come from Secrets that are mounted as folders, and are watched.
#[derive(Args)]
pub struct TlsArgs {
    /// Where clients connect by TLS, beside --listen
    #[arg(long, env = "SERIN_TLS_LISTEN", value_name = "ADDRESS", requires_all = ["tls_cert", "tls_key"])]
    pub tls_listen: Option<SocketAddr>,
    /// The certificate that clients are shown, with its chain (PEM): tls.crt of a mounted Secret
    #[arg(long, env = "SERIN_TLS_CERT", value_name = "FILE", requires = "tls_listen")]
    pub tls_cert: Option<String>,
    /// Its private key (PEM): tls.key of the same Secret
    #[arg(long, env = "SERIN_TLS_KEY", value_name = "FILE", requires = "tls_listen")]
    pub tls_key: Option<String>,
    /// Clients must show a certificate that one of these has signed (PEM)
    #[arg(
        long,
        env = "SERIN_TLS_CLIENT_CA",
        value_name = "FILE",
        requires = "tls_listen"
    )]
    pub tls_client_ca: Option<String>,
    /// Every connection begins with a PROXY protocol header: off, v1, v2 or any
    #[arg(long, env = "SERIN_PROXY_PROTOCOL", default_value = "off", value_name = "FORM", value_parser = form)]
    pub proxy_protocol: ProxyProtocol,
    /// Pods that speak TLS (appProtocol https) must be signed by one of these (PEM) [default: the system's]
    #[arg(long, env = "SERIN_BACKEND_CA", value_name = "FILE")]
    pub backend_ca: Option<String>,
    /// The name in their certificates [default: SERVICE.NAMESPACE.svc]
    #[arg(long, env = "SERIN_BACKEND_NAME", value_name = "NAME")]
    pub backend_name: Option<String>,
    /// The certificate that they are shown (PEM)
    #[arg(
        long,
        env = "SERIN_BACKEND_CERT",
        value_name = "FILE",
        requires = "backend_key"
    )]
    pub backend_cert: Option<String>,
    /// Its private key (PEM)
    #[arg(
        long,
        env = "SERIN_BACKEND_KEY",
        value_name = "FILE",
        requires = "backend_cert"
    )]
    pub backend_key: Option<String>,
}

fn form(text: &str) -> Result<ProxyProtocol, String> {
    match text {
        "off" => Ok(ProxyProtocol::Off),
        "v1" => Ok(ProxyProtocol::V1),
        "v2" => Ok(ProxyProtocol::V2),
        "any" => Ok(ProxyProtocol::Any),
        _ => Err("write off, v1, v2 or any".to_owned()),
    }
}

impl TlsArgs {
    /// What clients are shown.
    pub fn front(&self) -> TlsEntry {
        let pair = self.tls_cert.clone().zip(self.tls_key.clone());
        TlsEntry {
            listen: self.tls_listen.map(|a| a.to_string()).unwrap_or_default(),
            certificates: pair
                .map(|(cert, key)| CertificateEntry { cert, key })
                .into_iter()
                .collect(),
            client_auth: match self.tls_client_ca {
                Some(_) => ClientAuth::Required,
                None => ClientAuth::None,
            },
            client_ca: self.tls_client_ca.clone().unwrap_or_default(),
            ..TlsEntry::default()
        }
    }

    /// How pods are trusted.
    pub fn backend(&self) -> BackendTls {
        let given = |file: &Option<String>| file.clone().unwrap_or_default();
        BackendTls {
            ca: given(&self.backend_ca),
            cert: given(&self.backend_cert),
            key: given(&self.backend_key),
            server_name: given(&self.backend_name),
            verify: true,
        }
    }
}
