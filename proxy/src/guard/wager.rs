//! Whether a canary fails grossly beyond chance, beside stable in the same proxy at the same time. Pure.
//!
//! Two claims must both be refuted: that the canary's error rate is at most `TOLERABLE`, and that the odds of its
//! errors are at most `TIMES` stable's. Each is bet against, block by block, by a few alternatives; under the claim the
//! capital is a nonnegative supermartingale that begins with 1, so it ever reaches [`ENOUGH`] with a chance of at most
//! 1/[`ENOUGH`] (Ville 1939). Both must, so the chance of a false alarm is that of the claim that is true.
//!
//! * The rate: likelihood ratios of the canary's bad requests.
//! * The odds: given the bad requests of a block, how many of them are the canary's is hypergeometric where both versions
//!   are alike, whatever the rate is; tilted by the odds (Fisher's noncentral distribution). So what makes both fail
//!   refutes nothing, at whatever pace.
//!
//! Half of a capital bets from the first second; the rest joins bit by bit, so that a fault that comes after hours of
//! good service is not weighed down by them: the j-th second gets `1200 / ((j + 1200) (j + 1201))` of it.

/// A canary's error rate that is no gross failure.
const TOLERABLE: f64 = 0.05;
/// How many times stable's odds are no gross failure.
const TIMES: f64 = 2.0;
/// Ten proxies that front one Service share the thousandth that a rollout may be cut by chance.
pub const ENOUGH: f64 = 10_000.0;
/// Rates that are bet on, against `TOLERABLE`.
const RATES: [f64; 2] = [0.25, 0.8];
/// Odds that are bet on, as multiples of `TIMES`.
const TILTS: [f64; 2] = [4.0, 32.0];
/// Seconds after which half of the reserve bets.
const HALF: f64 = 1200.0;

/// Requests of one track that have ended, and how many of them badly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// All.
    pub all: u64,
    /// Badly.
    pub bad: u64,
}

/// The requests of both tracks that ended in the same span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Of stable.
    pub stable: Ended,
    /// Of the canary.
    pub canary: Ended,
}

/// What has been won against the two claims.
#[derive(Clone, Debug)]
pub struct Wager {
    rate: Capital,
    odds: Capital,
}

/// The logarithms of what each bet is worth.
#[derive(Clone, Debug)]
struct Capital {
    bets: [f64; 2],
    seconds: f64,
}

impl Ended {
    /// The share of bad ones; 0 of none.
    pub fn rate(self) -> f64 {
        if self.all == 0 {
            return 0.0;
        }
        self.bad as f64 / self.all as f64
    }

    /// Both together.
    pub fn plus(self, more: Ended) -> Ended {
        Ended {
            all: self.all + more.all,
            bad: self.bad + more.bad,
        }
    }
}

impl Block {
    /// Both together.
    pub fn plus(self, more: Block) -> Block {
        Block {
            stable: self.stable.plus(more.stable),
            canary: self.canary.plus(more.canary),
        }
    }
}

impl Default for Wager {
    fn default() -> Wager {
        Wager {
            rate: Capital::new(),
            odds: Capital::new(),
        }
    }
}

impl Wager {
    /// A second passes.
    pub fn second(&mut self) {
        self.rate.second();
        self.odds.second();
    }

    /// Takes a block.
    pub fn take(&mut self, block: &Block) {
        self.rate
            .multiply(RATES.map(|rate| rate_factor(block.canary, rate)));
        self.odds.multiply(TILTS.map(|tilt| odds_factor(block, tilt)));
    }

    /// What the weaker of the two is worth.
    pub fn worth(&self) -> f64 {
        self.rate.worth().min(self.odds.worth())
    }
}

impl Capital {
    fn new() -> Capital {
        Capital {
            bets: [(0.5f64 / 2.0).ln(); 2],
            seconds: 0.0,
        }
    }

