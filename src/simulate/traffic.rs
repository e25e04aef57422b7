//! Traffic: how many requests each second, how many of them bad, how long they take, and which pod of stable answers.
//!
//! Counts, durations and pods are drawn from streams of their own: what is looked at changes no other figure.

use super::{
    durations::{Cells, Durations, NONE},
    pods::{PODS, Pods, requests},
    worlds::World,
};
use controller::{contract::evidence::Tally, contract::policy::Margin, stats::Arm};
use rand::{SeedableRng, rngs::SmallRng};
use std::sync::Arc;

/// What happens, to whom, and at how much traffic.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The world.
    pub world: World,
    /// Requests a second.
    pub rps: f64,
    /// Share of bad answers of stable.
    pub baseline: f64,
    /// How much worse a canary may be and still be promoted.
    pub margin: Margin,
    /// How long requests take.
    durations: Arc<Durations>,
}

/// The traffic of one release.
pub struct Traffic {
    scene: Scene,
    counts: SmallRng,
    delays: SmallRng,
    shares: SmallRng,
    second: u64,
    pods: Pods,
}

impl Scene {
    /// A world with so much traffic, of which stable fails a share.
    pub fn new(world: World, rps: f64, baseline: f64, margin: Margin) -> Scene {
        Scene {
            world,
            rps,
            baseline,
            margin,
            durations: Arc::new(Durations::of(world.delay())),
        }
    }

    /// Shares of bad answers of stable and canary, `t` seconds after the first weight.
    fn rates(&self, t: u64) -> [f64; 2] {
        self.world.rates(self.baseline, self.margin, t)
    }

    /// Whether the canary is, in the end, worse than stable: then a rollback is right, else it is a false one.
    pub fn is_worse(&self) -> bool {
        let [stable, canary] = self.rates(u64::MAX);
        self.world.is_slower() || (canary > stable && self.world != World::NoTraffic)
    }

    fn requests(&self) -> f64 {
        self.world.rps(self.rps)
    }
}

impl Traffic {
    /// The same for the same scene and seed, whatever else is simulated, and whoever looks at it.
    pub fn new(scene: Scene, seed: u64) -> Traffic {
        let parts = [scene.world as u64, scene.rps.to_bits(), scene.baseline.to_bits()];
        let seed = parts.into_iter().fold(mix(seed), |s, p| mix(s ^ p));
        let [mut counts, delays, shares] = [0, 1, 2].map(|i| SmallRng::seed_from_u64(mix(seed ^ i)));
        let pods = Pods::new(scene.world.noise(), &mut counts);
        Traffic {
            scene,
            counts,
            delays,
            shares,
            second: 0,
            pods,
        }
    }

    /// A second of stable alone, before the release.
    pub fn before(&mut self) -> Arm {
        self.pods.advance(&mut self.counts);
        let rate = self.pods.stable(self.scene.baseline);
        requests(self.scene.requests(), rate, &mut self.counts)
    }

    /// The next second of the release: stable and canary, which gets this share.
    pub fn second(&mut self, share: f64) -> [Arm; 2] {
        let [stable, canary] = self.scene.rates(self.second);
        self.pods.advance(&mut self.counts);
        self.second += 1;
        let all = self.scene.requests();
        let rates = [self.pods.stable(stable), self.pods.canary(canary)];
        [
            requests(all * (1.0 - share), rates[0], &mut self.counts),
            requests(all * share, rates[1], &mut self.counts),
        ]
    }

    /// Stable's requests of the last second by pod.
    pub fn divide(&mut self, stable: Arm) -> [Arm; PODS] {
        self.pods.divide(stable, &mut self.shares)
    }

    /// Draws the durations of a track's requests that have ended into their tally, and gives them.
    pub fn time(&mut self, track: usize, tally: &mut Tally) -> Cells {
        self.scene.durations.fill(track, tally, &mut self.delays)
    }

    /// Durations of so many requests of a track.
    pub fn durations(&mut self, track: usize, n: u64) -> Cells {
        let mut cells = NONE;
        self.scene.durations.add(track, n, &mut cells, &mut self.delays);
        cells
    }

    /// What durations mean.
    pub fn scale(&self) -> &Durations {
        &self.scene.durations
    }

    /// Requests of a track that have ended when their second does.
    pub fn ended(&self, track: usize, requests: u64) -> u64 {
        let hangs = track == 1 && self.scene.world == World::Hang;
        if hangs { 0 } else { requests }
    }

    /// Requests of the canary without a good answer.
    pub fn harm(&self, canary: Arm) -> u64 {
        canary.n - self.ended(1, canary.n - canary.x)
    }

    /// Whether the counts cannot be read at this moment.
    pub fn is_silent(&self) -> bool {
        self.second > 0 && self.scene.world.is_silent(self.second - 1)
    }

    /// Seconds so far.
    pub fn seconds(&self) -> u64 {
        self.second
    }
}

/// SplitMix64's finaliser: neighbouring seeds give unrelated streams.
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use controller::contract::policy::Margins;

    /// With the default margins.
    pub fn scene(world: World, rps: f64, baseline: f64) -> Scene {
        Scene::new(world, rps, baseline, Margins::default().promote)
    }

    fn sum(world: World, share: f64) -> [Arm; 2] {
        let mut traffic = Traffic::new(scene(world, 100.0, 0.01), 7);
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
        let [_, at_margin] = sum(World::Margin, 0.5);
        assert!((at_margin.bad() / at_margin.requests() / 0.0135 - 1.0).abs() < 0.03);
    }

    #[test]
    fn three_times_most_is_everything() {
        let [_, canary] = Traffic::new(scene(World::X3, 100.0, 0.5), 1).second(0.5);
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
    fn one_seed_gives_one_traffic_whoever_looks_at_it() {
        assert_eq!(sum(World::PodSpread, 0.2), sum(World::PodSpread, 0.2));
        assert_ne!(sum(World::Healthy, 0.2), sum(World::X2, 0.2));
        let counts = |looked: bool| -> Vec<[Arm; 2]> {
            let mut traffic = Traffic::new(scene(World::PrivateBursts, 100.0, 0.01), 7);
            let second = |_| {
                let tracks = traffic.second(0.2);
                if looked {
                    traffic.divide(tracks[0]);
                    traffic.durations(1, tracks[1].n);
                }
                tracks
            };
            (0..200).map(second).collect()
        };
        assert_eq!(counts(true), counts(false));
    }

    #[test]
    fn what_hangs_has_not_ended_and_is_harm() {
        let hang = Traffic::new(scene(World::Hang, 100.0, 0.01), 7);
        assert_eq!(
            (hang.ended(0, 9), hang.ended(1, 9), hang.harm(Arm::new(9, 1))),
            (9, 0, 9)
        );
        let healthy = Traffic::new(scene(World::Healthy, 100.0, 0.01), 7);
        assert_eq!((healthy.ended(1, 9), healthy.harm(Arm::new(9, 1))), (9, 1));
    }
}
