//! Header lines that did not come as text, laid out as HTTP/1 has them; and the way back.

use super::{
    MAX_HEAD, MAX_LINES,
    lines::{Lines, Places},
    name::Name,
};
use crate::error::Failure;
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Room for the text of most messages.
const USUAL: usize = 512;

/// Header lines laid out in one block.
#[derive(Debug)]
pub struct Block {
    text: BytesMut,
    places: Places,
    count: usize,
    /// Most octets and lines.
    room: usize,
    lines: usize,
}

impl Default for Block {
    fn default() -> Block {
        Block::within(MAX_HEAD, MAX_LINES)
    }
}

impl Block {
    /// A block of at most so many octets and lines.
    pub fn within(room: usize, lines: usize) -> Block {
        Block {
            text: BytesMut::with_capacity(USUAL.min(room)),
            places: Places::with_capacity(lines.min(16)),
            count: 0,
            room: room.min(MAX_HEAD),
            lines: lines.min(MAX_LINES),
        }
    }

    /// Adds text, and says where it stands.
    ///
    /// # Errors
    /// When the block becomes too large.
    pub fn text(&mut self, text: &[u8]) -> Result<(u16, u16), Failure> {
        let start = self.text.len();
        if start + text.len() > self.room {
            return Err(Failure::HeaderTooLarge);
        }
        self.text.extend_from_slice(text);
        Ok((start as u16, self.text.len() as u16))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// When the block becomes too large, or has too many lines.
    pub fn line(&mut self, name: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.count += 1;
        if self.count > self.lines {
            return Err(Failure::HeaderTooLarge);
        }
        let (n, _) = self.text(name)?;
        self.text(b": ")?;
        let (v, _) = self.text(value)?;
        self.text(b"\r\n")?;
        self.places
            .push(Name::of(name), n.into(), name.len(), v.into(), value.len());
        Ok(())
    }

    /// HTTP/2 may split cookies over lines; HTTP/1 must have them in one (RFC 9113, 8.2.3).
    ///
    /// # Errors
    /// As for a line.
    pub fn cookies(&mut self, headers: &HeaderMap) -> Result<(), Failure> {
        let crumbs: Vec<&[u8]> = headers
            .get_all(header::COOKIE)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        if crumbs.is_empty() {
            return Ok(());
        }
        self.line(b"cookie", &crumbs.join(&b"; "[..]))
    }

    /// The lines.
    pub fn done(mut self) -> Lines {
        self.text.extend_from_slice(b"\r\n");
        self.places.over(self.text.freeze(), true)
    }
}

/// All lines of a map.
///
/// # Errors
/// When they are too many or too long.
pub fn lines(headers: &HeaderMap) -> Result<Lines, Failure> {
    let mut block = Block::default();
    for (name, value) in headers {
        block.line(name.as_str().as_bytes(), value.as_bytes())?;
    }
    let mut lines = block.done();
    lines.connection();
    Ok(lines)
}

/// The lines whose class passes, as a map. A line that HTTP/2 cannot say is left out.
pub fn map(lines: &Lines, passes: impl Fn(Name) -> bool) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(lines.len() + 2);
    for (_, name, value) in lines.shared().filter(|(class, ..)| passes(*class)) {
        let value = HeaderValue::from_maybe_shared(value);
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            map.append(name, value);
        }
    }
    map
}
