//! Traffic by counts: how many requests each second, and how many of them bad.

use super::worlds::{Noise, World};
use controller::stats::Arm;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rand_distr::{Binomial, Distribution, Normal, Poisson};

/// Pods of stable, in the worlds where pods matter; the canary has one more.
const PODS: usize = 9;
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

/// What happens, to whom, and at how much traffic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scene {
    /// The world.
    pub world: World,
    /// Requests a second.
    pub rps: f64,
    /// Share of bad answers of stable.
    pub baseline: f64,
}

/// The traffic of one release.
pub struct Traffic {
    scene: Scene,
    rng: SmallRng,
    second: u64,
    pods: Pods,
}

/// How far each pod is from its version's error rate; the canary's pod is the last.
struct Pods {
    burst: [u32; PODS + 1],
    factor: [f64; PODS + 1],
}

impl Traffic {
    /// The same for the same scene and seed, whatever else is simulated, and whoever looks at it.
    pub fn new(scene: Scene, seed: u64) -> Traffic {
        let parts = [scene.world as u64, scene.rps.to_bits(), scene.baseline.to_bits()];
        let mut rng = SmallRng::seed_from_u64(parts.into_iter().fold(mix(seed), |s, p| mix(s ^ p)));
        let pods = Pods::new(scene.world.noise(), &mut rng);
        Traffic {
            scene,
            rng,
            second: 0,
            pods,
        }
    }

    /// A minute of stable alone, before the release.
    pub fn minute(&mut self) -> Arm {
        let noise = self.scene.world.noise();
        let factors: f64 = (0..60).map(|_| self.pods.second(noise, &mut self.rng)[0]).sum();
        let requests = 60.0 * self.scene.world.rps(self.scene.rps);
        self.arm(requests, self.scene.baseline * factors / 60.0)
    }

    /// The next second of the release: stable and canary, which gets this share.
    pub fn second(&mut self, share: f64) -> [Arm; 2] {
        let rates = self.scene.world.rates(self.scene.baseline, self.second);
        let factors = self.pods.second(self.scene.world.noise(), &mut self.rng);
        let requests = self.scene.world.rps(self.scene.rps);
        self.second += 1;
        [
            self.arm(requests * (1.0 - share), rates[0] * factors[0]),
            self.arm(requests * share, rates[1] * factors[1]),
        ]
    }

    /// Whether the counts cannot be read at this moment.
    pub fn is_silent(&self) -> bool {
        self.second > 0 && self.scene.world.is_silent(self.second - 1)
    }

    /// Seconds so far.
    pub fn seconds(&self) -> u64 {
        self.second
    }

    fn arm(&mut self, requests: f64, rate: f64) -> Arm {
        let n = Poisson::new(requests).map_or(0, |d| d.sample(&mut self.rng) as u64);
        let noisy = self.scene.world.noise() != Noise::None;
        let worst = if noisy { WORST } else { 1.0 };
        let x = Binomial::new(n, rate.min(worst)).map_or(0, |d| d.sample(&mut self.rng));
        Arm::new(n, x)
    }
}

impl Pods {
    fn new(noise: Noise, rng: &mut SmallRng) -> Pods {
        let mut factor = [1.0; PODS + 1];
        if let (Noise::Pods, Ok(normal)) = (noise, Normal::new(-SPREAD * SPREAD / 2.0, SPREAD)) {
            factor.fill_with(|| normal.sample(rng).exp());
        }
        Pods {
            burst: [0; PODS + 1],
            factor,
        }
    }

    /// Factors of stable, whose pods share its traffic evenly, and of the canary.
    fn second(&mut self, noise: Noise, rng: &mut SmallRng) -> [f64; 2] {
        let factor = match noise {
            Noise::None => return [1.0, 1.0],
            Noise::Pods => self.factor,
            Noise::Private => self.burst.each_mut().map(|left| burst(left, rng)),
            Noise::Common => [burst(&mut self.burst[0], rng); PODS + 1],
        };
        let stable: f64 = factor[..PODS].iter().sum();
        [stable / PODS as f64, factor[PODS]]
    }
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

/// SplitMix64's finaliser: neighbouring seeds give unrelated streams.
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(world: World, share: f64) -> [Arm; 2] {
        let scene = Scene {
            world,
            rps: 100.0,
            baseline: 0.01,
        };
        let mut traffic = Traffic::new(scene, 7);
        (0..20_000).fold([Arm::default(); 2], |s, _| {
            let [stable, canary] = traffic.second(share);
            [s[0].plus(stable), s[1].plus(canary)]
        })
    }

    #[test]
    fn requests_and_errors_have_their_means() {
        let [stable, canary] = sum(World::X3, 0.1);
        assert!((stable.requests() / 1.8e6 - 1.0).abs() < 0.01, "{stable:?}");
        assert!((canary.requests() / 2e5 - 1.0).abs() < 0.01, "{canary:?}");
        assert!((canary.bad() / canary.requests() / 0.03 - 1.0).abs() < 0.05);
        assert_eq!(sum(World::NoTraffic, 0.1), [Arm::default(); 2]);
    }

    #[test]
    fn three_times_most_is_everything() {
        let scene = Scene {
            world: World::X3,
            rps: 100.0,
            baseline: 0.5,
        };
        let [_, canary] = Traffic::new(scene, 1).second(0.5);
        assert!(canary.n > 0 && canary.x == canary.n);
    }

    /// A burst of 20 s every 300 s or so: 1 + 9 * 6.45 % times the errors, in both versions.
    #[test]
    fn bursts_bring_their_errors() {
        for world in [World::CommonBursts, World::PrivateBursts] {
            for arm in sum(world, 0.5) {
                let factor = arm.bad() / arm.requests() / 0.01;
                assert!((factor - 1.58).abs() < 0.25, "{world:?} {factor}");
            }
        }
    }

    #[test]
    fn one_seed_gives_one_traffic() {
        assert_eq!(sum(World::PodSpread, 0.2), sum(World::PodSpread, 0.2));
        assert_ne!(sum(World::Healthy, 0.2), sum(World::X2, 0.2));
    }
}
