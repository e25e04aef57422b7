//! The addresses of endpoints that are host names, and when they are looked up again.

use crate::dns::{Found, Missing};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// After a failure it is tried again sooner than this, later each time.
const RETRY_LONGEST: Duration = Duration::from_secs(10);
/// The first time.
const RETRY: Duration = Duration::from_secs(1);

/// What is known of each `name:port`.
#[derive(Debug, Default)]
pub struct Addresses(BTreeMap<String, Known>);

/// What is known of one.
#[derive(Debug, Default)]
struct Known {
    /// The last good answer.
    found: Vec<SocketAddr>,
    /// When it is to be looked up; none while it is.
    due: Option<Instant>,
    /// Failures in a row.
    failures: u32,
}

impl Addresses {
    /// The names that are to be looked up now. They are taken to be looked up until [`Addresses::take`].
    pub fn due<'a>(&mut self, names: impl Iterator<Item = &'a str>, now: Instant) -> Vec<String> {
        let mut due = Vec::new();
        for name in names {
            let known = self.0.entry(name.to_owned()).or_insert_with(|| Known {
                due: Some(now),
                ..Known::default()
            });
            if known.due.is_some_and(|d| d <= now) {
                known.due = None;
                due.push(name.to_owned());
            }
        }
        due
    }

    /// Whether a name was ever found.
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|k| !k.found.is_empty())
    }

    /// Takes what a lookup found, or keeps what is known. True when an address has changed. Nothing is taken for a name
    /// that was forgotten meanwhile.
    pub fn take(&mut self, name: &str, result: Result<Found, Missing>, now: Instant) -> bool {
        let Some(known) = self.0.get_mut(name) else {
            return false;
        };
        match result {
            Ok(found) => known.found(name, &found, now),
            Err(why) => {
                known.failed(name, &why, now);
                false
            }
        }
    }

    /// How many names were not found the last time.
    pub fn stale(&self) -> usize {
        self.0.values().filter(|k| k.failures > 0).count()
    }

    /// Forgets all but these names.
    pub fn keep(&mut self, names: &[&str]) {
        self.0.retain(|name, _| names.contains(&name.as_str()));
    }

    /// All addresses of these endpoints, each once.
    pub fn of(&self, endpoints: &[String]) -> Vec<SocketAddr> {
        let mut all = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            match endpoint.parse() {
                Ok(address) => all.push(address),
                Err(_) => all.extend(self.0.get(endpoint).iter().flat_map(|k| &k.found)),
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The host names under which addresses were found.
    pub fn names(&self, endpoints: &[String]) -> BTreeMap<IpAddr, String> {
        let mut names = BTreeMap::new();
        for endpoint in endpoints {
            let (Some(known), Some((host, _))) = (self.0.get(endpoint), endpoint.rsplit_once(':')) else {
                continue;
            };
            for address in &known.found {
                names.entry(address.ip()).or_insert_with(|| host.to_owned());
            }
        }
        names
    }
}

impl Known {
    fn found(&mut self, name: &str, found: &Found, now: Instant) -> bool {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!(endpoint = name, "the name is found again");
        }
        self.due = Some(now + found.ttl);
        let port = name
            .rsplit_once(':')
            .and_then(|(_, p)| p.parse().ok())
            .unwrap_or(0);
        let all = found.addresses.iter().map(|ip| SocketAddr::new(*ip, port));
        let mut all: Vec<_> = all.collect();
        // Resolvers turn the order round; the order means nothing to us.
        all.sort_unstable();
        all.dedup();
        let changed = self.found != all;
        if changed && !self.found.is_empty() {
            tracing::info!(
                endpoint = name,
                addresses = all.len(),
                "the name has other addresses"
            );
        }
        self.found = all;
        changed
    }

    /// Told when it begins, not each time.
    fn failed(&mut self, name: &str, why: &Missing, now: Instant) {
        if self.failures == 0 {
            let kept = self.found.len();
            tracing::warn!(endpoint = name, kept, "the name is not found: {why}");
        }
        let pause = RETRY.saturating_mul(1 << self.failures.min(8));
        self.due = Some(now + pause.min(RETRY_LONGEST));
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "db.test:80";

    fn found(last: u8, ttl: u64) -> Result<Found, Missing> {
        Ok(Found {
            addresses: vec![[10, 0, 0, last].into(), [10, 0, 0, 1].into()],
            ttl: Duration::from_secs(ttl),
        })
    }

    #[test]
    fn a_name_is_looked_up_when_its_answer_ends_and_sooner_after_a_failure() {
        let (mut all, start) = (Addresses::default(), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        let due = |all: &mut Addresses, s| !all.due([NAME].into_iter(), at(s)).is_empty();
        assert!(due(&mut all, 0));
        assert!(!due(&mut all, 100), "it is being looked up");
        assert!(all.take(NAME, found(2, 30), at(0)) && all.has(NAME));
        assert!(!due(&mut all, 29) && due(&mut all, 30));
        assert!(!all.take(NAME, found(2, 30), at(30)), "nothing has changed");
        let mut now = 60;
        for pause in [1, 2, 4, 8, 10, 10] {
            assert!(due(&mut all, now));
            assert!(!all.take(NAME, Err(Missing::Silence), at(now)));
            assert_eq!(
                (all.stale(), all.of(&[NAME.into()]).len()),
                (1, 2),
                "the last good ones stay"
            );
            assert!(!due(&mut all, now + pause - 1));
            now += pause;
        }
        assert!(due(&mut all, now) && all.take(NAME, found(3, 5), at(now)));
        assert_eq!(all.stale(), 0);
        all.keep(&[]);
        assert!(!all.take(NAME, found(3, 5), at(now)) && !all.has(NAME));
    }

    #[test]
    fn addresses_are_counted_once_and_keep_their_names() {
        let mut all = Addresses::default();
        let now = Instant::now();
        all.due([NAME].into_iter(), now);
        all.take(NAME, found(2, 1), now);
        let endpoints = ["10.0.0.2:80".to_owned(), NAME.into(), "new.test:1".into()];
        let told: Vec<_> = all.of(&endpoints).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(all.names(&endpoints)[&IpAddr::from([10, 0, 0, 1])], "db.test");
    }
}
