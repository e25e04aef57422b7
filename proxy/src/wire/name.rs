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
    /// `content-type`: tells calls of gRPC.
    ContentType,
    /// `grpc-status`.
    GrpcStatus,
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
        match name.len() {
            2 if is(name, b"te") => Name::Te,
            3 if is(name, b"via") => Name::Via,
            4 if is(name, b"host") => Name::Host,
            6 if is(name, b"cookie") => Name::Cookie,
            6 if is(name, b"expect") => Name::Expect,
            7 if is(name, b"upgrade") => Name::Upgrade,
            9 if is(name, b"forwarded") => Name::Forwarded,
            10 if is(name, b"connection") => Name::Connection,
            10 if is(name, b"keep-alive") => Name::Hop,
            11 if is(name, b"traceparent") => Name::Trace,
            11 if is(name, b"grpc-status") => Name::GrpcStatus,
            12 if is(name, b"content-type") => Name::ContentType,
            12 if is(name, b"x-request-id") => Name::RequestId,
            13 if is(name, b"x-serin-debug") => Name::Debug,
            14 if is(name, b"content-length") => Name::ContentLength,
            15 if is(name, b"x-forwarded-for") => Name::ForwardedFor,
            16 if is(name, b"x-forwarded-host") => Name::ForwardedHost,
            16 if is(name, b"proxy-connection") => Name::Hop,
            17 if is(name, b"transfer-encoding") => Name::TransferEncoding,
            17 if is(name, b"x-forwarded-proto") => Name::ForwardedProto,
            17 if is(name, b"x-serin-synthetic") => Name::Synthetic,
            9 if is(name, b"x-real-ip") => Name::ForwardedMore,
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

/// Whether `name` is `lower` in any case. Of a known length, so that it is compared in a few words.
#[inline]
fn is<const N: usize>(name: &[u8], lower: &[u8; N]) -> bool {
    <&[u8; N]>::try_from(name).is_ok_and(|name| {
        let pairs = name.iter().zip(lower);
        pairs.fold(0, |d, (n, l)| d | (n.to_ascii_lowercase() ^ l)) == 0
    })
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
