//! Bodies: where one ends, read strictly (RFC 9112, 6 and 7).

use super::lines::{self, Lines};
use bytes::{Buf, Bytes};

/// Longest chunk extension: nobody uses them, and they must not hide anything.
const MAX_EXTENSION: u32 = 256;
/// Longest trailer section.
const MAX_TRAILERS: usize = 8 * 1024;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// After so many octets.
    Length(u64),
    /// In chunks.
    Chunked,
    /// When the connection ends; answers only.
    Close,
    /// No body: after the head both sides speak another protocol.
    Tunnel,
}

/// What came out of a decoder.
#[derive(Debug)]
pub enum Step {
    /// Some of the body.
    Data(Bytes),
    /// The body has ended, with these trailers.
    End(Option<Lines>),
    /// More octets are needed.
    More,
}

/// Reads one body.
#[derive(Debug)]
pub enum Decoder {
    /// So many octets are left.
    Length(u64),
    /// In the middle of chunks.
    Chunked(Chunk),
    /// Until the connection ends.
    Close,
}

/// Where in the chunked syntax.
#[derive(Debug)]
pub enum Chunk {
    /// In the size: value and digits so far.
    Size(u64, u32),
    /// In the extension, so many octets; the size waits.
    Extension(u64, u32),
    /// At the line feed after a size.
    SizeEnd(u64),
    /// In the data, so many octets to go.
    Data(u64),
    /// At the carriage return after the data.
    DataEnd,
    /// At the line feed after the data.
    DataFeed,
    /// In the trailer section, gathered so far.
    Trailer(Vec<u8>),
    /// Past the end.
    Done,
}

impl Decoder {
    /// A decoder for this framing.
    pub fn new(framing: Framing) -> Decoder {
        match framing {
            Framing::Empty => Decoder::Length(0),
            Framing::Length(n) => Decoder::Length(n),
            Framing::Chunked => Decoder::Chunked(Chunk::Size(0, 0)),
            Framing::Close | Framing::Tunnel => Decoder::Close,
        }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        matches!(self, Decoder::Length(0) | Decoder::Chunked(Chunk::Done))
    }

    /// Whether the end of the connection is the end of the body.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self, Decoder::Close)
    }

    /// Takes the next part of the body off `input`; never reads past its end.
    ///
    /// # Errors
    /// A sentence when the chunked syntax is violated.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Step, &'static str> {
        match self {
            Decoder::Length(0) => Ok(Step::End(None)),
            _ if input.is_empty() => Ok(Step::More),
            Decoder::Length(left) => Ok(Step::Data(take(input, left))),
            Decoder::Close => Ok(Step::Data(std::mem::take(input))),
            Decoder::Chunked(chunk) => chunk.decode(input),
        }
    }
}

/// Takes at most `left` octets off `input`, and counts them.
fn take(input: &mut Bytes, left: &mut u64) -> Bytes {
    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= n as u64;
    if n == input.len() {
        std::mem::take(input)
    } else {
        input.split_to(n)
    }
}

impl Chunk {
    fn decode(&mut self, input: &mut Bytes) -> Result<Step, &'static str> {
        loop {
            if let Chunk::Data(left) = self {
                let data = take(input, left);
                if *left == 0 {
                    *self = Chunk::DataEnd;
                }
                return Ok(Step::Data(data));
            }
            if let Chunk::Done = self {
                return Ok(Step::End(None));
            }
            let Some(octet) = input.first().copied() else {
                return Ok(Step::More);
            };
            input.advance(1);
            if let Some(trailers) = self.octet(octet)? {
                *self = Chunk::Done;
                return Ok(Step::End(trailers));
            }
            if input.is_empty() {
                return Ok(Step::More);
            }
        }
    }

    /// One octet of syntax; `Some` at the end of the body.
    fn octet(&mut self, octet: u8) -> Result<Option<Option<Lines>>, &'static str> {
        *self = match (&mut *self, octet) {
            (Chunk::Size(n, digits), b) if b.is_ascii_hexdigit() => Chunk::size(*n, *digits, b)?,
            (Chunk::Size(n, 1..), b'\r') | (Chunk::Extension(n, _), b'\r') => Chunk::SizeEnd(*n),
            (Chunk::Size(n, 1..), b';') => Chunk::Extension(*n, 0),
            (Chunk::Extension(n, length), b)
                if (b == b'\t' || b >= b' ') && b != 0x7f && *length < MAX_EXTENSION =>
            {
                Chunk::Extension(*n, *length + 1)
            }
            (Chunk::SizeEnd(0), b'\n') => Chunk::Trailer(Vec::new()),
            (Chunk::SizeEnd(n), b'\n') => Chunk::Data(*n),
            (Chunk::DataEnd, b'\r') => Chunk::DataFeed,
            (Chunk::DataFeed, b'\n') => Chunk::Size(0, 0),
            (Chunk::Trailer(gathered), b) => return trailer(gathered, b),
            _ => return Err("the chunked syntax is violated"),
        };
        Ok(None)
    }

    fn size(n: u64, digits: u32, octet: u8) -> Result<Chunk, &'static str> {
        if digits >= 15 {
            return Err("a chunk size has too many digits");
        }
        let digit = (octet as char).to_digit(16).unwrap_or_default();
        Ok(Chunk::Size(n << 4 | u64::from(digit), digits + 1))
    }
}

