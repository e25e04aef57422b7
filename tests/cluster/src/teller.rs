//! Proxies that only tell: TLS listeners with the certificate of a namespace's Secret, and made-up pages behind them.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a page says, by the oldest second that is asked for.
pub type Pages = Arc<dyn Fn(u64) -> String + Send + Sync>;

/// Certificate and key of a namespace's Secret, as a proxy shows them.
///
/// # Errors
/// What is wrong with the Secret's data.
pub fn door(secret: &Value) -> io::Result<TlsAcceptor> {
    let text = |key: &str| {
        let value = secret["data"][key].as_str().unwrap_or_default();
        STANDARD.decode(value).map_err(io::Error::other)
    };
    let certificate = CertificateDer::from_pem_slice(&text("tls.crt")?).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(&text("tls.key")?).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|b| b.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Tells these pages on a free port of the loopback for as long as the current runtime lives.
///
/// # Errors
/// When there is no free port.
pub async fn tell(door: TlsAcceptor, pages: Pages) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (door, pages) = (door.clone(), pages.clone());
            tokio::spawn(async move {
                let Ok(stream) = door.accept(stream).await else {
                    return;
                };
                let answer = service_fn(move |request| answer(request, pages.clone()));
                let _ended = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
    });
    Ok(address)
}

async fn answer(request: Request<Incoming>, pages: Pages) -> Result<Response<Full<Bytes>>, Infallible> {
    let query = request.uri().query().unwrap_or_default();
    let since = query.strip_prefix("since=").and_then(|n| n.parse().ok());
    Ok(Response::new(Full::new(Bytes::from(pages(since.unwrap_or(0))))))
}
