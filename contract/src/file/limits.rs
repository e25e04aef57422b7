use crate::Span;
use serde::{Deserialize, Serialize};

/// What one client may ask for, and what all of them together. Sizes are in octets.
///
/// Every limit bounds what somebody can hold or make us do who has not been told who he is; the defaults are those
/// that Envoy advises for edges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LimitsEntry {
    /// Requests under way at once, over all workers, each of which has an equal part. What comes beyond is answered
    /// with 503 and `retry-after` before any work: a queue that grows only makes everybody late.
    pub max_requests: usize,
    /// Longest header section of a request, 1 KiB to 60 KiB: longer ones are answered with 431. More is not offered,
    /// for it is held for each request.
    pub header_size: usize,
    /// Most header lines of a request, 1 to 100: more are answered with 431.
    pub header_count: usize,
    /// How long a connection may lie without a request. Long, because closing races with the next request; bounded,
    /// because clients that vanished without a word leave their connections.
    pub idle_timeout: Span,
    /// HTTP/2: requests at once on one connection.
    pub http2_streams: u32,
    /// HTTP/2: octets that a client may send ahead on one stream; they are held when its backend is slow.
    pub http2_stream_window: u32,
    /// HTTP/2: octets that a client may send ahead on one connection, at least 65 535.
    pub http2_connection_window: u32,
    /// HTTP/2: frames beside requests (resets, pings, settings, priorities, windows, empty data) that a client may
    /// send at once, and a tenth of it each second; requests and answers earn some. Beyond, the connection is closed
    /// with ENHANCE_YOUR_CALM.
    pub http2_control_frames: u32,
    /// HTTP/2: resets that a client may provoke on one connection by breaking the rules of its streams. Honest clients
    /// provoke none.
    pub http2_provoked_resets: usize,
    /// How late a worker may be for a whole second before it refuses a growing share of new requests (503,
    /// `retry-after`); `0s`, the default: never. 250ms is a good value where this process has cores of its own;
    /// where it is starved by its neighbours, requests are refused that would have been served late.
    pub shed_lateness: Span,
}

impl Default for LimitsEntry {
    fn default() -> LimitsEntry {
        LimitsEntry {
            max_requests: 10_000,
            header_size: 60 * 1024,
            header_count: 100,
            idle_timeout: Span::seconds(3600),
            http2_streams: 100,
            http2_stream_window: 64 * 1024,
            http2_connection_window: 1024 * 1024,
            http2_control_frames: 1000,
            http2_provoked_resets: 100,
            shed_lateness: Span::seconds(0),
        }
    }
}
