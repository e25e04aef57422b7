//! HTTP/1.1 messages as octets: strict reading and plain writing, for both sides.
//!
//! Strict, because a front that reads a message otherwise than the server behind it can be made to smuggle requests
//! (RFC 9112, 11.2). What is ambiguous is refused, never repaired.

pub mod block;
pub mod body;
pub mod lines;
pub mod name;
pub mod outbox;
pub mod proxy_protocol;
pub mod reader;
pub mod request;
pub mod response;

/// Longest header section, both directions.
pub const MAX_HEAD: usize = 60 * 1024;
/// Most header lines, both directions.
pub const MAX_LINES: usize = 100;
