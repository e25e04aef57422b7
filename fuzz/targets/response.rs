//! Heads of answers: any octets are a head, the beginning of one, or a failure.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use proxy::{headers, wire::response::Head};

fuzz_target!(|input: (bool, &[u8])| {
    let (to_head, octets) = input;
    let Ok(Some((head, n))) = Head::parse(&Bytes::copy_from_slice(octets), to_head) else {
        return;
    };
    assert!(n <= octets.len());
    // What the client gets of it is lines, and nothing that ends a head early.
    let mut out = b"HTTP/1.1 200 OK\r\n".to_vec();
    headers::answer(&head.lines, &mut out);
    out.extend(b"\r\n");
    let length = out.len();
    let (again, m) = Head::parse(&Bytes::from(out), true)
        .expect("our own words are understood")
        .expect("whole");
    assert_eq!(m, length);
    assert!(again.lines.len() <= head.lines.len());
});
