//! The handshake of WebSocket (RFC 6455), for clients of HTTP/2: they ask without it (RFC 8441), and an endpoint that
//! speaks HTTP/1.1 answers nobody without. Pure.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// What it is called, in `:protocol` as in `upgrade`.
pub const NAME: &str = "websocket";
/// What a client challenges with.
pub const KEY: &str = "sec-websocket-key";
/// What a server that understands answers.
pub const ACCEPT: &str = "sec-websocket-accept";

/// RFC 6455, 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A challenge. It is no secret: it tells who understands from who repeats.
pub fn key(random: [u64; 2]) -> String {
    STANDARD.encode(random.map(u64::to_be_bytes).concat())
}

/// The answer to a challenge.
pub fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(
        &SHA1_FOR_LEGACY_USE_ONLY,
        &[key, GUID.as_bytes()].concat(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(key([0, 1]), "AAAAAAAAAAAAAAAAAAAAAQ==");
    }
}
