//! Seconds of a tick, as far as they can be believed.

/// Thirty years: a longer tick is a broken clock.
const LONGEST: f64 = 1e9;

/// At least 0, finite; 0 if it is no number.
pub(crate) fn seconds(dt: f64) -> f64 {
    if dt.is_nan() { 0.0 } else { dt.clamp(0.0, LONGEST) }
}
