//! How the endpoints of a track are spoken to.

use crate::tls::backend::Vault;
use contract::{
    Fault,
    routes::{AppProtocol, Backends},
};
use rustls::{ClientConfig, pki_types::ServerName};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// What is spoken to one track, and under which names its endpoints are known.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    /// What is spoken.
    pub protocol: AppProtocol,
    secure: Option<Arc<Secure>>,
}

/// TLS to one track.
#[derive(Debug)]
struct Secure {
    config: Arc<ClientConfig>,
    /// The name of every endpoint, if there is one.
    name: Option<ServerName<'static>>,
    /// The names under which endpoints were found.
    names: BTreeMap<IpAddr, ServerName<'static>>,
}

impl Transport {
    /// To a track of a service, whose place is `key` and whose hosts are `hosts`; `names` are the host names under which
    /// endpoints were found.
    ///
    /// # Errors
    /// Every fault of the files that it needs, if they were never good.
    pub fn new(
        key: &str,
        backends: &Backends,
        hosts: &[String],
        names: BTreeMap<IpAddr, String>,
        vault: &Vault,
    ) -> Result<Transport, Vec<Fault>> {
        let protocol = backends.protocol;
        if protocol != AppProtocol::Https {
            return Ok(Transport {
                protocol,
                secure: None,
            });
        }
        let given = Some(&backends.tls.server_name).filter(|n| !n.is_empty());
        let names = match given {
            Some(_) => BTreeMap::new(),
            None => names
                .into_iter()
                .filter_map(|(a, n)| Some((a, server(&n)?)))
                .collect(),
        };
        let secure = Secure {
            config: vault.config(&format!("{key}.tls"), &backends.tls)?,
            name: given.or(hosts.first()).and_then(|n| server(n)),
            names,
        };
        Ok(Transport {
            protocol,
            secure: Some(Arc::new(secure)),
        })
    }

    /// What TLS to an endpoint needs, if it is spoken.
    pub fn secure(&self, endpoint: SocketAddr) -> Option<(Arc<ClientConfig>, ServerName<'static>)> {
        let secure = self.secure.as_ref()?;
        Some((Arc::clone(&secure.config), secure.name(endpoint.ip())))
    }

    /// Whether a connection that was made one way is as good as one that is made the other way.
    pub fn is_same(&self, other: &Transport, endpoint: SocketAddr) -> bool {
        let same = match (&self.secure, &other.secure) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                Arc::ptr_eq(&a.config, &b.config) && a.name(endpoint.ip()) == b.name(endpoint.ip())
            }
            _ => false,
        };
        same && self.protocol == other.protocol
    }
}

impl Secure {
    /// The name that an endpoint must prove: its own, else the service's, else its address.
    fn name(&self, endpoint: IpAddr) -> ServerName<'static> {
        let known = self.names.get(&endpoint).or(self.name.as_ref());
        known.cloned().unwrap_or_else(|| ServerName::from(endpoint))
    }
}

fn server(name: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(name.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::routes::BackendTls;

    fn transport(server_name: &str, hosts: &[&str], names: &[(&str, &str)]) -> Transport {
        let backends = Backends {
            protocol: AppProtocol::Https,
            tls: BackendTls {
                server_name: server_name.into(),
                verify: false,
                ..BackendTls::default()
            },
            ..Backends::default()
        };
        let hosts: Vec<String> = hosts.iter().map(|h| (*h).to_owned()).collect();
        let names = names.iter().map(|(a, n)| (a.parse().unwrap(), (*n).to_owned()));
        Transport::new("t", &backends, &hosts, names.collect(), &Vault::default()).unwrap()
    }

    #[test]
    fn the_nearest_name_is_asked_for() {
        let at: SocketAddr = "10.0.0.1:443".parse().unwrap();
        for (given, hosts, names, expected) in [
            ("given", &["shop.test"][..], &[("10.0.0.1", "found")][..], "given"),
            ("", &["shop.test"], &[("10.0.0.1", "found")], "found"),
            ("", &["shop.test"], &[("10.0.0.2", "found")], "shop.test"),
            ("", &[], &[], "10.0.0.1"),
        ] {
            let (_, name) = transport(given, hosts, names).secure(at).unwrap();
            assert_eq!(name.to_str(), expected);
        }
        assert!(Transport::default().secure(at).is_none());
    }

    #[test]
    fn another_trust_makes_another_connection() {
        let at: SocketAddr = "10.0.0.1:443".parse().unwrap();
        let one = transport("a", &[], &[]);
        assert!(one.is_same(&one.clone(), at) && Transport::default().is_same(&Transport::default(), at));
        assert!(!one.is_same(&Transport::default(), at));
        assert!(!one.is_same(&transport("a", &[], &[]), at), "made of other files");
    }
}
