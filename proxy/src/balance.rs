//! Which endpoint of a track: the less loaded of two drawn at random (Mitzenmacher 2001), the reachable ones first.

use crate::pool::Endpoint;
use std::{net::SocketAddr, rc::Rc};

/// Picks one; `avoid` is where it was tried before. `None` when there is no other.
pub fn pick(
    endpoints: &[Rc<Endpoint>],
    avoid: Option<SocketAddr>,
    random: impl FnOnce() -> u64,
) -> Option<&Rc<Endpoint>> {
    match endpoints {
        [] => None,
        [only] => (avoid != Some(only.address)).then_some(only),
        many => of_many(many, avoid, random()),
    }
}

/// When all are out of reach, one of them is tried all the same: an answer is more likely than with none.
fn of_many(endpoints: &[Rc<Endpoint>], avoid: Option<SocketAddr>, random: u64) -> Option<&Rc<Endpoint>> {
    let others = || endpoints.iter().filter(|e| avoid != Some(e.address));
    let up = || others().filter(|e| e.is_up());
    match up().count() {
        0 => nth(others(), others().count(), random),
        n => two(up(), n, random),
    }
}

fn nth<'a>(
    mut from: impl Iterator<Item = &'a Rc<Endpoint>>,
    n: usize,
    random: u64,
) -> Option<&'a Rc<Endpoint>> {
    from.nth(scaled(random >> 32, n))
}

fn two<'a>(
    from: impl Iterator<Item = &'a Rc<Endpoint>> + Clone,
    n: usize,
    random: u64,
) -> Option<&'a Rc<Endpoint>> {
    let first = nth(from.clone(), n, random)?;
    let second = nth(from, n, random << 32)?;
    Some(if second.load() < first.load() {
        second
    } else {
        first
    })
}

/// A random 32-bit number as a place below `n`.
fn scaled(random: u64, n: usize) -> usize {
    (((random & 0xffff_ffff) * n as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::pods::Pod;
    use contract::backends::AppProtocol;
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use std::sync::Arc;

    fn endpoints(n: u16) -> Vec<Rc<Endpoint>> {
        (0..n)
            .map(|i| Arc::new(Pod::new(([127, 0, 0, 1], i + 1).into(), 1)))
            .map(|pod| Rc::new(Endpoint::new(pod, AppProtocol::Http, 0)))
            .collect()
    }

    #[test]
    fn none_and_the_only_one() {
        assert!(pick(&[], None, || 0).is_none());
        let one = endpoints(1);
        assert!(pick(&one, None, || 7).is_some());
        assert!(pick(&one, Some(one[0].address), || 7).is_none());
    }

    #[test]
    fn load_is_spread_and_the_tried_one_avoided() {
        let all = endpoints(4);
        let mut random = SmallRng::seed_from_u64(1);
        let busy: Vec<_> = (0..4000)
            .filter_map(|_| pick(&all, None, || random.next_u64()).map(Endpoint::occupy))
            .collect();
        assert!(all.iter().all(|e| (990..=1010).contains(&e.load())), "{all:?}");
        drop(busy);
        assert!(all.iter().all(|e| e.load() == 0));
        for _ in 0..1000 {
            let e = pick(&all, Some(all[2].address), || random.next_u64()).unwrap();
            assert_ne!(e.address, all[2].address);
        }
    }
}
