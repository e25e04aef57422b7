//! Who may read `/evidence` in a cluster: by TLS, with a token, both from a Secret that the controller makes. For who can
//! forge evidence can promote, and who can read it knows a service's traffic.

use crate::admin::same;
use arc_swap::ArcSwapOption;
use contract::{
    Fault,
    names::{EVIDENCE_CERTIFICATE, EVIDENCE_KEY, EVIDENCE_SECRET, EVIDENCE_TOKEN},
};
use http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::core::v1::Secret;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Shortest token that is taken.
const SHORTEST: usize = 16;

/// The last good Secret.
#[derive(Default)]
pub struct Door(ArcSwapOption<Keys>);

struct Keys {
    secret: Parts,
    tls: TlsAcceptor,
}

/// A Secret's values.
#[derive(PartialEq, Eq)]
struct Parts {
    token: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Marks a request that came by TLS.
#[derive(Clone, Copy, Debug)]
pub struct ByTls;

impl Door {
    /// Takes the Secret as it is now. A bad one changes nothing.
    pub fn take(&self, secret: &Secret) {
        match self.change(secret) {
            Ok(true) => tracing::info!("evidence is told by the Secret {EVIDENCE_SECRET}"),
            Ok(false) => {}
            Err(fault) => {
                tracing::error!("Secret {EVIDENCE_SECRET}: {fault}; the last good one stays in force")
            }
        }
    }

    /// True when it is another than before.
    fn change(&self, secret: &Secret) -> Result<bool, Fault> {
        let parts = Parts::of(secret)?;
        if self.0.load().as_ref().is_some_and(|k| k.secret == parts) {
            return Ok(false);
        }
        let tls = TlsAcceptor::from(Arc::new(parts.server()?));
        self.0.store(Some(Arc::new(Keys { secret: parts, tls })));
        Ok(true)
    }

    /// What makes a connection secret, once there is a Secret.
    pub fn tls(&self) -> Option<TlsAcceptor> {
        self.0.load().as_ref().map(|k| k.tls.clone())
    }

    /// Why a caller may not read, if so: what to answer, and what to do.
    pub fn refusal(&self, headers: &HeaderMap, by_tls: bool) -> Option<(StatusCode, &'static str)> {
        let keys = self.0.load();
        let Some(keys) = keys.as_ref() else {
            return Some((
                StatusCode::SERVICE_UNAVAILABLE,
                "no evidence secret yet: the controller makes it (Secret serin-evidence in this namespace)",
            ));
        };
        if !by_tls {
            return Some((
                StatusCode::FORBIDDEN,
                "evidence is told by TLS only; use https, with the certificate in the Secret serin-evidence",
            ));
        }
        let given = headers.get(header::AUTHORIZATION);
        let token = given.and_then(|v| v.as_bytes().strip_prefix(b"Bearer "));
        (!same(token.unwrap_or_default(), &keys.secret.token)).then_some((
            StatusCode::UNAUTHORIZED,
            "send `authorization: Bearer <token>`, with the token in the Secret serin-evidence",
        ))
    }
}

impl Parts {
    fn of(secret: &Secret) -> Result<Parts, Fault> {
        let get = |key: &str| {
            let data = secret.data.iter().flatten().find(|(k, _)| *k == key);
            data.map(|(_, v)| v.0.trim_ascii().to_vec()).unwrap_or_default()
        };
        let token = get(EVIDENCE_TOKEN);
        if token.len() < SHORTEST || !token.iter().all(u8::is_ascii_graphic) {
            return Err(fault(
                EVIDENCE_TOKEN,
                "is not a token of at least 16 plain characters",
            ));
        }
        Ok(Parts {
            token,
            certificate: get(EVIDENCE_CERTIFICATE),
            key: get(EVIDENCE_KEY),
        })
    }

