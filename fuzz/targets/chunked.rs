//! Chunked bodies: however the octets are cut, the same body comes out, and the same octets are left.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use proxy::wire::body::{Decoder, Framing, Step};

/// Body, trailers, and what is left behind it.
type Read = Result<Option<(Vec<u8>, usize, usize)>, &'static str>;

fn read(octets: &[u8], size: usize) -> Read {
    let mut decoder = Decoder::new(Framing::Chunked);
    let (mut body, mut taken) = (Vec::new(), 0);
    for piece in octets.chunks(size) {
        let mut input = Bytes::copy_from_slice(piece);
        taken += piece.len();
        loop {
            match decoder.decode(&mut input)? {
                Step::Data(data) => body.extend_from_slice(&data),
                Step::End(trailers) => {
                    let left = octets.len() - taken + input.len();
                    return Ok(Some((body, trailers.map_or(0, |t| t.len()), left)));
                }
                Step::More => break,
            }
        }
    }
    Ok(None)
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, octets) = input;
    let whole = read(octets, octets.len().max(1));
    assert_eq!(whole, read(octets, usize::from(size).max(1)));
});
