//! Which endpoint of a track: the better one of two drawn at random (Mitzenmacher 2001). The better one is that with
//! fewer requests under way, or, where one is much slower, with the smaller product of requests and time.

use crate::pool::Endpoint;
use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

/// Times that differ by less than this factor are alike: else the faster of two good endpoints would get everything.
const ALIKE: f64 = 2.0;
/// The share with which a newcomer begins.
const FIRST_SHARE: f64 = 0.1;

/// What is chosen from, and what counts.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a> {
    /// The endpoints of the track.
    pub endpoints: &'a [Rc<Endpoint>],
    /// Where it was tried before.
    pub avoid: Option<SocketAddr>,
    /// Most requests at one endpoint.
    pub limit: Option<u32>,
    /// How long newcomers get less than their share.
    pub slow_start: Duration,
    /// The time.
    pub now: Instant,
}

/// What was found.
#[derive(Clone, Copy, Debug)]
pub enum Picked<'a> {
    /// This one.
    At(&'a Rc<Endpoint>),
    /// All have as many requests as they may.
    Full,
    /// There is no other.
    Nobody,
}

impl<'a> Candidates<'a> {
    /// Picks one.
    pub fn pick(&self, mut random: impl FnMut() -> u64) -> Picked<'a> {
        match self.endpoints {
            [] => Picked::Nobody,
            [only] if self.avoid == Some(only.address) => Picked::Nobody,
            [only] if only.has_room(self.limit) => Picked::At(only),
            [_] => Picked::Full,
            many => self
                .quick(many, random())
                .unwrap_or_else(|| self.slow(&mut random)),
        }
    }

    /// The usual case: two that nothing is to be said against.
    fn quick(&self, many: &'a [Rc<Endpoint>], random: u64) -> Option<Picked<'a>> {
        let (first, second) = two(many.len(), random);
        let (a, b) = (many.get(first)?, many.get(second)?);
        let plain = |e: &Endpoint| e.is_plain() && e.has_room(self.limit) && self.avoid != Some(e.address);
        (plain(a) && plain(b)).then(|| Picked::At(better(a, b, self.now)))
    }

    /// Endpoints that are well first; when none is, any that has room: an answer is more likely than with none, and
    /// requests that nobody sent would tell nothing about the track.
    fn slow(&self, random: &mut impl FnMut() -> u64) -> Picked<'a> {
        let others = || {
            let all = self.endpoints.iter();
            all.filter(|e| self.avoid != Some(e.address))
        };
        let room = || others().filter(|e| e.has_room(self.limit));
        let well = || room().filter(|e| e.is_up(self.now));
        if let Some(found) = self.of(well, random).or_else(|| self.of(room, random)) {
            return Picked::At(found);
        }
        if others().next().is_some() {
            Picked::Full
        } else {
            Picked::Nobody
        }
    }

    fn of<I>(&self, from: impl Fn() -> I, random: &mut impl FnMut() -> u64) -> Option<&'a Rc<Endpoint>>
    where
        I: Iterator<Item = &'a Rc<Endpoint>>,
    {
        let n = from().count();
        if n < 2 {
            return from().next();
        }
        let (first, second) = two(n, random());
        let mut draw = |place: usize| {
            let drawn = from().nth(place)?;
            if self.accepts(drawn, random()) {
                return Some(drawn);
            }
            from().nth(scaled(random() >> 32, n))
        };
        Some(better(draw(first)?, draw(second)?, self.now))
    }

    /// A newcomer is refused at first, and less and less.
    fn accepts(&self, endpoint: &Endpoint, random: u64) -> bool {
        let Some(age) = endpoint.age(self.now, self.slow_start) else {
            return true;
        };
        let share = age.as_secs_f64() / self.slow_start.as_secs_f64();
        let share = FIRST_SHARE + (1.0 - FIRST_SHARE) * share;
        (random >> 11) as f64 / (1u64 << 53) as f64 <= share
    }
}

/// Two different places below `n`, at least 2.
fn two(n: usize, random: u64) -> (usize, usize) {
    let first = scaled(random >> 32, n);
    let second = scaled(random, n - 1);
    (first, if second >= first { second + 1 } else { second })
}

