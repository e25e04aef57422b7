//! Which of several controllers acts: the holder of a Lease.
//!
//! A candidate judges by its own clock, since it last saw the Lease change: clocks of two machines are never compared. A
//! leader that could not renew for [`TRUST`] stops acting by itself, and what it has sent is given up [`LANDING`] later,
//! before anybody else may begin.

use super::api::{Key, Kind, Server, is_conflict, told};
use contract::names::LEASE;
use k8s_openapi::jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Time for which a Lease is held: nobody takes it earlier.
const HELD: Duration = Duration::from_secs(4);
/// Time between two renewals.
const RENEW: Duration = Duration::from_millis(1300);
/// Time after the beginning of the last good renewal for which a leader trusts itself.
const TRUST: Duration = Duration::from_secs(3);
/// Longest time for which a write may be under way after that.
const LANDING: Duration = Duration::from_millis(800);
/// Time between two looks of a candidate.
const LOOK: Duration = Duration::from_millis(500);
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Until when acts are ours.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust(Arc<Mutex<Option<Instant>>>);

/// Whether this controller leads.
#[derive(Debug)]
pub(super) struct Leadership {
    identity: String,
    trust: Trust,
    leads: watch::Sender<bool>,
    /// Who holds the Lease, as it was seen last.
    holder: Mutex<String>,
}

/// What a candidate has seen, by its own clock.
#[derive(Debug, Default)]
struct Watched {
    version: Option<String>,
    since: Option<Instant>,
}

impl Trust {
    /// Until when a write that begins now may be under way; `None`: none may begin.
    pub fn landing(&self) -> Option<Instant> {
        self.until().filter(|u| Instant::now() < *u).map(|u| u + LANDING)
    }

    fn until(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

impl Leadership {
    /// Nobody leads yet.
    pub fn new(identity: &str, trust: Trust) -> Leadership {
        Leadership {
            identity: identity.to_owned(),
            trust,
            leads: watch::Sender::new(false),
            holder: Mutex::default(),
        }
    }

    /// Whether acts are ours, at this moment.
    pub fn holds(&self) -> bool {
        self.trust.landing().is_some()
    }

    /// Who this is.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Who leads, as it was seen last; empty: nobody.
    pub fn leader(&self) -> String {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes of who leads.
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Strives for the Lease for ever.
    pub async fn strive(&self, server: &Server, key: &Key) {
        let mut watched = Watched::default();
        loop {
            let began = Instant::now();
            let held = match timeout(PATIENCE, self.attempt(server, key, &mut watched)).await {
                Ok(Ok(held)) => Some(held),
                Ok(Err(why)) => {
                    tracing::warn!("the Lease {key}: {why}");
                    None
                }
                Err(_) => None,
            };
            match held {
                Some(true) => self.set(Some(began + TRUST)),
                Some(false) => self.set(None),
                None if !self.holds() => self.set(None),
                None => {}
            }
            sleep(if held == Some(true) {
                RENEW
            } else {
                watched.pause(Instant::now())
            })
            .await;
        }
    }

    fn set(&self, until: Option<Instant>) {
        self.trust.set(until);
        self.leads
            .send_if_modified(|leads| std::mem::replace(leads, until.is_some()) != until.is_some());
    }

    /// Whether the Lease is ours now.
    async fn attempt(&self, server: &Server, key: &Key, watched: &mut Watched) -> Result<bool, String> {
        let found = server.get(Kind::Lease, key).await.map_err(|e| told(&e))?;
        let Some(lease) = found else {
            let mut lease = DynamicObject::new(LEASE, &Kind::Lease.resource()).within(&key.namespace);
            lease.data = json!({ "spec": self.spec(&Value::Null) });
            return taken(server.create(Kind::Lease, &key.namespace, &lease).await);
        };
        let spec = &lease.data["spec"];
        let holder = spec["holderIdentity"].as_str().unwrap_or_default();
        holder.clone_into(&mut self.holder.lock().unwrap_or_else(PoisonError::into_inner));
        if !watched.allows(&lease, holder, &self.identity, Instant::now()) {
            return Ok(false);
        }
        let mut renewed = lease.clone();
        renewed.data["spec"] = self.spec(spec);
        taken(server.replace(Kind::Lease, &renewed).await)
    }

    fn spec(&self, before: &Value) -> Value {
        let now = micro(Timestamp::now());
        let ours = before["holderIdentity"] == self.identity.as_str();
        let times = before["leaseTransitions"].as_i64().unwrap_or(0);
        json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": HELD.as_secs(),
            "acquireTime": if ours { before["acquireTime"].clone() } else { now.clone().into() },
            "renewTime": now,
            "leaseTransitions": if ours { times } else { times + 1 },
        })
    }

    /// Gives the Lease back, so that a successor need not wait.
    pub async fn release(&self, server: &Server, key: &Key) {
        if !self.holds() {
            return;
        }
        self.set(None);
        let Ok(Some(mut lease)) = server.get(Kind::Lease, key).await else {
            return;
        };
        if lease.data["spec"]["holderIdentity"] == self.identity.as_str() {
            lease.data["spec"]["holderIdentity"] = "".into();
            if let Err(e) = server.replace(Kind::Lease, &lease).await {
                tracing::info!("the Lease is not given back, and ends by itself: {}", told(&e));
            }
        }
    }
}

impl Watched {
    /// Whether this Lease may be taken or renewed.
    fn allows(&mut self, lease: &DynamicObject, holder: &str, me: &str, now: Instant) -> bool {
        if self.version != lease.metadata.resource_version {
            self.version.clone_from(&lease.metadata.resource_version);
            self.since = Some(now);
        }
        let silent = self.since.is_some_and(|since| now.duration_since(since) >= HELD);
        holder.is_empty() || holder == me || silent
    }

