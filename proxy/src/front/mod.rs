//! The client's side: which protocol a connection speaks, and the two that are spoken.

pub mod h1;
pub mod h2;

use crate::{clock::Alarm, wire::reader, worker::Worker};
use bytes::Bytes;
use std::{future::poll_fn, net::IpAddr, rc::Rc, task::Poll};
use tokio::net::TcpStream;

/// What an HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves one client connection to its end.
pub async fn serve(worker: Rc<Worker>, mut stream: TcpStream, peer: IpAddr) {
    let alarm = worker.clock.alarm();
    alarm.set(worker.settings.header_timeout);
    let Some(first) = first(&worker, &mut stream, &alarm).await else {
        return;
    };
    if first.starts_with(PREFACE) {
        h2::serve(&worker, stream, peer, first, alarm).await;
    } else {
        h1::serve(&worker, stream, peer, first, alarm).await;
    }
}

/// The first octets: enough of them to know the protocol. `None` when the client goes or takes too long.
async fn first(worker: &Worker, stream: &mut TcpStream, alarm: &Alarm) -> Option<Bytes> {
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
