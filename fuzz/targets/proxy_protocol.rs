//! Headers of the PROXY protocol: any octets are one, the beginning of one, or a fault; one ends where it says.
#![no_main]

use contract::file::ProxyProtocol;
use libfuzzer_sys::fuzz_target;
use proxy::wire::proxy_protocol::parse;

fuzz_target!(|input: (u8, &[u8])| {
    let (wanted, octets) = input;
    let wanted = match wanted % 4 {
        0 => ProxyProtocol::Off,
        1 => ProxyProtocol::V1,
        2 => ProxyProtocol::V2,
        _ => ProxyProtocol::Any,
    };
    let Ok(Some(header)) = parse(octets, wanted) else {
        return;
    };
    assert!(header.length <= octets.len());
    // Nothing behind it is looked at, and nothing of it can be missing.
    assert_eq!(parse(&octets[..header.length], wanted), Ok(Some(header)));
    assert_eq!(parse(&octets[..header.length - 1], wanted), Ok(None));
});
