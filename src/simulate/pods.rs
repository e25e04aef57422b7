//! The pods of both versions: how far each is from its version's error rate, and which requests it gets.

use super::{
    draw::{Kinds, poisson},
    worlds::Noise,
};
use controller::stats::Arm;
use rand::{Rng, RngExt, rngs::SmallRng};
use rand_distr::{Distribution, Normal};

/// Pods of stable; the canary has one.
pub const PODS: usize = 9;
/// Chance that a burst begins in a second: every five minutes.
const BURST: f64 = 1.0 / 300.0;
/// Seconds that it lasts.
const BURST_SECONDS: u32 = 20;
/// How many times more errors it brings.
const BURST_FACTOR: f64 = 10.0;
/// Standard deviation of the log error rate between pods.
const SPREAD: f64 = 0.3;
/// What noise may raise an error rate to.
const WORST: f64 = 0.9;

/// The canary's pod is the last.
pub struct Pods {
    noise: Noise,
    burst: [u32; PODS + 1],
    factor: [f64; PODS + 1],
    /// Shares of bad answers of stable's pods, and what follows from them: which pod a good or a bad answer is of.
    rates: [f64; PODS],
    kinds: [Kinds; 2],
}

impl Pods {
    /// Drawn once a release.
    pub fn new(noise: Noise, rng: &mut SmallRng) -> Pods {
        let mut factor = [1.0; PODS + 1];
        if let (Noise::Pods, Ok(normal)) = (noise, Normal::new(-SPREAD * SPREAD / 2.0, SPREAD)) {
            factor.fill_with(|| normal.sample(rng).exp());
        }
        let even = Kinds::of(&[1.0; PODS]);
        Pods {
            noise,
            burst: [0; PODS + 1],
            factor,
            rates: [0.0; PODS],
            kinds: [even.clone(), even],
        }
    }

    /// The next second: bursts go on, begin, and end.
    pub fn advance(&mut self, rng: &mut SmallRng) {
        match self.noise {
            Noise::None | Noise::Pods => {}
            Noise::Private => self.factor = self.burst.each_mut().map(|left| burst(left, rng)),
            Noise::Common => self.factor = [burst(&mut self.burst[0], rng); PODS + 1],
        }
    }

    /// Stable's share of bad answers, where pods without noise have this one. Its pods share its traffic evenly.
    pub fn stable(&mut self, rate: f64) -> f64 {
        let mut rates = self.rates;
        for (own, factor) in rates.iter_mut().zip(self.factor) {
            *own = self.noisy(rate, factor);
        }
        if rates != self.rates {
            self.rates = rates;
            self.kinds = [Kinds::of(&rates.map(|r| 1.0 - r)), Kinds::of(&rates)];
        }
        rates.iter().sum::<f64>() / PODS as f64
    }

    /// The same of the canary.
    pub fn canary(&self, rate: f64) -> f64 {
        self.noisy(rate, self.factor[PODS])
    }

    fn noisy(&self, rate: f64, factor: f64) -> f64 {
        let worst = if self.noise == Noise::None { 1.0 } else { WORST };
        (rate * factor).min(worst)
    }

    /// Stable's requests of this second by pod. Good and bad answers of a pod are Poisson numbers of their own, so that
    /// they are divided apart.
    pub fn divide(&self, stable: Arm, rng: &mut impl Rng) -> [Arm; PODS] {
        let (mut good, mut bad) = ([0; PODS], [0; PODS]);
        self.kinds[0].add(stable.n - stable.x, &mut good, rng);
        self.kinds[1].add(stable.x, &mut bad, rng);
        std::array::from_fn(|i| Arm::new(good[i] + bad[i], bad[i]))
    }
}

/// Requests with a mean, of which a share is bad.
pub fn requests(mean: f64, rate: f64, rng: &mut SmallRng) -> Arm {
    let bad = poisson(mean * rate, rng);
    Arm::new(poisson(mean * (1.0 - rate), rng) + bad, bad)
}

/// Goes on with a burst, or begins one.
fn burst(left: &mut u32, rng: &mut SmallRng) -> f64 {
    *left = if rng.random_bool(BURST) {
        BURST_SECONDS
    } else {
        left.saturating_sub(1)
    };
    if *left > 0 { BURST_FACTOR } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn divided(noise: Noise, seconds: usize) -> [Arm; PODS] {
        let mut rng = SmallRng::seed_from_u64(11);
        let mut pods = Pods::new(noise, &mut rng);
        (0..seconds).fold([Arm::default(); PODS], |sums, _| {
            pods.advance(&mut rng);
            let rate = pods.stable(0.05);
            let second = pods.divide(requests(900.0, rate, &mut rng), &mut rng);
            std::array::from_fn(|i| sums[i].plus(second[i]))
        })
    }

    #[test]
    fn pods_share_the_requests_and_differ_only_where_they_should() {
        for (noise, most) in [(Noise::None, 1.1), (Noise::Common, 1.15), (Noise::Pods, 20.0)] {
            let pods = divided(noise, 2000);
            let rates: Vec<f64> = pods.iter().map(|p| p.bad() / p.requests()).collect();
            assert!(
                pods.iter().all(|p| (p.requests() / 200_000.0 - 1.0).abs() < 0.02),
                "{pods:?}"
            );
            let of = |pick: fn(f64, f64) -> f64| rates.iter().copied().reduce(pick).unwrap();
            let ratio = of(f64::max) / of(f64::min);
            assert!(
                ratio < most && (noise != Noise::Pods || ratio > 1.3),
                "{noise:?} {ratio}"
            );
        }
    }
}
