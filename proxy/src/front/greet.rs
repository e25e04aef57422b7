//! What comes before HTTP: the header of a load balancer, and the TLS handshake. Both together have the time that a
//! request's header has.

use super::{Entrance, more};
use crate::{
    clock::Alarm,
    error::Failure,
    forwarding, meter,
    socket::Socket,
    tls::Tls,
    wire::{
        proxy_protocol::{self, Header},
        reader,
    },
    worker::Worker,
};
use bytes::{Buf, Bytes};
use contract::file::ProxyProtocol;
use std::{
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    task::Poll,
};
use tokio::net::TcpStream;

/// First octet of a TLS handshake (RFC 8446, 5.1); no method begins so.
const HANDSHAKE: u8 = 22;

/// A connection on which HTTP begins.
pub struct Greeted {
    pub stream: Socket,
    /// The client: who connected, or whom a load balancer connected for.
    pub client: IpAddr,
    /// What was read and belongs to HTTP.
    pub first: Bytes,
}

impl Greeted {
    pub fn plain(stream: TcpStream, client: IpAddr) -> Greeted {
        Greeted {
            stream: Socket::Plain(stream),
            client,
            first: Bytes::new(),
        }
    }
}

/// Does what comes before HTTP. `None` when there will be no HTTP; why is counted.
pub async fn greet(
    worker: &Worker,
    mut stream: TcpStream,
    peer: IpAddr,
    entrance: Entrance,
    alarm: &Alarm,
) -> Option<Greeted> {
    let (mut client, mut first) = (peer, Bytes::new());
    if worker.settings.proxy_protocol != ProxyProtocol::Off {
        match header(worker, &mut stream, peer, alarm, &mut first).await {
            Ok(header) => client = header?.source.map_or(peer, |s| s.ip()),
            Err(failure) => return count(worker, peer, failure),
        }
    }
    if entrance == Entrance::Plain {
        let stream = Socket::Plain(stream);
        return Some(Greeted {
            stream,
            client,
            first,
        });
    }
    if first.is_empty() {
        first = more(worker, &mut stream, alarm, false).await?;
    }
    if first.first() != Some(&HANDSHAKE) {
        // Whoever speaks HTTP here can read why; there is room for that in every socket.
        let _ = stream.try_write(NO_TLS);
        return count(worker, client, Failure::Handshake);
    }
    let stream = shake(worker, stream, client, alarm, &first).await?;
    // A request's header has its own time.
    alarm.set(worker.settings.header_timeout);
    Some(Greeted {
        stream,
        client,
        first: Bytes::new(),
    })
}

/// Said to who speaks no TLS where TLS is spoken.
const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nx-serin-error: tls\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: 39\r\n\r\nserin: this port speaks TLS; use https\n";

fn count<T>(worker: &Worker, client: IpAddr, failure: Failure) -> Option<T> {
    tracing::debug!(%client, kind = failure.kind(), "{failure}");
    meter::add_shared(&worker.shared.strays[failure.index()]);
    None
}

/// The header of a load balancer; `None` when nothing came at all, which is how some look whether we live. What came
/// behind it is left in `first`.
async fn header(
    worker: &Worker,
    stream: &mut TcpStream,
    peer: IpAddr,
    alarm: &Alarm,
    first: &mut Bytes,
) -> Result<Option<Header>, Failure> {
    let trusted = &worker.settings.trusted_proxies;
    if !trusted.is_empty() && !forwarding::is_trusted(peer.to_canonical(), trusted) {
        return Err(Failure::ProxyProtocol(
            "its sender is not among proxy.trustedProxies",
        ));
    }
    loop {
        let Some(more) = more(worker, stream, alarm, !first.is_empty()).await else {
            return match first.is_empty() {
                true => Ok(None),
                false => Err(Failure::ProxyProtocol("it is not whole")),
            };
        };
        *first = reader::join(first, more);
        let read = proxy_protocol::parse(first, worker.settings.proxy_protocol);
        if let Some(header) = read.map_err(Failure::ProxyProtocol)? {
            first.advance(header.length);
            return Ok(Some(header));
        }
    }
}

/// The handshake, with the certificates that are in force now.
async fn shake(
    worker: &Worker,
    stream: TcpStream,
    client: IpAddr,
    alarm: &Alarm,
    first: &[u8],
) -> Option<Socket> {
    let config = worker.shared.keys.front.as_ref()?.config();
    let mut shaking = pin!(Tls::accept(stream, config, first));
    let shaken = poll_fn(|cx| {
        if let Poll::Ready(shaken) = shaking.as_mut().poll(cx) {
            return Poll::Ready(shaken);
        }
        if alarm.rings(cx) {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    })
    .await;
    match shaken {
        Ok(tls) => {
            worker.shared.handshakes.count(tls.session());
            Some(Socket::Tls(tls))
        }
        Err(e) => {
            tracing::debug!(%client, "a TLS handshake failed: {e}");
            count(worker, client, Failure::Handshake)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_to_who_speaks_no_tls_is_as_long_as_it_says() {
        let text = std::str::from_utf8(NO_TLS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        assert_eq!(body, format!("serin: {}\n", Failure::Handshake));
    }
}
