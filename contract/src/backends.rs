//! Where one track lives, and how its endpoints are spoken to.

use crate::{Fault, routes::is_host};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Where one track lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backends {
    /// The version that runs there, as people call it.
    pub version: String,
    /// `host:port`, or `address:port`.
    pub endpoints: Vec<String>,
    /// What they speak; in a cluster the `appProtocol` of the Service's port says so.
    #[serde(skip_serializing_if = "AppProtocol::is_http")]
    pub protocol: AppProtocol,
    /// How they are trusted, with `protocol = "https"`.
    #[serde(skip_serializing_if = "BackendTls::is_default")]
    pub tls: BackendTls,
}

/// What endpoints speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppProtocol {
    /// HTTP/1.1 without TLS, with upgrades.
    #[default]
    Http,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
    /// HTTP by TLS; the handshake (ALPN) says which version.
    Https,
}

/// How endpoints that speak TLS are trusted, and who we are to them. Files are watched; relative paths count from the
/// file's folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct BackendTls {
    /// Certificates of those who may have signed the endpoints' (PEM); empty: the system's.
    pub ca: String,
    /// Our certificate, with its chain (PEM); empty: we show none.
    pub cert: String,
    /// The private key of our certificate (PEM).
    pub key: String,
    /// The name that the endpoints' certificates must have, and that is asked for (SNI); empty: the endpoint's host
    /// name, else the service's first host, else the endpoint's address.
    pub server_name: String,
    /// Whether certificates are verified at all. Without, whoever can stand in for an endpoint reads everything.
    pub verify: bool,
}

impl Default for BackendTls {
    fn default() -> BackendTls {
        BackendTls {
            ca: String::new(),
            cert: String::new(),
            key: String::new(),
            server_name: String::new(),
            verify: true,
        }
    }
}

impl AppProtocol {
    fn is_http(&self) -> bool {
        *self == AppProtocol::Http
    }
}

impl BackendTls {
    fn is_default(&self) -> bool {
        *self == BackendTls::default()
    }
}

impl Backends {
    /// Looks for faults; `key` is where they stand (`service[0].stable`).
    pub(crate) fn check(&self, key: &str, faults: &mut Vec<Fault>) {
        self.check_endpoints(key, faults);
        self.check_tls(&format!("{key}.tls"), faults);
    }

    fn check_endpoints(&self, key: &str, faults: &mut Vec<Fault>) {
        for (i, e) in self.endpoints.iter().enumerate() {
            if !is_endpoint(e) {
                faults.push(Fault::new(
                    format!("{key}.endpoints[{i}]"),
                    e,
                    "is not an address with a port",
                    "write for example 127.0.0.1:8080 or [::1]:8080, without http://",
                ));
            }
            if self.endpoints[..i].contains(e) {
                faults.push(Fault::new(
                    format!("{key}.endpoints[{i}]"),
                    e,
                    "is listed twice",
                    "list each endpoint once",
                ));
            }
        }
    }

    fn check_tls(&self, key: &str, faults: &mut Vec<Fault>) {
        let tls = &self.tls;
        if self.protocol != AppProtocol::Https && !tls.is_default() {
            let remedy = "write protocol = \"https\" beside it, or leave it out";
            faults.push(Fault::new(
                key,
                "",
                "is given for endpoints that do not speak TLS",
                remedy,
            ));
        }
        if tls.cert.is_empty() != tls.key.is_empty() {
            let (missing, given) = if tls.key.is_empty() {
                ("key", &tls.cert)
            } else {
                ("cert", &tls.key)
            };
            let reason = "has no other half";
            faults.push(Fault::new(
                key,
                given,
                reason,
                format!("add {missing}: certificate and private key go together"),
            ));
        }
        let name = &tls.server_name;
        if !name.is_empty() && !is_host(name) && name.parse::<IpAddr>().is_err() {
            let remedy = "write the name in the endpoints' certificates, for example shop.internal";
            faults.push(Fault::new(
                format!("{key}.serverName"),
                name,
                "is not a name",
                remedy,
            ));
        }
        if !tls.verify && !tls.ca.is_empty() {
            let remedy = "leave out one of both";
            faults.push(Fault::new(
                format!("{key}.verify"),
                "false",
                "makes ca useless",
                remedy,
            ));
        }
    }
}

fn is_endpoint(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .is_some_and(|h| h.parse::<std::net::Ipv6Addr>().is_ok());
        (is_host(host) || bracketed) && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(backends: &Backends) -> Vec<String> {
        let mut faults = Vec::new();
        backends.check("b", &mut faults);
        faults.into_iter().map(|f| f.key).collect()
    }

    fn https(change: impl FnOnce(&mut BackendTls)) -> Backends {
        let mut backends = Backends {
            protocol: AppProtocol::Https,
            ..Backends::default()
        };
        change(&mut backends.tls);
        backends
    }

    #[test]
    fn trust_must_make_sense() {
        assert!(keys(&https(|_| ())).is_empty());
        assert!(keys(&https(|t| t.server_name = "192.0.2.1".into())).is_empty());
        assert_eq!(
            keys(&https(|t| t.server_name = "a b".into())),
            ["b.tls.serverName"]
        );
        assert_eq!(keys(&https(|t| t.cert = "x".into())), ["b.tls"]);
        assert_eq!(keys(&https(|t| t.key = "x".into())), ["b.tls"]);
        let blind = https(|t| (t.verify, t.ca) = (false, "x".into()));
        assert_eq!(keys(&blind), ["b.tls.verify"]);
        let mut plain = https(|t| t.ca = "x".into());
        plain.protocol = AppProtocol::H2c;
        assert_eq!(keys(&plain), ["b.tls"]);
    }

    #[test]
    fn what_is_not_said_is_not_written() {
        let text = serde_json::to_string(&Backends::default()).unwrap();
        assert_eq!(text, r#"{"version":"","endpoints":[]}"#);
    }
}
