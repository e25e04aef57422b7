//! The PROXY protocol (HAProxy, `proxy-protocol.txt`, version 1 and 2): before anything else, a load balancer says whose
//! connection it passes on. Pure.

use contract::file::ProxyProtocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a binary header begins with: no HTTP request and no TLS handshake does.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Octets of a binary header before its addresses.
const FIXED: usize = 16;
/// What a text header begins with.
const WORD: &[u8] = b"PROXY ";
/// Longest text header, with the end of its line.
const LONGEST: usize = 107;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client; `None`: whoever connected speaks for itself (health checks), or the address is of no kind that we
    /// know.
    pub source: Option<SocketAddr>,
    /// Octets of the header, all of it.
    pub length: usize,
}

/// The header at the beginning of `octets`; `None` while more is needed.
///
/// # Errors
/// Why it is none.
pub fn parse(octets: &[u8], wanted: ProxyProtocol) -> Result<Option<Header>, &'static str> {
    let (text, binary) = match wanted {
        ProxyProtocol::Off => return Err("none is expected"),
        ProxyProtocol::V1 => (true, false),
        ProxyProtocol::V2 => (false, true),
        ProxyProtocol::Any => (true, true),
    };
    if binary && begins(octets, SIGNATURE) {
        return self::binary(octets);
    }
    if text && begins(octets, WORD) {
        return self::text(octets);
    }
    Err("there is none, or one of another version")
}

/// Whether this may be, or become, something that begins so.
fn begins(octets: &[u8], with: &[u8]) -> bool {
    octets.iter().zip(with).all(|(a, b)| a == b)
}

/// `PROXY TCP4 192.0.2.1 192.0.2.2 4000 443`, or `PROXY UNKNOWN` with anything behind it.
fn text(octets: &[u8]) -> Result<Option<Header>, &'static str> {
    let window = octets.get(..LONGEST).unwrap_or(octets);
    let Some(end) = memchr::memchr(b'\n', window) else {
        let whole = window.len() == LONGEST;
        return if whole {
            Err("its line does not end")
        } else {
            Ok(None)
        };
    };
    let length = end + 1;
    let line = octets.get(..end).and_then(|l| l.strip_suffix(b"\r"));
    let line = line.ok_or("its line does not end in CR LF")?;
    let line = std::str::from_utf8(line).map_err(|_| "it is not text")?;
    let mut words = line.split(' ').skip(1);
    let source = match words.next() {
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(source::<Ipv4Addr>(words)?),
        Some("TCP6") => Some(source::<Ipv6Addr>(words)?),
        _ => return Err("it is neither of TCP4 nor of TCP6"),
    };
    Ok(Some(Header { source, length }))
}

/// Four words: two addresses, two ports.
fn source<'a, A>(words: impl Iterator<Item = &'a str>) -> Result<SocketAddr, &'static str>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    const WRONG: &str = "its addresses are malformed";
    let words: Vec<&str> = words.collect();
    let [from, to, from_port, to_port] = words[..] else {
        return Err(WRONG);
    };
    let address = |text: &str| text.parse::<A>().map_err(|_| WRONG);
    let port = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse::<u16>().ok().filter(|_| digits).ok_or(WRONG)
    };
    // Where it went is checked, and not needed.
    address(to)?;
    port(to_port)?;
    Ok(SocketAddr::new(address(from)?.into(), port(from_port)?))
}

fn binary(octets: &[u8]) -> Result<Option<Header>, &'static str> {
    let Some(&[version_and_command, family, high, low]) = octets.get(12..FIXED) else {
        return Ok(None);
    };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if version_and_command >> 4 != 2 {
        return Err("its version is not 2");
    }
    let local = match version_and_command & 15 {
        0 => true,
        1 => false,
        _ => return Err("its command is neither LOCAL nor PROXY"),
    };
    let Some(rest) = octets.get(FIXED..length) else {
        return Ok(None);
    };
    let source = if local { None } else { of_family(family, rest)? };
    Ok(Some(Header { source, length }))
}

/// The source address. What stands behind the addresses (TLVs) is not needed.
fn of_family(family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, &'static str> {
    match family {
        0x11 => addresses::<4>(rest).map(|(from, port)| Some(SocketAddr::new(from.into(), port))),
        0x21 => addresses::<16>(rest).map(|(from, port)| Some(SocketAddr::new(from.into(), port))),
        // Not told, or a socket of one machine: there is no address that we could use.
        0x00 | 0x31 => Ok(None),
        _ => Err("it is not of a stream"),
    }
}

