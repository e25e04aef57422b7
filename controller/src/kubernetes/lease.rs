//! Who leads: a Lease (coordination.k8s.io/v1), renewed by its holder and taken over when it has not changed for its
//! duration.
//!
//! Clocks of different machines are never compared: a candidate measures on its own clock how long the object has stayed
//! the same. A leader counts from the moment at which it *began* its last successful renewal, and stops acting well
//! before anybody else may begin; so at most one acts at any time, also when the network is slow.

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};

/// Unchanged for so long, a lease is free: with the pause between two looks, a takeover takes less than 5 s.
const DURATION: Duration = Duration::from_secs(4);
/// After so long without a renewal the holder stops acting: a second before anybody may take over.
const TRUSTED: Duration = Duration::from_secs(3);
/// Time between two renewals.
const RENEW: Duration = Duration::from_millis(1300);
/// Time between two looks at somebody else's lease.
const LOOK: Duration = Duration::from_millis(700);
/// Longest wait for one answer: two of them fit into the time in which a holder is trusted.
const PATIENCE: Duration = Duration::from_millis(1200);

/// One candidate.
pub(crate) struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    leads: watch::Sender<bool>,
    fence: Fence,
}

/// Until when this process may act as the leader: asked before each act.
#[derive(Clone, Debug)]
pub(crate) struct Fence {
    born: Instant,
    /// Milliseconds after `born`; 0: not at all.
    until: Arc<AtomicU64>,
}

/// The lease as it was last seen, and since when it has been like that.
struct Seen {
    version: Option<String>,
    since: Instant,
}

impl Fence {
    fn new() -> Fence {
        Fence {
            born: Instant::now(),
            until: Arc::default(),
        }
    }

    /// Whether it is certain that nobody else leads.
    pub fn holds(&self) -> bool {
        let now = self.born.elapsed().as_millis() as u64;
        now < self.until.load(Ordering::Acquire)
    }

    fn extend(&self, from: Instant) {
        let until = (from + TRUSTED).saturating_duration_since(self.born);
        self.until.store(until.as_millis() as u64, Ordering::Release);
    }

    fn end(&self) {
        self.until.store(0, Ordering::Release);
    }
}

impl Candidate {
    /// A candidate of this identity, which must be nobody else's: a pod's name.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Candidate {
        Candidate {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            leads: watch::channel(false).0,
            fence: Fence::new(),
        }
    }

    /// Whether it leads, and the fence to ask before acting.
    pub fn seat(&self) -> (watch::Receiver<bool>, Fence) {
        (self.leads.subscribe(), self.fence.clone())
    }

    /// Stands for election until told to stop; then gives the lease back, so that the next need not wait.
    pub async fn run(self, mut stop: oneshot::Receiver<()>) {
        let mut seen = Seen {
            version: None,
            since: Instant::now(),
        };
        loop {
            let began = Instant::now();
            let round = timeout(PATIENCE, self.round(&mut seen, began)).await;
            match round {
                Ok(Ok(())) => {}
                Ok(Err(e)) => self.failed(&e),
                Err(_) => self.failed(&"no answer from the API server"),
            }
            self.announce(self.fence.holds());
            let pause = if self.fence.holds() { RENEW } else { LOOK };
            tokio::select! {
                () = self.pause(began + pause) => {}
                _ = &mut stop => break,
            }
        }
        self.release().await;
    }

    /// Sleeps; a leadership that ends meanwhile is announced at once.
    async fn pause(&self, until: Instant) {
        while Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            sleep(left.min(Duration::from_millis(100))).await;
            self.announce(self.fence.holds());
        }
    }

    fn announce(&self, leads: bool) {
        self.leads.send_if_modified(|before| {
            let changed = *before != leads;
            *before = leads;
            changed
        });
    }

    fn failed(&self, why: &dyn std::fmt::Display) {
        tracing::debug!(lease = self.name, "the lease cannot be renewed or read: {why}");
    }

    /// Looks, and takes or renews what may be taken.
    async fn round(&self, seen: &mut Seen, began: Instant) -> kube::Result<()> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            let made = self
                .leases
                .create(&PostParams::default(), &self.lease(None))
                .await;
            return self.taken(made, began);
        };
        if lease.metadata.resource_version != seen.version {
            seen.version.clone_from(&lease.metadata.resource_version);
            seen.since = Instant::now();
        }
        let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref());
        let is_free = holder.is_none_or(str::is_empty);
        let is_mine = holder == Some(self.identity.as_str());
        if !is_mine && !is_free && seen.since.elapsed() < DURATION {
            self.fence.end();
            return Ok(());
        }
        let next = self.lease(Some(&lease));
        let replaced = self
            .leases
            .replace(&self.name, &PostParams::default(), &next)
            .await;
        if let Ok(written) = &replaced {
            seen.version.clone_from(&written.metadata.resource_version);
            seen.since = Instant::now();
        }
        self.taken(replaced, began)
    }

    /// Somebody else's write in between is no failure: the next look tells whose it is.
    fn taken(&self, written: kube::Result<Lease>, began: Instant) -> kube::Result<()> {
        match written {
            Ok(_) => {
                self.fence.extend(began);
                Ok(())
            }
            Err(kube::Error::Api(e)) if e.code == 409 => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The lease as this candidate writes it, over the one that it has seen.
    fn lease(&self, before: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let spec = before.and_then(|l| l.spec.as_ref());
        let is_mine = spec.and_then(|s| s.holder_identity.as_deref()) == Some(self.identity.as_str());
        let acquired = spec.and_then(|s| s.acquire_time.clone()).filter(|_| is_mine);
        let transitions = spec.and_then(|s| s.lease_transitions).unwrap_or(0);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: before.and_then(|l| l.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(DURATION.as_secs() as i32),
                acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(if is_mine || before.is_none() {
                    transitions
                } else {
                    transitions + 1
                }),
                ..LeaseSpec::default()
            }),
        }
    }

    /// Empties the holder, if it is still this one.
    async fn release(&self) {
        let held = self.fence.holds();
        self.fence.end();
        self.announce(false);
        if !held {
            return;
        }
        let done = timeout(PATIENCE, async {
            let mut lease = self.leases.get(&self.name).await?;
            if let Some(spec) = lease.spec.as_mut() {
                if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
                    return Ok(());
                }
                spec.holder_identity = Some(String::new());
                spec.renew_time = Some(MicroTime(Timestamp::now()));
            }
            self.leases
                .replace(&self.name, &PostParams::default(), &lease)
                .await
                .map(|_| ())
        });
        if let Ok(Err(e)) = done.await {
            tracing::warn!(
                lease = self.name,
                "the lease is not given back, the next leader waits for its end: {e}"
            );
        }
    }
}
