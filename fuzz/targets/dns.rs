//! What a name server answers: whatever comes is read without harm, and only addresses of the kind that was asked for are taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::dns::message::{Kind, Query, Read};

fuzz_target!(|octets: &[u8]| {
    for (kind, six) in [(Kind::A, false), (Kind::Aaaa, true)] {
        let query = Query::new(7, "shop.test", kind).unwrap();
        // As it is, and with the head and the question of an answer before it.
        query.read(octets);
        let mut near = query.octets.clone();
        (near[2], near[3]) = (0x81, 0x80);
        if let Some((count, records)) = octets.split_first() {
            near[7] = *count;
            near.extend(records);
        }
        if let Read::Reply(reply) = query.read(&near) {
            assert!(reply.addresses.iter().all(|a| a.is_ipv6() == six));
            assert!(reply.addresses.len() * 12 <= octets.len());
        }
    }
});
