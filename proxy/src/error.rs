//! What can go wrong with a request: whose fault, which kind, what the client is told. One enum for all of it.

use contract::names::Side;
use std::{fmt, io};

/// Why a request did not get the answer of its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request breaks the rules of HTTP; the text says which.
    Malformed(&'static str),
    /// Its header section is longer, or has more lines, than the limits allow.
    HeaderTooLarge,
    /// Its header did not arrive in time.
    HeaderTimeout,
    /// Its version is not HTTP/1.0, 1.1 or 2.
    Version,
    /// It expects something that is not `100-continue`.
    Expectation,
    /// It is a CONNECT.
    Connect,
    /// No service answers to its host.
    NoRoute,
    /// It has passed this proxy before.
    Loop,
    /// The client went away.
    Cancelled,
    /// The client broke off its body, or did not send it in time.
    Upload,
    /// Too many connections.
    Overload,
    /// No track that may serve has an endpoint.
    NoEndpoints,
    /// All endpoints have as many requests as they may, and waiting did not help.
    Saturated,
    /// The endpoint could not be connected to.
    Refused,
    /// Connecting took too long.
    ConnectTimeout,
    /// The connection broke before the head of the answer.
    Reset,
    /// The head of the answer did not come in time.
    Timeout,
    /// The head of the answer breaks the rules of HTTP.
    BadHead(&'static str),
    /// The body of the answer broke off.
    BodyReset,
    /// The body of the answer stood still for too long.
    BodyTimeout,
    /// The body of the answer breaks the rules of HTTP.
    BadBody(&'static str),
    /// The endpoint has not processed the request, and said so (RFC 9113, 8.7).
    Unprocessed,
    /// Too many HTTP/2 frames beside requests.
    Flood,
    /// Too many requests at once, or a worker that is late.
    Shed,
    /// The client's TLS handshake failed, or it spoke no TLS where TLS is spoken.
    Handshake,
    /// The connection does not begin with the PROXY protocol header that it must begin with; the text says why.
    ProxyProtocol(&'static str),
    /// The endpoint's TLS handshake failed: its certificate is not trusted, or it wants another one of us.
    Tls,
    /// The endpoint answered well, but not in the protocol that was asked for, and the client would take it for that.
    NotSwitched,
}

/// The kinds, in the order of their counters.
pub const KINDS: [(Side, &str); 28] = [
    (Side::Client, "malformed"),
    (Side::Client, "header_too_large"),
    (Side::Client, "header_timeout"),
    (Side::Client, "version"),
    (Side::Client, "expectation"),
    (Side::Client, "connect_method"),
    (Side::Client, "no_route"),
    (Side::Client, "loop"),
    (Side::Client, "cancel"),
    (Side::Client, "upload"),
    (Side::Proxy, "overload"),
    (Side::Backend, "no_endpoints"),
    (Side::Backend, "connect"),
    (Side::Backend, "connect_timeout"),
    (Side::Backend, "reset"),
    (Side::Backend, "timeout"),
    (Side::Backend, "malformed_head"),
    (Side::Backend, "body_reset"),
    (Side::Backend, "body_timeout"),
    (Side::Backend, "malformed_body"),
    (Side::Backend, "unprocessed"),
    (Side::Client, "flood"),
    (Side::Proxy, "shed"),
    (Side::Backend, "saturated"),
    (Side::Client, "tls"),
    (Side::Client, "proxy_protocol"),
    (Side::Backend, "tls"),
    (Side::Client, "not_switched"),
];

impl Failure {
    /// Index into [`KINDS`].
    pub const fn index(self) -> usize {
        match self {
            Failure::Malformed(_) => 0,
            Failure::HeaderTooLarge => 1,
            Failure::HeaderTimeout => 2,
            Failure::Version => 3,
            Failure::Expectation => 4,
            Failure::Connect => 5,
            Failure::NoRoute => 6,
            Failure::Loop => 7,
            Failure::Cancelled => 8,
            Failure::Upload => 9,
            Failure::Overload => 10,
            Failure::NoEndpoints => 11,
            Failure::Refused => 12,
            Failure::ConnectTimeout => 13,
            Failure::Reset => 14,
            Failure::Timeout => 15,
            Failure::BadHead(_) => 16,
            Failure::BodyReset => 17,
            Failure::BodyTimeout => 18,
            Failure::BadBody(_) => 19,
            Failure::Unprocessed => 20,
            Failure::Flood => 21,
            Failure::Shed => 22,
            Failure::Saturated => 23,
            Failure::Handshake => 24,
            Failure::ProxyProtocol(_) => 25,
            Failure::Tls => 26,
            Failure::NotSwitched => 27,
        }
    }

    /// Whose fault it was.
    pub const fn side(self) -> Side {
        KINDS[self.index()].0
    }

    /// The `kind` label, and the value of `x-serin-error`.
    pub const fn kind(self) -> &'static str {
        KINDS[self.index()].1
    }

    /// The status that the client is answered with.
    pub const fn status(self) -> u16 {
        match self {
            Failure::Malformed(_) | Failure::Handshake | Failure::ProxyProtocol(_) => 400,
            Failure::HeaderTooLarge => 431,
            Failure::HeaderTimeout | Failure::Upload => 408,
            Failure::Version => 505,
            Failure::Expectation => 417,
            Failure::Connect => 405,
            Failure::NoRoute => 404,
            Failure::Loop => 508,
            Failure::Flood => 429,
            Failure::Cancelled => 499,
            Failure::Overload | Failure::Shed | Failure::NoEndpoints => 503,
            Failure::Unprocessed | Failure::Saturated => 503,
            Failure::Refused | Failure::Reset | Failure::Tls | Failure::BadHead(_) => 502,
            Failure::NotSwitched => 502,
            Failure::BodyReset | Failure::BodyTimeout | Failure::BadBody(_) => 502,
            Failure::ConnectTimeout | Failure::Timeout => 504,
        }
    }

    /// Whether it is a matter of the moment: the client is told when to come again.
    pub const fn passes(self) -> bool {
        matches!(self, Failure::Overload | Failure::Shed | Failure::Saturated)
    }

    /// Whether the endpoint cannot be reached at all.
    pub const fn is_unreachable(self) -> bool {
        matches!(self, Failure::Refused | Failure::ConnectTimeout | Failure::Tls)
    }

    /// Whether the backend has certainly not begun with the request, and it can be sent elsewhere as a whole.
    pub const fn is_before_sending(self) -> bool {
        matches!(
            self,
            Failure::Refused
                | Failure::ConnectTimeout
                | Failure::Tls
                | Failure::Unprocessed
                | Failure::Saturated
        )
    }

    /// The failure of a connection that broke while the head was waited for.
    pub fn from_io(_: io::Error) -> Failure {
        Failure::Reset
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Malformed(why) => return write!(f, "the request is malformed: {why}"),
            Failure::BadHead(why) => return write!(f, "the backend's answer is malformed: {why}"),
            Failure::BadBody(why) => return write!(f, "the backend's body is malformed: {why}"),
            Failure::HeaderTooLarge => "the header is longer or has more lines than may be",
            Failure::ProxyProtocol(why) => return write!(f, "the PROXY protocol header is malformed: {why}"),
            Failure::Handshake => "this port speaks TLS; use https",
            Failure::NotSwitched => {
                "there is no WebSocket here; the backend answers, but does not switch protocols"
            }
            Failure::Tls => "the backend cannot be spoken to by TLS",
            Failure::HeaderTimeout => "the header did not arrive in time",
            Failure::Version => "the protocol version is not supported; use HTTP/1.1 or HTTP/2",
            Failure::Expectation => "the expectation is not supported; only 100-continue is",
            Failure::Connect => "CONNECT is not supported; this is not a forward proxy",
            Failure::NoRoute => "no service answers to this host; list it in the hosts of a service",
            Failure::Loop => "the request has passed this proxy before; check the endpoints for a loop",
            Failure::Cancelled => "the client went away",
            Failure::Upload => "the request body broke off or stood still",
            Failure::Overload => "too many connections; try again later",
            Failure::NoEndpoints => "no endpoint may serve this request",
            Failure::Saturated => "the backend has as many requests as it may; try again later",
            Failure::Refused => "the backend refuses connections",
            Failure::ConnectTimeout => "the backend cannot be connected to in time",
            Failure::Reset => "the backend closed the connection before its answer",
            Failure::Timeout => "the backend did not answer in time",
            Failure::BodyReset => "the backend broke off its answer",
            Failure::Unprocessed => "the backend takes no more requests at the moment",
            Failure::Shed => "too many requests at once; try again later",
            Failure::Flood => "too many HTTP/2 frames beside requests; the connection was closed",
            Failure::BodyTimeout => "the backend's answer stood still for too long",
        })
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_distinct() {
        let mut kinds: Vec<_> = KINDS.iter().map(|(side, kind)| (side.name(), kind)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), KINDS.len());
    }
}
