//! Isotonic regression: pooling adjacent violators.

/// Adjacent buckets with one common ratio.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    /// End of the buckets, exclusive.
    pub to: usize,
    /// Numerator.
    pub seen: f64,
    /// Denominator, and weight: positive.
    pub expected: f64,
}

/// The nearest ratios `seen / expected` that rise strictly from pool to pool, given bucket by bucket.
pub(super) fn pooled(buckets: impl Iterator<Item = (f64, f64)>) -> Vec<Pool> {
    let mut pools: Vec<Pool> = Vec::with_capacity(buckets.size_hint().0);
    for (b, (seen, expected)) in buckets.enumerate() {
        let to = b + 1;
        let mut next = Pool { to, seen, expected };
        while let Some(last) = pools.pop_if(|last| last.seen * next.expected >= next.seen * last.expected) {
            next.seen += last.seen;
            next.expected += last.expected;
        }
        pools.push(next);
    }
    pools
}