/// A random 32-bit number as a place below `n`.
fn scaled(random: u64, n: usize) -> usize {
    (((random & 0xffff_ffff) * n as u64) >> 32) as usize
}

/// One that has not answered yet is taken to be as fast as the other: it gets its share, and no more.
fn better<'a>(a: &'a Rc<Endpoint>, b: &'a Rc<Endpoint>, now: Instant) -> &'a Rc<Endpoint> {
    let (load_a, load_b) = (f64::from(a.load() + 1), f64::from(b.load() + 1));
    let (cost_a, cost_b) = match (a.cost(now), b.cost(now)) {
        (Some(a), Some(b)) if a > b * ALIKE || b > a * ALIKE => (a, b),
        _ => (1.0, 1.0),
    };
    if load_b * cost_b < load_a * cost_a { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{evidence::pods::Pod, resilience::Ejection, transport::Transport};
    use rand::{Rng, SeedableRng, rngs::SmallRng};
    use std::sync::Arc;

    fn endpoints(n: u16) -> Vec<Rc<Endpoint>> {
        let pods: Vec<_> = (0..n)
            .map(|i| Arc::new(Pod::new(([127, 0, 0, 1], i + 1).into(), 1)))
            .collect();
        Endpoint::for_all(&pods, &Transport::default(), 0, &[], &Rc::default())
    }

    fn from(endpoints: &[Rc<Endpoint>]) -> Candidates<'_> {
        Candidates {
            endpoints,
            avoid: None,
            limit: None,
            slow_start: Duration::from_secs(10),
            now: Instant::now(),
        }
    }

    fn at(picked: Picked<'_>) -> &Rc<Endpoint> {
        match picked {
            Picked::At(endpoint) => endpoint,
            other => panic!("{other:?}"),
        }
    }

    /// How often each is picked when nothing is under way.
    fn shares(candidates: &Candidates<'_>) -> Vec<f64> {
        let mut random = SmallRng::seed_from_u64(1);
        let mut hits = vec![0.0; candidates.endpoints.len()];
        for _ in 0..40_000 {
            let port = at(candidates.pick(|| random.next_u64())).address.port();
            hits[usize::from(port) - 1] += 1.0 / 40_000.0;
        }
        hits
    }

    fn near(shares: &[f64], wanted: &[f64]) -> bool {
        shares.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 0.02)
    }

    const EJECTION: Ejection = Ejection {
        after: 5,
        time: Duration::from_secs(1),
        most: 50,
    };

    #[test]
    fn none_and_the_only_one() {
        assert!(matches!(from(&[]).pick(|| 0), Picked::Nobody));
        let one = endpoints(1);
        let mut candidates = from(&one);
        assert!(matches!(candidates.pick(|| 7), Picked::At(_)));
        candidates.limit = Some(1);
        let busy = one[0].occupy();
        assert!(matches!(candidates.pick(|| 7), Picked::Full));
        drop(busy);
        assert!(matches!(candidates.pick(|| 7), Picked::At(_)));
        candidates.avoid = Some(one[0].address);
        assert!(matches!(candidates.pick(|| 7), Picked::Nobody));
    }

    #[test]
    fn load_is_spread_and_the_tried_one_avoided() {
        let all = endpoints(4);
        let mut candidates = from(&all);
        let mut random = SmallRng::seed_from_u64(1);
        let busy: Vec<_> = (0..4000)
            .map(|_| at(candidates.pick(|| random.next_u64())).occupy())
            .collect();
        assert!(all.iter().all(|e| (990..=1010).contains(&e.load())), "{all:?}");
        drop(busy);
        assert!(all.iter().all(|e| e.load() == 0));
        candidates.avoid = Some(all[2].address);
        assert_eq!(shares(&candidates)[2], 0.0);
    }

    #[test]
    fn a_limit_fills_all_and_then_says_so() {
        let all = endpoints(3);
        let mut candidates = from(&all);
        candidates.limit = Some(5);
        let mut random = SmallRng::seed_from_u64(1);
        let busy: Vec<_> = (0..15)
            .map(|_| at(candidates.pick(|| random.next_u64())).occupy())
            .collect();
        assert!(matches!(candidates.pick(|| random.next_u64()), Picked::Full));
        assert!(all.iter().all(|e| e.load() == 5));
        drop(busy);
    }

    #[test]
    fn alike_ones_share_and_a_slow_one_is_spared_until_its_past_has_faded() {
        let all = endpoints(3);
        let candidates = from(&all);
        let (now, ms) = (candidates.now, Duration::from_millis);
        all[0].took(ms(10), now);
        all[1].took(ms(15), now);
        assert!(near(&shares(&candidates), &[1.0 / 3.0; 3]), "one has no past");
        all[2].took(ms(12), now);
        assert!(near(&shares(&candidates), &[1.0 / 3.0; 3]));
        all[2].took(ms(500), now);
        assert!(
            near(&shares(&candidates), &[0.5, 0.5, 0.0]),
            "a peak counts at once"
        );
        let mut later = candidates;
        later.now = now + Duration::from_secs(60);
        all[0].took(ms(10), later.now);
        all[1].took(ms(15), later.now);
        let share = shares(&later)[2];
        assert!(share > 0.3, "{share}");
    }

    #[test]
    fn a_newcomer_grows_into_its_share_but_not_where_all_are_new() {
        let all = endpoints(2);
        assert!(near(&shares(&from(&all)), &[0.5, 0.5]));
        let pods: Vec<_> = all.iter().map(|e| Arc::clone(e.pod())).collect();
        let more = [pods, vec![Arc::new(Pod::new(([127, 0, 0, 1], 3).into(), 1))]].concat();
        let all = Endpoint::for_all(&more, &Transport::default(), 0, &all, &Rc::default());
        let mut candidates = from(&all);
        let share = |c: &Candidates<'_>| shares(c)[2];
        let first = share(&candidates);
        assert!((0.04..0.16).contains(&first), "{first}");
        candidates.now += Duration::from_secs(5);
        let second = share(&candidates);
        assert!(second > first + 0.05 && second < 0.3, "{second}");
        candidates.now += Duration::from_secs(6);
        assert!(near(&shares(&candidates), &[1.0 / 3.0; 3]));
    }

    #[test]
    fn those_that_fail_are_left_alone_for_longer_and_longer_but_never_all() {
        let all = endpoints(4);
        let mut candidates = from(&all);
        let now = candidates.now;
        for _ in 0..4 {
            assert!(!all[0].stumbled(&all, &EJECTION, false, now, 0));
        }
        all[0].did_well();
        assert!(near(&shares(&candidates), &[0.25; 4]), "not in a row");
        for i in 1..=5 {
            assert_eq!(all[0].stumbled(&all, &EJECTION, false, now, 0), i == 5);
        }
        assert!(all[1].stumbled(&all, &EJECTION, true, now, 0));
        assert!(
            !all[2].stumbled(&all, &EJECTION, true, now, 0),
            "half of them at most"
        );
        assert!(near(&shares(&candidates), &[0.0, 0.0, 0.5, 0.5]));
        candidates.now = now + Duration::from_millis(1_001);
        assert!(near(&shares(&candidates), &[0.25; 4]));
        assert!(all[1].stumbled(&all, &EJECTION, true, candidates.now, 0));
        candidates.now += Duration::from_millis(1_500);
        assert_eq!(shares(&candidates)[1], 0.0, "twice as long");
        candidates.now += Duration::from_millis(600);
        assert!(near(&shares(&candidates), &[0.25; 4]));
    }

    #[test]
    fn the_unwell_are_avoided_unless_all_are() {
        let all = endpoints(3);
        let candidates = from(&all);
        all[0].pod().set_well(false);
        assert_eq!(shares(&candidates)[0], 0.0);
        all[1].pod().set_well(false);
        assert_eq!(
            shares(&candidates),
            [0.0, 0.0, 1.0].map(|s: f64| s * shares(&candidates)[2])
        );
        all[2].pod().set_well(false);
        assert!(near(&shares(&candidates), &[1.0 / 3.0; 3]));
    }
}
