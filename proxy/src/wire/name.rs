//! The header names that mean something to a proxy; each line is classified once.

/// What a header line is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Name {
    /// None of the below: passed on.
    Other,
    /// Hop-by-hop (RFC 9110, 7.6.1).
    Connection,
    /// Hop-by-hop: `keep-alive`, `proxy-connection`.
    Hop,
    /// `upgrade`: hop-by-hop, and asked for anew.
    Upgrade,
    /// `te`: hop-by-hop, but `trailers` is asked for anew.
    Te,
    /// `transfer-encoding`.
    TransferEncoding,
    /// `content-length`.
    ContentLength,
    /// `host`.
    Host,
    /// `expect`.
    Expect,
    /// `cookie`.
    Cookie,
    /// `via`.
    Via,
    /// `forwarded`.
    Forwarded,
    /// `x-forwarded-for`.
    ForwardedFor,
    /// `x-forwarded-host`.
    ForwardedHost,
    /// `x-forwarded-proto`.
    ForwardedProto,
    /// Any other `x-forwarded-` name, and `x-real-ip`.
    ForwardedMore,
    /// `x-request-id`.
    RequestId,
    /// `traceparent`.
    Trace,
    /// `x-serin-debug`.
    Debug,
    /// `x-serin-synthetic`.
    Synthetic,
    /// Named by a `connection` line: hop-by-hop for this message.
    Nominated,
}

impl Name {
    /// The class of a name, in any case.
    pub fn of(name: &[u8]) -> Name {
        let is = |lower: &str| name.eq_ignore_ascii_case(lower.as_bytes());
        match name.len() {
            2 if is("te") => Name::Te,
            3 if is("via") => Name::Via,
            4 if is("host") => Name::Host,
            6 if is("cookie") => Name::Cookie,
            6 if is("expect") => Name::Expect,
            7 if is("upgrade") => Name::Upgrade,
            9 if is("forwarded") => Name::Forwarded,
            10 if is("connection") => Name::Connection,
            10 if is("keep-alive") => Name::Hop,
            11 if is("traceparent") => Name::Trace,
            12 if is("x-request-id") => Name::RequestId,
            13 if is("x-serin-debug") => Name::Debug,
            14 if is("content-length") => Name::ContentLength,
            15 if is("x-forwarded-for") => Name::ForwardedFor,
            16 if is("x-forwarded-host") => Name::ForwardedHost,
            16 if is("proxy-connection") => Name::Hop,
            17 if is("transfer-encoding") => Name::TransferEncoding,
            17 if is("x-forwarded-proto") => Name::ForwardedProto,
            17 if is("x-serin-synthetic") => Name::Synthetic,
            9 if is("x-real-ip") => Name::ForwardedMore,
            13.. if forwards(name) => Name::ForwardedMore,
            _ => Name::Other,
        }
    }

    /// Whether a client may make it hop-by-hop by naming it in `connection`. Routing, framing and forwarding headers
    /// stay: whoever could strip those could lie to the backend about who asks and for what.
    pub fn can_be_nominated(self, name: &[u8]) -> bool {
        self == Name::Other && !name.eq_ignore_ascii_case(b"authorization") && !begins(name, b"x-serin-")
    }
}

fn forwards(name: &[u8]) -> bool {
    begins(name, b"x-forwarded-")
}

fn begins(name: &[u8], lower: &[u8]) -> bool {
    name.get(..lower.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(Name::of(b"Transfer-Encoding"), Name::TransferEncoding);
        assert_eq!(Name::of(b"X-SERIN-SYNTHETIC"), Name::Synthetic);
        assert_eq!(Name::of(b"X-Forwarded-Prefix"), Name::ForwardedMore);
        assert_eq!(Name::of(b"x-forwarded-"), Name::Other);
        assert_eq!(Name::of(b"X-Real-IP"), Name::ForwardedMore);
        assert_eq!(Name::of(b"hosts"), Name::Other);
        assert!(!Name::Other.can_be_nominated(b"X-Serin-New"));
        assert_eq!(Name::of(b""), Name::Other);
    }
}