/// One octet of the trailer section.
fn trailer(gathered: &mut Vec<u8>, octet: u8) -> Result<Option<Option<Lines>>, &'static str> {
    gathered.push(octet);
    if gathered.len() > MAX_TRAILERS {
        return Err("the trailer section is too long");
    }
    if octet != b'\n' {
        return Ok(None);
    }
    if !gathered.ends_with(b"\r\n") {
        return Err("a trailer line ends in a bare line feed");
    }
    if gathered.len() == 2 {
        return Ok(Some(None));
    }
    if !gathered.ends_with(b"\r\n\r\n") {
        return Ok(None);
    }
    parse_trailers(std::mem::take(gathered)).map(|t| Some(Some(t)))
}

fn parse_trailers(section: Vec<u8>) -> Result<Lines, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; super::MAX_LINES];
    match httparse::parse_headers(&section, &mut headers) {
        Ok(httparse::Status::Complete((_, found))) => {
            let (places, clean) = lines::places(&section, found);
            Ok(places.over(section.into(), clean))
        }
        _ => Err("a trailer line is malformed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Body and trailers of `text`, fed in pieces of `n` octets; the rest is returned too.
    fn read(framing: Framing, text: &[u8], n: usize) -> Result<(Vec<u8>, usize, Vec<u8>), &'static str> {
        let mut decoder = Decoder::new(framing);
        let (mut body, mut trailers) = (Vec::new(), 0);
        let mut pieces = text.chunks(n);
        let mut input = Bytes::new();
        loop {
            match decoder.decode(&mut input)? {
                Step::Data(d) => body.extend_from_slice(&d),
                Step::End(t) => {
                    trailers += t.map_or(0, |t| t.len());
                    let rest = pieces.fold(input.to_vec(), |mut r, p| {
                        r.extend_from_slice(p);
                        r
                    });
                    return Ok((body, trailers, rest));
                }
                Step::More => match pieces.next() {
                    Some(p) => input = Bytes::copy_from_slice(p),
                    None => return Err("ended early"),
                },
            }
        }
    }

    #[test]
    fn chunks_and_trailers_are_read_in_pieces_of_any_size() {
        let text = b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nx-sum: 1\r\nx-b: 2\r\n\r\nGET /";
        for n in 1..text.len() {
            let (body, trailers, rest) = read(Framing::Chunked, text, n).unwrap();
            assert_eq!(
                (body.as_slice(), trailers, rest.as_slice()),
                (&b"hello world"[..], 2, &b"GET /"[..]),
                "{n}"
            );
        }
    }

    #[test]
    fn a_length_ends_where_it_says() {
        for n in 1..8 {
            let (body, _, rest) = read(Framing::Length(5), b"helloGET /", n).unwrap();
            assert_eq!((body.as_slice(), rest.as_slice()), (&b"hello"[..], &b"GET /"[..]));
        }
    }

    #[test]
    fn odd_chunk_syntax_is_refused() {
        for text in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            ";a\r\nhello\r\n0\r\n\r\n",
            "5;\x01\r\nhello\r\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "5\rX\nhello\r\n0\r\n\r\n",
            "1000000000000000\r\n",
            "0\r\nbad trailer\r\n\r\n",
            "0\r\na: b\n\r\n",
            "0\r\n\n",
            "-1\r\n",
            "g\r\n",
        ] {
            for n in [1, 3, 100] {
                let e = read(Framing::Chunked, text.as_bytes(), n).unwrap_err();
                assert_ne!(e, "ended early", "{text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_a_body_or_a_fault(text: Vec<u8>, n in 1usize..20) {
            let _ = read(Framing::Chunked, &text, n);
        }
    }
}
