//! A new connection to an endpoint.

use crate::{pool::Endpoint, socket::Socket};
use std::io;
use tokio::net::TcpStream;

/// Connects.
///
/// # Errors
/// Those of the socket.
pub async fn dial(endpoint: &Endpoint) -> io::Result<Socket> {
    let stream = TcpStream::connect(endpoint.address).await?;
    stream.set_nodelay(true)?;
    Ok(Socket::Plain(stream))
}
