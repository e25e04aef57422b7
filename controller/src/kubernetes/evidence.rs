//! The Secret with which proxies tell evidence to us alone: a token, and a certificate that is the only one we trust.

use super::api::{Key, Kind, Server, is_conflict, told};
use base64::{Engine, engine::general_purpose::STANDARD};
use contract::names::{
    EVIDENCE_CERTIFICATE, EVIDENCE_KEY, EVIDENCE_NAME, EVIDENCE_SECRET, EVIDENCE_TOKEN, WEBHOOK_KEY,
};
use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use ring::rand::{SecureRandom, SystemRandom};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Mutex as AsyncMutex, time::Instant};

/// Years for which a certificate is valid: nobody but us trusts it, and the Secret's deletion renews it.
const YEARS: i32 = 10;
/// Octets of a token.
const TOKEN: usize = 32;
/// Shortest token that is taken.
const SHORTEST: usize = 32;
/// Least time between two readings of a Secret that was refused, or that cannot be read.
const AGAIN: Duration = Duration::from_secs(2);

/// What reading evidence in one namespace takes.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub token: String,
    /// The key that webhooks are signed with.
    pub webhook: String,
    pub tls: Arc<ClientConfig>,
}

/// The Secrets of all namespaces, each read once; one that cannot be read delays nobody of another namespace.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    known: Mutex<HashMap<String, Arc<AsyncMutex<Secret>>>>,
}

/// What is known of one Secret.
#[derive(Debug, Default)]
struct Secret {
    read: Option<(Instant, Credentials)>,
    failed: Option<(Instant, String)>,
}

impl Secrets {
    /// The credentials of a namespace; `doubted`: those known were refused.
    pub async fn of(&self, server: &Server, namespace: &str, doubted: bool) -> Result<Credentials, String> {
        let secret = self.secret(namespace);
        let mut secret = secret.lock().await;
        if let Some(known) = secret.known(doubted) {
            return known;
        }
        let found = obtain(server, namespace).await;
        secret.learn(&found);
        found
    }

    fn secret(&self, namespace: &str) -> Arc<AsyncMutex<Secret>> {
        // Whoever panicked while holding it left whole entries behind.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(namespace.to_owned()).or_default().clone()
    }
}

impl Secret {
    /// What can be said without asking; a failure stands for a while.
    fn known(&self, doubted: bool) -> Option<Result<Credentials, String>> {
        if let Some((read, found)) = &self.read
            && (!doubted || read.elapsed() < AGAIN)
        {
            return Some(Ok(found.clone()));
        }
        let recent = self.failed.as_ref().filter(|(at, _)| at.elapsed() < AGAIN);
        recent.map(|(_, why)| Err(why.clone()))
    }

    fn learn(&mut self, found: &Result<Credentials, String>) {
        let now = Instant::now();
        match found {
            Ok(found) => (self.read, self.failed) = (Some((now, found.clone())), None),
            Err(why) => self.failed = Some((now, why.clone())),
        }
    }
}

async fn obtain(server: &Server, namespace: &str) -> Result<Credentials, String> {
    let key = Key {
        namespace: namespace.to_owned(),
        name: EVIDENCE_SECRET.to_owned(),
    };
    let failed = |e| format!("the Secret {EVIDENCE_SECRET}: {}", told(&e));
    let found = server.get(Kind::Secret, &key).await.map_err(failed)?;
    let Some(object) = found else {
        return make(server, &key).await;
    };
    match read(&object.data["data"]) {
        Ok(credentials) => Ok(credentials),
        Err(why) => {
            tracing::warn!(%key, "the evidence Secret is made anew, because {why}");
            let mut renewed = object;
            renewed.data["data"] = fresh()?;
            let put = server.replace(Kind::Secret, &renewed).await.map_err(failed)?;
            read(&put.data["data"])
        }
    }
}

async fn make(server: &Server, key: &Key) -> Result<Credentials, String> {
    let failed = |e| format!("the Secret {EVIDENCE_SECRET}: {}", told(&e));
    let object = DynamicObject::new(&key.name, &Kind::Secret.resource())
        .within(&key.namespace)
        .data(json!({ "type": "Opaque", "data": fresh()? }));
    match server.create(Kind::Secret, &key.namespace, &object).await {
        Ok(made) => read(&made.data["data"]),
        // Another controller was quicker: its Secret is as good.
        Err(e) if is_conflict(&e) => {
            let there = server.get(Kind::Secret, key).await.map_err(failed)?;
            read(&there.ok_or("the Secret was there and is gone")?.data["data"])
        }
        Err(e) => Err(failed(e)),
    }
}

