//! What waits to be written to a socket: text that we made, and one piece of a body that we pass on uncopied.

use bytes::{Buf, Bytes};
use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::AsyncWrite;

/// Up to here a copy is cheaper than a second vector.
const SMALL: usize = 4096;
/// Most spare buffers a thread keeps, and the largest that is kept.
const SPARES: usize = 128;
const SPARE_SIZE: usize = 16 * 1024;
/// Room for most heads, so that one that is written into a new buffer does not move it as it grows.
const USUAL: usize = 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Octets on their way out, in order: text, data, tail.
#[derive(Debug)]
pub struct Outbox {
    text: Vec<u8>,
    at: usize,
    data: Bytes,
    tail: &'static [u8],
    /// The socket has taken octets that it may still hold: TLS seals more than the kernel takes.
    held: bool,
}

impl Default for Outbox {
    /// Takes a spare buffer, if there is one.
    fn default() -> Outbox {
        Outbox {
            text: SPARE
                .with_borrow_mut(Vec::pop)
                .unwrap_or_else(|| Vec::with_capacity(USUAL)),
            at: 0,
            data: Bytes::new(),
            tail: &[],
            held: false,
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        if text.capacity() == 0 || text.capacity() > SPARE_SIZE {
            return;
        }
        text.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARES {
                spare.push(text);
            }
        });
    }
}

impl Outbox {
    /// The text, to add to; only while no data waits.
    pub fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Whether nothing waits, here or in the socket.
    pub fn is_empty(&self) -> bool {
        self.is_taken() && !self.held
    }

    fn is_taken(&self) -> bool {
        self.at == self.text.len() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Whether another piece may be added behind what waits.
    pub fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty()
    }

    /// Begins the text again from its first octet: to send a request a second time.
    pub fn rewind(&mut self) {
        self.at = 0;
    }

    /// All of the text, written or not.
    pub fn all(&self) -> &[u8] {
        &self.text
    }

    /// Counts all of the text as written.
    pub fn skip(&mut self) {
        self.at = self.text.len();
    }

    /// Adds a piece of a body as it is.
    pub fn plain(&mut self, data: Bytes) {
        self.put(data, &[]);
    }

    /// Adds a piece of a body as one chunk; an empty one would end the body and is left out.
    pub fn chunk(&mut self, data: Bytes) {
        if !data.is_empty() {
            hex(data.len(), &mut self.text);
            self.put(data, b"\r\n");
        }
    }

    fn put(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= SMALL {
            self.text.extend_from_slice(&data);
            self.text.extend_from_slice(tail);
        } else {
            (self.data, self.tail) = (data, tail);
        }
    }

    /// Writes until nothing waits.
    ///
    /// # Errors
    /// Those of the socket; a socket that takes nothing is broken.
    pub fn poll_flush(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_taken() {
            let text = self.text.get(self.at..).unwrap_or_default();
            let n = if self.data.is_empty() && self.tail.is_empty() {
                ready!(Pin::new(&mut *to).poll_write(cx, text))?
            } else {
                let parts = [
                    IoSlice::new(text),
                    IoSlice::new(&self.data),
                    IoSlice::new(self.tail),
                ];
                ready!(Pin::new(&mut *to).poll_write_vectored(cx, &parts))?
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held = true;
            self.advance(n);
        }
        ready!(Pin::new(to).poll_flush(cx))?;
        self.held = false;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut n: usize) {
        let of_text = n.min(self.text.len() - self.at);
        self.at += of_text;
        n -= of_text;
        let of_data = n.min(self.data.len());
        self.data.advance(of_data);
        n -= of_data;
        self.tail = self.tail.get(n..).unwrap_or_default();
    }

    /// Forgets what has been written, to make room for more text.
    pub fn clear(&mut self) {
        self.text.clear();
        self.at = 0;
    }
}

/// `n` in hexadecimal and the end of the line.
fn hex(n: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - n.leading_zeros()).div_ceil(4).max(1);
    for i in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(n >> (i * 4)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// `n` in decimal.
pub fn decimal(mut n: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_do() {
        for n in [0, 1, 9, 10, 255, 65_536, 1_234_567] {
            let mut out = Vec::new();
            decimal(n as u64, &mut out);
            hex(n, &mut out);
            assert_eq!(out, format!("{n}{n:x}\r\n").as_bytes());
        }
    }
}