    fn second(&mut self) {
        let part = 0.5 * HALF / ((self.seconds + HALF) * (self.seconds + HALF + 1.0));
        self.seconds += 1.0;
        let added = (part / 2.0).ln();
        self.bets = self.bets.map(|bet| log_sum(bet, added));
    }

    fn multiply(&mut self, factors: [f64; 2]) {
        for (bet, factor) in self.bets.iter_mut().zip(factors) {
            *bet += factor;
        }
    }

    fn worth(&self) -> f64 {
        self.bets.iter().map(|b| b.exp()).sum()
    }
}

/// Logarithm of the likelihood ratio of a rate against `TOLERABLE`.
fn rate_factor(canary: Ended, rate: f64) -> f64 {
    let (bad, good) = (canary.bad as f64, canary.all.saturating_sub(canary.bad) as f64);
    bad * (rate / TOLERABLE).ln() + good * ((1.0 - rate) / (1.0 - TOLERABLE)).ln()
}

/// Logarithm of the likelihood ratio of odds `TIMES` `* tilt` against odds [`TIMES`], given the block's bad requests.
fn odds_factor(block: &Block, tilt: f64) -> f64 {
    let bad = block.canary.bad + block.stable.bad;
    if bad == 0 || block.canary.all == 0 || block.stable.all == 0 {
        return 0.0;
    }
    let won = block.canary.bad as f64 * tilt.ln();
    won + weight(block, bad, TIMES.ln()) - weight(block, bad, (TIMES * tilt).ln())
}

/// Logarithm of the sum over j of C(canary, j) C(stable, bad - j) odds^j, up to a factor that all odds share.
fn weight(block: &Block, bad: u64, odds: f64) -> f64 {
    let (canary, stable) = (block.canary.all, block.stable.all);
    let first = bad.saturating_sub(stable);
    let mut term = first as f64 * odds;
    let mut sum = term;
    for j in first..bad.min(canary) {
        let up = (canary - j) as f64 * (bad - j) as f64;
        let down = (j + 1) as f64 * (stable + j + 1 - bad) as f64;
        term += (up / down).ln() + odds;
        sum = log_sum(sum, term);
    }
    sum
}