/// The data of a new Secret.
fn fresh() -> Result<Value, String> {
    let (certificate, key) = certificate().map_err(|e| format!("no certificate can be made: {e}"))?;
    Ok(json!({
        EVIDENCE_TOKEN: STANDARD.encode(random()?),
        WEBHOOK_KEY: STANDARD.encode(random()?),
        EVIDENCE_CERTIFICATE: STANDARD.encode(certificate),
        EVIDENCE_KEY: STANDARD.encode(key),
    }))
}

/// 256 bits from the system, in hexadecimal digits.
pub(super) fn random() -> Result<String, String> {
    let mut octets = [0; TOKEN];
    SystemRandom::new()
        .fill(&mut octets)
        .map_err(|_| "the system gives no random octets".to_owned())?;
    Ok(octets.iter().map(|b| format!("{b:02x}")).collect())
}

fn certificate() -> Result<(String, String), rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(vec![EVIDENCE_NAME.to_owned()])?;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, EVIDENCE_NAME);
    let year = Timestamp::now()
        .to_string()
        .get(..4)
        .and_then(|y| y.parse().ok())
        .unwrap_or(2026);
    params.not_after = rcgen::date_time_ymd(year + YEARS, 1, 1);
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// The credentials in a Secret's data, or why they are none.
fn read(data: &Value) -> Result<Credentials, String> {
    let text = |key: &str| -> Result<String, String> {
        let value = data[key].as_str().ok_or_else(|| format!("it has no key {key}"))?;
        let octets = STANDARD
            .decode(value)
            .map_err(|_| format!("its {key} is no base64"))?;
        String::from_utf8(octets).map_err(|_| format!("its {key} is no text"))
    };
    let token = text(EVIDENCE_TOKEN)?.trim().to_owned();
    if token.len() < SHORTEST || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "its {EVIDENCE_TOKEN} is not {SHORTEST} plain characters or more"
        ));
    }
    rcgen::KeyPair::from_pem(&text(EVIDENCE_KEY)?)
        .map_err(|e| format!("its {EVIDENCE_KEY} is no key: {e}"))?;
    Ok(Credentials {
        // A Secret from before there were webhooks has no key for them; the token then signs.
        webhook: text(WEBHOOK_KEY).unwrap_or_else(|_| token.clone()),
        token,
        tls: Arc::new(trusting(&text(EVIDENCE_CERTIFICATE)?)?),
    })
}

/// TLS that trusts one certificate and nothing else.
fn trusting(pem: &str) -> Result<ClientConfig, String> {
    let broken = |e: &dyn fmt::Display| format!("its {EVIDENCE_CERTIFICATE} is no certificate: {e}");
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| broken(&e))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(|e| broken(&e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| broken(&e))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_can_be_read_and_what_is_damaged_says_where() {
        let good = fresh().unwrap();
        let read_back = read(&good).unwrap();
        assert_eq!((read_back.token.len(), read_back.webhook.len()), (64, 64));
        assert_ne!(read_back.token, read(&fresh().unwrap()).unwrap().token);
        for key in [EVIDENCE_TOKEN, EVIDENCE_CERTIFICATE, EVIDENCE_KEY] {
            for value in [Value::Null, json!("!"), json!(STANDARD.encode("x"))] {
                let mut bad = good.clone();
                bad[key] = value;
                assert!(read(&bad).unwrap_err().contains(key));
            }
        }
    }

    #[test]
    fn a_failure_stands_for_a_while_and_takes_no_known_credentials_away() {
        let mut secret = Secret::default();
        assert!(secret.known(false).is_none());
        secret.learn(&Err("no answer".into()));
        assert_eq!(secret.known(false).unwrap().unwrap_err(), "no answer");
        secret.failed = Instant::now()
            .checked_sub(AGAIN)
            .map(|at| (at, "no answer".into()));
        assert!(secret.failed.is_some() && secret.known(false).is_none());
        secret.learn(&read(&fresh().unwrap()));
        assert!(secret.known(true).unwrap().is_ok());
        let (at, found) = secret.read.take().unwrap();
        secret.read = at.checked_sub(AGAIN).map(|at| (at, found));
        assert!(secret.known(true).is_none());
        secret.learn(&Err("no answer".into()));
        assert!(secret.known(true).unwrap().is_err() && secret.known(false).unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_secret_that_is_being_read_delays_no_other_namespace() {
        let secrets = Secrets::default();
        let (slow, other) = (secrets.secret("slow"), secrets.secret("other"));
        let _reading = slow.lock().await;
        assert!(secrets.secret("slow").try_lock().is_err());
        assert!(other.try_lock().is_ok());
    }
}
