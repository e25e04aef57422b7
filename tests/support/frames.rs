//! HTTP/2 octet by octet, for clients that break its rules (RFC 9113).
#![allow(dead_code)] // each test binary uses its part

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const PROTOCOL_ERROR: u32 = 1;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame as it came.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a GOAWAY or a RST_STREAM.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header field, literal, not indexed, not compressed (RFC 7541, 6.2.2).
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0][..], &text(name), &text(value)].concat()
}

fn text(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut n = text.len();
    if n < 127 {
        out.push(n as u8);
    } else {
        out.push(127);
        n -= 127;
        while n >= 128 {
            out.push((n % 128 + 128) as u8);
            n /= 128;
        }
        out.push(n as u8);
    }
    out.extend(text);
    out
}

/// The header block of a plain GET.
pub fn get(path: &str) -> Vec<u8> {
    request(b"GET", path)
}

pub fn request(method: &[u8], path: &str) -> Vec<u8> {
    [
        field(b":method", method),
        field(b":scheme", b"http"),
        field(b":path", path.as_bytes()),
        field(b":authority", b"a"),
    ]
    .concat()
}

pub fn window_update(stream: u32, n: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &n.to_be_bytes())
}

pub fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())
}

pub fn setting(id: u16, value: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A connection on which anything may be said.
pub struct Raw {
    pub stream: TcpStream,
    /// Read and not yet cut into frames.
    left: Vec<u8>,
}

impl Raw {
    /// Preface and settings are sent.
    pub fn connect(to: SocketAddr, settings: &[u8]) -> Raw {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, settings)).unwrap();
        Raw {
            stream,
            left: Vec::new(),
        }
    }

    /// # Errors
    /// When the other side has closed, or takes nothing for five seconds.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets)
    }

    /// The next frame within this time; settings are acknowledged. `None` at the end, and when nothing comes.
    pub fn next(&mut self, patience: Duration) -> Option<Frame> {
        self.stream.set_read_timeout(Some(patience)).unwrap();
        loop {
            if let Some(frame) = self.cut() {
                if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                    let _ = self.send(&self::frame(SETTINGS, ACK, 0, &[]));
                }
                return Some(frame);
            }
            let mut more = [0; 16 * 1024];
            match self.stream.read(&mut more) {
                Ok(n) if n > 0 => self.left.extend(&more[..n]),
                _ => return None,
            }
        }
    }

    fn cut(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.left.get(..9)?.try_into().ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if self.left.len() < 9 + length {
            return None;
        }
        let payload = self.left[9..9 + length].to_vec();
        self.left.drain(..9 + length);
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5] & 127, head[6], head[7], head[8]]),
            payload,
        })
    }

    /// The first frame for which it holds, within this time.
    pub fn find(&mut self, patience: Duration, holds: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let end = std::time::Instant::now() + patience;
        while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
            let frame = self.next(left.max(Duration::from_millis(1)))?;
            if holds(&frame) {
                return Some(frame);
            }
        }
        None
    }

    /// Whether the other side has closed, within this time.
    pub fn is_closed(&mut self, patience: Duration) -> bool {
        let end = std::time::Instant::now() + patience;
        while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
            self.stream
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))
                .unwrap();
            match self.stream.read(&mut [0; 4096]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => {
                    return !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                }
            }
        }
        false
    }
}
