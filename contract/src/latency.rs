//! The latency buckets: one set of edges for both tracks, the metrics and the evidence, so that counts can be
//! compared bucket by bucket (statistics 2b).

/// Finite upper edges: 0.5 ms times 2^(i/4), the last one 65.5 s.
pub const EDGES: usize = 69;
/// Buckets: one below each edge, and the overflow.
pub const BUCKETS: usize = EDGES + 1;
/// The lowest edge, in nanoseconds.
const FIRST_NS: u64 = 500_000;
/// 2^(1/4), 2^(2/4), 2^(3/4) as fractions of 2^32: quarter octaves within an octave.
const QUARTERS: [u64; 3] = [5_107_605_667, 6_074_000_999, 7_223_245_205];

/// Upper edge of bucket `i < EDGES`, in seconds.
pub fn edge_seconds(i: usize) -> f64 {
    FIRST_NS as f64 * 1e-9 * 2f64.powf(i as f64 / 4.0)
}

/// The bucket of a duration: the first whose upper edge is not below it; integer arithmetic only, for the hot path.
pub fn bucket(nanos: u64) -> usize {
    if nanos <= FIRST_NS {
        return 0;
    }
    // nanos - 1, so that a duration equal to an edge lies below it (Prometheus' `le`).
    let ratio = ((u128::from(nanos - 1)) << 32) / u128::from(FIRST_NS);
    let octave = (127 - ratio.leading_zeros()).saturating_sub(32);
    let within = (ratio >> octave) as u64;
    let quarter = QUARTERS.iter().filter(|q| within >= **q).count();
    (octave as usize * 4 + quarter + 1).min(EDGES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges_run_from_half_a_millisecond_past_a_minute() {
        assert_eq!(edge_seconds(0), 0.0005);
        assert!((edge_seconds(4) - 0.001).abs() < 1e-12);
        assert!(edge_seconds(EDGES - 1) > 60.0);
    }

    #[test]
    fn extremes_have_a_bucket() {
        assert_eq!(
            (bucket(0), bucket(500_000), bucket(500_001), bucket(u64::MAX)),
            (0, 0, 1, EDGES)
        );
        assert_eq!(bucket(1_000_000), 4);
    }

    proptest! {
        #[test]
        fn agrees_with_the_edges(nanos in 0u64..100_000_000_000) {
            let b = bucket(nanos);
            let s = nanos as f64 * 1e-9;
            if b < EDGES { prop_assert!(s <= edge_seconds(b) * (1.0 + 1e-8)); }
            if b > 0 { prop_assert!(s > edge_seconds(b - 1) * (1.0 - 1e-8)); }
        }
    }
}
