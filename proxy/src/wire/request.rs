//! The head of a request: strictly read, classified once, kept as places in its block.

use super::{MAX_HEAD, MAX_LINES, body::Framing, lines, lines::Lines, name::Name};
use crate::error::Failure;
use bytes::Bytes;
use std::mem::MaybeUninit;

/// The methods that mean something to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`: its answer has no body.
    Head,
    /// `OPTIONS`.
    Options,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
    /// `PATCH`.
    Patch,
    /// `TRACE`.
    Trace,
    /// `CONNECT`: refused, this is no forward proxy.
    Connect,
    /// Any other.
    Other,
}

/// Which protocol the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

/// The head of one request, of whichever protocol.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// The client's protocol.
    pub protocol: Protocol,
    /// Its header lines, over the block that also holds method, target and host.
    pub lines: Lines,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the client wants to go on with this connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue`.
    pub expects: bool,
    /// Whether the client asks to go on in another protocol; by HTTP/2 that is WebSocket (RFC 8441).
    pub upgrades: bool,
    /// Whether it is a call of gRPC.
    pub is_grpc: bool,
    method_text: (u16, u16),
    target: (u16, u16),
    host: (u16, u16),
}

impl Method {
    /// The method of a token; upper case, as the registered ones are.
    pub fn of(token: &[u8]) -> Method {
        match token {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"PATCH" => Method::Patch,
            b"TRACE" => Method::Trace,
            b"CONNECT" => Method::Connect,
            _ => Method::Other,
        }
    }

    /// The label value.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Options => "OPTIONS",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Patch => "PATCH",
            Method::Trace => "TRACE",
            Method::Connect => "CONNECT",
            Method::Other => "_OTHER",
        }
    }

    /// All, in the order of their numbers.
    pub const ALL: [Method; 10] = [
        Method::Get,
        Method::Head,
        Method::Options,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Patch,
        Method::Trace,
        Method::Connect,
        Method::Other,
    ];
}

impl Protocol {
    /// The label value.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Http10 => "http/1.0",
            Protocol::Http11 => "http/1.1",
            Protocol::Http2 => "h2",
        }
    }

    /// All, in the order of their numbers.
    pub const ALL: [Protocol; 3] = [Protocol::Http10, Protocol::Http11, Protocol::Http2];
}

/// The parts that a front hands over; offsets lie in the block of the lines.
#[derive(Debug)]
pub struct Parts {
    /// Its header lines.
    pub lines: Lines,
    /// The client's protocol.
    pub protocol: Protocol,
    /// Method, as written.
    pub method: (u16, u16),
    /// Path and query, or `*`.
    pub target: (u16, u16),
    /// The authority, perhaps empty.
    pub host: (u16, u16),
    /// How its body ends.
    pub framing: Framing,
}

impl Request {
    /// A request from its parts.
    pub fn new(parts: Parts) -> Request {
        let mut lines = parts.lines;
        let asked = lines.connection();
        let keep_alive = !asked.close && (asked.keep_alive || parts.protocol != Protocol::Http10);
        Request {
            method: Method::of(lines.part(parts.method.0, parts.method.1)),
            protocol: parts.protocol,
            framing: parts.framing,
            expects: lines.has(Name::Expect) && parts.framing != Framing::Empty,
            upgrades: lines.has(Name::Upgrade) && upgrades(&lines, parts.protocol, parts.framing),
            is_grpc: parts.protocol == Protocol::Http2 && crate::grpc::is(&lines),
            keep_alive,
            lines,
            method_text: parts.method,
            target: parts.target,
            host: parts.host,
        }
    }

    /// As [`Request::take`], but leaves `input` as it is: the head and its length.
    ///
    /// # Errors
    /// Those of [`Request::take`].
    pub fn parse(input: &Bytes) -> Result<Option<(Request, usize)>, Failure> {
        let mut rest = input.clone();
        let head = Request::take(&mut rest)?;
        Ok(head.map(|head| (head, input.len() - rest.len())))
    }

    /// Takes a head of HTTP/1 off the start of `input`. `None`: more octets are needed.
    ///
    /// # Errors
    /// The failure that the client is answered with, before its connection is closed.
    pub fn take(input: &mut Bytes) -> Result<Option<Request>, Failure> {
        Request::take_within(input, MAX_HEAD, MAX_LINES)
    }

    /// As [`Request::take`], at most `size` octets long and with at most `count` lines.
    ///
    /// # Errors
    /// As there.
    pub fn take_within(input: &mut Bytes, size: usize, count: usize) -> Result<Option<Request>, Failure> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_LINES];
        let room = headers.get_mut(..count).unwrap_or_default();
        let mut head = httparse::Request::new(&mut []);
        let parsed = head.parse_with_uninit_headers(input, room).map_err(syntax)?;
        let httparse::Status::Complete(n) = parsed else {
            return if input.len() > size {
                Err(Failure::HeaderTooLarge)
            } else {
                Ok(None)
            };
        };
        if n > size {
            return Err(Failure::HeaderTooLarge);
        }
        let (places, clean) = lines::places(input.get(..n).unwrap_or_default(), head.headers);
        // It ends a line for some readers and not for others.
        if !clean {
            return Err(Failure::Malformed("a line ends in a bare line feed"));
        }
        let (Some(method), Some(path), Some(version)) = (head.method, head.path, head.version) else {
            return Err(Failure::Malformed("the request line is incomplete"));
        };
        let base = input.as_ptr() as usize;
        let place = |text: &str| {
            let start = text.as_ptr() as usize - base;
            (start as u16, (start + text.len()) as u16)
        };
        let (method, path) = (place(method), place(path));
        let lines = places.over(lines::off(input, n), true);
        let protocol = if version == 0 {
            Protocol::Http10
        } else {
            Protocol::Http11
        };
        request(lines, protocol, method, path).map(Some)
    }

    /// The method as written.
    pub fn method_text(&self) -> &[u8] {
        self.lines.part(self.method_text.0, self.method_text.1)
    }

    /// Path and query.
    pub fn target(&self) -> &[u8] {
        self.lines.part(self.target.0, self.target.1)
    }

    /// The host as the client wrote it, perhaps with a port; empty when it named none.
    pub fn host(&self) -> &[u8] {
        self.lines.part(self.host.0, self.host.1)
    }

    /// Whether it may be sent twice: a safe method without a body (RFC 9110, 9.2.1).
    pub fn is_replay_safe(&self) -> bool {
        matches!(self.method, Method::Get | Method::Head | Method::Options) && self.framing == Framing::Empty
    }
}

/// Whether an upgrade is asked of the backend (RFC 9110, 7.8). Not to HTTP/2: what a backend would take in there nobody
/// here reads. Nor with a body: it would be sent before anybody knows in which protocol. Both are answered as if the
/// client had not asked, as anybody may.
fn upgrades(lines: &Lines, protocol: Protocol, framing: Framing) -> bool {
    protocol == Protocol::Http11
        && framing == Framing::Empty
        && lines.connection_names(b"upgrade")
        && !lines
            .of(Name::Upgrade)
            .flat_map(lines::items)
            .any(|p| p.get(..2).is_some_and(|h| h.eq_ignore_ascii_case(b"h2")))
}

/// The rules of one HTTP/1 request that go beyond its syntax.
fn request(
    lines: Lines,
    protocol: Protocol,
    method: (u16, u16),
    path: (u16, u16),
) -> Result<Request, Failure> {
    let framing = framing(&lines, protocol)?;
    expectation(&lines)?;
    let word = lines.part(method.0, method.1);
    if word == b"CONNECT" {
        return Err(Failure::Connect);
    }
    let (target, host) = target(&lines, word, path, host(&lines, protocol)?)?;
    Ok(Request::new(Parts {
        lines,
        protocol,
        method,
        target,
        host,
        framing,
    }))
}

/// Nothing else can be expected of us (RFC 9110, 10.1.1).
///
/// # Errors
/// When something else is.
pub fn expectation(lines: &Lines) -> Result<(), Failure> {
    let known = |v: &[u8]| v.eq_ignore_ascii_case(b"100-continue");
    match lines.has(Name::Expect) && !lines.of(Name::Expect).all(known) {
        true => Err(Failure::Expectation),
        false => Ok(()),
    }
}

fn syntax(e: httparse::Error) -> Failure {
    match e {
        httparse::Error::TooManyHeaders => Failure::HeaderTooLarge,
        httparse::Error::Version => Failure::Version,
        httparse::Error::HeaderName => Failure::Malformed("a header name is malformed"),
        httparse::Error::HeaderValue => Failure::Malformed("a header value is malformed"),
        _ => Failure::Malformed("the request line is malformed"),
    }
}

fn framing(lines: &Lines, protocol: Protocol) -> Result<Framing, Failure> {
    let length = lines::content_length(lines).map_err(Failure::Malformed)?;
    if !lines.has(Name::TransferEncoding) {
        return Ok(match length {
            None | Some(0) => Framing::Empty,
            Some(n) => Framing::Length(n),
        });
    }
    if protocol == Protocol::Http10 {
        return Err(Failure::Malformed("transfer-encoding in HTTP/1.0"));
    }
    if length.is_some() {
        return Err(Failure::Malformed("both content-length and transfer-encoding"));
    }
    lines::chunked(lines).map_err(Failure::Malformed)?;
    Ok(Framing::Chunked)
}

/// Exactly one `host` line in HTTP/1.1 (RFC 9112, 3.2), at most one in 1.0.
fn host(lines: &Lines, protocol: Protocol) -> Result<&[u8], Failure> {
    let mut hosts = lines.of(Name::Host);
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Err(Failure::Malformed("several host lines")),
        (Some(host), None) if is_authority(host) => Ok(host),
        (Some(_), None) => Err(Failure::Malformed("the host line is malformed")),
        (None, _) if protocol == Protocol::Http10 => Ok(&[]),
        (None, _) => Err(Failure::Malformed("there is no host line")),
    }
}

/// Octets that a host with a port may hold; user names are refused.
pub fn is_authority(text: &[u8]) -> bool {
    text.len() <= 255 && text.iter().all(|b| AUTHORITY[usize::from(*b)])
}

/// Which octets they are (RFC 3986, 3.2.2).
const AUTHORITY: [bool; 256] = {
    let mut table = [false; 256];
    let marks = b"-._~%!$&'()*+,;=:[]";
    let mut i = 0;
    while i < marks.len() {
        table[marks[i] as usize] = true;
        i += 1;
    }
    let mut b = 0;
    while b < 256 {
        table[b] |= (b as u8).is_ascii_alphanumeric();
        b += 1;
    }
    table
};

type Place = (u16, u16);

/// Origin form, or absolute form whose authority agrees with the host line, or `*` of OPTIONS (RFC 9112, 3.2).
fn target(lines: &Lines, method: &[u8], path: Place, host: &[u8]) -> Result<(Place, Place), Failure> {
    let text = lines.part(path.0, path.1);
    let host_place = lines.place_of(host);
    if memchr::memchr(b'#', text).is_some() {
        return Err(Failure::Malformed("the target has a fragment"));
    }
    if text.first() == Some(&b'/') || text == b"*" && method == b"OPTIONS" {
        return Ok((path, host_place));
    }
    let Some(start) = scheme(text) else {
        return Err(Failure::Malformed("the target is neither a path nor an URL"));
    };
    let rest = text.get(start..).unwrap_or_default();
    let end = rest
        .iter()
        .position(|b| *b == b'/' || *b == b'?')
        .unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    if !is_authority(authority) || authority.is_empty() {
        return Err(Failure::Malformed("the authority of the target is malformed"));
    }
    if !host.is_empty() && !host.eq_ignore_ascii_case(authority) {
        return Err(Failure::Malformed("host and target disagree"));
    }
    let from = path.0 + start as u16;
    Ok(((from + end as u16, path.1), (from, from + end as u16)))
}

fn scheme(target: &[u8]) -> Option<usize> {
    ["http://", "https://"]
        .iter()
        .find(|s| {
            target
                .get(..s.len())
                .is_some_and(|t| t.eq_ignore_ascii_case(s.as_bytes()))
        })
        .map(|s| s.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Request, Failure> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        Request::parse(&bytes).map(|r| r.expect("complete").0)
    }

    #[test]
    fn reads_a_plain_request() {
        let r = parse("GET /a?b=c HTTP/1.1\r\nHost: Shop.example:80\r\nAccept: */*\r\n\r\n").unwrap();
        assert_eq!(
            (r.method, r.target(), r.host()),
            (Method::Get, &b"/a?b=c"[..], &b"Shop.example:80"[..])
        );
        assert!(r.keep_alive && r.is_replay_safe());
    }

    #[test]
    fn an_absolute_target_names_the_host() {
        let r = parse("GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        assert_eq!((r.target(), r.host()), (&b"/x?y"[..], &b"a.example"[..]));
        let r = parse("GET http://a.example HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        assert_eq!(r.target(), b"");
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /#f HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "G T / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert!(parse(head).is_err(), "{head:?}");
        }
    }

    #[test]
    fn a_nominated_header_is_hop_by_hop_unless_it_routes_or_forwards() {
        let r = parse(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-a, X-Forwarded-For, cookie\r\nX-A: 1\r\nX-Forwarded-For: 2\r\nCookie: c=d\r\n\r\n",
        )
        .unwrap();
        let classes: Vec<_> = r.lines.iter().map(|(c, ..)| c).collect();
        assert_eq!(
            classes,
            [
                Name::Host,
                Name::Connection,
                Name::Nominated,
                Name::ForwardedFor,
                Name::Cookie
            ]
        );
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        for (head, keep) in [
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ] {
            assert_eq!(parse(head).unwrap().keep_alive, keep, "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_a_head_or_a_failure(octets: Vec<u8>, head in "(GET|POST|X) [ -~]{0,40} HTTP/1.[01]\r\n([ -~]{0,30}\r?\n){0,5}\r\n") {
            let _ = Request::parse(&Bytes::from(octets));
            let _ = Request::parse(&Bytes::from(head));
        }
    }
}