    /// Time to the next look: the moment at which the Lease may be taken is not missed.
    fn pause(&self, now: Instant) -> Duration {
        let left = self
            .since
            .map(|since| (since + HELD).saturating_duration_since(now));
        left.filter(|left| !left.is_zero())
            .map_or(LOOK, |left| left.min(LOOK))
    }
}

/// Somebody who was quicker is no failure, and need not be another controller: the next look tells who leads.
fn taken(done: Result<DynamicObject, kube::Error>) -> Result<bool, String> {
    match done {
        Ok(_) => Ok(true),
        Err(e) if is_conflict(&e) => Err("it was changed meanwhile, and is looked at again".to_owned()),
        Err(e) => Err(told(&e)),
    }
}

/// `metav1.MicroTime`.
fn micro(time: Timestamp) -> String {
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(version: &str) -> DynamicObject {
        let mut lease = DynamicObject::new(LEASE, &Kind::Lease.resource());
        lease.metadata.resource_version = Some(version.to_owned());
        lease
    }

    #[test]
    fn a_lease_is_taken_only_after_it_was_silent_by_our_own_clock() {
        let (mut watched, start) = (Watched::default(), Instant::now());
        let after = |s: f64| start + Duration::from_secs_f64(s);
        assert!(!watched.allows(&lease("1"), "other", "me", start));
        assert!(!watched.allows(&lease("1"), "other", "me", after(3.9)));
        assert!(
            !watched.allows(&lease("2"), "other", "me", after(4.1)),
            "it was renewed"
        );
        assert!(!watched.allows(&lease("2"), "other", "me", after(8.0)));
        assert!(watched.allows(&lease("2"), "other", "me", after(8.2)));
        assert!(
            watched.allows(&lease("3"), "", "me", after(8.3)),
            "it was given back"
        );
        assert!(watched.allows(&lease("4"), "me", "me", after(8.4)));
        assert!(
            TRUST + LANDING < HELD,
            "what a leader has sent ends before another begins"
        );
        assert!(RENEW + PATIENCE < TRUST, "one renewal may fail");
        assert!(
            HELD + LOOK < Duration::from_secs(5),
            "a successor leads within 5 s"
        );
    }

    #[test]
    fn times_have_six_digits() {
        assert_eq!(
            micro(Timestamp::from_second(0).unwrap()),
            "1970-01-01T00:00:00.000000Z"
        );
    }

    #[test]
    fn nobody_leads_before_the_lease_is_held_and_not_for_long_after() {
        let trust = Trust::default();
        let leadership = Leadership::new("me", trust.clone());
        assert!(!leadership.holds());
        let until = Instant::now() + TRUST;
        leadership.set(Some(until));
        assert!(leadership.holds() && *leadership.changes().borrow());
        assert_eq!(trust.landing(), Some(until + LANDING));
        leadership.set(Some(Instant::now()));
        assert_eq!(trust.landing(), None, "no write begins without trust");
        leadership.set(None);
        assert!(!leadership.holds() && !*leadership.changes().borrow());
    }
}
