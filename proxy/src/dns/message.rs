//! Questions to a name server and its answers (RFC 1035, section 4). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Octets of a message's head.
const HEAD: usize = 12;
/// The class of the Internet.
const IN: u16 = 1;
/// The type of an alias (RFC 1035, section 3.2.2).
const CNAME: u16 = 5;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// IPv4 addresses.
    A = 1,
    /// IPv6 addresses (RFC 3596).
    Aaaa = 28,
}

/// One question, as it is sent.
#[derive(Clone, Debug)]
pub struct Query {
    /// The message.
    pub octets: Vec<u8>,
    kind: Kind,
}

/// What a server says to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The response code: 0 is well, 3 that there is no such name (RFC 1035, section 4.1.1).
    pub code: u8,
    /// Whether there is more than fitted: to be asked again by TCP.
    pub truncated: bool,
    /// Addresses of the kind that was asked for.
    pub addresses: Vec<IpAddr>,
    /// For how many seconds they are good: the least TTL on the way to them.
    pub ttl: u32,
}

/// What can be said of a message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// It answers something else: whoever sent it, the answer may still come.
    Foreign,
    /// It answers, and cannot be read.
    Broken,
    /// The answer.
    Reply(Reply),
}

impl Query {
    /// Asks for a name; none where it cannot be written (a label of nothing or of more than 63 octets).
    pub fn new(id: u16, name: &str, kind: Kind) -> Option<Query> {
        let mut octets = Vec::with_capacity(HEAD + name.len() + 6);
        octets.extend(id.to_be_bytes());
        // Recursion is desired; one question.
        octets.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in name.trim_end_matches('.').split('.') {
            let length = u8::try_from(label.len()).ok().filter(|n| (1..=63).contains(n))?;
            octets.push(length);
            octets.extend(label.as_bytes());
        }
        octets.push(0);
        let fits = octets.len() <= HEAD + 255;
        octets.extend((kind as u16).to_be_bytes());
        octets.extend(IN.to_be_bytes());
        fits.then_some(Query { octets, kind })
    }

    /// Reads what came back.
    pub fn read(&self, message: &[u8]) -> Read {
        let (Some(head), Some(asked)) = (message.get(..HEAD), self.octets.get(HEAD..)) else {
            return Read::Foreign;
        };
        let same =
            head.get(..2) == self.octets.get(..2) && head.get(2).is_some_and(|flags| flags & 0x80 != 0);
        let question = message.get(HEAD..HEAD + asked.len());
        // Some servers refuse without repeating the question.
        let bare = message.len() == HEAD;
        if !same || !(bare || question.is_some_and(|q| q.eq_ignore_ascii_case(asked))) {
            return Read::Foreign;
        }
        self.answer(message, HEAD + if bare { 0 } else { asked.len() })
            .map_or(Read::Broken, Read::Reply)
    }

    fn answer(&self, message: &[u8], begin: usize) -> Option<Reply> {
        let mut head = Cursor(message.get(2..HEAD)?);
        let flags = head.u16()?;
        head.take(2)?;
        let mut reply = Reply {
            code: (flags & 0xf) as u8,
            truncated: flags & 0x200 != 0,
            ttl: u32::MAX,
            ..Reply::default()
        };
        let count = head.u16()?;
        let mut cursor = Cursor(message.get(begin..)?);
        for _ in 0..count {
            let record = cursor.record();
            // What is cut off is no fault of a message that says so.
            let Some(record) = record else {
                return reply.truncated.then_some(reply);
            };
            self.take(&record, &mut reply);
        }
        Some(reply)
    }

    /// The servers that are asked follow aliases themselves, and all records of their answers belong to the name.
    fn take(&self, record: &Record<'_>, reply: &mut Reply) {
        let address = match (record.kind, record.data) {
            (1, data) => <[u8; 4]>::try_from(data)
                .ok()
                .map(|a| IpAddr::V4(Ipv4Addr::from(a))),
            (28, data) => <[u8; 16]>::try_from(data)
                .ok()
                .map(|a| IpAddr::V6(Ipv6Addr::from(a))),
            _ => None,
        };
        let wanted = record.kind == self.kind as u16;
        if record.class != IN || !(wanted || record.kind == CNAME) {
            return;
        }
        reply.ttl = reply.ttl.min(record.ttl);
        reply.addresses.extend(address.filter(|_| wanted));
    }
}

/// One record of an answer.
struct Record<'a> {
    kind: u16,
    class: u16,
    ttl: u32,
    data: &'a [u8],
}