    fn server(&self) -> Result<ServerConfig, Fault> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|e| fault(EVIDENCE_CERTIFICATE, format!("is no certificate ({e})")))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key);
        let key = key.map_err(|e| fault(EVIDENCE_KEY, format!("is no private key ({e})")))?;
        let versions = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions();
        let server = versions.and_then(|b| b.with_no_client_auth().with_single_cert(chain, key));
        server.map_err(|e| {
            fault(
                EVIDENCE_CERTIFICATE,
                format!("does not serve with {EVIDENCE_KEY} ({e})"),
            )
        })
    }
}

/// A fault that does not repeat the value: it is a secret.
fn fault(key: &str, reason: impl Into<String>) -> Fault {
    Fault::new(
        key,
        "",
        reason,
        "delete the Secret, and the controller makes it anew",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::names::EVIDENCE_NAME;
    use k8s_openapi::ByteString;

    const TOKEN: &str = "0123456789abcdef";

    fn secret(token: &str) -> Secret {
        let made = rcgen::generate_simple_self_signed([EVIDENCE_NAME.to_owned()]).unwrap();
        let data = [
            (EVIDENCE_TOKEN, token.to_owned()),
            (EVIDENCE_CERTIFICATE, made.cert.pem()),
            (EVIDENCE_KEY, made.signing_key.serialize_pem()),
        ];
        let data = data.map(|(k, v)| (k.to_owned(), ByteString(v.into_bytes())));
        Secret {
            data: Some(data.into()),
            ..Secret::default()
        }
    }

    fn bearer(token: &str) -> HeaderMap {
        let value = format!("Bearer {token}").parse().unwrap();
        [(header::AUTHORIZATION, value)].into_iter().collect()
    }

    fn status(door: &Door, headers: &HeaderMap, by_tls: bool) -> Option<u16> {
        door.refusal(headers, by_tls).map(|(s, _)| s.as_u16())
    }

    #[test]
    fn only_the_token_by_tls_opens() {
        let door = Door::default();
        assert_eq!(status(&door, &bearer(""), true), Some(503));
        assert!(door.tls().is_none());
        assert!(door.change(&secret(TOKEN)).unwrap());
        assert_eq!(status(&door, &bearer(TOKEN), false), Some(403));
        assert_eq!(status(&door, &HeaderMap::new(), true), Some(401));
        assert_eq!(status(&door, &bearer("0123456789abcdeF"), true), Some(401));
        assert_eq!(status(&door, &bearer(TOKEN), true), None);
    }

    #[test]
    fn a_bad_secret_keeps_the_last_one_and_is_not_repeated() {
        let door = Door::default();
        let good = secret(TOKEN);
        assert!(door.change(&good).unwrap() && !door.change(&good).unwrap());
        for (key, value) in [
            (EVIDENCE_TOKEN, "short"),
            (EVIDENCE_TOKEN, "has a space in its middle"),
            (EVIDENCE_CERTIFICATE, "nonsense-of-a-value"),
            (EVIDENCE_CERTIFICATE, ""),
            (EVIDENCE_KEY, "nonsense-of-a-value"),
        ] {
            let mut bad = good.clone();
            bad.data
                .as_mut()
                .unwrap()
                .insert(key.into(), ByteString(value.into()));
            let fault = door.change(&bad).unwrap_err();
            assert!(value.is_empty() || !fault.to_string().contains(value), "{fault}");
        }
        let mut other = good.clone();
        other.data.as_mut().unwrap().insert(
            EVIDENCE_KEY.into(),
            secret(TOKEN).data.unwrap()[EVIDENCE_KEY].clone(),
        );
        assert!(door.change(&other).is_err(), "the key of another certificate");
        assert!(door.change(&Secret::default()).is_err());
        assert_eq!(status(&door, &bearer(TOKEN), true), None);
        assert!(door.change(&secret("fedcba9876543210")).unwrap());
        assert_eq!(status(&door, &bearer(TOKEN), true), Some(401));
    }
}
