//! What is sent, and what must come of it. `{m}` is a path that marks the case; `{s}` one that no server may ever see.
//! Behind each payload comes one more request: `GET {s}` where the payload must be refused, for then nothing behind it
//! may be read as a request; `GET /after{m}` where it must be served, for then the next one begins exactly there.

/// What must come of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// One answer with this status, and the connection is closed. No server saw a whole request.
    Refused(u16),
    /// As many answers of 200 as there are whole requests, and one more for the request behind them.
    Served(usize),
    /// No answer while the rest of the message is waited for.
    Waits,
}

use Then::{Refused, Served, Waits};

/// Class, payload, and what must come of it.
pub const HTTP1: &[(&str, &str, Then)] = &[
    // Both lengths (RFC 9112, 6.1).
    (
        "both",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "both",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "both",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "both",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET {s} HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
        Refused(400),
    ),
    (
        "both",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2c\r\nGET {s} HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "both",
        "GET {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "both",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello",
        Refused(400),
    ),
    (
        "both",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding:\r\n\r\nhello",
        Refused(400),
    ),
    (
        "both",
        "POST {m} HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "both",
        "POST {m} HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 5\r\ntransfer-ENCODING: CHUNKED\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    // Transfer-Encoding that some read as chunked and others do not.
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cow\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: cow\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cow\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x00chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ChUnKeD\r\n\r\n0\r\n\r\n",
        Served(1),
    ),
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \t chunked \t\r\n\r\n0\r\n\r\n",
        Served(1),
    ),
    // An underscore is no hyphen: the line must not frame anything, here or behind.
    (
        "te",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        Served(1),
    ),
    (
        "te",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX-Transfer-Encoding: chunked\r\n\r\n",
        Served(1),
    ),
    // Content-Length that some read otherwise.
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 0\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5,\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: -0\r\n\r\n",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5e0\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\nhellohello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: \"5\"\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\x0b\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\x00\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: \u{ff15}\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 4294967301000000000000000\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n 0\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 5\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nX: y\nContent-Length: 5\r\n\r\nhello",
        Refused(400),
    ),
    (
        "cl",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello",
        Served(1),
    ),
    (
        "cl",
        "GET {m} HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n",
        Served(1),
    ),
    // A body where a server may not expect one (CL.0): the body is a body.
    (
        "cl.0",
        "GET {m} HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\nGET {s} HTTP/1.1\r\nHost: a\r\n\r\n",
        Served(1),
    ),
    (
        "cl.0",
        "DELETE {m} HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\nGET {s} HTTP/1.1\r\nHost: a\r\n\r\n",
        Served(1),
    ),
    (
        "cl.0",
        "OPTIONS {m} HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\nGET {s} HTTP/1.1\r\nHost: a\r\n\r\n",
        Served(1),
    ),
    (
        "cl.0",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\nGET {s} HTTP/1.1\r\nHost: a\r\n\r\n",
        Served(1),
    ),
    (
        "cl.0",
        "PUT {m} HTTP/1.1\r\nHost: a\r\nConnection: content-length\r\nContent-Length: {n}\r\n\r\nGET {s} HTTP/1.1\r\nHost: a\r\n\r\n",
        Served(1),
    ),
    (
        "cl.0",
        "GET {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{x}\r\nGET {s} HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
        Served(1),
    ),
    (
        "cl.0",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nGET {s} HTTP/1.1\r\nHost: a\r\n\r\n",
        Waits,
    ),
    // Chunks.
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\rhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\t\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5_\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n;a=b\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\ng\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000000000000005\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a\rb\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;\x00\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\x0c\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\rX",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n-0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n",
        Served(1),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0005\r\nhello\r\n00\r\n\r\n",
        Served(1),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nhellohello\r\n0\r\n\r\n",
        Served(1),
    ),
    (
        "chunk",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nGET {s} HTTP/1.1\r\nHost: a\r\n\r\n",
        Waits,
    ),
    // Trailers that would frame or route.
    (
        "trailer",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 50\r\n\r\n",
        Served(1),
    ),
    (
        "trailer",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        Served(1),
    ),
    (
        "trailer",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: evil\r\nConnection: close\r\n\r\n",
        Served(1),
    ),
    (
        "trailer",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: y\n\r\n",
        Refused(400),
    ),
    (
        "trailer",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: y\r\n z\r\n\r\n",
        Refused(400),
    ),
    (
        "trailer",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx : y\r\n\r\n",
        Refused(400),
    ),
    (
        "trailer",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGET {s} HTTP/1.1\r\nHost: a\r\n\r\n",
        Refused(400),
    ),
    (
        "trailer",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx: y\rz: w\r\n\r\n",
        Refused(400),
    ),
    // Hosts.
    ("host", "GET {m} HTTP/1.1\r\n\r\n", Refused(400)),
    (
        "host",
        "GET {m} HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        Refused(400),
    ),
    (
        "host",
        "GET {m} HTTP/1.1\r\nHost: a\r\nhost: evil\r\n\r\n",
        Refused(400),
    ),
    ("host", "GET {m} HTTP/1.1\r\nHost: a b\r\n\r\n", Refused(400)),
    ("host", "GET {m} HTTP/1.1\r\nHost: a@evil\r\n\r\n", Refused(400)),
    ("host", "GET {m} HTTP/1.1\r\nHost: a/evil\r\n\r\n", Refused(400)),
    ("host", "GET {m} HTTP/1.1\r\nHost: a\\evil\r\n\r\n", Refused(400)),
    ("host", "GET {m} HTTP/1.1\r\nHost: a#evil\r\n\r\n", Refused(400)),
    ("host", "GET {m} HTTP/1.1\r\nHost: a?evil\r\n\r\n", Refused(400)),
    ("host", "GET {m} HTTP/1.1\r\nHost : a\r\n\r\n", Refused(400)),
    ("host", "GET {m} HTTP/1.1\r\n Host: a\r\n\r\n", Refused(400)),
    (
        "host",
        "GET {m} HTTP/1.1\r\nX: y\r\n Host: a\r\n\r\n",
        Refused(400),
    ),
    (
        "host",
        "GET http://evil{m} HTTP/1.1\r\nHost: a\r\n\r\n",
        Refused(400),
    ),
    (
        "host",
        "GET http://a:81{m} HTTP/1.1\r\nHost: a\r\n\r\n",
        Refused(400),
    ),
    (
        "host",
        "GET http://evil@a{m} HTTP/1.1\r\nHost: a\r\n\r\n",
        Refused(400),
    ),
    ("host", "GET http://{m} HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("host", "GET ftp://a{m} HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("host", "GET a{m} HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("host", "GET @evil{m} HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("host", "GET http://a{m} HTTP/1.1\r\nHost: a\r\n\r\n", Served(1)),
    ("host", "GET HTTP://A{m} HTTP/1.1\r\nHost: a\r\n\r\n", Served(1)),
    ("host", "GET //evil{m} HTTP/1.1\r\nHost: a\r\n\r\n", Served(1)),
    // Lines that end in one octet, or in none.
    ("line", "GET {m} HTTP/1.1\nHost: a\n\n", Refused(400)),
    ("line", "GET {m} HTTP/1.1\r\nHost: a\n\r\n", Refused(400)),
    ("line", "GET {m} HTTP/1.1\nHost: a\r\n\r\n", Refused(400)),
    ("line", "GET {m} HTTP/1.1\r\nHost: a\r\n\n", Refused(400)),
    ("line", "GET {m} HTTP/1.1\rHost: a\r\n\r\n", Refused(400)),
    (
        "line",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n",
        Refused(400),
    ),
    (
        "line",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX: y\r\rZ: w\r\n\r\n",
        Refused(400),
    ),
    (
        "line",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n",
        Refused(400),
    ),
    (
        "line",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
        Refused(400),
    ),
    ("line", "GET {m} HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Refused(400)),
    ("line", "GET {m} HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n", Refused(400)),
    ("line", "GET {m} HTTP/1.1\r\n\tHost: a\r\n\r\n", Refused(400)),
    // Names and values.
    (
        "name",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n",
        Refused(400),
    ),
    (
        "name",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX\x00Y: z\r\n\r\n",
        Refused(400),
    ),
    (
        "name",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX\x0b: z\r\n\r\n",
        Refused(400),
    ),
    (
        "name",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX(y): z\r\n\r\n",
        Refused(400),
    ),
    (
        "name",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX[y]: z\r\n\r\n",
        Refused(400),
    ),
    (
        "name",
        "GET {m} HTTP/1.1\r\nHost: a\r\n\"X\": z\r\n\r\n",
        Refused(400),
    ),
    (
        "name",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX\u{e9}: z\r\n\r\n",
        Refused(400),
    ),
    (
        "name",
        "GET {m} HTTP/1.1\r\nHost: a\r\nContent-Length\x00: 5\r\n\r\nhello",
        Refused(400),
    ),
    (
        "name",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX: y\x00z\r\n\r\n",
        Refused(400),
    ),
    (
        "name",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX: y\x01z\r\n\r\n",
        Refused(400),
    ),
    (
        "name",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX: y\x1bz\r\n\r\n",
        Refused(400),
    ),
    (
        "name",
        "GET {m} HTTP/1.1\r\nHost: a\r\nX: y\x7fz\r\n\r\n",
        Refused(400),
    ),
    // The request line. Where no known version stands behind the second space, the version is what is refused.
    ("start", "GET  {m} HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("start", "GET {m}  HTTP/1.1\r\nHost: a\r\n\r\n", Refused(505)),
    ("start", " GET {m} HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("start", "GET\t{m}\tHTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("start", "GET {m} x HTTP/1.1\r\nHost: a\r\n\r\n", Refused(505)),
    ("start", "GET {m}\x00 HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("start", "GET {m}\x0b HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("start", "GET {m}#x HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("start", "G(T {m} HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("start", "GET:{m} HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    ("start", "GET {m} http/1.1\r\nHost: a\r\n\r\n", Refused(505)),
    ("start", "GET {m} HTTP/1.1 \r\nHost: a\r\n\r\n", Refused(400)),
    ("start", "GET {m} HTTP/1.10\r\nHost: a\r\n\r\n", Refused(400)),
    ("start", "GET {m} HTTP/11\r\nHost: a\r\n\r\n", Refused(505)),
    ("start", "GET {m} HTTP/1.2\r\nHost: a\r\n\r\n", Refused(505)),
    ("start", "GET {m} HTTP/2.0\r\nHost: a\r\n\r\n", Refused(505)),
    ("start", "GET {m} HTTP/0.9\r\nHost: a\r\n\r\n", Refused(505)),
    ("start", "GET {m}\r\n", Refused(400)),
    ("start", "GET {m}\r\n\r\n", Refused(400)),
    (
        "start",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        Refused(405),
    ),
    ("start", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Refused(505)),
    ("start", "\r\n\r\nGET {m} HTTP/1.1\r\nHost: a\r\n\r\n", Served(1)),
    ("start", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", Refused(400)),
    // What a client may not switch on behind us.
    (
        "expect",
        "POST {m} HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 5\r\n\r\nhello",
        Refused(417),
    ),
    (
        "expect",
        "POST {m} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, tea\r\nContent-Length: 5\r\n\r\nhello",
        Refused(417),
    ),
    (
        "expect",
        "POST {m} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nExpect: tea\r\nContent-Length: 5\r\n\r\nhello",
        Refused(417),
    ),
    (
        "expect",
        "POST {m} HTTP/1.1\r\nHost: a\r\nExpect:\r\nContent-Length: 5\r\n\r\nhello",
        Refused(417),
    ),
    (
        "expect",
        "GET {m} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        Served(1),
    ),
    (
        "expect",
        "POST {m} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        Served(1),
    ),
    (
        "upgrade",
        "GET {m} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        Served(1),
    ),
    (
        "upgrade",
        "GET {m} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        Served(1),
    ),
    (
        "upgrade",
        "POST {m} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: {n}\r\n\r\nGET {s} HTTP/1.1\r\nHost: a\r\n\r\n",
        Served(1),
    ),
    // Framing that is nominated away.
    (
        "nominated",
        "POST {m} HTTP/1.1\r\nHost: a\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Served(1),
    ),
    (
        "nominated",
        "POST {m} HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
        Served(1),
    ),
    (
        "nominated",
        "GET {m} HTTP/1.1\r\nHost: a\r\nConnection: host, x-forwarded-for, via\r\n\r\n",
        Served(1),
    ),
    (
        "nominated",
        "POST {m} HTTP/1.1\r\nHost: a\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
        Served(1),
    ),
    // Pipelines.
    (
        "pipeline",
        "GET {m} HTTP/1.1\r\nHost: a\r\n\r\nGET {m} HTTP/1.1\r\nHost: a\r\n\r\n",
        Served(2),
    ),
    (
        "pipeline",
        "POST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\nGET {m} HTTP/1.1\r\nHost: a\r\n\r\n",
        Served(2),
    ),
    (
        "pipeline",
        "POST {m} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nPOST {m} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        Served(2),
    ),
    (
        "pipeline",
        "GET {m} HTTP/1.1\r\nHost: a\r\n\r\nGET {m} HTTP/1.1\r\nHost: a\r\n\r\nGET {m} HTTP/1.1\r\nHost: a\r\n\r\n",
        Served(3),
    ),
];

/// Class, header fields, whether they end the stream, body frames; none of these may reach a server as a request.
pub type Fields = &'static [(&'static [u8], &'static [u8])];

/// HTTP/2 requests that HTTP/1 behind us would read otherwise: each is reset or answered with 4xx.
pub const HTTP2: &[(&str, Fields, &[&[u8]])] = &[
    (
        "connection",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"connection", b"close"),
        ],
        &[],
    ),
    (
        "transfer-encoding",
        &[
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"transfer-encoding", b"chunked"),
        ],
        &[b"0\r\n\r\nGET {s} HTTP/1.1\r\nHost: a\r\n\r\n"],
    ),
    (
        "upgrade",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"upgrade", b"h2c"),
        ],
        &[],
    ),
    (
        "keep-alive",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"keep-alive", b"5"),
        ],
        &[],
    ),
    (
        "proxy-connection",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"proxy-connection", b"x"),
        ],
        &[],
    ),
    (
        "te",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"te", b"gzip"),
        ],
        &[],
    ),
    (
        "value with CRLF",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"x", b"y\r\n\r\nGET {s} HTTP/1.1\r\nHost: a\r\n\r\n"),
        ],
        &[],
    ),
    (
        "value with LF",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"x", b"y\ntransfer-encoding: chunked"),
        ],
        &[],
    ),
    (
        "value with CR",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"x", b"y\rz: w"),
        ],
        &[],
    ),
    (
        "value with NUL",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"x", b"y\0z"),
        ],
        &[],
    ),
    (
        "name with CRLF",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"x: y\r\nz", b"w"),
        ],
        &[],
    ),
    (
        "name with colon",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"transfer-encoding: chunked", b""),
        ],
        &[],
    ),
    (
        "name with space",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"x y", b"z"),
        ],
        &[],
    ),
    (
        "name in capitals",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"Transfer-Encoding", b"chunked"),
        ],
        &[],
    ),
    (
        "empty name",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"", b"x"),
        ],
        &[],
    ),
    (
        "path with space",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m} HTTP/1.1\r\nHost: a\r\n\r\nGET {s}"),
            (b":authority", b"a"),
        ],
        &[],
    ),
    (
        "path with version",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m} HTTP/1.1"),
            (b":authority", b"a"),
        ],
        &[],
    ),
    (
        "path with LF",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}\nx: y"),
            (b":authority", b"a"),
        ],
        &[],
    ),
    (
        "path with NUL",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}\0"),
            (b":authority", b"a"),
        ],
        &[],
    ),
    (
        "path without slash",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"x{m}"),
            (b":authority", b"a"),
        ],
        &[],
    ),
    (
        "path that is an URL",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"http://evil{m}"),
            (b":authority", b"a"),
        ],
        &[],
    ),
    (
        "path that is an authority",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"@evil{m}"),
            (b":authority", b"a"),
        ],
        &[],
    ),
    (
        "empty path",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b""),
            (b":authority", b"a"),
        ],
        &[],
    ),
    (
        "no path",
        &[(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a")],
        &[],
    ),
    (
        "no method",
        &[(b":scheme", b"http"), (b":path", b"{m}"), (b":authority", b"a")],
        &[],
    ),
    (
        "no scheme",
        &[(b":method", b"GET"), (b":path", b"{m}"), (b":authority", b"a")],
        &[],
    ),
    (
        "two paths",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":path", b"{s}"),
            (b":authority", b"a"),
        ],
        &[],
    ),
    (
        "two methods",
        &[
            (b":method", b"GET"),
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
        ],
        &[],
    ),
    (
        "two authorities",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b":authority", b"evil"),
        ],
        &[],
    ),
    (
        "pseudo behind regular",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b"x", b"y"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
        ],
        &[],
    ),
    (
        "unknown pseudo",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b":x", b"y"),
        ],
        &[],
    ),
    (
        "status",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b":status", b"200"),
        ],
        &[],
    ),
    (
        "method with space",
        &[
            (b":method", b"GET {s} HTTP/1.1\r\nHost: a\r\n\r\nGET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
        ],
        &[],
    ),
    (
        "host disagrees",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"host", b"evil"),
        ],
        &[],
    ),
    (
        "two hosts",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b"host", b"a"),
            (b"host", b"evil"),
        ],
        &[],
    ),
    (
        "authority with user",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"evil@a"),
        ],
        &[],
    ),
    (
        "authority with CRLF",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a\r\nx: y"),
        ],
        &[],
    ),
    (
        "authority with path",
        &[
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a/evil"),
        ],
        &[],
    ),
    (
        "connect",
        &[(b":method", b"CONNECT"), (b":authority", b"a:80")],
        &[],
    ),
    (
        "two lengths",
        &[
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"content-length", b"5"),
            (b"content-length", b"0"),
        ],
        &[b"hello"],
    ),
    (
        "two equal lengths",
        &[
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"content-length", b"5"),
            (b"content-length", b"5"),
        ],
        &[b"hello"],
    ),
    (
        "signed length",
        &[
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"content-length", b"+5"),
        ],
        &[b"hello"],
    ),
    (
        "length without body",
        &[
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"content-length", b"5"),
        ],
        &[],
    ),
    (
        "length below body",
        &[
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"content-length", b"0"),
        ],
        &[b"GET {s} HTTP/1.1\r\nHost: a\r\n\r\n"],
    ),
    (
        "length above body",
        &[
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"{m}"),
            (b":authority", b"a"),
            (b"content-length", b"500"),
        ],
        &[b"hello"],
    ),
];