/// What is left to be read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn record(&mut self) -> Option<Record<'a>> {
        self.skip_name()?;
        let (kind, class, ttl) = (self.u16()?, self.u16()?, self.u32()?);
        let length = self.u16()?;
        let data = self.take(length.into())?;
        // A TTL with its highest bit set is none (RFC 2181, section 8).
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        Some(Record {
            kind,
            class,
            ttl,
            data,
        })
    }

    /// Labels up to the empty one, or up to a pointer to the rest, which is nothing to us (RFC 1035, section 4.1.4).
    fn skip_name(&mut self) -> Option<()> {
        loop {
            let length = *self.take(1)?.first()?;
            match length {
                0 => return Some(()),
                0xc0.. => return self.take(1).map(|_| ()),
                64.. => return None,
                _ => self.take(length.into())?,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query() -> Query {
        Query::new(7, "shop.test", Kind::A).unwrap()
    }

    /// An answer with these records: type, TTL, data.
    fn answer(query: &Query, code: u8, records: &[(u16, u32, &[u8])]) -> Vec<u8> {
        let mut octets = query.octets.clone();
        (octets[2], octets[3]) = (0x81, 0x80 | code);
        octets[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (kind, ttl, data) in records {
            octets.extend([0xc0, 12]);
            octets.extend(kind.to_be_bytes());
            octets.extend([0, 1]);
            octets.extend(ttl.to_be_bytes());
            octets.extend((data.len() as u16).to_be_bytes());
            octets.extend(*data);
        }
        octets
    }

    #[test]
    fn a_question_is_written_as_the_standard_says() {
        assert_eq!(
            query().octets,
            b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x04shop\x04test\0\0\x01\0\x01"
        );
        for bad in ["", ".", "a..b", &"x".repeat(64), &"a.".repeat(130)] {
            assert!(Query::new(1, bad, Kind::A).is_none(), "{bad}");
        }
        assert!(Query::new(1, "a.b.", Kind::Aaaa).is_some());
    }

    #[test]
    fn addresses_come_with_the_least_ttl_of_the_chain() {
        let records: [(u16, u32, &[u8]); 4] = [
            (CNAME, 5, b"\x01a\0"),
            (1, 30, &[10, 0, 0, 1]),
            (28, 1, &[0; 16]),
            (1, 20, &[10, 0, 0, 2]),
        ];
        let Read::Reply(reply) = query().read(&answer(&query(), 0, &records)) else {
            unreachable!()
        };
        assert_eq!((reply.code, reply.ttl, reply.truncated), (0, 5, false));
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(reply.addresses, [one, two]);
        let reply = query().read(&answer(&query(), 0, &[(1, u32::MAX, &[10, 0, 0, 1])]));
        assert!(matches!(reply, Read::Reply(r) if r.ttl == 0));
    }

    #[test]
    fn what_was_not_asked_is_not_taken() {
        let good = answer(&query(), 3, &[]);
        assert!(matches!(query().read(&good), Read::Reply(r) if r.code == 3 && r.addresses.is_empty()));
        let other = Query::new(8, "shop.test", Kind::A).unwrap();
        assert_eq!(other.read(&good), Read::Foreign);
        for other in ["shop.tess", "shop.tes", "x"] {
            let other = Query::new(7, other, Kind::A).unwrap();
            assert_eq!(other.read(&good), Read::Foreign);
        }
        assert_eq!(
            Query::new(7, "shop.test", Kind::Aaaa).unwrap().read(&good),
            Read::Foreign
        );
        assert_eq!(
            query().read(&query().octets),
            Read::Foreign,
            "a question is no answer"
        );
        assert!(matches!(query().read(b"\0\x07\x81\x85\0\0\0\0\0\0\0\0"), Read::Reply(r) if r.code == 5));
    }

    #[test]
    fn what_is_cut_off_is_told() {
        let mut cut = answer(&query(), 0, &[(1, 30, &[10, 0, 0, 1]), (1, 30, &[10, 0, 0, 2])]);
        cut.truncate(cut.len() - 3);
        assert_eq!(query().read(&cut), Read::Broken);
        cut[2] |= 2;
        assert!(matches!(query().read(&cut), Read::Reply(r) if r.truncated && r.addresses.len() == 1));
    }

    proptest! {
        #[test]
        fn nothing_that_comes_is_more_than_refused(octets: Vec<u8>, at in 0usize..80, octet: u8) {
            query().read(&octets);
            let mut near = answer(&query(), 0, &[(1, 30, &[10, 0, 0, 1]), (5, 30, b"\x01a\xc0\x0c")]);
            near.extend(&octets);
            if let Some(o) = near.get_mut(at) {
                *o = octet;
            }
            query().read(&near);
        }
    }
}
