//! What the proxies of one Service tell.

use super::{
    api::{Key, Server},
    evidence::Secrets,
    world::Pod,
};
use crate::{
    client::UNTRUSTED,
    measure::scrape::{Reading, Scrape},
};
use contract::{Fault, rollout::Proxies};
use engine::{Proxy, State, Told};
use futures_util::future::join_all;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// One Service's proxies, as far as they count.
#[derive(Debug, Default)]
pub(super) struct Ears {
    known: BTreeMap<String, Ear>,
    /// Whether the credentials were refused.
    doubted: bool,
    /// Since when there are no credentials.
    deaf_since: Option<f64>,
    token: String,
}

#[derive(Debug)]
struct Ear {
    address: SocketAddr,
    scrape: Scrape,
    heard: bool,
}

/// What was heard in one turn.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub proxies: Vec<Proxy>,
    pub counts: Proxies,
    pub failures: u64,
    /// What proxies say is wrong with the annotations.
    pub rejected: Vec<Fault>,
}

impl Ears {
    /// Asks all of them at once.
    pub async fn listen(
        &mut self,
        secrets: (&Secrets, &Server),
        service: &Key,
        pods: &BTreeMap<String, Arc<Pod>>,
        state: &State,
        now: f64,
    ) -> Heard {
        let credentials = match secrets.0.of(secrets.1, &service.namespace, self.doubted).await {
            Ok(credentials) => credentials,
            Err(why) => return deaf(pods, *self.deaf_since.get_or_insert(now), &why),
        };
        self.deaf_since = None;
        if self.token != credentials.token {
            // Connections of an earlier certificate may live on; what they tell is asked for anew.
            *self = Ears {
                token: credentials.token.clone(),
                ..Ears::default()
            };
        }
        self.doubted = false;
        self.turn_to(pods, |name, address| Scrape::of_pod(name, address, &credentials));
        let asked = self.known.iter_mut().map(|(name, ear)| {
            let since = state.since_of(name).or_else(|| state.since());
            async move { (name, ear.scrape.read(since, now).await, &mut ear.heard) }
        });
        let mut heard = Heard::default();
        let mut gone = Vec::new();
        for (name, reading, was_heard) in join_all(asked).await {
            let leaving = pods.get(name).is_none_or(|p| p.leaving);
            if reading.failure().is_some() && leaving {
                gone.push(name.clone());
                continue;
            }
            self.doubted |= reading
                .failure()
                .is_some_and(|why| why.starts_with(UNTRUSTED) || why.contains("401"));
            *was_heard |= reading.failure().is_none();
            heard.take(&reading, &service.name);
        }
        gone.iter().for_each(|name| drop(self.known.remove(name)));
        heard
    }

    /// Ready ones count, and those that were heard and are still there.
    fn turn_to(&mut self, pods: &BTreeMap<String, Arc<Pod>>, scrape: impl Fn(&str, SocketAddr) -> Scrape) {
        self.known.retain(|name, ear| {
            pods.get(name)
                .is_some_and(|p| p.address == Some(ear.address) && (p.ready || ear.heard))
        });
        for (name, pod) in pods.iter().filter(|(_, p)| p.ready) {
            if let Some(address) = pod.address
                && !self.known.contains_key(name)
            {
                let scrape = scrape(name, address);
                self.known.insert(
                    name.clone(),
                    Ear {
                        address,
                        scrape,
                        heard: false,
                    },
                );
            }
        }
    }
}

impl Heard {
    fn take(&mut self, reading: &Reading, service: &str) {
        let proxy = reading.of(service);
        self.counts.known += 1;
        match &proxy.told {
            Told::Page { page, .. } => {
                self.counts.heard += 1;
                for fault in &page.rejected {
                    if !self.rejected.contains(fault) {
                        self.rejected.push(fault.clone());
                    }
                }
            }
            Told::Missing { .. } => self.failures += 1,
        }
        self.proxies.push(proxy);
    }
}

/// Without credentials nobody is heard, and all are there.
fn deaf(pods: &BTreeMap<String, Arc<Pod>>, since: f64, why: &str) -> Heard {
    let mut heard = Heard::default();
    for (name, _) in pods.iter().filter(|(_, p)| p.ready) {
        heard.counts.known += 1;
        heard.failures += 1;
        let told = Told::Missing {
            since,
            reason: why.to_owned(),
        };
        heard.proxies.push(Proxy {
            name: name.clone(),
            told,
        });
    }
    heard
}