fn log_sum(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    high + (low - high).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    fn block(canary: (u64, u64), stable: (u64, u64)) -> Block {
        let ended = |(bad, all)| Ended { all, bad };
        Block {
            stable: ended(stable),
            canary: ended(canary),
        }
    }

    fn binomial(random: &mut SmallRng, n: u64, p: f64) -> u64 {
        (0..n).filter(|_| random.random::<f64>() < p).count() as u64
    }

    /// All ways in which the bad requests of a block can fall, with their chances at these odds.
    fn ways(canary: u64, stable: u64, bad: u64, odds: f64) -> Vec<(u64, f64)> {
        let choose = |n: u64, k: u64| (0..k).fold(1.0, |c, i| c * (n - i) as f64 / (i + 1) as f64);
        let range = bad.saturating_sub(stable)..=bad.min(canary);
        let weigh = |j: u64| choose(canary, j) * choose(stable, bad - j) * odds.powi(j as i32);
        let all: f64 = range.clone().map(weigh).sum();
        range.map(|j| (j, weigh(j) / all)).collect()
    }

    #[test]
    fn a_bet_on_odds_is_fair_at_the_claim_and_loses_below_it() {
        for (canary, stable, bad) in [(10, 90, 7), (50, 50, 60), (3, 2, 4), (1, 1, 1), (20, 1, 21)] {
            for tilt in TILTS {
                let mean = |odds: f64| -> f64 {
                    let ways = ways(canary, stable, bad, odds).into_iter();
                    ways.map(|(j, p)| p * odds_factor(&block((j, canary), (bad - j, stable)), tilt).exp())
                        .sum()
                };
                assert!((mean(TIMES) - 1.0).abs() < 1e-9, "{canary} {stable} {bad} {tilt}");
                assert!(mean(1.0) <= 1.0 + 1e-9);
            }
        }
    }

    #[test]
    fn a_bet_on_the_rate_is_fair_at_the_claim_and_loses_below_it() {
        for rate in RATES {
            let factor = |bad: u64| rate_factor(Ended { all: 1, bad }, rate).exp();
            let mean = |p: f64| p * factor(1) + (1.0 - p) * factor(0);
            assert!((mean(TOLERABLE) - 1.0).abs() < 1e-12 && mean(0.01) < 1.0);
        }
    }

    #[test]
    fn the_parts_that_join_add_up_to_one() {
        let mut capital = Capital::new();
        for _ in 0..1_000_000 {
            capital.second();
        }
        let worth = capital.worth();
        assert!(worth <= 1.0 && worth > 0.99, "{worth}");
    }

    /// Tenths of a second until the wager is won, at these rates, after so many good seconds.
    fn tenths(rates: (f64, f64), a_tenth: (u64, u64), good: u64) -> Option<u64> {
        let mut random = SmallRng::seed_from_u64(7);
        let mut wager = Wager::default();
        for i in 0..good * 10 + 300 {
            if i % 10 == 9 {
                wager.second();
            }
            let failing = i >= good * 10;
            let (canary, stable) = if failing { rates } else { (0.001, 0.001) };
            let bad = (
                binomial(&mut random, a_tenth.0, canary),
                binomial(&mut random, a_tenth.1, stable),
            );
            wager.take(&block((bad.0, a_tenth.0), (bad.1, a_tenth.1)));
            if wager.worth() >= ENOUGH {
                return failing.then_some(i - good * 10 + 1);
            }
        }
        None
    }

    #[test]
    fn gross_failures_are_found_within_a_second_at_a_hundred_a_second() {
        for good in [0, 1800] {
            for stable in [10, 90, 990] {
                assert!(tenths((1.0, 0.001), (10, stable), good).unwrap() <= 10);
                assert!(
                    tenths((0.5, 0.001), (10, stable), good).unwrap() <= 10,
                    "half, {stable}"
                );
            }
            assert!(tenths((0.2, 0.001), (10, 90), good).unwrap() <= 25);
        }
    }

    #[test]
    fn what_stable_does_likewise_is_no_failure_of_the_canary() {
        for rate in [0.2, 0.5, 1.0] {
            assert_eq!(tenths((rate, rate), (10, 10), 10), None);
            assert_eq!(tenths((rate, rate), (10, 90), 10), None);
        }
        assert_eq!(
            tenths((0.25, 0.15), (50, 50), 10),
            None,
            "odds below twice stable's"
        );
        assert_eq!(
            tenths((0.04, 0.001), (50, 50), 10),
            None,
            "a rate below the tolerable"
        );
    }

    /// Ten thousand rollouts of half an hour, both versions alike: a thousandth may be cut, ten of them.
    #[test]
    fn healthy_rollouts_are_left_alone() {
        let mut random = SmallRng::seed_from_u64(1);
        // Canary's and stable's requests a second, and their common rate of errors.
        let worlds = [
            (1, 19, 0.01),
            (5, 5, 0.05),
            (5, 95, 0.001),
            (10, 10, 0.2),
            (20, 5, 0.02),
        ];
        let mut cut = 0;
        for (canary, stable, rate) in worlds {
            for _ in 0..2000 {
                let mut wager = Wager::default();
                cut += u32::from((0..1800).any(|_| {
                    let bad = (
                        binomial(&mut random, canary, rate),
                        binomial(&mut random, stable, rate),
                    );
                    wager.take(&block((bad.0, canary), (bad.1, stable)));
                    wager.second();
                    wager.worth() >= ENOUGH
                }));
            }
        }
        println!("{cut} of 10000 healthy rollouts were cut");
        assert!(cut <= 10, "{cut}");
    }
}
