//! The head of a backend's answer.

use super::{MAX_HEAD, MAX_LINES, body::Framing, lines, lines::Lines, name::Name};
use crate::error::Failure;
use bytes::Bytes;
use std::mem::MaybeUninit;

/// The head of one answer.
#[derive(Debug)]
pub struct Head {
    /// 200 to 599, or an interim status that is skipped.
    pub status: u16,
    /// Its header lines.
    pub lines: Lines,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the backend goes on with this connection.
    pub keep_alive: bool,
}

impl Head {
    /// As [`Head::take`], but leaves `input` as it is: the head and its length.
    ///
    /// # Errors
    /// Those of [`Head::take`].
    pub fn parse(input: &Bytes, to_head: bool) -> Result<Option<(Head, usize)>, Failure> {
        let mut rest = input.clone();
        let head = Head::take(&mut rest, to_head)?;
        Ok(head.map(|head| (head, input.len() - rest.len())))
    }

    /// Takes a head off the start of `input`. `None`: more octets are needed.
    /// `to_head`: whether it answers a HEAD request, which has no body whatever it says.
    ///
    /// # Errors
    /// A failure of the backend that says which rule it broke.
    pub fn take(input: &mut Bytes, to_head: bool) -> Result<Option<Head>, Failure> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_LINES];
        let mut head = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut head, input, &mut headers)
            .map_err(|_| Failure::BadHead("it is no HTTP/1.1 answer"))?;
        let httparse::Status::Complete(n) = parsed else {
            return if input.len() > MAX_HEAD {
                Err(Failure::BadHead("it is too long"))
            } else {
                Ok(None)
            };
        };
        if n > MAX_HEAD {
            return Err(Failure::BadHead("it is too long"));
        }
        let (status, old) = (head.code.unwrap_or(0), head.version == Some(0));
        let (places, clean) = lines::places(input.get(..n).unwrap_or_default(), head.headers);
        let mut lines = places.over(lines::off(input, n), clean);
        let asked = lines.connection();
        let framing = framing(&lines, status, old, to_head).map_err(Failure::BadHead)?;
        let keep_alive = if old {
            asked.keep_alive && framing != Framing::Close
        } else {
            !asked.close
        };
        let head = Head {
            status,
            framing,
            keep_alive,
            lines,
        };
        Ok(Some(head))
    }
}

/// RFC 9112, 6.3.
fn framing(lines: &Lines, status: u16, old: bool, to_head: bool) -> Result<Framing, &'static str> {
    let length = lines::content_length(lines)?;
    let chunked = lines::chunked(lines)?;
    if chunked && length.is_some() {
        return Err("both content-length and transfer-encoding");
    }
    if chunked && old {
        return Err("transfer-encoding in HTTP/1.0");
    }
    match status {
        101 if lines.has(Name::Upgrade) => Ok(Framing::Tunnel),
        101 => Err("it switches to no protocol"),
        100..=199 | 204 | 304 => Ok(Framing::Empty),
        200..=599 if to_head => Ok(Framing::Empty),
        200..=599 => Ok(match length {
            _ if chunked => Framing::Chunked,
            Some(0) => Framing::Empty,
            Some(n) => Framing::Length(n),
            None => Framing::Close,
        }),
        _ => Err("its status is not between 100 and 599"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Option<(Head, usize)>, Failure> {
        Head::parse(&Bytes::copy_from_slice(text.as_bytes()), false)
    }

    #[test]
    fn framing_follows_the_rules() {
        for (text, framing, keep) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                Framing::Length(5),
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Framing::Chunked,
                true,
            ),
            ("HTTP/1.1 200\r\n\r\n", Framing::Close, true),
            (
                "HTTP/1.1 204 No\r\nConnection: close\r\n\r\n",
                Framing::Empty,
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n",
                Framing::Length(1),
                false,
            ),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\n",
                Framing::Length(1),
                true,
            ),
            (
                "HTTP/1.1 304 N\r\nContent-Length: 9\r\n\r\n",
                Framing::Empty,
                true,
            ),
        ] {
            let (head, n) = parse(text).unwrap().unwrap();
            assert_eq!(
                (head.framing, head.keep_alive, n),
                (framing, keep, text.len()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn malformed_answers_are_refused() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 101 Switch\r\n\r\n",
            "HTTP/1.1 099 Low\r\n\r\n",
            "HTTP/1.1 999 High\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_a_head_or_a_failure(octets: Vec<u8>, to_head: bool) {
            let _ = Head::take(&mut Bytes::from(octets), to_head);
        }
    }
}
