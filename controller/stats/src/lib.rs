//! Pure mathematics of evidence: is the canary worse than stable, is it good enough, how sure are we?
//!
//! No clock, no I/O, no randomness: counts and seconds come in, nats and bounds go out, bit for bit the same for
//! the same input. "Evidence 2a" and the like in the comments name sections of the project's specification of the
//! statistics. All logarithms are natural; `ln M >= ln(1/alpha)` rolls back with at most `alpha` false alarms
//! over the whole rollout, however often it is looked at (Ville's inequality).
//!
//! # The way of one decision
//!
//! 1. [`blocks::Closer`], one per stream (proxy and split hash): push every tick, `close()` before a weight change.
//! 2. [`errors::ErrorProcess`] and [`latency::LatencyProcess`]: `tick(dt, &closed_blocks)` on every tick, with no
//!    blocks too.
//! 3. Roll back when [`combine::largest`] of `log_roll()` reaches `ln(1/alpha)`; promote when [`combine::least`] of
//!    `log_promote()` reaches `ln(1/beta)` and the soak is over.
//! 4. [`pacing::Pace::next`]: the next weight from the canary's totals.
//! 5. [`bounds`] and `shares()`: the explanation; [`information::Outlook`]: what to expect beforehand.
//! 6. Before the canary: [`dispersion::Noise`] for phi, [`dispersion::pod_spread`] and [`dispersion::widened`] for
//!    the margins; meanwhile [`placebo::Placebos`] watches the engine itself.
//!
//! # Table of contents
//!
//! | module | holds | section |
//! |---|---|---|
//! | [`counts`] | `Arm{n, x}`, `Counts{stable, canary}` | 2.0 |
//! | [`halfplane`] | `Margin`, `Rates`, `Side`, `log_e(block, alternative, margin, side)`, `Bet` (projection) | 2a |
//! | [`blocks`] | `Closer<T>`: `push(dt, tick)`, `close()`; `Tally` | 2.0 |
//! | [`baseline`] | `Baseline`: stable rate with a ten-minute half-life | 2a |
//! | [`capital`] | `Spread` (head start, horizon), `Capital`: restarts in log space | 2a |
//! | [`errors`] | `ErrorConfig`, `Phi`, `ErrorProcess`, the seven alternatives | 2a |
//! | [`latency`] | `Histograms`, `LatencyConfig`, `LatencyProcess`, `Family` of bets, tilts, the learned one; `Prospect`, `LogNormal`: expected times | 2b, 2f |
//! | [`combine`] | `average`, `largest`, `shares`, `least`, `guilty`, `guilty_among`, `after_retries` | 2c |
//! | [`dispersion`] | `Noise` (phi-hat), `dispersion`, `pod_spread`, `widened` | 2d |
//! | [`placebo`] | `Placebos`: A/A watch over the engine | 2d |
//! | [`pacing`] | `Pace`, `Sight`, `suspect`, `upper_rate` | 2e |
//! | [`information`] | `information`, `Outlook`: expected times, floors, smallest visible effect | 2f |
//! | [`bounds`] | `proportion`, `ratio`, `RatioSet`, `quantile`, `dkw_radius`: anytime bounds | 2a, 2b, 2g |
//! | [`versions`] | `log_e`: split of errors over several versions | 2a |
//!
//! # Contract
//!
//! * Every state is `Serialize + Deserialize` and finite for any counts that fit in `u64`. Saved as JSON it comes
//!   back bit for bit if the host builds `serde_json` with its `float_roundtrip` feature; in compact forms that do not
//!   describe themselves (postcard) always, so no field may be skipped, flattened or untagged.
//! * Settings are refused by their constructors ([`Refused`]), also when read back from JSON.
//! * Nothing here panics on data.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod baseline;
pub mod blocks;
pub mod bounds;
pub mod capital;
pub mod combine;
pub mod counts;
pub mod dispersion;
pub mod errors;
pub mod halfplane;
pub mod information;
pub mod latency;
mod mixture;
pub mod pacing;
pub mod placebo;
mod refused;
mod seconds;
pub mod versions;

pub use counts::{Arm, Counts};
pub use refused::Refused;
