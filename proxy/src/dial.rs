//! A new connection to an endpoint.

use crate::{
    error::Failure,
    pool::Endpoint,
    socket::Socket,
    tls::{H2, HTTP11, Tls},
};
use tokio::net::TcpStream;

/// Connects; to an endpoint that speaks TLS, the handshake belongs to it. Only HTTP/1.1 connections can be upgraded, so
/// for those nothing else is offered.
///
/// # Errors
/// That it refuses connections, or that its handshake failed.
pub async fn dial(endpoint: &Endpoint, upgrades: bool) -> Result<Socket, Failure> {
    let stream = TcpStream::connect(endpoint.address).await;
    let stream = stream
        .and_then(|s| s.set_nodelay(true).map(|()| s))
        .map_err(|_| Failure::Refused)?;
    let Some((config, name)) = endpoint.transport().secure(endpoint.address) else {
        return Ok(Socket::Plain(stream));
    };
    let offered: &[&[u8]] = if upgrades { &[HTTP11] } else { &[H2, HTTP11] };
    let shaken = Tls::connect(stream, config, name.clone(), offered).await;
    shaken.map(Socket::Tls).map_err(|e| {
        tracing::warn!(endpoint = %endpoint.address, name = %name.to_str(), "the TLS handshake failed: {e}");
        Failure::Tls
    })
}
