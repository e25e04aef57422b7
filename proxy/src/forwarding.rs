//! Who the client is, and what is said of it to the backend. Only peers that are named as trusted proxies are believed
//! about anybody but themselves: a client could otherwise choose its own address. Pure.

use crate::{
    front::Peer,
    headers::{Journey, line},
    wire::{lines, lines::Lines, name::Name, request::Request},
};
use contract::matches::Cidr;
use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

/// The classes that only a trusted peer may say anything with; from all others they are dropped.
pub const BELIEVED: u32 =
    bit(Name::ForwardedFor) | bit(Name::ForwardedHost) | bit(Name::ForwardedProto) | bit(Name::ForwardedMore);

/// One bit for each class.
pub const fn bit(class: Name) -> u32 {
    1 << class as u32
}

/// The client's address: of a trusted peer, the right-most one in `x-forwarded-for` that is not trusted itself. What
/// stands further left was written by whoever that is.
pub fn client(lines: &Lines, peer: &Peer, trusted: &[Cidr]) -> IpAddr {
    let mut known = peer.address;
    if !peer.trusted || !lines.has(Name::ForwardedFor) {
        return known;
    }
    let values: Vec<&[u8]> = lines.of(Name::ForwardedFor).flat_map(lines::items).collect();
    for value in values.iter().rev() {
        let Some(address) = address(value) else { break };
        known = address;
        if !is_trusted(address, trusted) {
            break;
        }
    }
    known
}

/// Whether an address lies in one of the ranges.
pub fn is_trusted(address: IpAddr, trusted: &[Cidr]) -> bool {
    trusted.iter().any(|range| range.contains(address))
}

/// An address as proxies write it: bare, in brackets, with a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = || text.parse::<IpAddr>().ok();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|a| a.ip());
    let found = bare().or_else(bracketed).or_else(with_port);
    found.map(|a: IpAddr| a.to_canonical())
}

/// Writes who asks, how and for which host. A trusted peer's word stays, with the peer itself appended.
pub fn write(request: &Request, journey: &Journey<'_>, out: &mut Vec<u8>) {
    let peer = journey.peer;
    out.extend_from_slice(b"x-forwarded-for: ");
    if peer.trusted {
        earlier(&request.lines, Name::ForwardedFor, out);
    }
    out.extend_from_slice(peer.text());
    out.extend_from_slice(b"\r\n");
    let told = |class| peer.trusted && request.lines.has(class);
    if !told(Name::ForwardedProto) {
        line(out, "x-forwarded-proto", peer.scheme().as_bytes());
    }
    if !told(Name::ForwardedHost) && !request.host().is_empty() {
        line(out, "x-forwarded-host", request.host());
    }
    if told(Name::Forwarded) {
        forwarded(request, peer, out);
    }
}

/// What earlier proxies wrote, each value with a comma behind it.
fn earlier(lines: &Lines, class: Name, out: &mut Vec<u8>) {
    if !lines.has(class) {
        return;
    }
    for value in lines.of(class) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

/// RFC 7239: a chain that a trusted proxy began goes on; nobody else's is passed on, and we begin none, because
/// `x-forwarded-for` says the same and every backend knows it.
fn forwarded(request: &Request, peer: &Peer, out: &mut Vec<u8>) {
    out.extend_from_slice(b"forwarded: ");
    earlier(&request.lines, Name::Forwarded, out);
    // A vector takes everything that is written to it.
    let _ = match peer.address {
        IpAddr::V4(a) => write!(out, "for={a};proto={}\r\n", peer.scheme()),
        IpAddr::V6(a) => write!(out, "for=\"[{a}]\";proto={}\r\n", peer.scheme()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn trusted() -> Vec<Cidr> {
        ["10.0.0.0/8", "fd00::/8"].map(|c| c.parse().unwrap()).to_vec()
    }

    fn request(lines: &[String]) -> Request {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.concat());
        Request::parse(&Bytes::from(head)).unwrap().unwrap().0
    }

    fn seen(peer: [u8; 4], values: &[&str]) -> String {
        let lines: Vec<_> = values
            .iter()
            .map(|v| format!("X-Forwarded-For: {v}\r\n"))
            .collect();
        let peer = Peer::new(peer.into(), is_trusted(peer.into(), &trusted()));
        client(&request(&lines).lines, &peer, &trusted()).to_string()
    }

    #[test]
    fn nobody_else_is_believed() {
        assert_eq!(seen([192, 0, 2, 1], &["9.9.9.9"]), "192.0.2.1");
        assert_eq!(seen([10, 0, 0, 1], &["9.9.9.9"]), "9.9.9.9");
        assert_eq!(seen([10, 0, 0, 1], &[]), "10.0.0.1");
    }

    #[test]
    fn the_right_most_address_that_is_not_trusted_counts() {
        for (values, address) in [
            (&["6.6.6.6, 9.9.9.9"][..], "9.9.9.9"),
            (&["6.6.6.6, 9.9.9.9, 10.1.1.1"], "9.9.9.9"),
            (&["6.6.6.6", "9.9.9.9", "10.1.1.1,10.2.2.2"], "9.9.9.9"),
            (&["10.3.3.3, 10.1.1.1"], "10.3.3.3"),
            (&["9.9.9.9:1234, [fd00::1]:80, [fd00::2]"], "9.9.9.9"),
            (&["::ffff:9.9.9.9"], "9.9.9.9"),
            (&["2001:db8::7"], "2001:db8::7"),
            (&["9.9.9.9, unknown, 10.1.1.1"], "10.1.1.1"),
            (&["9.9.9.9, "], "9.9.9.9"),
            (&["", ","], "10.0.0.1"),
        ] {
            assert_eq!(seen([10, 0, 0, 1], values), address, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn any_value_gives_an_address(value in "[ -~]{0,60}") {
            seen([10, 0, 0, 1], &[value.trim()]);
        }
    }
}
