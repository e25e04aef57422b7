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

/// How long a client may be silent, and how long it may go on, after it was told to go: the time of a slow upload whose
/// client reads only when it has written.
const SILENCE: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(30);

/// Ends our side, and reads what the client still sends: closing with something unread resets the connection, and an
/// answer that still lies in the client's buffers would be lost with it (RFC 9112, 9.6). At most `most` octets: who sends
/// as fast as it can is not to be read for as long as it can.
pub async fn linger(socket: &mut (impl AsyncRead + AsyncWrite + Unpin), alarm: &Alarm, most: usize) {
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
    while read < most && begun.elapsed() < LONGEST {
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
