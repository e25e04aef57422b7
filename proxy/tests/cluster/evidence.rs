//! Who may read `/evidence` in a cluster.

use crate::{changes::pair, town::*, world::*};
use proxy::contract::{
    admin::Refusal,
    evidence::Page,
    names::{EVIDENCE_NAME, EVIDENCE_SECRET},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

/// A call by TLS that trusts this certificate only: status and body, if the handshake succeeds.
fn by_tls(proxy: &Proxy, certificate: &str, path: &str, token: Option<&str>) -> Option<(u16, String)> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(EVIDENCE_NAME).unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(proxy.running.addresses().signals).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    let token = token
        .map(|t| format!("Authorization: Bearer {t}\r\n"))
        .unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = Vec::new();
    // The end of the session may come without its farewell.
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn refusal(body: &str) -> String {
    serde_json::from_str::<Refusal>(body).unwrap().error
}

#[test]
fn evidence_is_told_by_tls_to_the_token_only() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let (town, proxy) = pair(&s, &c, &[("canary-weight", "10")]);
    let early = proxy.signals("/evidence");
    assert_eq!(early.status(), 503);
    assert!(refusal(&early.text()).contains("no evidence secret yet"));

    let certificate = town.secret(READER);
    eventually("the secret", || proxy.signals("/evidence").status() == 403);
    assert!(refusal(&proxy.signals("/evidence").text()).contains("TLS"));
    let (status, body) = by_tls(&proxy, &certificate, "/evidence", None).unwrap();
    assert!(status == 401 && refusal(&body).contains("Bearer"));
    let wrong = by_tls(&proxy, &certificate, "/evidence", Some("another-token-as-long")).unwrap();
    assert_eq!(wrong.0, 401);
    let (status, body) = by_tls(&proxy, &certificate, "/evidence?since=0", Some(READER)).unwrap();
    let page: Page = serde_json::from_str(&body).unwrap();
    assert!(status == 200 && page.services["echo"].share == 0.1);

    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(proxy.signals(path).status(), 200, "{path} needs no token");
        assert_eq!(by_tls(&proxy, &certificate, path, None).unwrap().0, 200, "{path}");
    }
}

#[test]
fn a_new_secret_is_taken_while_it_runs_and_a_bad_one_is_not() {
    let (s, c) = (Backend::named("S"), Backend::named("C"));
    let (town, proxy) = pair(&s, &c, &[]);
    let certificate = town.secret(READER);
    let reads =
        |certificate: &str, token: &str| by_tls(&proxy, certificate, "/evidence", Some(token)).map(|r| r.0);
    eventually("the first", || reads(&certificate, READER) == Some(200));
    let next = "the-token-of-the-next-month";
    let patch = |value: serde_json::Value| {
        let value = serde_json::json!({"stringData": value});
        town.patch::<k8s_openapi::api::core::v1::Secret>(EVIDENCE_SECRET, &value);
    };
    patch(serde_json::json!({"token": next}));
    eventually("the next", || reads(&certificate, next) == Some(200));
    assert_eq!(reads(&certificate, READER), Some(401));
    patch(serde_json::json!({"tls.key": "nonsense"}));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(reads(&certificate, next), Some(200), "the last good one stays");
    let made = rcgen::generate_simple_self_signed([EVIDENCE_NAME.to_owned()]).unwrap();
    let (other, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    patch(serde_json::json!({"tls.crt": other, "tls.key": key}));
    eventually("another certificate", || reads(&other, next) == Some(200));
    assert_eq!(reads(&certificate, next), None);
}
