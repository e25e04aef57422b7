//! The named worlds: what stable and the canary do, and how traffic and telemetry behave.

use clap::ValueEnum;
use controller::contract::policy::Margin;

/// Seconds after the first weight at which the late canary breaks.
const LATE: u64 = 120;
/// Seconds after the first weight at which both versions break.
const BOTH: u64 = 30;
/// Telemetry is silent for so many seconds of each period, longer than a check of a minute.
const SILENCE: u64 = 90;
/// Period of the silence, seconds; its second minute begins it.
const PERIOD: u64 = 300;

/// A world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum World {
    /// The canary is as good as stable
    Healthy,
    /// It fails twice as often
    X2,
    /// It fails three times as often
    X3,
    /// It fails 1 % of its requests
    #[value(name = "1%")]
    One,
    /// It fails 5 %
    #[value(name = "5%")]
    Five,
    /// It fails half
    #[value(name = "50%")]
    Half,
    /// It fails everything
    #[value(name = "100%")]
    All,
    /// It is good at first and fails half from 120 s on
    Late,
    /// Its errors lie exactly at the promotion margin of the policy: promoted no more often than beta
    Margin,
    /// All its requests take 10 % longer
    Latency,
    /// 1 % of its requests take ten times longer
    Tail,
    /// It accepts requests and never answers
    Hang,
    /// All its requests take twice as long
    Slow,
    /// Both versions fail 20 % from 30 s on: nobody's fault
    BothBad,
    /// Healthy; both versions have ten times the errors for 20 s, every 5 min or so
    CommonBursts,
    /// Healthy; the same bursts, but each of nine stable pods and the canary has its own
    PrivateBursts,
    /// Healthy as a version; but each of nine stable pods and the canary's one has its own error rate
    PodSpread,
    /// No request at all
    NoTraffic,
    /// Healthy; counts are missing for 90 s of every 5 min
    Gaps,
}

/// How error rates vary besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noise {
    /// Not at all.
    None,
    /// Bursts that hit everything at once.
    Common,
    /// Bursts of single pods.
    Private,
    /// Pods that differ for good.
    Pods,
}

/// How much longer the canary's requests take; errors are independent of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Delay {
    /// As long as stable's.
    Usual,
    /// So many times as long.
    Times(f64),
    /// A share of them so many times as long.
    Tail(f64, f64),
}

impl World {
    /// Shares of bad answers of stable and canary, `t` seconds after the first weight; the margin is that of promotion.
    pub fn rates(self, baseline: f64, margin: Margin, t: u64) -> [f64; 2] {
        match self {
            World::Margin => [baseline, margin.ratio * baseline + margin.absolute],
            World::X2 => [baseline, 2.0 * baseline],
            World::X3 => [baseline, 3.0 * baseline],
            World::One => [baseline, 0.01],
            World::Five => [baseline, 0.05],
            World::Half => [baseline, 0.5],
            World::All => [baseline, 1.0],
            World::Late if t >= LATE => [baseline, 0.5],
            World::BothBad if t >= BOTH => [0.2, 0.2],
            _ => [baseline, baseline],
        }
    }

    /// How long the canary's requests take, if they end.
    pub fn delay(self) -> Delay {
        match self {
            World::Latency => Delay::Times(1.1),
            World::Slow => Delay::Times(2.0),
            World::Tail => Delay::Tail(0.01, 10.0),
            _ => Delay::Usual,
        }
    }

    /// Whether the canary is slower than stable.
    pub fn is_slower(self) -> bool {
        self.delay() != Delay::Usual || self == World::Hang
    }

    /// What makes error rates vary.
    pub fn noise(self) -> Noise {
        match self {
            World::CommonBursts => Noise::Common,
            World::PrivateBursts => Noise::Private,
            World::PodSpread => Noise::Pods,
            _ => Noise::None,
        }
    }

    /// Requests a second, where `rps` were asked for.
    pub fn rps(self, rps: f64) -> f64 {
        if self == World::NoTraffic { 0.0 } else { rps }
    }

    /// Whether the counts of this second cannot be read when it ends.
    pub fn is_silent(self, t: u64) -> bool {
        self == World::Gaps && (60..60 + SILENCE).contains(&(t % PERIOD))
    }

    /// As it is typed.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map(|v| v.get_name().to_owned()).unwrap_or_default()
    }
}

impl Delay {
    /// Shares of the requests, and how many times longer they take.
    pub fn parts(self) -> [(f64, f64); 2] {
        match self {
            Delay::Usual => [(1.0, 1.0), (0.0, 1.0)],
            Delay::Times(factor) => [(1.0, factor), (0.0, 1.0)],
            Delay::Tail(share, factor) => [(1.0 - share, 1.0), (share, factor)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::traffic::tests::scene;
    use controller::contract::policy::Margins;

    #[test]
    fn only_faulty_canaries_are_worse() {
        let worse: Vec<String> = World::value_variants()
            .iter()
            .filter(|w| scene(**w, 100.0, 0.001).is_worse())
            .map(|w| w.name())
            .collect();
        let expected = "x2 x3 1% 5% 50% 100% late margin latency tail hang slow";
        assert_eq!(worse.join(" "), expected);
        assert!(!scene(World::One, 100.0, 0.05).is_worse());
    }

    #[test]
    fn faults_begin_and_silence_ends_when_they_should() {
        let late = |t| World::Late.rates(0.001, Margins::default().promote, t);
        assert_eq!((late(119), late(120)), ([0.001, 0.001], [0.001, 0.5]));
        let silent: Vec<u64> = (0..400).filter(|t| World::Gaps.is_silent(*t)).collect();
        assert_eq!(
            (silent[0], silent[89], silent[90], silent.len()),
            (60, 149, 360, 130)
        );
    }
}
