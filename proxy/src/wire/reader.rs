//! Reading through one scratch buffer a thread: an idle connection holds no buffer. Much is handed on without a copy;
//! little is copied, because a request that takes hours must not hold the buffer of all others.

use bytes::{BufMut, Bytes, BytesMut};
use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Size of the scratch buffer. Large bodies move this much a system call.
const SCRATCH: usize = 256 * 1024;
/// What is read for somebody of whom it is not known yet that he takes it fast. Doubled with each read until he waits.
pub const FIRST: usize = SCRATCH / 4;
/// Up to here what was read is copied: at least a thirty-second part of a buffer that is held is in use.
const LITTLE: usize = 8 * 1024;
/// Least room for one read; below it a new buffer is begun.
const ROOM: usize = 16 * 1024;

thread_local! {
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// One read; empty at the end of the stream.
///
/// # Errors
/// Those of the socket.
pub fn poll_read(from: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    poll_read_up_to(from, SCRATCH, cx)
}

/// As [`poll_read`], at most so much: what is read for somebody who takes it slowly is held until then.
///
/// # Errors
/// Those of the socket.
pub fn poll_read_up_to(
    from: &mut (impl AsyncRead + Unpin),
    most: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.capacity() - buffer.len() < ROOM {
            buffer.reserve(SCRATCH);
        }
        ready!(pin!(from.read_buf(&mut (&mut *buffer).limit(most))).poll(cx))?;
        if buffer.len() > LITTLE {
            return Poll::Ready(Ok(buffer.split().freeze()));
        }
        let little = Bytes::copy_from_slice(buffer);
        buffer.clear();
        Poll::Ready(Ok(little))
    })
}

/// `more` behind what is left: the copy is made only when a message did not come in one piece.
pub fn join(left: &Bytes, more: Bytes) -> Bytes {
    if left.is_empty() {
        return more;
    }
    let mut both = BytesMut::with_capacity((left.len() + more.len()).next_power_of_two());
    both.extend_from_slice(left);
    both.extend_from_slice(&more);
    both.freeze()
}
