//! W3C Trace Context (Recommendation of 2021-11-23): `traceparent` read and written. Pure.

/// Hexadecimal digits, lower case, of a trace.
pub type TraceId = [u8; 32];
/// Hexadecimal digits, lower case, of a span.
pub type SpanId = [u8; 16];

/// What a request brought with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: TraceId,
    /// The caller's span.
    pub span: SpanId,
    /// Whether the caller exports the trace.
    pub sampled: bool,
}

/// Our span of one request that is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace.
    pub trace: TraceId,
    /// Ours.
    pub id: SpanId,
    /// The caller's, if it brought one.
    pub parent: Option<SpanId>,
}

impl Parent {
    /// Reads a value. `None` when it is invalid: then the trace begins anew.
    pub fn parse(value: &[u8]) -> Option<Parent> {
        let mut parts = value.splitn(5, |b| *b == b'-');
        let version: [u8; 2] = hex(parts.next()?)?;
        let trace: TraceId = hex(parts.next()?)?;
        let span: SpanId = hex(parts.next()?)?;
        let [_, flags] = hex::<2>(parts.next()?)?;
        // A later version may say more behind; this one may not (section 2.2.4).
        let ends = version != *b"00" || parts.next().is_none();
        let valid = version != *b"ff" && trace != [b'0'; 32] && span != [b'0'; 16];
        let low = (flags as char).to_digit(16).unwrap_or(0);
        (ends && valid).then_some(Parent {
            trace,
            span,
            sampled: low & 1 == 1,
        })
    }
}

fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digits: [u8; N] = text.try_into().ok()?;
    let lower = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    digits.iter().all(lower).then_some(digits)
}

impl Span {
    /// The value that the backend gets: its parent is our span.
    pub fn traceparent(&self) -> [u8; 55] {
        let mut text = *b"00-________________________________-________________-01";
        text[3..35].copy_from_slice(&self.trace);
        text[36..52].copy_from_slice(&self.id);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_read() {
        let parent = Parent::parse(GOOD.as_bytes()).unwrap();
        assert!(parent.sampled);
        assert_eq!(&parent.span, b"b7ad6b7169203331");
        let span = Span {
            trace: parent.trace,
            id: parent.span,
            parent: None,
        };
        assert_eq!(span.traceparent(), GOOD.as_bytes());
        assert!(
            !Parent::parse(GOOD.replace("-01", "-00").as_bytes())
                .unwrap()
                .sampled
        );
        assert!(Parent::parse(GOOD.replacen("00", "cc", 1).as_bytes()).is_some());
        assert!(Parent::parse(format!("{}-more", GOOD.replacen("00", "cc", 1)).as_bytes()).is_some());
    }

    #[test]
    fn what_is_invalid_is_none() {
        for bad in [
            "",
            "00",
            "00-aa",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
        ] {
            assert_eq!(Parent::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_a_parent_or_none(octets: Vec<u8>, text in "[0-9a-f-]{0,60}") {
            let _ = Parent::parse(&octets);
            let _ = Parent::parse(text.as_bytes());
        }
    }
}
