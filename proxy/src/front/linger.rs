//! The end of a connection with something of the client's unread.

use crate::{clock::Alarm, wire::reader};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// How long a client may be silent, how long it may go on, and how much it may send, after it was told to go. The time
/// is for the slow upload of a client that reads only when it has written; the octets for one that sends as fast as it
/// can: they are less than a second's work, and few uploads are longer.
const SILENCE: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(30);
const MOST: usize = 64 * 1024 * 1024;

/// Ends our side, and reads what the client still sends: closing with something unread resets the connection, and an
/// answer that still lies in the client's buffers would be lost with it (RFC 9112, 9.6).
pub async fn linger(socket: &mut (impl AsyncRead + AsyncWrite + Unpin), alarm: &Alarm) {
    let begun = Instant::now();
    alarm.set(SILENCE);
    let ended = poll_fn(|cx| match Pin::new(&mut *socket).poll_shutdown(cx) {
        Poll::Pending if alarm.rings(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        ended => ended,
    });
    if ended.await.is_err() {
        return;
    }
    let mut read = 0;
    while read < MOST && begun.elapsed() < LONGEST {
        let more = poll_fn(|cx| match reader::poll_read(socket, cx) {
            Poll::Ready(more) => Poll::Ready(more.map_or(0, |m| m.len())),
            Poll::Pending if alarm.rings(cx) => Poll::Ready(0),
            Poll::Pending => Poll::Pending,
        });
        match more.await {
            0 => return,
            n => read += n,
        }
        alarm.set(SILENCE);
    }
}
