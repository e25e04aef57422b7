//! Alternatives for a latency distribution: the stable one tilted towards slow requests (evidence 2b).
//!
//! A bet is valid against *every* canary that is stochastically at most as slow as stable, because the ratio of
//! alternative to baseline never falls from bucket to bucket.

use super::histograms::{Histograms, running};

/// Ratio of alternative to baseline, constant over runs of buckets and never falling.
#[derive(Clone, Debug, PartialEq)]
pub struct Tilt {
    runs: Vec<Run>,
}

/// Buckets from the end of the run before up to `to`, exclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    to: usize,
    ratio: f64,
    /// Of the ratio; kept because a block needs it for each run.
    log: f64,
}

/// A block as running totals, made once and read by every tilt.
#[derive(Clone, Debug)]
pub struct Totals {
    stable: Vec<u64>,
    canary: Vec<u64>,
}

impl Tilt {
    /// From factors `g` before normalisation (finite, positive, never falling), one a bucket of the baseline `p`.
    pub fn new(p: &[f64], g: &[f64]) -> Tilt {
        let scale: f64 = p.iter().zip(g).map(|(p, g)| p * g).sum();
        let mut tilt = Tilt { runs: Vec::new() };
        g.iter()
            .enumerate()
            .for_each(|(b, g)| tilt.push(b + 1, g / scale));
        tilt
    }

    /// Appends a run; the same ratio as before prolongs the run before.
    pub(super) fn push(&mut self, to: usize, ratio: f64) {
        match self.runs.last_mut() {
            Some(last) if last.ratio == ratio => last.to = to,
            _ => self.runs.push(Run {
                to,
                ratio,
                log: ratio.ln(),
            }),
        }
    }

    /// `log e` of a block in nats; exactly 0 when an arm is empty.
    pub fn log_e(&self, block: &Totals) -> f64 {
        let (stable, canary) = (block.stable_requests(), block.canary_requests());
        if stable <= 0.0 || canary <= 0.0 {
            return 0.0;
        }
        let share = canary / (stable + canary);
        let mut from = 0;
        let mut sum = 0.0;
        for run in &self.runs {
            let (hits_stable, hits_canary) = (
                between(&block.stable, from, run.to),
                between(&block.canary, from, run.to),
            );
            if hits_stable + hits_canary > 0.0 {
                // P0 / P = 1 + share * (Q / P - 1), P0 being the mixture of both arms as the block holds them.
                let pooled = (share * (run.ratio - 1.0)).ln_1p();
                sum += hits_canary * (run.log - pooled) - hits_stable * pooled;
            }
            from = run.to;
        }
        sum
    }

    /// Expected `log e` per request, both arms counted, while a part `share` of the requests is the canary's and both
    /// have these probabilities of buckets.
    pub fn growth(&self, stable: &[f64], canary: &[f64], share: f64) -> f64 {
        let mass = |p: &[f64], from: usize, to: usize| -> f64 {
            p.get(from..to.min(p.len())).unwrap_or(&[]).iter().sum()
        };
        let grown = |from: &mut usize, run: &Run| {
            let from = std::mem::replace(from, run.to);
            let pooled = (share * (run.ratio - 1.0)).ln_1p();
            let (slow, usual) = (mass(canary, from, run.to), mass(stable, from, run.to));
            Some(share * slow * (run.log - pooled) - (1.0 - share) * usual * pooled)
        };
        self.runs.iter().scan(0, grown).sum()
    }

    /// The alternative itself: probability of each bucket for the baseline `p`.
    pub fn probabilities(&self, p: &[f64]) -> Vec<f64> {
        let ratio = |b: usize| {
            self.runs
                .iter()
                .find(|run| b < run.to)
                .map_or(0.0, |run| run.ratio)
        };
        p.iter().enumerate().map(|(b, p)| p * ratio(b)).collect()
    }
}

impl Totals {
    /// Running totals of a block.
    pub fn new(block: &Histograms) -> Totals {
        Totals {
            stable: running(&block.stable),
            canary: running(&block.canary),
        }
    }

    fn stable_requests(&self) -> f64 {
        self.stable.last().map_or(0.0, |n| *n as f64)
    }

    fn canary_requests(&self) -> f64 {
        self.canary.last().map_or(0.0, |n| *n as f64)
    }
}

/// Requests in the buckets `from..to`.
fn between(running: &[u64], from: usize, to: usize) -> f64 {
    let up_to = |b: usize| {
        if b == 0 {
            0
        } else {
            running.get(b - 1).or(running.last()).copied().unwrap_or(0)
        }
    };
    (up_to(to) - up_to(from)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ratios_are_one_run() {
        let tilt = Tilt::new(&[0.5, 0.3, 0.2], &[1.0, 1.0, 3.0]);
        assert_eq!(tilt.runs.iter().map(|run| run.to).collect::<Vec<_>>(), [2, 3]);
        assert!((tilt.probabilities(&[0.5, 0.3, 0.2]).iter().sum::<f64>() - 1.0).abs() < 1e-15);
    }
}
