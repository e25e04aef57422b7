//! A pod that says it is a proxy and is none: its own certificate, and whatever evidence it likes.

use super::World;
use rcgen::CertifiedKey;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use std::{process::Command, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// Outside of what the node gives away.
const ADDRESS: &str = "198.18.250.1";

/// A forger at work; it ends when this goes.
pub struct Forger {
    _tasks: JoinSet<()>,
}

impl World {
    /// Puts a ready pod with the proxies' label beside them. It answers clients like an application, and at its port for
    /// signals everybody gets this page, by TLS.
    ///
    /// # Panics
    /// When the address cannot be taken.
    pub fn forger(&self, name: &str, service: &str, page: &str) -> Forger {
        let added = Command::new("ip")
            .args(["addr", "add", &format!("{ADDRESS}/32"), "dev", "lo"])
            .status();
        assert!(added.unwrap().success(), "cannot add {ADDRESS}");
        let mut tasks = JoinSet::new();
        let (signals, front) = self.run(async {
            let signals = TcpListener::bind((ADDRESS, 9901)).await.unwrap();
            (signals, TcpListener::bind((ADDRESS, 8080)).await.unwrap())
        });
        tasks.spawn_on(tell(signals, acceptor(), page.to_owned()), self.runtime.handle());
        tasks.spawn_on(serve(front), self.runtime.handle());
        self.apply(
            &json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "labels": {"serin.dev/proxy": service}},
                "spec": {"nodeName": "elsewhere", "containers": [{"name": "proxy", "image": "forged",
                    "ports": [{"name": "signals", "containerPort": 9901}]}]},
            })
            .to_string(),
        );
        let status = json!({"status": {"phase": "Running", "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}],
            "conditions": [{"type": "Ready", "status": "True"}]}});
        self.merge_status("v1/Pod", name, &status);
        Forger { _tasks: tasks }
    }
}

fn acceptor() -> TlsAcceptor {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["serin-proxy".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn tell(listener: TcpListener, acceptor: TlsAcceptor, page: String) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Ok(stream) = acceptor.accept(stream).await {
            tokio::spawn(answer(stream, page.clone()));
        }
    }
}

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, "forged\n".into()));
    }
}

/// One answer a connection.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, body: String) {
    let mut head = [0; 4096];
    let _ = stream.read(&mut head).await;
    let text = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}
