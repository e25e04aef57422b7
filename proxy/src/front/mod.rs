//! The client's side: which protocol a connection speaks, and the two that are spoken.

mod greet;
pub mod h1;
pub mod h2;
mod linger;
pub mod tunnel;

use crate::{clock::Alarm, forwarding, socket::Socket, wire::reader, worker::Worker};
use bytes::Bytes;
use contract::file::ProxyProtocol;
use greet::Greeted;
use std::{future::poll_fn, io::Write, net::IpAddr, rc::Rc, task::Poll};
use tokio::{io::AsyncRead, net::TcpStream};

/// What an HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which listener a connection came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// The one without TLS.
    Plain,
    /// The one that speaks TLS.
    Tls,
}

/// Who is at the other end, with the text of the address: written once a connection, sent with each request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address; an IPv4 address is one also where it comes as IPv6.
    pub address: IpAddr,
    /// Whether it is a proxy that is believed about its clients.
    pub trusted: bool,
    /// Whether its connection to us is encrypted.
    pub secure: bool,
    text: [u8; 45],
    length: usize,
}

impl Peer {
    /// The client of this address.
    pub fn new(address: IpAddr, trusted: bool) -> Peer {
        let address = address.to_canonical();
        let mut text = [0; 45];
        let mut room = &mut text[..];
        // 45 octets hold every address.
        let _ = write!(room, "{address}");
        let length = 45 - room.len();
        Peer {
            address,
            trusted,
            secure: false,
            text,
            length,
        }
    }

    /// What its requests came by.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The address as text.
    pub fn text(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }
}

/// Serves one client connection to its end.
pub async fn serve(worker: Rc<Worker>, stream: TcpStream, peer: IpAddr, entrance: Entrance) {
    let alarm = worker.clock.alarm();
    let Some((stream, peer, first)) = begin(&worker, stream, peer, entrance, &alarm).await else {
        return;
    };
    if stream.is_h2() || stream.protocol().is_none() && first.starts_with(PREFACE) {
        // Boxed: it is larger than a connection of HTTP/1.
        Box::pin(h2::serve(&worker, stream, Rc::new(peer), first, alarm)).await;
    } else {
        h1::serve(&worker, stream, &peer, first, alarm).await;
    }
}

/// A connection on which HTTP has begun: with whom, and the first octets.
async fn begin(
    worker: &Worker,
    stream: TcpStream,
    peer: IpAddr,
    entrance: Entrance,
    alarm: &Alarm,
) -> Option<(Socket, Peer, Bytes)> {
    alarm.set(worker.settings.header_timeout);
    let mut greeted = if entrance == Entrance::Tls || worker.settings.proxy_protocol != ProxyProtocol::Off {
        // Apart, so that a connection without it does not carry its state.
        Box::pin(greet::greet(worker, stream, peer, entrance, alarm)).await?
    } else {
        Greeted::plain(stream, peer)
    };
    let Some(first) = first(worker, &mut greeted, alarm).await else {
        greeted.stream.farewell();
        return None;
    };
    let client = greeted.client;
    let mut peer = Peer::new(
        client,
        forwarding::is_trusted(client, &worker.settings.trusted_proxies),
    );
    peer.secure = greeted.stream.is_tls();
    Some((greeted.stream, peer, first))
}

/// The first octets: enough of them to know the protocol. `None` when the client goes or takes too long.
async fn first(worker: &Worker, greeted: &mut Greeted, alarm: &Alarm) -> Option<Bytes> {
    let mut first = std::mem::take(&mut greeted.first);
    while first.is_empty() || first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let more = more(worker, &mut greeted.stream, alarm, !first.is_empty()).await?;
        first = reader::join(&first, more);
    }
    Some(first)
}

/// One read; `None` when the client goes or takes too long, or the end comes before it has begun.
async fn more(
    worker: &Worker,
    stream: &mut (impl AsyncRead + Unpin),
    alarm: &Alarm,
    begun: bool,
) -> Option<Bytes> {
    poll_fn(|cx| {
        if let Poll::Ready(read) = reader::poll_read(stream, cx) {
            return Poll::Ready(read.ok().filter(|b| !b.is_empty()));
        }
        if alarm.rings(cx) || !begun && worker.is_closing() {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}
