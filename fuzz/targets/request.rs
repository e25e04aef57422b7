//! Heads of requests: what is passed on is read as the same request, whoever reads it.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use proxy::{
    error::Failure,
    front::Peer,
    headers::{self, Identities, Journey},
    wire::request::Request,
};

fuzz_target!(|octets: &[u8]| {
    let Ok(Some((request, n))) = Request::parse(&Bytes::copy_from_slice(octets)) else {
        return;
    };
    assert!(n <= octets.len());
    // The head alone is the same head: nothing behind it was looked at.
    let (alone, m) = Request::parse(&Bytes::copy_from_slice(&octets[..n]))
        .expect("read before")
        .expect("whole");
    assert_eq!((m, alone.framing), (n, request.framing));
    let journey = Journey {
        peer: &Peer::new([192, 0, 2, 7].into(), octets.len() % 2 == 0),
        via: "1.1 serin-x",
        ids: &Identities::new([1, 2, 3]),
    };
    let mut out = Vec::new();
    headers::request(&request, &journey, &mut out);
    let length = out.len();
    match Request::parse(&Bytes::from(out)) {
        Ok(Some((again, n))) => {
            assert_eq!(n, length);
            assert_eq!(again.framing, request.framing);
            assert_eq!(again.method_text(), request.method_text());
            assert!(again.target().ends_with(request.target()));
            assert_eq!(again.host(), request.host());
        }
        // Our own lines may be the ones too many.
        Err(Failure::HeaderTooLarge) => {}
        other => panic!("our own words are not understood: {other:?}"),
    }
});
