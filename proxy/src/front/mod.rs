//! The client's side: which protocol a connection speaks, and the two that are spoken.

pub mod h1;
pub mod h2;
pub mod tunnel;

use crate::{clock::Alarm, forwarding, socket::Socket, wire::reader, worker::Worker};
use bytes::Bytes;
use std::{future::poll_fn, io::Write, net::IpAddr, rc::Rc, task::Poll};

/// What an HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Who is at the other end, with the text of the address: written once a connection, sent with each request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address; an IPv4 address is one also where it comes as IPv6.
    pub address: IpAddr,
    /// Whether it is a proxy that is believed about its clients.
    pub trusted: bool,
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
            text,
            length,
        }
    }

    /// The address as text.
    pub fn text(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }
}

/// Serves one client connection to its end.
pub async fn serve(worker: Rc<Worker>, mut stream: Socket, peer: IpAddr) {
    let peer = Peer::new(
        peer,
        forwarding::is_trusted(peer, &worker.settings.trusted_proxies),
    );
    let alarm = worker.clock.alarm();
    alarm.set(worker.settings.header_timeout);
    let Some(first) = first(&worker, &mut stream, &alarm).await else {
        return;
    };
    if first.starts_with(PREFACE) {
        // Boxed: it is larger than a connection of HTTP/1.
        Box::pin(h2::serve(&worker, stream, Rc::new(peer), first, alarm)).await;
    } else {
        h1::serve(&worker, stream, &peer, first, alarm).await;
    }
}

/// The first octets: enough of them to know the protocol. `None` when the client goes or takes too long.
async fn first(worker: &Worker, stream: &mut Socket, alarm: &Alarm) -> Option<Bytes> {
    let mut first = Bytes::new();
    while first.is_empty() || first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let more = poll_fn(|cx| {
            if let Poll::Ready(read) = reader::poll_read(stream, cx) {
                return Poll::Ready(read.ok().filter(|b| !b.is_empty()));
            }
            if alarm.rings(cx) || first.is_empty() && worker.is_closing() {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await?;
        first = reader::join(&first, more);
    }
    Some(first)
}