/// Of two addresses and two ports the first of each.
fn addresses<const N: usize>(rest: &[u8]) -> Result<([u8; N], u16), &'static str> {
    let whole = rest.get(..2 * N + 4);
    let read = whole.and_then(|all| {
        let port = all.get(2 * N..)?.first_chunk::<2>()?;
        Some((*all.first_chunk::<N>()?, u16::from_be_bytes(*port)))
    });
    read.ok_or("it is too short for its addresses")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProxyProtocol::{Any, Off, V1, V2};
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut octets = SIGNATURE.to_vec();
        octets.extend([command, family]);
        octets.extend((rest.len() as u16).to_be_bytes());
        octets.extend(rest);
        octets
    }

    const INET: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x0f, 0xa0, 1, 187];

    fn read(octets: &[u8]) -> Result<Option<(Option<String>, usize)>, &'static str> {
        let found = parse(octets, Any)?;
        Ok(found.map(|h| (h.source.map(|s| s.to_string()), h.length)))
    }

    #[test]
    fn text_headers() {
        for (line, source) in [
            ("PROXY TCP4 192.0.2.7 10.0.0.1 4000 443", Some("192.0.2.7:4000")),
            ("PROXY TCP6 2001:db8::7 ::1 65535 0", Some("[2001:db8::7]:65535")),
            ("PROXY UNKNOWN", None),
            ("PROXY UNKNOWN ffff::1 whatever 1 2", None),
        ] {
            let whole = format!("{line}\r\nGET / HTTP/1.1\r\n");
            let expected = (source.map(str::to_owned), line.len() + 2);
            assert_eq!(read(whole.as_bytes()), Ok(Some(expected)), "{line}");
            assert_eq!(read(&whole.as_bytes()[..line.len() + 1]), Ok(None), "{line}");
        }
        for bad in [
            "GET / HTTP/1.1",
            "PROXY TCP4 192.0.2.7 10.0.0.1 4000",
            "PROXY TCP4 192.0.2.7 10.0.0.1 4000 443 1",
            "PROXY TCP4 192.0.2.7 10.0.0.1 4000 65536",
            "PROXY TCP4 192.0.2.7 10.0.0.1 +400 443",
            "PROXY TCP4 192.0.2.7 10.0.0.1 0400 443",
            "PROXY TCP4 192.0.2.777 10.0.0.1 4000 443",
            "PROXY TCP4 ::1 ::1 4000 443",
            "PROXY TCP6 192.0.2.7 10.0.0.1 4000 443",
            "PROXY TCP4  192.0.2.7 10.0.0.1 4000 443",
            "PROXY UDP4 192.0.2.7 10.0.0.1 4000 443",
            "PROXY ",
            "proxy TCP4 192.0.2.7 10.0.0.1 4000 443",
        ] {
            assert!(read(format!("{bad}\r\n").as_bytes()).is_err(), "{bad}");
        }
        assert!(
            read(b"PROXY TCP4 192.0.2.7 10.0.0.1 4000 443\n").is_err(),
            "a bare line feed"
        );
        assert!(read(format!("PROXY UNKNOWN {}", "x".repeat(200)).as_bytes()).is_err());
    }

    #[test]
    fn binary_headers() {
        let four = v2(0x21, 0x11, &INET);
        assert_eq!(read(&four), Ok(Some((Some("192.0.2.7:4000".into()), 28))));
        let six: Vec<u8> = [&[0x20, 1][..], &[0; 13], &[7], &[0; 16], &[0x0f, 0xa0, 1, 187]].concat();
        let six = v2(0x21, 0x21, &six);
        assert_eq!(read(&six), Ok(Some((Some("[2001::7]:4000".into()), 52))));
        let more: Vec<u8> = [&INET[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        assert_eq!(
            read(&v2(0x21, 0x11, &more)),
            Ok(Some((Some("192.0.2.7:4000".into()), 35)))
        );
        for silent in [
            v2(0x20, 0, &[]),
            v2(0x20, 0x11, &INET),
            v2(0x21, 0, &[]),
            v2(0x21, 0x31, &[0; 216]),
        ] {
            assert_eq!(read(&silent), Ok(Some((None, silent.len()))));
        }
        for bad in [
            v2(0x11, 0x11, &INET),
            v2(0x22, 0x11, &INET),
            v2(0x21, 0x12, &INET),
            v2(0x21, 0x11, &INET[..11]),
            v2(0x21, 0x21, &INET),
            v2(0x21, 0x41, &INET),
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
        for n in 0..four.len() {
            assert_eq!(read(&four[..n]), Ok(None), "{n}");
        }
    }

    #[test]
    fn only_what_is_expected_is_taken() {
        let (one, two) = (b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, 0, &[]));
        let takes = |octets: &[u8], wanted| parse(octets, wanted).is_ok();
        assert!(takes(&one, V1) && takes(&two, V2) && takes(&one, Any) && takes(&two, Any));
        assert!(!takes(&one, V2) && !takes(&two, V1) && !takes(&one, Off) && !takes(&two, Off));
    }

    proptest! {
        #[test]
        fn a_header_never_reaches_beyond_what_is_there(
            mut octets in proptest::collection::vec(any::<u8>(), 0..300),
            kind in 0..3,
        ) {
            match kind {
                0 => drop(octets.splice(0..0, SIGNATURE.iter().copied())),
                1 => drop(octets.splice(0..0, WORD.iter().copied())),
                _ => {}
            }
            if let Ok(Some(header)) = parse(&octets, Any) {
                prop_assert!(header.length <= octets.len());
                let alone = parse(&octets[..header.length], Any);
                prop_assert_eq!(alone, Ok(Some(header)));
                prop_assert_eq!(parse(&octets[..header.length - 1], Any), Ok(None));
            }
        }

        #[test]
        fn every_address_comes_through(address: [u8; 4], port: u16) {
            let from = SocketAddr::new(address.into(), port);
            let line = format!("PROXY TCP4 {} 10.0.0.1 {port} 80\r\n", from.ip());
            prop_assert_eq!(parse(line.as_bytes(), V1).unwrap().unwrap().source, Some(from));
            let mut block = INET;
            block[..4].copy_from_slice(&address);
            block[8..10].copy_from_slice(&port.to_be_bytes());
            prop_assert_eq!(parse(&v2(0x21, 0x11, &block), V2).unwrap().unwrap().source, Some(from));
        }
    }
}
