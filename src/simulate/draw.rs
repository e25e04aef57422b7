//! Chance: counts of independent events, and how many of them fall on each of a few kinds.

use rand::{Rng, RngExt};
use rand_distr::{Binomial, Distribution, Poisson};

/// Events for each kind above which a binomial number for each kind is cheaper than a draw for each event.
const MANY: u64 = 24;
/// Chances are kept in so many parts.
const WHOLE: f64 = 4_294_967_296.0;

/// Events that come independently, `mean` of them on average.
pub fn poisson(mean: f64, rng: &mut impl Rng) -> u64 {
    Poisson::new(mean).map_or(0, |d| d.sample(rng) as u64)
}

/// Of `n` events those that happen, each with the chance `p`.
pub fn binomial(n: u64, p: f64, rng: &mut impl Rng) -> u64 {
    match p {
        _ if n == 0 || p.is_nan() || p <= 0.0 => 0,
        _ if p >= 1.0 => n,
        _ => Binomial::new(n, p).map_or(0, |d| d.sample(rng)),
    }
}

/// A few kinds with fixed chances.
#[derive(Clone, Debug)]
pub struct Kinds {
    /// Walker's alias table: below the limit the place itself, else the other kind.
    table: Vec<(u64, u32)>,
    /// Chance of a kind when it is none of the kinds before.
    rest: Vec<f64>,
}

impl Kinds {
    /// In proportion to weights that are not negative; even when all are 0.
    pub fn of(weights: &[f64]) -> Kinds {
        Kinds {
            table: table(weights),
            rest: rest(weights),
        }
    }

    /// Adds `n` events to the counts of their kinds.
    pub fn add(&self, n: u64, counts: &mut [u64], rng: &mut impl Rng) {
        if n > MANY * self.table.len() as u64 {
            self.add_many(n, counts, rng);
        } else {
            (0..n).for_each(|_| self.add_one(counts, rng));
        }
    }

    fn add_one(&self, counts: &mut [u64], rng: &mut impl Rng) {
        let draw: u64 = rng.random();
        let place = ((draw >> 32) * self.table.len() as u64) >> 32;
        let Some((limit, other)) = self.table.get(place as usize) else {
            return;
        };
        let kind = if draw & 0xffff_ffff < *limit {
            place as usize
        } else {
            *other as usize
        };
        if let Some(count) = counts.get_mut(kind) {
            *count += 1;
        }
    }

    fn add_many(&self, mut n: u64, counts: &mut [u64], rng: &mut impl Rng) {
        for (count, chance) in counts.iter_mut().zip(&self.rest) {
            let here = binomial(n, *chance, rng);
            *count += here;
            n -= here;
        }
    }
}

/// Vose's method: kinds that need more than their place take the room of those that need less.
fn table(weights: &[f64]) -> Vec<(u64, u32)> {
    let sum: f64 = weights.iter().sum();
    let scale = if sum > 0.0 {
        weights.len() as f64 / sum
    } else {
        0.0
    };
    let mut need: Vec<f64> = weights.iter().map(|w| w * scale).collect();
    let mut table: Vec<(u64, u32)> = (0..weights.len()).map(|i| (WHOLE as u64, i as u32)).collect();
    let (mut less, mut more): (Vec<usize>, Vec<usize>) = (0..need.len()).partition(|i| need[*i] < 1.0);
    while let (Some(poor), Some(rich)) = (less.pop(), more.pop()) {
        table[poor] = ((need[poor] * WHOLE) as u64, rich as u32);
        need[rich] -= 1.0 - need[poor];
        if need[rich] < 1.0 {
            less.push(rich);
        } else {
            more.push(rich);
        }
    }
    table
}

fn rest(weights: &[f64]) -> Vec<f64> {
    let mut left: f64 = weights.iter().sum();
    let mut all: Vec<f64> = weights
        .iter()
        .map(|w| {
            let chance = if left > 0.0 { (w / left).min(1.0) } else { 0.0 };
            left -= w;
            chance
        })
        .collect();
    // Rounding must lose no event.
    if let Some(last) = weights.iter().rposition(|w| *w > 0.0) {
        all[last] = 1.0;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    #[test]
    fn few_and_many_events_fall_as_the_weights_say() {
        let weights = [5.0, 0.0, 1.0, 2.0, 0.5];
        let (kinds, mut rng) = (Kinds::of(&weights), SmallRng::seed_from_u64(3));
        for (rounds, n) in [(20_000, 10), (20, 10_000)] {
            let mut counts = [0; 5];
            (0..rounds).for_each(|_| kinds.add(n, &mut counts, &mut rng));
            assert_eq!(counts.iter().sum::<u64>(), rounds * n);
            for (count, weight) in counts.iter().zip(weights) {
                let expected = (rounds * n) as f64 * weight / 8.5;
                assert!(
                    (*count as f64 - expected).abs() <= 5.0 * expected.sqrt(),
                    "{counts:?}"
                );
            }
        }
    }

    #[test]
    fn certainty_and_impossibility() {
        let mut rng = SmallRng::seed_from_u64(3);
        assert_eq!(binomial(7, 1.0, &mut rng), 7);
        assert_eq!(binomial(7, -0.1, &mut rng) + binomial(7, f64::NAN, &mut rng), 0);
        assert_eq!(poisson(0.0, &mut rng), 0);
    }
}
